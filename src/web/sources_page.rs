//! Sources: state, schedule and last delivery of each source, and the rows that are not applied.

use askama::Template;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request};
use axum::http::header::VARY;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use stock::ShopId;
use tower::ServiceExt as _;

use super::layout::{Layout, Screen, render};
use super::links::find_source;
use super::live::{LiveValues, stream_values};
use super::not_found;
use super::page_context::PageContext;
use super::page_request::PageRequest;
use super::replica_panel::all_sources_elsewhere;
use super::source_card::{HeldNote, SourceCard, is_unused, stored_rows};
use super::texts::{self, Text};
use crate::ops::{Ops, OpsState, list_sources, wants_html};
use crate::sources::{DeliveryPipeline, RULES_NAME};

/// One shop with its sources.
struct ShopSection {
    id: ShopId,
    name: String,
    heading_id: String,
    held_rules: Option<HeldNote>,
    sources: Vec<SourceCard>,
}

#[derive(Template)]
#[template(path = "sources.html")]
struct SourcesPage {
    layout: Layout,
    shops: Vec<ShopSection>,
    has_shop_without_sources: bool,
    /// Sentences about the replicas that read other sources.
    elsewhere: Vec<String>,
    /// True after the form that requests a poll.
    is_read_requested: bool,
    structure: String,
}

/// Result of a form, as the redirect after it names it.
#[derive(Default, Deserialize)]
pub(super) struct PageParams {
    done: Option<String>,
}

/// Serves the page to a browser, and JSON to every other client.
pub(super) async fn negotiate(ops: Ops, page: Router<Ops>, request: Request) -> Response {
    let mut response = if wants_html(request.headers()) {
        match page.with_state(ops).oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    } else {
        list_sources(&ops).await
    };
    let vary = HeaderValue::from_static("Accept");
    response.headers_mut().append(VARY, vary);
    response
}

/// Serves the page.
pub(super) async fn page(
    page: PageRequest,
    params: Result<Query<PageParams>, QueryRejection>,
) -> Response {
    let Query(params) = params.unwrap_or_default();
    let mut shown = SourcesPage::collect(&page).await;
    shown.is_read_requested = params.done.as_deref() == Some("read");
    render(&shown)
}

/// Refuses a form about sources that another replica reads. The page names that replica, and the
/// status lets a proxy try the others first.
pub(super) async fn respond_read_elsewhere(page: &PageRequest) -> Response {
    let shown = render(&SourcesPage::collect(page).await);
    (StatusCode::SERVICE_UNAVAILABLE, shown).into_response()
}

impl SourcesPage {
    async fn collect(page: &PageRequest) -> Self {
        let state = page.state();
        let mut shops = collect(state, page.context());
        for shop in &mut shops {
            let pipeline = state.source_manager.pipeline(shop.id);
            let Some(pipeline) = pipeline else { continue };
            for card in &mut shop.sources {
                if card.rows.is_empty() {
                    card.rows = stored_rows(&pipeline, &card.name, page.language).await;
                }
            }
        }
        let elsewhere = all_sources_elsewhere(state, page.context());
        let title = page.text(Text::SOURCES);
        Self {
            layout: Layout::new(page, Screen::Sources, title, "/live/sources"),
            has_shop_without_sources: shops.iter().any(|shop| shop.sources.is_empty()),
            is_read_requested: false,
            structure: live_values(&shops, &elsewhere).structure_mark(),
            elsewhere,
            shops,
        }
    }
}

/// Serves the stream of changed values.
pub(super) async fn live(page: PageRequest) -> Response {
    stream_values(page, |page| {
        let (state, context) = (page.state(), page.context());
        live_values(
            &collect(state, context),
            &all_sources_elsewhere(state, context),
        )
    })
}

/// Starts a poll of a source, and returns to the page.
pub(super) async fn read(
    page: PageRequest,
    Path((shop, source)): Path<(String, String)>,
) -> Response {
    if page.state().require_sources(Some(&shop)).is_err() {
        return respond_read_elsewhere(&page).await;
    }
    let state = page.state();
    let found = find_source(state, &shop, &source);
    let polled = found.and_then(|(id, pipeline)| Some((id, pipeline.source_index(&source)?)));
    let Some((id, index)) = polled else {
        return not_found::unknown_path(page).await;
    };
    state.request_poll(id, &shop, (index, &source));
    // Names of shops and sources need no encoding.
    Redirect::to(&format!("/sources?done=read#{shop}-{source}")).into_response()
}

fn collect(state: &OpsState, context: PageContext) -> Vec<ShopSection> {
    let pipelines = state.source_manager.pipelines();
    let section = |(shop, pipeline): (ShopId, DeliveryPipeline)| {
        let configs = state.source_manager.configs(shop).enumerate();
        let sources = configs.filter_map(|(index, config)| {
            let status = pipeline.status(index);
            (!is_unused(&config.kind, &status))
                .then(|| SourceCard::collect(&pipeline, index, &config.kind, &status, context))
        });
        let name = pipeline.shop_name().to_owned();
        ShopSection {
            id: shop,
            heading_id: format!("{name}-sources"),
            held_rules: pipeline.held_rules().map(|held| HeldNote {
                reasons: texts::hold_reasons(&[held.reason], context.language),
                link: format!("/sources/{name}/{RULES_NAME}/held"),
            }),
            sources: sources.collect(),
            name,
        }
    };
    pipelines.map(section).collect()
}

fn live_values(shops: &[ShopSection], elsewhere: &[String]) -> LiveValues {
    let mut values = LiveValues::default();
    values.add_structure(&elsewhere.join(";"));
    for shop in shops {
        let rules = shop.held_rules.as_ref().map(|held| held.reasons.join(";"));
        values.add_structure(&format!("{} {rules:?}", shop.name));
        for card in &shop.sources {
            values.add([&card.state]);
            values.add(card.facts.iter().map(|fact| &fact.cell));
            values.add_structure(&format!("{} {}", card.id, card.version));
        }
    }
    values
}
