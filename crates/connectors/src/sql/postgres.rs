//! Runs a query on PostgreSQL in a read-only transaction with a server-side timeout, and reads its
//! cells without losing digits.

use chrono::DateTime;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{
    AssertSqlSafe, Column as _, Connection, Decode, Executor, Postgres, Row, Type, TypeInfo,
    ValueRef as _,
};
use tokio::time::timeout;

use super::cell::{ColumnKind, SqlCell, SqlColumn, SqlRow};
use super::{CLOSE_TIMEOUT, QueryRun, QuerySummary, SqlError};
use crate::EntrySender;

/// Microseconds from 1970 to 2000, the epoch of PostgreSQL.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Runs the query on a PostgreSQL server, or on one with the same protocol.
pub(super) async fn run_query(
    run: &QueryRun<'_>,
    options: &PgConnectOptions,
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
    connection: &mut PgConnection,
    rows: &mut EntrySender,
) -> Result<QuerySummary, SqlError> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
    let mut transaction = connection
        .begin_with(begin)
        .await
        .map_err(|e| run.query_error(&e))?;
    // Local to this transaction, so that a pooler in between does not keep our limits. The server
    // counts waits for locks, and for our reading of the rows, as time of the statement.
    let ms = run.config.timeout.as_millis();
    let limits = format!(
        "SET LOCAL statement_timeout = {ms}; \
         SET LOCAL idle_in_transaction_session_timeout = {ms}"
    );
    let limiting = transaction.execute(sqlx::raw_sql(AssertSqlSafe(limits)));
    limiting.await.map_err(|e| run.query_error(&e))?;
    // A prepared query cannot contain a second statement. It is unnamed, because a pooler may
    // already have a statement of that name.
    let mut query = sqlx::query(run.statement()).persistent(false);
    if run.prepared.parameter_count > 0 {
        query = query.bind(run.since);
    }
    let summary = run.read_rows(query.fetch(&mut *transaction), rows).await?;
    transaction
        .rollback()
        .await
        .map_err(|e| run.query_error(&e))?;
    Ok(summary)
}

impl SqlRow for PgRow {
    fn columns(&self) -> Vec<(String, String)> {
        let name_and_type = |column: &sqlx::postgres::PgColumn| {
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
            ColumnKind::Integer => read_integer(self, index)?.map(|n| SqlCell::Integer(n.into())),
            ColumnKind::Numeric => read_numeric(self, index)?.map(SqlCell::Numeric),
            ColumnKind::Float32 => {
                get_value::<f32>(self, index)?.map(|n| SqlCell::Float(n.to_string()))
            }
            ColumnKind::Float64 => {
                get_value::<f64>(self, index)?.map(|n| SqlCell::Float(n.to_string()))
            }
            ColumnKind::Text => get_value::<String>(self, index)?.map(SqlCell::Text),
            ColumnKind::TimestampTz => read_timestamp(self, index)?.map(SqlCell::TimestampTz),
            ColumnKind::LocalTimestamp => {
                read_timestamp(self, index)?.map(|at| SqlCell::LocalTimestamp(at.naive_utc()))
            }
            ColumnKind::Unsigned => return Err("PostgreSQL has no unsigned integers".to_owned()),
        })
    }
}

fn get_value<'r, T: Decode<'r, Postgres> + Type<Postgres>>(
    row: &'r PgRow,
    index: usize,
) -> Result<Option<T>, String> {
    row.try_get_unchecked(index)
        .map_err(|e| super::describe_error(&e))
}

fn read_integer(row: &PgRow, index: usize) -> Result<Option<i64>, String> {
    // The type decides the width, and is the same for all rows of a result.
    match row.column(index).type_info().name() {
        "INT2" => Ok(get_value::<i16>(row, index)?.map(i64::from)),
        "INT4" => Ok(get_value::<i32>(row, index)?.map(i64::from)),
        _ => get_value::<i64>(row, index),
    }
}

/// Reads a timestamp from its binary form. `infinity` is an error.
fn read_timestamp(row: &PgRow, index: usize) -> Result<Option<DateTime<chrono::Utc>>, String> {
    let Some(micros) = get_value::<i64>(row, index)? else {
        return Ok(None);
    };
    let at = micros
        .checked_add(POSTGRES_EPOCH_MICROS)
        .and_then(DateTime::from_timestamp_micros);
    at.map(Some)
        .ok_or_else(|| "the timestamp is out of range".to_owned())
}

/// Reads a `numeric` as plain digits, all of them.
fn read_numeric(row: &PgRow, index: usize) -> Result<Option<String>, String> {
    let value = row
        .try_get_raw(index)
        .map_err(|e| super::describe_error(&e))?;
    if value.is_null() {
        return Ok(None);
    }
    let bytes = value.as_bytes().map_err(|e| e.to_string())?;
    decode_numeric(bytes)
        .map(Some)
        .ok_or_else(|| "the number is not in PostgreSQL's format".to_owned())
}

/// Decodes the binary form of `numeric`: the number of base-10 000 digits, the weight of the first
/// digit, the sign, the number of decimals shown, and the digits.
///
/// Source: `numeric_send` of PostgreSQL.
fn decode_numeric(bytes: &[u8]) -> Option<String> {
    /// Highest weight whose digits are written out; larger numbers exceed any count anyway.
    const MAX_WEIGHT: i32 = 32;
    let mut numbers = bytes.chunks_exact(2).map(|pair| match pair {
        [high, low] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    });
    let (count, weight, sign, decimals) = (
        numbers.next()?,
        numbers.next()?,
        numbers.next()?,
        numbers.next()?,
    );
    let sign = match sign {
        0 => "",
        0x4000 => "-",
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("Infinity".to_owned()),
        0xF000 => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    let digits: Vec<u16> = numbers.take(count.into()).collect();
    if digits.len() != usize::from(count) || digits.iter().any(|digit| *digit > 9_999) {
        return None;
    }
    let weight = i32::from(weight.cast_signed());
    if weight > MAX_WEIGHT {
        return Some(format!("{sign}{}", "9".repeat(40)));
    }
    let digit_at = |position: i32| {
        usize::try_from(weight - position)
            .ok()
            .and_then(|index| digits.get(index))
            .copied()
            .unwrap_or(0)
    };
    let whole: String = (0..=weight.max(0))
        .rev()
        .map(|position| format!("{:04}", digit_at(position)))
        .collect();
    let whole = whole.trim_start_matches('0');
    let groups = i32::from(decimals).div_euclid(4) + 1;
    let fraction: String = (1..=groups)
        .map(|position| format!("{:04}", digit_at(-position)))
        .collect();
    let fraction: String = fraction.chars().take(decimals.into()).collect();
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(if fraction.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_keeps_every_digit() {
        for (digits, weight, sign, decimals, text) in [
            (&[][..], 0, 0, 0, "0"),
            (&[], 0, 0, 2, "0.00"),
            (&[5], 0, 0, 0, "5"),
            (&[46, 5_000], 0, 0, 3, "46.500"),
            (&[1, 5_000], 0, 0x4000, 1, "-1.5"),
            (&[1], 1, 0, 0, "10000"),
            (&[12, 3_456], 1, 0, 0, "123456"),
            (&[5, 9_999, 9_999, 9_999], 0, 0, 12, "5.999999999999"),
            (&[1], -1, 0, 4, "0.0001"),
            (&[1], -9, 0, 36, "0.000000000000000000000000000000000001"),
            (&[], 0, 0xC000, 0, "NaN"),
        ] {
            let header = [
                u16::try_from(digits.len()).unwrap(),
                i16::cast_unsigned(weight),
                sign,
            ];
            let numbers = header
                .into_iter()
                .chain([decimals])
                .chain(digits.iter().copied());
            let bytes: Vec<u8> = numbers.flat_map(u16::to_be_bytes).collect();
            assert_eq!(decode_numeric(&bytes).as_deref(), Some(text));
        }
        for bytes in [
            &[][..],
            &[0, 1, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 1, 0, 0, 0],
        ] {
            assert_eq!(decode_numeric(bytes), None);
        }
    }
}
