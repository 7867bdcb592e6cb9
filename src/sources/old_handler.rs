//! A shop's own old handler, asked for every SKU it is known to have.
//!
//! In parts, because it was written for the Market's questions of at most a thousand SKUs, and
//! some ask their database with a limit of 500 and answer 0 for all beyond.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::{Instant, sleep};

use super::quantity::{DecimalMark, NumberStyle};
use super::row::{
    DeliveryCancelled, DeliveryEntry, EntrySender, ProductKey, ReadSettings, RejectedRow, Row,
    RowProblem,
};
use crate::push_api::client::{OldHandlerClient, OldHandlerError};
use crate::push_api::wire::parse_lenient::{
    InvalidHandlerItem, OldHandlerItem, OldHandlerResponse, StatedCount,
};
use crate::stock::Sku;

/// How long after a failure a part is asked for once more.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// How far ahead of our clock a date may be before it is passed over.
const MAX_CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);

/// What became of a pull.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HandlerSummary {
    /// SKUs that were asked for.
    pub requested: usize,
    /// SKUs that were answered with an item that could be read.
    pub answered: usize,
    /// SKUs that were left out of the answers: of them nothing is said.
    pub missing: usize,
    /// Items that were set aside.
    pub rejected: usize,
    /// Items about SKUs that were not asked for.
    pub unrequested: usize,
    /// Items that state a count.
    pub with_count: usize,
    /// Items whose date is ahead of our clock. They are taken as of now.
    pub future_dated: usize,
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

/// Why a pull is not whole.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// A part was not answered, and not when it was asked for once more.
    #[error("the handler did not answer for skus {first} to {last}")]
    Batch {
        /// The number of its first SKU, from 1.
        first: usize,
        /// The number of its last one.
        last: usize,
        /// What happened the last time.
        #[source]
        source: OldHandlerError,
    },
    /// Every SKU is answered without a count.
    #[error(
        "the handler answered {answered} skus and states no count for any of them: skus[].items[] \
         must have the member count"
    )]
    NoCounts {
        /// How many it answered.
        answered: usize,
    },
    /// Nobody wants the rest.
    #[error(transparent)]
    Cancelled(#[from] DeliveryCancelled),
}

/// Asks for all these SKUs, each of which should stand there once, and puts a row for each that
/// is answered. The row's number is that of the SKU among those asked for.
///
/// A part that fails is asked for once more after a short pause; if it fails again the whole
/// pull does. Rows of other parts have then been put already: the stage drops them with the
/// delivery, so that half an answer is never taken for a whole one.
///
/// Only SKUs that were asked for are taken. One that a spreadsheet or a float has spoilt on its way
/// through the handler is read if that is certain, else suspicious.
///
/// # Errors
/// A part was not answered, no SKU has a count, or nobody wants the rest.
pub async fn pull(
    client: &OldHandlerClient,
    skus: &[Sku],
    settings: &ReadSettings,
    now: DateTime<Utc>,
    rows: &mut EntrySender,
) -> Result<HandlerSummary, PullError> {
    let requests: Vec<_> = sku_batches(client, skus)
        .into_iter()
        .map(|batch| async move { (batch, ask_with_retry(client, batch.skus).await) }.boxed())
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

/// What was learned within a deadline.
#[derive(Debug, Default)]
pub struct PartialPull {
    /// Rows and faults, of the parts that were answered.
    pub entries: Vec<DeliveryEntry>,
    /// The same in figures, and how many SKUs those parts had.
    pub summary: HandlerSummary,
    /// Why a part was not answered, of the first that was not. Of its SKUs nothing is known.
    pub first_error: Option<OldHandlerError>,
}

/// Asks for the SKUs of one question of the Market, while it waits. Nothing is asked twice.
///
/// What is learned is a [`Scope::Delta`](super::Scope::Delta), so a part that fails spoils no
/// other.
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

/// SKUs that are asked for together.
#[derive(Clone, Copy)]
struct SkuBatch<'a> {
    /// How many come before them.
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

async fn ask_with_retry(
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

/// How the items of a part are read.
struct ItemReadSettings<'a> {
    /// The settings, for texts.
    for_texts: &'a ReadSettings,
    /// What the texts of the part prove of their marks.
    style: NumberStyle,
    /// The same settings for number literals, whose mark is the point.
    for_numbers: ReadSettings,
    /// A later date is passed over.
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
            invalid_items: spoiled,
            missing_count: left_out,
            unrequested_items: _,
            unrequested_count: strangers,
        } = response;
        (summary.missing, summary.unrequested) = (left_out, strangers);
        let mut style = NumberStyle::default();
        let latest_date = now + MAX_CLOCK_SKEW;
        for (
            _,
            OldHandlerItem {
                count: said,
                updated_at: at,
                ..
            },
        ) in &items
        {
            if let StatedCount::Text(text) = said {
                style.learn(text);
            }
            summary.future_dated += usize::from(at.is_some_and(|at| at.to_utc() > latest_date));
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
        let spoiled = spoiled
            .into_iter()
            .map(|(position, item)| self.rejected_entry(position, item));
        let entries: Vec<DeliveryEntry> = items.chain(spoiled).chain(suspicious).collect();
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

    /// Finds the SKUs that were asked for among those that the answer spells in another way. One
    /// that may be any of those left out is suspicious: they are not certainly absent.
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
        let spoiled = response
            .invalid_items
            .iter()
            .filter_map(|(position, _)| *position);
        let mut answered: HashSet<usize> = response
            .items
            .iter()
            .map(|(position, _)| *position)
            .chain(spoiled)
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
            count: said,
            updated_at: at,
        } = item;
        let sku = self
            .skus
            .get(position)
            .map_or(sku, |requested| requested.as_str().to_owned());
        let line = self.line(position);
        let quantity = match said {
            StatedCount::Missing => settings.for_texts.parse_quantity(""),
            StatedCount::Number(text) => settings.for_numbers.parse_quantity(&text),
            StatedCount::Text(text) => settings
                .for_texts
                .parse_column_quantity(&text, settings.style),
        };
        match quantity {
            Ok(quantity) => {
                let key = ProductKey::Sku(sku);
                let at = at.filter(|at| at.to_utc() <= settings.latest_date);
                DeliveryEntry::Row(Row {
                    line,
                    key,
                    warehouse: None,
                    quantity,
                    reserve: None,
                    stated_at: at,
                })
            }
            Err(rule) => {
                let problem = RowProblem::from(rule).of_field(&format!("sku '{sku}'"));
                problem.into_entry(line, &sku, Some(sku.clone()))
            }
        }
    }

    fn rejected_entry(self, position: Option<usize>, item: InvalidHandlerItem) -> DeliveryEntry {
        // An item that names no SKU is told by where it stands in its answer.
        let line = self.line(position.unwrap_or(item.number.saturating_sub(1)));
        let sku = position.and_then(|position| self.skus.get(position));
        let reason = match sku {
            Some(sku) => format!("sku '{}': {}", sku.as_str(), item.reason),
            None => item.reason,
        };
        let mut fault = RejectedRow::new(line, &item.text, reason);
        fault.sku = sku.map(ToString::to_string);
        DeliveryEntry::Rejected(fault)
    }

    fn line(self, position: usize) -> u64 {
        u64::try_from(self.offset + position)
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::response::{IntoResponse as _, Response};
    use serde_json::{Value, json};
    use tokio::sync::mpsc;

    use super::*;
    use crate::http::secret::Secret;
    use crate::http::test_server::{TestServer, plain_client, serve};
    use crate::push_api::client::OldHandlerConfig;

    fn skus(n: usize) -> Vec<Sku> {
        (1..=n)
            .map(|n| Sku::parse(&format!("S-{n}")).unwrap())
            .collect()
    }

    type HandlerResponder = Arc<dyn Fn(usize, Vec<String>) -> Response + Send + Sync>;

    /// A handler that is told how often it was asked before and for what.
    async fn scripted_handler(respond: HandlerResponder) -> (TestServer, Arc<Mutex<Vec<usize>>>) {
        let batch_sizes: Arc<Mutex<Vec<usize>>> = Arc::default();
        let recorded = Arc::clone(&batch_sizes);
        let router = Router::new().fallback(async move |body: String| {
            let request: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(request["warehouseId"], 7);
            let skus: Vec<String> = serde_json::from_value(request["skus"].clone()).unwrap();
            let earlier = {
                let mut sizes = recorded.lock().unwrap();
                sizes.push(skus.len());
                sizes.len() - 1
            };
            respond(earlier, skus)
        });
        (serve(router).await, batch_sizes)
    }

    fn now() -> DateTime<Utc> {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn client(server: &TestServer, max_skus: usize) -> OldHandlerClient {
        let handler = OldHandlerConfig::new(&server.url, Secret::new("token"), 7);
        OldHandlerClient::new(
            plain_client(),
            OldHandlerConfig {
                max_skus,
                ..handler
            },
        )
        .unwrap()
    }

    fn items_response(counts: impl Iterator<Item = (String, Value)>) -> Response {
        let items: Vec<_> = counts
            .map(|(sku, count)| {
                let stock = json!({ "count": count, "type": "FIT" });
                json!({ "sku": sku, "warehouseId": 7, "items": [stock] })
            })
            .collect();
        axum::Json(json!({ "skus": items })).into_response()
    }

    /// The handler whose database is asked with a limit: beyond it, everything is 0.
    fn handler_with_limit(limit: usize) -> HandlerResponder {
        Arc::new(move |_, skus| {
            let count = |position| if position < limit { json!(5) } else { json!(0) };
            items_response(
                skus.into_iter()
                    .enumerate()
                    .map(|(position, sku)| (sku, count(position))),
            )
        })
    }

    async fn collect(mut receiver: mpsc::Receiver<Vec<DeliveryEntry>>) -> Vec<DeliveryEntry> {
        let mut all = Vec::new();
        while let Some(batch) = receiver.recv().await {
            all.extend(batch);
        }
        all
    }

    async fn pull_with_entries(
        client: &OldHandlerClient,
        skus: &[Sku],
        settings: &ReadSettings,
    ) -> (Result<HandlerSummary, PullError>, Vec<DeliveryEntry>) {
        let (mut rows, receiver) = EntrySender::channel();
        let pulling = async move { pull(client, skus, settings, now(), &mut rows).await };
        futures_util::future::join(pulling, collect(receiver)).await
    }

    fn describe(entry: &DeliveryEntry) -> (u64, String, String) {
        match entry {
            DeliveryEntry::Row(Row {
                line,
                key: ProductKey::Sku(sku),
                quantity,
                ..
            }) => {
                let quantity = quantity.map_or("-".to_owned(), |quantity| quantity.to_string());
                (*line, sku.clone(), quantity)
            }
            DeliveryEntry::Rejected(fault) | DeliveryEntry::Suspicious(fault) => {
                (fault.line, fault.text.clone(), fault.reason.clone())
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn parts_find_out_what_a_handler_with_a_limit_would_deny() {
        let (server, batch_sizes) = scripted_handler(handler_with_limit(500)).await;
        let skus = skus(1_201);
        let (summary, entries) =
            pull_with_entries(&client(&server, 500), &skus, &ReadSettings::default()).await;
        assert_eq!(
            summary.unwrap(),
            HandlerSummary {
                requested: 1_201,
                answered: 1_201,
                with_count: 1_201,
                ..HandlerSummary::default()
            }
        );
        let mut rows: Vec<_> = entries.iter().map(describe).collect();
        rows.sort();
        assert_eq!(rows.len(), 1_201);
        assert!(rows.iter().zip(1..).all(|((line, sku, quantity), n)| {
            (*line, sku, quantity.as_str()) == (n, &format!("S-{n}"), "5")
        }));
        let mut sizes = batch_sizes.lock().unwrap().clone();
        sizes.sort_unstable();
        assert_eq!(sizes, [201, 500, 500]);
    }

    #[tokio::test]
    async fn of_what_is_left_out_nothing_is_said_and_a_bad_item_spoils_no_other() {
        let (server, _) = scripted_handler(Arc::new(|_, skus| {
            let counts = [
                json!("7,00"),
                json!("много"),
                json!(-2),
                json!(1.5),
                json!(null),
            ];
            items_response(
                skus.into_iter()
                    .zip(counts)
                    .chain([("X".to_owned(), json!(1))]),
            )
        }))
        .await;
        let (summary, entries) =
            pull_with_entries(&client(&server, 500), &skus(6), &ReadSettings::default()).await;
        assert_eq!(
            summary.unwrap(),
            HandlerSummary {
                requested: 6,
                answered: 2,
                missing: 1,
                rejected: 3,
                unrequested: 1,
                with_count: 1,
                future_dated: 0
            }
        );
        let described: Vec<_> = entries.iter().map(describe).collect();
        let described: Vec<_> = described
            .iter()
            .map(|(line, text, said)| (*line, text.as_str(), said.as_str()))
            .collect();
        let reason = "sku 'S-2': quantity is 'много', it must be a number, or a word that the \
                     setting words knows";
        assert_eq!(
            described,
            [
                (1, "S-1", "7"),
                (2, "S-2", reason),
                (
                    3,
                    "S-3",
                    "sku 'S-3': quantity is '-2', it must not be negative, or set negative = \"zero\""
                ),
                (
                    4,
                    "S-4",
                    "sku 'S-4': quantity is '1.5', it must be whole, or set fraction = \"floor\""
                ),
                (5, "S-5", "-"),
            ]
        );
        let lenient = ReadSettings {
            floors_fractions: true,
            zeroes_negatives: true,
            words: vec![(
                "много".to_owned(),
                super::super::Quantity::from_pieces(10).unwrap(),
            )],
            ..ReadSettings::default()
        };
        let (summary, entries) = pull_with_entries(&client(&server, 500), &skus(6), &lenient).await;
        assert_eq!(
            (summary.unwrap().rejected, describe(&entries[1]).2.as_str()),
            (0, "10")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_fails_once_is_asked_for_again_after_a_pause() {
        let (server, batch_sizes) = scripted_handler(Arc::new(|before, skus| match before {
            0 => (StatusCode::BAD_GATEWAY, "later").into_response(),
            _ => items_response(skus.into_iter().map(|sku| (sku, json!(3)))),
        }))
        .await;
        let before = Instant::now();
        let (summary, entries) =
            pull_with_entries(&client(&server, 2), &skus(3), &ReadSettings::default()).await;
        assert_eq!((summary.unwrap().answered, entries.len()), (3, 3));
        assert_eq!(batch_sizes.lock().unwrap().len(), 3);
        assert_eq!(before.elapsed().as_secs(), RETRY_DELAY.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_fails_twice_fails_the_whole_and_a_refusal_does_at_once() {
        for (status, times) in [(StatusCode::BAD_GATEWAY, 3), (StatusCode::FORBIDDEN, 2)] {
            let respond: HandlerResponder = Arc::new(move |_, skus| match skus.len() {
                1 => status.into_response(),
                _ => items_response(skus.into_iter().map(|sku| (sku, json!(3)))),
            });
            let (server, batch_sizes) = scripted_handler(respond).await;
            let (summary, _) =
                pull_with_entries(&client(&server, 2), &skus(3), &ReadSettings::default()).await;
            let error = summary.unwrap_err();
            assert_eq!(
                error.to_string(),
                "the handler did not answer for skus 3 to 3"
            );
            let PullError::Batch {
                source: OldHandlerError::Status { status: actual, .. },
                ..
            } = error
            else {
                panic!("{error:?}")
            };
            assert_eq!(
                (actual, batch_sizes.lock().unwrap().len()),
                (status.as_u16(), times)
            );
        }
    }

    #[tokio::test]
    async fn a_stage_that_gives_up_ends_the_pull() {
        let (server, _) = scripted_handler(handler_with_limit(500)).await;
        let (mut rows, receiver) = EntrySender::channel();
        drop(receiver);
        let result = pull(
            &client(&server, 500),
            &skus(2),
            &ReadSettings::default(),
            now(),
            &mut rows,
        )
        .await;
        assert!(
            matches!(result, Err(PullError::Cancelled(DeliveryCancelled))),
            "{result:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_is_asked_in_parts_within_its_deadline_and_never_twice() {
        let (server, batch_sizes) = scripted_handler(Arc::new(|_, skus| {
            if skus[0] == "S-3" {
                return StatusCode::BAD_GATEWAY.into_response();
            }
            items_response(skus.into_iter().map(|sku| (sku, json!(3))))
        }))
        .await;
        let second = Duration::from_secs(1);
        let client = client(&server, 2);
        let result = pull_once(&client, &skus(5), &ReadSettings::default(), now(), second).await;
        assert_eq!((result.summary.requested, result.entries.len()), (3, 3));
        assert!(matches!(
            result.first_error,
            Some(OldHandlerError::Status { status: 502, .. })
        ));
        assert_eq!(batch_sizes.lock().unwrap().len(), 3);

        let silent = serve(Router::new().fallback(async || std::future::pending::<()>().await));
        let silent = silent.await;
        let handler = OldHandlerConfig::new(&silent.url, Secret::new("token"), 7);
        let handler = OldHandlerConfig {
            max_skus: 2,
            parallel_requests: 1,
            ..handler
        };
        let client = OldHandlerClient::new(plain_client(), handler).unwrap();
        let before = Instant::now();
        let result = pull_once(&client, &skus(5), &ReadSettings::default(), now(), second).await;
        // All parts share the one deadline, though one waits for the other.
        assert_eq!(before.elapsed().as_secs(), 1);
        assert!(
            result.entries.is_empty()
                && matches!(result.first_error, Some(OldHandlerError::TimedOut { .. }))
        );
    }

    /// What a handler says of one SKU that states these counts.
    async fn described_counts(counts: &[Value], settings: &ReadSettings) -> Vec<String> {
        let (requested, counts) = (skus(counts.len()), counts.to_vec());
        let respond: HandlerResponder =
            Arc::new(move |_, skus| items_response(skus.into_iter().zip(counts.clone())));
        let (server, _) = scripted_handler(respond).await;
        let (_, entries) = pull_with_entries(&client(&server, 500), &requested, settings).await;
        entries
            .iter()
            .map(|entry| match entry {
                DeliveryEntry::Suspicious(fault) => {
                    format!("suspicious {}", fault.sku.as_deref().unwrap_or("nobody's"))
                }
                DeliveryEntry::Rejected(fault) => {
                    format!("rejected {}", fault.sku.as_deref().unwrap_or("nobody's"))
                }
                entry => describe(entry).2,
            })
            .collect()
    }

    #[tokio::test]
    async fn a_text_with_two_readings_is_suspicious_and_a_literal_is_not() {
        let (ambiguous, literal) = (json!("2,000"), json!(2.000));
        let alone = described_counts(
            &[ambiguous.clone(), literal.clone()],
            &ReadSettings::default(),
        )
        .await;
        assert_eq!(alone, ["suspicious S-1", "2"]);
        // A neighbour proves the mark of the texts, and the setting decides for texts only.
        let proven = described_counts(
            &[ambiguous.clone(), json!("0,500")],
            &ReadSettings::default(),
        )
        .await;
        assert_eq!(proven, ["2", "rejected S-2"]);
        let by_comma = ReadSettings {
            decimal: Some(DecimalMark::Comma),
            ..ReadSettings::default()
        };
        assert_eq!(
            described_counts(&[ambiguous, literal], &by_comma).await,
            ["2", "2"]
        );
    }

    #[tokio::test]
    async fn fractions_of_any_length_are_cut_where_that_is_set() {
        let floors = ReadSettings {
            floors_fractions: true,
            ..ReadSettings::default()
        };
        let counts = [
            json!(7.123_456_789_01),
            json!("7.1234567890"),
            json!(0.3e-12),
            json!(1.5E1),
        ];
        let cut = described_counts(&counts, &floors).await;
        assert_eq!(cut, ["7.123", "7.123", "0", "15"]);
        let kept = described_counts(&counts, &ReadSettings::default()).await;
        assert_eq!(kept[..2], ["rejected S-1", "rejected S-2"]);
    }

    #[tokio::test]
    async fn an_answer_without_any_count_is_refused() {
        let nulls = |_: usize, skus: Vec<String>| {
            items_response(skus.into_iter().map(|it| (it, json!(null))))
        };
        let (server, _) = scripted_handler(Arc::new(nulls)).await;
        let (summary, _) =
            pull_with_entries(&client(&server, 500), &skus(2), &ReadSettings::default()).await;
        let error = summary.unwrap_err().to_string();
        assert!(
            error.contains("2 skus") && error.contains("count"),
            "{error}"
        );
        let zeroes = ReadSettings {
            zeroes_empty_quantities: true,
            ..ReadSettings::default()
        };
        let (summary, entries) = pull_with_entries(&client(&server, 500), &skus(2), &zeroes).await;
        assert_eq!(
            (
                summary.unwrap().with_count,
                describe(&entries[0]).2.as_str()
            ),
            (2, "0")
        );
    }

    #[tokio::test]
    async fn dates_ahead_of_our_clock_are_passed_over() {
        let (server, _) = scripted_handler(Arc::new(|_, skus| {
            let dates = [
                "2026-11-22T13:00:00Z",
                "2026-11-22T10:04:59Z",
                "2026-11-22T09:00:00Z",
            ];
            let items = skus.iter().zip(dates).map(|(sku, at)| {
                json!({ "sku": sku, "items": [{ "count": 3, "type": "FIT", "updatedAt": at }] })
            });
            axum::Json(json!({ "skus": items.collect::<Vec<_>>() })).into_response()
        }))
        .await;
        let (summary, entries) =
            pull_with_entries(&client(&server, 500), &skus(3), &ReadSettings::default()).await;
        let summary = summary.unwrap();
        assert_eq!(
            (summary.with_count, summary.future_dated, summary.rejected),
            (3, 1, 0)
        );
        let dates: Vec<_> = entries
            .iter()
            .map(|entry| match entry {
                DeliveryEntry::Row(row) => row.stated_at.map(|at| at.to_string()),
                other => panic!("{other:?}"),
            })
            .collect();
        let at = |text: &str| Some(text.to_owned());
        assert_eq!(
            dates,
            [None, at("2026-11-22T10:04:59Z"), at("2026-11-22T09:00:00Z")]
        );
    }

    #[tokio::test]
    async fn a_spoilt_sku_is_read_if_certain_else_suspicious() {
        let (server, _) = scripted_handler(Arc::new(|_, _| {
            let skus = ["=\"S-1\"", "5.57722E+05", "X-9"];
            items_response(skus.map(|sku| (sku.to_owned(), json!(3))).into_iter())
        }))
        .await;
        let requested = [Sku::parse("557722").unwrap(), Sku::parse("S-1").unwrap()];
        let client = client(&server, 500);
        let (summary, entries) =
            pull_with_entries(&client, &requested, &ReadSettings::default()).await;
        let summary = summary.unwrap();
        assert_eq!(
            (summary.missing, summary.unrequested, summary.rejected),
            (1, 2, 1)
        );
        assert_eq!(describe(&entries[0]), (2, "S-1".to_owned(), "3".to_owned()));
        // Which SKU the other one is cannot be known, so none of those left out is absent.
        let DeliveryEntry::Suspicious(fault) = &entries[1] else {
            panic!("{entries:?}")
        };
        assert!(
            fault.sku.is_none() && fault.reason.contains("5.57722E+05"),
            "{fault:?}"
        );
        // Where every SKU is answered, nothing depends on the others.
        let (summary, _) =
            pull_with_entries(&client, &requested[1..], &ReadSettings::default()).await;
        assert_eq!(summary.unwrap().rejected, 0);
    }

    #[tokio::test]
    async fn nothing_to_ask_is_asked_of_nobody() {
        let (server, batch_sizes) = scripted_handler(handler_with_limit(500)).await;
        let (summary, entries) =
            pull_with_entries(&client(&server, 500), &[], &ReadSettings::default()).await;
        assert_eq!(
            (summary.unwrap(), entries.len()),
            (HandlerSummary::default(), 0)
        );
        assert!(batch_sizes.lock().unwrap().is_empty());
    }
}
