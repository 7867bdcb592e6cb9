//! Tests of the binary format: round trips, and rejection of altered and arbitrary bytes.

use proptest::prelude::*;
use stock::{Count, Hour, LastStated, Timestamp};

use super::reader::MAX_SECOND;
use super::*;

const KEY: RecordKey = RecordKey::Change { seq: 7 };
const LOCATION: RecordLocation = RecordLocation {
    key: KEY,
    shop: 1,
    rows: 1,
};

fn read_rows(body: &[u8], rows: i64) -> Result<Vec<RecordRow>, MalformedRecord> {
    RecordReader::new(body, rows)?.collect()
}

fn level_strategy() -> impl Strategy<Value = Level> {
    (0i64..=2_000_000_000, any::<i64>()).prop_map(|(count, micros)| Level {
        count: Count::try_from(count).unwrap(),
        updated_at: Timestamp::from_micros(micros).unwrap_or(Timestamp::from_micros(5).unwrap()),
    })
}

fn acked_strategy() -> impl Strategy<Value = Acked> {
    let some = (level_strategy(), 1..=MAX_SECOND)
        .prop_map(|(level, second)| Acked::from_second(level, second));
    prop_oneof![Just(Acked::default()), some]
}

fn activity_strategy() -> impl Strategy<Value = SkuActivity> {
    let hours = || (0u64..30_000).prop_map(|n| Hour::from_number(n).unwrap());
    let stated = prop::option::of((hours(), any::<u8>()));
    let requested = prop::collection::vec((any::<u64>(), hours()), 0..3);
    (stated, requested).prop_map(|(stated, requested)| SkuActivity {
        stated: stated.map(|(hour, origin)| LastStated { hour, origin }),
        requested,
    })
}

fn sku_strategy() -> impl Strategy<Value = Sku> {
    "[a-zA-Zя😀0-9][ \ta-z]{0,40}[0-9]".prop_map(|text| Sku::parse(&text).unwrap())
}

#[test]
fn record_is_valid_only_in_its_location() {
    let sealed = RecordPacker::target_changed().seal(KEY, 1);
    assert!(unseal(&LOCATION, &sealed).is_ok());
    let elsewhere = [
        RecordLocation {
            key: RecordKey::Change { seq: 8 },
            ..LOCATION
        },
        RecordLocation {
            key: RecordKey::Chunk {
                generation: 7,
                chunk: 0,
            },
            ..LOCATION
        },
        RecordLocation {
            shop: 2,
            ..LOCATION
        },
        RecordLocation {
            rows: 2,
            ..LOCATION
        },
    ];
    for location in elsewhere {
        assert!(unseal(&location, &sealed).is_err(), "{location:?}");
    }
}

#[test]
fn rows_with_one_time_take_under_14_bytes() {
    let mut packer = RecordPacker::new(RecordKind::Stock);
    let updated_at = Timestamp::from_micros(1_700_000_000_000_000).unwrap();
    for n in 0..1000 {
        let sku = Sku::parse(&format!("{n:010}")).unwrap();
        packer.push_stock(
            &sku,
            Level {
                count: Count::try_from(n).unwrap(),
                updated_at,
            },
        );
    }
    let packed = packer.finish();
    assert!(packed[0].body.len() < 1000 * 14, "{}", packed[0].body.len());
}

proptest! {
    #[test]
    fn reads_what_was_packed(
        rows in prop::collection::vec(
            (sku_strategy(), level_strategy(), acked_strategy(), activity_strategy(), any::<u32>()), 1..20,
        )
    ) {
        let kinds = [
            RecordKind::Stock, RecordKind::Acked, RecordKind::Full, RecordKind::Activity, RecordKind::Quarantined,
            RecordKind::Released,
        ];
        for kind in kinds {
            let mut packer = RecordPacker::new(kind);
            let mut expected = Vec::new();
            for (sku, level, acked, sku_activity, attempts) in rows.clone() {
                expected.push(match kind {
                    RecordKind::Stock => { packer.push_stock(&sku, level); RecordRow::Stock(sku, level) }
                    RecordKind::Acked => { packer.push_acked(&sku, acked); RecordRow::Acked(sku, acked) }
                    RecordKind::Full => {
                        packer.push_full(&sku, level, acked, &sku_activity);
                        RecordRow::Full(sku, level, acked, sku_activity)
                    }
                    RecordKind::Activity => { packer.push_activity(&sku, &sku_activity); RecordRow::Activity(sku, sku_activity) }
                    RecordKind::Released => { packer.push_released(&sku); RecordRow::Released(sku) }
                    RecordKind::Quarantined | RecordKind::TargetChanged => {
                        let at = level.updated_at.to_utc();
                        let reason = format!("{attempts} ✗");
                        let row = QuarantineEntry { sku, level, reason, since: at, attempts, retry_at: at };
                        packer.push_quarantined(&row);
                        RecordRow::Quarantined(row)
                    }
                });
            }
            let packed = packer.finish().remove(0);
            let count = packed.rows;
            let sealed = packed.seal(KEY, 1);
            let body = unseal(&RecordLocation { rows: count, ..LOCATION }, &sealed).unwrap();
            prop_assert_eq!(read_rows(body, count).unwrap(), expected);
        }
    }

    #[test]
    fn rejects_arbitrary_bytes_without_a_panic(
        kind in 0u8..10, bytes in prop::collection::vec(any::<u8>(), 0..200), rows in -1i64..40,
    ) {
        let _unsealed = unseal(&LOCATION, &bytes);
        let body: Vec<u8> = std::iter::once(kind).chain(bytes).collect();
        if let Ok(read) = read_rows(&body, rows) {
            prop_assert!(read.len() <= body.len());
        }
        let _endless = read_rows(&body, i64::MAX);
    }

    #[test]
    fn rejects_truncated_records(sku in sku_strategy(), level in level_strategy(), cut in 1usize..60) {
        let mut packer = RecordPacker::new(RecordKind::Stock);
        packer.push_stock(&sku, level);
        let packed = packer.finish().remove(0);
        let short = &packed.body[..packed.body.len().saturating_sub(cut)];
        prop_assert!(read_rows(short, 1).is_err());
    }
}
