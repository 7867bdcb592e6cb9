use chrono::NaiveDateTime;
use sqlx::mysql::{MySqlColumn, MySqlConnectOptions, MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Column as _, Connection, Decode, Executor, MySql, Row, Type, TypeInfo};
use tokio::time::timeout;
use tracing::debug;

use super::column::{Cell, Column, SqlRow};
use super::{GOODBYE, Kind, Outcome, Run, SqlError};
use crate::sources::Rows;

/// Runs the query at a MySQL or MariaDB server.
pub(super) async fn read(
    run: &Run<'_>,
    options: &MySqlConnectOptions,
    rows: &mut Rows,
) -> Result<Outcome, SqlError> {
    let mut connection = run.connect(options).await?;
    let outcome = select(run, &mut connection, rows).await;
    match outcome {
        // What is left of a failed run need not be read: the socket is closed on it.
        Err(_) => drop(connection),
        Ok(_) => drop(timeout(GOODBYE, connection.close()).await),
    }
    outcome
}

async fn select(
    run: &Run<'_>,
    connection: &mut MySqlConnection,
    rows: &mut Rows,
) -> Result<Outcome, SqlError> {
    limit(run, connection).await?;
    // For the session too: what ends the transaction early still cannot write.
    let session = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
    connection
        .execute(session)
        .await
        .map_err(|e| run.failed(&e))?;
    let begin = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
    let mut transaction = connection
        .begin_with(begin)
        .await
        .map_err(|e| run.failed(&e))?;
    // Prepared, and so one statement and no more.
    let mut query = sqlx::query(run.query()).persistent(false);
    for _ in 0..run.placed.count {
        query = query.bind(run.since);
    }
    let outcome = run.drain(query.fetch(&mut *transaction), rows).await?;
    transaction.rollback().await.map_err(|e| run.failed(&e))?;
    Ok(outcome)
}

/// Tells the server when to give up, in the words of its kind.
async fn limit(run: &Run<'_>, connection: &mut MySqlConnection) -> Result<(), SqlError> {
    let version: String = sqlx::query_scalar("SELECT VERSION()")
        .fetch_one(&mut *connection)
        .await
        .map_err(|e| run.failed(&e))?;
    let limit = run.config.timeout;
    let statement = if version.contains("MariaDB") {
        format!("SET SESSION max_statement_time = {}", limit.as_secs_f64())
    } else {
        format!("SET SESSION max_execution_time = {}", limit.as_millis())
    };
    // While we are slow to take the rows, the server is not to hang up on its own default.
    let patience = format!(
        "SET SESSION net_write_timeout = {}",
        limit.as_secs().max(60)
    );
    for statement in [statement, patience] {
        if let Err(error) = connection.execute(AssertSqlSafe(statement)).await {
            // A server from before 2015 knows no such limit; ours holds all the same.
            let Some(_) = error.as_database_error() else {
                return Err(run.failed(&error));
            };
            debug!(
                version,
                "the server does not take a limit: {}",
                run.reason(&error)
            );
        }
    }
    Ok(())
}

impl SqlRow for MySqlRow {
    fn columns(&self) -> Vec<(String, String)> {
        let name = |column: &MySqlColumn| {
            (
                column.name().to_owned(),
                column.type_info().name().to_owned(),
            )
        };
        Row::columns(self).iter().map(name).collect()
    }

    fn cell(&self, column: &Column) -> Result<Option<Cell>, String> {
        let index = column.index;
        Ok(match column.kind {
            Kind::Whole => get::<i64>(self, index)?.map(|n| Cell::Whole(n.into())),
            Kind::Unsigned => get::<u64>(self, index)?.map(|n| Cell::Whole(n.into())),
            // It travels as text, and a text keeps all of its digits.
            Kind::Exact => get::<String>(self, index)?.map(Cell::Exact),
            Kind::Single => get::<f32>(self, index)?.map(|n| Cell::Float(n.to_string())),
            Kind::Double => get::<f64>(self, index)?.map(|n| Cell::Float(n.to_string())),
            Kind::Text => {
                let bytes = get::<Vec<u8>>(self, index)?;
                let text = bytes.map(String::from_utf8).transpose();
                text.map_err(|_| "it is not text in UTF-8".to_owned())?
                    .map(Cell::Text)
            }
            // The session was put into UTC when it began.
            Kind::Moment => get::<NaiveDateTime>(self, index)?.map(|at| Cell::Moment(at.and_utc())),
            Kind::Local => get::<NaiveDateTime>(self, index)?.map(Cell::Local),
        })
    }
}

fn get<'r, T: Decode<'r, MySql> + Type<MySql>>(
    row: &'r MySqlRow,
    index: usize,
) -> Result<Option<T>, String> {
    row.try_get_unchecked(index).map_err(|e| super::reason(&e))
}
