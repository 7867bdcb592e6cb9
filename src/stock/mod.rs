//! Domain types: SKU, count, timestamp, the stock of all shops, and the activity per SKU.
//!
//! Pure: this module reads no clock, file or socket, needs no async runtime, and fails only in
//! parsing. Every other module may depend on it; it depends on none.

mod activity;
mod atomic_per_sku;
mod book;
mod hour;
mod level;
mod packed_activity;
mod per_sku;
mod sku;

pub use activity::{Activity, LastStated, SkuActivity};
pub use book::{ApplyOutcome, BookEntry, ShopId, SkuId, StockBook};
pub use hour::Hour;
pub use level::{Count, CountError, Level, MAX_COUNT, Timestamp, Update};
pub use per_sku::PerSku;
pub use sku::{MAX_SKU_LENGTH, Sku, SkuError};
