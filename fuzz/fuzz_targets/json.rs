#![no_main]

use stockbridge::sources::formats::Format;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| stockbridge_fuzz::try_out(Format::Json, bytes));
