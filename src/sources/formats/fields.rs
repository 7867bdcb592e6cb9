//! What the readers of elements and of members have in common: names, texts and moments.

use chrono::DateTime;

use super::decode::UNDECODABLE;
use crate::sources::quantity::NumberStyle;
use crate::sources::{
    DeliveryEntry, ProductKey, Quantity, ReadSettings, RejectedRow, Row, RowProblem,
};
use crate::stock::Timestamp;

/// Why a row is rejected that has [`UNDECODABLE`] in a field that is read.
const UNDECODABLE_REASON: &str = "it has bytes that are not characters of the file's encoding: set encoding \
                         to the one it is in, such as windows-1251";

/// A field's text; the error is why its row cannot be taken.
pub(super) type FieldText = Result<String, String>;

/// Whether a field is the one that is meant: whatever its case and the blanks around it.
pub(super) fn same_name(name: &str, expected: &str) -> bool {
    let (name, meant) = (name.trim(), expected.trim());
    name == meant
        || name
            .chars()
            .flat_map(char::to_lowercase)
            .eq(meant.chars().flat_map(char::to_lowercase))
}

/// Whether a field is the one the settings name, if they name one.
pub(super) fn matches_setting(setting: Option<&String>, name: &str) -> bool {
    setting.is_some_and(|expected| same_name(name, expected))
}

/// A moment with its offset; a date without one could be meant anywhere on earth.
pub(super) fn parse_timestamp(text: &str) -> Result<Timestamp, String> {
    let timestamp = DateTime::parse_from_rfc3339(text.trim());
    timestamp.map(|at| at.to_utc().into()).map_err(|_| {
        let excerpt: String = text.chars().take(40).collect();
        format!(
            "'{excerpt}' must be a date and time with an offset, as in 2026-11-22T10:00:00+03:00"
        )
    })
}

/// A field that a row states once, or twice alike.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct SingleValue(Option<FieldText>);

impl SingleValue {
    /// Takes what the row states; a second text that differs from the first spoils both.
    pub(super) fn set(&mut self, name: &str, text: FieldText) {
        self.0 = Some(match self.0.take() {
            Some(Ok(first)) if Ok(&first) != text.as_ref() => {
                Err(format!("{name} is stated twice, and not alike"))
            }
            Some(first @ Err(_)) => first,
            Some(Ok(_)) | None => text,
        });
    }

    /// What was stated, trimmed; `None` if nothing, or nothing but blanks, was.
    pub(super) fn value(&self) -> Result<Option<&str>, String> {
        let Some(text) = &self.0 else { return Ok(None) };
        let text = text.as_ref().map_err(Clone::clone)?.trim();
        if text.contains(UNDECODABLE) {
            return Err(UNDECODABLE_REASON.to_owned());
        }
        Ok((!text.is_empty()).then_some(text))
    }

    /// Whether it was stated at all, if only as an empty text.
    pub(super) fn is_present(&self) -> bool {
        self.0.is_some()
    }

    /// Reads it as a quantity; a field that is there and empty is an empty quantity.
    pub(super) fn quantity(
        &self,
        reading: &ReadSettings,
        style: NumberStyle,
    ) -> Result<Option<Quantity>, RowProblem> {
        if !self.is_present() {
            return Ok(None);
        }
        Ok(reading.parse_column_quantity(self.value()?.unwrap_or_default(), style)?)
    }

    /// Reads it as a reserve.
    pub(super) fn reserve(
        &self,
        reading: &ReadSettings,
        style: NumberStyle,
    ) -> Result<Option<Quantity>, RowProblem> {
        let text = self.value()?.unwrap_or_default();
        reading
            .parse_reserve(text, style)
            .map_err(|error| RowProblem::from(error).of_field("reserve"))
    }

    /// Reads it as a moment.
    pub(super) fn timestamp(&self) -> Result<Option<Timestamp>, String> {
        self.value()?.map(parse_timestamp).transpose()
    }
}

/// Stock of one product at one place, as its elements state it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct StockFields {
    pub(super) warehouse: SingleValue,
    pub(super) quantity: SingleValue,
    pub(super) reserve: SingleValue,
    pub(super) updated_at: SingleValue,
    /// What the format or its literals prove about the marks in its numbers.
    pub(super) style: NumberStyle,
}

impl StockFields {
    /// As a row of that product, or as the reason why it is none.
    pub(super) fn into_entry(
        self,
        line: u64,
        key: &ProductKey,
        reading: &ReadSettings,
    ) -> DeliveryEntry {
        match self.read(line, key, reading) {
            Ok(row) => DeliveryEntry::Row(row),
            Err(problem) => problem.into_entry(line, key_text(key), sku_of(key)),
        }
    }

    fn read(&self, line: u64, key: &ProductKey, reading: &ReadSettings) -> Result<Row, RowProblem> {
        let row = Row {
            line,
            key: key.clone(),
            warehouse: self.warehouse.value()?.map(str::to_owned),
            quantity: self.quantity.quantity(reading, self.style)?,
            reserve: self.reserve.reserve(reading, self.style)?,
            stated_at: self.updated_at.timestamp()?,
        };
        let has_undecodable = key_text(key).contains(UNDECODABLE)
            || row
                .warehouse
                .as_ref()
                .is_some_and(|warehouse| warehouse.contains(UNDECODABLE));
        if has_undecodable {
            return Err(RowProblem::Rejected(UNDECODABLE_REASON.to_owned()));
        }
        Ok(row)
    }

    /// As the row of a product that cannot be had: none of it, or nothing said.
    pub(super) fn into_unavailable(
        self,
        line: u64,
        key: &ProductKey,
        quantity: Option<Quantity>,
    ) -> DeliveryEntry {
        match self.warehouse.value() {
            Ok(warehouse) => {
                let (key, warehouse) = (key.clone(), warehouse.map(str::to_owned));
                DeliveryEntry::Row(Row {
                    line,
                    key,
                    warehouse,
                    quantity,
                    reserve: None,
                    stated_at: None,
                })
            }
            Err(reason) => {
                DeliveryEntry::Rejected(RejectedRow::new(line, key_text(key), reason).with_key(key))
            }
        }
    }
}

fn key_text(key: &ProductKey) -> &str {
    match key {
        ProductKey::Sku(name) | ProductKey::Id(name) => name,
    }
}

/// The SKU of a product, if its key is one; which SKU an id stands for may not be known yet.
fn sku_of(key: &ProductKey) -> Option<String> {
    match key {
        ProductKey::Sku(sku) => Some(sku.clone()),
        ProductKey::Id(_) => None,
    }
}
