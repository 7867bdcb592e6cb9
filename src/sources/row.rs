use tokio::sync::mpsc;

use super::quantity::{DecimalMark, NumberStyle, Quantity, QuantityError};
use crate::stock::Timestamp;

/// Most characters of a row that are kept to show what was set aside.
const MAX_TEXT_CHARS: usize = 200;

/// Entries that travel together: one step of the stage, and one of the reader.
const BATCH_ENTRIES: usize = 1_000;

/// How many batches may wait for the stage; the reader stands still meanwhile.
const MAX_QUEUED_BATCHES: usize = 4;

/// By what a row names its product.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ProductKey {
    /// By the SKU itself, as the source spells it.
    Sku(String),
    /// By an id of the source's own; which SKU that is, an [`Entry::Article`] tells, now or in
    /// an earlier delivery.
    Id(String),
}

/// What a source states of one product at one of its warehouses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// Where it stands: the line, the row of a sheet, or the number of the element, from 1.
    pub line: u64,
    /// Of which product.
    pub key: ProductKey,
    /// At which warehouse, as the source names it; `None` if it names none.
    pub warehouse: Option<String>,
    /// How much there is; `None` if the row is there and says nothing, so that nothing changes.
    pub quantity: Option<Quantity>,
    /// How much of it is reserved; `None` if the source does not say.
    pub reserve: Option<Quantity>,
    /// Since when, if the row itself says so.
    pub stated_at: Option<Timestamp>,
}

/// Something about one row that its owner must hear.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RejectedRow {
    /// Where it stands, as in [`Row::line`].
    pub line: u64,
    /// The beginning of the row, as it was read.
    pub text: String,
    /// The value and the rule it broke.
    pub reason: String,
    /// Of which SKU the row speaks, if that much is clear. In a snapshot this SKU is there,
    /// and not absent.
    pub sku: Option<String>,
    /// Of which SKU the row may speak, if it is not clear: other rows of that SKU may be a part of its
    /// stock.
    pub possible_sku: Option<String>,
    /// Whether the row can be read in two ways, as opposed to breaking a rule.
    pub is_suspicious: bool,
}

impl RejectedRow {
    /// A fault of the row whose text begins so.
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

    /// The same, of a row that says of which product it speaks.
    #[must_use]
    pub fn with_key(mut self, key: &ProductKey) -> Self {
        match key {
            ProductKey::Sku(sku) => self.sku = Some(sku.clone()),
            // Which SKU that is may not be known yet: it counts as one nobody can name.
            ProductKey::Id(_) => {}
        }
        self
    }
}

/// One thing a source says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DeliveryEntry {
    /// Stock.
    Row(Row),
    /// Which SKU an id of the source's own stands for.
    Article {
        /// The id.
        id: String,
        /// The SKU, as the source spells it.
        sku: String,
    },
    /// What follows replaces what came before of the same product and warehouse.
    PartBoundary,
    /// A row that breaks a rule. It is not applied.
    Rejected(RejectedRow),
    /// A row that can be read in two ways. It is not applied; a setting decides.
    Suspicious(RejectedRow),
}

/// Why a row is not applied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RowProblem {
    /// It breaks a rule: the value and the rule.
    Rejected(String),
    /// It can be read in two ways: the value, and the setting that decides.
    Suspicious(String),
}

impl RowProblem {
    /// The row as an entry that lists it; `text` is the beginning of the row, `sku` its SKU if
    /// that much is certain.
    #[must_use]
    pub fn into_entry(self, line: u64, text: &str, sku: Option<String>) -> DeliveryEntry {
        let (Self::Rejected(reason) | Self::Suspicious(reason)) = &self;
        let is_suspicious = matches!(self, Self::Suspicious(_));
        let row = RejectedRow {
            sku,
            is_suspicious,
            ..RejectedRow::new(line, text, reason.clone())
        };
        match self {
            Self::Rejected(_) => DeliveryEntry::Rejected(row),
            Self::Suspicious(_) => DeliveryEntry::Suspicious(row),
        }
    }

    /// The same problem, said of a field.
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
        match error {
            QuantityError::Ambiguous(_) => Self::Suspicious(error.to_string()),
            QuantityError::NotANumber(_)
            | QuantityError::Fraction(_)
            | QuantityError::Negative(_)
            | QuantityError::TooLarge(_) => Self::Rejected(error.to_string()),
        }
    }
}

/// Whether what was read is all there is, or some of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeliveryScope {
    /// Everything the source has: what is absent is absent there.
    Snapshot,
    /// What has changed: what is absent is as it was.
    Delta,
}

impl DeliveryScope {
    /// Its name in the settings and on pages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Delta => "delta",
        }
    }
}

/// How the quantities of a source are read, and what it calls its fields.
///
/// Fields are found by name, whatever their case and whatever stands around them; where none
/// is given, by the names the field knows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReadSettings {
    /// Which column, element or key holds the SKU.
    pub sku: Option<String>,
    /// Which one holds how much there is.
    pub quantity: Option<String>,
    /// Which one holds how much of it is reserved; only looked at if it is named.
    pub reserve: Option<String>,
    /// Which one names the warehouse.
    pub warehouse: Option<String>,
    /// Which one says since when.
    pub updated_at: Option<String>,
    /// Which sheet of a workbook; the first that has the columns if none is named.
    pub sheet: Option<String>,
    /// What stands between the columns of a line; found out if not said.
    pub delimiter: Option<u8>,
    /// In which encoding the text is; found out if not said.
    pub encoding: Option<&'static encoding_rs::Encoding>,
    /// What words stand for: `"нет" = 0`, `">10" = 10`. Compared without regard to case.
    pub words: Vec<(String, Quantity)>,
    /// Parts of pieces are cut off; otherwise such a row is set aside.
    pub floors_fractions: bool,
    /// Less than nothing is nothing; otherwise such a row is set aside.
    pub zeroes_negatives: bool,
    /// Products marked as unavailable, disabled or deleted have none.
    pub zeroes_unavailable: bool,
    /// The last row of a text may end without a line end: the file cannot have been cut there.
    pub accepts_unterminated_row: bool,
    /// An empty quantity is zero; otherwise it states nothing. Setting `empty`.
    pub zeroes_empty_quantities: bool,
    /// The decimal mark of every quantity; decided by each number and its column if not set.
    /// Setting `decimal`.
    pub decimal: Option<DecimalMark>,
    /// SKUs that a spreadsheet seems to have spoilt are taken as they are written. Setting
    /// `suspicious_sku`.
    pub accepts_suspicious_skus: bool,
    /// A JSON list that is one page of several is taken. Setting `single_page`.
    pub accepts_single_pages: bool,
    /// The path of the list of products in a JSON document, as in `result.items`. Setting `list`.
    pub list_path: Option<String>,
    /// How the variants of a product that share its article are read. Setting `variants`.
    pub variants: VariantPolicy,
}

/// How variants that share the article of their product are read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum VariantPolicy {
    /// Their rows are suspicious: which variant the Market's SKU stands for is not known.
    #[default]
    Reject,
    /// The SKU has what all variants have together.
    Sum,
}

/// Which variants of its products a delivery lists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum VariantListing {
    /// Those that have changed.
    Changes,
    /// All of them, together with other deliveries.
    Partial,
    /// All of them.
    Complete,
}

impl ReadSettings {
    /// Reads the SKU of a row.
    ///
    /// # Errors
    /// The text is empty, or is not certainly a SKU.
    pub fn parse_sku(&self, text: &str) -> Result<String, RowProblem> {
        super::sku_text::parse(text, self.accepts_suspicious_skus)
    }

    /// Reads the quantity of a row; `None` states nothing.
    ///
    /// What is read is what is kept, fraction and sign included where they are allowed: the rules
    /// round and cut.
    ///
    /// # Errors
    /// The text is not a number, has two readings, or is one that this source may not give.
    pub fn parse_quantity(&self, text: &str) -> Result<Option<Quantity>, QuantityError> {
        self.parse_column_quantity(text, NumberStyle::default())
    }

    /// Reads a quantity like [`Reading::quantity`], in a column whose numbers have that style.
    pub(super) fn parse_column_quantity(
        &self,
        text: &str,
        style: NumberStyle,
    ) -> Result<Option<Quantity>, QuantityError> {
        Ok(match self.parse_number(text, style)? {
            None if self.zeroes_empty_quantities => Some(Quantity::ZERO),
            quantity => quantity,
        })
    }

    /// Reads a reserve. An empty one states nothing, whatever the setting `empty` says of
    /// quantities.
    pub(super) fn parse_reserve(
        &self,
        text: &str,
        style: NumberStyle,
    ) -> Result<Option<Quantity>, QuantityError> {
        self.parse_number(text, style)
    }

    /// Reads a number or a word for one; what a spreadsheet writes around a text, as in `="5"`, is
    /// no part of it.
    fn parse_number(
        &self,
        text: &str,
        style: NumberStyle,
    ) -> Result<Option<Quantity>, QuantityError> {
        let text = super::quantity::trim_blanks(super::sku_text::strip_artifacts(text));
        if text.is_empty() {
            return Ok(None);
        }
        let word = text.to_lowercase();
        if let Some((_, quantity)) = self
            .words
            .iter()
            .find(|(name, _)| name.to_lowercase() == word)
        {
            return Ok(Some(*quantity));
        }
        let decimal = style.decimal(self.decimal, text);
        let (quantity, is_exact) = Quantity::parse_exact(text, decimal)?;
        if !is_exact && !self.floors_fractions {
            return Err(QuantityError::Fraction(text.to_owned()));
        }
        self.check_allowed(quantity, text).map(Some)
    }

    /// Checks whether this source may give a quantity, read from that text.
    ///
    /// # Errors
    /// It is a fraction or less than zero, and may not be.
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

/// The stage has gone: nobody wants the rest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the delivery was given up")]
pub struct DeliveryCancelled;

/// Where a reader puts what it reads. It waits while the stage is behind, so however long the
/// source is, little of it is in memory.
///
/// What has been put arrives in batches; the last one with [`Rows::flush`].
#[derive(Debug)]
pub struct EntrySender {
    sender: mpsc::Sender<Vec<DeliveryEntry>>,
    batch: Vec<DeliveryEntry>,
}

impl EntrySender {
    /// Both ends.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Vec<DeliveryEntry>>) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_BATCHES);
        (
            Self {
                sender,
                batch: Vec::with_capacity(BATCH_ENTRIES),
            },
            receiver,
        )
    }

    /// A second hand for the same stage: what each puts arrives in its own order.
    #[must_use]
    pub fn new_sender(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            batch: Vec::with_capacity(BATCH_ENTRIES),
        }
    }

    /// Puts one entry, from a task.
    ///
    /// # Errors
    /// Nobody wants the rest.
    pub async fn send(&mut self, entry: DeliveryEntry) -> Result<(), DeliveryCancelled> {
        self.batch.push(entry);
        if self.batch.len() < BATCH_ENTRIES {
            Ok(())
        } else {
            self.flush().await
        }
    }

    /// Hands on what has been put so far.
    ///
    /// # Errors
    /// Nobody wants the rest.
    pub async fn flush(&mut self) -> Result<(), DeliveryCancelled> {
        let batch = self.take_batch();
        if batch.is_empty() {
            return Ok(());
        }
        self.sender.send(batch).await.map_err(|_| DeliveryCancelled)
    }

    /// Puts one entry, from a thread that may wait.
    ///
    /// # Errors
    /// Nobody wants the rest.
    pub fn send_blocking(&mut self, entry: DeliveryEntry) -> Result<(), DeliveryCancelled> {
        self.batch.push(entry);
        if self.batch.len() < BATCH_ENTRIES {
            Ok(())
        } else {
            self.flush_blocking()
        }
    }

    /// Hands on what has been put so far, from a thread that may wait.
    ///
    /// # Errors
    /// Nobody wants the rest.
    pub fn flush_blocking(&mut self) -> Result<(), DeliveryCancelled> {
        let batch = self.take_batch();
        if batch.is_empty() {
            return Ok(());
        }
        self.sender
            .blocking_send(batch)
            .map_err(|_| DeliveryCancelled)
    }

    fn take_batch(&mut self) -> Vec<DeliveryEntry> {
        std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_ENTRIES))
    }
}
