//! Report of a simulator run: counters, violations of the Market's rules, and a bounded request log.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::faults::MarketFault;

/// Market rule that a client broke. A correct client breaks none.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum MarketViolation {
    /// More than the limit within 60 seconds: SKUs of a campaign, requests of a business.
    Volume,
    /// More parallel requests of a campaign or a business than the limit.
    Parallel,
    /// Body larger than the limit.
    BodySize,
    /// Invalid body: wrong shape, duplicate SKU, or a timestamp in the future or too old.
    Content,
    /// Same SKU in two parallel requests. Either of them may win.
    SkuTwiceInFlight,
    /// `updatedAt` earlier than the one acknowledged for the same SKU: an older value.
    WentBackwards,
    /// SKU of a warehouse group sent through a second campaign of the group. A client must use
    /// one campaign; the Market updates the others.
    SecondOfGroup,
    /// Client followed a redirect and exposed its key to the target.
    RedirectFollowed,
}

/// Kind of the called method.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SimCall {
    /// `PUT …/offers/stocks` of a campaign, `POST …/offers/stocks/update` of a business.
    Update,
    /// `POST …/offers/stocks` of either.
    Readback,
    /// Other method: key, campaigns, warehouses or hidden offers.
    Other,
}

/// Outcome of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestOutcome {
    /// Accepted and acknowledged.
    Accepted,
    /// Rejected by a rule, with this HTTP status.
    Rejected(u16),
    /// Hit by a fault.
    Faulted(MarketFault),
    /// Client disconnected before the response.
    Abandoned,
}

/// Log entry of one request.
#[derive(Clone, Copy, Debug)]
pub struct LoggedRequest {
    /// Time of arrival, by the simulator's clock.
    pub arrived_at: DateTime<Utc>,
    /// Time from arrival to the response.
    pub duration: Duration,
    /// Campaign id from the path; 0 if the path names a business or neither.
    pub campaign: u64,
    /// Business id from the path; 0 if the path names a campaign or neither.
    pub business: u64,
    /// Kind of the called method.
    pub call: SimCall,
    /// Size of the request body in bytes.
    pub bytes: usize,
    /// SKUs in the request body, or on the returned page.
    pub skus: usize,
    /// Outcome of the request.
    pub outcome: RequestOutcome,
}

/// Counters and violations since the simulator was created.
#[derive(Clone, Debug, Default)]
pub struct SimulatorReport {
    /// Update requests, with any outcome.
    pub updates: u64,
    /// Read-back requests, with any outcome.
    pub readbacks: u64,
    /// Requests to other methods.
    pub other_calls: u64,
    /// SKUs in readable updates, including duplicates and rejected ones.
    pub skus_received: u64,
    /// SKUs written to the Market's stock.
    pub skus_applied: u64,
    /// SKUs acknowledged but dropped by the fault plan.
    pub skus_dropped: u64,
    /// Pieces ordered by simulated buyers, from the fault plan or a test.
    pub pieces_ordered: u64,
    /// Offers hidden by requests. An offer counts each time.
    pub offers_hidden: u64,
    /// Offers shown again by requests. An offer counts each time.
    pub offers_shown: u64,
    /// Most SKUs of one campaign within any 60 seconds.
    pub peak_skus_per_minute: u64,
    /// Most updates of one business within any 60 seconds, by the business method.
    pub peak_updates_per_minute: u64,
    /// Most parallel requests of one campaign or one business.
    pub peak_parallel: usize,
    /// Rejected requests by HTTP status.
    pub rejected: BTreeMap<u16, u64>,
    /// Requests hit by a fault, per fault.
    pub faults: BTreeMap<MarketFault, u64>,
    /// Requests whose client disconnected before the response.
    pub abandoned: u64,
    /// Updates that arrived more than a second after a response with a wait, but before the wait
    /// was over. This is not a violation: a restarted client cannot know about the wait.
    pub early_retries: u64,
    /// Number of violations of each rule.
    pub violations: BTreeMap<MarketViolation, u64>,
    /// Descriptions of the first fifty violations.
    pub violation_examples: Vec<String>,
}

impl SimulatorReport {
    /// Returns the number of violations of all rules.
    #[must_use]
    pub fn total_violations(&self) -> u64 {
        self.violations.values().sum()
    }
}

/// Most requests in the log. The oldest entries are dropped first.
const MAX_LOG_ENTRIES: usize = 10_000;

/// Most violations that are described in text.
const MAX_EXAMPLES: usize = 50;

/// Report and log of the requests, updated when a request ends.
#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    pub(crate) report: SimulatorReport,
    entries: VecDeque<LoggedRequest>,
}

impl RequestLog {
    pub(crate) fn record_violation(
        &mut self,
        violation: MarketViolation,
        count: u64,
        describe: impl FnOnce() -> String,
    ) {
        if count == 0 {
            return;
        }
        *self.report.violations.entry(violation).or_default() += count;
        if self.report.violation_examples.len() < MAX_EXAMPLES {
            self.report.violation_examples.push(describe());
        }
    }

    pub(crate) fn record(&mut self, entry: LoggedRequest) {
        match entry.call {
            SimCall::Update => self.report.updates += 1,
            SimCall::Readback => self.report.readbacks += 1,
            SimCall::Other => self.report.other_calls += 1,
        }
        match entry.outcome {
            RequestOutcome::Accepted => {}
            RequestOutcome::Rejected(status) => {
                *self.report.rejected.entry(status).or_default() += 1;
            }
            RequestOutcome::Faulted(fault) => *self.report.faults.entry(fault).or_default() += 1,
            RequestOutcome::Abandoned => self.report.abandoned += 1,
        }
        if self.entries.len() == MAX_LOG_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    pub(crate) fn entries(&self) -> Vec<LoggedRequest> {
        self.entries.iter().copied().collect()
    }
}
