//! Push API, `POST {base}/stocks`: the wire format, and a client for a shop's old handler.

mod block_marks;
pub mod client;
pub mod parse_lenient;
mod response;
mod scan;
pub mod wire;
