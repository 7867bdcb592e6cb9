//! Page about an address that leads nowhere.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::layout::{Layout, Screen, render};
use super::links::shop_path;
use super::page_request::PageRequest;
use super::texts::{self, Text};
use super::visible::visible;

#[derive(Template)]
#[template(path = "not_found.html")]
struct NotFoundPage {
    layout: Layout,
    lead: &'static str,
    /// Address and text of places that exist.
    links: Vec<(String, String)>,
}

/// Responds that no shop has this name, with the shops that exist.
pub(super) fn unknown_shop(page: &PageRequest, name: &str) -> Response {
    respond(page, texts::unknown_shop(&visible(name), page.language))
}

/// Responds that the path leads nowhere, with the shops that exist.
pub(super) async fn unknown_path(page: PageRequest) -> Response {
    respond(&page, page.text(Text::UNKNOWN_PATH).to_owned())
}

fn respond(page: &PageRequest, heading: String) -> Response {
    let names = page.state().shops.iter().map(|shop| shop.name.clone());
    let response = render(&NotFoundPage {
        layout: Layout::new(page, Screen::Overview, heading, "").into_subpage(),
        lead: page.text(Text::UNKNOWN_SHOP_LEAD),
        links: names.map(|name| (shop_path(&name), name)).collect(),
    });
    (StatusCode::NOT_FOUND, response).into_response()
}
