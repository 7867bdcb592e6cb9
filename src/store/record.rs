//! How facts are packed into a blob, and how a blob proves that it is what was written.
//!
//! A record is one byte of [`Kind`], then its rows one after the other, then a CRC-32 of all
//! that and of the [`Place`] where the record lies: a record that is moved, exchanged or
//! altered in a single bit is found out. Numbers are LEB128; moments are differences to the
//! row before, because the rows of one request mostly share theirs. A row of a usual SKU
//! takes 15 to 25 bytes.

use chrono::{DateTime, Utc};

use super::{Acked, Quarantined};
use crate::stock::{Assertion, Count, Hour, Instant, Level, Mark, Sku};

/// Size at which a record is closed and the next one begun.
///
/// Large enough that a record's cost vanishes among its rows, small enough that a commit of
/// one makes nobody wait.
pub(super) const RECORD_BYTES: usize = 256 * 1024;

const CRC_BYTES: usize = 4;

/// The latest time of an acknowledgement, in 2038.
const LAST_SECOND: u32 = u32::MAX >> 1;

/// What the rows of a record are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Levels as they were stated.
    Stock = 1,
    /// What the Market acknowledged.
    Acked = 2,
    /// Both, for a snapshot of format 1.
    Both = 3,
    /// SKUs put under quarantine.
    Quarantined = 4,
    /// SKUs taken out of it.
    Released = 5,
    /// The shop's acknowledgements and quarantine are void: its target is another one now.
    Forgotten = 6,
    /// Levels, acknowledgements and marks, for a snapshot.
    Full = 7,
    /// When SKUs were last asserted and asked for.
    Marked = 8,
}

impl Kind {
    fn from_byte(byte: u8) -> Result<Self, Malformed> {
        Ok(match byte {
            1 => Self::Stock,
            2 => Self::Acked,
            3 => Self::Both,
            4 => Self::Quarantined,
            5 => Self::Released,
            6 => Self::Forgotten,
            7 => Self::Full,
            8 => Self::Marked,
            _ => return Err(Malformed("a record of an unknown kind")),
        })
    }
}

/// One row of a record.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fact {
    Stock(Sku, Level),
    Acked(Sku, Acked),
    Full(Sku, Level, Acked, Mark),
    Marked(Sku, Mark),
    Quarantined(Quarantined),
    Released(Sku),
    Forgotten,
}

/// Where a record lies; part of its checksum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Which table, and which key in it.
    pub(super) key: Key,
    /// The shop's number on disk.
    pub(super) shop: i64,
    /// How many rows the record holds.
    pub(super) rows: i64,
}

/// The key of a record in its table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key {
    Change { seq: i64 },
    Chunk { generation: i64, chunk: i64 },
}

/// Rows packed, not yet sealed for a place.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) rows: i64,
    pub(super) body: Vec<u8>,
}

impl Packed {
    /// Adds the checksum, for this place only.
    pub(super) fn seal(mut self, key: Key, shop: i64) -> Vec<u8> {
        let crc = checksum(
            &Place {
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
    pub(super) fn unseal(place: &Place, sealed: &[u8]) -> Result<Self, Malformed> {
        Ok(Self {
            rows: place.rows,
            body: unseal(place, sealed)?.to_vec(),
        })
    }
}

/// Checks a record's seal and gives what is under it.
pub(super) fn unseal<'a>(place: &Place, sealed: &'a [u8]) -> Result<&'a [u8], Malformed> {
    let (body, crc) = sealed
        .split_last_chunk::<CRC_BYTES>()
        .ok_or(Malformed("a record without a checksum"))?;
    if checksum(place, body) == u32::from_le_bytes(*crc) {
        Ok(body)
    } else {
        Err(Malformed("a record whose checksum does not match"))
    }
}

fn checksum(place: &Place, body: &[u8]) -> u32 {
    let key = match place.key {
        Key::Change { seq } => [1, seq, 0],
        Key::Chunk { generation, chunk } => [2, generation, chunk],
    };
    let mut crc = crc32fast::Hasher::new();
    for number in key.into_iter().chain([place.shop, place.rows]) {
        crc.update(&number.to_le_bytes());
    }
    crc.update(body);
    crc.finalize()
}

/// Packs rows of one kind into as many records as they need.
#[derive(Debug)]
pub(super) struct Packer {
    kind: Kind,
    full: Vec<Packed>,
    open: Packed,
    before: Before,
}

impl Packer {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            full: Vec::new(),
            open: Self::begin(kind),
            before: Before::default(),
        }
    }

    pub(super) fn stock(&mut self, sku: &Sku, level: Level) {
        self.row(|out, before| {
            put_sku(out, sku);
            put_level(out, before, level);
        });
    }

    pub(super) fn acked(&mut self, sku: &Sku, acked: Acked) {
        self.row(|out, before| {
            put_sku(out, sku);
            put_acked(out, before, None, acked);
        });
    }

    pub(super) fn full(&mut self, sku: &Sku, level: Level, acked: Acked, mark: &Mark) {
        self.row(|out, before| {
            put_sku(out, sku);
            put_level(out, before, level);
            put_acked(out, before, Some(level), acked);
            put_mark(out, mark);
        });
    }

    pub(super) fn marked(&mut self, sku: &Sku, mark: &Mark) {
        self.row(|out, _| {
            put_sku(out, sku);
            put_mark(out, mark);
        });
    }

    pub(super) fn quarantined(&mut self, row: &Quarantined) {
        self.row(|out, before| {
            put_sku(out, &row.sku);
            put_level(out, before, row.level);
            put_text(out, &row.reason);
            put_signed(out, Instant::from(row.since).as_micros());
            put_unsigned(out, row.attempts.into());
            put_signed(out, Instant::from(row.retry_at).as_micros());
        });
    }

    pub(super) fn released(&mut self, sku: &Sku) {
        self.row(|out, _| put_sku(out, sku));
    }

    pub(super) fn forgotten() -> Packed {
        Packed {
            rows: 1,
            body: vec![Kind::Forgotten as u8],
        }
    }

    pub(super) fn finish(mut self) -> Vec<Packed> {
        if self.open.rows > 0 {
            self.full.push(self.open);
        }
        self.full
    }

    fn row(&mut self, put: impl FnOnce(&mut Vec<u8>, &mut Before)) {
        put(&mut self.open.body, &mut self.before);
        self.open.rows += 1;
        if self.open.body.len() >= RECORD_BYTES {
            self.full
                .push(std::mem::replace(&mut self.open, Self::begin(self.kind)));
            self.before = Before::default();
        }
    }

    fn begin(kind: Kind) -> Packed {
        Packed {
            rows: 0,
            body: vec![kind as u8],
        }
    }
}

/// Reads the rows of a record whose seal was checked.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    kind: Kind,
    left: i64,
    rest: &'a [u8],
    before: Before,
}

impl<'a> Facts<'a> {
    pub(super) fn of(body: &'a [u8], rows: i64) -> Result<Self, Malformed> {
        let (&kind, rest) = body.split_first().ok_or(Malformed("an empty record"))?;
        let kind = Kind::from_byte(kind)?;
        if kind == Kind::Forgotten && rows != 1 {
            return Err(Malformed("a record with too many rows"));
        }
        Ok(Self {
            kind,
            left: rows,
            rest,
            before: Before::default(),
        })
    }

    fn fact(&mut self) -> Result<Fact, Malformed> {
        Ok(match self.kind {
            Kind::Stock => Fact::Stock(self.sku()?, self.level()?),
            Kind::Acked => Fact::Acked(self.sku()?, self.acked(None)?),
            Kind::Both => {
                let (sku, level) = (self.sku()?, self.level()?);
                Fact::Full(sku, level, self.acked(Some(level))?, Mark::default())
            }
            Kind::Full => {
                let (sku, level) = (self.sku()?, self.level()?);
                Fact::Full(sku, level, self.acked(Some(level))?, self.mark()?)
            }
            Kind::Marked => Fact::Marked(self.sku()?, self.mark()?),
            Kind::Quarantined => Fact::Quarantined(self.quarantined()?),
            Kind::Released => Fact::Released(self.sku()?),
            Kind::Forgotten => Fact::Forgotten,
        })
    }

    fn quarantined(&mut self) -> Result<Quarantined, Malformed> {
        Ok(Quarantined {
            sku: self.sku()?,
            level: self.level()?,
            reason: self.text()?.to_owned(),
            since: self.moment()?,
            attempts: self.small("a number of attempts out of bounds")?,
            retry_at: self.moment()?,
        })
    }

    fn sku(&mut self) -> Result<Sku, Malformed> {
        let text = self.text()?;
        match Sku::parse(text) {
            Ok(sku) if sku.as_str().len() == text.len() => Ok(sku),
            Ok(_) | Err(_) => Err(Malformed("a text that is no sku")),
        }
    }

    fn level(&mut self) -> Result<Level, Malformed> {
        let count = i64::from(self.small("a count out of bounds")?);
        let count = Count::try_from(count).map_err(|_| Malformed("a count out of bounds"))?;
        self.before.updated_at = self.before.updated_at.wrapping_add(self.signed()?);
        Ok(Level {
            count,
            updated_at: instant(self.before.updated_at)?,
        })
    }

    fn acked(&mut self, stated: Option<Level>) -> Result<Acked, Malformed> {
        let level = match (self.byte()?, stated) {
            (NOTHING, _) => return Ok(Acked::default()),
            (SAME, Some(level)) => level,
            (OTHER, _) => self.level()?,
            (_, _) => return Err(Malformed("an acknowledgement of an unknown form")),
        };
        self.before.acked_at = self.before.acked_at.wrapping_add(self.signed()?);
        match u32::try_from(self.before.acked_at) {
            Ok(at @ 1..=LAST_SECOND) => Ok(Acked::at_second(level, at)),
            Ok(_) | Err(_) => Err(Malformed("an acknowledgement at an impossible time")),
        }
    }

    fn mark(&mut self) -> Result<Mark, Malformed> {
        let asserted = match self.byte()? {
            NOTHING => None,
            SAME => Some(Assertion {
                hour: self.hour()?,
                origin: self.byte()?,
            }),
            _ => return Err(Malformed("an assertion of an unknown form")),
        };
        let warehouses = self.small("a number of warehouses out of bounds")?;
        let mut asked = Vec::new();
        for _ in 0..warehouses {
            asked.push((self.unsigned()?, self.hour()?));
        }
        Ok(Mark { asserted, asked })
    }

    fn hour(&mut self) -> Result<Hour, Malformed> {
        Hour::from_number(self.unsigned()?).ok_or(Malformed("an hour out of bounds"))
    }

    fn moment(&mut self) -> Result<DateTime<Utc>, Malformed> {
        Ok(instant(self.signed()?)?.to_utc())
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = usize::try_from(self.unsigned()?).map_err(|_| CUT)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(CUT)?;
        self.rest = rest;
        str::from_utf8(text).map_err(|_| Malformed("a text that is not UTF-8"))
    }

    fn small(&mut self, complaint: &'static str) -> Result<u32, Malformed> {
        u32::try_from(self.unsigned()?).map_err(|_| Malformed(complaint))
    }

    fn signed(&mut self) -> Result<i64, Malformed> {
        // Zigzag: the lowest bit is the sign.
        let coded = self.unsigned()?;
        Ok((coded >> 1).cast_signed() ^ -(coded & 1).cast_signed())
    }

    fn unsigned(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let digit = u64::from(byte & 0x7f);
            if digit << shift >> shift != digit {
                break;
            }
            number |= digit << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed("a number out of bounds"))
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.rest.split_first().ok_or(CUT)?;
        self.rest = rest;
        Ok(byte)
    }
}

impl Iterator for Facts<'_> {
    type Item = Result<Fact, Malformed>;

    /// After an error there is no next row.
    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            let rest = std::mem::take(&mut self.rest);
            return (!rest.is_empty()).then_some(Err(Malformed("a record with bytes to spare")));
        }
        let fact = self.fact();
        self.left = if fact.is_ok() { self.left - 1 } else { 0 };
        if fact.is_err() {
            self.rest = &[];
        }
        Some(fact)
    }
}

/// What was found instead of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

const CUT: Malformed = Malformed("a record that ends too early");

/// The moments of the row before, of which only differences are written.
#[derive(Debug, Default)]
struct Before {
    updated_at: i64,
    acked_at: i64,
}

// The forms of an acknowledgement: none, of the level in the same row, of the one that follows;
// of an assertion: none, or what follows.
const NOTHING: u8 = 0;
const SAME: u8 = 1;
const OTHER: u8 = 2;

fn instant(micros: i64) -> Result<Instant, Malformed> {
    Instant::from_micros(micros).ok_or(Malformed("a moment no calendar can name"))
}

fn put_sku(out: &mut Vec<u8>, sku: &Sku) {
    put_text(out, sku.as_str());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_unsigned(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_level(out: &mut Vec<u8>, before: &mut Before, level: Level) {
    put_unsigned(out, level.count.get().into());
    let micros = level.updated_at.as_micros();
    put_signed(out, micros.wrapping_sub(before.updated_at));
    before.updated_at = micros;
}

fn put_acked(out: &mut Vec<u8>, before: &mut Before, stated: Option<Level>, acked: Acked) {
    let Some(level) = acked.level() else {
        return out.push(NOTHING);
    };
    if stated == Some(level) {
        out.push(SAME);
    } else {
        out.push(OTHER);
        put_level(out, before, level);
    }
    put_signed(out, i64::from(acked.second()).wrapping_sub(before.acked_at));
    before.acked_at = acked.second().into();
}

fn put_mark(out: &mut Vec<u8>, mark: &Mark) {
    match mark.asserted {
        None => out.push(NOTHING),
        Some(Assertion { hour, origin }) => {
            out.push(SAME);
            put_unsigned(out, hour.number().into());
            out.push(origin);
        }
    }
    put_unsigned(out, mark.asked.len() as u64);
    for (warehouse, hour) in &mark.asked {
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

    const KEY: Key = Key::Change { seq: 7 };
    const PLACE: Place = Place {
        key: KEY,
        shop: 1,
        rows: 1,
    };

    fn facts(body: &[u8], rows: i64) -> Result<Vec<Fact>, Malformed> {
        Facts::of(body, rows)?.collect()
    }

    fn levels() -> impl Strategy<Value = Level> {
        (0i64..=2_000_000_000, any::<i64>()).prop_map(|(count, micros)| Level {
            count: Count::try_from(count).unwrap(),
            updated_at: Instant::from_micros(micros).unwrap_or(Instant::from_micros(5).unwrap()),
        })
    }

    fn ackeds() -> impl Strategy<Value = Acked> {
        let some =
            (levels(), 1..=LAST_SECOND).prop_map(|(level, second)| Acked::at_second(level, second));
        prop_oneof![Just(Acked::default()), some]
    }

    fn marks() -> impl Strategy<Value = Mark> {
        let hours = || (0u64..30_000).prop_map(|n| Hour::from_number(n).unwrap());
        let asserted = prop::option::of((hours(), any::<u8>()));
        let asked = prop::collection::vec((any::<u64>(), hours()), 0..3);
        (asserted, asked).prop_map(|(asserted, asked)| Mark {
            asserted: asserted.map(|(hour, origin)| Assertion { hour, origin }),
            asked,
        })
    }

    fn skus() -> impl Strategy<Value = Sku> {
        "[a-zA-Zя😀0-9][ \ta-z]{0,40}[0-9]".prop_map(|text| Sku::parse(&text).unwrap())
    }

    #[test]
    fn a_record_is_only_valid_in_its_place() {
        let sealed = Packer::forgotten().seal(KEY, 1);
        assert!(unseal(&PLACE, &sealed).is_ok());
        let elsewhere = [
            Place {
                key: Key::Change { seq: 8 },
                ..PLACE
            },
            Place {
                key: Key::Chunk {
                    generation: 7,
                    chunk: 0,
                },
                ..PLACE
            },
            Place { shop: 2, ..PLACE },
            Place { rows: 2, ..PLACE },
        ];
        for place in elsewhere {
            assert!(unseal(&place, &sealed).is_err(), "{place:?}");
        }
    }

    #[test]
    fn rows_of_one_request_take_little_more_than_their_skus() {
        let mut packer = Packer::new(Kind::Stock);
        let updated_at = Instant::from_micros(1_700_000_000_000_000).unwrap();
        for n in 0..1000 {
            let sku = Sku::parse(&format!("{n:010}")).unwrap();
            packer.stock(
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
                (skus(), levels(), ackeds(), marks(), any::<u32>()), 1..20,
            )
        ) {
            let kinds = [
                Kind::Stock, Kind::Acked, Kind::Full, Kind::Marked, Kind::Quarantined,
                Kind::Released,
            ];
            for kind in kinds {
                let mut packer = Packer::new(kind);
                let mut expected = Vec::new();
                for (sku, level, acked, mark, attempts) in rows.clone() {
                    expected.push(match kind {
                        Kind::Stock => { packer.stock(&sku, level); Fact::Stock(sku, level) }
                        Kind::Acked => { packer.acked(&sku, acked); Fact::Acked(sku, acked) }
                        Kind::Full => {
                            packer.full(&sku, level, acked, &mark);
                            Fact::Full(sku, level, acked, mark)
                        }
                        Kind::Marked => { packer.marked(&sku, &mark); Fact::Marked(sku, mark) }
                        Kind::Released => { packer.released(&sku); Fact::Released(sku) }
                        Kind::Quarantined | Kind::Both | Kind::Forgotten => {
                            let at = level.updated_at.to_utc();
                            let reason = format!("{attempts} ✗");
                            let row = Quarantined { sku, level, reason, since: at, attempts, retry_at: at };
                            packer.quarantined(&row);
                            Fact::Quarantined(row)
                        }
                    });
                }
                let packed = packer.finish().remove(0);
                let count = packed.rows;
                let sealed = packed.seal(KEY, 1);
                let body = unseal(&Place { rows: count, ..PLACE }, &sealed).unwrap();
                prop_assert_eq!(facts(body, count).unwrap(), expected);
            }
        }

        #[test]
        fn arbitrary_bytes_are_refused_without_a_panic(
            kind in 0u8..10, bytes in prop::collection::vec(any::<u8>(), 0..200), rows in -1i64..40,
        ) {
            let _unsealed = unseal(&PLACE, &bytes);
            let body: Vec<u8> = std::iter::once(kind).chain(bytes).collect();
            if let Ok(read) = facts(&body, rows) {
                prop_assert!(read.len() <= body.len());
            }
            let _endless = facts(&body, i64::MAX);
        }

        #[test]
        fn a_cut_record_is_never_taken_for_a_whole_one(sku in skus(), level in levels(), cut in 1usize..60) {
            let mut packer = Packer::new(Kind::Stock);
            packer.stock(&sku, level);
            let packed = packer.finish().remove(0);
            let short = &packed.body[..packed.body.len().saturating_sub(cut)];
            prop_assert!(facts(short, 1).is_err());
        }
    }
}
