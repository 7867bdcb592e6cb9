//! Schedule of read-backs: when a pass begins, when its next query is sent, and when it is aborted.
//! Pure: time is an argument.

use std::time::Duration;

use market_api::partner::wire::business::READBACKS_PER_MINUTE;
use market_api::partner::wire::{MarketAddress, SKUS_PER_MINUTE};
use tokio::time::Instant;

use crate::migrator::Mode;
use crate::migrator::classify_response::ResponseVerdict;

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

/// Decides when passes begin and when their queries are sent.
#[derive(Debug)]
pub(super) struct ReadbackSchedule {
    pass_interval: Option<Duration>,
    // Time after which SKUs that were sent again must be visible.
    follow_up_delay: Duration,
    next_pass_at: Option<Instant>,
    next_request_at: Instant,
    // End of a rate-limit pause. Even a requested pass waits for it.
    not_before: Option<Instant>,
    // Last time a request without a response brought a pass forward.
    brought_forward_at: Option<Instant>,
    consecutive_failures: u32,
    is_running: bool,
    is_requested: bool,
    is_in_flight: bool,
    // True if the next pass checks whether SKUs that were sent again have arrived.
    is_follow_up: bool,
}

impl ReadbackSchedule {
    /// Creates a schedule. The first pass is delayed, so that waiting SKUs are sent first.
    pub(super) fn new(
        mode: Mode,
        pass_interval: Option<Duration>,
        grace: Duration,
        now: Instant,
    ) -> Self {
        let first_delay = match mode {
            // A dry run sends nothing, so its first pass need not wait.
            Mode::DryRun => Some(Duration::ZERO),
            Mode::On | Mode::Off => pass_interval.map(|it| it.min(MAX_FIRST_PASS_DELAY)),
        };
        Self {
            pass_interval,
            follow_up_delay: grace + FOLLOW_UP_DELAY,
            next_pass_at: first_delay.map(|delay| now + delay),
            next_request_at: now,
            not_before: None,
            brought_forward_at: None,
            consecutive_failures: 0,
            is_running: false,
            is_requested: false,
            is_in_flight: false,
            is_follow_up: false,
        }
    }

    /// Has the next query sent at once, and a larger share of the rate limit used.
    pub(super) fn request_pass(&mut self, now: Instant) {
        self.is_requested = true;
        self.consecutive_failures = 0;
        self.next_request_at = self.not_before.map_or(now, |at| at.max(now));
    }

    /// Brings the next pass forward after a request without a response, because the Market may
    /// apply it after a later request. Does so at most once an hour.
    pub(super) fn bring_forward(&mut self, now: Instant) {
        let last = self.brought_forward_at;
        let is_too_early = last.is_some_and(|at| now < at + MIN_BRING_FORWARD_INTERVAL);
        if !is_too_early && self.next_pass_at.is_some() {
            self.begin_next_pass_within(self.follow_up_delay, now);
            self.brought_forward_at = Some(now);
        }
    }

    /// Returns true if a query should be sent now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.wake_at().is_some_and(|at| at <= now)
    }

    /// Returns the time of the next query; `None` while one is in flight, or if none is scheduled.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let running = self.is_running.then_some(self.next_request_at);
        let next_at = running.or(self.next_pass_at)?;
        (!self.is_in_flight).then(|| next_at.max(self.next_request_at))
    }

    /// Returns true between the begin of a pass and its last query.
    pub(super) fn is_running(&self) -> bool {
        self.is_running
    }

    pub(super) fn begin_pass(&mut self, now: Instant) {
        self.is_running = true;
        self.next_pass_at = self.pass_interval.map(|interval| now + interval);
    }

    pub(super) fn begin_query(&mut self, gap: Duration, now: Instant) {
        self.is_in_flight = true;
        self.next_request_at = now + gap;
    }

    /// Returns the pause after a query of `skus` SKUs, which keeps the pass within its share of the
    /// limit.
    pub(super) fn gap(&self, address: &MarketAddress, skus: usize) -> Duration {
        let share = if self.is_requested {
            REQUESTED_SHARE
        } else {
            SCHEDULED_SHARE
        };
        let (cost, limit) = match address {
            MarketAddress::Campaign { .. } => {
                (u32::try_from(skus).unwrap_or(u32::MAX), SKUS_PER_MINUTE)
            }
            MarketAddress::Business { .. } => (1, READBACKS_PER_MINUTE),
        };
        Duration::from_mins(1) * cost / (limit / share)
    }

    /// Records a page.
    pub(super) fn on_page(&mut self) {
        self.is_in_flight = false;
        self.consecutive_failures = 0;
        self.not_before = None;
    }

    /// Records a failed query. Returns true if the pass must be aborted.
    pub(super) fn on_failure(&mut self, verdict: &ResponseVerdict, now: Instant) -> bool {
        self.is_in_flight = false;
        self.consecutive_failures += 1;
        let (pause, is_permanent) = match verdict {
            ResponseVerdict::RateLimited { wait } => {
                let pause = wait.unwrap_or(Duration::from_mins(1)).max(RETRY_DELAY);
                self.not_before = Some(now + pause);
                (pause, false)
            }
            ResponseVerdict::AuthRejected { .. } | ResponseVerdict::CampaignUnavailable { .. } => {
                (AUTH_RETRY_DELAY, true)
            }
            ResponseVerdict::ReduceParallelism
            | ResponseVerdict::Retry { .. }
            | ResponseVerdict::Rejected { .. }
            | ResponseVerdict::SplitBatch
            | ResponseVerdict::Accepted => (RETRY_DELAY, false),
        };
        // An operator waits for a requested pass, so its first retries come sooner.
        let is_short =
            self.is_requested && self.consecutive_failures < 3 && self.not_before.is_none();
        self.next_request_at = now + if is_short { pause / 10 } else { pause };
        // A requested pass reports a permanent error at once.
        let is_over = is_permanent && (self.is_requested || self.consecutive_failures >= 2);
        is_over || self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES
    }

    pub(super) fn abort_pass(&mut self, now: Instant) {
        self.end_queries();
        self.consecutive_failures = 0;
        self.begin_next_pass_within(MAX_DELAY_AFTER_FAILURE, now);
    }

    /// Records that a pass needs no more queries.
    pub(super) fn end_queries(&mut self) {
        self.is_running = false;
        self.is_requested = false;
    }

    /// Schedules a follow-up pass that checks soon whether the SKUs sent again have arrived. It is not
    /// repeated for SKUs that never arrive.
    pub(super) fn end_pass(&mut self, has_resends: bool, now: Instant) {
        let has_new_resends = has_resends && !std::mem::take(&mut self.is_follow_up);
        if has_new_resends && self.next_pass_at.is_some() {
            self.begin_next_pass_within(self.follow_up_delay, now);
            self.is_follow_up = true;
        }
    }

    fn begin_next_pass_within(&mut self, delay: Duration, now: Instant) {
        self.next_pass_at = self.next_pass_at.map(|at| at.min(now + delay));
    }
}

#[cfg(test)]
mod tests {
    use market_api::partner::wire::{MAX_OFFER_IDS, MAX_PAGE_SIZE};

    use super::*;

    const GRACE: Duration = Duration::from_mins(15);
    const DAY: Duration = Duration::from_hours(24);

    enum ScheduleEvent {
        Requested,
        Unanswered,
        Page,
        Failed(ResponseVerdict),
        /// The end of a pass, with or without SKUs that are sent again.
        Ended(bool),
    }

    fn schedule(mode: Mode, interval: Option<Duration>, now: Instant) -> ReadbackSchedule {
        ReadbackSchedule::new(mode, interval, GRACE, now)
    }

    /// Applies an event. A query is sent before each page and failure.
    fn apply(schedule: &mut ReadbackSchedule, event: &ScheduleEvent, now: Instant) {
        match event {
            ScheduleEvent::Requested => {
                schedule.request_pass(now);
                schedule.begin_pass(now);
            }
            ScheduleEvent::Unanswered => schedule.bring_forward(now),
            ScheduleEvent::Page | ScheduleEvent::Failed(_) => {
                if !schedule.is_running() {
                    schedule.begin_pass(now);
                }
                schedule.begin_query(Duration::from_millis(600), now);
                assert_eq!(schedule.wake_at(), None, "one query at a time");
                if let ScheduleEvent::Failed(verdict) = event {
                    if schedule.on_failure(verdict, now) {
                        schedule.abort_pass(now);
                    }
                } else {
                    schedule.on_page();
                }
            }
            ScheduleEvent::Ended(has_resends) => {
                schedule.end_queries();
                schedule.end_pass(*has_resends, now);
            }
        }
    }

    /// Asserts the time until the next query after these events, with an interval of a day.
    fn check(case: &str, events: &[ScheduleEvent], expected: Duration) {
        check_interval(case, Some(DAY), events, Some(expected));
    }

    fn check_interval(
        case: &str,
        interval: Option<Duration>,
        events: &[ScheduleEvent],
        expected: Option<Duration>,
    ) {
        let now = Instant::now();
        let mut schedule = schedule(Mode::On, interval, now);
        for event in events {
            apply(&mut schedule, event, now);
        }
        let wait = schedule.wake_at().map(|at| at - now);
        assert_eq!(wait, expected, "{case}");
        assert_eq!(schedule.is_due(now), expected == Some(Duration::ZERO));
    }

    #[test]
    fn next_pass_by_interval_and_events() {
        use ScheduleEvent::{Ended, Page, Requested, Unanswered};
        let (quarter, soon) = (Duration::from_mins(15), Duration::from_mins(16));
        let minute = Duration::from_mins(1);
        check("the first pass waits", &[], quarter);
        check_interval("a short interval", Some(minute), &[], Some(minute));
        check_interval("only on request", None, &[], None);
        check_interval("requested", None, &[Requested], Some(Duration::ZERO));
        let ended = [Requested, Page, Ended(true)];
        check_interval("no next pass", None, &ended, None);
        check("the next page", &[Page], Duration::from_millis(600));
        check("the next pass", &[Page, Ended(false)], DAY);
        check("a follow-up", &[Page, Ended(true)], soon);
        let twice = [Page, Ended(true), Page, Ended(true)];
        check("a follow-up is not repeated", &twice, DAY);
        let events = [
            Page,
            Ended(false),
            Unanswered,
            Page,
            Ended(false),
            Unanswered,
        ];
        check("a request without a response", &events[..3], soon);
        check("at most once an hour", &events, DAY);
        let dry_run = schedule(Mode::DryRun, None, Instant::now());
        assert!(dry_run.is_due(Instant::now()), "a dry run begins at once");
    }

    #[test]
    fn next_query_after_failures() {
        use ScheduleEvent::{Failed, Requested};
        let (secs, mins) = (Duration::from_secs, Duration::from_mins);
        let retry = || {
            Failed(ResponseVerdict::Retry {
                reason: "timeout".to_owned(),
            })
        };
        let denied = || {
            Failed(ResponseVerdict::AuthRejected {
                reason: "status 403".to_owned(),
                is_unknown_key: false,
            })
        };
        let limited = Failed(ResponseVerdict::RateLimited {
            wait: Some(secs(90)),
        });
        check("a failure", &[retry()], secs(30));
        let requested = [Requested, retry(), retry(), retry()];
        check("a requested pass", &requested[..2], secs(3));
        check("its third failure", &requested, secs(30));
        check(
            "a used-up limit, even if requested",
            &[limited, Requested],
            secs(90),
        );
        check("a rejected key", &[denied()], mins(10));
        check(
            "a rejected key twice aborts",
            &[denied(), denied()],
            mins(60),
        );
        let aborted = [Requested, denied()];
        check_interval("it aborts a requested pass", None, &aborted, None);
        let many: Vec<_> = (0..20).map(|_| retry()).collect();
        check("too many failures abort", &many, mins(60));
        check("one less does not", &many[..19], secs(30));
    }

    #[test]
    fn pass_uses_its_share_of_the_limit() {
        let campaign = MarketAddress::Campaign { id: 1 };
        let business = MarketAddress::Business {
            id: 1,
            warehouses: vec![2],
        };
        for (address, skus, is_requested, gap_ms) in [
            // By campaign the Market counts SKUs: 10 000 or 50 000 a minute.
            (&campaign, MAX_PAGE_SIZE, false, 600),
            (&campaign, MAX_PAGE_SIZE, true, 120),
            (&campaign, MAX_OFFER_IDS, false, 3_000),
            // By business it counts requests: 50 or 250 a minute, of at most 100 SKUs by page.
            (&business, MAX_PAGE_SIZE, false, 1_200),
            (&business, MAX_PAGE_SIZE, true, 240),
            (&business, MAX_OFFER_IDS, false, 1_200),
            (&business, 1, true, 240),
        ] {
            let mut schedule = schedule(Mode::On, None, Instant::now());
            schedule.is_requested = is_requested;
            let gap = schedule.gap(address, skus);
            assert_eq!(gap, Duration::from_millis(gap_ms), "{address}, {skus} SKUs");
        }
    }
}
