//! Sources: state, schedule and last delivery of each source, and the rows that are not applied.

use askama::Template;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{ACCEPT, LOCATION, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use serde::Deserialize;
use tower::ServiceExt as _;

use super::Config;
use super::format;
use super::language_choice::LanguageChoice;
use super::layout::{Layout, Screen, render};
use super::live::{LiveValues, stream_values};
use super::screen_marks::screen_marks;
use super::source_card::{HeldNote, Reader, SourceCard, stored_rows};
use super::texts::{self, Text, text};
use crate::ops::{self, Ops, OpsState};
use crate::sources::{DeliveryPipeline, RULES_NAME, SourceState};

/// One shop with its sources.
struct ShopSection {
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
    is_read_requested: bool,
    structure: String,
}

/// Result of a form, as the redirect after it names it.
#[derive(Deserialize)]
pub(super) struct PageParams {
    done: Option<String>,
}

/// Returns true if the client is a browser, which lists `text/html`.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter();
    let mut ranges = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    ranges.any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts
            .next()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
        let is_refused = parts.any(|parameter| {
            let weight = parameter.strip_prefix("q=").and_then(|q| q.parse().ok());
            weight.is_some_and(|weight: f32| weight <= 0.0)
        });
        is_html && !is_refused
    })
}

/// Serves the page to a browser, and JSON to every other client.
pub(super) async fn negotiate(ops: Ops, page: Router<Ops>, request: Request) -> Response {
    let mut response = if wants_html(request.headers()) {
        match page.with_state(ops).oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    } else {
        ops::list_sources(&ops).await
    };
    let vary = HeaderValue::from_static("Accept");
    response.headers_mut().append(VARY, vary);
    response
}

/// Serves the page.
pub(super) async fn page(
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
    Query(params): Query<PageParams>,
) -> Response {
    let Some(state) = ops.state() else {
        return super::layout::starting(choice.language);
    };
    let language = choice.language;
    let reader = Reader {
        language,
        zone: config.time_zone,
        now: state.clock.now(),
    };
    let mut shops = collect(state, reader);
    for (shop, (_, pipeline)) in shops.iter_mut().zip(state.source_manager.pipelines()) {
        for card in &mut shop.sources {
            if card.rows.is_empty() {
                card.rows = stored_rows(pipeline, &card.name, language).await;
            }
        }
    }
    let structure = live_values(&shops).structure_mark();
    let title = text(Text::Sources, language).to_owned();
    let marks = screen_marks(&ops);
    let layout = Layout::new(
        (config, &choice),
        reader.now,
        (Screen::Sources, title),
        "/live/sources",
        &marks,
    );
    render(&SourcesPage {
        layout,
        has_shop_without_sources: shops.iter().any(|shop| shop.sources.is_empty()),
        shops,
        is_read_requested: params.done.as_deref() == Some("read"),
        structure,
    })
}

/// Serves the stream of changed values.
pub(super) async fn live(
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
) -> Response {
    let source = ops.clone();
    stream_values(&ops, move || {
        let Some(state) = source.state() else {
            return LiveValues::default();
        };
        let reader = Reader {
            language: choice.language,
            zone: config.time_zone,
            now: state.clock.now(),
        };
        let mut values = live_values(&collect(state, reader));
        let clock = format::clock(reader.now, reader.zone);
        values.set("clock", &clock, None);
        values
    })
}

/// Starts a poll of a source, and returns to the page.
pub(super) async fn read(
    State(ops): State<Ops>,
    Path((shop, source)): Path<(String, String)>,
) -> Response {
    let found = ops.state().and_then(|state| {
        let mut pipelines = state.source_manager.pipelines();
        let (id, pipeline) = pipelines.find(|(_, pipeline)| pipeline.shop_name() == shop)?;
        Some((state, id, pipeline.source_index(&source)?))
    });
    let Some((state, id, index)) = found else {
        return StatusCode::NOT_FOUND.into_response();
    };
    state.source_manager.request_poll(id, index);
    // Names of shops and sources need no encoding.
    let address = format!("/sources?done=read#{shop}-{source}");
    (StatusCode::SEE_OTHER, [(LOCATION, address)]).into_response()
}

fn collect(state: &OpsState, reader: Reader) -> Vec<ShopSection> {
    let pipelines = state.source_manager.pipelines();
    let section = |(shop, pipeline): (_, &DeliveryPipeline)| {
        let configs = state.source_manager.configs(shop).enumerate();
        let sources = configs.filter_map(|(index, config)| {
            let status = pipeline.status(index);
            let kind = config.kind.name();
            // The source of imports is hidden until the first import.
            let is_unused = kind == "import" && status.state() == SourceState::Waiting;
            (!is_unused).then(|| SourceCard::collect(pipeline, (index, kind), &status, reader))
        });
        let name = pipeline.shop_name().to_owned();
        ShopSection {
            heading_id: format!("{name}-sources"),
            held_rules: pipeline.held_rules().map(|held| HeldNote {
                reasons: texts::hold_reasons(&[held.reason], "", reader.language),
                link: format!("/sources/{name}/{RULES_NAME}/held"),
            }),
            sources: sources.collect(),
            name,
        }
    };
    pipelines.map(section).collect()
}

fn live_values(shops: &[ShopSection]) -> LiveValues {
    let mut values = LiveValues::default();
    for shop in shops {
        let rules = shop.held_rules.as_ref().map(|held| held.reasons.join(";"));
        values.add_structure(&format!("{} {rules:?}", shop.name));
        for card in &shop.sources {
            let cells = card.facts.iter().map(|fact| &fact.cell);
            for cell in std::iter::once(&card.state).chain(cells) {
                values.set(&cell.id, &cell.text, cell.severity);
            }
            values.add_structure(&format!("{} {}", card.id, card.version));
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_browsers_get_a_page() {
        for (accept, is_html) in [
            ("text/html,application/xhtml+xml,*/*;q=0.8", true),
            ("application/json, TEXT/HTML;q=0.5", true),
            ("*/*", false),
            ("text/*", false),
            ("text/html;q=0", false),
            ("application/json", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(wants_html(&headers), is_html, "{accept}");
        }
        assert!(!wants_html(&HeaderMap::new()));
    }
}
