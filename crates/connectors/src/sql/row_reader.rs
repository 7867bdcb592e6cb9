//! Reads rows of a result into entries of a delivery. A row that breaks a rule is rejected alone.

use std::cmp::Ordering;

use chrono::DateTime;
use stock::Timestamp;
use stock_import::{DecimalMark, NumberStyle, Quantity, trim_blanks};
use stock_import::{DeliveryEntry, ProductKey, ReadSettings, Row, RowProblem};

use super::cell::{ColumnKind, SqlCell, SqlColumn, SqlRow};
use super::columns::SqlColumns;

/// Decimals of an exact number that are read. The others cannot change a count of pieces.
const MAX_DECIMALS: usize = 7;

impl SqlColumns {
    /// True if a row has a quantity, readable or not.
    pub(super) fn has_quantity(&self, row: &impl SqlRow) -> bool {
        match row.cell(&self.quantity) {
            Ok(Some(cell)) => !trim_blanks(&cell.into_text()).is_empty(),
            Ok(None) => false,
            Err(_unreadable) => true,
        }
    }

    /// Reads a row; one that breaks a rule becomes a rejected or suspicious entry.
    pub(super) fn read_entry(
        &self,
        row: &impl SqlRow,
        line: u64,
        settings: &SqlReadSettings,
    ) -> DeliveryEntry {
        let sku = match self.sku(row, &settings.for_texts) {
            Ok(sku) => sku,
            Err(problem) => return problem.into_entry(line, &self.describe_row(row), None),
        };
        match self.read_row(row, line, &sku, settings) {
            Ok(row) => DeliveryEntry::Row(row),
            Err(problem) => problem.into_entry(line, &self.describe_row(row), Some(sku)),
        }
    }

    fn sku(&self, row: &impl SqlRow, settings: &ReadSettings) -> Result<String, RowProblem> {
        let text = text_of(row, &self.sku)?.ok_or_else(|| format!("{} is NULL", self.sku.name))?;
        if text.is_empty() {
            return Err(format!("{} is empty", self.sku.name).into());
        }
        settings.parse_sku(&text)
    }

    fn read_row(
        &self,
        row: &impl SqlRow,
        line: u64,
        sku: &str,
        settings: &SqlReadSettings,
    ) -> Result<Row, RowProblem> {
        let warehouse = self
            .warehouse
            .as_ref()
            .map(|column| text_of(row, column))
            .transpose()?
            .flatten();
        let reserve = match &self.reserve {
            Some(column) => {
                let (text, number_settings) = settings.number_text(row, column)?;
                let reserve = number_settings.parse_reserve(&text, NumberStyle::default());
                reserve.map_err(|error| RowProblem::from(error).of_field("reserve"))?
            }
            None => None,
        };
        Ok(Row {
            line,
            key: ProductKey::Sku(sku.to_owned()),
            warehouse: warehouse.filter(|name| !name.is_empty()),
            quantity: self.quantity(row, settings)?,
            reserve,
            stated_at: self
                .updated_at
                .as_ref()
                .map(|column| updated_at_of(row, column))
                .transpose()?
                .flatten(),
        })
    }

    fn quantity(
        &self,
        row: &impl SqlRow,
        settings: &SqlReadSettings,
    ) -> Result<Option<Quantity>, RowProblem> {
        let (text, number_settings) = settings.number_text(row, &self.quantity)?;
        Ok(number_settings.parse_quantity(&text)?)
    }

    /// Describes a row by its key columns, so that a person can find it in the database.
    fn describe_row(&self, row: &impl SqlRow) -> String {
        let columns = [
            Some(&self.sku),
            Some(&self.quantity),
            self.warehouse.as_ref(),
        ];
        let described = columns.into_iter().flatten().map(|column| {
            let value = match row.cell(column) {
                Ok(Some(cell)) => cell.into_text(),
                Ok(None) => "NULL".to_owned(),
                Err(_unreadable) => "?".to_owned(),
            };
            format!("{}={value}", column.name)
        });
        described.collect::<Vec<_>>().join(" ")
    }

    /// Records the row's watermark if it is the greatest so far. An unreadable watermark is
    /// skipped: its row then appears again in the next run.
    pub(super) fn update_max_watermark(
        &self,
        row: &impl SqlRow,
        max_watermark: &mut Option<SqlCell>,
    ) {
        let Some(column) = &self.watermark else {
            return;
        };
        let Ok(Some(cell)) = row.cell(column) else {
            return;
        };
        if cell.compare(&cell).is_none() {
            // Values such as `NaN` are skipped, because no other value would ever be greater.
            return;
        }
        let is_greater = |than: &SqlCell| {
            cell.compare(than)
                .is_some_and(|ordering| ordering == Ordering::Greater)
        };
        if max_watermark.as_ref().is_none_or(is_greater) {
            *max_watermark = Some(cell);
        }
    }
}

/// Settings for reading the values of a row.
#[derive(Debug)]
pub(super) struct SqlReadSettings {
    /// Settings for text columns.
    for_texts: ReadSettings,
    /// Settings for number columns. Their decimal mark is always the point: the setting `decimal`
    /// applies to texts only.
    for_numbers: ReadSettings,
}

impl SqlReadSettings {
    pub(super) fn new(settings: &ReadSettings) -> Self {
        let for_texts = settings.clone();
        Self {
            for_numbers: ReadSettings {
                decimal: Some(DecimalMark::Point),
                ..settings.clone()
            },
            for_texts,
        }
    }

    /// Returns the text of a number, empty for `NULL`, and the settings to read it with.
    fn number_text(
        &self,
        row: &impl SqlRow,
        column: &SqlColumn,
    ) -> Result<(String, &ReadSettings), String> {
        let mut text = text_of(row, column)?.unwrap_or_default();
        if column.kind == ColumnKind::Numeric
            && let Some(point) = text.find('.')
        {
            // An exact decimal has no rounding noise of binary fractions, so it is cut, not
            // rounded.
            text.truncate(point + 1 + MAX_DECIMALS);
        }
        let settings = match column.kind {
            ColumnKind::Integer
            | ColumnKind::Unsigned
            | ColumnKind::Numeric
            | ColumnKind::Float32
            | ColumnKind::Float64 => &self.for_numbers,
            ColumnKind::Text | ColumnKind::TimestampTz | ColumnKind::LocalTimestamp => {
                &self.for_texts
            }
        };
        Ok((text, settings))
    }
}

/// Returns a value as text without surrounding blanks.
fn text_of(row: &impl SqlRow, column: &SqlColumn) -> Result<Option<String>, String> {
    let cell = row
        .cell(column)
        .map_err(|e| format!("{} is unreadable: {e}", column.name))?;
    Ok(cell.map(|cell| trim_blanks(&cell.into_text()).to_owned()))
}

fn updated_at_of(row: &impl SqlRow, column: &SqlColumn) -> Result<Option<Timestamp>, String> {
    let cell = row
        .cell(column)
        .map_err(|e| format!("{} is unreadable: {e}", column.name))?;
    let text = match cell {
        None => return Ok(None),
        Some(SqlCell::TimestampTz(at)) => return Ok(Some(at.into())),
        Some(other) => other.into_text(),
    };
    let text = trim_blanks(&text);
    if text.is_empty() {
        return Ok(None);
    }
    let at = DateTime::parse_from_rfc3339(text).map_err(|_| {
        format!(
            "{} is '{text}', it must have the form 2026-11-22T10:00:00+03:00",
            column.name
        )
    })?;
    Ok(Some(at.to_utc().into()))
}
