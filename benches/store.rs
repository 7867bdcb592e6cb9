//! Cost of a durable batch, of a start, and of the memory per entry, with a million entries.
//!
//! `cargo bench --bench store` uses ten shops of 100 000 SKUs each, and `--large` ten shops of a
//! million. Every SKU was stated, requested and acknowledged. `--shops N` and `--skus N` change the size; `--dir PATH` puts the store
//! outside the temporary directory.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "yardstick/figure.rs"]
mod figure;
#[path = "yardstick/goods.rs"]
mod goods;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use figure::{FigureLimits, argument, median, millis};
use stock::{Hour, LastStated, Level, PerSku, ShopId, Sku, SkuId};
use stockbridge::store::{Acked, Config, OpenedStore, ShopIdentity, Store, StoreChange};
use tokio::time::Instant;

const BATCH: u64 = 2000;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match argument("--open") {
            Some(path) => measure_start(Path::new(&path)).await,
            None => measure().await,
        }
    })
}

async fn measure() -> anyhow::Result<()> {
    let size = StoreSize::from_args()?;
    let scratch = match argument("--dir") {
        Some(path) => tempfile::tempdir_in(path)?,
        None => tempfile::tempdir()?,
    };
    let (full, empty) = (scratch.path().join("full"), scratch.path().join("empty"));
    size.fill(&full).await?;
    let no_entries = StoreSize {
        skus_per_shop: 0,
        ..size
    };
    no_entries.fill(&empty).await?;
    measure_starts(&size, &full, &empty)?;
    measure_batches(&size, scratch.path(), &full).await
}

/// Size of the measured store.
#[derive(Clone, Copy)]
struct StoreSize {
    shops: u16,
    skus_per_shop: u64,
}

impl StoreSize {
    fn from_args() -> anyhow::Result<Self> {
        let default = if std::env::args().any(|argument| argument == "--large") {
            1_000_000
        } else {
            100_000
        };
        Ok(Self {
            shops: argument("--shops").map_or(Ok(10), |n| n.parse())?,
            skus_per_shop: argument("--skus").map_or(Ok(default), |n| n.parse())?,
        })
    }

    fn entries(&self) -> u64 {
        u64::from(self.shops) * self.skus_per_shop
    }

    /// Creates a store in which all entries are acknowledged, compacted into one snapshot.
    async fn fill(&self, path: &Path) -> anyhow::Result<()> {
        let opened = open(path, self.shops).await?;
        let mut levels: Vec<PerSku<Option<Level>>> = Vec::new();
        for shop in opened.book.shops() {
            let mut levels_of_shop = PerSku::default();
            let first = u64::from(shop.0) * self.skus_per_shop;
            for number in first..first + self.skus_per_shop {
                let (sku, level) = (goods::sku(number), goods::level(number));
                let id = opened.book.restore(shop, &sku, level);
                levels_of_shop.set(id, Some(level));
                let hour = Hour::containing(level.updated_at);
                let stated = LastStated { hour, origin: 1 };
                let activity = &opened.activity;
                activity.record_stated(shop, std::iter::once(id), stated);
                let requested = activity.get_requested(shop, 0, [sku.as_str()], hour);
                ensure!(requested[0].is_some(), "{sku} is unknown");
            }
            levels.push(levels_of_shop);
        }
        // Acknowledged levels equal the SKU's own, as they usually do. Different ones take more
        // bytes on disk.
        let acked = |shop: ShopId, id: SkuId| match levels[shop.index()].get(id) {
            Some(level) => Acked::new(level, level.updated_at.to_utc()),
            None => Acked::default(),
        };
        opened
            .store
            .compact(&opened.book, acked, &opened.activity)
            .await?;
        Ok(opened.store.close().await?)
    }
}

async fn open(path: &Path, shops: u16) -> anyhow::Result<OpenedStore> {
    let key = |shop| ShopIdentity {
        name: format!("shop-{shop}"),
        target: String::new(),
        warehouses: vec![u64::from(shop) + 1],
    };
    let keys: Vec<ShopIdentity> = (0..shops).map(key).collect();
    Ok(Store::open(
        &Config {
            path: path.to_owned(),
            url: None,
        },
        &keys,
    )
    .await?)
}

// === Start and memory, each in a separate process ===

/// Opens the store in the child process and prints entries, milliseconds and resident kilobytes.
async fn measure_start(path: &Path) -> anyhow::Result<()> {
    let shops = argument("--shops").context("--shops is missing")?.parse()?;
    let started = Instant::now();
    let opened = open(path, shops).await?;
    let took = millis(started.elapsed());
    let known: usize = opened.book.shops().map(|shop| opened.book.len(shop)).sum();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident
        .context("VmRSS is missing in /proc/self/status")?
        .trim()
        .trim_end_matches(" kB");
    println!("{known} {took} {resident}");
    Ok(opened.store.close().await?)
}

/// Starts a child process, and returns its start time in milliseconds and its memory in bytes.
fn measure_in_child(path: &Path, size: &StoreSize) -> anyhow::Result<[f64; 2]> {
    let output = Command::new(std::env::current_exe()?)
        .arg("--open")
        .arg(path)
        .args(["--shops", &size.shops.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let [known, took, kilobytes] = numbers[..] else {
        anyhow::bail!(
            "the child failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    ensure!(
        known == size.entries() as f64 || known == 0.0,
        "the child opened {known} entries, expected {}",
        size.entries()
    );
    Ok([took, kilobytes * 1024.0])
}

fn measure_starts(size: &StoreSize, full: &Path, empty: &Path) -> anyhow::Result<()> {
    let entries = size.entries();
    let median_of = |path| -> anyhow::Result<[f64; 2]> {
        let children = (0..5)
            .map(|_| measure_in_child(path, size))
            .collect::<Result<Vec<_>, _>>()?;
        Ok([0, 1].map(|of| median(children.iter().map(|child| child[of]).collect())))
    };
    let ([took, bytes], [_, empty_bytes]) = (median_of(full)?, median_of(empty)?);
    let title = format!("start with {entries} entries");
    match entries {
        // The limits apply only to this size.
        1_000_000 => FigureLimits(0.5, 0.3).print(&title, took / 1e3, "s"),
        _ => println!("{title}: {:.2} s", took / 1e3),
    }
    let limits = if entries > 5_000_000 {
        FigureLimits(75.0, 60.0)
    } else {
        FigureLimits(75.0, 62.0)
    };
    let each = |bytes: f64| bytes / entries as f64;
    limits.print(
        &format!("memory at {entries} entries"),
        each(bytes),
        "bytes per entry",
    );
    println!(
        "  of these, an empty store takes {:.1}: {:.2} MB",
        each(empty_bytes),
        empty_bytes / 1e6
    );
    Ok(())
}

// === A durable batch ===

/// Appends batches to the store and writes as many bytes to a plain file, alternately.
async fn measure_batches(size: &StoreSize, scratch: &Path, full: &Path) -> anyhow::Result<()> {
    let rounds: u64 = argument("--rounds").map_or(Ok(100), |n| n.parse())?;
    let opened = open(full, size.shops).await?;
    let mut plain = File::create(scratch.join("plain"))?;
    let (mut batch_times, mut write_times) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let (shop, rows) = sample_batch(size, round);
        let before = opened.store.status().log_bytes;
        let started = Instant::now();
        let append_guard = opened
            .store
            .append(&[StoreChange::Stock { shop, rows: &rows }])
            .await?;
        batch_times.push(millis(started.elapsed()));
        drop(append_guard);
        let bytes = usize::try_from(opened.store.status().log_bytes - before)?;
        // Random bytes, because a disk may handle zeros faster.
        let bytes: Vec<u8> = (0..bytes as u64)
            .map(|n| goods::mix(n).to_le_bytes()[0])
            .collect();
        let started = Instant::now();
        plain.write_all(&bytes)?;
        plain.sync_data()?;
        write_times.push(millis(started.elapsed()));
    }
    let mean = |times: &[f64]| times.iter().sum::<f64>() / times.len() as f64;
    let means = [mean(&batch_times), mean(&write_times)];
    let [batch_median, write_median] = [batch_times, write_times].map(median);
    println!(
        "a batch of {BATCH}: median {batch_median:.2} ms, mean {:.2} ms; write and fdatasync {write_median:.2} and {:.2} ms",
        means[0], means[1]
    );
    let limits = FigureLimits(2.3, 1.5);
    limits.print(
        "durable batch of 2000, median",
        batch_median / write_median,
        "× write + fdatasync",
    );
    limits.print(
        "durable batch of 2000, mean",
        means[0] / means[1],
        "× write + fdatasync",
    );
    Ok(opened.store.close().await?)
}

fn sample_batch(size: &StoreSize, round: u64) -> (ShopId, Vec<(Sku, Level)>) {
    let shop = round % u64::from(size.shops);
    let row = |n| {
        let random = goods::mix(round * BATCH + n);
        let number = shop * size.skus_per_shop + random % size.skus_per_shop;
        (goods::sku(number), goods::level(random))
    };
    (
        ShopId(u16::try_from(shop).unwrap_or_default()),
        (0..BATCH).map(row).collect(),
    )
}
