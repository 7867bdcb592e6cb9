//! Stock from the seller's own database: the rows of one query in a read-only transaction.
//!
//! The query is the seller's and runs under the seller's grants; only the value of its placeholder
//! is added. Each run opens one connection and closes it at its end. Every wait has a timeout: one
//! is set on the server, and a slightly longer one here applies even if the server ignores it.

mod cell;
mod columns;
mod mysql;
mod placeholder;
mod postgres;
mod row_reader;
mod source;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use percent_encoding::percent_decode_str;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};
use stock_import::formats::FileShape;
use stock_import::{DeliveryCancelled, DeliveryScope, ReadSettings};
use strict_http::secret::Secret;
use tokio::time::timeout;

use self::cell::{Dialect, SqlRow};
use self::columns::SqlColumns;
use self::placeholder::PreparedQuery;
use self::row_reader::SqlReadSettings;
use crate::EntrySender;

pub use self::source::SqlSource;

/// Timeout of connecting and logging in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bounds of [`Config::timeout`]: the servers take it as whole milliseconds, and 0 as no limit.
const TIMEOUT_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

/// Extra wait after the server's own timeout, so that its error message arrives.
const GRACE_PERIOD: Duration = Duration::from_secs(5);

/// Timeout of closing the connection. A close that fails does not affect the rows.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Address of a database with user name and password, which `Display` and `Debug` omit.
#[derive(Clone)]
pub struct DatabaseUrl {
    server: DatabaseOptions,
    display: String,
    password: Option<Secret>,
}

#[derive(Clone)]
enum DatabaseOptions {
    Postgres(Box<PgConnectOptions>),
    MySql(Box<MySqlConnectOptions>),
}

impl DatabaseUrl {
    /// Reads `postgres://name:password@host:port/database?sslmode=require`, or the same with
    /// `mysql` and `ssl-mode`.
    ///
    /// # Errors
    /// The text is not such a URL.
    pub fn parse(text: &str) -> Result<Self, SqlError> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let password = find_password(rest);
        let invalid = |e: &sqlx::Error| {
            let reason = redact(&describe_error(e), password.as_ref());
            SqlError::Config(format!("url is invalid: {reason}"))
        };
        let (server, name, host, port, database) = match scheme {
            "postgres" | "postgresql" => {
                let options: PgConnectOptions = text.parse().map_err(|e| invalid(&e))?;
                let options = options
                    .application_name("stockbridge")
                    .disable_statement_logging();
                let (host, port) = (options.get_host().to_owned(), options.get_port());
                let database = options.get_database().unwrap_or_default().to_owned();
                (
                    DatabaseOptions::Postgres(Box::new(options)),
                    "postgres",
                    host,
                    port,
                    database,
                )
            }
            "mysql" | "mariadb" => {
                let options: MySqlConnectOptions = text.parse().map_err(|e| invalid(&e))?;
                // The server's own settings decide how a query is interpreted.
                let options = options.pipes_as_concat(false).no_engine_substitution(false);
                let options = options.disable_statement_logging();
                let (host, port) = (options.get_host().to_owned(), options.get_port());
                let database = options.get_database().unwrap_or_default().to_owned();
                (
                    DatabaseOptions::MySql(Box::new(options)),
                    "mysql",
                    host,
                    port,
                    database,
                )
            }
            _ => {
                let rule = "url must begin with postgres:// or mysql://";
                return Err(SqlError::Config(rule.to_owned()));
            }
        };
        let display = format!("{name}://{host}:{port}/{database}");
        Ok(Self {
            server,
            display,
            password,
        })
    }

    fn dialect(&self) -> Dialect {
        match self.server {
            DatabaseOptions::Postgres(_) => Dialect::Postgres,
            DatabaseOptions::MySql(_) => Dialect::MySql,
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display)
    }
}

/// Returns the password in the part of a URL after `://`, still percent-encoded.
fn find_password(rest: &str) -> Option<Secret> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _host)| user);
    let after_name = user
        .split_once(':')
        .map_or("", |(_name, password)| password);
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let named = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("password="));
    let password = named.unwrap_or(after_name);
    (!password.is_empty()).then(|| Secret::new(password))
}

/// Settings of a source that queries a database.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address and credentials.
    pub url: DatabaseUrl,
    /// One `SELECT` with named columns.
    pub query: String,
    /// Timeout from the start of the query to its last row: 1 s to 24 h.
    pub timeout: Duration,
    /// Column that orders the changes, if the query returns changes only: its greatest value
    /// replaces `:since` in the next run. Until a run returns a row, `:since` is `NULL`.
    ///
    /// `:since` is text in the format of the database, and the query casts it:
    /// `where :since::timestamptz is null or changed_at > :since::timestamptz`, in MySQL
    /// `cast(:since as datetime(6))`. Rows of a transaction that was still open when the last run
    /// began are found only if the query looks back a little:
    /// `:since::timestamptz - interval '5 minutes'`.
    pub watermark: Option<String>,
}

impl Config {
    /// Checks the settings without connecting to the database.
    ///
    /// # Errors
    /// The query is empty, the timeout is out of range, or only one of placeholder and watermark is
    /// present.
    pub fn validate(&self) -> Result<(), SqlError> {
        let invalid = |text: &str| Err(SqlError::Config(text.to_owned()));
        if self.query.trim().is_empty() {
            return invalid("query is empty, it must be a SELECT");
        }
        if !TIMEOUT_RANGE.contains(&self.timeout) {
            let rule = "it must be between 1 s and 24 h";
            return invalid(&format!(
                "timeout is {} s, {rule}",
                self.timeout.as_secs_f64()
            ));
        }
        match (
            placeholder::replace_placeholders(&self.query, self.url.dialect()).parameter_count,
            &self.watermark,
        ) {
            (0, Some(_)) => invalid("watermark is set, so the query must use :since"),
            (1.., None) => invalid("the query uses :since, so watermark must name a column"),
            (0, None) | (1.., Some(_)) => Ok(()),
        }
    }
}

/// Result of one run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QuerySummary {
    /// `Delta` if the query has a watermark, otherwise `Snapshot`.
    pub scope: DeliveryScope,
    /// Watermark for the next run, to be stored once this run is applied: the greatest value read,
    /// or the previous one if no row was read.
    pub watermark: Option<String>,
    /// Number of rows read.
    pub rows: u64,
    /// Columns and their types; `None` for a result without rows.
    pub shape: Option<FileShape>,
}

/// Failure of a run. No text contains the password.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The settings are invalid.
    #[error("{0}")]
    Config(String),
    /// The server is not reachable, or rejects the login.
    #[error("cannot connect to {target}: {reason}")]
    Connect {
        /// Server and database.
        target: String,
        /// Message of the server, or ours.
        reason: String,
    },
    /// The query failed, at its start or later.
    #[error("the query at {target} failed: {reason}")]
    Query {
        /// Server and database.
        target: String,
        /// Message of the server, or ours.
        reason: String,
    },
    /// A column is missing or has an unsuitable type.
    #[error("{0}")]
    InvalidColumns(String),
    /// The run did not finish in time.
    #[error(
        "{target} has not finished within {} s: raise timeout_seconds, or make the query faster",
        after.as_secs()
    )]
    TimedOut {
        /// Server and database.
        target: String,
        /// Length of the wait.
        after: Duration,
    },
    /// The receiver of the rows is gone.
    #[error(transparent)]
    Cancelled(#[from] DeliveryCancelled),
}

/// Runs the query once and sends its rows. An unreadable value rejects only its row.
///
/// The delivery is complete only if this returns `Ok`.
///
/// # Errors
/// The server is not reachable, the query fails or takes too long, or a column is missing or has
/// an unsuitable type.
pub async fn read(
    config: &Config,
    settings: &ReadSettings,
    since: Option<&str>,
    rows: &mut EntrySender,
) -> Result<QuerySummary, SqlError> {
    config.validate()?;
    let query_run = QueryRun {
        config,
        settings,
        since,
        prepared: placeholder::replace_placeholders(&config.query, config.url.dialect()),
    };
    let after = CONNECT_TIMEOUT + config.timeout + GRACE_PERIOD;
    let running = async {
        match &config.url.server {
            DatabaseOptions::Postgres(options) => {
                postgres::run_query(&query_run, options, rows).await
            }
            DatabaseOptions::MySql(options) => mysql::run_query(&query_run, options, rows).await,
        }
    };
    let target = config.url.to_string();
    timeout(after, running)
        .await
        .map_err(|_elapsed| SqlError::TimedOut { target, after })?
}

/// One run of a query.
struct QueryRun<'a> {
    config: &'a Config,
    settings: &'a ReadSettings,
    since: Option<&'a str>,
    prepared: PreparedQuery,
}

impl QueryRun<'_> {
    /// Returns the SQL text to send.
    fn statement(&self) -> AssertSqlSafe<String> {
        AssertSqlSafe(self.prepared.query.clone())
    }

    /// Opens the connection of this run.
    async fn connect<O>(&self, options: &O) -> Result<O::Connection, SqlError>
    where
        O: ConnectOptions<Connection: Sized>,
    {
        let connect_error = |reason| SqlError::Connect {
            target: self.config.url.to_string(),
            reason,
        };
        match timeout(CONNECT_TIMEOUT, options.connect()).await {
            Ok(connected) => connected.map_err(|e| connect_error(self.error_reason(&e))),
            Err(_elapsed) => Err(connect_error(format!(
                "no response within {} s",
                CONNECT_TIMEOUT.as_secs()
            ))),
        }
    }

    /// Sends every row of a result, with one of them in memory at a time.
    async fn read_rows<R: SqlRow>(
        &self,
        mut fetched: impl Stream<Item = Result<R, sqlx::Error>> + Unpin,
        rows: &mut EntrySender,
    ) -> Result<QuerySummary, SqlError> {
        let dialect = self.config.url.dialect();
        let row_settings = SqlReadSettings::new(self.settings);
        let mut columns: Option<SqlColumns> = None;
        let mut count = 0_u64;
        let mut has_quantity = self.settings.zeroes_empty_quantities;
        let mut max_watermark = None;
        while let Some(row) = fetched.next().await {
            let row = row.map_err(|e| self.query_error(&e))?;
            let columns = match &mut columns {
                Some(columns) => columns,
                unset => {
                    let watermark = self.config.watermark.as_deref();
                    let found = SqlColumns::find(&row.columns(), dialect, self.settings, watermark);
                    unset.insert(found.map_err(SqlError::InvalidColumns)?)
                }
            };
            count += 1;
            has_quantity = has_quantity || columns.has_quantity(&row);
            rows.send(columns.read_entry(&row, count, &row_settings))
                .await?;
            columns.update_max_watermark(&row, &mut max_watermark);
        }
        rows.flush().await?;
        // A few changed rows may all lack a quantity; in a snapshot that is a mistake.
        let is_snapshot = self.config.watermark.is_none() || self.since.is_none();
        if let Some(columns) = &columns
            && is_snapshot
            && !has_quantity
        {
            return Err(SqlError::InvalidColumns(columns.no_quantity_message(count)));
        }
        let new_watermark = max_watermark.map(|value| value.to_sql(dialect));
        let (scope, watermark) = match self.config.watermark {
            Some(_) => (
                DeliveryScope::Delta,
                new_watermark.or_else(|| self.since.map(str::to_owned)),
            ),
            None => (DeliveryScope::Snapshot, None),
        };
        let shape = columns.as_ref().map(SqlColumns::describe);
        Ok(QuerySummary {
            scope,
            watermark,
            rows: count,
            shape,
        })
    }

    fn query_error(&self, error: &sqlx::Error) -> SqlError {
        SqlError::Query {
            target: self.config.url.to_string(),
            reason: self.error_reason(error),
        }
    }

    fn error_reason(&self, error: &sqlx::Error) -> String {
        redact(&describe_error(error), self.config.url.password.as_ref())
    }
}

/// Returns the error text, followed by advice if there is one.
fn describe_error(error: &sqlx::Error) -> String {
    let text = match error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        sqlx::Error::Io(io) => io.to_string(),
        sqlx::Error::Configuration(cause) => cause.to_string(),
        other => other.to_string(),
    };
    match advice(error, &text) {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}

fn advice(error: &sqlx::Error, text: &str) -> Option<&'static str> {
    if text.contains("RSA auth backend") {
        return Some(
            "this user logs in with caching_sha2_password or sha256_password, which needs an \
             encrypted connection: add ?ssl-mode=REQUIRED to the url, or give the user another \
             plugin, such as mysql_native_password",
        );
    }
    let code = error.as_database_error()?.code()?;
    match code.as_ref() {
        // undefined_function, datatype_mismatch
        "42883" | "42804" => {
            Some("if this is about :since, cast it: :since::timestamptz, :since::bigint")
        }
        // query_canceled; ER_QUERY_TIMEOUT and ER_STATEMENT_TIMEOUT have several states.
        "57014" | "70100" => {
            Some("raise timeout_seconds, which limits the query, or make the query faster")
        }
        _ if text.contains("maximum statement execution time") => {
            Some("raise timeout_seconds, which limits the query, or make the query faster")
        }
        _ => None,
    }
}

/// Replaces the password in a text, percent-encoded or decoded.
fn redact(text: &str, password: Option<&Secret>) -> String {
    let Some(password) = password else {
        return text.to_owned();
    };
    let decoded = percent_decode_str(password.expose()).decode_utf8_lossy();
    text.replace(password.expose(), "***")
        .replace(decoded.as_ref(), "***")
}
