//! Stock of shops in memory: SKU, count, timestamp, the [book](StockBook) of all shops, and the
//! [activity](Activity) per SKU.
//!
//! # Purpose
//!
//! The book answers which count each SKU of a shop has and since when. Many threads read it while
//! others update it. An update with an older timestamp than the known one changes nothing, so
//! updates may arrive in any order.
//!
//! # Not here
//!
//! No clock, file, socket or async runtime: the only errors are those of parsing a SKU or a count.
//! Persistence, and the rule that the book changes only after the store has persisted, belong to
//! the service.

mod activity;
mod atomic_per_sku;
mod batch_lookup;
mod batch_update;
mod book;
#[cfg(test)]
mod book_model_tests;
mod hour;
mod level;
mod packed_activity;
mod per_sku;
mod shop_stock;
mod sku;
mod sku_records;
mod sku_words;
mod text_in_buffer;

pub use activity::{Activity, LastStated, SkuActivity};
pub use book::{ApplyOutcome, BookEntry, ShopId, SkuId, StockBook};
pub use hour::Hour;
pub use level::{Count, CountError, Level, MAX_COUNT, Timestamp, Update};
pub use per_sku::PerSku;
pub use sku::{MAX_SKU_LENGTH, Sku, SkuError};
pub use text_in_buffer::TextInBuffer;
