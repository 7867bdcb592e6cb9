//! Cost of importing a file, compared with reading the same file.
//!
//! `cargo bench --bench import` uses a million rows; `--rows N` changes the number. `--dir PATH`
//! puts all files outside the temporary directory.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "yardstick/figure.rs"]
mod figure;

use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use figure::{FigureLimits, argument, median, millis};
use lifecycle::Clock;
use lifecycle::{CrashSignal, Tasks};
use stock::ShopId;
use stock_import::delivery_guard;
use stock_import::formats::Format;
use stock_import::stock_rules::{ShopRules, SourceRules};
use stock_import::{DeliveryScope, ReadSettings, formats};
use stockbridge::ingest::{self, Origin};
use stockbridge::sources::{
    self, AbsentPolicy, Config, DeliveryReport, ImportRequest, ShopSources, SourceKind,
    SourceManager, SourcePolicy, SourceWarehouses,
};
use stockbridge::store::{self, ShopIdentity, Store};
use stockbridge::telemetry::Alarms;
use tokio::time::Instant;

const SHOP: ShopId = ShopId(0);

/// Function that writes the given number of rows and adds the given change to the count of every
/// hundredth one.
type WriteRows = fn(&mut dyn std::io::Write, u64, u64) -> std::io::Result<()>;

/// Name, format and writer of each file.
const FILES: &[(&str, Format, WriteRows)] = &[
    ("csv", Format::Csv, csv),
    ("ndjson", Format::Json, ndjson),
    ("yml", Format::Yml, yml),
    ("commerceml", Format::CommerceMl, commerceml),
];

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure())
}

async fn measure() -> anyhow::Result<()> {
    let rows: u64 = argument("--rows").map_or(Ok(1_000_000), |n| n.parse())?;
    let scratch = match argument("--dir") {
        Some(path) => tempfile::tempdir_in(path)?,
        None => tempfile::tempdir()?,
    };
    println!("{rows} rows, each figure is from one run");
    for (name, format, write) in FILES {
        let path = scratch.path().join(name);
        fill(&path, rows, 0, *write)?;
        let read_time = time_reading(&path)?;
        let rounds = (0..3)
            .map(|_| time_parsing(&path, *format, rows))
            .collect::<Result<_, _>>()?;
        let parsed = median(rounds);
        println!(
            "parse {name:<11} {:>8.0} ms, {:>5.1} x reading its bytes, {:>9.0} rows/s",
            parsed,
            parsed / read_time,
            per_second(rows, parsed)
        );
    }
    measure_deliveries(scratch.path(), rows).await
}

fn fill(path: &Path, rows: u64, change: u64, write: WriteRows) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    write(&mut file, rows, change)?;
    Ok(file.flush()?)
}

/// Returns the milliseconds for reading the file through one buffer, from the page cache. This is
/// the lower bound for any import.
fn time_reading(path: &Path) -> anyhow::Result<f64> {
    let mut buffer = vec![0; 64 * 1024];
    let started = Instant::now();
    let mut file = File::open(path)?;
    while file.read(&mut buffer)? > 0 {}
    Ok(millis(started.elapsed()))
}

fn time_parsing(path: &Path, format: Format, rows: u64) -> anyhow::Result<f64> {
    let mut found = 0;
    let started = Instant::now();
    let mut file = File::open(path)?;
    formats::read(format, &mut file, &ReadSettings::default(), &mut |entry| {
        found += u64::from(matches!(entry, stock_import::DeliveryEntry::Row(_)));
        Ok(())
    })?;
    let took = millis(started.elapsed());
    anyhow::ensure!(
        found == rows,
        "only {found} of {rows} rows were read from {}",
        path.display()
    );
    Ok(took)
}

/// Imports the same CSV through the whole pipeline: new, unchanged, and with one percent changed.
async fn measure_deliveries(scratch: &Path, rows: u64) -> anyhow::Result<()> {
    let key = ShopIdentity {
        name: "shop".into(),
        target: String::new(),
        warehouses: Vec::new(),
    };
    let opened = Store::open(
        &store::Config {
            path: scratch.join("store"),
            url: None,
        },
        &[key],
    )
    .await?;
    let (book, store) = (Arc::new(opened.book), Arc::new(opened.store));
    let alarms = Alarms::new(Clock::wall());
    let (ingest, worker) = ingest::create(
        Arc::clone(&book),
        Arc::clone(&store),
        Clock::wall(),
        alarms.clone(),
        ingest::Metrics::default(),
        Box::new(|_| {}),
    );
    let tasks = Tasks::new(CrashSignal::default());
    tasks.spawn("ingest", worker.run(tasks.clone()));
    let context = sources::Context {
        book,
        ingest,
        clock: Clock::wall(),
        alarms,
        events: stockbridge::event_log::EventLog::default(),
    };
    let manager = open_sources(&scratch.join("sources"), &context).await?;
    let read_time = time_reading(&scratch.join("csv"))?;
    let parsed = time_parsing(&scratch.join("csv"), Format::Csv, rows)?;
    for (title, change) in [("new", 0), ("unchanged", 0), ("1 % changed", 1)] {
        let path = scratch.join("stock.csv");
        fill(&path, rows, change, csv)?;
        let before = resident()?;
        let started = Instant::now();
        let report = deliver(&manager, &path).await?;
        let took = millis(started.elapsed());
        println!(
            "take {title:<12} {took:>8.0} ms, {:>5.1} x reading its bytes, {:>9.0} rows/s, \
             {} changed, {:.0} MB more resident",
            took / read_time,
            per_second(rows, took),
            report.changes.new + report.changes.changed,
            resident()? - before
        );
        FigureLimits(40.0, 10.0).print(&format!("take {title}"), took / parsed, "x parsing it");
        print_log_size(&store);
    }
    tasks.stop();
    tasks.ended().await;
    Ok(store.close().await?)
}

async fn open_sources(
    directory: &Path,
    context: &sources::Context,
) -> anyhow::Result<SourceManager> {
    let source = Config {
        policy: SourcePolicy {
            name: "file".into(),
            origin: Origin::File,
            scope: Some(DeliveryScope::Snapshot),
            absent: AbsentPolicy::Zero,
            warehouses: SourceWarehouses::Unset,
            limits: delivery_guard::GuardLimits::default(),
            rules: SourceRules::default(),
            mapping: Vec::new(),
            duplicates: Default::default(),
            read_settings_text: String::new(),
            variants: Default::default(),
        },
        read_settings: ReadSettings::default(),
        poll_interval: std::time::Duration::from_secs(3_600),
        kind: SourceKind::Import,
    };
    let plan = ShopSources {
        shop: SHOP,
        name: "shop".into(),
        sources: vec![source],
        rules: ShopRules::default(),
    };
    let no_skus = Arc::new(|_| Vec::new());
    let outbound = strict_http::ClientConfig::default();
    Ok(SourceManager::open(directory, vec![plan], &outbound, no_skus, context).await?)
}

async fn deliver(manager: &SourceManager, path: &Path) -> anyhow::Result<DeliveryReport> {
    let import = ImportRequest {
        shop: SHOP,
        source: 0,
        file: File::open(path)?,
        name: "stock.csv".into(),
        format: Some(Format::Csv),
        scope: None,
        should_apply: true,
    };
    Ok(manager.import(import).await?)
}

/// Prints the size of the store's log, which an unchanged delivery does not increase.
fn print_log_size(store: &Store) {
    println!(
        "     store log {:.1} MB",
        megabytes(store.status().log_bytes)
    );
}

/// Returns the resident memory in megabytes.
fn resident() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kilobytes: u64 = kilobytes.context("VmRSS is missing")?.trim().parse()?;
    Ok(megabytes(kilobytes * 1024))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn per_second(rows: u64, millis: f64) -> f64 {
    rows as f64 / millis * 1e3
}

/// Returns a SKU; consecutive numbers give unsorted SKUs, as from a database.
fn sku(number: u64) -> String {
    format!(
        "{:08X}-{number}",
        number.wrapping_mul(2_654_435_761) % 4_294_967_296
    )
}

fn count(number: u64, change: u64) -> u64 {
    number % 97
        + 1
        + if number.is_multiple_of(100) {
            change
        } else {
            0
        }
}

fn csv(out: &mut dyn std::io::Write, rows: u64, change: u64) -> std::io::Result<()> {
    writeln!(out, "Артикул;Наименование;Остаток")?;
    (0..rows).try_for_each(|n| writeln!(out, "{};Товар {n};{}", sku(n), count(n, change)))
}

fn ndjson(out: &mut dyn std::io::Write, rows: u64, change: u64) -> std::io::Result<()> {
    (0..rows).try_for_each(|n| {
        writeln!(
            out,
            r#"{{"sku":"{}","stock":{}}}"#,
            sku(n),
            count(n, change)
        )
    })
}

fn yml(out: &mut dyn std::io::Write, rows: u64, change: u64) -> std::io::Result<()> {
    writeln!(
        out,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><yml_catalog><shop><offers>"
    )?;
    (0..rows).try_for_each(|n| {
        let (sku, count) = (sku(n), count(n, change));
        writeln!(
            out,
            "<offer id=\"{sku}\"><price>1</price><count>{count}</count></offer>"
        )
    })?;
    writeln!(out, "</offers></shop></yml_catalog>")
}

fn commerceml(out: &mut dyn std::io::Write, rows: u64, change: u64) -> std::io::Result<()> {
    let head = "<КоммерческаяИнформация><ПакетПредложений><Предложения>";
    writeln!(out, "{head}")?;
    (0..rows).try_for_each(|n| {
        let (sku, count) = (sku(n), count(n, change));
        let id = format!("<Ид>{n}</Ид><Артикул>{sku}</Артикул>");
        writeln!(
            out,
            "<Предложение>{id}<Количество>{count}</Количество></Предложение>"
        )
    })?;
    writeln!(
        out,
        "</Предложения></ПакетПредложений></КоммерческаяИнформация>"
    )
}
