//! Order of the sources of batches: zeros, groups of a search for rejected SKUs, and the queue.
//!
//! Groups and queue take turns, so that a thousand rejected SKUs, sent one by one, do not delay a new
//! zero. Batches of zeros come before both, but never twice in a row if others wait.

/// Source of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BatchSource {
    /// Queued SKUs that fell to zero, and no others.
    Zeros,
    /// Queued SKUs, without the zeros where these are sent in batches of their own.
    Queue,
    /// The group with this index.
    Group(usize),
}

/// What waits to be sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WaitingSources {
    /// Queued zeros that are sent apart from others.
    pub(super) zeros: usize,
    /// Other queued SKUs.
    pub(super) others: usize,
    /// Index of the next group.
    pub(super) group: Option<usize>,
    /// True if SKUs wait for evidence that others are accepted.
    pub(super) has_pending_rejections: bool,
    /// True if everything is rejected.
    pub(super) is_systemic: bool,
}

/// Memory of the last batches.
#[derive(Debug, Default)]
pub(super) struct Turns {
    last_was_zeros: bool,
    last_was_group: bool,
    // The outcome of a batch from the queue shows whether everything is rejected.
    has_sent_queue_since_rejection: bool,
}

impl Turns {
    /// Returns the source of the next batch.
    pub(super) fn next(&self, waiting: WaitingSources) -> BatchSource {
        let has_others = waiting.others > 0 || waiting.group.is_some();
        if waiting.zeros > 0 && !(self.last_was_zeros && has_others) {
            return BatchSource::Zeros;
        }
        let wants_evidence = waiting.has_pending_rejections && !self.has_sent_queue_since_rejection;
        let is_queue_turn = wants_evidence || waiting.is_systemic || self.last_was_group;
        match waiting.group {
            Some(index) if waiting.others == 0 || !is_queue_turn => BatchSource::Group(index),
            Some(_) | None => BatchSource::Queue,
        }
    }

    /// Records the source of a batch that is sent.
    pub(super) fn on_taken(&mut self, source: BatchSource) {
        self.last_was_zeros = source == BatchSource::Zeros;
        self.last_was_group = matches!(source, BatchSource::Group(_));
        self.has_sent_queue_since_rejection |= !self.last_was_group;
    }

    /// Records that a SKU was rejected alone.
    pub(super) fn on_single_rejected(&mut self) {
        self.has_sent_queue_since_rejection = false;
    }
}

#[cfg(test)]
mod tests {
    use super::BatchSource::{Group, Queue, Zeros};
    use super::*;

    fn waiting(zeros: usize, others: usize, group: Option<usize>) -> WaitingSources {
        WaitingSources {
            zeros,
            others,
            group,
            ..WaitingSources::default()
        }
    }

    #[test]
    fn zeros_come_first_and_then_groups_and_queue_take_turns() {
        for (waiting, expected) in [
            (waiting(0, 0, None), [Queue, Queue, Queue, Queue]),
            (waiting(0, 5, None), [Queue, Queue, Queue, Queue]),
            (
                waiting(0, 0, Some(1)),
                [Group(1), Group(1), Group(1), Group(1)],
            ),
            (waiting(0, 5, Some(1)), [Group(1), Queue, Group(1), Queue]),
            (waiting(5, 0, None), [Zeros, Zeros, Zeros, Zeros]),
            (waiting(5, 5, None), [Zeros, Queue, Zeros, Queue]),
            (waiting(5, 0, Some(1)), [Zeros, Group(1), Zeros, Group(1)]),
            (waiting(5, 5, Some(1)), [Zeros, Group(1), Zeros, Group(1)]),
        ] {
            let mut turns = Turns::default();
            let taken = expected.map(|_| {
                let source = turns.next(waiting);
                turns.on_taken(source);
                source
            });
            assert_eq!(taken, expected, "{waiting:?}");
        }
    }

    #[test]
    fn the_queue_gives_evidence_about_rejections() {
        let both = waiting(0, 5, Some(1));
        let pending = WaitingSources {
            has_pending_rejections: true,
            ..both
        };
        let systemic = WaitingSources {
            is_systemic: true,
            ..both
        };
        let mut turns = Turns::default();
        assert_eq!(turns.next(pending), Queue);
        turns.on_taken(Queue);
        assert_eq!(
            (turns.next(pending), turns.next(systemic)),
            (Group(1), Queue)
        );
        turns.on_single_rejected();
        assert_eq!(turns.next(pending), Queue);
    }
}
