//! HTTP listener: accepts connections, serves each one through hyper, and stops gracefully.
//!
//! It enforces the timeouts of [`ServerLimits`], catches panics of handlers, and decides after
//! each response if the connection stays open.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lifecycle::Tasks;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;
use tracing::{debug, error, warn};

use super::body::{BodyRemainder, ReturnableBody, drain};
use super::connection::{BufferedIo, ConnectionOutcome, NextRequest, RequestIo};
use super::connection_slots::ConnectionSlots;
use super::error_response::ErrorResponse;
use super::metrics::Metrics;
use super::request_head::Framing;
use super::server_limits::ServerLimits;

/// Connections that the system completes before they are accepted. Linux caps it at `somaxconn`.
const BACKLOG: u32 = 4096;

/// Pause after a failed accept.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Shortest time between two warnings about failed accepts.
const ACCEPT_WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// Time during a stop in which a connection that has sent nothing yet may send its first request,
/// which may already be on its way.
const STOP_GRACE: Duration = Duration::from_millis(250);

/// Address of the client. Every request carries it as an extension.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerAddr(pub SocketAddr);

/// Local address of the connection. Every request from a socket carries it as an extension.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalAddr(pub SocketAddr);

/// Addresses of both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionAddrs {
    peer: PeerAddr,
    local: Option<LocalAddr>,
}

impl From<PeerAddr> for ConnectionAddrs {
    fn from(peer: PeerAddr) -> Self {
        Self { peer, local: None }
    }
}

/// Bound listener that does not accept connections yet.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    limits: ServerLimits,
    metrics: Metrics,
}

impl HttpServer {
    /// Binds the address. Connections wait in the backlog until [`HttpServer::run`].
    ///
    /// # Errors
    /// The address is in use or does not belong to this machine.
    pub fn bind(addr: SocketAddr, limits: ServerLimits) -> io::Result<Self> {
        let socket = if addr.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        Ok(Self {
            listener: socket.listen(BACKLOG)?,
            limits,
            metrics: Metrics::default(),
        })
    }

    /// Returns the bound address, with the real port if port 0 was configured.
    ///
    /// # Errors
    /// The system cannot report the address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns the metrics of the listener.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Serves until `tasks` stops, then returns. Connections finish their current requests as
    /// tasks that [`Tasks::ended`] waits for.
    ///
    /// A connection over the limit is answered with 503 instead of waiting in the backlog. So its
    /// client learns at once, the operator sees the count, and the backlog stays short.
    pub async fn run(self, router: Router, tasks: Tasks) {
        let slots = ConnectionSlots::new(&self.limits);
        let state = Arc::new(ServerState {
            router,
            limits: self.limits,
            metrics: self.metrics,
            tasks: tasks.clone(),
        });
        let mut stopping = pin!(tasks.stopping());
        let mut last_warning: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stopping => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => state.accept(stream, PeerAddr(peer), &slots),
                Err(e) if is_peer_error(&e) => {
                    debug!("client disconnected before its connection was accepted");
                }
                Err(e) => {
                    state.metrics.accept_failures.inc();
                    // A file descriptor may become free between two failures, so a success does
                    // not end the pause between warnings.
                    if last_warning.is_none_or(|at| at.elapsed() >= ACCEPT_WARNING_INTERVAL) {
                        last_warning = Some(Instant::now());
                        warn!(error = %e, "failed to accept a connection, will retry: {e}");
                    }
                    tokio::select! { () = &mut stopping => break, () = sleep(ACCEPT_RETRY_DELAY) => {} }
                }
            }
        }
        // Closing the listener resets connections in the backlog, which arrived before the stop.
        while let Some(Ok((stream, peer))) = self.listener.accept().now_or_never() {
            state.accept(stream, PeerAddr(peer), &slots);
        }
    }
}

/// Returns true if an accept failed because of its client, so that the next accept needs no pause.
fn is_peer_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// State shared by all connections of a listener.
pub(super) struct ServerState {
    pub(super) router: Router,
    pub(super) limits: ServerLimits,
    pub(super) metrics: Metrics,
    pub(super) tasks: Tasks,
}

impl ServerState {
    fn accept(self: &Arc<Self>, stream: TcpStream, peer: PeerAddr, slots: &ConnectionSlots) {
        self.metrics.accepted.inc();
        // A failure only adds latency to responses.
        drop(stream.set_nodelay(true));
        let addrs = ConnectionAddrs {
            peer,
            local: stream.local_addr().ok().map(LocalAddr),
        };
        let state = Arc::clone(self);
        let error = match slots.acquire(peer, &self.limits, &self.metrics) {
            Err(error) => error,
            Ok(slot) => {
                return self.tasks.spawn_short_lived(async move {
                    state.serve_connection(stream, addrs).await;
                    drop(slot);
                });
            }
        };
        if let Some(permit) = slots.acquire_rejection() {
            self.tasks.spawn_short_lived(async move {
                state.reject_over_capacity(stream, error).await;
                drop(permit);
            });
        }
    }

    async fn reject_over_capacity<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
        error: ErrorResponse,
    ) {
        let mut connection = BufferedIo::new(io);
        connection
            .send_error(&error.with_retry_after(5), &self.limits)
            .await;
        connection.close(&self.limits).await;
    }

    /// Serves one connection until it closes or times out.
    pub(super) async fn serve_connection<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
        addrs: impl Into<ConnectionAddrs>,
    ) {
        let addrs = addrs.into();
        let peer = addrs.peer;
        let mut connection = BufferedIo::new(io);
        let mut stop = pin!(self.tasks.stopping());
        let mut wait_limits = (self.limits.first_byte_timeout, STOP_GRACE);
        loop {
            let idle_deadline = self.idle_deadline(stop.as_mut(), wait_limits);
            let request = match connection.next_request(idle_deadline, &self.limits).await {
                NextRequest::Request {
                    head_bytes,
                    framing,
                } => (head_bytes, framing),
                NextRequest::Closed => return,
                NextRequest::Invalid(error) => {
                    debug!(peer = %peer.0, "rejected a request: {error}");
                    self.metrics.count_refused(error.reason());
                    connection.send_error(&error.response(), &self.limits).await;
                    return connection.close(&self.limits).await;
                }
            };
            match self
                .serve_request(&mut connection, request, addrs, stop.as_mut())
                .await
            {
                ConnectionOutcome::KeepAlive => {
                    wait_limits = (self.limits.idle_timeout, Duration::ZERO);
                }
                ConnectionOutcome::Close => return connection.close(&self.limits).await,
                ConnectionOutcome::BodyTimedOut => {
                    self.metrics.count_refused("body_timed_out");
                    return connection.close(&self.limits).await;
                }
                ConnectionOutcome::WriteStalled => {
                    debug!(peer = %peer.0, "closed a connection whose client does not read its response");
                    return self.metrics.count_refused("write_stalled");
                }
                ConnectionOutcome::Broken => return,
            }
        }
    }

    /// Resolves when the idle timeout passes, or `grace` after a stop.
    async fn idle_deadline(
        &self,
        stop: Pin<&mut impl Future<Output = ()>>,
        (idle_timeout, grace): (Duration, Duration),
    ) {
        let stopped = async {
            if !self.tasks.is_stopping() {
                stop.await;
            }
            sleep(grace).await;
        };
        // The idle timeout also limits the grace period.
        drop(timeout(idle_timeout, stopped).await);
    }

    /// Serves one request through hyper.
    async fn serve_request<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        connection: &mut BufferedIo<IO>,
        request: (usize, Framing),
        addrs: ConnectionAddrs,
        stop: Pin<&mut impl Future<Output = ()>>,
    ) -> ConnectionOutcome {
        let mut request_io = RequestIo::new(connection, request, &self.limits);
        let is_stopping = self.tasks.is_stopping();
        let result = {
            let mut builder = http1::Builder::new();
            builder
                .half_close(true)
                .header_read_timeout(None)
                .keep_alive(!is_stopping)
                .max_headers(self.limits.max_header_fields + 1)
                .max_buf_size(self.limits.max_header_bytes.max(16 * 1024) * 4);
            let service = service_fn(|request| self.handle_request(request, addrs));
            let mut hyper_connection =
                pin!(builder.serve_connection(TokioIo::new(&mut request_io), service));
            tokio::select! {
                biased;
                result = hyper_connection.as_mut() => result,
                () = stop, if !is_stopping => {
                    hyper_connection.as_mut().graceful_shutdown();
                    hyper_connection.await
                }
            }
        };
        match (result, request_io.outcome()) {
            (Ok(()), outcome)
            | (Err(_), outcome @ (ConnectionOutcome::WriteStalled | ConnectionOutcome::Broken)) => {
                outcome
            }
            (Err(e), _) => {
                debug!(peer = %addrs.peer.0, error = %e, "failed to serve a request: {e}");
                ConnectionOutcome::Close
            }
        }
    }

    /// Calls the router. If the response came before the body was read, the connection closes,
    /// unless the rest of the body is short and has already arrived.
    async fn handle_request(
        &self,
        request: Request<Incoming>,
        addrs: ConnectionAddrs,
    ) -> Result<Response, Infallible> {
        let (head, body) = request.into_parts();
        if body.is_end_stream() {
            let request = Request::from_parts(head, Body::empty());
            return self.call_router(request, addrs).await;
        }
        // Draining such a body would make hyper send 100 Continue for a body that is not needed.
        let expects_continue = head.headers.contains_key(EXPECT);
        let (body, remainder) = ReturnableBody::new(body);
        let request = Request::from_parts(head, Body::new(body));
        let mut response = self.call_router(request, addrs).await?;
        let remainder = std::mem::take(&mut *remainder.lock());
        let is_consumed = match remainder {
            BodyRemainder::Consumed => true,
            BodyRemainder::Unconsumed(body) => !expects_continue && drain(body).await,
            BodyRemainder::Unknown => false,
        };
        if !is_consumed {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        Ok(response)
    }

    /// Calls the router with a timeout, and catches panics of handlers.
    async fn call_router(
        &self,
        mut request: Request<Body>,
        addrs: ConnectionAddrs,
    ) -> Result<Response, Infallible> {
        request.extensions_mut().insert(addrs.peer);
        if let Some(local) = addrs.local {
            request.extensions_mut().insert(local);
        }
        let method = request.method().clone();
        let handling = AssertUnwindSafe(self.router.clone().oneshot(request)).catch_unwind();
        let error = match timeout(self.limits.handler_timeout, handling).await {
            Ok(Ok(response)) => return response,
            Ok(Err(_panic)) => {
                // Neither the target nor the panic message is logged: both may contain client data.
                error!(%method, "a request handler panicked, its {method} request got status 500");
                self.metrics.panics.inc();
                ErrorResponse::internal()
            }
            Err(_elapsed) => {
                self.metrics.count_refused("handler_timed_out");
                let seconds = self.limits.handler_timeout.as_secs();
                let message = format!("the request was not handled within {seconds} s");
                ErrorResponse::new(StatusCode::SERVICE_UNAVAILABLE, "TIMED_OUT", message)
                    .with_retry_after(5)
            }
        };
        Ok(error.into_response())
    }
}
