//! Writer of the response to `POST {base}/stocks`.
//!
//! It is written by hand because its cost decides the cost of the service: serde needs six times as
//! many instructions per item. An item is written into a window of a fixed length, by copies of
//! fixed lengths. Each copy may write too much, and the next one overwrites the surplus.

use std::borrow::Cow;

use stock::{Level, Timestamp};
use strict_http::json::JsonText;

use super::wire::StocksRequest;

/// Bytes of an item that is written by fixed copies, with the surplus of its last copy.
///
/// As long as an item would be if each length that is kept in one byte had the largest value: then
/// the compiler knows that all copies stay inside, and checks none of them.
const WINDOW_BYTES: usize = 640;

/// Longest SKU in bytes that is written by fixed copies.
const MAX_SHORT_SKU: usize = 48;

/// Bytes of the copy that writes a SKU of usual length whole. The choice of a shorter one for the
/// shortest SKUs would be a branch that is often predicted wrongly.
const USUAL_SKU_BYTES: usize = 32;

/// Longest text between a SKU and its count that is written by one fixed copy.
const MIDDLE_BYTES: usize = 64;

// `{"sku":"","warehouseId":,"items":[{"count":,"type":"FIT","updatedAt":"…"}]},` with a count
// of up to ten digits and a date of up to 27 characters: the bytes of an item without its SKU
// and warehouse id.
const ITEM_BYTES: usize = 112;

const ITEM_START: &[u8; 8] = br#"{"sku":""#;

/// Rest of an item after a count, with place for the surplus of a copy of 64 bytes.
type ItemEnd = [u8; 64];

const ITEM_END: ItemEnd = {
    let text = br#","type":"FIT","updatedAt":"0000-00-00T00:00:00Z"}]},"#;
    let mut padded = [0; 64];
    let mut index = 0;
    while index < text.len() {
        padded[index] = text[index];
        index += 1;
    }
    padded
};

/// Length of [`ITEM_END`] without padding.
const ITEM_END_BYTES: usize = 52;

/// Position of the date in [`ITEM_END`].
const DATE_POSITION: usize = 27;

/// Position of the time of the day in [`ITEM_END`].
const TIME_POSITION: usize = DATE_POSITION + 11;

/// Days that are remembered, by their number modulo this one. Most stock was stated in the last
/// days.
const REMEMBERED_DAYS: usize = 64;

/// Rest of the items that were stated on one day, at midnight.
#[derive(Clone, Copy, Debug)]
struct RememberedDay {
    /// Days since 1970-01-01.
    day: u32,
    item_end: ItemEnd,
}

impl RememberedDay {
    /// No timestamp in whole seconds of 32 bits has this day.
    const NONE: Self = Self {
        day: u32::MAX,
        item_end: ITEM_END,
    };
}

/// Buffer whose first `len` bytes are a response. The rest is kept, so that the buffer can be used
/// again without being zeroed.
#[derive(Debug)]
pub struct FilledBuffer {
    /// Whole buffer.
    pub buffer: Vec<u8>,
    /// Length of the response.
    pub len: usize,
}

/// Builder that writes a response into one buffer.
#[derive(Debug)]
pub struct StocksResponseBuilder<'a> {
    // Initialised bytes; the response is `..end`.
    buffer: Vec<u8>,
    end: usize,
    // Text between a SKU and its count, including the closing quote of the SKU.
    item_middle: Vec<u8>,
    // The same, padded, if it is short enough.
    short_middle: Option<ShortMiddle>,
    request_body: &'a [u8],
    days: Box<[RememberedDay; REMEMBERED_DAYS]>,
}

/// Text between a SKU and its count, with place for the surplus of a copy.
#[derive(Debug)]
struct ShortMiddle {
    padded: [u8; MIDDLE_BYTES],
    len: u8,
}

impl ShortMiddle {
    fn of(item_middle: &[u8]) -> Option<Self> {
        let mut padded = [0; MIDDLE_BYTES];
        padded
            .get_mut(..item_middle.len())?
            .copy_from_slice(item_middle);
        let len = u8::try_from(item_middle.len()).ok()?;
        Some(Self { padded, len })
    }
}

impl<'a> StocksResponseBuilder<'a> {
    /// Creates a builder for the response to `request`.
    #[must_use]
    pub fn for_request(request: &StocksRequest<'a>) -> Self {
        Self::in_buffer(request, Vec::new())
    }

    /// Creates a builder that writes into a used buffer, whose content it overwrites.
    #[must_use]
    pub fn in_buffer(request: &StocksRequest<'a>, mut buffer: Vec<u8>) -> Self {
        let start = br#"{"skus":["#;
        let fixed_bytes = request.skus.len() * (ITEM_BYTES + request.warehouse_id.len());
        // The body is at least as long as its SKUs together.
        let needed = start.len() + request.body.len() + fixed_bytes + WINDOW_BYTES;
        if buffer.len() < needed {
            buffer = vec![0; needed];
        }
        buffer[..start.len()].copy_from_slice(start);
        let id = request.warehouse_id;
        let item_middle = format!(r#"","warehouseId":{id},"items":[{{"count":"#).into_bytes();
        let short_middle = ShortMiddle::of(&item_middle);
        Self {
            buffer,
            end: start.len(),
            item_middle,
            short_middle,
            request_body: request.body,
            days: Box::new([RememberedDay::NONE; REMEMBERED_DAYS]),
        }
    }

    /// Adds an item with the SKU spelled as in the request.
    #[inline]
    pub fn push_verbatim(&mut self, sku: &JsonText<'_>, level: Level) {
        match &sku.0 {
            // The request contained this text without escapes, so it needs none here either.
            Cow::Borrowed(verbatim) => {
                if self.push_short(verbatim.as_bytes(), level).is_none() {
                    self.push_slowly(verbatim.as_bytes(), level);
                }
            }
            Cow::Owned(text) => self.push(text, level),
        }
    }

    /// Adds an item for any SKU text.
    pub fn push(&mut self, sku: &str, level: Level) {
        let quoted = serde_json::to_string(sku).expect("a string written to memory cannot fail");
        self.push_slowly(&quoted.as_bytes()[1..quoted.len() - 1], level);
    }

    /// Returns the complete body.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let FilledBuffer { mut buffer, len } = self.finish_in_buffer();
        buffer.truncate(len);
        buffer
    }

    /// Returns the complete body in its buffer, which may be longer.
    #[must_use]
    pub fn finish_in_buffer(mut self) -> FilledBuffer {
        // The last item ends with a comma.
        let end = self.end - usize::from(self.buffer[self.end - 1] == b',');
        self.end = end;
        self.append(b"]}");
        FilledBuffer {
            buffer: self.buffer,
            len: self.end,
        }
    }

    /// Adds an item by copies of fixed lengths. Returns `None`, and adds nothing, if a part has
    /// another form than usual.
    ///
    /// What is rare is in functions of its own, because code between the copies would take
    /// registers from them.
    #[inline]
    fn push_short(&mut self, sku: &[u8], level: Level) -> Option<()> {
        let middle = self.short_middle.as_ref()?;
        // Unsigned, and of 32 bits until 2106, because such divisions take fewer instructions.
        let micros = level.updated_at.as_micros().cast_unsigned();
        let seconds = u32::try_from(micros / 1_000_000).ok()?;
        if sku.len() > MAX_SHORT_SKU || u64::from(seconds) * 1_000_000 != micros {
            return None;
        }
        // From the body of the request, which is longer than the SKU nearly always.
        let from = (sku.as_ptr() as usize).checked_sub(self.request_body.as_ptr() as usize)?;
        let source: &[u8; MAX_SHORT_SKU] = self.request_body.get(from..)?.first_chunk()?;
        let remembered = remembered_day(&mut self.days, seconds / SECONDS_PER_DAY)?;
        let window = self.buffer.get_mut(self.end..)?;
        let window: &mut [u8; WINDOW_BYTES] = window.first_chunk_mut()?;
        window[..8].copy_from_slice(ITEM_START);
        let at = &mut window[8..];
        at[..USUAL_SKU_BYTES].copy_from_slice(&source[..USUAL_SKU_BYTES]);
        if sku.len() > USUAL_SKU_BYTES {
            at[USUAL_SKU_BYTES..MAX_SHORT_SKU].copy_from_slice(&source[USUAL_SKU_BYTES..]);
        }
        let at = &mut at[sku.len()..];
        at[..MIDDLE_BYTES].copy_from_slice(&middle.padded);
        let at = &mut at[middle.len.into()..];
        let digits = write_count(at.first_chunk_mut()?, level.count.get());
        let at: &mut ItemEnd = at[digits.into()..].first_chunk_mut()?;
        *at = *remembered;
        TimeOfDay::of_seconds(seconds).write(at[TIME_POSITION..].first_chunk_mut()?);
        self.end += 8 + sku.len() + usize::from(middle.len) + usize::from(digits) + ITEM_END_BYTES;
        Some(())
    }

    /// Adds any item. `sku` is escaped.
    fn push_slowly(&mut self, sku: &[u8], level: Level) {
        let mut item = Vec::with_capacity(sku.len() + self.item_middle.len() + ITEM_BYTES);
        item.extend_from_slice(ITEM_START);
        item.extend_from_slice(sku);
        item.extend_from_slice(&self.item_middle);
        item.extend_from_slice(itoa::Buffer::new().format(level.count.get()).as_bytes());
        item.extend_from_slice(br#","type":"FIT","updatedAt":""#);
        write_timestamp(&mut item, level.updated_at);
        item.extend_from_slice(br#""}]},"#);
        self.append(&item);
    }

    fn append(&mut self, bytes: &[u8]) {
        let end = self.end + bytes.len();
        if self.buffer.len() < end {
            self.buffer.resize(end + WINDOW_BYTES, 0);
        }
        self.buffer[self.end..end].copy_from_slice(bytes);
        self.end = end;
    }
}

/// Writes a count, and possibly a surplus, and returns the number of its digits.
#[inline]
fn write_count(text: &mut [u8; 10], count: u32) -> u8 {
    let Some(digits) = THREE_DIGITS.get(count as usize) else {
        return write_large_count(text, count);
    };
    text[..4].copy_from_slice(digits);
    digits[3]
}

#[inline(never)]
fn write_large_count(text: &mut [u8; 10], count: u32) -> u8 {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(count).as_bytes();
    text[..digits.len()].copy_from_slice(digits);
    u8::try_from(digits.len()).expect("a count has at most ten digits")
}

/// Returns the rest of an item that was stated on a day, at midnight.
#[inline]
fn remembered_day(days: &mut [RememberedDay; REMEMBERED_DAYS], day: u32) -> Option<&ItemEnd> {
    let remembered = &mut days[day as usize % REMEMBERED_DAYS];
    if remembered.day != day {
        *remembered = first_item_end(day)?;
    }
    Some(&remembered.item_end)
}

#[cold]
#[inline(never)]
fn first_item_end(day: u32) -> Option<RememberedDay> {
    let mut item_end = ITEM_END;
    item_end[DATE_POSITION..][..10].copy_from_slice(&format_date(day.into())?);
    Some(RememberedDay { day, item_end })
}

fn write_timestamp(body: &mut Vec<u8>, at: Timestamp) {
    let Some(second) = format_to_second(at) else {
        // Years before 0 or after 9999 are rare, so the slow way is used.
        body.extend_from_slice(at.to_string().as_bytes());
        return;
    };
    body.extend_from_slice(&second);
    write_fraction(body, at.as_micros().rem_euclid(1_000_000));
    body.push(b'Z');
}

const SECONDS_PER_DAY: u32 = 86_400;

/// Formats a time as RFC 3339 without fraction and zone. Returns `None` if the year has more than
/// four digits.
///
/// The result equals that of the calendar library, in a tenth of the time.
fn format_to_second(at: Timestamp) -> Option<[u8; 19]> {
    let seconds = at.as_micros().div_euclid(1_000_000);
    let date = format_date(seconds.div_euclid(SECONDS_PER_DAY.into()))?;
    let second = u32::try_from(seconds.rem_euclid(SECONDS_PER_DAY.into())).ok()?;
    let mut text = *b"0000-00-00T00:00:00";
    text[..10].copy_from_slice(&date);
    TimeOfDay::of_seconds(second).write(text.last_chunk_mut()?);
    Some(text)
}

/// Time of the day.
struct TimeOfDay {
    hour: u32,
    minute: u32,
    second: u32,
}

impl TimeOfDay {
    /// Returns the time of the day of a number of seconds since any midnight.
    #[inline]
    fn of_seconds(seconds: u32) -> Self {
        let second = seconds % SECONDS_PER_DAY;
        Self {
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }

    /// Overwrites the digits of `00:00:00`.
    #[inline]
    fn write(&self, text: &mut [u8; 8]) {
        [text[0], text[1]] = TWO_DIGITS[self.hour as usize];
        [text[3], text[4]] = TWO_DIGITS[self.minute as usize];
        [text[6], text[7]] = TWO_DIGITS[self.second as usize];
    }
}

fn format_date(day: i64) -> Option<[u8; 10]> {
    let [year, month, day] = civil_date(day)?;
    let mut text = *b"0000-00-00";
    [text[0], text[1]] = TWO_DIGITS[(year / 100) as usize];
    [text[2], text[3]] = TWO_DIGITS[(year % 100) as usize];
    [text[5], text[6]] = TWO_DIGITS[month as usize];
    [text[8], text[9]] = TWO_DIGITS[day as usize];
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
static TWO_DIGITS: [[u8; 2]; 100] = {
    let digits = b"0123456789";
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [digits[number / 10], digits[number % 10]];
        number += 1;
    }
    pairs
};

/// Numbers 0 to 999 without leading zeros, each followed by zeros and the number of its digits.
static THREE_DIGITS: [[u8; 4]; 1000] = {
    let digits = b"0123456789";
    let mut numbers = [[b'0', 0, 0, 1]; 1000];
    let mut number = 0;
    while number < 1000 {
        let (hundreds, tens, ones) = (number / 100, number / 10 % 10, number % 10);
        numbers[number] = if number < 10 {
            [digits[ones], 0, 0, 1]
        } else if number < 100 {
            [digits[tens], digits[ones], 0, 2]
        } else {
            [digits[hundreds], digits[tens], digits[ones], 3]
        };
        number += 1;
    }
    numbers
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

    #[test]
    fn usual_items_are_written_by_fixed_copies() {
        let body = r#"{"warehouseId":569667,"skus":["A","БОЛТ-М5","0557722-0557722-055"]}"#;
        let body = format!("{body}{}", " ".repeat(MAX_SHORT_SKU));
        let request = StocksRequest::parse(body.as_bytes()).unwrap();
        let mut response = StocksResponseBuilder::for_request(&request);
        for sku in &request.skus {
            let level = level(1500, "2026-01-01T00:00:00Z");
            assert_eq!(response.push_short(sku.0.as_bytes(), level), Some(()));
        }
    }

    fn any_count() -> impl Strategy<Value = i64> {
        prop_oneof![0..1_100_i64, 0..=i64::from(stock::MAX_COUNT)]
    }

    /// Returns seconds of which some are in the months, years or centuries after 1970.
    fn any_second() -> impl Strategy<Value = i64> {
        // Seconds of 32 bits end in 2106.
        let around_2106 = i64::from(u32::MAX) - 10..i64::from(u32::MAX) + 10;
        prop_oneof![0..10_000_000_i64, 0..260_000_000_000_i64, around_2106]
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
            write_timestamp(&mut written, at);
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
        fn fixed_copies_write_what_the_slow_way_writes(
            items in prop::collection::vec(
                ("[A-Z0-9а-я ]{0,60}", any_count(), any_second(), any::<bool>()),
                1..20,
            ),
            id in "[1-9][0-9]{0,39}",
            used_bytes in 0_usize..4096,
        ) {
            let skus: Vec<&String> = items.iter().map(|(sku, ..)| sku).collect();
            let skus = serde_json::to_string(&skus).unwrap();
            let body = format!(r#"{{"warehouseId":{id},"skus":{skus}}}"#);
            let request = StocksRequest::parse(body.as_bytes()).unwrap();
            let mut fast = StocksResponseBuilder::in_buffer(&request, vec![b'x'; used_bytes]);
            let mut slow = StocksResponseBuilder::for_request(&request);
            for (sku, (text, count, seconds, is_whole)) in request.skus.iter().zip(&items) {
                let micros = seconds * 1_000_000 + if *is_whole { 0 } else { 250_000 };
                let level = Level {
                    count: Count::try_from(*count).unwrap(),
                    updated_at: Timestamp::from_micros(micros).unwrap(),
                };
                fast.push_verbatim(sku, level);
                slow.push_slowly(text.as_bytes(), level);
            }
            prop_assert_eq!(
                String::from_utf8(fast.finish()).unwrap(),
                String::from_utf8(slow.finish()).unwrap()
            );
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
