//! I/O layer between a socket and hyper: reads and validates each request head, then shows hyper
//! exactly one request.
//!
//! hyper uses its head timeout as the keep-alive timeout too, has no timeouts for bodies and
//! responses, and starts the next request before the last response is sent. Here each phase has
//! its own timeout, and bytes after a request stay in [`BufferedIo`] until the request is answered.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, timeout, timeout_at};

use super::chunk_validator::{ChunkError, ChunkValidator};
use super::error_response::ErrorResponse;
use super::request_head::{self, Framing, HeadError, HeadScanner};
use super::server_limits::ServerLimits;

/// Buffer size for one read, in bytes. The head of a typical Market request fits.
const READ_BYTES: usize = 4 * 1024;

/// Connection with a buffer of bytes that were read ahead.
#[derive(Debug)]
pub(super) struct BufferedIo<IO> {
    io: IO,
    buffer: BytesMut,
    is_eof: bool,
}

/// Result of waiting for a request head.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum NextRequest {
    /// A valid head and the framing of its body.
    Request { head_bytes: usize, framing: Framing },
    /// The connection ended or the idle timeout passed. No client waits for a response.
    Closed,
    /// A request that must be rejected.
    Invalid(HeadError),
}

impl<IO: AsyncRead + AsyncWrite + Unpin> BufferedIo<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
            is_eof: false,
        }
    }

    /// Waits for the next request until `idle_deadline` resolves, and then for its complete head
    /// until [`ServerLimits::header_timeout`].
    pub(super) async fn next_request(
        &mut self,
        idle_deadline: impl Future<Output = ()>,
        limits: &ServerLimits,
    ) -> NextRequest {
        if self.buffer.is_empty() {
            tokio::select! {
                // Bytes that have arrived count, even if the deadline passes at the same moment.
                biased;
                more = self.read_more() => if !more { return NextRequest::Closed },
                () = idle_deadline => return NextRequest::Closed,
            }
        }
        let deadline = Instant::now() + limits.header_timeout;
        match timeout_at(deadline, self.read_head(limits)).await {
            Ok(Ok(Some((head_bytes, framing)))) => NextRequest::Request {
                head_bytes,
                framing,
            },
            Ok(Ok(None)) => NextRequest::Closed,
            Ok(Err(error)) => NextRequest::Invalid(error),
            Err(_elapsed) => NextRequest::Invalid(HeadError::TimedOut),
        }
    }

    /// Sends the response to a rejected request.
    pub(super) async fn send_error(&mut self, error: &ErrorResponse, limits: &ServerLimits) {
        // A HEAD request must get a response without a body. The method comes first in the head,
        // so an error within the method leaves it unknown.
        let response = error.to_http_bytes(self.buffer.starts_with(b"HEAD "));
        let sending = async {
            self.io.write_all(&response).await?;
            self.io.flush().await
        };
        // A failure is ignored: a client that does not read its error response is gone.
        drop(timeout(limits.write_progress_timeout, sending).await);
    }

    /// Closes the connection so that the client can still read the last response. Closing a socket
    /// with unread input resets it, and a reset discards data that the client has not read yet.
    pub(super) async fn close(mut self, limits: &ServerLimits) {
        let lingering = async {
            if self.io.shutdown().await.is_err() {
                return;
            }
            while !self.is_eof {
                self.buffer.clear();
                self.read_more().await;
            }
        };
        drop(timeout(limits.linger_timeout, lingering).await);
    }

    async fn read_head(
        &mut self,
        limits: &ServerLimits,
    ) -> Result<Option<(usize, Framing)>, HeadError> {
        // RFC 9112, section 2.2: a server should ignore one empty line before the request line,
        // because old clients send one after a POST body.
        while self.buffer.starts_with(b"\r") && self.buffer.len() < 2 {
            if !self.read_more().await {
                return Ok(None);
            }
        }
        if self.buffer.starts_with(b"\r\n") {
            self.buffer.advance(2);
        }
        let mut scanner = HeadScanner::default();
        loop {
            if let Some(end) = scanner.find_end(&self.buffer, limits)? {
                let framing = request_head::validate(&self.buffer[..end], limits)?;
                return Ok(Some((self.close_after_chunked(end, framing), framing)));
            }
            if !self.read_more().await {
                return Ok(None);
            }
        }
    }

    /// Appends `connection: close` to the head of a chunked request. Only hyper knows where a chunked
    /// body ends, so a pipelined request after it could not be held back.
    fn close_after_chunked(&mut self, end: usize, framing: Framing) -> usize {
        const CLOSE: &[u8] = b"connection: close\r\n\r\n";
        if framing != Framing::Chunked {
            return end;
        }
        let rest = self.buffer.split_off(end);
        self.buffer.truncate(end - 2);
        self.buffer.extend_from_slice(CLOSE);
        self.buffer.unsplit(rest);
        end - 2 + CLOSE.len()
    }

    /// Returns true if more bytes arrived. A broken connection counts as ended.
    async fn read_more(&mut self) -> bool {
        self.buffer.reserve(READ_BYTES);
        let read = self.io.read_buf(&mut self.buffer).await;
        self.is_eof = !matches!(read, Ok(1..));
        !self.is_eof
    }
}

/// State of the connection after one request and its response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ConnectionOutcome {
    /// The request was read and its response sent. Another request may follow.
    KeepAlive,
    /// The response was sent, but no other request can follow.
    Close,
    /// The response was sent after the body had missed its deadline.
    BodyTimedOut,
    /// The client does not read its response.
    WriteStalled,
    /// The connection broke.
    Broken,
}

/// One request and its response, shown to hyper as a connection that ends after the request.
///
/// hyper must allow half-close. It then reads only when it needs bytes of a head or a body. So a
/// read beyond the request means that hyper has finished it: [`ConnectionOutcome::KeepAlive`].
#[derive(Debug)]
pub(super) struct RequestIo<'a, IO> {
    connection: &'a mut BufferedIo<IO>,
    limits: &'a ServerLimits,
    /// Bytes of this request that hyper may still read; `None` if the body is chunked.
    unread_bytes: Option<u64>,
    /// Validator of the chunked framing; `None` if the body is not chunked.
    chunk_validator: Option<ChunkValidator>,
    chunk_error: Option<ChunkError>,
    body_deadline: Instant,
    body_timer: LazyTimer,
    /// Start of the current pause in which the client reads none of its response.
    stalled_since: Option<Instant>,
    /// First time that a write had to wait.
    responding_since: Option<Instant>,
    write_timer: LazyTimer,
    /// True if bytes were written that are not flushed yet.
    is_unflushed: bool,
    outcome: ConnectionOutcome,
}

impl<'a, IO: AsyncRead + AsyncWrite + Unpin> RequestIo<'a, IO> {
    pub(super) fn new(
        connection: &'a mut BufferedIo<IO>,
        (head_bytes, framing): (usize, Framing),
        limits: &'a ServerLimits,
    ) -> Self {
        let unread_bytes = match framing {
            Framing::Length(body_bytes) => {
                Some(body_bytes.saturating_add(u64::try_from(head_bytes).unwrap_or(u64::MAX)))
            }
            Framing::Chunked => None,
        };
        let chunk_validator =
            (framing == Framing::Chunked).then(|| ChunkValidator::after_head(head_bytes));
        Self {
            connection,
            limits,
            unread_bytes,
            chunk_validator,
            chunk_error: None,
            body_deadline: Instant::now() + limits.body_timeout,
            body_timer: LazyTimer::default(),
            stalled_since: None,
            responding_since: None,
            write_timer: LazyTimer::default(),
            is_unflushed: false,
            outcome: ConnectionOutcome::Close,
        }
    }

    pub(super) fn outcome(&self) -> ConnectionOutcome {
        self.outcome
    }

    fn poll_read_request(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let max_bytes = match self.unread_bytes {
            Some(unread_bytes) => buf
                .remaining()
                .min(usize::try_from(unread_bytes).unwrap_or(usize::MAX)),
            None => buf.remaining(),
        };
        if let Some(error) = self.chunk_error {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        let capacity_before = buf.remaining();
        if !self.connection.buffer.is_empty() {
            let copied = max_bytes.min(self.connection.buffer.len());
            buf.put_slice(&self.connection.buffer[..copied]);
            self.connection.buffer.advance(copied);
        } else if !self.connection.is_eof {
            ready!(self.poll_read_socket(cx, buf, max_bytes))?;
            self.connection.is_eof = buf.remaining() == capacity_before;
        }
        if let Some(validator) = &mut self.chunk_validator {
            let filled = buf.filled().len();
            let start = filled - (capacity_before - buf.remaining());
            let piece = &buf.filled()[start..];
            if let Err((valid_bytes, error)) = validator.check(piece) {
                // Bytes before the error are delivered first: they may contain the head.
                buf.set_filled(start + valid_bytes);
                self.chunk_error = Some(error);
                if valid_bytes == 0 {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            }
        }
        if let Some(unread_bytes) = &mut self.unread_bytes {
            *unread_bytes -= u64::try_from(capacity_before - buf.remaining()).unwrap_or(u64::MAX);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read_socket(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        max_bytes: usize,
    ) -> Poll<io::Result<()>> {
        let io = Pin::new(&mut self.connection.io);
        let read = if max_bytes == buf.remaining() {
            io.poll_read(cx, buf)
        } else {
            let mut limited_buf = ReadBuf::new(buf.initialize_unfilled_to(max_bytes));
            let read = io.poll_read(cx, &mut limited_buf);
            let count = limited_buf.filled().len();
            buf.advance(count);
            read
        };
        if read.is_pending() {
            ready!(self.body_timer.poll(self.body_deadline, cx));
            self.outcome = ConnectionOutcome::BodyTimedOut;
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read.map_err(|e| self.mark_broken(e))
    }

    /// Detects during the handler's work that the client has disconnected, so that the work is
    /// dropped.
    ///
    /// A reset means that the client is gone. An end of input does not: a client may close its side
    /// after the request and still read the response.
    fn poll_disconnect(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.unread_bytes != Some(0)
            || self.connection.is_eof
            || self.connection.buffer.len() >= READ_BYTES
        {
            return Ok(());
        }
        self.connection.buffer.reserve(READ_BYTES);
        let mut more = std::pin::pin!(self.connection.io.read_buf(&mut self.connection.buffer));
        match more.as_mut().poll(cx) {
            Poll::Ready(Ok(0)) => self.connection.is_eof = true,
            // Poll again: nothing wakes this task until the socket has been read empty.
            Poll::Ready(Ok(_)) => cx.waker().wake_by_ref(),
            Poll::Ready(Err(e)) => return Err(self.mark_broken(e)),
            Poll::Pending => {}
        }
        Ok(())
    }

    fn track_write_progress<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(written) = written {
            self.stalled_since = None;
            return Poll::Ready(written.map_err(|e| self.mark_broken(e)));
        }
        let now = Instant::now();
        let stalled_since = *self.stalled_since.get_or_insert(now);
        let responding_since = *self.responding_since.get_or_insert(now);
        let deadline = (stalled_since + self.limits.write_progress_timeout)
            .min(responding_since + self.limits.write_total_timeout);
        ready!(self.write_timer.poll(deadline, cx));
        self.outcome = ConnectionOutcome::WriteStalled;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn mark_broken(&mut self, error: io::Error) -> io::Error {
        self.connection.is_eof = true;
        self.outcome = ConnectionOutcome::Broken;
        error
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for RequestIo<'_, IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.unread_bytes != Some(0) {
            return this.poll_read_request(cx, buf);
        }
        if this.is_unflushed {
            // An early response is still being sent; the flush of its last bytes wakes this task.
            return Poll::Pending;
        }
        this.outcome = ConnectionOutcome::KeepAlive;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for RequestIo<'_, IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.is_unflushed = true;
        let written = Pin::new(&mut this.connection.io).poll_write(cx, bytes);
        this.track_write_progress(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.is_unflushed = true;
        let written = Pin::new(&mut this.connection.io).poll_write_vectored(cx, slices);
        this.track_write_progress(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.io.is_write_vectored()
    }

    /// hyper calls this whenever it has nothing to write, also while a handler works.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.connection.io).poll_flush(cx);
        ready!(this.track_write_progress(cx, flushed))?;
        if std::mem::take(&mut this.is_unflushed) && this.unread_bytes == Some(0) {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(this.poll_disconnect(cx))
    }

    /// Does nothing: the request ends here, but the connection may continue.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Timer that allocates nothing until the first wait.
#[derive(Debug, Default)]
struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    }
}
