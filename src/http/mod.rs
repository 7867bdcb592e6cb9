//! HTTP/1.1, both ways: the listener with its deadlines and limits, and the outbound client.
//!
//! hyper parses and writes the protocol, but it takes its time with slow peers and lets
//! ambiguous requests through; so every connection of ours is read by the gate first. This room
//! knows no route, no token and no stock, and names no other room's types.

mod address_rule;
mod body;
mod chunk_validator;
mod client;
mod connection;
mod error_response;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod json;
mod metrics;
mod request_head;
pub mod secret;
mod server;
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
pub use server::{HttpServer, LocalAddr, PeerAddr, ServerLimits};
