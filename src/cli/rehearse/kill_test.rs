//! The service as a process of its own, killed again and again while it is fed.

use std::collections::HashMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rand::rngs::StdRng;
use rand::seq::index::sample;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, timeout};

use super::service_client::ServiceClient;
use super::{CAMPAIGN, RehearsalMethod, any_port, market_config, service_config, service_secrets};
use crate::cli::print_line;
use crate::cli::progress::ProgressReporter;
use crate::lifecycle::{CrashSignal, Tasks};
use crate::market_sim::catalogue::{self, CatalogueProduct};
use crate::market_sim::{MarketSimulator, compare};

/// SKUs in one update.
const SKUS_PER_UPDATE: usize = 200;

/// How long a life may last before it is cut, in milliseconds.
const LIFETIME_MS: std::ops::Range<u64> = 5..300;

/// How long a start may take.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the last life may take until nothing is left to be sent: a minute of the Market's
/// limit, and one in reserve.
const CONVERGENCE_TIMEOUT: Duration = Duration::from_mins(2);

/// What the seller knows of a SKU.
#[derive(Clone, Copy, Debug, Default)]
struct SellerCount {
    acknowledged: Option<u32>,
    // Said after that, and not answered: it may hold or not.
    unanswered: Option<u32>,
}

impl SellerCount {
    fn allows(self, count: Option<u32>) -> bool {
        count == self.acknowledged || (count.is_some() && count == self.unanswered)
    }
}

/// What came of it.
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

/// Kills the service so many times and fails if anything acknowledged was lost.
pub(super) async fn run(kills: u32, seed: u64) -> anyhow::Result<ExitCode> {
    let tasks = Tasks::new(CrashSignal::default());
    let market = MarketSimulator::new(market_config(false));
    let address = market
        .start(any_port(), &tasks)
        .await
        .context("start the rehearsal Market")?;
    let directory = tempfile::tempdir().context("make a directory for the service")?;
    let (listen, ops) = (free_port()?, free_port()?);
    let text = service_config(
        listen,
        ops,
        &format!("http://{address}"),
        RehearsalMethod::Campaign,
    );
    std::fs::write(directory.path().join("config.toml"), text).context("write the settings")?;
    let mut test = KillTest {
        market,
        service: ServiceClient::new(listen, ops)?,
        directory,
        counts: HashMap::new(),
        catalogue: catalogue::parse(catalogue::FIXTURE).map_err(anyhow::Error::msg)?,
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
            "A service that is killed with kill -9 {kills} times while it is fed, and a Market in \
             miniature that goes on."
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
        convergence.context("the Market's copy does not converge")??;
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
                    "the service ended at its start, {status}: {}",
                    log_tail(path)
                );
            }
            ensure!(
                started.elapsed() < START_TIMEOUT,
                "the service does not start: {}",
                log_tail(path)
            );
            sleep(Duration::from_millis(2)).await;
        }
        Ok(child)
    }

    /// Updates without a pause, until the knife falls.
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

    /// Asks for everything that was ever said, and holds it against what was acknowledged.
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
            "not answered: {:?}",
            report.failures.examples
        );
        for (sku, known) in &mut self.counts {
            let count = report.stocks.get(sku.as_str()).map(|(count, _)| *count);
            if !known.allows(count) {
                self.stats
                    .lost
                    .push(format!("'{sku}': {known:?}, answered {count:?}"));
            }
            // What is answered now must be answered from now on.
            *known = SellerCount {
                acknowledged: count,
                unanswered: None,
            };
        }
        self.stats.checked += skus.len();
        Ok(())
    }

    async fn wait_until_converged(&self) -> anyhow::Result<()> {
        while self.service.status().await?["shops"][0]["dirty"] != 0 {
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
        print_line(&format!(
            "\n  updates acknowledged    {updates}\n  values checked          {checked}\n  \
             values lost             {}\n  requests to the Market  {}\n  limits broken           {}\n  \
             SKUs that differ        {differing}\n",
            lost.len(),
            market_report.updates,
            market_report.total_violations(),
        ));
        lost.iter()
            .take(10)
            .chain(market_report.violation_examples.iter().take(10))
            .for_each(|line| print_line(line));
        let is_good = lost.is_empty() && market_report.total_violations() == 0 && differing == 0;
        print_line(if is_good {
            "All is well: nothing that was acknowledged is lost."
        } else {
            "NOT well."
        });
        is_good
    }
}

fn random_count(rng: &mut StdRng) -> u32 {
    rng.random_range(0..1_000)
}

/// A port nobody has now. Somebody could take it before the service does; then it says so.
fn free_port() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(any_port()).context("find a free port")?;
    Ok(listener.local_addr()?)
}

/// The end of the service's log, for a start that failed.
fn log_tail(directory: &Path) -> String {
    let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
