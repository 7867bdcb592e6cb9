use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::faults::Fault;

/// A rule of the Market that a client broke. A client without faults breaks none.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Broken {
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
pub enum Call {
    /// `PUT …/offers/stocks` of a campaign, `POST …/offers/stocks/update` of a business.
    Update,
    /// `POST …/offers/stocks` of either.
    ReadBack,
    /// Any other method: the key, campaigns, warehouses, hidden offers.
    Aside,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Taken and said so.
    Accepted,
    /// Refused with this status, for a reason.
    Refused(u16),
    /// Hit by a fault.
    Faulted(Fault),
    /// The client went away before it was answered.
    Abandoned,
}

/// One request, as it is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Logged {
    /// When it arrived.
    pub at: DateTime<Utc>,
    /// How long it took to answer.
    pub took: Duration,
    /// Of which campaign; 0 if of a business, or of none.
    pub campaign: u64,
    /// Of which business; 0 if of a campaign, or of none.
    pub business: u64,
    /// Which method.
    pub call: Call,
    /// Size of the body.
    pub bytes: usize,
    /// SKUs in the body, or on the page.
    pub skus: usize,
    /// How it ended.
    pub verdict: Verdict,
}

/// What a Market has seen so far.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Updates that came, whatever became of them.
    pub requests: u64,
    /// Read-backs that came.
    pub read_backs: u64,
    /// Calls of any other method.
    pub asides: u64,
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
    pub peak_skus_a_minute: u64,
    /// Most updates within any 60 seconds, of one business by its own method.
    pub peak_updates_a_minute: u64,
    /// Most requests at a time, of one campaign or one business.
    pub peak_parallel: usize,
    /// Requests refused, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Requests hit by a fault, by fault.
    pub faults: BTreeMap<Fault, u64>,
    /// Requests whose client went away before they were answered.
    pub abandoned: u64,
    /// Requests that came more than a second after the client was told to wait, and sooner
    /// than it was told. Not a broken rule: a restarted client cannot know.
    pub came_too_soon: u64,
    /// Rules broken, by rule.
    pub broken: BTreeMap<Broken, u64>,
    /// The first fifty broken rules, in words.
    pub examples: Vec<String>,
}

impl Report {
    /// How often any rule was broken.
    #[must_use]
    pub fn broken_in_all(&self) -> u64 {
        self.broken.values().sum()
    }
}

/// Requests remembered one by one; the oldest are forgotten first.
const MAX_LOGGED: usize = 10_000;

const MAX_EXAMPLES: usize = 50;

#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) report: Report,
    log: VecDeque<Logged>,
}

impl Journal {
    pub(super) fn broken(&mut self, rule: Broken, times: u64, words: impl FnOnce() -> String) {
        if times == 0 {
            return;
        }
        *self.report.broken.entry(rule).or_default() += times;
        if self.report.examples.len() < MAX_EXAMPLES {
            self.report.examples.push(words());
        }
    }

    pub(super) fn log(&mut self, logged: Logged) {
        match logged.call {
            Call::Update => self.report.requests += 1,
            Call::ReadBack => self.report.read_backs += 1,
            Call::Aside => self.report.asides += 1,
        }
        match logged.verdict {
            Verdict::Accepted => {}
            Verdict::Refused(status) => *self.report.refused.entry(status).or_default() += 1,
            Verdict::Faulted(fault) => *self.report.faults.entry(fault).or_default() += 1,
            Verdict::Abandoned => self.report.abandoned += 1,
        }
        if self.log.len() == MAX_LOGGED {
            self.log.pop_front();
        }
        self.log.push_back(logged);
    }

    pub(super) fn requests(&self) -> Vec<Logged> {
        self.log.iter().copied().collect()
    }
}
