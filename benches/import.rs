//! Cost of importing a file, compared with reading the same file.
//!
//! `cargo bench --bench import` uses a million rows; `--rows N` changes the number. `--dir PATH`
//! puts all files outside the temporary directory.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "yardstick/figure.rs"]
mod figure;
#[path = "yardstick/import_service.rs"]
mod import_service;
#[path = "yardstick/rows.rs"]
mod rows;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use figure::{FigureLimits, argument, median, millis};
use import_service::ImportService;
use rows::{Changes, WriteRows, count, csv, fill, sku};
use stock_import::formats::Format;
use stock_import::{ReadSettings, formats};
use stockbridge::store::Store;
use tokio::time::Instant;

/// Delivery of the same rows, with its limits.
struct Case {
    title: &'static str,
    changes: Changes,
    /// Required number of rows a second.
    required: f64,
    /// Times parsing the file.
    limits: FigureLimits,
}

const CASES: [Case; 4] = [
    Case {
        title: "new",
        changes: Changes {
            every_hundredth: 0,
            every: 0,
        },
        required: 250_000.0,
        limits: FigureLimits(6.0, 3.4),
    },
    Case {
        title: "unchanged",
        changes: Changes {
            every_hundredth: 0,
            every: 0,
        },
        required: 350_000.0,
        limits: FigureLimits(4.3, 2.5),
    },
    Case {
        title: "1 % changed",
        changes: Changes {
            every_hundredth: 1,
            every: 0,
        },
        required: 500_000.0,
        limits: FigureLimits(3.0, 2.5),
    },
    Case {
        title: "all changed",
        changes: Changes {
            every_hundredth: 1,
            every: 3,
        },
        required: 200_000.0,
        limits: FigureLimits(7.5, 3.75),
    },
];

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
        fill(&path, rows, Changes::default(), *write)?;
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

/// Imports the same CSV through the whole pipeline, with more and more changes.
async fn measure_deliveries(scratch: &Path, rows: u64) -> anyhow::Result<()> {
    let service = ImportService::open(scratch).await?;
    let read_time = time_reading(&scratch.join("csv"))?;
    for Case {
        title,
        changes,
        required,
        limits,
    } in CASES
    {
        let path = scratch.join("stock.csv");
        fill(&path, rows, changes, csv)?;
        // At the same time as the import, because the machine may be busy.
        let parsed = time_parsing(&path, Format::Csv, rows)?;
        let before = resident()?;
        let started = Instant::now();
        let report = service.deliver(&path).await?;
        let took = millis(started.elapsed());
        println!(
            "take {title:<12} {took:>8.0} ms, {:>5.1} x reading its bytes, {:>9.0} rows/s \
             (required: {required}), {} changed, {:.0} MB more resident",
            took / read_time,
            per_second(rows, took),
            report.changes.new + report.changes.changed,
            resident()? - before
        );
        limits.print(&format!("take {title}"), took / parsed, "x parsing it");
        print_log_size(&service.store);
    }
    service.close().await
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

fn ndjson(out: &mut dyn std::io::Write, rows: u64, changes: Changes) -> std::io::Result<()> {
    (0..rows).try_for_each(|n| {
        writeln!(
            out,
            r#"{{"sku":"{}","stock":{}}}"#,
            sku(n),
            count(n, changes)
        )
    })
}

fn yml(out: &mut dyn std::io::Write, rows: u64, changes: Changes) -> std::io::Result<()> {
    writeln!(
        out,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><yml_catalog><shop><offers>"
    )?;
    (0..rows).try_for_each(|n| {
        let (sku, count) = (sku(n), count(n, changes));
        writeln!(
            out,
            "<offer id=\"{sku}\"><price>1</price><count>{count}</count></offer>"
        )
    })?;
    writeln!(out, "</offers></shop></yml_catalog>")
}

fn commerceml(out: &mut dyn std::io::Write, rows: u64, changes: Changes) -> std::io::Result<()> {
    let head = "<КоммерческаяИнформация><ПакетПредложений><Предложения>";
    writeln!(out, "{head}")?;
    (0..rows).try_for_each(|n| {
        let (sku, count) = (sku(n), count(n, changes));
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
