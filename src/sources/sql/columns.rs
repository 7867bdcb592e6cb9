use std::cmp::Ordering;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use sqlx::types::Decimal;

use super::super::aliases::{AliasMatch, StockField, choose, normalize};
use super::super::formats::FileShape;
use super::super::quantity::{DecimalMark, NumberStyle, Quantity, trim_blanks};
use super::super::row::{DeliveryEntry, ProductKey, ReadSettings, Row, RowProblem};
use crate::stock::Timestamp;

/// Decimals of an exact number that are read; the others are cut off, as they cannot change a count
/// of pieces.
const MAX_DECIMALS: usize = 7;

/// Names of columns that a message lists.
const MAX_LISTED_COLUMNS: usize = 20;

/// Whose SQL it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dialect {
    Postgres,
    MySql,
}

/// What the values of a column are, as far as we read them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ColumnKind {
    Integer,
    Unsigned,
    Numeric,
    Float32,
    Float64,
    Text,
    /// A moment in time, whoever reads it.
    TimestampTz,
    /// What a clock on some wall said.
    LocalTimestamp,
}

impl ColumnKind {
    /// By the name of the type; `None` if it is none that we read.
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
            // A text whose collation is binary comes under the name of bytes.
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

/// A value that was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SqlCell {
    Integer(i128),
    /// A decimal in plain digits, as many as the database has.
    Numeric(String),
    /// A binary fraction in plain digits.
    Float(String),
    Text(String),
    TimestampTz(DateTime<Utc>),
    LocalTimestamp(NaiveDateTime),
}

impl SqlCell {
    fn into_text(self) -> String {
        match self {
            Self::Integer(number) => number.to_string(),
            Self::Numeric(text) | Self::Float(text) | Self::Text(text) => text,
            Self::TimestampTz(at) => at.to_rfc3339(),
            Self::LocalTimestamp(at) => at.to_string(),
        }
    }

    /// As the database itself would write it, so that it can be cast back.
    pub(super) fn to_sql(&self, dialect: Dialect) -> String {
        match (self, dialect) {
            (Self::TimestampTz(at), Dialect::Postgres) => {
                at.to_rfc3339_opts(SecondsFormat::Micros, false)
            }
            // The session is in UTC; MySQL takes no offset everywhere.
            (Self::TimestampTz(at), Dialect::MySql) => {
                at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
            }
            (Self::LocalTimestamp(at), _) => at.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
            (Self::Integer(_) | Self::Numeric(_) | Self::Float(_) | Self::Text(_), _) => {
                self.clone().into_text()
            }
        }
    }

    /// Which of two values of one column is the greater; `None` if the database would have to
    /// tell.
    fn compare(&self, other: &Self) -> Option<Ordering> {
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

/// A row of either server.
pub(super) trait SqlRow {
    /// Names and types, in the order of the columns.
    fn columns(&self) -> Vec<(String, String)>;

    /// The value in a column of that kind; `None` for a `NULL`.
    ///
    /// # Errors
    /// It is beyond what the kind holds.
    fn cell(&self, column: &SqlColumn) -> Result<Option<SqlCell>, String>;
}

/// Where a field is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SqlColumn {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) kind: ColumnKind,
}

/// What a column is needed for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ColumnUse {
    Identifier,
    Number,
    UpdatedAt,
    Watermark,
}

impl ColumnUse {
    /// Whether such values will do, and if not, what would.
    fn check_kind(
        self,
        kind: Option<ColumnKind>,
        dialect: Dialect,
    ) -> Result<ColumnKind, &'static str> {
        use ColumnKind::{
            Float32, Float64, Integer, LocalTimestamp, Numeric, Text, TimestampTz, Unsigned,
        };
        let (fits, rule) = match self {
            Self::Identifier => (
                matches!(kind, Some(Text | Integer | Unsigned)),
                "it must be text or a whole number, so cast it in the query",
            ),
            Self::Number => (
                matches!(
                    kind,
                    Some(Integer | Unsigned | Numeric | Float32 | Float64 | Text)
                ),
                "it must be a number or text, so cast it in the query",
            ),
            Self::UpdatedAt => (
                matches!(kind, Some(TimestampTz | Text)),
                time_zone_rule(dialect),
            ),
            Self::Watermark => (
                matches!(
                    kind,
                    Some(Integer | Unsigned | Numeric | TimestampTz | LocalTimestamp)
                ),
                "a watermark must be a number or a moment in time",
            ),
        };
        kind.filter(|_| fits).ok_or(rule)
    }
}

fn time_zone_rule(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => {
            "it must say in which time zone it is: \
             select changed_at at time zone 'Europe/Moscow' as changed_at"
        }
        Dialect::MySql => {
            "it must be a TIMESTAMP, or text that says in which time zone it is: \
             select concat(changed_at, '+03:00') as changed_at"
        }
    }
}

/// The columns of a result that mean something to us.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SqlColumns {
    sku: SqlColumn,
    quantity: SqlColumn,
    reserve: Option<SqlColumn>,
    warehouse: Option<SqlColumn>,
    updated_at: Option<SqlColumn>,
    watermark: Option<SqlColumn>,
    /// The names and types of all columns of the result.
    all: Vec<(String, String)>,
}

impl SqlColumns {
    /// Finds them by name and looks at their types.
    ///
    /// # Errors
    /// One is missing, cannot be told from another, or has a type that does not fit.
    pub(super) fn find(
        all: &[(String, String)],
        dialect: Dialect,
        settings: &ReadSettings,
        watermark: Option<&str>,
    ) -> Result<Self, String> {
        let result_columns = ResultColumns { all, dialect };
        let optional = |field: StockField, setting: Option<&str>, purpose| match setting {
            Some(_) => result_columns.find_field(field, setting, purpose),
            None => Ok(None),
        };
        let required = |field: StockField, setting: Option<&str>, purpose| {
            result_columns
                .find_field(field, setting, purpose)?
                .ok_or_else(|| result_columns.missing(field.setting(), field.names()))
        };
        let watermark = match watermark {
            Some(name) => {
                Some(result_columns.find_named("watermark", name, ColumnUse::Watermark)?)
            }
            None => None,
        };
        Ok(Self {
            sku: required(
                StockField::Sku,
                settings.sku.as_deref(),
                ColumnUse::Identifier,
            )?,
            quantity: required(
                StockField::Quantity,
                settings.quantity.as_deref(),
                ColumnUse::Number,
            )?,
            reserve: optional(
                StockField::Reserve,
                settings.reserve.as_deref(),
                ColumnUse::Number,
            )?,
            warehouse: result_columns.find_field(
                StockField::Warehouse,
                settings.warehouse.as_deref(),
                ColumnUse::Identifier,
            )?,
            updated_at: optional(
                StockField::UpdatedAt,
                settings.updated_at.as_deref(),
                ColumnUse::UpdatedAt,
            )?,
            watermark,
            all: all.to_vec(),
        })
    }

    /// Why a result is refused in which no row has a quantity.
    pub(super) fn no_quantity_message(&self, rows: u64) -> String {
        format!(
            "column {} is NULL or empty in all {rows} rows, so the query states no quantity: name \
             another column by the setting quantity, or set empty = \"zero\" if NULL is zero; the \
             columns are {}",
            self.quantity.name,
            list_names(
                &self
                    .all
                    .iter()
                    .map(|(name, _)| name.clone())
                    .collect::<Vec<_>>()
            )
        )
    }

    /// Describes how the result is read.
    pub(super) fn describe(&self) -> FileShape {
        let mut shape = FileShape::default();
        let typed = self.all.iter().map(|(name, kind)| format!("{name} {kind}"));
        shape.set("format", "sql");
        shape.set("columns", typed.collect::<Vec<_>>().join(", "));
        shape.set("sku", &self.sku.name);
        shape.set("quantity", &self.quantity.name);
        let others = [
            ("warehouse", &self.warehouse),
            ("reserve", &self.reserve),
            ("time", &self.updated_at),
        ];
        for (property, column) in others {
            if let Some(column) = column {
                shape.set(property, &column.name);
            }
        }
        shape
    }

    /// Whether a row has a quantity, readable or not.
    pub(super) fn has_quantity(&self, row: &impl SqlRow) -> bool {
        match row.cell(&self.quantity) {
            Ok(Some(cell)) => !trim_blanks(&cell.into_text()).is_empty(),
            Ok(None) => false,
            Err(_unreadable) => true,
        }
    }

    /// What a row says.
    pub(super) fn read_entry(
        &self,
        row: &impl SqlRow,
        line: u64,
        settings: &SqlReadSettings,
    ) -> DeliveryEntry {
        let sku = match self.sku(row, &settings.for_texts) {
            Ok(sku) => sku,
            Err(problem) => return problem.into_entry(line, &self.describe_row(row), None),
        };
        match self.read_row(row, line, &sku, settings) {
            Ok(row) => DeliveryEntry::Row(row),
            Err(problem) => problem.into_entry(line, &self.describe_row(row), Some(sku)),
        }
    }

    fn sku(&self, row: &impl SqlRow, settings: &ReadSettings) -> Result<String, RowProblem> {
        let text = text_of(row, &self.sku)?.ok_or_else(|| format!("{} is NULL", self.sku.name))?;
        if text.is_empty() {
            return Err(format!("{} is empty", self.sku.name).into());
        }
        settings.parse_sku(&text)
    }

    fn read_row(
        &self,
        row: &impl SqlRow,
        line: u64,
        sku: &str,
        settings: &SqlReadSettings,
    ) -> Result<Row, RowProblem> {
        let warehouse = self
            .warehouse
            .as_ref()
            .map(|column| text_of(row, column))
            .transpose()?
            .flatten();
        let reserve = match &self.reserve {
            Some(column) => {
                let (text, number_settings) = settings.number_text(row, column)?;
                let reserve = number_settings.parse_reserve(&text, NumberStyle::default());
                reserve.map_err(|error| RowProblem::from(error).of_field("reserve"))?
            }
            None => None,
        };
        Ok(Row {
            line,
            key: ProductKey::Sku(sku.to_owned()),
            warehouse: warehouse.filter(|place| !place.is_empty()),
            quantity: self.quantity(row, settings)?,
            reserve,
            stated_at: self
                .updated_at
                .as_ref()
                .map(|column| updated_at_of(row, column))
                .transpose()?
                .flatten(),
        })
    }

    fn quantity(
        &self,
        row: &impl SqlRow,
        settings: &SqlReadSettings,
    ) -> Result<Option<Quantity>, RowProblem> {
        let (text, number_settings) = settings.number_text(row, &self.quantity)?;
        Ok(number_settings.parse_quantity(&text)?)
    }

    /// The row as a person can find it again.
    fn describe_row(&self, row: &impl SqlRow) -> String {
        let columns = [
            Some(&self.sku),
            Some(&self.quantity),
            self.warehouse.as_ref(),
        ];
        let described = columns.into_iter().flatten().map(|column| {
            let value = match row.cell(column) {
                Ok(Some(cell)) => cell.into_text(),
                Ok(None) => "NULL".to_owned(),
                Err(_unreadable) => "?".to_owned(),
            };
            format!("{}={value}", column.name)
        });
        described.collect::<Vec<_>>().join(" ")
    }

    /// Notes the row's watermark if it is the greatest so far. One that cannot be read is
    /// passed over: its row then comes again in the next run.
    pub(super) fn update_max_watermark(
        &self,
        row: &impl SqlRow,
        max_watermark: &mut Option<SqlCell>,
    ) {
        let Some(column) = &self.watermark else {
            return;
        };
        let Ok(Some(cell)) = row.cell(column) else {
            return;
        };
        if cell.compare(&cell).is_none() {
            // `NaN` and the like: no other value would be greater.
            return;
        }
        let is_greater = |than: &SqlCell| {
            cell.compare(than)
                .is_some_and(|ordering| ordering == Ordering::Greater)
        };
        if max_watermark.as_ref().is_none_or(is_greater) {
            *max_watermark = Some(cell);
        }
    }
}

/// How the values of a row are read.
#[derive(Debug)]
pub(super) struct SqlReadSettings {
    /// The settings, for texts.
    for_texts: ReadSettings,
    /// The same for columns of numbers: their decimal mark is the point, whatever the setting
    /// `decimal` says of texts.
    for_numbers: ReadSettings,
}

impl SqlReadSettings {
    pub(super) fn new(settings: &ReadSettings) -> Self {
        let for_texts = settings.clone();
        Self {
            for_numbers: ReadSettings {
                decimal: Some(DecimalMark::Point),
                ..settings.clone()
            },
            for_texts,
        }
    }

    /// The text of a number, empty for `NULL`, and how it is read.
    fn number_text(
        &self,
        row: &impl SqlRow,
        column: &SqlColumn,
    ) -> Result<(String, &ReadSettings), String> {
        let mut text = text_of(row, column)?.unwrap_or_default();
        if column.kind == ColumnKind::Numeric
            && let Some(point) = text.find('.')
        {
            // An exact decimal has no noise of a binary fraction: it is cut, and never rounded up.
            text.truncate(point + 1 + MAX_DECIMALS);
        }
        let settings = match column.kind {
            ColumnKind::Integer
            | ColumnKind::Unsigned
            | ColumnKind::Numeric
            | ColumnKind::Float32
            | ColumnKind::Float64 => &self.for_numbers,
            ColumnKind::Text | ColumnKind::TimestampTz | ColumnKind::LocalTimestamp => {
                &self.for_texts
            }
        };
        Ok((text, settings))
    }
}

/// A value as text, without the blanks around it.
fn text_of(row: &impl SqlRow, column: &SqlColumn) -> Result<Option<String>, String> {
    let cell = row
        .cell(column)
        .map_err(|e| format!("{} cannot be read: {e}", column.name))?;
    Ok(cell.map(|cell| trim_blanks(&cell.into_text()).to_owned()))
}

fn updated_at_of(row: &impl SqlRow, column: &SqlColumn) -> Result<Option<Timestamp>, String> {
    let cell = row
        .cell(column)
        .map_err(|e| format!("{} cannot be read: {e}", column.name))?;
    let text = match cell {
        None => return Ok(None),
        Some(SqlCell::TimestampTz(at)) => return Ok(Some(at.into())),
        Some(other) => other.into_text(),
    };
    let text = trim_blanks(&text);
    if text.is_empty() {
        return Ok(None);
    }
    let at = DateTime::parse_from_rfc3339(text).map_err(|_| {
        format!(
            "{} is '{text}', it must be like 2026-11-22T10:00:00+03:00",
            column.name
        )
    })?;
    Ok(Some(at.to_utc().into()))
}

struct ResultColumns<'a> {
    all: &'a [(String, String)],
    dialect: Dialect,
}

impl ResultColumns<'_> {
    /// The column of a field: the one that the setting names, or the one known by its name.
    fn find_field(
        &self,
        field: StockField,
        setting: Option<&str>,
        purpose: ColumnUse,
    ) -> Result<Option<SqlColumn>, String> {
        let names = self.all.iter().map(|(name, _)| name.as_str());
        match choose(field, names, setting) {
            AliasMatch::None => match setting {
                Some(setting) => Err(self.missing(field.setting(), &[setting])),
                None => Ok(None),
            },
            AliasMatch::Position(index) => self.column(index, purpose).map(Some),
            AliasMatch::Ambiguous(all) => Err(self.ambiguous(field, setting, &all)),
        }
    }

    /// The column of that name.
    fn find_named(&self, label: &str, name: &str, purpose: ColumnUse) -> Result<SqlColumn, String> {
        let wanted = normalize(name);
        let has_name = |(_, (name, _)): &(usize, &(String, String))| normalize(name) == wanted;
        let mut found = self
            .all
            .iter()
            .enumerate()
            .filter(has_name)
            .map(|(index, _)| index);
        let first = found.next().ok_or_else(|| self.missing(label, &[name]))?;
        match found.next() {
            None => self.column(first, purpose),
            Some(_) => Err(format!(
                "two columns are called {name}: rename one in the query"
            )),
        }
    }

    fn column(&self, index: usize, purpose: ColumnUse) -> Result<SqlColumn, String> {
        let Some((name, type_name)) = self.all.get(index) else {
            return Err(format!("the result has no column {}", index + 1));
        };
        match purpose.check_kind(
            ColumnKind::from_type_name(type_name, self.dialect),
            self.dialect,
        ) {
            Ok(kind) => Ok(SqlColumn {
                index,
                name: name.clone(),
                kind,
            }),
            Err(rule) => Err(format!("column {name} is of type {type_name}, {rule}")),
        }
    }

    fn ambiguous(&self, field: StockField, setting: Option<&str>, all: &[usize]) -> String {
        let names: Vec<_> = all
            .iter()
            .filter_map(|index| self.all.get(*index))
            .map(|(name, _)| name.as_str())
            .collect();
        let (label, key) = (field.label(), field.setting());
        let cure = match setting {
            Some(_) => "rename one in the query".to_owned(),
            None => format!("set {key} to the name of the one that is meant, or rename the other"),
        };
        format!(
            "columns {} could both be {label}: {cure}",
            names.join(" and ")
        )
    }

    fn missing(&self, label: &str, names: &[&str]) -> String {
        let present: Vec<_> = self.all.iter().map(|(name, _)| name.clone()).collect();
        format!(
            "the query gives no column for the {label}: {} is wanted, {} is there",
            names.join(" or "),
            list_names(&present)
        )
    }
}

/// Lists names in a message.
fn list_names(names: &[String]) -> String {
    let listed: Vec<_> = names
        .iter()
        .take(MAX_LISTED_COLUMNS)
        .map(String::as_str)
        .collect();
    let more = if names.len() > MAX_LISTED_COLUMNS {
        ", …"
    } else {
        ""
    };
    format!("{}{more}", listed.join(", "))
}
