//! Columns of a result: finds the column of each field by its name and checks its type.

use stock_import::ReadSettings;
use stock_import::formats::FileShape;
use stock_import::{AliasMatch, StockField, choose, normalize};

use super::cell::{ColumnKind, Dialect, SqlColumn};

/// Most column names in a message.
const MAX_LISTED_COLUMNS: usize = 20;

/// Use of a column, which decides the accepted kinds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ColumnUse {
    Identifier,
    Number,
    UpdatedAt,
    Watermark,
}

impl ColumnUse {
    /// Returns the kind if it suits the use, otherwise the rule for the error message.
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
                "it must be text or a whole number: cast it in the query",
            ),
            Self::Number => (
                matches!(
                    kind,
                    Some(Integer | Unsigned | Numeric | Float32 | Float64 | Text)
                ),
                "it must be a number or text: cast it in the query",
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
                "a watermark must be a number or a timestamp",
            ),
        };
        kind.filter(|_| fits).ok_or(rule)
    }
}

fn time_zone_rule(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => {
            "it must have a time zone: \
             select changed_at at time zone 'Europe/Moscow' as changed_at"
        }
        Dialect::MySql => {
            "it must be a TIMESTAMP, or text with a time zone: \
             select concat(changed_at, '+03:00') as changed_at"
        }
    }
}

/// Columns of a result, by their use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SqlColumns {
    pub(super) sku: SqlColumn,
    pub(super) quantity: SqlColumn,
    pub(super) reserve: Option<SqlColumn>,
    pub(super) warehouse: Option<SqlColumn>,
    pub(super) updated_at: Option<SqlColumn>,
    pub(super) watermark: Option<SqlColumn>,
    /// Names and types of all columns of the result.
    all: Vec<(String, String)>,
}

impl SqlColumns {
    /// Finds the columns by name and checks their types.
    ///
    /// # Errors
    /// A column is missing, ambiguous or of an unsuitable type.
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

    /// Returns the error message for a result in which no row has a quantity.
    pub(super) fn no_quantity_message(&self, rows: u64) -> String {
        format!(
            "column {} is NULL or empty in all {rows} rows: name another column in the setting \
             quantity, or set empty = \"zero\" if NULL means zero; the columns are {}",
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

    /// Describes the columns and their use, to detect a changed query.
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
}

/// All columns of a result, to be searched by name.
struct ResultColumns<'a> {
    all: &'a [(String, String)],
    dialect: Dialect,
}

impl ResultColumns<'_> {
    /// Finds the column of a field: the one that the setting names, or one with a known name.
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

    /// Finds the only column of that name.
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
            None => format!("set {key} to the name of the right one, or rename the other"),
        };
        format!(
            "columns {} could both be {label}: {cure}",
            names.join(" and ")
        )
    }

    fn missing(&self, label: &str, names: &[&str]) -> String {
        let present: Vec<_> = self.all.iter().map(|(name, _)| name.clone()).collect();
        format!(
            "the query returns no column for the {label}: it must be named {}, but the columns are {}",
            names.join(" or "),
            list_names(&present)
        )
    }
}

/// Joins names for a message.
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
