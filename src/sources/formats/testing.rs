//! What the tests of all formats share: reading from memory, and saying shortly what came.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use super::{FileSummary, Format, FormatError, read};
use crate::sources::{DeliveryEntry, ProductKey, ReadSettings, Row};
use crate::stock::Timestamp;

/// Every entry, and how it ended.
pub(super) fn read_entries(
    format: Format,
    bytes: &[u8],
    reading: &ReadSettings,
) -> (Vec<DeliveryEntry>, Result<FileSummary, FormatError>) {
    let mut entries = Vec::new();
    let result = read(format, &mut Cursor::new(bytes), reading, &mut |entry| {
        entries.push(entry);
        Ok(())
    });
    (entries, result)
}

/// What was read of a file that is well, one line each.
pub(super) fn read_described(format: Format, bytes: &[u8], reading: &ReadSettings) -> Vec<String> {
    let (entries, result) = read_entries(format, bytes, reading);
    result.unwrap();
    entries.iter().map(describe).collect()
}

/// An entry in short: `1 sku@place = quantity`.
pub(super) fn describe(entry: &DeliveryEntry) -> String {
    match entry {
        DeliveryEntry::Row(row) => describe_row(row),
        DeliveryEntry::Article { id, sku } => format!("{id} is {sku}"),
        DeliveryEntry::PartBoundary => "next part".to_owned(),
        DeliveryEntry::Rejected(fault) => format!("{} rejected: {}", fault.line, fault.reason),
        DeliveryEntry::Suspicious(fault) => format!("{} suspicious: {}", fault.line, fault.reason),
    }
}

fn describe_row(row: &Row) -> String {
    let key = match &row.key {
        ProductKey::Sku(sku) => sku.clone(),
        ProductKey::Id(id) => format!("#{id}"),
    };
    let warehouse = row
        .warehouse
        .as_ref()
        .map(|warehouse| format!("@{warehouse}"))
        .unwrap_or_default();
    let quantity = row
        .quantity
        .map_or("?".to_owned(), |quantity| quantity.to_string());
    let reserve = row
        .reserve
        .map(|reserve| format!(" - {reserve}"))
        .unwrap_or_default();
    let timestamp = row
        .stated_at
        .map(|timestamp: Timestamp| format!(" since {timestamp}"))
        .unwrap_or_default();
    format!(
        "{} {key}{warehouse} = {quantity}{reserve}{timestamp}",
        row.line
    )
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
pub(super) struct GeneratedDocument<F> {
    /// How many bytes have been asked for so far.
    pub(super) bytes_read: u64,
    head: &'static str,
    row: F,
    tail: &'static str,
    rows: u64,
    next: u64,
    pending: Cursor<Vec<u8>>,
}

impl<F: Fn(u64) -> String> GeneratedDocument<F> {
    pub(super) fn new(head: &'static str, row: F, tail: &'static str, rows: u64) -> Self {
        Self {
            bytes_read: 0,
            head,
            row,
            tail,
            rows,
            next: 0,
            pending: Cursor::default(),
        }
    }
}

impl<F: Fn(u64) -> String> Read for GeneratedDocument<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = self.pending.read(buffer)?;
        if read == 0 && self.next <= self.rows + 1 {
            let text = match self.next {
                0 => self.head.to_owned(),
                last if last == self.rows + 1 => self.tail.to_owned(),
                row => (self.row)(row),
            };
            self.next += 1;
            self.pending = Cursor::new(text.into_bytes());
            read = self.pending.read(buffer)?;
        }
        self.bytes_read += read as u64;
        Ok(read)
    }
}

/// Only back to its beginning, which is all that a reader of a stream may want.
impl<F: Fn(u64) -> String> Seek for GeneratedDocument<F> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        assert_eq!(position, SeekFrom::Start(0), "a reader goes nowhere else");
        self.next = 0;
        self.pending = Cursor::default();
        Ok(0)
    }
}
