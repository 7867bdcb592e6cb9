//! Partner API: wire formats, and a client for the methods about stock, hidden offers and the
//! account.

pub mod account;
pub mod client;
pub mod hidden_offers;
pub mod readback_page;
pub mod wire;
