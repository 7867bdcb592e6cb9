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

use super::answer::Refusal;
use super::body::{Lent, Rest, drain};
use super::gate::{Exchange, Heard, Outcome, Wire};
use super::head::Framing;
use super::metrics::Metrics;
use crate::lifecycle::Tasks;

/// Connections the system completes for us before we accept them. Linux caps it at `somaxconn`.
const BACKLOG: u32 = 4096;

/// How long to leave a system alone that cannot give us a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often to say so.
const ACCEPT_WARNING_EVERY: Duration = Duration::from_mins(1);

/// Connections over the cap that are being told so; any more are closed without a word.
const MAX_TURNED_AWAY: usize = 256;

/// On a stop, how long a connection that has never sent anything may still send its request:
/// it was opened for one, which may be on its way.
const STOP_GRACE: Duration = Duration::from_millis(250);

/// What a peer may cost us.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections open at a time; one more is answered 503.
    pub max_connections: usize,
    /// Connections open at a time from one source address; one more is answered 503. `None` is
    /// no limit, which is right behind a proxy: there all connections have one address.
    pub max_connections_per_address: Option<usize>,
    /// Longest head of a request, in bytes.
    pub header_bytes: usize,
    /// Most fields in a head.
    pub header_fields: usize,
    /// Longest target of a request, in bytes.
    pub uri_bytes: usize,
    /// From the accept to the first byte.
    pub first_byte: Duration,
    /// From the first byte of a request to the end of its head.
    pub header: Duration,
    /// Between two requests. Longer than nginx's 60 s, so that it is nginx that closes: a
    /// request that meets our close half-way would fail.
    pub idle: Duration,
    /// From the end of the head to the end of the body.
    pub body: Duration,
    /// How long a client may take none of its answer.
    pub write_progress: Duration,
    /// How long it may take over the whole of it.
    pub write_total: Duration,
    /// From the end of the head to the answer; beyond it the answer is 503.
    pub handler: Duration,
    /// How long a client may take to read its last answer before the connection is dropped.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_address: None,
            header_bytes: 16 * 1024,
            header_fields: 64,
            uri_bytes: 4 * 1024,
            first_byte: Duration::from_secs(5),
            header: Duration::from_secs(5),
            idle: Duration::from_secs(75),
            body: Duration::from_secs(10),
            write_progress: Duration::from_secs(10),
            write_total: Duration::from_secs(60),
            handler: Duration::from_secs(20),
            linger: Duration::from_secs(2),
        }
    }
}

/// Who is at the other end of the connection; every request carries it as an extension.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer(pub SocketAddr);

/// Our end of the connection; every request that came over a socket carries it as an extension.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalAddr(pub SocketAddr);

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    peer: Peer,
    local: Option<LocalAddr>,
}

impl From<Peer> for Ends {
    fn from(peer: Peer) -> Self {
        Self { peer, local: None }
    }
}

/// A bound listener.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    limits: Limits,
    metrics: Metrics,
}

impl Server {
    /// Takes the address; connections wait in the backlog until [`Server::run`].
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub fn bind(addr: SocketAddr, limits: Limits) -> io::Result<Self> {
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
        let places = Places {
            served: Arc::new(Semaphore::new(self.limits.max_connections)),
            by_address: self
                .limits
                .max_connections_per_address
                .map(AddressShares::new),
            turned_away: Arc::new(Semaphore::new(MAX_TURNED_AWAY)),
        };
        let host = Host {
            router,
            limits: self.limits,
            metrics: self.metrics,
            tasks: tasks.clone(),
        };
        let host = Arc::new(host);
        let mut stopping = pin!(tasks.stopping());
        let mut warned: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stopping => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => host.welcome(stream, Peer(peer), &places),
                Err(e) if is_the_peers(&e) => {
                    debug!("a connection was gone before it was accepted");
                }
                Err(e) => {
                    host.metrics.accept_failures.inc();
                    // A descriptor comes free now and then, and the next accept fails again.
                    if warned.is_none_or(|at| at.elapsed() >= ACCEPT_WARNING_EVERY) {
                        warned = Some(Instant::now());
                        warn!(error = %e, "cannot accept connections, trying again: {e}");
                    }
                    tokio::select! { () = &mut stopping => break, () = sleep(ACCEPT_PAUSE) => {} }
                }
            }
        }
        // Closing the listener resets those who wait in the backlog; they came in time.
        while let Some(Ok((stream, peer))) = self.listener.accept().now_or_never() {
            host.welcome(stream, Peer(peer), &places);
        }
    }
}

/// An error of one connection, after which the next can be had at once.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

struct Places {
    served: Arc<Semaphore>,
    by_address: Option<AddressShares>,
    turned_away: Arc<Semaphore>,
}

/// What every connection needs.
pub(super) struct Host {
    pub(super) router: Router,
    pub(super) limits: Limits,
    pub(super) metrics: Metrics,
    pub(super) tasks: Tasks,
}

impl Host {
    fn welcome(self: &Arc<Self>, stream: TcpStream, peer: Peer, places: &Places) {
        self.metrics.accepted.inc();
        // Only the answers' latency depends on it.
        drop(stream.set_nodelay(true));
        let ends = Ends {
            peer,
            local: stream.local_addr().ok().map(LocalAddr),
        };
        let host = Arc::clone(self);
        let refusal = match places.take(peer, &self.limits, &self.metrics) {
            Ok(place) => {
                self.tasks.spawn_brief(async move {
                    host.converse(stream, ends).await;
                    drop(place);
                });
                return;
            }
            Err(refusal) => refusal,
        };
        if let Ok(permit) = Arc::clone(&places.turned_away).try_acquire_owned() {
            self.tasks.spawn_brief(async move {
                host.turn_away(stream, refusal).await;
                drop(permit);
            });
        }
    }

    async fn turn_away<IO: AsyncRead + AsyncWrite + Unpin>(&self, io: IO, refusal: Refusal) {
        let mut wire = Wire::new(io);
        wire.refuse(&refusal.retry_after(5), &self.limits).await;
        wire.close(&self.limits).await;
    }

    /// Serves one connection until either side has had enough.
    pub(super) async fn converse<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
        ends: impl Into<Ends>,
    ) {
        let ends = ends.into();
        let peer = ends.peer;
        let mut wire = Wire::new(io);
        let mut stop = pin!(self.tasks.stopping());
        let mut patience = (self.limits.first_byte, STOP_GRACE);
        loop {
            let until = self.out_of_patience(stop.as_mut(), patience);
            let request = match wire.hear(until, &self.limits).await {
                Heard::Request {
                    head_bytes,
                    framing,
                } => (head_bytes, framing),
                Heard::Silence => return,
                Heard::Fault(fault) => {
                    debug!(peer = %peer.0, "refused a request: {fault}");
                    self.metrics.refuse(fault.reason());
                    wire.refuse(&fault.refusal(), &self.limits).await;
                    return wire.close(&self.limits).await;
                }
            };
            match self.exchange(&mut wire, request, ends, stop.as_mut()).await {
                Outcome::Complete => patience = (self.limits.idle, Duration::ZERO),
                Outcome::Last => return wire.close(&self.limits).await,
                Outcome::LateBody => {
                    self.metrics.refuse("body_timed_out");
                    return wire.close(&self.limits).await;
                }
                Outcome::Stalled => {
                    debug!(peer = %peer.0, "cut a client that does not read its answer");
                    return self.metrics.refuse("write_stalled");
                }
                Outcome::Broken => return,
            }
        }
    }

    /// Resolves when a connection has been silent for too long, or `grace` after a stop.
    async fn out_of_patience(
        &self,
        stop: Pin<&mut impl Future<Output = ()>>,
        (patience, grace): (Duration, Duration),
    ) {
        let stopped = async {
            if !self.tasks.is_stopping() {
                stop.await;
            }
            sleep(grace).await;
        };
        // No longer than that either way.
        drop(timeout(patience, stopped).await);
    }

    /// Has hyper serve one request.
    async fn exchange<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        wire: &mut Wire<IO>,
        request: (usize, Framing),
        ends: Ends,
        stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Outcome {
        let mut exchange = Exchange::new(wire, request, &self.limits);
        let stopping = self.tasks.is_stopping();
        let served = {
            let mut hyper = http1::Builder::new();
            hyper
                .half_close(true)
                .header_read_timeout(None)
                .keep_alive(!stopping)
                .max_headers(self.limits.header_fields + 1)
                .max_buf_size(self.limits.header_bytes.max(16 * 1024) * 4);
            let service = service_fn(|request| self.answer(request, ends));
            let mut serving = pin!(hyper.serve_connection(TokioIo::new(&mut exchange), service));
            tokio::select! {
                biased;
                served = serving.as_mut() => served,
                () = stop, if !stopping => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            }
        };
        match (served, exchange.outcome()) {
            (Ok(()), outcome) | (Err(_), outcome @ (Outcome::Stalled | Outcome::Broken)) => outcome,
            (Err(e), _) => {
                debug!(peer = %ends.peer.0, error = %e, "an exchange failed: {e}");
                Outcome::Last
            }
        }
    }

    /// Has the router answer. A response given before the body was read says that the connection
    /// is closed, unless what is left of the body is short and there already.
    async fn answer(&self, request: Request<Incoming>, ends: Ends) -> Result<Response, Infallible> {
        let (head, body) = request.into_parts();
        if body.is_end_stream() {
            return self
                .route(Request::from_parts(head, Body::empty()), ends)
                .await;
        }
        // hyper would send 100 Continue to read a body that nobody wants.
        let is_announced = head.headers.contains_key(EXPECT);
        let (body, rest) = Lent::new(body);
        let mut answer = self
            .route(Request::from_parts(head, Body::new(body)), ends)
            .await?;
        let rest = std::mem::take(&mut *rest.lock().unwrap_or_else(PoisonError::into_inner));
        let is_read = match rest {
            Rest::Read => true,
            Rest::Unread(body) => !is_announced && drain(body).await,
            Rest::Unknown => false,
        };
        if !is_read {
            answer
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(answer)
    }

    /// Has the router answer, in its time and whatever happens inside.
    async fn route(&self, mut request: Request<Body>, ends: Ends) -> Result<Response, Infallible> {
        request.extensions_mut().insert(ends.peer);
        if let Some(local) = ends.local {
            request.extensions_mut().insert(local);
        }
        let method = request.method().clone();
        let answering = AssertUnwindSafe(self.router.clone().oneshot(request)).catch_unwind();
        let refusal = match timeout(self.limits.handler, answering).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(_panic)) => {
                // Neither target nor panic message: both may hold what the client sent.
                error!(%method, "a handler panicked, its {method} request was answered 500");
                self.metrics.panics.inc();
                Refusal::internal()
            }
            Err(_elapsed) => {
                self.metrics.refuse("handler_timed_out");
                let message = format!("no answer within {} s", self.limits.handler.as_secs());
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "TIMED_OUT", message).retry_after(5)
            }
        };
        Ok(refusal.into_response())
    }
}

impl Places {
    /// A place for one connection, or the refusal that its client gets.
    ///
    /// The share of the address comes first: a connection over it must not be counted as one for
    /// which the whole service had no room.
    fn take(&self, peer: Peer, limits: &Limits, metrics: &Metrics) -> Result<Place, Refusal> {
        let refuse = |reason, message| {
            metrics.refuse(reason);
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Refusal::new(status, "TOO_MANY_CONNECTIONS", message)
        };
        let share = match &self.by_address {
            None => None,
            Some(shares) => Some(shares.take(peer.0.ip()).ok_or_else(|| {
                let most = shares.most;
                let message = format!("all {most} connections of one source address are taken");
                refuse("over_address_share", message)
            })?),
        };
        let permit = Arc::clone(&self.served).try_acquire_owned().map_err(|_| {
            let message = format!("all {} connections are taken", limits.max_connections);
            refuse("over_capacity", message)
        })?;
        metrics.connections.inc();
        Ok(Place {
            _permit: permit,
            _share: share,
            connections: metrics.connections.clone(),
        })
    }
}

/// A connection's place under the cap, given back when it is dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
    _share: Option<AddressShare>,
    connections: Gauge,
}

/// Open connections by source address. Holds only addresses with an open connection, so it is no
/// larger than the number of connections.
struct AddressShares {
    most: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl AddressShares {
    fn new(most: usize) -> Self {
        Self {
            most,
            open: Arc::default(),
        }
    }

    fn take(&self, address: IpAddr) -> Option<AddressShare> {
        let network = source_network(address);
        let mut open = lock(&self.open);
        let count = open.entry(network).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(AddressShare {
            network,
            open: Arc::clone(&self.open),
        })
    }
}

/// One connection of a source address, given back when it is dropped.
struct AddressShare {
    network: IpAddr,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Drop for AddressShare {
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

impl Drop for Place {
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
        let shares = AddressShares::new(2);
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = shares.take(one).unwrap();
        let second = shares.take(one).unwrap();
        assert!(shares.take(one).is_none());
        assert!(shares.take(other).is_some());
        drop(first);
        let third = shares.take(one).unwrap();
        assert!(shares.take(one).is_none());
        drop((second, third));
        assert!(lock(&shares.open).is_empty());
    }
}
