use std::borrow::Cow;

use axum::http::Uri;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::rehearsal::answers::Refusal;

/// How long a method's pages are, and what a longer one that is asked for comes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pages {
    pub(super) usual: usize,
    pub(super) most: usize,
    pub(super) beyond: Beyond,
}

/// What is done with a `limit` that is too large.
#[derive(Clone, Copy, Debug)]
pub(super) enum Beyond {
    /// It is cut, and nothing said. Source: the change log, 2026-08-04.
    Cut,
    /// It is refused, as the schema has a maximum.
    Refused,
}

/// Which part of a list is asked for.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) after: Option<String>,
    pub(super) limit: usize,
}

impl Page {
    pub(super) fn read(uri: &Uri, pages: Pages) -> Result<Self, Refusal> {
        let limit = match (
            first(uri, &["limit"]).map(|limit| limit.parse::<usize>()),
            pages.beyond,
        ) {
            (None, _) => pages.usual,
            (Some(Ok(limit)), Beyond::Cut) if limit > 0 => limit.min(pages.most),
            (Some(Ok(limit)), Beyond::Refused) if limit > 0 && limit <= pages.most => limit,
            (Some(Ok(limit)), Beyond::Refused) if limit > 0 => {
                let message = format!("'limit' must be between 1 and {}", pages.most);
                return Err(Refusal::new(400, message));
            }
            (Some(_), _) => return Err(Refusal::new(400, "Illegal input at 'limit'")),
        };
        let after = match token(uri) {
            None => None,
            Some(token) => Some(
                from_token(&token)
                    .ok_or_else(|| Refusal::new(400, "Illegal input at 'page_token'"))?,
            ),
        };
        Ok(Self { after, limit })
    }

    /// Whoever names offers gets them all, on one page.
    pub(super) fn refuse_beside_offers(uri: &Uri) -> Result<(), Refusal> {
        if token(uri).is_none() && first(uri, &["limit"]).is_none() {
            return Ok(());
        }
        let message = "'offerIds' cannot be used together with 'limit' and 'page_token'";
        Err(Refusal::new(400, message))
    }

    /// Cuts the page out of a list in order of its keys, and says where the next one begins.
    pub(super) fn cut<K: Ord, T>(
        &self,
        all: impl Iterator<Item = (K, T)>,
        after: Option<&K>,
        spell: impl Fn(&K) -> String,
    ) -> (Vec<T>, Value) {
        let mut rest = all.filter(|(key, _)| after.is_none_or(|after| key > after));
        let page: Vec<(K, T)> = rest.by_ref().take(self.limit).collect();
        let last = page.last().map(|(key, _)| spell(key));
        let next = last
            .filter(|_| rest.next().is_some())
            .map(|last| to_token(&last));
        (
            page.into_iter().map(|(_, item)| item).collect(),
            paging(next),
        )
    }

    /// The number after which the page begins, in a list of numbered things.
    pub(super) fn after_number(&self) -> Result<Option<u64>, Refusal> {
        let number = self.after.as_ref().map(|after| after.parse());
        number
            .transpose()
            .map_err(|_| Refusal::new(400, "Illegal input at 'page_token'"))
    }
}

/// `{}` or `{"nextPageToken":"…"}`
pub(super) fn paging(next: Option<String>) -> Value {
    next.map_or_else(|| json!({}), |next| json!({ "nextPageToken": next }))
}

/// The values of a member of the query, in the order in which they came.
pub(super) fn values<'a>(uri: &'a Uri, names: &'a [&str]) -> impl Iterator<Item = Cow<'a, str>> {
    let pairs = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='));
    pairs
        .filter(move |(name, _)| names.contains(name))
        .map(|(_, value)| decode(value))
}

/// The last SKU of a page in hexadecimal: opaque to the client, safe in a URL.
pub(super) fn to_token(sku: &str) -> String {
    sku.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn token(uri: &Uri) -> Option<Cow<'_, str>> {
    first(uri, &["page_token", "pageToken"]).filter(|token| !token.is_empty())
}

fn first<'a>(uri: &'a Uri, names: &'a [&str]) -> Option<Cow<'a, str>> {
    values(uri, names).next()
}

fn decode(value: &str) -> Cow<'_, str> {
    if value.contains('+') {
        let spaced = value.replace('+', " ");
        Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
    } else {
        percent_decode_str(value).decode_utf8_lossy()
    }
}

fn from_token(token: &str) -> Option<String> {
    let digits: Vec<u32> = token
        .chars()
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    let byte = |pair: &[u32]| u8::try_from(pair.first()? * 16 + pair.get(1)?).ok();
    let bytes = digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>()?;
    String::from_utf8(bytes).ok()
}
