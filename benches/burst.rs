//! Latency under load: a burst of requests, and requests during updates and a snapshot.
//!
//! `cargo bench --bench burst` sends 1000 requests of 1000 SKUs in parallel, compared with a
//! handler that does nothing. Then it sends requests at a steady rate while the seller sends
//! 100 000 updates per second, compared with no updates. `--rounds N` and `--skus N` (in each of
//! ten shops) change the size; `--dir PATH` puts the store outside the temporary directory.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "yardstick/figure.rs"]
mod figure;
#[path = "yardstick/goods.rs"]
mod goods;
#[path = "yardstick/market.rs"]
mod market;
#[path = "yardstick/serving.rs"]
mod serving;
#[path = "yardstick/stock_service.rs"]
mod stock_service;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use figure::{FigureLimits, argument, median, millis};
use lifecycle::{CrashSignal, Tasks};
use market::BlockingClient;
use serving::ServerThread;
use stock_service::{StockService, UPDATES_PER_REQUEST};
use strict_http::{HttpServer, ServerLimits};
use tokio::runtime::Runtime;
use tokio::time::{Instant, MissedTickBehavior, interval};

const BURST: usize = 1000;

/// Threads of the seller: together 50 requests with 100 000 updates per second.
const FEEDERS: u32 = 4;
const FEED_INTERVAL: Duration = Duration::from_millis(80);

/// Interval of the steady requests, and their number in a phase.
const REQUEST_INTERVAL: Duration = Duration::from_millis(5);
const REQUESTS_PER_PHASE: usize = 500;

fn main() -> anyhow::Result<()> {
    let rounds: usize = argument("--rounds").map_or(Ok(5), |n| n.parse())?;
    let skus: u64 = argument("--skus").map_or(Ok(100_000), |n| n.parse())?;
    let requests: Vec<Vec<u8>> = (0..BURST as u64)
        .map(|seed| market::stocks_body(seed, skus))
        .map(|body| market::raw_request(market::stocks_request(body.len()), &body))
        .collect::<Result<_, _>>()?;
    let scratch = match argument("--dir") {
        Some(path) => tempfile::tempdir_in(path)?,
        None => tempfile::tempdir()?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let service = runtime.block_on(StockService::open(scratch.path(), skus))?;
    measure_burst(&service, &requests, rounds)?;
    measure_steady(&runtime, &service, &requests, rounds, skus)
}

// === 1000 parallel requests ===

fn measure_burst(
    service: &StockService,
    requests: &[Vec<u8>],
    rounds: usize,
) -> anyhow::Result<()> {
    let service = ServerThread::start(market::push_router(Arc::clone(&service.book)))?;
    let mut client = BlockingClient::connect(service.addr)?;
    client.send(&requests[0])?;
    let baseline = ServerThread::start(market::baseline_router(Bytes::copy_from_slice(
        client.receive()?,
    )))?;
    let mut turns = Vec::new();
    for _ in 0..rounds {
        turns.push([
            send_all_at_once(&service, requests)?,
            send_all_at_once(&baseline, requests)?,
        ]);
    }
    let median_of = |of: usize, server: usize| {
        median(
            turns
                .iter()
                .map(|turn| millis([turn[server].0, turn[server].1][of]))
                .collect(),
        )
    };
    println!(
        "{BURST} parallel requests: {:.0} ms, {:.0} ms of CPU; null {:.0} ms, {:.0} ms of CPU",
        median_of(0, 0),
        median_of(1, 0),
        median_of(0, 1),
        median_of(1, 1)
    );
    let limits = FigureLimits(3.0, 2.2);
    limits.print(
        "burst, elapsed",
        median_of(0, 0) / median_of(0, 1),
        "× null",
    );
    limits.print(
        "burst, CPU of the server",
        median_of(1, 0) / median_of(1, 1),
        "× null",
    );
    Ok(())
}

/// Returns the time until every response is read, and the server's CPU time.
fn send_all_at_once(
    server: &ServerThread,
    requests: &[Vec<u8>],
) -> anyhow::Result<(Duration, Duration)> {
    let connect = |_| BlockingClient::connect(server.addr);
    let mut clients: Vec<_> = (0..requests.len()).map(connect).collect::<Result<_, _>>()?;
    let (cpu, started) = (server.cpu()?, Instant::now());
    for (client, request) in clients.iter_mut().zip(requests) {
        client.send(request)?;
    }
    for client in &mut clients {
        client.receive()?;
    }
    Ok((started.elapsed(), server.cpu()? - cpu))
}

// === Requests during updates ===

/// Latencies of each kind of phase, in milliseconds.
#[derive(Default)]
struct ResponseTimes {
    quiet: Vec<f64>,
    fed: Vec<f64>,
    compacting: Vec<f64>,
}

fn measure_steady(
    runtime: &Runtime,
    service: &StockService,
    requests: &[Vec<u8>],
    rounds: usize,
    skus: u64,
) -> anyhow::Result<()> {
    let _inside = runtime.enter();
    let server = HttpServer::bind(([127, 0, 0, 1], 0).into(), ServerLimits::default())?;
    let addr = server.local_addr()?;
    let tasks = Tasks::new(CrashSignal::default());
    tasks.spawn("listener", server.run(service.router(), tasks.clone()));
    let feed = BackgroundFeed::start(addr, skus)?;
    let mut latencies = ResponseTimes::default();
    let mut rates = Vec::new();
    send_steadily(addr, requests)?;
    for _ in 0..rounds {
        latencies.quiet.append(&mut send_steadily(addr, requests)?);
        let (started, before) = (Instant::now(), feed.sent.load(Ordering::Relaxed));
        feed.is_open.store(true, Ordering::Relaxed);
        latencies.fed.append(&mut send_steadily(addr, requests)?);
        let sent = feed.sent.load(Ordering::Relaxed) - before;
        rates.push(sent as f64 / started.elapsed().as_secs_f64());
        let times = std::thread::scope(|scope| {
            let requester = scope.spawn(|| send_steadily(addr, requests));
            runtime.block_on(service.compact())?;
            requester
                .join()
                .map_err(|_| anyhow::anyhow!("a request failed"))?
        });
        latencies.compacting.append(&mut times?);
        feed.is_open.store(false, Ordering::Relaxed);
    }
    let rate = median(rates);
    ensure!(rate > 0.0, "no update was accepted");
    println!("{rate:.0} updates per second");
    print_report(latencies);
    Ok(())
}

fn print_report(latencies: ResponseTimes) {
    let kinds = [
        ("quiet", latencies.quiet),
        ("fed", latencies.fed),
        ("fed, snapshot", latencies.compacting),
    ];
    let [quiet, fed, compacting] = kinds.map(|(kind, mut latencies)| {
        latencies.sort_unstable_by(f64::total_cmp);
        let share = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
        println!(
            "{kind}: median {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            share(50),
            share(99),
            share(100)
        );
        share(99)
    });
    FigureLimits(2.0, 1.0).print("p99 while 100 000 updates/s arrive", fed, "ms");
    let limits = FigureLimits(1.4, 1.3);
    limits.print("p99 while 100 000 updates/s arrive", fed / quiet, "× quiet");
    limits.print(
        "p99 while a snapshot is written, too",
        compacting / quiet,
        "× quiet",
    );
}

/// Sends one request after the other at a steady rate on one connection.
fn send_steadily(addr: SocketAddr, requests: &[Vec<u8>]) -> anyhow::Result<Vec<f64>> {
    let mut client = BlockingClient::connect(addr)?;
    let mut pacer = Pacer::new(REQUEST_INTERVAL)?;
    let mut latencies = Vec::with_capacity(REQUESTS_PER_PHASE);
    for request in requests.iter().cycle().take(REQUESTS_PER_PHASE) {
        pacer.wait();
        let started = Instant::now();
        client.send(request)?;
        client.receive()?;
        latencies.push(millis(started.elapsed()));
    }
    Ok(latencies)
}

/// Threads of the seller, which send updates while `is_open` is set.
struct BackgroundFeed {
    is_open: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

impl BackgroundFeed {
    fn start(addr: SocketAddr, skus: u64) -> anyhow::Result<Self> {
        let feed = Self {
            is_open: Arc::default(),
            sent: Arc::default(),
        };
        for feeder in 0..FEEDERS {
            let (open, sent) = (Arc::clone(&feed.is_open), Arc::clone(&feed.sent));
            let batches: Vec<Vec<u8>> = (0..20)
                .map(|n| stock_service::update_body(u64::from(feeder) * 20 + n, skus))
                .map(|(shop, body)| {
                    market::raw_request(stock_service::update_request(shop, &body), &body)
                })
                .collect::<Result<_, _>>()?;
            std::thread::spawn(move || run_feeder(addr, &batches, &open, &sent));
        }
        Ok(feed)
    }
}

/// Sends one batch after the other while `is_open` is set.
fn run_feeder(
    addr: SocketAddr,
    batches: &[Vec<u8>],
    is_open: &AtomicBool,
    sent: &AtomicU64,
) -> anyhow::Result<()> {
    let mut pacer = Pacer::new(FEED_INTERVAL)?;
    let mut connection = None;
    for batch in batches.iter().cycle() {
        pacer.wait();
        if !is_open.load(Ordering::Relaxed) {
            // Dropped while idle, because the listener closes idle connections.
            connection = None;
            continue;
        }
        let mut client = connection
            .take()
            .map_or_else(|| BlockingClient::connect(addr), Ok)?;
        client.send(batch)?;
        client.receive().context("feed")?;
        connection = Some(client);
        sent.fetch_add(UPDATES_PER_REQUEST, Ordering::Relaxed);
    }
    Ok(())
}

/// Interval timer for a blocking thread.
struct Pacer {
    runtime: Runtime,
    ticks: tokio::time::Interval,
}

impl Pacer {
    fn new(every: Duration) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let mut ticks = runtime.block_on(async { interval(every) });
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { runtime, ticks })
    }

    fn wait(&mut self) {
        self.runtime.block_on(self.ticks.tick());
    }
}
