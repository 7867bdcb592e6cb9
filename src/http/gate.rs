//! What stands between a socket and hyper: each request's head is read and judged here first,
//! and hyper is then shown exactly one request.
//!
//! hyper's own head timeout is also its keep-alive limit, it has none for bodies and answers,
//! and it starts on the next request while the last answer is unsent. Here each has its own
//! deadline, and what follows a request stays in [`Wire`] until the request is answered.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, timeout, timeout_at};

use super::answer::Refusal;
use super::chunks::{ChunkFault, Chunks};
use super::head::{self, Fault, Framing, Scan};
use super::server::Limits;

/// Room for one read of heads; most requests of the Market's fit with part of their body.
const READ_BYTES: usize = 4 * 1024;

/// A connection, and what was read from it too early.
#[derive(Debug)]
pub(super) struct Wire<IO> {
    io: IO,
    held: BytesMut,
    ended: bool,
}

/// What came when a head was expected.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Heard {
    /// A head fit to be served, and how its body is framed.
    Request { head_bytes: usize, framing: Framing },
    /// Nothing, or not in time: the connection is over, and nobody waits for an answer.
    Silence,
    /// A request that must not be served.
    Fault(Fault),
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Wire<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self {
            io,
            held: BytesMut::new(),
            ended: false,
        }
    }

    /// Waits for the next request until `until` resolves, and for the rest of its head as long
    /// as the limits say.
    pub(super) async fn hear(&mut self, until: impl Future<Output = ()>, limits: &Limits) -> Heard {
        if self.held.is_empty() {
            tokio::select! {
                // What has come counts, even if the time is up at the same moment.
                biased;
                more = self.read_more() => if !more { return Heard::Silence },
                () = until => return Heard::Silence,
            }
        }
        let deadline = Instant::now() + limits.header;
        match timeout_at(deadline, self.hear_head(limits)).await {
            Ok(Ok(Some((head_bytes, framing)))) => Heard::Request {
                head_bytes,
                framing,
            },
            Ok(Ok(None)) => Heard::Silence,
            Ok(Err(fault)) => Heard::Fault(fault),
            Err(_elapsed) => Heard::Fault(Fault::TimedOut),
        }
    }

    /// Answers a request that is not served.
    pub(super) async fn refuse(&mut self, refusal: &Refusal, limits: &Limits) {
        // The method comes first; of a fault before its end, nothing is known of it.
        let answer = refusal.to_wire(self.held.starts_with(b"HEAD "));
        let sending = async {
            self.io.write_all(&answer).await?;
            self.io.flush().await
        };
        // A client that does not take its refusal is gone, or soon will be.
        drop(timeout(limits.write_progress, sending).await);
    }

    /// Closes so that the last answer can still be read: closing a socket with unread input
    /// resets it, and a reset throws away what the client has not read yet.
    pub(super) async fn close(mut self, limits: &Limits) {
        let lingering = async {
            if self.io.shutdown().await.is_err() {
                return;
            }
            while !self.ended {
                self.held.clear();
                self.read_more().await;
            }
        };
        drop(timeout(limits.linger, lingering).await);
    }

    async fn hear_head(&mut self, limits: &Limits) -> Result<Option<(usize, Framing)>, Fault> {
        // RFC 9112 asks us to overlook one empty line here: old clients end a POST with it.
        while self.held.starts_with(b"\r") && self.held.len() < 2 {
            if !self.read_more().await {
                return Ok(None);
            }
        }
        if self.held.starts_with(b"\r\n") {
            self.held.advance(2);
        }
        let mut scan = Scan::default();
        loop {
            if let Some(end) = scan.end(&self.held, limits)? {
                let framing = head::judge(&self.held[..end], limits)?;
                return Ok(Some((self.prepare(end, framing), framing)));
            }
            if !self.read_more().await {
                return Ok(None);
            }
        }
    }

    /// Where a chunked body ends only hyper knows, so what follows it could not be held back:
    /// hyper is made to believe that the client asked for the connection to be closed.
    fn prepare(&mut self, end: usize, framing: Framing) -> usize {
        const CLOSE: &[u8] = b"connection: close\r\n\r\n";
        if framing != Framing::Chunked {
            return end;
        }
        let rest = self.held.split_off(end);
        self.held.truncate(end - 2);
        self.held.extend_from_slice(CLOSE);
        self.held.unsplit(rest);
        end - 2 + CLOSE.len()
    }

    /// Whether there was more; a broken connection counts as ended.
    async fn read_more(&mut self) -> bool {
        self.held.reserve(READ_BYTES);
        let read = self.io.read_buf(&mut self.held).await;
        self.ended = !matches!(read, Ok(1..));
        !self.ended
    }
}

/// How an exchange left the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// The request is read and its answer sent: the next may come.
    Complete,
    /// Answered, but no other request can follow.
    Last,
    /// Answered, after the body missed its deadline.
    LateBody,
    /// The client does not read its answer.
    Stalled,
    /// The connection broke.
    Broken,
}

/// One request and its answer, as hyper sees a connection: it ends after the request.
///
/// hyper must allow half-close: then it reads only for a head or a body, and a read beyond the
/// request means that it is done with this one. See [`Outcome::Complete`].
#[derive(Debug)]
pub(super) struct Exchange<'a, IO> {
    wire: &'a mut Wire<IO>,
    limits: &'a Limits,
    /// What hyper may still read of this request, in bytes; `None` if chunks say so.
    left: Option<u64>,
    /// How the chunks are framed, if there are any.
    chunks: Option<Chunks>,
    chunk_fault: Option<ChunkFault>,
    body_by: Instant,
    body_alarm: Alarm,
    /// Since when the client takes none of its answer, and when the first of it was offered.
    stalled_since: Option<Instant>,
    answering_since: Option<Instant>,
    write_alarm: Alarm,
    /// Bytes were written that hyper has not seen flushed.
    unsent: bool,
    outcome: Outcome,
}

impl<'a, IO: AsyncRead + AsyncWrite + Unpin> Exchange<'a, IO> {
    pub(super) fn new(
        wire: &'a mut Wire<IO>,
        (head_bytes, framing): (usize, Framing),
        limits: &'a Limits,
    ) -> Self {
        let left = match framing {
            Framing::Length(body_bytes) => {
                Some(body_bytes.saturating_add(u64::try_from(head_bytes).unwrap_or(u64::MAX)))
            }
            Framing::Chunked => None,
        };
        let chunks = (framing == Framing::Chunked).then(|| Chunks::after(head_bytes));
        Self {
            wire,
            limits,
            left,
            chunks,
            chunk_fault: None,
            body_by: Instant::now() + limits.body,
            body_alarm: Alarm::default(),
            stalled_since: None,
            answering_since: None,
            write_alarm: Alarm::default(),
            unsent: false,
            outcome: Outcome::Last,
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        self.outcome
    }

    fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = match self.left {
            Some(left) => buf
                .remaining()
                .min(usize::try_from(left).unwrap_or(usize::MAX)),
            None => buf.remaining(),
        };
        if let Some(fault) = self.chunk_fault {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)));
        }
        let before = buf.remaining();
        if !self.wire.held.is_empty() {
            let most = most.min(self.wire.held.len());
            buf.put_slice(&self.wire.held[..most]);
            self.wire.held.advance(most);
        } else if !self.wire.ended {
            ready!(self.poll_body(cx, buf, most))?;
            self.wire.ended = buf.remaining() == before;
        }
        if let Some(chunks) = &mut self.chunks {
            let filled = buf.filled().len();
            let start = filled - (before - buf.remaining());
            let piece = &buf.filled()[start..];
            if let Err((fine, fault)) = chunks.check(piece) {
                // What comes before the fault is read first: it may be the head.
                buf.set_filled(start + fine);
                self.chunk_fault = Some(fault);
                if fine == 0 {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)));
                }
            }
        }
        if let Some(left) = &mut self.left {
            *left -= u64::try_from(before - buf.remaining()).unwrap_or(u64::MAX);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        most: usize,
    ) -> Poll<io::Result<()>> {
        let io = Pin::new(&mut self.wire.io);
        let read = if most == buf.remaining() {
            io.poll_read(cx, buf)
        } else {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
            let read = io.poll_read(cx, &mut part);
            let count = part.filled().len();
            buf.advance(count);
            read
        };
        if read.is_pending() {
            ready!(self.body_alarm.poll(self.body_by, cx));
            self.outcome = Outcome::LateBody;
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read.map_err(|e| self.broken(e))
    }

    /// While the answer is made, notices when the client is gone, so that the work is dropped.
    ///
    /// A reset says so. An end of input does not: a client that has sent its request may close
    /// its side and still want the answer.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.left != Some(0) || self.wire.ended || self.wire.held.len() >= READ_BYTES {
            return Ok(());
        }
        self.wire.held.reserve(READ_BYTES);
        let mut more = std::pin::pin!(self.wire.io.read_buf(&mut self.wire.held));
        match more.as_mut().poll(cx) {
            Poll::Ready(Ok(0)) => self.wire.ended = true,
            // Another look: until the socket has no more, nothing would wake us.
            Poll::Ready(Ok(_)) => cx.waker().wake_by_ref(),
            Poll::Ready(Err(e)) => return Err(self.broken(e)),
            Poll::Pending => {}
        }
        Ok(())
    }

    fn watch_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(written) = written {
            self.stalled_since = None;
            return Poll::Ready(written.map_err(|e| self.broken(e)));
        }
        let now = Instant::now();
        let stalled_since = *self.stalled_since.get_or_insert(now);
        let answering_since = *self.answering_since.get_or_insert(now);
        let by = (stalled_since + self.limits.write_progress)
            .min(answering_since + self.limits.write_total);
        ready!(self.write_alarm.poll(by, cx));
        self.outcome = Outcome::Stalled;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn broken(&mut self, error: io::Error) -> io::Error {
        self.wire.ended = true;
        self.outcome = Outcome::Broken;
        error
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Exchange<'_, IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.left != Some(0) {
            return this.poll_request(cx, buf);
        }
        if this.unsent {
            // An early answer is still on its way; the flush that sends the last of it wakes us.
            return Poll::Pending;
        }
        this.outcome = Outcome::Complete;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Exchange<'_, IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.unsent = true;
        let written = Pin::new(&mut this.wire.io).poll_write(cx, bytes);
        this.watch_write(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.unsent = true;
        let written = Pin::new(&mut this.wire.io).poll_write_vectored(cx, slices);
        this.watch_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.io.is_write_vectored()
    }

    /// hyper calls this whenever it has nothing to write, also while a handler works.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.wire.io).poll_flush(cx);
        ready!(this.watch_write(cx, flushed))?;
        if std::mem::take(&mut this.unsent) && this.left == Some(0) {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(this.poll_client(cx))
    }

    /// The exchange ends here, the connection may go on.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A timer that costs nothing until somebody has to wait.
#[derive(Debug, Default)]
struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    fn poll(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(cx)
    }
}
