//! Writing of an update to the Market, by campaign or by business.

use stock::{Level, Sku};

use super::MarketAddress;

/// Body of an update to the Market, built SKU by SKU up to a size.
///
/// It contains raw UTF-8 instead of `\u` escapes: a Cyrillic SKU then has a third of the bytes.
#[derive(Debug)]
pub struct UpdateBody<'a> {
    address: &'a MarketAddress,
    bytes: Vec<u8>,
    max_bytes: usize,
}

const UPDATE_TAIL: &[u8] = b"]}";

impl<'a> UpdateBody<'a> {
    /// Creates an empty body for this address with a limit of `max_bytes`.
    #[must_use]
    pub fn new(max_bytes: usize, address: &'a MarketAddress) -> Self {
        let head: &[u8] = match address {
            MarketAddress::Campaign { .. } => br#"{"skus":["#,
            MarketAddress::Business { .. } => br#"{"skuItems":["#,
        };
        Self {
            address,
            bytes: head.to_vec(),
            max_bytes,
        }
    }

    /// Adds a SKU. Returns false and changes nothing if it does not fit.
    ///
    /// The first SKU always fits: it has at most about 1.5 kB per warehouse.
    pub fn push(&mut self, sku: &Sku, level: Level) -> bool {
        let (before, is_first) = (self.bytes.len(), self.is_empty());
        let Level { count, updated_at } = level;
        match self.address {
            MarketAddress::Campaign { .. } => self.push_item(
                sku,
                &format!(r#""items":[{{"count":{count},"updatedAt":"{updated_at}"}}]"#),
            ),
            MarketAddress::Business { warehouses, .. } => {
                for id in warehouses {
                    let stock = format!(r#""count":{count},"updatedAt":"{updated_at}""#);
                    self.push_item(sku, &format!(r#""partnerWarehouseId":{id},{stock}"#));
                }
            }
        }
        let fits = is_first || self.bytes.len() + UPDATE_TAIL.len() <= self.max_bytes;
        if !fits {
            self.bytes.truncate(before);
        }
        fits
    }

    fn push_item(&mut self, sku: &Sku, members: &str) {
        if !self.is_empty() {
            self.bytes.push(b',');
        }
        self.bytes.extend_from_slice(br#"{"sku":"#);
        serde_json::to_writer(&mut self.bytes, sku.as_str())
            .expect("a string written to memory cannot fail");
        self.bytes.push(b',');
        self.bytes.extend_from_slice(members.as_bytes());
        self.bytes.push(b'}');
    }

    fn is_empty(&self) -> bool {
        self.bytes.ends_with(b"[")
    }

    /// Returns the complete JSON.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(UPDATE_TAIL);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use stock::Count;

    use super::super::parse_update;
    use super::*;

    const CAMPAIGN: MarketAddress = MarketAddress::Campaign { id: 1 };

    fn now() -> DateTime<Utc> {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn update_by_business_covers_every_warehouse() {
        let address = MarketAddress::Business {
            id: 1,
            warehouses: vec![123, 124],
        };
        let level = Level {
            count: Count::try_from(3).unwrap(),
            updated_at: now().into(),
        };
        let mut body = UpdateBody::new(1000, &address);
        assert!(body.push(&Sku::parse("A").unwrap(), level));
        assert!(body.push(&Sku::parse("[").unwrap(), level));
        let json: serde_json::Value = serde_json::from_slice(&body.finish()).unwrap();
        let items = json["skuItems"].as_array().unwrap();
        let expected = serde_json::json!({
            "sku": "A", "partnerWarehouseId": 123, "count": 3, "updatedAt": "2026-11-20T10:00:00Z",
        });
        assert_eq!((items.len(), &items[0]), (4, &expected));
        assert_eq!(items[3]["partnerWarehouseId"], 124);
    }

    #[test]
    fn update_body_stops_at_its_limit() {
        let level = Level {
            count: Count::ZERO,
            updated_at: now().into(),
        };
        let mut body = UpdateBody::new(200, &CAMPAIGN);
        let long = Sku::parse(&"я".repeat(255)).unwrap();
        assert!(body.push(&long, level), "the first SKU always fits");
        assert!(!body.push(&Sku::parse("B").unwrap(), level));
        let json: serde_json::Value = serde_json::from_slice(&body.finish()).unwrap();
        assert_eq!(json["skus"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn accepts_its_own_update_bodies() {
        let level = Level {
            count: Count::try_from(8).unwrap(),
            updated_at: now().into(),
        };
        let mut body = UpdateBody::new(1000, &CAMPAIGN);
        for sku in ["A", "кв\"ад\\рат", "t\tab"] {
            assert!(body.push(&Sku::parse(sku).unwrap(), level));
        }
        let updates = parse_update(&body.finish(), 7, now()).unwrap();
        assert_eq!(updates[1].sku.as_str(), "кв\"ад\\рат");
        assert_eq!(updates[2].updated_at, Some(level.updated_at));
    }
}
