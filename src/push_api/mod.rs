//! `POST {base}/stocks`: the Market asks, we answer from memory.
//!
//! And the other way round: where a shop has a handler of its own for that question, we can ask
//! it as the Market did.

pub mod client;
pub mod parse_lenient;
pub mod server;
pub mod wire;
