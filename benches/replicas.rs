//! Figures of three replicas on one PostgreSQL, beside one process with its stock in a directory.
//!
//! `cargo bench --bench replicas` starts a private PostgreSQL, which must be installed, and removes
//! it. `--skus N` changes the size of the stock that a new replica reads (a million), `--seconds N`
//! the length of each measurement of updates (10). `--no-crash` omits the wait of up to 100 seconds
//! for a new sender. The variable `TMPDIR` puts database and stores on another disk.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(
    clippy::print_stderr,
    reason = "the log of a process that failed is printed"
)]
#![expect(clippy::unwrap_used, reason = "a failed step ends the benchmark")]

#[path = "../tests/process/mod.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
mod process;
#[path = "../tests/databases/server.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
mod server;
#[path = "../tests/databases/service_process.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
mod service_process;

#[path = "replicas/feed_connection.rs"]
mod feed_connection;
#[path = "yardstick/figure.rs"]
#[expect(dead_code, reason = "the figures of this benchmark have no limits")]
mod figure;

use std::net::SocketAddr;
use std::time::Duration;

use feed_connection::FeedConnection;
use figure::{argument, median, millis};
use server::DatabaseServer;
use service_process::{CAMPAIGN, Market, Service, ServiceConfig, wait_until};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

/// SKUs of an update when the throughput is measured.
const SKUS_PER_UPDATE: usize = 100;

/// SKUs of a request of the Market.
const SKUS_PER_REQUEST: usize = 500;

/// SKUs of the largest update.
const SKUS_PER_FEED: usize = 2_000;

/// Senders of updates at the same time.
const SENDERS: usize = 6;

/// Requests of the Market that are measured.
const REQUESTS: usize = 2_000;

#[tokio::main]
async fn main() {
    measure_directory().await;
    measure_replicas().await;
}

/// Measures one process with its stock in a directory.
async fn measure_directory() {
    let market = Market::start().await;
    let config = ServiceConfig::new(&market, "", "");
    let file = config.directory().join("config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("store_url_file = \"store_url\"\n", "")).unwrap();
    let service = config.serve();
    println!("one process, stock in a directory");
    measure_updates(&[service.public]);
    measure_answers(service.public);
}

async fn measure_replicas() {
    let market = Market::start().await;
    let server = DatabaseServer::postgresql_with("");
    let config = |name: &str| {
        let settings = format!("replica = {name:?}\nsources_on = \"one\"");
        ServiceConfig::new(&market, server.url(), &settings)
    };
    let configs = [config("one"), config("two"), config("three")];
    let mut services = configs.each_ref().map(ServiceConfig::serve);
    println!("three replicas, stock in a PostgreSQL that waits for the disk");
    // Before the many updates, after which the next ones wait for the Market's limit. The first one
    // was started first, so it sends.
    measure_takeover(&market, &mut services, Ending::Ordered).await;
    services[0] = configs[0].serve();
    if !std::env::args().any(|it| it == "--no-crash") {
        let sender = services.iter().position(Service::sends).unwrap();
        services.swap(0, sender);
        measure_takeover(&market, &mut services, Ending::Crash).await;
        services[0] = configs[sender].serve();
    }
    let addresses = services.each_ref().map(|service| service.public);
    measure_updates(&addresses);
    measure_answers(addresses[2]);
    let skus = argument("--skus").map_or(1_000_000, |skus| skus.parse().unwrap());
    feed(addresses[0], skus);
    let config = config("four");
    let start = Instant::now();
    let fourth = config.serve();
    let serving = start.elapsed();
    let last = sku(skus - 1);
    let mut connection = FeedConnection::open(fourth.public);
    while connection.request(&[&last]).0 != 200 {
        sleep(Duration::from_millis(5)).await;
    }
    println!(
        "  a new replica with {skus} SKUs: serves after {:.2} s, answers after {:.2} s",
        serving.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
}

/// End of a replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    Ordered,
    Crash,
}

/// Ends the first service, and measures the time until another one sends an update.
async fn measure_takeover(market: &Market, services: &mut [Service; 3], ending: Ending) {
    wait_until("the first one sends", async || services[0].sends()).await;
    let start = Instant::now();
    let (how, count) = match ending {
        Ending::Ordered => {
            services[0].signal("-TERM");
            ("an ordered stop", 1)
        }
        Ending::Crash => {
            services[0].kill();
            ("kill -9", 2)
        }
    };
    let mut connection = FeedConnection::open(services[1].public);
    while connection.update(&[("TAKEOVER".to_owned(), count)]) != 200 {
        connection = FeedConnection::open(services[1].public);
    }
    let acknowledged = start.elapsed();
    while market.simulator.available(CAMPAIGN, "TAKEOVER") != Some(count) {
        assert!(start.elapsed() < Duration::from_mins(5), "no replica sends");
        sleep(Duration::from_millis(10)).await;
    }
    println!(
        "  after {how} of the sender: an update is acknowledged after {:.2} s, and the Market has it \
         after {:.2} s",
        acknowledged.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
}

/// Measures one sender with single SKUs, and several ones with many.
fn measure_updates(addresses: &[SocketAddr]) {
    let seconds = argument("--seconds").map_or(10, |seconds| seconds.parse().unwrap());
    let length = Duration::from_secs(seconds);
    let single = block_in_place(|| send_updates(addresses[0], 0, (length, 1)));
    let (p50, p99) = percentiles(&single);
    println!("  one sender, updates of 1 SKU: acknowledged after {p50:.2} ms, p99 {p99:.2} ms");
    let start = Instant::now();
    let send = |number: usize| {
        let address = addresses[number % addresses.len()];
        move || send_updates(address, number, (length, SKUS_PER_UPDATE))
    };
    let times: Vec<f64> = block_in_place(|| {
        std::thread::scope(|scope| {
            let senders: Vec<_> = (0..SENDERS).map(|it| scope.spawn(send(it))).collect();
            let joined = senders.into_iter().map(|it| it.join().unwrap());
            joined.flatten().collect()
        })
    });
    let updates = f64::from(u32::try_from(times.len() * SKUS_PER_UPDATE).unwrap());
    let rate = updates / start.elapsed().as_secs_f64();
    let (p50, p99) = percentiles(&times);
    println!(
        "  {SENDERS} senders, updates of {SKUS_PER_UPDATE} SKUs: {rate:.0} SKUs/s, acknowledged after \
         {p50:.2} ms, p99 {p99:.2} ms"
    );
}

/// Returns the milliseconds of each update.
fn send_updates(address: SocketAddr, sender: usize, (length, skus): (Duration, usize)) -> Vec<f64> {
    let mut connection = FeedConnection::open(address);
    let (start, mut times) = (Instant::now(), Vec::new());
    let mut count = 0;
    while start.elapsed() < length {
        count += 1;
        let first = sender * SKUS_PER_UPDATE;
        let items: Vec<_> = (first..first + skus)
            .map(|number| (sku(number), count))
            .collect();
        let sent_at = Instant::now();
        assert_eq!(connection.update(&items), 200);
        times.push(millis(sent_at.elapsed()));
    }
    times
}

/// Measures requests of the Market on one connection, without updates.
fn measure_answers(address: SocketAddr) {
    let skus: Vec<String> = (0..SKUS_PER_REQUEST).map(sku).collect();
    let skus: Vec<&str> = skus.iter().map(String::as_str).collect();
    let times = block_in_place(|| {
        let mut connection = FeedConnection::open(address);
        let request = |_| {
            let sent_at = Instant::now();
            assert_eq!(connection.request(&skus).0, 200);
            millis(sent_at.elapsed())
        };
        (0..REQUESTS).map(request).collect::<Vec<_>>()
    });
    let (p50, p99) = percentiles(&times);
    println!("  request of the Market for {SKUS_PER_REQUEST} SKUs: {p50:.2} ms, p99 {p99:.2} ms");
}

fn feed(address: SocketAddr, skus: usize) {
    let start = Instant::now();
    block_in_place(|| {
        let mut connection = FeedConnection::open(address);
        for first in (0..skus).step_by(SKUS_PER_FEED) {
            let numbers = first..(first + SKUS_PER_FEED).min(skus);
            let items: Vec<_> = numbers.map(|number| (sku(number), 7)).collect();
            assert_eq!(connection.update(&items), 200);
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    println!("  {skus} SKUs in updates of {SKUS_PER_FEED} by one sender: {seconds:.1} s");
}

fn sku(number: usize) -> String {
    format!("SKU-{number:07}")
}

/// Returns the median and the 99th percentile.
fn percentiles(times: &[f64]) -> (f64, f64) {
    let mut sorted = times.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let p99 = sorted.get(sorted.len() * 99 / 100).copied();
    (median(sorted), p99.unwrap_or(f64::NAN))
}
