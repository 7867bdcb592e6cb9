//! Leases: rights that one process at a time has, by the clock of the database.
//!
//! The clocks of the processes do not matter. A process counts a lease from the moment before it
//! sent the request, so it never believes in its lease for longer than the database does, as long
//! as its monotonic clock is not slower by more than the margin of the caller.

use std::time::Duration;

use sqlx::Row;
use tokio::time::Instant;

use super::StoreUrl;
use super::connection::{PostgresConnection, Purpose, WRITE_TIMEOUT, query, with_limit};
use crate::store::StoreError;
use crate::store::error::StoreInternalError;

/// Leases in the database, on a connection of their own, so that a renewal never waits for an
/// append.
#[derive(Debug)]
pub struct LeaseTable {
    connection: tokio::sync::Mutex<PostgresConnection>,
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
}

impl LeaseTable {
    pub(super) fn new(url: StoreUrl) -> Self {
        Self {
            connection: tokio::sync::Mutex::new(PostgresConnection::new(url)),
        }
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
            Ok(epoch) => LeaseOutcome::Held(Lease {
                epoch,
                valid_until: asked_at + duration,
            }),
            Err((owner, left)) => LeaseOutcome::Taken { owner, left },
        })
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
                "UPDATE stockbridge.lease SET until = clock_timestamp() \
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

/// Returns the epoch, or the other owner and how long its lease lasts.
async fn acquire(
    connection: &mut PostgresConnection,
    name: &str,
    owner: &str,
    duration: Duration,
) -> Result<Result<i64, (String, Duration)>, StoreInternalError> {
    let mut work = connection.begin(Purpose::Write).await?;
    let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let taken = query(
        "INSERT INTO stockbridge.lease AS l (name, owner, epoch, until) \
         VALUES ($1, $2, 1, clock_timestamp() + $3 * interval '1 millisecond') \
         ON CONFLICT (name) DO UPDATE SET owner = $2, \
         epoch = l.epoch + CASE WHEN l.owner = $2 THEN 0 ELSE 1 END, \
         until = clock_timestamp() + $3 * interval '1 millisecond' \
         WHERE l.owner = $2 OR l.until <= clock_timestamp() RETURNING epoch",
    )
    .bind(name.to_owned())
    .bind(owner.to_owned())
    .bind(ms)
    .fetch_optional(work.conn())
    .await?;
    if let Some(row) = taken {
        work.commit().await?;
        return Ok(Ok(row.try_get(0)?));
    }
    let row = query(
        "SELECT owner, greatest(0, ceil(extract(epoch FROM until - clock_timestamp()) * 1000))::bigint \
         FROM stockbridge.lease WHERE name = $1",
    )
    .bind(name.to_owned())
    .fetch_one(work.conn())
    .await?;
    work.roll_back().await?;
    let (owner, left): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
    let left = Duration::from_millis(left.unsigned_abs());
    Ok(Err((owner, left)))
}
