//! A request with its log entry, parallel slot and in-flight SKUs, and the headers of its response.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::response::Response;
use tokio::time::Instant;

use super::MarketSimulator;
use crate::quota::{ParallelSlot, QuotaOwner, QuotaTracker};
use crate::responses::{self, SimResult};
use crate::simulator_report::{LoggedRequest, RequestOutcome, SimCall};
use crate::warehouse_stock::InFlightGuard;

/// One request from its arrival to its response.
///
/// The log entry is written on drop, which also happens if the client disconnects before the
/// response.
pub(super) struct SimRequest {
    market: MarketSimulator,
    /// Id of the campaign or business in the path; empty without one.
    pub(super) id: String,
    pub(super) head: Parts,
    /// The body, until it is read.
    pub(super) body: Body,
    pub(super) arrived: Instant,
    pub(super) entry: LoggedRequest,
    /// Quota that an update is charged to, once it is known.
    pub(super) quota: Option<Arc<QuotaTracker>>,
    // Released directly after the log entry is written, before the response is sent.
    pub(super) slot: Option<ParallelSlot>,
    pub(super) in_flight: Vec<InFlightGuard>,
}

impl SimRequest {
    pub(super) fn start(
        market: MarketSimulator,
        id: String,
        owner: Option<QuotaOwner>,
        call: SimCall,
        request: Request,
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
        let (head, body) = request.into_parts();
        Self {
            market,
            id,
            head,
            body,
            arrived: Instant::now(),
            entry,
            quota: None,
            slot: None,
            in_flight: Vec::new(),
        }
    }

    pub(super) fn finish(mut self, result: SimResult) -> Response {
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
        if let Some(quota) = &self.quota
            && self.market.current_plan().announced_limit.is_some()
        {
            let limit = self.market.update_limit(quota.owner);
            let remaining = quota.remaining_update_quota(Instant::now(), limit);
            response = responses::with_quota_headers(response, limit, remaining, now);
        }
        responses::with_traceparent(responses::with_date(response, now), rand::random())
    }
}

impl Drop for SimRequest {
    fn drop(&mut self) {
        self.entry.duration = self.arrived.elapsed();
        self.market.state.request_log.lock().record(self.entry);
    }
}
