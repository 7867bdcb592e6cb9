use std::collections::HashSet;

use super::value::{Members, Value};
use crate::stock::Instant as Moment;
use chrono::{DateTime, TimeDelta, Utc};
use compact_str::CompactString;

/// Most SKUs in one update. Source: `UpdateStocksRequest.skus.maxItems`.
const MAX_SKUS: usize = 2_000;

/// Most SKUs in a read-back's filter. Source: `GetWarehouseStocksRequest.offerIds.maxItems`.
const MAX_OFFER_IDS: usize = 500;

/// Largest count. Source: `UpdateStockItemDTO.count.maximum`.
const MAX_COUNT: u32 = 2_000_000_000;

/// Longest SKU in characters. Source: `ShopSku.maxLength`.
const MAX_SKU_CHARS: usize = 255;

/// "Stock should not be older than a day".
const MAX_AGE: TimeDelta = TimeDelta::hours(24);

const MAX_FAULTS: usize = 20;

/// One SKU of an update.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Line {
    pub(super) sku: CompactString,
    pub(super) count: u32,
    pub(super) updated_at: Moment,
}

/// An update as the Market reads it.
#[derive(Debug)]
pub(super) struct Reading<L> {
    /// SKUs in it, readable or not, as far as there is a list of them.
    pub(super) charged: usize,
    pub(super) lines: Result<Vec<L>, Vec<String>>,
}

/// Reads an update of a campaign, whole or not at all.
pub(super) fn read_update(body: &[u8], warehouse: u64, now: DateTime<Utc>) -> Reading<Line> {
    read_lines(
        body,
        "skus",
        |value| read_line(value, now),
        |line| (warehouse, line.sku.as_str()),
    )
}

/// Reads an update of a business, whole or not at all: each line with its warehouse.
pub(super) fn read_business_update(
    body: &[u8],
    now: DateTime<Utc>,
    is_known: impl Fn(u64) -> bool,
) -> Reading<(u64, Line)> {
    let read = |value: &Value<'_>| {
        let members = value
            .as_object()
            .ok_or(Fault::At("", "must be an object"))?;
        let sku = read_sku(members)?;
        let place = ".partnerWarehouseId";
        let warehouse = match members.get("partnerWarehouseId") {
            Some(Value::Whole(id)) if *id > 0 => *id,
            _ => return Err(Fault::At(place, "must be a whole number of at least 1")),
        };
        if !is_known(warehouse) {
            return Err(Fault::At(place, "must be a warehouse of the business"));
        }
        let line = read_stock(members, sku, (".count", ".updatedAt"), now)?;
        Ok((warehouse, line))
    };
    read_lines(body, "skuItems", read, |(warehouse, line)| {
        (*warehouse, line.sku.as_str())
    })
}

fn read_lines<L>(
    body: &[u8],
    member: &str,
    read: impl Fn(&Value<'_>) -> Result<L, Fault>,
    key: impl Fn(&L) -> (u64, &str),
) -> Reading<L> {
    let value = match Value::read(body) {
        Ok(value) => value,
        Err(message) => return refused(0, message),
    };
    let members = value.as_object();
    let Some(list) = members.and_then(|members| members.get(member)?.as_list()) else {
        return refused(0, format!("'{member}' must not be null"));
    };
    let charged = list.len();
    if charged == 0 || charged > MAX_SKUS {
        return refused(
            charged,
            format!("'{member}' size must be between 1 and {MAX_SKUS}"),
        );
    }
    let mut lines = Vec::with_capacity(charged);
    let mut faults = Vec::new();
    for (index, value) in list.iter().enumerate() {
        match read(value) {
            Ok(line) => lines.push(line),
            Err(Fault::At(place, rule)) => {
                faults.push(format!("'{member}[{index}]{place}' {rule}"));
            }
            Err(Fault::Stamp(sentence)) => faults.push(sentence),
        }
    }
    let mut seen =
        HashSet::with_capacity_and_hasher(lines.len(), foldhash::fast::RandomState::default());
    for (warehouse, sku) in lines.iter().map(key).filter(|key| !seen.insert(*key)) {
        faults.push(format!(
            "Duplicate shop-sku '{sku}' for warehouse '{warehouse}'"
        ));
    }
    faults.truncate(MAX_FAULTS);
    Reading {
        charged,
        lines: if faults.is_empty() {
            Ok(lines)
        } else {
            Err(faults)
        },
    }
}

fn refused<L>(charged: usize, message: String) -> Reading<L> {
    Reading {
        charged,
        lines: Err(vec![message]),
    }
}

/// What is wrong with one line: where and what, or a whole sentence about its stamp.
enum Fault {
    At(&'static str, &'static str),
    Stamp(String),
}

fn read_line(value: &Value<'_>, now: DateTime<Utc>) -> Result<Line, Fault> {
    let line = value
        .as_object()
        .ok_or(Fault::At("", "must be an object"))?;
    let sku = read_sku(line)?;
    let items = line.get("items").and_then(Value::as_list);
    let Some([Value::Object(item)]) = items else {
        return Err(Fault::At(".items", "size must be between 1 and 1"));
    };
    read_stock(item, sku, (".items[0].count", ".items[0].updatedAt"), now)
}

fn read_sku<'a>(members: &'a Members<'_>) -> Result<&'a str, Fault> {
    let sku = members.get("sku").and_then(Value::as_text);
    let sku = sku.ok_or(Fault::At(".sku", "must be a string"))?.trim();
    check_sku(sku).map_err(|rule| Fault::At(".sku", rule))?;
    Ok(sku)
}

/// Reads `count` and `updatedAt`, which a fault finds at these places.
fn read_stock(
    members: &Members<'_>,
    sku: &str,
    (count_at, stamp_at): (&'static str, &'static str),
    now: DateTime<Utc>,
) -> Result<Line, Fault> {
    let count = read_count(members).ok_or(Fault::At(
        count_at,
        "must be a whole number between 0 and 2000000000",
    ))?;
    let updated_at = match members.get("updatedAt") {
        None => now,
        Some(stamp) => stamp.as_text().and_then(read_stamp).ok_or(Fault::At(
            stamp_at,
            "must be a date and time with an offset",
        ))?,
    };
    if updated_at > now {
        return Err(Fault::Stamp(format!(
            "Stock for '{sku}' should not be in the future"
        )));
    }
    if updated_at < now - MAX_AGE {
        return Err(Fault::Stamp(format!(
            "Stock for '{sku}' should not be older than a day"
        )));
    }
    Ok(Line {
        sku: sku.into(),
        count,
        updated_at: updated_at.into(),
    })
}

// By hand: the pattern is `^(?=.*\S.*)[^\x00-\x08\x0A-\x1f\x7f]{1,255}$`.
fn check_sku(sku: &str) -> Result<(), &'static str> {
    // A text has at most as many characters as bytes: only the long ones need counting.
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

fn read_count(item: &Members<'_>) -> Option<u32> {
    // Not 1.0, 1e3, "5", -1 or a number beyond 64 bits.
    let Value::Whole(count) = item.get("count")? else {
        return None;
    };
    u32::try_from(*count)
        .ok()
        .filter(|count| *count <= MAX_COUNT)
}

/// `2017-11-21T00:42:42+03:00`, with a fraction or without, and nothing that only a lenient
/// reader understands: a blank for the `T`, small letters, no offset.
fn read_stamp(text: &str) -> Option<DateTime<Utc>> {
    let bytes = text.as_bytes();
    let is_strict = bytes.get(10) == Some(&b'T') && !bytes.contains(&b'z');
    if !is_strict {
        return None;
    }
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|at| at.with_timezone(&Utc))
}

/// A read-back's filters.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Filter {
    pub(super) archived: bool,
    pub(super) has_stocks: Option<bool>,
    pub(super) offer_ids: Option<Vec<String>>,
    pub(super) warehouse: Option<u64>,
}

/// Reads a campaign's read-back's body; no body asks for everything.
pub(super) fn read_filter(body: &[u8]) -> Result<Filter, String> {
    if body.is_empty() {
        return Ok(Filter::default());
    }
    let value = Value::read(body)?;
    let members = object(&value)?;
    Ok(Filter {
        archived: read_flag(members, "archived")?.unwrap_or(false),
        has_stocks: read_flag(members, "hasStocks")?,
        offer_ids: read_offer_ids(members)?,
        warehouse: read_id(members, "stocksWarehouseId")?,
    })
}

/// Reads a business's read-back's body, which has to name a warehouse.
pub(super) fn read_business_filter(body: &[u8]) -> Result<(u64, Filter), String> {
    let value = Value::read(body)?;
    let members = object(&value)?;
    let warehouse =
        read_id(members, "partnerWarehouseId")?.ok_or("'partnerWarehouseId' must not be null")?;
    let filter = Filter {
        archived: read_flag(members, "archived")?.unwrap_or(false),
        has_stocks: None,
        offer_ids: read_offer_ids(members)?,
        warehouse: None,
    };
    Ok((warehouse, filter))
}

/// Which warehouses are asked for, and what of them.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct WarehouseFilter {
    /// Those of campaigns, or the warehouses themselves.
    pub(super) ids: Option<Vec<u64>>,
    pub(super) with_status: bool,
}

/// Reads what a list of warehouses is to hold; `ids` is the member that names them.
pub(super) fn read_warehouse_filter(
    body: &[u8],
    ids: &str,
    max_ids: usize,
    components: &[&str],
) -> Result<WarehouseFilter, String> {
    if body.is_empty() {
        return Ok(WarehouseFilter::default());
    }
    let value = Value::read(body)?;
    let members = object(&value)?;
    let asked = match read_list(members, "components", components.len())? {
        None => Vec::new(),
        Some(list) => list
            .iter()
            .map(|value| value.as_text().filter(|name| components.contains(name)))
            .collect::<Option<Vec<_>>>()
            .ok_or("Illegal input at 'components'")?,
    };
    let number = |value: &Value<'_>| match value {
        Value::Whole(id) if *id > 0 => Ok(*id),
        _ => Err(format!("Illegal input at '{ids}'")),
    };
    let list = read_list(members, ids, max_ids)?;
    Ok(WarehouseFilter {
        ids: list
            .map(|list| list.iter().map(number).collect())
            .transpose()?,
        with_status: asked.contains(&"STATUS"),
    })
}

/// Reads `hiddenOffers`; `is_unique` refuses one that is there twice.
pub(super) fn read_hidden(body: &[u8], is_unique: bool) -> Result<Vec<CompactString>, String> {
    let value = Value::read(body)?;
    let list = read_list(object(&value)?, "hiddenOffers", MAX_OFFER_IDS)?
        .ok_or("'hiddenOffers' must not be null")?;
    let mut seen = HashSet::new();
    let mut read = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let place = format!("'hiddenOffers[{index}].offerId'");
        let id = value
            .as_object()
            .and_then(|members| members.get("offerId")?.as_text());
        let id = id
            .ok_or_else(|| format!("{place} must not be null"))?
            .trim();
        check_sku(id).map_err(|rule| format!("{place} {rule}"))?;
        if seen.insert(id) {
            read.push(id.into());
        } else if is_unique {
            return Err(format!("{place} must be unique"));
        }
    }
    Ok(read)
}

fn object<'a, 'b>(value: &'a Value<'b>) -> Result<&'a Members<'b>, String> {
    value
        .as_object()
        .ok_or_else(|| "Illegal input: an object is expected".to_owned())
}

fn read_flag(members: &Members<'_>, name: &str) -> Result<Option<bool>, String> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(format!("Illegal input at '{name}'")),
    }
}

fn read_id(members: &Members<'_>, name: &str) -> Result<Option<u64>, String> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Whole(id)) if *id > 0 => Ok(Some(*id)),
        Some(_) => Err(format!("Illegal input at '{name}'")),
    }
}

fn read_list<'a, 'b>(
    members: &'a Members<'b>,
    name: &str,
    max: usize,
) -> Result<Option<&'a [Value<'b>]>, String> {
    let list = match members.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(list) => list
            .as_list()
            .ok_or_else(|| format!("Illegal input at '{name}'"))?,
    };
    if list.is_empty() || list.len() > max {
        return Err(format!("'{name}' size must be between 1 and {max}"));
    }
    Ok(Some(list))
}

fn read_offer_ids(members: &Members<'_>) -> Result<Option<Vec<String>>, String> {
    let Some(ids) = read_list(members, "offerIds", MAX_OFFER_IDS)? else {
        return Ok(None);
    };
    if members.get("archived").is_some() {
        return Err("'offerIds' cannot be used together with 'archived'".to_owned());
    }
    let mut seen = HashSet::new();
    let mut read = Vec::with_capacity(ids.len());
    for id in ids {
        let id = id.as_text().ok_or("Illegal input at 'offerIds'")?.trim();
        check_sku(id).map_err(|rule| format!("'offerIds' {rule}"))?;
        if seen.insert(id) {
            read.push(id.to_owned());
        }
    }
    Ok(Some(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    fn read(body: &str) -> Result<Vec<Line>, Vec<String>> {
        read_update(body.as_bytes(), 7, now()).lines
    }

    fn item(item: &str) -> String {
        format!(r#"{{"skus":[{{"sku":"A","items":[{item}]}}]}}"#)
    }

    #[test]
    fn the_documented_body_is_read() {
        let lines = read(&item(
            r#"{"count":3,"updatedAt":"2026-11-20T12:30:00.5+03:00"}"#,
        ))
        .unwrap();
        assert_eq!(lines[0].sku, "A");
        assert_eq!(lines[0].count, 3);
        assert_eq!(lines[0].updated_at.to_string(), "2026-11-20T09:30:00.500Z");
        assert_eq!(
            read(&item(r#"{"count":0}"#)).unwrap()[0].updated_at,
            now().into()
        );
    }

    #[test]
    fn only_a_whole_number_in_range_is_a_count() {
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
            let faults = read(&item(&format!(r#"{{"count":{count}}}"#))).unwrap_err();
            assert!(faults[0].contains("'skus[0].items[0].count'"), "{faults:?}");
        }
        assert!(read(&item("{}")).is_err());
        assert!(read(&item(r#"{"count":2000000000}"#)).is_ok());
    }

    #[test]
    fn only_rfc_3339_is_a_stamp() {
        for stamp in [
            "\"2026-11-20T09:00:00\"",
            "\"2026-11-20 09:00:00Z\"",
            "\"2026-11-20T09:00:00z\"",
            "\"2026-11-20T09:00:00+0300\"",
            "\"2026-11-20\"",
            "1763629200",
            "null",
        ] {
            let faults = read(&item(&format!(r#"{{"count":1,"updatedAt":{stamp}}}"#))).unwrap_err();
            assert!(faults[0].contains("updatedAt"), "{faults:?}");
        }
    }

    #[test]
    fn stamps_ahead_and_older_than_a_day_are_refused_in_the_documented_words() {
        let at = |at: &str| read(&item(&format!(r#"{{"count":1,"updatedAt":"{at}"}}"#)));
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
    fn twins_after_trimming_are_refused_in_the_documented_words() {
        let body =
            r#"{"skus":[{"sku":"A","items":[{"count":1}]},{"sku":" A\t","items":[{"count":2}]}]}"#;
        assert_eq!(
            read(body).unwrap_err(),
            ["Duplicate shop-sku 'A' for warehouse '7'"]
        );
    }

    #[test]
    fn one_to_two_thousand_skus_are_taken_and_all_are_charged() {
        let items = |n| (0..n).map(|i| format!(r#"{{"sku":"{i}","items":[{{"count":1}}]}}"#));
        let body = |n| format!(r#"{{"skus":[{}]}}"#, items(n).collect::<Vec<_>>().join(","));
        assert_eq!(read(&body(2000)).unwrap().len(), 2000);
        let reading = read_update(body(2001).as_bytes(), 7, now());
        assert_eq!(reading.charged, 2001);
        assert!(reading.lines.is_err());
        assert!(read(r#"{"skus":[]}"#).is_err());
    }

    #[test]
    fn bodies_of_another_shape_are_refused() {
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
            assert!(read(body).is_err(), "{body}");
        }
        let long = "я".repeat(256);
        assert!(
            read(&format!(
                r#"{{"skus":[{{"sku":"{long}","items":[{{"count":1}}]}}]}}"#
            ))
            .is_err()
        );
    }

    #[test]
    fn filters_are_read_and_strange_ones_refused() {
        assert_eq!(read_filter(b"").unwrap(), Filter::default());
        assert_eq!(read_filter(b"{}").unwrap(), Filter::default());
        let filter = read_filter(br#"{"offerIds":["A"," B "],"stocksWarehouseId":5}"#).unwrap();
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
            assert!(read_filter(body.as_bytes()).is_err(), "{body}");
        }
        let ids: Vec<String> = (0..501).map(|n| n.to_string()).collect();
        let body = serde_json::json!({ "offerIds": ids }).to_string();
        assert!(
            read_filter(body.as_bytes())
                .unwrap_err()
                .contains("between 1 and 500")
        );
    }
}
