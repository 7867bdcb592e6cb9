//! Page of one SKU: the summary, its numbers, the steps of the sources' rules, and its story on a
//! time line.

use askama::Template;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use stock::{ShopId, Sku};

use super::layout::{Layout, Screen, render, starting};
use super::links::{encode, shop_path, sku_path};
use super::live::{LiveValues, stream_values};
use super::not_found;
use super::page_context::PageContext;
use super::page_request::ShopRequest;
use super::replica_panel::{sent_elsewhere, sources_elsewhere};
use super::shop_health::HealthLevel;
use super::shop_sending::QuarantineRow;
use super::similar_skus::similar_skus;
use super::sku_facts::{SkuFact, numbers, quick_mark};
use super::sku_timeline::{TimelineEntry, timeline};
use super::texts::{self, Text};
use super::visible::visible;
use crate::ops::{OpsState, SkuSummary};

/// SKU in the path.
#[derive(Debug, Deserialize)]
pub(super) struct SkuInPath {
    pub(super) sku: String,
}

/// SKU in the query, for the two SKUs that a path cannot have.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SkuInQuery {
    pub(super) sku: Option<String>,
}

/// Link to a SKU.
pub(super) struct SkuLink {
    pub(super) link: String,
    pub(super) sku: String,
    pub(super) shop: String,
    pub(super) count: String,
}

#[derive(Template)]
#[template(path = "sku.html")]
struct SkuPage {
    layout: Layout,
    structure: String,
    sku: String,
    shop: String,
    shop_link: String,
    summary: String,
    severity: HealthLevel,
    is_unknown: bool,
    /// Sentence about the replica that sends, if it is another one.
    sent_elsewhere: Option<String>,
    /// Sentence about the replica that reads the sources, likewise.
    sources_elsewhere: Option<String>,
    numbers: Vec<SkuFact>,
    /// Set if the Market rejects the SKU.
    rejection: Option<QuarantineRow>,
    /// Statements of the sources and the effect of the rules.
    steps: Vec<String>,
    timeline: Vec<TimelineEntry>,
    /// Sentence about the time from which the events are complete.
    events_since: String,
    /// The same SKU in other shops.
    others: Vec<SkuLink>,
    /// SKUs that differ in case or leading zeros only.
    similar: Vec<SkuLink>,
}

/// Serves the page of the SKU in the path.
pub(super) async fn page(request: ShopRequest, Path(path): Path<SkuInPath>) -> Response {
    sku_page(&request, &path.sku).await
}

/// Serves the page of the SKU in the query; without one, redirects to the shop.
pub(super) async fn page_by_query(
    request: ShopRequest,
    Query(query): Query<SkuInQuery>,
) -> Response {
    match query.sku {
        Some(sku) => sku_page(&request, &sku).await,
        None => Redirect::to(&shop_path(&request.shop().name)).into_response(),
    }
}

async fn sku_page(request: &ShopRequest, text: &str) -> Response {
    let (page, shop) = (&request.page, &request.shop().name);
    let Ok(sku) = Sku::parse(text) else {
        // The search says which rule the text breaks.
        let address = format!("/search?sku={}&shop={shop}", encode(text));
        return Redirect::to(&address).into_response();
    };
    let Some(explanation) = page.ops.explain_sku(request.id, &sku).await else {
        return starting(page.language);
    };
    let (state, context) = (page.state(), page.context());
    let sent_elsewhere = sent_elsewhere(state, request.id, context);
    let is_unknown = explanation.summary == SkuSummary::Unknown;
    let shown = visible(sku.as_str());
    let live_path = format!("/live/shops/{shop}/sku?sku={}", encode(sku.as_str()));
    let title = format!("{shown} · {shop}");
    let response = render(&SkuPage {
        layout: Layout::new(page, Screen::Overview, title, live_path)
            .into_subpage()
            .with_search("", shop),
        structure: live_values(state, request.id, &sku).structure_mark(),
        sku: shown,
        shop: shop.clone(),
        shop_link: shop_path(shop),
        summary: texts::sku_summary(&explanation.summary, context),
        severity: texts::sku_severity(&explanation.summary),
        is_unknown,
        sources_elsewhere: sources_elsewhere(state, request.id, context),
        numbers: numbers(&explanation, sent_elsewhere.is_some(), context),
        sent_elsewhere,
        rejection: explanation
            .quarantine
            .as_ref()
            .map(|entry| QuarantineRow::new(entry, shop, usize::MAX, context)),
        steps: texts::stock_steps(&explanation.sources, context),
        timeline: timeline(&explanation, context),
        events_since: texts::events_since(explanation.events_since, context),
        others: other_shops(state, request.id, &sku, context),
        similar: similar_skus(state, &sku, context),
    });
    let status = if is_unknown {
        StatusCode::NOT_FOUND
    } else {
        StatusCode::OK
    };
    (status, response).into_response()
}

/// Serves the stream of the page. It has the clock only; the browser loads the page again when the
/// SKU changes.
pub(super) async fn live(request: ShopRequest, Query(query): Query<SkuInQuery>) -> Response {
    let ShopRequest { page, id } = request;
    let Ok(sku) = Sku::parse(&query.sku.unwrap_or_default()) else {
        let name = &page.state().shops[id.index()].name;
        return not_found::unknown_shop(&page, name);
    };
    stream_values(page, move |page| live_values(page.state(), id, &sku))
}

fn live_values(state: &OpsState, id: ShopId, sku: &Sku) -> LiveValues {
    let mut values = LiveValues::default();
    values.add_structure(&quick_mark(state, id, sku));
    values
}

/// Returns the same SKU in other shops.
fn other_shops(state: &OpsState, id: ShopId, sku: &Sku, context: PageContext) -> Vec<SkuLink> {
    let others = state.shops_with_ids().filter(|(other, _)| *other != id);
    let links = others.filter_map(|(other, shop)| {
        let count = state
            .data
            .book
            .get(other, sku.as_str())?
            .level()
            .count
            .get();
        Some(SkuLink::new(&shop.name, sku, count, context))
    });
    links.collect()
}

impl SkuLink {
    pub(super) fn new(shop: &str, sku: &Sku, count: u32, context: PageContext) -> Self {
        Self {
            link: sku_path(shop, sku.as_str()),
            sku: visible(sku.as_str()),
            shop: shop.to_owned(),
            count: context.number(count),
        }
    }
}
