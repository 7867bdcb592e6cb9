//! HTTP/1.1 server with timeouts and limits, and the outbound HTTP client.
//!
//! hyper parses and writes the protocol, but it has no timeouts for slow peers and accepts
//! ambiguous requests. Every connection therefore passes `connection` first, which reads and
//! validates each request head. This module knows no routes, tokens or stock, and depends on no
//! other module except `lifecycle`.

mod address_rule;
mod body;
mod chunk_validator;
mod client;
mod connection;
mod connection_slots;
mod error_response;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod json;
mod metrics;
mod request_head;
pub mod secret;
mod server;
mod server_limits;
#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;

pub use address_rule::{AddressRule, is_public};
pub use body::{BodyError, read_body};
pub use client::{
    ClientConfig, ClientError, ReadResponseError, Trust, causes, client, read_response,
};
pub use error_response::ErrorResponse;
pub use json::is_json;
pub use metrics::Metrics;
pub use server::{HttpServer, LocalAddr, PeerAddr};
pub use server_limits::ServerLimits;
