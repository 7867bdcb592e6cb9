//! List of the stock that a held delivery would change, in a SQLite file of its own.
//!
//! A delivery may change a million SKUs, so the list is written while the rules are evaluated and
//! read page by page. The file need not survive a crash.

use std::path::{Path, PathBuf};

use connectors::private_files;
use rusqlite::{Connection, OptionalExtension as _, params};
use stock::{Count, Level, Timestamp};

use super::{StatementError, StorageError};

/// Table of the changes. `old` is the count in the book, before the first delivery of the list.
///
/// The index exists from the beginning: to sort a million rows at the end would take memory.
const SCHEMA: &str = "\
CREATE TABLE change (sku TEXT NOT NULL PRIMARY KEY, old INTEGER, new INTEGER NOT NULL, \
at INTEGER NOT NULL, absent INTEGER NOT NULL, kind INTEGER NOT NULL AS (CASE WHEN old IS NULL THEN 3 WHEN new = 0 THEN 0 \
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
    /// True if the delivery lacks the SKU, and its count comes from that.
    pub is_absent: bool,
}

/// Result of a delivery for one SKU, as a list has it.
#[derive(Clone, Copy, Debug)]
pub(in crate::sources) struct ListedLevel {
    pub(in crate::sources) level: Level,
    /// True if the delivery lacks the SKU.
    pub(in crate::sources) is_absent: bool,
}

/// Numbers of changes by kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StockChangeTotals {
    by_kind: [u64; 4],
    absent_zeros: u64,
}

impl StockChangeTotals {
    /// Returns the number of changes of one kind.
    #[must_use]
    pub fn of(self, kind: StockChangeKind) -> u64 {
        usize::try_from(kind.number()).map_or(0, |index| self.by_kind[index])
    }

    /// Returns the number of all changes.
    #[must_use]
    pub fn all(self) -> u64 {
        self.by_kind.iter().sum()
    }

    /// Returns the number of SKUs that become zero because the delivery lacks them.
    #[must_use]
    pub fn absent_zeros(self) -> u64 {
        self.absent_zeros
    }
}

/// List that is being written.
#[derive(Debug)]
pub(in crate::sources) struct ChangeListWriter {
    path: PathBuf,
    conn: Connection,
    // True after the first delivery of the list. Later ones may change a SKU again.
    has_earlier_delivery: bool,
}

impl ChangeListWriter {
    pub(in crate::sources) fn create(path: &Path) -> Result<Self, StatementError> {
        let create = || {
            private_files::ensure_file(path)?;
            let conn = connect(path)?;
            conn.execute_batch(SCHEMA)?;
            conn.execute_batch("BEGIN")?;
            Ok(conn)
        };
        let conn = create().map_err(|error| StatementError::database(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            conn,
            has_earlier_delivery: false,
        })
    }

    /// Ends one delivery. The next one is applied to the stock that this one leaves.
    pub(in crate::sources) fn end_delivery(&mut self) {
        self.has_earlier_delivery = true;
    }

    /// Returns the level to which an earlier delivery of the list changes a SKU.
    pub(in crate::sources) fn level(&self, sku: &str) -> Result<Option<Level>, StatementError> {
        if !self.has_earlier_delivery {
            return Ok(None);
        }
        let read = || {
            let mut query = self
                .conn
                .prepare_cached("SELECT new, at FROM change WHERE sku = ?1")?;
            let row = query.query_row(params![sku], |row| Ok((row.get(0)?, row.get(1)?)));
            Ok(row.optional()?)
        };
        let row: Option<(i64, i64)> =
            read().map_err(|error| StatementError::database(&self.path, error))?;
        Ok(row.and_then(|(count, at)| {
            Some(Level {
                count: Count::try_from(count).ok()?,
                updated_at: Timestamp::from_micros(at)?,
            })
        }))
    }

    /// Adds a change. `old` is the count in the book.
    pub(in crate::sources) fn add(
        &mut self,
        sku: &str,
        old: Option<u32>,
        new: ListedLevel,
    ) -> Result<(), StatementError> {
        let insert = || {
            let mut insert = self.conn.prepare_cached(
                "INSERT INTO change (sku, old, new, at, absent) VALUES (?1, ?2, ?3, ?4, ?5) \
                 ON CONFLICT (sku) DO UPDATE SET new = excluded.new, at = excluded.at, \
                 absent = excluded.absent",
            )?;
            let ListedLevel { level, is_absent } = new;
            let (count, at) = (level.count.get(), level.updated_at.as_micros());
            insert.execute(params![sku, old, count, at, is_absent])?;
            Ok(())
        };
        insert().map_err(|error| StatementError::database(&self.path, error))
    }

    /// Completes the list.
    pub(in crate::sources) fn finish(self) -> Result<ChangeList, StatementError> {
        let Self { path, conn, .. } = self;
        let finish = || {
            // A later delivery may undo the change of an earlier one.
            conn.execute_batch("DELETE FROM change WHERE new IS old; COMMIT;")?;
            let mut totals = StockChangeTotals::default();
            let mut query =
                conn.prepare("SELECT kind, count(*), sum(absent) FROM change GROUP BY kind")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let kind = usize::try_from(row.get::<_, i64>(0)?).unwrap_or_default();
                if let Some(total) = totals.by_kind.get_mut(kind) {
                    *total = row.get::<_, i64>(1)?.cast_unsigned();
                }
                if StockChangeKind::ALL.get(kind) == Some(&StockChangeKind::BecomesZero) {
                    totals.absent_zeros = row.get::<_, i64>(2)?.cast_unsigned();
                }
            }
            Ok(totals)
        };
        let totals = finish().map_err(|error| StatementError::database(&path, error))?;
        Ok(ChangeList { path, totals })
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
    pub(in crate::sources) fn page(
        &self,
        kind: Option<StockChangeKind>,
        (offset, limit): (u64, u32),
    ) -> Result<Vec<StockChange>, StatementError> {
        let read = || {
            let conn = connect(&self.path)?;
            let mut query = conn.prepare(
                "SELECT sku, old, new, kind, absent FROM change WHERE ?1 IS NULL OR kind = ?1 \
                 ORDER BY kind, sku LIMIT ?2 OFFSET ?3",
            )?;
            let kind = kind.map(StockChangeKind::number);
            let offset = i64::try_from(offset).unwrap_or(i64::MAX);
            let rows = query.query_map(params![kind, limit, offset], |row| {
                let kind = usize::try_from(row.get::<_, i64>(3)?).ok();
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, kind, row.get(4)?))
            })?;
            let mut changes = Vec::new();
            for row in rows {
                let (sku, old, new, kind, is_absent) = row?;
                let kind = kind.and_then(|kind| StockChangeKind::ALL.get(kind));
                changes.extend(kind.map(|kind| StockChange {
                    sku,
                    old,
                    new,
                    kind: *kind,
                    is_absent,
                }));
            }
            Ok(changes)
        };
        read().map_err(|error| StatementError::database(&self.path, error))
    }
}

fn connect(path: &Path) -> Result<Connection, StorageError> {
    let conn = Connection::open(path)?;
    // The file need not survive a crash.
    conn.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY; \
         PRAGMA cache_size = -8192;",
    )?;
    Ok(conn)
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

    fn listed(count: i64, micros: i64, is_absent: bool) -> ListedLevel {
        let level = level(count, micros);
        ListedLevel { level, is_absent }
    }

    fn write(deliveries: &[&[(&str, Option<u32>, i64)]]) -> (tempfile::TempDir, ChangeList) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("changes.db");
        let mut list = ChangeListWriter::create(&path).unwrap();
        for (at, delivery) in (1_i64..).zip(deliveries) {
            for (sku, old, new) in *delivery {
                list.add(sku, *old, listed(*new, at, false)).unwrap();
            }
            list.end_delivery();
            if let Some((sku, _, new)) = delivery.first() {
                assert_eq!(list.level(sku).unwrap(), Some(level(*new, at)));
            }
        }
        (directory, list.finish().unwrap())
    }

    fn names(changes: &[StockChange]) -> Vec<String> {
        let text = |change: &StockChange| format!("{} {}", change.sku, change.kind.name());
        changes.iter().map(text).collect()
    }

    #[test]
    fn lists_the_most_dangerous_changes_first() {
        let (_directory, list) = write(&[&[
            ("A", Some(1), 2),
            ("B", Some(2), 1),
            ("C", None, 0),
            ("D", Some(3), 0),
        ]]);
        let all = list.page(None, (0, 100)).unwrap();
        assert_eq!(names(&all), ["D zero", "B lower", "A higher", "C new"]);
        assert_eq!((all[2].old, all[2].new, all[3].old), (Some(1), 2, None));
        for kind in StockChangeKind::ALL {
            assert_eq!(list.totals.of(kind), 1);
            assert_eq!(StockChangeKind::from_name(kind.name()), Some(kind));
        }
        let lower = list.page(Some(StockChangeKind::Lower), (0, 100));
        assert_eq!(names(&lower.unwrap()), ["B lower"]);
    }

    #[test]
    fn pages_cover_the_list_once() {
        let rows: Vec<(String, Option<u32>, i64)> = (0..1_234)
            .map(|n| (format!("S-{n:04}"), Some(n), i64::from(n) + 1))
            .collect();
        let rows: Vec<_> = rows
            .iter()
            .map(|(sku, old, new)| (sku.as_str(), *old, *new))
            .collect();
        let (_directory, list) = write(&[&rows]);
        assert_eq!(list.totals.all(), 1_234);
        let mut found = Vec::new();
        for page in 0..13 {
            found.extend(list.page(None, (page * 100, 100)).unwrap());
        }
        let found: Vec<&str> = found.iter().map(|change| change.sku.as_str()).collect();
        assert_eq!(found, rows.iter().map(|row| row.0).collect::<Vec<_>>());
    }

    #[test]
    fn later_deliveries_change_earlier_results() {
        let (_directory, list) = write(&[
            &[("A", Some(5), 0), ("B", Some(5), 7)],
            &[("A", Some(5), 5), ("B", Some(5), 2)],
        ]);
        let all = list.page(None, (0, 100)).unwrap();
        assert_eq!(names(&all), ["B lower"], "the second restores A");
        assert_eq!((all[0].old, all[0].new), (Some(5), 2));
    }

    #[test]
    fn counts_zeros_of_absent_skus() {
        let directory = tempfile::tempdir().unwrap();
        let mut list = ChangeListWriter::create(&directory.path().join("changes.db")).unwrap();
        for (sku, old, count, is_absent) in [
            ("A", Some(1), 0, true),
            ("B", Some(2), 0, false),
            // Unknown SKUs and those without stock do not become zero.
            ("C", None, 0, true),
            ("D", Some(0), 0, true),
            ("E", Some(3), 0, true),
        ] {
            list.add(sku, old, listed(count, 1, is_absent)).unwrap();
        }
        list.end_delivery();
        list.add("E", Some(3), listed(0, 2, false)).unwrap();
        let list = list.finish().unwrap();
        assert_eq!(list.totals.of(StockChangeKind::BecomesZero), 3);
        assert_eq!(list.totals.absent_zeros(), 1);
        let zeros = list.page(Some(StockChangeKind::BecomesZero), (0, 10));
        let absent = zeros.unwrap().into_iter().map(|zero| zero.is_absent);
        assert_eq!(absent.collect::<Vec<_>>(), [true, false, false]);
    }
}
