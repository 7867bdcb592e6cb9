//! Why a SKU's number is what it is: everything that is known of it, in one place.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{House, Ops, Shop, starting};
use crate::history::{Batch, Event, What};
use crate::http::Refusal;
use crate::ingest::Origin;
use crate::lifecycle::run_blocking;
use crate::migrator::Aside;
use crate::migrator::reconcile::Class;
use crate::stock::{Entry, ShopId, Sku};

/// Events told of one SKU.
const MOST_EVENTS: usize = 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    sku: String,
    shop: Option<String>,
}

pub(super) async fn explain(
    State(ops): State<Ops>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let Query(asked) = match asked {
        Ok(asked) => asked,
        Err(error) => {
            let (status, message) = (StatusCode::BAD_REQUEST, error.body_text());
            return Refusal::new(status, "BAD_REQUEST", message).into_response();
        }
    };
    let sku = match Sku::parse(&asked.sku) {
        Ok(sku) => sku,
        Err(error) => {
            let message = format!("'{}': {error}", asked.sku);
            return Refusal::new(StatusCode::BAD_REQUEST, "NO_SKU", message).into_response();
        }
    };
    let Some(house) = ops.house.get() else {
        return starting().into_response();
    };
    let chosen: Vec<ShopId> = match house.choose(asked.shop.as_deref()) {
        Ok(chosen) => chosen.into_iter().map(|(id, _)| id).collect(),
        Err(refusal) => return refusal.into_response(),
    };
    let mut steps = Vec::new();
    for shop in chosen {
        steps.push((shop, house.steps(shop, &sku).await));
    }
    let house = Arc::clone(&ops.house);
    // Looks through all that happened lately: off the threads that answer the Market.
    run_blocking(move || {
        let Some(house) = house.get() else {
            return starting().into_response();
        };
        let explain = |(id, steps): (ShopId, Vec<String>)| Explanation {
            sources: steps,
            ..house.explain(id, &house.shops[id.index()], &sku)
        };
        Json(steps.into_iter().map(explain).collect::<Vec<_>>()).into_response()
    })
    .await
}

/// All that is known of a SKU in one shop.
#[derive(Serialize)]
struct Explanation<'a> {
    shop: &'a str,
    sku: &'a str,
    /// In a sentence.
    summary: String,
    /// `null` if the seller never spoke of it.
    book: Option<InBook>,
    /// What sources have stated of it, and what the rules make of that, step by step.
    sources: Vec<String>,
    asked: Vec<AskedFor>,
    /// `null` if the Market never took it.
    ledger: Option<InLedger>,
    /// `null` if a read-back never looked for it.
    market: Option<OnMarket>,
    quarantine: Option<Aside>,
    events: Vec<Told>,
    /// Since when the events are whole; `null` since the start.
    events_since: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct InBook {
    count: u32,
    updated_at: DateTime<Utc>,
    /// In which hour the seller last said so, and by which way.
    last_asserted_hour: Option<DateTime<Utc>>,
    origin: Option<&'static str>,
}

#[derive(Serialize)]
struct AskedFor {
    warehouse: u64,
    hour: DateTime<Utc>,
}

#[derive(Serialize)]
struct InLedger {
    count: u32,
    updated_at: DateTime<Utc>,
    /// When it was sent that the Market took.
    sent_at: Option<DateTime<Utc>>,
    /// It is to be said once more.
    due_again: bool,
}

#[derive(Serialize)]
struct OnMarket {
    /// `null` if the Market shows the SKU nowhere.
    available: Option<u32>,
    looked_at: Option<DateTime<Utc>>,
    class: &'static str,
}

#[derive(Serialize)]
struct Told {
    at: DateTime<Utc>,
    what: &'static str,
    count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Request>,
}

/// The request to the Market that a SKU was in.
#[derive(Serialize)]
struct Request {
    skus: usize,
    took_ms: u128,
    verdict: &'static str,
    answer: String,
    trace: Option<String>,
}

impl House {
    /// What sources have stated of a SKU. What cannot be read is said in its place.
    async fn steps(&self, shop: ShopId, sku: &Sku) -> Vec<String> {
        let Some(intake) = self.feeds.intake(shop) else {
            return Vec::new();
        };
        let steps = intake.explain(sku).await;
        steps.unwrap_or_else(|error| vec![format!("what was stated is not known: {error}")])
    }

    fn explain<'a>(&self, id: ShopId, shop: &'a Shop, sku: &'a Sku) -> Explanation<'a> {
        let entry = self.book.get(id, sku.as_str());
        let report = self.migrator.report(id);
        let aside = |row: &&Aside| row.sku == sku.as_str();
        let quarantine = report.and_then(|r| r.quarantined.iter().find(aside).cloned());
        let events = entry.map(|entry| self.history.of(id, entry.id(), MOST_EVENTS));
        let mut told = Explanation {
            shop: &shop.name,
            sku: sku.as_str(),
            summary: String::new(),
            book: entry.map(|entry| self.in_book(id, entry)),
            sources: Vec::new(),
            asked: self.asked(id, sku, entry),
            ledger: entry.and_then(|entry| self.in_ledger(id, entry)),
            market: entry.and_then(|entry| self.on_market(id, entry)),
            quarantine,
            events: events.into_iter().flatten().map(Told::from).collect(),
            events_since: self.history.since(),
        };
        told.summary = told.in_a_sentence(shop, self.held.is_some());
        told
    }

    fn in_book(&self, shop: ShopId, entry: Entry) -> InBook {
        let asserted = self.marks.asserted(shop, entry.id());
        let level = entry.level();
        InBook {
            count: level.count.get(),
            updated_at: level.updated_at.to_utc(),
            last_asserted_hour: asserted.map(|asserted| asserted.hour.start().to_utc()),
            origin: asserted
                .and_then(|a| Origin::from_number(a.origin))
                .map(Origin::name),
        }
    }

    fn asked(&self, shop: ShopId, sku: &Sku, entry: Option<Entry>) -> Vec<AskedFor> {
        let mut mark = entry
            .map(|entry| self.marks.get(shop, entry.id()))
            .unwrap_or_default();
        if entry.is_none() {
            self.marks.strangers(shop, &self.book, |stranger, found| {
                if stranger == sku {
                    mark = found.clone();
                }
            });
        }
        let asked = mark.asked.into_iter();
        asked
            .map(|(warehouse, hour)| AskedFor {
                warehouse,
                hour: hour.start().to_utc(),
            })
            .collect()
    }

    fn in_ledger(&self, shop: ShopId, entry: Entry) -> Option<InLedger> {
        let acked = self.ledger.get(shop, entry.id());
        let level = acked.level()?;
        Some(InLedger {
            count: level.count.get(),
            updated_at: level.updated_at.to_utc(),
            sent_at: acked.acked_at(),
            due_again: acked.is_doubted(),
        })
    }

    fn on_market(&self, shop: ShopId, entry: Entry) -> Option<OnMarket> {
        let sighting = self.sightings.get(shop, entry.id());
        let class = sighting.class()?;
        let available = (class != Class::Unknown).then(|| sighting.available());
        Some(OnMarket {
            available,
            looked_at: sighting.at(),
            class: class.name(),
        })
    }
}

impl Explanation<'_> {
    fn in_a_sentence(&self, shop: &Shop, is_held: bool) -> String {
        let Some(book) = &self.book else {
            return match self.asked.iter().map(|asked| asked.hour).max() {
                Some(hour) => format!(
                    "the seller never spoke of it, and the Market asked for it in the hour of {hour}"
                ),
                None => "nobody ever spoke of it".to_owned(),
            };
        };
        let sent = match &self.ledger {
            _ if self.quarantine.is_some() => "the Market refuses it".to_owned(),
            Some(ledger) if (ledger.count, ledger.updated_at) == (book.count, book.updated_at) => {
                "the Market has acknowledged it".to_owned()
            }
            Some(ledger) => format!("the Market has acknowledged {} so far", ledger.count),
            None => "the Market has not acknowledged it".to_owned(),
        };
        let seen = match &self.market {
            Some(market) if market.class == Class::Unknown.name() => {
                ", and shows it nowhere".into()
            }
            Some(market) => {
                let available = market.available.unwrap_or_default();
                let sent_at = self.ledger.as_ref().and_then(|ledger| ledger.sent_at);
                // A look is kept to the minute.
                let minute = TimeDelta::minutes(1);
                let both = market.looked_at.zip(sent_at);
                let is_before =
                    both.is_some_and(|(looked_at, sent_at)| looked_at + minute <= sent_at);
                let when = if is_before {
                    ", before that was sent"
                } else {
                    ""
                };
                format!(", and showed {available} ({}{when})", market.class)
            }
            None => String::new(),
        };
        let mode = if is_held {
            "held, nothing is sent"
        } else {
            shop.mode.name()
        };
        format!(
            "the seller has {} as of {}; {sent}{seen}; migrate is {mode}",
            book.count, book.updated_at
        )
    }
}

impl From<(Event, Option<Batch>)> for Told {
    fn from((event, batch): (Event, Option<Batch>)) -> Self {
        let named = |number: u8| Origin::from_number(number).map(Origin::name);
        let (what, origin, class) = match event.what {
            What::Stated(origin) => ("stated", named(origin), None),
            What::Repeated(origin) => ("repeated", named(origin), None),
            What::Sent(_) => ("sent", None, None),
            What::SetAside => ("set aside", None, None),
            What::Released => ("released", None, None),
            What::Seen(class) => ("seen", None, Class::from_number(class).map(Class::name)),
        };
        let request = batch.map(|batch| Request {
            skus: batch.skus,
            took_ms: batch.took.as_millis(),
            verdict: batch.verdict,
            answer: batch.words,
            trace: batch.trace,
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
