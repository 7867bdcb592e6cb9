//! Errors of the old handler client. They name the host, but never the token.

use std::time::Duration;

use crate::push::parse_lenient::OldHandlerBodyError;

/// Error in the configuration of an old handler.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OldHandlerConfigError {
    /// The URL is invalid, or has a user, a query or a fragment.
    #[error("the URL must start with http:// or https:// and have no user, query or fragment")]
    InvalidUrl,
    /// The token is empty, or has characters that a header cannot carry.
    #[error("the token must consist of visible ASCII characters and must not be empty")]
    InvalidToken,
}

/// Error of one request to an old handler. It names the host, but never the token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OldHandlerError {
    /// The connection failed or broke.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable {
        /// Host of the handler.
        host: String,
        /// Cause.
        reason: String,
    },
    /// The response did not arrive in time.
    #[error("{host} did not respond within {} s", timeout.as_secs_f32())]
    TimedOut {
        /// Host of the handler.
        host: String,
        /// Time that was waited.
        timeout: Duration,
    },
    /// The response is a redirect, which is not followed because the token would go along.
    #[error("{host} returned status {status}, a redirect to {target}, which is not followed")]
    Redirect {
        /// Host of the handler.
        host: String,
        /// HTTP status.
        status: u16,
        /// Host of the redirect target, or `nowhere` if the response names none.
        target: String,
    },
    /// The response has an error status.
    #[error("{host} returned status {status}: {excerpt}")]
    Status {
        /// Host of the handler.
        host: String,
        /// HTTP status.
        status: u16,
        /// Beginning of the body.
        excerpt: String,
    },
    /// The response is an HTML page.
    #[error("{host} returned a web page instead of stock, perhaps a login page: {excerpt}")]
    HtmlPage {
        /// Host of the handler.
        host: String,
        /// Beginning of the page.
        excerpt: String,
    },
    /// The body is not a valid response.
    #[error("{host}: {reason}: {excerpt}")]
    InvalidBody {
        /// Host of the handler.
        host: String,
        /// Broken rule.
        reason: OldHandlerBodyError,
        /// Beginning of the body.
        excerpt: String,
    },
    /// The body is compressed although the request did not allow that.
    #[error("{host} returned the content encoding {coding}, which was not requested")]
    UnexpectedEncoding {
        /// Host of the handler.
        host: String,
        /// Content encoding.
        coding: String,
    },
    /// The body is longer than the limit.
    #[error("{host}: the response is longer than {limit} bytes")]
    TooLarge {
        /// Host of the handler.
        host: String,
        /// Most bytes that are read.
        limit: usize,
    },
}

impl OldHandlerError {
    /// Returns true if a retry of the same request may succeed.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::HtmlPage { .. }
            | Self::InvalidBody { .. } => true,
            Self::Status { status, .. } => *status >= 500 || matches!(status, 408 | 425 | 429),
            Self::Redirect { .. } | Self::UnexpectedEncoding { .. } | Self::TooLarge { .. } => {
                false
            }
        }
    }
}
