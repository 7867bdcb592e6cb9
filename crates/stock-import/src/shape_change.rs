//! Changes in how a source's files are read: another encoding, delimiter, column or sheet.
//!
//! Such a change is a warning sign: if columns have moved, the numbers may be those of another
//! column. The comparison is pure. The pipeline holds a delivery that differs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::formats::FileShape;

/// Properties that explain how a file is read and do not decide it.
const NOT_COMPARED: &[&str] = &["members", "header", "why", "sheets", "file"];

/// Value of the property `numbers` that is compatible with every other one: no number of the file
/// had a decimal mark.
const WHOLE_NUMBERS: &str = "whole numbers";

/// Shape of one file as it is stored: a value for each property.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct RecordedShape(BTreeMap<String, String>);

impl From<&FileShape> for RecordedShape {
    fn from(shape: &FileShape) -> Self {
        let properties = shape.0.iter();
        let owned = properties.map(|(name, value)| ((*name).to_owned(), value.clone()));
        Self(owned.collect())
    }
}

impl RecordedShape {
    fn format(&self) -> &str {
        self.0.get("format").map_or("", String::as_str)
    }

    /// Lists the properties that differ from those of another shape.
    fn differences(&self, previous: &Self) -> Vec<String> {
        let is_new = |name: &&String| !self.0.contains_key(*name);
        let names = self.0.keys().chain(previous.0.keys().filter(is_new));
        let describe = |name: &String| {
            let (now, then) = (self.0.get(name), previous.0.get(name));
            let is_compatible = |value: Option<&String>| value.is_none_or(|it| it == WHOLE_NUMBERS);
            if now == then || (name == "numbers" && (is_compatible(now) || is_compatible(then))) {
                return None;
            }
            let quoted = |value: Option<&String>| match value {
                Some(value) => format!("\"{value}\""),
                None => "none".to_owned(),
            };
            let (label, then, now) = (property_label(name), quoted(then), quoted(now));
            Some(format!("{label} was {then} and is {now}"))
        };
        let compared = names.filter(|name| !NOT_COMPARED.contains(&name.as_str()));
        compared.filter_map(describe).collect()
    }
}

/// Returns the property's name for messages.
fn property_label(property: &str) -> &str {
    match property {
        "sku" => "the SKU column",
        "quantity" => "the quantity column",
        "warehouse" => "the warehouse column",
        "reserve" => "the reserve column",
        "time" => "the time column",
        "numbers" => "the format of numbers",
        "list" => "the list of products",
        other => other,
    }
}

/// Shapes of the accepted deliveries of a source: for each format, those of the files in the last
/// delivery of that format.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct AcceptedShapes {
    /// Settings for reading at that time, as they are written in the configuration.
    #[serde(default)]
    settings: String,
    #[serde(default)]
    formats: BTreeMap<String, Vec<RecordedShape>>,
}

impl AcceptedShapes {
    /// Describes how a delivery differs from the accepted ones. `None` if it does not differ, if it
    /// is the first of its format, or if the settings have changed and a difference is expected.
    #[must_use]
    pub fn difference(&self, shapes: &[RecordedShape], settings: &str) -> Option<String> {
        if self.settings != settings {
            return None;
        }
        let different = shapes.iter().find_map(|shape| {
            let accepted = self.formats.get(shape.format())?;
            let accepted = accepted.iter();
            let differences = accepted.map(|previous| shape.differences(previous));
            let nearest = differences.min_by_key(Vec::len)?;
            (!nearest.is_empty()).then(|| nearest.join("; "))
        });
        different.or_else(|| self.other_format(shapes))
    }

    /// Describes the change of a source with a single format to another format.
    fn other_format(&self, shapes: &[RecordedShape]) -> Option<String> {
        let [only] = shapes else { return None };
        let mut formats = self.formats.keys();
        match (formats.next(), formats.next()) {
            (Some(known), None) if known != only.format() => Some(format!(
                "format was \"{known}\" and is \"{}\"",
                only.format()
            )),
            _ => None,
        }
    }

    /// Returns the accepted shapes after a delivery with these shapes.
    #[must_use]
    pub fn accept(&self, shapes: &[RecordedShape], settings: &str) -> Self {
        let mut accepted = if self.settings == settings {
            self.clone()
        } else {
            Self::default()
        };
        settings.clone_into(&mut accepted.settings);
        let mut latest: BTreeMap<String, Vec<RecordedShape>> = BTreeMap::new();
        for shape in shapes {
            let of_format = latest.entry(shape.format().to_owned()).or_default();
            if !of_format.contains(shape) {
                of_format.push(shape.clone());
            }
        }
        accepted.formats.extend(latest);
        accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(properties: &[(&str, &str)]) -> RecordedShape {
        let all = [
            ("format", "csv"),
            ("encoding", "UTF-8"),
            ("sku", "Артикул"),
            ("numbers", "whole numbers"),
        ];
        let mut map: BTreeMap<String, String> = all
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        map.extend(
            properties
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into())),
        );
        RecordedShape(map)
    }

    fn difference(previous: &[RecordedShape], now: &[RecordedShape]) -> Option<String> {
        AcceptedShapes::default()
            .accept(previous, "")
            .difference(now, "")
    }

    #[test]
    fn difference_names_both_values() {
        for (now, expected) in [
            (shape(&[]), None),
            (
                shape(&[("encoding", "windows-1251")]),
                Some("encoding was \"UTF-8\" and is \"windows-1251\""),
            ),
            (
                shape(&[("sku", "Код")]),
                Some("the SKU column was \"Артикул\" and is \"Код\""),
            ),
            (
                shape(&[("sheet", "Лист2")]),
                Some("sheet was none and is \"Лист2\""),
            ),
            (shape(&[("numbers", "decimal comma")]), None),
            (shape(&[("members", "a, b")]), None),
            (
                shape(&[("format", "yml")]),
                Some("format was \"csv\" and is \"yml\""),
            ),
        ] {
            assert_eq!(
                difference(&[shape(&[])], std::slice::from_ref(&now)).as_deref(),
                expected,
                "{now:?}"
            );
        }
        let comma = shape(&[("numbers", "decimal comma")]);
        let point = shape(&[("numbers", "decimal point")]);
        assert!(difference(&[comma], &[point]).is_some());
    }

    #[test]
    fn files_of_one_delivery_may_differ() {
        let (one, two) = (shape(&[]), shape(&[("sku", "Код")]));
        let both = [one.clone(), two.clone()];
        assert_eq!(difference(&both, std::slice::from_ref(&two)), None);
        assert_eq!(difference(&both, &both), None);
        assert!(difference(&both, &[shape(&[("sku", "SKU")])]).is_some());
        let yml = shape(&[("format", "yml")]);
        assert!(difference(&[one, yml], &[two]).is_some());
    }

    #[test]
    fn first_delivery_and_new_settings_allow_any_shape() {
        assert_eq!(
            AcceptedShapes::default().difference(&[shape(&[])], "x"),
            None
        );
        let accepted = AcceptedShapes::default().accept(&[shape(&[])], "x");
        let other = [shape(&[("sku", "Код")])];
        assert_eq!(accepted.difference(&other, "y"), None);
        assert!(accepted.difference(&other, "x").is_some());
        assert_eq!(accepted.accept(&other, "x").difference(&other, "x"), None);
        assert!(
            accepted
                .accept(&other, "x")
                .difference(&[shape(&[])], "x")
                .is_some()
        );
    }
}
