//! Pagination of the simulator: `limit` and `page_token` of a request, and pages of a list.

use std::borrow::Cow;

use axum::http::Uri;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::responses::SimErrorResponse;

/// Page sizes of a method.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageSizes {
    pub(super) default_size: usize,
    pub(super) max_size: usize,
    pub(super) oversize: OversizePolicy,
}

/// Treatment of a `limit` above the maximum.
#[derive(Clone, Copy, Debug)]
pub(super) enum OversizePolicy {
    /// Reduces it to the maximum without an error. Source: the change log, 2026-08-04.
    Truncate,
    /// Rejects it, because the schema has a maximum.
    Reject,
}

/// Pagination parameters of a request.
#[derive(Debug)]
pub(super) struct SimPageRequest {
    pub(super) after: Option<String>,
    pub(super) limit: usize,
}

impl SimPageRequest {
    pub(super) fn parse(uri: &Uri, sizes: PageSizes) -> Result<Self, SimErrorResponse> {
        let limit = match (
            first_query_value(uri, &["limit"]).map(|limit| limit.parse::<usize>()),
            sizes.oversize,
        ) {
            (None, _) => sizes.default_size,
            (Some(Ok(limit)), OversizePolicy::Truncate) if limit > 0 => limit.min(sizes.max_size),
            (Some(Ok(limit)), OversizePolicy::Reject) if limit > 0 && limit <= sizes.max_size => {
                limit
            }
            (Some(Ok(limit)), OversizePolicy::Reject) if limit > 0 => {
                let message = format!("'limit' must be between 1 and {}", sizes.max_size);
                return Err(SimErrorResponse::new(400, message));
            }
            (Some(_), _) => return Err(SimErrorResponse::new(400, "Illegal input at 'limit'")),
        };
        let after = match page_token(uri) {
            None => None,
            Some(token) => Some(
                decode_page_token(&token)
                    .ok_or_else(|| SimErrorResponse::new(400, "Illegal input at 'page_token'"))?,
            ),
        };
        Ok(Self { after, limit })
    }

    /// Rejects pagination parameters in a request with `offerIds`, whose response is one page.
    pub(super) fn reject_with_offer_ids(uri: &Uri) -> Result<(), SimErrorResponse> {
        if page_token(uri).is_none() && first_query_value(uri, &["limit"]).is_none() {
            return Ok(());
        }
        let message = "'offerIds' cannot be used together with 'limit' and 'page_token'";
        Err(SimErrorResponse::new(400, message))
    }

    /// Takes the page from a list sorted by key, and returns it with the `paging` member.
    pub(super) fn take_page<K: Ord, T>(
        &self,
        all: impl Iterator<Item = (K, T)>,
        after: Option<&K>,
        key_text: impl Fn(&K) -> String,
    ) -> (Vec<T>, Value) {
        let mut rest = all.filter(|(key, _)| after.is_none_or(|after| key > after));
        let page: Vec<(K, T)> = rest.by_ref().take(self.limit).collect();
        let last = page.last().map(|(key, _)| key_text(key));
        let next = last
            .filter(|_| rest.next().is_some())
            .map(|last| encode_page_token(&last));
        (
            page.into_iter().map(|(_, item)| item).collect(),
            paging_json(next),
        )
    }

    /// Returns the id before the page in a list sorted by id, or `None` for the first page.
    pub(super) fn after_id(&self) -> Result<Option<u64>, SimErrorResponse> {
        let id = self.after.as_ref().map(|after| after.parse());
        id.transpose()
            .map_err(|_| SimErrorResponse::new(400, "Illegal input at 'page_token'"))
    }
}

/// Returns `{}` or `{"nextPageToken":"…"}`.
pub(super) fn paging_json(next: Option<String>) -> Value {
    next.map_or_else(|| json!({}), |next| json!({ "nextPageToken": next }))
}

/// Returns the decoded values of a query parameter in their order.
pub(super) fn query_values<'a>(
    uri: &'a Uri,
    names: &'a [&str],
) -> impl Iterator<Item = Cow<'a, str>> {
    let pairs = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='));
    pairs
        .filter(move |(name, _)| names.contains(name))
        .map(|(_, value)| decode_query_value(value))
}

/// Encodes the last SKU of a page in hexadecimal: opaque to the client and safe in a URL.
pub(super) fn encode_page_token(sku: &str) -> String {
    sku.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn page_token(uri: &Uri) -> Option<Cow<'_, str>> {
    first_query_value(uri, &["page_token", "pageToken"]).filter(|token| !token.is_empty())
}

fn first_query_value<'a>(uri: &'a Uri, names: &'a [&str]) -> Option<Cow<'a, str>> {
    query_values(uri, names).next()
}

fn decode_query_value(value: &str) -> Cow<'_, str> {
    if value.contains('+') {
        let spaced = value.replace('+', " ");
        Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
    } else {
        percent_decode_str(value).decode_utf8_lossy()
    }
}

fn decode_page_token(token: &str) -> Option<String> {
    let digits: Vec<u32> = token
        .chars()
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    let byte = |pair: &[u32]| u8::try_from(pair.first()? * 16 + pair.get(1)?).ok();
    let bytes = digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>()?;
    String::from_utf8(bytes).ok()
}
