//! Read-back driver of one shop: decides the queries of a pass, their order and their consequences.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use market_api::partner::readback_page::{
    OfferList, ReadbackPage, ReadbackQuery, ReadbackSelection,
};
use market_api::partner::wire::{MAX_OFFER_IDS, MAX_PAGE_SIZE};
use stock::Sku;
use tokio::time::Instant;

use super::compare::{FindMissing, FinishPass, PassResult, PassStats};
use super::observed::PassId;
use super::page_cursor::PageCursor;
use super::schedule::ReadbackSchedule;
use super::{CompletedReadback, ReadbackContext, ReadbackProgress, ReadbackReport};
use crate::migrator::Mode;
use crate::migrator::classify_response::ResponseVerdict;
use crate::migrator::planner::Now;

/// Decides the queries of one shop's read-back passes and evaluates their responses.
pub struct ReadbackDriver {
    context: ReadbackContext,
    schedule: ReadbackSchedule,
    pass: Option<ReadbackPass>,
    last_pass_number: u8,
    // Sending time of the query: the page shows the stock of this time or later.
    requested_at: DateTime<Utc>,
    report: ReadbackReport,
}

/// Progress of a running pass.
struct ReadbackPass {
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
        let grace = context.grace.to_std().unwrap_or_default();
        let interval = context.pass_interval;
        Self {
            schedule: ReadbackSchedule::new(context.target.mode, interval, grace, now.monotonic),
            context,
            pass: None,
            last_pass_number: 0,
            requested_at: now.wall,
            report: ReadbackReport {
                last_equal,
                ..ReadbackReport::default()
            },
        }
    }

    /// Begins a pass at once, unless one is running, and uses a larger share of the rate limit.
    pub fn request_pass(&mut self, now: Now) {
        self.schedule.request_pass(now.monotonic);
        // Begun here, so that the report shows the new pass at once and the caller does not take
        // the previous one for it.
        self.begin_pass_if_none(now);
    }

    /// Brings the next pass forward after a request without a response, because the Market may
    /// apply it after a later request. Does so at most once an hour.
    pub fn bring_forward(&mut self, now: Now) {
        self.schedule.bring_forward(now.monotonic);
    }

    /// Returns true if a query should be sent now.
    #[must_use]
    pub fn is_due(&self, now: Now) -> bool {
        self.schedule.is_due(now.monotonic)
    }

    /// Returns the time of the next query; `None` while one is in flight, or if none is scheduled.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        self.schedule.wake_at()
    }

    /// Returns the next query. The caller must pass its outcome to [`ReadbackDriver::on_response`].
    pub fn next_query(&mut self, now: Now) -> ReadbackQuery {
        self.begin_pass_if_none(now);
        self.requested_at = now.wall;
        self.schedule.begin_query(self.gap(), now.monotonic);
        let cursor = self
            .cursor()
            .expect("a pass was begun above, and it ends with its last cursor");
        cursor.query.clone()
    }

    /// Returns the pause after the next query, which keeps the pass within its share of the limit.
    #[must_use]
    pub fn gap(&self) -> Duration {
        let selection = self.cursor().map(|cursor| &cursor.query.selection);
        let skus = match selection {
            Some(ReadbackSelection::Skus(skus)) => skus.len(),
            Some(ReadbackSelection::List { .. }) | None => MAX_PAGE_SIZE,
        };
        self.schedule.gap(&self.context.target.address, skus)
    }

    fn cursor(&self) -> Option<&PageCursor> {
        self.pass.as_ref().and_then(|pass| pass.cursors.last())
    }

    /// Takes the SKUs that the running pass has found lost since the last call.
    pub fn take_lost(&mut self) -> Vec<Sku> {
        let pass = self.pass.as_mut();
        pass.map(|pass| pass.stats.take_lost()).unwrap_or_default()
    }

    fn begin_pass_if_none(&mut self, now: Now) {
        if self.schedule.is_running() {
            return;
        }
        self.schedule.begin_pass(now.monotonic);
        self.last_pass_number = self.last_pass_number.wrapping_add(1);
        let mut cursors = Vec::new();
        for list in [OfferList::Archived, OfferList::Active] {
            let selection = ReadbackSelection::List { list, token: None };
            cursors.extend(self.context.cursors(selection));
        }
        let id = PassId {
            number: self.last_pass_number,
            began: now.wall,
        };
        self.pass = Some(ReadbackPass {
            cursors,
            has_queried_missing: false,
            stats: PassStats::new(self.context.clone(), id),
        });
        // The findings of the previous pass stay in the report until this one ends.
        self.report.state = ReadbackProgress::Running;
        self.report.began = Some(now.wall);
        (self.report.pages, self.report.listed) = (0, 0);
    }

    /// Applies a completed query. Returns the step to run, if the pass needs one now.
    ///
    /// `max_clock_skew` is the largest recent difference between our clock and the Market's.
    pub fn on_response(
        &mut self,
        completed: CompletedReadback,
        max_clock_skew: TimeDelta,
        now: Now,
    ) -> Option<ReadbackStep> {
        match completed.page {
            Ok(page) => self.on_page(page, max_clock_skew, now),
            Err(verdict) => {
                self.on_failure(&verdict, now);
                None
            }
        }
    }

    fn on_page(
        &mut self,
        page: ReadbackPage,
        max_clock_skew: TimeDelta,
        now: Now,
    ) -> Option<ReadbackStep> {
        self.schedule.on_page();
        self.report.trouble = None;
        self.report.pages += 1;
        let pass = self.pass.as_mut()?;
        let cursor = pass.cursors.last_mut()?;
        if let ReadbackSelection::List { .. } = cursor.query.selection {
            self.report.listed += page.offers.len() as u64;
        }
        for offer in &page.offers {
            let (stats, at) = (&mut pass.stats, self.requested_at);
            let is_known = stats.record_offer(offer, max_clock_skew, at);
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
        if !pass.has_queried_missing && self.context.target.mode == Mode::On {
            pass.has_queried_missing = true;
            return Some(ReadbackStep::FindMissing(FindMissing {
                context: self.context.clone(),
                pass: pass.stats.pass,
            }));
        }
        self.finish_pass()
    }

    fn finish_pass(&mut self) -> Option<ReadbackStep> {
        let ReadbackPass { stats, .. } = self.pass.take()?;
        self.schedule.end_queries();
        Some(ReadbackStep::FinishPass(FinishPass(stats)))
    }

    /// Queues queries for SKUs that were on no page, because a list may shift while it is read, or
    /// come back empty. Ends the pass if there are none.
    pub fn query_missing(&mut self, missing: &[Sku]) -> Option<ReadbackStep> {
        let pass = self.pass.as_mut()?;
        for chunk in missing.chunks(MAX_OFFER_IDS) {
            let texts = chunk.iter().map(ToString::to_string).collect();
            let selection = ReadbackSelection::Skus(texts);
            pass.cursors.extend(self.context.cursors(selection));
        }
        if pass.cursors.is_empty() {
            self.finish_pass()
        } else {
            None
        }
    }

    fn on_failure(&mut self, verdict: &ResponseVerdict, now: Now) {
        self.report.trouble = Some(verdict.to_string());
        let is_over = self.schedule.on_failure(verdict, now.monotonic);
        // The page token may have expired.
        let is_rejected = matches!(verdict, ResponseVerdict::Rejected { .. });
        let cursor = self.pass.as_mut().and_then(|pass| pass.cursors.last_mut());
        let is_stuck = is_rejected && cursor.is_some_and(|cursor| !cursor.restart());
        if is_over || is_stuck {
            self.abort_pass(verdict.to_string(), now);
        }
    }

    fn abort_pass(&mut self, reason: String, now: Now) {
        self.pass = None;
        self.schedule.abort_pass(now.monotonic);
        self.report.state = ReadbackProgress::Failed;
        self.report.trouble = Some(reason);
    }

    /// Applies the result of a pass. Returns true if no SKU is unexplained.
    pub fn end_pass(&mut self, result: PassResult, now: Now) -> bool {
        result.write_to(&mut self.report);
        self.report.state = ReadbackProgress::Done;
        self.report.ended = Some(now.wall);
        let is_equal = self.context.target.mode == Mode::On && self.report.unexplained_skus() == 0;
        if is_equal {
            self.report.last_equal = Some(now.wall);
        }
        self.schedule
            .end_pass(self.report.resent > 0, now.monotonic);
        is_equal
    }

    /// Returns the report, for the operator.
    #[must_use]
    pub fn report(&self) -> &ReadbackReport {
        &self.report
    }
}
