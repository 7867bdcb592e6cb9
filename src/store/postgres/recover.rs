//! Appends changes again that the database has lost, as after a failover to a standby that was behind.

use std::sync::atomic::Ordering;

use sqlx::postgres::PgConnection;
use stock::{Level, Sku};
use tokio::time::Instant;

use super::change_tail::{DatabaseChange, RecoveryPlan};
use super::connection::{
    PostgresConnection, PostgresWork, Purpose, WRITE_TIMEOUT, query, with_limit,
};
use super::follow::{shop_at, update_quarantine};
use super::load::check_end;
use super::read_log::{RawRecord, read_changes, visit_changes};
use super::shop_log::{LogEnd, LogRow};
use super::{FollowingMemory, PostgresState, PostgresStore, ShopLog};
use crate::store::error::StoreInternalError;
use crate::store::record::{
    PackedRecord, RECORD_BYTES, RecordKey, RecordKind, RecordPacker, RecordReader, RecordRow,
    without_checksum,
};
use crate::store::{RecoveredChanges, StoreError};

/// Records in one statement: at most about a megabyte, which arrives before the server takes this
/// process for a stopped one.
const CHANGES_PER_STATEMENT: usize = 1024 * 1024 / RECORD_BYTES;

/// Changes of one shop that memory lacks, and the database has by now.
struct Recovery {
    plan: RecoveryPlan,
    /// Position that memory and database had in common.
    common: LogEnd,
    /// Changes that follow it, with those that were appended again.
    changes: Vec<RawRecord>,
}

impl PostgresStore {
    /// Appends the changes of a shop again that the database lacks, and passes on those that only the
    /// database has.
    ///
    /// Several processes may do so at once: the row of the shop is locked, and the next one finds
    /// the changes of the first.
    pub(super) async fn recover(
        &self,
        state: &mut PostgresState,
        index: usize,
    ) -> Result<(), StoreError> {
        let Some(memory) = self.memory.get() else {
            let error = StoreInternalError::ChangedDuringStart;
            return Err(state.connection.to_store_error(error));
        };
        let PostgresState {
            connection, logs, ..
        } = state;
        let log = &mut logs[index];
        let outcome = append_again(connection, log, &self.id).await;
        let recovery = match outcome.map_err(|error| state.connection.to_store_error(error))? {
            Ok(recovery) => recovery,
            Err(found) => {
                let log = &state.logs[index];
                return Err(StoreError::LostChanges {
                    target: self.url.to_string(),
                    shop: log.name.clone(),
                    found,
                    known: log.end.ver,
                });
            }
        };
        // Twice, so that a comparison with a book that is just being changed is not trusted.
        self.book_changes.fetch_add(1, Ordering::AcqRel);
        let outcome = apply_recovery(state, index, &recovery, memory);
        self.book_changes.fetch_add(1, Ordering::AcqRel);
        outcome.map_err(|error| state.connection.to_store_error(error))?;
        let report = report(&state.logs[index].name, &recovery.plan);
        if report.skus > 0 || report.acknowledgements > 0 {
            self.recovered.lock().push(report);
        }
        Ok(())
    }

    /// Returns what was appended again since the last call.
    pub(in crate::store) fn take_recovered(&self) -> Vec<RecoveredChanges> {
        std::mem::take(&mut *self.recovered.lock())
    }
}

/// Returns the last change in the database if it has no change in common with memory.
async fn append_again(
    connection: &mut PostgresConnection,
    log: &mut ShopLog,
    own_id: &str,
) -> Result<Result<Recovery, i64>, StoreInternalError> {
    let mut work = with_limit(WRITE_TIMEOUT, connection.begin(Purpose::WriteAll)).await?;
    let conn = work.conn();
    let row = with_limit(WRITE_TIMEOUT, LogRow::find_and_lock(conn, log.id)).await?;
    let Some(mut row) = row.filter(|row| row.shop.name == log.name) else {
        work.roll_back().await?;
        return Ok(Err(0));
    };
    let upto = row.snapshot.upto;
    let mut changes = read_changes(conn, log.id, upto.ver, row.end.ver).await?;
    let (end, _) = visit_changes((log.id, &log.name), upto, &changes, |_| Ok(()))?;
    check_end(&row, end)?;
    let mut position = upto;
    let found: Vec<_> = changes
        .iter()
        .map(|change| {
            position = position.after(&change.body);
            DatabaseChange {
                end: position,
                body: without_checksum(&change.body),
            }
        })
        .collect();
    let plan = log.tail.plan(upto, &found, Instant::now())?;
    let Some(plan) = plan else {
        work.roll_back().await?;
        return Ok(Err(row.end.ver));
    };
    let common = plan
        .known
        .checked_sub(1)
        .map_or(upto, |last| found[last].end);
    changes.drain(..plan.known);
    if plan.again.is_empty() {
        work.roll_back().await?;
    } else {
        let is_target =
            |packed: &PackedRecord| RecordKind::of(&packed.body) == Ok(RecordKind::TargetChanged);
        if plan.again.iter().any(is_target) {
            row.shop.target.clone_from(&log.target);
        }
        changes.extend(append_to(work, &mut row, (plan.again.clone(), own_id)).await?);
    }
    Ok(Ok(Recovery {
        plan,
        common,
        changes,
    }))
}

/// Appends levels at the end of the log, wherever that is: for each SKU the newest date wins, so their
/// order against changes that this process has not read does not matter.
pub(super) async fn append_levels(
    connection: &mut PostgresConnection,
    (shop, own_id): (i64, &str),
    levels: &[(Sku, Level)],
) -> Result<(), StoreInternalError> {
    let mut packer = RecordPacker::new(RecordKind::Stock);
    for (sku, level) in levels {
        packer.push_stock(sku, *level);
    }
    let mut work = with_limit(WRITE_TIMEOUT, connection.begin(Purpose::WriteAll)).await?;
    let mut row = with_limit(WRITE_TIMEOUT, LogRow::lock(work.conn(), shop)).await?;
    append_to(work, &mut row, (packer.finish(), own_id)).await?;
    Ok(())
}

/// Appends records at the end of a log whose row is locked, commits, and returns them as they are
/// stored.
async fn append_to(
    mut work: PostgresWork<'_>,
    row: &mut LogRow,
    (records, own_id): (Vec<PackedRecord>, &str),
) -> Result<Vec<RawRecord>, StoreInternalError> {
    let mut sealed = Vec::with_capacity(records.len());
    for packed in records {
        let (number, rows) = (row.end.ver + 1, packed.rows);
        let body = packed.seal(RecordKey::Change { seq: number }, row.shop.id);
        row.end = row.end.after(&body);
        sealed.push(RawRecord { number, rows, body });
    }
    // Some at a time, so that a server that has disappeared is noticed.
    for some in sealed.chunks(CHANGES_PER_STATEMENT) {
        let inserting = insert_changes(work.conn(), row.shop.id, some);
        with_limit(WRITE_TIMEOUT, inserting).await?;
    }
    let ending = async {
        row.write(work.conn()).await?;
        work.commit_and_notify("appended", own_id).await
    };
    with_limit(WRITE_TIMEOUT, ending).await?;
    Ok(sealed)
}

/// Inserts changes of one shop.
pub(super) async fn insert_changes(
    conn: &mut PgConnection,
    shop: i64,
    changes: &[RawRecord],
) -> Result<(), StoreInternalError> {
    let column = |of: fn(&RawRecord) -> i64| changes.iter().map(of).collect::<Vec<_>>();
    let bodies = changes.iter().map(|change| change.body.as_slice());
    query(
        "INSERT INTO stockbridge.change (shop, ver, rows, body) \
         SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::bytea[])",
    )
    .bind(shop)
    .bind(column(|change| change.number))
    .bind(column(|change| change.rows))
    .bind(bodies.collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// Applies what only the database has, and the changes that were appended again.
fn apply_recovery(
    state: &mut PostgresState,
    index: usize,
    recovery: &Recovery,
    memory: &FollowingMemory,
) -> Result<(), StoreInternalError> {
    let PostgresState {
        logs, quarantine, ..
    } = state;
    let log = &mut logs[index];
    let shop = shop_at(index);
    let visit = |reader: RecordReader<'_>| {
        let rows = reader.collect::<Result<Vec<RecordRow>, _>>()?;
        rows.iter()
            .for_each(|row| update_quarantine(quarantine, log.id, row));
        (memory.on_followed)(shop, &rows);
        Ok(())
    };
    let (end, bytes) = visit_changes(
        (log.id, &log.name),
        recovery.common,
        &recovery.changes,
        visit,
    )?;
    log.tail.truncate(&recovery.plan);
    log.tail.push_all(recovery.common, &recovery.changes);
    log.end = end;
    log.log_bytes += bytes;
    Ok(())
}

fn report(shop: &str, plan: &RecoveryPlan) -> RecoveredChanges {
    let rows = |kind: RecordKind| {
        let of_kind = plan
            .again
            .iter()
            .filter(|packed| RecordKind::of(&packed.body) == Ok(kind));
        of_kind.map(|packed| packed.rows.unsigned_abs()).sum()
    };
    RecoveredChanges {
        shop: shop.to_owned(),
        skus: rows(RecordKind::Stock),
        acknowledgements: rows(RecordKind::Acked),
    }
}
