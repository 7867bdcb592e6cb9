//! Groups of isolated SKUs: the parts into which rejected batches are split. Pure.

use std::collections::VecDeque;

use stock::Count;

use crate::migrator::queue::QueuedSku;

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

/// Group from which a batch was taken. Its SKUs do not return to the send queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchOrigin {
    /// Present while neither half was rejected or divided. Then the acceptance of one half proves
    /// that the other half contains a rejected SKU.
    pub(super) pair: Option<SplitPair>,
    /// True if all counts were zero.
    pub(super) is_zeros: bool,
}

/// Part of a rejected batch, sent as one request.
#[derive(Debug)]
struct RetryGroup {
    skus: Vec<QueuedSku>,
    origin: BatchOrigin,
}

/// Groups that wait to be sent.
#[derive(Debug)]
pub(super) struct RetryGroups {
    pub(super) order: GroupOrder,
    groups: VecDeque<RetryGroup>,
    last_pair: u64,
}

impl RetryGroups {
    pub(super) fn new(order: GroupOrder) -> Self {
        Self {
            order,
            groups: VecDeque::new(),
            last_pair: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Returns the number of SKUs in the group with this index.
    pub(super) fn len_of(&self, index: usize) -> usize {
        self.groups[index].skus.len()
    }

    /// Returns the number of SKUs in all groups.
    pub(super) fn skus(&self) -> usize {
        self.groups.iter().map(|group| group.skus.len()).sum()
    }

    /// Returns the index of the group to send next.
    pub(super) fn next(&self) -> Option<usize> {
        let weight = |index: &usize| {
            let is_zeros = self.groups[*index].origin.is_zeros;
            self.len_of(*index) * if is_zeros { ZEROS_WEIGHT } else { 1 }
        };
        // Of equal weights, the lowest index: `max_by_key` returns the last maximum.
        let mut indices = (0..self.groups.len()).rev();
        match self.order {
            GroupOrder::DepthFirst => indices.next_back(),
            GroupOrder::LargestFirst => indices.max_by_key(weight),
        }
    }

    /// Takes up to `max_skus` SKUs of the group with this index. The rest stays as a group.
    pub(super) fn take(
        &mut self,
        index: usize,
        max_skus: usize,
    ) -> (Vec<QueuedSku>, Option<BatchOrigin>) {
        let Some(RetryGroup {
            mut skus,
            mut origin,
        }) = self.groups.remove(index)
        else {
            return (Vec::new(), None);
        };
        let rest = skus.split_off(max_skus.min(skus.len()));
        if !rest.is_empty() {
            self.unpair(origin);
            origin.pair = None;
            self.push_front(rest, origin);
        }
        (skus, Some(origin))
    }

    /// Takes the SKUs of all groups.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = QueuedSku> {
        self.groups.drain(..).flat_map(|group| group.skus)
    }

    /// Adds a group before the others, unless it is empty.
    pub(super) fn push_front(&mut self, skus: Vec<QueuedSku>, origin: BatchOrigin) {
        if !skus.is_empty() {
            self.groups.push_front(RetryGroup { skus, origin });
        }
    }

    /// Adds a SKU to be sent alone, after the other groups.
    pub(super) fn push_single(&mut self, sku: QueuedSku, count: Count) {
        let (pair, is_zeros) = (None, count == Count::ZERO);
        self.groups.push_back(RetryGroup {
            skus: vec![sku],
            origin: BatchOrigin { pair, is_zeros },
        });
    }

    /// Splits rejected SKUs in two paired halves.
    pub(super) fn split(&mut self, skus: Vec<QueuedSku>, is_zeros: bool) {
        self.last_pair += 1;
        let pair = Some(SplitPair(self.last_pair));
        self.push_halves(skus, BatchOrigin { pair, is_zeros });
    }

    /// Splits SKUs in two halves.
    pub(super) fn push_halves(&mut self, mut first: Vec<QueuedSku>, origin: BatchOrigin) {
        let second = first.split_off(first.len() / 2);
        self.push_front(second, origin);
        self.push_front(first, origin);
    }

    /// Splits the other half of a pair: the accepted half is not at fault, so the other one is.
    pub(super) fn on_half_accepted(&mut self, pair: SplitPair) {
        let is_other_half = |group: &RetryGroup| group.origin.pair == Some(pair);
        let Some(index) = self.groups.iter().position(is_other_half) else {
            return;
        };
        if self.len_of(index) > 1
            && let Some(RetryGroup { skus, origin }) = self.groups.remove(index)
        {
            self.split(skus, origin.is_zeros);
        } else {
            self.groups[index].origin.pair = None;
        }
    }

    /// Records that a half was rejected or divided, so its acceptance proves nothing any more.
    pub(super) fn unpair(&mut self, origin: BatchOrigin) {
        for group in &mut self.groups {
            if group.origin.pair == origin.pair {
                group.origin.pair = None;
            }
        }
    }
}
