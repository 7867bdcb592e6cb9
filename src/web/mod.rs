//! Pages for the operator, on the operator's listener.
//!
//! The server makes complete pages; a small script keeps the numbers current. The pages show the
//! values of [`ops`](crate::ops) and keep none of their own. Everything that a seller or the Market
//! wrote is hostile text: templates escape it, and [`visible`] shows invisible characters.
//!
//! Non-goals: pages for the public listener, and settings that a page could change.

mod assets;
mod events;
mod format;
mod headers;
mod language_choice;
mod layout;
mod live;
mod login;
mod overview;
mod shop_health;
mod texts;
mod visible;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use chrono::FixedOffset;

use self::language_choice::LanguageChoice;
use crate::ops::{Ops, access};

/// Settings of the pages.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Zone of all times on the pages.
    pub time_zone: FixedOffset,
    /// The pages have a button that ends the session.
    pub has_login: bool,
}

/// Builds the routes of the pages.
pub fn routes(config: Config, ops: Ops) -> Router<Ops> {
    Router::new()
        .route("/", get(overview::page))
        .route("/live/overview", get(overview::live))
        .route("/events", get(events::page))
        .route("/live/events", get(events::live))
        .layer(from_fn_with_state(ops, require_start))
        .route("/login", get(login::page).post(login::begin))
        .route("/logout", post(login::end))
        .layer(from_fn(access::require_same_origin))
        .merge(assets::routes())
        .layer(from_fn(headers::add))
        .layer(from_fn(language_choice::choose))
        .layer(Extension(config))
}

/// Middleware that serves a page about the start until the store is read.
async fn require_start(
    State(ops): State<Ops>,
    Extension(language): Extension<LanguageChoice>,
    request: Request,
    next: Next,
) -> Response {
    if ops.state().is_some() {
        return next.run(request).await;
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        layout::starting(language.language),
    )
        .into_response()
}
