//! Read-back for the seller, with pagination: the stock in the book, by name or page by page.
//!
//! Nothing is archived here, and the types `FIT` and `AVAILABLE` have the same count. A replica that
//! is behind answers 503, as it does to the Market, because a program may act on the counts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use lifecycle::run_blocking;
use market_api::partner::wire::{
    CampaignReadbackRequest, CampaignReadbackResult, DEFAULT_PAGE_SIZE, MAX_OFFER_IDS,
    MAX_PAGE_SIZE, MAX_UPDATE_BYTES, OfferStock, ReadbackResponse, ResponsePaging, WarehouseOffer,
    WarehouseOffers, business,
};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use stock::{Count, Level, Sku, StockBook};
use strict_http::json::{StrictObject, read_json};
use strict_http::read_body;
use tokio::time::Instant;

use super::auth::check_content;
use super::error::{PartnerApiError, bad_request, json_response, unavailable};
use super::{Context, PartnerApiState, PartnerShopEndpoint, PathNumber};

/// Time that a sorted list of a shop's SKUs is cached for the next page.
const SKU_LISTING_TTL: Duration = Duration::from_secs(60);

/// Sorted SKUs of a shop, so that pages neither skip nor repeat a SKU.
pub(super) struct SkuListing {
    skus: Arc<Vec<Sku>>,
    created: Instant,
}

/// `POST …/campaigns/{campaignId}/offers/stocks`.
pub(super) async fn by_campaign(
    State(state): State<Arc<PartnerApiState>>,
    campaign: PathNumber,
    request: Request,
) -> Result<Response, PartnerApiError> {
    let (head, body) = request.into_parts();
    let endpoint = state.authorize_campaign(campaign, &head).await?;
    let filter: CampaignReadbackRequest = read_filter(&head, body).await?;
    let (ids, query) = (filter.offer_ids.as_deref(), head.uri.query());
    let page = endpoint.find_offers(ids, query, &state.context).await?;
    let result = endpoint.campaign_result(page, &filter);
    let response = ReadbackResponse {
        status: "OK".to_owned(),
        result: Some(result),
    };
    Ok(json_response(StatusCode::OK, &response))
}

/// `POST /v3/businesses/{businessId}/offers/stocks`.
pub(super) async fn by_business(
    State(state): State<Arc<PartnerApiState>>,
    business: PathNumber,
    request: Request,
) -> Result<Response, PartnerApiError> {
    let (head, body) = request.into_parts();
    let access = state.authorize_business(business, &head).await?;
    let filter: business::BusinessReadbackRequest = read_filter(&head, body).await?;
    let warehouse = filter
        .partner_warehouse_id
        .ok_or_else(|| bad_request("'partnerWarehouseId' must not be null"))?;
    let endpoint = access.endpoint(warehouse)?;
    let (ids, query) = (filter.offer_ids.as_deref(), head.uri.query());
    let page = endpoint.find_offers(ids, query, &state.context).await?;
    let is_shown = includes_unarchived(ids, filter.archived);
    let result = business::BusinessReadbackResult {
        partner_warehouse_id: warehouse,
        offers: to_offers(page.offers, |_| is_shown),
        paging: ResponsePaging {
            next_page_token: page.next,
        },
    };
    let response = ReadbackResponse {
        status: "OK".to_owned(),
        result: Some(result),
    };
    Ok(json_response(StatusCode::OK, &response))
}

/// Parses a body of filters. An empty body means no filters.
async fn read_filter<T: Default + DeserializeOwned>(
    head: &Parts,
    body: Body,
) -> Result<T, PartnerApiError> {
    let body = read_body(body, MAX_UPDATE_BYTES).await?;
    if body.is_empty() {
        return Ok(T::default());
    }
    check_content(head)?;
    let StrictObject(filter) =
        read_json(&body).map_err(|e| bad_request(format!("Illegal input: {e}")))?;
    Ok(filter)
}

struct ReadbackPageQuery {
    limit: usize,
    after: Option<String>,
}

impl ReadbackPageQuery {
    /// Parses `limit` and `page_token`, also spelled `pageToken`. An empty value is ignored.
    fn parse(query: Option<&str>) -> Result<Self, PartnerApiError> {
        let mut page = Self {
            limit: DEFAULT_PAGE_SIZE,
            after: None,
        };
        for pair in query.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "limit" if !value.is_empty() => page.limit = parse_limit(value)?.min(MAX_PAGE_SIZE),
                "page_token" | "pageToken" if !value.is_empty() => {
                    page.after = Some(parse_token(value)?);
                }
                _ => {}
            }
        }
        Ok(page)
    }
}

fn parse_limit(value: &str) -> Result<usize, PartnerApiError> {
    match value.parse::<u64>() {
        Ok(limit @ 1..) => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
        Ok(0) | Err(_) => Err(bad_request(format!(
            "'limit' must be a whole number greater than or equal to 1, it is '{value}'"
        ))),
    }
}

/// Returns the page token after `last`: its text in hexadecimal. Such a token stays valid when SKUs
/// are added, and never expires.
fn page_token(last: &Sku) -> String {
    last.as_str()
        .bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn parse_token(value: &str) -> Result<String, PartnerApiError> {
    let unknown = || bad_request(format!("'page_token' is unknown: '{value}'"));
    let text = percent_decode_str(value)
        .decode_utf8()
        .map_err(|_| unknown())?;
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits
        .filter(|digits| digits.len() % 2 == 0)
        .ok_or_else(unknown)?;
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok())
        .collect();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(unknown)
}

struct OfferPage {
    offers: Vec<(Sku, Level)>,
    next: Option<String>,
}

impl PartnerShopEndpoint {
    /// Returns the offers requested by name, or else the requested page.
    async fn find_offers(
        &self,
        ids: Option<&[String]>,
        query: Option<&str>,
        Context { book, permit, .. }: &Context,
    ) -> Result<OfferPage, PartnerApiError> {
        let page = if let Some(ids) = ids {
            self.offers_by_id(ids, book)?
        } else {
            let query = ReadbackPageQuery::parse(query)?;
            self.offer_page(&query, book).await
        };
        // After the stock was read, so that a pause of the process before this line does no harm.
        if permit.is_valid() {
            Ok(page)
        } else {
            Err(unavailable(
                "this replica cannot reach the database, so its stock may be outdated: repeat the \
                 request",
            ))
        }
    }

    /// Returns the requested SKUs that the book has.
    fn offers_by_id(&self, ids: &[String], book: &StockBook) -> Result<OfferPage, PartnerApiError> {
        if ids.is_empty() || ids.len() > MAX_OFFER_IDS {
            return Err(bad_request(format!(
                "'offerIds' size must be between 1 and {MAX_OFFER_IDS}, it is {}",
                ids.len()
            )));
        }
        let skus = ids
            .iter()
            .map(|id| Sku::parse(id).map_err(|e| bad_request(format!("'offerIds': {e}"))))
            .collect::<Result<BTreeSet<_>, _>>()?
            .into_iter()
            .collect();
        Ok(OfferPage {
            offers: self.levels(skus, book),
            next: None,
        })
    }

    async fn offer_page(&self, query: &ReadbackPageQuery, book: &Arc<StockBook>) -> OfferPage {
        let skus = self.sorted_skus(book).await;
        let after = query.after.as_deref();
        let first = after.map_or(0, |after| skus.partition_point(|sku| sku.as_str() <= after));
        let end = skus.len().min(first + query.limit);
        let next = skus[first..end]
            .last()
            .filter(|_| end < skus.len())
            .map(page_token);
        OfferPage {
            offers: self.levels(skus[first..end].to_vec(), book),
            next,
        }
    }

    fn levels(&self, skus: Vec<Sku>, book: &StockBook) -> Vec<(Sku, Level)> {
        skus.into_iter()
            .filter_map(|sku| {
                let entry = book.get(self.shop.id, sku.as_str())?;
                Some((sku, entry.level()))
            })
            .collect()
    }

    async fn sorted_skus(&self, book: &Arc<StockBook>) -> Arc<Vec<Sku>> {
        let cached = self.sku_listing.lock().as_ref().and_then(|listing| {
            let is_fresh = listing.created.elapsed() < SKU_LISTING_TTL
                && listing.skus.len() == book.len(self.shop.id);
            is_fresh.then(|| Arc::clone(&listing.skus))
        });
        if let Some(skus) = cached {
            return skus;
        }
        let (book, shop) = (Arc::clone(book), self.shop.id);
        // Sorting a million SKUs takes half a second, so it runs outside the threads that serve the
        // Market.
        let skus = run_blocking(move || {
            let mut skus = Vec::with_capacity(book.len(shop));
            book.for_each(shop, |sku, _| skus.push(sku.clone()));
            skus.sort_unstable();
            Arc::new(skus)
        })
        .await;
        *self.sku_listing.lock() = Some(SkuListing {
            skus: Arc::clone(&skus),
            created: Instant::now(),
        });
        skus
    }

    fn campaign_result(
        &self,
        page: OfferPage,
        filter: &CampaignReadbackRequest,
    ) -> CampaignReadbackResult {
        let own = self.shop.warehouses.first().copied().unwrap_or_default();
        let warehouse = filter.stocks_warehouse_id.unwrap_or(own);
        let is_ours = self.shop.warehouses.contains(&warehouse);
        let is_shown = is_ours && includes_unarchived(filter.offer_ids.as_deref(), filter.archived);
        let offers = to_offers(page.offers, |level| {
            is_shown
                && filter
                    .has_stocks
                    .is_none_or(|wanted| wanted == (level.count > Count::ZERO))
        });
        CampaignReadbackResult {
            // A warehouse of another shop has no offers on any page.
            paging: ResponsePaging {
                next_page_token: page.next.filter(|_| is_ours),
            },
            warehouses: vec![WarehouseOffers {
                warehouse_id: warehouse,
                offers,
            }],
        }
    }
}

/// Returns true if the filters include offers that are not archived. Nothing is archived here.
fn includes_unarchived(ids: Option<&[String]>, archived: Option<bool>) -> bool {
    ids.is_some() || archived != Some(true)
}

fn to_offers(offers: Vec<(Sku, Level)>, is_wanted: impl Fn(Level) -> bool) -> Vec<WarehouseOffer> {
    let wanted = offers.into_iter().filter(|(_, level)| is_wanted(*level));
    wanted.map(|(sku, level)| to_offer(&sku, level)).collect()
}

fn to_offer(sku: &Sku, level: Level) -> WarehouseOffer {
    let count = i64::from(level.count.get());
    let stock_of_type = |stock_type: &str| OfferStock {
        kind: stock_type.to_owned(),
        count,
    };
    WarehouseOffer {
        offer_id: sku.to_string(),
        stocks: vec![stock_of_type("FIT"), stock_of_type("AVAILABLE")],
        updated_at: Some(level.updated_at.to_utc()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_tokens_round_trip() {
        for text in ["A", "кв\"ад\\рат 😀"] {
            let sku = Sku::parse(text).unwrap();
            assert_eq!(parse_token(&page_token(&sku)).ok().as_deref(), Some(text));
        }
        for invalid in ["zz", "abc", "ff"] {
            assert!(parse_token(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn ignores_empty_tokens_and_cuts_large_limits() {
        let page = |query| {
            ReadbackPageQuery::parse(Some(query))
                .ok()
                .map(|page| (page.limit, page.after))
        };
        assert_eq!(page("limit=100&page_token="), Some((100, None)));
        assert_eq!(page("limit=200"), Some((100, None)));
        assert_eq!(page("limit=201&page_token="), Some((100, None)));
        assert_eq!(page("pageToken=41"), Some((50, Some("A".to_owned()))));
        assert_eq!(page("limit=0"), None);
        assert_eq!(page("limit=many"), None);
    }
}
