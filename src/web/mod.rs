//! Pages for the operator, on the operator's listener.
//!
//! The server makes complete pages; a small script keeps the numbers current. The pages show the
//! values of [`ops`](crate::ops) and keep none of their own. Everything that a seller or the Market
//! wrote is hostile text: templates escape it, and [`visible`] shows invisible characters.
//!
//! Non-goals: pages for the public listener, and settings that a page could change.

mod alarm_card;
mod assets;
mod cell;
mod chart;
mod events;
mod format;
mod headers;
mod held_page;
mod held_view;
mod language_choice;
mod layout;
mod links;
mod live;
mod login;
mod not_found;
mod overview;
mod page_context;
mod page_request;
mod ready_page;
mod replica_panel;
mod screen_marks;
mod search;
mod shop;
mod shop_actions;
mod shop_charts;
mod shop_health;
mod shop_readback;
mod shop_row;
mod shop_sending;
mod shop_sources;
mod similar_skus;
mod sku;
mod sku_facts;
mod sku_timeline;
mod source_card;
mod sources_page;
mod texts;
mod visible;

use axum::extract::{Request, State};
use axum::middleware::from_fn;
use axum::response::Redirect;
use axum::routing::{get, post};
use axum::{Extension, Router};
use chrono::FixedOffset;

use crate::ops::Ops;
use crate::ops::access::require_same_origin;

/// Settings of the pages.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Zone of all times on the pages.
    pub time_zone: FixedOffset,
}

/// Builds the routes of the pages.
pub fn routes(config: Config) -> Router<Ops> {
    // This path has JSON too, to which the layers of the pages do not apply.
    let sources = Router::new().route("/sources", get(sources_page::page));
    let sources = with_layers(config, sources);
    let pages = Router::new()
        .route("/", get(overview::page))
        .route("/live/overview", get(overview::live))
        .route("/events", get(events::page))
        .route("/live/events", get(events::live))
        .route("/live/ready", get(ready_page::live))
        .route("/live/sources", get(sources_page::live))
        .route("/ready", get(ready_page::page))
        .route(
            "/sources/{shop}/{source}/held",
            get(held_page::page).post(held_page::accept),
        )
        .route(
            "/sources/{shop}/{source}/read",
            post(sources_page::read).get(async || Redirect::to("/sources")),
        )
        .route("/search", get(search::page))
        .route("/shops/{name}", get(shop::page))
        .route("/live/shops/{name}", get(shop::live))
        .route("/shops/{name}/skus", get(sku::page_by_query))
        .route("/shops/{name}/skus/{*sku}", get(sku::page))
        .route("/live/shops/{name}/sku", get(sku::live))
        .merge(actions())
        .route("/login", get(login::page).post(login::begin))
        .route("/logout", post(login::end).get(async || Redirect::to("/")))
        .merge(assets::routes())
        .layer(from_fn(require_same_origin));
    with_layers(config, pages).route(
        "/sources",
        get(async move |State(ops): State<Ops>, request: Request| {
            sources_page::negotiate(ops, sources, request).await
        }),
    )
}

/// Builds the page for paths that lead nowhere.
pub fn unknown_page(config: Config) -> Router<Ops> {
    with_layers(config, Router::new().fallback(not_found::unknown_path))
}

fn with_layers(config: Config, router: Router<Ops>) -> Router<Ops> {
    router
        .layer(from_fn(headers::add))
        .layer(from_fn(language_choice::choose))
        .layer(Extension(config))
}

/// Builds the routes of the forms. After a login, a browser gets the path of the form that it sent
/// before, so each leads to its page.
fn actions() -> Router<Ops> {
    let page = || get(shop_actions::page_of_form);
    Router::new()
        .route("/shops/{name}/verify", page().post(shop_actions::verify))
        .route("/shops/{name}/pause", page().post(shop_actions::pause))
        .route("/shops/{name}/resume", page().post(shop_actions::resume))
        .route(
            "/shops/{name}/sources/{source}/read",
            page().post(shop_actions::read_source),
        )
}
