//! Request bodies: reading with a size limit, and draining unread bodies.
//!
//! A body that a handler did not read is drained if it is short and already here, so that the
//! connection can serve another request. Otherwise the connection is closed.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::HttpBody;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::timeout;

use super::error_response::ErrorResponse;

/// Most bytes reserved in advance for a body, because its declared length may be false.
const INITIAL_RESERVE_BYTES: usize = 64 * 1024;

/// Most bytes of an unread body that are drained to keep the connection open.
const MAX_DRAINED_BYTES: u64 = 64 * 1024;

/// Longest time a response waits for an unread body to be drained.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(50);

/// Error while a request body is read.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum BodyError {
    /// The body exceeds the limit of the route.
    #[error("the body is longer than {limit} bytes")]
    TooLarge {
        /// Limit of the route, in bytes.
        limit: usize,
    },
    /// The body did not arrive within [`ServerLimits::body_timeout`](super::ServerLimits).
    #[error("the body did not arrive in time")]
    TimedOut,
    /// The body ended early, or its chunked encoding is invalid.
    #[error("the body is incomplete or its chunked encoding is invalid")]
    Incomplete,
}

impl From<BodyError> for ErrorResponse {
    fn from(error: BodyError) -> Self {
        let (status, code) = match error {
            BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE"),
            BodyError::TimedOut => (StatusCode::REQUEST_TIMEOUT, "BODY_TIMED_OUT"),
            BodyError::Incomplete => (StatusCode::BAD_REQUEST, "BODY_CUT"),
        };
        Self::new(status, code, error.to_string())
    }
}

/// State of a request body after the handler has returned.
#[derive(Debug, Default)]
pub(super) enum BodyRemainder<B> {
    /// A task still holds the body, or reading it failed.
    #[default]
    Unknown,
    /// The body was read to its end.
    Consumed,
    /// The body was dropped before its end.
    Unconsumed(B),
}

/// Request body that can be recovered when a handler drops it before its end.
#[derive(Debug)]
pub(super) struct ReturnableBody<B> {
    body: Option<B>,
    remainder: Arc<Mutex<BodyRemainder<B>>>,
}

impl<B: HttpBody> ReturnableBody<B> {
    /// Wraps a body, and returns the place that receives its remainder.
    pub(super) fn new(body: B) -> (Self, Arc<Mutex<BodyRemainder<B>>>) {
        let remainder = Arc::new(Mutex::new(BodyRemainder::Unknown));
        let returnable = Self {
            body: Some(body),
            remainder: Arc::clone(&remainder),
        };
        (returnable, remainder)
    }
}

impl<B: HttpBody + Unpin> HttpBody for ReturnableBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        let is_consumed = frame.is_none() || body.is_end_stream();
        match &frame {
            Some(Err(_)) => self.body = None,
            Some(Ok(_)) | None if is_consumed => {
                self.body = None;
                *self.remainder.lock() = BodyRemainder::Consumed;
            }
            Some(Ok(_)) | None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.as_ref();
        body.map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl<B> Drop for ReturnableBody<B> {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            *self.remainder.lock() = BodyRemainder::Unconsumed(body);
        }
    }
}

/// Discards the rest of a body that declares at most [`MAX_DRAINED_BYTES`].
///
/// Returns true if the end was reached within [`DRAIN_TIMEOUT`].
pub(super) async fn drain<B: HttpBody + Unpin>(mut body: B) -> bool {
    let declared = body.size_hint().upper();
    let is_short = declared.is_some_and(|bytes| bytes <= MAX_DRAINED_BYTES);
    let reading = async {
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return false;
            }
        }
        true
    };
    is_short && timeout(DRAIN_TIMEOUT, reading).await.unwrap_or(false)
}

/// Reads a whole body of at most `max_bytes`. A body that declares more is not read at all.
///
/// # Errors
/// The body is too long, did not arrive in time, or is incomplete.
pub async fn read_body<B>(body: B, max_bytes: usize) -> Result<Bytes, BodyError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let too_large = BodyError::TooLarge { limit: max_bytes };
    let declared = usize::try_from(body.size_hint().lower()).map_err(|_| too_large)?;
    if declared > max_bytes {
        return Err(too_large);
    }
    let mut body = std::pin::pin!(body);
    let mut first_piece = Bytes::new();
    let mut assembled = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| classify_body_error(e.into().as_ref()))?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if first_piece.len() + assembled.len() + piece.len() > max_bytes {
            return Err(too_large);
        }
        if assembled.is_empty() && first_piece.is_empty() {
            // Most bodies arrive in one piece, which is not copied.
            first_piece = piece;
        } else {
            if assembled.is_empty() {
                let needed = first_piece.len() + piece.len();
                assembled.reserve(declared.min(INITIAL_RESERVE_BYTES).max(needed));
                assembled.extend_from_slice(&std::mem::take(&mut first_piece));
            }
            assembled.extend_from_slice(&piece);
        }
    }
    Ok(if assembled.is_empty() {
        first_piece
    } else {
        assembled.freeze()
    })
}

fn classify_body_error(error: &(dyn Error + 'static)) -> BodyError {
    let causes = std::iter::successors(Some(error), |&e| e.source());
    let mut io_errors = causes.filter_map(|e| e.downcast_ref::<io::Error>());
    let timed_out = io_errors.any(|e| e.kind() == io::ErrorKind::TimedOut);
    if timed_out {
        BodyError::TimedOut
    } else {
        BodyError::Incomplete
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::stream;

    use super::*;

    fn body_of_pieces(texts: &[&'static str]) -> Body {
        let pieces: Vec<_> = texts
            .iter()
            .map(|p| Ok::<_, io::Error>(Bytes::from(*p)))
            .collect();
        Body::from_stream(stream::iter(pieces))
    }

    #[tokio::test]
    async fn limits_body_size_to_the_byte() {
        assert_eq!(
            read_body(body_of_pieces(&["ab", "", "c", "de"]), 5)
                .await
                .unwrap(),
            "abcde"
        );
        assert_eq!(read_body(body_of_pieces(&[]), 0).await.unwrap(), "");
        let limit = BodyError::TooLarge { limit: 4 };
        assert_eq!(
            read_body(body_of_pieces(&["ab", "cde"]), 4).await,
            Err(limit)
        );
        assert_eq!(read_body(Body::from("abcde"), 4).await, Err(limit));
    }

    #[tokio::test]
    async fn tells_late_bodies_from_incomplete_ones() {
        let timed_out = stream::iter([Err::<Bytes, _>(io::Error::from(io::ErrorKind::TimedOut))]);
        assert_eq!(
            read_body(Body::from_stream(timed_out), 4).await,
            Err(BodyError::TimedOut)
        );
        let incomplete = stream::iter([Err::<Bytes, _>(io::Error::from(
            io::ErrorKind::UnexpectedEof,
        ))]);
        assert_eq!(
            read_body(Body::from_stream(incomplete), 4).await,
            Err(BodyError::Incomplete)
        );
    }
}
