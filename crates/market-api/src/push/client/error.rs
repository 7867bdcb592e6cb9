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
#[error("{host}{fault}")]
pub struct OldHandlerError {
    /// Host of the handler.
    pub host: String,
    /// Fault of the response or of the connection.
    pub fault: OldHandlerFault,
}

/// Kind of an [`OldHandlerError`]. Its text continues the name of the host.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OldHandlerFault {
    /// The connection failed or broke, for this reason.
    #[error(" cannot be reached: {0}")]
    Unreachable(String),
    /// The response did not arrive within this time.
    #[error(" did not respond within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The response is a redirect, which is not followed because the token would go along.
    #[error(" returned status {status}, a redirect to {target}, which is not followed")]
    Redirect {
        /// HTTP status.
        status: u16,
        /// Host of the redirect target, or `nowhere` if the response names none.
        target: String,
    },
    /// The response has an error status.
    #[error(" returned status {status}: {excerpt}")]
    Status {
        /// HTTP status.
        status: u16,
        /// Beginning of the body.
        excerpt: String,
    },
    /// The response is an HTML page with this beginning.
    #[error(" returned a web page instead of stock, perhaps a login page: {0}")]
    HtmlPage(String),
    /// The body is not a valid response.
    #[error(": {reason}: {excerpt}")]
    InvalidBody {
        /// Broken rule.
        reason: OldHandlerBodyError,
        /// Beginning of the body.
        excerpt: String,
    },
    /// The body has this content encoding although the request did not allow it.
    #[error(" returned the content encoding {0}, which was not requested")]
    UnexpectedEncoding(String),
    /// The body is longer than this limit, in bytes.
    #[error(": the response is longer than {0} bytes")]
    TooLarge(usize),
}

impl OldHandlerError {
    /// Returns true if a retry of the same request may succeed.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        use OldHandlerFault as Fault;
        match &self.fault {
            Fault::Unreachable(_)
            | Fault::TimedOut(_)
            | Fault::HtmlPage(_)
            | Fault::InvalidBody { .. } => true,
            Fault::Status { status, .. } => *status >= 500 || matches!(status, 408 | 425 | 429),
            Fault::Redirect { .. } | Fault::UnexpectedEncoding(_) | Fault::TooLarge(_) => false,
        }
    }
}
