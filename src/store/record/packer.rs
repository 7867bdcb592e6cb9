//! Packing of rows into records.

use stock::{LastStated, Timestamp};

use super::{
    Acked, FORM_NONE, FORM_OTHER, FORM_SAME, Level, PackedRecord, PreviousTimes, QuarantineEntry,
    RECORD_BYTES, RecordKind, Sku, SkuActivity,
};

/// Packs rows of one kind into as many records as they need.
#[derive(Debug)]
pub(in crate::store) struct RecordPacker {
    kind: RecordKind,
    closed: Vec<PackedRecord>,
    current: PackedRecord,
    previous: PreviousTimes,
}

impl RecordPacker {
    pub(in crate::store) fn new(kind: RecordKind) -> Self {
        Self {
            kind,
            closed: Vec::new(),
            current: Self::empty_record(kind),
            previous: PreviousTimes::default(),
        }
    }

    pub(in crate::store) fn push_stock(&mut self, sku: &Sku, level: Level) {
        self.push_row(|out, previous| {
            put_sku(out, sku);
            put_level(out, previous, level);
        });
    }

    pub(in crate::store) fn push_acked(&mut self, sku: &Sku, acked: Acked) {
        self.push_row(|out, previous| {
            put_sku(out, sku);
            put_acked(out, previous, None, acked);
        });
    }

    pub(in crate::store) fn push_full(
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

    pub(in crate::store) fn push_activity(&mut self, sku: &Sku, activity: &SkuActivity) {
        self.push_row(|out, _| {
            put_sku(out, sku);
            put_activity(out, activity);
        });
    }

    pub(in crate::store) fn push_quarantined(&mut self, row: &QuarantineEntry) {
        self.push_row(|out, previous| {
            put_sku(out, &row.sku);
            put_level(out, previous, row.level);
            put_text(out, &row.reason);
            put_signed(out, Timestamp::from(row.since).as_micros());
            put_unsigned(out, row.attempts.into());
            put_signed(out, Timestamp::from(row.retry_at).as_micros());
        });
    }

    pub(in crate::store) fn push_released(&mut self, sku: &Sku) {
        self.push_row(|out, _| put_sku(out, sku));
    }

    pub(in crate::store) fn target_changed() -> PackedRecord {
        PackedRecord {
            rows: 1,
            body: vec![RecordKind::TargetChanged as u8],
        }
    }

    pub(in crate::store) fn finish(mut self) -> Vec<PackedRecord> {
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
