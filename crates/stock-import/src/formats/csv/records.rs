//! Records of delimited text: splits lines into fields, and handles quotes that span lines.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::BufRead;

use crate::ReadSettings;
use crate::formats::FormatError;
use crate::formats::decode::UNDECODABLE;
use crate::formats::table::{StockTable, TableCell, used_width};

/// Longest row in bytes. Without this limit, an unclosed quote would extend a row to the end of the
/// file.
const MAX_RECORD_BYTES: usize = 64 * 1024;

/// End of a line.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum LineEnd {
    /// LF, CR or CRLF.
    #[default]
    Newline,
    EndOfFile,
}

/// State of the parser within a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum CsvState {
    FieldStart,
    Unquoted,
    Quoted,
    /// After a closing quote, unless a second quote follows.
    QuoteClosed,
}

/// One row of the file.
#[derive(Debug, Default)]
pub(super) struct CsvRecord {
    /// Number of its first line, from 1.
    pub(super) line: u64,
    /// Original text.
    raw: String,
    /// Concatenated fields; `field_ends` has the end of each.
    fields: String,
    field_ends: Vec<usize>,
    line_end: LineEnd,
    /// Other text follows a closing quote.
    is_misquoted: bool,
}

impl CsvRecord {
    pub(super) fn cells(&self) -> Vec<TableCell<'_>> {
        let starts = std::iter::once(0).chain(self.field_ends.iter().copied());
        let field = |(start, end): (usize, &usize)| {
            let text = self.fields.get(start..*end).unwrap_or_default();
            TableCell::Text(Cow::Borrowed(text))
        };
        starts.zip(&self.field_ends).map(field).collect()
    }

    /// Returns true if the record has only blanks and delimiters, or the end marker of a DOS file.
    pub(super) fn is_blank(&self) -> bool {
        let is_ignorable = |c: char| c.is_whitespace() || c == '\u{1a}';
        self.raw.chars().all(is_ignorable)
            || (self.line_end == LineEnd::Newline && self.fields.chars().all(is_ignorable))
    }

    pub(super) fn display_text(&self) -> String {
        self.raw.replace(UNDECODABLE, "\u{fffd}")
    }

    /// Returns the reason to reject the record because of its form.
    pub(super) fn reject_reason(
        &self,
        cells: &[TableCell<'_>],
        table: &StockTable<'_>,
        reading: &ReadSettings,
    ) -> Option<String> {
        if let Some(reason) = self.malformed_reason(reading) {
            return Some(reason);
        }
        // Spreadsheets omit empty fields at the end, so fewer fields are valid. An extra field
        // shows an unquoted delimiter, even if it is empty, unless every row has it.
        let (expected, actual) = (table.width(), cells.len());
        let is_too_wide = used_width(cells) > expected || actual > table.max_fields();
        is_too_wide.then(|| format!("the row has {actual} fields, the header has {expected}"))
    }

    pub(super) fn malformed_reason(&self, reading: &ReadSettings) -> Option<String> {
        if self.is_misquoted {
            return Some("a quote is closed in the middle of a field".to_owned());
        }
        if self.line_end == LineEnd::EndOfFile && !reading.accepts_unterminated_row {
            return Some(
                "the file ends without a line end after this row, so the row may be truncated: add a \
                 line end, or set unended_row = \"take\""
                    .to_owned(),
            );
        }
        None
    }

    /// Parses the fields of one line; `None` if other text follows a closing quote.
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

/// Reader of the records of a text, one at a time.
pub(super) struct CsvRecords<R> {
    source: R,
    delimiter: char,
    /// Number of the next line, from 1.
    next_line_number: u64,
    /// Lines to read again because they were wrongly taken for quoted text.
    pushed_back: VecDeque<(String, LineEnd)>,
    bytes: Vec<u8>,
    /// Latest record; its buffers are reused.
    pub(super) record: CsvRecord,
}

impl<R: BufRead> CsvRecords<R> {
    pub(super) fn new(source: R, delimiter: u8) -> Self {
        Self {
            source,
            delimiter: char::from(delimiter),
            next_line_number: 1,
            pushed_back: VecDeque::new(),
            bytes: Vec::new(),
            record: CsvRecord::default(),
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<&CsvRecord>, FormatError> {
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

    /// Reduces a misquoted record to its first line and pushes the other lines back: the opening
    /// quote may be an extra one.
    fn push_back_quoted_lines(&mut self) {
        let record = &mut self.record;
        record.is_misquoted = true;
        self.next_line_number = record.line + 1;
        let raw = std::mem::take(&mut record.raw);
        let mut lines: Vec<_> = raw.split('\n').map(str::to_owned).collect();
        while lines.len() > 1
            && let Some(line) = lines.pop()
        {
            let end = std::mem::take(&mut record.line_end);
            self.pushed_back.push_front((line, end));
        }
        record.raw = lines.concat();
    }

    fn unclosed_quote_error(&self) -> FormatError {
        let place = format!("line {}", self.record.line);
        FormatError::broken(place, "a quote is never closed")
    }

    /// Returns the next line without its line end.
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
                return Err(FormatError::broken(
                    format!("line {}", self.next_line_number),
                    format!("the line is longer than {MAX_RECORD_BYTES} bytes"),
                ));
            }
            if let Some(terminator) = terminator {
                // The line feed of a CRLF.
                if terminator == b'\r' && self.source.fill_buf()?.first() == Some(&b'\n') {
                    self.source.consume(1);
                }
                break LineEnd::Newline;
            }
        };
        if self.bytes.is_empty() && end == LineEnd::EndOfFile {
            return Ok(None);
        }
        self.next_line_number += 1;
        let line = String::from_utf8_lossy(&self.bytes).into_owned();
        Ok(Some((line, end)))
    }
}
