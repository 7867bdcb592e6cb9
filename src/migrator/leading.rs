//! Lead of one shop among several replicas: when this process may call the Market, and what it must
//! know when it begins.

use rand::rngs::StdRng;
use stock::ShopId;
use tokio::time::Instant;
use tracing::warn;

use super::operator_pause::{OPERATOR_PAUSE_NOTE, OPERATOR_PAUSE_REASON};
use super::planner::{Planner, PlannerDeps};
use super::rate_limit::SharedRateLimiter;
use super::readback::{ReadbackContext, ReadbackDriver};
use super::rejected_keys::RejectedKeys;
use super::restored_state::RestoredState;
use super::selftest::SelftestRunner;
use super::worker::read_clocks;
use super::{Context, MarketTarget};
use crate::replicas::LeaderLease;
use crate::store::{Fence, RecentSend, SendPermission, Store, StoreError};
use crate::telemetry::AlarmKind;

/// Lead of one shop.
pub(super) struct Leading {
    lease: LeaderLease,
    // Epoch whose state the planner has.
    epoch: Option<i64>,
    limiter: SharedRateLimiter,
    rejected_keys: RejectedKeys,
    selftests: SelftestRunner,
}

/// Next step of a worker.
pub(super) enum LeadStep {
    /// It may call the Market.
    Lead,
    /// Another replica calls the Market, or requests of an earlier lead are in flight.
    Wait,
    /// It begins to lead in this epoch, and must read its state first.
    Begin(i64),
}

/// Reason why a batch may not be sent.
pub(super) struct SendObstacle {
    pub(super) reason: String,
    /// The operator has paused the shop on another replica.
    pub(super) is_paused: bool,
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
        Self {
            lease: context.leases.of_shop(target.shop),
            // The only process has read the state at its start.
            epoch: (!context.store.is_shared()).then_some(0),
            limiter,
            rejected_keys,
            selftests,
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
        match self.lease.epoch() {
            None => LeadStep::Wait,
            Some(epoch) if self.epoch == Some(epoch) => LeadStep::Lead,
            Some(_) if !is_idle => LeadStep::Wait,
            Some(epoch) => LeadStep::Begin(epoch),
        }
    }

    /// Records that the planner has the state of this epoch.
    pub(super) fn begun(&mut self, epoch: i64) {
        self.epoch = Some(epoch);
    }

    /// Reads what the last leader has left.
    pub(super) async fn restore(
        &self,
        target: &MarketTarget,
        context: &Context,
    ) -> Result<RestoredState, StoreError> {
        let now = context.clock.now();
        let Some(state) = context.store.leader_state(target.shop, now).await? else {
            return Ok(RestoredState::default());
        };
        Ok(RestoredState {
            quarantined: state.quarantined,
            recent_sends: state.recent_sends,
            ..(context.leases.restore)(target.shop, &state.notes)
        })
    }

    /// Shows products that a self-test of an earlier leader has left hidden.
    pub(super) fn resume_selftests(&self, restored: &RestoredState) {
        self.selftests
            .resume_interrupted(restored.hidden_skus.clone());
    }

    /// Returns true if a batch may be sent now.
    pub(super) fn may_send(&self, now: Instant) -> bool {
        self.lease
            .may_send_from(now)
            .is_some_and(|from| from <= now)
    }

    /// Returns the time of the next look if nothing may be sent now, although this process leads.
    /// Without it a worker without updates would begin to send up to a minute late.
    pub(super) fn send_check_at(&self, now: Instant) -> Option<Instant> {
        self.lease.send_check_at(now)
    }

    /// Returns the fence of this process's changes.
    pub(super) fn fence(&self) -> Option<Fence> {
        self.lease.fence().unwrap_or_default()
    }

    /// Waits for a change of the lease.
    pub(super) async fn changed(&self) {
        self.lease.changed().await;
    }

    /// Returns why this process does not lead.
    pub(super) fn obstacle(&self) -> String {
        self.lease.obstacle()
    }
}

/// Records a send. With other replicas, an error forbids it.
pub(super) async fn permit_send(
    store: &Store,
    shop: ShopId,
    send: RecentSend,
    fence: Option<&Fence>,
) -> Result<(), SendObstacle> {
    let obstacle = |reason: String, is_paused| SendObstacle { reason, is_paused };
    match store
        .permit_send(shop, send, (fence, OPERATOR_PAUSE_NOTE))
        .await
    {
        Ok(SendPermission::Granted) => Ok(()),
        Ok(SendPermission::Paused) => Err(obstacle(OPERATOR_PAUSE_REASON.to_owned(), true)),
        Err(error) if store.is_shared() => Err(obstacle(error.to_string(), false)),
        Err(error) => {
            warn!(error = %error, "failed to persist rate-limit usage");
            Ok(())
        }
    }
}
