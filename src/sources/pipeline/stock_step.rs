//! Steps that explain the stock of a SKU: what the sources stated, what the rules did, and the
//! result.

use std::fmt;

use stock::{Count, Timestamp};
use stock_import::Quantity;
use stock_import::stock_rules::RuleStep;

/// Step that explains the stock of a SKU.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StockStep {
    /// Stored statement of a source.
    Statement(StatementStep),
    /// Statement of a source that was removed from the configuration.
    RemovedSource,
    /// Step of the rules.
    Rule(RuleStep),
    /// Result of the rules.
    Result {
        /// Pieces available for order.
        count: Count,
        /// Date of the latest statement.
        stated_at: Timestamp,
    },
}

/// Stored statement of a source, and what keeps it from counting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StatementStep {
    /// Name of the source.
    pub source: String,
    /// SKU as the source spells it.
    pub source_sku: String,
    /// Variant of the product; empty if the source names none.
    pub variant: String,
    /// Warehouse of the source; empty if it names none.
    pub warehouse: String,
    /// Quantity in units of the source.
    pub quantity: Quantity,
    /// Date of the statement; `None` while its source has no complete snapshot.
    pub stated_at: Option<Timestamp>,
    /// True if the last snapshot of the source lacks the product.
    pub is_absent: bool,
    /// True if the warehouse does not feed the shop.
    pub is_other_warehouse: bool,
}

impl fmt::Display for StockStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Statement(statement) => statement.fmt(f),
            Self::RemovedSource => {
                f.write_str("stated by a source that was removed from the configuration")
            }
            Self::Rule(step) => step.fmt(f),
            Self::Result { count, stated_at } => write!(f, "result: {count} as of {stated_at}"),
        }
    }
}

impl fmt::Display for StatementStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}'", self.source, self.source_sku)?;
        if !self.variant.is_empty() {
            write!(f, ", variant '{}'", self.variant)?;
        }
        if !self.warehouse.is_empty() {
            write!(f, " at '{}'", self.warehouse)?;
        }
        write!(f, ": {}", self.quantity)?;
        if let Some(at) = self.stated_at {
            write!(f, " as of {at}")?;
        }
        if self.is_absent {
            f.write_str(", absent from its last snapshot")?;
        }
        if self.is_other_warehouse {
            f.write_str(", a warehouse that does not feed this shop")?;
        }
        Ok(())
    }
}
