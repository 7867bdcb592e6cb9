//! Where stock comes from besides the drop-in: files, the shop's old handler, 1C, MoySklad, SQL.
//!
//! A reader turns whatever a source is into [`Entry`]s; they are staged, judged and then
//! taken whole, through the one front door, [`crate::ingest`].

pub mod formats;
pub mod moysklad;
pub mod pull;
mod quantity;
mod row;

pub use quantity::{Quantity, QuantityError};
pub use row::{Entry, Fault, GivenUp, Key, Reading, Row, Rows, Scope};
