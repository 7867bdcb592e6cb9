//! Kill test: the service as a separate process, killed repeatedly with `kill -9` while it is fed.
//!
//! Each acknowledged count must survive, and the simulator's copy must equal the seller's stock at
//! the end.

use std::collections::HashMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use lifecycle::{CrashSignal, Tasks};
use market_sim::catalogue::{self, CatalogueProduct};
use market_sim::{MarketSimulator, compare};
use rand::rngs::StdRng;
use rand::seq::index::sample;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, timeout};

use super::service_client::ServiceClient;
use super::{
    CAMPAIGN, PRODUCTS, RehearsalMethod, any_port, market_config, service_config, service_secrets,
};
use crate::command::print_line;
use crate::command::progress::ProgressReporter;

/// SKUs in one update.
const SKUS_PER_UPDATE: usize = 200;

/// Time from the first update to the kill, in milliseconds.
const LIFETIME_MS: std::ops::Range<u64> = 5..300;

/// Timeout of a start.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Timeout until all stock is sent after the last start: one minute for the Market's limit, and one
/// in reserve.
const CONVERGENCE_TIMEOUT: Duration = Duration::from_mins(2);

/// Counts of one SKU, as the seller knows them.
#[derive(Clone, Copy, Debug, Default)]
struct SellerCount {
    acknowledged: Option<u32>,
    // Sent after that without a response, so it may be applied or not.
    unanswered: Option<u32>,
}

impl SellerCount {
    fn allows(self, count: Option<u32>) -> bool {
        count == self.acknowledged || (count.is_some() && count == self.unanswered)
    }
}

/// Counters of the test.
#[derive(Default)]
struct KillStats {
    updates: usize,
    checked: usize,
    lost: Vec<String>,
}

struct KillTest {
    market: MarketSimulator,
    service: ServiceClient,
    directory: tempfile::TempDir,
    counts: HashMap<String, SellerCount>,
    catalogue: Vec<CatalogueProduct>,
    rng: StdRng,
    stats: KillStats,
}

/// Kills the service `kills` times. Fails if an acknowledged count was lost.
pub(super) async fn run(kills: u32, seed: u64) -> anyhow::Result<ExitCode> {
    let tasks = Tasks::new(CrashSignal::default());
    let market = MarketSimulator::new(market_config(false));
    let address = market
        .start(any_port(), &tasks)
        .await
        .context("start the Market simulator")?;
    let directory = tempfile::tempdir().context("create a directory for the service")?;
    let (listen, ops) = (free_port()?, free_port()?);
    let text = service_config(
        listen,
        ops,
        &format!("http://{address}"),
        RehearsalMethod::Campaign,
    );
    std::fs::write(directory.path().join("config.toml"), text)
        .context("write the configuration")?;
    let mut test = KillTest {
        market,
        service: ServiceClient::new(listen, ops)?,
        directory,
        counts: HashMap::new(),
        catalogue: catalogue::generate(PRODUCTS as usize),
        rng: StdRng::seed_from_u64(seed),
        stats: KillStats::default(),
    };
    let result = test.run(kills).await;
    tasks.stop();
    tasks.ended().await;
    Ok(if result? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl KillTest {
    async fn run(&mut self, kills: u32) -> anyhow::Result<bool> {
        print_line(&format!(
            "Kill test: the service is fed and killed with kill -9 {kills} times, while the Market \
             simulator runs on."
        ));
        let mut progress = ProgressReporter::start("killed", kills as usize, "times");
        for n in 1..=kills {
            let mut child = self.start_service().await?;
            self.check_acknowledged().await?;
            self.feed_until_killed(&mut child).await?;
            progress.set_position(n as usize);
        }
        progress.finish(&format!("{kills} times"));
        let mut child = self.start_service().await?;
        self.check_acknowledged().await?;
        let convergence = timeout(CONVERGENCE_TIMEOUT, self.wait_until_converged()).await;
        child.kill().context("end the service")?;
        child.wait().context("end the service")?;
        convergence.context("the Market's copy does not converge in time")??;
        Ok(self.print_result())
    }

    async fn start_service(&self) -> anyhow::Result<Child> {
        let path = self.directory.path();
        let log = File::options()
            .create(true)
            .append(true)
            .open(path.join("log"))?;
        let mut child = Command::new(std::env::current_exe().context("find this program")?)
            .args(["serve", "--config"])
            .arg(path.join("config.toml"))
            .envs(service_secrets())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start the service")?;
        let started = Instant::now();
        while !self.service.is_ready().await {
            if let Some(status) = child.try_wait()? {
                bail!(
                    "the service exited during its start, {status}: {}",
                    log_tail(path)
                );
            }
            ensure!(
                started.elapsed() < START_TIMEOUT,
                "the service is not ready after {} s: {}",
                START_TIMEOUT.as_secs(),
                log_tail(path)
            );
            sleep(Duration::from_millis(2)).await;
        }
        Ok(child)
    }

    /// Sends updates without a pause, then kills the service after a random time.
    async fn feed_until_killed(&mut self, child: &mut Child) -> anyhow::Result<()> {
        let lifetime = Duration::from_millis(self.rng.random_range(LIFETIME_MS));
        let deadline = Instant::now() + lifetime;
        loop {
            let products: Vec<CatalogueProduct> =
                sample(&mut self.rng, self.catalogue.len(), SKUS_PER_UPDATE)
                    .iter()
                    .map(|n| CatalogueProduct {
                        sku: self.catalogue[n].sku.clone(),
                        count: random_count(&mut self.rng),
                    })
                    .collect();
            for CatalogueProduct { sku, count } in &products {
                self.counts.entry(sku.clone()).or_default().unanswered = Some(*count);
            }
            let Ok(result) =
                tokio::time::timeout_at(deadline, self.service.put_stock(&products)).await
            else {
                break;
            };
            result?;
            self.stats.updates += 1;
            for CatalogueProduct { sku, count } in &products {
                let acknowledged = SellerCount {
                    acknowledged: Some(*count),
                    unanswered: None,
                };
                self.counts.insert(sku.clone(), acknowledged);
            }
        }
        child.kill().context("kill the service")?;
        child.wait().context("kill the service")?;
        Ok(())
    }

    /// Requests all SKUs that were ever sent, and compares them with the acknowledged counts.
    async fn check_acknowledged(&mut self) -> anyhow::Result<()> {
        if self
            .counts
            .values()
            .all(|known| known.acknowledged.is_none())
        {
            return Ok(());
        }
        let skus: Vec<String> = self.counts.keys().cloned().collect();
        let report = self.service.ask_stock(&skus).await;
        ensure!(
            report.failures.is_empty(),
            "push requests without a valid response: {:?}",
            report.failures.examples
        );
        for (sku, known) in &mut self.counts {
            let count = report.stocks.get(sku.as_str()).map(|(count, _)| *count);
            if !known.allows(count) {
                self.stats
                    .lost
                    .push(format!("'{sku}': expected {known:?}, got {count:?}"));
            }
            // The count that is served now must be served from now on.
            *known = SellerCount {
                acknowledged: count,
                unanswered: None,
            };
        }
        self.stats.checked += skus.len();
        Ok(())
    }

    async fn wait_until_converged(&self) -> anyhow::Result<()> {
        while self.service.status().await?.shops[0].dirty != Some(0) {
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn print_result(&self) -> bool {
        let expected = self
            .counts
            .iter()
            .filter_map(|(sku, known)| Some((sku.as_str(), known.acknowledged?)));
        let comparison = compare(expected, &self.market.snapshot(CAMPAIGN));
        let market_report = self.market.report();
        let KillStats {
            updates,
            checked,
            lost,
        } = &self.stats;
        let differing = comparison.differing.count + comparison.missing.count;
        print_line("");
        for (label, value) in [
            ("updates acknowledged", updates.to_string()),
            ("counts checked", checked.to_string()),
            ("counts lost", lost.len().to_string()),
            ("requests to the Market", market_report.updates.to_string()),
            ("rules broken", market_report.total_violations().to_string()),
            ("SKUs that differ", differing.to_string()),
        ] {
            print_line(&format!("  {label:<23} {value}"));
        }
        print_line("");
        lost.iter()
            .take(10)
            .chain(market_report.violation_examples.iter().take(10))
            .for_each(|line| print_line(line));
        let is_good = lost.is_empty() && market_report.total_violations() == 0 && differing == 0;
        print_line(if is_good {
            "PASSED: no acknowledged stock was lost."
        } else {
            "FAILED: see the lines above."
        });
        is_good
    }
}

fn random_count(rng: &mut StdRng) -> u32 {
    rng.random_range(0..1_000)
}

/// Returns a port that is free now. If another process takes it first, the start of the service
/// fails.
fn free_port() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(any_port()).context("find a free port")?;
    Ok(listener.local_addr()?)
}

/// Returns the last lines of the service's log, for a failed start.
fn log_tail(directory: &Path) -> String {
    let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
