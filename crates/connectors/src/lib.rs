//! Connectors to the places where sellers keep their stock.
//!
//! # Purpose
//!
//! A connector turns what its source has into [`DeliveryEntry`](stock_import::DeliveryEntry)s, and
//! sends them to an [`EntrySender`]. A [`Source`] is polled by its owner: [`files`] on a disk,
//! [`http_file`] by URL, [`moysklad`], [`sql`], and the [`old_handler`] that the Market calls today.
//! [`onec_exchange`] is a server to which 1C uploads files.
//!
//! A delivery counts only if its connector has read it to a verified end. What a connector remembers
//! over restarts, such as the files that it has read, is a text that its owner saves after the
//! delivery.
//!
//! # Not here
//!
//! No schedule, no stock, no database of statements, and no decision about a delivery: whether it is
//! complete enough, plausible and newer than another one. No alarms, no metrics. The formats of
//! files belong to `stock-import`, the formats of the Market and the client of an old handler to
//! `market-api`.

mod entry_sender;
pub mod files;
pub mod http_file;
pub mod moysklad;
pub mod old_handler;
pub mod onec_exchange;
pub mod private_files;
mod read_report;
#[cfg(test)]
mod row_collector;
mod source;
pub mod sql;

pub use entry_sender::EntrySender;
pub use read_report::{Completeness, ReadReport};
pub use source::{DeliveryEnd, DueDelivery, PollContext, ReadFailure, Source};
