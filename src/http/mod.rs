//! HTTP/1.1, both ways: the listener with its deadlines and limits, and the outbound client.
//!
//! hyper parses and writes the protocol, but it takes its time with slow peers and lets
//! ambiguous requests through; so every connection of ours is read by the gate first. This room
//! knows no route, no token and no stock, and names no other room's types.

mod answer;
mod body;
mod chunks;
mod client;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gate;
mod head;
pub mod json;
mod metrics;
mod network;
#[cfg(test)]
pub(crate) mod scripted;
pub mod secret;
mod server;
#[cfg(test)]
mod tests;

pub use answer::Refusal;
pub use body::{BodyRefused, read_body};
pub use client::{AnswerCut, ClientConfig, ClientError, Trust, causes, client, read_answer};
pub use json::is_json;
pub use metrics::Metrics;
pub use network::{AddressRule, is_public};
pub use server::{Limits, LocalAddr, Peer, Server};
