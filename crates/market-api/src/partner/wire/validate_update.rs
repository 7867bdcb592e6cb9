//! Parsing and validation of a seller's update by campaign, with the rules and messages of the
//! Market.

use std::collections::HashSet;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use stock::{Count, Sku, Timestamp, Update};
use strict_http::json::{JsonText, StrictObject, read_json};

use super::{ApiError, MAX_FUTURE_SKEW, MAX_SKUS_PER_UPDATE};

/// Most errors reported for one body: enough to fix it, too few to flood a log.
pub const MAX_ERRORS: usize = 20;

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
pub(super) struct UpdateStockItem<'a> {
    // Kept as written, so that the error can repeat a fraction or a huge number.
    #[serde(borrow)]
    pub(super) count: Option<&'a RawValue>,
    #[serde(borrow, rename = "updatedAt")]
    pub(super) updated_at: Option<JsonText<'a>>,
}

/// Parses the body of an update. All items are valid, or none is returned.
///
/// # Errors
/// All errors, up to twenty, worded like those of the Market.
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

pub(super) fn read_request<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Vec<ApiError>> {
    match read_json::<StrictObject<T>>(body) {
        Ok(StrictObject(request)) => Ok(request),
        Err(e) => Err(vec![ApiError::bad_request(format!("Illegal input: {e}"))]),
    }
}

/// Parses the items of an update, all or none. `parse_item` parses one item, and `key_of` returns
/// its SKU and warehouse, which must be unique.
pub(super) fn parse_items<T, S>(
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
    let mut parsed = Vec::with_capacity(items.len());
    for (index, StrictObject(item)) in items.into_iter().enumerate() {
        match parse_item(index, item) {
            Ok(item) => parsed.push(item),
            Err(error) => errors.push(error),
        }
    }
    errors.extend(duplicate_errors(parsed.iter().map(key_of)));
    if errors.is_empty() {
        return Ok(parsed);
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

/// Parses a SKU. `path` is its position in the body.
pub(super) fn parse_sku(
    text: Option<JsonText<'_>>,
    path: fmt::Arguments<'_>,
) -> Result<Sku, String> {
    let text = text.ok_or_else(|| format!("'{path}.sku' must not be null"))?;
    Sku::parse(&text.0).map_err(|e| format!("'{path}.sku': {e}"))
}

impl UpdateStockItem<'_> {
    /// Parses count and date. `path` is their position in the body.
    pub(super) fn into_update(
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
        let read_date = |JsonText(text)| {
            parse_timestamp(&text).ok_or_else(|| {
                format!(
                    "'{path}.updatedAt' must be a date and time with an offset, such as \
                     2017-11-21T00:42:42+03:00, it is '{}'",
                    shorten(&text)
                )
            })
        };
        let updated_at = self.updated_at.map(read_date).transpose()?;
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
    Count::try_from(literal.parse::<i64>().ok()?).ok()
}

/// Parses RFC 3339, also with an offset without colon, as written by PHP's `DATE_ISO8601`.
pub(in crate::partner) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let at = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"));
    Some(at.ok()?.to_utc().into())
}

/// Returns the beginning of a value for a message, because an invalid value may be a megabyte long.
pub(super) fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    fn parse(body: &str) -> Result<Vec<Update>, Vec<String>> {
        parse_update(body.as_bytes(), 7, now())
            .map_err(|errors| errors.into_iter().map(|error| error.message).collect())
    }

    fn with_item(item: &str) -> String {
        format!(r#"{{"skus":[{{"sku":"A","items":[{item}]}}]}}"#)
    }

    #[test]
    fn accepts_the_documented_and_the_older_body() {
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
    fn accepts_missing_and_old_dates() {
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
    fn limits_future_dates_to_five_minutes() {
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
    fn invalid_counts_are_named() {
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
    fn rejects_duplicates_after_trimming() {
        let body =
            r#"{"skus":[{"sku":"A","items":[{"count":1}]},{"sku":" A ","items":[{"count":2}]}]}"#;
        assert_eq!(
            parse(body).unwrap_err(),
            ["Duplicate shop-sku 'A' for warehouse '7'"]
        );
    }

    #[test]
    fn limits_the_number_of_items() {
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
    fn reports_every_error_of_a_body() {
        let body =
            r#"{"skus":[{"sku":" ","items":[{"count":1}]},{"sku":"B","items":[{"count":-1}]}]}"#;
        assert_eq!(parse(body).unwrap_err().len(), 2);
    }
}
