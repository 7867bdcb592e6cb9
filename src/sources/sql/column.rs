use std::cmp::Ordering;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use sqlx::types::Decimal;

use super::super::quantity::trim;
use super::super::row::{Entry, Fault, Key, Reading, Row};
use crate::stock::Instant;

/// What a column is called that no setting names.
const SKU: &[&str] =
    &["sku", "offer_id", "shop_sku", "shop-sku", "article", "артикул", "код", "ваш sku"];
const QUANTITY: &[&str] =
    &["quantity", "stock", "count", "количество", "остаток", "доступно", "доступно для заказа"];
const WAREHOUSE: &[&str] = &["warehouse", "склад"];

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
    Exact(Decimal),
    /// Of a binary fraction too, as it is written.
    Text(String),
    Moment(DateTime<Utc>),
    Local(NaiveDateTime),
}

impl Cell {
    fn into_text(self) -> String {
        match self {
            Self::Whole(number) => number.to_string(),
            Self::Exact(number) => number.to_string(),
            Self::Text(text) => text,
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
            (Self::Whole(_) | Self::Exact(_) | Self::Text(_), _) => self.clone().into_text(),
        }
    }

    /// Which of two values of one column is the greater; `None` if the database would have to
    /// tell.
    fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(one), Self::Whole(two)) => Some(one.cmp(two)),
            (Self::Exact(one), Self::Exact(two)) => Some(one.cmp(two)),
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
                matches!(kind, Some(Whole | Unsigned | Exact | Single | Double | Text)),
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
        let optional = |what, setting: Option<&str>, purpose| match setting {
            Some(_) => table.find(what, setting, &[], purpose),
            None => Ok(None),
        };
        let sku = table.find("sku", reading.sku.as_deref(), SKU, Use::Name)?;
        let quantity =
            table.find("quantity", reading.quantity.as_deref(), QUANTITY, Use::Number)?;
        Ok(Self {
            sku: sku.ok_or_else(|| table.missing("sku", SKU))?,
            quantity: quantity.ok_or_else(|| table.missing("quantity", QUANTITY))?,
            reserve: optional("reserve", reading.reserve.as_deref(), Use::Number)?,
            warehouse: table.find(
                "warehouse",
                reading.warehouse.as_deref(),
                WAREHOUSE,
                Use::Name,
            )?,
            updated_at: optional("updated_at", reading.updated_at.as_deref(), Use::Since)?,
            watermark: optional("watermark", watermark, Use::Watermark)?,
        })
    }

    /// What a row says.
    pub(super) fn entry(&self, row: &impl SqlRow, line: u64, reading: &Reading) -> Entry {
        self.read(row, line, reading).map_or_else(
            |reason| Entry::Rejected(Fault::new(line, &self.show(row), reason)),
            Entry::Row,
        )
    }

    fn read(&self, row: &impl SqlRow, line: u64, reading: &Reading) -> Result<Row, String> {
        let sku = text(row, &self.sku)?.ok_or_else(|| format!("{} is NULL", self.sku.name))?;
        if sku.is_empty() {
            return Err(format!("{} is empty", self.sku.name));
        }
        let number = |column: &Column| match text(row, column)? {
            Some(text) => reading.quantity(&text).map_err(|e| e.to_string()),
            None => Ok(None),
        };
        let place = self.warehouse.as_ref().map(|column| text(row, column)).transpose()?.flatten();
        Ok(Row {
            line,
            key: Key::Sku(sku),
            place: place.filter(|place| !place.is_empty()),
            quantity: number(&self.quantity)?,
            reserve: self.reserve.as_ref().map(number).transpose()?.flatten(),
            at: self.updated_at.as_ref().map(|column| since(row, column)).transpose()?.flatten(),
        })
    }

    /// The row as a person can find it again.
    fn show(&self, row: &impl SqlRow) -> String {
        let columns = [Some(&self.sku), Some(&self.quantity), self.warehouse.as_ref()];
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
        let Some(column) = &self.watermark else { return };
        let Ok(Some(cell)) = row.cell(column) else { return };
        let is_greater =
            |than: &Cell| cell.order(than).is_some_and(|order| order == Ordering::Greater);
        if greatest.as_ref().is_none_or(is_greater) {
            *greatest = Some(cell);
        }
    }
}

/// A value as text, without the blanks around it.
fn text(row: &impl SqlRow, column: &Column) -> Result<Option<String>, String> {
    let cell = row.cell(column).map_err(|e| format!("{} cannot be read: {e}", column.name))?;
    Ok(cell.map(|cell| trim(&cell.into_text()).to_owned()))
}

fn since(row: &impl SqlRow, column: &Column) -> Result<Option<Instant>, String> {
    let cell = row.cell(column).map_err(|e| format!("{} cannot be read: {e}", column.name))?;
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
        format!("{} is '{text}', it must be like 2026-11-22T10:00:00+03:00", column.name)
    })?;
    Ok(Some(at.to_utc().into()))
}

struct Table<'a> {
    all: &'a [(String, String)],
    dialect: Dialect,
}

impl Table<'_> {
    /// The one column of that name, or of those a field is known by.
    fn find(
        &self,
        what: &str,
        setting: Option<&str>,
        known: &[&str],
        purpose: Use,
    ) -> Result<Option<Column>, String> {
        let plain = |name: &str| trim(name).to_lowercase();
        let named = setting.map(plain);
        let is_it = |name: &str| match &named {
            Some(named) => plain(name) == *named,
            None => known.contains(&plain(name).as_str()),
        };
        let mut found = self.all.iter().enumerate().filter(|(_, (name, _))| is_it(name));
        let Some((index, (name, type_name))) = found.next() else {
            return match setting {
                Some(setting) => Err(self.missing(what, &[setting])),
                None => Ok(None),
            };
        };
        if let Some((_, (second, _))) = found.next() {
            return Err(format!(
                "columns {name} and {second} could both be the {what}, rename one in the query"
            ));
        }
        match purpose.accepts(Kind::of(type_name, self.dialect), self.dialect) {
            Ok(kind) => Ok(Some(Column { index, name: name.clone(), kind })),
            Err(rule) => Err(format!("column {name} is of type {type_name}, {rule}")),
        }
    }

    fn missing(&self, what: &str, names: &[&str]) -> String {
        let there: Vec<_> = self.all.iter().map(|(name, _)| name.as_str()).collect();
        format!(
            "the query gives no column for the {what}: {} is wanted, {} is there",
            names.join(" or "),
            there.join(", ")
        )
    }
}
