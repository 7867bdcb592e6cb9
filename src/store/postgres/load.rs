//! Start of the store: tables, registration of the configured shops, and loading of their state.

use super::change_tail::ChangeTail;
use super::connection::{
    BULK_TIMEOUT, PostgresConnection, Purpose, WRITE_TIMEOUT, query, with_limit,
};
use super::read_log::{RawRecord, read_changes, read_snapshot, visit_changes};
use super::recover::insert_changes;
use super::schema::{known_version, migrate};
use super::shop_log::{LogEnd, LogRow};
use super::statement_images::set_directory_statements;
use super::targets::live_processes;
use super::{ShopLog, StoreUrl, side_tables};
use crate::store::copy::check_marks;
use crate::store::error::StoreInternalError;
use crate::store::loaded_store::{DiskShop, LoadedStore, ShopTable, shop_of_disk_id};
use crate::store::record::{MalformedRecord, RecordKey, RecordPacker, missing_changes};
use crate::store::{Notes, ShopIdentity, StoreError};

/// Creates or upgrades the tables.
pub(super) async fn prepare_tables(
    connection: &mut PostgresConnection,
    url: &StoreUrl,
) -> Result<(), StoreError> {
    let outcome = with_limit(BULK_TIMEOUT, async {
        let mut work = connection.begin(Purpose::WriteAll).await?;
        let found = migrate(&mut work).await?;
        work.commit().await?;
        Ok(found)
    });
    let found = outcome
        .await
        .map_err(|error| connection.to_store_error(error))?;
    if found > known_version() {
        return Err(StoreError::NewerSchema {
            target: url.to_string(),
            found,
            known: known_version(),
        });
    }
    Ok(())
}

/// Refuses a store that a service must not use because of a copy.
pub(super) async fn check_copy_marks(
    connection: &mut PostgresConnection,
    url: &StoreUrl,
) -> Result<(), StoreError> {
    let outcome = with_limit(WRITE_TIMEOUT, async {
        let mut work = connection.begin(Purpose::Write).await?;
        let notes = side_tables::read_notes(work.conn()).await?;
        work.roll_back().await?;
        Ok(notes)
    });
    let notes = outcome
        .await
        .map_err(|error| connection.to_store_error(error))?;
    check_marks(&notes, &url.to_string())
}

/// Assigns numbers to new shops and records changed targets, in one transaction.
///
/// A target is not changed while another process uses the database.
pub(super) async fn register_shops(
    connection: &mut PostgresConnection,
    shops: &[ShopIdentity],
) -> Result<Result<(), StoreError>, StoreInternalError> {
    let mut work = connection.begin(Purpose::Write).await?;
    let known = LogRow::read_all(work.conn()).await?;
    let is_registered = |shop: &ShopIdentity| {
        let same = |row: &&LogRow| row.shop.name == shop.name && row.shop.target == shop.target;
        known.iter().any(|row| same(&row))
    };
    if shops.iter().all(is_registered) {
        return work.roll_back().await.map(Ok);
    }
    // Appends wait meanwhile, and other processes that register shops. A weaker lock would let an
    // append lock its row and then wait for the table, while this waits for the row.
    query("LOCK TABLE stockbridge.shop IN EXCLUSIVE MODE")
        .execute(work.conn())
        .await?;
    let known = LogRow::read_all(work.conn()).await?;
    let largest = known.iter().map(|row| row.shop.id).max().unwrap_or(0);
    let mut new_ids = largest + 1..;
    let live = live_processes(work.conn()).await?;
    for ShopIdentity { name, target, .. } in shops {
        let found = known.iter().find(|row| row.shop.name == *name);
        let Some(found) = found else {
            let shop = DiskShop {
                id: new_ids.next().unwrap_or(i64::MAX),
                name: name.clone(),
                target: target.clone(),
            };
            let id = shop.id;
            LogRow::new(shop).write(work.conn()).await?;
            set_directory_statements(work.conn(), id, false).await?;
            continue;
        };
        if found.shop.target == *target {
            continue;
        }
        if !live.is_empty() {
            let refusal = StoreError::TargetInUse {
                shop: name.clone(),
                recorded: found.shop.target.clone(),
                configured: target.clone(),
                processes: live.join(", "),
            };
            return work.roll_back().await.map(|()| Err(refusal));
        }
        let mut row = found.clone();
        row.shop.target.clone_from(target);
        let (seq, packed) = (row.end.ver + 1, RecordPacker::target_changed());
        let change = RawRecord {
            number: seq,
            rows: packed.rows,
            body: packed.seal(RecordKey::Change { seq }, row.shop.id),
        };
        row.end = row.end.after(&change.body);
        insert_changes(work.conn(), row.shop.id, &[change]).await?;
        row.write(work.conn()).await?;
    }
    work.commit().await.map(Ok)
}

/// Reads the state of the configured shops at one moment.
pub(super) async fn load(
    connection: &mut PostgresConnection,
    shops: &[ShopIdentity],
) -> Result<(LoadedStore, ShopTable, Vec<ShopLog>), StoreInternalError> {
    let mut work = connection.begin(Purpose::ReadAll).await?;
    let conn = work.conn();
    let rows = LogRow::read_all(conn).await?;
    let row_of = |shop: &ShopIdentity| {
        let found = rows.iter().find(|row| row.shop.name == shop.name);
        found.ok_or(MalformedRecord("a registered shop is missing"))
    };
    let configured: Vec<&LogRow> = shops.iter().map(row_of).collect::<Result<_, _>>()?;
    let ids: Vec<i64> = configured.iter().map(|row| row.shop.id).collect();
    let owner = |id| shop_of_disk_id(ids.iter().copied(), id);
    let notes = Notes::from_rows(side_tables::read_notes(conn).await?, owner);
    let with_size = |row: &&LogRow| (row.shop.id, usize::try_from(row.snapshot.rows).unwrap_or(0));
    let sizes: Vec<_> = configured.iter().map(with_size).collect();
    let mut loaded = LoadedStore::new(&sizes, shops, notes);
    let mut logs = Vec::new();
    for row in configured {
        let id = row.shop.id;
        let snapshot_bytes =
            read_snapshot(conn, row, |reader| loaded.apply_record(id, reader)).await?;
        let from = row.snapshot.upto;
        let changes = read_changes(conn, id, from.ver, row.end.ver).await?;
        let (end, log_bytes) = visit_changes((id, &row.shop.name), from, &changes, |reader| {
            loaded.apply_record(id, reader)
        })?;
        check_end(row, end)?;
        loaded
            .recent_sends
            .push(side_tables::read_sends(conn, id).await?);
        logs.push(ShopLog {
            id,
            name: row.shop.name.clone(),
            target: row.shop.target.clone(),
            tail: ChangeTail::new(end),
            end,
            confirmed: None,
            generation: row.snapshot.generation,
            log_bytes,
            snapshot_bytes,
        });
    }
    work.roll_back().await?;
    let is_absent = |row: &LogRow| !ids.contains(&row.shop.id);
    let absent = rows.into_iter().filter(is_absent).map(|row| row.shop);
    let absent = absent.collect();
    let table = ShopTable {
        configured: ids,
        absent,
    };
    Ok((loaded, table, logs))
}

/// Checks that the records lead to the last change of the shop.
pub(super) fn check_end(row: &LogRow, end: LogEnd) -> Result<(), StoreInternalError> {
    if end.ver != row.end.ver {
        return Err(missing_changes(end.ver + 1, row.end.ver));
    }
    if end == row.end {
        Ok(())
    } else {
        Err(StoreInternalError::Damaged(format!(
            "the changes of shop '{}' are not those that were appended",
            row.shop.name
        )))
    }
}
