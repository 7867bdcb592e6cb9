//! Runs a query on MySQL or MariaDB in a read-only transaction with a server-side timeout, and
//! reads its cells.

use chrono::NaiveDateTime;
use sqlx::mysql::{MySqlColumn, MySqlConnectOptions, MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Column as _, Connection, Decode, Executor, MySql, Row, Type, TypeInfo};
use tokio::time::timeout;
use tracing::debug;

use super::cell::{ColumnKind, SqlCell, SqlColumn, SqlRow};
use super::{CLOSE_TIMEOUT, QueryRun, QuerySummary, SqlError};
use crate::EntrySender;

/// Runs the query on a MySQL or MariaDB server.
pub(super) async fn run_query(
    run: &QueryRun<'_>,
    options: &MySqlConnectOptions,
    rows: &mut EntrySender,
) -> Result<QuerySummary, SqlError> {
    let mut connection = run.connect(options).await?;
    let result = run_in_transaction(run, &mut connection, rows).await;
    match result {
        // Closing the socket saves reading the rest of a failed run.
        Err(_) => drop(connection),
        Ok(_) => drop(timeout(CLOSE_TIMEOUT, connection.close()).await),
    }
    result
}

async fn run_in_transaction(
    run: &QueryRun<'_>,
    connection: &mut MySqlConnection,
    rows: &mut EntrySender,
) -> Result<QuerySummary, SqlError> {
    set_limits(run, connection).await?;
    // Also for the session: a statement after an early end of the transaction cannot write either.
    let session = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
    connection
        .execute(session)
        .await
        .map_err(|e| run.query_error(&e))?;
    let begin = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
    let mut transaction = connection
        .begin_with(begin)
        .await
        .map_err(|e| run.query_error(&e))?;
    // A prepared query cannot contain a second statement.
    let mut query = sqlx::query(run.statement()).persistent(false);
    for _ in 0..run.prepared.parameter_count {
        query = query.bind(run.since);
    }
    let summary = run.read_rows(query.fetch(&mut *transaction), rows).await?;
    transaction
        .rollback()
        .await
        .map_err(|e| run.query_error(&e))?;
    Ok(summary)
}

/// Sets the server-side timeouts; the variables differ between MySQL and MariaDB.
async fn set_limits(run: &QueryRun<'_>, connection: &mut MySqlConnection) -> Result<(), SqlError> {
    let version: String = sqlx::query_scalar("SELECT VERSION()")
        .fetch_one(&mut *connection)
        .await
        .map_err(|e| run.query_error(&e))?;
    let limit = run.config.timeout;
    let statement = if version.contains("MariaDB") {
        format!("SET SESSION max_statement_time = {}", limit.as_secs_f64())
    } else {
        format!("SET SESSION max_execution_time = {}", limit.as_millis())
    };
    // The server's default could close the connection while we are slow to read the rows.
    let write_timeout = format!(
        "SET SESSION net_write_timeout = {}",
        limit.as_secs().max(60)
    );
    for statement in [statement, write_timeout] {
        if let Err(error) = connection.execute(AssertSqlSafe(statement)).await {
            // A server from before 2015 does not have such a limit; our own timeout still applies.
            let Some(_) = error.as_database_error() else {
                return Err(run.query_error(&error));
            };
            debug!(
                version,
                "the server rejected a query timeout: {}",
                run.error_reason(&error)
            );
        }
    }
    Ok(())
}

impl SqlRow for MySqlRow {
    fn columns(&self) -> Vec<(String, String)> {
        let name_and_type = |column: &MySqlColumn| {
            (
                column.name().to_owned(),
                column.type_info().name().to_owned(),
            )
        };
        Row::columns(self).iter().map(name_and_type).collect()
    }

    fn cell(&self, column: &SqlColumn) -> Result<Option<SqlCell>, String> {
        let index = column.index;
        Ok(match column.kind {
            ColumnKind::Integer => {
                get_value::<i64>(self, index)?.map(|n| SqlCell::Integer(n.into()))
            }
            ColumnKind::Unsigned => {
                get_value::<u64>(self, index)?.map(|n| SqlCell::Integer(n.into()))
            }
            // The protocol sends it as text, and a text keeps all digits.
            ColumnKind::Numeric => get_value::<String>(self, index)?.map(SqlCell::Numeric),
            ColumnKind::Float32 => {
                get_value::<f32>(self, index)?.map(|n| SqlCell::Float(n.to_string()))
            }
            ColumnKind::Float64 => {
                get_value::<f64>(self, index)?.map(|n| SqlCell::Float(n.to_string()))
            }
            ColumnKind::Text => {
                let bytes = get_value::<Vec<u8>>(self, index)?;
                let text = bytes.map(String::from_utf8).transpose();
                text.map_err(|_| "it is not UTF-8 text".to_owned())?
                    .map(SqlCell::Text)
            }
            // sqlx sets the time zone of the session to UTC.
            ColumnKind::TimestampTz => get_value::<NaiveDateTime>(self, index)?
                .map(|at| SqlCell::TimestampTz(at.and_utc())),
            ColumnKind::LocalTimestamp => {
                get_value::<NaiveDateTime>(self, index)?.map(SqlCell::LocalTimestamp)
            }
        })
    }
}

fn get_value<'r, T: Decode<'r, MySql> + Type<MySql>>(
    row: &'r MySqlRow,
    index: usize,
) -> Result<Option<T>, String> {
    row.try_get_unchecked(index)
        .map_err(|e| super::describe_error(&e))
}
