//! How facts are packed into a blob, and how a blob proves that it is what was written.
//!
//! A record is one byte of [`Kind`], then its rows one after the other, then a CRC-32 of all
//! that and of the [`Place`] where the record lies: a record that is moved, exchanged or
//! altered in a single bit is found out. Numbers are LEB128; moments are differences to the
//! row before, because the rows of one request mostly share theirs. A row of a usual SKU
//! takes 15 to 25 bytes.

use chrono::{DateTime, Utc};

use super::{Acked, QuarantineEntry};
use crate::stock::{Count, Hour, LastStated, Level, Sku, SkuActivity, Timestamp};

/// Size at which a record is closed and the next one begun.
///
/// Large enough that a record's cost vanishes among its rows, small enough that a commit of
/// one makes nobody wait.
pub(super) const RECORD_BYTES: usize = 256 * 1024;

const CRC_BYTES: usize = 4;

/// The latest time of an acknowledgement, in 2038.
const MAX_SECOND: u32 = u32::MAX >> 1;

/// What the rows of a record are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RecordKind {
    /// Levels as they were stated.
    Stock = 1,
    /// What the Market acknowledged.
    Acked = 2,
    /// Both, for a snapshot of format 1.
    StockAndAcked = 3,
    /// SKUs put under quarantine.
    Quarantined = 4,
    /// SKUs taken out of it.
    Released = 5,
    /// The shop's acknowledgements and quarantine are void: its target is another one now.
    TargetChanged = 6,
    /// Levels, acknowledgements and marks, for a snapshot.
    Full = 7,
    /// When SKUs were last asserted and asked for.
    Activity = 8,
}

impl RecordKind {
    fn from_byte(byte: u8) -> Result<Self, MalformedRecord> {
        Ok(match byte {
            1 => Self::Stock,
            2 => Self::Acked,
            3 => Self::StockAndAcked,
            4 => Self::Quarantined,
            5 => Self::Released,
            6 => Self::TargetChanged,
            7 => Self::Full,
            8 => Self::Activity,
            _ => return Err(MalformedRecord("a record of an unknown kind")),
        })
    }
}

/// One row of a record.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RecordRow {
    Stock(Sku, Level),
    Acked(Sku, Acked),
    Full(Sku, Level, Acked, SkuActivity),
    Activity(Sku, SkuActivity),
    Quarantined(QuarantineEntry),
    Released(Sku),
    TargetChanged,
}

/// Where a record lies; part of its checksum.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordLocation {
    /// Which table, and which key in it.
    pub(super) key: RecordKey,
    /// The shop's number on disk.
    pub(super) shop: i64,
    /// How many rows the record holds.
    pub(super) rows: i64,
}

/// The key of a record in its table.
#[derive(Clone, Copy, Debug)]
pub(super) enum RecordKey {
    Change { seq: i64 },
    Chunk { generation: i64, chunk: i64 },
}

/// Rows packed, not yet sealed for a place.
#[derive(Debug)]
pub(super) struct PackedRecord {
    pub(super) rows: i64,
    pub(super) body: Vec<u8>,
}

impl PackedRecord {
    /// Adds the checksum, for this place only.
    pub(super) fn seal(mut self, key: RecordKey, shop: i64) -> Vec<u8> {
        let crc = checksum(
            &RecordLocation {
                key,
                shop,
                rows: self.rows,
            },
            &self.body,
        );
        self.body.extend_from_slice(&crc.to_le_bytes());
        self.body
    }

    /// Takes a record out of its place, to be sealed for another.
    pub(super) fn unseal(
        location: &RecordLocation,
        sealed: &[u8],
    ) -> Result<Self, MalformedRecord> {
        Ok(Self {
            rows: location.rows,
            body: unseal(location, sealed)?.to_vec(),
        })
    }
}

/// Checks a record's seal and gives what is under it.
pub(super) fn unseal<'a>(
    location: &RecordLocation,
    sealed: &'a [u8],
) -> Result<&'a [u8], MalformedRecord> {
    let (body, crc) = sealed
        .split_last_chunk::<CRC_BYTES>()
        .ok_or(MalformedRecord("a record without a checksum"))?;
    if checksum(location, body) == u32::from_le_bytes(*crc) {
        Ok(body)
    } else {
        Err(MalformedRecord("a record whose checksum does not match"))
    }
}

fn checksum(location: &RecordLocation, body: &[u8]) -> u32 {
    let key = match location.key {
        RecordKey::Change { seq } => [1, seq, 0],
        RecordKey::Chunk { generation, chunk } => [2, generation, chunk],
    };
    let mut crc = crc32fast::Hasher::new();
    for number in key.into_iter().chain([location.shop, location.rows]) {
        crc.update(&number.to_le_bytes());
    }
    crc.update(body);
    crc.finalize()
}

/// Packs rows of one kind into as many records as they need.
#[derive(Debug)]
pub(super) struct RecordPacker {
    kind: RecordKind,
    closed: Vec<PackedRecord>,
    current: PackedRecord,
    previous: PreviousTimes,
}

impl RecordPacker {
    pub(super) fn new(kind: RecordKind) -> Self {
        Self {
            kind,
            closed: Vec::new(),
            current: Self::empty_record(kind),
            previous: PreviousTimes::default(),
        }
    }

    pub(super) fn push_stock(&mut self, sku: &Sku, level: Level) {
        self.push_row(|out, previous| {
            put_sku(out, sku);
            put_level(out, previous, level);
        });
    }

    pub(super) fn push_acked(&mut self, sku: &Sku, acked: Acked) {
        self.push_row(|out, previous| {
            put_sku(out, sku);
            put_acked(out, previous, None, acked);
        });
    }

    pub(super) fn push_full(
        &mut self,
        sku: &Sku,
        level: Level,
        acked: Acked,
        activity: &SkuActivity,
    ) {
        self.push_row(|out, previous| {
            put_sku(out, sku);
            put_level(out, previous, level);
            put_acked(out, previous, Some(level), acked);
            put_activity(out, activity);
        });
    }

    pub(super) fn push_activity(&mut self, sku: &Sku, activity: &SkuActivity) {
        self.push_row(|out, _| {
            put_sku(out, sku);
            put_activity(out, activity);
        });
    }

    pub(super) fn push_quarantined(&mut self, row: &QuarantineEntry) {
        self.push_row(|out, previous| {
            put_sku(out, &row.sku);
            put_level(out, previous, row.level);
            put_text(out, &row.reason);
            put_signed(out, Timestamp::from(row.since).as_micros());
            put_unsigned(out, row.attempts.into());
            put_signed(out, Timestamp::from(row.retry_at).as_micros());
        });
    }

    pub(super) fn push_released(&mut self, sku: &Sku) {
        self.push_row(|out, _| put_sku(out, sku));
    }

    pub(super) fn target_changed() -> PackedRecord {
        PackedRecord {
            rows: 1,
            body: vec![RecordKind::TargetChanged as u8],
        }
    }

    pub(super) fn finish(mut self) -> Vec<PackedRecord> {
        if self.current.rows > 0 {
            self.closed.push(self.current);
        }
        self.closed
    }

    fn push_row(&mut self, write: impl FnOnce(&mut Vec<u8>, &mut PreviousTimes)) {
        write(&mut self.current.body, &mut self.previous);
        self.current.rows += 1;
        if self.current.body.len() >= RECORD_BYTES {
            self.closed.push(std::mem::replace(
                &mut self.current,
                Self::empty_record(self.kind),
            ));
            self.previous = PreviousTimes::default();
        }
    }

    fn empty_record(kind: RecordKind) -> PackedRecord {
        PackedRecord {
            rows: 0,
            body: vec![kind as u8],
        }
    }
}

/// Reads the rows of a record whose seal was checked.
#[derive(Debug)]
pub(super) struct RecordReader<'a> {
    kind: RecordKind,
    rows_left: i64,
    rest: &'a [u8],
    previous: PreviousTimes,
}

impl<'a> RecordReader<'a> {
    pub(super) fn new(body: &'a [u8], rows: i64) -> Result<Self, MalformedRecord> {
        let (&kind, rest) = body
            .split_first()
            .ok_or(MalformedRecord("an empty record"))?;
        let kind = RecordKind::from_byte(kind)?;
        if kind == RecordKind::TargetChanged && rows != 1 {
            return Err(MalformedRecord("a record with too many rows"));
        }
        Ok(Self {
            kind,
            rows_left: rows,
            rest,
            previous: PreviousTimes::default(),
        })
    }

    fn read_row(&mut self) -> Result<RecordRow, MalformedRecord> {
        Ok(match self.kind {
            RecordKind::Stock => RecordRow::Stock(self.read_sku()?, self.read_level()?),
            RecordKind::Acked => RecordRow::Acked(self.read_sku()?, self.read_acked(None)?),
            RecordKind::StockAndAcked => {
                let (sku, level) = (self.read_sku()?, self.read_level()?);
                RecordRow::Full(
                    sku,
                    level,
                    self.read_acked(Some(level))?,
                    SkuActivity::default(),
                )
            }
            RecordKind::Full => {
                let (sku, level) = (self.read_sku()?, self.read_level()?);
                RecordRow::Full(
                    sku,
                    level,
                    self.read_acked(Some(level))?,
                    self.read_activity()?,
                )
            }
            RecordKind::Activity => RecordRow::Activity(self.read_sku()?, self.read_activity()?),
            RecordKind::Quarantined => RecordRow::Quarantined(self.read_quarantined()?),
            RecordKind::Released => RecordRow::Released(self.read_sku()?),
            RecordKind::TargetChanged => RecordRow::TargetChanged,
        })
    }

    fn read_quarantined(&mut self) -> Result<QuarantineEntry, MalformedRecord> {
        Ok(QuarantineEntry {
            sku: self.read_sku()?,
            level: self.read_level()?,
            reason: self.read_text()?.to_owned(),
            since: self.read_timestamp()?,
            attempts: self.read_u32("a number of attempts out of bounds")?,
            retry_at: self.read_timestamp()?,
        })
    }

    fn read_sku(&mut self) -> Result<Sku, MalformedRecord> {
        let text = self.read_text()?;
        match Sku::parse(text) {
            Ok(sku) if sku.as_str().len() == text.len() => Ok(sku),
            Ok(_) | Err(_) => Err(MalformedRecord("a text that is no sku")),
        }
    }

    fn read_level(&mut self) -> Result<Level, MalformedRecord> {
        let count = i64::from(self.read_u32("a count out of bounds")?);
        let count = Count::try_from(count).map_err(|_| MalformedRecord("a count out of bounds"))?;
        self.previous.updated_at = self.previous.updated_at.wrapping_add(self.read_signed()?);
        Ok(Level {
            count,
            updated_at: timestamp(self.previous.updated_at)?,
        })
    }

    fn read_acked(&mut self, row_level: Option<Level>) -> Result<Acked, MalformedRecord> {
        let level = match (self.read_byte()?, row_level) {
            (FORM_NONE, _) => return Ok(Acked::default()),
            (FORM_SAME, Some(level)) => level,
            (FORM_OTHER, _) => self.read_level()?,
            (_, _) => return Err(MalformedRecord("an acknowledgement of an unknown form")),
        };
        self.previous.acked_at = self.previous.acked_at.wrapping_add(self.read_signed()?);
        match u32::try_from(self.previous.acked_at) {
            Ok(at @ 1..=MAX_SECOND) => Ok(Acked::from_second(level, at)),
            Ok(_) | Err(_) => Err(MalformedRecord("an acknowledgement at an impossible time")),
        }
    }

    fn read_activity(&mut self) -> Result<SkuActivity, MalformedRecord> {
        let stated = match self.read_byte()? {
            FORM_NONE => None,
            FORM_SAME => Some(LastStated {
                hour: self.read_hour()?,
                origin: self.read_byte()?,
            }),
            _ => return Err(MalformedRecord("an assertion of an unknown form")),
        };
        let warehouses = self.read_u32("a number of warehouses out of bounds")?;
        let mut requested = Vec::new();
        for _ in 0..warehouses {
            requested.push((self.read_unsigned()?, self.read_hour()?));
        }
        Ok(SkuActivity { stated, requested })
    }

    fn read_hour(&mut self) -> Result<Hour, MalformedRecord> {
        Hour::from_number(self.read_unsigned()?).ok_or(MalformedRecord("an hour out of bounds"))
    }

    fn read_timestamp(&mut self) -> Result<DateTime<Utc>, MalformedRecord> {
        Ok(timestamp(self.read_signed()?)?.to_utc())
    }

    fn read_text(&mut self) -> Result<&'a str, MalformedRecord> {
        let length = usize::try_from(self.read_unsigned()?).map_err(|_| TRUNCATED)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(TRUNCATED)?;
        self.rest = rest;
        str::from_utf8(text).map_err(|_| MalformedRecord("a text that is not UTF-8"))
    }

    fn read_u32(&mut self, message: &'static str) -> Result<u32, MalformedRecord> {
        u32::try_from(self.read_unsigned()?).map_err(|_| MalformedRecord(message))
    }

    fn read_signed(&mut self) -> Result<i64, MalformedRecord> {
        // Zigzag: the lowest bit is the sign.
        let coded = self.read_unsigned()?;
        Ok((coded >> 1).cast_signed() ^ -(coded & 1).cast_signed())
    }

    fn read_unsigned(&mut self) -> Result<u64, MalformedRecord> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.read_byte()?;
            let digit = u64::from(byte & 0x7f);
            if digit << shift >> shift != digit {
                break;
            }
            number |= digit << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(MalformedRecord("a number out of bounds"))
    }

    fn read_byte(&mut self) -> Result<u8, MalformedRecord> {
        let (&byte, rest) = self.rest.split_first().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(byte)
    }
}

impl Iterator for RecordReader<'_> {
    type Item = Result<RecordRow, MalformedRecord>;

    /// After an error there is no next row.
    fn next(&mut self) -> Option<Self::Item> {
        if self.rows_left <= 0 {
            let rest = std::mem::take(&mut self.rest);
            return (!rest.is_empty())
                .then_some(Err(MalformedRecord("a record with bytes to spare")));
        }
        let row = self.read_row();
        self.rows_left = if row.is_ok() { self.rows_left - 1 } else { 0 };
        if row.is_err() {
            self.rest = &[];
        }
        Some(row)
    }
}

/// What was found instead of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(super) struct MalformedRecord(pub(super) &'static str);

const TRUNCATED: MalformedRecord = MalformedRecord("a record that ends too early");

/// The moments of the row before, of which only differences are written.
#[derive(Debug, Default)]
struct PreviousTimes {
    updated_at: i64,
    acked_at: i64,
}

// The forms of an acknowledgement: none, of the level in the same row, of the one that follows;
// of an assertion: none, or what follows.
const FORM_NONE: u8 = 0;
const FORM_SAME: u8 = 1;
const FORM_OTHER: u8 = 2;

fn timestamp(micros: i64) -> Result<Timestamp, MalformedRecord> {
    Timestamp::from_micros(micros).ok_or(MalformedRecord("a moment no calendar can name"))
}

fn put_sku(out: &mut Vec<u8>, sku: &Sku) {
    put_text(out, sku.as_str());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_unsigned(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_level(out: &mut Vec<u8>, previous: &mut PreviousTimes, level: Level) {
    put_unsigned(out, level.count.get().into());
    let micros = level.updated_at.as_micros();
    put_signed(out, micros.wrapping_sub(previous.updated_at));
    previous.updated_at = micros;
}

fn put_acked(
    out: &mut Vec<u8>,
    previous: &mut PreviousTimes,
    row_level: Option<Level>,
    acked: Acked,
) {
    let Some(level) = acked.level() else {
        return out.push(FORM_NONE);
    };
    if row_level == Some(level) {
        out.push(FORM_SAME);
    } else {
        out.push(FORM_OTHER);
        put_level(out, previous, level);
    }
    put_signed(
        out,
        i64::from(acked.second()).wrapping_sub(previous.acked_at),
    );
    previous.acked_at = acked.second().into();
}

fn put_activity(out: &mut Vec<u8>, activity: &SkuActivity) {
    match activity.stated {
        None => out.push(FORM_NONE),
        Some(LastStated { hour, origin }) => {
            out.push(FORM_SAME);
            put_unsigned(out, hour.number().into());
            out.push(origin);
        }
    }
    put_unsigned(out, activity.requested.len() as u64);
    for (warehouse, hour) in &activity.requested {
        put_unsigned(out, *warehouse);
        put_unsigned(out, hour.number().into());
    }
}

fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_unsigned(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

fn put_unsigned(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            updated_at: Timestamp::from_micros(micros)
                .unwrap_or(Timestamp::from_micros(5).unwrap()),
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
    fn a_record_is_only_valid_in_its_place() {
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
        for place in elsewhere {
            assert!(unseal(&place, &sealed).is_err(), "{place:?}");
        }
    }

    #[test]
    fn rows_of_one_request_take_little_more_than_their_skus() {
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
        fn what_was_packed_is_what_is_read(
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
                for (sku, level, acked, mark, attempts) in rows.clone() {
                    expected.push(match kind {
                        RecordKind::Stock => { packer.push_stock(&sku, level); RecordRow::Stock(sku, level) }
                        RecordKind::Acked => { packer.push_acked(&sku, acked); RecordRow::Acked(sku, acked) }
                        RecordKind::Full => {
                            packer.push_full(&sku, level, acked, &mark);
                            RecordRow::Full(sku, level, acked, mark)
                        }
                        RecordKind::Activity => { packer.push_activity(&sku, &mark); RecordRow::Activity(sku, mark) }
                        RecordKind::Released => { packer.push_released(&sku); RecordRow::Released(sku) }
                        RecordKind::Quarantined | RecordKind::StockAndAcked | RecordKind::TargetChanged => {
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
        fn arbitrary_bytes_are_refused_without_a_panic(
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
        fn a_cut_record_is_never_taken_for_a_whole_one(sku in sku_strategy(), level in level_strategy(), cut in 1usize..60) {
            let mut packer = RecordPacker::new(RecordKind::Stock);
            packer.push_stock(&sku, level);
            let packed = packer.finish().remove(0);
            let short = &packed.body[..packed.body.len().saturating_sub(cut)];
            prop_assert!(read_rows(short, 1).is_err());
        }
    }
}
