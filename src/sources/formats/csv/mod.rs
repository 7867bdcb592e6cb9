//! Lines with delimiters: CSV, TSV, and what spreadsheets call so.
//!
//! A file may have been cut anywhere, and this one has no end of its own to tell. So its last
//! row is taken only if its line is ended, unless the owner says otherwise: cut at any byte, it
//! gives no value that the whole one does not hold.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, BufRead, Cursor, Read};

use super::super::row::{Entry, Fault, GivenUp, Reading};
use super::decode::{self, Guess, UNDECODABLE};
use super::table::{Cell, HEADER_WITHIN, Search, Table, width};
use super::{Ending, FormatError, Input, Sink};

/// Longer than any row. Where a quote is never closed, a row would go on to the end of the file.
const MAX_RECORD: usize = 64 * 1024;

/// How much of the text shows what stands between its columns.
const HEAD: usize = 64 * 1024;

/// What may stand there, the usual first.
const DELIMITERS: [u8; 4] = [b';', b'\t', b',', b'|'];

/// Reads a table of lines. It never says whether it is complete.
///
/// # Errors
/// It is no text, no table, a quote in it is never closed; or nobody wants the rest.
pub(super) fn read(
    input: &mut dyn Input,
    reading: &Reading,
    sink: Sink<'_>,
) -> Result<Ending, FormatError> {
    let mut text = decode::open(input, reading.encoding, &Guess::Detect)?;
    let encoding = text.encoding();
    let mut head = Vec::with_capacity(HEAD);
    text.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    be_no_page(&head)?;
    let delimiter = match reading.delimiter.or_else(|| told(&head)) {
        Some(delimiter) => delimiter,
        None => found_out(&head, reading),
    };
    let mut records = Records::new(Cursor::new(head).chain(text), delimiter);
    let mut search = Search::new(reading);
    let mut table = header_among(&mut records, &mut search)?.ok_or_else(|| search.failed())?;
    let header = records.record.line;
    if reading.encoding.is_none() && encoding == encoding_rs::WINDOWS_1251 {
        table.doubt_encoding();
    }
    while let Some(record) = records.next()? {
        let cells = record.cells();
        table.note_fields(&cells);
        if width(&cells) <= table.width() && record.unfit_whatever_its_width(reading).is_none() {
            table.learn(record.line, &cells);
        }
    }
    drop(records);
    table.check()?;
    // What the columns prove is known now: the rows are read from the beginning again.
    let text = decode::reopen(input, encoding)?;
    let mut records = Records::new(text, delimiter);
    header_among(&mut records, &mut Search::new(reading))?;
    while let Some(record) = records.next()? {
        put(&table, record, reading, &mut *sink)?;
    }
    let mut ending = Ending::default();
    ending.shape.set("encoding", encoding.name());
    ending.shape.set("delimiter", delimiter_name(delimiter));
    ending.shape.set("header", format!("line {header}"));
    table.describe(&mut ending.shape);
    ending.notices.extend(table.notices());
    Ok(ending)
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
fn be_no_page(head: &[u8]) -> Result<(), FormatError> {
    let start = head.trim_ascii_start();
    let begins = |with: &[u8]| {
        start
            .get(..with.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    if begins(b"<!doctype html") || begins(b"<html") {
        return Err(FormatError::Broken {
            place: "line 1".to_owned(),
            reason: "it is a web page, not a table".to_owned(),
        });
    }
    Ok(())
}

/// The delimiter that a first line `sep=;` names, for Excel.
fn told(head: &[u8]) -> Option<u8> {
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
fn found_out(head: &[u8], reading: &Reading) -> u8 {
    let mut nearest: Option<(Search<'_>, u8)> = None;
    for delimiter in DELIMITERS {
        let mut search = Search::new(reading);
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

fn has_header(head: &[u8], delimiter: u8, search: &mut Search<'_>) -> bool {
    // What is wrong with the head is told when the rows are read.
    !matches!(
        header_among(&mut Records::new(head, delimiter), search),
        Ok(None) | Err(FormatError::Broken { .. })
    )
}

/// The table whose header is among the first rows; one whose columns fit twice is an error.
fn header_among<'r, R: BufRead>(
    records: &mut Records<R>,
    search: &mut Search<'r>,
) -> Result<Option<Table<'r>>, FormatError> {
    for _ in 0..HEADER_WITHIN {
        let Some(record) = records.next()? else { break };
        if let Some(table) = search.offer(&record.cells())? {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

fn put(
    table: &Table<'_>,
    record: &Record,
    reading: &Reading,
    sink: Sink<'_>,
) -> Result<(), GivenUp> {
    if record.is_blank() {
        table.pass_over();
        return Ok(());
    }
    let cells = record.cells();
    if let Some(reason) = record.unfit(&cells, table, reading) {
        // A row that is cut or shifted does not say for certain of which SKU it is.
        let fault = Fault::new(record.line, &record.shown(), reason);
        table.pass_over();
        return sink(Entry::Rejected(Fault {
            may_be: table.legible_sku(&cells),
            ..fault
        }));
    }
    table.put(record.line, &cells, &|| record.shown(), sink)
}

/// What ends a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// A line end of whatever kind.
    Line,
    /// The end of the file.
    File,
}

/// Where in a record its reader is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    Start,
    Plain,
    Quoted,
    /// Behind a quote that closes, unless another one follows.
    Closed,
}

/// One row of the file.
#[derive(Debug)]
struct Record {
    /// The line it begins in.
    line: u64,
    /// As it was read.
    raw: String,
    /// Its fields one behind the other, and where each ends.
    fields: String,
    ends: Vec<usize>,
    end: End,
    /// Behind a quote that closes there is something else.
    is_misquoted: bool,
}

impl Record {
    fn cells(&self) -> Vec<Cell<'_>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let field = |(start, end): (usize, &usize)| {
            Cell::Text(Cow::Borrowed(
                self.fields.get(start..*end).unwrap_or_default(),
            ))
        };
        starts.zip(&self.ends).map(field).collect()
    }

    /// Nothing but blanks and delimiters; or the mark with which DOS ended a file.
    fn is_blank(&self) -> bool {
        let is_nothing = |c: char| c.is_whitespace() || c == '\u{1a}';
        self.raw.chars().all(is_nothing)
            || (self.end == End::Line && self.fields.chars().all(is_nothing))
    }

    fn shown(&self) -> String {
        self.raw.replace(UNDECODABLE, "\u{fffd}")
    }

    /// Why it cannot be taken, whatever its fields say.
    fn unfit(&self, cells: &[Cell<'_>], table: &Table<'_>, reading: &Reading) -> Option<String> {
        if let Some(reason) = self.unfit_whatever_its_width(reading) {
            return Some(reason);
        }
        // Spreadsheets leave out empty fields at the end; a field too many has no column, and even an
        // empty one shows that a delimiter is inside a field, unless every row has it.
        let (named, here) = (table.width(), cells.len());
        let is_shifted = width(cells) > named || here > table.fields();
        is_shifted.then(|| format!("it has {here} fields, and the header {named}"))
    }

    fn unfit_whatever_its_width(&self, reading: &Reading) -> Option<String> {
        if self.is_misquoted {
            return Some("a quote is closed in the middle of a field".to_owned());
        }
        if self.end == End::File && !reading.takes_unended_row {
            return Some(
                "the file ends in the middle of this row, or set unended_row = \"take\"".to_owned(),
            );
        }
        None
    }
}

/// The rows of a text, one at a time.
struct Records<R> {
    source: R,
    delimiter: char,
    /// The line that comes next, from 1.
    line: u64,
    /// Lines to be read again: they had been taken for what a quote encloses.
    again: VecDeque<(String, End)>,
    bytes: Vec<u8>,
    record: Record,
}

impl<R: BufRead> Records<R> {
    fn new(source: R, delimiter: u8) -> Self {
        let record = Record {
            line: 0,
            raw: String::new(),
            fields: String::new(),
            ends: Vec::new(),
            end: End::Line,
            is_misquoted: false,
        };
        let delimiter = char::from(delimiter);
        Self {
            source,
            delimiter,
            line: 1,
            again: VecDeque::new(),
            bytes: Vec::new(),
            record,
        }
    }

    fn next(&mut self) -> Result<Option<&Record>, FormatError> {
        self.record.raw.clear();
        self.record.fields.clear();
        self.record.ends.clear();
        self.record.is_misquoted = false;
        self.record.line = self.line;
        let mut at = At::Start;
        loop {
            let Some((line, end)) = self.line()? else {
                return if at == At::Start {
                    Ok(None)
                } else {
                    Err(self.unclosed())
                };
            };
            if at == At::Quoted {
                self.record.raw.push('\n');
                self.record.fields.push('\n');
            }
            self.record.raw.push_str(&line);
            self.record.end = end;
            let Some(after) = self.record.take(&line, at, self.delimiter) else {
                self.take_back();
                return Ok(Some(&self.record));
            };
            at = after;
            if at != At::Quoted {
                return Ok(Some(&self.record));
            }
            if self.record.raw.len() > MAX_RECORD || end == End::File {
                return Err(self.unclosed());
            }
        }
    }

    /// Leaves a record that is quoted wrongly its first line, and gives back the others: the
    /// quote that seemed to enclose them may have been one too many.
    fn take_back(&mut self) {
        let record = &mut self.record;
        record.is_misquoted = true;
        let raw = std::mem::take(&mut record.raw);
        let mut lines = raw.split('\n');
        record.raw = lines.next().unwrap_or_default().to_owned();
        let mut others: Vec<_> = lines.map(|line| (line.to_owned(), End::Line)).collect();
        if let Some(last) = others.last_mut() {
            last.1 = record.end;
            record.end = End::Line;
        }
        self.line = record.line + 1;
        for other in others.into_iter().rev() {
            self.again.push_front(other);
        }
    }

    fn unclosed(&self) -> FormatError {
        FormatError::Broken {
            place: format!("line {}", self.record.line),
            reason: "a quote opens there that is not closed".to_owned(),
        }
    }

    /// The next line without its end.
    fn line(&mut self) -> Result<Option<(String, End)>, FormatError> {
        if let Some(line) = self.again.pop_front() {
            self.line += 1;
            return Ok(Some(line));
        }
        self.bytes.clear();
        let end = loop {
            let piece = self.source.fill_buf()?;
            if piece.is_empty() {
                break End::File;
            }
            let stop = piece.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let (line, rest) = piece.split_at(stop.unwrap_or(piece.len()));
            self.bytes.extend_from_slice(line);
            let (length, sign) = (line.len(), rest.first().copied());
            self.source.consume(length + usize::from(sign.is_some()));
            if self.bytes.len() > MAX_RECORD {
                return Err(FormatError::Broken {
                    place: format!("line {}", self.line),
                    reason: format!("it is longer than {MAX_RECORD} bytes"),
                });
            }
            if let Some(sign) = sign {
                self.skip_feed_after(sign)?;
                break End::Line;
            }
        };
        if self.bytes.is_empty() && end == End::File {
            return Ok(None);
        }
        self.line += 1;
        Ok(Some((
            String::from_utf8_lossy(&self.bytes).into_owned(),
            end,
        )))
    }

    /// Of a carriage return and a line feed, the second.
    fn skip_feed_after(&mut self, sign: u8) -> io::Result<()> {
        if sign == b'\r' && self.source.fill_buf()?.first() == Some(&b'\n') {
            self.source.consume(1);
        }
        Ok(())
    }
}

impl Record {
    /// Takes the fields of one line; `None` if a quote closes where none can.
    fn take(&mut self, line: &str, from: At, delimiter: char) -> Option<At> {
        let mut at = from;
        for c in line.chars() {
            at = match at {
                At::Start | At::Plain | At::Closed if c == delimiter => {
                    self.ends.push(self.fields.len());
                    At::Start
                }
                At::Start if c == '"' => At::Quoted,
                At::Quoted if c == '"' => At::Closed,
                At::Closed if c == '"' => {
                    self.fields.push(c);
                    At::Quoted
                }
                At::Closed if c.is_whitespace() => At::Closed,
                At::Closed => return None,
                At::Quoted => {
                    self.fields.push(c);
                    At::Quoted
                }
                At::Start | At::Plain => {
                    self.fields.push(c);
                    At::Plain
                }
            };
        }
        if at != At::Quoted {
            self.ends.push(self.fields.len());
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests;
