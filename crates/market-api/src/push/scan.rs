//! Scanner for the usual spelling of a request: no blanks, no escapes, `warehouseId` before `skus`.
//!
//! It takes less than half the time of a JSON parser. Whatever it does not recognise is left to that
//! parser, so it never decides what is an error.

use std::borrow::Cow;

use strict_http::json::JsonText;

use super::block_marks::{BLOCK_BYTES, mark};
use super::wire::{MAX_SKUS_PER_REQUEST, MAX_WAREHOUSE_ID_CHARS, SKUS_PER_REQUEST, StocksRequest};

const BEFORE_ID: &str = "{\"warehouseId\":";
const BEFORE_SKUS: &str = ",\"skus\":[";
const AFTER_SKUS: &str = "]}";

/// Reads a request in the usual spelling. Returns `None` for any other body, valid or not.
pub(super) fn scan(body: &[u8]) -> Option<StocksRequest<'_>> {
    let text = simdutf8::basic::from_utf8(body).ok()?;
    let rest = text.strip_prefix(BEFORE_ID)?;
    let (warehouse_id, rest) = rest.split_at(rest.find(',')?);
    let is_number = warehouse_id == "0"
        || !warehouse_id.starts_with('0') && warehouse_id.bytes().all(|byte| byte.is_ascii_digit());
    if warehouse_id.is_empty() || warehouse_id.len() > MAX_WAREHOUSE_ID_CHARS || !is_number {
        return None;
    }
    let rest = rest.strip_prefix(BEFORE_SKUS)?;
    let skus = if rest == AFTER_SKUS {
        Vec::new()
    } else {
        scan_skus(rest)?
    };
    Some(StocksRequest {
        warehouse_id,
        skus,
        body,
    })
}

/// Reads at least one string, and the end of the body.
fn scan_skus(text: &str) -> Option<Vec<JsonText<'_>>> {
    let text = text.strip_prefix('"')?;
    let mut scanner = SkuScanner {
        text,
        skus: Vec::with_capacity(SKUS_PER_REQUEST),
        start: 0,
        is_complete: false,
    };
    let (blocks, rest) = text.as_bytes().as_chunks::<BLOCK_BYTES>();
    for (number, block) in blocks.iter().enumerate() {
        scanner.take_block(number, block)?;
    }
    // Blanks have no marks.
    let mut last = [b' '; BLOCK_BYTES];
    last[..rest.len()].copy_from_slice(rest);
    scanner.take_block(blocks.len(), &last)?;
    let is_usual = scanner.is_complete && scanner.skus.len() <= MAX_SKUS_PER_REQUEST;
    is_usual.then_some(scanner.skus)
}

/// Strings of a list, and the place up to which it was read.
struct SkuScanner<'a> {
    /// Begins in the first string.
    text: &'a str,
    skus: Vec<JsonText<'a>>,
    /// Start of the string that is being read.
    start: usize,
    /// The end of the body was read.
    is_complete: bool,
}

impl SkuScanner<'_> {
    /// Reads the strings that end in a block.
    #[inline]
    fn take_block(&mut self, number: usize, block: &[u8; BLOCK_BYTES]) -> Option<()> {
        let marks = mark(block);
        // A string with such a character is not spelled as usual, or not allowed.
        if marks.has_special || self.skus.len() > MAX_SKUS_PER_REQUEST {
            return None;
        }
        self.take_quotes(number * BLOCK_BYTES, marks.quotes)
    }

    /// Reads the strings that end at these quotes of a block.
    // Not inlined, so that it has all registers.
    #[inline(never)]
    fn take_quotes(&mut self, block_start: usize, quotes: u64) -> Option<()> {
        let mut start = self.start;
        // The quote before a string was read with the string before. In the next block it is left.
        let mut closing = if start > block_start {
            without_first(quotes)
        } else {
            quotes
        };
        while closing != 0 {
            let end = block_start + closing.trailing_zeros() as usize;
            let sku = self.text.get(start..end)?;
            self.skus.push(JsonText(Cow::Borrowed(sku)));
            let rest = &self.text.as_bytes()[end + 1..];
            if !rest.starts_with(b",\"") {
                self.is_complete = rest == AFTER_SKUS.as_bytes();
                return self.is_complete.then_some(());
            }
            start = end + 3;
            closing = without_first(without_first(closing));
        }
        self.start = start;
        Some(())
    }
}

/// Clears the lowest bit.
fn without_first(marks: u64) -> u64 {
    marks & marks.wrapping_sub(1)
}
