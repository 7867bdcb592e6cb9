//! What the readers of elements and of members have in common: names, texts and moments.

use chrono::DateTime;

use super::decode::UNDECODABLE;
use crate::sources::quantity::NumberStyle;
use crate::sources::{Entry, Fault, Key, Quantity, Reading, Row, RowProblem};
use crate::stock::Instant;

/// Why a row is rejected that has [`UNDECODABLE`] in a field that is read.
const UNDECODED: &str = "it has bytes that are not characters of the file's encoding: set encoding \
                         to the one it is in, such as windows-1251";

/// A field's text; the error is why its row cannot be taken.
pub(super) type Text = Result<String, String>;

/// Whether a field is the one that is meant: whatever its case and the blanks around it.
pub(super) fn is_named(name: &str, meant: &str) -> bool {
    let (name, meant) = (name.trim(), meant.trim());
    name == meant
        || name
            .chars()
            .flat_map(char::to_lowercase)
            .eq(meant.chars().flat_map(char::to_lowercase))
}

/// Whether a field is the one the settings name, if they name one.
pub(super) fn is_set_to(setting: Option<&String>, name: &str) -> bool {
    setting.is_some_and(|meant| is_named(name, meant))
}

/// A moment with its offset; a date without one could be meant anywhere on earth.
pub(super) fn moment(text: &str) -> Result<Instant, String> {
    let at = DateTime::parse_from_rfc3339(text.trim());
    at.map(|at| at.to_utc().into()).map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        format!("'{shown}' must be a date and time with an offset, as in 2026-11-22T10:00:00+03:00")
    })
}

/// A field that a row states once, or twice alike.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Once(Option<Text>);

impl Once {
    /// Takes what the row states; a second text that differs from the first spoils both.
    pub(super) fn state(&mut self, name: &str, text: Text) {
        self.0 = Some(match self.0.take() {
            Some(Ok(first)) if Ok(&first) != text.as_ref() => {
                Err(format!("{name} is stated twice, and not alike"))
            }
            Some(first @ Err(_)) => first,
            Some(Ok(_)) | None => text,
        });
    }

    /// What was stated, trimmed; `None` if nothing, or nothing but blanks, was.
    pub(super) fn said(&self) -> Result<Option<&str>, String> {
        let Some(text) = &self.0 else { return Ok(None) };
        let text = text.as_ref().map_err(Clone::clone)?.trim();
        if text.contains(UNDECODABLE) {
            return Err(UNDECODED.to_owned());
        }
        Ok((!text.is_empty()).then_some(text))
    }

    /// Whether it was stated at all, if only as an empty text.
    pub(super) fn is_stated(&self) -> bool {
        self.0.is_some()
    }

    /// Reads it as a quantity; a field that is there and empty is an empty quantity.
    pub(super) fn quantity(
        &self,
        reading: &Reading,
        style: NumberStyle,
    ) -> Result<Option<Quantity>, RowProblem> {
        if !self.is_stated() {
            return Ok(None);
        }
        Ok(reading.quantity_in(self.said()?.unwrap_or_default(), style)?)
    }

    /// Reads it as a reserve.
    pub(super) fn reserve(
        &self,
        reading: &Reading,
        style: NumberStyle,
    ) -> Result<Option<Quantity>, RowProblem> {
        let text = self.said()?.unwrap_or_default();
        reading
            .reserve(text, style)
            .map_err(|error| RowProblem::from(error).of_field("reserve"))
    }

    /// Reads it as a moment.
    pub(super) fn moment(&self) -> Result<Option<Instant>, String> {
        self.said()?.map(moment).transpose()
    }
}

/// Stock of one product at one place, as its elements state it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Statement {
    pub(super) place: Once,
    pub(super) quantity: Once,
    pub(super) reserve: Once,
    pub(super) at: Once,
    /// What the format or its literals prove about the marks in its numbers.
    pub(super) style: NumberStyle,
}

impl Statement {
    /// As a row of that product, or as the reason why it is none.
    pub(super) fn into_entry(self, line: u64, key: &Key, reading: &Reading) -> Entry {
        match self.read(line, key, reading) {
            Ok(row) => Entry::Row(row),
            Err(problem) => problem.into_entry(line, name_of(key), sku_of(key)),
        }
    }

    fn read(&self, line: u64, key: &Key, reading: &Reading) -> Result<Row, RowProblem> {
        let row = Row {
            line,
            key: key.clone(),
            place: self.place.said()?.map(str::to_owned),
            quantity: self.quantity.quantity(reading, self.style)?,
            reserve: self.reserve.reserve(reading, self.style)?,
            at: self.at.moment()?,
        };
        let has_undecodable = name_of(key).contains(UNDECODABLE)
            || row
                .place
                .as_ref()
                .is_some_and(|place| place.contains(UNDECODABLE));
        if has_undecodable {
            return Err(RowProblem::Rejected(UNDECODED.to_owned()));
        }
        Ok(row)
    }

    /// As the row of a product that cannot be had: none of it, or nothing said.
    pub(super) fn into_unavailable(self, line: u64, key: &Key, none: Option<Quantity>) -> Entry {
        match self.place.said() {
            Ok(place) => {
                let (key, place) = (key.clone(), place.map(str::to_owned));
                Entry::Row(Row {
                    line,
                    key,
                    place,
                    quantity: none,
                    reserve: None,
                    at: None,
                })
            }
            Err(reason) => Entry::Rejected(Fault::new(line, name_of(key), reason).of(key)),
        }
    }
}

fn name_of(key: &Key) -> &str {
    match key {
        Key::Sku(name) | Key::Id(name) => name,
    }
}

/// The SKU of a product, if its key is one; which SKU an id stands for may not be known yet.
fn sku_of(key: &Key) -> Option<String> {
    match key {
        Key::Sku(sku) => Some(sku.clone()),
        Key::Id(_) => None,
    }
}
