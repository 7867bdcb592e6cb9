//! Numbers of one SKU: book, acknowledgement, read-back, requests and quarantine.

use stock::{ShopId, Sku};

use super::cell::TitledText;
use super::page_context::PageContext;
use super::texts::{self, Text, class_name, origin_name};
use crate::ops::{OpsState, SkuExplanation};

/// Fact with its name.
pub(super) struct SkuFact {
    pub(super) name: &'static str,
    pub(super) value: String,
    /// Addition in small letters.
    pub(super) detail: String,
    pub(super) title: String,
}

/// Facts of the page. On a replica that does not send, what the Market shows is not known.
pub(super) fn numbers(
    explanation: &SkuExplanation,
    is_sent_elsewhere: bool,
    context: PageContext,
) -> Vec<SkuFact> {
    let fact = |name: Text, value: String, moment: TitledText, detail: String| SkuFact {
        name: context.text(name),
        value,
        detail: [moment.text, detail]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" · "),
        title: moment.title,
    };
    let missing = |name, value: Text| {
        let value = context.text(value).to_owned();
        fact(name, value, TitledText::default(), String::new())
    };
    let age = |at: Option<_>| at.map_or_else(TitledText::default, |at| context.past(Some(at)));
    let mut facts = Vec::new();
    facts.push(match &explanation.book {
        Some(book) => fact(
            Text::SKU_IN_BOOK,
            context.number(book.count),
            age(Some(book.updated_at)),
            book.origin.map_or_else(String::new, |origin| {
                origin_name(origin, context.language).to_owned()
            }),
        ),
        None => missing(Text::SKU_IN_BOOK, Text::SKU_NOT_STATED),
    });
    facts.push(match &explanation.ledger {
        Some(ledger) => fact(
            Text::SKU_ACKNOWLEDGED,
            context.number(ledger.count),
            age(ledger.sent_at),
            if ledger.due_again {
                context.text(Text::SKU_DUE_AGAIN).to_owned()
            } else {
                String::new()
            },
        ),
        None => missing(Text::SKU_ACKNOWLEDGED, Text::SKU_NOT_ACKNOWLEDGED),
    });
    facts.push(match &explanation.market {
        Some(market) => fact(
            Text::SKU_ON_MARKET,
            market.available.map_or_else(
                || context.text(Text::SKU_NOT_SHOWN).to_owned(),
                |available| context.number(available),
            ),
            age(market.looked_at),
            class_name(market.class, context.language).to_owned(),
        ),
        None if is_sent_elsewhere => {
            let (none, value) = (TitledText::default(), "–".to_owned());
            fact(Text::SKU_ON_MARKET, value, none, String::new())
        }
        None => missing(Text::SKU_ON_MARKET, Text::SKU_NOT_READ_BACK),
    });
    let requests = explanation.asked.iter();
    facts.push(match requests.clone().map(|asked| asked.hour).max() {
        Some(hour) => {
            let warehouses: Vec<_> = requests.map(|asked| asked.warehouse.to_string()).collect();
            let warehouses = warehouses.join(", ");
            let (text, title) = (String::new(), context.full(hour));
            fact(
                Text::SKU_REQUESTED,
                texts::in_hour(&title, context.language),
                TitledText { text, title },
                format!("{} {warehouses}", context.text(Text::WAREHOUSES)),
            )
        }
        None => missing(Text::SKU_REQUESTED, Text::NEVER),
    });
    facts
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
