//! Log entry, parallel slot and in-flight SKUs of a request, and the headers of its response.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use tokio::time::Instant;

use super::MarketSimulator;
use crate::quota::{ParallelSlot, QuotaOwner, QuotaTracker};
use crate::responses::{self, SimErrorResponse};
use crate::simulator_report::{LoggedRequest, RequestOutcome, SimCall};
use crate::warehouse_stock::InFlightGuard;

/// State of one request from its arrival to its response.
///
/// The log entry is written on drop, which also happens if the client disconnects before the
/// response.
pub(super) struct RequestTrace {
    market: MarketSimulator,
    pub(super) arrived: Instant,
    pub(super) entry: LoggedRequest,
    /// Quota that an update is charged to, once it is known.
    pub(super) quota: Option<Arc<QuotaTracker>>,
    // Released directly after the log entry is written, before the response is sent.
    pub(super) slot: Option<ParallelSlot>,
    pub(super) in_flight: Vec<InFlightGuard>,
}

impl RequestTrace {
    pub(super) fn start(
        market: &MarketSimulator,
        owner: Option<QuotaOwner>,
        call: SimCall,
    ) -> Self {
        let (campaign, business) = match owner {
            Some(QuotaOwner::Campaign(id)) => (id, 0),
            Some(QuotaOwner::Business(id)) => (0, id),
            None => (0, 0),
        };
        let entry = LoggedRequest {
            arrived_at: market.now(),
            duration: Duration::ZERO,
            campaign,
            business,
            call,
            bytes: 0,
            skus: 0,
            outcome: RequestOutcome::Abandoned,
        };
        let market = market.clone();
        let (arrived, in_flight) = (Instant::now(), Vec::new());
        Self {
            market,
            arrived,
            entry,
            quota: None,
            slot: None,
            in_flight,
        }
    }

    pub(super) fn finish(mut self, result: Result<Response, SimErrorResponse>) -> Response {
        let now = self.market.now();
        let mut response = match result {
            Ok(response) => {
                if self.entry.outcome == RequestOutcome::Abandoned {
                    self.entry.outcome = RequestOutcome::Accepted;
                }
                response
            }
            Err(error) => {
                self.entry.outcome = RequestOutcome::Rejected(error.status);
                error.into_response()
            }
        };
        if let (Some(quota), true) = (
            &self.quota,
            self.market.current_plan().announced_limit().is_some(),
        ) {
            let limit = self.market.update_limit(quota.owner);
            let remaining = quota.remaining_update_quota(Instant::now(), limit);
            response = responses::with_quota_headers(response, limit, remaining, now);
        }
        responses::with_traceparent(responses::with_date(response, now), rand::random())
    }
}

impl Drop for RequestTrace {
    fn drop(&mut self) {
        self.entry.duration = self.arrived.elapsed();
        self.market.state.request_log.lock().record(self.entry);
    }
}
