//! Fault plans of the simulator: errors, delays, lost lines and orders of buyers.
//!
//! Every decision is a function of the plan and the request's number, so a seed reproduces a run.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::seeded_random;

/// Fault of one request.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, strum::VariantArray)]
pub enum MarketFault {
    /// 420 for too many parallel requests, even if the limit is not reached.
    ParallelLimit,
    /// 420 for too many SKUs, with a wait of a few seconds. One third has no rate-limit headers,
    /// one third a wrong weekday in the date.
    VolumeLimit,
    /// 500, 502 or 503 with a JSON, HTML or empty body. Nothing is applied.
    ServerError,
    /// No response until the client gives up. Nothing is applied.
    Hang,
    /// Applied, but no response until the client gives up.
    ApplyThenHang,
    /// Connection closed without a response. Nothing is applied.
    CloseWithoutResponse,
    /// Applied, but the connection is closed in the middle of the response.
    TruncatedResponse,
    /// Applied, but the response is 500, 502 or 503.
    ApplyThenError,
    /// 200 with `status: ERROR`. Nothing is applied.
    ErrorInOk,
    /// 200 with an HTML page, as from a proxy. Nothing is applied.
    HtmlInOk,
    /// 200 with an empty body. Half of these requests are applied.
    EmptyOk,
    /// 307 to another path. Nothing is applied, and the client must not follow.
    Redirect,
    /// Applied and acknowledged, but late.
    Slow,
}

impl MarketFault {
    /// All faults.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns true if the request costs quota. All do except those with a 5xx, and the Market's own
    /// 420 for volume.
    pub(crate) fn consumes_quota(self) -> bool {
        !matches!(
            self,
            Self::ServerError | Self::ApplyThenError | Self::VolumeLimit
        )
    }

    /// Returns true if the request is applied. `random` decides for [`Self::EmptyOk`].
    pub(crate) fn applies(self, random: u64) -> bool {
        matches!(
            self,
            Self::ApplyThenHang | Self::TruncatedResponse | Self::ApplyThenError | Self::Slow
        ) || (self == Self::EmptyOk && random.is_multiple_of(2))
    }
}

/// Plan of faults, either random with a seed or scripted.
///
/// The fault of a request depends only on the plan and the request's number. Numbers count all
/// requests of the simulator since the plan was set.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    selection: FaultSelection,
    spares_readbacks: bool,
    rejected_skus: HashSet<String>,
    names_rejected_skus: bool,
    locked_until: Option<DateTime<Utc>>,
    max_skus: Option<usize>,
    drop_rate: f64,
    order_rate: f64,
    /// Limit that responses announce and the simulator enforces.
    pub(crate) announced_limit: Option<usize>,
    seed: u64,
    pub(crate) slow_delay: Duration,
    pub(crate) hang_duration: Option<Duration>,
}

#[derive(Clone, Debug)]
enum FaultSelection {
    Rates(Vec<(MarketFault, f64)>),
    Script(Vec<Option<MarketFault>>),
}

/// Outcome that a plan gives to one line of an applied update.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LineOutcome {
    /// Line is stored.
    Kept,
    /// Line is stored, and a buyer orders one piece at once.
    Sold,
    /// Line is acknowledged but not stored.
    Dropped,
}

/// Fault and the random number that selects its variety.
pub(crate) type DrawnFault = (MarketFault, u64);

impl FaultPlan {
    /// Creates a plan without faults.
    #[must_use]
    pub fn none() -> Self {
        Self::seeded(0)
    }

    /// Creates a plan without faults for [`FaultPlan::with_fault`] and the other builder methods.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            selection: FaultSelection::Rates(Vec::new()),
            spares_readbacks: false,
            rejected_skus: HashSet::new(),
            names_rejected_skus: true,
            locked_until: None,
            max_skus: None,
            drop_rate: 0.0,
            order_rate: 0.0,
            announced_limit: None,
            seed,
            slow_delay: Duration::from_secs(3),
            hang_duration: None,
        }
    }

    /// Creates a plan with all faults, which together hit `total_rate` of the requests, `0.0..=1.0`.
    #[must_use]
    pub fn all_faults(seed: u64, total_rate: f64) -> Self {
        let count = u32::try_from(MarketFault::ALL.len()).unwrap_or(u32::MAX);
        let rate = total_rate / f64::from(count);
        let faults = MarketFault::ALL.iter();
        faults.fold(Self::seeded(seed), |plan, fault| {
            plan.with_fault(*fault, rate)
        })
    }

    /// Creates a plan that gives one entry to each of the first requests. `None` and all later
    /// requests have no fault.
    #[must_use]
    pub fn script(faults: impl IntoIterator<Item = Option<MarketFault>>) -> Self {
        Self {
            selection: FaultSelection::Script(faults.into_iter().collect()),
            ..Self::none()
        }
    }

    /// Adds a fault that hits `rate` of the requests, `0.0..=1.0`. It replaces a script.
    #[must_use]
    pub fn with_fault(mut self, fault: MarketFault, rate: f64) -> Self {
        match &mut self.selection {
            FaultSelection::Rates(rates) => rates.push((fault, rate)),
            FaultSelection::Script(_) => {
                self.selection = FaultSelection::Rates(vec![(fault, rate)]);
            }
        }
        self
    }

    /// Exempts read-backs from faults.
    #[must_use]
    pub fn without_readback_faults(mut self) -> Self {
        self.spares_readbacks = true;
        self
    }

    /// Rejects updates that contain one of these SKUs with a 400. `are_named` selects whether the
    /// message names them.
    #[must_use]
    pub fn with_rejected_skus(
        mut self,
        skus: impl IntoIterator<Item = String>,
        are_named: bool,
    ) -> Self {
        self.rejected_skus = skus.into_iter().collect();
        self.names_rejected_skus = are_named;
        self
    }

    /// Returns a plan with only the rejected SKUs of this one.
    pub(crate) fn rejected_skus_only(&self) -> Self {
        Self::none().with_rejected_skus(self.rejected_skus.clone(), self.names_rejected_skus)
    }

    /// Answers the methods for stock, hidden offers and warehouses with 423 until `at`.
    #[must_use]
    pub fn locked_until(mut self, at: DateTime<Utc>) -> Self {
        self.locked_until = Some(at);
        self
    }

    /// Answers updates of more SKUs with 413, as a proxy in front of the Market does.
    #[must_use]
    pub fn with_max_skus(mut self, max_skus: usize) -> Self {
        self.max_skus = Some(max_skus);
        self
    }

    /// Drops this share of the acknowledged SKUs, `0.0..=1.0`.
    #[must_use]
    pub fn with_drop_rate(mut self, rate: f64) -> Self {
        self.drop_rate = rate;
        self
    }

    /// Lets a buyer order one piece of this share of the stored SKUs, `0.0..=1.0`, at once.
    #[must_use]
    pub fn with_order_rate(mut self, rate: f64) -> Self {
        self.order_rate = rate;
        self
    }

    /// Sends this limit and the remaining quota with every response to an update, and enforces the
    /// limit while the plan is active. A limit above the simulator's own has no effect on it.
    ///
    /// The unit is that of the method's own limit: SKUs of a campaign, requests of a business.
    #[must_use]
    pub fn with_limit_headers(mut self, limit: usize) -> Self {
        self.announced_limit = Some(limit);
        self
    }

    /// Sets the delay of [`MarketFault::Slow`]; the default is 3 s.
    #[must_use]
    pub fn with_slow_delay(mut self, delay: Duration) -> Self {
        self.slow_delay = delay;
        self
    }

    /// Sets the time after which a hanging connection is closed. By default it hangs until the
    /// client gives up.
    #[must_use]
    pub fn with_hang_duration(mut self, duration: Duration) -> Self {
        self.hang_duration = Some(duration);
        self
    }

    pub(crate) fn draw(&self, number: u64, is_readback: bool) -> Option<DrawnFault> {
        if is_readback && self.spares_readbacks {
            return None;
        }
        let random = seeded_random::number(self.seed, number);
        let fault = match &self.selection {
            FaultSelection::Script(faults) => {
                faults.get(usize::try_from(number).ok()?).copied().flatten()
            }
            FaultSelection::Rates(rates) => choose_fault(rates, seeded_random::fraction(random)),
        };
        // The variety needs a second random number: among requests with the same fault, the first
        // number is not uniform.
        fault.map(|fault| (fault, seeded_random::number(random, 1)))
    }

    pub(crate) fn is_locked(&self, now: DateTime<Utc>) -> bool {
        self.locked_until.is_some_and(|until| now < until)
    }

    pub(crate) fn exceeds_max_skus(&self, skus: usize) -> bool {
        self.max_skus.is_some_and(|max| skus > max)
    }

    pub(crate) fn line_outcome(&self, number: u64, index: usize) -> LineOutcome {
        let order_seed = seeded_random::number(self.seed, u64::MAX);
        if Self::is_selected(self.drop_rate, !self.seed, number, index) {
            LineOutcome::Dropped
        } else if Self::is_selected(self.order_rate, order_seed, number, index) {
            LineOutcome::Sold
        } else {
            LineOutcome::Kept
        }
    }

    fn is_selected(rate: f64, seed: u64, number: u64, index: usize) -> bool {
        let index = u64::try_from(index).unwrap_or(u64::MAX);
        let random = || seeded_random::number(seeded_random::number(seed, number), index);
        rate > 0.0 && seeded_random::fraction(random()) < rate
    }

    /// Returns the messages of a 400 if some of `skus` are rejected, otherwise an empty list.
    pub(crate) fn rejection_messages<'a>(
        &self,
        skus: impl Iterator<Item = &'a str>,
    ) -> Vec<String> {
        let rejected = skus.filter(|sku| self.rejected_skus.contains(*sku));
        if self.names_rejected_skus {
            let message = |sku| format!("Stock for '{sku}' could not be accepted");
            return rejected.map(message).collect();
        }
        let message = |_| "Request could not be processed".to_owned();
        rejected.take(1).map(message).collect()
    }
}

impl Default for FaultPlan {
    fn default() -> Self {
        Self::none()
    }
}

fn choose_fault(rates: &[(MarketFault, f64)], mut random_fraction: f64) -> Option<MarketFault> {
    for &(fault, rate) in rates {
        if random_fraction < rate {
            return Some(fault);
        }
        random_fraction -= rate;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw_all(plan: &FaultPlan) -> Vec<Option<DrawnFault>> {
        (0..2_000).map(|number| plan.draw(number, false)).collect()
    }

    #[test]
    fn seed_determines_every_fault() {
        assert_eq!(
            draw_all(&FaultPlan::all_faults(5, 0.5)),
            draw_all(&FaultPlan::all_faults(5, 0.5))
        );
        assert_ne!(
            draw_all(&FaultPlan::all_faults(5, 0.5)),
            draw_all(&FaultPlan::all_faults(6, 0.5))
        );
    }

    #[test]
    fn all_faults_plan_keeps_its_total_rate() {
        let faults = draw_all(&FaultPlan::all_faults(5, 0.5));
        for &fault in MarketFault::ALL {
            assert!(
                faults.iter().flatten().any(|(f, _)| *f == fault),
                "{fault:?}"
            );
        }
        let requests_without_fault = faults.iter().filter(|d| d.is_none()).count();
        assert!(
            (900..1_100).contains(&requests_without_fault),
            "{requests_without_fault}"
        );
    }

    #[test]
    fn script_runs_once() {
        let plan = FaultPlan::script([Some(MarketFault::Hang), None, Some(MarketFault::Slow)]);
        let faults: Vec<_> = (0..5)
            .map(|n| plan.draw(n, false).map(|(fault, _)| fault))
            .collect();
        assert_eq!(
            faults,
            [
                Some(MarketFault::Hang),
                None,
                Some(MarketFault::Slow),
                None,
                None
            ]
        );
    }

    #[test]
    fn plan_can_exempt_readbacks() {
        let plan = FaultPlan::seeded(1)
            .with_fault(MarketFault::Hang, 1.0)
            .without_readback_faults();
        assert!(plan.draw(0, false).is_some());
        assert!(plan.draw(0, true).is_none());
    }

    #[test]
    fn drop_rate_matches_dropped_lines() {
        let plan = FaultPlan::seeded(3).with_drop_rate(0.01);
        let dropped = (0..100_000)
            .filter(|&i| plan.line_outcome(9, i) == LineOutcome::Dropped)
            .count();
        assert!((900..1_100).contains(&dropped), "{dropped}");
    }

    #[test]
    fn order_rate_applies_to_stored_lines() {
        let plan = FaultPlan::seeded(3)
            .with_drop_rate(0.5)
            .with_order_rate(0.2);
        let outcomes: Vec<LineOutcome> = (0..100_000)
            .map(|index| plan.line_outcome(9, index))
            .collect();
        let sold = outcomes
            .iter()
            .filter(|outcome| **outcome == LineOutcome::Sold)
            .count();
        assert!((9_500..10_500).contains(&sold), "{sold}");
    }
}
