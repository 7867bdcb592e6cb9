//! Appends: all changes of a call in one transaction, at the known end of each shop's log.

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::postgres::PgConnection;
use stock::ShopId;
use tokio::time::Instant;

use super::attempts::Attempts;
use super::change_tail;
use super::connection::{
    PostgresConnection, PostgresWork, Purpose, WRITE_TIMEOUT, is_conflict, query, with_limit,
};
use super::lease::{Fence, check_fence};
use super::shop_log::LogEnd;
use super::targets::{TargetConflict, find_other_target};
use super::{PostgresState, PostgresStore, ShopLog};
use crate::store::append_guard::{AppendGuard, AppendedChanges, LogPosition};
use crate::store::error::StoreInternalError;
use crate::store::packing::RECORD_OVERHEAD;
use crate::store::record::{PackedRecord, RecordKey};
use crate::store::{BookVersion, StoreChange, StoreError};

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
pub(super) struct AttemptCondition<'a> {
    /// Positions of further shops whose changes memory must have.
    pub(super) only_read: &'a [usize],
    /// Numbers of the shops whose target must be that of this process.
    pub(super) for_target: &'a [i64],
    pub(super) fence: Option<&'a Fence>,
}

/// Packed records of the shop with this position in the configuration, in order.
pub(super) type PackedShops = BTreeMap<usize, Vec<PackedRecord>>;

/// Records of one append, at their positions in the logs.
#[derive(Default)]
pub(super) struct SealedAppend {
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
        let packed = pack(changes);
        let only_read = other_shops(&packed, shops);
        if packed.is_empty() && only_read.is_empty() {
            return Ok(self.pending_appends.guard(Vec::new()));
        }
        let depends_on_book = !shops.is_empty()
            || changes
                .iter()
                .any(|change| matches!(change, StoreChange::Stock { .. }));
        let mut is_behind = false;
        let mut attempts = Attempts::new();
        while self.begin_attempt(&mut attempts).await? {
            let mut state = self.lock_to_write().await?;
            // Compared under the lock: the book changes only under it.
            if version.is_some_and(|version| version != self.book_version()) {
                return Err(StoreError::Behind);
            }
            let condition = AttemptCondition {
                only_read: &only_read,
                for_target: &shops_bound_to_target(changes, &state.logs),
                fence,
            };
            let outcome = if is_behind {
                let attempt = self.append_locked(&mut state, condition, &packed);
                with_limit(WRITE_TIMEOUT, attempt).await
            } else {
                let attempt = self.append_at_end(&mut state, &packed, condition);
                with_limit(WRITE_TIMEOUT, attempt).await
            };
            is_behind |= matches!(outcome, Ok(Err(Refusal::Behind)));
            attempts.note(&outcome);
            match self.conclude(&mut state, outcome).await? {
                Some(positions) => {
                    let touched = packed.keys().chain(&only_read);
                    return Ok(self.guard(&mut state, changes, touched, positions));
                }
                None if is_behind && depends_on_book => return Err(StoreError::Behind),
                None => {}
            }
        }
        Err(self.give_up().await)
    }

    /// Returns the result of an attempt, or `None` if another one may succeed. Memory has all changes of
    /// other processes then.
    pub(super) async fn conclude<T>(
        &self,
        state: &mut PostgresState,
        outcome: Attempt<T>,
    ) -> Result<Option<T>, StoreError> {
        let concluded = match outcome {
            Ok(Ok(done)) => Ok(Some(done)),
            Ok(Err(Refusal::NotLeader(lease))) => Err(StoreError::NotLeader { lease: Some(lease) }),
            Ok(Err(Refusal::OtherTarget(conflict))) => Err(conflict.into()),
            Ok(Err(Refusal::Behind)) => self.follow(state).await.map(|_| None),
            // Two processes have locked shops in a different order, or long.
            Err(error) if is_conflict(&error) => Ok(None),
            Err(error) => Err(state.connection.to_store_error(error)),
        };
        self.publish(state, concluded.as_ref().err());
        concluded
    }

    /// Returns the guard of changes that were just appended.
    pub(super) fn guard<'a>(
        &self,
        state: &mut PostgresState,
        changes: &[StoreChange<'_>],
        touched: impl Iterator<Item = &'a usize>,
        positions: Vec<LogPosition>,
    ) -> AppendGuard<'_> {
        for change in changes {
            let id = state.logs[change.shop().index()].id;
            change.update_quarantine(&mut state.quarantine, id);
        }
        // Also for shops without a change: what the call confirms may not have reached the other
        // replicas yet.
        let ends = touched.map(|index| (state.logs[*index].id, state.logs[*index].end));
        let appended = AppendedChanges::new(ends.collect());
        self.pending_appends.guard_until(positions, appended)
    }

    /// Appends the records if memory has every change of the shops, and the condition holds. Returns the
    /// positions of the first records.
    async fn append_at_end(
        &self,
        state: &mut PostgresState,
        packed: &PackedShops,
        condition: AttemptCondition<'_>,
    ) -> Attempt<Vec<LogPosition>> {
        let started = Instant::now();
        let sealed = seal(packed, &state.logs);
        let PostgresState {
            connection, logs, ..
        } = state;
        let AttemptCondition {
            only_read,
            for_target,
            fence,
        } = condition;
        let mut work = match begin_fenced(connection, fence).await? {
            Ok(work) => work,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let conn = work.conn();
        let mut ends = lock_ends(conn, &sealed.shops).await?;
        // After the rows were locked: only who locks them changes a target.
        if let Some(conflict) = find_other_target(conn, logs, for_target).await? {
            work.roll_back().await?;
            return Ok(Err(Refusal::OtherTarget(conflict)));
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
            return Ok(Err(Refusal::Behind));
        }
        let standby_has = StandbyHas::of(logs, only_read);
        let positions = sealed.write(work, &self.id, (packed, standby_has), logs);
        let positions = positions.await?;
        state.last_commit = started.elapsed();
        Ok(Ok(positions))
    }
}

/// Begins a transaction during which the lease of the fence does not change its owner.
pub(super) async fn begin_fenced<'a>(
    connection: &'a mut PostgresConnection,
    fence: Option<&Fence>,
) -> Attempt<PostgresWork<'a>> {
    let mut work = connection.begin(Purpose::SharedWrite).await?;
    if let Some(fence) = fence
        && check_fence(work.conn(), fence).await?.is_none()
    {
        work.roll_back().await?;
        return Ok(Err(Refusal::NotLeader(fence.lease.clone())));
    }
    Ok(Ok(work))
}

/// Packs changes into records.
pub(super) fn pack(changes: &[StoreChange<'_>]) -> PackedShops {
    let mut packed = PackedShops::new();
    for change in changes {
        let records = change.pack();
        if !records.is_empty() {
            let of_shop = packed.entry(change.shop().index()).or_default();
            of_shop.extend(records);
        }
    }
    packed
}

/// Returns the positions of the shops that have no record.
pub(super) fn other_shops(packed: &PackedShops, shops: &[ShopId]) -> Vec<usize> {
    let indexes = shops.iter().map(|shop| shop.index());
    let mut others: Vec<usize> = indexes
        .filter(|index| !packed.contains_key(index))
        .collect();
    others.sort_unstable();
    others.dedup();
    others
}

/// Gives the records their positions after the known ends of the logs.
pub(super) fn seal(packed: &PackedShops, logs: &[ShopLog]) -> SealedAppend {
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

/// Result of one attempt to append.
pub(super) type Attempt<T> = Result<Result<T, Refusal>, StoreInternalError>;

/// Reason for which nothing was written.
pub(super) enum Refusal {
    /// Memory lacks changes of the shops.
    Behind,
    /// Another process has the lease of this name.
    NotLeader(String),
    /// Another process has given a shop another target.
    OtherTarget(TargetConflict),
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

/// Knowledge of this process about the standby for which the server waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum StandbyHas {
    /// It has all changes of the shops.
    Changes,
    Unknown,
}

impl StandbyHas {
    /// Returns what is known for shops at these positions.
    pub(super) fn of(logs: &[ShopLog], shops: &[usize]) -> Self {
        if shops.iter().all(|index| logs[*index].is_confirmed()) {
            Self::Changes
        } else {
            Self::Unknown
        }
    }
}

impl SealedAppend {
    /// Writes the records behind the locked ends of the logs, and commits. Returns the positions of the
    /// first records.
    ///
    /// Without a record it waits for the standby of the server, unless it had all changes of the shops
    /// before: the caller confirms that they are stored.
    pub(super) async fn write(
        &self,
        mut work: PostgresWork<'_>,
        own_id: &str,
        (packed, standby_has): (&PackedShops, StandbyHas),
        logs: &mut [ShopLog],
    ) -> Result<Vec<LogPosition>, StoreInternalError> {
        if self.shops.is_empty() && standby_has == StandbyHas::Changes {
            work.roll_back().await?;
            return Ok(Vec::new());
        }
        if self.shops.is_empty() {
            work.confirm().await?;
        } else {
            self.insert(work.conn()).await?;
            work.commit_and_notify("appended", own_id).await?;
        }
        let positions = advance(logs, packed, self);
        // What was committed before is where this commit is.
        for log in logs {
            log.confirmed = Some(log.end);
        }
        Ok(positions)
    }

    async fn insert(&self, conn: &mut PgConnection) -> Result<(), StoreInternalError> {
        query(
            "WITH moved AS (UPDATE stockbridge.shop SET ver = n.ver, chain = n.chain \
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS n(id, ver, chain) \
             WHERE shop.id = n.id) \
             INSERT INTO stockbridge.change (shop, ver, rows, body) \
             SELECT * FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[])",
        )
        .bind(&self.shops)
        .bind(self.ends.iter().map(|end| end.ver).collect::<Vec<_>>())
        .bind(self.ends.iter().map(|end| end.chain).collect::<Vec<_>>())
        .bind(&self.record_shops)
        .bind(&self.vers)
        .bind(&self.rows)
        .bind(&self.bodies)
        .execute(conn)
        .await?;
        Ok(())
    }
}

/// Locks the rows of shops and returns the ends of their logs.
pub(super) async fn lock_ends(
    conn: &mut PgConnection,
    shops: &[i64],
) -> Result<Vec<(i64, LogEnd)>, StoreInternalError> {
    if shops.is_empty() {
        return Ok(Vec::new());
    }
    // In the order of their numbers, so that two processes do not wait for each other.
    let lock =
        "SELECT id, ver, chain FROM stockbridge.shop WHERE id = ANY($1) ORDER BY id FOR UPDATE";
    read_ends(conn, lock, shops).await
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
