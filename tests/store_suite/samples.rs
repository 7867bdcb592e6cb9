//! Sample shops, rows and quarantine entries.

use std::ops::Range;

use stock::{Count, Hour, LastStated, Level, Sku, SkuActivity, Timestamp};
use stockbridge::store::{QuarantineEntry, ShopIdentity};

pub(crate) fn shops<const N: usize>(names: [&str; N]) -> Vec<ShopIdentity> {
    let identity = |name: &str| ShopIdentity {
        name: name.to_owned(),
        target: "campaign 1".to_owned(),
        warehouses: vec![70, 80],
    };
    names.map(identity).into()
}

pub(crate) fn sku(n: i64) -> Sku {
    Sku::parse(&format!("артикул-{n}")).unwrap()
}

pub(crate) fn level(count: i64, micros: i64) -> Level {
    let updated_at = Timestamp::from_micros(1_780_000_000_000_000 + micros).unwrap();
    Level {
        count: Count::try_from(count).unwrap(),
        updated_at,
    }
}

/// Returns a level for each SKU; later `micros` are newer.
pub(crate) fn rows(skus: Range<i64>, micros: i64) -> Vec<(Sku, Level)> {
    skus.map(|n| (sku(n), level(n * 7 + micros, micros)))
        .collect()
}

/// Returns activity for each SKU. SKUs from 350 on were never stated.
pub(crate) fn activity_rows(skus: Range<i64>, hour: u64) -> Vec<(Sku, SkuActivity)> {
    let hour = |more: i64| Hour::from_number(hour + more.cast_unsigned()).unwrap();
    let activity = |n: i64| SkuActivity {
        stated: (n < 350).then(|| LastStated {
            hour: hour(n),
            origin: 3,
        }),
        requested: vec![(70, hour(n)), (80, hour(n + 1))],
    };
    skus.map(|n| (sku(n), activity(n))).collect()
}

pub(crate) fn quarantined(n: i64, attempts: u32) -> QuarantineEntry {
    let at = level(0, n).updated_at.to_utc();
    QuarantineEntry {
        sku: sku(n),
        level: level(n, n),
        reason: format!("unknown sku, {attempts}"),
        since: at,
        attempts,
        retry_at: at,
    }
}
