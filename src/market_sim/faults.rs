use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::seeded_random;

/// What can go wrong with one request.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum MarketFault {
    /// 420 for too many requests at a time, deserved or not.
    ParallelLimit,
    /// 420 for too many SKUs, to wait a few seconds; a third of them without the headers that
    /// say how long, a third with a wrong weekday in the date.
    VolumeLimit,
    /// 500, 502 or 503 with JSON, HTML or nothing as body. Nothing is applied.
    ServerError,
    /// No answer until the client gives up. Nothing is applied.
    Hang,
    /// Applied, and no answer until the client gives up.
    ApplyThenHang,
    /// The connection is closed without an answer. Nothing is applied.
    CloseWithoutResponse,
    /// Applied, and the connection closed in the middle of the answer.
    TruncatedResponse,
    /// Applied, and answered 500.
    ApplyThenError,
    /// 200 with `status: ERROR`. Nothing is applied.
    ErrorInOk,
    /// 200 with a page of HTML, as from a proxy. Nothing is applied.
    HtmlInOk,
    /// 200 with an empty body; every other time it is applied.
    EmptyOk,
    /// 307 to another path. Nothing is applied, and nobody should follow.
    Redirect,
    /// Applied and answered well, but late.
    Slow,
}

impl MarketFault {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::ParallelLimit,
        Self::VolumeLimit,
        Self::ServerError,
        Self::Hang,
        Self::ApplyThenHang,
        Self::CloseWithoutResponse,
        Self::TruncatedResponse,
        Self::ApplyThenError,
        Self::ErrorInOk,
        Self::HtmlInOk,
        Self::EmptyOk,
        Self::Redirect,
        Self::Slow,
    ];

    /// Whether the quota is spent: by 2xx and 4xx, and by what was never answered.
    pub(super) fn consumes_quota(self) -> bool {
        match self {
            Self::ServerError | Self::ApplyThenError | Self::VolumeLimit => false,
            Self::ParallelLimit
            | Self::Hang
            | Self::ApplyThenHang
            | Self::CloseWithoutResponse
            | Self::TruncatedResponse
            | Self::ErrorInOk
            | Self::HtmlInOk
            | Self::EmptyOk
            | Self::Redirect
            | Self::Slow => true,
        }
    }

    /// Whether the request takes effect all the same.
    pub(super) fn applies(self, random: u64) -> bool {
        match self {
            Self::ApplyThenHang | Self::TruncatedResponse | Self::ApplyThenError | Self::Slow => {
                true
            }
            Self::EmptyOk => random.is_multiple_of(2),
            Self::ParallelLimit
            | Self::VolumeLimit
            | Self::ServerError
            | Self::Hang
            | Self::CloseWithoutResponse
            | Self::ErrorInOk
            | Self::HtmlInOk
            | Self::Redirect => false,
        }
    }
}

/// What goes wrong, and when: by dice thrown from a seed, or by a script.
///
/// What happens to a request depends on nothing but the plan and the request's number, counted
/// over the whole Market from when the plan was set.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    selection: FaultSelection,
    spares_read_backs: bool,
    rejected_skus: HashSet<String>,
    names_rejected_skus: bool,
    locked_until: Option<DateTime<Utc>>,
    max_skus: Option<usize>,
    drop_rate: f64,
    order_rate: f64,
    announced_limit: Option<usize>,
    seed: u64,
    pub(super) slow_delay: Duration,
    pub(super) rate_limit_wait: Duration,
    pub(super) hang_duration: Option<Duration>,
}

#[derive(Clone, Debug)]
enum FaultSelection {
    Rates(Vec<(MarketFault, f64)>),
    Script(Vec<Option<MarketFault>>),
}

/// What a plan has in store for one line of an update that is applied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LineOutcome {
    /// It reaches the shelf.
    Kept,
    /// It reaches the shelf, and a buyer takes a piece at once.
    Sold,
    /// It is acknowledged and thrown away.
    Dropped,
}

/// A fault and the dice that choose its variety.
pub(super) type DrawnFault = (MarketFault, u64);

impl FaultPlan {
    /// Nothing goes wrong.
    #[must_use]
    pub fn none() -> Self {
        Self::seeded(0)
    }

    /// Nothing goes wrong yet: see [`FaultPlan::with`] and the others.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            selection: FaultSelection::Rates(Vec::new()),
            spares_read_backs: false,
            rejected_skus: HashSet::new(),
            names_rejected_skus: true,
            locked_until: None,
            max_skus: None,
            drop_rate: 0.0,
            order_rate: 0.0,
            announced_limit: None,
            seed,
            slow_delay: Duration::from_secs(3),
            rate_limit_wait: Duration::from_secs(3),
            hang_duration: None,
        }
    }

    /// Everything that can go wrong does, all in all to this share of the requests.
    #[must_use]
    pub fn all_faults(seed: u64, total_rate: f64) -> Self {
        let rate_per_fault =
            total_rate / f64::from(u32::try_from(MarketFault::ALL.len()).unwrap_or(u32::MAX));
        MarketFault::ALL
            .into_iter()
            .fold(Self::seeded(seed), |plan, fault| {
                plan.with_fault(fault, rate_per_fault)
            })
    }

    /// The first requests meet these, one each; `None` goes well, and so do all later ones.
    #[must_use]
    pub fn script(faults: impl IntoIterator<Item = Option<MarketFault>>) -> Self {
        Self {
            selection: FaultSelection::Script(faults.into_iter().collect()),
            ..Self::none()
        }
    }

    /// Adds a fault that hits this share of the requests. A script is given up for it.
    #[must_use]
    pub fn with_fault(mut self, fault: MarketFault, rate: f64) -> Self {
        match &mut self.selection {
            FaultSelection::Rates(rates) => rates.push((fault, rate)),
            FaultSelection::Script(_) => {
                self.selection = FaultSelection::Rates(vec![(fault, rate)])
            }
        }
        self
    }

    /// Read-backs go well.
    #[must_use]
    pub fn without_read_back_faults(mut self) -> Self {
        self.spares_read_backs = true;
        self
    }

    /// An update that holds one of these is refused by a 400, which names them in its text or
    /// does not.
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

    /// The same plan without anything but its poison.
    pub(super) fn rejected_skus_only(&self) -> Self {
        Self::none().with_rejected_skus(self.rejected_skus.clone(), self.names_rejected_skus)
    }

    /// Until then every request is answered 423.
    #[must_use]
    pub fn locked_until(mut self, at: DateTime<Utc>) -> Self {
        self.locked_until = Some(at);
        self
    }

    /// An update of more SKUs is answered 413 by something in front of the Market.
    #[must_use]
    pub fn with_max_skus(mut self, max_skus: usize) -> Self {
        self.max_skus = Some(max_skus);
        self
    }

    /// This share of the SKUs is acknowledged and thrown away.
    #[must_use]
    pub fn with_drop_rate(mut self, rate: f64) -> Self {
        self.drop_rate = rate;
        self
    }

    /// Of this share of the SKUs applied a buyer orders one piece right after.
    #[must_use]
    pub fn with_order_rate(mut self, rate: f64) -> Self {
        self.order_rate = rate;
        self
    }

    /// Every answer to an update tells this limit and what is left of it, and the Market
    /// holds to it while the plan is in force; a limit above the Market's own changes nothing.
    ///
    /// It counts what the method's own limit counts: SKUs of a campaign, requests of a business.
    #[must_use]
    pub fn with_limit_headers(mut self, limit: usize) -> Self {
        self.announced_limit = Some(limit);
        self
    }

    /// How late a [`Fault::Slow`] answers; 3 s without it.
    #[must_use]
    pub fn with_slow_delay(mut self, delay: Duration) -> Self {
        self.slow_delay = delay;
        self
    }

    /// How long a [`Fault::VolumeLimit`] asks to wait; 3 s without it.
    #[must_use]
    pub fn with_rate_limit_wait(mut self, wait: Duration) -> Self {
        self.rate_limit_wait = wait;
        self
    }

    /// How long a hang lasts before the connection is closed; without it, until the client
    /// gives up.
    #[must_use]
    pub fn with_hang_duration(mut self, duration: Duration) -> Self {
        self.hang_duration = Some(duration);
        self
    }

    pub(super) fn draw(&self, number: u64, is_read_back: bool) -> Option<DrawnFault> {
        if is_read_back && self.spares_read_backs {
            return None;
        }
        let random = seeded_random::number(self.seed, number);
        let fault = match &self.selection {
            FaultSelection::Script(faults) => {
                faults.get(usize::try_from(number).ok()?).copied().flatten()
            }
            FaultSelection::Rates(rates) => choose_fault(rates, seeded_random::fraction(random)),
        };
        // Thrown again: the first throw chose the fault, and is not even any more.
        fault.map(|fault| (fault, seeded_random::number(random, 1)))
    }

    pub(super) fn is_locked(&self, now: DateTime<Utc>) -> bool {
        self.locked_until.is_some_and(|until| now < until)
    }

    pub(super) fn exceeds_max_skus(&self, skus: usize) -> bool {
        self.max_skus.is_some_and(|max| skus > max)
    }

    /// The limit it tells and holds to.
    pub(super) fn announced_limit(&self) -> Option<usize> {
        self.announced_limit
    }

    pub(super) fn line_outcome(&self, number: u64, index: usize) -> LineOutcome {
        if Self::is_selected(self.drop_rate, !self.seed, number, index) {
            LineOutcome::Dropped
        } else if Self::is_selected(
            self.order_rate,
            seeded_random::number(self.seed, u64::MAX),
            number,
            index,
        ) {
            LineOutcome::Sold
        } else {
            LineOutcome::Kept
        }
    }

    fn is_selected(rate: f64, seed: u64, number: u64, index: usize) -> bool {
        rate > 0.0 && {
            let index = u64::try_from(index).unwrap_or(u64::MAX);
            seeded_random::fraction(seeded_random::number(
                seeded_random::number(seed, number),
                index,
            )) < rate
        }
    }

    /// What the 400 says of poison among these, if there is any.
    pub(super) fn rejection_messages<'a>(
        &self,
        skus: impl Iterator<Item = &'a str>,
    ) -> Vec<String> {
        let rejected = skus.filter(|sku| self.rejected_skus.contains(*sku));
        if self.names_rejected_skus {
            rejected
                .map(|sku| format!("Stock for '{sku}' could not be accepted"))
                .collect()
        } else {
            rejected
                .take(1)
                .map(|_| "Request could not be processed".to_owned())
                .collect()
        }
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
    fn a_seed_says_what_happens_to_every_request() {
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
    fn a_storm_brings_every_fault_and_spares_the_share_it_should() {
        let faults = draw_all(&FaultPlan::all_faults(5, 0.5));
        for fault in MarketFault::ALL {
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
    fn a_script_is_played_once() {
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
    fn read_backs_are_spared_if_the_plan_says_so() {
        let plan = FaultPlan::seeded(1)
            .with_fault(MarketFault::Hang, 1.0)
            .without_read_back_faults();
        assert!(plan.draw(0, false).is_some());
        assert!(plan.draw(0, true).is_none());
    }

    #[test]
    fn about_the_share_that_was_asked_for_is_dropped() {
        let plan = FaultPlan::seeded(3).with_drop_rate(0.01);
        let dropped = (0..100_000)
            .filter(|&i| plan.line_outcome(9, i) == LineOutcome::Dropped)
            .count();
        assert!((900..1_100).contains(&dropped), "{dropped}");
    }

    #[test]
    fn buyers_take_their_share_of_what_is_not_dropped() {
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
