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

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::http::Request;
use bytes::Bytes;
use figure::{FigureLimits, argument, median, millis};
use lifecycle::Clock;
use lifecycle::{CrashSignal, Tasks};
use market::{BlockingClient, SHOPS};
use serving::ServerThread;
use stock::{Activity, ShopId, StockBook, Update};
use stockbridge::auth_failures::AuthFailures;
use stockbridge::ingest::{self, Ingest, Origin};
use stockbridge::partner_api;
use stockbridge::store::{self, Acked, ShopIdentity, Store};
use stockbridge::telemetry::Alarms;
use strict_http::secret::{Secret, TokenSet};
use strict_http::{HttpServer, ServerLimits};
use tokio::runtime::Runtime;
use tokio::time::{Instant, MissedTickBehavior, interval};

const BURST: usize = 1000;

const UPDATES_PER_REQUEST: u64 = 2000;

/// Threads of the seller: together 50 requests with 100 000 updates per second.
const FEEDERS: u32 = 4;
const FEED_INTERVAL: Duration = Duration::from_millis(80);

/// Interval of the steady requests, and their number in a phase.
const REQUEST_INTERVAL: Duration = Duration::from_millis(5);
const REQUESTS_PER_PHASE: usize = 500;

const FEED_KEY: &str = "ACMA:bench";

fn main() -> anyhow::Result<()> {
    let rounds: usize = argument("--rounds").map_or(Ok(5), |n| n.parse())?;
    let skus: u64 = argument("--skus").map_or(Ok(100_000), |n| n.parse())?;
    let requests: Vec<Vec<u8>> = (0..BURST as u64)
        .map(|seed| market::stocks_body(seed, skus))
        .map(|body| market::raw_request(market::stocks_request(&body), &body))
        .collect::<Result<_, _>>()?;
    let scratch = match argument("--dir") {
        Some(path) => tempfile::tempdir_in(path)?,
        None => tempfile::tempdir()?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let service = runtime.block_on(BurstService::open(scratch.path(), skus))?;
    measure_burst(&service, &requests, rounds)?;
    measure_steady(&runtime, &service, &requests, rounds, skus)
}

/// Modules between the listener and the disk.
struct BurstService {
    book: Arc<StockBook>,
    store: Arc<Store>,
    activity: Activity,
    ingest: Ingest,
}

impl BurstService {
    async fn open(path: &std::path::Path, skus_per_shop: u64) -> anyhow::Result<Self> {
        let key = |shop| ShopIdentity {
            name: format!("shop-{shop}"),
            target: String::new(),
            warehouses: Vec::new(),
        };
        let keys: Vec<ShopIdentity> = (0..SHOPS).map(key).collect();
        let opened = Store::open(
            &store::Config {
                path: path.join("store"),
                url: None,
            },
            &keys,
        )
        .await?;
        let (book, store) = (Arc::new(opened.book), Arc::new(opened.store));
        let (ingest, worker) = ingest::create(
            Arc::clone(&book),
            Arc::clone(&store),
            Clock::wall(),
            Alarms::new(Clock::wall()),
            ingest::Metrics::default(),
            Box::new(|_| {}),
        );
        let tasks = Tasks::new(CrashSignal::default());
        tasks.spawn("ingest", worker.run(tasks.clone()));
        for shop in 0..SHOPS {
            let first = u64::from(shop) * skus_per_shop;
            for from in (first..first + skus_per_shop).step_by(10_000) {
                let until = (from + 10_000).min(first + skus_per_shop);
                let updates = (from..until).map(update).collect();
                ingest
                    .accept(Origin::CampaignPut, ShopId(shop), updates)
                    .await?;
            }
        }
        let service = Self {
            book,
            store,
            activity: opened.activity,
            ingest,
        };
        service.compact().await?;
        Ok(service)
    }

    fn router(&self) -> axum::Router {
        let context = partner_api::Context {
            ingest: self.ingest.clone(),
            book: Arc::clone(&self.book),
            clock: Clock::wall(),
            metrics: partner_api::Metrics::default(),
            auth_failures: AuthFailures::new(
                Clock::wall(),
                Alarms::new(Clock::wall()),
                Vec::new(),
                10_000,
            ),
        };
        let shop = |index| partner_api::PartnerShop {
            id: ShopId(index),
            name: format!("shop-{index}"),
            campaigns: vec![index.into()],
            feed_keys: TokenSet::new([&Secret::new(FEED_KEY)]),
            warehouses: vec![market::warehouse(index)],
            business: None,
            partner_warehouses: Vec::new(),
        };
        market::push_router(Arc::clone(&self.book))
            .merge(partner_api::router(context, (0..SHOPS).map(shop).collect()))
    }

    async fn compact(&self) -> anyhow::Result<()> {
        Ok(self
            .store
            .compact(&self.book, |_, _| Acked::default(), &self.activity)
            .await?)
    }
}

fn update(number: u64) -> Update {
    let level = goods::level(goods::mix(number));
    Update {
        sku: goods::sku(number),
        count: level.count,
        updated_at: Some(level.updated_at),
    }
}

// === 1000 parallel requests ===

fn measure_burst(
    service: &BurstService,
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
    let limits = FigureLimits(3.5, 2.2);
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
    service: &BurstService,
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
    let limits = FigureLimits(3.0, 1.3);
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
                .map(|n| update_request(u64::from(feeder) * 20 + n, skus))
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

/// Creates a request whose updates have no date, so each sending counts as a new update.
fn update_request(seed: u64, skus: u64) -> anyhow::Result<Vec<u8>> {
    let shop = seed % u64::from(SHOPS);
    // A stride through the shop, so that no SKU occurs twice.
    let stride = skus / UPDATES_PER_REQUEST;
    let number = |n| shop * skus + n * stride + goods::mix(seed) % stride;
    let items: Vec<String> = (0..UPDATES_PER_REQUEST)
        .map(|n| {
            format!(
                r#"{{"sku":"{}","items":[{{"count":{}}}]}}"#,
                goods::sku(number(n)),
                n
            )
        })
        .collect();
    let body = format!(r#"{{"skus":[{}]}}"#, items.join(","));
    let request = Request::put(format!("/v2/campaigns/{shop}/offers/stocks"))
        .header("host", "127.0.0.1")
        .header("api-key", FEED_KEY)
        .header("content-type", "application/json")
        .header("content-length", body.len());
    market::raw_request(request, &body)
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
