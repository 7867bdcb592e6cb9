//! Test support for all formats: reading from memory, and short descriptions of entries.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use stock::Timestamp;

use super::{FileSummary, Format, FormatError, read};
use crate::{DeliveryEntry, ProductKey, ReadSettings, Row};

/// Returns all entries of a file and the result of reading it.
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

/// Returns a one-line description of each entry of a valid file.
pub(super) fn read_described(format: Format, bytes: &[u8], reading: &ReadSettings) -> Vec<String> {
    let (entries, result) = read_entries(format, bytes, reading);
    result.unwrap();
    entries.iter().map(describe).collect()
}

/// Describes an entry on one line: `1 sku@warehouse = quantity`.
pub(super) fn describe(entry: &DeliveryEntry) -> String {
    match entry {
        DeliveryEntry::Row(row) => describe_row(row),
        DeliveryEntry::Article { id, sku } => format!("{id} is {sku}"),
        DeliveryEntry::PartBoundary => "next part".to_owned(),
        DeliveryEntry::Rejected(row) => format!("{} rejected: {}", row.line, row.reason),
        DeliveryEntry::Suspicious(row) => format!("{} suspicious: {}", row.line, row.reason),
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

/// Returns the content of a file in `fixtures/sources`.
pub(super) fn sample(name: &str) -> Vec<u8> {
    let path = format!(
        "{}/../../fixtures/sources/{name}",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read(path).unwrap()
}

/// Encodes a text as UTF-16 with a byte order mark.
pub(super) fn utf16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    "\u{feff}"
        .encode_utf16()
        .chain(text.encode_utf16())
        .flat_map(unit)
        .collect()
}

/// A document generated while it is read: a head, any number of rows, and a tail.
pub(super) struct GeneratedDocument<F> {
    /// Bytes read so far.
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

/// Supports rewinding only, because the readers need no other position.
impl<F: Fn(u64) -> String> Seek for GeneratedDocument<F> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        assert_eq!(position, SeekFrom::Start(0), "readers may only rewind");
        self.next = 0;
        self.pending = Cursor::default();
        Ok(0)
    }
}
