//! Requests that we receive.

use chrono::{DateTime, Utc};
use stockbridge::http::fuzzing;
use stockbridge::partner_api::wire::{business, parse_update};
use stockbridge::push_api::wire::StocksRequest;

/// The head of a request, which hyper's parser reads after us: what we accept it reads alike.
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
        assert!(values.next().is_none(), "{name} is there twice");
        first
    };
    let is_chunked = value("transfer-encoding").is_some();
    let body = value("content-length").map(|digits| str::from_utf8(digits).map(str::parse));
    match framing {
        None => assert!(is_chunked && body.is_none(), "{}", bytes.escape_ascii()),
        Some(length) => {
            let theirs: u64 = body.map_or(0, |body| body.expect("ASCII").expect("a number"));
            assert!(!is_chunked && theirs == length, "{theirs} and {length}");
        }
    }
}

/// The framing of a chunked body.
pub(crate) fn http_chunks(bytes: &[u8]) {
    let _ignored = fuzzing::chunks(bytes, split_point(bytes));
}

/// Where the bytes are cut in two.
fn split_point(bytes: &[u8]) -> usize {
    bytes.last().map_or(0, |&byte| usize::from(byte))
}

/// The body of the Market's `POST /stocks`.
pub(crate) fn stocks_request(bytes: &[u8]) {
    if let Ok(question) = StocksRequest::parse(bytes) {
        // What is echoed to the letter is in the body to the letter.
        let id = question.warehouse_id.as_bytes();
        assert!(bytes.windows(id.len()).any(|window| window == id));
        let _ignored = question.warehouse_number();
    }
}

/// The body of an update of stock, by campaign and by business.
pub(crate) fn stock_update(bytes: &[u8]) {
    let now = DateTime::<Utc>::UNIX_EPOCH;
    if let Err(errors) = parse_update(bytes, 1, now) {
        assert!(!errors.is_empty());
    }
    if let Err(errors) = business::parse_update(bytes, now) {
        assert!(!errors.is_empty());
    }
}
