//! Changes of other processes: reads them in the order of the log and passes them on.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use sqlx::Row;
use sqlx::postgres::PgConnection;
use stock::{Level, ShopId, Sku};

use super::change_tail::{self, ChangeTail};
use super::connection::{PostgresConnection, Purpose, WRITE_TIMEOUT, query, with_limit};
use super::read_log::{RawRecord, read_changes, read_snapshot, visit_changes};
use super::recover::append_levels;
use super::shop_log::{LogEnd, LogRow};
use super::{FollowingMemory, PostgresState, PostgresStore, ShopLog};
use crate::store::error::StoreInternalError;
use crate::store::quarantine_table::QuarantineTable;
use crate::store::record::{MalformedRecord, RecordReader, RecordRow};
use crate::store::{RecoveredChanges, StoreError};

/// Changes of one shop that memory does not have yet.
struct UnreadChanges {
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

impl PostgresStore {
    /// Passes the changes of other processes to the callback. Returns true if there were any.
    pub(super) async fn follow(&self, state: &mut PostgresState) -> Result<bool, StoreError> {
        // Own changes are earlier in the log, so memory must have them first.
        for log in &state.logs {
            self.pending_appends.none_in(log.id).await;
        }
        let PostgresState {
            connection, logs, ..
        } = state;
        let read = read_unread(connection, logs).await;
        let (unread, lost) = read.map_err(|error| state.connection.to_store_error(error))?;
        if unread.is_empty() && lost.is_empty() {
            return Ok(false);
        }
        let Some(memory) = self.memory.get() else {
            return Err(StoreError::DatabaseUnusable {
                target: self.url.to_string(),
                what: "another process has changed the stock during the start".to_owned(),
            });
        };
        for changes in &unread {
            // Before memory gets the changes: if this fails, it is tried again from the same position.
            self.append_missing(state, changes, memory).await?;
            // Twice, so that a comparison with a book that is just being changed is not trusted.
            self.book_changes.fetch_add(1, Ordering::AcqRel);
            let outcome = apply_unread(state, changes, memory);
            self.book_changes.fetch_add(1, Ordering::AcqRel);
            outcome.map_err(|error| state.connection.to_store_error(error))?;
        }
        for index in lost {
            self.recover(state, index, memory).await?;
        }
        change_tail::limit_bytes(&mut state.logs);
        Ok(true)
    }

    /// Appends the levels again that memory has and the database lost, if that cannot be seen from
    /// the log: a snapshot has replaced the place where the two differ.
    async fn append_missing(
        &self,
        state: &mut PostgresState,
        unread: &UnreadChanges,
        memory: &FollowingMemory,
    ) -> Result<(), StoreError> {
        let Some(snapshot) = &unread.snapshot else {
            return Ok(());
        };
        let PostgresState {
            connection, logs, ..
        } = state;
        let log = &logs[unread.index];
        let levels = (memory.levels)(shop_at(unread.index));
        let missing = find_missing(levels, snapshot, (log, unread))
            .map_err(|error| connection.to_store_error(error))?;
        if missing.is_empty() {
            return Ok(());
        }
        let appending = append_levels(connection, (log.id, &self.id), &missing);
        let outcome = appending.await;
        outcome.map_err(|error| connection.to_store_error(error))?;
        self.recovered.lock().push(RecoveredChanges {
            shop: log.name.clone(),
            skus: missing.len() as u64,
            acknowledgements: 0,
        });
        Ok(())
    }
}

/// Reads the changes of every shop that memory lacks, and finds the shops of which the database lacks
/// changes.
///
/// Each step has a short limit of its own, because a server that has disappeared does not close the
/// connection.
async fn read_unread(
    connection: &mut PostgresConnection,
    logs: &[ShopLog],
) -> Result<(Vec<UnreadChanges>, Vec<usize>), StoreInternalError> {
    // At one moment, so that no compaction deletes changes between the statements.
    let mut work = with_limit(WRITE_TIMEOUT, connection.begin(Purpose::ReadAll)).await?;
    let conn = work.conn();
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
    with_limit(WRITE_TIMEOUT, work.roll_back()).await?;
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
async fn read_after(
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

/// Returns the levels of memory that are newer than those in the snapshot and in the changes after it.
fn find_missing(
    levels: Vec<(Sku, Level)>,
    snapshot: &[Vec<RecordRow>],
    (log, unread): (&ShopLog, &UnreadChanges),
) -> Result<Vec<(Sku, Level)>, StoreInternalError> {
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
    state: &mut PostgresState,
    unread: &UnreadChanges,
    memory: &FollowingMemory,
) -> Result<(), StoreInternalError> {
    let PostgresState {
        logs, quarantine, ..
    } = state;
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
