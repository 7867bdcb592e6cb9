//! Store in a PostgreSQL database, in tables of the schema `stockbridge`.
//!
//! The tables keep the same packed records as a store in a directory, but each shop has a log of
//! its own, and `shop.ver` is the number of its last change. An append locks the row of the shop
//! and compares it with what memory has, so the order of the changes of a shop is total, and a
//! process never appends to stock that it has not seen. Changes of other processes are read in
//! their order and passed to a callback, see [`Store::follow_with`](super::Store::follow_with).
//!
//! A commit whose response was lost may be in the database or not. The next call finds out by the
//! same comparison, and gets its own changes back as if they were of another process.
//!
//! A database that cannot be reached makes appends fail; memory and the answers to the Market do
//! not depend on it. Every call connects again.

mod append;
mod append_locked;
mod applied;
mod attempts;
mod change_listener;
mod change_tail;
mod commit_watch;
mod compact;
mod connection;
mod database_end;
mod database_facts;
mod database_problem;
mod follow;
mod leading;
mod lease;
mod load;
mod notification_check;
mod read_log;
mod recover;
mod replica_table;
mod schema;
mod shop_log;
mod side_tables;
mod statement_images;
mod store_url;
mod targets;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use stock::ShopId;
use tokio::sync::Notify;

pub(super) use self::append::AppendCondition;
use self::applied::RenewedRow;
pub use self::applied::{Renewal, RenewalNeed};
pub use self::change_listener::{ChangeListener, ChangeNotice};
use self::change_tail::ChangeTail;
use self::commit_watch::{CommitWatch, ProbeNeed};
use self::connection::{BULK_TIMEOUT, PostgresConnection, Purpose, WRITE_TIMEOUT, with_limit};
pub(super) use self::database_end::{DatabaseEnd, DatabaseLease};
pub use self::database_facts::{DatabaseFacts, LiveReplica, database_facts};
pub use self::database_problem::DatabaseProblem;
pub use self::lease::{Fence, Lease, LeaseOutcome, LeaseTable, WHOLE_DATABASE};
pub use self::notification_check::check_notifications;
use self::replica_table::ReplicaTable;
pub use self::replica_table::{REPLICA_LIFETIME, REPLICA_MARGIN, ReplicaStatus, may_answer_until};
pub(super) use self::shop_log::LogEnd;
pub use self::statement_images::{
    ImageFile, ImageState, ImageWrite, ImageWriter, PageBatch, StatementImage, StatementImages,
};
pub use self::store_url::{StoreAddressError, StoreUrl};
use super::append_guard::PendingAppends;
use super::directory::StoreDirectory;
use super::error::StoreInternalError;
use super::loaded_store::{LoadedStore, ShopTable};
use super::quarantine_table::QuarantineTable;
use super::{
    BookVersion, FailureLog, OnFollowed, ReadLevels, RecentSend, RecoveredChanges, ShopIdentity,
    StoreError, StoreHealth, StoreStatus, notes,
};

/// Open store in a PostgreSQL database; see the [module](self).
///
/// One connection, behind the fair lock `state`, is for everything that must agree about the end of
/// the logs: appends, changes of other processes, permissions to send, notes and recoveries. While one
/// of them has it, the others wait, and so does the renewal of the permit to answer the Market. So
/// each of them keeps it for a short time:
///
/// - The wait of a short change for a lock of another process ends after half a second, and the next
///   attempt waits for its turn.
/// - A commit that the server does not confirm, because it waits for a standby, is given up after two
///   seconds in a replica, and after eight in a single process. Then no further commit is tried before the
///   server confirms a probe.
/// - A server that is silent is given up after [`WRITE_TIMEOUT`], which is longer than the permit: a
///   process that does not reach the database may not answer.
/// - Only what must be read or appended in bulk takes longer: when this process is far behind, or when
///   the database has lost changes. It has no permit then. Such an append is given up if the server does
///   not confirm its commit within eight seconds.
///
/// Compactions, rows of replicas and leases have connections of their own.
pub(super) struct PostgresStore {
    url: StoreUrl,
    /// Id of this process among those that use the database.
    id: String,
    replicas: ReplicaTable,
    renewed: Mutex<RenewedRow>,
    /// Digests of the settings of this process.
    settings: Mutex<Arc<str>>,
    others_applied: Notify,
    /// Grows before and after a change of another process reaches memory.
    book_changes: AtomicU64,
    state: tokio::sync::Mutex<PostgresState>,
    compaction: tokio::sync::Mutex<PostgresConnection>,
    commits: CommitWatch,
    probe: tokio::sync::Mutex<PostgresConnection>,
    pending_appends: PendingAppends,
    health: Mutex<StoreHealth>,
    wants_compaction: Mutex<bool>,
    memory: OnceLock<FollowingMemory>,
    /// Changes that were appended again and not reported yet.
    recovered: Mutex<Vec<RecoveredChanges>>,
    directory: Arc<StoreDirectory>,
}

/// Memory of this process, as far as following needs it.
struct FollowingMemory {
    on_followed: OnFollowed,
    levels: ReadLevels,
}

/// State behind the lock of the connection.
#[derive(Debug)]
struct PostgresState {
    connection: PostgresConnection,
    /// Logs of the configured shops, in their order.
    logs: Vec<ShopLog>,
    quarantine: QuarantineTable,
    last_commit: Duration,
    is_closed: bool,
}

/// Log of one shop, as far as this process knows it.
#[derive(Clone, Debug)]
struct ShopLog {
    /// Number of the shop in the database.
    id: i64,
    name: String,
    /// Target in the configuration of this process.
    target: String,
    /// Last change that memory has, or gets from the append that is just returning.
    end: LogEnd,
    /// End of the log at the last commit of this process. The standby for which the server waits has
    /// everything up to it.
    confirmed: Option<LogEnd>,
    /// Generation of the valid snapshot.
    generation: i64,
    log_bytes: u64,
    snapshot_bytes: u64,
    /// Last changes up to `end`.
    tail: ChangeTail,
}

impl PostgresStore {
    /// Creates or upgrades the tables, and loads their content.
    pub(super) async fn open(
        url: StoreUrl,
        directory: Arc<StoreDirectory>,
        shops: &[ShopIdentity],
    ) -> Result<(Self, LoadedStore, ShopTable), StoreError> {
        let mut connection = PostgresConnection::new(url.clone());
        load::prepare_tables(&mut connection, &url).await?;
        load::check_copy_marks(&mut connection, &url).await?;
        let registering = load::register_shops(&mut connection, shops);
        let registered = with_limit(WRITE_TIMEOUT, registering).await;
        registered.map_err(|error| connection.to_store_error(error))??;
        let loaded = with_limit(BULK_TIMEOUT, load::load(&mut connection, shops)).await;
        let (mut loaded, shop_table, logs) =
            loaded.map_err(|error| connection.to_store_error(error))?;
        let commits = CommitWatch::new();
        connection.watch_commits(commits.clone());
        let connect_later = || {
            let mut connection = PostgresConnection::new(url.clone());
            connection.watch_commits(commits.clone());
            tokio::sync::Mutex::new(connection)
        };
        let store = Self {
            compaction: connect_later(),
            probe: connect_later(),
            commits,
            id: format!("{:016x}", rand::random::<u64>()),
            replicas: ReplicaTable::new(url.clone()),
            renewed: Mutex::default(),
            settings: Mutex::new("".into()),
            others_applied: Notify::new(),
            book_changes: AtomicU64::new(0),
            url,
            state: tokio::sync::Mutex::new(PostgresState {
                connection,
                logs,
                quarantine: std::mem::take(&mut loaded.quarantine),
                last_commit: Duration::ZERO,
                is_closed: false,
            }),
            pending_appends: PendingAppends::default(),
            health: Mutex::default(),
            wants_compaction: Mutex::new(false),
            memory: OnceLock::new(),
            recovered: Mutex::default(),
            directory,
        };
        let state = store.state.lock().await;
        store.publish(&state, None);
        drop(state);
        Ok((store, loaded, shop_table))
    }

    pub(super) fn follow_with(&self, on_followed: OnFollowed, levels: ReadLevels) {
        // Only the first callbacks count: the service sets them once.
        let _already_set = self.memory.set(FollowingMemory {
            on_followed,
            levels,
        });
    }

    pub(super) async fn catch_up(&self) -> Result<bool, StoreError> {
        let mut state = self.state.lock().await;
        check_open(&state)?;
        let outcome = self.follow(&mut state).await;
        self.publish(&state, outcome.as_ref().err());
        outcome
    }

    /// Refuses the database if it was copied to another place meanwhile.
    pub(super) async fn check_copy_marks(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock().await;
        load::check_copy_marks(&mut state.connection, &self.url).await
    }

    pub(super) fn book_version(&self) -> BookVersion {
        BookVersion(self.book_changes.load(Ordering::Acquire))
    }

    /// Returns the leases in the database.
    pub(super) fn leases(&self, failures: FailureLog) -> LeaseTable {
        LeaseTable::new(self.url.clone()).with_failures(failures)
    }

    /// Returns the images of the statements in the database.
    pub(super) async fn statement_images(&self) -> StatementImages {
        let state = self.state.lock().await;
        StatementImages::new(
            self.url.clone(),
            state.logs.iter().map(|log| log.id).collect(),
        )
    }

    /// Returns the quarantine of every shop, by their numbers in the database.
    pub(super) async fn copy_quarantine(&self) -> QuarantineTable {
        self.state.lock().await.quarantine.clone()
    }

    pub(super) async fn record_send(
        &self,
        shop: ShopId,
        send: RecentSend,
    ) -> Result<(), StoreError> {
        let mut state = self.lock_to_write().await?;
        let id = state.logs[shop.index()].id;
        let writing = async |state: &mut PostgresState| {
            let mut work = state.connection.begin(Purpose::SharedWrite).await?;
            side_tables::write_send(work.conn(), id, send).await?;
            work.commit().await
        };
        self.write_outside_logs(&mut state, writing).await
    }

    pub(super) async fn put_note(
        &self,
        shop: Option<ShopId>,
        name: &str,
        text: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut state = self.lock_to_write().await?;
        let id = shop.map_or(notes::STORE_WIDE, |shop| state.logs[shop.index()].id);
        let writing = async |state: &mut PostgresState| {
            let mut work = state.connection.begin(Purpose::SharedWrite).await?;
            side_tables::write_note(work.conn(), id, name, text).await?;
            work.commit().await
        };
        self.write_outside_logs(&mut state, writing).await
    }

    pub(super) async fn test_write(&self) -> Result<(), StoreError> {
        // A database that lacks acknowledged changes accepts writes, but no change of this process.
        self.catch_up().await?;
        let outcome = self.probe_commits(ProbeNeed::Always).await;
        self.publish(&*self.state.lock().await, outcome.as_ref().err());
        outcome
    }

    pub(super) fn wants_compaction(&self) -> bool {
        *self.wants_compaction.lock()
    }

    pub(super) fn is_failed(&self) -> bool {
        self.health.lock().failed.is_some()
    }

    pub(super) fn status(&self) -> StoreStatus {
        let health = self.health.lock().clone();
        StoreStatus {
            disk_bytes: health.log_bytes + health.snapshot_bytes,
            log_bytes: health.log_bytes,
            snapshot_bytes: health.snapshot_bytes,
            last_seq: health.last_seq,
            generation: health.generation,
            last_commit_us: u64::try_from(health.last_commit.as_micros()).unwrap_or(u64::MAX),
            failed: health.failed,
        }
    }

    pub(super) async fn close(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock().await;
        state.is_closed = true;
        state.connection.close().await;
        // A compaction takes this lock while it has the next one.
        drop(state);
        self.probe.lock().await.close().await;
        self.compaction.lock().await.close().await;
        self.replicas.close().await;
        self.directory.unlock();
        Ok(())
    }

    /// Runs a write that concerns no log.
    async fn write_outside_logs(
        &self,
        state: &mut PostgresState,
        write: impl AsyncFnOnce(&mut PostgresState) -> Result<(), StoreInternalError>,
    ) -> Result<(), StoreError> {
        let written = with_limit(WRITE_TIMEOUT, write(state)).await;
        let outcome = written.map_err(|error| state.connection.to_store_error(error));
        self.publish(state, outcome.as_ref().err());
        outcome
    }

    /// Publishes the part of the status that is read without the lock.
    fn publish(&self, state: &PostgresState, error: Option<&StoreError>) {
        let logs = &state.logs;
        let failed = match error {
            // Reads do not show that the server confirms commits again.
            None if self.commits.is_stalled() => self.health.lock().failed.clone(),
            // The update is compared again, or the database has refused it, so nothing has failed.
            None
            | Some(
                StoreError::Behind | StoreError::NotLeader { .. } | StoreError::OtherTarget { .. },
            ) => None,
            Some(error) => Some(error.to_string()),
        };
        *self.wants_compaction.lock() = logs.iter().any(ShopLog::wants_compaction);
        *self.health.lock() = StoreHealth {
            failed,
            log_bytes: logs.iter().map(|log| log.log_bytes).sum(),
            snapshot_bytes: logs.iter().map(|log| log.snapshot_bytes).sum(),
            last_seq: logs.iter().map(|log| log.end.ver).sum(),
            generation: logs.iter().map(|log| log.generation).max().unwrap_or(0),
            last_commit: state.last_commit,
        };
    }
}

fn check_open(state: &PostgresState) -> Result<(), StoreError> {
    if state.is_closed {
        Err(StoreError::Closed)
    } else {
        Ok(())
    }
}
