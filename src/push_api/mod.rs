//! Server of the push API, `POST {base}/stocks`. It answers the Market from memory.

mod auth;
mod last_requests;
mod metrics;
mod response_buffers;
pub mod stocks_handler;
