//! Changes of other processes: reads them in the order of the log and passes them on.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use sqlx::Row;
use sqlx::postgres::PgConnection;
use stock::{Level, ShopId, Sku};
use tokio::time::Instant;

use super::applied::{Renewal, RenewalNeed};
use super::change_tail::{self, ChangeTail};
use super::connection::{Purpose, WRITE_TIMEOUT, query, to_store_error, with_limit};
use super::database_problem::DatabaseProblem;
use super::read_log::{RawRecord, read_changes, read_snapshot, visit_changes};
use super::recover::append_levels;
use super::shop_log::{LogEnd, LogRow};
use super::{FollowingMemory, PostgresState, PostgresStore, ShopLog};
use crate::store::append_guard::LogPosition;
use crate::store::error::StoreInternalError;
use crate::store::quarantine_table::QuarantineTable;
use crate::store::record::{MalformedRecord, RecordReader, RecordRow};
use crate::store::{RecoveredChanges, StoreError};

/// Changes of one shop that memory does not have yet.
pub(super) struct UnreadChanges {
    /// Position of the shop in the configuration.
    index: usize,
    /// Rows of a snapshot that contains the first of them, if those are no longer in the log.
    snapshot: Option<Vec<Vec<RecordRow>>>,
    /// Position after the snapshot, or the one that memory has.
    from: LogEnd,
    changes: Vec<RawRecord>,
    end: LogEnd,
}

/// State of the log of one shop in the database, compared with memory.
enum LogState {
    /// Memory has all changes.
    Known,
    /// Memory lacks changes.
    Unread(UnreadChanges),
    /// The log lacks changes that memory has, or has others at their place.
    Lost,
}

/// Outcome of a look at the database.
pub(super) struct Followed {
    /// True if memory has got changes.
    pub(super) is_new: bool,
    /// Renewal of the row of this replica, if it was renewed.
    pub(super) renewal: Option<Renewal>,
}

/// Changes that the database has lost and that are appended again.
enum Repair {
    /// The log of the shop at this position of the configuration shows which ones.
    Lost(usize),
    /// Levels of that shop which only memory has.
    Missing(usize, Vec<(Sku, Level)>),
}

/// Repairs after which the database is given up, in one look at it.
const MAX_REPAIRS: usize = 3;

impl PostgresStore {
    /// Passes the changes of other processes to the callback. Returns true if there were any.
    pub(super) async fn follow(&self, state: &mut PostgresState) -> Result<bool, StoreError> {
        Ok(self.follow_and_renew(state, None).await?.is_new)
    }

    /// Passes the changes of other processes to the callback, and renews the row of this replica in the
    /// transaction in which they were read. So a row never names changes of a server that was replaced
    /// meanwhile by one without them.
    pub(super) async fn follow_and_renew(
        &self,
        state: &mut PostgresState,
        renewing: Option<(&str, RenewalNeed)>,
    ) -> Result<Followed, StoreError> {
        // Own changes are earlier in the log, so memory must have them first.
        for log in &state.logs {
            self.pending_appends.none_in(log.id).await;
        }
        let mut is_repaired = false;
        for _ in 0..MAX_REPAIRS {
            let outcome = self.follow_once(state, renewing).await;
            let (mut followed, repairs) =
                outcome.map_err(|error| to_store_error(&self.url, error))?;
            if repairs.is_empty() {
                followed.is_new |= is_repaired;
                return Ok(followed);
            }
            for repair in repairs {
                self.repair(state, repair).await?;
            }
            is_repaired = true;
        }
        Err(StoreError::DatabaseUnusable {
            target: self.url.to_string(),
            what: "it has lost changes again and again".to_owned(),
            problem: DatabaseProblem::Other,
        })
    }

    /// Makes one look at the database. It renews the row only if nothing is to be repaired.
    async fn follow_once(
        &self,
        state: &mut PostgresState,
        renewing: Option<(&str, RenewalNeed)>,
    ) -> Result<(Followed, Vec<Repair>), StoreInternalError> {
        let read_at = Instant::now();
        let PostgresState {
            connection,
            logs,
            quarantine,
            ..
        } = state;
        let purpose = match renewing {
            Some(_) => Purpose::Renewal,
            None => Purpose::ReadAll,
        };
        let mut work = with_limit(WRITE_TIMEOUT, connection.begin(purpose)).await?;
        let (unread, lost) = read_unread(work.conn(), logs).await?;
        let mut repairs: Vec<Repair> = lost.into_iter().map(Repair::Lost).collect();
        let is_new = !unread.is_empty();
        if is_new || !repairs.is_empty() {
            let Some(memory) = self.memory.get() else {
                return Err(StoreInternalError::ChangedDuringStart);
            };
            for changes in unread {
                let missing = find_missing(memory, &logs[changes.index], &changes)?;
                if missing.is_empty() {
                    self.apply_unread((logs, quarantine), &changes, memory)?;
                } else {
                    // Before memory moves on: if it fails, it is tried again from the same position.
                    repairs.push(Repair::Missing(changes.index, missing));
                }
            }
            change_tail::limit_bytes(logs);
        }
        let positions: Vec<LogPosition> = logs.iter().map(|log| (log.id, log.end.ver)).collect();
        let is_due = |(_, need): &(&str, RenewalNeed)| {
            *need == RenewalNeed::Always || is_new || positions != self.renewed.lock().positions
        };
        let Some((name, _)) = renewing.filter(is_due).filter(|_| repairs.is_empty()) else {
            with_limit(WRITE_TIMEOUT, work.roll_back()).await?;
            let renewal = None;
            return Ok((Followed { is_new, renewal }, repairs));
        };
        let renewing = self.renew_row(work, name, (positions, read_at));
        let renewal = Some(with_limit(WRITE_TIMEOUT, renewing).await?);
        Ok((Followed { is_new, renewal }, repairs))
    }

    /// Appends again what the database has lost.
    async fn repair(&self, state: &mut PostgresState, repair: Repair) -> Result<(), StoreError> {
        let (index, missing) = match repair {
            Repair::Lost(index) => return self.recover(state, index).await,
            Repair::Missing(index, missing) => (index, missing),
        };
        let PostgresState {
            connection, logs, ..
        } = state;
        let log = &logs[index];
        let appended = append_levels(connection, (log.id, &self.id), &missing).await;
        appended.map_err(|error| connection.to_store_error(error))?;
        self.recovered.lock().push(RecoveredChanges {
            shop: log.name.clone(),
            skus: missing.len() as u64,
            acknowledgements: 0,
        });
        Ok(())
    }

    /// Gives memory the changes that it lacks.
    pub(super) fn apply_unread(
        &self,
        known: (&mut [ShopLog], &mut QuarantineTable),
        unread: &UnreadChanges,
        memory: &FollowingMemory,
    ) -> Result<(), StoreInternalError> {
        // Twice, so that a comparison with a book that is just being changed is not trusted.
        self.book_changes.fetch_add(1, Ordering::AcqRel);
        let outcome = apply_unread(known, unread, memory);
        self.book_changes.fetch_add(1, Ordering::AcqRel);
        outcome
    }
}

/// Reads the changes of every shop that memory lacks, and finds the shops of which the database lacks
/// changes.
///
/// Each step has a short limit of its own, because a server that has disappeared does not close the
/// connection.
async fn read_unread(
    conn: &mut PgConnection,
    logs: &[ShopLog],
) -> Result<(Vec<UnreadChanges>, Vec<usize>), StoreInternalError> {
    let ids: Vec<i64> = logs.iter().map(|log| log.id).collect();
    let reading = query("SELECT id, ver, chain FROM stockbridge.shop WHERE id = ANY($1)")
        .bind(&ids)
        .fetch_all(&mut *conn);
    let ends = with_limit(WRITE_TIMEOUT, async { Ok(reading.await?) }).await?;
    let mut unread = Vec::new();
    // A shop whose row is missing has lost everything.
    let mut lost: Vec<usize> = (0..logs.len()).collect();
    for found in ends {
        let (id, end): (i64, _) = (
            found.try_get(0)?,
            LogEnd {
                ver: found.try_get(1)?,
                chain: found.try_get(2)?,
            },
        );
        let Some(index) = ids.iter().position(|known| *known == id) else {
            continue;
        };
        match read_log(conn, (index, &logs[index]), end).await? {
            LogState::Known => {}
            LogState::Unread(changes) => unread.push(changes),
            LogState::Lost => continue,
        }
        lost.retain(|lost| *lost != index);
    }
    Ok((unread, lost))
}

/// Compares the log of one shop, which ends at `end` in the database, with memory.
async fn read_log(
    conn: &mut PgConnection,
    (index, log): (usize, &ShopLog),
    end: LogEnd,
) -> Result<LogState, StoreInternalError> {
    if end == log.end {
        return Ok(LogState::Known);
    }
    if let Some(unread) = read_after(conn, (index, log), end).await? {
        return Ok(LogState::Unread(unread));
    }
    let rows = with_limit(WRITE_TIMEOUT, LogRow::read_all(conn)).await?;
    let row = rows.into_iter().find(|row| row.shop.id == log.id);
    let row = row.ok_or(MalformedRecord("a shop is missing"))?;
    let from = row.snapshot.upto;
    if row.shop.name != log.name || !log.tail.is_passed_by(from) {
        return Ok(LogState::Lost);
    }
    let mut records = Vec::new();
    read_snapshot(conn, &row, |reader| {
        records.push(reader.collect::<Result<Vec<_>, _>>()?);
        Ok(())
    })
    .await?;
    let changes = read_changes(conn, log.id, from.ver, end.ver).await?;
    let (reached, _) = visit_changes((log.id, &log.name), from, &changes, |_| Ok(()))?;
    if reached != end {
        return Ok(LogState::Lost);
    }
    Ok(LogState::Unread(UnreadChanges {
        index,
        snapshot: Some(records),
        from,
        changes,
        end,
    }))
}

/// Returns the changes that follow the position of memory and lead to `end`, if the log has them.
pub(super) async fn read_after(
    conn: &mut PgConnection,
    (index, log): (usize, &ShopLog),
    end: LogEnd,
) -> Result<Option<UnreadChanges>, StoreInternalError> {
    let from = log.end;
    if end.ver <= from.ver {
        return Ok(None);
    }
    let changes = read_changes(conn, log.id, from.ver, end.ver).await?;
    if changes.first().map(|first| first.number) != Some(from.ver + 1) {
        return Ok(None);
    }
    let (reached, _) = visit_changes((log.id, &log.name), from, &changes, |_| Ok(()))?;
    Ok((reached == end).then_some(UnreadChanges {
        index,
        snapshot: None,
        from,
        changes,
        end,
    }))
}

/// Returns the levels of memory that are newer than those in a snapshot and in the changes after it. A
/// snapshot has replaced the place in the log where memory and database differ.
fn find_missing(
    memory: &FollowingMemory,
    log: &ShopLog,
    unread: &UnreadChanges,
) -> Result<Vec<(Sku, Level)>, StoreInternalError> {
    let Some(snapshot) = &unread.snapshot else {
        return Ok(Vec::new());
    };
    let levels = (memory.levels)(shop_at(unread.index));
    let mut missing: HashMap<Sku, Level> = levels.into_iter().collect();
    let mut remove_stored = |rows: &[RecordRow]| {
        for row in rows {
            let (RecordRow::Stock(sku, level) | RecordRow::Full(sku, level, ..)) = row else {
                continue;
            };
            // Between equal dates memory takes the level of the database.
            let is_newer = |known: &Level| known.updated_at > level.updated_at;
            if missing.get(sku).is_some_and(|known| !is_newer(known)) {
                missing.remove(sku);
            }
        }
    };
    snapshot.iter().for_each(|rows| remove_stored(rows));
    let named = (log.id, log.name.as_str());
    visit_changes(named, unread.from, &unread.changes, |reader| {
        remove_stored(&reader.collect::<Result<Vec<_>, _>>()?);
        Ok(())
    })?;
    Ok(missing.into_iter().collect())
}

fn apply_unread(
    (logs, quarantine): (&mut [ShopLog], &mut QuarantineTable),
    unread: &UnreadChanges,
    memory: &FollowingMemory,
) -> Result<(), StoreInternalError> {
    let log = &mut logs[unread.index];
    let shop = shop_at(unread.index);
    let mut apply = |rows: &[RecordRow]| {
        rows.iter()
            .for_each(|row| update_quarantine(quarantine, log.id, row));
        (memory.on_followed)(shop, rows);
    };
    if let Some(records) = &unread.snapshot {
        log.tail = ChangeTail::new(unread.from);
        // The snapshot has the whole quarantine.
        apply(&[RecordRow::TargetChanged]);
        records.iter().for_each(|rows| apply(rows));
    }
    let visit = |reader: RecordReader<'_>| {
        apply(&reader.collect::<Result<Vec<_>, _>>()?);
        Ok(())
    };
    let (end, bytes) = visit_changes((log.id, &log.name), unread.from, &unread.changes, visit)?;
    debug_assert_eq!(end, unread.end);
    log.tail.push_all(unread.from, &unread.changes);
    log.end = end;
    log.log_bytes += bytes;
    Ok(())
}

/// Returns the shop at this position of the configuration.
pub(super) fn shop_at(index: usize) -> ShopId {
    ShopId(u16::try_from(index).unwrap_or(u16::MAX))
}

pub(super) fn update_quarantine(quarantine: &mut QuarantineTable, id: i64, row: &RecordRow) {
    match row {
        RecordRow::Quarantined(entry) => quarantine.insert(id, entry.clone()),
        RecordRow::Released(sku) => quarantine.remove(id, sku),
        RecordRow::TargetChanged => quarantine.remove_shop(id),
        RecordRow::Stock(..)
        | RecordRow::Acked(..)
        | RecordRow::Full(..)
        | RecordRow::Activity(..) => {}
    }
}
