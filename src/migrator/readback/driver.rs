//! Read-back driver of one shop: decides when a pass begins, its next query and its retries.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use market_api::partner::readback_page::{
    OfferList, ReadbackPage, ReadbackQuery, ReadbackSelection,
};
use market_api::partner::wire::business::READBACKS_PER_MINUTE;
use market_api::partner::wire::{MAX_OFFER_IDS, MAX_PAGE_SIZE, MarketAddress, SKUS_PER_MINUTE};
use stock::Sku;
use tokio::time::Instant;

use super::compare::{FindMissing, FinishPass, PassResult, PassStats, record_offer};
use super::observed::PassId;
use super::page_cursor::PageCursor;
use super::{CompletedReadback, ReadbackContext, ReadbackProgress, ReadbackReport};
use crate::migrator::Mode;
use crate::migrator::classify_response::ResponseVerdict;
use crate::migrator::planner::Now;

/// Divisor of the read-back limit for scheduled passes: they use one tenth of it. The Market counts
/// read-backs separately from updates: [`SKUS_PER_MINUTE`] by campaign, [`READBACKS_PER_MINUTE`]
/// by business.
const SCHEDULED_SHARE: u32 = 10;

/// Divisor of the read-back limit for a requested pass: it uses half of the limit, because an
/// operator waits for the result.
const REQUESTED_SHARE: u32 = 2;

/// Longest delay of the first pass after a start.
const MAX_FIRST_PASS_DELAY: Duration = Duration::from_mins(15);

/// Delay of a follow-up pass, after the grace period. It checks whether SKUs that were sent again
/// have arrived.
const FOLLOW_UP_DELAY: Duration = Duration::from_mins(1);

/// Shortest interval between two requests without a response that bring the next pass forward.
const MIN_BRING_FORWARD_INTERVAL: Duration = Duration::from_hours(1);

/// Longest delay of the next pass after an aborted one.
const MAX_DELAY_AFTER_FAILURE: Duration = Duration::from_hours(1);

/// Delay before a read-back is retried after a failure.
const RETRY_DELAY: Duration = Duration::from_secs(30);
/// Delay before a read-back is retried after the key was rejected or the campaign was unavailable.
const AUTH_RETRY_DELAY: Duration = Duration::from_mins(10);

/// Number of consecutive failures after which a pass is aborted.
const MAX_CONSECUTIVE_FAILURES: u32 = 20;

/// Decides the queries of one shop's read-back passes and evaluates their responses.
pub struct ReadbackDriver {
    context: ReadbackContext,
    pass: Option<ReadbackPass>,
    last_pass_number: u8,
    next_pass_at: Option<Instant>,
    next_request_at: Instant,
    // End of a rate-limit pause. Even a requested pass waits for it.
    not_before: Option<Instant>,
    is_requested: bool,
    // True if the next pass checks whether SKUs that were sent again have arrived.
    is_follow_up: bool,
    // Last time a request without a response brought a pass forward.
    brought_forward_at: Option<Instant>,
    consecutive_failures: u32,
    is_in_flight: bool,
    // Sending time of the query: the page shows the stock of this time or later.
    requested_at: DateTime<Utc>,
    report: ReadbackReport,
}

/// Progress of a running pass.
struct ReadbackPass {
    id: PassId,
    // Processed from the end.
    cursors: Vec<PageCursor>,
    has_queried_missing: bool,
    stats: PassStats,
}

/// Step that reads every SKU. Slow: run it on a blocking thread.
pub enum ReadbackStep {
    /// Finds the SKUs that were on no page, for [`ReadbackDriver::query_missing`].
    FindMissing(FindMissing),
    /// Computes the result of the pass, for [`ReadbackDriver::end_pass`].
    FinishPass(FinishPass),
}

impl ReadbackDriver {
    /// Creates a driver. The first pass is delayed, so that waiting SKUs are sent first.
    #[must_use]
    pub fn new(context: ReadbackContext, last_equal: Option<DateTime<Utc>>, now: Now) -> Self {
        let next_pass_at = match context.mode {
            // A dry run sends nothing, so its first pass need not wait.
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

    /// Begins a pass at once, unless one is running, and uses a larger share of the rate limit.
    pub fn request_pass(&mut self, now: Now) {
        self.is_requested = true;
        self.consecutive_failures = 0;
        self.next_request_at = self
            .not_before
            .map_or(now.monotonic, |at| at.max(now.monotonic));
        // Begun here, so that the report shows the new pass at once and the caller does not take
        // the previous one for it.
        if self.pass.is_none() {
            self.begin_pass(now);
        }
    }

    /// Brings the next pass forward after a request without a response, because the Market may
    /// apply it after a later request. Does so at most once an hour.
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

    /// Returns true if a query should be sent now.
    #[must_use]
    pub fn is_due(&self, now: Now) -> bool {
        let has_begun =
            self.pass.is_some() || self.next_pass_at.is_some_and(|at| at <= now.monotonic);
        !self.is_in_flight && has_begun && self.next_request_at <= now.monotonic
    }

    /// Returns the time of the next query; `None` while one is in flight, or if none is scheduled.
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

    /// Returns the next query. The caller must pass its outcome to [`ReadbackDriver::on_response`].
    pub fn next_query(&mut self, now: Now) -> ReadbackQuery {
        if self.pass.is_none() {
            self.begin_pass(now);
        }
        self.is_in_flight = true;
        self.requested_at = now.wall;
        self.next_request_at = now.monotonic + self.gap();
        let cursor = self
            .cursor()
            .expect("a pass was begun above, and it ends with its last cursor");
        ReadbackQuery {
            warehouses: cursor.warehouses.clone(),
            selection: cursor.selection.clone(),
        }
    }

    /// Returns the pause after the next query, which keeps the pass within its share of the limit.
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

    /// Takes the SKUs that the running pass has found lost since the last call.
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
        // The findings of the previous pass stay in the report until this one ends.
        self.report.state = ReadbackProgress::Running;
        self.report.began = Some(now.wall);
        (self.report.pages, self.report.listed) = (0, 0);
    }

    /// Applies a completed query. Returns the step to run, if the pass needs one now.
    ///
    /// `quarantined` are the SKUs in quarantine, `max_clock_skew` is the largest recent difference
    /// between our clock and the Market's.
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
                self.abort_pass("the page tokens form a loop".to_owned(), now);
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

    /// Queues queries for SKUs that were on no page, because a list may shift while it is read, or
    /// come back empty. Ends the pass if there are none.
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
        // An operator waits for a requested pass, so its first retries come sooner.
        let is_short =
            self.is_requested && self.consecutive_failures < 3 && self.not_before.is_none();
        self.next_request_at = now.monotonic + if is_short { pause / 10 } else { pause };
        let is_permanent = matches!(
            verdict,
            ResponseVerdict::AuthRejected { .. } | ResponseVerdict::CampaignUnavailable { .. }
        );
        // A requested pass reports a permanent error at once.
        let is_over = is_permanent && (self.is_requested || self.consecutive_failures >= 2);
        // The page token may have expired.
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

    /// Applies the result of a pass. Returns true if no SKU is unexplained.
    pub fn end_pass(&mut self, result: PassResult, now: Now) -> bool {
        result.write_to(&mut self.report);
        self.report.state = ReadbackProgress::Done;
        self.report.ended = Some(now.wall);
        let is_equal = self.context.mode == Mode::On && self.report.unexplained_skus() == 0;
        if is_equal {
            self.report.last_equal = Some(now.wall);
        }
        // A follow-up pass checks soon whether the SKUs sent again have arrived. It is not repeated
        // for SKUs that never arrive.
        let has_new_resends = self.report.resent > 0 && !std::mem::take(&mut self.is_follow_up);
        if let (true, Some(next_at)) = (has_new_resends, self.next_pass_at) {
            let soon = self.context.grace.to_std().unwrap_or_default() + FOLLOW_UP_DELAY;
            self.next_pass_at = Some(next_at.min(now.monotonic + soon));
            self.is_follow_up = true;
        }
        is_equal
    }

    /// Returns the report, for the operator.
    #[must_use]
    pub fn report(&self) -> &ReadbackReport {
        &self.report
    }
}

/// Returns the pause after a query of `skus` SKUs, so that 1/`share` of the limit is used.
fn gap_after(address: &MarketAddress, skus: usize, share: u32) -> Duration {
    let (cost, limit) = match address {
        MarketAddress::Campaign { .. } => {
            (u32::try_from(skus).unwrap_or(u32::MAX), SKUS_PER_MINUTE)
        }
        MarketAddress::Business { .. } => (1, READBACKS_PER_MINUTE),
    };
    Duration::from_mins(1) * cost / (limit / share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pass_uses_its_share_of_the_limit() {
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
}
