//! The ground floor: what a SKU, a count and a shop's stock are.
//!
//! Pure: nothing here reads a clock, a file or a socket, knows an async runtime, or can fail
//! except in parsing. Every other room stands on this one.

mod activity;
mod book;
mod level;
mod per_sku;
mod sku;

pub use activity::{Activity, Hour, LastStated, SkuActivity};
pub use book::{ApplyOutcome, BookEntry, ShopId, SkuId, StockBook};
pub use level::{Count, CountError, Level, MAX_COUNT, Timestamp, Update};
pub use per_sku::PerSku;
pub use sku::{MAX_SKU_LENGTH, Sku, SkuError};
