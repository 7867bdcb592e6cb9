//! Fuzz entry points for the private request parsers. Compiled only with `--cfg fuzzing`.

use super::chunk_validator::ChunkValidator;
use super::request_head::{Framing, HeadScanner, validate};
use super::server_limits::ServerLimits;

/// Finds and validates a request head, whole and in two pieces.
///
/// Returns the length of a valid head in bytes, and the declared length of the body, which is
/// `None` if the body is chunked.
///
/// # Panics
/// The two pieces give another result than the whole.
#[must_use]
pub fn head(bytes: &[u8], cut: usize) -> Option<(usize, Option<u64>)> {
    let limits = ServerLimits::default();
    let whole = HeadScanner::default().find_end(bytes, &limits);
    let mut scanner = HeadScanner::default();
    let first = scanner.find_end(bytes.get(..cut).unwrap_or(bytes), &limits);
    let pieces = if first == Ok(None) {
        scanner.find_end(bytes, &limits)
    } else {
        first
    };
    assert_eq!(whole, pieces, "a cut after {cut} bytes changes the result");
    let length = whole.ok()??;
    let framing = validate(bytes.get(..length)?, &limits).ok()?;
    Some(match framing {
        Framing::Length(body) => (length, Some(body)),
        Framing::Chunked => (length, None),
    })
}

/// Validates the framing of a chunked body, whole and in two pieces. Returns true if it is valid.
///
/// # Panics
/// The two pieces give another result than the whole.
#[must_use]
pub fn chunks(bytes: &[u8], cut: usize) -> bool {
    let whole = ChunkValidator::after_head(0).check(bytes);
    let (first, second) = bytes.split_at_checked(cut).unwrap_or((bytes, b""));
    let mut validator = ChunkValidator::after_head(0);
    let pieces = validator.check(first).and_then(|()| {
        validator
            .check(second)
            .map_err(|(valid_bytes, error)| (first.len() + valid_bytes, error))
    });
    assert_eq!(whole, pieces, "a cut after {cut} bytes changes the result");
    whole.is_ok()
}
