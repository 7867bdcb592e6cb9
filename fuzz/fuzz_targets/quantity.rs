#![no_main]

use stockbridge::sources::Quantity;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(quantity) = Quantity::parse(text) {
        assert_eq!(Quantity::parse(&quantity.to_string()), Ok(quantity));
    }
});
