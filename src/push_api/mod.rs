//! Push API, `POST {base}/stocks`: the server for the Market's requests, and a client for a shop's
//! old handler.
//!
//! The server answers from memory. The client sends the same requests as the Market, to take over
//! the stock that an old handler knows.

mod auth;
pub mod client;
mod last_requests;
mod metrics;
pub mod parse_lenient;
pub mod stocks_handler;
pub mod wire;
