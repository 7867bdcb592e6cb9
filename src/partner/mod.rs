//! The partner API, in both directions: the seller calls us as if we were the Market, and we
//! call the Market.

pub mod cabinet;
pub mod client;
pub mod hidden;
pub mod page;
pub mod server;
pub mod wire;
