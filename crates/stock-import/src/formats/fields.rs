//! Fields of XML elements and JSON members: comparison of names, values that may occur once, and
//! their conversion to a row.

use chrono::DateTime;
use stock::Timestamp;

use super::decode::UNDECODABLE;
use crate::quantity::NumberStyle;
use crate::{DeliveryEntry, ProductKey, Quantity, ReadSettings, Row, RowProblem};

/// Reason to reject a row that has [`UNDECODABLE`] in a field that is read.
const UNDECODABLE_REASON: &str = "the row has bytes that are not characters of the file's \
                                  encoding: set encoding to the file's encoding, such as \
                                  windows-1251";

/// Text of a field; the error is the reason to reject its row.
pub(super) type FieldText = Result<String, String>;

/// Returns true if two field names are equal, ignoring case and surrounding blanks.
pub(super) fn same_name(name: &str, expected: &str) -> bool {
    let (name, expected) = (name.trim(), expected.trim());
    name == expected
        || name
            .chars()
            .flat_map(char::to_lowercase)
            .eq(expected.chars().flat_map(char::to_lowercase))
}

/// Returns true if a field has one of these names, which are separated by blanks.
pub(super) fn is_one_of(name: &str, known: &str) -> bool {
    known.split(' ').any(|known| same_name(name, known))
}

/// Returns true if a setting names this field.
pub(super) fn matches_setting(setting: Option<&String>, name: &str) -> bool {
    setting.is_some_and(|expected| same_name(name, expected))
}

/// Parses an RFC 3339 time. The offset is required, because a local time without its time zone is
/// ambiguous.
pub(super) fn parse_timestamp(text: &str) -> Result<Timestamp, String> {
    let timestamp = DateTime::parse_from_rfc3339(text.trim());
    timestamp.map(|at| at.to_utc().into()).map_err(|_| {
        let excerpt: String = text.chars().take(40).collect();
        format!(
            "'{excerpt}' must be a date and time with an offset, as in 2026-11-22T10:00:00+03:00"
        )
    })
}

/// Value of a field that a row has once, or several times with the same text.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct SingleValue(Option<FieldText>);

impl From<Option<FieldText>> for SingleValue {
    fn from(text: Option<FieldText>) -> Self {
        Self(text)
    }
}

impl SingleValue {
    pub(super) fn new(text: String) -> Self {
        Self(Some(Ok(text)))
    }

    /// Stores a text. A second text that differs from the first makes the value an error.
    pub(super) fn set(&mut self, name: &str, text: FieldText) {
        self.0 = Some(match self.0.take() {
            Some(Ok(first)) if Ok(&first) != text.as_ref() => {
                Err(format!("{name} is stated twice with different values"))
            }
            Some(first @ Err(_)) => first,
            Some(Ok(_)) | None => text,
        });
    }

    /// Returns the trimmed text; `None` if the field is absent or blank.
    pub(super) fn value(&self) -> Result<Option<&str>, String> {
        let Some(text) = &self.0 else { return Ok(None) };
        let text = text.as_ref().map_err(Clone::clone)?.trim();
        if text.contains(UNDECODABLE) {
            return Err(UNDECODABLE_REASON.to_owned());
        }
        Ok((!text.is_empty()).then_some(text))
    }

    /// Returns true if the row has the field, even with an empty text.
    pub(super) fn is_present(&self) -> bool {
        self.0.is_some()
    }

    /// Parses the value as a quantity. An empty field is an empty quantity, an absent one is
    /// `None`.
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

    pub(super) fn timestamp(&self) -> Result<Option<Timestamp>, String> {
        self.value()?.map(parse_timestamp).transpose()
    }
}

/// Raw fields of the stock of one product at one warehouse.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct StockFields {
    pub(super) warehouse: SingleValue,
    pub(super) quantity: SingleValue,
    pub(super) reserve: SingleValue,
    pub(super) updated_at: SingleValue,
    /// Meaning of the marks in the numbers, as the format or its literals prove it.
    pub(super) style: NumberStyle,
}

impl StockFields {
    /// Returns the fields that settings name, with their settings.
    pub(super) fn named_fields<'s>(
        &mut self,
        reading: &'s ReadSettings,
    ) -> [(Option<&'s String>, &mut SingleValue); 4] {
        [
            (reading.quantity.as_ref(), &mut self.quantity),
            (reading.reserve.as_ref(), &mut self.reserve),
            (reading.warehouse.as_ref(), &mut self.warehouse),
            (reading.updated_at.as_ref(), &mut self.updated_at),
        ]
    }

    /// Returns the field for which a setting has this name.
    pub(super) fn named_field(
        &mut self,
        reading: &ReadSettings,
        name: &str,
    ) -> Option<&mut SingleValue> {
        let mut fields = self.named_fields(reading).into_iter();
        let field = fields.find(|(setting, _)| matches_setting(*setting, name));
        field.map(|(_, field)| field)
    }

    /// Converts the fields to a row of the product, or to a rejected or suspicious entry.
    pub(super) fn into_entry(
        self,
        line: u64,
        key: &ProductKey,
        reading: &ReadSettings,
    ) -> DeliveryEntry {
        entry(self.read(line, key, reading), line, key)
    }

    fn read(&self, line: u64, key: &ProductKey, reading: &ReadSettings) -> Result<Row, RowProblem> {
        let row = self.row(line, key)?;
        let row = Row {
            quantity: self.quantity.quantity(reading, self.style)?,
            reserve: self.reserve.reserve(reading, self.style)?,
            stated_at: self.updated_at.timestamp()?,
            ..row
        };
        if key.text().contains(UNDECODABLE) {
            return Err(UNDECODABLE_REASON.to_owned().into());
        }
        Ok(row)
    }

    /// Converts the fields to a row of an unavailable product with the given quantity.
    pub(super) fn into_unavailable(
        self,
        line: u64,
        key: &ProductKey,
        quantity: Option<Quantity>,
    ) -> DeliveryEntry {
        let row = self.row(line, key);
        entry(row.map(|row| Row { quantity, ..row }), line, key)
    }

    /// Returns a row with the product and the warehouse only.
    fn row(&self, line: u64, key: &ProductKey) -> Result<Row, RowProblem> {
        Ok(Row {
            line,
            key: key.clone(),
            warehouse: self.warehouse.value()?.map(str::to_owned),
            quantity: None,
            reserve: None,
            stated_at: None,
        })
    }
}

fn entry(row: Result<Row, RowProblem>, line: u64, key: &ProductKey) -> DeliveryEntry {
    row.map_or_else(
        |problem| problem.into_entry(line, key.text(), key.sku()),
        DeliveryEntry::Row,
    )
}
