//! The partner API, in both directions: the seller calls us as if we were the Market, and we
//! call the Market.

pub mod account;
pub mod client;
pub mod hidden_offers;
pub mod readback_page;
pub mod server;
pub mod wire;
