//! Page about an address that leads nowhere.

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::Config;
use super::language_choice::LanguageChoice;
use super::layout::{Layout, Screen, render, starting};
use super::links::shop_path;
use super::texts::{self, Text, text};
use super::visible::visible;
use crate::ops::{Ops, OpsState};

#[derive(Template)]
#[template(path = "not_found.html")]
struct NotFoundPage {
    layout: Layout,
    heading: String,
    lead: &'static str,
    /// Address and text of places that exist.
    links: Vec<(String, String)>,
}

/// Responds that no shop has this name, with the shops that exist.
pub(super) fn unknown_shop(
    ops: &Ops,
    place: (Config, &LanguageChoice),
    state: &OpsState,
    name: &str,
) -> Response {
    let heading = texts::unknown_shop(&visible(name), place.1.language);
    respond(ops, place, state, heading)
}

/// Responds that the path leads nowhere, with the shops that exist.
pub(super) async fn unknown_path(
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
) -> Response {
    let Some(state) = ops.state() else {
        return starting(choice.language);
    };
    let heading = text(Text::UnknownPath, choice.language).to_owned();
    respond(&ops, (config, &choice), state, heading)
}

fn respond(
    ops: &Ops,
    (config, choice): (Config, &LanguageChoice),
    state: &OpsState,
    heading: String,
) -> Response {
    let link = |shop: &str| (shop_path(shop), shop.to_owned());
    let layout = Layout::new(
        ops,
        (config, choice),
        state.clock.now(),
        (Screen::Overview, heading.clone()),
        "",
    );
    let page = NotFoundPage {
        layout: layout.into_subpage(),
        heading,
        lead: text(Text::UnknownShopLead, choice.language),
        links: state.shops.iter().map(|shop| link(&shop.name)).collect(),
    };
    (StatusCode::NOT_FOUND, render(&page)).into_response()
}
