//! Reading a request's body, no further than its route allows.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::HttpBody;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use thiserror::Error;
use tokio::time::timeout;

use super::answer::Refusal;

/// What a body of several pieces may occupy before any of them has come.
const FIRST_RESERVE: usize = 64 * 1024;

/// Most bytes of a body that are read although nobody wants them, so that the connection can be
/// kept.
const MAX_DRAINED: u64 = 64 * 1024;

/// How long the response waits for them.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(50);

/// A body that was not read to its end.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum BodyRefused {
    /// It is longer than this route takes, in bytes.
    #[error("the body is longer than {limit} bytes")]
    TooLarge {
        /// The most this route takes, in bytes.
        limit: usize,
    },
    /// It was not complete when [`Limits::body`](super::Limits::body) had passed.
    #[error("the body did not arrive in time")]
    TimedOut,
    /// It ended too soon, or its chunks make no sense.
    #[error("the body is cut short or badly chunked")]
    Cut,
}

impl From<BodyRefused> for Refusal {
    fn from(refused: BodyRefused) -> Self {
        let (status, code) = match refused {
            BodyRefused::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE"),
            BodyRefused::TimedOut => (StatusCode::REQUEST_TIMEOUT, "BODY_TIMED_OUT"),
            BodyRefused::Cut => (StatusCode::BAD_REQUEST, "BODY_CUT"),
        };
        Self::new(status, code, refused.to_string())
    }
}

/// What became of a request's body.
#[derive(Debug, Default)]
pub(super) enum Rest<B> {
    /// Somebody still has it, or it broke.
    #[default]
    Unknown,
    /// It was read to its end.
    Read,
    /// It was dropped before its end.
    Unread(B),
}

/// A body that is given back if it is dropped before its end.
#[derive(Debug)]
pub(super) struct Lent<B> {
    body: Option<B>,
    back: Arc<Mutex<Rest<B>>>,
}

impl<B: HttpBody> Lent<B> {
    /// Lends a body, and returns where what is left of it will be.
    pub(super) fn new(body: B) -> (Self, Arc<Mutex<Rest<B>>>) {
        let back = Arc::new(Mutex::new(Rest::Unknown));
        (
            Self {
                body: Some(body),
                back: Arc::clone(&back),
            },
            back,
        )
    }

    fn note(&self, rest: Rest<B>) {
        *self.back.lock().unwrap_or_else(PoisonError::into_inner) = rest;
    }
}

impl<B: HttpBody + Unpin> HttpBody for Lent<B> {
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
        let is_read = frame.is_none() || body.is_end_stream();
        match &frame {
            Some(Err(_)) => self.body = None,
            Some(Ok(_)) | None if is_read => {
                self.body = None;
                self.note(Rest::Read);
            }
            Some(Ok(_)) | None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl<B> Drop for Lent<B> {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            *self.back.lock().unwrap_or_else(PoisonError::into_inner) = Rest::Unread(body);
        }
    }
}

/// Reads what is left of a body that declares at most [`MAX_DRAINED`] bytes and throws it away;
/// returns whether its end was reached in [`DRAIN_TIMEOUT`].
pub(super) async fn drain<B: HttpBody + Unpin>(mut body: B) -> bool {
    let is_short = body
        .size_hint()
        .upper()
        .is_some_and(|bytes| bytes <= MAX_DRAINED);
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

/// Reads a whole body of at most `max_bytes`; one that declares more is not read at all.
///
/// # Errors
/// The body is too long, too slow or incomplete.
pub async fn read_body<B>(body: B, max_bytes: usize) -> Result<Bytes, BodyRefused>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let too_large = BodyRefused::TooLarge { limit: max_bytes };
    let declared = usize::try_from(body.size_hint().lower()).map_err(|_| too_large)?;
    if declared > max_bytes {
        return Err(too_large);
    }
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| refused_by(e.into().as_ref()))?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if first.len() + whole.len() + piece.len() > max_bytes {
            return Err(too_large);
        }
        if whole.is_empty() && first.is_empty() {
            // Most bodies come in one piece, which then is not copied.
            first = piece;
        } else {
            if whole.is_empty() {
                whole.reserve(declared.min(FIRST_RESERVE).max(first.len() + piece.len()));
                whole.extend_from_slice(&std::mem::take(&mut first));
            }
            whole.extend_from_slice(&piece);
        }
    }
    Ok(if whole.is_empty() {
        first
    } else {
        whole.freeze()
    })
}

fn refused_by(error: &(dyn Error + 'static)) -> BodyRefused {
    let causes = std::iter::successors(Some(error), |&e| e.source());
    let timed_out = causes
        .filter_map(|e| e.downcast_ref::<io::Error>())
        .any(|e| e.kind() == io::ErrorKind::TimedOut);
    if timed_out {
        BodyRefused::TimedOut
    } else {
        BodyRefused::Cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use futures_util::stream;

    fn pieces(of: &[&'static str]) -> Body {
        let pieces: Vec<_> = of
            .iter()
            .map(|p| Ok::<_, io::Error>(Bytes::from(*p)))
            .collect();
        Body::from_stream(stream::iter(pieces))
    }

    #[tokio::test]
    async fn a_body_of_exactly_the_limit_is_read_and_one_more_byte_is_not() {
        assert_eq!(
            read_body(pieces(&["ab", "", "c", "de"]), 5).await.unwrap(),
            "abcde"
        );
        assert_eq!(read_body(pieces(&[]), 0).await.unwrap(), "");
        let limit = BodyRefused::TooLarge { limit: 4 };
        assert_eq!(read_body(pieces(&["ab", "cde"]), 4).await, Err(limit));
        assert_eq!(read_body(Body::from("abcde"), 4).await, Err(limit));
    }

    #[tokio::test]
    async fn a_body_that_fails_says_whether_it_was_late_or_cut() {
        let late = stream::iter([Err::<Bytes, _>(io::Error::from(io::ErrorKind::TimedOut))]);
        assert_eq!(
            read_body(Body::from_stream(late), 4).await,
            Err(BodyRefused::TimedOut)
        );
        let cut = stream::iter([Err::<Bytes, _>(io::Error::from(
            io::ErrorKind::UnexpectedEof,
        ))]);
        assert_eq!(
            read_body(Body::from_stream(cut), 4).await,
            Err(BodyRefused::Cut)
        );
    }
}
