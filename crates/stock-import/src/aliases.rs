//! Well-known names for the fields of a stock list, in every format: table columns, JSON members
//! and SQL columns are all looked up here.
//!
//! If a file has several names of one field, the preferred one of a documented pair is used. Two
//! names without a documented order make the file ambiguous, and the settings must name one.

use super::quantity::trim_blanks;

/// A field of a stock list.
#[derive(Clone, Copy, Debug, Eq, PartialEq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum StockField {
    /// The seller's SKU, as the Market spells it.
    Sku,
    /// The number of pieces.
    Quantity,
    /// The warehouse of the row.
    Warehouse,
    /// The reserved part of the quantity. Read only where a setting names it.
    Reserve,
    /// The date of the statement.
    UpdatedAt,
}

/// The Market's name for the quantity in its workbook. The reserve is already subtracted.
pub(crate) const AVAILABLE_FOR_ORDER: &str = "доступно для заказа";
/// The Market's name for the quantity in its CSV.
pub(crate) const COUNT: &str = "count";
/// The Market's name for the warehouse in its CSV.
pub(crate) const WAREHOUSE_AND_SHOP: &str = "warehouse and shop";

/// Normalised names of the SKU.
const SKU: &[&str] = &[
    "ваш sku",
    "shop sku",
    "shopsku",
    "offer id",
    "offerid",
    "артикул продавца",
    "артикул поставщика",
    "артикул",
    "article",
    "sku",
    "код",
    "code",
];

/// Normalised names of the quantity.
const QUANTITY: &[&str] = &[
    AVAILABLE_FOR_ORDER,
    "доступно",
    "доступный остаток",
    "свободно",
    "свободный остаток",
    "available",
    "available stock",
    "free stock",
    "freestock",
    "остаток",
    "количество",
    "кол во",
    "stock",
    "quantity",
    COUNT,
];

/// Normalised names of the warehouse.
const WAREHOUSE: &[&str] = &[
    "склад",
    "warehouse",
    WAREHOUSE_AND_SHOP,
    "warehouse id",
    "warehouseid",
];

/// Normalised names of the time. Tables read it only where a setting names it.
const UPDATED_AT: &[&str] = &["updated at", "updatedat"];

/// Pairs of names, (preferred, other): if a file has both, the first one is used.
///
/// - `Ваш SKU` and `shop-sku` are the Market's names for the seller's SKU. Any other column beside
///   them is another number.
/// - `offer_id` beside `sku`, and `Артикул` beside `SKU`: Ozon's exports, where `sku` is Ozon's
///   own number of the card. `Артикул продавца` is Wildberries' and Ozon's name for the same.
/// - `Артикул` beside `Код`, and `article` beside `code`: 1C and MoySklad, where the code is the
///   record's own number.
/// - `Доступно` beside `Остаток` or `Количество`, and `Свободный остаток` beside `Остаток`: 1C's
///   reports, where it is the stock without the reserve, which is what the Market wants;
///   `freeStock` beside `stock` is MoySklad's name for the same.
const PREFERRED: &[(&str, &str)] = &[
    ("offer id", "sku"),
    ("offerid", "sku"),
    ("артикул продавца", "sku"),
    ("артикул продавца", "артикул"),
    ("артикул поставщика", "sku"),
    ("артикул поставщика", "артикул"),
    ("артикул", "sku"),
    ("article", "sku"),
    ("артикул", "код"),
    ("article", "code"),
    ("артикул продавца", "код"),
    ("доступно", "остаток"),
    ("доступно", "количество"),
    ("доступный остаток", "остаток"),
    ("свободно", "остаток"),
    ("свободный остаток", "остаток"),
    ("available stock", "stock"),
    ("free stock", "stock"),
    ("freestock", "stock"),
];

/// Names that are preferred to every other name of their field.
const ALWAYS_PREFERRED: &[&str] = &["ваш sku", "shop sku", "shopsku", AVAILABLE_FOR_ORDER];

impl StockField {
    /// Returns the setting for the name of the field.
    #[must_use]
    pub fn setting(self) -> &'static str {
        self.into()
    }

    /// Returns the field's name for messages.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Sku => "the SKU",
            Self::Quantity => "the quantity",
            Self::Warehouse => "the warehouse",
            Self::Reserve => "the reserve",
            Self::UpdatedAt => "the time",
        }
    }

    /// Returns the well-known names of the field, normalised.
    #[must_use]
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Sku => SKU,
            Self::Quantity => QUANTITY,
            Self::Warehouse => WAREHOUSE,
            Self::Reserve => &[],
            Self::UpdatedAt => UPDATED_AT,
        }
    }
}

/// Result of the search for a field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AliasMatch {
    /// None of the names belongs to the field.
    None,
    /// The name at this position.
    Position(usize),
    /// Several names belong to the field and none is preferred. Their positions.
    Ambiguous(Vec<usize>),
}

/// Chooses among names as they are written in a file. `configured` is the name in the settings; if
/// it is set, the well-known names are not used.
pub fn choose<'a>(
    field: StockField,
    names: impl IntoIterator<Item = &'a str>,
    configured: Option<&str>,
) -> AliasMatch {
    let configured = configured.map(normalize);
    let known = |name: &str| match &configured {
        Some(named) => name == named,
        None => field.names().contains(&name),
    };
    let found: Vec<(usize, String)> = names
        .into_iter()
        .map(normalize)
        .enumerate()
        .filter(|(_, name)| known(name))
        .collect();
    let beats = |one: &str, other: &str| {
        let is_always_preferred = |name: &str| ALWAYS_PREFERRED.contains(&name);
        one != other
            && ((is_always_preferred(one) && !is_always_preferred(other))
                || PREFERRED.contains(&(one, other)))
    };
    let is_best = |(position, name): &&(usize, String)| {
        let mut others = found.iter().filter(|(other, _)| other != position);
        others.all(|(_, other)| beats(name, other))
    };
    let best: Vec<_> = found.iter().filter(is_best).collect();
    match (found.as_slice(), best.as_slice()) {
        ([], _) => AliasMatch::None,
        (_, [(only, _)]) => AliasMatch::Position(*only),
        (all, _) => AliasMatch::Ambiguous(all.iter().map(|(position, _)| *position).collect()),
    }
}

/// Returns true if a word is one of several, which are separated by blanks.
pub(crate) fn is_word_of(words: &str, word: &str) -> bool {
    words.split(' ').any(|known| known == word)
}

/// Normalises a name: trims it, folds case and `ё`, and replaces gaps of any kind by one blank.
#[must_use]
pub fn normalize(name: &str) -> String {
    let is_separator =
        |c: char| c.is_whitespace() || matches!(c, '_' | '-' | '\u{2010}'..='\u{2015}');
    let name = trim_blanks(name)
        .trim_end_matches('*')
        .to_lowercase()
        .replace('ё', "е");
    let words = name.split(is_separator).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join(" ");
    without_unit(&name).unwrap_or(&name).to_owned()
}

/// Returns the name without a trailing unit of pieces, as in `остаток, шт.` or `остаток (шт)`.
fn without_unit(name: &str) -> Option<&str> {
    let bare = name.trim_end_matches(['.', ')']).strip_suffix("шт")?;
    let name = bare.trim_end_matches([' ', ',', '(', '/']);
    (name.len() < bare.len() && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_a_name_only_where_the_order_is_documented() {
        for (field, names, expected) in [
            (
                StockField::Sku,
                &["Товар", "Артикул"][..],
                AliasMatch::Position(1),
            ),
            (
                StockField::Sku,
                &["SKU", "Артикул"],
                AliasMatch::Position(1),
            ),
            (
                StockField::Sku,
                &["Артикул", "Код"],
                AliasMatch::Position(0),
            ),
            (
                StockField::Sku,
                &["sku", "offer_id"],
                AliasMatch::Position(1),
            ),
            (
                StockField::Sku,
                &["Артикул", "SKU", "Ваш SKU *"],
                AliasMatch::Position(2),
            ),
            (
                StockField::Sku,
                &["SKU", "Код"],
                AliasMatch::Ambiguous(vec![0, 1]),
            ),
            (
                StockField::Sku,
                &["offer_id", "Артикул"],
                AliasMatch::Ambiguous(vec![0, 1]),
            ),
            (
                StockField::Sku,
                &["Артикул", "Код", "SKU"],
                AliasMatch::Position(0),
            ),
            (
                StockField::Sku,
                &["sku", "SKU"],
                AliasMatch::Ambiguous(vec![0, 1]),
            ),
            (StockField::Sku, &["Цена"], AliasMatch::None),
            (
                StockField::Quantity,
                &["Остаток", "Резерв", "Свободный остаток"],
                AliasMatch::Position(2),
            ),
            (
                StockField::Quantity,
                &["Количество", "Остаток, шт"],
                AliasMatch::Ambiguous(vec![0, 1]),
            ),
            (
                StockField::Quantity,
                &["stock", "freeStock"],
                AliasMatch::Position(1),
            ),
            (
                StockField::Quantity,
                &["Остаток", "Доступно"],
                AliasMatch::Position(1),
            ),
            (
                StockField::Quantity,
                &["Цена", "Кол-во, шт."],
                AliasMatch::Position(1),
            ),
            (
                StockField::Quantity,
                &["Остаток", "Количество"],
                AliasMatch::Ambiguous(vec![0, 1]),
            ),
            (
                StockField::Quantity,
                &["stock", "Доступно для заказа"],
                AliasMatch::Position(1),
            ),
        ] {
            assert_eq!(
                choose(field, names.iter().copied(), None),
                expected,
                "{names:?}"
            );
        }
    }

    #[test]
    fn setting_excludes_known_names() {
        let names = ["Артикул", "Мой номер"];
        assert_eq!(
            choose(StockField::Sku, names, Some("МОЙ_номер")),
            AliasMatch::Position(1)
        );
        assert_eq!(
            choose(StockField::Sku, names, Some("нет")),
            AliasMatch::None
        );
    }

    #[test]
    fn normalizes_case_gaps_and_marks() {
        for name in [
            " Ваш SKU *",
            "ВАШ_sku*",
            "ваш\u{2011}sku",
            "Ваш\nSKU",
            "\u{feff}ваш  sku",
        ] {
            assert_eq!(normalize(name), "ваш sku", "{name:?}");
        }
        for name in ["Остаток, шт", "остаток (шт.)", "Остаток шт.", "остаток/шт"]
        {
            assert_eq!(normalize(name), "остаток", "{name:?}");
        }
        assert_eq!(normalize("ашт"), "ашт");
        assert_eq!(normalize("Учёт"), normalize("учет"));
        assert_ne!(normalize("sku2"), normalize("sku"));
    }
}
