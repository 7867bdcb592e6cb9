//! Numbers of one SKU: book, acknowledgement, read-back, requests and quarantine.

use stock::{ShopId, Sku};

use super::page_context::{Moment, PageContext};
use super::texts::{self, Text, class_name, origin_name};
use super::visible::visible;
use crate::ops::{OpsState, SkuExplanation};

/// Fact with its name.
pub(super) struct SkuFact {
    pub(super) name: &'static str,
    pub(super) value: String,
    /// Addition in small letters.
    pub(super) detail: String,
    pub(super) title: String,
}

/// SKU in quarantine.
pub(super) struct SkuRejection {
    pub(super) reason: String,
    pub(super) since: Moment,
    pub(super) attempts: String,
    pub(super) next: Moment,
}

/// Facts of the page.
pub(super) struct SkuFacts {
    pub(super) numbers: Vec<SkuFact>,
    pub(super) rejection: Option<SkuRejection>,
}

impl SkuFacts {
    pub(super) fn new(explanation: &SkuExplanation, context: PageContext) -> Self {
        let quarantine = explanation.quarantine.as_ref();
        Self {
            numbers: numbers(explanation, context),
            rejection: quarantine.map(|entry| SkuRejection {
                reason: visible(&entry.reason),
                since: context.past(Some(entry.since)),
                attempts: context.number(entry.attempts.into()),
                next: context.future(entry.retry_at),
            }),
        }
    }
}

fn numbers(explanation: &SkuExplanation, context: PageContext) -> Vec<SkuFact> {
    let fact = |name, value: String, moment: Moment, detail: String| SkuFact {
        name: context.text(name),
        value,
        detail: [moment.text, detail]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" · "),
        title: moment.title,
    };
    let missing = |name, value| SkuFact {
        name: context.text(name),
        value: context.text(value).to_owned(),
        detail: String::new(),
        title: String::new(),
    };
    let mut facts = Vec::new();
    facts.push(match &explanation.book {
        Some(book) => fact(
            Text::SkuInBook,
            context.number(book.count.into()),
            context.past(Some(book.updated_at)),
            book.origin.map_or(String::new(), |origin| {
                origin_name(origin, context.language).to_owned()
            }),
        ),
        None => missing(Text::SkuInBook, Text::SkuNotStated),
    });
    facts.push(match &explanation.ledger {
        Some(ledger) => fact(
            Text::SkuAcknowledged,
            context.number(ledger.count.into()),
            ledger
                .sent_at
                .map_or_else(no_moment, |at| context.past(Some(at))),
            if ledger.due_again {
                context.text(Text::SkuDueAgain).to_owned()
            } else {
                String::new()
            },
        ),
        None => missing(Text::SkuAcknowledged, Text::SkuNotAcknowledged),
    });
    facts.push(match &explanation.market {
        Some(market) => fact(
            Text::SkuOnMarket,
            market.available.map_or_else(
                || context.text(Text::SkuNotShown).to_owned(),
                |available| context.number(available.into()),
            ),
            market
                .looked_at
                .map_or_else(no_moment, |at| context.past(Some(at))),
            class_name(market.class, context.language).to_owned(),
        ),
        None => missing(Text::SkuOnMarket, Text::SkuNotReadBack),
    });
    let latest = explanation.asked.iter().map(|asked| asked.hour).max();
    facts.push(match latest {
        Some(hour) => {
            let warehouses = explanation
                .asked
                .iter()
                .map(|asked| asked.warehouse.to_string());
            let warehouses: Vec<String> = warehouses.collect();
            let name = context.text(Text::Warehouses);
            fact(
                Text::SkuRequested,
                texts::in_hour(&context.full(hour), context.language),
                Moment {
                    text: String::new(),
                    title: context.full(hour),
                },
                format!("{name} {}", warehouses.join(", ")),
            )
        }
        None => missing(Text::SkuRequested, Text::Never),
    });
    facts
}

fn no_moment() -> Moment {
    Moment {
        text: String::new(),
        title: String::new(),
    }
}

/// Returns a text that changes with the SKU. It costs a few look-ups, so that a stream can compare
/// it every second.
pub(super) fn quick_mark(state: &OpsState, shop: ShopId, sku: &Sku) -> String {
    let Some(entry) = state.data.book.get(shop, sku.as_str()) else {
        return "unknown".to_owned();
    };
    let (id, level) = (entry.id(), entry.level());
    let acked = state.data.ledger.get(shop, id);
    let observed = state.data.observations.get(shop, id);
    let worker = state.migrator.status(shop).unwrap_or_default();
    let mut quarantined = worker.quarantined.iter();
    let attempts = quarantined
        .find(|entry| entry.sku == sku.as_str())
        .map(|entry| entry.attempts);
    format!(
        "{level:?} {:?} {:?} {:?} {attempts:?} {}",
        acked.level(),
        acked.acked_at(),
        (observed.class(), observed.at()),
        worker.paused_since.is_some(),
    )
}
