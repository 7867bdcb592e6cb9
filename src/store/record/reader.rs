//! Reading of the rows of a record. Arbitrary bytes give an error, never a panic.

use chrono::{DateTime, Utc};
use stock::{Count, Hour, LastStated, Timestamp};

use super::{
    Acked, FORM_NONE, FORM_OTHER, FORM_SAME, Level, MalformedRecord, PackedRecord, PreviousTimes,
    QuarantineEntry, RecordKind, RecordRow, Sku, SkuActivity,
};

/// Latest time of an acknowledgement, in 2038.
pub(super) const MAX_SECOND: u32 = u32::MAX >> 1;

const TRUNCATED: MalformedRecord = MalformedRecord("truncated record");

/// Reader of the rows of a record whose checksum was verified.
#[derive(Debug)]
pub(in crate::store) struct RecordReader<'a> {
    kind: RecordKind,
    rows_left: i64,
    rest: &'a [u8],
    previous: PreviousTimes,
}

impl<'a> RecordReader<'a> {
    pub(in crate::store) fn new(body: &'a [u8], rows: i64) -> Result<Self, MalformedRecord> {
        let (&kind, rest) = body.split_first().ok_or(MalformedRecord("empty record"))?;
        let kind = RecordKind::from_byte(kind)?;
        if kind == RecordKind::TargetChanged && rows != 1 {
            return Err(MalformedRecord("too many rows"));
        }
        Ok(Self {
            kind,
            rows_left: rows,
            rest,
            previous: PreviousTimes::default(),
        })
    }

    /// Returns the record in packed form; call it before the first row is read.
    pub(in crate::store) fn to_packed(&self) -> PackedRecord {
        let mut body = Vec::with_capacity(1 + self.rest.len());
        body.push(self.kind as u8);
        body.extend_from_slice(self.rest);
        PackedRecord {
            rows: self.rows_left,
            body,
        }
    }

    fn read_row(&mut self) -> Result<RecordRow, MalformedRecord> {
        Ok(match self.kind {
            RecordKind::Stock => RecordRow::Stock(self.read_sku()?, self.read_level()?),
            RecordKind::Acked => RecordRow::Acked(self.read_sku()?, self.read_acked(None)?),
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
            attempts: self.read_u32("number of attempts out of range")?,
            retry_at: self.read_timestamp()?,
        })
    }

    fn read_sku(&mut self) -> Result<Sku, MalformedRecord> {
        let text = self.read_text()?;
        match Sku::parse(text) {
            Ok(sku) if sku.as_str().len() == text.len() => Ok(sku),
            Ok(_) | Err(_) => Err(MalformedRecord("invalid sku")),
        }
    }

    fn read_level(&mut self) -> Result<Level, MalformedRecord> {
        let count = i64::from(self.read_u32("count out of range")?);
        let count = Count::try_from(count).map_err(|_| MalformedRecord("count out of range"))?;
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
            (_, _) => return Err(MalformedRecord("unknown form of an acknowledgement")),
        };
        self.previous.acked_at = self.previous.acked_at.wrapping_add(self.read_signed()?);
        match u32::try_from(self.previous.acked_at) {
            Ok(at @ 1..=MAX_SECOND) => Ok(Acked::from_second(level, at)),
            Ok(_) | Err(_) => Err(MalformedRecord("time of an acknowledgement out of range")),
        }
    }

    fn read_activity(&mut self) -> Result<SkuActivity, MalformedRecord> {
        let stated = match self.read_byte()? {
            FORM_NONE => None,
            FORM_SAME => Some(LastStated {
                hour: self.read_hour()?,
                origin: self.read_byte()?,
            }),
            _ => return Err(MalformedRecord("unknown form of a statement")),
        };
        let warehouses = self.read_u32("number of warehouses out of range")?;
        let mut requested = Vec::new();
        for _ in 0..warehouses {
            requested.push((self.read_unsigned()?, self.read_hour()?));
        }
        Ok(SkuActivity { stated, requested })
    }

    fn read_hour(&mut self) -> Result<Hour, MalformedRecord> {
        Hour::from_number(self.read_unsigned()?).ok_or(MalformedRecord("hour out of range"))
    }

    fn read_timestamp(&mut self) -> Result<DateTime<Utc>, MalformedRecord> {
        Ok(timestamp(self.read_signed()?)?.to_utc())
    }

    fn read_text(&mut self) -> Result<&'a str, MalformedRecord> {
        let length = usize::try_from(self.read_unsigned()?).map_err(|_| TRUNCATED)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(TRUNCATED)?;
        self.rest = rest;
        str::from_utf8(text).map_err(|_| MalformedRecord("text is not UTF-8"))
    }

    fn read_u32(&mut self, message: &'static str) -> Result<u32, MalformedRecord> {
        u32::try_from(self.read_unsigned()?).map_err(|_| MalformedRecord(message))
    }

    fn read_signed(&mut self) -> Result<i64, MalformedRecord> {
        // Zigzag encoding: the lowest bit is the sign.
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
        Err(MalformedRecord("number out of range"))
    }

    fn read_byte(&mut self) -> Result<u8, MalformedRecord> {
        let (&byte, rest) = self.rest.split_first().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(byte)
    }
}

impl Iterator for RecordReader<'_> {
    type Item = Result<RecordRow, MalformedRecord>;

    /// Returns the next row. After an error the iterator ends.
    fn next(&mut self) -> Option<Self::Item> {
        if self.rows_left <= 0 {
            let rest = std::mem::take(&mut self.rest);
            return (!rest.is_empty())
                .then_some(Err(MalformedRecord("unexpected bytes after the last row")));
        }
        let row = self.read_row();
        self.rows_left = if row.is_ok() { self.rows_left - 1 } else { 0 };
        if row.is_err() {
            self.rest = &[];
        }
        Some(row)
    }
}

fn timestamp(micros: i64) -> Result<Timestamp, MalformedRecord> {
    Timestamp::from_micros(micros).ok_or(MalformedRecord("time out of range"))
}
