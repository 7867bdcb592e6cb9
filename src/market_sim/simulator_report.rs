use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::faults::MarketFault;

/// A rule of the Market that a client broke. A client without faults breaks none.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum MarketViolation {
    /// More within some 60 seconds than the limit: SKUs of a campaign, requests of a business.
    Volume,
    /// More requests of a campaign or a business at a time than the limit.
    Parallel,
    /// A body over the limit.
    BodySize,
    /// A body the rules refuse: not as described, a SKU twice, a stamp ahead or too old.
    Content,
    /// The same SKU in two requests at the same time: which one wins is luck.
    SkuTwiceInFlight,
    /// An `updatedAt` before the one acknowledged for the same SKU: an older value.
    WentBackwards,
    /// A SKU of a warehouse group told through a second campaign of the group: it is to be one,
    /// and the others follow by themselves.
    SecondOfGroup,
    /// A redirect was followed, and the key handed to whoever it pointed at.
    RedirectFollowed,
}

/// Which method was called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SimCall {
    /// `PUT …/offers/stocks` of a campaign, `POST …/offers/stocks/update` of a business.
    Update,
    /// `POST …/offers/stocks` of either.
    ReadBack,
    /// Any other method: the key, campaigns, warehouses, hidden offers.
    Other,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestOutcome {
    /// Taken and said so.
    Accepted,
    /// Refused with this status, for a reason.
    Rejected(u16),
    /// Hit by a fault.
    Faulted(MarketFault),
    /// The client went away before it was answered.
    Abandoned,
}

/// One request, as it is remembered.
#[derive(Clone, Copy, Debug)]
pub struct LoggedRequest {
    /// When it arrived.
    pub arrived_at: DateTime<Utc>,
    /// How long it took to answer.
    pub duration: Duration,
    /// Of which campaign; 0 if of a business, or of none.
    pub campaign: u64,
    /// Of which business; 0 if of a campaign, or of none.
    pub business: u64,
    /// Which method.
    pub call: SimCall,
    /// Size of the body.
    pub bytes: usize,
    /// SKUs in the body, or on the page.
    pub skus: usize,
    /// How it ended.
    pub outcome: RequestOutcome,
}

/// What a Market has seen so far.
#[derive(Clone, Debug, Default)]
pub struct SimulatorReport {
    /// Updates that came, whatever became of them.
    pub updates: u64,
    /// Read-backs that came.
    pub read_backs: u64,
    /// Calls of any other method.
    pub other_calls: u64,
    /// SKUs in updates that could be read, duplicates and refused ones included.
    pub skus_received: u64,
    /// SKUs written to the Market's stock.
    pub skus_applied: u64,
    /// SKUs acknowledged and yet thrown away, as the plan wanted it.
    pub skus_dropped: u64,
    /// Pieces that buyers ordered, as the plan or a test wanted it.
    pub pieces_ordered: u64,
    /// Offers hidden by requests, as often as they were.
    pub offers_hidden: u64,
    /// Offers shown again by requests, as often as they were.
    pub offers_shown: u64,
    /// Most SKUs within any 60 seconds, of one campaign.
    pub peak_skus_per_minute: u64,
    /// Most updates within any 60 seconds, of one business by its own method.
    pub peak_updates_per_minute: u64,
    /// Most requests at a time, of one campaign or one business.
    pub peak_parallel: usize,
    /// Requests refused, by status.
    pub rejected: BTreeMap<u16, u64>,
    /// Requests hit by a fault, by fault.
    pub faults: BTreeMap<MarketFault, u64>,
    /// Requests whose client went away before they were answered.
    pub abandoned: u64,
    /// Requests that came more than a second after the client was told to wait, and sooner
    /// than it was told. Not a broken rule: a restarted client cannot know.
    pub early_retries: u64,
    /// Rules broken, by rule.
    pub violations: BTreeMap<MarketViolation, u64>,
    /// The first fifty broken rules, in words.
    pub violation_examples: Vec<String>,
}

impl SimulatorReport {
    /// How often any rule was broken.
    #[must_use]
    pub fn total_violations(&self) -> u64 {
        self.violations.values().sum()
    }
}

/// Requests remembered one by one; the oldest are forgotten first.
const MAX_LOG_ENTRIES: usize = 10_000;

const MAX_EXAMPLES: usize = 50;

#[derive(Debug, Default)]
pub(super) struct RequestLog {
    pub(super) report: SimulatorReport,
    entries: VecDeque<LoggedRequest>,
}

impl RequestLog {
    pub(super) fn record_violation(
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

    pub(super) fn record(&mut self, entry: LoggedRequest) {
        match entry.call {
            SimCall::Update => self.report.updates += 1,
            SimCall::ReadBack => self.report.read_backs += 1,
            SimCall::Other => self.report.other_calls += 1,
        }
        match entry.outcome {
            RequestOutcome::Accepted => {}
            RequestOutcome::Rejected(status) => {
                *self.report.rejected.entry(status).or_default() += 1
            }
            RequestOutcome::Faulted(fault) => *self.report.faults.entry(fault).or_default() += 1,
            RequestOutcome::Abandoned => self.report.abandoned += 1,
        }
        if self.entries.len() == MAX_LOG_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    pub(super) fn entries(&self) -> Vec<LoggedRequest> {
        self.entries.iter().copied().collect()
    }
}
