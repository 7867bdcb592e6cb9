//! Network link to a database that falls silent or is slow when a test says so.
//!
//! Unlike a closed connection, a silent one stays open for ever: neither end learns anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// Link with an address of its own, ended when it is dropped.
pub(crate) struct NetworkLink {
    address: SocketAddr,
    state: Arc<LinkState>,
    accepting: AbortHandle,
}

#[derive(Default)]
struct LinkState {
    /// Number of the next connection.
    next: AtomicU64,
    /// Connections with a lower number are silent.
    silent_before: AtomicU64,
    /// Text of a request after which its connection is silent.
    last_request: Mutex<Option<&'static str>>,
    is_last_request_sent: AtomicBool,
    /// Delay of every response.
    latency: Duration,
}

/// One connection of the link.
#[derive(Clone)]
struct LinkConnection {
    number: u64,
    is_silent: Arc<AtomicBool>,
    state: Arc<LinkState>,
}

impl NetworkLink {
    /// Starts a link to the target.
    pub(crate) async fn start(target: SocketAddr, latency: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(LinkState {
            latency,
            ..LinkState::default()
        });
        let accepting = tokio::spawn(accept(listener, target, Arc::clone(&state)));
        Self {
            address,
            state,
            accepting: accepting.abort_handle(),
        }
    }

    /// Returns the address of a database, by way of this link.
    pub(crate) fn url(&self, target: SocketAddr, url: &str) -> String {
        url.replace(&target.to_string(), &self.address.to_string())
    }

    /// Makes all present connections silent. New ones pass.
    pub(crate) fn silence(&self) {
        let next = self.state.next.load(Ordering::Acquire);
        self.state.silent_before.store(next, Ordering::Release);
    }

    /// Makes the connection silent on which the next request with this text passes.
    pub(crate) fn silence_after(&self, text: &'static str) {
        *self.state.last_request.lock() = Some(text);
    }

    /// Returns true if the request of [`NetworkLink::silence_after`] has passed.
    pub(crate) fn is_last_request_sent(&self) -> bool {
        self.state.is_last_request_sent.load(Ordering::Acquire)
    }
}

impl Drop for NetworkLink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl LinkConnection {
    fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Acquire)
            || self.number < self.state.silent_before.load(Ordering::Acquire)
    }

    /// Notes that a request passes.
    fn pass_request(&self, request: &[u8]) {
        let mut last = self.state.last_request.lock();
        let Some(text) = *last else { return };
        if request
            .windows(text.len())
            .any(|part| part == text.as_bytes())
        {
            *last = None;
            self.is_silent.store(true, Ordering::Release);
            self.state
                .is_last_request_sent
                .store(true, Ordering::Release);
        }
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, state: Arc<LinkState>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        let connection = LinkConnection {
            number: state.next.fetch_add(1, Ordering::AcqRel),
            is_silent: Arc::default(),
            state: Arc::clone(&state),
        };
        tokio::spawn(async move {
            // The client sees a closed connection, as it would without the link.
            if let Ok(server) = TcpStream::connect(target).await
                && client.set_nodelay(true).is_ok()
                && server.set_nodelay(true).is_ok()
            {
                pass(client, server, connection).await;
            }
        });
    }
}

async fn pass(client: TcpStream, server: TcpStream, connection: LinkConnection) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let requests = copy((from_client, to_server), (connection.clone(), true));
    let responses = copy((from_server, to_client), (connection, false));
    tokio::join!(requests, responses);
}

async fn copy(
    (mut from, mut to): (OwnedReadHalf, OwnedWriteHalf),
    (connection, is_request): (LinkConnection, bool),
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if connection.is_silent() {
            continue;
        }
        if is_request {
            connection.pass_request(&buffer[..count]);
        } else {
            sleep(connection.state.latency).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    // The end of a silent connection does not pass either.
    if connection.is_silent() {
        std::future::pending::<()>().await;
    }
}
