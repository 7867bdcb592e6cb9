//! Lines with delimiters: CSV, TSV, and what spreadsheets call so.
//!
//! A file may have been cut anywhere, and this one has no end of its own to tell. So its last
//! row is taken only if its line is ended, unless the owner says otherwise: cut at any byte, it
//! gives no value that the whole one does not hold.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, BufRead, Cursor, Read};

use super::super::row::{DeliveryCancelled, DeliveryEntry, ReadSettings, RejectedRow};
use super::decode::{self, EncodingFallback, UNDECODABLE};
use super::table::{HeaderSearch, MAX_HEADER_ROWS, StockTable, TableCell, used_width};
use super::{FileSummary, FormatError, Input, Sink};

/// Longer than any row. Where a quote is never closed, a row would go on to the end of the file.
const MAX_RECORD_BYTES: usize = 64 * 1024;

/// How much of the text shows what stands between its columns.
const HEAD_LENGTH: usize = 64 * 1024;

/// What may stand there, the usual first.
const DELIMITERS: [u8; 4] = [b';', b'\t', b',', b'|'];

/// Reads a table of lines. It never says whether it is complete.
///
/// # Errors
/// It is no text, no table, a quote in it is never closed; or nobody wants the rest.
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
    // What the columns prove is known now: the rows are read from the beginning again.
    let text = decode::reopen(input, encoding)?;
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

/// The name of a delimiter in the setting `delimiter`.
pub(super) fn delimiter_name(delimiter: u8) -> String {
    match delimiter {
        b';' => "semicolon".to_owned(),
        b',' => "comma".to_owned(),
        b'\t' => "tab".to_owned(),
        b'|' => "bar".to_owned(),
        other => char::from(other).to_string(),
    }
}

/// A page with a login form answers in place of many a file.
fn reject_html(head: &[u8]) -> Result<(), FormatError> {
    let start = head.trim_ascii_start();
    let starts_with = |with: &[u8]| {
        start
            .get(..with.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    if starts_with(b"<!doctype html") || starts_with(b"<html") {
        return Err(FormatError::Broken {
            place: "line 1".to_owned(),
            reason: "it is a web page, not a table".to_owned(),
        });
    }
    Ok(())
}

/// The delimiter that a first line `sep=;` names, for Excel.
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

/// The delimiter with which there is a header; else the one that makes most of a row, so that
/// the owner is told of columns.
fn detect_delimiter(head: &[u8], reading: &ReadSettings) -> u8 {
    let mut nearest: Option<(HeaderSearch<'_>, u8)> = None;
    for delimiter in DELIMITERS {
        let mut search = HeaderSearch::new(reading);
        if has_header(head, delimiter, &mut search) {
            return delimiter;
        }
        if nearest
            .as_ref()
            .is_none_or(|(other, _)| search.is_nearer_than(other))
        {
            nearest = Some((search, delimiter));
        }
    }
    nearest.map_or(b';', |(_, delimiter)| delimiter)
}

fn has_header(head: &[u8], delimiter: u8, search: &mut HeaderSearch<'_>) -> bool {
    // What is wrong with the head is told when the rows are read.
    !matches!(
        find_header(&mut CsvRecords::new(head, delimiter), search),
        Ok(None) | Err(FormatError::Broken { .. })
    )
}

/// The table whose header is among the first rows; one whose columns fit twice is an error.
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
        // A row that is cut or shifted does not say for certain of which SKU it is.
        let fault = RejectedRow::new(record.line, &record.display_text(), reason);
        table.skip_row();
        return sink(DeliveryEntry::Rejected(RejectedRow {
            possible_sku: table.readable_sku(&cells),
            ..fault
        }));
    }
    table.emit_row(record.line, &cells, &|| record.display_text(), sink)
}

/// What ends a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LineEnd {
    /// A line end of whatever kind.
    Newline,
    /// The end of the file.
    EndOfFile,
}

/// Where in a record its reader is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum CsvState {
    FieldStart,
    Unquoted,
    Quoted,
    /// Behind a quote that closes, unless another one follows.
    QuoteClosed,
}

/// One row of the file.
#[derive(Debug)]
struct CsvRecord {
    /// The line it begins in.
    line: u64,
    /// As it was read.
    raw: String,
    /// Its fields one behind the other, and where each ends.
    fields: String,
    field_ends: Vec<usize>,
    line_end: LineEnd,
    /// Behind a quote that closes there is something else.
    is_misquoted: bool,
}

impl CsvRecord {
    fn cells(&self) -> Vec<TableCell<'_>> {
        let starts = std::iter::once(0).chain(self.field_ends.iter().copied());
        let field = |(start, end): (usize, &usize)| {
            TableCell::Text(Cow::Borrowed(
                self.fields.get(start..*end).unwrap_or_default(),
            ))
        };
        starts.zip(&self.field_ends).map(field).collect()
    }

    /// Nothing but blanks and delimiters; or the mark with which DOS ended a file.
    fn is_blank(&self) -> bool {
        let is_ignorable = |c: char| c.is_whitespace() || c == '\u{1a}';
        self.raw.chars().all(is_ignorable)
            || (self.line_end == LineEnd::Newline && self.fields.chars().all(is_ignorable))
    }

    fn display_text(&self) -> String {
        self.raw.replace(UNDECODABLE, "\u{fffd}")
    }

    /// Why it cannot be taken, whatever its fields say.
    fn reject_reason(
        &self,
        cells: &[TableCell<'_>],
        table: &StockTable<'_>,
        reading: &ReadSettings,
    ) -> Option<String> {
        if let Some(reason) = self.malformed_reason(reading) {
            return Some(reason);
        }
        // Spreadsheets leave out empty fields at the end; a field too many has no column, and even an
        // empty one shows that a delimiter is inside a field, unless every row has it.
        let (expected, actual) = (table.width(), cells.len());
        let is_too_wide = used_width(cells) > expected || actual > table.max_fields();
        is_too_wide.then(|| format!("it has {actual} fields, and the header {expected}"))
    }

    fn malformed_reason(&self, reading: &ReadSettings) -> Option<String> {
        if self.is_misquoted {
            return Some("a quote is closed in the middle of a field".to_owned());
        }
        if self.line_end == LineEnd::EndOfFile && !reading.accepts_unterminated_row {
            return Some(
                "the file ends in the middle of this row, or set unended_row = \"take\"".to_owned(),
            );
        }
        None
    }
}

/// The rows of a text, one at a time.
struct CsvRecords<R> {
    source: R,
    delimiter: char,
    /// The line that comes next, from 1.
    next_line_number: u64,
    /// Lines to be read again: they had been taken for what a quote encloses.
    pushed_back: VecDeque<(String, LineEnd)>,
    bytes: Vec<u8>,
    record: CsvRecord,
}

impl<R: BufRead> CsvRecords<R> {
    fn new(source: R, delimiter: u8) -> Self {
        let record = CsvRecord {
            line: 0,
            raw: String::new(),
            fields: String::new(),
            field_ends: Vec::new(),
            line_end: LineEnd::Newline,
            is_misquoted: false,
        };
        let delimiter = char::from(delimiter);
        Self {
            source,
            delimiter,
            next_line_number: 1,
            pushed_back: VecDeque::new(),
            bytes: Vec::new(),
            record,
        }
    }

    fn next(&mut self) -> Result<Option<&CsvRecord>, FormatError> {
        self.record.raw.clear();
        self.record.fields.clear();
        self.record.field_ends.clear();
        self.record.is_misquoted = false;
        self.record.line = self.next_line_number;
        let mut state = CsvState::FieldStart;
        loop {
            let Some((line, end)) = self.next_line()? else {
                return if state == CsvState::FieldStart {
                    Ok(None)
                } else {
                    Err(self.unclosed_quote_error())
                };
            };
            if state == CsvState::Quoted {
                self.record.raw.push('\n');
                self.record.fields.push('\n');
            }
            self.record.raw.push_str(&line);
            self.record.line_end = end;
            let Some(next_state) = self.record.parse_line(&line, state, self.delimiter) else {
                self.push_back_quoted_lines();
                return Ok(Some(&self.record));
            };
            state = next_state;
            if state != CsvState::Quoted {
                return Ok(Some(&self.record));
            }
            if self.record.raw.len() > MAX_RECORD_BYTES || end == LineEnd::EndOfFile {
                return Err(self.unclosed_quote_error());
            }
        }
    }

    /// Leaves a record that is quoted wrongly its first line, and gives back the others: the
    /// quote that seemed to enclose them may have been one too many.
    fn push_back_quoted_lines(&mut self) {
        let record = &mut self.record;
        record.is_misquoted = true;
        let raw = std::mem::take(&mut record.raw);
        let mut lines = raw.split('\n');
        record.raw = lines.next().unwrap_or_default().to_owned();
        let mut others: Vec<_> = lines
            .map(|line| (line.to_owned(), LineEnd::Newline))
            .collect();
        if let Some(last) = others.last_mut() {
            last.1 = record.line_end;
            record.line_end = LineEnd::Newline;
        }
        self.next_line_number = record.line + 1;
        for other in others.into_iter().rev() {
            self.pushed_back.push_front(other);
        }
    }

    fn unclosed_quote_error(&self) -> FormatError {
        FormatError::Broken {
            place: format!("line {}", self.record.line),
            reason: "a quote opens there that is not closed".to_owned(),
        }
    }

    /// The next line without its end.
    fn next_line(&mut self) -> Result<Option<(String, LineEnd)>, FormatError> {
        if let Some(line) = self.pushed_back.pop_front() {
            self.next_line_number += 1;
            return Ok(Some(line));
        }
        self.bytes.clear();
        let end = loop {
            let buffer = self.source.fill_buf()?;
            if buffer.is_empty() {
                break LineEnd::EndOfFile;
            }
            let terminator_at = buffer.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let (line, rest) = buffer.split_at(terminator_at.unwrap_or(buffer.len()));
            self.bytes.extend_from_slice(line);
            let (length, terminator) = (line.len(), rest.first().copied());
            self.source
                .consume(length + usize::from(terminator.is_some()));
            if self.bytes.len() > MAX_RECORD_BYTES {
                return Err(FormatError::Broken {
                    place: format!("line {}", self.next_line_number),
                    reason: format!("it is longer than {MAX_RECORD_BYTES} bytes"),
                });
            }
            if let Some(terminator) = terminator {
                self.skip_line_feed_after(terminator)?;
                break LineEnd::Newline;
            }
        };
        if self.bytes.is_empty() && end == LineEnd::EndOfFile {
            return Ok(None);
        }
        self.next_line_number += 1;
        Ok(Some((
            String::from_utf8_lossy(&self.bytes).into_owned(),
            end,
        )))
    }

    /// Of a carriage return and a line feed, the second.
    fn skip_line_feed_after(&mut self, terminator: u8) -> io::Result<()> {
        if terminator == b'\r' && self.source.fill_buf()?.first() == Some(&b'\n') {
            self.source.consume(1);
        }
        Ok(())
    }
}

impl CsvRecord {
    /// Takes the fields of one line; `None` if a quote closes where none can.
    fn parse_line(&mut self, line: &str, initial: CsvState, delimiter: char) -> Option<CsvState> {
        let mut state = initial;
        for c in line.chars() {
            state = match state {
                CsvState::FieldStart | CsvState::Unquoted | CsvState::QuoteClosed
                    if c == delimiter =>
                {
                    self.field_ends.push(self.fields.len());
                    CsvState::FieldStart
                }
                CsvState::FieldStart if c == '"' => CsvState::Quoted,
                CsvState::Quoted if c == '"' => CsvState::QuoteClosed,
                CsvState::QuoteClosed if c == '"' => {
                    self.fields.push(c);
                    CsvState::Quoted
                }
                CsvState::QuoteClosed if c.is_whitespace() => CsvState::QuoteClosed,
                CsvState::QuoteClosed => return None,
                CsvState::Quoted => {
                    self.fields.push(c);
                    CsvState::Quoted
                }
                CsvState::FieldStart | CsvState::Unquoted => {
                    self.fields.push(c);
                    CsvState::Unquoted
                }
            };
        }
        if state != CsvState::Quoted {
            self.field_ends.push(self.fields.len());
        }
        Some(state)
    }
}

#[cfg(test)]
mod tests;
