//! What the Market shows of its copy, page by page, read leniently.
//!
//! Sources: `getStocks` and `getStocksOnPartnerWarehouses`, partner API OpenAPI, 2026-07-17, and
//! the change log of 2026-08-04.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::wire::{Address, MAX_PAGE, WarehouseStock, parse_moment};
use crate::stock::Instant;

/// Which part of the Market's copy is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Look {
    /// The one it is about; of a campaign, all that are ours.
    pub warehouses: Vec<u64>,
    /// What of it.
    pub part: Part,
}

/// A page of a list, or some SKUs by name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Part {
    /// A page.
    Listing {
        /// Of which list.
        shelf: Shelf,
        /// Where the page before ended.
        token: Option<String>,
    },
    /// Exactly these, at most 500, wherever they are.
    Named(Vec<String>),
}

/// The Market lists the offers of a warehouse apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shelf {
    /// Those that can be bought, or could if there were any.
    OnSale,
    /// Those in the archive.
    Archive,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The offers of our warehouses; those of others, such as the Market's own for returns, are
    /// left out.
    pub offers: Vec<Shown>,
    /// Where the next page begins; `None` on the last one, however short the others were.
    pub next: Option<String>,
}

/// One offer as the Market shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The SKU, as the Market spells it.
    pub sku: String,
    /// Pieces that can be ordered: what a count we sent is compared with.
    pub available: u64,
    /// Pieces reserved for orders.
    pub reserved: u64,
    /// When this last changed, by the Market's own account.
    pub updated_at: Option<Instant>,
    /// On which list it stands; one asked for by name counts as on sale.
    pub shelf: Shelf,
}

impl Look {
    /// The query, with its question mark, and the body of the request.
    #[must_use]
    pub fn request(&self, address: &Address) -> (String, String) {
        let mut body = serde_json::Map::new();
        if let (Address::Business { .. }, Some(warehouse)) = (address, self.warehouses.first()) {
            body.insert("partnerWarehouseId".to_owned(), (*warehouse).into());
        }
        let mut query = String::new();
        match &self.part {
            Part::Named(skus) => drop(body.insert("offerIds".to_owned(), skus.clone().into())),
            Part::Listing { shelf, token } => {
                if *shelf == Shelf::Archive {
                    body.insert("archived".to_owned(), true.into());
                }
                query = format!("?limit={MAX_PAGE}");
                if let Some(token) = token {
                    query.push_str("&page_token=");
                    query.extend(utf8_percent_encode(token, NON_ALPHANUMERIC));
                }
            }
        }
        (query, serde_json::Value::Object(body).to_string())
    }

    fn shelf(&self) -> Shelf {
        match self.part {
            Part::Listing { shelf, .. } => shelf,
            Part::Named(_) => Shelf::OnSale,
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    result: Option<Listing>,
}

// Both methods' results: one lists warehouses, the other is of one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    #[serde(default)]
    paging: Option<Paging>,
    warehouses: Option<Vec<Warehouse>>,
    partner_warehouse_id: Option<u64>,
    offers: Option<Vec<Offer>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Paging {
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Warehouse {
    warehouse_id: u64,
    #[serde(default)]
    offers: Vec<Offer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Offer {
    offer_id: String,
    #[serde(default)]
    stocks: Vec<WarehouseStock>,
    updated_at: Option<String>,
}

impl Page {
    /// Reads the body of a 200 that said OK.
    ///
    /// # Errors
    /// It is not what was asked for; says why.
    pub fn read(body: &[u8], look: &Look) -> Result<Self, String> {
        let envelope: Envelope = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        let listing = envelope.result.ok_or("there is no result")?;
        let next = listing.paging.unwrap_or_default().next_page_token;
        let is_ours = |id: u64| look.warehouses.contains(&id);
        let offers = match (listing.warehouses, listing.offers) {
            (Some(warehouses), _) => {
                let ours = warehouses.into_iter().filter(|w| is_ours(w.warehouse_id));
                ours.flat_map(|warehouse| warehouse.offers).collect()
            }
            (None, Some(offers)) => match listing.partner_warehouse_id {
                Some(id) if !is_ours(id) => return Err(format!("it is of warehouse {id}")),
                Some(_) | None => offers,
            },
            (None, None) => return Err("there are neither warehouses nor offers".to_owned()),
        };
        let next = next.filter(|token| !token.is_empty());
        let shelf = look.shelf();
        Ok(Self {
            offers: offers.into_iter().map(|offer| offer.on(shelf)).collect(),
            next,
        })
    }
}

impl Offer {
    fn on(self, shelf: Shelf) -> Shown {
        let count = |kind: &str| {
            let stock = self.stocks.iter().find(|stock| stock.kind == kind)?;
            Some(u64::try_from(stock.count).unwrap_or(0))
        };
        let reserved = count("FREEZE").unwrap_or(0);
        // An offer without the type can be ordered as far as it is fit and not reserved.
        let fit = || count("FIT").unwrap_or(0).saturating_sub(reserved);
        Shown {
            available: count("AVAILABLE").unwrap_or_else(fit),
            reserved,
            updated_at: self.updated_at.as_deref().and_then(parse_moment),
            shelf,
            sku: self.offer_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(warehouses: &[u64]) -> Look {
        let part = Part::Listing {
            shelf: Shelf::OnSale,
            token: None,
        };
        Look {
            warehouses: warehouses.to_vec(),
            part,
        }
    }

    #[test]
    fn the_return_warehouse_is_passed_over_wherever_it_stands() {
        let body = br#"{"status":"OK","result":{"paging":{"nextPageToken":"x"},"warehouses":[
            {"warehouseId":1,"offers":[{"offerId":"A","stocks":[{"type":"AVAILABLE","count":9}]}]},
            {"warehouseId":7,"offers":[{"offerId":"A","updatedAt":"2026-11-20T13:00:00+03:00",
                "stocks":[{"type":"FIT","count":5},{"type":"FREEZE","count":2},
                          {"type":"AVAILABLE","count":3}]}]}]}}"#;
        let page = Page::read(body, &look(&[7])).unwrap();
        let [shown] = page.offers.as_slice() else {
            panic!("{page:?}")
        };
        assert_eq!((shown.available, shown.reserved), (3, 2));
        assert_eq!(
            shown.updated_at.unwrap().to_string(),
            "2026-11-20T10:00:00Z"
        );
        assert_eq!(page.next.as_deref(), Some("x"));
    }

    #[test]
    fn what_is_fit_and_not_reserved_stands_in_for_a_missing_type() {
        let body = br#"{"result":{"partnerWarehouseId":7,"offers":[
            {"offerId":"A","stocks":[{"type":"FIT","count":5},{"type":"FREEZE","count":2}]},
            {"offerId":"B","stocks":[]},{"offerId":"C","stocks":[{"type":"AVAILABLE","count":-1}]}]}}"#;
        let page = Page::read(body, &look(&[7])).unwrap();
        assert_eq!(
            page.offers.iter().map(|o| o.available).collect::<Vec<_>>(),
            [3, 0, 0]
        );
        assert_eq!(page.next, None);
    }

    #[test]
    fn what_is_no_page_of_ours_is_not_taken_for_an_empty_one() {
        for (body, why) in [
            ("{}", "there is no result"),
            (r#"{"result":{}}"#, "neither warehouses nor offers"),
            (
                r#"{"result":{"partnerWarehouseId":8,"offers":[]}}"#,
                "it is of warehouse 8",
            ),
            ("<html>", "expected value"),
        ] {
            let error = Page::read(body.as_bytes(), &look(&[7])).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_look_by_name_asks_for_no_page() {
        let campaign = Address::Campaign { id: 1 };
        let business = Address::Business {
            id: 1,
            warehouses: vec![7],
        };
        let named = Look {
            part: Part::Named(vec!["A".to_owned()]),
            ..look(&[7])
        };
        assert_eq!(
            named.request(&campaign),
            (String::new(), r#"{"offerIds":["A"]}"#.to_owned())
        );
        let part = Part::Listing {
            shelf: Shelf::Archive,
            token: Some("a=&".to_owned()),
        };
        let archived = Look { part, ..look(&[7]) };
        let (query, body) = archived.request(&business);
        assert_eq!(query, "?limit=100&page_token=a%3D%26");
        assert_eq!(body, r#"{"archived":true,"partnerWarehouseId":7}"#);
    }
}
