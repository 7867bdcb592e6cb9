//! Readers of sellers' stock files, and the rules that make stock of what the files state.
//!
//! # Purpose
//!
//! [`formats`] reads CSV, XLSX, XLS, YML, CommerceML and JSON, packed or not, as the programs of
//! sellers write them: unknown encodings, delimiters, headers and number formats. A reader passes
//! one [`DeliveryEntry`] after the other to a callback, and holds one row in memory. A row that can
//! be read in two ways is reported as suspicious with its reason, and never guessed.
//!
//! [`stock_rules`] evaluates the statements of several sources to one count per SKU, and
//! [`delivery_guard`] decides if a delivery is held for approval.
//!
//! # Not here
//!
//! No clock, socket, database or async runtime. No file is opened: a reader gets a
//! [`formats::Input`], and a directory for temporary files. The stored statements and their
//! application to the stock belong to the service.

mod aliases;
pub mod archive;
pub mod delivery_guard;
pub mod formats;
mod quantity;
mod row;
pub mod shape_change;
mod sku_text;
pub mod stock_rules;

pub use aliases::{AliasMatch, StockField, choose, normalize};
pub use quantity::{DecimalMark, NumberStyle, Quantity, QuantityError, trim_blanks};
pub use row::{
    DeliveryCancelled, DeliveryEntry, DeliveryScope, ProductKey, ReadSettings, RejectedRow, Row,
    RowProblem, VariantListing, VariantPolicy,
};
