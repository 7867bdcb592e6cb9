//! Limits and timeouts of a listener.

use std::time::Duration;

/// Limits and timeouts for the clients of one listener.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Most open connections. One more is answered with 503.
    pub max_connections: usize,
    /// Most open connections from one source address. One more is answered with 503. `None`
    /// means no limit, for use behind a proxy, where all connections have the same address.
    pub max_connections_per_address: Option<usize>,
    /// Longest request head, in bytes.
    pub max_header_bytes: usize,
    /// Most header fields.
    pub max_header_fields: usize,
    /// Longest request target, in bytes.
    pub max_uri_bytes: usize,
    /// Timeout from the accept to the first byte.
    pub first_byte_timeout: Duration,
    /// Timeout from the first byte of a request to the end of its head.
    pub header_timeout: Duration,
    /// Timeout between two requests. It is longer than the 60 s of nginx, so that nginx closes
    /// first: a request fails if it is sent while this side closes the connection.
    pub idle_timeout: Duration,
    /// Timeout from the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// Longest pause in which a client reads none of its response.
    pub write_progress_timeout: Duration,
    /// Longest time in which a client reads its whole response.
    pub write_total_timeout: Duration,
    /// Timeout from the end of the head to the response. After it the response is 503.
    pub handler_timeout: Duration,
    /// Time for a client to read its last response before the connection is dropped.
    pub linger_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_address: None,
            max_header_bytes: 16 * 1024,
            max_header_fields: 64,
            max_uri_bytes: 4 * 1024,
            first_byte_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(10),
            write_progress_timeout: Duration::from_secs(10),
            write_total_timeout: Duration::from_secs(60),
            handler_timeout: Duration::from_secs(20),
            linger_timeout: Duration::from_secs(2),
        }
    }
}
