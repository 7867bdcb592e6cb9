//! Fuzzing of the readers: `cargo +nightly fuzz run yml fuzz/corpus/yml fixtures/sources`.
//!
//! A target's first directory is its corpus, which it adds to and git leaves out; the others
//! are only read. `fixtures/sources` holds a sample of each text format, and makes a good
//! beginning for all of them; for `container`, pack some of it with gzip and zip. What is found
//! lands in `fuzz/artifacts`, and becomes a test beside the reader.

use std::io::Cursor;

use stockbridge::sources::formats::{Format, read};
use stockbridge::sources::{Entry, Quantity, Reading};

/// Reads the bytes, under the strictest settings and under the laxest.
pub fn try_out(format: Format, bytes: &[u8]) {
    for is_lax in [false, true] {
        let reading = Reading {
            floors_fractions: is_lax,
            zeroes_negatives: is_lax,
            zeroes_unavailable: is_lax,
            takes_unended_row: is_lax,
            ..Reading::default()
        };
        let _any = read(format, &mut Cursor::new(bytes), &reading, &mut |entry| {
            check(&entry, &reading);
            Ok(())
        });
    }
}

/// No row may hold what the settings do not let in.
fn check(entry: &Entry, reading: &Reading) {
    if let Entry::Row(row) = entry
        && let Some(quantity) = row.quantity
    {
        assert!(reading.floors_fractions || !quantity.is_fraction(), "{row:?}");
        assert!(reading.zeroes_negatives || quantity >= Quantity::ZERO, "{row:?}");
    }
}
