//! Update batches: the SKUs of one request, and the completed request with its verdict.

use chrono::{DateTime, Utc};
use market_api::partner::client::{CallOutcome, MarketResponse};
use market_api::partner::wire::{MAX_SKUS_PER_UPDATE, MarketAddress};
use stock::{Count, Level, Sku, SkuId, Timestamp};
use tokio::time::Instant;

use super::Now;
use super::retry_groups::BatchOrigin;
use crate::migrator::classify_response::{ResponseVerdict, classify_response};
use crate::migrator::queue::QueuedSku;
use crate::store::Acked;

/// One SKU of a batch.
#[derive(Clone, Debug)]
pub(super) struct BatchItem {
    pub(super) sku: QueuedSku,
    pub(super) level: Level,
    // Date in the request.
    pub(super) date: Timestamp,
    // True if `date` is that of an earlier request, because the level's own date is older.
    pub(super) is_date_raised: bool,
}

/// SKUs of one update request.
#[derive(Debug)]
pub struct UpdateBatch {
    pub(super) items: Vec<BatchItem>,
    // Group from which it was taken; `None` for queued SKUs.
    pub(super) origin: Option<BatchOrigin>,
    // Consecutive number: a later request has a higher one.
    pub(super) number: u64,
    pub(super) key_index: usize,
    pub(super) sent_at: Instant,
}

impl UpdateBatch {
    /// Returns the number of SKUs.
    #[must_use]
    pub fn sku_count(&self) -> usize {
        self.items.len()
    }

    /// Returns the index of the target's key to send the batch with.
    #[must_use]
    pub fn key_index(&self) -> usize {
        self.key_index
    }

    pub(super) fn has_only_zeros(&self) -> bool {
        self.items
            .iter()
            .all(|item| item.level.count == Count::ZERO)
    }

    pub(super) fn into_skus(self) -> Vec<QueuedSku> {
        self.items.into_iter().map(|item| item.sku).collect()
    }

    /// Returns the acknowledgements to record if the Market accepts the batch, sent at `sent_at`.
    #[must_use]
    pub fn to_acked(&self, sent_at: DateTime<Utc>) -> (Vec<SkuId>, Vec<(Sku, Acked)>) {
        let rows = self
            .items
            .iter()
            .map(|item| (item.sku.sku.clone(), Acked::new(item.level, sent_at)));
        (
            self.items.iter().map(|item| item.sku.id).collect(),
            rows.collect(),
        )
    }
}

/// Completed update request with its verdict.
#[derive(Debug)]
pub struct CompletedBatch {
    pub(super) batch: UpdateBatch,
    pub(super) verdict: ResponseVerdict,
    pub(super) response: Option<MarketResponse>,
    pub(super) completed_at: Now,
}

impl CompletedBatch {
    /// Classifies the outcome of a batch that ended at `completed_at`.
    #[must_use]
    pub fn new(batch: UpdateBatch, outcome: CallOutcome, completed_at: Now) -> Self {
        Self {
            batch,
            verdict: classify_response(&outcome),
            response: outcome.into_response(),
            completed_at,
        }
    }

    /// Returns the batch if the Market has accepted it.
    #[must_use]
    pub fn accepted(&self) -> Option<&UpdateBatch> {
        (self.verdict == ResponseVerdict::Accepted).then_some(&self.batch)
    }
}

/// Returns the largest number of SKUs in one request. By business, each SKU takes one item per
/// warehouse.
pub(in crate::migrator) fn max_skus_per_request(address: &MarketAddress) -> usize {
    match address {
        MarketAddress::Campaign { .. } => MAX_SKUS_PER_UPDATE,
        MarketAddress::Business { warehouses, .. } => {
            (MAX_SKUS_PER_UPDATE / warehouses.len().max(1)).max(1)
        }
    }
}
