//! Reads the Market's copy back and compares it with what was acknowledged. Decides, and sends
//! nothing: [`super::run`] does.
//!
//! A pass goes through every page, of each warehouse, first what is on sale and then the
//! archive; then it asks by name for the SKUs that were on none. What differs is told in
//! classes. Sent again is only what the Market's own dates prove not to have arrived, what it
//! does not know at all, or what the seller has said anew since and of late: an old number said
//! once more would undo the Market's own bookkeeping of orders.

mod classify;
mod compare;
mod observed;
mod readback_report;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

pub use classify::MatchClass;
pub use compare::{FindMissing, FinishPass, PassResult};
pub use observed::{Observations, Observed};
pub use readback_report::{DryRunEstimate, ReadbackExample, ReadbackProgress, ReadbackReport};

use self::classify::Expected;
use self::compare::{PassStats, record_offer};
use self::observed::PassId;
use super::Mode;
use super::classify_response::{ResponseVerdict, classify_response};
use super::clock_skew::SkewRange;
use super::ledger::Ledger;
use super::planner::Now;
use crate::history::History;
use crate::partner_api::client::CallOutcome;
use crate::partner_api::readback_page::{
    OfferList, ReadbackPage, ReadbackQuery, ReadbackSelection,
};
use crate::partner_api::wire::business::READ_BACKS_PER_MINUTE;
use crate::partner_api::wire::{MAX_OFFER_IDS, MAX_PAGE_SIZE, MarketAddress, SKUS_PER_MINUTE};
use crate::stock::{Activity, BookEntry, ShopId, Sku, StockBook};
use crate::store::Acked;

/// Part of the read-back limit that scheduled passes use: one in so many. The Market counts
/// read-backs apart from updates: [`SKUS_PER_MINUTE`] by campaign, [`READ_BACKS_PER_MINUTE`] by
/// business.
const SCHEDULED_SHARE: u32 = 10;

/// Part of the read-back limit that a pass uses while an operator waits for its result.
const REQUESTED_SHARE: u32 = 2;

/// The first pass after a start comes no later than this.
const MAX_FIRST_PASS_DELAY: Duration = Duration::from_mins(15);

/// How long after the Market should show it a pass looks whether what was sent again arrived.
const FOLLOW_UP_DELAY: Duration = Duration::from_mins(1);

/// Requests without a response bring a pass forward this often at most.
const MIN_BRING_FORWARD_INTERVAL: Duration = Duration::from_hours(1);

/// A pass that was given up is begun anew after this at the latest.
const MAX_DELAY_AFTER_FAILURE: Duration = Duration::from_hours(1);

/// Read-backs are tried again after this, when the Market does not answer with a page.
const RETRY_DELAY: Duration = Duration::from_secs(30);
/// And after this, when the key may not.
const AUTH_RETRY_DELAY: Duration = Duration::from_mins(10);

/// A pass that met so many failures in a row is given up; the next one comes in its time.
const MAX_CONSECUTIVE_FAILURES: u32 = 20;

/// A list that had to be begun anew so often is given up: its pages lead nowhere.
const MAX_RESTARTS: u32 = 3;

/// What the surveyor looks at.
#[derive(Clone, Debug)]
pub struct ReadbackContext {
    /// Which shop.
    pub shop: ShopId,
    /// By which method the Market is asked.
    pub address: MarketAddress,
    /// The warehouses that are ours, as the method numbers them.
    pub warehouses: Vec<u64>,
    /// Whether anything is sent at all.
    pub mode: Mode,
    /// How often a pass begins by itself.
    pub pass_interval: Option<Duration>,
    /// How long the Market may take to show what it took. Source: `updateStocks`, "several
    /// minutes".
    pub grace: TimeDelta,
    /// What the seller has.
    pub book: Arc<StockBook>,
    /// What the Market has acknowledged.
    pub ledger: Arc<Ledger>,
    /// When the seller last asserted what.
    pub activity: Arc<Activity>,
    /// What was seen of each SKU.
    pub observations: Arc<Observations>,
    /// What happened to each SKU lately.
    pub history: Arc<History>,
}

impl ReadbackContext {
    fn expected(&self, entry: BookEntry, acked: Acked, max_clock_skew: TimeDelta) -> Expected {
        let is_dry = self.mode == Mode::DryRun;
        let sent_date = self.ledger.sent_date(self.shop, entry.id());
        Expected {
            level: entry.level(),
            acked,
            sent_date,
            is_dry_run: is_dry,
            grace: self.grace,
            max_clock_skew,
        }
    }

    /// One listing of a campaign shows all its warehouses; by business each has its own.
    fn warehouse_groups(&self) -> Vec<Vec<u64>> {
        match &self.address {
            MarketAddress::Campaign { .. } => vec![self.warehouses.clone()],
            MarketAddress::Business { warehouses, .. } => {
                warehouses.iter().map(|id| vec![*id]).collect()
            }
        }
    }
}

/// See the module.
pub struct ReadbackDriver {
    context: ReadbackContext,
    pass: Option<ReadbackPass>,
    last_pass_number: u8,
    next_pass_at: Option<Instant>,
    next_request_at: Instant,
    // Told by the Market: not even who is in a hurry looks before.
    not_before: Option<Instant>,
    is_requested: bool,
    // The next pass looks whether what was sent again has arrived.
    is_follow_up: bool,
    // When a pass was last wanted sooner because of a request without a response.
    brought_forward_at: Option<Instant>,
    consecutive_failures: u32,
    is_in_flight: bool,
    // What the page shows is no newer than this, however late it comes.
    requested_at: DateTime<Utc>,
    report: ReadbackReport,
}

/// One pass through the Market's copy.
struct ReadbackPass {
    id: PassId,
    // Taken from the end.
    cursors: Vec<PageCursor>,
    has_queried_missing: bool,
    stats: PassStats,
}

/// A list to go through, or SKUs to ask for.
struct PageCursor {
    warehouses: Vec<u64>,
    selection: ReadbackSelection,
    // Tokens that were followed already.
    followed_tokens: HashSet<String>,
    restarts: u32,
    // Of this list alone, which may have to be begun anew.
    not_ours: u64,
}

impl PageCursor {
    fn for_list(warehouses: Vec<u64>, offer_list: OfferList) -> Self {
        Self::new(
            warehouses,
            ReadbackSelection::List {
                list: offer_list,
                token: None,
            },
        )
    }

    fn new(warehouses: Vec<u64>, selection: ReadbackSelection) -> Self {
        Self {
            warehouses,
            selection,
            followed_tokens: HashSet::new(),
            restarts: 0,
            not_ours: 0,
        }
    }

    /// Goes on behind a page; whether there is anything left to do. Errs if this page was there.
    ///
    /// An empty page that names itself as the next one is the last: SKUs that are on no page are
    /// asked for by name.
    fn advance(&mut self, next: Option<String>, is_empty: bool) -> Result<bool, ()> {
        let ReadbackSelection::List { token, .. } = &mut self.selection else {
            return Ok(false);
        };
        if is_empty && next.is_some() && next == *token {
            return Ok(false);
        }
        *token = next;
        match token {
            None => Ok(false),
            Some(token) if self.followed_tokens.insert(token.clone()) => Ok(true),
            Some(_) => Err(()),
        }
    }

    /// Begins anew: what was seen is seen again. Whether there is any sense in it.
    fn restart(&mut self) -> bool {
        if let ReadbackSelection::List { token, .. } = &mut self.selection {
            *token = None;
        }
        self.followed_tokens.clear();
        self.not_ours = 0;
        self.restarts += 1;
        self.restarts <= MAX_RESTARTS
    }
}

/// A read-back that ended.
#[derive(Debug)]
pub struct CompletedReadback {
    page: Result<ReadbackPage, ResponseVerdict>,
    skew_range: Option<SkewRange>,
}

impl CompletedReadback {
    /// Judges what came back.
    #[must_use]
    pub fn new(query: &ReadbackQuery, outcome: &CallOutcome) -> Self {
        let page = match (classify_response(outcome), outcome) {
            (ResponseVerdict::Accepted, CallOutcome::Response(response)) => {
                ReadbackPage::read(&response.body, query).map_err(|reason| ResponseVerdict::Retry {
                    reason: format!("not a page: {reason}"),
                })
            }
            (verdict, _) => Err(verdict),
        };
        let skew_range = match outcome {
            CallOutcome::Response(response) => SkewRange::of(response),
            CallOutcome::NoResponse(_) => None,
        };
        Self { page, skew_range }
    }

    /// The Market answered with a page.
    #[must_use]
    pub fn is_page(&self) -> bool {
        self.page.is_ok()
    }

    /// What it says of the Market's clock, if it was dated.
    #[must_use]
    pub fn skew_range(&self) -> Option<SkewRange> {
        self.skew_range
    }
}

/// What is to be done after a look, where it disturbs nobody, because it looks at every SKU.
pub enum ReadbackStep {
    /// The SKUs are found that were on no page: [`Surveyor::ask_for`] takes them.
    FindMissing(FindMissing),
    /// The pass ends: [`Surveyor::end`] takes what it came to.
    FinishPass(FinishPass),
}

impl ReadbackDriver {
    /// The first pass begins after a while, so that what waits goes first.
    #[must_use]
    pub fn new(context: ReadbackContext, last_equal: Option<DateTime<Utc>>, now: Now) -> Self {
        let next_pass_at = match context.mode {
            // A dry run has nothing to wait for.
            Mode::DryRun => Some(now.monotonic),
            Mode::On | Mode::Off => context
                .pass_interval
                .map(|interval| now.monotonic + interval.min(MAX_FIRST_PASS_DELAY)),
        };
        Self {
            context,
            pass: None,
            last_pass_number: 0,
            next_pass_at,
            next_request_at: now.monotonic,
            not_before: None,
            is_requested: false,
            is_follow_up: false,
            brought_forward_at: None,
            consecutive_failures: 0,
            is_in_flight: false,
            requested_at: now.wall,
            report: ReadbackReport {
                last_equal,
                ..ReadbackReport::default()
            },
        }
    }

    /// Somebody wants to know now: a pass begins at once, unless one is under way.
    pub fn request_pass(&mut self, now: Now) {
        self.is_requested = true;
        self.consecutive_failures = 0;
        self.next_request_at = self
            .not_before
            .map_or(now.monotonic, |at| at.max(now.monotonic));
        // Told from now on, so that nobody takes the pass before for the one he waits for.
        if self.pass.is_none() {
            self.begin_pass(now);
        }
    }

    /// A request was given up without a response, and the Market may apply it after a later one:
    /// the next pass comes as soon as it would show that, at most once in an hour.
    pub fn bring_forward(&mut self, now: Now) {
        let is_too_early = self
            .brought_forward_at
            .is_some_and(|at| now.monotonic < at + MIN_BRING_FORWARD_INTERVAL);
        if let (false, Some(next_at)) = (is_too_early, self.next_pass_at) {
            let soon = self.context.grace.to_std().unwrap_or_default() + FOLLOW_UP_DELAY;
            self.next_pass_at = Some(next_at.min(now.monotonic + soon));
            self.brought_forward_at = Some(now.monotonic);
        }
    }

    /// Whether it is time to look.
    #[must_use]
    pub fn is_due(&self, now: Now) -> bool {
        let has_begun =
            self.pass.is_some() || self.next_pass_at.is_some_and(|at| at <= now.monotonic);
        !self.is_in_flight && has_begun && self.next_request_at <= now.monotonic
    }

    /// When it will be time; `None` while a look is under way, or if never.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        let next_at = if self.pass.is_some() {
            Some(self.next_request_at)
        } else {
            self.next_pass_at
        };
        next_at
            .filter(|_| !self.is_in_flight)
            .map(|at| at.max(self.next_request_at))
    }

    /// What to ask for; it must be ended by [`Surveyor::land`].
    pub fn next_query(&mut self, now: Now) -> ReadbackQuery {
        if self.pass.is_none() {
            self.begin_pass(now);
        }
        self.is_in_flight = true;
        self.requested_at = now.wall;
        self.next_request_at = now.monotonic + self.gap();
        let cursor = self
            .cursor()
            .expect("the last stage ends the pass, and it was begun above");
        ReadbackQuery {
            warehouses: cursor.warehouses.clone(),
            selection: cursor.selection.clone(),
        }
    }

    /// How long after this look the next of the same cabinet may go out.
    #[must_use]
    pub fn gap(&self) -> Duration {
        let skus = self
            .cursor()
            .map_or(MAX_PAGE_SIZE, |cursor| match &cursor.selection {
                ReadbackSelection::List { .. } => MAX_PAGE_SIZE,
                ReadbackSelection::Skus(skus) => skus.len(),
            });
        let share = if self.is_requested {
            REQUESTED_SHARE
        } else {
            SCHEDULED_SHARE
        };
        gap_after(&self.context.address, skus, share)
    }

    fn cursor(&self) -> Option<&PageCursor> {
        self.pass.as_ref().and_then(|pass| pass.cursors.last())
    }

    /// What was found to be sent again since this was asked last, while a pass goes on.
    pub fn take_lost(&mut self) -> Vec<Sku> {
        self.pass
            .as_mut()
            .map(|pass| pass.stats.take_lost())
            .unwrap_or_default()
    }

    fn begin_pass(&mut self, now: Now) {
        self.last_pass_number = self.last_pass_number.wrapping_add(1);
        self.next_pass_at = self
            .context
            .pass_interval
            .map(|interval| now.monotonic + interval);
        let warehouse_groups = self.context.warehouse_groups();
        let cursors = |offer_list| {
            warehouse_groups
                .iter()
                .map(move |group| PageCursor::for_list(group.clone(), offer_list))
        };
        self.pass = Some(ReadbackPass {
            id: PassId {
                number: self.last_pass_number,
                began: now.wall,
            },
            cursors: cursors(OfferList::Archived)
                .chain(cursors(OfferList::Active))
                .collect(),
            has_queried_missing: false,
            stats: PassStats::default(),
        });
        // What the pass before has found holds until this one has ended.
        self.report.state = ReadbackProgress::Running;
        self.report.began = Some(now.wall);
        (self.report.pages, self.report.listed) = (0, 0);
    }

    /// A look ended; what is to be done next, if anything but the next look.
    ///
    /// `aside` are the SKUs that are set aside, `apart` is how far the Market's clock and ours
    /// have been apart of late.
    pub fn on_response(
        &mut self,
        completed: CompletedReadback,
        quarantined: Vec<Sku>,
        max_clock_skew: TimeDelta,
        now: Now,
    ) -> Option<ReadbackStep> {
        self.is_in_flight = false;
        match completed.page {
            Ok(page) => self.on_page(page, quarantined, max_clock_skew, now),
            Err(verdict) => {
                self.on_failure(&verdict, now);
                None
            }
        }
    }

    fn on_page(
        &mut self,
        page: ReadbackPage,
        quarantined: Vec<Sku>,
        max_clock_skew: TimeDelta,
        now: Now,
    ) -> Option<ReadbackStep> {
        self.consecutive_failures = 0;
        self.not_before = None;
        self.report.trouble = None;
        self.report.pages += 1;
        let pass = self.pass.as_mut()?;
        let cursor = pass.cursors.last_mut()?;
        if let ReadbackSelection::List { .. } = cursor.selection {
            self.report.listed += page.offers.len() as u64;
        }
        for offer in &page.offers {
            let is_known = record_offer(
                &self.context,
                &mut pass.stats,
                (pass.id, max_clock_skew),
                offer,
                self.requested_at,
            );
            cursor.not_ours += u64::from(!is_known);
        }
        let is_empty = page.offers.is_empty();
        match cursor.advance(page.next, is_empty) {
            Ok(true) => return None,
            Ok(false) => {
                pass.stats.not_ours += cursor.not_ours;
                pass.cursors.pop();
            }
            Err(()) if cursor.restart() => return None,
            Err(()) => {
                self.abort_pass("its pages lead in a circle".to_owned(), now);
                return None;
            }
        }
        if !pass.cursors.is_empty() {
            return None;
        }
        if !pass.has_queried_missing && self.context.mode == Mode::On {
            pass.has_queried_missing = true;
            return Some(ReadbackStep::FindMissing(FindMissing::new(
                self.context.clone(),
                pass.id,
            )));
        }
        self.finish_pass(quarantined)
    }

    fn finish_pass(&mut self, quarantined: Vec<Sku>) -> Option<ReadbackStep> {
        let ReadbackPass { id, stats, .. } = self.pass.take()?;
        self.is_requested = false;
        Some(ReadbackStep::FinishPass(FinishPass::new(
            self.context.clone(),
            id,
            stats,
            quarantined,
        )))
    }

    /// Takes in the SKUs that were on no page, to be asked for by name: a list may shift while
    /// it is gone through, or come back empty. If there are none, the pass ends.
    pub fn query_missing(
        &mut self,
        missing: &[Sku],
        quarantined: Vec<Sku>,
    ) -> Option<ReadbackStep> {
        let pass = self.pass.as_mut()?;
        for chunk in missing.chunks(MAX_OFFER_IDS) {
            let sku_texts: Vec<String> = chunk.iter().map(ToString::to_string).collect();
            for group in self.context.warehouse_groups() {
                pass.cursors.push(PageCursor::new(
                    group,
                    ReadbackSelection::Skus(sku_texts.clone()),
                ));
            }
        }
        if pass.cursors.is_empty() {
            self.finish_pass(quarantined)
        } else {
            None
        }
    }

    fn on_failure(&mut self, verdict: &ResponseVerdict, now: Now) {
        self.consecutive_failures += 1;
        self.report.trouble = Some(verdict.to_string());
        let pause = match verdict {
            ResponseVerdict::RateLimited { wait } => {
                wait.unwrap_or(Duration::from_mins(1)).max(RETRY_DELAY)
            }
            ResponseVerdict::AuthRejected { .. } | ResponseVerdict::CampaignUnavailable { .. } => {
                AUTH_RETRY_DELAY
            }
            ResponseVerdict::ReduceParallelism
            | ResponseVerdict::Retry { .. }
            | ResponseVerdict::Rejected { .. }
            | ResponseVerdict::SplitBatch
            | ResponseVerdict::Accepted => RETRY_DELAY,
        };
        if let ResponseVerdict::RateLimited { .. } = verdict {
            self.not_before = Some(now.monotonic + pause);
        }
        // Somebody waits: a stumble is no reason to keep him for half a minute.
        let is_short =
            self.is_requested && self.consecutive_failures < 3 && self.not_before.is_none();
        self.next_request_at = now.monotonic + if is_short { pause / 10 } else { pause };
        let is_permanent = matches!(
            verdict,
            ResponseVerdict::AuthRejected { .. } | ResponseVerdict::CampaignUnavailable { .. }
        );
        // Whoever waits for it is told at once.
        let is_over = is_permanent && (self.is_requested || self.consecutive_failures >= 2);
        // Perhaps the token has expired.
        let is_rejected = matches!(verdict, ResponseVerdict::Rejected { .. });
        let cursor = self.pass.as_mut().and_then(|pass| pass.cursors.last_mut());
        let is_stuck = is_rejected && cursor.is_some_and(|cursor| !cursor.restart());
        if self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES || is_over || is_stuck {
            self.abort_pass(verdict.to_string(), now);
        }
    }

    fn abort_pass(&mut self, reason: String, now: Now) {
        self.pass = None;
        self.is_requested = false;
        self.consecutive_failures = 0;
        self.report.state = ReadbackProgress::Failed;
        self.report.trouble = Some(reason);
        self.next_pass_at = self
            .next_pass_at
            .map(|next_at| next_at.min(now.monotonic + MAX_DELAY_AFTER_FAILURE));
    }

    /// Takes in what a pass came to; whether the Market's copy is explained.
    pub fn end_pass(&mut self, result: PassResult, now: Now) -> bool {
        result.write_to(&mut self.report);
        self.report.state = ReadbackProgress::Done;
        self.report.ended = Some(now.wall);
        let is_equal = self.context.mode == Mode::On && self.report.unexplained_skus() == 0;
        if is_equal {
            self.report.last_equal = Some(now.wall);
        }
        // Whether what is sent again arrives is not left open until the next pass is due; but
        // what never arrives is not asked after all day.
        let has_new_resends = self.report.resent > 0 && !std::mem::take(&mut self.is_follow_up);
        if let (true, Some(next_at)) = (has_new_resends, self.next_pass_at) {
            let soon = self.context.grace.to_std().unwrap_or_default() + FOLLOW_UP_DELAY;
            self.next_pass_at = Some(next_at.min(now.monotonic + soon));
            self.is_follow_up = true;
        }
        is_equal
    }

    /// For the operator.
    #[must_use]
    pub fn report(&self) -> &ReadbackReport {
        &self.report
    }
}
/// Pause after a read-back request of so many SKUs, so that one part in `share` of the limit is used.
fn gap_after(address: &MarketAddress, skus: usize, share: u32) -> Duration {
    let (cost, limit) = match address {
        MarketAddress::Campaign { .. } => {
            (u32::try_from(skus).unwrap_or(u32::MAX), SKUS_PER_MINUTE)
        }
        MarketAddress::Business { .. } => (1, READ_BACKS_PER_MINUTE),
    };
    Duration::from_mins(1) * cost / (limit / share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_uses_its_share_of_the_limit_of_its_method() {
        let campaign = MarketAddress::Campaign { id: 1 };
        let business = MarketAddress::Business {
            id: 1,
            warehouses: vec![2],
        };
        for (address, skus, share, gap_ms) in [
            // By campaign the Market counts SKUs: 10 000 or 50 000 a minute.
            (&campaign, MAX_PAGE_SIZE, SCHEDULED_SHARE, 600),
            (&campaign, MAX_PAGE_SIZE, REQUESTED_SHARE, 120),
            (&campaign, MAX_OFFER_IDS, SCHEDULED_SHARE, 3_000),
            // By business it counts requests: 50 or 250 a minute, of at most 100 SKUs by page.
            (&business, MAX_PAGE_SIZE, SCHEDULED_SHARE, 1_200),
            (&business, MAX_PAGE_SIZE, REQUESTED_SHARE, 240),
            (&business, MAX_OFFER_IDS, SCHEDULED_SHARE, 1_200),
            (&business, 1, REQUESTED_SHARE, 240),
        ] {
            let gap = gap_after(address, skus, share);
            assert_eq!(
                gap,
                Duration::from_millis(gap_ms),
                "{address}, {skus} SKUs, 1/{share}"
            );
        }
    }

    #[test]
    fn an_empty_page_that_names_itself_as_the_next_one_is_the_last() {
        let token = |text: &str| Some(text.to_owned());
        let mut cursor = PageCursor::for_list(vec![7], OfferList::Active);
        assert_eq!(cursor.advance(token("a"), false), Ok(true));
        assert_eq!(cursor.advance(token("b"), true), Ok(true), "a thin page");
        assert_eq!(cursor.advance(token("b"), true), Ok(false));
        let mut cursor = PageCursor::for_list(vec![7], OfferList::Active);
        assert_eq!(cursor.advance(token("a"), false), Ok(true));
        assert_eq!(
            cursor.advance(token("a"), false),
            Err(()),
            "it has offers, and leads nowhere"
        );
    }
}
