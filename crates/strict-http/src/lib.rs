//! HTTP/1.1 server with timeouts and limits for a public endpoint, and an outbound HTTP client.
//!
//! # Purpose
//!
//! hyper parses and writes the protocol, but it has no timeouts for slow peers and accepts
//! ambiguous requests. So every connection passes `connection` first: it reads and validates each
//! request head, and rejects what two parsers could read differently. [`HttpServer`] serves an axum
//! router behind it. [`client()`] makes a reqwest client with the timeouts, the certificate
//! authorities and the [address rule](AddressRule) of a caller.
//!
//! # Dependence on hyper
//!
//! The validation was tested against one version of hyper, which `Cargo.toml` pins exactly. A newer
//! one may accept other request heads, or read the socket in another way after a head; run the tests
//! of this crate and the fuzz targets `http_head` and `http_chunks` before changing it.
//!
//! # Not here
//!
//! No routes, no tokens of shops, no stock; no TLS on the server's side, which a reverse proxy has;
//! no HTTP/2.

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
pub mod test_server;
#[cfg(test)]
mod tests;

pub use address_rule::{AddressRule, is_public, reachable_address};
pub use body::{BodyError, read_body};
pub use client::{
    ClientConfig, ClientError, ReadResponseError, Trust, causes, client, read_response,
};
pub use error_response::ErrorResponse;
pub use json::is_json;
pub use metrics::Metrics;
pub use server::{HttpServer, LocalAddr, PeerAddr};
pub use server_limits::ServerLimits;
