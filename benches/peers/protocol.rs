//! Requests and responses of the peers, and what the responses must say.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;

use crate::goods;
use crate::market::{self, BlockingClient, SHOPS};

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Protocol {
    Http,
    /// `MGET`, in the protocol of Redis and Valkey.
    Redis,
}

/// Count and date of each SKU of a response.
pub(crate) type Levels = BTreeMap<String, WireLevel>;

#[derive(Debug, PartialEq)]
pub(crate) struct WireLevel {
    pub(crate) count: u64,
    pub(crate) updated_at: String,
}

/// Returns the level of a numbered SKU, with its date as a response spells it.
pub(crate) fn level(number: u64) -> WireLevel {
    let level = goods::level(goods::mix(number));
    let updated_at: DateTime<Utc> = level.updated_at.to_utc();
    WireLevel {
        count: level.count.get().into(),
        updated_at: spell(updated_at),
    }
}

fn spell(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StocksQuestion {
    warehouse_id: u64,
    skus: Vec<String>,
}

/// Returns what the response to this request must say.
pub(crate) fn expected(body: &str, skus_per_shop: u64) -> anyhow::Result<Levels> {
    let question: StocksQuestion = serde_json::from_str(body)?;
    let first = (question.warehouse_id - market::warehouse(0)) * skus_per_shop;
    let numbers: BTreeMap<String, u64> = (first..first + skus_per_shop)
        .map(|number| (goods::sku(number).to_string(), number))
        .collect();
    let found = question.skus.into_iter().map(|sku| {
        let number = *numbers
            .get(&sku)
            .context("the SKU is not one of the shop")?;
        Ok((sku, level(number)))
    });
    found.collect()
}

/// Returns a response as the service writes it.
pub(crate) fn expected_response(body: &str, skus_per_shop: u64) -> anyhow::Result<String> {
    let question: StocksQuestion = serde_json::from_str(body)?;
    let levels = expected(body, skus_per_shop)?;
    let rows = levels.into_iter().map(|(sku, level)| {
        json!({
            "sku": sku,
            "warehouseId": question.warehouse_id,
            "items": [{"count": level.count, "type": "FIT", "updatedAt": level.updated_at}],
        })
    });
    let rows: Vec<serde_json::Value> = rows.collect();
    Ok(json!({ "skus": rows }).to_string())
}

impl Protocol {
    pub(crate) fn connect(self, addr: SocketAddr) -> anyhow::Result<BlockingClient> {
        match self {
            Self::Http => BlockingClient::connect(addr),
            Self::Redis => BlockingClient::connect_with(addr, find_reply),
        }
    }

    /// Returns the request with the same SKUs as this body of the push API.
    pub(crate) fn request(self, body: &str) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Http => market::raw_request(market::stocks_request(body.len()), body),
            Self::Redis => {
                let question: StocksQuestion = serde_json::from_str(body)?;
                let key = |sku| key(question.warehouse_id, sku);
                let keys = question.skus.iter().map(|sku| key(sku));
                Ok(command(["MGET".to_owned()].into_iter().chain(keys)))
            }
        }
    }

    /// Returns what a response says.
    pub(crate) fn levels(self, body: &str, response: &[u8]) -> anyhow::Result<Levels> {
        match self {
            Self::Http => http_levels(response),
            Self::Redis => {
                let question: StocksQuestion = serde_json::from_str(body)?;
                let values = bulk_strings(response)?.context("the reply is not complete")?;
                let level = |text: &str| {
                    let (count, updated_at) = text.split_once(' ')?;
                    Some(WireLevel {
                        count: count.parse().ok()?,
                        updated_at: updated_at.into(),
                    })
                };
                let levels = question
                    .skus
                    .into_iter()
                    .zip(&values.0)
                    .map(|(sku, value)| {
                        let text = str::from_utf8(value)?;
                        Ok((sku, level(text).context("a value is not a level")?))
                    });
                levels.collect()
            }
        }
    }
}

#[derive(Deserialize)]
struct StocksAnswer {
    skus: Vec<StocksAnswerRow>,
}

#[derive(Deserialize)]
struct StocksAnswerRow {
    sku: String,
    items: Vec<StocksAnswerItem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StocksAnswerItem {
    count: u64,
    updated_at: DateTime<Utc>,
}

fn http_levels(response: &[u8]) -> anyhow::Result<Levels> {
    let answer: StocksAnswer = serde_json::from_slice(response)?;
    let levels = answer.skus.into_iter().map(|row| {
        let item = row.items.first().context("a row has no item")?;
        let level = WireLevel {
            count: item.count,
            updated_at: spell(item.updated_at),
        };
        Ok((row.sku, level))
    });
    levels.collect()
}

// === Redis ===

fn key(warehouse: u64, sku: &str) -> String {
    format!("{warehouse}:{sku}")
}

fn command(words: impl Iterator<Item = String>) -> Vec<u8> {
    let words: Vec<String> = words.collect();
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

/// Stores all levels, in commands of a thousand keys.
pub(crate) fn fill_redis(addr: SocketAddr, skus_per_shop: u64) -> anyhow::Result<()> {
    let mut client = BlockingClient::connect_with(addr, find_reply)?;
    let all: Vec<u64> = (0..skus_per_shop * u64::from(SHOPS)).collect();
    for some in all.chunks(1000) {
        let pairs = some.iter().flat_map(|number| {
            let shop = u16::try_from(number / skus_per_shop).unwrap_or_default();
            let level = level(*number);
            let sku = goods::sku(*number).to_string();
            let value = format!("{} {}", level.count, level.updated_at);
            [key(market::warehouse(shop), &sku), value]
        });
        client.send(&command(["MSET".to_owned()].into_iter().chain(pairs)))?;
        ensure!(client.receive()? == b"+OK\r\n", "the data was not stored");
    }
    Ok(())
}

fn find_reply(bytes: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    match bytes.first() {
        Some(b'*') => Ok(bulk_strings(bytes)?.map(|(_, end)| (0, end))),
        Some(b'+') => Ok(bytes.ends_with(b"\r\n").then_some((0, bytes.len()))),
        _ => bail!("unexpected reply: {}", String::from_utf8_lossy(bytes)),
    }
}

/// Strings of an array, and its length in bytes.
type BulkStrings<'b> = (Vec<&'b [u8]>, usize);

/// Returns the strings of an array, or `None` while it is incomplete.
fn bulk_strings(bytes: &[u8]) -> anyhow::Result<Option<BulkStrings<'_>>> {
    let Some((count, mut at)) = number_after(b'*', bytes, 0)? else {
        return Ok(None);
    };
    let mut strings = Vec::with_capacity(count);
    for _ in 0..count {
        let Some((length, start)) = number_after(b'$', bytes, at)? else {
            return Ok(None);
        };
        at = start + length + 2;
        let Some(string) = bytes.get(start..at) else {
            return Ok(None);
        };
        strings.push(&string[..length]);
    }
    Ok(Some((strings, at)))
}

/// Returns the number of a line that starts with `sign`, and the place after the line.
fn number_after(sign: u8, bytes: &[u8], at: usize) -> anyhow::Result<Option<(usize, usize)>> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else {
        return Ok(None);
    };
    ensure!(rest[0] == sign, "the reply is not what MGET replies");
    let number = str::from_utf8(&rest[1..end])?;
    let number = number.parse().context("a key is missing")?;
    Ok(Some((number, at + end + 2)))
}
