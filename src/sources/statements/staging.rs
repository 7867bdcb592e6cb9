//! Staging of a delivery in temporary files, before anything is committed.
//!
//! The rows are sorted by SKU, in memory or in a file without a name. What is rare is in a SQLite
//! file: rows that name an id, articles, and rejected rows. Rows with an invalid SKU or a date in
//! the future are rejected here. Repeated rows meet when the sorted rows are merged, see
//! [`super::resolve`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use rusqlite::{Connection, OpenFlags, params};
use stock::{Sku, Timestamp};
use stock_import::{DeliveryEntry, ProductKey, RejectedRow, Row};
use tempfile::TempPath;

use super::duplicates::MergedRow;
use super::encoding::is_same_text;
use super::row_digest::row_digest;
use super::sorted_runs::{RunSorter, SortedRecords};
use super::staged_record::{StagedRecord, encode_fault, encode_row};
use super::{STAGING_PREFIX, StorageError, rejected, variants};

/// Limit for the warehouse names that are remembered for messages.
pub(super) const MAX_WAREHOUSES: usize = 1_000;

/// Tolerance for dates in the future, because the clock of the source may be ahead.
const MAX_FUTURE: TimeDelta = TimeDelta::minutes(5);

/// Tables of the SQLite file. A held delivery has its resolved rows in `resolved`, in the order of
/// their SKUs.
const SCHEMA: &str = "\
CREATE TABLE by_id (id TEXT NOT NULL, place TEXT NOT NULL, part INTEGER NOT NULL, \
line INTEGER NOT NULL, quantity INTEGER, reserve INTEGER, at INTEGER);
CREATE TABLE article (id TEXT NOT NULL PRIMARY KEY, said TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE rejected (line INTEGER NOT NULL, text TEXT NOT NULL, reason TEXT NOT NULL, \
suspicious INTEGER NOT NULL DEFAULT 0);
CREATE TABLE resolved (id INTEGER PRIMARY KEY, rows BLOB NOT NULL);
CREATE TABLE facts (warehouses TEXT NOT NULL, shared_by_variants INTEGER NOT NULL, \
without_known_sku INTEGER NOT NULL);";

/// Counts of the rows that were staged so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StageCounts {
    /// Rows that were read, including rejected ones.
    pub rows: u64,
    /// Rejected and suspicious rows.
    pub rejected: u64,
    /// Rows among the rejected that do not name a SKU.
    pub without_sku: u64,
    /// Rows among the rejected that can be read in two ways.
    pub suspicious: u64,
}

/// Warehouses of the rows that were sorted: only their number matters.
#[derive(Clone, Debug, Default)]
pub(super) struct SortedWarehouses {
    first: Option<String>,
    pub(super) are_several: bool,
}

impl SortedWarehouses {
    pub(super) fn record(&mut self, warehouse: &str) {
        match &self.first {
            None => self.first = Some(warehouse.to_owned()),
            Some(first) => self.are_several |= !is_same_text(first, warehouse),
        }
    }
}

/// A delivery that is being staged. Dropping it deletes its files.
#[derive(Debug)]
pub(in crate::sources) struct StagingFile {
    path: TempPath,
    conn: Connection,
    sorter: RunSorter,
    sorted_warehouses: SortedWarehouses,
    has_ids: bool,
    first_without_sku: Option<RejectedRow>,
    part: u32,
    counts: StageCounts,
    warehouses: BTreeSet<String>,
    last_warehouse: Option<String>,
    // Sum of the rows' digests, so that their order does not matter.
    digest: u64,
    payload: Vec<u8>,
}

impl StagingFile {
    /// Creates the files in `directory`. `sort_buffer` are the bytes of rows that are kept in
    /// memory.
    pub(super) fn create(directory: &Path, sort_buffer: usize) -> Result<Self, StorageError> {
        // Two deliveries of one source may run at once, for example a poll and a manual import.
        let path = tempfile::Builder::new()
            .prefix(STAGING_PREFIX)
            .suffix(".db")
            .tempfile_in(directory)?
            .into_temp_path();
        let conn = open(&path)?;
        conn.execute_batch(SCHEMA)?;
        conn.execute_batch(variants::STAGING_SCHEMA)?;
        conn.execute_batch("BEGIN")?;
        Ok(Self {
            path,
            conn,
            sorter: RunSorter::new(directory, sort_buffer),
            sorted_warehouses: SortedWarehouses::default(),
            has_ids: false,
            first_without_sku: None,
            part: 0,
            counts: StageCounts::default(),
            warehouses: BTreeSet::new(),
            last_warehouse: None,
            digest: 0,
            payload: Vec::new(),
        })
    }

    /// Adds entries. `now` is the upper bound for their dates.
    pub(in crate::sources) fn add_entries(
        &mut self,
        entries: Vec<DeliveryEntry>,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        for entry in entries {
            match entry {
                DeliveryEntry::Row(row) => self.add_row(row, now)?,
                DeliveryEntry::Article { id, sku } => self.add_article(&id, &sku)?,
                DeliveryEntry::Rejected(rejected) => {
                    self.counts.rows += 1;
                    self.add_rejected(&rejected)?;
                }
                DeliveryEntry::PartBoundary => self.part += 1,
                DeliveryEntry::Suspicious(rejected) => {
                    self.counts.rows += 1;
                    self.add_rejected(&RejectedRow {
                        is_suspicious: true,
                        ..rejected
                    })?;
                }
            }
        }
        Ok(())
    }

    fn add_article(&mut self, id: &str, sku: &str) -> Result<(), StorageError> {
        let sku = match Sku::parse(sku) {
            Ok(sku) => sku,
            Err(error) => {
                let text = format!("{id}: {sku}");
                return self.add_rejected(&RejectedRow::new(0, &text, error.to_string()));
            }
        };
        self.has_ids = true;
        let sql = "INSERT OR REPLACE INTO article (id, said) VALUES (?1, ?2)";
        let mut insert = self.conn.prepare_cached(sql)?;
        insert.execute(params![id, sku.as_str()])?;
        Ok(())
    }

    fn add_rejected(&mut self, row: &RejectedRow) -> Result<(), StorageError> {
        self.counts.rejected += 1;
        self.counts.suspicious += u64::from(row.is_suspicious);
        if let Some(Ok(sku)) = row.sku.as_deref().map(Sku::parse) {
            self.add_fault(&sku, true)?;
        } else {
            if let Some(Ok(sku)) = row.possible_sku.as_deref().map(Sku::parse) {
                self.add_fault(&sku, false)?;
            }
            self.counts.without_sku += 1;
            self.first_without_sku.get_or_insert_with(|| row.clone());
        }
        rejected::insert(&self.conn, row)
    }

    /// Notes that a row of a SKU is not applied.
    fn add_fault(&mut self, sku: &Sku, is_present: bool) -> Result<(), StorageError> {
        self.payload.clear();
        encode_fault(&mut self.payload, self.part, is_present);
        Ok(self.sorter.push(sku.as_str().as_bytes(), &self.payload)?)
    }

    fn add_row(&mut self, row: Row, now: Timestamp) -> Result<(), StorageError> {
        self.counts.rows += 1;
        let Row {
            line,
            key,
            warehouse,
            quantity,
            reserve,
            stated_at,
        } = row;
        let warehouse = warehouse.as_deref().map(str::trim).unwrap_or_default();
        let parsed;
        let (name, is_id) = match &key {
            ProductKey::Id(id) => (id.as_str(), true),
            ProductKey::Sku(text) => match Sku::parse(text) {
                Ok(sku) => {
                    parsed = sku;
                    (parsed.as_str(), false)
                }
                Err(error) => {
                    return self.add_rejected(&RejectedRow::new(line, text, error.to_string()));
                }
            },
        };
        let latest = Timestamp::from(now.to_utc() + MAX_FUTURE);
        if let Some(at) = stated_at.filter(|at| *at > latest) {
            let reason = format!("the date is {at}, it must not be in the future");
            let mut rejected = RejectedRow::new(line, name, reason);
            rejected.sku = Some(name.to_owned()).filter(|_| !is_id);
            return self.add_rejected(&rejected);
        }
        // A date within the tolerance is moved to now: a date in the future would make updates of
        // others look outdated.
        let stated_at = stated_at.map(|at| at.min(now));
        let is_last = |last: &String| is_same_text(last, warehouse);
        if !self.last_warehouse.as_ref().is_some_and(is_last) {
            self.last_warehouse = Some(warehouse.to_owned());
            if self.warehouses.len() < MAX_WAREHOUSES && !self.warehouses.contains(warehouse) {
                self.warehouses.insert(warehouse.to_owned());
            }
        }
        let staged = StagedRecord {
            warehouse,
            variant: "",
            part: self.part,
            line: i64::try_from(line).unwrap_or(i64::MAX),
            quantity: quantity.map(|quantity| quantity.thousandths()),
            reserve: reserve.map(|reserve| reserve.thousandths()),
            stated_at: stated_at.map(Timestamp::as_micros),
        };
        let digest = row_digest(name, is_id, &staged);
        self.digest = self.digest.wrapping_add(digest);
        if is_id {
            self.has_ids = true;
            return insert_by_id(&self.conn, name, &staged);
        }
        self.payload.clear();
        encode_row(&mut self.payload, &staged);
        self.sorted_warehouses.record(warehouse);
        Ok(self.sorter.push(name.as_bytes(), &self.payload)?)
    }

    /// Returns the counts so far.
    pub(in crate::sources) fn counts(&self) -> StageCounts {
        self.counts
    }

    /// Ends the staging of a delivery that was read to its end.
    pub(in crate::sources) fn finish(self) -> Result<StagedDelivery, StorageError> {
        self.conn.execute_batch("COMMIT")?;
        Ok(StagedDelivery {
            file: StagedFile::Temporary(self.path),
            conn: self.conn,
            rows: StagedRows::Unsorted(self.sorter),
            sorted_warehouses: self.sorted_warehouses,
            has_ids: self.has_ids,
            are_rejected_listed: false,
            without_known_sku: 0,
            counts: self.counts,
            warehouses: self.warehouses,
            first_without_sku: self.first_without_sku,
            digest: self.digest,
        })
    }
}

fn insert_by_id(conn: &Connection, id: &str, row: &StagedRecord<'_>) -> Result<(), StorageError> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO by_id (id, place, part, line, quantity, reserve, at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    insert.execute(params![
        id,
        row.warehouse,
        row.part,
        row.line,
        row.quantity,
        row.reserve,
        row.stated_at
    ])?;
    Ok(())
}

/// File of a staged delivery.
#[derive(Debug)]
enum StagedFile {
    /// Deleted when it is dropped.
    Temporary(TempPath),
    /// File of a held delivery.
    Kept(PathBuf),
}

/// Rows of a staged delivery that name a SKU.
#[derive(Debug)]
pub(super) enum StagedRows {
    /// More rows may be added: those whose id is resolved.
    Unsorted(RunSorter),
    /// The rows can be merged.
    Sorted(SortedRecords),
    /// The rows are merged, in the table `resolved`.
    Resolved,
}

/// A delivery that was staged to its end. Dropping it deletes its files unless it is held.
#[derive(Debug)]
pub(in crate::sources) struct StagedDelivery {
    file: StagedFile,
    pub(super) conn: Connection,
    pub(super) rows: StagedRows,
    pub(super) sorted_warehouses: SortedWarehouses,
    /// True if it has articles, or rows that name an id.
    pub(super) has_ids: bool,
    /// True if the rows that are not applied were all written to the file.
    pub(super) are_rejected_listed: bool,
    /// Products for whose id no SKU is known.
    pub(super) without_known_sku: u64,
    /// Counts of its rows.
    pub(in crate::sources) counts: StageCounts,
    /// Warehouses that it names; `""` for rows without one.
    pub(in crate::sources) warehouses: BTreeSet<String>,
    /// The first row without a SKU: it may belong to a product that seems absent.
    pub(in crate::sources) first_without_sku: Option<RejectedRow>,
    /// Digest of its rows, independent of their order.
    pub(in crate::sources) digest: u64,
}

impl StagedDelivery {
    /// Opens the file of a held delivery.
    pub(super) fn open(path: &Path) -> Result<Self, StorageError> {
        let conn = open(path)?;
        let (warehouses, without_known_sku): (String, i64) = conn.query_row(
            "SELECT warehouses, without_known_sku FROM facts",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let sql = "SELECT count(*), count(*) FILTER (WHERE suspicious) FROM rejected";
        let (rejected, suspicious): (i64, i64) =
            conn.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let has_ids = conn.query_row(
            "SELECT EXISTS (SELECT 1 FROM article) OR EXISTS (SELECT 1 FROM variant)",
            [],
            |row| row.get(0),
        )?;
        Ok(Self {
            file: StagedFile::Kept(path.to_owned()),
            conn,
            rows: StagedRows::Resolved,
            sorted_warehouses: SortedWarehouses::default(),
            has_ids,
            are_rejected_listed: true,
            without_known_sku: without_known_sku.cast_unsigned(),
            counts: StageCounts {
                rejected: rejected.cast_unsigned(),
                suspicious: suspicious.cast_unsigned(),
                ..StageCounts::default()
            },
            warehouses: serde_json::from_str(&warehouses).map_err(|_| StorageError::Damaged)?,
            first_without_sku: None,
            digest: 0,
        })
    }

    /// Returns true if it was held before.
    pub(in crate::sources) fn is_held(&self) -> bool {
        matches!(self.file, StagedFile::Kept(_))
    }

    pub(super) fn path(&self) -> &Path {
        match &self.file {
            StagedFile::Temporary(path) => path,
            StagedFile::Kept(path) => path,
        }
    }

    /// Ends the adding of rows.
    pub(super) fn sort(&mut self) {
        let rows = std::mem::replace(&mut self.rows, StagedRows::Resolved);
        self.rows = match rows {
            StagedRows::Unsorted(sorter) => StagedRows::Sorted(sorter.finish()),
            rows @ (StagedRows::Sorted(_) | StagedRows::Resolved) => rows,
        };
    }

    /// Syncs the file and moves it to where it survives a restart.
    pub(super) fn persist(self, to: &Path) -> std::io::Result<()> {
        let Self { file, conn, .. } = self;
        drop(conn);
        match file {
            StagedFile::Temporary(path) => {
                std::fs::File::open(&path)?.sync_all()?;
                path.persist(to)?;
            }
            StagedFile::Kept(path) if path != to => std::fs::rename(path, to)?,
            StagedFile::Kept(_) => {}
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<Connection, StorageError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    // The file need not survive a crash until `persist` has synced it.
    conn.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY; \
         PRAGMA cache_size = -8192;",
    )?;
    Ok(conn)
}

/// Resolved rows of one SKU.
#[derive(Clone, Debug, Default)]
pub(super) struct DeliveredSku {
    pub(super) sku: String,
    /// In the order of their warehouse and variant.
    pub(super) rows: Vec<MergedRow>,
    /// True if the delivery lists the SKU, possibly without a row that can be applied.
    pub(super) is_present: bool,
}
