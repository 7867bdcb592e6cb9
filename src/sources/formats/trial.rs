//! What the tests of all formats share: reading from memory, and saying shortly what came.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use super::{Ending, Format, FormatError, read};
use crate::sources::{Entry, Key, Reading, Row};
use crate::stock::Instant;

/// Every entry, and how it ended.
pub(super) fn entries(
    format: Format,
    bytes: &[u8],
    reading: &Reading,
) -> (Vec<Entry>, Result<Ending, FormatError>) {
    let mut entries = Vec::new();
    let ending = read(format, &mut Cursor::new(bytes), reading, &mut |entry| {
        entries.push(entry);
        Ok(())
    });
    (entries, ending)
}

/// What was read of a file that is well, one line each.
pub(super) fn told(format: Format, bytes: &[u8], reading: &Reading) -> Vec<String> {
    let (entries, ending) = entries(format, bytes, reading);
    ending.unwrap();
    entries.iter().map(tell).collect()
}

/// An entry in short: `1 sku@place = quantity`.
pub(super) fn tell(entry: &Entry) -> String {
    match entry {
        Entry::Row(row) => tell_row(row),
        Entry::Article { id, sku } => format!("{id} is {sku}"),
        Entry::NextPart => "next part".to_owned(),
        Entry::Rejected(fault) => format!("{} rejected: {}", fault.line, fault.reason),
        Entry::Suspicious(fault) => format!("{} suspicious: {}", fault.line, fault.reason),
    }
}

fn tell_row(row: &Row) -> String {
    let key = match &row.key {
        Key::Sku(sku) => sku.clone(),
        Key::Id(id) => format!("#{id}"),
    };
    let place = row
        .place
        .as_ref()
        .map(|place| format!("@{place}"))
        .unwrap_or_default();
    let quantity = row
        .quantity
        .map_or("?".to_owned(), |quantity| quantity.to_string());
    let reserve = row
        .reserve
        .map(|reserve| format!(" - {reserve}"))
        .unwrap_or_default();
    let at = row
        .at
        .map(|at: Instant| format!(" since {at}"))
        .unwrap_or_default();
    format!("{} {key}{place} = {quantity}{reserve}{at}", row.line)
}

/// A file from the samples of `fixtures/sources`.
pub(super) fn sample(name: &str) -> Vec<u8> {
    let path = format!("{}/fixtures/sources/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

/// A text in UTF-16, with its mark.
pub(super) fn utf16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    "\u{feff}"
        .encode_utf16()
        .chain(text.encode_utf16())
        .flat_map(unit)
        .collect()
}

/// A document that is made while it is read: a head, rows without end to count, and a tail.
pub(super) struct Endless<F> {
    /// How many bytes have been asked for so far.
    pub(super) read: u64,
    head: &'static str,
    row: F,
    tail: &'static str,
    rows: u64,
    next: u64,
    waiting: Cursor<Vec<u8>>,
}

impl<F: Fn(u64) -> String> Endless<F> {
    pub(super) fn new(head: &'static str, row: F, tail: &'static str, rows: u64) -> Self {
        Self {
            read: 0,
            head,
            row,
            tail,
            rows,
            next: 0,
            waiting: Cursor::default(),
        }
    }
}

impl<F: Fn(u64) -> String> Read for Endless<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut read = self.waiting.read(into)?;
        if read == 0 && self.next <= self.rows + 1 {
            let piece = match self.next {
                0 => self.head.to_owned(),
                last if last == self.rows + 1 => self.tail.to_owned(),
                row => (self.row)(row),
            };
            self.next += 1;
            self.waiting = Cursor::new(piece.into_bytes());
            read = self.waiting.read(into)?;
        }
        self.read += read as u64;
        Ok(read)
    }
}

/// Only back to its beginning, which is all that a reader of a stream may want.
impl<F: Fn(u64) -> String> Seek for Endless<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        assert_eq!(to, SeekFrom::Start(0), "a reader goes nowhere else");
        self.next = 0;
        self.waiting = Cursor::default();
        Ok(0)
    }
}
