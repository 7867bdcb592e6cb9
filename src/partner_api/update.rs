//! Stock updates of the seller, by campaign and by business.
//!
//! An update is applied completely or not at all, for all shops of the request. Warehouses of one
//! shop share its stock, so their counts must be equal. Parsing and validation of the body:
//! [`parse_update`] and [`business::parse_update`].

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use lifecycle::run_blocking;
use market_api::partner::wire::business::{self, WarehouseUpdate};
use market_api::partner::wire::{
    ApiError, ApiResponse, MAX_ERRORS, MAX_UPDATE_BYTES, parse_update,
};
use stock::{ShopId, Sku, Update};
use strict_http::read_body;
use tokio::time::timeout;
use tracing::debug;

use super::auth::{BusinessAccess, WarehouseError, check_content};
use super::error::{PartnerApiError, json_response, unavailable};
use super::{PartnerApiState, PartnerShopEndpoint, PathNumber};
use crate::ingest::Origin;
use crate::replicas::RequestPermit;

/// Timeout of a commit. After it the seller gets a 503, and the effect of the update is unknown.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest body that is parsed on the thread that received it: about 0.1 ms of work. Parsing a
/// larger one there would delay responses to the Market.
const MAX_INLINE_BYTES: usize = 8 * 1024;

/// `PUT …/campaigns/{campaignId}/offers/stocks`.
pub(super) async fn by_campaign(
    State(state): State<Arc<PartnerApiState>>,
    campaign: PathNumber,
    request: Request,
) -> Result<Response, PartnerApiError> {
    let (head, body) = request.into_parts();
    let endpoint = state.authorize_campaign(campaign, &head).await?;
    check_content(&head)?;
    let permit = state.permit_of_request()?;
    let body = read_body(body, MAX_UPDATE_BYTES).await?;
    let warehouse = endpoint
        .shop
        .warehouses
        .first()
        .copied()
        .unwrap_or_default();
    let now = state.context.clock.now();
    let is_large = body.len() > MAX_INLINE_BYTES;
    let updates = compute(is_large, move || parse_update(&body, warehouse, now)).await?;
    state
        .commit(
            Origin::CampaignPut,
            vec![(endpoint.shop.id, updates)],
            permit,
        )
        .await
}

/// `POST /v3/businesses/{businessId}/offers/stocks/update`. Every item goes to the shop of its
/// warehouse, and all shops apply their items or none does.
pub(super) async fn by_business(
    State(state): State<Arc<PartnerApiState>>,
    business: PathNumber,
    request: Request,
) -> Result<Response, PartnerApiError> {
    let (head, body) = request.into_parts();
    let access = state.authorize_business(business, &head).await?;
    check_content(&head)?;
    let permit = state.permit_of_request()?;
    let body = read_body(body, MAX_UPDATE_BYTES).await?;
    let now = state.context.clock.now();
    let is_large = body.len() > MAX_INLINE_BYTES;
    let items = compute(is_large, move || business::parse_update(&body, now)).await?;
    let endpoints = endpoints_of(&items, &access)?.into_iter();
    let shops: BTreeMap<u64, ShopId> = endpoints.map(|(id, it)| (id, it.shop.id)).collect();
    let group = move || group_by_shop(items, |warehouse| shops[&warehouse]);
    let statements = compute(is_large, group).await?;
    state.commit(Origin::BusinessPost, statements, permit).await
}

/// Computes a value, on a blocking thread if that takes long.
async fn compute<T: Send + 'static>(
    is_long: bool,
    computation: impl FnOnce() -> T + Send + 'static,
) -> T {
    if is_long {
        run_blocking(computation).await
    } else {
        computation()
    }
}

impl PartnerApiState {
    /// Returns the permit for an update that arrives. A replica without one may have been stopped, and
    /// the update may be older than those that others have acknowledged meanwhile.
    fn permit_of_request(&self) -> Result<RequestPermit, PartnerApiError> {
        let permit = self.context.permit.for_request();
        permit.ok_or_else(|| {
            unavailable(
                "this replica was stopped or cut off from the database: nothing was applied, repeat the \
                 request",
            )
        })
    }

    async fn commit(
        &self,
        origin: Origin,
        statements: Vec<(ShopId, Vec<Update>)>,
        permit: RequestPermit,
    ) -> Result<Response, PartnerApiError> {
        let commit = self.context.ingest.accept_all(origin, statements, permit);
        let accepted = timeout(COMMIT_TIMEOUT, commit).await.map_err(|_| {
            unavailable(
                "the commit takes too long and may or may not have happened: repeat the request",
            )
        })??;
        debug!(
            ?accepted,
            origin = origin.name(),
            "accepted an update of the seller"
        );
        Ok(json_response(StatusCode::OK, &ApiResponse::ok()))
    }
}

/// Returns the shop of every warehouse in the request, or the errors of unknown warehouses.
fn endpoints_of<'a>(
    items: &[WarehouseUpdate],
    access: &BusinessAccess<'a>,
) -> Result<BTreeMap<u64, &'a PartnerShopEndpoint>, PartnerApiError> {
    let warehouses: BTreeSet<u64> = items.iter().map(|item| item.warehouse).collect();
    let mut endpoints = BTreeMap::new();
    let mut errors = Vec::new();
    for warehouse in warehouses {
        match access.endpoint(warehouse) {
            Ok(endpoint) => {
                endpoints.insert(warehouse, endpoint);
            }
            Err(WarehouseError::Denied) => return Err(WarehouseError::Denied.into()),
            Err(unknown @ WarehouseError::Unknown(_)) => {
                errors.extend(PartnerApiError::from(unknown).errors);
            }
        }
    }
    all_or_errors(endpoints, errors)
}

/// Groups items by shop. A shop's warehouses share its stock, so items of one SKU for several of
/// them are merged and must have the same count.
fn group_by_shop(
    items: Vec<WarehouseUpdate>,
    shop_of: impl Fn(u64) -> ShopId,
) -> Result<Vec<(ShopId, Vec<Update>)>, PartnerApiError> {
    let mut by_shop: BTreeMap<ShopId, ShopUpdates> = BTreeMap::new();
    let mut errors = Vec::new();
    for item in items {
        let shop_updates = by_shop.entry(shop_of(item.warehouse)).or_default();
        if let Err(message) = shop_updates.add(item) {
            errors.push(ApiError::bad_request(message));
        }
    }
    all_or_errors(
        by_shop
            .into_iter()
            .map(|(shop, shop_updates)| (shop, shop_updates.updates))
            .collect(),
        errors,
    )
}

fn all_or_errors<T>(all: T, mut errors: Vec<ApiError>) -> Result<T, PartnerApiError> {
    if errors.is_empty() {
        return Ok(all);
    }
    errors.truncate(MAX_ERRORS);
    Err(errors.into())
}

/// Updates of one request for one shop.
#[derive(Default)]
struct ShopUpdates {
    updates: Vec<Update>,
    // Index in `updates` and first warehouse of each SKU.
    positions: HashMap<Sku, (usize, u64)>,
}

impl ShopUpdates {
    fn add(&mut self, item: WarehouseUpdate) -> Result<(), String> {
        let WarehouseUpdate { warehouse, update } = item;
        match self.positions.entry(update.sku.clone()) {
            Entry::Vacant(slot) => {
                slot.insert((self.updates.len(), warehouse));
                self.updates.push(update);
            }
            Entry::Occupied(slot) => {
                let (index, other) = *slot.get();
                let existing = &mut self.updates[index];
                if existing.count != update.count {
                    return Err(format!(
                        "Stock for '{}' is {} for warehouse '{other}' and {} for warehouse \
                         '{warehouse}', but they share one stock",
                        update.sku, existing.count, update.count
                    ));
                }
                // The newest date counts, and a missing date means now.
                existing.updated_at = existing
                    .updated_at
                    .zip(update.updated_at)
                    .map(|(a, b)| a.max(b));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use stock::Count;

    use super::*;

    const MOSCOW: ShopId = ShopId(0);
    const OMSK: ShopId = ShopId(1);

    /// Moscow has the warehouses 1 and 2, Omsk has 3.
    fn group_updates(
        items: Vec<WarehouseUpdate>,
    ) -> Result<Vec<(ShopId, Vec<Update>)>, Vec<String>> {
        group_by_shop(items, |warehouse| if warehouse < 3 { MOSCOW } else { OMSK }).map_err(
            |error| {
                error
                    .errors
                    .into_iter()
                    .map(|error| error.message)
                    .collect()
            },
        )
    }

    fn item(sku: &str, warehouse: u64, count: i64, at: Option<&str>) -> WarehouseUpdate {
        let at: Option<chrono::DateTime<chrono::Utc>> =
            at.map(|time| format!("2026-11-20T{time}Z").parse().unwrap());
        let update = Update {
            sku: Sku::parse(sku).unwrap(),
            count: Count::try_from(count).unwrap(),
            updated_at: at.map(Into::into),
        };
        WarehouseUpdate { warehouse, update }
    }

    #[test]
    fn groups_items_by_shop() {
        let items = [
            item("A", 1, 5, None),
            item("A", 3, 6, None),
            item("B", 2, 7, None),
        ];
        let grouped: Vec<(ShopId, String, u32)> = group_updates(items.to_vec())
            .unwrap()
            .into_iter()
            .flat_map(|(shop, updates)| updates.into_iter().map(move |update| (shop, update)))
            .map(|(shop, update)| (shop, update.sku.to_string(), update.count.get()))
            .collect();
        let expected = [(MOSCOW, "A", 5), (MOSCOW, "B", 7), (OMSK, "A", 6)];
        assert_eq!(
            grouped,
            expected.map(|(shop, sku, count)| (shop, sku.to_owned(), count))
        );
    }

    #[test]
    fn equal_counts_merge_with_the_newest_date() {
        let date_of = |first, second| {
            let sorted =
                group_updates(vec![item("A", 1, 5, first), item("A", 2, 5, second)]).unwrap();
            assert_eq!((sorted.len(), sorted[0].1.len()), (1, 1));
            sorted[0].1[0].updated_at.map(|at| at.to_string())
        };
        let (early, late) = (Some("09:00:00"), Some("10:00:00"));
        assert_eq!(
            date_of(early, late).as_deref(),
            Some("2026-11-20T10:00:00Z")
        );
        assert_eq!(
            date_of(late, early).as_deref(),
            Some("2026-11-20T10:00:00Z")
        );
        assert_eq!(date_of(late, None), None);
        assert_eq!(date_of(None, late), None);
    }

    #[test]
    fn different_counts_for_shared_stock_are_rejected() {
        let errors = group_updates(vec![item("A", 1, 5, None), item("A", 2, 6, None)]).unwrap_err();
        let expected = "Stock for 'A' is 5 for warehouse '1' and 6 for warehouse '2', but they share \
                    one stock";
        assert_eq!(errors, [expected]);
    }
}
