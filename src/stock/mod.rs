//! The ground floor: what a SKU, a count and a shop's stock are.
//!
//! Pure: nothing here reads a clock, a file or a socket, knows an async runtime, or can fail
//! except in parsing. Every other room stands on this one.

mod book;
mod column;
mod level;
mod marks;
mod sku;

pub use book::{Applied, Entry, ShopId, SkuId, StockBook};
pub use column::Column;
pub use level::{Count, CountError, Instant, Level, MAX_COUNT, Update};
pub use marks::{Assertion, Hour, Mark, Marks};
pub use sku::{MAX_SKU_LENGTH, Sku, SkuError};
