//! Last changes of one shop in memory, to append them again if the database has lost them.
//!
//! After a failover to a standby that was behind, the log of a shop ends earlier, and perhaps another
//! process has appended changes there already. The processes that had applied the lost changes
//! still have them. The first that notices it appends them after the present end. The newest date wins
//! for each SKU, wherever its record is in the log, so the order against newer changes does not
//! matter, and the next process finds them in the log and appends nothing.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::ShopLog;
use super::read_log::RawRecord;
use super::shop_log::LogEnd;
use crate::store::Acked;
use crate::store::record::{
    MalformedRecord, PackedRecord, RecordKind, RecordPacker, RecordReader, RecordRow,
    without_checksum,
};

/// Most bytes of the records of all shops that are kept.
const TAIL_BYTES: usize = 64 * 1024 * 1024;

/// Time for which a change is kept. A database that lacks older ones is a restored backup, about
/// which the operator decides.
const TAIL_AGE: Duration = Duration::from_hours(1);

/// Last changes of one shop, without a gap.
#[derive(Clone, Debug)]
pub(super) struct ChangeTail {
    /// Position before the first change.
    base: LogEnd,
    changes: VecDeque<TailChange>,
    /// Size of the changes.
    bytes: usize,
}

#[derive(Clone, Debug)]
struct TailChange {
    /// Position after the change.
    end: LogEnd,
    at: Instant,
    /// `None` if the change need not be appended again.
    packed: Option<PackedRecord>,
}

/// Change in the database that follows its snapshot.
#[derive(Debug)]
pub(super) struct DatabaseChange<'a> {
    /// Position after the change.
    pub(super) end: LogEnd,
    /// Packed record without its checksum.
    pub(super) body: &'a [u8],
}

/// Decision about lost changes of a shop.
#[derive(Debug)]
pub(super) struct RecoveryPlan {
    /// Number of changes of the tail that the database has.
    kept: usize,
    /// Number of found changes that memory has; the rest is new.
    pub(super) known: usize,
    /// Records to append at the end of the log.
    pub(super) again: Vec<PackedRecord>,
}

impl ChangeTail {
    /// Returns the tail of a process that has just read the log up to `end`.
    pub(super) fn new(end: LogEnd) -> Self {
        Self {
            base: end,
            changes: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Adds the next change, whose record has this body without a checksum.
    pub(super) fn push(&mut self, end: LogEnd, rows: i64, body: &[u8], now: Instant) {
        let is_kept = RecordKind::of(body).is_ok_and(is_appended_again);
        let packed = is_kept.then(|| PackedRecord {
            rows,
            body: body.to_vec(),
        });
        let change = TailChange {
            end,
            at: now,
            packed,
        };
        self.bytes += change.bytes();
        self.changes.push_back(change);
        self.drop_old(now);
    }

    /// Adds the records that follow the position `from`.
    pub(super) fn push_all(&mut self, from: LogEnd, records: &[RawRecord]) {
        let (mut end, now) = (from, Instant::now());
        for RawRecord { rows, body, .. } in records {
            end = end.after(body);
            self.push(end, *rows, without_checksum(body), now);
        }
    }

    /// Drops changes that are too old.
    fn drop_old(&mut self, now: Instant) {
        while self
            .oldest()
            .is_some_and(|at| now.duration_since(at) > TAIL_AGE)
        {
            self.drop_first();
        }
    }

    /// Returns the time of the first change.
    fn oldest(&self) -> Option<Instant> {
        self.changes.front().map(|change| change.at)
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.changes.pop_front() {
            self.base = first.end;
            self.bytes -= first.bytes();
        }
    }

    /// Decides what to append again to a log that ends otherwise than this tail: after a snapshot
    /// up to `upto`, it has the changes `found`.
    ///
    /// Returns `None` if the log has no position in common with this tail, so that nothing is known
    /// about it.
    pub(super) fn plan(
        &mut self,
        upto: LogEnd,
        found: &[DatabaseChange<'_>],
        now: Instant,
    ) -> Result<Option<RecoveryPlan>, MalformedRecord> {
        self.drop_old(now);
        let positions = [upto]
            .into_iter()
            .chain(found.iter().map(|change| change.end));
        let common = positions
            .enumerate()
            .filter_map(|(known, position)| Some((known, self.index_of(position)?)))
            .last();
        let Some((known, kept)) = common else {
            return Ok(None);
        };
        let mut present: HashMap<&[u8], usize> = HashMap::new();
        for change in &found[known..] {
            *present.entry(change.body).or_default() += 1;
        }
        let mut again = Vec::new();
        for change in self.changes.iter().skip(kept) {
            for packed in change.packed.iter().map(to_append_again) {
                let packed = packed?;
                match present.get_mut(packed.body.as_slice()) {
                    // Another process has appended it again already.
                    Some(count) if *count > 0 => *count -= 1,
                    Some(_) | None => again.push(packed),
                }
            }
        }
        Ok(Some(RecoveryPlan { kept, known, again }))
    }

    /// Drops the changes that the database does not have at their place.
    pub(super) fn truncate(&mut self, plan: &RecoveryPlan) {
        for lost in self.changes.drain(plan.kept..) {
            self.bytes -= lost.bytes();
        }
    }

    /// Returns true if a log with a snapshot up to `upto` no longer shows if it has this tail: its
    /// changes begin after the last position in common.
    pub(super) fn is_passed_by(&self, upto: LogEnd) -> bool {
        upto.ver >= self.base.ver && self.index_of(upto).is_none()
    }

    /// Returns true if the position is one of this tail: a log with this end has the same changes up to
    /// it.
    pub(super) fn has(&self, position: LogEnd) -> bool {
        self.index_of(position).is_some()
    }

    /// Returns the number of changes up to a position; `None` if it is not a position of this tail.
    fn index_of(&self, position: LogEnd) -> Option<usize> {
        let index = usize::try_from(position.ver.checked_sub(self.base.ver)?).ok()?;
        let known = match index.checked_sub(1) {
            None => self.base,
            Some(before) => self.changes.get(before)?.end,
        };
        (known == position).then_some(index)
    }
}

impl TailChange {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.packed.as_ref().map_or(0, |packed| packed.body.len())
    }
}

/// Drops the oldest changes of all shops above [`TAIL_BYTES`].
pub(super) fn limit_bytes(logs: &mut [ShopLog]) {
    let mut bytes: usize = logs.iter().map(|log| log.tail.bytes).sum();
    while bytes > TAIL_BYTES {
        let tails = logs.iter_mut().map(|log| &mut log.tail);
        let with_oldest = tails
            .filter(|tail| tail.oldest().is_some())
            .min_by_key(|tail| tail.oldest());
        let Some(tail) = with_oldest else { return };
        let before = tail.bytes;
        tail.drop_first();
        bytes -= before - tail.bytes;
    }
}

/// Returns true if a lost record of this kind must be appended again. The hours of the activity are
/// saved again from memory when they change.
fn is_appended_again(kind: RecordKind) -> bool {
    match kind {
        RecordKind::Stock
        | RecordKind::Acked
        | RecordKind::Quarantined
        | RecordKind::Released
        | RecordKind::TargetChanged => true,
        RecordKind::Full | RecordKind::Activity => false,
    }
}

/// Returns what is appended for a lost record.
///
/// Stock as it was. An acknowledgement becomes void, because another process may have sent other
/// stock of the SKU meanwhile: it is sent once more. A SKU leaves quarantine for the same reason.
fn to_append_again(packed: &PackedRecord) -> Result<PackedRecord, MalformedRecord> {
    let kind = RecordKind::of(&packed.body)?;
    let mut packer = match kind {
        RecordKind::Acked => RecordPacker::new(RecordKind::Acked),
        RecordKind::Quarantined | RecordKind::Released => RecordPacker::new(RecordKind::Released),
        RecordKind::Stock | RecordKind::TargetChanged | RecordKind::Full | RecordKind::Activity => {
            return Ok(packed.clone());
        }
    };
    for row in RecordReader::new(&packed.body, packed.rows)? {
        match row? {
            RecordRow::Acked(sku, _) => packer.push_acked(&sku, Acked::default()),
            RecordRow::Quarantined(entry) => packer.push_released(&entry.sku),
            RecordRow::Released(sku) => packer.push_released(&sku),
            RecordRow::Stock(..)
            | RecordRow::Full(..)
            | RecordRow::Activity(..)
            | RecordRow::TargetChanged => return Err(MalformedRecord("row of another kind")),
        }
    }
    // A row becomes shorter, so one record is enough.
    let packed = packer.finish().into_iter().next();
    packed.ok_or(MalformedRecord("record without rows"))
}

#[cfg(test)]
mod tests {
    use stock::{Count, Level, Sku, Timestamp};

    use super::*;
    use crate::store::QuarantineEntry;

    /// Returns the record of a letter.
    fn record(letter: char) -> PackedRecord {
        let mut packer = RecordPacker::new(RecordKind::Stock);
        packer.push_stock(&Sku::parse(&letter.to_string()).unwrap(), level());
        packer.finish().remove(0)
    }

    fn level() -> Level {
        Level {
            count: Count::ZERO,
            updated_at: Timestamp::from_micros(1_780_000_000_000_000).unwrap(),
        }
    }

    /// Returns the positions after the first changes of a log, from none to all.
    fn positions(log: &str) -> Vec<LogEnd> {
        let mut ends = vec![LogEnd::default()];
        for letter in log.chars() {
            ends.push(ends[ends.len() - 1].after_body(&record(letter).body));
        }
        ends
    }

    /// Returns the tail of a process that has read the first `read` changes of a log and got the
    /// others one by one.
    fn tail(log: &str, read: usize, now: Instant) -> ChangeTail {
        let ends = positions(log);
        let mut tail = ChangeTail::new(ends[read]);
        for (letter, end) in log.chars().zip(&ends[1..]).skip(read) {
            let packed = record(letter);
            tail.push(*end, packed.rows, &packed.body, now);
        }
        tail
    }

    /// Plans for a database with the changes `log`, of which the first are in a snapshot. Returns the
    /// new changes and those to append again.
    fn plan(
        tail: &mut ChangeTail,
        log: &str,
        snapshot: usize,
        now: Instant,
    ) -> Option<(String, String)> {
        let ends = positions(log);
        let letters: Vec<char> = log.chars().collect();
        let bodies: Vec<_> = letters.iter().map(|letter| record(*letter).body).collect();
        let found = bodies.iter().zip(&ends[1..]).skip(snapshot);
        let found: Vec<_> = found
            .map(|(body, end)| DatabaseChange { end: *end, body })
            .collect();
        let plan = tail.plan(ends[snapshot], &found, now).unwrap()?;
        let again = plan.again.iter().map(|packed| {
            letters
                .iter()
                .copied()
                .chain('a'..='z')
                .find(|letter| record(*letter).body == packed.body)
                .unwrap()
        });
        let (again, new) = (
            again.collect(),
            letters[snapshot + plan.known..].iter().collect(),
        );
        tail.truncate(&plan);
        Some((new, again))
    }

    #[test]
    fn lost_changes_are_appended_once() {
        let now = Instant::now();
        for (memory, read, database, snapshot, expected) in [
            ("abcd", 0, "abcd", 0, Some(("", ""))),
            ("abcd", 0, "ab", 0, Some(("", "cd"))),
            ("abcd", 0, "ab", 2, Some(("", "cd"))),
            ("abcd", 0, "", 0, Some(("", "abcd"))),
            ("abcd", 2, "ab", 1, Some(("", "cd"))),
            // The database goes on.
            ("abcd", 0, "abcdx", 1, Some(("x", ""))),
            // Another process has appended its own changes, and perhaps the lost ones too.
            ("abcd", 1, "abxy", 0, Some(("xy", "cd"))),
            ("abcd", 1, "abxcy", 1, Some(("xcy", "d"))),
            ("abcd", 1, "abxcyd", 1, Some(("xcyd", ""))),
            // Equal changes are counted.
            ("abaa", 0, "abxa", 0, Some(("xa", "a"))),
            ("abaa", 0, "abxaa", 0, Some(("xaa", ""))),
            // Nothing is known about a database without a position in common.
            ("abcd", 3, "ab", 0, None),
            ("abcd", 2, "axcd", 0, None),
            ("abcd", 0, "axy", 3, None),
            ("abcd", 4, "", 0, None),
        ] {
            let mut tail = tail(memory, read, now);
            let found = plan(&mut tail, database, snapshot, now);
            let expected = expected.map(|(new, again)| (new.to_owned(), again.to_owned()));
            assert_eq!(found, expected, "{memory} {read}, {database} {snapshot}");
        }
    }

    #[test]
    fn old_changes_are_not_appended_again() {
        let start = Instant::now();
        let mut tail = tail("abcd", 0, start);
        assert_eq!(
            tail.clone()
                .plan(LogEnd::default(), &[], start + TAIL_AGE)
                .unwrap()
                .unwrap()
                .again
                .len(),
            4
        );
        let later = start + TAIL_AGE + Duration::from_secs(1);
        assert!(tail.plan(LogEnd::default(), &[], later).unwrap().is_none());
        assert_eq!((tail.bytes, tail.oldest()), (0, None));
    }

    #[test]
    fn only_stock_is_appended_as_it_was() {
        let sku = Sku::parse("A").unwrap();
        let mut acked = RecordPacker::new(RecordKind::Acked);
        acked.push_acked(&sku, Acked::new(level(), level().updated_at.to_utc()));
        let mut quarantined = RecordPacker::new(RecordKind::Quarantined);
        let at = level().updated_at.to_utc();
        let entry = QuarantineEntry {
            sku: sku.clone(),
            level: level(),
            reason: "unknown".to_owned(),
            since: at,
            attempts: 1,
            retry_at: at,
        };
        quarantined.push_quarantined(&entry);
        let mut activity = RecordPacker::new(RecordKind::Activity);
        activity.push_activity(&sku, &stock::SkuActivity::default());
        let mut tail = ChangeTail::new(LogEnd::default());
        let mut end = LogEnd::default();
        for packer in [acked, quarantined, activity] {
            let packed = packer.finish().remove(0);
            end = end.after_body(&packed.body);
            tail.push(end, packed.rows, &packed.body, Instant::now());
        }
        let plan = tail
            .plan(LogEnd::default(), &[], Instant::now())
            .unwrap()
            .unwrap();
        let rows = plan.again.iter().flat_map(|packed| {
            RecordReader::new(&packed.body, packed.rows)
                .unwrap()
                .map(Result::unwrap)
        });
        let expected = [
            RecordRow::Acked(sku.clone(), Acked::default()),
            RecordRow::Released(sku),
        ];
        assert_eq!(rows.collect::<Vec<_>>(), expected);
    }
}
