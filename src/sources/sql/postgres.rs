use chrono::DateTime;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::types::Decimal;
use sqlx::{
    AssertSqlSafe, Column as _, Connection, Decode, Executor, Postgres, Row, Type, TypeInfo,
};
use tokio::time::timeout;

use super::column::{Cell, Column, SqlRow};
use super::{GOODBYE, Kind, Outcome, Run, SqlError};
use crate::sources::Rows;

/// Seconds from 1970 to 2000, from where PostgreSQL counts.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Runs the query at a PostgreSQL server, or at what speaks like one.
pub(super) async fn read(
    run: &Run<'_>,
    options: &PgConnectOptions,
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
    connection: &mut PgConnection,
    rows: &mut Rows,
) -> Result<Outcome, SqlError> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
    let mut transaction = connection.begin_with(begin).await.map_err(|e| run.failed(&e))?;
    // Of this transaction only, so that a pooler in between keeps nothing of ours. The server
    // counts a wait for a lock, and for us to take the rows, as time of the statement.
    let ms = run.config.timeout.as_millis();
    let limits = format!(
        "SET LOCAL statement_timeout = {ms}; \
         SET LOCAL idle_in_transaction_session_timeout = {ms}"
    );
    let limiting = transaction.execute(sqlx::raw_sql(AssertSqlSafe(limits)));
    limiting.await.map_err(|e| run.failed(&e))?;
    // Prepared, and so one statement and no more; unnamed, because a pooler may know a name
    // already.
    let mut query = sqlx::query(run.query()).persistent(false);
    if run.placed.count > 0 {
        query = query.bind(run.since);
    }
    let outcome = run.drain(query.fetch(&mut *transaction), rows).await?;
    transaction.rollback().await.map_err(|e| run.failed(&e))?;
    Ok(outcome)
}

impl SqlRow for PgRow {
    fn columns(&self) -> Vec<(String, String)> {
        let name = |column: &sqlx::postgres::PgColumn| {
            (column.name().to_owned(), column.type_info().name().to_owned())
        };
        Row::columns(self).iter().map(name).collect()
    }

    fn cell(&self, column: &Column) -> Result<Option<Cell>, String> {
        let index = column.index;
        Ok(match column.kind {
            Kind::Whole => whole(self, index)?.map(|n| Cell::Whole(n.into())),
            Kind::Exact => get::<Decimal>(self, index)?.map(Cell::Exact),
            Kind::Single => get::<f32>(self, index)?.map(|n| Cell::Text(n.to_string())),
            Kind::Double => get::<f64>(self, index)?.map(|n| Cell::Text(n.to_string())),
            Kind::Text => get::<String>(self, index)?.map(Cell::Text),
            Kind::Moment => micros(self, index)?.map(Cell::Moment),
            Kind::Local => micros(self, index)?.map(|at| Cell::Local(at.naive_utc())),
            Kind::Unsigned => return Err("there is no such type".to_owned()),
        })
    }
}

fn get<'r, T: Decode<'r, Postgres> + Type<Postgres>>(
    row: &'r PgRow,
    index: usize,
) -> Result<Option<T>, String> {
    row.try_get_unchecked(index).map_err(|e| super::reason(&e))
}

fn whole(row: &PgRow, index: usize) -> Result<Option<i64>, String> {
    // The width is the type's, and a type is fixed for a result.
    match row.column(index).type_info().name() {
        "INT2" => Ok(get::<i16>(row, index)?.map(i64::from)),
        "INT4" => Ok(get::<i32>(row, index)?.map(i64::from)),
        _ => get::<i64>(row, index),
    }
}

/// A moment as it travels; `infinity` is none that a calendar has.
fn micros(row: &PgRow, index: usize) -> Result<Option<DateTime<chrono::Utc>>, String> {
    let Some(micros) = get::<i64>(row, index)? else { return Ok(None) };
    let at = micros.checked_add(EPOCH_MICROS).and_then(DateTime::from_timestamp_micros);
    at.map(Some).ok_or_else(|| "it is no date of any calendar".to_owned())
}
