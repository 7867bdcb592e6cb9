//! Stock from a shop's old handler: requests every SKU that the shop is known to have.
//!
//! SKUs are requested in batches, because old handlers were written for the Market's requests of
//! at most a thousand SKUs. Some query their database with a limit of 500 and respond with 0 for
//! all SKUs beyond it.

mod source;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use market_api::push::client::{OldHandlerClient, OldHandlerError};
use market_api::push::parse_lenient::{
    InvalidHandlerItem, OldHandlerItem, OldHandlerResponse, StatedCount,
};
use stock::Sku;
use stock_import::{DecimalMark, NumberStyle};
use stock_import::{
    DeliveryCancelled, DeliveryEntry, ProductKey, ReadSettings, RejectedRow, Row, RowProblem,
};
use tokio::time::{Instant, sleep};

use crate::EntrySender;

pub use self::source::OldHandlerSource;

/// Pause before the only retry of a failed batch.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Largest lead of an item's date over our clock. Later dates are ignored.
const MAX_CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);

/// Counts of one pull.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct HandlerSummary {
    /// Requested SKUs.
    requested: usize,
    /// Requested SKUs with a readable item in the response.
    answered: usize,
    /// Requested SKUs that the responses do not contain. Their stock stays unknown.
    missing: usize,
    /// Items that are rejected or suspicious.
    rejected: usize,
    /// Items for SKUs that were not requested.
    unrequested: usize,
    /// Items that state a count.
    with_count: usize,
    /// Items whose date is ahead of our clock. They count as current.
    future_dated: usize,
}

impl HandlerSummary {
    fn add(&mut self, other: Self) {
        self.requested += other.requested;
        self.answered += other.answered;
        self.missing += other.missing;
        self.rejected += other.rejected;
        self.unrequested += other.unrequested;
        self.with_count += other.with_count;
        self.future_dated += other.future_dated;
    }
}

/// Failure of a whole pull.
#[derive(Debug, thiserror::Error)]
enum PullError {
    /// The request for a batch failed, and so did its retry if there was one.
    #[error("the handler did not answer the request for skus {first} to {last}")]
    Batch {
        /// Number of the batch's first SKU, from 1.
        first: usize,
        /// Number of the batch's last SKU.
        last: usize,
        /// Error of the last attempt.
        #[source]
        source: OldHandlerError,
    },
    /// The responses contain no count for any SKU.
    #[error(
        "the handler returned {answered} skus without any count: each skus[].items[] must have the \
         member count"
    )]
    NoCounts {
        /// Number of SKUs in the responses.
        answered: usize,
    },
    /// The receiver of the rows is gone.
    #[error(transparent)]
    Cancelled(#[from] DeliveryCancelled),
}

/// Requests all `skus`, which should be distinct, and sends a row for each SKU in the responses.
/// A row's line is the number of its SKU in `skus`, from 1.
///
/// A failed batch is retried once after a short pause; a second failure fails the whole pull. Rows
/// of other batches have been sent by then: the stage drops them with the delivery, so a partial
/// response never counts as a snapshot.
///
/// Only requested SKUs are accepted. A SKU that a spreadsheet or a float has damaged on its way
/// through the handler is repaired if the original is certain; otherwise it is suspicious.
///
/// # Errors
/// A batch failed, no SKU has a count, or the receiver of the rows is gone.
async fn pull(
    client: &OldHandlerClient,
    skus: &[Sku],
    settings: &ReadSettings,
    now: DateTime<Utc>,
    rows: &mut EntrySender,
) -> Result<HandlerSummary, PullError> {
    let requests: Vec<_> = sku_batches(client, skus)
        .into_iter()
        .map(|batch| async move { (batch, request_with_retry(client, batch.skus).await) }.boxed())
        .collect();
    let mut responses =
        stream::iter(requests).buffer_unordered(client.handler().parallel_requests.max(1));
    let mut summary = HandlerSummary::default();
    while let Some((batch, response)) = responses.next().await {
        let response = response.map_err(|source| PullError::Batch {
            first: batch.offset + 1,
            last: batch.offset + batch.skus.len(),
            source,
        })?;
        let (entries, batch_summary) = batch.read_response(response, settings, now);
        summary.add(batch_summary);
        for entry in entries {
            rows.send(entry).await?;
        }
    }
    rows.flush().await?;
    if summary.answered > 0
        && summary.with_count + summary.rejected == 0
        && !settings.zeroes_empty_quantities
    {
        return Err(PullError::NoCounts {
            answered: summary.answered,
        });
    }
    Ok(summary)
}

/// Result of one pull with a deadline.
#[derive(Debug, Default)]
pub struct PartialPull {
    /// Rows and rejects of the batches that got a response.
    pub entries: Vec<DeliveryEntry>,
    /// Counts of those batches.
    summary: HandlerSummary,
    /// Error of the first batch that failed. The stock of its SKUs stays unknown.
    pub first_error: Option<OldHandlerError>,
}

/// Requests the SKUs of one request of the Market while the Market waits. Nothing is retried.
///
/// The result is a [`DeliveryScope::Delta`](stock_import::DeliveryScope::Delta), so a failed batch
/// does not affect the others.
pub async fn pull_once(
    client: &OldHandlerClient,
    skus: &[Sku],
    settings: &ReadSettings,
    now: DateTime<Utc>,
    deadline: Duration,
) -> PartialPull {
    let deadline_at = Instant::now() + deadline;
    let requests: Vec<_> = sku_batches(client, skus)
        .into_iter()
        .map(|batch| {
            async move {
                let remaining = deadline_at.saturating_duration_since(Instant::now());
                let remaining = remaining.min(client.handler().response_timeout);
                (batch, client.request_stocks(batch.skus, remaining).await)
            }
            .boxed()
        })
        .collect();
    let mut responses =
        stream::iter(requests).buffer_unordered(client.handler().parallel_requests.max(1));
    let mut result = PartialPull::default();
    while let Some((batch, response)) = responses.next().await {
        match response {
            Ok(response) => {
                let (entries, batch_summary) = batch.read_response(response, settings, now);
                result.entries.extend(entries);
                result.summary.add(batch_summary);
            }
            Err(error) => {
                result.first_error.get_or_insert(error);
            }
        }
    }
    result
}

/// SKUs of one request.
#[derive(Clone, Copy)]
struct SkuBatch<'a> {
    /// Number of SKUs in earlier batches.
    offset: usize,
    skus: &'a [Sku],
}

fn sku_batches<'a>(client: &OldHandlerClient, skus: &'a [Sku]) -> Vec<SkuBatch<'a>> {
    let size = client.handler().skus_per_request();
    let offsets = (0..).step_by(size);
    skus.chunks(size)
        .zip(offsets)
        .map(|(skus, offset)| SkuBatch { offset, skus })
        .collect()
}

async fn request_with_retry(
    client: &OldHandlerClient,
    skus: &[Sku],
) -> Result<OldHandlerResponse, OldHandlerError> {
    let deadline = client.handler().response_timeout;
    match client.request_stocks(skus, deadline).await {
        Err(error) if error.is_temporary() => {
            sleep(RETRY_DELAY).await;
            client.request_stocks(skus, deadline).await
        }
        result => result,
    }
}

/// Settings for reading the items of one batch.
struct ItemReadSettings<'a> {
    /// Settings for counts that are strings.
    for_texts: &'a ReadSettings,
    /// Decimal marks that the strings of the batch prove.
    style: NumberStyle,
    /// The same settings for JSON numbers, whose decimal mark is the point.
    for_numbers: ReadSettings,
    /// Latest accepted date; later dates are ignored.
    latest_date: DateTime<Utc>,
}

impl SkuBatch<'_> {
    fn read_response(
        self,
        response: OldHandlerResponse,
        settings: &ReadSettings,
        now: DateTime<Utc>,
    ) -> (Vec<DeliveryEntry>, HandlerSummary) {
        let mut summary = HandlerSummary {
            requested: self.skus.len(),
            ..HandlerSummary::default()
        };
        let (response, suspicious) = self.repair_skus(response, settings);
        let OldHandlerResponse {
            items,
            invalid_items,
            missing_count,
            unrequested_items: _,
            unrequested_count,
        } = response;
        (summary.missing, summary.unrequested) = (missing_count, unrequested_count);
        let mut style = NumberStyle::default();
        let latest_date = now + MAX_CLOCK_SKEW;
        for (
            _,
            OldHandlerItem {
                count, updated_at, ..
            },
        ) in &items
        {
            if let StatedCount::Text(text) = count {
                style.learn(text);
            }
            let is_in_future = updated_at.is_some_and(|at| at.to_utc() > latest_date);
            summary.future_dated += usize::from(is_in_future);
        }
        let for_numbers = ReadSettings {
            decimal: Some(DecimalMark::Point),
            ..settings.clone()
        };
        let item_settings = ItemReadSettings {
            for_texts: settings,
            style,
            for_numbers,
            latest_date,
        };
        let items = items
            .into_iter()
            .map(|(position, item)| self.read_item(position, item, &item_settings));
        let invalid_items = invalid_items
            .into_iter()
            .map(|(position, item)| self.rejected_entry(position, item));
        let entries: Vec<DeliveryEntry> = items.chain(invalid_items).chain(suspicious).collect();
        for entry in &entries {
            match entry {
                DeliveryEntry::Row(row) => {
                    summary.answered += 1;
                    summary.with_count += usize::from(row.quantity.is_some());
                }
                DeliveryEntry::Rejected(_) | DeliveryEntry::Suspicious(_) => summary.rejected += 1,
                DeliveryEntry::Article { .. } | DeliveryEntry::PartBoundary => {}
            }
        }
        (entries, summary)
    }

    /// Matches items for unrequested SKUs with the requested SKUs that the response spells in
    /// another way. An item that may be any of the missing SKUs is suspicious, because those are
    /// then not certainly absent.
    fn repair_skus(
        self,
        mut response: OldHandlerResponse,
        settings: &ReadSettings,
    ) -> (OldHandlerResponse, Vec<DeliveryEntry>) {
        let mut suspicious = Vec::new();
        if response.missing_count == 0 || response.unrequested_items.is_empty() {
            return (response, suspicious);
        }
        let positions: HashMap<&str, usize> = self.skus.iter().map(Sku::as_str).zip(0..).collect();
        let invalid_positions = response
            .invalid_items
            .iter()
            .filter_map(|(position, _)| *position);
        let mut answered: HashSet<usize> = response
            .items
            .iter()
            .map(|(position, _)| *position)
            .chain(invalid_positions)
            .collect();
        for item in std::mem::take(&mut response.unrequested_items) {
            match settings.parse_sku(&item.sku) {
                Ok(sku) => {
                    if let Some(position) = positions.get(sku.as_str())
                        && answered.insert(*position)
                    {
                        response.items.push((*position, item));
                        response.missing_count -= 1;
                        response.unrequested_count -= 1;
                    }
                }
                Err(problem @ RowProblem::Suspicious(_)) => {
                    suspicious.push(problem.into_entry(0, &item.sku, None));
                }
                Err(RowProblem::Rejected(_)) => {}
            }
        }
        if response.missing_count == 0 {
            suspicious.clear();
        }
        (response, suspicious)
    }

    fn read_item(
        self,
        position: usize,
        item: OldHandlerItem,
        settings: &ItemReadSettings<'_>,
    ) -> DeliveryEntry {
        let OldHandlerItem {
            sku,
            count,
            updated_at,
        } = item;
        let sku = self
            .skus
            .get(position)
            .map_or(sku, |requested| requested.as_str().to_owned());
        let line = self.line(position);
        let quantity = match count {
            StatedCount::Missing => settings.for_texts.parse_quantity(""),
            StatedCount::Number(text) => settings.for_numbers.parse_quantity(&text),
            StatedCount::Text(text) => settings
                .for_texts
                .parse_column_quantity(&text, settings.style),
        };
        match quantity {
            Ok(quantity) => {
                let key = ProductKey::Sku(sku);
                let stated_at = updated_at.filter(|at| at.to_utc() <= settings.latest_date);
                DeliveryEntry::Row(Row {
                    line,
                    key,
                    warehouse: None,
                    quantity,
                    reserve: None,
                    stated_at,
                })
            }
            Err(rule) => {
                let problem = RowProblem::from(rule).of_field(&format!("sku '{sku}'"));
                problem.into_entry(line, &sku, Some(sku.clone()))
            }
        }
    }

    fn rejected_entry(self, position: Option<usize>, item: InvalidHandlerItem) -> DeliveryEntry {
        // An item without a SKU is identified by its number in the response.
        let line = self.line(position.unwrap_or(item.number.saturating_sub(1)));
        let sku = position.and_then(|position| self.skus.get(position));
        let reason = match sku {
            Some(sku) => format!("sku '{}': {}", sku.as_str(), item.reason),
            None => item.reason,
        };
        let mut rejected = RejectedRow::new(line, &item.text, reason);
        rejected.sku = sku.map(ToString::to_string);
        DeliveryEntry::Rejected(rejected)
    }

    fn line(self, position: usize) -> u64 {
        u64::try_from(self.offset + position)
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }
}
