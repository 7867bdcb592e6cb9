//! Cost of a `POST /stocks` request with 1000 SKUs, compared with a handler that does nothing.
//!
//! `cargo bench --bench answer` compares CPU times; `-- --instructions` counts instructions
//! with valgrind. `--rounds N` and `--skus N` (in each of ten shops) change the size.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "yardstick/figure.rs"]
mod figure;
#[path = "yardstick/goods.rs"]
mod goods;
#[path = "yardstick/in_process.rs"]
mod in_process;
#[path = "yardstick/market.rs"]
mod market;
#[path = "yardstick/serving.rs"]
mod serving;
#[path = "yardstick/turn.rs"]
mod turn;
#[path = "yardstick/valgrind.rs"]
mod valgrind;

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use figure::{FigureLimits, argument, median, millis};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lifecycle::{CrashSignal, Tasks};
use market::{BlockingClient, SKUS_PER_REQUEST};
use serving::ServerThread;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

/// Requests of one turn of a server. Three rounds request half of the 1 M SKUs.
const REQUESTS: usize = 160;

fn main() -> anyhow::Result<()> {
    if let Some(count) = argument("--in-process") {
        return in_process::answer(count.parse()?, skus_per_shop(100_000)?);
    }
    if std::env::args().any(|argument| argument == "--instructions") {
        return instructions();
    }
    compare()
}

/// Compares the CPU times of the servers, in alternating turns.
fn compare() -> anyhow::Result<()> {
    let rounds = argument("--rounds").map_or(Ok(15), |n| n.parse())?;
    let skus = skus_per_shop(100_000)?;
    let requests: Vec<Vec<u8>> = (0..3 * REQUESTS as u64)
        .map(|seed| market::stocks_body(seed, skus))
        .map(|body| market::raw_request(market::stocks_request(body.len()), &body))
        .collect::<Result<_, _>>()?;
    let service = ServerThread::start(market::push_router(in_process::book(skus)))?;
    let mut client = BlockingClient::connect(service.addr)?;
    client.send(&requests[0])?;
    let response = Bytes::copy_from_slice(client.receive()?);
    println!(
        "a request has {} bytes, its response {}",
        requests[0].len(),
        response.len()
    );
    let baseline = ServerThread::start(market::baseline_router(response.clone()))?;
    let bare_hyper = start_bare_hyper(market::baseline_router(response))?;

    let mut turns: Vec<[Duration; 3]> = Vec::new();
    for round in 0..rounds {
        let from = round % 3 * REQUESTS;
        let requests = &requests[from..from + REQUESTS];
        turns.push([
            measure_round(&service, requests)?,
            measure_round(&baseline, requests)?,
            measure_round(&bare_hyper, requests)?,
        ]);
    }
    let median_micros = |of: usize| {
        median(
            turns
                .iter()
                .map(|turn| millis(turn[of]) * 1e3 / REQUESTS as f64)
                .collect(),
        )
    };
    println!(
        "CPU per request: {:.0} µs, null {:.0} µs on our listener, {:.0} µs on bare hyper",
        median_micros(0),
        median_micros(1),
        median_micros(2)
    );
    let ratio_to = |null: usize| {
        let ratio = |turn: &[Duration; 3]| turn[0].as_secs_f64() / turn[null].as_secs_f64();
        median(turns.iter().map(ratio).collect())
    };
    FigureLimits(7.5, 6.0).print(
        "cpu of a 1000-SKU request",
        ratio_to(1),
        "× null on our listener",
    );
    FigureLimits(10.0, 8.0).print(
        "cpu of a 1000-SKU request",
        ratio_to(2),
        "× null on bare hyper",
    );
    Ok(())
}

/// Returns the server's CPU time for these requests.
fn measure_round(server: &ServerThread, requests: &[Vec<u8>]) -> anyhow::Result<Duration> {
    let connect = || BlockingClient::connect(server.addr);
    turn::measure(connect, || server.cpu(), requests, requests.len())
}

/// Starts plain hyper without our listener and its timeouts.
fn start_bare_hyper(router: Router) -> anyhow::Result<ServerThread> {
    ServerThread::start_with(|| async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let addr = listener.local_addr()?;
        let serve = async move {
            let tasks = Tasks::new(CrashSignal::default());
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream.set_nodelay(true));
                let router = router.clone();
                let service = service_fn(move |request| router.clone().oneshot(http_body(request)));
                let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tasks.spawn_short_lived(async { drop(serving.await) });
            }
        };
        Ok((addr, serve))
    })
}

fn http_body(request: hyper::Request<hyper::body::Incoming>) -> hyper::Request<Body> {
    request.map(Body::new)
}

/// Counts the instructions of the router alone, as the difference between 200 and 100 requests.
fn instructions() -> anyhow::Result<()> {
    let per_sku = valgrind::count_per_unit(
        &["--in-process", "100", "--skus", "10000"],
        &["--in-process", "200", "--skus", "10000"],
        100 * SKUS_PER_REQUEST,
    )?;
    FigureLimits(600.0, 480.0).print(
        "instructions per SKU, HTTP not counted",
        per_sku,
        "instructions",
    );
    Ok(())
}

fn skus_per_shop(default: u64) -> anyhow::Result<u64> {
    Ok(argument("--skus").map_or(Ok(default), |n| n.parse())?)
}
