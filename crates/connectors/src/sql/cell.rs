//! Cells of a result: supported column types, values, and the row interface of both servers.

use std::cmp::Ordering;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use sqlx::types::Decimal;

/// SQL dialect of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dialect {
    Postgres,
    MySql,
}

/// Kind of values in a column, for the types that are supported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ColumnKind {
    Integer,
    Unsigned,
    Numeric,
    Float32,
    Float64,
    Text,
    /// An absolute time.
    TimestampTz,
    /// A date and time without a time zone.
    LocalTimestamp,
}

impl ColumnKind {
    /// Returns the kind for a type name; `None` if the type is not supported.
    pub(super) fn from_type_name(type_name: &str, dialect: Dialect) -> Option<Self> {
        match dialect {
            Dialect::Postgres => Self::from_postgres(type_name),
            Dialect::MySql => Self::from_mysql(type_name),
        }
    }

    fn from_postgres(type_name: &str) -> Option<Self> {
        Some(match type_name {
            "INT2" | "INT4" | "INT8" => Self::Integer,
            "NUMERIC" => Self::Numeric,
            "FLOAT4" => Self::Float32,
            "FLOAT8" => Self::Float64,
            "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "citext" => Self::Text,
            "TIMESTAMPTZ" => Self::TimestampTz,
            "TIMESTAMP" => Self::LocalTimestamp,
            _ => return None,
        })
    }

    fn from_mysql(type_name: &str) -> Option<Self> {
        Some(match type_name {
            "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => Self::Integer,
            "TINYINT UNSIGNED" | "SMALLINT UNSIGNED" | "MEDIUMINT UNSIGNED" | "INT UNSIGNED"
            | "BIGINT UNSIGNED" => Self::Unsigned,
            "DECIMAL" => Self::Numeric,
            "FLOAT" => Self::Float32,
            "DOUBLE" => Self::Float64,
            // Text with a binary collation has the type name of bytes.
            "VARCHAR" | "CHAR" | "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" | "ENUM"
            | "VARBINARY" | "BINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" => {
                Self::Text
            }
            "TIMESTAMP" => Self::TimestampTz,
            "DATETIME" => Self::LocalTimestamp,
            _ => return None,
        })
    }
}

/// Value of one cell.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SqlCell {
    Integer(i128),
    /// An exact decimal in plain digits, all of them.
    Numeric(String),
    /// A binary fraction in plain digits.
    Float(String),
    Text(String),
    TimestampTz(DateTime<Utc>),
    LocalTimestamp(NaiveDateTime),
}

impl SqlCell {
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Integer(number) => number.to_string(),
            Self::Numeric(text) | Self::Float(text) | Self::Text(text) => text,
            Self::TimestampTz(at) => at.to_rfc3339(),
            Self::LocalTimestamp(at) => at.to_string(),
        }
    }

    /// Returns the value in the format of the database, so that a query can cast it back.
    pub(super) fn to_sql(&self, dialect: Dialect) -> String {
        match (self, dialect) {
            (Self::TimestampTz(at), Dialect::Postgres) => {
                at.to_rfc3339_opts(SecondsFormat::Micros, false)
            }
            // The session is in UTC, and not every MySQL accepts an offset.
            (Self::TimestampTz(at), Dialect::MySql) => {
                at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
            }
            (Self::LocalTimestamp(at), _) => at.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
            (Self::Integer(_) | Self::Numeric(_) | Self::Float(_) | Self::Text(_), _) => {
                self.clone().into_text()
            }
        }
    }

    /// Compares two values of one column; `None` if only the database could compare them.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(left), Self::Integer(right)) => Some(left.cmp(right)),
            (Self::Numeric(left), Self::Numeric(right)) => {
                let parse_decimal = |text: &str| text.parse::<Decimal>().ok();
                Some(parse_decimal(left)?.cmp(&parse_decimal(right)?))
            }
            (Self::TimestampTz(left), Self::TimestampTz(right)) => Some(left.cmp(right)),
            (Self::LocalTimestamp(left), Self::LocalTimestamp(right)) => Some(left.cmp(right)),
            _ => None,
        }
    }
}

/// Row of a result, from either kind of server.
pub(super) trait SqlRow {
    /// Returns name and type of each column, in order.
    fn columns(&self) -> Vec<(String, String)>;

    /// Returns the value in a column; `None` for `NULL`.
    ///
    /// # Errors
    /// The value does not fit the kind of the column.
    fn cell(&self, column: &SqlColumn) -> Result<Option<SqlCell>, String>;
}

/// Column of a result that a field is read from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SqlColumn {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) kind: ColumnKind,
}
