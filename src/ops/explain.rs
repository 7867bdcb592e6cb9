//! Endpoint `/explain`: everything that is known about one SKU, in one response.
//!
//! It collects book, ledger, sources, quarantine, read-back and events, and summarises them in one
//! sentence.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Ops, OpsShop, OpsState, starting_error};
use crate::history::{EventKind, SentBatch, SkuEvent};
use crate::http::ErrorResponse;
use crate::ingest::Origin;
use crate::lifecycle::run_blocking;
use crate::migrator::QuarantinedSku;
use crate::migrator::readback::MatchClass;
use crate::stock::{BookEntry, ShopId, Sku};

/// Most events in the response.
const MAX_EVENTS: usize = 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    sku: String,
    shop: Option<String>,
}

pub(super) async fn explain(
    State(ops): State<Ops>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Response {
    let Query(query) = match query {
        Ok(query) => query,
        Err(error) => {
            let (status, message) = (StatusCode::BAD_REQUEST, error.body_text());
            return ErrorResponse::new(status, "BAD_REQUEST", message).into_response();
        }
    };
    let sku = match Sku::parse(&query.sku) {
        Ok(sku) => sku,
        Err(error) => {
            let message = format!("'{}': {error}", query.sku);
            return ErrorResponse::new(StatusCode::BAD_REQUEST, "NO_SKU", message).into_response();
        }
    };
    let Some(ops_state) = ops.state.get() else {
        return starting_error().into_response();
    };
    let shop_ids: Vec<ShopId> = match ops_state.select_shops(query.shop.as_deref()) {
        Ok(shops) => shops.into_iter().map(|(id, _)| id).collect(),
        Err(error) => return error.into_response(),
    };
    let mut source_steps = Vec::new();
    for shop in shop_ids {
        source_steps.push((shop, ops_state.source_steps(shop, &sku).await));
    }
    let state = Arc::clone(&ops.state);
    // The search visits all recent events, so it runs outside the threads that serve the Market.
    run_blocking(move || {
        let Some(ops_state) = state.get() else {
            return starting_error().into_response();
        };
        let explain = |(id, steps): (ShopId, Vec<String>)| SkuExplanation {
            sources: steps,
            ..ops_state.explain(id, &ops_state.shops[id.index()], &sku)
        };
        Json(source_steps.into_iter().map(explain).collect::<Vec<_>>()).into_response()
    })
    .await
}

/// Everything that is known about a SKU in one shop.
#[derive(Serialize)]
struct SkuExplanation<'a> {
    shop: &'a str,
    sku: &'a str,
    /// Summary in one sentence.
    summary: String,
    /// Stock in the book; `null` if the seller never stated it.
    book: Option<BookEntryDto>,
    /// Statements of the sources and the effect of the rules, step by step.
    sources: Vec<String>,
    asked: Vec<MarketRequestDto>,
    /// Acknowledged stock; `null` if the Market never accepted it.
    ledger: Option<LedgerEntryDto>,
    /// Stock on the Market; `null` if no read-back has covered it.
    market: Option<MarketStockDto>,
    quarantine: Option<QuarantinedSku>,
    events: Vec<HistoryEventDto>,
    /// Time from which the events are complete; `null` if they are complete since the start.
    events_since: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct BookEntryDto {
    count: u32,
    updated_at: DateTime<Utc>,
    /// Hour of the last statement.
    last_asserted_hour: Option<DateTime<Utc>>,
    /// Origin of the last statement.
    origin: Option<&'static str>,
}

#[derive(Serialize)]
struct MarketRequestDto {
    warehouse: u64,
    hour: DateTime<Utc>,
}

#[derive(Serialize)]
struct LedgerEntryDto {
    count: u32,
    updated_at: DateTime<Utc>,
    /// Time at which the acknowledged value was sent.
    sent_at: Option<DateTime<Utc>>,
    /// True if the value will be sent again.
    due_again: bool,
}

#[derive(Serialize)]
struct MarketStockDto {
    /// Pieces that can be ordered; `null` if the Market does not show the SKU.
    available: Option<u32>,
    looked_at: Option<DateTime<Utc>>,
    class: &'static str,
}

#[derive(Serialize)]
struct HistoryEventDto {
    at: DateTime<Utc>,
    what: &'static str,
    count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<SentRequestDto>,
}

/// Request to the Market that contained the SKU.
#[derive(Serialize)]
struct SentRequestDto {
    skus: usize,
    took_ms: u128,
    verdict: &'static str,
    answer: String,
    trace: Option<String>,
}

impl OpsState {
    /// Returns the statements of the sources about a SKU, or one line with the read error.
    async fn source_steps(&self, shop: ShopId, sku: &Sku) -> Vec<String> {
        let Some(pipeline) = self.source_manager.pipeline(shop) else {
            return Vec::new();
        };
        let steps = pipeline.explain(sku).await;
        steps.unwrap_or_else(|error| {
            vec![format!(
                "the statements of the sources cannot be read: {error}"
            )]
        })
    }

    fn explain<'a>(&self, id: ShopId, shop: &'a OpsShop, sku: &'a Sku) -> SkuExplanation<'a> {
        let entry = self.book.get(id, sku.as_str());
        let report = self.migrator.status(id);
        let has_sku = |row: &&QuarantinedSku| row.sku == sku.as_str();
        let quarantine = report.and_then(|r| r.quarantined.iter().find(has_sku).cloned());
        let events = entry.map(|entry| self.history.events(id, entry.id(), MAX_EVENTS));
        let mut explanation = SkuExplanation {
            shop: &shop.name,
            sku: sku.as_str(),
            summary: String::new(),
            book: entry.map(|entry| self.book_entry(id, entry)),
            sources: Vec::new(),
            asked: self.market_requests(id, sku, entry),
            ledger: entry.and_then(|entry| self.ledger_entry(id, entry)),
            market: entry.and_then(|entry| self.market_stock(id, entry)),
            quarantine,
            events: events
                .into_iter()
                .flatten()
                .map(HistoryEventDto::from)
                .collect(),
            events_since: self.history.complete_since(),
        };
        explanation.summary = explanation.summarize(shop, self.not_sending_reason.is_some());
        explanation
    }

    fn book_entry(&self, shop: ShopId, entry: BookEntry) -> BookEntryDto {
        let asserted = self.activity.last_stated(shop, entry.id());
        let level = entry.level();
        BookEntryDto {
            count: level.count.get(),
            updated_at: level.updated_at.to_utc(),
            last_asserted_hour: asserted.map(|asserted| asserted.hour.start().to_utc()),
            origin: asserted
                .and_then(|a| Origin::from_number(a.origin))
                .map(Origin::name),
        }
    }

    fn market_requests(
        &self,
        shop: ShopId,
        sku: &Sku,
        entry: Option<BookEntry>,
    ) -> Vec<MarketRequestDto> {
        let mut activity = entry
            .map(|entry| self.activity.get(shop, entry.id()))
            .unwrap_or_default();
        if entry.is_none() {
            self.activity
                .for_each_unknown(shop, &self.book, |unknown_sku, unknown_activity| {
                    if unknown_sku == sku {
                        activity = unknown_activity.clone();
                    }
                });
        }
        let requests = activity.requested.into_iter();
        requests
            .map(|(warehouse, hour)| MarketRequestDto {
                warehouse,
                hour: hour.start().to_utc(),
            })
            .collect()
    }

    fn ledger_entry(&self, shop: ShopId, entry: BookEntry) -> Option<LedgerEntryDto> {
        let acked = self.ledger.get(shop, entry.id());
        let level = acked.level()?;
        Some(LedgerEntryDto {
            count: level.count.get(),
            updated_at: level.updated_at.to_utc(),
            sent_at: acked.acked_at(),
            due_again: acked.needs_resend(),
        })
    }

    fn market_stock(&self, shop: ShopId, entry: BookEntry) -> Option<MarketStockDto> {
        let observed = self.observations.get(shop, entry.id());
        let class = observed.class()?;
        let available = (class != MatchClass::Unknown).then(|| observed.available());
        Some(MarketStockDto {
            available,
            looked_at: observed.at(),
            class: class.name(),
        })
    }
}

impl SkuExplanation<'_> {
    fn summarize(&self, shop: &OpsShop, is_held: bool) -> String {
        let Some(book) = &self.book else {
            return match self.asked.iter().map(|asked| asked.hour).max() {
                Some(hour) => format!(
                    "the seller never stated its stock, and the Market last requested it in the hour of {hour}"
                ),
                None => "unknown: neither the seller nor the Market has named this SKU".to_owned(),
            };
        };
        let sent = match &self.ledger {
            _ if self.quarantine.is_some() => "the Market rejects it".to_owned(),
            Some(ledger) if (ledger.count, ledger.updated_at) == (book.count, book.updated_at) => {
                "the Market has acknowledged it".to_owned()
            }
            Some(ledger) => format!("the Market has acknowledged only {}", ledger.count),
            None => "the Market has not acknowledged it".to_owned(),
        };
        let seen = match &self.market {
            Some(market) if market.class == MatchClass::Unknown.name() => {
                ", but does not show it".into()
            }
            Some(market) => {
                let available = market.available.unwrap_or_default();
                let sent_at = self.ledger.as_ref().and_then(|ledger| ledger.sent_at);
                // The time of a read-back is stored to the minute.
                let minute = TimeDelta::minutes(1);
                let times = market.looked_at.zip(sent_at);
                let is_before =
                    times.is_some_and(|(looked_at, sent_at)| looked_at + minute <= sent_at);
                let when = if is_before {
                    ", before this value was sent"
                } else {
                    ""
                };
                format!(", and showed {available} ({}{when})", market.class)
            }
            None => String::new(),
        };
        let mode = if is_held {
            "blocked because the store belongs to another installation"
        } else {
            shop.mode.name()
        };
        format!(
            "the seller has {} as of {}; {sent}{seen}; migrate is {mode}",
            book.count, book.updated_at
        )
    }
}

impl From<(SkuEvent, Option<SentBatch>)> for HistoryEventDto {
    fn from((event, batch): (SkuEvent, Option<SentBatch>)) -> Self {
        let origin_name = |number: u8| Origin::from_number(number).map(Origin::name);
        let (what, origin, class) = match event.kind {
            EventKind::Stated(origin) => ("stated", origin_name(origin), None),
            EventKind::Repeated(origin) => ("repeated", origin_name(origin), None),
            EventKind::Sent(_) => ("sent", None, None),
            EventKind::Quarantined => ("quarantined", None, None),
            EventKind::Released => ("released", None, None),
            EventKind::Readback(class) => (
                "seen",
                None,
                MatchClass::from_number(class).map(MatchClass::name),
            ),
        };
        let request = batch.map(|batch| SentRequestDto {
            skus: batch.sku_count,
            took_ms: batch.duration.as_millis(),
            verdict: batch.outcome,
            answer: batch.text,
            trace: batch.market_request_id,
        });
        Self {
            at: event.at(),
            what,
            count: event.count,
            origin,
            class,
            request,
        }
    }
}
