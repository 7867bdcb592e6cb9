//! Wire format of `…/v3/businesses/{businessId}/offers/stocks`, where each item names its warehouse.
//!
//! Sources: the Market's OpenAPI description, state of 2026-07-17, and its change log of
//! 2026-07-29 and 2026-08-04. A read-back has the same pages as the method by campaign.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use stock::Update;
use strict_http::json::{JsonText, StrictObject};

use super::validate_update::{UpdateStockItem, parse_items, parse_sku, read_request, shorten};
use super::{ApiError, ResponsePaging, WarehouseOffer};

/// Read-back requests per minute for one business. Source: `getStocksOnPartnerWarehouses`.
pub const READBACKS_PER_MINUTE: u32 = 500;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BusinessUpdateRequest<'a> {
    #[serde(borrow)]
    sku_items: Option<Vec<StrictObject<BusinessUpdateItem<'a>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BusinessUpdateItem<'a> {
    #[serde(borrow)]
    sku: Option<JsonText<'a>>,
    // Kept as written, like the count.
    #[serde(borrow)]
    partner_warehouse_id: Option<&'a RawValue>,
    #[serde(borrow)]
    count: Option<&'a RawValue>,
    #[serde(borrow)]
    updated_at: Option<JsonText<'a>>,
}

/// Update of one SKU in one warehouse.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WarehouseUpdate {
    /// Warehouse id of the v3 methods.
    pub warehouse: u64,
    /// SKU, count and date.
    pub update: Update,
}

/// Parses the body of an update. All items are valid, or none is returned.
///
/// # Errors
/// All errors, up to twenty, worded like those of the Market.
pub fn parse_update(
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<Vec<WarehouseUpdate>, Vec<ApiError>> {
    let request: BusinessUpdateRequest<'_> = read_request(body)?;
    let parse_item = |index, item: BusinessUpdateItem<'_>| item.into_update(index, now);
    parse_items("skuItems", request.sku_items, parse_item, |item| {
        (&item.update.sku, item.warehouse)
    })
}

impl BusinessUpdateItem<'_> {
    fn into_update(self, index: usize, now: DateTime<Utc>) -> Result<WarehouseUpdate, String> {
        let sku = parse_sku(self.sku, format_args!("skuItems[{index}]"))?;
        let warehouse = self
            .partner_warehouse_id
            .ok_or_else(|| format!("'skuItems[{index}].partnerWarehouseId' must not be null"))?
            .get();
        let warehouse = warehouse.parse().ok().filter(|id| *id > 0).ok_or_else(|| {
            format!(
                "'skuItems[{index}].partnerWarehouseId' must be a whole number greater than or \
                 equal to 1, it is {}",
                shorten(warehouse)
            )
        })?;
        let item = UpdateStockItem {
            count: self.count,
            updated_at: self.updated_at,
        };
        let update = item.into_update(sku, format_args!("skuItems[{index}]"), now)?;
        Ok(WarehouseUpdate { warehouse, update })
    }
}

/// Filters of a read-back. Unknown members are ignored.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BusinessReadbackRequest {
    /// Warehouse; required.
    pub partner_warehouse_id: Option<u64>,
    /// True for archived offers only; otherwise only offers that are not archived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// Exactly these 1 to 500 SKUs, on one page, archived or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer_ids: Option<Vec<String>>,
}

/// Page of a read-back.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BusinessReadbackResult {
    /// Warehouse.
    pub partner_warehouse_id: u64,
    /// Offers on this page.
    pub offers: Vec<WarehouseOffer>,
    /// Token of the next page.
    #[serde(default)]
    pub paging: ResponsePaging,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    fn parse(items: &str) -> Result<Vec<WarehouseUpdate>, Vec<String>> {
        parse_update(format!(r#"{{"skuItems":[{items}]}}"#).as_bytes(), now())
            .map_err(|errors| errors.into_iter().map(|error| error.message).collect())
    }

    #[test]
    fn accepts_bodies_with_and_without_dates() {
        let items = parse(
            r#"{"sku":" A ","partnerWarehouseId":123,"count":3,"updatedAt":"2026-11-20T10:00:00Z"},
               {"count":0,"partnerWarehouseId":124,"sku":"A","comment":{}}"#,
        )
        .unwrap();
        assert_eq!(
            (items[0].warehouse, items[0].update.sku.as_str()),
            (123, "A")
        );
        assert_eq!(items[0].update.count.get(), 3);
        assert_eq!(items[0].update.updated_at, Some(now().into()));
        assert_eq!(
            (items[1].warehouse, items[1].update.updated_at),
            (124, None)
        );
    }

    #[test]
    fn allows_a_sku_once_per_warehouse() {
        parse(
            r#"{"sku":"A","partnerWarehouseId":1,"count":1},
               {"sku":"A","partnerWarehouseId":2,"count":1}"#,
        )
        .unwrap();
        let twice = r#"{"sku":"A","partnerWarehouseId":2,"count":1},
            {"sku":" A","partnerWarehouseId":2,"count":1}"#;
        assert_eq!(
            parse(twice).unwrap_err(),
            ["Duplicate shop-sku 'A' for warehouse '2'"]
        );
    }

    #[test]
    fn applies_the_rules_of_the_campaign_method() {
        let errors = parse(
            r#"{"partnerWarehouseId":1,"count":1},
               {"sku":" ","partnerWarehouseId":1,"count":1},
               {"sku":"A","partnerWarehouseId":1,"count":1.5},
               {"sku":"B","partnerWarehouseId":1},
               {"sku":"C","partnerWarehouseId":1,"count":1,"updatedAt":"2026-11-20"},
               {"sku":"D","partnerWarehouseId":1,"count":1,"updatedAt":"2026-11-20T10:05:00.001Z"}"#,
        )
        .unwrap_err();
        let whole = "must be a whole number between 0 and 2000000000, it is";
        let expected = [
            "'skuItems[0].sku' must not be null".to_owned(),
            "'skuItems[1].sku': sku is empty, at least one visible character is needed".to_owned(),
            format!("'skuItems[2].count' {whole} 1.5"),
            format!("'skuItems[3].count' {whole} null"),
            "'skuItems[4].updatedAt' must be a date and time with an offset, such as \
             2017-11-21T00:42:42+03:00, it is '2026-11-20'"
                .to_owned(),
            "Stock for 'D' should not be in the future".to_owned(),
        ];
        assert_eq!(errors, expected);
    }

    #[test]
    fn invalid_warehouses_are_named() {
        for id in ["0", "-1", "1.0", "\"7\"", "99999999999999999999", "{}"] {
            let errors = parse(&format!(
                r#"{{"sku":"A","partnerWarehouseId":{id},"count":1}}"#
            ));
            let error = errors.unwrap_err().remove(0);
            assert!(
                error.contains("partnerWarehouseId") && error.ends_with(id),
                "{error}"
            );
        }
        for missing in [
            r#"{"sku":"A","count":1}"#,
            r#"{"sku":"A","partnerWarehouseId":null}"#,
        ] {
            let errors = parse(missing).unwrap_err();
            assert_eq!(
                errors,
                ["'skuItems[0].partnerWarehouseId' must not be null"]
            );
        }
    }

    #[test]
    fn limits_the_number_of_items() {
        let items = |n: usize| {
            let item = |i| format!(r#"{{"sku":"{i}","partnerWarehouseId":1,"count":1}}"#);
            (0..n).map(item).collect::<Vec<_>>().join(",")
        };
        assert_eq!(parse(&items(2000)).unwrap().len(), 2000);
        for (n, expected) in [(0, "it is 0"), (2001, "it is 2001")] {
            let error = parse(&items(n)).unwrap_err().remove(0);
            assert!(
                error.starts_with("'skuItems' size") && error.ends_with(expected),
                "{error}"
            );
        }
        assert!(parse_update(b"{}", now()).is_err());
        assert!(parse_update(b"[]", now()).is_err());
    }
}
