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

use super::shop::Shop;
use super::{CAMPAIGN, Method, any_port, market_config, secrets, settings};
use crate::cli::progress::Stage;
use crate::cli::say;
use crate::lifecycle::{Fuse, Tasks};
use crate::rehearsal::catalogue::{self, Product};
use crate::rehearsal::{Market, compare};

/// SKUs in one update.
const SALES: usize = 200;

/// How long a life may last before it is cut, in milliseconds.
const LIFE_MS: std::ops::Range<u64> = 5..300;

/// How long a start may take.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// How long the last life may take until nothing is left to be sent: a minute of the Market's
/// limit, and one in reserve.
const END_PATIENCE: Duration = Duration::from_mins(2);

/// What the seller knows of a SKU.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    acknowledged: Option<u32>,
    // Said after that, and not answered: it may hold or not.
    unanswered: Option<u32>,
}

impl Told {
    fn allows(self, count: Option<u32>) -> bool {
        count == self.acknowledged || (count.is_some() && count == self.unanswered)
    }
}

/// What came of it.
#[derive(Default)]
struct Tally {
    updates: usize,
    checked: usize,
    lost: Vec<String>,
}

struct Kills {
    market: Market,
    shop: Shop,
    directory: tempfile::TempDir,
    told: HashMap<String, Told>,
    catalogue: Vec<Product>,
    dice: StdRng,
    tally: Tally,
}

/// Kills the service so many times and fails if anything acknowledged was lost.
pub(super) async fn run(kills: u32, seed: u64) -> anyhow::Result<ExitCode> {
    let tasks = Tasks::new(Fuse::default());
    let market = Market::new(market_config(false));
    let address = market
        .start(any_port(), &tasks)
        .await
        .context("start the rehearsal Market")?;
    let directory = tempfile::tempdir().context("make a directory for the service")?;
    let (listen, ops) = (free_port()?, free_port()?);
    let text = settings(listen, ops, &format!("http://{address}"), Method::Campaign);
    std::fs::write(directory.path().join("config.toml"), text).context("write the settings")?;
    let mut kills_of = Kills {
        market,
        shop: Shop::new(listen, ops)?,
        directory,
        told: HashMap::new(),
        catalogue: catalogue::read(catalogue::FIXTURE).map_err(anyhow::Error::msg)?,
        dice: StdRng::seed_from_u64(seed),
        tally: Tally::default(),
    };
    let verdict = kills_of.play(kills).await;
    tasks.stop();
    tasks.ended().await;
    Ok(if verdict? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Kills {
    async fn play(&mut self, kills: u32) -> anyhow::Result<bool> {
        say(&format!(
            "A service that is killed with kill -9 {kills} times while it is fed, and a Market in \
             miniature that goes on."
        ));
        let mut stage = Stage::begin("killed", kills as usize, "times");
        for n in 1..=kills {
            let mut child = self.start().await?;
            self.check().await?;
            self.feed_until_killed(&mut child).await?;
            stage.set(n as usize);
        }
        stage.end(&format!("{kills} times"));
        let mut child = self.start().await?;
        self.check().await?;
        let converged = timeout(END_PATIENCE, self.converged()).await;
        child.kill().context("end the service")?;
        child.wait().context("end the service")?;
        converged.context("the Market's copy does not converge")??;
        Ok(self.judge())
    }

    async fn start(&self) -> anyhow::Result<Child> {
        let path = self.directory.path();
        let log = File::options()
            .create(true)
            .append(true)
            .open(path.join("log"))?;
        let mut child = Command::new(std::env::current_exe().context("find this program")?)
            .args(["serve", "--config"])
            .arg(path.join("config.toml"))
            .envs(secrets())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start the service")?;
        let begun = Instant::now();
        while !self.shop.is_ready().await {
            if let Some(status) = child.try_wait()? {
                bail!("the service ended at its start, {status}: {}", tail(path));
            }
            ensure!(
                begun.elapsed() < START_PATIENCE,
                "the service does not start: {}",
                tail(path)
            );
            sleep(Duration::from_millis(2)).await;
        }
        Ok(child)
    }

    /// Updates without a pause, until the knife falls.
    async fn feed_until_killed(&mut self, child: &mut Child) -> anyhow::Result<()> {
        let life = Duration::from_millis(self.dice.random_range(LIFE_MS));
        let end = Instant::now() + life;
        loop {
            let sold: Vec<Product> = sample(&mut self.dice, self.catalogue.len(), SALES)
                .iter()
                .map(|n| Product {
                    sku: self.catalogue[n].sku.clone(),
                    count: n_of(&mut self.dice),
                })
                .collect();
            for Product { sku, count } in &sold {
                self.told.entry(sku.clone()).or_default().unanswered = Some(*count);
            }
            let Ok(answer) = tokio::time::timeout_at(end, self.shop.put(&sold)).await else {
                break;
            };
            answer?;
            self.tally.updates += 1;
            for Product { sku, count } in &sold {
                let known = Told {
                    acknowledged: Some(*count),
                    unanswered: None,
                };
                self.told.insert(sku.clone(), known);
            }
        }
        child.kill().context("kill the service")?;
        child.wait().context("kill the service")?;
        Ok(())
    }

    /// Asks for everything that was ever said, and holds it against what was acknowledged.
    async fn check(&mut self) -> anyhow::Result<()> {
        if self.told.values().all(|told| told.acknowledged.is_none()) {
            return Ok(());
        }
        let skus: Vec<String> = self.told.keys().cloned().collect();
        let answers = self.shop.ask(&skus).await;
        ensure!(
            answers.failures.is_empty(),
            "not answered: {:?}",
            answers.failures.first
        );
        for (sku, told) in &mut self.told {
            let count = answers.stocks.get(sku.as_str()).map(|(count, _)| *count);
            if !told.allows(count) {
                self.tally
                    .lost
                    .push(format!("'{sku}': {told:?}, answered {count:?}"));
            }
            // What is answered now must be answered from now on.
            *told = Told {
                acknowledged: count,
                unanswered: None,
            };
        }
        self.tally.checked += skus.len();
        Ok(())
    }

    async fn converged(&self) -> anyhow::Result<()> {
        while self.shop.status().await?["shops"][0]["dirty"] != 0 {
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn judge(&self) -> bool {
        let shelf = self
            .told
            .iter()
            .filter_map(|(sku, told)| Some((sku.as_str(), told.acknowledged?)));
        let comparison = compare(shelf, &self.market.snapshot(CAMPAIGN));
        let report = self.market.report();
        let Tally {
            updates,
            checked,
            lost,
        } = &self.tally;
        let differing = comparison.differing.count + comparison.missing.count;
        say(&format!(
            "\n  updates acknowledged    {updates}\n  values checked          {checked}\n  \
             values lost             {}\n  requests to the Market  {}\n  limits broken           {}\n  \
             SKUs that differ        {differing}\n",
            lost.len(),
            report.requests,
            report.broken_in_all(),
        ));
        lost.iter()
            .take(10)
            .chain(report.examples.iter().take(10))
            .for_each(|line| say(line));
        let is_good = lost.is_empty() && report.broken_in_all() == 0 && differing == 0;
        say(if is_good {
            "All is well: nothing that was acknowledged is lost."
        } else {
            "NOT well."
        });
        is_good
    }
}

fn n_of(dice: &mut StdRng) -> u32 {
    dice.random_range(0..1_000)
}

/// A port nobody has now. Somebody could take it before the service does; then it says so.
fn free_port() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(any_port()).context("find a free port")?;
    Ok(listener.local_addr()?)
}

/// The end of the service's log, for a start that failed.
fn tail(directory: &Path) -> String {
    let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
