//! What the seller tells us.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use tokio::time::timeout;
use tracing::debug;

use super::admission::{Cabinet, NoDesk, check_content};
use super::refused::{Refused, answer, unavailable};
use super::{Desk, House, PathNumber};
use crate::http::read_body;
use crate::ingest::Origin;
use crate::partner::wire::business::{self, WarehouseUpdate};
use crate::partner::wire::{ApiError, ApiResponse, MAX_FAULTS, MAX_UPDATE_BYTES, parse_update};
use crate::stock::{ShopId, Sku, Update};

/// How long a commit may take before the seller is told that nobody knows.
const COMMIT_DEADLINE: Duration = Duration::from_secs(10);

/// `PUT …/campaigns/{campaignId}/offers/stocks`.
pub(super) async fn by_campaign(
    State(house): State<Arc<House>>,
    campaign: PathNumber,
    request: Request,
) -> Result<Response, Refused> {
    let (head, body) = request.into_parts();
    let desk = house.admit_to_campaign(campaign, &head).await?;
    check_content(&head)?;
    let body = read_body(body, MAX_UPDATE_BYTES).await?;
    let warehouse = desk.shop.warehouses.first().copied().unwrap_or_default();
    let updates = parse_update(&body, warehouse, house.context.clock.now())?;
    house
        .take(Origin::CampaignPut, vec![(desk.shop.id, updates)])
        .await
}

/// `POST /v3/businesses/{businessId}/offers/stocks/update`: every item goes to the shop of its
/// warehouse, and all shops take theirs or none does.
pub(super) async fn by_business(
    State(house): State<Arc<House>>,
    business: PathNumber,
    request: Request,
) -> Result<Response, Refused> {
    let (head, body) = request.into_parts();
    let cabinet = house.admit_to_business(business, &head).await?;
    check_content(&head)?;
    let body = read_body(body, MAX_UPDATE_BYTES).await?;
    let items = business::parse_update(&body, house.context.clock.now())?;
    let desks = desks_of(&items, &cabinet)?;
    let statements = by_shop(items, |warehouse| desks[&warehouse].shop.id)?;
    house.take(Origin::BusinessPost, statements).await
}

impl House {
    async fn take(
        &self,
        origin: Origin,
        statements: Vec<(ShopId, Vec<Update>)>,
    ) -> Result<Response, Refused> {
        let accepting = self.context.ingest.accept_all(origin, statements);
        let accepted = timeout(COMMIT_DEADLINE, accepting).await.map_err(|_| {
            unavailable(
                "the commit takes too long; whether it happened is unknown, repeat the call",
            )
        })??;
        debug!(
            ?accepted,
            origin = origin.name(),
            "took an update of the seller"
        );
        Ok(answer(StatusCode::OK, &ApiResponse::ok()))
    }
}

/// The shop of every warehouse that is named, or what is wrong with those that have none.
fn desks_of<'a>(
    items: &[WarehouseUpdate],
    cabinet: &Cabinet<'a>,
) -> Result<BTreeMap<u64, &'a Desk>, Refused> {
    let warehouses: BTreeSet<u64> = items.iter().map(|item| item.warehouse).collect();
    let mut desks = BTreeMap::new();
    let mut faults = Vec::new();
    for warehouse in warehouses {
        match cabinet.desk(warehouse) {
            Ok(desk) => {
                desks.insert(warehouse, desk);
            }
            Err(NoDesk::Denied) => return Err(NoDesk::Denied.into()),
            Err(unknown @ NoDesk::Unknown(_)) => faults.extend(Refused::from(unknown).errors),
        }
    }
    all_or_faults(desks, faults)
}

/// Sorts items by shop. A shop's warehouses share its stock, so what is said of one SKU for
/// several of them is one statement, and must be the same.
fn by_shop(
    items: Vec<WarehouseUpdate>,
    shop_of: impl Fn(u64) -> ShopId,
) -> Result<Vec<(ShopId, Vec<Update>)>, Refused> {
    let mut piles: BTreeMap<ShopId, Pile> = BTreeMap::new();
    let mut faults = Vec::new();
    for item in items {
        let pile = piles.entry(shop_of(item.warehouse)).or_default();
        if let Err(fault) = pile.add(item) {
            faults.push(ApiError::bad_request(fault));
        }
    }
    all_or_faults(
        piles
            .into_iter()
            .map(|(shop, pile)| (shop, pile.updates))
            .collect(),
        faults,
    )
}

fn all_or_faults<T>(all: T, mut faults: Vec<ApiError>) -> Result<T, Refused> {
    if faults.is_empty() {
        return Ok(all);
    }
    faults.truncate(MAX_FAULTS);
    Err(faults.into())
}

/// What one request says of one shop.
#[derive(Default)]
struct Pile {
    updates: Vec<Update>,
    // Where in `updates` a SKU is, and for which warehouse it was said first.
    places: HashMap<Sku, (usize, u64)>,
}

impl Pile {
    fn add(&mut self, item: WarehouseUpdate) -> Result<(), String> {
        let WarehouseUpdate { warehouse, update } = item;
        match self.places.entry(update.sku.clone()) {
            Entry::Vacant(place) => {
                place.insert((self.updates.len(), warehouse));
                self.updates.push(update);
            }
            Entry::Occupied(place) => {
                let (index, other) = *place.get();
                let known = &mut self.updates[index];
                if known.count != update.count {
                    return Err(format!(
                        "Stock for '{}' is {} for warehouse '{other}' and {} for warehouse \
                         '{warehouse}', but they share one stock",
                        update.sku, known.count, update.count
                    ));
                }
                // The newest date holds, and none means now.
                known.updated_at = known
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
    use super::*;
    use crate::stock::Count;

    const MOSCOW: ShopId = ShopId(0);
    const OMSK: ShopId = ShopId(1);

    /// Moscow has the warehouses 1 and 2, Omsk has 3.
    fn sort(items: Vec<WarehouseUpdate>) -> Result<Vec<(ShopId, Vec<Update>)>, Vec<String>> {
        by_shop(items, |warehouse| if warehouse < 3 { MOSCOW } else { OMSK }).map_err(|refused| {
            refused
                .errors
                .into_iter()
                .map(|fault| fault.message)
                .collect()
        })
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
    fn every_item_goes_to_the_shop_of_its_warehouse() {
        let items = [
            item("A", 1, 5, None),
            item("A", 3, 6, None),
            item("B", 2, 7, None),
        ];
        let told: Vec<(ShopId, String, u32)> = sort(items.to_vec())
            .unwrap()
            .into_iter()
            .flat_map(|(shop, updates)| updates.into_iter().map(move |update| (shop, update)))
            .map(|(shop, update)| (shop, update.sku.to_string(), update.count.get()))
            .collect();
        let expected = [(MOSCOW, "A", 5), (MOSCOW, "B", 7), (OMSK, "A", 6)];
        assert_eq!(
            told,
            expected.map(|(shop, sku, count)| (shop, sku.to_owned(), count))
        );
    }

    #[test]
    fn equal_counts_for_warehouses_that_share_stock_are_one_statement_as_of_the_newest_date() {
        let date_of = |first, second| {
            let sorted = sort(vec![item("A", 1, 5, first), item("A", 2, 5, second)]).unwrap();
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
    fn differing_counts_for_warehouses_that_share_stock_are_refused_with_the_reason() {
        let faults = sort(vec![item("A", 1, 5, None), item("A", 2, 6, None)]).unwrap_err();
        let told = "Stock for 'A' is 5 for warehouse '1' and 6 for warehouse '2', but they share \
                    one stock";
        assert_eq!(faults, [told]);
    }
}
