//! Endpoint `/explain`: everything that is known about one SKU, in one response.
//!
//! It collects book, ledger, sources, quarantine, read-back and events, and summarises them in one
//! sentence.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use chrono::{DateTime, Utc};
use lifecycle::run_blocking;
use serde::{Deserialize, Serialize, Serializer};
use stock::{BookEntry, ShopId, Sku};
use strict_http::ErrorResponse;

use super::sku_summary::{SendingMode, SkuSummary};
use super::{Ops, OpsState, Started, bad_request, parse_sku};
use crate::history::{EventKind, SentBatch, SkuEvent};
use crate::ingest::Origin;
use crate::migrator::readback::MatchClass;
use crate::migrator::{QuarantinedSku, ShopData};
use crate::sources::StockStep;

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
    Started(state): Started,
) -> Result<Json<Vec<SkuExplanation>>, ErrorResponse> {
    let Query(query) = query.map_err(|error| bad_request(error.body_text()))?;
    let sku = parse_sku(&query.sku)?;
    let mut explanations = Vec::new();
    for (shop, _) in state.select_shops(query.shop.as_deref())? {
        explanations.extend(ops.explain_sku(shop, &sku).await);
    }
    Ok(Json(explanations))
}

impl Ops {
    /// Collects everything that is known about a SKU; `None` while the service is starting.
    pub(crate) async fn explain_sku(&self, shop: ShopId, sku: &Sku) -> Option<SkuExplanation> {
        let state = Arc::clone(&self.started.get()?.state);
        let steps = state.source_steps(shop, sku).await;
        let sku = sku.clone();
        // The search visits all recent events, so it runs outside the threads that serve the Market.
        Some(run_blocking(move || state.explain(shop, &sku, steps)).await)
    }
}

/// Everything that is known about a SKU in one shop. For a client, summary and steps are texts.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct SkuExplanation<Summary = SkuSummary, Steps = StockSteps> {
    pub(crate) shop: String,
    pub(crate) sku: String,
    /// Summary in one sentence.
    pub(crate) summary: Summary,
    /// Stock in the book; `null` if the seller never stated it.
    pub(crate) book: Option<BookEntryDto>,
    /// Statements of the sources and the effect of the rules, step by step.
    pub(crate) sources: Steps,
    pub(crate) asked: Vec<MarketRequestDto>,
    /// Acknowledged stock; `null` if the Market never accepted it.
    pub(crate) ledger: Option<LedgerEntryDto>,
    /// Stock on the Market; `null` if no read-back has covered it.
    pub(crate) market: Option<MarketStockDto>,
    pub(crate) quarantine: Option<QuarantinedSku>,
    pub(crate) events: Vec<HistoryEventDto>,
    /// Time from which the events are complete; `null` if they are complete since the start.
    pub(crate) events_since: Option<DateTime<Utc>>,
}

/// Steps that explain a stock, or the reason why the statements of the sources cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct StockSteps(pub(crate) Result<Vec<StockStep>, String>);

/// Writes each step as one sentence, or one sentence with the read error.
impl Serialize for StockSteps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Ok(steps) => serializer.collect_seq(steps.iter().map(ToString::to_string)),
            Err(error) => serializer.collect_seq([format!(
                "the statements of the sources cannot be read: {error}"
            )]),
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct BookEntryDto {
    pub(crate) count: u32,
    pub(crate) updated_at: DateTime<Utc>,
    /// Hour of the last statement.
    pub(crate) last_asserted_hour: Option<DateTime<Utc>>,
    /// Origin of the last statement.
    pub(crate) origin: Option<Origin>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct MarketRequestDto {
    pub(crate) warehouse: u64,
    pub(crate) hour: DateTime<Utc>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct LedgerEntryDto {
    pub(crate) count: u32,
    pub(crate) updated_at: DateTime<Utc>,
    /// Time at which the acknowledged value was sent.
    pub(crate) sent_at: Option<DateTime<Utc>>,
    /// True if the value will be sent again.
    pub(crate) due_again: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct MarketStockDto {
    /// Pieces that can be ordered; `null` if the Market does not show the SKU.
    pub(crate) available: Option<u32>,
    pub(crate) looked_at: Option<DateTime<Utc>>,
    pub(crate) class: MatchClass,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct HistoryEventDto {
    pub(crate) at: DateTime<Utc>,
    pub(crate) what: SkuEventKind,
    pub(crate) count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<Origin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) class: Option<MatchClass>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<SentRequestDto>,
}

/// Kind of an event in the history of a SKU.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub(crate) enum SkuEventKind {
    /// The seller stated a new level.
    Stated,
    /// The seller repeated the known level.
    Repeated,
    /// A request to the Market contained the SKU.
    Sent,
    /// The Market rejected the SKU, and it entered quarantine.
    Quarantined,
    /// The SKU left quarantine.
    Released,
    /// A read-back showed the Market's count.
    Seen,
}

/// Request to the Market that contained the SKU.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct SentRequestDto {
    pub(crate) skus: usize,
    pub(crate) took_ms: u128,
    pub(crate) verdict: Cow<'static, str>,
    pub(crate) answer: String,
    pub(crate) trace: Option<String>,
}

impl OpsState {
    async fn source_steps(&self, shop: ShopId, sku: &Sku) -> StockSteps {
        StockSteps(match self.source_manager.pipeline(shop) {
            Some(pipeline) => pipeline.explain(sku).await.map_err(|it| it.to_string()),
            None => Ok(Vec::new()),
        })
    }

    fn explain(&self, id: ShopId, sku: &Sku, sources: StockSteps) -> SkuExplanation {
        let shop = &self.shops[id.index()];
        let ShopData {
            book,
            activity,
            history,
            ..
        } = &self.data;
        let entry = book.get(id, sku.as_str());
        let report = self.migrator.status(id).unwrap_or_default();
        let mut quarantined = report.quarantined.iter();
        let mut requests = entry.map(|entry| activity.get(id, entry.id()));
        if entry.is_none() {
            activity.for_each_unknown(id, |unknown_sku, unknown| {
                if unknown_sku == sku {
                    requests = Some(unknown.clone());
                }
            });
        }
        let requests = requests.unwrap_or_default().requested.into_iter();
        let events = entry.map(|entry| history.events(id, entry.id(), MAX_EVENTS));
        let events = events.into_iter().flatten();
        let mut explanation = SkuExplanation {
            shop: shop.name.clone(),
            sku: sku.to_string(),
            summary: SkuSummary::Unknown,
            book: entry.map(|entry| self.book_entry(id, entry)),
            sources,
            asked: requests
                .map(|(warehouse, hour)| MarketRequestDto {
                    warehouse,
                    hour: hour.start().to_utc(),
                })
                .collect(),
            ledger: entry.and_then(|entry| self.ledger_entry(id, entry)),
            market: entry.and_then(|entry| self.market_stock(id, entry)),
            quarantine: quarantined.find(|row| row.sku == sku.as_str()).cloned(),
            events: events.map(HistoryEventDto::from).collect(),
            events_since: history.complete_since(),
        };
        let sending = match self.not_sending_reason {
            Some(_) => SendingMode::ForeignStore,
            None => SendingMode::Mode(shop.mode),
        };
        let is_paused = report.paused_since.is_some();
        explanation.summary = SkuSummary::of(&explanation, sending, is_paused);
        explanation
    }

    fn book_entry(&self, shop: ShopId, entry: BookEntry) -> BookEntryDto {
        let stated = self.data.activity.last_stated(shop, entry.id());
        let level = entry.level();
        BookEntryDto {
            count: level.count.get(),
            updated_at: level.updated_at.to_utc(),
            last_asserted_hour: stated.map(|stated| stated.hour.start().to_utc()),
            origin: stated.and_then(|stated| Origin::from_number(stated.origin)),
        }
    }

    fn ledger_entry(&self, shop: ShopId, entry: BookEntry) -> Option<LedgerEntryDto> {
        let acked = self.data.ledger.get(shop, entry.id());
        let level = acked.level()?;
        Some(LedgerEntryDto {
            count: level.count.get(),
            updated_at: level.updated_at.to_utc(),
            sent_at: acked.acked_at(),
            due_again: acked.needs_resend(),
        })
    }

    fn market_stock(&self, shop: ShopId, entry: BookEntry) -> Option<MarketStockDto> {
        let observed = self.data.observations.get(shop, entry.id());
        let class = observed.class()?;
        let available = (class != MatchClass::Unknown).then(|| observed.available());
        Some(MarketStockDto {
            available,
            looked_at: observed.at(),
            class,
        })
    }
}

impl From<(SkuEvent, Option<SentBatch>)> for HistoryEventDto {
    fn from((event, batch): (SkuEvent, Option<SentBatch>)) -> Self {
        let (what, origin, class) = match event.kind {
            EventKind::Stated(origin) => (SkuEventKind::Stated, Origin::from_number(origin), None),
            EventKind::Repeated(origin) => {
                (SkuEventKind::Repeated, Origin::from_number(origin), None)
            }
            EventKind::Sent(_) => (SkuEventKind::Sent, None, None),
            EventKind::Quarantined => (SkuEventKind::Quarantined, None, None),
            EventKind::Released => (SkuEventKind::Released, None, None),
            EventKind::Readback(class) => {
                (SkuEventKind::Seen, None, MatchClass::from_number(class))
            }
        };
        let request = batch.map(|batch| SentRequestDto {
            skus: batch.sku_count,
            took_ms: batch.duration.as_millis(),
            verdict: batch.outcome.into(),
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
