//! Wire format of `POST {base}/stocks`: the request and its limits.
//!
//! Source: push API pages of the Market's documentation, state of November 2026.

use std::fmt;

use axum::http::HeaderName;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;
use stock::{Sku, TextInBuffer};
use strict_http::json::{JsonText, StrictObject, read_json};

/// Writer of responses.
pub use super::response::{FilledBuffer, StocksResponseBuilder};
use super::scan::scan;

/// Most SKUs in one request, according to the Market's documentation.
pub const SKUS_PER_REQUEST: usize = 1_000;

/// Most SKUs that one request may have.
///
/// It is higher than documented, so that a larger request of the Market is still answered, and low
/// enough that a body of empty strings cannot cause a response of a gigabyte.
pub const MAX_SKUS_PER_REQUEST: usize = 10_000;

/// Largest request body, in bytes. The largest legal one has 1.53 MB: 1,000 SKUs of 255
/// characters, each written as `\uXXXX`.
pub const MAX_REQUEST_BYTES: usize = 2 * 1024 * 1024;

/// Longest `warehouseId`, in characters. It is echoed as written. The Market's ids have six to
/// eight digits.
pub const MAX_WAREHOUSE_ID_CHARS: usize = 40;

/// Header that marks requests of this service. It detects an old handler URL that leads back to
/// this service, which would then confirm its own stock.
pub const OUR_REQUEST_HEADER: HeaderName = HeaderName::from_static("x-stockbridge-question");

/// Stock request of the Market for one warehouse.
///
/// Members may have any order. Unknown members (`partnerWarehouseId`) are ignored. A duplicate
/// member is an error.
#[derive(Debug)]
pub struct StocksRequest<'a> {
    /// Warehouse id exactly as the Market wrote it, because the response must repeat it: a number
    /// of 20 digits must not become a float.
    pub warehouse_id: &'a str,
    /// SKUs in the Market's order and spelling, outer spaces and duplicates included.
    pub skus: Vec<JsonText<'a>>,
    // The whole body, from which unescaped SKUs are copied in steps of a fixed length.
    pub(super) body: &'a [u8],
}

impl<'a> StocksRequest<'a> {
    /// Parses a request body.
    ///
    /// # Errors
    /// A sentence with the broken rule and its position.
    pub fn parse(body: &'a [u8]) -> Result<Self, String> {
        scan(body).map_or_else(|| Self::parse_any_spelling(body), Ok)
    }

    /// Parses every spelling that JSON allows.
    fn parse_any_spelling(body: &'a [u8]) -> Result<Self, String> {
        let StrictObject(wire) = read_json::<StrictObject<WireStocksRequest<'a>>>(body)?;
        let warehouse_id = wire.warehouse_id.get();
        if warehouse_id.len() > MAX_WAREHOUSE_ID_CHARS {
            return Err(format!(
                "warehouseId has {} bytes, it must be a number of at most \
                 {MAX_WAREHOUSE_ID_CHARS} characters",
                warehouse_id.len()
            ));
        }
        // A valid JSON value that starts like a number is a number.
        if !warehouse_id.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            return Err(format!(
                "warehouseId is {warehouse_id}, it must be a number"
            ));
        }
        Ok(Self {
            warehouse_id,
            skus: wire.skus,
            body,
        })
    }

    /// Returns the trimmed SKUs, in their order, for a look-up of all of them.
    #[must_use]
    pub fn trimmed_skus(&self) -> impl ExactSizeIterator<Item = TextInBuffer<'_>> {
        let skus = self.skus.iter().map(|sku| Sku::trim(&sku.0));
        skus.map(|text| TextInBuffer::new(text, self.body))
    }

    /// Returns the warehouse id if it is a whole number. `1e2` and `100.0` are 100.
    #[must_use]
    pub fn warehouse_number(&self) -> Option<u64> {
        parse_whole_number(self.warehouse_id)
    }
}

pub(super) fn parse_whole_number(literal: &str) -> Option<u64> {
    if let Ok(number) = literal.parse() {
        return Some(number);
    }
    // Up to 2^53 a double is exact for whole numbers; above that, two ids could look equal.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number: f64 = literal.parse().ok()?;
    let is_whole = number.fract() == 0.0 && (0.0..EXACT).contains(&number);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number within 0..2^53 was checked above"
    )]
    is_whole.then_some(number as u64)
}

#[derive(Deserialize)]
struct WireStocksRequest<'a> {
    #[serde(borrow, rename = "warehouseId")]
    warehouse_id: &'a RawValue,
    #[serde(borrow, deserialize_with = "read_skus")]
    skus: Vec<JsonText<'a>>,
}

/// Reads at most [`MAX_SKUS_PER_REQUEST`] strings.
fn read_skus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<JsonText<'de>>, D::Error> {
    deserializer.deserialize_seq(SkusVisitor)
}

struct SkusVisitor;

impl<'de> Visitor<'de> for SkusVisitor {
    type Value = Vec<JsonText<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut skus = Vec::with_capacity(SKUS_PER_REQUEST);
        while let Some(sku) = seq.next_element()? {
            if skus.len() == MAX_SKUS_PER_REQUEST {
                return Err(A::Error::custom(format_args!(
                    "skus has more than {MAX_SKUS_PER_REQUEST} elements"
                )));
            }
            skus.push(sku);
        }
        Ok(skus)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_any_member_order_and_unknown_members() {
        let body = r#"{"skus":["A"," Б "],"partnerWarehouseId":"b72e","warehouseId":569667}"#;
        let request = StocksRequest::parse(body.as_bytes()).unwrap();
        assert_eq!(request.warehouse_number(), Some(569_667));
        assert_eq!(request.skus[1].0, " Б ");
    }

    #[test]
    fn invalid_bodies_name_the_broken_rule() {
        for (body, rule) in [
            (
                r#"{"warehouseId":1,"warehouseId":1,"skus":[]}"#,
                "duplicate field `warehouseId`",
            ),
            (
                r#"{"warehouseId":1,"skus":[],"skus":[]}"#,
                "duplicate field `skus`",
            ),
            (
                r#"{"warehouseId":"1","skus":[]}"#,
                r#"warehouseId is "1", it must be a number"#,
            ),
            (
                r#"{"warehouseId":null,"skus":[]}"#,
                "warehouseId is null, it must be a number",
            ),
            (r#"{"warehouseId":1}"#, "missing field `skus`"),
            (r#"{"skus":[]}"#, "missing field `warehouseId`"),
            (r#"{"warehouseId":1,"skus":[7]}"#, "expected a string"),
            (r#"{"warehouseId":1,"skus":["\ud800"]}"#, "hex escape"),
            (r#"[1,["A"]]"#, "expected an object"),
            (r#"{"warehouseId":1,"skus":[]}x"#, "trailing characters"),
            ("", "EOF"),
        ] {
            let error = StocksRequest::parse(body.as_bytes()).unwrap_err();
            assert!(error.contains(rule), "{body}: {error}");
        }
        assert!(StocksRequest::parse(b"{\"warehouseId\":1,\"skus\":[\"\xff\"]}").is_err());
        // Invalid UTF-8 in an unknown member is an error too.
        assert!(StocksRequest::parse(b"{\"x\":\"\xff\",\"warehouseId\":1,\"skus\":[]}").is_err());
    }

    #[test]
    fn limits_skus_to_ten_thousand() {
        let body = |n: usize| {
            format!(
                r#"{{"warehouseId":1,"skus":[{}]}}"#,
                vec![r#""A""#; n].join(",")
            )
        };
        assert_eq!(
            StocksRequest::parse(body(10_000).as_bytes())
                .unwrap()
                .skus
                .len(),
            10_000
        );
        let error = StocksRequest::parse(body(10_001).as_bytes()).unwrap_err();
        assert!(error.contains("more than 10000"), "{error}");
    }

    #[test]
    fn parses_whole_numbers_only() {
        for (literal, number) in [
            ("100", Some(100)),
            ("100.0", Some(100)),
            ("1e2", Some(100)),
            ("18446744073709551615", Some(u64::MAX)),
            ("0.5", None),
            ("-3", None),
            ("123456789012345678901", None),
            ("1e400", None),
        ] {
            assert_eq!(parse_whole_number(literal), number, "{literal}");
        }
    }

    proptest! {
        // Blocks of the scanner end anywhere in a string, and between two strings.
        #[test]
        fn usual_requests_of_any_length_are_scanned(
            skus in prop::collection::vec("[A-Z0-9а-я ,]{0,8}|[!#-\\[\\]-~]{0,150}", 1..40),
        ) {
            let strings = skus.iter().map(|sku| format!("\"{sku}\"")).collect::<Vec<_>>();
            let body = format!("{{\"warehouseId\":7,\"skus\":[{}]}}", strings.join(","));
            let scanned = scan(body.as_bytes()).expect("the spelling is usual");
            prop_assert!(scanned.skus.iter().map(|sku| &*sku.0).eq(&skus));
        }

        #[test]
        fn the_usual_spelling_is_read_like_any_other(
            id in "0|[1-9][0-9]{0,41}|0[0-9]|-1|1e2",
            skus in prop::collection::vec("[A-Z0-9а-я ]{0,24}|[\"\\\\\\x00-\\x1f]{1,2}", 0..6),
            gap in "|,| ",
            tail in "|x| ",
        ) {
            let skus = skus.iter().map(|sku| format!("\"{sku}\"")).collect::<Vec<_>>().join(",");
            let body = format!("{{\"warehouseId\":{id},\"skus\":[{skus}{gap}]}}{tail}");
            if let Some(scanned) = scan(body.as_bytes()) {
                let parsed = StocksRequest::parse_any_spelling(body.as_bytes()).unwrap();
                prop_assert_eq!(scanned.warehouse_id, parsed.warehouse_id);
                prop_assert_eq!(scanned.skus, parsed.skus);
            }
        }
    }

    #[test]
    fn the_scanner_takes_the_usual_spelling_only() {
        for (body, is_scanned) in [
            (
                r#"{"warehouseId":569667,"skus":["A","БОЛТ-М5"," a "]}"#,
                true,
            ),
            (r#"{"warehouseId":0,"skus":[]}"#, true),
            (r#"{"warehouseId":569667, "skus":["A"]}"#, false),
            (r#"{"warehouseId":007,"skus":["A"]}"#, false),
            (r#"{"warehouseId":,"skus":["A"]}"#, false),
            (r#"{"warehouseId":7,"skus":["A",]}"#, false),
            (r#"{"warehouseId":7,"skus":["A"]"#, false),
            (r#"{"warehouseId":7,"skus":["a\u0062"]}"#, false),
            ("{\"warehouseId\":7,\"skus\":[\"a\tb\"]}", false),
            (r#"{"skus":["A"],"warehouseId":7}"#, false),
        ] {
            assert_eq!(scan(body.as_bytes()).is_some(), is_scanned, "{body}");
        }
        assert!(scan(b"{\"warehouseId\":7,\"skus\":[\"\xff\"]}").is_none());
        let body = |n: usize| {
            format!(
                r#"{{"warehouseId":1,"skus":[{}]}}"#,
                vec![r#""A""#; n].join(",")
            )
        };
        assert!(scan(body(MAX_SKUS_PER_REQUEST).as_bytes()).is_some());
        assert!(scan(body(MAX_SKUS_PER_REQUEST + 1).as_bytes()).is_none());
    }
}
