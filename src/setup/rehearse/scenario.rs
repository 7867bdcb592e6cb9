//! Course of a rehearsal: a sample day, the first feed, sales during faults, and read-backs.
//!
//! Decides when everything has arrived, when to give up, and which counts the report expects.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::bail;
use market_sim::catalogue::CatalogueProduct;
use market_sim::sample_day::{SAMPLE_DAY, SAMPLE_SKU};
use market_sim::{MarketSimulator, PushReport, compare};
use tokio::time::{Instant, sleep, timeout};

use super::fault_run::{FaultRun, rejected_skus};
use super::rehearsal_report::{MigrationStats, RehearsalReport};
use super::service_client::ServiceClient;
use super::{CAMPAIGN, FEED_KEY, PUSH_TOKEN, SellerStock, WAREHOUSE};
use crate::command::ops_client::OpsClient;
use crate::command::print_line;
use crate::command::progress::ProgressReporter;
use crate::command::readback_pass::readback;
use crate::migrator::readback::{MatchClass, ReadbackReport};

/// SKUs in one update. Source: `UpdateStocksRequest.skus.maxItems`.
const SKUS_PER_UPDATE: usize = 2_000;

/// Timeout until one step of the sample day reaches the Market.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// Time without progress after which the rehearsal gives up. It is longer than the longest pause
/// that a fault causes.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_mins(3);

/// Interval at which the state is polled.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Maximum number of SKUs for a read-back. More would take longer than the rest of the rehearsal.
const MAX_READBACK: usize = 20_000;

/// Maximum number of read-backs until each difference must be explained.
const MAX_PASSES: usize = 4;

/// Service, simulator and stock of one rehearsal.
pub(super) struct Scenario {
    market: MarketSimulator,
    service: ServiceClient,
    stock: SellerStock,
    // `None`: without faults.
    fault_run: Option<FaultRun>,
    // True: the seller's program sends updates, with the sample day first. False: sources deliver.
    is_fed: bool,
}

impl Scenario {
    /// Creates a rehearsal in which the seller's program sends updates.
    pub(super) fn with_feed(
        service: ServiceClient,
        market: MarketSimulator,
        stock: SellerStock,
        fault_run: Option<FaultRun>,
    ) -> Self {
        Self {
            market,
            service,
            stock,
            fault_run,
            is_fed: true,
        }
    }

    /// A shop that has its stock already, by itself.
    pub(super) fn with_sources(
        service: ServiceClient,
        market: MarketSimulator,
        stock: SellerStock,
    ) -> Self {
        Self {
            market,
            service,
            stock,
            fault_run: None,
            is_fed: false,
        }
    }

    /// Runs the whole rehearsal and returns the report.
    pub(super) async fn run(&self) -> anyhow::Result<RehearsalReport> {
        print_line(&format!(
            "A shop with {} SKUs, the Market simulator with the real limits, and {}.",
            self.stock.len(),
            if self.fault_run.is_some() {
                "every known fault"
            } else {
                "no faults"
            },
        ));
        self.run_sample_day().await?;
        if let Some(fault_run) = self.fault_run {
            self.market.set_faults(fault_run.plan(&self.stock));
        }
        let started = Instant::now();
        self.feed(&self.stock).await?;
        let push_report = ask_everything(&self.service, &self.stock).await;
        let stock = match self.fault_run {
            Some(fault_run) => {
                let stock = self.stock.clone();
                fault_run.sell(&self.market, &self.service, stock).await?
            }
            None => self.stock.clone(),
        };
        let quarantined = self.wait_until_migrated(started).await?;
        let took = started.elapsed();
        let unexplained = self.verify_readback(&stock, started).await?;
        Ok(self.build_report(push_report, &stock, quarantined, (took, unexplained)))
    }

    /// Runs the part after the feed and the push requests, and returns the report.
    pub(super) async fn run_after_feed(
        &self,
        push_report: PushReport,
        started: Instant,
    ) -> anyhow::Result<RehearsalReport> {
        let quarantined = self.wait_until_migrated(started).await?;
        let took = started.elapsed();
        let unexplained = self.verify_readback(&self.stock, started).await?;
        Ok(self.build_report(push_report, &self.stock, quarantined, (took, unexplained)))
    }

    /// Runs read-backs until each difference is explained, apart from rejected SKUs. Returns the
    /// number of SKUs with an unexplained difference.
    async fn verify_readback(
        &self,
        stock: &[CatalogueProduct],
        started: Instant,
    ) -> anyhow::Result<Option<u64>> {
        if self.stock.len() > MAX_READBACK {
            print_line(&format!(
                "{:<12} skipped: with more than {MAX_READBACK} SKUs it takes minutes",
                "read back"
            ));
            return Ok(None);
        }
        let client = OpsClient::new(self.service.ops)?;
        let mut unexplained = 0;
        for pass in 0..MAX_PASSES {
            if self.fault_run.is_some() {
                // The simulator shows accepted stock after a delay.
                sleep(super::VISIBILITY_DELAY * 2).await;
            }
            let shops = readback(&client, None, "read back", false).await?;
            let readback = shops[0].status.survey.clone().unwrap_or_default();
            let unexplained_classes = MatchClass::ALL
                .iter()
                .filter(|c| !c.is_explained() && **c != MatchClass::Rejected);
            unexplained = unexplained_classes
                .map(|class| readback.count(*class))
                .sum();
            print_line(&format!(
                "{:<12} {}, sent again: {}",
                "",
                class_counts(&readback),
                readback.resent
            ));
            if unexplained == 0 {
                break;
            }
            if pass > 0 && self.is_fed {
                // An update lost within a second of the previous one cannot be detected by its
                // date. It stays unexplained until the seller sends the count again.
                self.feed(stock).await?;
            }
            self.wait_until_migrated(started).await?;
        }
        Ok(Some(unexplained))
    }

    pub(super) fn curl_lines(&self) -> String {
        let ServiceClient {
            listen: address,
            ops,
            ..
        } = &self.service;
        // SKUs that need no escape in JSON or in a shell.
        let is_plain = |sku: &str| sku.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
        let own_skus = self
            .stock
            .iter()
            .map(|product| product.sku.as_str())
            .filter(|s| is_plain(s));
        let sample_sku = self.is_fed.then_some(SAMPLE_SKU);
        let skus: Vec<&str> = sample_sku.into_iter().chain(own_skus.take(2)).collect();
        let (sku, skus) = (skus.first().unwrap_or(&SAMPLE_SKU), skus.join("\",\""));
        format!(
            "\nThe service runs until Ctrl-C. Open the operator's pages in a browser:\n  \
             http://{ops}/\n\
             Request stock as the Market does:\n  \
             curl -H 'Authorization: {PUSH_TOKEN}' -H 'Content-Type: application/json' \
             -d '{{\"warehouseId\":{WAREHOUSE},\"skus\":[\"{skus}\"]}}' \
             http://{address}/market/api/stocks\n\
             Send an update as a client of the Market's API does:\n  \
             curl -X PUT -H 'Api-Key: {FEED_KEY}' -H 'Content-Type: application/json' \
             -d '{{\"skus\":[{{\"sku\":\"{sku}\",\"items\":[{{\"count\":7}}]}}]}}' \
             http://{address}/v2/campaigns/{CAMPAIGN}/offers/stocks\n\
             Print the status and the metrics:\n  \
             curl http://{ops}/status\n  \
             curl http://{ops}/metrics"
        )
    }

    // === Steps ===

    /// Sends one product's updates of a day, each one until it reaches the Market.
    async fn run_sample_day(&self) -> anyhow::Result<()> {
        for step in SAMPLE_DAY {
            let started = Instant::now();
            let product = CatalogueProduct {
                sku: SAMPLE_SKU.to_owned(),
                count: step.count,
            };
            self.service
                .put_stock(std::slice::from_ref(&product))
                .await?;
            let arrived = timeout(STEP_TIMEOUT, async {
                while self
                    .market
                    .get(CAMPAIGN, SAMPLE_SKU)
                    .is_none_or(|stored| stored.count != step.count)
                {
                    sleep(Duration::from_millis(5)).await;
                }
            });
            if arrived.await.is_err() {
                bail!(
                    "\"{}\" did not reach the Market within {STEP_TIMEOUT:?}",
                    step.title
                );
            }
            let answered = self.service.ask_stock(&[SAMPLE_SKU.to_owned()]).await;
            let answered = answered.stocks.get(SAMPLE_SKU).map(|(count, _)| *count);
            if answered != Some(step.count) {
                bail!(
                    "\"{}\": the service responds with {answered:?}, expected {}",
                    step.title,
                    step.count
                );
            }
            print_line(&format!(
                "{SAMPLE_SKU:<12} {:>2}  {}; served and on the Market after {} ms",
                step.count,
                step.title,
                started.elapsed().as_millis()
            ));
        }
        Ok(())
    }

    /// Sends the whole stock in updates.
    async fn feed(&self, stock: &[CatalogueProduct]) -> anyhow::Result<()> {
        let mut progress = ProgressReporter::start("fed", stock.len(), "SKUs");
        for (n, products) in stock.chunks(SKUS_PER_UPDATE).enumerate() {
            self.service.put_stock(products).await?;
            progress.set_position(n * SKUS_PER_UPDATE + products.len());
        }
        progress.finish(&format!("{} SKUs", stock.len()));
        Ok(())
    }

    /// Waits until all stock is sent, and returns the quarantined SKUs.
    async fn wait_until_migrated(&self, started: Instant) -> anyhow::Result<Vec<String>> {
        let all = self.stock.len() + usize::from(self.is_fed);
        let since = if self.is_fed {
            "the first update"
        } else {
            "the start"
        };
        let mut progress = ProgressReporter::start("migrated", all, "SKUs");
        let mut last_change = (usize::MAX, Instant::now());
        loop {
            let status = self.service.status().await?;
            let shop = &status.shops[0];
            let dirty = shop.dirty.unwrap_or(usize::MAX);
            let worker = shop.migrator.clone().unwrap_or_default();
            let rows = worker.quarantined.iter();
            let quarantined: Vec<String> = rows.map(|row| row.sku.clone()).collect();
            progress.set_position(all.saturating_sub(dirty));
            if dirty == quarantined.len() {
                let seconds = started.elapsed().as_secs_f64();
                progress.clear();
                print_line(&format!(
                    "{:<12} all stock is sent, {seconds:.1} s after {since}",
                    "migrated"
                ));
                return Ok(quarantined);
            }
            if dirty != last_change.0 {
                last_change = (dirty, Instant::now());
            } else if last_change.1.elapsed() > STALL_TIMEOUT {
                bail!(
                    "{dirty} SKUs are still not sent, without progress for {STALL_TIMEOUT:?}: {}",
                    serde_json::json!(shop.migrator)
                );
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    fn build_report(
        &self,
        push_report: PushReport,
        stock: &[CatalogueProduct],
        quarantined: Vec<String>,
        (took, unexplained): (Duration, Option<u64>),
    ) -> RehearsalReport {
        let quarantined_skus: HashSet<&str> = quarantined.iter().map(String::as_str).collect();
        let seller_stock = stock
            .iter()
            .map(|product| (product.sku.as_str(), product.count));
        let sample_day = SAMPLE_DAY
            .last()
            .filter(|_| self.is_fed)
            .map(|step| (SAMPLE_SKU, step.count));
        let expected = seller_stock
            .chain(sample_day)
            .filter(|(sku, _)| !quarantined_skus.contains(sku));
        let comparison = compare(expected, &self.market.snapshot(CAMPAIGN));
        // A zero that the seller never stated counts as invented even if it was corrected later.
        let may_be_zero: HashSet<&str> = if self.fault_run.is_some() {
            stock.iter().map(|product| product.sku.as_str()).collect()
        } else {
            let zeros = stock.iter().filter(|product| product.count == 0);
            zeros.map(|product| product.sku.as_str()).collect()
        };
        let zeros = self.market.skus_ever_zero(CAMPAIGN);
        let invented = zeros
            .iter()
            .filter(|sku| *sku != SAMPLE_SKU && !may_be_zero.contains(sku.as_str()));
        RehearsalReport {
            push_report,
            invented_zeros: invented.count() + comparison.invented_zeros.count,
            comparison,
            rejected_skus: if self.fault_run.is_some() {
                rejected_skus(&self.stock)
            } else {
                HashSet::new()
            },
            quarantined,
            unexplained,
            migrated: MigrationStats {
                skus: self.market.len(CAMPAIGN),
                took,
            },
            market_report: self.market.report(),
        }
    }
}

/// Formats the counts of a read-back's classes: `equal 10001, pending 2`.
fn class_counts(readback: &ReadbackReport) -> String {
    let counts = readback.classes.iter();
    counts
        .map(|(class, count)| format!("{class} {count}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Requests the stock of all SKUs, a thousand a request, all in parallel.
pub(super) async fn ask_everything(
    service: &ServiceClient,
    stock: &[CatalogueProduct],
) -> PushReport {
    let skus: Vec<String> = stock.iter().map(|product| product.sku.clone()).collect();
    let report = service.ask_stock(&skus).await;
    print_line(&format!(
        "{:<12} {} SKUs in {} parallel requests, the slowest response after {} ms",
        "asked",
        skus.len(),
        report.requests,
        report.slowest().as_millis()
    ));
    report
}
