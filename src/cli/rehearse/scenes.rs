use std::collections::HashSet;
use std::time::Duration;

use anyhow::bail;
use rand::rngs::StdRng;
use rand::seq::index::sample;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, timeout};

use super::shop::Shop;
use super::verdict::{Migrated, Verdict};
use super::{API_KEY, CAMPAIGN, FEED_KEY, PUSH_TOKEN, Shelf, WAREHOUSE};
use crate::cli::operator::Operator;
use crate::cli::progress::Stage;
use crate::cli::say;
use crate::cli::verify::read_back;
use crate::migrator::reconcile::Class;
use crate::rehearsal::catalogue::Product;
use crate::rehearsal::story::{SKU, STORY};
use crate::rehearsal::{Fault, FaultPlan, Market, PushReport, compare};

/// SKUs in one call of the seller, as many as the Market's API takes.
const FEED_SKUS: usize = 2_000;

/// How long a step of the story may take to reach the Market.
const STORY_PATIENCE: Duration = Duration::from_secs(20);

/// How long nothing may move before the rehearsal gives up: longer than the longest pause that
/// any of its faults leads to.
const PATIENCE: Duration = Duration::from_mins(3);

/// How often the Market's copy is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// SKUs that sell between two looks while the Market fails.
const SALES: usize = 200;

/// Most SKUs that are read back: more would take longer than the rest of the rehearsal.
const MOST_READ_BACK: usize = 20_000;

/// Passes through the Market's copy until it must be explained.
const MOST_PASSES: usize = 4;

/// SKUs the Market refuses in a rehearsal with faults.
const POISON: usize = 3;

/// How a Market fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storm {
    /// Chooses which requests.
    pub(super) seed: u64,
    /// What its headers say of the limit, less than usual.
    pub(super) limit: usize,
}

/// The play: who is there, and what the seller has.
pub(super) struct Scenes {
    market: Market,
    shop: Shop,
    shelf: Shelf,
    // How the Market is to fail, if it is.
    faults: Option<Storm>,
    // Whether the story is told, and the seller's program feeds the shop; or its sources do.
    is_fed: bool,
}

impl Scenes {
    /// A shop that its seller's program feeds.
    pub(super) fn fed(shop: Shop, market: Market, shelf: Shelf, faults: Option<Storm>) -> Self {
        Self {
            market,
            shop,
            shelf,
            faults,
            is_fed: true,
        }
    }

    /// A shop that has its stock already, by itself.
    pub(super) fn filled(shop: Shop, market: Market, shelf: Shelf) -> Self {
        Self {
            market,
            shop,
            shelf,
            faults: None,
            is_fed: false,
        }
    }

    /// Plays every scene and judges.
    pub(super) async fn play(&self) -> anyhow::Result<Verdict> {
        say(&format!(
            "A shop of {} SKUs, a Market in miniature with the real one's limits, and {}.",
            self.shelf.len(),
            if self.faults.is_some() {
                "every fault we know"
            } else {
                "no faults"
            },
        ));
        self.tell_story().await?;
        if let Some(storm) = self.faults {
            self.market.set_faults(self.plan(storm));
        }
        let begun = Instant::now();
        self.feed(&self.shelf).await?;
        let push = push(&self.shop, &self.shelf).await;
        let shelf = match self.faults {
            Some(storm) => self.sell_in_the_storm(storm.seed).await?,
            None => self.shelf.clone(),
        };
        let quarantined = self.migrate(begun).await?;
        let took = begun.elapsed();
        let open = self.verify(&shelf, begun).await?;
        Ok(self.judge(push, &shelf, quarantined, (took, open)))
    }

    /// Plays what follows when the stock is there and was asked for, and judges.
    pub(super) async fn play_out(
        &self,
        push: PushReport,
        begun: Instant,
    ) -> anyhow::Result<Verdict> {
        let quarantined = self.migrate(begun).await?;
        let took = begun.elapsed();
        let open = self.verify(&self.shelf, begun).await?;
        Ok(self.judge(push, &self.shelf, quarantined, (took, open)))
    }

    /// Has the service read the Market's copy back until it leaves no question but the SKUs that
    /// are refused; says how many others are left.
    async fn verify(&self, shelf: &[Product], begun: Instant) -> anyhow::Result<Option<u64>> {
        if self.shelf.len() > MOST_READ_BACK {
            say(&format!(
                "{:<12} not here: a read-back of so many takes minutes; see `stockbridge verify`",
                "read back"
            ));
            return Ok(None);
        }
        let operator = Operator::at(self.shop.ops)?;
        let mut open = 0;
        for pass in 0..MOST_PASSES {
            if self.faults.is_some() {
                // What was sent just now, the Market shows a little later.
                sleep(super::GRACE * 2).await;
            }
            let shops = read_back(&operator, None, "read back", false).await?;
            let survey = &shops[0]["survey"];
            let classes = &survey["classes"];
            let count = |class: Class| classes[class.name()].as_u64().unwrap_or(0);
            let of_kind = Class::ALL
                .iter()
                .filter(|c| !c.is_explained() && **c != Class::Refused);
            open = of_kind.map(|class| count(*class)).sum();
            say(&format!(
                "{:<12} {classes}, {} sent again",
                "", survey["resent"]
            ));
            if open == 0 {
                break;
            }
            if pass > 0 && self.is_fed {
                // Lost within a second of the update before, which no date can prove: told, and
                // mended as soon as the seller says it again.
                self.feed(shelf).await?;
            }
            self.migrate(begun).await?;
        }
        Ok(Some(open))
    }

    pub(super) fn curl_lines(&self) -> String {
        let Shop {
            listen: shop, ops, ..
        } = &self.shop;
        // Some that need no escape, in JSON or in a shell.
        let is_plain = |sku: &str| sku.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
        let own = self
            .shelf
            .iter()
            .map(|product| product.sku.as_str())
            .filter(|s| is_plain(s));
        let told = self.is_fed.then_some(SKU);
        let skus: Vec<&str> = told.into_iter().chain(own.take(2)).collect();
        let (sku, skus) = (skus.first().unwrap_or(&SKU), skus.join("\",\""));
        format!(
            "\nThe service stays up until Ctrl-C. Ask it as the Market does:\n  \
             curl -H 'Authorization: {PUSH_TOKEN}' -H 'Content-Type: application/json' \
             -d '{{\"warehouseId\":{WAREHOUSE},\"skus\":[\"{skus}\"]}}' \
             http://{shop}/market/api/stocks\n\
             Feed it as a client of the Market's API does:\n  \
             curl -X PUT -H 'Api-Key: {FEED_KEY}' -H 'Content-Type: application/json' \
             -d '{{\"skus\":[{{\"sku\":\"{sku}\",\"items\":[{{\"count\":7}}]}}]}}' \
             http://{shop}/v2/campaigns/{CAMPAIGN}/offers/stocks\n\
             Look at it:\n  \
             curl http://{ops}/status\n  \
             curl http://{ops}/metrics"
        )
    }

    // === The scenes ===

    /// One product's day, step by step, through to the Market.
    async fn tell_story(&self) -> anyhow::Result<()> {
        for step in STORY {
            let begun = Instant::now();
            let product = Product {
                sku: SKU.to_owned(),
                count: step.count,
            };
            self.shop.put(std::slice::from_ref(&product)).await?;
            let arrived = timeout(STORY_PATIENCE, async {
                while self
                    .market
                    .get(CAMPAIGN, SKU)
                    .is_none_or(|held| held.count != step.count)
                {
                    sleep(Duration::from_millis(5)).await;
                }
            });
            if arrived.await.is_err() {
                bail!(
                    "\"{}\" did not reach the Market in {STORY_PATIENCE:?}",
                    step.title
                );
            }
            let answered = self.shop.ask(&[SKU.to_owned()]).await;
            let answered = answered.stocks.get(SKU).map(|(count, _)| *count);
            if answered != Some(step.count) {
                bail!(
                    "\"{}\": the shop answers {answered:?}, not {}",
                    step.title,
                    step.count
                );
            }
            say(&format!(
                "{SKU:<12} {:>2}  {}; answered and on the Market after {} ms",
                step.count,
                step.title,
                begun.elapsed().as_millis()
            ));
        }
        Ok(())
    }

    /// The seller's program puts the catalogue, as it would put it to the Market.
    async fn feed(&self, shelf: &[Product]) -> anyhow::Result<()> {
        let mut stage = Stage::begin("fed", shelf.len(), "SKUs");
        for (n, products) in shelf.chunks(FEED_SKUS).enumerate() {
            self.shop.put(products).await?;
            stage.set(n * FEED_SKUS + products.len());
        }
        stage.end(&format!("{} SKUs", shelf.len()));
        Ok(())
    }

    /// The shop goes on selling until every fault has been met.
    async fn sell_in_the_storm(&self, seed: u64) -> anyhow::Result<Shelf> {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut shelf = self.shelf.clone();
        let poison = self.poison();
        let mut stage = Stage::begin("faults", Fault::ALL.len(), "kinds met");
        let begun = Instant::now();
        let mut is_revoked = false;
        loop {
            let met = self.market.report().faults.len();
            stage.set(met);
            if met >= Fault::ALL.len() / 2 && !is_revoked {
                // Half-way the first key is revoked; the second has to do.
                self.market.revoke_key(API_KEY);
                is_revoked = true;
            }
            if met == Fault::ALL.len() && is_revoked {
                break;
            }
            if begun.elapsed() > PATIENCE * 3 {
                bail!(
                    "after {:?} only {met} kinds of faults were met",
                    begun.elapsed()
                );
            }
            let sold: Vec<Product> = sample(&mut dice, shelf.len(), SALES.min(shelf.len()))
                .iter()
                .map(|n| {
                    let product = &mut shelf[n];
                    if !poison.contains(&product.sku) {
                        product.count = dice.random_range(0..50);
                    }
                    product.clone()
                })
                .collect();
            self.shop.put(&sold).await?;
            sleep(LOOK_EVERY).await;
        }
        self.market.heal_but_poison();
        stage.end(&format!(
            "{} kinds met, the first key revoked",
            Fault::ALL.len()
        ));
        Ok(shelf)
    }

    /// Waits until nothing is left to be sent, and says what is set aside.
    async fn migrate(&self, begun: Instant) -> anyhow::Result<Vec<String>> {
        let all = self.shelf.len() + usize::from(self.is_fed);
        let since = if self.is_fed {
            "the first PUT"
        } else {
            "the first look"
        };
        let mut stage = Stage::begin("migrated", all, "SKUs");
        let mut moved = (usize::MAX, Instant::now());
        loop {
            let status = self.shop.status().await?;
            let shop = &status["shops"][0];
            let dirty = usize::try_from(shop["dirty"].as_u64().unwrap_or(u64::MAX))?;
            let aside: Vec<String> = shop["migrator"]["quarantined"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|row| Some(row["sku"].as_str()?.to_owned()))
                .collect();
            stage.set(all.saturating_sub(dirty));
            if dirty == aside.len() {
                let rate = begun.elapsed().as_secs_f64();
                stage.end(&format!("everything, {rate:.1} s after {since},"));
                return Ok(aside);
            }
            if dirty != moved.0 {
                moved = (dirty, Instant::now());
            } else if moved.1.elapsed() > PATIENCE {
                bail!(
                    "{dirty} SKUs have not moved for {PATIENCE:?}: {}",
                    shop["migrator"]
                );
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn judge(
        &self,
        push: PushReport,
        shelf: &[Product],
        quarantined: Vec<String>,
        (took, open): (Duration, Option<u64>),
    ) -> Verdict {
        let aside: HashSet<&str> = quarantined.iter().map(String::as_str).collect();
        let told = shelf
            .iter()
            .map(|product| (product.sku.as_str(), product.count));
        let story = STORY
            .last()
            .filter(|_| self.is_fed)
            .map(|step| (SKU, step.count));
        let expected = told.chain(story).filter(|(sku, _)| !aside.contains(sku));
        let comparison = compare(expected, &self.market.snapshot(CAMPAIGN));
        // A zero on the Market of a SKU the seller never said zero of, even if mended since.
        let may_be_zero: HashSet<&str> = if self.faults.is_some() {
            shelf.iter().map(|product| product.sku.as_str()).collect()
        } else {
            let zeros = shelf.iter().filter(|product| product.count == 0);
            zeros.map(|product| product.sku.as_str()).collect()
        };
        let zeros = self.market.ever_zero(CAMPAIGN);
        let invented = zeros
            .iter()
            .filter(|sku| *sku != SKU && !may_be_zero.contains(sku.as_str()));
        Verdict {
            push,
            invented_zeros: invented.count() + comparison.invented_zeros.count,
            comparison,
            poison: if self.faults.is_some() {
                self.poison()
            } else {
                HashSet::new()
            },
            quarantined,
            open_questions: open,
            migrated: Migrated {
                skus: self.market.len(CAMPAIGN),
                took,
            },
            report: self.market.report(),
        }
    }

    // === Props ===

    /// Every fault in turn, each followed by a request that goes well, and a few SKUs that are
    /// refused whatever comes with them. Several turns: a batch that is refused for its SKUs
    /// meets no other fault.
    fn plan(&self, Storm { seed, limit }: Storm) -> FaultPlan {
        let mut faults = Fault::ALL;
        let turn = usize::try_from(seed % Fault::ALL.len() as u64).unwrap_or_default();
        faults.rotate_left(turn);
        let turn = faults.map(|fault| [Some(fault), None]).concat();
        FaultPlan::script(turn.repeat(10))
            .dropping(0.01)
            .ordering(0.02)
            .limit_headers(limit)
            .poisoned(self.poison(), false)
            .slow_by(Duration::from_millis(500))
            .hang_for(Duration::from_secs(2))
    }

    fn poison(&self) -> HashSet<String> {
        let step = (self.shelf.len() / POISON).max(1);
        let chosen = self.shelf.iter().skip(step / 2).step_by(step).take(POISON);
        chosen.map(|product| product.sku.clone()).collect()
    }
}

/// The Market asks for everything, a thousand SKUs a request, all at once.
pub(super) async fn push(shop: &Shop, shelf: &[Product]) -> PushReport {
    let skus: Vec<String> = shelf.iter().map(|product| product.sku.clone()).collect();
    let report = shop.ask(&skus).await;
    say(&format!(
        "{:<12} {} SKUs in {} questions at once, the slowest after {} ms",
        "asked",
        skus.len(),
        report.questions,
        report.slowest().as_millis()
    ));
    report
}
