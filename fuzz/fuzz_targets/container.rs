#![no_main]

use std::io::Cursor;

use stockbridge::sources::formats::unpack;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let spool = std::env::temp_dir();
    let _any = unpack("fuzzed", &mut Cursor::new(bytes), None, &spool, &mut |file| {
        let mut content = Vec::new();
        file.input.read_to_end(&mut content)?;
        stockbridge_fuzz::try_out(file.format, &content);
        Ok(())
    });
});
