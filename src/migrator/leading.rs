//! Lead of one shop among several replicas: when this process may call the Market, and what it must
//! know when it begins.

use rand::rngs::StdRng;
use stock::ShopId;
use tokio::time::Instant;
use tracing::warn;

use super::operator_pause::{OPERATOR_PAUSE_NOTE, OPERATOR_PAUSE_REASON, OperatorPause};
use super::planner::{Now, Planner, PlannerDeps};
use super::rate_limit::SharedRateLimiter;
use super::readback::{ReadbackContext, ReadbackDriver};
use super::rejected_keys::RejectedKeys;
use super::restored_state::RestoredState;
use super::selftest::SelftestRunner;
use super::status::{WorkerState, WorkerStatus};
use super::worker::{LEAD_CHECK_INTERVAL, read_clocks};
use super::{Context, MarketTarget, Mode};
use crate::replicas::{LeadRight, LeaderLease};
use crate::store::{Fence, RecentSend, SendPermission, Store, StoreError};
use crate::telemetry::AlarmKind;

/// Lead of one shop.
pub(super) struct Leading {
    lease: LeaderLease,
    // Right to act in the epoch whose state the planner has.
    right: Option<LeadRight>,
    limiter: SharedRateLimiter,
    rejected_keys: RejectedKeys,
    selftests: SelftestRunner,
    begin_failures: BeginFailures,
}

/// Failed attempts to read what the last leader has left, one after the other.
#[derive(Debug, Default)]
struct BeginFailures {
    attempts: u32,
    error: String,
}

impl BeginFailures {
    /// Adds a failed attempt. Returns true if its error is not that of the last one.
    fn add(&mut self, error: String) -> bool {
        let is_new = self.error != error;
        self.attempts += 1;
        self.error = error;
        is_new
    }

    fn need_alarm(&self) -> bool {
        self.attempts >= ALARM_AFTER_ATTEMPTS
    }
}

/// Failed attempts, one a second, after which an alarm is raised: a failover of the database may take
/// some of them.
const ALARM_AFTER_ATTEMPTS: u32 = 10;

/// Next step of a worker.
pub(super) enum LeadStep {
    /// It may call the Market.
    Lead,
    /// Another replica calls the Market, or requests of an earlier lead are in flight.
    Wait,
    /// It begins to lead with this right, and must read its state first.
    Begin(LeadRight),
}

/// Reason why a batch may not be sent.
#[derive(Debug)]
pub(super) enum SendObstacle {
    /// The operator has paused the shop on another replica.
    Paused,
    /// The shop has another target in the database, so nothing is sent until a person acts.
    OtherTarget(String),
    /// It may pass.
    Temporary(String),
}

impl Leading {
    /// Alarms that only the leader raises.
    pub(super) const ALARMS: &[AlarmKind] = &[
        AlarmKind::BatchRefused,
        AlarmKind::CampaignPaused,
        AlarmKind::Drift,
        AlarmKind::NothingAcknowledged,
        AlarmKind::Quarantine,
        AlarmKind::ReadbackFailed,
    ];

    pub(super) fn new(
        target: &MarketTarget,
        context: &Context,
        selftests: SelftestRunner,
        (limiter, rejected_keys): (SharedRateLimiter, RejectedKeys),
    ) -> Self {
        let lease = context.leases.of_shop(target.shop);
        Self {
            // The only process has read the state at its start.
            right: lease.right().filter(|_| !context.store.is_shared()),
            lease,
            limiter,
            rejected_keys,
            selftests,
            begin_failures: BeginFailures::default(),
        }
    }

    /// Creates planner and read-back driver from the state of the last leader or run.
    pub(super) fn begin(
        &self,
        target: &MarketTarget,
        context: &Context,
        restored: RestoredState,
        rng: StdRng,
    ) -> (Planner, ReadbackDriver) {
        let deps = PlannerDeps {
            data: context.data.clone(),
            alarms: context.alarms.clone(),
            metrics: context.metrics.clone(),
            limiter: self.limiter.clone(),
            rejected_keys: self.rejected_keys.clone(),
            request_timeout: context.request_timeout,
        };
        let readback_context = ReadbackContext {
            target: target.clone(),
            pass_interval: context.readback_every,
            grace: context.grace,
            data: context.data.clone(),
        };
        let now = read_clocks(context.clock);
        let readback = ReadbackDriver::new(readback_context, restored.last_equal, now);
        let planner = Planner::new(target.clone(), deps, restored, now, rng);
        (planner, readback)
    }

    pub(super) fn next_step(&self, is_idle: bool) -> LeadStep {
        let Some(right) = self.lease.right() else {
            return LeadStep::Wait;
        };
        match &self.right {
            Some(begun) if begun.epoch() == right.epoch() => LeadStep::Lead,
            Some(_) | None if !is_idle => LeadStep::Wait,
            Some(_) | None => LeadStep::Begin(right),
        }
    }

    /// Records that the planner has the state of the epoch of this right.
    pub(super) fn begun(&mut self, right: LeadRight) {
        self.right = Some(right);
    }

    /// Records that the state of the last leader could not be read. Returns true if that is news.
    pub(super) fn begin_failed(&mut self, error: String) -> bool {
        self.begin_failures.add(error)
    }

    /// Forgets failed attempts. Returns true if there was an alarm about them.
    pub(super) fn forget_failures(&mut self) -> bool {
        let had_alarm = self.begin_alarm().is_some();
        self.begin_failures = BeginFailures::default();
        had_alarm
    }

    /// Returns the text of the alarm if this process has the lease, but cannot begin to send.
    pub(super) fn begin_alarm(&self) -> Option<String> {
        self.begin_failures.need_alarm().then(|| self.obstacle())
    }

    /// Reads what the last leader has left. The rate limiter gets the requests of all shops that the
    /// Market counts together: another one may not have begun yet.
    pub(super) async fn restore(
        &self,
        (target, right): (&MarketTarget, &LeadRight),
        context: &Context,
    ) -> Result<RestoredState, StoreError> {
        let Context { store, leases, .. } = context;
        let shop = target.shop;
        let counted = leases.counted_with(shop);
        let read = store.leader_state(shop, &counted, context.clock.now());
        let Some(state) = read.await? else {
            return Ok(RestoredState::default());
        };
        let (now, timeout) = (read_clocks(context.clock), context.request_timeout);
        self.limiter
            .restore_in(right.epoch(), &state.recent_sends, timeout, now);
        Ok(RestoredState {
            quarantined: state.quarantined,
            ..(leases.restore)(shop, &state.notes)
        })
    }

    /// Shows products that a self-test of an earlier leader has left hidden.
    pub(super) fn resume_selftests(&self, restored: &RestoredState) {
        self.selftests
            .resume_interrupted(restored.hidden_skus.clone());
    }

    /// Returns the right to send batches now; `None` if none may be sent.
    ///
    /// It belongs to the state that the planner has. A lease that was lost and taken again since does
    /// not count: the state of the new epoch must be read first.
    pub(super) fn right_to_send(&self, now: Instant) -> Option<LeadRight> {
        let right = self.right.as_ref();
        right.filter(|right| right.may_send(now)).cloned()
    }

    /// Returns the time of the next look if nothing may be sent now, although this process leads.
    /// Without it a worker without updates would begin to send up to a minute late.
    pub(super) fn send_check_at(&self, now: Instant) -> Option<Instant> {
        let has_begun = |epoch| self.right.as_ref().is_some_and(|it| it.epoch() == epoch);
        match self.lease.epoch() {
            Some(epoch) if has_begun(epoch) => self.lease.send_check_at(now),
            // Lost, or lost and taken again, since the last step.
            Some(_) | None => Some(now + LEAD_CHECK_INTERVAL),
        }
    }

    /// Returns the fence of changes that the planner has decided.
    pub(super) fn fence(&self) -> Option<&Fence> {
        self.right.as_ref()?.fence()
    }

    /// Waits for a change of the lease.
    pub(super) async fn changed(&self) {
        self.lease.changed().await;
    }

    /// Shows in the status that this process leads, but does not send yet.
    pub(super) fn show_wait(&self, status: &mut WorkerStatus, now: Now) {
        show_wait(&self.lease, status, now);
    }

    /// Returns why this process does not lead, or does not begin to.
    pub(super) fn obstacle(&self) -> String {
        let error = &self.begin_failures.error;
        if error.is_empty() {
            return self.lease.obstacle();
        }
        format!(
            "this replica has the lease {}, but cannot read what was sent before, so nothing is sent: \
             {error}",
            self.lease.name()
        )
    }
}

/// Shows in the status that a request of the last leader may be on its way, so that none is sent. Another
/// reason that the status has already stays.
fn show_wait(lease: &LeaderLease, status: &mut WorkerStatus, now: Now) {
    let until = lease.may_send_from(now.monotonic);
    let Some(until) = until.filter(|until| *until > now.monotonic) else {
        return;
    };
    if !matches!(status.state, WorkerState::Idle | WorkerState::Sending) {
        return;
    }
    let until = now.wall + (until - now.monotonic);
    status.state = WorkerState::Waiting;
    status.next_try = Some(until);
    status.reason = Some(format!(
        "waits until {} UTC, because a request of the last sender may still be in flight",
        until.format("%H:%M:%S")
    ));
}

/// Returns the status of a worker that does not lead, with the reason. The operator's pause counts on all
/// replicas, so each of them shows it.
pub(super) fn waiting_status(
    reason: String,
    pause: Option<OperatorPause>,
    mode: Mode,
) -> WorkerStatus {
    let is_paused = pause.is_some() && mode == Mode::On;
    let (state, reason) = if is_paused {
        (WorkerState::Paused, OPERATOR_PAUSE_REASON.to_owned())
    } else {
        (WorkerState::Waiting, reason)
    };
    let mut status = WorkerStatus {
        state,
        reason: Some(reason),
        ..WorkerStatus::default()
    };
    status.show_pause(pause);
    status
}

/// Records a send, and then looks at the lease again. With other replicas, an error forbids it. The
/// caller must begin the request without waiting for anything.
pub(super) async fn permit_send(
    store: &Store,
    shop: ShopId,
    send: RecentSend,
    right: &LeadRight,
) -> Result<(), SendObstacle> {
    match store
        .permit_send(shop, send, (right.fence(), OPERATOR_PAUSE_NOTE))
        .await
    {
        // This process may have been stopped meanwhile, or the answer of the database may have been
        // late. Then another one may have the lease, and has sent newer stock.
        Ok(SendPermission::Granted) if !right.may_act() => {
            let name = right.lease_name();
            let reason =
                format!("not sent: the lease {name} ended before the database had permitted it");
            Err(SendObstacle::Temporary(reason))
        }
        Ok(SendPermission::Granted) => Ok(()),
        Ok(SendPermission::Paused) => Err(SendObstacle::Paused),
        Err(error @ StoreError::OtherTarget { .. }) => {
            Err(SendObstacle::OtherTarget(error.to_string()))
        }
        Err(error) if store.is_shared() => Err(SendObstacle::Temporary(error.to_string())),
        Err(error) => {
            warn!(error = %error, "failed to persist rate-limit usage");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::{Config, Lease, LeaseOutcome, ShopIdentity};

    #[tokio::test(start_paused = true)]
    async fn new_leader_shows_why_it_waits() {
        let lease = LeaderLease::named("campaign 1".to_owned(), Duration::from_secs(65));
        let shown = |state| {
            let now = Now {
                monotonic: Instant::now(),
                wall: "2026-11-20T10:14:27.4Z".parse().unwrap(),
            };
            let mut status = WorkerStatus {
                state,
                ..WorkerStatus::default()
            };
            show_wait(&lease, &mut status, now);
            (status.state, status.reason.unwrap_or_default())
        };
        let open = (WorkerState::Sending, String::new());
        assert_eq!(shown(WorkerState::Sending), open, "it does not lead");
        let held = Lease {
            epoch: 1,
            valid_until: Instant::now() + Duration::from_mins(5),
            is_handed_over: false,
        };
        lease.set(&LeaseOutcome::Held(held), "a/1");
        let reason = "waits until 10:15:32 UTC, because a request of the last sender may still be in \
                      flight";
        for state in [WorkerState::Idle, WorkerState::Sending] {
            assert_eq!(shown(state), (WorkerState::Waiting, reason.to_owned()));
        }
        let paused = (WorkerState::Paused, String::new());
        assert_eq!(shown(WorkerState::Paused), paused, "the operator's pause");
        tokio::time::advance(Duration::from_secs(65)).await;
        assert_eq!(shown(WorkerState::Sending), open);
    }

    #[test]
    fn waiting_worker_shows_the_pause() {
        let since = "2026-11-20T10:14:27Z".parse().unwrap();
        let pause = || {
            let through = Some("dc-2".to_owned());
            Some(OperatorPause { since, through })
        };
        use WorkerState::{Paused, Waiting};
        for (pause, mode, state, reason, paused_since) in [
            (None, Mode::On, Waiting, "replica dc-1 sends", None),
            (
                pause(),
                Mode::On,
                Paused,
                OPERATOR_PAUSE_REASON,
                Some(since),
            ),
            // A dry run sends nothing, so the pause has no effect.
            (
                pause(),
                Mode::DryRun,
                Waiting,
                "replica dc-1 sends",
                Some(since),
            ),
        ] {
            let through = pause.as_ref().and_then(|pause| pause.through.clone());
            let status = waiting_status("replica dc-1 sends".to_owned(), pause, mode);
            assert_eq!(status.state, state);
            assert_eq!(status.reason.as_deref(), Some(reason));
            assert_eq!(status.paused_since, paused_since);
            assert_eq!(status.paused_through, through);
        }
    }

    #[test]
    fn lasting_failure_to_begin_needs_an_alarm() {
        let mut failures = BeginFailures::default();
        assert!(failures.add("no response within 10 s".to_owned()));
        assert!(failures.add("damaged".to_owned()));
        for attempt in 3..=12 {
            assert!(!failures.add("damaged".to_owned()), "it is logged once");
            assert_eq!(failures.need_alarm(), attempt >= 10, "attempt {attempt}");
        }
    }

    #[tokio::test]
    async fn late_permission_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            path: directory.path().to_owned(),
            url: None,
        };
        let shop = ShopIdentity {
            name: "moscow".to_owned(),
            target: "campaign 1".to_owned(),
            warehouses: vec![7],
        };
        let store = Store::open(&config, &[shop]).await.unwrap().store;
        let lease = LeaderLease::named("campaign 1".to_owned(), Duration::ZERO);
        let hold_until = |epoch, valid_until| {
            let held = Lease {
                epoch,
                valid_until,
                is_handed_over: true,
            };
            lease.set(&LeaseOutcome::Held(held), "a/1");
        };
        let minute = Duration::from_mins(1);
        hold_until(1, Instant::now() + minute);
        let right = lease.right().unwrap();
        let send = RecentSend {
            at: "2026-11-20T10:00:00Z".parse().unwrap(),
            skus: 1,
        };
        // The store permits it each time, as a database whose answer comes late.
        let permit = async || permit_send(&store, ShopId(0), send, &right).await;
        assert!(permit().await.is_ok());
        let refused = "not sent: the lease campaign 1 ended before the database had permitted it";
        let ends = [
            // It ends while a request may last.
            (1, Instant::now() + Duration::from_secs(2)),
            (1, Instant::now()),
            // It was lost and taken again.
            (3, Instant::now() + minute),
        ];
        for (epoch, valid_until) in ends {
            hold_until(epoch, valid_until);
            let obstacle = permit().await.unwrap_err();
            assert!(matches!(obstacle, SendObstacle::Temporary(reason) if reason == refused));
        }
        store.close().await.unwrap();
    }
}
