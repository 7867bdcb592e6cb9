//! What happens when much comes at once.
//!
//! `cargo bench --bench burst` asks 1000 questions of 1000 SKUs at the same moment, against a
//! handler that does nothing; then asks steadily while the seller sends 100 000 updates a
//! second, against quiet. `--rounds N`, `--skus N` (in each of ten shops) change the size,
//! `--dir PATH` puts the store on another disk than the temporary directory's.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

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
use stockbridge::auth_failures::AuthFailures;
use stockbridge::clock::Clock;
use stockbridge::http::secret::Secret;
use stockbridge::http::{Limits as HttpLimits, Server};
use stockbridge::ingest::{self, Ingest, Origin};
use stockbridge::lifecycle::{Fuse, Tasks};
use stockbridge::partner::server as partner;
use stockbridge::stock::{Marks, ShopId, StockBook, Update};
use stockbridge::store::{self, Acked, ShopKey, Store};
use stockbridge::telemetry::Alarms;
use tokio::runtime::Runtime;
use tokio::time::{Instant, MissedTickBehavior, interval};

use figure::{Limits, argument, median, millis};
use market::{Caller, SHOPS};
use serving::Serving;

const BURST: usize = 1000;

const UPDATES_PER_REQUEST: u64 = 2000;

/// Threads of the seller: together 50 requests a second, 100 000 updates.
const FEEDERS: u32 = 4;
const FEED_EVERY: Duration = Duration::from_millis(80);

/// The pace of the steady questions, and how many make a phase.
const ASK_EVERY: Duration = Duration::from_millis(5);
const ASKED_PER_PHASE: usize = 500;

const FEED_KEY: &str = "ACMA:bench";

fn main() -> anyhow::Result<()> {
    let rounds: usize = argument("--rounds").map_or(Ok(5), |n| n.parse())?;
    let skus: u64 = argument("--skus").map_or(Ok(100_000), |n| n.parse())?;
    let questions: Vec<Vec<u8>> = (0..BURST as u64)
        .map(|seed| market::question(seed, skus))
        .map(|body| market::raw(market::question_request(&body), &body))
        .collect::<Result<_, _>>()?;
    let scratch = match argument("--dir") {
        Some(path) => tempfile::tempdir_in(path)?,
        None => tempfile::tempdir()?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let house = runtime.block_on(House::open(scratch.path(), skus))?;
    burst(&house, &questions, rounds)?;
    steady(&runtime, &house, &questions, rounds, skus)
}

/// The rooms between the listener and the disk.
struct House {
    book: Arc<StockBook>,
    store: Arc<Store>,
    marks: Marks,
    ingest: Ingest,
}

impl House {
    async fn open(path: &std::path::Path, skus_per_shop: u64) -> anyhow::Result<Self> {
        let key = |shop| ShopKey {
            name: format!("shop-{shop}"),
            target: String::new(),
            warehouses: Vec::new(),
        };
        let keys: Vec<ShopKey> = (0..SHOPS).map(key).collect();
        let opened = Store::open(
            &store::Config {
                path: path.join("store"),
            },
            &keys,
        )
        .await?;
        let (book, store) = (Arc::new(opened.book), Arc::new(opened.store));
        let (ingest, worker) = ingest::open(
            Arc::clone(&book),
            Arc::clone(&store),
            Clock::wall(),
            Alarms::new(Clock::wall()),
            ingest::Metrics::default(),
            Box::new(|_| {}),
        );
        let tasks = Tasks::new(Fuse::default());
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
        let house = Self {
            book,
            store,
            marks: opened.marks,
            ingest,
        };
        house.compact().await?;
        Ok(house)
    }

    fn router(&self) -> axum::Router {
        let context = partner::Context {
            ingest: self.ingest.clone(),
            book: Arc::clone(&self.book),
            clock: Clock::wall(),
            metrics: partner::Metrics::default(),
            auth_failures: AuthFailures::new(
                Clock::wall(),
                Alarms::new(Clock::wall()),
                Vec::new(),
                10_000,
            ),
        };
        let shop = |index| partner::Shop {
            id: ShopId(index),
            name: format!("shop-{index}"),
            campaigns: vec![index.into()],
            feed_keys: vec![Secret::new(FEED_KEY)],
            warehouses: vec![market::warehouse(index)],
            business: None,
            partner_warehouses: Vec::new(),
        };
        market::legacy_router(Arc::clone(&self.book))
            .merge(partner::router(context, (0..SHOPS).map(shop).collect()))
    }

    async fn compact(&self) -> anyhow::Result<()> {
        Ok(self
            .store
            .compact(&self.book, |_, _| Acked::default(), &self.marks)
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

// === 1000 questions at once ===

fn burst(house: &House, questions: &[Vec<u8>], rounds: usize) -> anyhow::Result<()> {
    let ours = Serving::start(market::legacy_router(Arc::clone(&house.book)))?;
    let mut caller = Caller::connect(ours.addr)?;
    caller.send(&questions[0])?;
    let null = Serving::start(market::null_router(Bytes::copy_from_slice(
        caller.receive()?,
    )))?;
    let mut turns = Vec::new();
    for _ in 0..rounds {
        turns.push([
            all_at_once(&ours, questions)?,
            all_at_once(&null, questions)?,
        ]);
    }
    let middle = |of: usize, server: usize| {
        median(
            turns
                .iter()
                .map(|turn| millis([turn[server].0, turn[server].1][of]))
                .collect(),
        )
    };
    println!(
        "{BURST} questions at once: {:.0} ms, {:.0} ms of CPU; null {:.0} ms, {:.0} ms of CPU",
        middle(0, 0),
        middle(1, 0),
        middle(0, 1),
        middle(1, 1)
    );
    let limits = Limits(3.5, 2.2);
    limits.print("burst, elapsed", middle(0, 0) / middle(0, 1), "× null");
    limits.print(
        "burst, CPU of the server",
        middle(1, 0) / middle(1, 1),
        "× null",
    );
    Ok(())
}

/// How long until every answer is read, and the server's CPU time for it.
fn all_at_once(server: &Serving, questions: &[Vec<u8>]) -> anyhow::Result<(Duration, Duration)> {
    let connect = |_| Caller::connect(server.addr);
    let mut callers: Vec<_> = (0..questions.len())
        .map(connect)
        .collect::<Result<_, _>>()?;
    let (cpu, begun) = (server.cpu()?, Instant::now());
    for (caller, question) in callers.iter_mut().zip(questions) {
        caller.send(question)?;
    }
    for caller in &mut callers {
        caller.receive()?;
    }
    Ok((begun.elapsed(), server.cpu()? - cpu))
}

// === Questions while updates arrive ===

/// How long the answers of each kind of phase took, in milliseconds.
#[derive(Default)]
struct Waits {
    quiet: Vec<f64>,
    fed: Vec<f64>,
    folding: Vec<f64>,
}

fn steady(
    runtime: &Runtime,
    house: &House,
    questions: &[Vec<u8>],
    rounds: usize,
    skus: u64,
) -> anyhow::Result<()> {
    let _inside = runtime.enter();
    let server = Server::bind(([127, 0, 0, 1], 0).into(), HttpLimits::default())?;
    let addr = server.local_addr()?;
    let tasks = Tasks::new(Fuse::default());
    tasks.spawn("listener", server.run(house.router(), tasks.clone()));
    let feed = Feed::start(addr, skus)?;
    let mut waits = Waits::default();
    let mut rates = Vec::new();
    ask(addr, questions)?;
    for _ in 0..rounds {
        waits.quiet.append(&mut ask(addr, questions)?);
        let (begun, before) = (Instant::now(), feed.sent.load(Ordering::Relaxed));
        feed.open.store(true, Ordering::Relaxed);
        waits.fed.append(&mut ask(addr, questions)?);
        let sent = feed.sent.load(Ordering::Relaxed) - before;
        rates.push(sent as f64 / begun.elapsed().as_secs_f64());
        let asked = std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask(addr, questions));
            runtime.block_on(house.compact())?;
            asking
                .join()
                .map_err(|_| anyhow::anyhow!("the questions failed"))?
        });
        waits.folding.append(&mut asked?);
        feed.open.store(false, Ordering::Relaxed);
    }
    let rate = median(rates);
    ensure!(rate > 0.0, "no update was taken");
    println!("updates came at {rate:.0} a second");
    report(waits);
    Ok(())
}

fn report(waits: Waits) {
    let kinds = [
        ("quiet", waits.quiet),
        ("fed", waits.fed),
        ("fed, snapshot", waits.folding),
    ];
    let [quiet, fed, folding] = kinds.map(|(kind, mut waits)| {
        waits.sort_unstable_by(f64::total_cmp);
        let share = |percent: usize| waits[(waits.len() - 1) * percent / 100];
        println!(
            "{kind}: median {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            share(50),
            share(99),
            share(100)
        );
        share(99)
    });
    let limits = Limits(3.0, 1.3);
    limits.print("p99 while 100 000 updates/s arrive", fed / quiet, "× quiet");
    limits.print(
        "p99 while a snapshot is written, too",
        folding / quiet,
        "× quiet",
    );
}

/// One question after the other at a steady pace, on a connection of their own.
fn ask(addr: SocketAddr, questions: &[Vec<u8>]) -> anyhow::Result<Vec<f64>> {
    let mut caller = Caller::connect(addr)?;
    let mut pace = Pace::new(ASK_EVERY)?;
    let mut waits = Vec::with_capacity(ASKED_PER_PHASE);
    for question in questions.iter().cycle().take(ASKED_PER_PHASE) {
        pace.wait();
        let begun = Instant::now();
        caller.send(question)?;
        caller.receive()?;
        waits.push(millis(begun.elapsed()));
    }
    Ok(waits)
}

/// The seller: sends while `open` says so.
struct Feed {
    open: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

impl Feed {
    fn start(addr: SocketAddr, skus: u64) -> anyhow::Result<Self> {
        let feed = Self {
            open: Arc::default(),
            sent: Arc::default(),
        };
        for feeder in 0..FEEDERS {
            let (open, sent) = (Arc::clone(&feed.open), Arc::clone(&feed.sent));
            let batches: Vec<Vec<u8>> = (0..20)
                .map(|n| batch(u64::from(feeder) * 20 + n, skus))
                .collect::<Result<_, _>>()?;
            std::thread::spawn(move || feed_on(addr, &batches, &open, &sent));
        }
        Ok(feed)
    }
}

/// Sends one batch after the other while `open` says so.
fn feed_on(
    addr: SocketAddr,
    batches: &[Vec<u8>],
    open: &AtomicBool,
    sent: &AtomicU64,
) -> anyhow::Result<()> {
    let mut pace = Pace::new(FEED_EVERY)?;
    let mut connection = None;
    for batch in batches.iter().cycle() {
        pace.wait();
        if !open.load(Ordering::Relaxed) {
            // Not kept while nothing is sent: the listener closes idle ones.
            connection = None;
            continue;
        }
        let mut caller = connection
            .take()
            .map_or_else(|| Caller::connect(addr), Ok)?;
        caller.send(batch)?;
        caller.receive().context("feed")?;
        connection = Some(caller);
        sent.fetch_add(UPDATES_PER_REQUEST, Ordering::Relaxed);
    }
    Ok(())
}

/// An update without a date is as of now, so it can be sent again and is news each time.
fn batch(seed: u64, skus: u64) -> anyhow::Result<Vec<u8>> {
    let shop = seed % u64::from(SHOPS);
    // A stride through the shop, so that no SKU comes twice.
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
    market::raw(request, &body)
}

/// Keeps a blocking thread's time.
struct Pace {
    runtime: Runtime,
    ticks: tokio::time::Interval,
}

impl Pace {
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
