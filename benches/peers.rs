//! Other servers with the same stock and the same requests, and the service's own program.
//!
//! `benches/peers/run [NAME…]` measures the named peers, or all of them, and prints the rows of the
//! tables in docs/figures.md. `--skus N` (in each of ten shops), `--rows N` (of an imported file)
//! and `--rounds N` change the size. Of a peer, `benches/peers/NAME/server` is called as
//!
//! - `server version`, which prints name and version, or how to install the peer, with status 69;
//! - `server start PORT DIRECTORY`, which becomes the server. The directory has `stock.tsv`
//!   (warehouse, SKU, count, date) and `response`, a response of the service.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(dead_code, reason = "the other benchmarks use more of the yardsticks")]

#[path = "yardstick/figure.rs"]
mod figure;
#[path = "yardstick/goods.rs"]
mod goods;
#[path = "yardstick/market.rs"]
mod market;
#[path = "peers/peer_process.rs"]
mod peer_process;
#[path = "peers/program.rs"]
mod program;
#[path = "peers/protocol.rs"]
mod protocol;
#[path = "yardstick/rows.rs"]
mod rows;
#[path = "yardstick/serving.rs"]
mod serving;
#[path = "yardstick/turn.rs"]
mod turn;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use figure::{argument, median};
use market::{BlockingClient, SHOPS};
use peer_process::{Missing, PeerProcess, children_cpu};
use program::Program;
use protocol::Protocol;
use serving::ServerThread;
use tokio::time::Instant;

/// Peers that answer requests: name, protocol.
const SERVERS: &[(&str, Protocol)] = &[
    ("stockbridge", Protocol::Http),
    ("nginx", Protocol::Http),
    ("go", Protocol::Http),
    ("fastapi", Protocol::Http),
    ("redis", Protocol::Redis),
];

/// Peers that import a file.
const IMPORTS: &[&str] = &["import", "sqlite"];

/// Peers that are measured with wrk as the client. A null server is beside them.
const WITH_WRK: &[&str] = &["stockbridge", "nginx", "go"];

/// Time of one server's turn.
const TURN: Duration = Duration::from_secs(1);

fn main() -> anyhow::Result<()> {
    let selected = Selection::from_args();
    let setup = Setup::create()?;
    let answers = SERVERS.iter().filter(|(name, _)| selected.has(name));
    let answers: Vec<_> = answers.collect();
    if !answers.is_empty() {
        println!("| server | CPU of a request | × null | command |\n|---|---|---|---|");
    }
    for (name, protocol) in answers {
        let row = measure_server(&setup, name, *protocol);
        print_row(name, row)?;
    }
    if selected.has("wrk") {
        println!("\n| server, with wrk as client | CPU of a request | × null | command |");
        println!("|---|---|---|---|");
        for name in WITH_WRK {
            print_row("wrk", measure_with_wrk(&setup, name))?;
        }
    }
    let imports = IMPORTS.iter().filter(|name| selected.has(name));
    let imports: Vec<_> = imports.collect();
    if !imports.is_empty() {
        println!("\n| import | new: elapsed, CPU | unchanged | 1 % changed | command |");
        println!("|---|---|---|---|---|");
    }
    for name in imports {
        print_row(name, measure_imports(name))?;
    }
    Ok(())
}

/// Prints a row, or what is missing for it. Other errors end the program.
fn print_row(name: &str, row: anyhow::Result<String>) -> anyhow::Result<()> {
    match row {
        Ok(row) => println!("{row} `benches/peers/run {name}` |"),
        Err(error) => match error.downcast_ref::<Missing>() {
            Some(missing) => println!("| {missing} |"),
            None => return Err(error.context(format!("measure {name}"))),
        },
    }
    Ok(())
}

/// Peers named as arguments.
struct Selection(Vec<String>);

impl Selection {
    fn from_args() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        // Cargo adds --bench; every other option has a value.
        let is_name = |index: &usize| {
            let is_value = index.checked_sub(1).is_some_and(|before| {
                arguments[before].starts_with("--") && arguments[before] != "--bench"
            });
            !arguments[*index].starts_with("--") && !is_value
        };
        let names = (0..arguments.len()).filter(is_name);
        Self(names.map(|index| arguments[index].clone()).collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|selected| selected == name)
    }
}

/// What all peers share: data, requests, and the null server.
struct Setup {
    directory: tempfile::TempDir,
    /// Number of SKUs of each shop.
    skus: u64,
    rounds: usize,
    bodies: Vec<String>,
    null: ServerThread,
}

impl Setup {
    fn create() -> anyhow::Result<Self> {
        let skus = argument("--skus").map_or(Ok(100_000), |n| n.parse())?;
        let rounds = argument("--rounds").map_or(Ok(5), |n| n.parse())?;
        let directory = tempfile::tempdir()?;
        write_stock(&directory.path().join("stock.tsv"), skus)?;
        let bodies: Vec<String> = (0..480)
            .map(|seed| market::stocks_body(seed, skus))
            .collect();
        let response = protocol::expected_response(&bodies[0], skus)?;
        std::fs::write(directory.path().join("response"), &response)?;
        Ok(Self {
            directory,
            skus,
            rounds,
            bodies,
            null: ServerThread::start(market::baseline_router(Bytes::from(response)))?,
        })
    }

    fn requests(&self, protocol: Protocol) -> anyhow::Result<Vec<Vec<u8>>> {
        let request = |body: &String| protocol.request(body);
        self.bodies.iter().map(request).collect()
    }
}

/// Writes a line for each SKU: warehouse, SKU, count and date.
fn write_stock(path: &Path, skus: u64) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for number in 0..skus * u64::from(SHOPS) {
        let level = protocol::level(number);
        let warehouse = market::warehouse(u16::try_from(number / skus)?);
        let sku = goods::sku(number);
        writeln!(
            file,
            "{warehouse}\t{sku}\t{}\t{}",
            level.count, level.updated_at
        )?;
    }
    Ok(file.flush()?)
}

/// A running peer: the service itself or another server.
enum Peer {
    Program(Program),
    Other {
        process: PeerProcess,
        addr: SocketAddr,
    },
}

impl Peer {
    fn start(setup: &Setup, name: &str, protocol: Protocol) -> anyhow::Result<(String, Self)> {
        if name == "stockbridge" {
            let program = Program::start(SHOPS)?;
            program.fill(setup.skus)?;
            return Ok(("stockbridge".into(), Self::Program(program)));
        }
        let script = script(name, "server");
        let version = peer_process::version(&script)?;
        let addr = peer_process::free_address()?;
        let mut command = Command::new(script);
        command
            .args(["start", &addr.port().to_string()])
            .arg(setup.directory.path());
        let process = PeerProcess::start(&mut command)?;
        process.wait_until_open(addr)?;
        if protocol == Protocol::Redis {
            protocol::fill_redis(addr, setup.skus)?;
        }
        Ok((version, Self::Other { process, addr }))
    }

    fn addr(&self) -> SocketAddr {
        match self {
            Self::Program(program) => program.public,
            Self::Other { addr, .. } => *addr,
        }
    }

    fn process(&self) -> &PeerProcess {
        match self {
            Self::Program(program) => &program.process,
            Self::Other { process, .. } => process,
        }
    }
}

fn script(peer: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("benches/peers")
        .join(peer)
        .join(name)
}

/// Returns the row of a server, measured in turns with the null server.
fn measure_server(setup: &Setup, name: &str, protocol: Protocol) -> anyhow::Result<String> {
    let (version, peer) = Peer::start(setup, name, protocol)?;
    let requests = setup.requests(protocol)?;
    let connect = || protocol.connect(peer.addr());
    check(setup, name, protocol, &requests, connect()?)?;
    let null_requests = setup.requests(Protocol::Http)?;
    let null_turn = |number| {
        let connect = || BlockingClient::connect(setup.null.addr);
        turn::measure(connect, || setup.null.cpu(), &null_requests, number)
    };
    let peer_turn = |number| turn::measure(connect, || peer.process().cpu(), &requests, number);
    let number = requests_of_a_turn(peer_turn)?;
    let null_number = requests_of_a_turn(null_turn)?;
    let mut turns = Vec::new();
    for _ in 0..setup.rounds {
        turns.push((
            micros(peer_turn(number)?, number),
            micros(null_turn(null_number)?, null_number),
        ));
    }
    Ok(server_row(&version, &turns))
}

fn server_row(version: &str, turns: &[(f64, f64)]) -> String {
    let ratio = median(turns.iter().map(|(peer, null)| peer / null).collect());
    let micros = median(turns.iter().map(|(peer, _)| *peer).collect());
    format!("| {version} | {micros:.0} µs | {ratio:.1} |")
}

fn micros(cpu: Duration, requests: usize) -> f64 {
    cpu.as_secs_f64() * 1e6 / requests as f64
}

/// Returns how many requests a turn has, so that the clock's ticks of 10 ms hardly matter.
fn requests_of_a_turn(turn: impl Fn(usize) -> anyhow::Result<Duration>) -> anyhow::Result<usize> {
    const TRIAL: usize = 160;
    turn(TRIAL)?;
    let started = Instant::now();
    turn(TRIAL)?;
    let elapsed = started.elapsed().as_nanos().max(1);
    let number = usize::try_from(TRIAL as u128 * TURN.as_nanos() / elapsed)?;
    let whole = number / turn::CONNECTIONS * turn::CONNECTIONS;
    Ok(whole.max(turn::CONNECTIONS))
}

/// Checks one response against the data. The static file is one of the expected responses.
fn check(
    setup: &Setup,
    name: &str,
    protocol: Protocol,
    requests: &[Vec<u8>],
    mut client: BlockingClient,
) -> anyhow::Result<()> {
    let number = if name == "nginx" { 0 } else { 7 };
    client.send(&requests[number])?;
    let found = protocol.levels(&setup.bodies[number], client.receive()?)?;
    ensure!(
        found == protocol::expected(&setup.bodies[number], setup.skus)?,
        "the response of {name} is wrong"
    );
    Ok(())
}

// === wrk ===

fn measure_with_wrk(setup: &Setup, name: &str) -> anyhow::Result<String> {
    if Command::new("wrk").arg("--version").output().is_err() {
        return Err(Missing("wrk is missing: apt-get install wrk".into()).into());
    }
    let (version, peer) = Peer::start(setup, name, Protocol::Http)?;
    let bodies = setup.directory.path().join("bodies");
    std::fs::write(&bodies, setup.bodies.join("\n"))?;
    let mut turns = Vec::new();
    for _ in 0..setup.rounds {
        turns.push((
            run_wrk(peer.addr(), &bodies, || peer.process().cpu())?,
            run_wrk(setup.null.addr, &bodies, || setup.null.cpu())?,
        ));
    }
    Ok(server_row(&version, &turns))
}

/// Returns the microseconds of the server's CPU time per request.
fn run_wrk(
    addr: SocketAddr,
    bodies: &Path,
    cpu: impl Fn() -> anyhow::Result<Duration>,
) -> anyhow::Result<f64> {
    let before = cpu()?;
    let output = Command::new("wrk")
        .args(["--threads", "1", "--connections"])
        .arg(turn::CONNECTIONS.to_string())
        .args(["--duration", "3s", "--script"])
        .arg(script("wrk", "requests.lua"))
        .args([&format!("http://{addr}/stocks"), "--"])
        .arg(bodies)
        .arg(market::TOKEN)
        .output()
        .context("run wrk")?;
    let cpu = cpu()? - before;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && !text.contains("Non-2xx") && !text.contains("Socket errors"),
        "wrk failed: {text}"
    );
    let count = text
        .lines()
        .find_map(|line| line.split_once(" requests in "));
    let (count, _) = count.with_context(|| format!("wrk printed no count: {text}"))?;
    Ok(micros(cpu, count.trim().parse()?))
}

// === Imports ===

/// Returns the row of an import: a file that is new, the same again, and with 1 % changed.
fn measure_imports(name: &str) -> anyhow::Result<String> {
    let number: u64 = argument("--rows").map_or(Ok(1_000_000), |n| n.parse())?;
    let scratch = tempfile::tempdir()?;
    let (version, program) = if name == "import" {
        ("stockbridge import".to_owned(), Some(Program::start(1)?))
    } else {
        (peer_process::version(&script(name, "import"))?, None)
    };
    let mut row = format!("| {version} |");
    let steps = [(0, number, 0), (0, 0, 0), (1, 0, number.div_ceil(100))];
    for (every_hundredth, new, changed) in steps {
        let file = scratch.path().join("stock.csv");
        let changes = rows::Changes {
            every_hundredth,
            every: 0,
        };
        rows::fill(&file, number, changes, rows::csv)?;
        let mut command = if let Some(program) = &program {
            program.import(&file)
        } else {
            let mut command = Command::new(script(name, "import"));
            command.arg("import").arg(&file).arg(scratch.path());
            command
        };
        let service_cpu = || {
            program
                .as_ref()
                .map_or(Ok(Duration::ZERO), |p| p.process.cpu())
        };
        let (service, children, started) = (service_cpu()?, children_cpu()?, Instant::now());
        let output = command.output().context("import")?;
        let elapsed = started.elapsed();
        let cpu = service_cpu()? - service + (children_cpu()? - children);
        let text = String::from_utf8_lossy(&output.stdout);
        let is_right = text.contains(&format!("new {new}, changed {changed} "))
            || text.contains(&format!("{} rows written", new + changed));
        ensure!(
            output.status.success() && is_right,
            "the import failed: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        row += &format!(
            " {:.1} s, {:.1} s |",
            elapsed.as_secs_f64(),
            cpu.as_secs_f64()
        );
    }
    Ok(row)
}
