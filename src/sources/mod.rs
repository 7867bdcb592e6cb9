//! Where stock comes from besides the drop-in: files, the shop's old handler, 1C, MoySklad, SQL.
//!
//! A reader turns whatever a source is into [`Entry`]s. They are staged, judged by the
//! [`guard`] and then taken whole: what was stated is kept as it was stated, the [`rules`] make
//! stock of it, and that goes through the one front door, [`crate::ingest`].

mod aliases;
mod archive;
pub mod exchange;
mod feeds;
pub mod fetch;
pub mod files;
pub mod formats;
pub mod guard;
pub mod inspect;
mod intake;
pub mod lists;
pub mod moysklad;
mod once;
mod private;
pub mod pull;
mod quantity;
mod row;
pub mod rules;
mod settings;
mod shape;
mod sku_text;
pub mod sql;
mod stated;

pub use feeds::{FeedError, Feeds, Import, KnownSkus, Plan, READ_THROUGH, import_source};
pub use intake::{
    Absent, Completeness, Context, Duplicates, Intake, IntakeError, Outcome, RULES, ReadReport,
    Receipt, Standing, Taking, Tally, Warehouses,
};
pub use once::read_once;
pub use quantity::{DecimalMark, Quantity, QuantityError};
pub use row::{
    Entry, Fault, GivenUp, Key, Listing, Reading, Row, RowProblem, Rows, Scope, Variants,
};
pub use settings::{Config, Door, Feed};
pub use stated::{Brought, Held, PreviewRow, StatedError};
