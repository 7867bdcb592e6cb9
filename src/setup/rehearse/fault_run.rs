//! Faults of a rehearsal: their plan, the rejected SKUs, and the sales while they occur.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::bail;
use market_sim::catalogue::CatalogueProduct;
use market_sim::{FaultPlan, MarketFault, MarketSimulator};
use rand::rngs::StdRng;
use rand::seq::index::sample;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

use super::scenario::{POLL_INTERVAL, STALL_TIMEOUT};
use super::service_client::ServiceClient;
use super::{API_KEY, SellerStock};
use crate::command::progress::ProgressReporter;

/// SKUs that are sold per poll while the Market has faults.
const SALES_PER_POLL: usize = 200;

/// Number of SKUs that the simulator rejects in a rehearsal with faults.
const REJECTED_SKUS: usize = 3;

/// Parameters of a rehearsal with faults.
#[derive(Clone, Copy, Debug)]
pub(super) struct FaultRun {
    /// Seed for the choice of the requests that fail.
    pub(super) seed: u64,
    /// Rate limit in the simulator's response headers. It is lower than the documented one.
    pub(super) advertised_limit: usize,
}

impl FaultRun {
    /// Returns every fault in turn, each followed by a request without fault, and a few SKUs that
    /// are always rejected. The turn is repeated, because a batch that is rejected for its SKUs
    /// meets no other fault.
    pub(super) fn plan(self, stock: &[CatalogueProduct]) -> FaultPlan {
        let Self {
            seed,
            advertised_limit,
        } = self;
        let mut faults = MarketFault::ALL.to_vec();
        let offset = usize::try_from(seed % MarketFault::ALL.len() as u64).unwrap_or_default();
        faults.rotate_left(offset);
        let sequence = faults.into_iter().flat_map(|fault| [Some(fault), None]);
        FaultPlan::script(sequence.collect::<Vec<_>>().repeat(10))
            .with_drop_rate(0.01)
            .with_order_rate(0.02)
            .with_limit_headers(advertised_limit)
            .with_rejected_skus(rejected_skus(stock), false)
            .with_slow_delay(Duration::from_millis(500))
            .with_hang_duration(Duration::from_secs(2))
    }

    /// Sells products until every kind of fault has occurred. Returns the stock after that.
    pub(super) async fn sell(
        self,
        market: &MarketSimulator,
        service: &ServiceClient,
        mut stock: SellerStock,
    ) -> anyhow::Result<SellerStock> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let rejected_skus = rejected_skus(&stock);
        let mut progress = ProgressReporter::start("faults", MarketFault::ALL.len(), "kinds");
        let started = Instant::now();
        let mut is_revoked = false;
        loop {
            let met = market.report().faults.len();
            progress.set_position(met);
            if met >= MarketFault::ALL.len() / 2 && !is_revoked {
                // After half of the faults the first key is revoked, so that the second one is
                // used.
                market.revoke_key(API_KEY);
                is_revoked = true;
            }
            if met == MarketFault::ALL.len() && is_revoked {
                break;
            }
            if started.elapsed() > STALL_TIMEOUT * 3 {
                bail!(
                    "after {:?} only {met} kinds of faults have occurred",
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
            service.put_stock(&products).await?;
            sleep(POLL_INTERVAL).await;
        }
        market.clear_faults_keep_rejected();
        progress.finish(&format!(
            "{} kinds occurred, the first key was revoked",
            MarketFault::ALL.len()
        ));
        Ok(stock)
    }
}

/// Returns the SKUs that the simulator rejects, spread evenly over the stock.
pub(super) fn rejected_skus(stock: &[CatalogueProduct]) -> HashSet<String> {
    let stride = (stock.len() / REJECTED_SKUS).max(1);
    let chosen = stock
        .iter()
        .skip(stride / 2)
        .step_by(stride)
        .take(REJECTED_SKUS);
    chosen.map(|product| product.sku.clone()).collect()
}
