use std::collections::HashSet;
use std::time::Duration;

use anyhow::bail;
use rand::rngs::StdRng;
use rand::seq::index::sample;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, timeout};

use super::rehearsal_report::{MigrationStats, RehearsalReport};
use super::service_client::ServiceClient;
use super::{API_KEY, CAMPAIGN, FEED_KEY, PUSH_TOKEN, SellerStock, WAREHOUSE};
use crate::cli::ops_client::OpsClient;
use crate::cli::print_line;
use crate::cli::progress::ProgressReporter;
use crate::cli::verify::read_back;
use crate::market_sim::catalogue::CatalogueProduct;
use crate::market_sim::sample_day::{SAMPLE_DAY, SAMPLE_SKU};
use crate::market_sim::{FaultPlan, MarketFault, MarketSimulator, PushReport, compare};
use crate::migrator::readback::MatchClass;

/// SKUs in one call of the seller, as many as the Market's API takes.
const SKUS_PER_UPDATE: usize = 2_000;

/// How long a step of the story may take to reach the Market.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// How long nothing may move before the rehearsal gives up: longer than the longest pause that
/// any of its faults leads to.
const STALL_TIMEOUT: Duration = Duration::from_mins(3);

/// How often the Market's copy is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// SKUs that sell between two looks while the Market fails.
const SALES_PER_POLL: usize = 200;

/// Most SKUs that are read back: more would take longer than the rest of the rehearsal.
const MAX_READ_BACK: usize = 20_000;

/// Passes through the Market's copy until it must be explained.
const MAX_PASSES: usize = 4;

/// SKUs the Market refuses in a rehearsal with faults.
const REJECTED_SKUS: usize = 3;

/// How a Market fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct FaultRun {
    /// Chooses which requests.
    pub(super) seed: u64,
    /// What its headers say of the limit, less than usual.
    pub(super) advertised_limit: usize,
}

/// The play: who is there, and what the seller has.
pub(super) struct Scenario {
    market: MarketSimulator,
    service: ServiceClient,
    stock: SellerStock,
    // How the Market is to fail, if it is.
    fault_run: Option<FaultRun>,
    // Whether the story is told, and the seller's program feeds the shop; or its sources do.
    is_fed: bool,
}

impl Scenario {
    /// A shop that its seller's program feeds.
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

    /// Plays every scene and judges.
    pub(super) async fn run(&self) -> anyhow::Result<RehearsalReport> {
        print_line(&format!(
            "A shop of {} SKUs, a Market in miniature with the real one's limits, and {}.",
            self.stock.len(),
            if self.fault_run.is_some() {
                "every fault we know"
            } else {
                "no faults"
            },
        ));
        self.run_sample_day().await?;
        if let Some(fault_run) = self.fault_run {
            self.market.set_faults(self.fault_plan(fault_run));
        }
        let started = Instant::now();
        self.feed(&self.stock).await?;
        let push_report = ask_everything(&self.service, &self.stock).await;
        let stock = match self.fault_run {
            Some(fault_run) => self.sell_during_faults(fault_run.seed).await?,
            None => self.stock.clone(),
        };
        let quarantined = self.wait_until_migrated(started).await?;
        let took = started.elapsed();
        let unexplained = self.verify_read_back(&stock, started).await?;
        Ok(self.build_report(push_report, &stock, quarantined, (took, unexplained)))
    }

    /// Plays what follows when the stock is there and was asked for, and judges.
    pub(super) async fn run_after_feed(
        &self,
        push_report: PushReport,
        started: Instant,
    ) -> anyhow::Result<RehearsalReport> {
        let quarantined = self.wait_until_migrated(started).await?;
        let took = started.elapsed();
        let unexplained = self.verify_read_back(&self.stock, started).await?;
        Ok(self.build_report(push_report, &self.stock, quarantined, (took, unexplained)))
    }

    /// Has the service read the Market's copy back until it leaves no question but the SKUs that
    /// are refused; says how many others are left.
    async fn verify_read_back(
        &self,
        stock: &[CatalogueProduct],
        started: Instant,
    ) -> anyhow::Result<Option<u64>> {
        if self.stock.len() > MAX_READ_BACK {
            print_line(&format!(
                "{:<12} not here: a read-back of so many takes minutes; see `stockbridge verify`",
                "read back"
            ));
            return Ok(None);
        }
        let client = OpsClient::new(self.service.ops)?;
        let mut unexplained = 0;
        for pass in 0..MAX_PASSES {
            if self.fault_run.is_some() {
                // What was sent just now, the Market shows a little later.
                sleep(super::VISIBILITY_DELAY * 2).await;
            }
            let shops = read_back(&client, None, "read back", false).await?;
            let read_back = &shops[0]["survey"];
            let classes = &read_back["classes"];
            let count = |class: MatchClass| classes[class.name()].as_u64().unwrap_or(0);
            let unexplained_classes = MatchClass::ALL
                .iter()
                .filter(|c| !c.is_explained() && **c != MatchClass::Rejected);
            unexplained = unexplained_classes.map(|class| count(*class)).sum();
            print_line(&format!(
                "{:<12} {classes}, {} sent again",
                "", read_back["resent"]
            ));
            if unexplained == 0 {
                break;
            }
            if pass > 0 && self.is_fed {
                // Lost within a second of the update before, which no date can prove: told, and
                // mended as soon as the seller says it again.
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
        // Some that need no escape, in JSON or in a shell.
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
            "\nThe service stays up until Ctrl-C. Ask it as the Market does:\n  \
             curl -H 'Authorization: {PUSH_TOKEN}' -H 'Content-Type: application/json' \
             -d '{{\"warehouseId\":{WAREHOUSE},\"skus\":[\"{skus}\"]}}' \
             http://{address}/market/api/stocks\n\
             Feed it as a client of the Market's API does:\n  \
             curl -X PUT -H 'Api-Key: {FEED_KEY}' -H 'Content-Type: application/json' \
             -d '{{\"skus\":[{{\"sku\":\"{sku}\",\"items\":[{{\"count\":7}}]}}]}}' \
             http://{address}/v2/campaigns/{CAMPAIGN}/offers/stocks\n\
             Look at it:\n  \
             curl http://{ops}/status\n  \
             curl http://{ops}/metrics"
        )
    }

    // === The scenes ===

    /// One product's day, step by step, through to the Market.
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
                    "\"{}\" did not reach the Market in {STEP_TIMEOUT:?}",
                    step.title
                );
            }
            let answered = self.service.ask_stock(&[SAMPLE_SKU.to_owned()]).await;
            let answered = answered.stocks.get(SAMPLE_SKU).map(|(count, _)| *count);
            if answered != Some(step.count) {
                bail!(
                    "\"{}\": the shop answers {answered:?}, not {}",
                    step.title,
                    step.count
                );
            }
            print_line(&format!(
                "{SAMPLE_SKU:<12} {:>2}  {}; answered and on the Market after {} ms",
                step.count,
                step.title,
                started.elapsed().as_millis()
            ));
        }
        Ok(())
    }

    /// The seller's program puts the catalogue, as it would put it to the Market.
    async fn feed(&self, stock: &[CatalogueProduct]) -> anyhow::Result<()> {
        let mut progress = ProgressReporter::start("fed", stock.len(), "SKUs");
        for (n, products) in stock.chunks(SKUS_PER_UPDATE).enumerate() {
            self.service.put_stock(products).await?;
            progress.set_position(n * SKUS_PER_UPDATE + products.len());
        }
        progress.finish(&format!("{} SKUs", stock.len()));
        Ok(())
    }

    /// The shop goes on selling until every fault has been met.
    async fn sell_during_faults(&self, seed: u64) -> anyhow::Result<SellerStock> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut stock = self.stock.clone();
        let rejected_skus = self.rejected_skus();
        let mut progress = ProgressReporter::start("faults", MarketFault::ALL.len(), "kinds met");
        let started = Instant::now();
        let mut is_revoked = false;
        loop {
            let met = self.market.report().faults.len();
            progress.set_position(met);
            if met >= MarketFault::ALL.len() / 2 && !is_revoked {
                // Half-way the first key is revoked; the second has to do.
                self.market.revoke_key(API_KEY);
                is_revoked = true;
            }
            if met == MarketFault::ALL.len() && is_revoked {
                break;
            }
            if started.elapsed() > STALL_TIMEOUT * 3 {
                bail!(
                    "after {:?} only {met} kinds of faults were met",
                    started.elapsed()
                );
            }
            let products: Vec<CatalogueProduct> =
                sample(&mut rng, stock.len(), SALES_PER_POLL.min(stock.len()))
                    .iter()
                    .map(|n| {
                        let product = &mut stock[n];
                        if !rejected_skus.contains(&product.sku) {
                            product.count = rng.random_range(0..50);
                        }
                        product.clone()
                    })
                    .collect();
            self.service.put_stock(&products).await?;
            sleep(POLL_INTERVAL).await;
        }
        self.market.clear_faults_keep_rejected();
        progress.finish(&format!(
            "{} kinds met, the first key revoked",
            MarketFault::ALL.len()
        ));
        Ok(stock)
    }

    /// Waits until nothing is left to be sent, and says what is set aside.
    async fn wait_until_migrated(&self, started: Instant) -> anyhow::Result<Vec<String>> {
        let all = self.stock.len() + usize::from(self.is_fed);
        let since = if self.is_fed {
            "the first PUT"
        } else {
            "the first look"
        };
        let mut progress = ProgressReporter::start("migrated", all, "SKUs");
        let mut last_change = (usize::MAX, Instant::now());
        loop {
            let status = self.service.status().await?;
            let shop = &status["shops"][0];
            let dirty = usize::try_from(shop["dirty"].as_u64().unwrap_or(u64::MAX))?;
            let quarantined: Vec<String> = shop["migrator"]["quarantined"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|row| Some(row["sku"].as_str()?.to_owned()))
                .collect();
            progress.set_position(all.saturating_sub(dirty));
            if dirty == quarantined.len() {
                let seconds = started.elapsed().as_secs_f64();
                progress.finish(&format!("everything, {seconds:.1} s after {since},"));
                return Ok(quarantined);
            }
            if dirty != last_change.0 {
                last_change = (dirty, Instant::now());
            } else if last_change.1.elapsed() > STALL_TIMEOUT {
                bail!(
                    "{dirty} SKUs have not moved for {STALL_TIMEOUT:?}: {}",
                    shop["migrator"]
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
        // A zero on the Market of a SKU the seller never said zero of, even if mended since.
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
                self.rejected_skus()
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

    // === Props ===

    /// Every fault in turn, each followed by a request that goes well, and a few SKUs that are
    /// refused whatever comes with them. Several turns: a batch that is refused for its SKUs
    /// meets no other fault.
    fn fault_plan(
        &self,
        FaultRun {
            seed,
            advertised_limit,
        }: FaultRun,
    ) -> FaultPlan {
        let mut faults = MarketFault::ALL;
        let offset = usize::try_from(seed % MarketFault::ALL.len() as u64).unwrap_or_default();
        faults.rotate_left(offset);
        let sequence = faults.map(|fault| [Some(fault), None]).concat();
        FaultPlan::script(sequence.repeat(10))
            .with_drop_rate(0.01)
            .with_order_rate(0.02)
            .with_limit_headers(advertised_limit)
            .with_rejected_skus(self.rejected_skus(), false)
            .with_slow_delay(Duration::from_millis(500))
            .with_hang_duration(Duration::from_secs(2))
    }

    fn rejected_skus(&self) -> HashSet<String> {
        let stride = (self.stock.len() / REJECTED_SKUS).max(1);
        let chosen = self
            .stock
            .iter()
            .skip(stride / 2)
            .step_by(stride)
            .take(REJECTED_SKUS);
        chosen.map(|product| product.sku.clone()).collect()
    }
}

/// The Market asks for everything, a thousand SKUs a request, all at once.
pub(super) async fn ask_everything(
    service: &ServiceClient,
    stock: &[CatalogueProduct],
) -> PushReport {
    let skus: Vec<String> = stock.iter().map(|product| product.sku.clone()).collect();
    let report = service.ask_stock(&skus).await;
    print_line(&format!(
        "{:<12} {} SKUs in {} questions at once, the slowest after {} ms",
        "asked",
        skus.len(),
        report.requests,
        report.slowest().as_millis()
    ));
    report
}
