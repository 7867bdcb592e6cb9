//! Pagination of the simulator: `limit` and `page_token` of a request, and pages of a list.

use std::borrow::Cow;

use axum::http::Uri;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::responses::{SimError, SimResult};

/// Page sizes of a method.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageSizes {
    pub(super) default_size: usize,
    pub(super) max_size: usize,
    pub(super) oversize: OversizePolicy,
}

/// Treatment of a `limit` above the maximum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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
    pub(super) fn parse(uri: &Uri, sizes: PageSizes) -> SimResult<Self> {
        let illegal = |field: &str| SimError::from(format!("Illegal input at '{field}'"));
        let (most, oversize) = (sizes.max_size, sizes.oversize);
        let limit = first_query_value(uri, &["limit"]).map(|limit| limit.parse::<usize>());
        let limit = match limit {
            None => sizes.default_size,
            Some(Err(_) | Ok(0)) => return Err(illegal("limit")),
            Some(Ok(limit)) if limit > most && oversize == OversizePolicy::Reject => {
                return Err(format!("'limit' must be between 1 and {most}").into());
            }
            Some(Ok(limit)) => limit.min(most),
        };
        let after = page_token(uri).map(|token| decode_page_token(&token));
        let after = after.map(|after| after.ok_or_else(|| illegal("page_token")));
        let after = after.transpose()?;
        Ok(Self { after, limit })
    }

    /// Rejects pagination parameters in a request with `offerIds`, whose response is one page.
    pub(super) fn reject_with_offer_ids(uri: &Uri) -> SimResult<()> {
        if page_token(uri).is_none() && first_query_value(uri, &["limit"]).is_none() {
            return Ok(());
        }
        let message = "'offerIds' cannot be used together with 'limit' and 'page_token'";
        Err(SimError::new(400, message))
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
        let last = page.last().filter(|_| rest.next().is_some());
        let paging = paging_json(last.map(|(key, _)| encode_page_token(&key_text(key))));
        let items = page.into_iter().map(|(_, item)| item).collect();
        (items, paging)
    }

    /// Returns the id before the page in a list sorted by id, or `None` for the first page.
    pub(super) fn after_id(&self) -> SimResult<Option<u64>> {
        let id = self.after.as_ref().map(|after| after.parse());
        id.transpose()
            .map_err(|_| SimError::new(400, "Illegal input at 'page_token'"))
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
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs
        .filter_map(|pair| pair.split_once('='))
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
    let digits = token.chars().map(|c| c.to_digit(16));
    let digits = digits.collect::<Option<Vec<u32>>>()?;
    let byte = |pair: &[u32]| u8::try_from(pair.first()? * 16 + pair.get(1)?).ok();
    let bytes = digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>()?;
    String::from_utf8(bytes).ok()
}
