//! What sellers' files look like: bytes in, [`Entry`]s out, and a fault for each bad row.
//!
//! Pure: nothing here opens a file, reads a clock or keeps what it read. However long a file
//! is, one row of it is in memory; the exceptions are told where they are.

mod charset;
mod commerceml;
mod container;
mod csv;
mod fields;
#[cfg(test)]
mod hostile;
mod json;
mod sheet;
mod table;
mod text;
#[cfg(test)]
mod trial;
mod xml;
mod yml;

pub use container::{DataFile, MAX_RATIO, MAX_UNPACKED, Visit, unpack};
use std::io::{Read, Seek};

use super::row::{Entry, GivenUp, Reading, Scope};

/// What a file is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// Lines with delimiters; the Market's own stock sheet as CSV too.
    Csv,
    /// A workbook, XLSX or XLS; the Market's own stock sheet too.
    Sheet,
    /// The Market's product feed.
    Yml,
    /// 1C's exchange.
    CommerceMl,
    /// One JSON document, or one in each line.
    Json,
}

/// Where a reader puts what it finds, one entry at a time.
pub type Sink<'a> = &'a mut dyn FnMut(Entry) -> Result<(), GivenUp>;

/// A file that can be read and gone about in.
pub trait Input: Read + Seek {}

impl<T: Read + Seek> Input for T {}

/// What a file said of itself, once it was read to its verified end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ending {
    /// Whether it is complete, if its format tells.
    pub scope: Option<Scope>,
}

/// Why a file cannot be taken, whatever its rows say.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It ends before its end, or is no such file at all.
    #[error("the file is broken at {place}: {reason}")]
    Broken {
        /// Where, in words: `line 17`, `byte 4711`.
        place: String,
        /// What is wrong there.
        reason: String,
    },
    /// It is well, but what is needed is not in it.
    #[error("{0}")]
    Unfit(String),
    /// It could not be read.
    #[error("the file cannot be read")]
    Io(#[from] std::io::Error),
    /// Nobody wants the rest.
    #[error(transparent)]
    GivenUp(#[from] GivenUp),
}

/// Reads a file from its beginning to its end, and puts all it says into the sink.
///
/// # Errors
/// The file cannot be taken, whatever has been put so far; or nobody wants the rest.
pub fn read(
    format: Format,
    input: &mut dyn Input,
    reading: &Reading,
    sink: Sink<'_>,
) -> Result<Ending, FormatError> {
    match format {
        Format::Csv => csv::read(input, reading, sink),
        Format::Sheet => sheet::read(input, reading, sink),
        Format::Yml => yml::read(input, reading, sink),
        Format::CommerceMl => commerceml::read(input, reading, sink),
        Format::Json => json::read(input, reading, sink),
    }
}
