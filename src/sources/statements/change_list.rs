//! List of the stock that a held delivery would change, in a SQLite file of its own.
//!
//! A delivery may change a million SKUs, so the list is written while the rules are evaluated and
//! read page by page. The file need not survive a crash.

use std::path::{Path, PathBuf};

use connectors::private_files;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, QueryBuilder, Row as _, Sqlite};
use stock::{Count, Level, Timestamp};

use super::StatementError;

/// Changes in one `INSERT` statement.
const ROWS_PER_INSERT: usize = 500;

/// Table of the changes. `old` is the count in the book, before the first delivery of the list.
///
/// The index exists from the beginning: to sort a million rows at the end would take memory.
const SCHEMA: &str = "\
CREATE TABLE change (sku TEXT NOT NULL PRIMARY KEY, old INTEGER, new INTEGER NOT NULL, \
at INTEGER NOT NULL, kind INTEGER NOT NULL AS (CASE WHEN old IS NULL THEN 3 WHEN new = 0 THEN 0 \
WHEN new < old THEN 1 ELSE 2 END) VIRTUAL) STRICT, WITHOUT ROWID;
CREATE INDEX change_by_kind ON change (kind, sku);";

/// Kind of a change of stock, the most dangerous first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StockChangeKind {
    /// The SKU was in stock and becomes zero.
    BecomesZero,
    /// The count becomes lower, but not zero.
    Lower,
    /// The count becomes higher.
    Higher,
    /// The SKU has no known stock yet.
    New,
}

impl StockChangeKind {
    /// All kinds, in the order of the list.
    pub const ALL: [Self; 4] = [Self::BecomesZero, Self::Lower, Self::Higher, Self::New];

    /// Returns the name in addresses and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BecomesZero => "zero",
            Self::Lower => "lower",
            Self::Higher => "higher",
            Self::New => "new",
        }
    }

    /// Returns the kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns the number in the file, which is also the position in [`Self::ALL`].
    const fn number(self) -> i64 {
        match self {
            Self::BecomesZero => 0,
            Self::Lower => 1,
            Self::Higher => 2,
            Self::New => 3,
        }
    }
}

/// Change of the stock of one SKU.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StockChange {
    /// SKU.
    pub sku: String,
    /// Count in the book; `None` if it has none.
    pub old: Option<u32>,
    /// Count after the change.
    pub new: u32,
    /// Kind of the change.
    pub kind: StockChangeKind,
}

/// Numbers of changes by kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StockChangeTotals([u64; 4]);

impl StockChangeTotals {
    /// Returns the number of changes of one kind.
    #[must_use]
    pub fn of(self, kind: StockChangeKind) -> u64 {
        usize::try_from(kind.number()).map_or(0, |index| self.0[index])
    }

    /// Returns the number of all changes.
    #[must_use]
    pub fn all(self) -> u64 {
        self.0.iter().sum()
    }
}

/// List that is being written.
#[derive(Debug)]
pub(in crate::sources) struct ChangeListWriter {
    path: PathBuf,
    conn: SqliteConnection,
    rows: Vec<(String, Option<u32>, Level)>,
    // True after the first delivery of the list. Later ones may change a SKU again.
    has_earlier_delivery: bool,
}

impl ChangeListWriter {
    pub(in crate::sources) async fn create(path: &Path) -> Result<Self, StatementError> {
        let created = async {
            private_files::ensure_file(path).map_err(sqlx::Error::Io)?;
            let mut conn = connect_options(path).connect().await?;
            sqlx::raw_sql(SCHEMA).execute(&mut conn).await?;
            sqlx::raw_sql("BEGIN").execute(&mut conn).await?;
            Ok(conn)
        };
        let conn = created.await.map_err(|error| database_error(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            conn,
            rows: Vec::with_capacity(ROWS_PER_INSERT),
            has_earlier_delivery: false,
        })
    }

    /// Ends one delivery. The next one is applied to the stock that this one leaves.
    pub(in crate::sources) async fn end_delivery(&mut self) -> Result<(), StatementError> {
        self.flush().await?;
        self.has_earlier_delivery = true;
        Ok(())
    }

    /// Returns the level to which an earlier delivery of the list changes a SKU.
    pub(in crate::sources) async fn level(
        &mut self,
        sku: &str,
    ) -> Result<Option<Level>, StatementError> {
        if !self.has_earlier_delivery {
            return Ok(None);
        }
        let row = sqlx::query("SELECT new, at FROM change WHERE sku = ?1")
            .bind(sku)
            .fetch_optional(&mut self.conn)
            .await
            .map_err(|error| database_error(&self.path, error))?;
        Ok(row.and_then(|row| {
            Some(Level {
                count: Count::try_from(row.get::<i64, _>(0)).ok()?,
                updated_at: Timestamp::from_micros(row.get(1))?,
            })
        }))
    }

    /// Adds a change. `old` is the count in the book.
    pub(in crate::sources) async fn add(
        &mut self,
        sku: &str,
        old: Option<u32>,
        new: Level,
    ) -> Result<(), StatementError> {
        self.rows.push((sku.to_owned(), old, new));
        if self.rows.len() == ROWS_PER_INSERT {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), StatementError> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        let mut insert: QueryBuilder<Sqlite> =
            QueryBuilder::new("INSERT INTO change (sku, old, new, at) ");
        insert.push_values(&rows, |mut values, (sku, old, new)| {
            values
                .push_bind(sku)
                .push_bind(*old)
                .push_bind(new.count.get())
                .push_bind(new.updated_at.as_micros());
        });
        insert.push(" ON CONFLICT (sku) DO UPDATE SET new = excluded.new, at = excluded.at");
        let inserted = insert
            .build()
            .persistent(rows.len() == ROWS_PER_INSERT)
            .execute(&mut self.conn)
            .await;
        inserted
            .map(drop)
            .map_err(|error| database_error(&self.path, error))
    }

    /// Completes the list.
    pub(in crate::sources) async fn finish(mut self) -> Result<ChangeList, StatementError> {
        self.flush().await?;
        let Self { path, mut conn, .. } = self;
        let finished = async {
            // A later delivery may undo the change of an earlier one.
            let complete = "DELETE FROM change WHERE new IS old; COMMIT;";
            sqlx::raw_sql(complete).execute(&mut conn).await?;
            let rows = sqlx::query("SELECT kind, count(*) FROM change GROUP BY kind")
                .fetch_all(&mut conn)
                .await?;
            conn.close().await?;
            let mut totals = StockChangeTotals::default();
            for row in rows {
                let kind = usize::try_from(row.get::<i64, _>(0)).unwrap_or_default();
                if let Some(total) = totals.0.get_mut(kind) {
                    *total = row.get::<i64, _>(1).cast_unsigned();
                }
            }
            Ok(totals)
        };
        match finished.await {
            Ok(totals) => Ok(ChangeList { path, totals }),
            Err(error) => Err(database_error(&path, error)),
        }
    }
}

/// Complete list of changes. The owner of its directory deletes the file.
#[derive(Debug)]
pub(in crate::sources) struct ChangeList {
    path: PathBuf,
    pub(in crate::sources) totals: StockChangeTotals,
}

impl ChangeList {
    /// Returns the changes of one kind, or of all, after the first `offset`.
    pub(in crate::sources) async fn page(
        &self,
        kind: Option<StockChangeKind>,
        (offset, limit): (u64, u32),
    ) -> Result<Vec<StockChange>, StatementError> {
        let read = async {
            let mut conn = connect_options(&self.path)
                .read_only(true)
                .connect()
                .await?;
            let rows = sqlx::query(
                "SELECT sku, old, new, kind FROM change WHERE ?1 IS NULL OR kind = ?1 \
                 ORDER BY kind, sku LIMIT ?2 OFFSET ?3",
            )
            .bind(kind.map(StockChangeKind::number))
            .bind(limit)
            .bind(i64::try_from(offset).unwrap_or(i64::MAX))
            .fetch_all(&mut conn)
            .await?;
            conn.close().await?;
            Ok(rows)
        };
        let rows = read
            .await
            .map_err(|error| database_error(&self.path, error))?;
        let change = |row: &sqlx::sqlite::SqliteRow| {
            let kind = usize::try_from(row.get::<i64, _>(3)).ok()?;
            Some(StockChange {
                sku: row.get(0),
                old: row.get(1),
                new: row.get(2),
                kind: *StockChangeKind::ALL.get(kind)?,
            })
        };
        Ok(rows.iter().filter_map(change).collect())
    }
}

fn connect_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Off)
        .synchronous(SqliteSynchronous::Off)
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-8192")
        .disable_statement_logging()
}

fn database_error(path: &Path, source: sqlx::Error) -> StatementError {
    StatementError::Database {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(count: i64, micros: i64) -> Level {
        Level {
            count: Count::try_from(count).unwrap(),
            updated_at: Timestamp::from_micros(micros).unwrap(),
        }
    }

    async fn write(deliveries: &[&[(&str, Option<u32>, i64)]]) -> (tempfile::TempDir, ChangeList) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("changes.db");
        let mut list = ChangeListWriter::create(&path).await.unwrap();
        for (at, delivery) in (1_i64..).zip(deliveries) {
            for (sku, old, new) in *delivery {
                list.add(sku, *old, level(*new, at)).await.unwrap();
            }
            list.end_delivery().await.unwrap();
            if let Some((sku, _, new)) = delivery.first() {
                assert_eq!(list.level(sku).await.unwrap(), Some(level(*new, at)));
            }
        }
        (directory, list.finish().await.unwrap())
    }

    fn names(changes: &[StockChange]) -> Vec<String> {
        let text = |change: &StockChange| format!("{} {}", change.sku, change.kind.name());
        changes.iter().map(text).collect()
    }

    #[tokio::test]
    async fn lists_the_most_dangerous_changes_first() {
        let (_directory, list) = write(&[&[
            ("A", Some(1), 2),
            ("B", Some(2), 1),
            ("C", None, 0),
            ("D", Some(3), 0),
        ]])
        .await;
        let all = list.page(None, (0, 100)).await.unwrap();
        assert_eq!(names(&all), ["D zero", "B lower", "A higher", "C new"]);
        assert_eq!((all[2].old, all[2].new, all[3].old), (Some(1), 2, None));
        for kind in StockChangeKind::ALL {
            assert_eq!(list.totals.of(kind), 1);
            assert_eq!(StockChangeKind::from_name(kind.name()), Some(kind));
        }
        let lower = list.page(Some(StockChangeKind::Lower), (0, 100)).await;
        assert_eq!(names(&lower.unwrap()), ["B lower"]);
    }

    #[tokio::test]
    async fn pages_cover_the_list_once() {
        let rows: Vec<(String, Option<u32>, i64)> = (0..1_234)
            .map(|n| (format!("S-{n:04}"), Some(n), i64::from(n) + 1))
            .collect();
        let rows: Vec<_> = rows
            .iter()
            .map(|(sku, old, new)| (sku.as_str(), *old, *new))
            .collect();
        let (_directory, list) = write(&[&rows]).await;
        assert_eq!(list.totals.all(), 1_234);
        let mut found = Vec::new();
        for page in 0..13 {
            found.extend(list.page(None, (page * 100, 100)).await.unwrap());
        }
        let found: Vec<&str> = found.iter().map(|change| change.sku.as_str()).collect();
        assert_eq!(found, rows.iter().map(|row| row.0).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn later_deliveries_change_earlier_results() {
        let (_directory, list) = write(&[
            &[("A", Some(5), 0), ("B", Some(5), 7)],
            &[("A", Some(5), 5), ("B", Some(5), 2)],
        ])
        .await;
        let all = list.page(None, (0, 100)).await.unwrap();
        assert_eq!(names(&all), ["B lower"], "the second restores A");
        assert_eq!((all[0].old, all[0].new), (Some(5), 2));
    }
}
