//! Connection to PostgreSQL: transactions with timeouts, and classification of errors.
//!
//! Only transactions are used, so that a pooler in transaction mode may be in between, and
//! statements have no name, because a pooler may already have one of that name. A connection on
//! which anything failed or was dropped is closed, so the server rolls its transaction back.

use std::time::Duration;

use sqlx::postgres::{PgConnection, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use tokio::time::{Instant, timeout};

use super::StoreUrl;
use super::database_problem::{ConnectionFailure, DatabaseProblem};
use crate::store::StoreError;
use crate::store::error::StoreInternalError;

/// Timeout of connecting and logging in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time after a failed connection in which no further one is tried, so that callers that wait for
/// the connection do not wait for one timeout each.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Timeout of one transaction.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time after which the server ends a transaction whose process is silent, because it was stopped or
/// cut off. Others wait that long for what it has locked, and the same time for its row as a replica.
///
/// The time in which the server receives one statement counts too.
const IDLE_LIMIT: Duration = Duration::from_secs(5);

/// The same for a transaction that writes everything, in statements of a megabyte.
const BULK_IDLE_LIMIT: Duration = Duration::from_secs(8);

/// Longest wait for a lock of another process.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The same while the other tasks of this process wait for the connection, above all the one that
/// follows the other replicas: each of them may wait for it once before that one gets its turn, and the
/// permit to answer the Market is eight times as long.
const SHARED_LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// Timeout of reading or writing the whole stock.
pub(super) const BULK_TIMEOUT: Duration = Duration::from_mins(10);

/// Purpose of a transaction, which decides its isolation and its timeouts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// Short change.
    Write,
    /// Short change on the connection of the store, for which other tasks wait. It waits only briefly
    /// for a lock.
    SharedWrite,
    /// Read of everything at one moment.
    ReadAll,
    /// Read of everything at one moment, and then a renewal of the row of this replica.
    Renewal,
    /// Write of a snapshot or of the tables.
    WriteAll,
}

/// Connection that is opened when it is needed.
#[derive(Debug)]
pub(super) struct PostgresConnection {
    url: StoreUrl,
    conn: Option<PgConnection>,
    failed_at: Option<(Instant, ConnectionFailure)>,
}

/// Open transaction. The connection returns to its owner at the end of it; when the transaction is
/// dropped before, the connection is closed.
#[derive(Debug)]
pub(super) struct PostgresWork<'a> {
    owner: &'a mut PostgresConnection,
    conn: PgConnection,
}

impl PostgresConnection {
    pub(super) fn new(url: StoreUrl) -> Self {
        Self {
            url,
            conn: None,
            failed_at: None,
        }
    }

    /// Begins a transaction, on a new connection if there is none.
    pub(super) async fn begin(
        &mut self,
        purpose: Purpose,
    ) -> Result<PostgresWork<'_>, StoreInternalError> {
        let begin = match purpose {
            Purpose::Write | Purpose::SharedWrite | Purpose::WriteAll => {
                "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE"
            }
            Purpose::ReadAll => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            Purpose::Renewal => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ WRITE",
        };
        let limit = match purpose {
            Purpose::Write | Purpose::SharedWrite => WRITE_TIMEOUT,
            Purpose::ReadAll | Purpose::Renewal | Purpose::WriteAll => BULK_TIMEOUT,
        };
        let idle_limit = match purpose {
            Purpose::Write | Purpose::SharedWrite => IDLE_LIMIT,
            Purpose::WriteAll => BULK_IDLE_LIMIT,
            // They lock nothing of others, and memory may take a while for what was read.
            Purpose::ReadAll | Purpose::Renewal => BULK_TIMEOUT,
        };
        let lock_timeout = match purpose {
            Purpose::SharedWrite | Purpose::Renewal => SHARED_LOCK_TIMEOUT,
            Purpose::Write | Purpose::ReadAll | Purpose::WriteAll => LOCK_TIMEOUT,
        };
        // Local to the transaction, so that a pooler does not keep them. A server that was set to
        // acknowledge before it has written would lose acknowledged changes.
        let (ms, lock_ms) = (limit.as_millis(), lock_timeout.as_millis());
        let idle_ms = idle_limit.as_millis();
        let prelude = format!(
            "{begin}; SET LOCAL statement_timeout = {ms}; SET LOCAL lock_timeout = {lock_ms}; \
             SET LOCAL idle_in_transaction_session_timeout = {idle_ms}; SET LOCAL bytea_output = 'hex'; \
             SELECT set_config('synchronous_commit', 'on', true) \
             WHERE current_setting('synchronous_commit') = 'off'"
        );
        let was_open = self.conn.is_some();
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.connect().await?,
        };
        match start(conn, &prelude).await {
            Ok(conn) => Ok(PostgresWork { owner: self, conn }),
            // The server may have closed an idle connection, as at a restart.
            Err(_) if was_open => {
                let conn = self.connect().await?;
                let conn = start(conn, &prelude).await?;
                Ok(PostgresWork { owner: self, conn })
            }
            Err(error) => Err(error),
        }
    }

    /// Converts an error for callers.
    pub(super) fn to_store_error(&self, internal: StoreInternalError) -> StoreError {
        to_store_error(&self.url, internal)
    }

    /// Closes the connection.
    pub(super) async fn close(&mut self) {
        if let Some(conn) = self.conn.take() {
            // A failed close does no harm.
            let _closed = timeout(Duration::from_secs(1), conn.close()).await;
        }
    }

    async fn connect(&mut self) -> Result<PgConnection, StoreInternalError> {
        if let Some((at, failure)) = &self.failed_at
            && at.elapsed() < RETRY_DELAY
        {
            return Err(failure.clone().into_error().into());
        }
        let connected = timeout(CONNECT_TIMEOUT, connect(&self.url)).await;
        let result = connected.unwrap_or_else(|_| {
            let text = format!("no connection within {} s", CONNECT_TIMEOUT.as_secs());
            let error = std::io::Error::new(std::io::ErrorKind::TimedOut, text);
            Err(StoreInternalError::Database(sqlx::Error::Io(error)))
        });
        self.failed_at = match &result {
            Ok(_) => None,
            Err(error) => Some((Instant::now(), describe(error))),
        };
        result
    }
}

impl PostgresWork<'_> {
    pub(super) fn conn(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    /// Commits. After an error it is unknown if the changes are in the database.
    pub(super) async fn commit(self) -> Result<(), StoreInternalError> {
        self.end("COMMIT").await
    }

    /// Rolls back, to keep the connection.
    pub(super) async fn roll_back(self) -> Result<(), StoreInternalError> {
        self.end("ROLLBACK").await
    }

    async fn end(mut self, statement: &'static str) -> Result<(), StoreInternalError> {
        self.conn.execute(sqlx::raw_sql(statement)).await?;
        self.owner.conn = Some(self.conn);
        Ok(())
    }
}

/// Returns a statement without a name on the server.
pub(super) fn query(sql: &'static str) -> Query<'static, Postgres, sqlx::postgres::PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// Waits for an operation at most this long. A dropped operation closes its connection.
pub(super) async fn with_limit<T>(
    limit: Duration,
    operation: impl Future<Output = Result<T, StoreInternalError>>,
) -> Result<T, StoreInternalError> {
    timeout(limit, operation).await.unwrap_or_else(|_| {
        let text = format!("no response within {} s", limit.as_secs());
        let error = std::io::Error::new(std::io::ErrorKind::TimedOut, text);
        Err(StoreInternalError::Database(sqlx::Error::Io(error)))
    })
}

async fn start(mut conn: PgConnection, prelude: &str) -> Result<PgConnection, StoreInternalError> {
    let prelude = AssertSqlSafe(prelude.to_owned());
    conn.execute(sqlx::raw_sql(prelude)).await?;
    Ok(conn)
}

async fn connect(url: &StoreUrl) -> Result<PgConnection, StoreInternalError> {
    let mut conn = url.options().connect().await?;
    let state = sqlx::raw_sql("SELECT pg_is_in_recovery()")
        .fetch_one(&mut conn)
        .await?;
    if state.try_get(0)? {
        let what = "the server is a standby, which accepts no changes; set store_url_file to the \
                    primary server, or to an address that leads to it after a failover";
        let failure = ConnectionFailure {
            what: what.to_owned(),
            problem: DatabaseProblem::Described,
        };
        return Err(failure.into_error().into());
    }
    Ok(conn)
}

/// Converts an internal error of the store at `url`.
pub(super) fn to_store_error(url: &StoreUrl, internal: StoreInternalError) -> StoreError {
    let target = url.to_string();
    let error = match internal {
        StoreInternalError::Closed => return StoreError::Closed,
        StoreInternalError::Damaged(what) => return StoreError::DamagedDatabase { target, what },
        StoreInternalError::ChangedDuringStart => {
            let what = "another process has changed the stock during the start: start again";
            let what = what.to_owned();
            let problem = DatabaseProblem::Described;
            return StoreError::DatabaseUnusable {
                target,
                what,
                problem,
            };
        }
        StoreInternalError::Database(error) => error,
    };
    match &error {
        // SQLSTATE of a full disk. Source: PostgreSQL's documentation, appendix A.
        sqlx::Error::Database(database) if database.code().as_deref() == Some("53100") => {
            StoreError::DiskFull
        }
        // Values of a type that our tables do not have.
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnNotFound(_) => StoreError::DamagedDatabase {
            target,
            what: error.to_string(),
        },
        _ => StoreError::DatabaseUnusable {
            target,
            what: describe_database(&error),
            problem: DatabaseProblem::of(&error),
        },
    }
}

fn describe(error: &StoreInternalError) -> ConnectionFailure {
    let (what, problem) = match error {
        StoreInternalError::Database(error) => {
            (describe_database(error), DatabaseProblem::of(error))
        }
        StoreInternalError::Damaged(what) => (what.clone(), DatabaseProblem::Other),
        StoreInternalError::Closed => (StoreError::Closed.to_string(), DatabaseProblem::Described),
        StoreInternalError::ChangedDuringStart => {
            ("the stock has changed".to_owned(), DatabaseProblem::Other)
        }
    };
    ConnectionFailure { what, problem }
}

/// Returns the server's own message, or that of the network.
fn describe_database(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Returns true if the statement collided with one of another connection.
pub(super) fn is_conflict(error: &StoreInternalError) -> bool {
    // Unique violation, serialization failure, deadlock, and lock not available.
    const CONFLICTS: [&str; 4] = ["23505", "40001", "40P01", "55P03"];
    let StoreInternalError::Database(sqlx::Error::Database(error)) = error else {
        return false;
    };
    error
        .code()
        .is_some_and(|code| CONFLICTS.contains(&code.as_ref()))
}
