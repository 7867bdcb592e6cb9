//! Page about an address that leads nowhere: a shop or a SKU that does not exist.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::Config;
use super::language_choice::LanguageChoice;
use super::layout::{Layout, Screen, render};
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
    (config, choice): (Config, &LanguageChoice),
    state: &OpsState,
    name: &str,
) -> Response {
    let heading = texts::unknown_shop(&visible(name), choice.language);
    let link = |shop: &str| (shop_path(shop), shop.to_owned());
    let page = NotFoundPage {
        layout: Layout::new(
            ops,
            (config, choice),
            state.clock.now(),
            (Screen::Overview, heading.clone()),
            "",
        )
        .into_subpage(),
        heading,
        lead: text(Text::UnknownShopLead, choice.language),
        links: state.shops.iter().map(|shop| link(&shop.name)).collect(),
    };
    (StatusCode::NOT_FOUND, render(&page)).into_response()
}
