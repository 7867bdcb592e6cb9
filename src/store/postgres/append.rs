//! Appends: all changes of a call in one transaction, at the known end of each shop's log.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgConnection;
use stock::ShopId;
use tokio::time::Instant;

use super::change_tail;
use super::connection::{
    PostgresConnection, Purpose, WRITE_TIMEOUT, is_conflict, query, with_limit,
};
use super::lease::{Fence, check_fence};
use super::replica_table::notify;
use super::shop_log::LogEnd;
use super::{PostgresState, PostgresStore, ShopLog, check_open};
use crate::store::append_guard::{AppendGuard, AppendedChanges, LogPosition};
use crate::store::error::StoreInternalError;
use crate::store::packing::RECORD_OVERHEAD;
use crate::store::record::{PackedRecord, RecordKey};
use crate::store::{BookVersion, StoreChange, StoreError};

/// Maximum attempts of an append that collides with those of other processes.
const MAX_ATTEMPTS: usize = 20;

/// Longest time in which another process may keep a shop locked. The server ends the transaction of a
/// process that was stopped earlier.
const LOCKED_LIMIT: Duration = Duration::from_secs(10);

/// Conditions of an append, besides that memory has every change of the shops.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::store) struct AppendCondition<'a> {
    /// Further shops with which the changes were compared.
    pub(in crate::store) shops: &'a [ShopId],
    /// State of the book with which the changes were compared.
    pub(in crate::store) version: Option<BookVersion>,
    /// Lease under which the changes are made.
    pub(in crate::store) fence: Option<&'a Fence>,
}

/// Conditions of one attempt.
#[derive(Clone, Copy)]
struct AttemptCondition<'a> {
    /// Positions of further shops whose changes memory must have.
    only_read: &'a [usize],
    /// Numbers of the shops whose target must be that of this process.
    for_target: &'a [i64],
    /// False if the changes may follow changes that memory does not have yet.
    depends_on_book: bool,
    fence: Option<&'a Fence>,
}

/// Packed records of the shop with this position in the configuration, in order.
type PackedShops = BTreeMap<usize, Vec<PackedRecord>>;

/// Records of one append, at their positions in the logs.
#[derive(Default)]
struct SealedAppend {
    shops: Vec<i64>,
    ends: Vec<LogEnd>,
    bytes: Vec<u64>,
    record_shops: Vec<i64>,
    vers: Vec<i64>,
    rows: Vec<i64>,
    bodies: Vec<Vec<u8>>,
}

impl PostgresStore {
    /// Appends changes if memory has every change of their shops.
    ///
    /// A change that depends on the book is rejected with `Behind` otherwise; memory has the other
    /// changes by then.
    pub(in crate::store) async fn append(
        &self,
        changes: &[StoreChange<'_>],
        condition: AppendCondition<'_>,
    ) -> Result<AppendGuard<'_>, StoreError> {
        let AppendCondition {
            shops,
            version,
            fence,
        } = condition;
        let mut packed = PackedShops::new();
        for change in changes {
            let records = change.pack();
            if !records.is_empty() {
                packed
                    .entry(change.shop().index())
                    .or_default()
                    .extend(records);
            }
        }
        let is_only_read = |index: &usize| !packed.contains_key(index);
        let indexes = shops.iter().map(|shop| shop.index());
        let mut only_read: Vec<usize> = indexes.filter(is_only_read).collect();
        only_read.sort_unstable();
        only_read.dedup();
        if packed.is_empty() && only_read.is_empty() {
            return Ok(self.pending_appends.guard(Vec::new()));
        }
        let depends_on_book = !shops.is_empty()
            || changes
                .iter()
                .any(|change| matches!(change, StoreChange::Stock { .. }));
        let started = Instant::now();
        let mut attempts = 0..MAX_ATTEMPTS;
        while attempts.next().is_some() && started.elapsed() < LOCKED_LIMIT {
            // Not kept for the next attempt: this process follows the others with the same connection,
            // and may only answer the Market while it does.
            let mut state = self.state.lock().await;
            check_open(&state)?;
            // Compared under the lock: the book changes only under it.
            if version.is_some_and(|version| version != self.book_version()) {
                return Err(StoreError::Behind);
            }
            let condition = AttemptCondition {
                only_read: &only_read,
                for_target: &shops_bound_to_target(changes, &state.logs),
                depends_on_book,
                fence,
            };
            let outcome = self.append_at_end(&mut state, &packed, condition).await;
            self.publish(&state, outcome.as_ref().err());
            let Some(positions) = outcome? else {
                continue;
            };
            for change in changes {
                let id = state.logs[change.shop().index()].id;
                change.update_quarantine(&mut state.quarantine, id);
            }
            // Also for shops without a change: what the call confirms may not have reached the other
            // replicas yet.
            let touched = packed.keys().chain(&only_read);
            let ends = touched.map(|index| (state.logs[*index].id, state.logs[*index].end.ver));
            let appended = AppendedChanges::new(ends.collect());
            return Ok(self.pending_appends.guard_until(positions, appended));
        }
        let error = StoreError::DatabaseUnusable {
            target: self.url.to_string(),
            what: format!(
                "other processes wrote in between {MAX_ATTEMPTS} times, or had locked the shop for \
                 {} s; if one of them was stopped, continue or kill it",
                LOCKED_LIMIT.as_secs()
            ),
        };
        self.publish(&*self.state.lock().await, Some(&error));
        Err(error)
    }

    /// Makes one attempt. Returns `None` if another one may succeed, and otherwise the positions of the
    /// first records.
    async fn append_at_end(
        &self,
        state: &mut PostgresState,
        packed: &PackedShops,
        condition: AttemptCondition<'_>,
    ) -> Result<Option<Vec<LogPosition>>, StoreError> {
        let started = Instant::now();
        let sealed = seal(packed, &state.logs);
        let PostgresState {
            connection, logs, ..
        } = state;
        let attempt = append_once(connection, (logs, &self.id), condition, &sealed);
        match with_limit(WRITE_TIMEOUT, attempt).await {
            Ok(AppendOutcome::Appended) => {
                state.last_commit = started.elapsed();
                Ok(Some(advance(&mut state.logs, packed, &sealed)))
            }
            Ok(AppendOutcome::NotLeader) => Err(StoreError::not_leader(condition.fence)),
            Ok(AppendOutcome::OtherTarget(shop)) => Err(StoreError::OtherTarget { shop }),
            Ok(AppendOutcome::Behind) => {
                self.follow(state).await?;
                if condition.depends_on_book {
                    return Err(StoreError::Behind);
                }
                Ok(None)
            }
            // Two processes have locked shops in a different order, or long.
            Err(error) if is_conflict(&error) => Ok(None),
            Err(error) => Err(state.connection.to_store_error(error)),
        }
    }
}

/// Gives the records their positions after the known ends of the logs.
fn seal(packed: &PackedShops, logs: &[ShopLog]) -> SealedAppend {
    let mut sealed = SealedAppend::default();
    for (index, records) in packed {
        let (id, mut end) = (logs[*index].id, logs[*index].end);
        let mut bytes = 0;
        for record in records {
            let seq = end.ver + 1;
            let body = record.clone().seal(RecordKey::Change { seq }, id);
            bytes += body.len() as u64 + RECORD_OVERHEAD;
            end = end.after(&body);
            sealed.record_shops.push(id);
            sealed.vers.push(seq);
            sealed.rows.push(record.rows);
            sealed.bodies.push(body);
        }
        sealed.shops.push(id);
        sealed.ends.push(end);
        sealed.bytes.push(bytes);
    }
    sealed
}

/// Advances the known ends of the logs, and returns the position of each first record.
fn advance(logs: &mut [ShopLog], packed: &PackedShops, sealed: &SealedAppend) -> Vec<LogPosition> {
    let now = Instant::now();
    let ends = sealed.ends.iter().zip(&sealed.bytes);
    let advance_one = |(index, (end, bytes)): (&usize, (&LogEnd, &u64))| {
        let log = &mut logs[*index];
        let first = (log.id, log.end.ver + 1);
        let mut position = log.end;
        for PackedRecord { rows, body } in &packed[index] {
            position = position.after_body(body);
            log.tail.push(position, *rows, body, now);
        }
        log.end = *end;
        log.log_bytes += bytes;
        first
    };
    let positions = packed.keys().zip(ends).map(advance_one).collect();
    change_tail::limit_bytes(logs);
    positions
}

/// Outcome of one attempt to append.
enum AppendOutcome {
    Appended,
    /// Memory lacks changes of the shops. Nothing was written.
    Behind,
    /// Another process has the lease. Nothing was written.
    NotLeader,
    /// Another process has given the shop of this name another target. Nothing was written.
    OtherTarget(String),
}

/// Returns the numbers of the shops of which something is stored that only concerns their target.
fn shops_bound_to_target(changes: &[StoreChange<'_>], logs: &[ShopLog]) -> Vec<i64> {
    let is_bound = |change: &&StoreChange<'_>| match change {
        StoreChange::Acked { .. }
        | StoreChange::Quarantined { .. }
        | StoreChange::Released { .. } => true,
        StoreChange::Stock { .. } | StoreChange::Activity { .. } => false,
    };
    let bound = changes.iter().filter(is_bound);
    bound.map(|change| logs[change.shop().index()].id).collect()
}

/// Appends the records if memory has every change of the shops, and the fence is valid.
async fn append_once(
    connection: &mut PostgresConnection,
    (logs, own_id): (&[ShopLog], &str),
    condition: AttemptCondition<'_>,
    sealed: &SealedAppend,
) -> Result<AppendOutcome, StoreInternalError> {
    let AttemptCondition {
        only_read,
        for_target,
        fence,
        ..
    } = condition;
    let mut work = connection.begin(Purpose::SharedWrite).await?;
    let conn = work.conn();
    if let Some(fence) = fence
        && check_fence(conn, fence).await?.is_none()
    {
        work.roll_back().await?;
        return Ok(AppendOutcome::NotLeader);
    }
    let mut ends = Vec::new();
    if !sealed.shops.is_empty() {
        // In the order of their numbers, so that two processes do not wait for each other.
        let lock = "SELECT id, ver, chain FROM stockbridge.shop WHERE id = ANY($1) ORDER BY id \
                    FOR UPDATE";
        ends.extend(read_ends(conn, lock, &sealed.shops).await?);
    }
    // After the rows were locked: only who locks them changes a target.
    if let Some(shop) = find_other_target(conn, logs, for_target).await? {
        work.roll_back().await?;
        return Ok(AppendOutcome::OtherTarget(shop));
    }
    if !only_read.is_empty() {
        let ids: Vec<i64> = only_read.iter().map(|index| logs[*index].id).collect();
        let read = "SELECT id, ver, chain FROM stockbridge.shop WHERE id = ANY($1)";
        ends.extend(read_ends(conn, read, &ids).await?);
    }
    let is_known =
        |(id, end): &(i64, LogEnd)| logs.iter().any(|log| log.id == *id && log.end == *end);
    if ends.len() != sealed.shops.len() + only_read.len() || !ends.iter().all(is_known) {
        work.roll_back().await?;
        return Ok(AppendOutcome::Behind);
    }
    if sealed.shops.is_empty() {
        work.roll_back().await?;
        return Ok(AppendOutcome::Appended);
    }
    query(
        "WITH moved AS (UPDATE stockbridge.shop SET ver = n.ver, chain = n.chain \
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS n(id, ver, chain) \
         WHERE shop.id = n.id) \
         INSERT INTO stockbridge.change (shop, ver, rows, body) \
         SELECT * FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[])",
    )
    .bind(&sealed.shops)
    .bind(sealed.ends.iter().map(|end| end.ver).collect::<Vec<_>>())
    .bind(sealed.ends.iter().map(|end| end.chain).collect::<Vec<_>>())
    .bind(&sealed.record_shops)
    .bind(&sealed.vers)
    .bind(&sealed.rows)
    .bind(&sealed.bodies)
    .execute(&mut *conn)
    .await?;
    notify(conn, "appended", own_id).await?;
    work.commit().await?;
    Ok(AppendOutcome::Appended)
}

/// Returns the name of a shop that has another target in the database than in this process.
pub(super) async fn find_other_target(
    conn: &mut PgConnection,
    logs: &[ShopLog],
    ids: &[i64],
) -> Result<Option<String>, StoreInternalError> {
    if ids.is_empty() {
        return Ok(None);
    }
    let rows = query("SELECT id, target FROM stockbridge.shop WHERE id = ANY($1)")
        .bind(ids)
        .fetch_all(conn)
        .await?;
    for row in rows {
        let (id, target): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        let log = logs.iter().find(|log| log.id == id);
        if let Some(log) = log.filter(|log| log.target != target) {
            return Ok(Some(log.name.clone()));
        }
    }
    Ok(None)
}

async fn read_ends(
    conn: &mut PgConnection,
    sql: &'static str,
    ids: &[i64],
) -> Result<Vec<(i64, LogEnd)>, StoreInternalError> {
    let rows = query(sql).bind(ids).fetch_all(conn).await?;
    let to_end = |row: &sqlx::postgres::PgRow| {
        let end = LogEnd {
            ver: row.try_get(1)?,
            chain: row.try_get(2)?,
        };
        Ok((row.try_get(0)?, end))
    };
    rows.iter().map(to_end).collect()
}
