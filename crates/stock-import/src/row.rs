//! Entries of a delivery, and the settings that decide how they are read.

use stock::Timestamp;

use super::quantity::{DecimalMark, NumberStyle, Quantity, QuantityError};

/// Limit for the characters of a rejected row that are kept for display.
const MAX_TEXT_CHARS: usize = 200;

/// Name of the product in a row.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ProductKey {
    /// The SKU, as the source spells it.
    Sku(String),
    /// An id of the source. A [`DeliveryEntry::Article`] of this or an earlier delivery maps it to
    /// a SKU.
    Id(String),
}

impl ProductKey {
    /// Returns the SKU or the id.
    pub(crate) fn text(&self) -> &str {
        let (Self::Sku(text) | Self::Id(text)) = self;
        text
    }

    /// Returns the SKU; `None` for an id, whose SKU may not be known yet.
    pub(crate) fn sku(&self) -> Option<String> {
        match self {
            Self::Sku(sku) => Some(sku.clone()),
            Self::Id(_) => None,
        }
    }
}

/// Stock of one product at one warehouse of the source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// Position in the file, from 1: the line, the row of the sheet, or the number of the element.
    pub line: u64,
    /// Product.
    pub key: ProductKey,
    /// Warehouse, as the source names it; `None` if it names none.
    pub warehouse: Option<String>,
    /// Quantity; `None` if the row has none, so that the product is present and its stock does not
    /// change.
    pub quantity: Option<Quantity>,
    /// Reserved part of the quantity; `None` if the source does not state it.
    pub reserve: Option<Quantity>,
    /// Date of the statement, if the row has one.
    pub stated_at: Option<Timestamp>,
}

/// A row that is not applied, with the reason for the operator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RejectedRow {
    /// Position in the file, as in [`Row::line`].
    pub line: u64,
    /// Beginning of the row, as it was read.
    pub text: String,
    /// The value and the rule it broke.
    pub reason: String,
    /// SKU of the row, if it is certain. A snapshot with this row does not make the SKU absent.
    pub sku: Option<String>,
    /// SKU that the row may belong to, if it is not certain. Other rows of that SKU may be only a
    /// part of its stock.
    pub possible_sku: Option<String>,
    /// True if the row can be read in two ways; false if it breaks a rule.
    pub is_suspicious: bool,
}

impl RejectedRow {
    /// Creates a rejected row without a SKU. `text` is cut to a length that fits a list.
    #[must_use]
    pub fn new(line: u64, text: &str, reason: impl Into<String>) -> Self {
        let text = text.chars().take(MAX_TEXT_CHARS).collect();
        Self {
            line,
            text,
            reason: reason.into(),
            sku: None,
            possible_sku: None,
            is_suspicious: false,
        }
    }
}

/// One entry of a delivery.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DeliveryEntry {
    /// Stock of a product.
    Row(Row),
    /// SKU of a product that the source names by an id.
    Article {
        /// Id of the source.
        id: String,
        /// SKU, as the source spells it.
        sku: String,
    },
    /// Boundary between two parts. Later rows replace earlier ones of the same product and
    /// warehouse.
    PartBoundary,
    /// A row that breaks a rule. It is not applied.
    Rejected(RejectedRow),
    /// A row that can be read in two ways. It is not applied; a setting decides.
    Suspicious(RejectedRow),
}

impl DeliveryEntry {
    /// Returns the row of an entry that is not applied.
    pub(crate) fn rejected_mut(&mut self) -> Option<&mut RejectedRow> {
        match self {
            Self::Rejected(row) | Self::Suspicious(row) => Some(row),
            Self::Row(_) | Self::Article { .. } | Self::PartBoundary => None,
        }
    }
}

/// Reason why a row is not applied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RowProblem {
    /// The row breaks a rule. The text names the value and the rule.
    Rejected(String),
    /// The row can be read in two ways. The text names the value and the setting that decides.
    Suspicious(String),
}

impl RowProblem {
    /// Returns the entry that lists the row. `text` is the beginning of the row, `sku` its SKU if
    /// that is certain.
    #[must_use]
    pub fn into_entry(self, line: u64, text: &str, sku: Option<String>) -> DeliveryEntry {
        let is_suspicious = matches!(self, Self::Suspicious(_));
        let (Self::Rejected(reason) | Self::Suspicious(reason)) = self;
        let row = RejectedRow {
            sku,
            is_suspicious,
            ..RejectedRow::new(line, text, reason)
        };
        if is_suspicious {
            DeliveryEntry::Suspicious(row)
        } else {
            DeliveryEntry::Rejected(row)
        }
    }

    /// Adds the name of the field to the reason.
    #[must_use]
    pub fn of_field(self, field: &str) -> Self {
        match self {
            Self::Rejected(reason) => Self::Rejected(format!("{field}: {reason}")),
            Self::Suspicious(reason) => Self::Suspicious(format!("{field}: {reason}")),
        }
    }
}

impl From<String> for RowProblem {
    fn from(reason: String) -> Self {
        Self::Rejected(reason)
    }
}

impl From<QuantityError> for RowProblem {
    fn from(error: QuantityError) -> Self {
        let reason = error.to_string();
        if matches!(error, QuantityError::Ambiguous(_)) {
            return Self::Suspicious(reason);
        }
        Self::Rejected(reason)
    }
}

/// Completeness of a delivery.
#[derive(
    Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize, strum::IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum DeliveryScope {
    /// The complete list of the source. A product that is missing is absent in the source.
    Snapshot,
    /// Some products. Those that are missing keep their stock.
    Delta,
}

impl DeliveryScope {
    /// Returns the name in settings and on pages.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Settings for reading a source: the names of its fields and the syntax of its values.
///
/// Fields are found by name, regardless of case and surrounding blanks. A field without a name in
/// the settings is found by its well-known names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReadSettings {
    /// Column, element or key with the SKU.
    pub sku: Option<String>,
    /// Column, element or key with the quantity.
    pub quantity: Option<String>,
    /// Column, element or key with the reserved part. It is read only if it is named here.
    pub reserve: Option<String>,
    /// Column, element or key with the warehouse.
    pub warehouse: Option<String>,
    /// Column, element or key with the date of the statement.
    pub updated_at: Option<String>,
    /// Sheet of a workbook; by default the first one that has the columns.
    pub sheet: Option<String>,
    /// Delimiter of a CSV file; detected by default.
    pub delimiter: Option<u8>,
    /// Encoding of a text file; detected by default.
    pub encoding: Option<&'static encoding_rs::Encoding>,
    /// Quantities written as words: `"нет" = 0`, `">10" = 10`. Compared without regard to case.
    pub words: Vec<(String, Quantity)>,
    /// True if fractions of pieces are rounded down; otherwise such a row is rejected.
    pub floors_fractions: bool,
    /// True if a negative quantity becomes zero; otherwise such a row is rejected.
    pub zeroes_negatives: bool,
    /// True if products marked as unavailable, disabled or deleted have zero stock.
    pub zeroes_unavailable: bool,
    /// True if the last row of a text file may lack its line end. Otherwise such a row is not
    /// applied, because the file may have been cut there.
    pub accepts_unterminated_row: bool,
    /// True if an empty quantity is zero; otherwise it changes nothing. Setting `empty`.
    pub zeroes_empty_quantities: bool,
    /// Decimal mark of every quantity; by default it is decided by each number and its column.
    /// Setting `decimal`.
    pub decimal: Option<DecimalMark>,
    /// True if SKUs that a spreadsheet seems to have altered are used as they are written. Setting
    /// `suspicious_sku`.
    pub accepts_suspicious_skus: bool,
    /// True if a JSON list that is one page of several is applied. Setting `single_page`.
    pub accepts_single_pages: bool,
    /// Path of the list of products in a JSON document, as in `result.items`. Setting `list`.
    pub list_path: Option<String>,
    /// Policy for variants that share the article of their product. Setting `variants`.
    pub variants: VariantPolicy,
}

/// Policy for variants that share the article of their product.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VariantPolicy {
    /// Their rows are suspicious: it is not known which variant the Market's SKU means.
    #[default]
    Reject,
    /// The stock of the SKU is the sum over its variants.
    Sum,
}

/// Set of variants that a delivery lists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum VariantListing {
    /// Changed variants only.
    Changes,
    /// All variants, spread over several deliveries.
    Partial,
    /// All variants.
    Complete,
}

impl ReadSettings {
    /// Reads the SKU of a row.
    ///
    /// # Errors
    /// The text is empty, or it is not certain that it is a SKU.
    pub fn parse_sku(&self, text: &str) -> Result<String, RowProblem> {
        super::sku_text::parse(text, self.accepts_suspicious_skus)
    }

    /// Reads the quantity of a row; `None` if the text is empty.
    ///
    /// The value is kept exactly, with fraction and sign where the settings allow them. The rules
    /// round it later.
    ///
    /// # Errors
    /// The text is not a number, can be read in two ways, or breaks a rule of this source.
    pub fn parse_quantity(&self, text: &str) -> Result<Option<Quantity>, QuantityError> {
        self.parse_column_quantity(text, NumberStyle::default())
    }

    /// Reads a quantity like [`ReadSettings::parse_quantity`], in a column of that number style.
    ///
    /// # Errors
    /// As there.
    pub fn parse_column_quantity(
        &self,
        text: &str,
        style: NumberStyle,
    ) -> Result<Option<Quantity>, QuantityError> {
        Ok(match self.parse_reserve(text, style)? {
            None if self.zeroes_empty_quantities => Some(Quantity::ZERO),
            quantity => quantity,
        })
    }

    /// Reads a number or a word for one, without the marks of a spreadsheet, as in `="5"`. An empty
    /// text is `None`: the setting `empty` applies to quantities only, not to a reserve.
    ///
    /// # Errors
    /// The text is not a number, can be read in two ways, or breaks a rule of this source.
    pub fn parse_reserve(
        &self,
        text: &str,
        style: NumberStyle,
    ) -> Result<Option<Quantity>, QuantityError> {
        let text = super::quantity::trim_blanks(super::sku_text::strip_artifacts(text));
        if text.is_empty() {
            return Ok(None);
        }
        let word = text.to_lowercase();
        let mut words = self.words.iter();
        if let Some((_, quantity)) = words.find(|(name, _)| name.to_lowercase() == word) {
            return Ok(Some(*quantity));
        }
        let decimal = style.decimal(self.decimal, text);
        let (quantity, is_exact) = Quantity::parse_exact(text, decimal)?;
        if !is_exact && !self.floors_fractions {
            return Err(QuantityError::Fraction(text.to_owned()));
        }
        self.check_allowed(quantity, text).map(Some)
    }

    /// Checks a quantity, read from `text`, against the settings.
    ///
    /// # Errors
    /// The quantity is a fraction or negative, and the settings do not allow that.
    pub fn check_allowed(&self, quantity: Quantity, text: &str) -> Result<Quantity, QuantityError> {
        if quantity.is_fraction() && !self.floors_fractions {
            return Err(QuantityError::Fraction(text.to_owned()));
        }
        if quantity < Quantity::ZERO && !self.zeroes_negatives {
            return Err(QuantityError::Negative(text.to_owned()));
        }
        Ok(quantity)
    }
}

/// Error of a reader whose delivery was cancelled: the staging task has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the delivery was cancelled")]
pub struct DeliveryCancelled;
