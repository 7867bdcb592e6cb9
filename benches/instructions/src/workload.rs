//! The counted work, each at two sizes.

use anyhow::{bail, ensure};
use axum::body::Body;

use crate::import_service::ImportService;
use crate::market::SKUS_PER_REQUEST;
use crate::stock_service::{self, StockService, UPDATES_PER_REQUEST};
use crate::{in_process, rows, valgrind};

/// SKUs of each of ten shops.
const SKUS: u64 = 10_000;

/// Work whose instructions are counted.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// Names of the run and its size, of the run with less work and of the one with more.
    runs: [(&'static str, u64); 2],
    /// Units that the second run does in addition.
    units: u64,
}

pub(crate) const ALL: &[Workload] = &[
    Workload {
        name: "answer_per_sku",
        runs: [("answer", 100), ("answer", 200)],
        units: 100 * SKUS_PER_REQUEST,
    },
    Workload {
        name: "update",
        // More batches than an answer needs requests, because the order of the threads varies.
        runs: [("update", 10), ("update", 40)],
        units: 30 * UPDATES_PER_REQUEST,
    },
    Workload {
        name: "import_of_a_new_row",
        runs: [("import", 2_500), ("import", 5_000)],
        units: 2_500,
    },
    Workload {
        name: "import_of_an_unchanged_row",
        runs: [("import", 5_000), ("import_twice", 5_000)],
        units: 5_000,
    },
];

impl Workload {
    pub(crate) fn count(&self) -> anyhow::Result<f64> {
        let [fewer, more] = self.runs.map(|(name, size)| (name, size.to_string()));
        valgrind::count_per_unit(
            &["--in-process", fewer.0, "--size", &fewer.1],
            &["--in-process", more.0, "--size", &more.1],
            self.units,
        )
    }
}

/// Does the work in this process.
pub(crate) fn run(name: &str, size: u64) -> anyhow::Result<()> {
    match name {
        "answer" => in_process::answer(size, SKUS),
        "update" => update(size),
        "import" => import(size, 1),
        "import_twice" => import(size, 2),
        _ => bail!("unknown workload {name}"),
    }
}

fn update(requests: u64) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    runtime()?.block_on(async {
        let service = StockService::open(scratch.path(), SKUS).await?;
        let router = service.router();
        for seed in 0..requests {
            let (shop, body) = stock_service::update_body(seed, SKUS);
            let request = stock_service::update_request(shop, &body).body(Body::from(body))?;
            in_process::exchange(&router, request).await?;
        }
        Ok(())
    })
}

/// Imports the same file `times` times.
fn import(rows: u64, times: usize) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let path = scratch.path().join("stock.csv");
    rows::fill(&path, rows, rows::Changes::default(), rows::csv)?;
    runtime()?.block_on(async {
        let service = ImportService::open(scratch.path()).await?;
        for time in 0..times {
            let changes = service.deliver(&path).await?.changes;
            let expected = if time == 0 { rows } else { 0 };
            let found = changes.new + changes.changed;
            ensure!(
                found == expected,
                "{found} rows changed instead of {expected}"
            );
        }
        service.close().await
    })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}
