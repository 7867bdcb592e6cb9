//! Page of one SKU: the summary, its numbers, the steps of the sources' rules, and its story on a
//! time line.

use askama::Template;
use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use stock::{ShopId, Sku};

use super::Config;
use super::language_choice::LanguageChoice;
use super::layout::{Layout, Screen, render};
use super::links::{encode, find_shop, shop_path, sku_path};
use super::live::{LiveValues, stream_values};
use super::not_found;
use super::page_context::PageContext;
use super::similar_skus::similar_skus;
use super::sku_facts::{SkuFacts, quick_mark};
use super::sku_timeline::{TimelineEntry, timeline};
use super::texts::{self, Text};
use super::visible::visible;
use crate::ops::{Ops, OpsState, SkuSummary};

/// Shop and SKU in the path.
#[derive(Debug, Deserialize)]
pub(super) struct SkuInPath {
    pub(super) name: String,
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
    severity: &'static str,
    is_unknown: bool,
    facts: SkuFacts,
    /// Statements of the sources and the effect of the rules, in English.
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
pub(super) async fn page(
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
    Path(path): Path<SkuInPath>,
) -> Response {
    sku_page(&ops, (config, &choice), &path.name, &path.sku).await
}

/// Serves the page of the SKU in the query; without one, redirects to the shop.
pub(super) async fn page_by_query(
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
    Path(name): Path<String>,
    Query(query): Query<SkuInQuery>,
) -> Response {
    if let Some(sku) = query.sku {
        return sku_page(&ops, (config, &choice), &name, &sku).await;
    }
    let address = shop_path(&encode(&name));
    (StatusCode::SEE_OTHER, [(LOCATION, address)]).into_response()
}

async fn sku_page(
    ops: &Ops,
    (config, choice): (Config, &LanguageChoice),
    name: &str,
    text: &str,
) -> Response {
    let Some(state) = ops.state() else {
        return super::layout::starting(choice.language);
    };
    let Some((id, shop)) = find_shop(state, name) else {
        return not_found::unknown_shop(ops, (config, choice), state, name);
    };
    let Ok(sku) = Sku::parse(text) else {
        // The search says which rule the text breaks.
        let address = format!("/search?sku={}&shop={}", encode(text), shop.name);
        return (StatusCode::SEE_OTHER, [(LOCATION, address)]).into_response();
    };
    let Some(explanation) = ops.explain_sku(id, &sku).await else {
        return super::layout::starting(choice.language);
    };
    let context = PageContext::new(state, choice.language, config.time_zone);
    let is_unknown = explanation.summary == SkuSummary::Unknown;
    let shown = visible(sku.as_str());
    let live_path = format!("/live/shops/{}/sku?sku={}", shop.name, encode(sku.as_str()));
    let layout = Layout::new(
        ops,
        (config, choice),
        context.now,
        (Screen::Overview, format!("{shown} · {}", shop.name)),
        &live_path,
    );
    let page = SkuPage {
        layout: layout.into_subpage().with_search("", &shop.name),
        structure: live_values(state, id, &sku).structure_mark(),
        sku: shown,
        shop: shop.name.clone(),
        shop_link: shop_path(&shop.name),
        summary: texts::sku_summary(&explanation.summary, context),
        severity: texts::sku_severity(&explanation.summary).name(),
        is_unknown,
        facts: SkuFacts::new(&explanation, context),
        steps: texts::stock_steps(&explanation.sources, context),
        timeline: timeline(&explanation, context),
        events_since: texts::events_since(explanation.events_since, context),
        others: other_shops(state, (id, &sku), context),
        similar: similar_skus(state, &sku, context),
    };
    let status = if is_unknown {
        StatusCode::NOT_FOUND
    } else {
        StatusCode::OK
    };
    (status, render(&page)).into_response()
}

/// Serves the stream of the page. It has the clock only; the browser loads the page again when the
/// SKU changes.
pub(super) async fn live(
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
    Path(name): Path<String>,
    Query(query): Query<SkuInQuery>,
) -> Response {
    let Some(state) = ops.state() else {
        return super::layout::starting(choice.language);
    };
    let sku = Sku::parse(&query.sku.unwrap_or_default());
    let (Some((id, _)), Ok(sku)) = (find_shop(state, &name), sku) else {
        return not_found::unknown_shop(&ops, (config, &choice), state, &name);
    };
    stream_values(&ops, (config, &choice), move |state, _| {
        live_values(state, id, &sku)
    })
}

fn live_values(state: &OpsState, id: ShopId, sku: &Sku) -> LiveValues {
    let mut values = LiveValues::default();
    values.add_structure(&quick_mark(state, id, sku));
    values
}

/// Returns the same SKU in other shops.
fn other_shops(state: &OpsState, (id, sku): (ShopId, &Sku), context: PageContext) -> Vec<SkuLink> {
    let others = state.shops_with_ids().filter(|(other, _)| *other != id);
    others
        .filter_map(|(other, shop)| {
            let entry = state.data.book.get(other, sku.as_str())?;
            Some(SkuLink::new(
                &shop.name,
                sku,
                entry.level().count.get(),
                context,
            ))
        })
        .collect()
}

impl SkuLink {
    pub(super) fn new(shop: &str, sku: &Sku, count: u32, context: PageContext) -> Self {
        Self {
            link: sku_path(shop, sku.as_str()),
            sku: visible(sku.as_str()),
            shop: shop.to_owned(),
            count: context.number(count.into()),
        }
    }
}
