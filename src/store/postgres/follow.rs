//! Changes of other processes: reads them in the order of the log and passes them on.

use std::sync::atomic::Ordering;

use sqlx::Row;

use super::change_tail::{self, ChangeTail};
use super::connection::{BULK_TIMEOUT, PostgresConnection, Purpose, query, with_limit};
use super::read_log::{RawRecord, read_changes, read_snapshot, visit_changes};
use super::shop_log::{LogEnd, LogRow};
use super::{PostgresState, PostgresStore, ShopLog};
use crate::store::error::StoreInternalError;
use crate::store::quarantine_table::QuarantineTable;
use crate::store::record::{MalformedRecord, RecordReader, RecordRow};
use crate::store::{OnFollowed, StoreError};
use stock::ShopId;

/// Changes of one shop that memory does not have yet.
struct NewChanges {
    /// Position of the shop in the configuration.
    index: usize,
    /// Rows of a snapshot that contains the first of them, if those are no longer in the log.
    snapshot: Option<Vec<Vec<RecordRow>>>,
    /// Position after the snapshot, or the one that memory has.
    from: LogEnd,
    changes: Vec<RawRecord>,
    end: LogEnd,
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
        let read = with_limit(BULK_TIMEOUT, read_new(connection, logs)).await;
        let (new, lost) = read.map_err(|error| state.connection.to_store_error(error))?;
        if new.is_empty() && lost.is_empty() {
            return Ok(false);
        }
        let Some(on_followed) = self.on_followed.get() else {
            return Err(StoreError::DatabaseUnusable {
                target: self.url.to_string(),
                what: "another process has changed the stock during the start".to_owned(),
            });
        };
        for changes in &new {
            // Twice, so that a comparison with a book that is just being changed is not trusted.
            self.book_changes.fetch_add(1, Ordering::AcqRel);
            let outcome = apply_new(state, changes, on_followed);
            self.book_changes.fetch_add(1, Ordering::AcqRel);
            outcome.map_err(|error| state.connection.to_store_error(error))?;
        }
        for index in lost {
            self.recover(state, index, on_followed).await?;
        }
        change_tail::limit_bytes(&mut state.logs);
        Ok(true)
    }
}

/// Changes of every shop that memory lacks; and the positions of the shops of which the database lacks
/// changes.
type FoundChanges = (Vec<NewChanges>, Vec<usize>);

async fn read_new(
    connection: &mut PostgresConnection,
    logs: &[ShopLog],
) -> Result<FoundChanges, StoreInternalError> {
    // At one moment, so that no compaction deletes changes between the statements.
    let mut work = connection.begin(Purpose::ReadAll).await?;
    let conn = work.conn();
    let ids: Vec<i64> = logs.iter().map(|log| log.id).collect();
    let ends = query("SELECT id, ver, chain FROM stockbridge.shop WHERE id = ANY($1)")
        .bind(&ids)
        .fetch_all(&mut *conn)
        .await?;
    let mut new = Vec::new();
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
        let log = &logs[index];
        if end == log.end {
            lost.retain(|lost| *lost != index);
            continue;
        }
        if end.ver <= log.end.ver {
            continue;
        }
        let mut from = log.end;
        let mut snapshot = None;
        let mut changes = read_changes(conn, id, from.ver, end.ver).await?;
        if changes
            .first()
            .is_none_or(|first| first.number != from.ver + 1)
        {
            let rows = LogRow::read_all(conn).await?;
            let row = rows.into_iter().find(|row| row.shop.id == id);
            let row = row.ok_or(MalformedRecord("a shop is missing"))?;
            let mut records = Vec::new();
            read_snapshot(conn, &row, |reader| {
                records.push(reader.collect::<Result<Vec<_>, _>>()?);
                Ok(())
            })
            .await?;
            from = row.snapshot.upto;
            snapshot = Some(records);
            changes.retain(|change| change.number > from.ver);
        }
        let (reached, _) = visit_changes((id, &log.name), from, &changes, |_| Ok(()))?;
        if reached != end {
            continue;
        }
        lost.retain(|lost| *lost != index);
        new.push(NewChanges {
            index,
            snapshot,
            from,
            changes,
            end,
        });
    }
    work.roll_back().await?;
    Ok((new, lost))
}

fn apply_new(
    state: &mut PostgresState,
    new: &NewChanges,
    on_followed: &OnFollowed,
) -> Result<(), StoreInternalError> {
    let PostgresState {
        logs, quarantine, ..
    } = state;
    let log = &mut logs[new.index];
    let shop = ShopId(u16::try_from(new.index).unwrap_or(u16::MAX));
    let mut apply = |rows: &[RecordRow]| {
        rows.iter()
            .for_each(|row| update_quarantine(quarantine, log.id, row));
        on_followed(shop, rows);
    };
    if let Some(records) = &new.snapshot {
        log.tail = ChangeTail::new(new.from);
        // The snapshot has the whole quarantine.
        apply(&[RecordRow::TargetChanged]);
        records.iter().for_each(|rows| apply(rows));
    }
    let visit = |reader: RecordReader<'_>| {
        apply(&reader.collect::<Result<Vec<_>, _>>()?);
        Ok(())
    };
    let (end, bytes) = visit_changes((log.id, &log.name), new.from, &new.changes, visit)?;
    debug_assert_eq!(end, new.end);
    log.tail.push_all(new.from, &new.changes);
    log.end = end;
    log.log_bytes += bytes;
    Ok(())
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
