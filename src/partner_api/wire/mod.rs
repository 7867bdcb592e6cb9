//! The shapes of `…/v2/campaigns/{campaignId}/offers/stocks`, with their limits and sources.
//!
//! Sources: the Market's OpenAPI description, state of 2026-07-17, and its pages on limits and
//! errors, 2026.

pub mod business;

use std::collections::HashSet;
use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::http::json::{JsonText, StrictObject, read_json};
use crate::stock::{Count, Level, Sku, Timestamp, Update};

/// Most SKUs in one update. Source: `UpdateStocksRequest.skus.maxItems`.
pub const MAX_SKUS_PER_UPDATE: usize = 2_000;

/// Largest update we take, in bytes. The largest legal one takes about 3.25 MB: two thousand
/// SKUs of 255 characters, each spelled `\uXXXX`.
pub const MAX_UPDATE_BYTES: usize = 4 * 1024 * 1024;

/// SKUs a campaign may send a minute. Source: `updateStocks`, "100,000 products per minute".
pub const SKUS_PER_MINUTE: u32 = 100_000;

/// Most SKUs in the filter of a read-back. Source: `GetWarehouseStocksRequest.offerIds`.
pub const MAX_OFFER_IDS: usize = 500;

/// Largest page of a read-back by either method; a larger `limit` is cut to it without an error.
/// Source: `PageLimit100Truncate`, change log of 2026-08-04.
pub const MAX_PAGE_SIZE: usize = 100;
/// Page of a read-back without a `limit`. Source: as [`MAX_PAGE`].
pub const DEFAULT_PAGE_SIZE: usize = 50;

/// How far ahead of our clock an `updatedAt` may be: a stamp from further ahead would freeze
/// its SKU until that date.
pub const MAX_FUTURE_SKEW: TimeDelta = TimeDelta::minutes(5);

/// Under which number the Market knows a shop's stock, and so by which of its two methods it
/// is told and asked.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum MarketAddress {
    /// `…/v2/campaigns/{campaignId}/offers/stocks`: the campaign decides the warehouse.
    Campaign {
        /// The campaign; of a warehouse group, any one.
        id: u64,
    },
    /// `…/v3/businesses/{businessId}/offers/stocks`: for cabinets without warehouse groups.
    Business {
        /// The cabinet.
        id: u64,
        /// The warehouses that share this stock, each of which is told of it.
        warehouses: Vec<u64>,
    },
}

impl MarketAddress {
    /// The cabinet, if it is by its number that the Market is told.
    #[must_use]
    pub fn business_id(&self) -> Option<u64> {
        match self {
            Self::Campaign { .. } => None,
            Self::Business { id, .. } => Some(*id),
        }
    }

    /// The method's name in the configuration.
    #[must_use]
    pub fn method_name(&self) -> &'static str {
        match self {
            Self::Campaign { .. } => "campaign",
            Self::Business { .. } => "business",
        }
    }
}

impl fmt::Display for MarketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Campaign { id } => write!(f, "campaign {id}"),
            Self::Business { id, warehouses } => {
                write!(f, "business {id} warehouses {warehouses:?}")
            }
        }
    }
}

/// One error of the Market's wrapper.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ApiError {
    /// A stable name, such as `BAD_REQUEST`.
    pub code: String,
    /// What is wrong, for people; the only place where the Market names a SKU.
    #[serde(default)]
    pub message: String,
}

impl ApiError {
    /// An error of the request's content.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self {
            code: "BAD_REQUEST".to_owned(),
            message: message.into(),
        }
    }
}

/// The wrapper around every answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ApiResponse {
    /// `OK` or `ERROR`.
    pub status: String,
    /// Present on errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<ApiError>>,
}

impl ApiResponse {
    /// Well done.
    #[must_use]
    pub fn ok() -> Self {
        Self {
            status: "OK".to_owned(),
            errors: None,
        }
    }

    /// Refused.
    #[must_use]
    pub fn error(errors: Vec<ApiError>) -> Self {
        Self {
            status: "ERROR".to_owned(),
            errors: Some(errors),
        }
    }
}

// === The update, as we take it ===

/// At most so many faults are told of one body: enough to mend it, not enough to flood a log.
pub(super) const MAX_ERRORS: usize = 20;

#[derive(Deserialize)]
struct UpdateStocksRequest<'a> {
    #[serde(borrow)]
    skus: Option<Vec<StrictObject<UpdateStock<'a>>>>,
}

#[derive(Deserialize)]
struct UpdateStock<'a> {
    #[serde(borrow)]
    sku: Option<JsonText<'a>>,
    #[serde(borrow)]
    items: Option<Vec<StrictObject<UpdateStockItem<'a>>>>,
}

#[derive(Deserialize)]
struct UpdateStockItem<'a> {
    // Kept as written: a fraction or a number beyond every limit is named in the refusal.
    #[serde(borrow)]
    count: Option<&'a RawValue>,
    #[serde(borrow, rename = "updatedAt")]
    updated_at: Option<JsonText<'a>>,
}

/// Reads the body of an update, whole or not at all.
///
/// # Errors
/// Every fault found, up to twenty, worded as the Market words them.
pub fn parse_update(
    body: &[u8],
    warehouse: u64,
    now: DateTime<Utc>,
) -> Result<Vec<Update>, Vec<ApiError>> {
    let request: UpdateStocksRequest<'_> = read_request(body)?;
    let parse_item = |index, stock: UpdateStock<'_>| stock.into_update(index, now);
    parse_items("skus", request.skus, parse_item, |update| {
        (&update.sku, warehouse)
    })
}

fn read_request<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Vec<ApiError>> {
    match read_json::<StrictObject<T>>(body) {
        Ok(StrictObject(request)) => Ok(request),
        Err(e) => Err(vec![ApiError::bad_request(format!("Illegal input: {e}"))]),
    }
}

/// Takes the items of an update, all or none: `read` makes a statement of one, and `pair` tells
/// its SKU and warehouse, of which there may be one statement only.
fn parse_items<T, S>(
    member: &str,
    items: Option<Vec<StrictObject<T>>>,
    parse_item: impl Fn(usize, T) -> Result<S, String>,
    key_of: impl Fn(&S) -> (&Sku, u64),
) -> Result<Vec<S>, Vec<ApiError>> {
    let items = items.unwrap_or_default();
    if items.is_empty() || items.len() > MAX_SKUS_PER_UPDATE {
        return Err(vec![ApiError::bad_request(format!(
            "'{member}' size must be between 1 and {MAX_SKUS_PER_UPDATE}, it is {}",
            items.len()
        ))]);
    }
    let mut errors = Vec::new();
    let mut statements = Vec::with_capacity(items.len());
    for (index, StrictObject(item)) in items.into_iter().enumerate() {
        match parse_item(index, item) {
            Ok(statement) => statements.push(statement),
            Err(error) => errors.push(error),
        }
    }
    errors.extend(duplicate_errors(statements.iter().map(key_of)));
    if errors.is_empty() {
        return Ok(statements);
    }
    errors.truncate(MAX_ERRORS);
    Err(errors.into_iter().map(ApiError::bad_request).collect())
}

fn duplicate_errors<'a>(
    keys: impl Iterator<Item = (&'a Sku, u64)>,
) -> impl Iterator<Item = String> {
    let mut seen = HashSet::with_capacity(keys.size_hint().0);
    keys.filter(move |(sku, warehouse)| !seen.insert((sku.as_str(), *warehouse)))
        .map(|(sku, warehouse)| format!("Duplicate shop-sku '{sku}' for warehouse '{warehouse}'"))
}

impl UpdateStock<'_> {
    fn into_update(self, index: usize, now: DateTime<Utc>) -> Result<Update, String> {
        let sku = parse_sku(self.sku, format_args!("skus[{index}]"))?;
        let Ok([StrictObject(item)]) =
            <[StrictObject<UpdateStockItem<'_>>; 1]>::try_from(self.items.unwrap_or_default())
        else {
            return Err(format!(
                "'skus[{index}].items' size must be between 1 and 1"
            ));
        };
        item.into_update(sku, format_args!("skus[{index}].items[0]"), now)
    }
}

/// Checks a SKU; `place` is where in the body it stands.
fn parse_sku(text: Option<JsonText<'_>>, path: fmt::Arguments<'_>) -> Result<Sku, String> {
    let text = text.ok_or_else(|| format!("'{path}.sku' must not be null"))?;
    Sku::parse(&text.0).map_err(|e| format!("'{path}.sku': {e}"))
}

impl UpdateStockItem<'_> {
    /// Checks count and date; `place` is where in the body they stand.
    fn into_update(
        self,
        sku: Sku,
        path: fmt::Arguments<'_>,
        now: DateTime<Utc>,
    ) -> Result<Update, String> {
        let count = self.count.map(RawValue::get).unwrap_or("null");
        let count = parse_count(count).ok_or_else(|| {
            format!(
                "'{path}.count' must be a whole number between 0 and 2000000000, it is {}",
                shorten(count)
            )
        })?;
        let updated_at = match self.updated_at {
            None => None,
            Some(JsonText(text)) => Some(parse_timestamp(&text).ok_or_else(|| {
                format!(
                    "'{path}.updatedAt' must be a date and time with an offset, such as \
                     2017-11-21T00:42:42+03:00, it is '{}'",
                    shorten(&text)
                )
            })?),
        };
        if updated_at.is_some_and(|at| at > Timestamp::from(now + MAX_FUTURE_SKEW)) {
            return Err(format!("Stock for '{sku}' should not be in the future"));
        }
        Ok(Update {
            sku,
            count,
            updated_at,
        })
    }
}

fn parse_count(literal: &str) -> Option<Count> {
    literal
        .parse::<i64>()
        .ok()
        .and_then(|n| Count::try_from(n).ok())
}

/// RFC 3339, and the offset without a colon that PHP's `DATE_ISO8601` writes.
pub(super) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"))
        .ok()
        .map(|at| at.with_timezone(&Utc).into())
}

/// The beginning of a value, for a message: somebody's mistake may be a megabyte long.
fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

// === The update, as we send it ===

/// Requests a cabinet may make a minute to the method by business. Source: the change log,
/// 2026-07-29.
pub const UPDATES_PER_MINUTE: u32 = 50;

/// The body of an update we send, built SKU by SKU up to a size.
///
/// Raw UTF-8, not `\u` escapes: a Cyrillic SKU takes a third of the bytes.
#[derive(Debug)]
pub struct UpdateBody<'a> {
    address: &'a MarketAddress,
    bytes: Vec<u8>,
    max_bytes: usize,
    skus: usize,
}

const UPDATE_TAIL: &[u8] = b"]}";

impl<'a> UpdateBody<'a> {
    /// An empty body for this address that will not outgrow `max_bytes`.
    #[must_use]
    pub fn new(max_bytes: usize, address: &'a MarketAddress) -> Self {
        let head: &[u8] = match address {
            MarketAddress::Campaign { .. } => br#"{"skus":["#,
            MarketAddress::Business { .. } => br#"{"skuItems":["#,
        };
        Self {
            address,
            bytes: head.to_vec(),
            max_bytes,
            skus: 0,
        }
    }

    /// Adds a SKU, or says `false` and changes nothing if it does not fit.
    ///
    /// The first always fits: a SKU takes at most about 1.5 kB a warehouse.
    pub fn push(&mut self, sku: &Sku, level: Level) -> bool {
        let before = self.bytes.len();
        match self.address {
            MarketAddress::Campaign { .. } => {
                self.begin_item(sku);
                let (count, at) = (level.count, level.updated_at);
                self.bytes.extend_from_slice(
                    format!(r#","items":[{{"count":{count},"updatedAt":"{at}"}}]}}"#).as_bytes(),
                );
            }
            MarketAddress::Business { warehouses, .. } => {
                for warehouse in warehouses {
                    self.begin_item(sku);
                    let (count, at) = (level.count, level.updated_at);
                    let rest = format!(
                        r#","partnerWarehouseId":{warehouse},"count":{count},"updatedAt":"{at}"}}"#
                    );
                    self.bytes.extend_from_slice(rest.as_bytes());
                }
            }
        }
        let fits = self.skus == 0 || self.bytes.len() + UPDATE_TAIL.len() <= self.max_bytes;
        if fits {
            self.skus += 1;
        } else {
            self.bytes.truncate(before);
        }
        fits
    }

    fn begin_item(&mut self, sku: &Sku) {
        if !self.bytes.ends_with(b"[") {
            self.bytes.push(b',');
        }
        self.bytes.extend_from_slice(br#"{"sku":"#);
        serde_json::to_writer(&mut self.bytes, sku.as_str())
            .expect("a string written to memory cannot fail");
    }

    /// How many SKUs there are.
    #[must_use]
    pub fn skus(&self) -> usize {
        self.skus
    }

    /// The finished JSON.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(UPDATE_TAIL);
        self.bytes
    }
}

// === The read-back ===

/// The filters of a read-back. Unknown members are ignored.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CampaignReadbackRequest {
    /// Only offers that are archived; without it, only those that are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// Only offers with, or without, stock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_stocks: Option<bool>,
    /// Exactly these, 1 to 500, on one page, archived or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer_ids: Option<Vec<String>>,
    /// Only this warehouse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stocks_warehouse_id: Option<u64>,
}

/// The answer of a read-back.
#[derive(Debug, Deserialize, Serialize)]
pub struct CampaignReadbackResponse {
    /// `OK` or `ERROR`.
    pub status: String,
    /// Absent on errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<CampaignReadbackResult>,
}

/// One page of a read-back.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct CampaignReadbackResult {
    /// Where the next page begins.
    #[serde(default)]
    pub paging: ResponsePaging,
    /// May list the Market's own return warehouse besides the seller's.
    pub warehouses: Vec<WarehouseOffers>,
}

/// Where the next page begins; absent on the last one.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponsePaging {
    /// To be sent as `page_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// The offers of one warehouse.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WarehouseOffers {
    /// Which warehouse.
    pub warehouse_id: u64,
    /// Its offers on this page.
    pub offers: Vec<WarehouseOffer>,
}

/// One offer of a read-back.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WarehouseOffer {
    /// The SKU.
    pub offer_id: String,
    /// Counts by type.
    pub stocks: Vec<OfferStock>,
    /// When the Market last heard of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<DateTime<Utc>>,
}

/// One count of a read-back.
#[derive(Debug, Deserialize, Serialize)]
pub struct OfferStock {
    /// `AVAILABLE` can be ordered, `FIT` includes what is reserved, `FREEZE` is the reserve.
    #[serde(rename = "type")]
    pub kind: String,
    /// Pieces.
    pub count: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAMPAIGN: MarketAddress = MarketAddress::Campaign { id: 1 };

    fn now() -> DateTime<Utc> {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_method_by_business_tells_every_warehouse_in_the_documented_shape() {
        let address = MarketAddress::Business {
            id: 1,
            warehouses: vec![123, 124],
        };
        let level = Level {
            count: Count::try_from(3).unwrap(),
            updated_at: now().into(),
        };
        let mut body = UpdateBody::new(1000, &address);
        assert!(body.push(&Sku::parse("A").unwrap(), level));
        assert!(body.push(&Sku::parse("[").unwrap(), level));
        let json: serde_json::Value = serde_json::from_slice(&body.finish()).unwrap();
        let items = json["skuItems"].as_array().unwrap();
        let expected = serde_json::json!({
            "sku": "A", "partnerWarehouseId": 123, "count": 3, "updatedAt": "2026-11-20T10:00:00Z",
        });
        assert_eq!((items.len(), &items[0]), (4, &expected));
        assert_eq!(items[3]["partnerWarehouseId"], 124);
    }

    fn parse(body: &str) -> Result<Vec<Update>, Vec<String>> {
        parse_update(body.as_bytes(), 7, now())
            .map_err(|errors| errors.into_iter().map(|error| error.message).collect())
    }

    fn with_item(item: &str) -> String {
        format!(r#"{{"skus":[{{"sku":"A","items":[{item}]}}]}}"#)
    }

    #[test]
    fn the_documented_body_and_the_older_one_are_taken() {
        let updates = parse(&with_item(
            r#"{"count":3,"updatedAt":"2025-01-01T00:00:00Z"}"#,
        ))
        .unwrap();
        assert_eq!(updates[0].sku.as_str(), "A");
        assert_eq!(
            updates[0].updated_at.unwrap().to_string(),
            "2025-01-01T00:00:00Z"
        );
        let old = r#"{"skus":[{"sku":"string","warehouseId":0,"items":[
            {"count":0,"type":"FIT","updatedAt":"2022-12-29T18:02:01Z"}]}]}"#;
        assert_eq!(parse(old).unwrap()[0].count, Count::ZERO);
    }

    #[test]
    fn a_missing_date_means_now_and_an_old_one_is_taken() {
        assert_eq!(
            parse(&with_item(r#"{"count":3}"#)).unwrap()[0].updated_at,
            None
        );
        assert_eq!(
            parse(&with_item(r#"{"count":3,"updatedAt":null}"#)).unwrap()[0].updated_at,
            None
        );
        for at in [
            "2019-09-09T13:01:18+03:00",
            "2019-09-09T13:01:18+0300",
            "2019-09-09T10:01:18.5Z",
        ] {
            parse(&with_item(&format!(r#"{{"count":3,"updatedAt":"{at}"}}"#))).unwrap();
        }
    }

    #[test]
    fn five_minutes_ahead_is_the_limit() {
        parse(&with_item(
            r#"{"count":3,"updatedAt":"2026-11-20T10:05:00Z"}"#,
        ))
        .unwrap();
        assert_eq!(
            parse(&with_item(
                r#"{"count":3,"updatedAt":"2026-11-20T10:05:00.001Z"}"#
            ))
            .unwrap_err(),
            ["Stock for 'A' should not be in the future"]
        );
    }

    #[test]
    fn counts_that_are_no_counts_are_named() {
        for count in [
            "-1",
            "2000000001",
            "1.0",
            "1e3",
            "\"5\"",
            "null",
            "99999999999999999999",
            "[]",
        ] {
            let errors = parse(&with_item(&format!(r#"{{"count":{count}}}"#))).unwrap_err();
            assert!(errors[0].contains(&format!("it is {count}")), "{errors:?}");
        }
        assert!(parse(&with_item("{}")).is_err());
        assert_eq!(
            parse(&with_item(r#"{"count":2000000000}"#)).unwrap()[0]
                .count
                .get(),
            2_000_000_000
        );
    }

    #[test]
    fn twins_after_trimming_are_refused() {
        let body =
            r#"{"skus":[{"sku":"A","items":[{"count":1}]},{"sku":" A ","items":[{"count":2}]}]}"#;
        assert_eq!(
            parse(body).unwrap_err(),
            ["Duplicate shop-sku 'A' for warehouse '7'"]
        );
    }

    #[test]
    fn sizes_are_held() {
        assert!(parse(r#"{"skus":[]}"#).unwrap_err()[0].contains("between 1 and 2000"));
        assert!(parse("{}").unwrap_err()[0].contains("between 1 and 2000"));
        let items = |n| (0..n).map(|i| format!(r#"{{"sku":"{i}","items":[{{"count":1}}]}}"#));
        let body = |n| format!(r#"{{"skus":[{}]}}"#, items(n).collect::<Vec<_>>().join(","));
        assert_eq!(parse(&body(2000)).unwrap().len(), 2000);
        assert!(parse(&body(2001)).unwrap_err()[0].contains("it is 2001"));
        assert!(parse(&with_item(r#"{"count":1},{"count":2}"#)).unwrap_err()[0].contains("items"));
        assert!(parse(&with_item("")).unwrap_err()[0].contains("items"));
    }

    #[test]
    fn every_fault_of_a_body_is_told() {
        let body =
            r#"{"skus":[{"sku":" ","items":[{"count":1}]},{"sku":"B","items":[{"count":-1}]}]}"#;
        assert_eq!(parse(body).unwrap_err().len(), 2);
    }

    #[test]
    fn a_body_stops_growing_at_its_limit_and_stays_whole() {
        let level = Level {
            count: Count::ZERO,
            updated_at: now().into(),
        };
        let mut body = UpdateBody::new(200, &CAMPAIGN);
        let long = Sku::parse(&"я".repeat(255)).unwrap();
        assert!(body.push(&long, level), "the first always fits");
        assert!(!body.push(&Sku::parse("B").unwrap(), level));
        let json: serde_json::Value = serde_json::from_slice(&body.finish()).unwrap();
        assert_eq!(json["skus"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn what_we_send_is_what_we_would_take() {
        let level = Level {
            count: Count::try_from(8).unwrap(),
            updated_at: now().into(),
        };
        let mut body = UpdateBody::new(1000, &CAMPAIGN);
        for sku in ["A", "кв\"ад\\рат", "t\tab"] {
            assert!(body.push(&Sku::parse(sku).unwrap(), level));
        }
        let updates = parse_update(&body.finish(), 7, now()).unwrap();
        assert_eq!(updates[1].sku.as_str(), "кв\"ад\\рат");
        assert_eq!(updates[2].updated_at, Some(level.updated_at));
    }
}
