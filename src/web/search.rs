//! Search for a SKU: an exact match leads to its page; otherwise the SKUs that begin with the text.

use std::ops::ControlFlow;

use askama::Template;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use lifecycle::run_blocking;
use serde::Deserialize;
use stock::{ShopId, Sku};

use super::layout::{Layout, Screen, render};
use super::links::sku_path;
use super::page_request::PageRequest;
use super::similar_skus::similar_skus;
use super::sku::SkuLink;
use super::texts::{self, Text};
use super::visible::visible;
use crate::ops::{Ops, OpsState};

/// Most SKUs in the list.
const MAX_MATCHES: usize = 50;

/// Query of the search.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SearchQuery {
    #[serde(default)]
    sku: String,
    #[serde(default)]
    shop: String,
}

/// SKUs that begin with a text.
#[derive(Debug, Default)]
struct PrefixMatches {
    found: Vec<(ShopId, Sku, u32)>,
    /// True if the search stopped before its end.
    is_cut: bool,
}

#[derive(Template)]
#[template(path = "search.html")]
struct SearchPage {
    layout: Layout,
    /// Sentence about the result, or about the rule that the text breaks.
    lead: String,
    similar: Vec<SkuLink>,
    matches: Vec<SkuLink>,
}

/// Serves the page, or redirects to the page of the SKU.
pub(super) async fn page(
    page: PageRequest,
    query: Result<Query<SearchQuery>, QueryRejection>,
) -> Response {
    let Query(query) = query.unwrap_or_default();
    let (state, context) = (page.state(), page.context());
    let layout = |title: &str| {
        let layout = Layout::new(&page, Screen::Overview, title, "").into_subpage();
        layout.with_search(&query.sku, &query.shop)
    };
    let sku = match Sku::parse(&query.sku) {
        Ok(sku) => sku,
        Err(error) => {
            let page = SearchPage {
                layout: layout(context.text(Text::SEARCH)),
                lead: texts::sku_error(&error, page.language),
                similar: Vec::new(),
                matches: Vec::new(),
            };
            return (StatusCode::BAD_REQUEST, render(&page)).into_response();
        }
    };
    let found = match exact_match(state, &sku, &query.shop) {
        Some(shop) => Some(shop),
        None => requested_match(&page.ops, &sku, &query.shop).await,
    };
    if let Some(shop) = found {
        let name = &state.shops[shop.index()].name;
        return Redirect::to(&sku_path(name, sku.as_str())).into_response();
    }
    let matches = prefix_matches(&page.ops, &sku).await;
    let heading = texts::search_heading(&visible(sku.as_str()), page.language);
    let count = matches.found.len() as u64;
    let link = |(shop, sku, count): &(ShopId, Sku, u32)| {
        SkuLink::new(&state.shops[shop.index()].name, sku, *count, context)
    };
    render(&SearchPage {
        layout: layout(&heading),
        lead: texts::search_result(count, matches.is_cut, page.language),
        similar: similar_skus(state, &sku, context),
        matches: matches.found.iter().map(link).collect(),
    })
}

/// Returns a shop whose stock has the SKU: the preferred one, or the first.
fn exact_match(state: &OpsState, sku: &Sku, preferred: &str) -> Option<ShopId> {
    let has_sku = |id: ShopId| state.data.book.get(id, sku.as_str()).is_some();
    ordered_shops(state, preferred)
        .into_iter()
        .find(|id| has_sku(*id))
}

/// Returns a shop for which the Market has requested a SKU that has no stock.
async fn requested_match(ops: &Ops, sku: &Sku, preferred: &str) -> Option<ShopId> {
    let (ops, sku, preferred) = (ops.clone(), sku.clone(), preferred.to_owned());
    run_blocking(move || {
        let state = ops.state()?;
        let shops = ordered_shops(state, &preferred);
        shops.into_iter().find(|id| {
            let mut is_requested = false;
            state.data.activity.for_each_unknown(*id, |unknown, _| {
                is_requested |= *unknown == sku;
            });
            is_requested
        })
    })
    .await
}

/// Returns all shops, the preferred one first.
fn ordered_shops(state: &OpsState, preferred: &str) -> Vec<ShopId> {
    let mut shops: Vec<_> = state.shops_with_ids().collect();
    // The order of the others stays.
    shops.sort_by_key(|(_, shop)| shop.name != preferred);
    shops.into_iter().map(|(id, _)| id).collect()
}

/// Searches all shops for SKUs that begin with a text, in upper or lower case, and stops at
/// [`MAX_MATCHES`]. The search may visit every SKU, so it runs on a blocking thread.
async fn prefix_matches(ops: &Ops, prefix: &Sku) -> PrefixMatches {
    let (ops, prefix) = (ops.clone(), prefix.to_string());
    run_blocking(move || {
        let Some(state) = ops.state() else {
            return PrefixMatches::default();
        };
        let mut matches = PrefixMatches::default();
        for shop in state.data.book.shops() {
            let stopped = state.data.book.try_for_each(shop, |sku, entry| {
                if !has_prefix(sku.as_str(), &prefix) {
                    return ControlFlow::Continue(());
                }
                if matches.found.len() == MAX_MATCHES {
                    return ControlFlow::Break(());
                }
                let count = entry.level().count.get();
                matches.found.push((shop, sku.clone(), count));
                ControlFlow::Continue(())
            });
            if stopped.is_break() {
                matches.is_cut = true;
                break;
            }
        }
        let by_sku = |(shop, sku, _): &(ShopId, Sku, u32)| (sku.clone(), *shop);
        matches.found.sort_by_cached_key(by_sku);
        matches
    })
    .await
}

/// Compares without regard to case.
fn has_prefix(text: &str, prefix: &str) -> bool {
    // Nearly every SKU differs in its first bytes.
    if let Some(start) = text.as_bytes().get(..prefix.len())
        && prefix.is_ascii()
    {
        return start.eq_ignore_ascii_case(prefix.as_bytes());
    }
    let mut rest = text.chars().flat_map(char::to_lowercase);
    let mut wanted = prefix.chars().flat_map(char::to_lowercase);
    wanted.all(|c| rest.next() == Some(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_ignore_case() {
        for (text, prefix, is_prefix) in [
            ("557722", "5577", true),
            ("0557722", "5577", false),
            ("557", "5577", false),
            ("Abc-1", "aB", true),
            ("БОЛТ М5", "болт", true),
            ("болт", "БОЛТ М", false),
            ("İx", "i\u{307}", true),
            ("é", "e", false),
        ] {
            assert_eq!(has_prefix(text, prefix), is_prefix, "{text} {prefix}");
        }
    }
}
