//! Partner API in both directions: the server that the seller calls instead of the Market, and the
//! client that calls the Market.

pub mod account;
pub mod client;
pub mod hidden_offers;
pub mod readback_page;
pub mod server;
pub mod wire;
