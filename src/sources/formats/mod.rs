//! What sellers' files look like: bytes in, [`Entry`]s out, and a fault for each bad row.
//!
//! Pure: nothing here opens a file, reads a clock or keeps what it read. However long a file
//! is, one row of it is in memory; the exceptions are told where they are.

mod commerceml;
mod container;
mod csv;
mod decode;
mod fields;
mod json;
#[cfg(test)]
mod robustness_tests;
mod sheet;
mod table;

#[cfg(test)]
mod testing;
mod xml;
mod yml;

pub use container::{DataFile, FormatHints, VisitDataFile, unpack};
use std::io::{Read, Seek};

use super::row::{DeliveryCancelled, DeliveryEntry, DeliveryScope, ReadSettings};

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
pub type Sink<'a> = &'a mut dyn FnMut(DeliveryEntry) -> Result<(), DeliveryCancelled>;

/// A file that can be read and gone about in.
pub trait Input: Read + Seek {}

impl<T: Read + Seek> Input for T {}

/// What a file said of itself, once it was read to its verified end.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FileSummary {
    /// Whether it is complete, if its format tells.
    pub scope: Option<DeliveryScope>,
    /// How it was read.
    pub shape: FileShape,
    /// Facts that the operator should know and that hold nothing up: a hidden sheet that was left
    /// out, products without a SKU.
    pub notices: Vec<String>,
}

impl FileSummary {
    /// An ending that says only whether the file is complete.
    #[must_use]
    pub fn with_scope(scope: Option<DeliveryScope>) -> Self {
        Self {
            scope,
            ..Self::default()
        }
    }
}

/// How a file was read: properties whose change is a warning sign.
///
/// Names are for people: `encoding`, `delimiter`, `columns`, `sku`, `sheet`,
/// `numbers`; `header`, `why`, `sheets` and `file` only explain.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FileShape(pub std::collections::BTreeMap<&'static str, String>);

impl FileShape {
    /// Notes a property.
    pub fn set(&mut self, property: &'static str, value: impl Into<String>) {
        self.0.insert(property, value.into());
    }
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
    Unusable(String),
    /// It could not be read.
    #[error("the file cannot be read")]
    Io(#[from] std::io::Error),
    /// Nobody wants the rest.
    #[error(transparent)]
    Cancelled(#[from] DeliveryCancelled),
}

impl FormatError {
    /// The same error, of a file in an archive.
    #[must_use]
    pub fn in_file(self, name: &str) -> Self {
        match self {
            Self::Broken { place, reason } => Self::Broken {
                place: format!("{place} of '{name}'"),
                reason,
            },
            Self::Unusable(reason) => Self::Unusable(format!(
                "'{name}' in the archive: {reason} (a file that is not a stock list must not be in \
                 the archive)"
            )),
            Self::Io(_) | Self::Cancelled(_) => self,
        }
    }
}

/// Reads a file from its beginning to its end, and puts all it says into the sink.
///
/// # Errors
/// The file cannot be taken, whatever has been put so far: it is broken, its columns or members
/// cannot be told, or it has products and states no quantity of any; or the sink wants no more.
pub fn read(
    format: Format,
    input: &mut dyn Input,
    reading: &ReadSettings,
    sink: Sink<'_>,
) -> Result<FileSummary, FormatError> {
    let mut counts = FileRowCounts::default();
    let mut summary = read_rows(format, input, reading, &mut |entry| {
        counts.add(&entry);
        sink(entry)
    })?;
    // A catalogue or a price list of 1C states no quantities, and should not.
    if format != Format::CommerceMl && counts.rows > 0 && counts.quantities == 0 {
        return Err(FormatError::Unusable(
            counts.missing_quantity_reason(&summary.shape),
        ));
    }
    summary.shape.set("format", format.name());
    Ok(summary)
}

/// What was read of a file so far.
#[derive(Debug, Default)]
struct FileRowCounts {
    rows: u64,
    quantities: u64,
}

impl FileRowCounts {
    fn add(&mut self, entry: &DeliveryEntry) {
        if let DeliveryEntry::Row(row) = entry {
            self.rows += 1;
            self.quantities += u64::from(row.quantity.is_some());
        }
    }

    fn missing_quantity_reason(&self, shape: &FileShape) -> String {
        let names = shape.0.get("columns").or_else(|| shape.0.get("members"));
        let field_list = names.map(|names| format!("; the file has {names}"));
        format!(
            "none of its {} products states a quantity: set quantity to the name of the field that \
             holds it, or set empty = \"zero\" if an empty one is zero{}",
            self.rows,
            field_list.unwrap_or_default()
        )
    }
}

fn read_rows(
    format: Format,
    input: &mut dyn Input,
    reading: &ReadSettings,
    sink: Sink<'_>,
) -> Result<FileSummary, FormatError> {
    match format {
        Format::Csv => csv::read(input, reading, sink),
        Format::Sheet => sheet::read(input, reading, sink),
        Format::Yml => yml::read(input, reading, sink),
        Format::CommerceMl => commerceml::read(input, reading, sink),
        Format::Json => json::read(input, reading, sink),
    }
}
