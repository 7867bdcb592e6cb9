//! Search, by bisection, for the SKUs that make the Market reject a batch without naming them. Pure.
//!
//! A rejected batch is split in halves until the rejected SKUs are alone. A SKU that is rejected
//! alone is a pending rejection. It proves nothing yet: perhaps the Market began to reject
//! everything at that moment. So the SKU is sent a second time, after the Market has accepted
//! another request that was sent after the first rejection, and only the second rejection counts.
//! If many SKUs are rejected and nothing is accepted in between, the rejection is systemic: no SKU
//! is at fault, and the pending rejections wait until a request is accepted.

use std::collections::{HashMap, VecDeque};

use stock::{Count, Level, Sku};

use crate::migrator::queue::WaitingSince;

/// Number of SKUs rejected alone, with nothing accepted in between, that shows that the Market
/// rejects every batch.
pub(super) const REJECTIONS_UNTIL_SYSTEMIC: usize = 8;

/// Number of consecutive rejections after which requests have one SKU: few of them show whether the
/// Market rejects every batch.
const REJECTIONS_UNTIL_PROBE: usize = 8;

/// Weight of a group of zeros against a group of other SKUs of the same size.
const ZEROS_WEIGHT: usize = 4;

/// Order in which groups are sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum GroupOrder {
    /// The most recent split first, where SKUs are limited: finds a rejected SKU soonest.
    DepthFirst,
    /// The largest group first, where requests are limited: most SKUs are accepted per request.
    LargestFirst,
}

/// Identifier that the two halves of a rejected batch share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SplitPair(u64);

/// Part of a rejected batch, sent as one request.
#[derive(Debug)]
struct RetryGroup {
    skus: Vec<(Sku, WaitingSince)>,
    // Present while neither half was rejected or divided. Then the acceptance of one half proves
    // that the other half contains a rejected SKU.
    pair: Option<SplitPair>,
    // True if all counts were zero.
    is_zeros: bool,
}

/// Group from which a batch was taken. Its SKUs do not return to the send queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchOrigin {
    pub(super) pair: Option<SplitPair>,
    pub(super) is_zeros: bool,
}

/// SKU that was rejected alone. It is not proven yet that the SKU is at fault.
#[derive(Debug)]
pub(super) struct RejectedSku {
    pub(super) sku: Sku,
    pub(super) level: Level,
    pub(super) reason: String,
    /// Number of the first request that was sent after the rejection.
    pub(super) next_request: u64,
    /// True if the Market's errors name the SKU.
    pub(super) is_named: bool,
    /// True if the SKU was in quarantine with this count. Its rejection was expected and does not
    /// count towards a systemic rejection.
    pub(super) is_quarantined: bool,
}

/// Earlier rejection of a SKU, alone or by name.
#[derive(Debug)]
struct RejectionEvidence {
    count: Count,
    // Number of the first request that was sent after it.
    next_request: u64,
    // True if such a request was accepted.
    is_confirmed: bool,
}

/// State of the search for rejected SKUs.
#[derive(Debug)]
pub(super) struct RejectionSearch {
    order: GroupOrder,
    groups: VecDeque<RetryGroup>,
    pending_rejections: Vec<RejectedSku>,
    evidence: HashMap<Sku, RejectionEvidence>,
    last_pair: u64,
    consecutive_rejections: usize,
    is_systemic: bool,
}

impl RejectionSearch {
    pub(super) fn new(order: GroupOrder) -> Self {
        Self {
            order,
            groups: VecDeque::new(),
            pending_rejections: Vec::new(),
            evidence: HashMap::new(),
            last_pair: 0,
            consecutive_rejections: 0,
            is_systemic: false,
        }
    }

    // === Groups ===

    /// Returns the index of the group to send next, and its number of SKUs.
    pub(super) fn next_group(&self) -> Option<(usize, usize)> {
        let weight =
            |group: &RetryGroup| group.skus.len() * if group.is_zeros { ZEROS_WEIGHT } else { 1 };
        let index = match self.order {
            GroupOrder::DepthFirst => (!self.groups.is_empty()).then_some(0),
            GroupOrder::LargestFirst => {
                // Of equal weights, the lowest index: `max_by_key` returns the last maximum.
                let indices = (0..self.groups.len()).rev();
                indices.max_by_key(|index| weight(&self.groups[*index]))
            }
        }?;
        Some((index, self.groups[index].skus.len()))
    }

    /// Takes up to `max_skus` SKUs of the group with this index. The rest stays as a group.
    pub(super) fn take_group(
        &mut self,
        index: usize,
        max_skus: usize,
    ) -> Option<(Vec<(Sku, WaitingSince)>, BatchOrigin)> {
        let mut group = self.groups.remove(index)?;
        let rest = group.skus.split_off(max_skus.min(group.skus.len()));
        if !rest.is_empty() {
            self.unpair(group.pair);
            group.pair = None;
            let rest = RetryGroup {
                skus: rest,
                pair: None,
                is_zeros: group.is_zeros,
            };
            self.groups.push_front(rest);
        }
        Some((
            group.skus,
            BatchOrigin {
                pair: group.pair,
                is_zeros: group.is_zeros,
            },
        ))
    }

    /// Returns SKUs that were taken but not sent.
    pub(super) fn return_group(&mut self, skus: Vec<(Sku, WaitingSince)>, origin: BatchOrigin) {
        let BatchOrigin { pair, is_zeros } = origin;
        self.groups.push_front(RetryGroup {
            skus,
            pair,
            is_zeros,
        });
    }

    /// Adds a SKU to be sent alone, after the other groups.
    pub(super) fn push_single(&mut self, sku: Sku, since: WaitingSince, count: Count) {
        let is_zeros = count == Count::ZERO;
        self.groups.push_back(RetryGroup {
            skus: vec![(sku, since)],
            pair: None,
            is_zeros,
        });
    }

    /// Splits a batch: the SKUs that the Market named are sent one by one, after the others.
    pub(super) fn separate_named(
        &mut self,
        named: Vec<(Sku, WaitingSince)>,
        others: Vec<(Sku, WaitingSince)>,
        is_zeros: bool,
    ) {
        for named_sku in named.into_iter().rev() {
            self.groups.push_front(RetryGroup {
                skus: vec![named_sku],
                pair: None,
                is_zeros,
            });
        }
        if !others.is_empty() {
            self.groups.push_front(RetryGroup {
                skus: others,
                pair: None,
                is_zeros,
            });
        }
    }

    /// Splits a rejected batch in two paired halves.
    pub(super) fn split(&mut self, skus: Vec<(Sku, WaitingSince)>, is_zeros: bool) {
        self.last_pair += 1;
        let pair = Some(SplitPair(self.last_pair));
        self.push_halves(skus, pair, is_zeros);
    }

    /// Splits a batch that was too large. The halves are not paired: neither needs to be at fault.
    pub(super) fn split_large(&mut self, skus: Vec<(Sku, WaitingSince)>, is_zeros: bool) {
        self.push_halves(skus, None, is_zeros);
    }

    fn push_halves(
        &mut self,
        mut first: Vec<(Sku, WaitingSince)>,
        pair: Option<SplitPair>,
        is_zeros: bool,
    ) {
        let second = first.split_off(first.len() / 2);
        for skus in [second, first] {
            if !skus.is_empty() {
                self.groups.push_front(RetryGroup {
                    skus,
                    pair,
                    is_zeros,
                });
            }
        }
    }

    fn unpair(&mut self, pair: Option<SplitPair>) {
        if pair.is_some() {
            self.groups
                .iter_mut()
                .filter(|g| g.pair == pair)
                .for_each(|group| group.pair = None);
        }
    }

    /// Returns the number of SKUs in groups and pending rejections.
    pub(super) fn waiting_skus(&self) -> usize {
        let grouped: usize = self.groups.iter().map(|group| group.skus.len()).sum();
        grouped + self.pending_rejections.len()
    }

    /// Returns true if no group is waiting.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn has_pending_rejections(&self) -> bool {
        !self.pending_rejections.is_empty()
    }

    /// Returns true if the next request should have one SKU, which is enough to show whether the
    /// Market rejects everything.
    pub(super) fn wants_probe(&self) -> bool {
        self.is_systemic || self.consecutive_rejections >= REJECTIONS_UNTIL_PROBE
    }

    /// Returns true while the Market rejects every batch.
    pub(super) fn is_systemic(&self) -> bool {
        self.is_systemic
    }

    // === Outcomes ===

    /// Records an accepted request. Returns the pending rejections that are now confirmed.
    ///
    /// Only a request sent after the rejection confirms it. A SKU that the Market did not name is
    /// sent a second time instead.
    pub(super) fn on_accepted(
        &mut self,
        number: u64,
        origin: Option<BatchOrigin>,
        skus: &[Sku],
    ) -> Vec<RejectedSku> {
        self.consecutive_rejections = 0;
        self.is_systemic = false;
        for sku in skus {
            self.evidence.remove(sku);
        }
        if let Some(pair) = origin.and_then(|origin| origin.pair)
            && let Some(index) = self
                .groups
                .iter()
                .position(|group| group.pair == Some(pair))
            && let Some(group) = self.groups.remove(index)
        {
            // The accepted half is not at fault, so the other one is.
            if group.skus.len() > 1 {
                self.split(group.skus, group.is_zeros);
            } else {
                self.groups.insert(
                    index,
                    RetryGroup {
                        pair: None,
                        ..group
                    },
                );
            }
        }
        for evidence in self.evidence.values_mut() {
            evidence.is_confirmed |= number >= evidence.next_request;
        }
        let (eligible, still_pending): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending_rejections)
                .into_iter()
                .partition(|rejected| number >= rejected.next_request);
        self.pending_rejections = still_pending;
        let (confirmed, unconfirmed): (Vec<_>, Vec<_>) =
            eligible.into_iter().partition(|rejected| rejected.is_named);
        for RejectedSku {
            sku,
            level,
            next_request,
            ..
        } in unconfirmed
        {
            let evidence = RejectionEvidence {
                count: level.count,
                next_request,
                is_confirmed: true,
            };
            self.evidence.insert(sku.clone(), evidence);
            self.push_single(sku, level.updated_at.as_micros(), level.count);
        }
        confirmed
    }

    /// Records a rejected request.
    pub(super) fn on_rejected(&mut self, origin: Option<BatchOrigin>) {
        self.consecutive_rejections += 1;
        self.unpair(origin.and_then(|origin| origin.pair));
    }

    /// Records that the Market named this SKU or rejected it alone. `next_request` is the number of
    /// the first request sent after that.
    pub(super) fn record_evidence(&mut self, sku: &Sku, count: Count, next_request: u64) {
        let evidence = RejectionEvidence {
            count,
            next_request,
            is_confirmed: false,
        };
        self.evidence.insert(sku.clone(), evidence);
    }

    /// Records a rejection after which a request was accepted.
    pub(super) fn record_confirmed(&mut self, sku: &Sku, count: Count) {
        let evidence = RejectionEvidence {
            count,
            next_request: 0,
            is_confirmed: true,
        };
        self.evidence.insert(sku.clone(), evidence);
    }

    /// Returns true if this SKU was rejected before with this count, and a request was accepted
    /// since.
    pub(super) fn is_confirmed(&self, sku: &Sku, count: Count) -> bool {
        let evidence = self.evidence.get(sku);
        evidence.is_some_and(|evidence| evidence.count == count && evidence.is_confirmed)
    }

    /// Removes the evidence of a SKU. Called when it enters the quarantine, which keeps it then.
    pub(super) fn remove_evidence(&mut self, sku: &Sku) {
        self.evidence.remove(sku);
    }

    /// Adds a pending rejection. Returns how many of them may be signs of a systemic rejection.
    pub(super) fn add_pending_rejection(&mut self, rejected: RejectedSku) -> usize {
        self.pending_rejections.push(rejected);
        self.pending_rejections
            .iter()
            .filter(|rejected| !rejected.is_quarantined)
            .count()
    }

    /// Takes all pending rejections, when no other SKU is left that could confirm them.
    pub(super) fn take_pending_rejections(&mut self) -> Vec<RejectedSku> {
        std::mem::take(&mut self.pending_rejections)
    }

    /// Queues the oldest pending rejection as a probe, when no other SKU is left that could show
    /// whether the Market still rejects everything.
    pub(super) fn probe_oldest_rejection(&mut self) {
        if !self.pending_rejections.is_empty() {
            let RejectedSku { sku, level, .. } = self.pending_rejections.remove(0);
            self.push_single(sku, level.updated_at.as_micros(), level.count);
        }
    }

    /// Marks the rejection as systemic and takes the SKUs of all groups. The pending rejections
    /// wait until a request is accepted.
    pub(super) fn abandon_groups(&mut self) -> Vec<Sku> {
        self.is_systemic = true;
        let groups = std::mem::take(&mut self.groups);
        groups
            .into_iter()
            .flat_map(|group| group.skus)
            .map(|(sku, _)| sku)
            .collect()
    }
}
