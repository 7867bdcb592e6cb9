//! Both protocols between a shop and Yandex Market: their wire formats, and clients for them.
//!
//! # Purpose
//!
//! - [`push`]: `POST {base}/stocks`, with which the Market asks a shop for its stock. The parser and
//!   the writer are those of a server; the client sends the Market's requests to an old handler.
//! - [`partner`]: the API that replaces it. A seller sends updates and reads the Market's copy back.
//!   The parsers of both sides are here, so that a program can also serve this API.
//!
//! Parsers of requests are strict and name the value and the rule. Parsers of responses ignore
//! unknown members. Keys and tokens are masked in error texts.
//!
//! # Not here
//!
//! No stock, schedule, retry or rate limit: a client sends one request and reads one response, and
//! its caller decides what the response means. The HTTP servers belong to the service and to the
//! simulator.

pub mod partner;
pub mod push;
