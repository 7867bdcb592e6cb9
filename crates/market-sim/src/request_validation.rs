//! Validation of request bodies in the simulator, by the Market's documented rules.
//!
//! Independent of the service's own validation in `partner_api/wire/validate_update.rs`, and shares
//! no code with it.
//!
//! An update is accepted or rejected as a whole. The messages are the Market's own where they are
//! documented.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use compact_str::CompactString;
use stock::Timestamp;

use super::borrowed_json::{BorrowedJson, BorrowedObject};

/// Most SKUs in one update. Source: `UpdateStocksRequest.skus.maxItems`.
const MAX_SKUS: usize = 2_000;

/// Most SKUs in the filter of a read-back. Source: `GetWarehouseStocksRequest.offerIds.maxItems`.
const MAX_OFFER_IDS: usize = 500;

/// Largest count. Source: `UpdateStockItemDTO.count.maximum`.
const MAX_COUNT: u32 = 2_000_000_000;

/// Longest SKU, in characters. Source: `ShopSku.maxLength`.
const MAX_SKU_CHARS: usize = 255;

/// Oldest accepted `updatedAt`. Source: the Market's message "Stock should not be older than a day".
const MAX_AGE: TimeDelta = TimeDelta::hours(24);

/// Most messages in one 400.
const MAX_ERRORS: usize = 20;

/// Line of an update: one SKU with its count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SimUpdateLine {
    pub(crate) sku: CompactString,
    pub(crate) count: u32,
    pub(crate) updated_at: Timestamp,
}

/// Result of parsing an update.
#[derive(Debug)]
pub(crate) struct ParsedUpdate<L> {
    /// Number of SKUs in the list, valid or not; 0 without a readable list.
    pub(crate) sku_count: usize,
    pub(crate) lines: Result<Vec<L>, Vec<String>>,
}

/// Parses an update of a campaign. One invalid line rejects the whole update.
pub(crate) fn parse_update(
    body: &[u8],
    warehouse: u64,
    now: DateTime<Utc>,
) -> ParsedUpdate<SimUpdateLine> {
    let parse_line = |value: &BorrowedJson<'_>, error: LineError<'_>| {
        let line = value.as_object();
        let line = line.ok_or_else(|| error("", "must be an object"))?;
        let sku = parse_sku(line, error)?;
        let items = line.get("items").and_then(BorrowedJson::as_array);
        let Some([BorrowedJson::Object(item)]) = items else {
            return Err(error(".items", "size must be between 1 and 1"));
        };
        parse_stock(item, sku, ".items[0]", now, error)
    };
    parse_lines(body, "skus", parse_line, |line| {
        (warehouse, line.sku.as_str())
    })
}

/// Parses an update of a business, each line with its warehouse id. One invalid line rejects the
/// whole update.
pub(crate) fn parse_business_update(
    body: &[u8],
    now: DateTime<Utc>,
    is_known: impl Fn(u64) -> bool,
) -> ParsedUpdate<(u64, SimUpdateLine)> {
    let parse_line = |value: &BorrowedJson<'_>, error: LineError<'_>| {
        let members = value.as_object();
        let members = members.ok_or_else(|| error("", "must be an object"))?;
        let sku = parse_sku(members, error)?;
        let field = ".partnerWarehouseId";
        let warehouse = members.get("partnerWarehouseId");
        let warehouse = warehouse.and_then(BorrowedJson::as_positive);
        let warehouse =
            warehouse.ok_or_else(|| error(field, "must be a whole number of at least 1"))?;
        if !is_known(warehouse) {
            return Err(error(field, "must be a warehouse of the business"));
        }
        let line = parse_stock(members, sku, "", now, error)?;
        Ok((warehouse, line))
    };
    parse_lines(body, "skuItems", parse_line, |(warehouse, line)| {
        (*warehouse, line.sku.as_str())
    })
}

/// Creates the message about a field of a line that breaks a rule.
type LineError<'e> = &'e dyn Fn(&str, &str) -> String;

fn parse_lines<L>(
    body: &[u8],
    member: &str,
    parse: impl Fn(&BorrowedJson<'_>, LineError<'_>) -> Result<L, String>,
    key: impl Fn(&L) -> (u64, &str),
) -> ParsedUpdate<L> {
    let value = match BorrowedJson::parse(body) {
        Ok(value) => value,
        Err(message) => return rejected(0, message),
    };
    let members = value.as_object();
    let Some(list) = members.and_then(|members| members.get(member)?.as_array()) else {
        return rejected(0, format!("'{member}' must not be null"));
    };
    let sku_count = list.len();
    if sku_count == 0 || sku_count > MAX_SKUS {
        let message = format!("'{member}' size must be between 1 and {MAX_SKUS}");
        return rejected(sku_count, message);
    }
    let mut lines = Vec::with_capacity(sku_count);
    let mut errors = Vec::new();
    for (index, value) in list.iter().enumerate() {
        let error = |field: &str, rule: &str| format!("'{member}[{index}]{field}' {rule}");
        match parse(value, &error) {
            Ok(line) => lines.push(line),
            Err(message) => errors.push(message),
        }
    }
    let mut seen =
        HashSet::with_capacity_and_hasher(lines.len(), foldhash::fast::RandomState::default());
    for (warehouse, sku) in lines.iter().map(key).filter(|key| !seen.insert(*key)) {
        errors.push(format!(
            "Duplicate shop-sku '{sku}' for warehouse '{warehouse}'"
        ));
    }
    errors.truncate(MAX_ERRORS);
    let is_valid = errors.is_empty();
    ParsedUpdate {
        sku_count,
        lines: is_valid.then_some(lines).ok_or(errors),
    }
}

fn rejected<L>(sku_count: usize, message: String) -> ParsedUpdate<L> {
    ParsedUpdate {
        sku_count,
        lines: Err(vec![message]),
    }
}

fn parse_sku<'a>(members: &'a BorrowedObject<'_>, error: LineError<'_>) -> Result<&'a str, String> {
    let sku = members.get("sku").and_then(BorrowedJson::as_str);
    let sku = sku.ok_or_else(|| error(".sku", "must be a string"))?.trim();
    validate_sku(sku).map_err(|rule| error(".sku", rule))?;
    Ok(sku)
}

/// Parses `count` and `updatedAt`. `path` is that of `members` in the line.
fn parse_stock(
    members: &BorrowedObject<'_>,
    sku: &str,
    path: &str,
    now: DateTime<Utc>,
    error: LineError<'_>,
) -> Result<SimUpdateLine, String> {
    let count = parse_count(members).ok_or_else(|| {
        let rule = "must be a whole number between 0 and 2000000000";
        error(&format!("{path}.count"), rule)
    })?;
    let updated_at = match members.get("updatedAt") {
        None => now,
        Some(timestamp) => {
            let at = timestamp.as_str().and_then(parse_timestamp);
            at.ok_or_else(|| {
                let rule = "must be a date and time with an offset";
                error(&format!("{path}.updatedAt"), rule)
            })?
        }
    };
    if updated_at > now {
        return Err(format!("Stock for '{sku}' should not be in the future"));
    }
    if updated_at < now - MAX_AGE {
        return Err(format!("Stock for '{sku}' should not be older than a day"));
    }
    Ok(SimUpdateLine {
        sku: sku.into(),
        count,
        updated_at: updated_at.into(),
    })
}

/// Checks a trimmed SKU against the documented pattern
/// `^(?=.*\S.*)[^\x00-\x08\x0A-\x1f\x7f]{1,255}$`.
fn validate_sku(sku: &str) -> Result<(), &'static str> {
    // A string has at most as many characters as bytes, so only long ones need counting.
    let is_long = sku.len() > MAX_SKU_CHARS
        && sku.chars().count().max(sku.encode_utf16().count()) > MAX_SKU_CHARS;
    let is_visible = !sku.chars().all(char::is_whitespace);
    let is_clean = sku.bytes().all(|b| b == b'\t' || !b.is_ascii_control());
    if !is_visible || is_long {
        return Err("size must be between 1 and 255");
    }
    if is_clean {
        Ok(())
    } else {
        Err("must match the pattern of a SKU")
    }
}

fn parse_count(item: &BorrowedObject<'_>) -> Option<u32> {
    // Rejects 1.0, 1e3, "5", -1 and numbers above 64 bits.
    let BorrowedJson::Unsigned(count) = item.get("count")? else {
        return None;
    };
    let count = u32::try_from(*count).ok();
    count.filter(|count| *count <= MAX_COUNT)
}

/// Parses a timestamp such as `2017-11-21T00:42:42+03:00`, with or without a fraction.
///
/// A space instead of `T`, lower-case letters and a missing offset are rejected.
fn parse_timestamp(text: &str) -> Option<DateTime<Utc>> {
    let bytes = text.as_bytes();
    let is_strict = bytes.get(10) == Some(&b'T') && !bytes.contains(&b'z');
    let at = DateTime::parse_from_rfc3339(text).ok()?;
    is_strict.then_some(at.to_utc())
}

/// Filters of a read-back.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct SimReadbackFilter {
    pub(crate) archived: bool,
    pub(crate) has_stocks: Option<bool>,
    pub(crate) offer_ids: Option<Vec<String>>,
    pub(crate) warehouse: Option<u64>,
}

/// Parses the body of a campaign's read-back. An empty body selects everything.
pub(crate) fn parse_readback_filter(body: &[u8]) -> Result<SimReadbackFilter, String> {
    if body.is_empty() {
        return Ok(SimReadbackFilter::default());
    }
    let value = BorrowedJson::parse(body)?;
    let members = require_object(&value)?;
    Ok(SimReadbackFilter {
        archived: optional(members, "archived", BorrowedJson::as_bool)?.unwrap_or(false),
        has_stocks: optional(members, "hasStocks", BorrowedJson::as_bool)?,
        offer_ids: parse_offer_ids(members)?,
        warehouse: optional(members, "stocksWarehouseId", BorrowedJson::as_positive)?,
    })
}

/// Parses the body of a business's read-back and returns its required warehouse id and the filter.
pub(crate) fn parse_business_readback_filter(
    body: &[u8],
) -> Result<(u64, SimReadbackFilter), String> {
    let value = BorrowedJson::parse(body)?;
    let members = require_object(&value)?;
    let warehouse = optional(members, "partnerWarehouseId", BorrowedJson::as_positive)?;
    let warehouse = warehouse.ok_or("'partnerWarehouseId' must not be null")?;
    let filter = SimReadbackFilter {
        archived: optional(members, "archived", BorrowedJson::as_bool)?.unwrap_or(false),
        has_stocks: None,
        offer_ids: parse_offer_ids(members)?,
        warehouse: None,
    };
    Ok((warehouse, filter))
}

/// Filter of a warehouse list.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct WarehouseFilter {
    /// Campaign ids or warehouse ids, depending on the method; `None` selects all.
    pub(crate) ids: Option<Vec<u64>>,
    pub(crate) with_status: bool,
}

impl WarehouseFilter {
    pub(crate) fn selects(&self, id: u64) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&id))
    }
}

/// Parses the filter of a warehouse list. `ids_member` is the member with the ids.
pub(crate) fn parse_warehouse_filter(
    body: &[u8],
    ids_member: &str,
    max_ids: usize,
    components: &[&str],
) -> Result<WarehouseFilter, String> {
    if body.is_empty() {
        return Ok(WarehouseFilter::default());
    }
    let value = BorrowedJson::parse(body)?;
    let members = require_object(&value)?;
    let list = parse_list(members, "components", components.len())?;
    let requested = list.unwrap_or_default().iter().map(|value| {
        let name = value.as_str().filter(|name| components.contains(name));
        name.ok_or("Illegal input at 'components'")
    });
    let requested = requested.collect::<Result<Vec<_>, _>>()?;
    let ids = parse_list(members, ids_member, max_ids)?.map(|list| {
        let ids = list.iter().map(BorrowedJson::as_positive);
        let ids = ids.collect::<Option<Vec<u64>>>();
        ids.ok_or_else(|| format!("Illegal input at '{ids_member}'"))
    });
    Ok(WarehouseFilter {
        ids: ids.transpose()?,
        with_status: requested.contains(&"STATUS"),
    })
}

/// Parses `hiddenOffers`. `is_unique` rejects duplicates, which are ignored otherwise.
pub(crate) fn parse_hidden_offers(
    body: &[u8],
    is_unique: bool,
) -> Result<Vec<CompactString>, String> {
    let value = BorrowedJson::parse(body)?;
    let list = parse_list(require_object(&value)?, "hiddenOffers", MAX_OFFER_IDS)?
        .ok_or("'hiddenOffers' must not be null")?;
    let mut seen = HashSet::new();
    let mut offers = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let field = format!("'hiddenOffers[{index}].offerId'");
        let members = value.as_object();
        let id = members.and_then(|members| members.get("offerId")?.as_str());
        let id = id
            .ok_or_else(|| format!("{field} must not be null"))?
            .trim();
        validate_sku(id).map_err(|rule| format!("{field} {rule}"))?;
        if seen.insert(id) {
            offers.push(id.into());
        } else if is_unique {
            return Err(format!("{field} must be unique"));
        }
    }
    Ok(offers)
}

fn require_object<'a, 'b>(value: &'a BorrowedJson<'b>) -> Result<&'a BorrowedObject<'b>, String> {
    let object = value.as_object();
    object.ok_or_else(|| "Illegal input: an object is expected".to_owned())
}

/// Reads an optional member. Null counts as absent.
fn optional<'a, 'b, T>(
    members: &'a BorrowedObject<'b>,
    name: &str,
    read: impl Fn(&'a BorrowedJson<'b>) -> Option<T>,
) -> Result<Option<T>, String> {
    match members.get(name) {
        None | Some(BorrowedJson::Null) => Ok(None),
        Some(value) => {
            let value = read(value).map(Some);
            value.ok_or_else(|| format!("Illegal input at '{name}'"))
        }
    }
}

fn parse_list<'a, 'b>(
    members: &'a BorrowedObject<'b>,
    name: &str,
    max: usize,
) -> Result<Option<&'a [BorrowedJson<'b>]>, String> {
    let list = optional(members, name, BorrowedJson::as_array)?;
    if list.is_some_and(|list| list.is_empty() || list.len() > max) {
        return Err(format!("'{name}' size must be between 1 and {max}"));
    }
    Ok(list)
}

fn parse_offer_ids(members: &BorrowedObject<'_>) -> Result<Option<Vec<String>>, String> {
    let Some(ids) = parse_list(members, "offerIds", MAX_OFFER_IDS)? else {
        return Ok(None);
    };
    if members.get("archived").is_some() {
        return Err("'offerIds' cannot be used together with 'archived'".to_owned());
    }
    let mut seen = HashSet::new();
    let mut offer_ids = Vec::with_capacity(ids.len());
    for id in ids {
        let id = id.as_str().ok_or("Illegal input at 'offerIds'")?.trim();
        validate_sku(id).map_err(|rule| format!("'offerIds' {rule}"))?;
        if seen.insert(id) {
            offer_ids.push(id.to_owned());
        }
    }
    Ok(Some(offer_ids))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    fn parse(body: &str) -> Result<Vec<SimUpdateLine>, Vec<String>> {
        parse_update(body.as_bytes(), 7, now()).lines
    }

    fn item(item: &str) -> String {
        format!(r#"{{"skus":[{{"sku":"A","items":[{item}]}}]}}"#)
    }

    #[test]
    fn reads_documented_body() {
        let lines = parse(&item(
            r#"{"count":3,"updatedAt":"2026-11-20T12:30:00.5+03:00"}"#,
        ))
        .unwrap();
        assert_eq!(lines[0].sku, "A");
        assert_eq!(lines[0].count, 3);
        assert_eq!(lines[0].updated_at.to_string(), "2026-11-20T09:30:00.500Z");
        assert_eq!(
            parse(&item(r#"{"count":0}"#)).unwrap()[0].updated_at,
            now().into()
        );
    }

    #[test]
    fn count_must_be_whole_number_in_range() {
        for count in [
            "-1",
            "2000000001",
            "1.0",
            "1e3",
            "\"5\"",
            "null",
            "true",
            "[1]",
        ] {
            let errors = parse(&item(&format!(r#"{{"count":{count}}}"#))).unwrap_err();
            assert!(errors[0].contains("'skus[0].items[0].count'"), "{errors:?}");
        }
        assert!(parse(&item("{}")).is_err());
        assert!(parse(&item(r#"{"count":2000000000}"#)).is_ok());
    }

    #[test]
    fn timestamp_must_be_rfc_3339() {
        for timestamp in [
            "\"2026-11-20T09:00:00\"",
            "\"2026-11-20 09:00:00Z\"",
            "\"2026-11-20T09:00:00z\"",
            "\"2026-11-20T09:00:00+0300\"",
            "\"2026-11-20\"",
            "1763629200",
            "null",
        ] {
            let errors =
                parse(&item(&format!(r#"{{"count":1,"updatedAt":{timestamp}}}"#))).unwrap_err();
            assert!(errors[0].contains("updatedAt"), "{errors:?}");
        }
    }

    #[test]
    fn rejects_future_and_day_old_timestamps() {
        let at = |at: &str| parse(&item(&format!(r#"{{"count":1,"updatedAt":"{at}"}}"#)));
        assert!(at("2026-11-20T10:00:00Z").is_ok());
        assert!(at("2026-11-19T10:00:00Z").is_ok());
        assert_eq!(
            at("2026-11-20T10:00:00.001Z").unwrap_err(),
            ["Stock for 'A' should not be in the future"]
        );
        assert_eq!(
            at("2026-11-19T09:59:59.999Z").unwrap_err(),
            ["Stock for 'A' should not be older than a day"]
        );
    }

    #[test]
    fn rejects_duplicates_after_trimming() {
        let body =
            r#"{"skus":[{"sku":"A","items":[{"count":1}]},{"sku":" A\t","items":[{"count":2}]}]}"#;
        assert_eq!(
            parse(body).unwrap_err(),
            ["Duplicate shop-sku 'A' for warehouse '7'"]
        );
    }

    #[test]
    fn accepts_1_to_2000_skus_and_counts_all() {
        let items = |n| (0..n).map(|i| format!(r#"{{"sku":"{i}","items":[{{"count":1}}]}}"#));
        let body = |n| format!(r#"{{"skus":[{}]}}"#, items(n).collect::<Vec<_>>().join(","));
        assert_eq!(parse(&body(2000)).unwrap().len(), 2000);
        let parsed = parse_update(body(2001).as_bytes(), 7, now());
        assert_eq!(parsed.sku_count, 2001);
        assert!(parsed.lines.is_err());
        assert!(parse(r#"{"skus":[]}"#).is_err());
    }

    #[test]
    fn rejects_other_shapes() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"skus":null}"#,
            r#"{"skus":[],"skus":[{"sku":"A","items":[{"count":1}]}]}"#,
            r#"{"skus":{}}"#,
            r#"{"skus":[1]}"#,
            r#"{"skus":[{"items":[{"count":1}]}]}"#,
            r#"{"skus":[{"sku":7,"items":[{"count":1}]}]}"#,
            r#"{"skus":[{"sku":" ","items":[{"count":1}]}]}"#,
            r#"{"skus":[{"sku":"a\nb","items":[{"count":1}]}]}"#,
            r#"{"skus":[{"sku":"A","items":{"count":1}}]}"#,
            r#"{"skus":[{"sku":"A","items":[]}]}"#,
            r#"{"skus":[{"sku":"A","items":[{"count":1},{"count":1}]}]}"#,
        ] {
            assert!(parse(body).is_err(), "{body}");
        }
        let long = "я".repeat(256);
        assert!(
            parse(&format!(
                r#"{{"skus":[{{"sku":"{long}","items":[{{"count":1}}]}}]}}"#
            ))
            .is_err()
        );
    }

    #[test]
    fn reads_filters_and_rejects_invalid_ones() {
        assert_eq!(
            parse_readback_filter(b"").unwrap(),
            SimReadbackFilter::default()
        );
        assert_eq!(
            parse_readback_filter(b"{}").unwrap(),
            SimReadbackFilter::default()
        );
        let filter =
            parse_readback_filter(br#"{"offerIds":["A"," B "],"stocksWarehouseId":5}"#).unwrap();
        assert_eq!(filter.offer_ids.unwrap(), ["A", "B"]);
        assert_eq!(filter.warehouse, Some(5));
        for body in [
            "[]",
            r#"{"archived":1}"#,
            r#"{"offerIds":[]}"#,
            r#"{"offerIds":[1]}"#,
            r#"{"offerIds":["A"],"archived":false}"#,
            r#"{"stocksWarehouseId":0}"#,
        ] {
            assert!(parse_readback_filter(body.as_bytes()).is_err(), "{body}");
        }
        let ids: Vec<String> = (0..501).map(|n| n.to_string()).collect();
        let body = serde_json::json!({ "offerIds": ids }).to_string();
        assert!(
            parse_readback_filter(body.as_bytes())
                .unwrap_err()
                .contains("between 1 and 500")
        );
    }
}
