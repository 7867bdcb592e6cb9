//! Fuzz targets for requests that the service receives.

use chrono::{DateTime, Utc};
use market_api::partner::wire::{business, parse_update};
use market_api::push::wire::StocksRequest;
use strict_http::fuzzing;

/// Checks that hyper's parser reads every accepted request head in the same way.
pub(crate) fn http_head(bytes: &[u8]) {
    let Some((length, framing)) = fuzzing::head(bytes, split_point(bytes)) else {
        return;
    };
    let mut fields = [httparse::EMPTY_HEADER; 200];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(bytes);
    assert_eq!(
        parsed,
        Ok(httparse::Status::Complete(length)),
        "{}",
        bytes.escape_ascii()
    );
    let value = |name: &str| {
        let mut values = request
            .headers
            .iter()
            .filter(|it| it.name.eq_ignore_ascii_case(name));
        let first = values.next().map(|field| field.value);
        assert!(values.next().is_none(), "duplicate header {name}");
        first
    };
    let is_chunked = value("transfer-encoding").is_some();
    let body = value("content-length").map(|digits| str::from_utf8(digits).map(str::parse));
    match framing {
        None => assert!(is_chunked && body.is_none(), "{}", bytes.escape_ascii()),
        Some(length) => {
            let parsed_length: u64 = body.map_or(0, |body| {
                body.expect("the value is ASCII")
                    .expect("the value is a number")
            });
            assert!(
                !is_chunked && parsed_length == length,
                "{parsed_length} and {length}"
            );
        }
    }
}

/// Checks the framing of a chunked body.
pub(crate) fn http_chunks(bytes: &[u8]) {
    let _ignored = fuzzing::chunks(bytes, split_point(bytes));
}

/// Returns the position at which the bytes are split.
fn split_point(bytes: &[u8]) -> usize {
    bytes.last().map_or(0, |&byte| usize::from(byte))
}

/// Parses the body of the Market's `POST /stocks`.
pub(crate) fn stocks_request(bytes: &[u8]) {
    if let Ok(request) = StocksRequest::parse(bytes) {
        // The response echoes the id unchanged, so it must be a part of the body.
        let id = request.warehouse_id.as_bytes();
        assert!(bytes.windows(id.len()).any(|window| window == id));
        let _ignored = request.warehouse_number();
    }
}

/// Parses the body of a stock update, by campaign and by business.
pub(crate) fn stock_update(bytes: &[u8]) {
    let now = DateTime::<Utc>::UNIX_EPOCH;
    if let Err(errors) = parse_update(bytes, 1, now) {
        assert!(!errors.is_empty());
    }
    if let Err(errors) = business::parse_update(bytes, now) {
        assert!(!errors.is_empty());
    }
}
