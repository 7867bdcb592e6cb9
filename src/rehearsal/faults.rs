use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::dice;

/// What can go wrong with one request.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Fault {
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
    CloseUnanswered,
    /// Applied, and the connection closed in the middle of the answer.
    CutAnswer,
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

impl Fault {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::ParallelLimit,
        Self::VolumeLimit,
        Self::ServerError,
        Self::Hang,
        Self::ApplyThenHang,
        Self::CloseUnanswered,
        Self::CutAnswer,
        Self::ApplyThenError,
        Self::ErrorInOk,
        Self::HtmlInOk,
        Self::EmptyOk,
        Self::Redirect,
        Self::Slow,
    ];

    /// Whether the quota is spent: by 2xx and 4xx, and by what was never answered.
    pub(super) fn spends(self) -> bool {
        match self {
            Self::ServerError | Self::ApplyThenError | Self::VolumeLimit => false,
            Self::ParallelLimit
            | Self::Hang
            | Self::ApplyThenHang
            | Self::CloseUnanswered
            | Self::CutAnswer
            | Self::ErrorInOk
            | Self::HtmlInOk
            | Self::EmptyOk
            | Self::Redirect
            | Self::Slow => true,
        }
    }

    /// Whether the request takes effect all the same.
    pub(super) fn applies(self, dice: u64) -> bool {
        match self {
            Self::ApplyThenHang | Self::CutAnswer | Self::ApplyThenError | Self::Slow => true,
            Self::EmptyOk => dice.is_multiple_of(2),
            Self::ParallelLimit
            | Self::VolumeLimit
            | Self::ServerError
            | Self::Hang
            | Self::CloseUnanswered
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
    choice: Choice,
    spares_read_back: bool,
    poison: HashSet<String>,
    names_poison: bool,
    locked_until: Option<DateTime<Utc>>,
    max_skus: Option<usize>,
    dropped: f64,
    ordered: f64,
    limit: Option<usize>,
    seed: u64,
    pub(super) slow_by: Duration,
    pub(super) limited_for: Duration,
    pub(super) hang_for: Option<Duration>,
}

#[derive(Clone, Debug)]
enum Choice {
    Odds(Vec<(Fault, f64)>),
    Script(Vec<Option<Fault>>),
}

/// What a plan has in store for one line of an update that is applied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Luck {
    /// It reaches the shelf.
    Kept,
    /// It reaches the shelf, and a buyer takes a piece at once.
    Sold,
    /// It is acknowledged and thrown away.
    Lost,
}

/// A fault and the dice that choose its variety.
pub(super) type Drawn = (Fault, u64);

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
            choice: Choice::Odds(Vec::new()),
            spares_read_back: false,
            poison: HashSet::new(),
            names_poison: true,
            locked_until: None,
            max_skus: None,
            dropped: 0.0,
            ordered: 0.0,
            limit: None,
            seed,
            slow_by: Duration::from_secs(3),
            limited_for: Duration::from_secs(3),
            hang_for: None,
        }
    }

    /// Everything that can go wrong does, all in all to this share of the requests.
    #[must_use]
    pub fn storm(seed: u64, share: f64) -> Self {
        let each = share / f64::from(u32::try_from(Fault::ALL.len()).unwrap_or(u32::MAX));
        Fault::ALL
            .into_iter()
            .fold(Self::seeded(seed), |plan, fault| plan.with(fault, each))
    }

    /// The first requests meet these, one each; `None` goes well, and so do all later ones.
    #[must_use]
    pub fn script(faults: impl IntoIterator<Item = Option<Fault>>) -> Self {
        Self {
            choice: Choice::Script(faults.into_iter().collect()),
            ..Self::none()
        }
    }

    /// Adds a fault that hits this share of the requests. A script is given up for it.
    #[must_use]
    pub fn with(mut self, fault: Fault, share: f64) -> Self {
        match &mut self.choice {
            Choice::Odds(odds) => odds.push((fault, share)),
            Choice::Script(_) => self.choice = Choice::Odds(vec![(fault, share)]),
        }
        self
    }

    /// Read-backs go well.
    #[must_use]
    pub fn sparing_read_backs(mut self) -> Self {
        self.spares_read_back = true;
        self
    }

    /// An update that holds one of these is refused by a 400, which names them in its text or
    /// does not.
    #[must_use]
    pub fn poisoned(mut self, skus: impl IntoIterator<Item = String>, named: bool) -> Self {
        self.poison = skus.into_iter().collect();
        self.names_poison = named;
        self
    }

    /// The same plan without anything but its poison.
    pub(super) fn poison_alone(&self) -> Self {
        Self::none().poisoned(self.poison.clone(), self.names_poison)
    }

    /// Until then every request is answered 423.
    #[must_use]
    pub fn locked_until(mut self, at: DateTime<Utc>) -> Self {
        self.locked_until = Some(at);
        self
    }

    /// An update of more SKUs is answered 413 by something in front of the Market.
    #[must_use]
    pub fn taking_at_most(mut self, skus: usize) -> Self {
        self.max_skus = Some(skus);
        self
    }

    /// This share of the SKUs is acknowledged and thrown away.
    #[must_use]
    pub fn dropping(mut self, share: f64) -> Self {
        self.dropped = share;
        self
    }

    /// Of this share of the SKUs applied a buyer orders one piece right after.
    #[must_use]
    pub fn ordering(mut self, share: f64) -> Self {
        self.ordered = share;
        self
    }

    /// Every answer to an update tells this limit and what is left of it, and the Market
    /// holds to it while the plan is in force; a limit above the Market's own changes nothing.
    ///
    /// It counts what the method's own limit counts: SKUs of a campaign, requests of a business.
    #[must_use]
    pub fn limit_headers(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// How late a [`Fault::Slow`] answers; 3 s without it.
    #[must_use]
    pub fn slow_by(mut self, delay: Duration) -> Self {
        self.slow_by = delay;
        self
    }

    /// How long a [`Fault::VolumeLimit`] asks to wait; 3 s without it.
    #[must_use]
    pub fn limited_for(mut self, wait: Duration) -> Self {
        self.limited_for = wait;
        self
    }

    /// How long a hang lasts before the connection is closed; without it, until the client
    /// gives up.
    #[must_use]
    pub fn hang_for(mut self, time: Duration) -> Self {
        self.hang_for = Some(time);
        self
    }

    pub(super) fn draw(&self, number: u64, is_read_back: bool) -> Option<Drawn> {
        if is_read_back && self.spares_read_back {
            return None;
        }
        let throw = dice::throw(self.seed, number);
        let fault = match &self.choice {
            Choice::Script(faults) => faults.get(usize::try_from(number).ok()?).copied().flatten(),
            Choice::Odds(odds) => pick(odds, dice::share(throw)),
        };
        // Thrown again: the first throw chose the fault, and is not even any more.
        fault.map(|fault| (fault, dice::throw(throw, 1)))
    }

    pub(super) fn is_locked(&self, now: DateTime<Utc>) -> bool {
        self.locked_until.is_some_and(|until| now < until)
    }

    pub(super) fn is_too_many(&self, skus: usize) -> bool {
        self.max_skus.is_some_and(|max| skus > max)
    }

    /// The limit it tells and holds to.
    pub(super) fn limit(&self) -> Option<usize> {
        self.limit
    }

    pub(super) fn luck(&self, number: u64, index: usize) -> Luck {
        if Self::hits(self.dropped, !self.seed, number, index) {
            Luck::Lost
        } else if Self::hits(
            self.ordered,
            dice::throw(self.seed, u64::MAX),
            number,
            index,
        ) {
            Luck::Sold
        } else {
            Luck::Kept
        }
    }

    fn hits(odds: f64, seed: u64, number: u64, index: usize) -> bool {
        odds > 0.0 && {
            let index = u64::try_from(index).unwrap_or(u64::MAX);
            dice::share(dice::throw(dice::throw(seed, number), index)) < odds
        }
    }

    /// What the 400 says of poison among these, if there is any.
    pub(super) fn objections<'a>(&self, skus: impl Iterator<Item = &'a str>) -> Vec<String> {
        let poison = skus.filter(|sku| self.poison.contains(*sku));
        if self.names_poison {
            poison
                .map(|sku| format!("Stock for '{sku}' could not be accepted"))
                .collect()
        } else {
            poison
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

fn pick(odds: &[(Fault, f64)], mut share: f64) -> Option<Fault> {
    for &(fault, odd) in odds {
        if share < odd {
            return Some(fault);
        }
        share -= odd;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(plan: &FaultPlan) -> Vec<Option<Drawn>> {
        (0..2_000).map(|number| plan.draw(number, false)).collect()
    }

    #[test]
    fn a_seed_says_what_happens_to_every_request() {
        assert_eq!(
            drawn(&FaultPlan::storm(5, 0.5)),
            drawn(&FaultPlan::storm(5, 0.5))
        );
        assert_ne!(
            drawn(&FaultPlan::storm(5, 0.5)),
            drawn(&FaultPlan::storm(6, 0.5))
        );
    }

    #[test]
    fn a_storm_brings_every_fault_and_spares_the_share_it_should() {
        let drawn = drawn(&FaultPlan::storm(5, 0.5));
        for fault in Fault::ALL {
            assert!(
                drawn.iter().flatten().any(|(f, _)| *f == fault),
                "{fault:?}"
            );
        }
        let spared = drawn.iter().filter(|d| d.is_none()).count();
        assert!((900..1_100).contains(&spared), "{spared}");
    }

    #[test]
    fn a_script_is_played_once() {
        let plan = FaultPlan::script([Some(Fault::Hang), None, Some(Fault::Slow)]);
        let faults: Vec<_> = (0..5)
            .map(|n| plan.draw(n, false).map(|(fault, _)| fault))
            .collect();
        assert_eq!(
            faults,
            [Some(Fault::Hang), None, Some(Fault::Slow), None, None]
        );
    }

    #[test]
    fn read_backs_are_spared_if_the_plan_says_so() {
        let plan = FaultPlan::seeded(1)
            .with(Fault::Hang, 1.0)
            .sparing_read_backs();
        assert!(plan.draw(0, false).is_some());
        assert!(plan.draw(0, true).is_none());
    }

    #[test]
    fn about_the_share_that_was_asked_for_is_dropped() {
        let plan = FaultPlan::seeded(3).dropping(0.01);
        let dropped = (0..100_000)
            .filter(|&i| plan.luck(9, i) == Luck::Lost)
            .count();
        assert!((900..1_100).contains(&dropped), "{dropped}");
    }

    #[test]
    fn buyers_take_their_share_of_what_is_not_dropped() {
        let plan = FaultPlan::seeded(3).dropping(0.5).ordering(0.2);
        let luck: Vec<Luck> = (0..100_000).map(|index| plan.luck(9, index)).collect();
        let sold = luck.iter().filter(|luck| **luck == Luck::Sold).count();
        assert!((9_500..10_500).contains(&sold), "{sold}");
    }
}
