//! Leases: rights that one process at a time has, by the clock of the database.
//!
//! The clocks of the processes do not matter. A process counts a lease from the moment before it
//! sent the request, so it never believes in its lease for longer than the database does, as long
//! as its monotonic clock is not slower by more than the margin of the caller.

use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use super::StoreUrl;
use super::commit_watch::CommitWatch;
use super::connection::{PostgresConnection, Purpose, WRITE_TIMEOUT, query, with_limit};
use crate::store::error::StoreInternalError;
use crate::store::{FailureLog, StoreError};

/// Name of the lease of a process that uses the database alone.
pub const WHOLE_DATABASE: &str = "service";

/// Leases in the database, on a connection of their own, so that a renewal never waits for an
/// append.
#[derive(Debug)]
pub struct LeaseTable {
    connection: tokio::sync::Mutex<PostgresConnection>,
    failures: FailureLog,
}

/// Result of the attempt to take or to renew a lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LeaseOutcome {
    /// The caller has the lease.
    Held(Lease),
    /// Another process has it.
    Taken {
        /// Name of that process.
        owner: String,
        /// Time until the lease ends unless it is renewed.
        left: Duration,
    },
}

/// Lease that this process has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lease {
    /// Number that grows with each change of the owner.
    pub epoch: i64,
    /// Time before which the lease does not end.
    pub valid_until: Instant,
    /// True if no earlier owner may still act: the lease is new, or its owner has given it back.
    pub is_handed_over: bool,
}

/// Lease under which a change is made. The change is rejected if another process has the lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fence {
    /// Name of the lease.
    pub lease: String,
    /// Owner that this process is.
    pub owner: String,
    /// Epoch in which this process has the lease.
    pub epoch: i64,
}

impl LeaseTable {
    pub(super) fn new(url: StoreUrl) -> Self {
        let mut connection = PostgresConnection::new(url);
        // For the text of the error: a process starts with a lease.
        connection.watch_commits(CommitWatch::new());
        Self {
            connection: tokio::sync::Mutex::new(connection),
            failures: FailureLog::default(),
        }
    }

    pub(super) fn with_failures(self, failures: FailureLog) -> Self {
        Self { failures, ..self }
    }

    /// Returns the log of failures that the periodic users of the store share.
    #[must_use]
    pub fn failures(&self) -> &FailureLog {
        &self.failures
    }

    /// Takes a lease that is free, or renews the caller's own, for `duration`.
    ///
    /// `owner` is unique for each run of each process, and shown to operators.
    ///
    /// # Errors
    /// The database cannot be used. Whether the lease was taken or renewed is unknown then.
    pub async fn acquire(
        &self,
        name: &str,
        owner: &str,
        duration: Duration,
    ) -> Result<LeaseOutcome, StoreError> {
        let mut connection = self.connection.lock().await;
        let asked_at = Instant::now();
        let acquiring = acquire(&mut connection, name, owner, duration);
        let outcome = with_limit(WRITE_TIMEOUT, acquiring).await;
        let outcome = outcome.map_err(|error| connection.to_store_error(error))?;
        Ok(match outcome {
            Ok((epoch, is_handed_over)) => LeaseOutcome::Held(Lease {
                epoch,
                valid_until: asked_at + duration,
                is_handed_over,
            }),
            Err((owner, left)) => LeaseOutcome::Taken { owner, left },
        })
    }

    /// Returns the owners of the leases whose name fits a pattern of SQL's `LIKE`.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn holders(&self, pattern: &str) -> Result<Vec<String>, StoreError> {
        let mut connection = self.connection.lock().await;
        let reading = async {
            let mut work = connection.begin(Purpose::Write).await?;
            let rows = query(
                "SELECT owner FROM stockbridge.lease \
                 WHERE name LIKE $1 AND owner <> '' AND until > clock_timestamp() ORDER BY name",
            )
            .bind(pattern.to_owned())
            .fetch_all(work.conn())
            .await?;
            work.roll_back().await?;
            let owners = rows.iter().map(|row| Ok(row.try_get(0)?));
            owners.collect()
        };
        let outcome: Result<_, StoreInternalError> = with_limit(WRITE_TIMEOUT, reading).await;
        outcome.map_err(|error| connection.to_store_error(error))
    }

    /// Returns the owner of a lease, if any process has it.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn holder(&self, name: &str) -> Result<Option<String>, StoreError> {
        let mut connection = self.connection.lock().await;
        let reading = async {
            let mut work = connection.begin(Purpose::Write).await?;
            let row = query(
                "SELECT owner FROM stockbridge.lease \
                 WHERE name = $1 AND owner <> '' AND until > clock_timestamp()",
            )
            .bind(name.to_owned())
            .fetch_optional(work.conn())
            .await?;
            work.roll_back().await?;
            Ok(row.map(|row| row.try_get(0)).transpose()?)
        };
        let outcome: Result<_, StoreInternalError> = with_limit(WRITE_TIMEOUT, reading).await;
        outcome.map_err(|error| connection.to_store_error(error))
    }

    /// Gives a lease back, if the caller still has it.
    ///
    /// # Errors
    /// The database cannot be used. The lease then ends by itself.
    pub async fn release(&self, name: &str, owner: &str) -> Result<(), StoreError> {
        let mut connection = self.connection.lock().await;
        let releasing = async {
            let mut work = connection.begin(Purpose::Write).await?;
            // The row stays, because the next owner needs the next epoch.
            query(
                "UPDATE stockbridge.lease SET owner = '', until = clock_timestamp() \
                 WHERE name = $1 AND owner = $2 AND until > clock_timestamp()",
            )
            .bind(name.to_owned())
            .bind(owner.to_owned())
            .execute(work.conn())
            .await?;
            work.commit().await
        };
        let outcome = with_limit(WRITE_TIMEOUT, releasing).await;
        outcome.map_err(|error| connection.to_store_error(error))
    }
}

/// Returns the epoch and true if no earlier owner may still act; or the other owner and how long
/// its lease lasts.
async fn acquire(
    connection: &mut PostgresConnection,
    name: &str,
    owner: &str,
    duration: Duration,
) -> Result<Result<(i64, bool), (String, Duration)>, StoreInternalError> {
    let mut work = connection.begin(Purpose::Write).await?;
    let conn = work.conn();
    query(
        "INSERT INTO stockbridge.lease (name, owner, epoch, until) \
         VALUES ($1, '', 0, clock_timestamp()) ON CONFLICT (name) DO NOTHING",
    )
    .bind(name.to_owned())
    .execute(&mut *conn)
    .await?;
    let row = query(
        "SELECT owner, epoch, ceil(extract(epoch FROM until - clock_timestamp()) * 1000)::bigint \
         FROM stockbridge.lease WHERE name = $1 FOR UPDATE",
    )
    .bind(name.to_owned())
    .fetch_one(&mut *conn)
    .await?;
    let (last_owner, epoch, left): (String, i64, i64) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if last_owner != owner && left > 0 {
        work.roll_back().await?;
        let left = Duration::from_millis(left.unsigned_abs());
        return Ok(Err((last_owner, left)));
    }
    let epoch = if last_owner == owner {
        epoch
    } else {
        epoch + 1
    };
    let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    query(
        "UPDATE stockbridge.lease SET owner = $2, epoch = $3, \
         until = clock_timestamp() + $4 * interval '1 millisecond' WHERE name = $1",
    )
    .bind(name.to_owned())
    .bind(owner.to_owned())
    .bind(epoch)
    .bind(ms)
    .execute(&mut *conn)
    .await?;
    work.commit().await?;
    Ok(Ok((epoch, last_owner.is_empty())))
}

/// Returns the time of the database in microseconds, if the lease still belongs to the caller. Until
/// the end of the transaction no other process can take it.
pub(super) async fn check_fence(
    conn: &mut PgConnection,
    fence: &Fence,
) -> Result<Option<i64>, StoreInternalError> {
    let row = query(
        "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint \
         FROM stockbridge.lease WHERE name = $1 AND owner = $2 AND epoch = $3 FOR SHARE",
    )
    .bind(fence.lease.clone())
    .bind(fence.owner.clone())
    .bind(fence.epoch)
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}
