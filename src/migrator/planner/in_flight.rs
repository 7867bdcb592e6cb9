//! Requests of one shop that have no response yet.

/// Requests in flight. Batches and read-backs share the number of parallel requests.
#[derive(Debug, Default)]
pub(super) struct RequestsInFlight {
    pub(super) batches: usize,
    /// SKUs in the batches.
    pub(super) skus: usize,
    readbacks: usize,
    /// True if the last request was a read-back.
    pub(super) last_was_readback: bool,
    // True if a request ended without a response: the Market may still apply it.
    has_unanswered: bool,
}

impl RequestsInFlight {
    /// Returns the number of all requests.
    pub(super) fn requests(&self) -> usize {
        self.batches + self.readbacks
    }

    pub(super) fn begin_batch(&mut self, skus: usize) {
        self.batches += 1;
        self.skus += skus;
        self.last_was_readback = false;
    }

    pub(super) fn end_batch(&mut self, skus: usize, is_answered: bool) {
        self.batches -= 1;
        self.skus -= skus;
        self.has_unanswered |= !is_answered;
    }

    /// Returns true if a batch ended without a response since the last call.
    pub(super) fn take_unanswered(&mut self) -> bool {
        std::mem::take(&mut self.has_unanswered)
    }

    pub(super) fn begin_readback(&mut self) {
        self.readbacks += 1;
        self.last_was_readback = true;
    }

    pub(super) fn end_readback(&mut self) {
        self.readbacks -= 1;
    }
}
