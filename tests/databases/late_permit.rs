//! Permission to send that arrives late: a proxy holds the database's response to its commit until
//! another replica has the lease.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::postgres_store::{execute, new_database};
use super::replicas::HAND_OVER;
use super::server::DatabaseServer;
use super::service_process::{Market, ServiceConfig, wait_until};

/// Limit of a replica's commit, also of the one that permits a send.
const COMMIT_LIMIT: Duration = Duration::from_secs(2);

/// Proxy before the database that holds the response to the commit of a permission.
struct PermitProxy {
    address: SocketAddr,
    state: watch::Sender<HoldState>,
    accepting: AbortHandle,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum HoldState {
    /// Everything passes.
    Forward,
    /// The next response to the commit of a permission will be held.
    Armed,
    /// The response has arrived from the database, which has committed, and is held.
    Held,
}

impl PermitProxy {
    async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, _) = watch::channel(HoldState::Forward);
        let shared = state.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(target).await.unwrap();
                let set = [client.set_nodelay(true), server.set_nodelay(true)];
                assert!(set.iter().all(Result::is_ok));
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let holds = Arc::new(AtomicBool::new(false));
                let requests = pass_requests(
                    (from_client, to_server),
                    shared.subscribe(),
                    Arc::clone(&holds),
                );
                let responses = pass_responses((from_server, to_client), shared.clone(), holds);
                tokio::spawn(requests);
                tokio::spawn(responses);
            }
        });
        Self {
            address,
            state,
            accepting: accepting.abort_handle(),
        }
    }

    fn arm(&self) {
        self.state.send_replace(HoldState::Armed);
    }

    fn is_holding(&self) -> bool {
        *self.state.borrow() == HoldState::Held
    }

    fn release(&self) {
        self.state.send_replace(HoldState::Forward);
    }
}

impl Drop for PermitProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    let mut windows = bytes.windows(text.len());
    windows.any(|window| window == text.as_bytes())
}

async fn pass_requests(
    (mut from, mut to): (OwnedReadHalf, OwnedWriteHalf),
    state: watch::Receiver<HoldState>,
    holds: Arc<AtomicBool>,
) {
    let (mut buffer, mut is_permission) = (vec![0; 64 * 1024], false);
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..count];
        is_permission |= contains(bytes, "INTO stockbridge.spent");
        if is_permission && contains(bytes, "COMMIT") {
            is_permission = false;
            // Before the request passes, so that its response is not missed.
            holds.store(*state.borrow() == HoldState::Armed, Ordering::Release);
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

async fn pass_responses(
    (mut from, mut to): (OwnedReadHalf, OwnedWriteHalf),
    state: watch::Sender<HoldState>,
    holds: Arc<AtomicBool>,
) {
    let (mut buffer, mut released) = (vec![0; 64 * 1024], state.subscribe());
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if holds.swap(false, Ordering::AcqRel) {
            state.send_replace(HoldState::Held);
            let waiting = released.wait_for(|state| *state == HoldState::Forward);
            assert!(waiting.await.is_ok());
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn late_permission_sends_nothing() {
    let (server, market) = (DatabaseServer::postgresql(), Market::start().await);
    let url = new_database(&server, "permit").await;
    let proxy = PermitProxy::start(server.address()).await;
    let direct = server.address().to_string();
    let held_url = url.replace(&direct, &proxy.address.to_string());
    assert_ne!(held_url, url);
    let config = |name: &str, url: &str| {
        let settings = format!("replica = {name:?}\nsources_on = \"one\"");
        ServiceConfig::new(&market, url, &settings)
    };
    let configs = [config("one", &held_url), config("two", &url)];
    let [one, two] = [configs[0].serve(), configs[1].serve()];
    assert_eq!(one.put(&[("A", 1)]), 200);
    let has = |count| market.counts(&["A"]) == [Some(count)];
    wait_until("the Market has the stock", async || has(1)).await;
    wait_until("the batch has ended", async || one.ended_batches() == 1).await;
    assert!(one.sends() && !two.sends());
    let sent = market.simulator.report().updates;

    proxy.arm();
    assert_eq!(one.put(&[("A", 2)]), 200);
    wait_until("the response to the permission is held", async || {
        proxy.is_holding()
    })
    .await;
    let held_at = Instant::now();
    // As a replica does after the end of the lease. It may have sent newer stock by now.
    let taken = "UPDATE stockbridge.lease SET owner = 'three/1', epoch = epoch + 1, \
                 until = now() + interval '1 hour' WHERE name LIKE 'campaign%'";
    execute(&url, taken).await;
    wait_until("the old leader has stepped down", async || !one.sends()).await;
    let held_for = held_at.elapsed();
    proxy.release();
    wait_until("the batch has ended", async || one.ended_batches() >= 2).await;
    assert_eq!(market.simulator.report().updates, sent, "requests");
    assert!(has(1));
    let refused = "ended before the database had permitted it";
    // Otherwise the process gave the commit up first.
    assert!(
        one.log().contains(refused) || held_for > COMMIT_LIMIT,
        "held for {held_for:?}"
    );
    execute(&url, HAND_OVER).await;
    wait_until("the next leader sends", async || has(2)).await;
    assert_eq!(market.simulator.report().total_violations(), 0);
}
