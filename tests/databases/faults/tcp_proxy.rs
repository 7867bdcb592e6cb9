//! TCP proxy that cuts, swallows or redirects connections when a test says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Treatment of the bytes of all connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ProxyMode {
    /// Both directions pass.
    Forward,
    /// Nothing passes, but the connections stay open: a half-open connection.
    Swallow,
    /// Requests pass, responses do not.
    HoldResponses,
}

/// Proxy with an address of its own, ended when it is dropped.
pub(super) struct TcpProxy {
    address: SocketAddr,
    state: watch::Sender<ProxyState>,
    counters: Arc<ProxyCounters>,
    accepting: AbortHandle,
}

#[derive(Clone, Copy, Debug)]
struct ProxyState {
    target: SocketAddr,
    mode: ProxyMode,
    /// Connections of an earlier generation are closed.
    generation: u64,
    /// Nothing passes any more on connections with a smaller number, and they are not closed.
    lost: u64,
}

#[derive(Debug, Default)]
struct ProxyCounters {
    request_bytes: AtomicU64,
    /// Number of the next connection.
    connections: AtomicU64,
    open: AtomicUsize,
}

impl TcpProxy {
    /// Starts a proxy for the target on a free port.
    pub(super) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, receiver) = watch::channel(ProxyState {
            target,
            mode: ProxyMode::Forward,
            generation: 0,
            lost: 0,
        });
        let counters = Arc::new(ProxyCounters::default());
        let accepting = tokio::spawn(accept(listener, receiver, Arc::clone(&counters)));
        Self {
            address,
            state,
            counters,
            accepting: accepting.abort_handle(),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the treatment of all bytes from now on.
    pub(super) fn set_mode(&self, mode: ProxyMode) {
        self.state.send_modify(|state| state.mode = mode);
    }

    /// Closes all connections. New ones are accepted.
    pub(super) fn cut(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }

    /// Forwards again. Connections that have lost bytes are closed.
    pub(super) fn heal(&self) {
        self.state.send_modify(|state| {
            if state.mode != ProxyMode::Forward {
                state.mode = ProxyMode::Forward;
                state.generation += 1;
            }
        });
    }

    /// Lets nothing pass any more on the connections that are open now, and does not close them, as
    /// if the host at their other end had disappeared. New connections work.
    pub(super) fn lose_connections(&self) {
        let lost = self.counters.connections.load(Ordering::Acquire);
        self.state.send_modify(|state| state.lost = lost);
    }

    /// Closes all connections and sends the next ones to another target.
    pub(super) fn redirect(&self, target: SocketAddr) {
        self.state.send_modify(|state| {
            state.target = target;
            state.generation += 1;
        });
    }

    /// Returns the number of bytes that clients have sent.
    pub(super) fn request_bytes(&self) -> u64 {
        self.counters.request_bytes.load(Ordering::Acquire)
    }

    /// Returns true if no connection is open.
    pub(super) fn is_idle(&self) -> bool {
        self.counters.open.load(Ordering::Acquire) == 0
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    state: watch::Receiver<ProxyState>,
    counters: Arc<ProxyCounters>,
) {
    loop {
        // Too many open files, for example. The next client may have more luck.
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        let (state, counters) = (state.clone(), Arc::clone(&counters));
        tokio::spawn(async move {
            counters.open.fetch_add(1, Ordering::AcqRel);
            connect(client, state, &counters).await;
            counters.open.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

async fn connect(
    client: TcpStream,
    mut state: watch::Receiver<ProxyState>,
    counters: &ProxyCounters,
) {
    let number = counters.connections.fetch_add(1, Ordering::AcqRel);
    let ProxyState {
        target, generation, ..
    } = *state.borrow_and_update();
    // The client sees a closed connection, as it would without the proxy.
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let set = [client.set_nodelay(true), server.set_nodelay(true)];
    if set.iter().any(Result::is_err) {
        return;
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = copy(
        (&mut from_client, &mut to_server),
        (state.clone(), generation),
        Some(&counters.request_bytes),
    );
    let responses = copy(
        (&mut from_server, &mut to_client),
        (state.clone(), generation),
        None,
    );
    // Either end closes both, so that a killed client's requests are not completed for it.
    tokio::select! {
        biased;
        () = is_lost(&mut state, number) => {}
        () = requests => return,
        () = responses => return,
    }
    // The server's side stays open too, and the server does not notice it either.
    let mut buffer = vec![0; 64 * 1024];
    while matches!(from_client.read(&mut buffer).await, Ok(1..)) {}
}

/// Waits until a connection is lost.
async fn is_lost(state: &mut watch::Receiver<ProxyState>, number: u64) {
    if state.wait_for(|state| number < state.lost).await.is_err() {
        // The test has ended.
        std::future::pending::<()>().await;
    }
}

/// Copies until either side closes or the proxy cuts. `sent` counts the bytes of requests.
async fn copy(
    (from, to): (&mut OwnedReadHalf, &mut OwnedWriteHalf),
    (mut state, generation): (watch::Receiver<ProxyState>, u64),
    sent: Option<&AtomicU64>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = tokio::select! {
            _ = state.wait_for(|state| state.generation != generation) => return,
            read = from.read(&mut buffer) => match read {
                Ok(count) if count > 0 => count,
                _ => return,
            },
        };
        let mode = state.borrow().mode;
        let passes = match mode {
            ProxyMode::Forward => true,
            ProxyMode::Swallow => false,
            ProxyMode::HoldResponses => sent.is_some(),
        };
        if passes {
            tokio::select! {
                _ = state.wait_for(|state| state.generation != generation) => return,
                written = to.write_all(&buffer[..count]) => if written.is_err() {
                    return;
                },
            }
        }
        if let Some(sent) = sent {
            sent.fetch_add(count as u64, Ordering::AcqRel);
        }
    }
}
