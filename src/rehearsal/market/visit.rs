use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use tokio::time::Instant;

use super::{Market, lock};
use crate::rehearsal::answers::{self, Refusal};
use crate::rehearsal::meter::{Meter, Seat, Whose};
use crate::rehearsal::report::{Call, Logged, Verdict};
use crate::rehearsal::shelf::Load;

/// One request from its arrival to its answer; logged when dropped, as it is if the client
/// goes away in between.
pub(super) struct Visit {
    market: Market,
    pub(super) arrived: Instant,
    pub(super) logged: Logged,
    /// Whose limits an update counts against, once that is known.
    pub(super) meter: Option<Arc<Meter>>,
    // Given up right after the log is written, before the answer goes out.
    pub(super) seat: Option<Seat>,
    pub(super) loads: Vec<Load>,
}

impl Visit {
    pub(super) fn begin(market: &Market, whose: Option<Whose>, call: Call) -> Self {
        let (campaign, business) = match whose {
            Some(Whose::Campaign(id)) => (id, 0),
            Some(Whose::Business(id)) => (0, id),
            None => (0, 0),
        };
        let logged = Logged {
            at: market.now(),
            took: Duration::ZERO,
            campaign,
            business,
            call,
            bytes: 0,
            skus: 0,
            verdict: Verdict::Abandoned,
        };
        let market = market.clone();
        let (arrived, loads) = (Instant::now(), Vec::new());
        Self {
            market,
            arrived,
            logged,
            meter: None,
            seat: None,
            loads,
        }
    }

    pub(super) fn end(mut self, outcome: Result<Response, Refusal>) -> Response {
        let now = self.market.now();
        let mut response = match outcome {
            Ok(response) => {
                if self.logged.verdict == Verdict::Abandoned {
                    self.logged.verdict = Verdict::Accepted;
                }
                response
            }
            Err(refusal) => {
                self.logged.verdict = Verdict::Refused(refusal.status);
                refusal.into_response()
            }
        };
        if let (Some(meter), true) = (&self.meter, self.market.plan().limit().is_some()) {
            let limit = self.market.update_limit(meter.whose);
            let quota = meter.update_quota(Instant::now(), limit);
            response = answers::metered(response, limit, quota, now);
        }
        answers::traced(answers::dated(response, now), rand::random())
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.logged.took = self.arrived.elapsed();
        lock(&self.market.inner.journal).log(self.logged);
    }
}
