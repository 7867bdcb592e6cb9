//! Reader of delimited text: CSV and TSV.
//!
//! The format has no end marker, so a truncated file cannot be recognised. Therefore the last row
//! is rejected unless it has a line end or the setting `unended_row` accepts it. A file truncated
//! at any byte yields no value that the complete file does not have.

mod records;

use std::io::{BufRead, Cursor, Read};

use self::records::{CsvRecord, CsvRecords};
use super::super::row::{DeliveryCancelled, DeliveryEntry, ReadSettings, RejectedRow};
use super::decode::{self, EncodingFallback};
use super::table::{HeaderSearch, MAX_HEADER_ROWS, StockTable, used_width};
use super::{FileSummary, FormatError, Input, Sink};

/// Bytes of text in which the delimiter is detected.
const HEAD_LENGTH: usize = 64 * 1024;

/// Delimiters that are detected, in order of preference.
const DELIMITERS: [u8; 4] = [b';', b'\t', b',', b'|'];

/// Reads a delimited table. The format does not declare a scope.
///
/// # Errors
/// The file is not text, has no header, or has an unclosed quote; or the sink cancels.
pub(super) fn read(
    input: &mut dyn Input,
    reading: &ReadSettings,
    sink: Sink<'_>,
) -> Result<FileSummary, FormatError> {
    let mut text = decode::open(input, reading.encoding, &EncodingFallback::Detect)?;
    let encoding = text.encoding();
    let mut head = Vec::with_capacity(HEAD_LENGTH);
    text.by_ref()
        .take(HEAD_LENGTH as u64)
        .read_to_end(&mut head)?;
    reject_html(&head)?;
    let delimiter = match reading.delimiter.or_else(|| declared_delimiter(&head)) {
        Some(delimiter) => delimiter,
        None => detect_delimiter(&head, reading),
    };
    let mut records = CsvRecords::new(Cursor::new(head).chain(text), delimiter);
    let mut search = HeaderSearch::new(reading);
    let mut table =
        find_header(&mut records, &mut search)?.ok_or_else(|| search.no_header_error())?;
    let header_line = records.record.line;
    if reading.encoding.is_none() && encoding == encoding_rs::WINDOWS_1251 {
        table.note_assumed_encoding();
    }
    while let Some(record) = records.next()? {
        let cells = record.cells();
        table.record_field_count(&cells);
        if used_width(&cells) <= table.width() && record.malformed_reason(reading).is_none() {
            table.learn(record.line, &cells);
        }
    }
    drop(records);
    table.check()?;
    // The second pass reads the rows with what the first one has learned from the columns.
    let text = decode::open(input, Some(encoding), &EncodingFallback::Detect)?;
    let mut records = CsvRecords::new(text, delimiter);
    find_header(&mut records, &mut HeaderSearch::new(reading))?;
    while let Some(record) = records.next()? {
        emit_record(&table, record, reading, &mut *sink)?;
    }
    let mut summary = FileSummary::default();
    summary.shape.set("encoding", encoding.name());
    summary.shape.set("delimiter", delimiter_name(delimiter));
    summary.shape.set("header", format!("line {header_line}"));
    table.describe(&mut summary.shape);
    summary.notices.extend(table.notices());
    Ok(summary)
}

/// Returns the name of a delimiter in the setting `delimiter`.
pub(super) fn delimiter_name(delimiter: u8) -> String {
    match delimiter {
        b';' => "semicolon".to_owned(),
        b',' => "comma".to_owned(),
        b'\t' => "tab".to_owned(),
        b'|' => "bar".to_owned(),
        other => char::from(other).to_string(),
    }
}

/// Rejects a web page. Servers often return a login page instead of the file.
fn reject_html(head: &[u8]) -> Result<(), FormatError> {
    let start = head.trim_ascii_start();
    let starts_with = |with: &[u8]| {
        let start = start.get(..with.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    if starts_with(b"<!doctype html") || starts_with(b"<html") {
        return Err(FormatError::broken(
            "line 1",
            "it is a web page, not a table",
        ));
    }
    Ok(())
}

/// Returns the delimiter of a first line such as `sep=;`, which Excel uses.
fn declared_delimiter(head: &[u8]) -> Option<u8> {
    let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let (name, delimiter) = line.split_at_checked(4)?;
    match delimiter {
        [delimiter] if name.eq_ignore_ascii_case(b"sep=") && delimiter.is_ascii() => {
            Some(*delimiter)
        }
        _ => None,
    }
}

/// Returns the delimiter with which a row is a header; otherwise the one with the most similar row,
/// so that the error lists its columns.
fn detect_delimiter(head: &[u8], reading: &ReadSettings) -> u8 {
    let mut nearest: Option<(HeaderSearch<'_>, u8)> = None;
    for delimiter in DELIMITERS {
        let mut search = HeaderSearch::new(reading);
        if has_header(head, delimiter, &mut search) {
            return delimiter;
        }
        if !matches!(&nearest, Some((other, _)) if !search.is_nearer_than(other)) {
            nearest = Some((search, delimiter));
        }
    }
    nearest.map_or(b';', |(_, delimiter)| delimiter)
}

fn has_header(head: &[u8], delimiter: u8, search: &mut HeaderSearch<'_>) -> bool {
    // Ambiguous columns count as a header. Reading the rows reports them.
    !matches!(
        find_header(&mut CsvRecords::new(head, delimiter), search),
        Ok(None) | Err(FormatError::Broken { .. })
    )
}

/// Returns the table whose header is among the first rows. Ambiguous columns are an error.
fn find_header<'r, R: BufRead>(
    records: &mut CsvRecords<R>,
    search: &mut HeaderSearch<'r>,
) -> Result<Option<StockTable<'r>>, FormatError> {
    for _ in 0..MAX_HEADER_ROWS {
        let Some(record) = records.next()? else { break };
        if let Some(table) = search.try_header(&record.cells())? {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

fn emit_record(
    table: &StockTable<'_>,
    record: &CsvRecord,
    reading: &ReadSettings,
    sink: Sink<'_>,
) -> Result<(), DeliveryCancelled> {
    if record.is_blank() {
        table.skip_row();
        return Ok(());
    }
    let cells = record.cells();
    if let Some(reason) = record.reject_reason(&cells, table, reading) {
        // The SKU of a truncated or shifted row is not certain.
        let rejected = RejectedRow::new(record.line, &record.display_text(), reason);
        table.skip_row();
        return sink(DeliveryEntry::Rejected(RejectedRow {
            possible_sku: table.readable_sku(&cells),
            ..rejected
        }));
    }
    table.emit_row(record.line, &cells, &|| record.display_text(), sink)
}

#[cfg(test)]
mod tests;
