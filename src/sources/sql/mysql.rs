use chrono::NaiveDateTime;
use sqlx::mysql::{MySqlColumn, MySqlConnectOptions, MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Column as _, Connection, Decode, Executor, MySql, Row, Type, TypeInfo};
use tokio::time::timeout;
use tracing::debug;

use super::columns::{SqlCell, SqlColumn, SqlRow};
use super::{CLOSE_TIMEOUT, ColumnKind, QueryRun, QuerySummary, SqlError};
use crate::sources::EntrySender;

/// Runs the query at a MySQL or MariaDB server.
pub(super) async fn run_query(
    run: &QueryRun<'_>,
    options: &MySqlConnectOptions,
    rows: &mut EntrySender,
) -> Result<QuerySummary, SqlError> {
    let mut connection = run.connect(options).await?;
    let result = run_in_transaction(run, &mut connection, rows).await;
    match result {
        // What is left of a failed run need not be read: the socket is closed on it.
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
    // For the session too: what ends the transaction early still cannot write.
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
    // Prepared, and so one statement and no more.
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

/// Tells the server when to give up, in the words of its kind.
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
    // While we are slow to take the rows, the server is not to hang up on its own default.
    let write_timeout = format!(
        "SET SESSION net_write_timeout = {}",
        limit.as_secs().max(60)
    );
    for statement in [statement, write_timeout] {
        if let Err(error) = connection.execute(AssertSqlSafe(statement)).await {
            // A server from before 2015 knows no such limit; ours holds all the same.
            let Some(_) = error.as_database_error() else {
                return Err(run.query_error(&error));
            };
            debug!(
                version,
                "the server does not take a limit: {}",
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
            // It travels as text, and a text keeps all of its digits.
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
                text.map_err(|_| "it is not text in UTF-8".to_owned())?
                    .map(SqlCell::Text)
            }
            // The session was put into UTC when it began.
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
