//! Connection to PostgreSQL: transactions with timeouts, and classification of errors.
//!
//! Only transactions are used, so that a pooler in transaction mode may be in between, and
//! statements have no name, because a pooler may already have one of that name. A connection on
//! which anything failed or was dropped is closed, so the server rolls its transaction back.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgConnection, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use tokio::time::{Instant, timeout};

use super::StoreUrl;
use super::commit_watch::CommitWatch;
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

/// Time after which the server ends a silent transaction that writes everything, in statements of a
/// megabyte.
const BULK_IDLE_LIMIT: Duration = Duration::from_secs(8);

/// Longest wait for a lock of another process.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for a lock of another process on the connection of the store. The other tasks of this
/// process wait for that, above all the one that follows the other replicas: each of them may wait for it
/// once before that one gets its turn, and the permit to answer the Market is eight times as long.
const SHARED_LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// Longest wait for the lock under which the server sends notifications one after the other.
const NOTIFY_LOCK_TIMEOUT: Duration = Duration::from_millis(200);

/// Duration of a commit above which it has probably waited for a standby, so that the wait is repeated.
const SLOW_COMMIT: Duration = Duration::from_millis(500);

/// Makes a commit wait for the standby, if the server has one to wait for: a transaction that has written
/// nothing does not wait. The message changes no table.
///
/// A standby that has a commit has everything that was committed before it.
const WAIT_FOR_STANDBY: &str = "\
SELECT pg_logical_emit_message(true, 'stockbridge', '') \
WHERE current_setting('synchronous_standby_names') <> ''";

/// Raises a setting with which the server acknowledges before it has written.
const WRITE_BEFORE_COMMIT: &str = "\
SELECT set_config('synchronous_commit', 'on', true) \
WHERE current_setting('synchronous_commit') = 'off'";

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
    /// Watch of the commits.
    commits: Option<CommitWatch>,
}

/// Open transaction. The connection returns to its owner at the end of it; when the transaction is
/// dropped before, the connection is closed.
#[derive(Debug)]
pub(super) struct PostgresWork<'a> {
    owner: &'a mut PostgresConnection,
    conn: PgConnection,
    /// Watch of the commit, and the longest wait for it.
    commits: Option<(Duration, CommitWatch)>,
}

impl PostgresConnection {
    pub(super) fn new(url: StoreUrl) -> Self {
        Self {
            url,
            conn: None,
            failed_at: None,
            commits: None,
        }
    }

    /// Limits the wait for commits, and notes that one was given up.
    pub(super) fn watch_commits(&mut self, commits: CommitWatch) {
        self.commits = Some(commits);
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
             {WRITE_BEFORE_COMMIT}"
        );
        let watched = self.commits.clone();
        let commits = watched.and_then(|commits| Some((commits.limit_of(purpose)?, commits)));
        let was_open = self.conn.is_some();
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.connect().await?,
        };
        let conn = match start(conn, &prelude).await {
            // The server may have closed an idle connection, as at a restart.
            Err(_) if was_open => start(self.connect().await?, &prelude).await?,
            started => started?,
        };
        Ok(PostgresWork {
            owner: self,
            conn,
            commits,
        })
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
        self.end(async |conn| commit(conn, "COMMIT").await).await
    }

    /// Commits, and then wakes the other processes with `what` and the id of this one.
    ///
    /// The server sends the notifications of one transaction after the other, those of other databases
    /// too, and a commit that waits for a standby would stop them all, and with them the renewals of the
    /// replicas. So the notification is a transaction of its own. It need not arrive.
    pub(super) async fn commit_and_notify(
        self,
        what: &str,
        id: &str,
    ) -> Result<(), StoreInternalError> {
        let ms = NOTIFY_LOCK_TIMEOUT.as_millis();
        let statements = format!(
            "COMMIT; SELECT set_config('lock_timeout', '{ms}', true); \
             SELECT pg_notify('stockbridge', '{what} {id}')"
        );
        self.end(async |conn| commit(conn, &statements).await).await
    }

    /// Ends a transaction that has changed nothing, after the changes that it has seen are on the standby
    /// for which the server waits.
    ///
    /// A change can be seen without it: if the server was stopped, or its wait was cancelled.
    pub(super) async fn confirm(self) -> Result<(), StoreInternalError> {
        let statements = format!("{WAIT_FOR_STANDBY}; COMMIT");
        self.end(async |conn| execute(conn, &statements).await)
            .await
    }

    /// Rolls back, to keep the connection.
    pub(super) async fn roll_back(self) -> Result<(), StoreInternalError> {
        let Self {
            owner, mut conn, ..
        } = self;
        execute(&mut conn, "ROLLBACK").await?;
        owner.conn = Some(conn);
        Ok(())
    }

    async fn end(
        self,
        ending: impl AsyncFnOnce(&mut PgConnection) -> Result<(), StoreInternalError>,
    ) -> Result<(), StoreInternalError> {
        let Self {
            owner,
            mut conn,
            commits,
        } = self;
        match commits {
            Some((limit, commits)) => end_watched(&mut conn, (limit, &commits), ending).await?,
            None => ending(&mut conn).await?,
        }
        owner.conn = Some(conn);
        Ok(())
    }
}

/// Ends a transaction, unless the server takes too long to confirm that.
async fn end_watched(
    conn: &mut PgConnection,
    (limit, commits): (Duration, &CommitWatch),
    ending: impl AsyncFnOnce(&mut PgConnection) -> Result<(), StoreInternalError>,
) -> Result<(), StoreInternalError> {
    let started = Instant::now();
    let ended = timeout(limit, async {
        ending(conn).await?;
        if started.elapsed() >= SLOW_COMMIT {
            // A wait for the standby that a person cancels ends with a warning, which the driver does not
            // pass on. The second wait is not cancelled.
            let again = format!("BEGIN; {WRITE_BEFORE_COMMIT}; {WAIT_FOR_STANDBY}; COMMIT");
            execute(conn, &again).await?;
        }
        Ok(())
    });
    ended.await.unwrap_or_else(|_| {
        commits.note_stalled();
        Err(StoreInternalError::Unconfirmed(limit))
    })
}

/// Runs statements of which the first one commits. Errors of the later ones are ignored, because the
/// commit is done.
async fn commit(conn: &mut PgConnection, statements: &str) -> Result<(), StoreInternalError> {
    let mut is_committed = false;
    let mut results = conn.fetch_many(sqlx::raw_sql(AssertSqlSafe(statements.to_owned())));
    loop {
        match results.try_next().await {
            Ok(Some(_)) => is_committed = true,
            Ok(None) => return Ok(()),
            Err(_) if is_committed => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn execute(conn: &mut PgConnection, statements: &str) -> Result<(), StoreInternalError> {
    let statements = AssertSqlSafe(statements.to_owned());
    conn.execute(sqlx::raw_sql(statements)).await?;
    Ok(())
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
    execute(&mut conn, prelude).await?;
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
        StoreInternalError::Unconfirmed(limit) => {
            return StoreError::DatabaseUnusable {
                target,
                what: describe_unconfirmed(limit),
                problem: DatabaseProblem::Unconfirmed,
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
        StoreInternalError::Unconfirmed(limit) => {
            (describe_unconfirmed(*limit), DatabaseProblem::Unconfirmed)
        }
    };
    ConnectionFailure { what, problem }
}

fn describe_unconfirmed(limit: Duration) -> String {
    let seconds = limit.as_secs();
    format!("the server has not confirmed a commit within {seconds} s")
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
