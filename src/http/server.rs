//! The listener: accepts, hands each connection to the gate and hyper, and stops in order.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;
use tracing::{debug, error, warn};

use super::body::{BodyRemainder, ReturnableBody, drain};
use super::connection::{BufferedIo, ConnectionOutcome, NextRequest, RequestIo};
use super::error_response::ErrorResponse;
use super::metrics::Metrics;
use super::request_head::Framing;
use crate::lifecycle::Tasks;

/// Connections the system completes for us before we accept them. Linux caps it at `somaxconn`.
const BACKLOG: u32 = 4096;

/// How long to leave a system alone that cannot give us a connection.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// How often to say so.
const ACCEPT_WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// Connections over the cap that are being told so; any more are closed without a word.
const MAX_PENDING_REJECTIONS: usize = 256;

/// On a stop, how long a connection that has never sent anything may still send its request:
/// it was opened for one, which may be on its way.
const STOP_GRACE: Duration = Duration::from_millis(250);

/// What a peer may cost us.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Connections open at a time; one more is answered 503.
    pub max_connections: usize,
    /// Connections open at a time from one source address; one more is answered 503. `None` is
    /// no limit, which is right behind a proxy: there all connections have one address.
    pub max_connections_per_address: Option<usize>,
    /// Longest head of a request, in bytes.
    pub max_header_bytes: usize,
    /// Most fields in a head.
    pub max_header_fields: usize,
    /// Longest target of a request, in bytes.
    pub max_uri_bytes: usize,
    /// From the accept to the first byte.
    pub first_byte_timeout: Duration,
    /// From the first byte of a request to the end of its head.
    pub header_timeout: Duration,
    /// Between two requests. Longer than nginx's 60 s, so that it is nginx that closes: a
    /// request that meets our close half-way would fail.
    pub idle_timeout: Duration,
    /// From the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// How long a client may take none of its answer.
    pub write_progress_timeout: Duration,
    /// How long it may take over the whole of it.
    pub write_total_timeout: Duration,
    /// From the end of the head to the answer; beyond it the answer is 503.
    pub handler_timeout: Duration,
    /// How long a client may take to read its last answer before the connection is dropped.
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

/// Who is at the other end of the connection; every request carries it as an extension.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerAddr(pub SocketAddr);

/// Our end of the connection; every request that came over a socket carries it as an extension.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalAddr(pub SocketAddr);

/// Both ends of a connection.
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

/// A bound listener.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    limits: ServerLimits,
    metrics: Metrics,
}

impl HttpServer {
    /// Takes the address; connections wait in the backlog until [`Server::run`].
    ///
    /// # Errors
    /// The address is taken or not ours.
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

    /// Where it listens, with the port the system chose if 0 was asked for.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The listener's counters.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Serves until the tasks are told to stop, then returns; the connections finish the
    /// requests they have in hand, as tasks that [`Tasks::ended`] waits for.
    ///
    /// A connection over the cap is answered 503 rather than left in the backlog: its client
    /// learns at once, the operator sees it counted, and the next one meets a short queue.
    pub async fn run(self, router: Router, tasks: Tasks) {
        let slots = ConnectionSlots {
            connection_permits: Arc::new(Semaphore::new(self.limits.max_connections)),
            by_address: self
                .limits
                .max_connections_per_address
                .map(AddressSlots::new),
            rejection_permits: Arc::new(Semaphore::new(MAX_PENDING_REJECTIONS)),
        };
        let state = ServerState {
            router,
            limits: self.limits,
            metrics: self.metrics,
            tasks: tasks.clone(),
        };
        let state = Arc::new(state);
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
                    debug!("a connection was gone before it was accepted");
                }
                Err(e) => {
                    state.metrics.accept_failures.inc();
                    // A descriptor comes free now and then, and the next accept fails again.
                    if last_warning.is_none_or(|at| at.elapsed() >= ACCEPT_WARNING_INTERVAL) {
                        last_warning = Some(Instant::now());
                        warn!(error = %e, "cannot accept connections, trying again: {e}");
                    }
                    tokio::select! { () = &mut stopping => break, () = sleep(ACCEPT_RETRY_DELAY) => {} }
                }
            }
        }
        // Closing the listener resets those who wait in the backlog; they came in time.
        while let Some(Ok((stream, peer))) = self.listener.accept().now_or_never() {
            state.accept(stream, PeerAddr(peer), &slots);
        }
    }
}

/// An error of one connection, after which the next can be had at once.
fn is_peer_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

struct ConnectionSlots {
    connection_permits: Arc<Semaphore>,
    by_address: Option<AddressSlots>,
    rejection_permits: Arc<Semaphore>,
}

/// What every connection needs.
pub(super) struct ServerState {
    pub(super) router: Router,
    pub(super) limits: ServerLimits,
    pub(super) metrics: Metrics,
    pub(super) tasks: Tasks,
}

impl ServerState {
    fn accept(self: &Arc<Self>, stream: TcpStream, peer: PeerAddr, slots: &ConnectionSlots) {
        self.metrics.accepted.inc();
        // Only the answers' latency depends on it.
        drop(stream.set_nodelay(true));
        let addrs = ConnectionAddrs {
            peer,
            local: stream.local_addr().ok().map(LocalAddr),
        };
        let state = Arc::clone(self);
        let error = match slots.acquire(peer, &self.limits, &self.metrics) {
            Ok(slot) => {
                self.tasks.spawn_short_lived(async move {
                    state.serve_connection(stream, addrs).await;
                    drop(slot);
                });
                return;
            }
            Err(error) => error,
        };
        if let Ok(permit) = Arc::clone(&slots.rejection_permits).try_acquire_owned() {
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

    /// Serves one connection until either side has had enough.
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
                    debug!(peer = %peer.0, "refused a request: {error}");
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
                    wait_limits = (self.limits.idle_timeout, Duration::ZERO)
                }
                ConnectionOutcome::Close => return connection.close(&self.limits).await,
                ConnectionOutcome::BodyTimedOut => {
                    self.metrics.count_refused("body_timed_out");
                    return connection.close(&self.limits).await;
                }
                ConnectionOutcome::WriteStalled => {
                    debug!(peer = %peer.0, "cut a client that does not read its answer");
                    return self.metrics.count_refused("write_stalled");
                }
                ConnectionOutcome::Broken => return,
            }
        }
    }

    /// Resolves when a connection has been silent for too long, or `grace` after a stop.
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
        // No longer than that either way.
        drop(timeout(idle_timeout, stopped).await);
    }

    /// Has hyper serve one request.
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
                debug!(peer = %addrs.peer.0, error = %e, "an exchange failed: {e}");
                ConnectionOutcome::Close
            }
        }
    }

    /// Has the router answer. A response given before the body was read says that the connection
    /// is closed, unless what is left of the body is short and there already.
    async fn handle_request(
        &self,
        request: Request<Incoming>,
        addrs: ConnectionAddrs,
    ) -> Result<Response, Infallible> {
        let (head, body) = request.into_parts();
        if body.is_end_stream() {
            return self
                .call_router(Request::from_parts(head, Body::empty()), addrs)
                .await;
        }
        // hyper would send 100 Continue to read a body that nobody wants.
        let expects_continue = head.headers.contains_key(EXPECT);
        let (body, remainder) = ReturnableBody::new(body);
        let mut response = self
            .call_router(Request::from_parts(head, Body::new(body)), addrs)
            .await?;
        let remainder =
            std::mem::take(&mut *remainder.lock().unwrap_or_else(PoisonError::into_inner));
        let is_consumed = match remainder {
            BodyRemainder::Consumed => true,
            BodyRemainder::Unconsumed(body) => !expects_continue && drain(body).await,
            BodyRemainder::Unknown => false,
        };
        if !is_consumed {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    /// Has the router answer, in its time and whatever happens inside.
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
                // Neither target nor panic message: both may hold what the client sent.
                error!(%method, "a handler panicked, its {method} request was answered 500");
                self.metrics.panics.inc();
                ErrorResponse::internal()
            }
            Err(_elapsed) => {
                self.metrics.count_refused("handler_timed_out");
                let message = format!(
                    "no answer within {} s",
                    self.limits.handler_timeout.as_secs()
                );
                ErrorResponse::new(StatusCode::SERVICE_UNAVAILABLE, "TIMED_OUT", message)
                    .with_retry_after(5)
            }
        };
        Ok(error.into_response())
    }
}

impl ConnectionSlots {
    /// A place for one connection, or the refusal that its client gets.
    ///
    /// The share of the address comes first: a connection over it must not be counted as one for
    /// which the whole service had no room.
    fn acquire(
        &self,
        peer: PeerAddr,
        limits: &ServerLimits,
        metrics: &Metrics,
    ) -> Result<ConnectionSlot, ErrorResponse> {
        let reject = |reason, message| {
            metrics.count_refused(reason);
            let status = StatusCode::SERVICE_UNAVAILABLE;
            ErrorResponse::new(status, "TOO_MANY_CONNECTIONS", message)
        };
        let address_slot = match &self.by_address {
            None => None,
            Some(address_slots) => Some(address_slots.acquire(peer.0.ip()).ok_or_else(|| {
                let max_per_address = address_slots.max_per_address;
                let message =
                    format!("all {max_per_address} connections of one source address are taken");
                reject("over_address_share", message)
            })?),
        };
        let permit = Arc::clone(&self.connection_permits)
            .try_acquire_owned()
            .map_err(|_| {
                let message = format!("all {} connections are taken", limits.max_connections);
                reject("over_capacity", message)
            })?;
        metrics.connections.inc();
        Ok(ConnectionSlot {
            _permit: permit,
            _address_slot: address_slot,
            connections: metrics.connections.clone(),
        })
    }
}

/// A connection's place under the cap, given back when it is dropped.
struct ConnectionSlot {
    _permit: OwnedSemaphorePermit,
    _address_slot: Option<AddressSlot>,
    connections: Gauge,
}

/// Open connections by source address. Holds only addresses with an open connection, so it is no
/// larger than the number of connections.
struct AddressSlots {
    max_per_address: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl AddressSlots {
    fn new(max_per_address: usize) -> Self {
        Self {
            max_per_address,
            open: Arc::default(),
        }
    }

    fn acquire(&self, address: IpAddr) -> Option<AddressSlot> {
        let network = source_network(address);
        let mut open = lock(&self.open);
        let count = open.entry(network).or_default();
        if *count >= self.max_per_address {
            return None;
        }
        *count += 1;
        Some(AddressSlot {
            network,
            open: Arc::clone(&self.open),
        })
    }
}

/// One connection of a source address, given back when it is dropped.
struct AddressSlot {
    network: IpAddr,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What counts as one source: an IPv4 address, or the /64 network that one IPv6 customer has.
fn source_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_is_an_ipv4_address_or_an_ipv6_network() {
        for (one, other, is_same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        ] {
            let network = |text: &str| source_network(text.parse().unwrap());
            assert_eq!(network(one) == network(other), is_same, "{one} {other}");
        }
    }

    #[test]
    fn a_share_is_given_back_and_its_entry_removed() {
        let slots = AddressSlots::new(2);
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = slots.acquire(one).unwrap();
        let second = slots.acquire(one).unwrap();
        assert!(slots.acquire(one).is_none());
        assert!(slots.acquire(other).is_some());
        drop(first);
        let third = slots.acquire(one).unwrap();
        assert!(slots.acquire(one).is_none());
        drop((second, third));
        assert!(lock(&slots.open).is_empty());
    }
}
