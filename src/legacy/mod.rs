//! `POST {base}/stocks`: the Market asks, we answer from memory.

pub mod server;
pub mod wire;
