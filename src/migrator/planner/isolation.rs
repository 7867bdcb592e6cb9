//! Isolation of the SKUs that make the Market reject a batch. Pure: time is an argument.
//!
//! A batch that the Market rejects without naming SKUs is split in halves until the rejected SKUs
//! are alone. A SKU that is rejected alone is a pending rejection. It proves nothing yet: perhaps
//! the Market began to reject everything at that moment. So the SKU is sent a second time, after
//! the Market has accepted another request that was sent after the first rejection, and only the
//! second rejection counts: then the SKU enters the quarantine. If many SKUs are rejected and
//! nothing is accepted in between, the rejection is systemic: no SKU is at fault, and the pending
//! rejections wait until a request is accepted.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use stock::{Count, Level, Sku, SkuId};
use tokio::time::Instant;

use super::batch_size::BatchSize;
use super::retry_groups::{BatchOrigin, GroupOrder, RetryGroups};
use super::turns::{BatchSource, Turns, WaitingSources};
use super::update_batch::{BatchItem, UpdateBatch};
use crate::migrator::quarantine::{Confirmation, Quarantine};
use crate::migrator::queue::{QueuedSku, SendQueue, Urgency};
use crate::store::QuarantineEntry;

/// Number of SKUs rejected alone, with nothing accepted in between, that shows that the Market
/// rejects every batch.
pub(super) const REJECTIONS_UNTIL_SYSTEMIC: usize = 8;

/// Number of consecutive rejections after which requests have one SKU: few of them show whether the
/// Market rejects every batch.
const REJECTIONS_UNTIL_PROBE: usize = 8;

/// SKU that was rejected alone. It is not proven yet that the SKU is at fault.
#[derive(Debug)]
struct PendingRejection {
    sku: QueuedSku,
    level: Level,
    reason: String,
    // Number of the first request that was sent after the rejection.
    next_request: u64,
    // True if the Market's errors name the SKU.
    is_named: bool,
    // True if the SKU was in quarantine with this count. Its rejection was expected and does not
    // count towards a systemic rejection.
    is_quarantined: bool,
}

/// Earlier rejection of a SKU, alone or by name.
#[derive(Debug)]
struct RejectionEvidence {
    count: Count,
    // Number of the first request that was sent after it; `None` once such a request was accepted.
    awaited_request: Option<u64>,
}

/// Effects of a response.
#[derive(Debug, Default)]
pub(super) struct IsolationEffects {
    /// New and extended entries of the quarantine.
    pub(super) quarantined: Vec<QuarantineEntry>,
    /// Entries that left the quarantine.
    pub(super) released: Vec<QuarantineEntry>,
    /// SKUs that are not isolated any more: they are queued if they are due.
    pub(super) returned: Vec<QueuedSku>,
    /// The Market's reason if it rejects every batch. Then sending pauses.
    pub(super) systemic_reason: Option<String>,
}

/// Decides what is sent next and how large it is, and which SKUs are at fault.
#[derive(Debug)]
pub(super) struct Isolation {
    groups: RetryGroups,
    pending: Vec<PendingRejection>,
    evidence: HashMap<SkuId, RejectionEvidence>,
    pub(super) quarantine: Quarantine,
    turns: Turns,
    batch_size: BatchSize,
    // Number of requests so far, which orders them.
    requests: u64,
    consecutive_rejections: usize,
    is_systemic: bool,
}

impl Isolation {
    pub(super) fn new(order: GroupOrder, max_skus: usize, quarantine: Quarantine) -> Self {
        Self {
            groups: RetryGroups::new(order),
            pending: Vec::new(),
            evidence: HashMap::new(),
            quarantine,
            turns: Turns::default(),
            batch_size: BatchSize::new(max_skus),
            requests: 0,
            consecutive_rejections: 0,
            is_systemic: false,
        }
    }

    // === What to send next ===

    /// Returns the source of the next batch, and its number of SKUs, at most `max_skus`.
    pub(super) fn next_source(
        &self,
        queue: &SendQueue,
        max_skus: usize,
        now: Instant,
    ) -> (BatchSource, usize) {
        let zeros = match self.groups.order {
            GroupOrder::DepthFirst => 0,
            // Sent in batches of their own: a rejected SKU in the same batch would delay them by
            // many requests.
            GroupOrder::LargestFirst => queue.count(Urgency::Zero),
        };
        let others = queue.len() - zeros;
        let group = self.groups.next();
        let source = self.turns.next(WaitingSources {
            zeros,
            others,
            group,
            has_pending_rejections: !self.pending.is_empty(),
            is_systemic: self.is_systemic,
        });
        let skus = match source {
            BatchSource::Zeros => zeros.min(self.batch_size.max_queued()),
            BatchSource::Queue => others.min(self.batch_size.max_queued()),
            BatchSource::Group(index) => self.groups.len_of(index),
        };
        // One SKU is enough to show whether the Market rejects everything.
        let is_probe = self.is_systemic || self.consecutive_rejections >= REJECTIONS_UNTIL_PROBE;
        let max = if is_probe {
            1
        } else {
            self.batch_size.max(now).min(max_skus)
        };
        (source, skus.min(max))
    }

    /// Takes up to `max_skus` SKUs for a batch from this source. The rest of a group stays.
    pub(super) fn take(
        &mut self,
        queue: &mut SendQueue,
        source: BatchSource,
        max_skus: usize,
    ) -> (Vec<QueuedSku>, Option<BatchOrigin>) {
        self.turns.on_taken(source);
        let kinds: &[Urgency] = match (source, self.groups.order) {
            (BatchSource::Group(index), _) => {
                return self.groups.take(index, max_skus);
            }
            _ if self.is_systemic => return (queue.take_newest(max_skus), None),
            (BatchSource::Zeros, _) => &[Urgency::Zero],
            (BatchSource::Queue, GroupOrder::LargestFirst) => &[Urgency::Decrease, Urgency::Rest],
            (BatchSource::Queue, GroupOrder::DepthFirst) => &Urgency::ALL,
        };
        (queue.take(kinds, max_skus), None)
    }

    /// Returns the number of a request that is sent now.
    pub(super) fn begin_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Has a quarantined SKU sent alone, because it was rejected alone, after the groups.
    pub(super) fn retry(&mut self, sku: QueuedSku, count: Count) {
        self.groups.push_single(sku, count);
    }

    /// Makes the unconfirmed SKUs due that are not on their way, and returns them. The Market accepts
    /// requests, so a retry shows whether they are at fault: their next rejection confirms it.
    pub(super) fn retry_unconfirmed(&mut self, queue: &SendQueue, now: DateTime<Utc>) -> Vec<Sku> {
        let mut skus = Vec::new();
        for (id, entry) in self.quarantine.unconfirmed_mut() {
            if !queue.is_taken(id) {
                entry.retry_at = entry.retry_at.min(now);
                let evidence = RejectionEvidence {
                    count: entry.level.count,
                    awaited_request: None,
                };
                self.evidence.insert(id, evidence);
                skus.push(entry.sku.clone());
            }
        }
        skus
    }

    /// Returns true if a group is waiting.
    pub(super) fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Returns the number of SKUs in groups and pending rejections.
    pub(super) fn waiting_skus(&self) -> usize {
        self.groups.skus() + self.pending.len()
    }

    // === Responses ===

    /// Takes back SKUs that were taken but not sent, or whose request says nothing about them.
    /// Returns those that are not isolated.
    pub(super) fn take_back(
        &mut self,
        skus: Vec<QueuedSku>,
        origin: Option<BatchOrigin>,
    ) -> Vec<QueuedSku> {
        match origin {
            Some(origin) => {
                self.groups.push_front(skus, origin);
                Vec::new()
            }
            None => skus,
        }
    }

    /// Splits a batch that was too large. The halves are not paired: neither needs to be at fault.
    pub(super) fn on_too_large(&mut self, batch: UpdateBatch, ended_at: Instant) {
        self.batch_size.on_too_large(batch.items.len(), ended_at);
        let (pair, is_zeros) = (None, batch.has_only_zeros());
        self.groups
            .push_halves(batch.into_skus(), BatchOrigin { pair, is_zeros });
    }

    /// Records an accepted batch.
    ///
    /// Only a request sent after a pending rejection confirms it. A SKU that the Market did not
    /// name is sent a second time instead.
    pub(super) fn on_accepted(
        &mut self,
        batch: UpdateBatch,
        now: DateTime<Utc>,
    ) -> IsolationEffects {
        self.consecutive_rejections = 0;
        self.is_systemic = false;
        for item in &batch.items {
            self.evidence.remove(&item.sku.id);
        }
        if let Some(pair) = batch.origin.and_then(|origin| origin.pair) {
            self.groups.on_half_accepted(pair);
        }
        for evidence in self.evidence.values_mut() {
            evidence.awaited_request = evidence.awaited_request.filter(|it| *it > batch.number);
        }
        let answered = self
            .pending
            .extract_if(.., |rejection| batch.number >= rejection.next_request);
        let (named, unnamed): (Vec<_>, Vec<_>) = answered.partition(|it| it.is_named);
        for PendingRejection { sku, level, .. } in unnamed {
            self.record_evidence(sku.id, level.count, None);
            self.groups.push_single(sku, level.count);
        }
        let mut effects = IsolationEffects::default();
        self.quarantine_all(named, Confirmation::Confirmed, now, &mut effects);
        if batch.origin.is_none() {
            self.batch_size.on_queue_accepted(batch.items.len());
        }
        for sku in batch.into_skus() {
            effects.released.extend(self.quarantine.release(sku.id));
            effects.returned.push(sku.waiting_since(now));
        }
        effects
    }

    /// Records a rejected batch. The SKUs that the Market names are sent alone, after the others.
    /// If it names none, the batch is split in paired halves.
    pub(super) fn on_rejected(
        &mut self,
        mut batch: UpdateBatch,
        named: &HashSet<SkuId>,
        reason: &str,
        now: DateTime<Utc>,
    ) -> IsolationEffects {
        let mut effects = IsolationEffects::default();
        self.consecutive_rejections += 1;
        if let Some(origin) = batch.origin {
            self.groups.unpair(origin);
        }
        let is_zeros = batch.has_only_zeros();
        let (number_of_skus, is_from_queue) = (batch.items.len(), batch.origin.is_none());
        if number_of_skus == 1
            && let Some(BatchItem { sku, level, .. }) = batch.items.pop()
        {
            let rejection = PendingRejection {
                level,
                reason: reason.to_owned(),
                next_request: self.requests + 1,
                is_named: named.contains(&sku.id),
                is_quarantined: self.quarantine.has_with_count(sku.id, level.count),
                sku,
            };
            self.on_single_rejected(rejection, now, &mut effects);
        } else if self.is_systemic {
            let origin = batch.origin;
            effects.returned = self.take_back(batch.into_skus(), origin);
            self.on_systemic(reason, now, &mut effects);
        } else if named.is_empty() {
            if is_from_queue {
                // Fewer queued SKUs per request, until requests of that size are accepted.
                self.batch_size.on_queue_rejected(number_of_skus);
            }
            self.groups.split(batch.into_skus(), is_zeros);
        } else {
            let next_request = Some(self.requests + 1);
            for item in batch.items.iter().filter(|it| named.contains(&it.sku.id)) {
                self.record_evidence(item.sku.id, item.level.count, next_request);
            }
            let skus = batch.into_skus().into_iter();
            let (named, others): (Vec<_>, Vec<_>) = skus.partition(|it| named.contains(&it.id));
            let origin = BatchOrigin {
                pair: None,
                is_zeros,
            };
            for sku in named.into_iter().rev() {
                self.groups.push_front(vec![sku], origin);
            }
            self.groups.push_front(others, origin);
        }
        effects
    }

    /// Records a SKU that was rejected alone, and decides whether the rejection is systemic.
    fn on_single_rejected(
        &mut self,
        rejection: PendingRejection,
        now: DateTime<Utc>,
        effects: &mut IsolationEffects,
    ) {
        let (id, count) = (rejection.sku.id, rejection.level.count);
        let is_proven = |evidence: &RejectionEvidence| {
            evidence.count == count && evidence.awaited_request.is_none()
        };
        if self.quarantine.is_confirmed(id, count) || self.evidence.get(&id).is_some_and(is_proven)
        {
            return self.quarantine_all(vec![rejection], Confirmation::Confirmed, now, effects);
        }
        let (is_expected, reason) = (rejection.is_quarantined, rejection.reason.clone());
        self.turns.on_single_rejected();
        self.pending.push(rejection);
        let signs = self.pending.iter().filter(|it| !it.is_quarantined).count()
            + self.quarantine.unconfirmed_mut().count();
        if !is_expected && (self.is_systemic || signs >= REJECTIONS_UNTIL_SYSTEMIC) {
            self.on_systemic(&reason, now, effects);
        }
    }

    /// Ends the isolation, because no SKU is at fault. The pending rejections wait until a request
    /// is accepted.
    fn on_systemic(&mut self, reason: &str, now: DateTime<Utc>, effects: &mut IsolationEffects) {
        self.is_systemic = true;
        self.batch_size.on_systemic_rejection();
        effects
            .released
            .extend(self.quarantine.release_unconfirmed());
        let isolated = self.groups.drain();
        effects
            .returned
            .extend(isolated.map(|sku| sku.waiting_since(now)));
        effects.systemic_reason = Some(reason.to_owned());
    }

    /// Decides the pending rejections when no other SKU is left to send, so that none can show
    /// whether the rejection is systemic. While it is, the oldest one is sent as a probe.
    pub(super) fn resolve_pending(&mut self, now: DateTime<Utc>) -> IsolationEffects {
        let mut effects = IsolationEffects::default();
        if !self.is_systemic {
            let pending = std::mem::take(&mut self.pending).into_iter();
            let (named, others) = pending.partition(|rejection| rejection.is_named);
            self.quarantine_all(named, Confirmation::Confirmed, now, &mut effects);
            self.quarantine_all(others, Confirmation::Unconfirmed, now, &mut effects);
        } else if !self.pending.is_empty() {
            let PendingRejection { sku, level, .. } = self.pending.remove(0);
            self.groups.push_single(sku, level.count);
        }
        effects
    }

    /// Moves SKUs into the quarantine. They are returned, because their counts may have changed.
    fn quarantine_all(
        &mut self,
        rejected: Vec<PendingRejection>,
        confirmation: Confirmation,
        now: DateTime<Utc>,
        effects: &mut IsolationEffects,
    ) {
        for PendingRejection {
            sku, level, reason, ..
        } in rejected
        {
            self.evidence.remove(&sku.id);
            let entry = self.quarantine.add(&sku, level, reason, confirmation, now);
            effects.quarantined.push(entry.clone());
            effects.returned.push(sku.waiting_since(now));
        }
    }

    fn record_evidence(&mut self, id: SkuId, count: Count, awaited_request: Option<u64>) {
        let evidence = RejectionEvidence {
            count,
            awaited_request,
        };
        self.evidence.insert(id, evidence);
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use stock::{ShopId, StockBook};

    use super::*;

    /// Fault of a Market whose SKUs are letters. `x`, `y` and `z` are always rejected.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    enum Fault {
        None,
        /// The errors name the rejected SKUs.
        Names,
        /// Everything is rejected in these requests, counted from 0.
        Everything(usize, usize),
    }

    /// Isolation with a queue, and a transcript of what happened: `ab+` is an accepted request,
    /// `ab-` a rejected one, `!a` a quarantined SKU, `?a` an unconfirmed one, `<a` a released one,
    /// and `*` a systemic rejection.
    struct Transcript {
        isolation: Isolation,
        queue: SendQueue,
        now: DateTime<Utc>,
        text: Vec<String>,
    }

    impl Transcript {
        fn new(order: GroupOrder, skus: &str) -> Self {
            let book = StockBook::new([0]);
            let mut queue = SendQueue::default();
            for letter in skus.chars() {
                let sku = Sku::parse(&letter.to_string()).unwrap();
                let id = book.restore(ShopId(0), &sku, one_piece());
                queue.insert(id, &sku, Urgency::Rest, 0);
            }
            Self {
                queue,
                isolation: Isolation::new(order, 4, Quarantine::default()),
                now: DateTime::UNIX_EPOCH,
                text: Vec::new(),
            }
        }

        /// Sends one request, or decides the pending rejections. Returns false if neither is
        /// possible.
        fn step(&mut self, fault: Fault, request: usize) -> bool {
            self.now += TimeDelta::seconds(1);
            let (source, max) = self.isolation.next_source(&self.queue, 4, Instant::now());
            let effects = if max == 0 {
                self.isolation.resolve_pending(self.now)
            } else {
                let (skus, origin) = self.isolation.take(&mut self.queue, source, max);
                self.respond(skus, origin, fault, request)
            };
            let is_idle =
                max == 0 && effects.quarantined.is_empty() && !self.isolation.has_groups();
            self.apply(effects);
            !is_idle
        }

        fn respond(
            &mut self,
            skus: Vec<QueuedSku>,
            origin: Option<BatchOrigin>,
            fault: Fault,
            request: usize,
        ) -> IsolationEffects {
            let letters: String = skus.iter().map(|queued| queued.sku.as_str()).collect();
            let is_bad = |queued: &&QueuedSku| "xyz".contains(queued.sku.as_str());
            let bad: HashSet<SkuId> = skus.iter().filter(is_bad).map(|it| it.id).collect();
            let is_rejected = match fault {
                Fault::None | Fault::Names => !bad.is_empty(),
                Fault::Everything(from, to) => !bad.is_empty() || (from..to).contains(&request),
            };
            let items = skus.into_iter().map(|sku| BatchItem {
                sku,
                level: one_piece(),
                date: one_piece().updated_at,
                is_date_raised: false,
            });
            let batch = UpdateBatch {
                items: items.collect(),
                origin,
                number: self.isolation.begin_request(),
                key_index: 0,
                sent_at: Instant::now(),
            };
            let named = if fault == Fault::Names {
                bad
            } else {
                HashSet::new()
            };
            self.text
                .push(format!("{letters}{}", if is_rejected { '-' } else { '+' }));
            if is_rejected {
                let reason = "invalid";
                self.isolation.on_rejected(batch, &named, reason, self.now)
            } else {
                self.isolation.on_accepted(batch, self.now)
            }
        }

        fn apply(&mut self, effects: IsolationEffects) {
            for entry in effects.quarantined {
                let is_short = entry.retry_at - self.now < TimeDelta::hours(1);
                let mark = if is_short { '?' } else { '!' };
                self.text.push(format!("{mark}{}", entry.sku));
            }
            let released = effects
                .released
                .iter()
                .map(|entry| format!("<{}", entry.sku));
            self.text.extend(released);
            for QueuedSku { id, sku, since } in effects.returned {
                self.queue.give_back(id);
                if effects.systemic_reason.is_some() {
                    self.queue.insert(id, &sku, Urgency::Rest, since);
                }
            }
            self.text
                .extend(effects.systemic_reason.map(|_| "*".to_owned()));
        }
    }

    fn one_piece() -> Level {
        Level {
            count: Count::try_from(1).unwrap(),
            updated_at: DateTime::UNIX_EPOCH.into(),
        }
    }

    #[test]
    fn requests_and_decisions_by_market() {
        use Fault::{Everything, Names, None};
        use GroupOrder::{DepthFirst, LargestFirst};
        for (skus, order, fault, expected) in [
            ("abcdef", DepthFirst, None, "abcd+ ef+"),
            // The half without the rejected SKU is accepted, so the other half is split unsent.
            ("abxd", DepthFirst, None, "abxd- ab+ x- d+ x- !x"),
            ("abxd", LargestFirst, None, "abxd- ab+ x- d+ x- !x"),
            // The queue and the groups take turns, and the queue gives evidence.
            ("xabcd", DepthFirst, None, "xabc- xa- d+ x- a+ bc+ x- !x"),
            ("xyab", DepthFirst, None, "xyab- xy- x- y- ab+ x- !x y- !y"),
            ("xyab", LargestFirst, None, "xyab- xy- ab+ x- y- ?x ?y"),
            // Nothing is left to show whether the SKU is at fault.
            ("abcdex", DepthFirst, None, "abcd+ ex- e+ x- ?x"),
            ("xy", DepthFirst, None, "xy- x- y- ?x ?y"),
            // Named SKUs are sent alone, and one rejection confirms them.
            ("abxy", DepthFirst, Names, "abxy- ab+ x- !x y- !y"),
            ("x", DepthFirst, Names, "x- !x"),
            ("abcd", DepthFirst, Everything(0, 2), "abcd- ab- a+ b+ cd+"),
            (
                "abxd",
                DepthFirst,
                Everything(3, 4),
                "abxd- ab+ x- d- ?x ?d",
            ),
            // Eight SKUs alone and nothing accepted: then one SKU is sent at a time.
            (
                "abcdefghij",
                DepthFirst,
                Everything(0, 18),
                "abcd- ab- efgh- ef- ij- i- j- e- f- g- h- a- b- * d- * c- * i- * j+ e+ f+ g+ h+ \
                 a+ b+ d+ c+ i+",
            ),
        ] {
            let mut transcript = Transcript::new(order, skus);
            let mut requests = 0;
            while requests < 40 && transcript.step(fault, requests) {
                requests += 1;
            }
            assert_eq!(transcript.text.join(" "), expected, "{skus}, {fault:?}");
        }
    }
}
