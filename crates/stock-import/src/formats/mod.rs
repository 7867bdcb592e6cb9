//! Readers of sellers' files: bytes in, [`DeliveryEntry`]s out, with a reason for each bad row.
//!
//! Pure: no reader opens a file or reads a clock. Each reader holds one row in memory, however
//! long the file is; exceptions are documented in the reader's module.

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
use std::fmt::Display;
use std::io::{Read, Seek};

use super::row::{DeliveryCancelled, DeliveryEntry, DeliveryScope, ReadSettings};

/// File format of a stock list.
#[derive(Clone, Copy, Debug, Eq, PartialEq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum Format {
    /// Delimited lines, including the Market's own stock sheet as CSV.
    Csv,
    /// An XLSX or XLS workbook, including the Market's own stock sheet.
    Sheet,
    /// The Market's product feed.
    Yml,
    /// CommerceML 2, the exchange format of 1C.
    CommerceMl,
    /// One JSON document, or one per line (NDJSON).
    Json,
}

/// Callback that receives the entries of a file one at a time.
pub type Sink<'a> = &'a mut dyn FnMut(DeliveryEntry) -> Result<(), DeliveryCancelled>;

/// A readable and seekable file.
pub trait Input: Read + Seek {}

impl<T: Read + Seek> Input for T {}

/// Facts about a file that was read to its verified end.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FileSummary {
    /// Scope that the file declares; `None` if its format cannot declare one.
    pub scope: Option<DeliveryScope>,
    /// Properties of the file, such as its encoding and its columns.
    pub shape: FileShape,
    /// Messages for the operator that do not block the delivery, such as skipped hidden sheets.
    pub notices: Vec<String>,
}

impl FileSummary {
    /// Creates a summary that has nothing but a scope.
    #[must_use]
    pub fn with_scope(scope: Option<DeliveryScope>) -> Self {
        Self {
            scope,
            ..Self::default()
        }
    }
}

/// Properties of a file and of how it was read. A change between deliveries is a warning sign.
///
/// The names are shown to users: `encoding`, `delimiter`, `columns`, `sku`, `sheet`, `numbers`.
/// `header`, `why`, `sheets` and `file` only explain the others.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FileShape(pub std::collections::BTreeMap<&'static str, String>);

impl FileShape {
    /// Sets a property.
    pub fn set(&mut self, property: &'static str, value: impl Into<String>) {
        self.0.insert(property, value.into());
    }
}

/// Error that makes a whole file unusable.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The file is truncated, damaged, or of another format.
    #[error("the file is broken at {place}: {reason}")]
    Broken {
        /// Position in words: `line 17`, `byte 4711`.
        place: String,
        /// Description of the damage.
        reason: String,
    },
    /// The file is intact, but a stock list cannot be read from it.
    #[error("{0}")]
    Unusable(String),
    /// The device failed to read the file.
    #[error("the file cannot be read")]
    Io(#[from] std::io::Error),
    /// The caller cancelled the delivery.
    #[error(transparent)]
    Cancelled(#[from] DeliveryCancelled),
}

impl FormatError {
    pub(crate) fn broken(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Broken {
            place: place.into(),
            reason: reason.into(),
        }
    }

    /// Adds the name of the file in its archive to the error.
    #[must_use]
    pub fn in_file(self, name: &str) -> Self {
        match self {
            Self::Broken { place, reason } => Self::broken(format!("{place} of '{name}'"), reason),
            Self::Unusable(reason) => Self::Unusable(format!(
                "'{name}' in the archive: {reason} (a file that is not a stock list must not be in \
                 the archive)"
            )),
            Self::Io(_) | Self::Cancelled(_) => self,
        }
    }
}

type ReadRows = fn(&mut dyn Input, &ReadSettings, Sink<'_>) -> Result<FileSummary, FormatError>;

/// Reads a whole file and passes its entries to the sink.
///
/// # Errors
/// The file is broken, its columns or members are ambiguous, or none of its products has a
/// quantity; or the sink cancels. The caller must discard the entries received before the error.
pub fn read(
    format: Format,
    input: &mut dyn Input,
    reading: &ReadSettings,
    sink: Sink<'_>,
) -> Result<FileSummary, FormatError> {
    let (mut row_count, mut has_quantity) = (0_u64, false);
    let read_rows: ReadRows = match format {
        Format::Csv => csv::read,
        Format::Sheet => sheet::read,
        Format::Yml => yml::read,
        Format::CommerceMl => commerceml::read,
        Format::Json => json::read,
    };
    let mut summary = read_rows(input, reading, &mut |entry| {
        if let DeliveryEntry::Row(row) = &entry {
            row_count += 1;
            has_quantity |= row.quantity.is_some();
        }
        sink(entry)
    })?;
    // A catalogue or a price list of 1C has no quantities, which is not an error.
    if format != Format::CommerceMl && row_count > 0 && !has_quantity {
        let shape = &summary.shape.0;
        let names = shape.get("columns").or_else(|| shape.get("members"));
        let field_list = names.map(|names| format!("; the file has {names}"));
        return Err(FormatError::Unusable(format!(
            "none of the {row_count} products has a quantity: set quantity to the name of the \
             quantity field, or set empty = \"zero\" if an empty quantity means zero{}",
            field_list.unwrap_or_default()
        )));
    }
    summary.shape.set("format", format.name());
    Ok(summary)
}

/// Lists names in quotes for a message.
fn quote_names<N: Display>(names: impl IntoIterator<Item = N>, separator: &str) -> String {
    let quoted = names.into_iter().map(|name| format!("'{name}'"));
    quoted.collect::<Vec<_>>().join(separator)
}

/// Lists at most `limit` names in quotes for a message.
fn list_names(names: &[impl Display], limit: usize) -> String {
    let more = if names.len() > limit { ", …" } else { "" };
    format!("{}{more}", quote_names(names.iter().take(limit), ", "))
}
