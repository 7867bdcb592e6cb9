//! Poll of a source in tests: reads what is due and keeps the rows, without staging or applying them.

use std::sync::Arc;

use lifecycle::Clock;
use stock::Timestamp;
use stock_import::{DeliveryEntry, ProductKey};

use super::source::{DeliveryEnd, DueDelivery, PollContext, ReadFailure, Source};
use super::{EntrySender, ReadReport};

/// Delivery that was read in a test.
#[derive(Debug)]
pub(super) struct CollectedDelivery {
    /// Date of the delivery.
    pub(super) stated_at: Option<Timestamp>,
    pub(super) repeats_last: bool,
    /// All entries that were sent, also before a failure.
    pub(super) entries: Vec<DeliveryEntry>,
    /// Report of the source.
    pub(super) report: Result<ReadReport, ReadFailure>,
    /// State that the source wants to save.
    pub(super) state: Option<String>,
}

impl CollectedDelivery {
    /// Returns SKU and quantity of each row.
    ///
    /// # Panics
    /// If an entry is not a row with both.
    pub(super) fn quantities(&self) -> Vec<(String, String)> {
        let entries = self.entries.iter();
        let quantities = entries.map(|entry| match entry {
            DeliveryEntry::Row(row) => match (&row.key, row.quantity) {
                (ProductKey::Sku(sku), Some(quantity)) => (sku.clone(), quantity.to_string()),
                _ => panic!("{row:?} lacks a SKU or a quantity"),
            },
            other => panic!("{other:?} is not a row"),
        });
        quantities.collect()
    }
}

/// Polls a source once. A delivery that is read to its end counts as applied.
pub(super) async fn poll<S: Source>(source: &mut S) -> Result<Vec<CollectedDelivery>, String> {
    let spool = tempfile::tempdir().unwrap();
    let poll = PollContext {
        shop: "moscow",
        now: Clock::wall().now(),
        spool: spool.path(),
        known_skus: Arc::new(Vec::new),
    };
    let mut collected = Vec::new();
    for DueDelivery {
        stated_at,
        repeats_last,
        mut target,
    } in source.due(&poll).await?
    {
        let (mut rows, mut receiver) = EntrySender::channel();
        let reading = async {
            let report = source.read(&mut target, &poll, &mut rows).await;
            rows.flush().await.unwrap();
            drop(rows);
            report
        };
        let receiving = async {
            let mut entries = Vec::new();
            while let Some(batch) = receiver.recv().await {
                entries.extend(batch);
            }
            entries
        };
        let (report, entries) = tokio::join!(reading, receiving);
        let end = match &report {
            Ok(_) => DeliveryEnd::Applied,
            Err(failure) if failure.is_temporary => DeliveryEnd::Interrupted,
            Err(_) => DeliveryEnd::Rejected,
        };
        let state = source.ended(target, end);
        collected.push(CollectedDelivery {
            stated_at,
            repeats_last,
            entries,
            report,
            state,
        });
        if end == DeliveryEnd::Interrupted {
            break;
        }
    }
    Ok(collected)
}
