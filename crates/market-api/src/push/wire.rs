//! Wire format of `POST {base}/stocks`: request parsing, response writing, and their limits.
//!
//! The response is written by hand because its cost decides the cost of the service.
//!
//! Source: push API pages of the Market's documentation, state of November 2026.

use std::borrow::Cow;
use std::fmt;

use axum::http::HeaderName;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;
use stock::{Level, Timestamp};
use strict_http::json::{JsonText, StrictObject, read_json};

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
}

impl<'a> StocksRequest<'a> {
    /// Parses a request body.
    ///
    /// # Errors
    /// A sentence with the broken rule and its position.
    pub fn parse(body: &'a [u8]) -> Result<Self, String> {
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
        })
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

/// Builder that writes a response into one buffer.
///
/// It does not use serde, which needs six times as many instructions per item (see the benchmark
/// of responses).
#[derive(Debug)]
pub struct StocksResponseBuilder {
    body: Vec<u8>,
    /// Text between a SKU and its count, including the closing quote of the SKU.
    item_middle: Vec<u8>,
}

// `{"sku":"","warehouseId":,"items":[{"count":,"type":"FIT","updatedAt":"…"}]},` with a count
// of up to ten digits and a date of up to 27 characters: the bytes of an item without its SKU
// and warehouse id.
const ITEM_BYTES: usize = 110;

impl StocksResponseBuilder {
    /// Creates a builder with capacity for the response to `request`.
    #[must_use]
    pub fn for_request(request: &StocksRequest<'_>) -> Self {
        let sku_bytes: usize = request.skus.iter().map(|sku| sku.0.len()).sum();
        let fixed_bytes = request.skus.len() * (ITEM_BYTES + request.warehouse_id.len());
        let mut body = Vec::with_capacity(sku_bytes + fixed_bytes + 16);
        body.extend_from_slice(br#"{"skus":["#);
        let id = request.warehouse_id;
        Self {
            body,
            item_middle: format!(r#"","warehouseId":{id},"items":[{{"count":"#).into_bytes(),
        }
    }

    /// Adds an item with the SKU spelled as in the request.
    pub fn push_verbatim(&mut self, sku: &JsonText<'_>, level: Level) {
        match &sku.0 {
            // The request contained this text without escapes, so it needs none here either.
            Cow::Borrowed(verbatim) => {
                self.push_separator();
                self.body.extend_from_slice(br#"{"sku":""#);
                self.body.extend_from_slice(verbatim.as_bytes());
                self.push_stock(level);
            }
            Cow::Owned(text) => self.push(text, level),
        }
    }

    /// Adds an item for any SKU text.
    pub fn push(&mut self, sku: &str, level: Level) {
        self.push_separator();
        self.body.extend_from_slice(br#"{"sku":"#);
        serde_json::to_writer(&mut self.body, sku).expect("a string written to memory cannot fail");
        // `item_middle` starts with the closing quote.
        self.body.pop();
        self.push_stock(level);
    }

    /// Returns the complete body.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.body.extend_from_slice(b"]}");
        self.body
    }

    fn push_separator(&mut self) {
        if self.body.last() == Some(&b'}') {
            self.body.push(b',');
        }
    }

    fn push_stock(&mut self, level: Level) {
        let body = &mut self.body;
        body.extend_from_slice(&self.item_middle);
        body.extend_from_slice(itoa::Buffer::new().format(level.count.get()).as_bytes());
        let at = level.updated_at;
        match format_to_second(at) {
            // Most dates have whole seconds: then the rest has a fixed length.
            Some(second) if at.as_micros() % 1_000_000 == 0 => {
                let mut rest = *br#","type":"FIT","updatedAt":"0000-00-00T00:00:00Z"}]}"#;
                rest[27..46].copy_from_slice(&second);
                body.extend_from_slice(&rest);
            }
            second => {
                body.extend_from_slice(br#","type":"FIT","updatedAt":""#);
                write_timestamp(body, at, second);
                body.extend_from_slice(br#""}]}"#);
            }
        }
    }
}

fn write_timestamp(body: &mut Vec<u8>, at: Timestamp, second: Option<[u8; 19]>) {
    let Some(second) = second else {
        // Years before 0 or after 9999 are rare, so the slow way is used.
        body.extend_from_slice(at.to_string().as_bytes());
        return;
    };
    body.extend_from_slice(&second);
    write_fraction(body, at.as_micros().rem_euclid(1_000_000));
    body.push(b'Z');
}

const SECONDS_PER_DAY: i64 = 86_400;

/// Formats a time as RFC 3339 without fraction and zone. Returns `None` if the year has more than
/// four digits.
///
/// The result equals that of the calendar library, in a tenth of the time.
fn format_to_second(at: Timestamp) -> Option<[u8; 19]> {
    let seconds = at.as_micros().div_euclid(1_000_000);
    let [year, month, day] = civil_date(seconds.div_euclid(SECONDS_PER_DAY))?;
    let second = u32::try_from(seconds.rem_euclid(SECONDS_PER_DAY)).ok()?;
    let mut text = *b"0000-00-00T00:00:00";
    [text[0], text[1]] = TWO_DIGITS[(year / 100) as usize];
    [text[2], text[3]] = TWO_DIGITS[(year % 100) as usize];
    [text[5], text[6]] = TWO_DIGITS[month as usize];
    [text[8], text[9]] = TWO_DIGITS[day as usize];
    [text[11], text[12]] = TWO_DIGITS[(second / 3600) as usize];
    [text[14], text[15]] = TWO_DIGITS[(second / 60 % 60) as usize];
    [text[17], text[18]] = TWO_DIGITS[(second % 60) as usize];
    Some(text)
}

/// Returns year, month and day for a number of days since 1970-01-01, or `None` if the year is
/// outside 0..=9999.
///
/// The algorithm counts years from March, so that the leap day comes last, and starts in March of
/// the year -400. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn civil_date(days: i64) -> Option<[u32; 3]> {
    let days = u32::try_from(days.checked_add(865_565)?).ok()?;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = (400 * era + year + carry).checked_sub(400)?;
    (year < 10_000).then_some([year, month, day])
}

fn write_fraction(body: &mut Vec<u8>, micros: i64) {
    if micros % 1000 != 0 {
        let mut fraction = *b".000000";
        write_digits(&mut fraction[1..], micros);
        body.extend_from_slice(&fraction);
    } else if micros != 0 {
        let mut fraction = *b".000";
        write_digits(&mut fraction[1..], micros / 1000);
        body.extend_from_slice(&fraction);
    }
}

fn write_digits(digits: &mut [u8], mut number: i64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789"[usize::try_from(number % 10).unwrap_or_default()];
        number /= 10;
    }
}

/// Numbers 0 to 99 with two digits each.
const TWO_DIGITS: [[u8; 2]; 100] = {
    let digits = b"0123456789";
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [digits[number / 10], digits[number % 10]];
        number += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Datelike as _};
    use proptest::prelude::*;
    use stock::Count;

    use super::*;

    fn level(count: i64, at: &str) -> Level {
        let at: DateTime<chrono::Utc> = at.parse().unwrap();
        Level {
            count: Count::try_from(count).unwrap(),
            updated_at: at.into(),
        }
    }

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

    #[test]
    fn response_echoes_number_and_spelling() {
        let body = r#"{"warehouseId":123456789012345678901,"skus":[" a\"b\\ ","Б\t"]}"#;
        let request = StocksRequest::parse(body.as_bytes()).unwrap();
        let mut response = StocksResponseBuilder::for_request(&request);
        response.push_verbatim(&request.skus[0], level(15, "2019-09-09T13:01:18+03:00"));
        response.push_verbatim(&request.skus[1], level(0, "2019-09-09T10:01:18.5Z"));
        assert_eq!(
            String::from_utf8(response.finish()).unwrap(),
            concat!(
                r#"{"skus":[{"sku":" a\"b\\ ","warehouseId":123456789012345678901,"#,
                r#""items":[{"count":15,"type":"FIT","updatedAt":"2019-09-09T10:01:18Z"}]},"#,
                r#"{"sku":"Б\t","warehouseId":123456789012345678901,"#,
                r#""items":[{"count":0,"type":"FIT","updatedAt":"2019-09-09T10:01:18.500Z"}]}]}"#,
            )
        );
    }

    #[test]
    fn response_without_skus_is_an_empty_list() {
        let request = StocksRequest::parse(br#"{"warehouseId":1,"skus":[]}"#).unwrap();
        assert_eq!(
            StocksResponseBuilder::for_request(&request).finish(),
            br#"{"skus":[]}"#
        );
    }

    #[test]
    fn converts_every_day_of_ten_thousand_years() {
        let first: chrono::NaiveDate = "0000-01-01".parse().unwrap();
        let first_day = -719_528;
        for (day, expected) in (first_day..).zip(first.iter_days().take(3_652_425)) {
            let (year, month, day_of_month) = (expected.year(), expected.month(), expected.day());
            let expected = [u32::try_from(year).unwrap(), month, day_of_month];
            assert_eq!(civil_date(day), Some(expected));
        }
        assert_eq!(civil_date(first_day - 1), None);
        assert_eq!(civil_date(first_day + 3_652_425), None);
    }

    proptest! {
        #[test]
        fn formats_times_like_the_calendar_library(
            micros in -100_000_000_000_000_000i64..400_000_000_000_000_000,
            whole in any::<bool>(),
        ) {
            let micros = if whole { micros / 1_000_000 * 1_000_000 } else { micros };
            let at = Timestamp::from_micros(micros).unwrap();
            let mut written = Vec::new();
            write_timestamp(&mut written, at, format_to_second(at));
            prop_assert_eq!(String::from_utf8(written).unwrap(), at.to_string());
            let request = StocksRequest::parse(br#"{"warehouseId":1,"skus":["A"]}"#).unwrap();
            let mut response = StocksResponseBuilder::for_request(&request);
            response.push_verbatim(&request.skus[0], Level { count: Count::ZERO, updated_at: at });
            let expected = format!(
                r#"{{"skus":[{{"sku":"A","warehouseId":1,"items":[{{"count":0,"type":"FIT","updatedAt":"{at}"}}]}}]}}"#
            );
            prop_assert_eq!(String::from_utf8(response.finish()).unwrap(), expected);
        }

        #[test]
        fn response_echoes_any_sku(skus in prop::collection::vec(any::<String>(), 0..20)) {
            let body = serde_json::json!({ "warehouseId": 7, "skus": skus }).to_string();
            let request = StocksRequest::parse(body.as_bytes()).unwrap();
            let mut builder = StocksResponseBuilder::for_request(&request);
            for sku in &request.skus {
                builder.push_verbatim(sku, level(1, "2026-01-01T00:00:00Z"));
            }
            let response: serde_json::Value = serde_json::from_slice(&builder.finish()).unwrap();
            let echoed: Vec<_> = response["skus"].as_array().unwrap().iter()
                .map(|item| item["sku"].as_str().unwrap().to_owned()).collect();
            prop_assert_eq!(echoed, skus);
        }
    }
}
