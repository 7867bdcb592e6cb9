use std::cmp::Ordering;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use sqlx::types::Decimal;

use super::super::aliases::{Choice, Field, choose, normalize};
use super::super::formats::FileShape;
use super::super::quantity::{DecimalMark, NumberStyle, Quantity, trim};
use super::super::row::{Entry, Key, Reading, Row, RowProblem};
use crate::stock::Instant;

/// Decimals of an exact number that are read; the others are cut off, as they cannot change a count
/// of pieces.
const EXACT_DECIMALS: usize = 7;

/// Names of columns that a message lists.
const MAX_NAMES: usize = 20;

/// Whose SQL it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dialect {
    Postgres,
    MySql,
}

/// What the values of a column are, as far as we read them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Whole,
    Unsigned,
    Exact,
    Single,
    Double,
    Text,
    /// A moment in time, whoever reads it.
    Moment,
    /// What a clock on some wall said.
    Local,
}

impl Kind {
    /// By the name of the type; `None` if it is none that we read.
    pub(super) fn of(type_name: &str, dialect: Dialect) -> Option<Self> {
        match dialect {
            Dialect::Postgres => Self::of_postgres(type_name),
            Dialect::MySql => Self::of_mysql(type_name),
        }
    }

    fn of_postgres(type_name: &str) -> Option<Self> {
        Some(match type_name {
            "INT2" | "INT4" | "INT8" => Self::Whole,
            "NUMERIC" => Self::Exact,
            "FLOAT4" => Self::Single,
            "FLOAT8" => Self::Double,
            "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "citext" => Self::Text,
            "TIMESTAMPTZ" => Self::Moment,
            "TIMESTAMP" => Self::Local,
            _ => return None,
        })
    }

    fn of_mysql(type_name: &str) -> Option<Self> {
        Some(match type_name {
            "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => Self::Whole,
            "TINYINT UNSIGNED" | "SMALLINT UNSIGNED" | "MEDIUMINT UNSIGNED" | "INT UNSIGNED"
            | "BIGINT UNSIGNED" => Self::Unsigned,
            "DECIMAL" => Self::Exact,
            "FLOAT" => Self::Single,
            "DOUBLE" => Self::Double,
            // A text whose collation is binary comes under the name of bytes.
            "VARCHAR" | "CHAR" | "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" | "ENUM"
            | "VARBINARY" | "BINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" => {
                Self::Text
            }
            "TIMESTAMP" => Self::Moment,
            "DATETIME" => Self::Local,
            _ => return None,
        })
    }
}

/// A value that was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Whole(i128),
    /// A decimal in plain digits, as many as the database has.
    Exact(String),
    /// A binary fraction in plain digits.
    Float(String),
    Text(String),
    Moment(DateTime<Utc>),
    Local(NaiveDateTime),
}

impl Cell {
    fn into_text(self) -> String {
        match self {
            Self::Whole(number) => number.to_string(),
            Self::Exact(text) | Self::Float(text) | Self::Text(text) => text,
            Self::Moment(at) => at.to_rfc3339(),
            Self::Local(at) => at.to_string(),
        }
    }

    /// As the database itself would write it, so that it can be cast back.
    pub(super) fn to_sql(&self, dialect: Dialect) -> String {
        match (self, dialect) {
            (Self::Moment(at), Dialect::Postgres) => {
                at.to_rfc3339_opts(SecondsFormat::Micros, false)
            }
            // The session is in UTC; MySQL takes no offset everywhere.
            (Self::Moment(at), Dialect::MySql) => at.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
            (Self::Local(at), _) => at.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
            (Self::Whole(_) | Self::Exact(_) | Self::Float(_) | Self::Text(_), _) => {
                self.clone().into_text()
            }
        }
    }

    /// Which of two values of one column is the greater; `None` if the database would have to
    /// tell.
    fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(one), Self::Whole(two)) => Some(one.cmp(two)),
            (Self::Exact(one), Self::Exact(two)) => {
                let exact = |text: &str| text.parse::<Decimal>().ok();
                Some(exact(one)?.cmp(&exact(two)?))
            }
            (Self::Moment(one), Self::Moment(two)) => Some(one.cmp(two)),
            (Self::Local(one), Self::Local(two)) => Some(one.cmp(two)),
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
    fn cell(&self, column: &Column) -> Result<Option<Cell>, String>;
}

/// Where a field is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Column {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// What a column is needed for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Use {
    Name,
    Number,
    Since,
    Watermark,
}

impl Use {
    /// Whether such values will do, and if not, what would.
    fn accepts(self, kind: Option<Kind>, dialect: Dialect) -> Result<Kind, &'static str> {
        use Kind::{Double, Exact, Local, Moment, Single, Text, Unsigned, Whole};
        let (fits, rule) = match self {
            Self::Name => (
                matches!(kind, Some(Text | Whole | Unsigned)),
                "it must be text or a whole number, so cast it in the query",
            ),
            Self::Number => (
                matches!(
                    kind,
                    Some(Whole | Unsigned | Exact | Single | Double | Text)
                ),
                "it must be a number or text, so cast it in the query",
            ),
            Self::Since => (matches!(kind, Some(Moment | Text)), zone_rule(dialect)),
            Self::Watermark => (
                matches!(kind, Some(Whole | Unsigned | Exact | Moment | Local)),
                "a watermark must be a number or a moment in time",
            ),
        };
        kind.filter(|_| fits).ok_or(rule)
    }
}

fn zone_rule(dialect: Dialect) -> &'static str {
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
pub(super) struct Columns {
    sku: Column,
    quantity: Column,
    reserve: Option<Column>,
    warehouse: Option<Column>,
    updated_at: Option<Column>,
    watermark: Option<Column>,
    /// The names and types of all columns of the result.
    all: Vec<(String, String)>,
}

impl Columns {
    /// Finds them by name and looks at their types.
    ///
    /// # Errors
    /// One is missing, cannot be told from another, or has a type that does not fit.
    pub(super) fn find(
        all: &[(String, String)],
        dialect: Dialect,
        reading: &Reading,
        watermark: Option<&str>,
    ) -> Result<Self, String> {
        let table = Table { all, dialect };
        let optional = |field: Field, setting: Option<&str>, purpose| match setting {
            Some(_) => table.field(field, setting, purpose),
            None => Ok(None),
        };
        let needed = |field: Field, setting: Option<&str>, purpose| {
            table
                .field(field, setting, purpose)?
                .ok_or_else(|| table.missing(field.setting(), field.names()))
        };
        let watermark = match watermark {
            Some(name) => Some(table.named("watermark", name, Use::Watermark)?),
            None => None,
        };
        Ok(Self {
            sku: needed(Field::Sku, reading.sku.as_deref(), Use::Name)?,
            quantity: needed(Field::Quantity, reading.quantity.as_deref(), Use::Number)?,
            reserve: optional(Field::Reserve, reading.reserve.as_deref(), Use::Number)?,
            warehouse: table.field(Field::Warehouse, reading.warehouse.as_deref(), Use::Name)?,
            updated_at: optional(Field::UpdatedAt, reading.updated_at.as_deref(), Use::Since)?,
            watermark,
            all: all.to_vec(),
        })
    }

    /// Why a result is refused in which no row has a quantity.
    pub(super) fn states_nothing(&self, rows: u64) -> String {
        format!(
            "column {} is NULL or empty in all {rows} rows, so the query states no quantity: name \
             another column by the setting quantity, or set empty = \"zero\" if NULL is zero; the \
             columns are {}",
            self.quantity.name,
            listed(
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
            Ok(Some(cell)) => !trim(&cell.into_text()).is_empty(),
            Ok(None) => false,
            Err(_unreadable) => true,
        }
    }

    /// What a row says.
    pub(super) fn entry(&self, row: &impl SqlRow, line: u64, reading: &RowReading) -> Entry {
        let sku = match self.sku(row, &reading.of_text) {
            Ok(sku) => sku,
            Err(problem) => return problem.into_entry(line, &self.show(row), None),
        };
        match self.read(row, line, &sku, reading) {
            Ok(row) => Entry::Row(row),
            Err(problem) => problem.into_entry(line, &self.show(row), Some(sku)),
        }
    }

    fn sku(&self, row: &impl SqlRow, reading: &Reading) -> Result<String, RowProblem> {
        let text = text(row, &self.sku)?.ok_or_else(|| format!("{} is NULL", self.sku.name))?;
        if text.is_empty() {
            return Err(format!("{} is empty", self.sku.name).into());
        }
        reading.sku(&text)
    }

    fn read(
        &self,
        row: &impl SqlRow,
        line: u64,
        sku: &str,
        reading: &RowReading,
    ) -> Result<Row, RowProblem> {
        let place = self
            .warehouse
            .as_ref()
            .map(|column| text(row, column))
            .transpose()?
            .flatten();
        let reserve = match &self.reserve {
            Some(column) => {
                let (text, reading) = reading.number(row, column)?;
                let reserve = reading.reserve(&text, NumberStyle::default());
                reserve.map_err(|error| RowProblem::from(error).of_field("reserve"))?
            }
            None => None,
        };
        Ok(Row {
            line,
            key: Key::Sku(sku.to_owned()),
            place: place.filter(|place| !place.is_empty()),
            quantity: self.quantity(row, reading)?,
            reserve,
            at: self
                .updated_at
                .as_ref()
                .map(|column| since(row, column))
                .transpose()?
                .flatten(),
        })
    }

    fn quantity(
        &self,
        row: &impl SqlRow,
        reading: &RowReading,
    ) -> Result<Option<Quantity>, RowProblem> {
        let (text, reading) = reading.number(row, &self.quantity)?;
        Ok(reading.quantity(&text)?)
    }

    /// The row as a person can find it again.
    fn show(&self, row: &impl SqlRow) -> String {
        let columns = [
            Some(&self.sku),
            Some(&self.quantity),
            self.warehouse.as_ref(),
        ];
        let shown = columns.into_iter().flatten().map(|column| {
            let value = match row.cell(column) {
                Ok(Some(cell)) => cell.into_text(),
                Ok(None) => "NULL".to_owned(),
                Err(_unreadable) => "?".to_owned(),
            };
            format!("{}={value}", column.name)
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    /// Notes the row's watermark if it is the greatest so far. One that cannot be read is
    /// passed over: its row then comes again in the next run.
    pub(super) fn raise(&self, row: &impl SqlRow, greatest: &mut Option<Cell>) {
        let Some(column) = &self.watermark else {
            return;
        };
        let Ok(Some(cell)) = row.cell(column) else {
            return;
        };
        if cell.order(&cell).is_none() {
            // `NaN` and the like: no other value would be greater.
            return;
        }
        let is_greater = |than: &Cell| {
            cell.order(than)
                .is_some_and(|order| order == Ordering::Greater)
        };
        if greatest.as_ref().is_none_or(is_greater) {
            *greatest = Some(cell);
        }
    }
}

/// How the values of a row are read.
#[derive(Debug)]
pub(super) struct RowReading {
    /// The settings, for texts.
    of_text: Reading,
    /// The same for columns of numbers: their decimal mark is the point, whatever the setting
    /// `decimal` says of texts.
    of_number: Reading,
}

impl RowReading {
    pub(super) fn new(reading: &Reading) -> Self {
        let of_text = reading.clone();
        Self {
            of_number: Reading {
                decimal: Some(DecimalMark::Point),
                ..reading.clone()
            },
            of_text,
        }
    }

    /// The text of a number, empty for `NULL`, and how it is read.
    fn number(&self, row: &impl SqlRow, column: &Column) -> Result<(String, &Reading), String> {
        let mut text = text(row, column)?.unwrap_or_default();
        if column.kind == Kind::Exact
            && let Some(point) = text.find('.')
        {
            // An exact decimal has no noise of a binary fraction: it is cut, and never rounded up.
            text.truncate(point + 1 + EXACT_DECIMALS);
        }
        let reading = match column.kind {
            Kind::Whole | Kind::Unsigned | Kind::Exact | Kind::Single | Kind::Double => {
                &self.of_number
            }
            Kind::Text | Kind::Moment | Kind::Local => &self.of_text,
        };
        Ok((text, reading))
    }
}

/// A value as text, without the blanks around it.
fn text(row: &impl SqlRow, column: &Column) -> Result<Option<String>, String> {
    let cell = row
        .cell(column)
        .map_err(|e| format!("{} cannot be read: {e}", column.name))?;
    Ok(cell.map(|cell| trim(&cell.into_text()).to_owned()))
}

fn since(row: &impl SqlRow, column: &Column) -> Result<Option<Instant>, String> {
    let cell = row
        .cell(column)
        .map_err(|e| format!("{} cannot be read: {e}", column.name))?;
    let text = match cell {
        None => return Ok(None),
        Some(Cell::Moment(at)) => return Ok(Some(at.into())),
        Some(other) => other.into_text(),
    };
    let text = trim(&text);
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

struct Table<'a> {
    all: &'a [(String, String)],
    dialect: Dialect,
}

impl Table<'_> {
    /// The column of a field: the one that the setting names, or the one known by its name.
    fn field(
        &self,
        field: Field,
        setting: Option<&str>,
        purpose: Use,
    ) -> Result<Option<Column>, String> {
        let names = self.all.iter().map(|(name, _)| name.as_str());
        match choose(field, names, setting) {
            Choice::None => match setting {
                Some(setting) => Err(self.missing(field.setting(), &[setting])),
                None => Ok(None),
            },
            Choice::At(index) => self.column(index, purpose).map(Some),
            Choice::Ambiguous(all) => Err(self.ambiguous(field, setting, &all)),
        }
    }

    /// The column of that name.
    fn named(&self, what: &str, name: &str, purpose: Use) -> Result<Column, String> {
        let wanted = normalize(name);
        let is_it = |(_, (name, _)): &(usize, &(String, String))| normalize(name) == wanted;
        let mut found = self
            .all
            .iter()
            .enumerate()
            .filter(is_it)
            .map(|(index, _)| index);
        let first = found.next().ok_or_else(|| self.missing(what, &[name]))?;
        match found.next() {
            None => self.column(first, purpose),
            Some(_) => Err(format!(
                "two columns are called {name}: rename one in the query"
            )),
        }
    }

    fn column(&self, index: usize, purpose: Use) -> Result<Column, String> {
        let Some((name, type_name)) = self.all.get(index) else {
            return Err(format!("the result has no column {}", index + 1));
        };
        match purpose.accepts(Kind::of(type_name, self.dialect), self.dialect) {
            Ok(kind) => Ok(Column {
                index,
                name: name.clone(),
                kind,
            }),
            Err(rule) => Err(format!("column {name} is of type {type_name}, {rule}")),
        }
    }

    fn ambiguous(&self, field: Field, setting: Option<&str>, all: &[usize]) -> String {
        let names: Vec<_> = all
            .iter()
            .filter_map(|at| self.all.get(*at))
            .map(|(name, _)| name.as_str())
            .collect();
        let (what, key) = (field.what(), field.setting());
        let cure = match setting {
            Some(_) => "rename one in the query".to_owned(),
            None => format!("set {key} to the name of the one that is meant, or rename the other"),
        };
        format!(
            "columns {} could both be {what}: {cure}",
            names.join(" and ")
        )
    }

    fn missing(&self, what: &str, names: &[&str]) -> String {
        let there: Vec<_> = self.all.iter().map(|(name, _)| name.clone()).collect();
        format!(
            "the query gives no column for the {what}: {} is wanted, {} is there",
            names.join(" or "),
            listed(&there)
        )
    }
}

/// Lists names in a message.
fn listed(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(MAX_NAMES).map(String::as_str).collect();
    let more = if names.len() > MAX_NAMES { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}
