//! Fuzz entry points for the private parsers of requests; compiled with `--cfg fuzzing` only.

use super::chunks::Chunks;
use super::head::{Framing, Scan, judge};
use super::server::Limits;

/// Finds and validates the head of a request, whole and in two pieces.
///
/// Returns the length of an accepted head, and the length of the body it announces, `None` if
/// the body is chunked.
///
/// # Panics
/// The two pieces are judged differently from the whole.
#[must_use]
pub fn head(bytes: &[u8], cut: usize) -> Option<(usize, Option<u64>)> {
    let limits = Limits::default();
    let whole = Scan::default().end(bytes, &limits);
    let mut scan = Scan::default();
    let first = scan.end(bytes.get(..cut).unwrap_or(bytes), &limits);
    let pieces = if first == Ok(None) {
        scan.end(bytes, &limits)
    } else {
        first
    };
    assert_eq!(
        whole, pieces,
        "a cut after {cut} bytes changes what is found"
    );
    let length = whole.ok()??;
    let framing = judge(bytes.get(..length)?, &limits).ok()?;
    Some(match framing {
        Framing::Length(body) => (length, Some(body)),
        Framing::Chunked => (length, None),
    })
}

/// Checks the framing of a chunked body, whole and in two pieces.
///
/// # Panics
/// The two pieces are checked differently from the whole.
#[must_use]
pub fn chunks(bytes: &[u8], cut: usize) -> bool {
    let whole = Chunks::after(0).check(bytes);
    let (first, second) = bytes.split_at_checked(cut).unwrap_or((bytes, b""));
    let mut chunks = Chunks::after(0);
    let pieces = chunks.check(first).and_then(|()| {
        chunks
            .check(second)
            .map_err(|(before, fault)| (first.len() + before, fault))
    });
    assert_eq!(
        whole, pieces,
        "a cut after {cut} bytes changes what is found"
    );
    whole.is_ok()
}
