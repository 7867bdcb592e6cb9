//! Read-back of the Market's copy: query and lenient parsing of one page, for both methods.
//!
//! The pagination, which follows the page tokens, is in `migrator/readback/page_cursor.rs`.
//!
//! Sources: `getStocks` and `getStocksOnPartnerWarehouses`, partner API OpenAPI, 2026-07-17, and
//! the change log of 2026-08-04.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use stock::Timestamp;

use super::wire::{MAX_PAGE_SIZE, MarketAddress, OfferStock, ResponsePaging, parse_timestamp};

/// Query for a part of the Market's copy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReadbackQuery {
    /// The requested warehouse; for a campaign, all warehouses of the shop.
    pub warehouses: Vec<u64>,
    /// Requested part.
    pub selection: ReadbackSelection,
}

/// One page of a list, or SKUs by name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReadbackSelection {
    /// One page.
    List {
        /// Requested list.
        list: OfferList,
        /// Page token from the previous page.
        token: Option<String>,
    },
    /// Exactly these SKUs, at most 500, from either list.
    Skus(Vec<String>),
}

/// List of offers. The Market keeps active and archived offers in separate lists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OfferList {
    /// Offers that are not archived, with or without stock.
    Active,
    /// Archived offers.
    Archived,
}

/// One page of the Market's copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadbackPage {
    /// Offers of the shop's warehouses. Others, such as the Market's return warehouse, are skipped.
    pub offers: Vec<ReadbackOffer>,
    /// Token of the next page; `None` on the last page. The length of a page means nothing.
    pub next: Option<String>,
}

/// Offer as the Market shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadbackOffer {
    /// SKU as the Market spells it.
    pub sku: String,
    /// Pieces that can be ordered. This is compared with the sent count.
    pub available: u64,
    /// Pieces reserved for orders.
    pub reserved: u64,
    /// Time of the last change according to the Market.
    pub updated_at: Option<Timestamp>,
    /// List of the offer. An offer requested by name counts as active.
    pub list: OfferList,
}

impl ReadbackQuery {
    /// Returns the query string, including `?`, and the request body.
    #[must_use]
    pub fn query_and_body(&self, address: &MarketAddress) -> (String, String) {
        let mut body = serde_json::Map::new();
        if let (MarketAddress::Business { .. }, Some(warehouse)) =
            (address, self.warehouses.first())
        {
            body.insert("partnerWarehouseId".to_owned(), (*warehouse).into());
        }
        let mut query = String::new();
        match &self.selection {
            ReadbackSelection::Skus(skus) => {
                drop(body.insert("offerIds".to_owned(), skus.clone().into()));
            }
            ReadbackSelection::List { list, token } => {
                if *list == OfferList::Archived {
                    body.insert("archived".to_owned(), true.into());
                }
                query = format!("?limit={MAX_PAGE_SIZE}");
                if let Some(token) = token {
                    query.push_str("&page_token=");
                    query.extend(utf8_percent_encode(token, NON_ALPHANUMERIC));
                }
            }
        }
        (query, serde_json::Value::Object(body).to_string())
    }
}

#[derive(Deserialize)]
struct ReadbackEnvelope {
    result: Option<ReadbackResult>,
}

// Results of both methods: by campaign it lists warehouses, by business it is about one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadbackResult {
    paging: Option<ResponsePaging>,
    warehouses: Option<Vec<ReadbackWarehouse>>,
    partner_warehouse_id: Option<u64>,
    offers: Option<Vec<ListedOffer>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadbackWarehouse {
    warehouse_id: u64,
    #[serde(default)]
    offers: Vec<ListedOffer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedOffer {
    offer_id: String,
    #[serde(default)]
    stocks: Vec<OfferStock>,
    updated_at: Option<String>,
}

impl ReadbackPage {
    /// Parses the body of a response with status 200 and `"status":"OK"`.
    ///
    /// # Errors
    /// A sentence with the reason why the body is not the requested page.
    pub fn read(body: &[u8], query: &ReadbackQuery) -> Result<Self, String> {
        let envelope: ReadbackEnvelope = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        let result = envelope.result.ok_or("the response has no result")?;
        let next = result.paging.unwrap_or_default().next_page_token;
        let is_ours = |id: u64| query.warehouses.contains(&id);
        let offers = match (result.warehouses, result.offers) {
            (Some(warehouses), _) => {
                let ours = warehouses.into_iter().filter(|w| is_ours(w.warehouse_id));
                ours.flat_map(|warehouse| warehouse.offers).collect()
            }
            (None, Some(offers)) => match result.partner_warehouse_id {
                Some(id) if !is_ours(id) => {
                    return Err(format!("the response is about warehouse {id}"));
                }
                Some(_) | None => offers,
            },
            (None, None) => return Err("the response has neither warehouses nor offers".to_owned()),
        };
        let list = match query.selection {
            ReadbackSelection::List { list, .. } => list,
            ReadbackSelection::Skus(_) => OfferList::Active,
        };
        let offers = offers.into_iter();
        Ok(Self {
            offers: offers.map(|it| it.into_readback_offer(list)).collect(),
            next: next.filter(|token| !token.is_empty()),
        })
    }
}

impl ListedOffer {
    fn into_readback_offer(self, list: OfferList) -> ReadbackOffer {
        let count = |stock_type: &str| {
            let stock = self.stocks.iter().find(|stock| stock.kind == stock_type)?;
            Some(u64::try_from(stock.count).unwrap_or(0))
        };
        let reserved = count("FREEZE").unwrap_or(0);
        // Without the type `AVAILABLE`, fit pieces that are not reserved can be ordered.
        let fit_unreserved = || count("FIT").unwrap_or(0).saturating_sub(reserved);
        ReadbackOffer {
            available: count("AVAILABLE").unwrap_or_else(fit_unreserved),
            reserved,
            updated_at: self.updated_at.as_deref().and_then(parse_timestamp),
            list,
            sku: self.offer_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readback_query(warehouses: &[u64]) -> ReadbackQuery {
        let selection = ReadbackSelection::List {
            list: OfferList::Active,
            token: None,
        };
        ReadbackQuery {
            warehouses: warehouses.to_vec(),
            selection,
        }
    }

    #[test]
    fn ignores_the_return_warehouse() {
        let body = br#"{"status":"OK","result":{"paging":{"nextPageToken":"x"},"warehouses":[
            {"warehouseId":1,"offers":[{"offerId":"A","stocks":[{"type":"AVAILABLE","count":9}]}]},
            {"warehouseId":7,"offers":[{"offerId":"A","updatedAt":"2026-11-20T13:00:00+03:00",
                "stocks":[{"type":"FIT","count":5},{"type":"FREEZE","count":2},
                          {"type":"AVAILABLE","count":3}]}]}]}}"#;
        let page = ReadbackPage::read(body, &readback_query(&[7])).unwrap();
        let [offer] = page.offers.as_slice() else {
            panic!("{page:?}")
        };
        assert_eq!((offer.available, offer.reserved), (3, 2));
        assert_eq!(
            offer.updated_at.unwrap().to_string(),
            "2026-11-20T10:00:00Z"
        );
        assert_eq!(page.next.as_deref(), Some("x"));
    }

    #[test]
    fn computes_available_from_fit_and_freeze() {
        let body = br#"{"result":{"partnerWarehouseId":7,"offers":[
            {"offerId":"A","stocks":[{"type":"FIT","count":5},{"type":"FREEZE","count":2}]},
            {"offerId":"B","stocks":[]},{"offerId":"C","stocks":[{"type":"AVAILABLE","count":-1}]}]}}"#;
        let page = ReadbackPage::read(body, &readback_query(&[7])).unwrap();
        assert_eq!(
            page.offers.iter().map(|o| o.available).collect::<Vec<_>>(),
            [3, 0, 0]
        );
        assert_eq!(page.next, None);
    }

    #[test]
    fn rejects_other_bodies_instead_of_an_empty_page() {
        for (body, why) in [
            ("{}", "the response has no result"),
            (r#"{"result":{}}"#, "neither warehouses nor offers"),
            (
                r#"{"result":{"partnerWarehouseId":8,"offers":[]}}"#,
                "about warehouse 8",
            ),
            ("<html>", "expected value"),
        ] {
            let error = ReadbackPage::read(body.as_bytes(), &readback_query(&[7])).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn query_by_name_has_no_page() {
        let campaign = MarketAddress::Campaign { id: 1 };
        let business = MarketAddress::Business {
            id: 1,
            warehouses: vec![7],
        };
        let named = ReadbackQuery {
            selection: ReadbackSelection::Skus(vec!["A".to_owned()]),
            ..readback_query(&[7])
        };
        assert_eq!(
            named.query_and_body(&campaign),
            (String::new(), r#"{"offerIds":["A"]}"#.to_owned())
        );
        let selection = ReadbackSelection::List {
            list: OfferList::Archived,
            token: Some("a=&".to_owned()),
        };
        let archived = ReadbackQuery {
            selection,
            ..readback_query(&[7])
        };
        let (query, body) = archived.query_and_body(&business);
        assert_eq!(query, "?limit=100&page_token=a%3D%26");
        assert_eq!(body, r#"{"archived":true,"partnerWarehouseId":7}"#);
    }
}
