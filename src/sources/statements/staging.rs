use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, QueryBuilder, Row as _, Sqlite};

use super::variants::{self, ResolveOptions};
use super::{SourceId, migrate};
use crate::sources::{
    DeliveryEntry, DeliveryScope, DuplicatePolicy, ProductKey, RejectedRow, Row, private_files,
};
use crate::stock::{Sku, Timestamp};

/// Rows that go to the staging file in one statement.
const ROWS_PER_INSERT: usize = 500;

/// Warehouses whose names are remembered, for a message.
const MAX_WAREHOUSES: usize = 1_000;

/// How far in the future a row may be before it is a mistake.
const MAX_FUTURE: TimeDelta = TimeDelta::minutes(5);

/// A row twice with one date, or none, and different numbers cannot be told apart; with two
/// dates the later one holds, and what stands in a later part replaces what stood before.
const SCHEMA: &str = "\
CREATE TABLE row (said TEXT NOT NULL, place TEXT NOT NULL, part INTEGER NOT NULL, \
line INTEGER NOT NULL, quantity INTEGER, reserve INTEGER, at INTEGER, clash INTEGER NOT NULL, \
copies INTEGER NOT NULL DEFAULT 1, mixed INTEGER NOT NULL DEFAULT 0, \
varied INTEGER NOT NULL DEFAULT 0, variant TEXT NOT NULL DEFAULT '', PRIMARY KEY (said, place, variant)) WITHOUT ROWID;
CREATE TABLE by_id (id TEXT NOT NULL, place TEXT NOT NULL, part INTEGER NOT NULL, \
line INTEGER NOT NULL, quantity INTEGER, reserve INTEGER, at INTEGER);
CREATE TABLE article (id TEXT NOT NULL PRIMARY KEY, said TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE present (said TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE faulty (said TEXT NOT NULL, part INTEGER NOT NULL);
CREATE TABLE rejected (line INTEGER NOT NULL, text TEXT NOT NULL, reason TEXT NOT NULL, \
suspicious INTEGER NOT NULL DEFAULT 0);";

/// Orders two rows of one SKU and warehouse by their part of the delivery, or else by their dates.
const IS_LATER: &str = "(excluded.part > part OR (excluded.part = part AND excluded.at > at))";
const IS_EARLIER: &str = "(excluded.part < part OR excluded.at < at)";

/// SQL that resolves a row whose SKU and warehouse are staged already.
///
/// Dates order the rows of a part only if every row has one. `mixed` records that some have a date
/// and some have not, `varied` that their numbers differ, `copies` how many rows there are. The
/// result does not depend on the order of the rows.
pub(super) fn conflict_clause(duplicates: DuplicatePolicy) -> String {
    let states_nothing = "(excluded.quantity IS NULL AND quantity IS NULL)";
    let is_same = "(excluded.quantity IS quantity AND excluded.reserve IS reserve)";
    let is_mixed = "(mixed OR (excluded.at IS NULL) <> (at IS NULL))";
    let (is_fine, sum, is_fine_mixed) = match duplicates {
        DuplicatePolicy::Reject => (
            states_nothing,
            false,
            "NOT varied AND excluded.quantity IS NULL",
        ),
        DuplicatePolicy::Same => (is_same, false, "NOT varied"),
        // Of a row that states nothing it is not known how much it would add.
        DuplicatePolicy::Sum => (
            "((excluded.quantity IS NULL) = (quantity IS NULL))",
            true,
            "0",
        ),
    };
    let is_fine_mixed = format!("({is_fine_mixed} AND {is_same})");
    let added_or_latest = |column: &str| {
        let both = format!("COALESCE({column}, 0) + COALESCE(excluded.{column}, 0)");
        let neither = format!("{column} IS NULL AND excluded.{column} IS NULL");
        let otherwise = if sum {
            format!("WHEN {IS_EARLIER} OR ({neither}) THEN {column} ELSE {both}")
        } else {
            format!("ELSE {column}")
        };
        format!("{column} = CASE WHEN {IS_LATER} THEN excluded.{column} {otherwise} END")
    };
    let latest = |column: &str| {
        format!("{column} = CASE WHEN {IS_LATER} THEN excluded.{column} ELSE {column} END")
    };
    let within_part = |column: &str, first: &str, next: &str| {
        format!(
            "{column} = CASE WHEN excluded.part > part THEN {first} \
             WHEN excluded.part < part THEN {column} ELSE {next} END"
        )
    };
    let in_same_part = format!(
        "CASE WHEN {is_mixed} AND {is_fine_mixed} THEN clash WHEN {is_mixed} THEN excluded.line \
         WHEN excluded.at > at THEN 0 WHEN excluded.at < at OR {is_fine} THEN clash \
         ELSE excluded.line END"
    );
    let columns = [
        within_part("clash", "0", &in_same_part),
        within_part("mixed", "0", is_mixed),
        within_part("varied", "0", &format!("varied OR NOT {is_same}")),
        within_part("copies", "1", "copies + 1"),
        added_or_latest("quantity"),
        added_or_latest("reserve"),
        latest("line"),
        format!(
            "at = CASE WHEN excluded.part = part AND {is_mixed} THEN NULL \
             WHEN {IS_LATER} THEN excluded.at ELSE at END"
        ),
    ];
    format!(
        " ON CONFLICT (said, place, variant) DO UPDATE SET {}, part = max(part, excluded.part)",
        columns.join(", ")
    )
}

/// What a delivery has brought so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StageCounts {
    /// Rows that were read, good or bad.
    pub rows: u64,
    /// Rows that were set aside.
    pub rejected: u64,
    /// Those of them that do not even name a product.
    pub without_sku: u64,
    /// Rows that can be read in two ways; they are among the rejected.
    pub suspicious: u64,
}

/// A delivery on its way in. Dropped, it was never there.
#[derive(Debug)]
pub(in crate::sources) struct StagingFile {
    path: PathBuf,
    // None once it is closed.
    conn: Option<SqliteConnection>,
    rows: Vec<StagedRow>,
    rejected: Vec<RejectedRow>,
    listed_skus: Vec<String>,
    articles: Vec<(String, String)>,
    rejected_skus: Vec<(String, u32)>,
    first_without_sku: Option<RejectedRow>,
    conflict_clause: String,
    part: u32,
    counts: StageCounts,
    warehouses: BTreeSet<String>,
    // Sum of the rows' digests, so that their order does not matter.
    digest: u64,
    is_kept: bool,
}

/// A row as it is written.
#[derive(Debug)]
struct StagedRow {
    // The SKU as the source spells it, or an id of the source's own.
    name: String,
    is_id: bool,
    warehouse: String,
    part: u32,
    line: i64,
    quantity: Option<i64>,
    reserve: Option<i64>,
    stated_at: Option<i64>,
}

impl StagingFile {
    pub(super) async fn create(
        path: &Path,
        duplicates: DuplicatePolicy,
    ) -> Result<Self, sqlx::Error> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(sqlx::Error::Io(error));
            }
            Ok(()) | Err(_) => {}
        }
        private_files::ensure_file(path).map_err(sqlx::Error::Io)?;
        let mut conn = connect_options(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Off)
            .locking_mode(sqlx::sqlite::SqliteLockingMode::Exclusive)
            .connect()
            .await?;
        sqlx::raw_sql(SCHEMA).execute(&mut conn).await?;
        sqlx::raw_sql(variants::STAGING_SCHEMA)
            .execute(&mut conn)
            .await?;
        sqlx::raw_sql("BEGIN").execute(&mut conn).await?;
        Ok(Self {
            path: path.to_owned(),
            conn: Some(conn),
            rows: Vec::new(),
            rejected: Vec::new(),
            listed_skus: Vec::new(),
            articles: Vec::new(),
            rejected_skus: Vec::new(),
            first_without_sku: None,
            conflict_clause: conflict_clause(duplicates),
            part: 0,
            counts: StageCounts::default(),
            warehouses: BTreeSet::new(),
            digest: 0,
            is_kept: false,
        })
    }

    /// Takes some entries in. `now` bounds the dates they may have.
    pub(in crate::sources) async fn add_entries(
        &mut self,
        entries: Vec<DeliveryEntry>,
        now: Timestamp,
    ) -> Result<(), sqlx::Error> {
        for entry in entries {
            match entry {
                DeliveryEntry::Row(row) => self.add_row(row, now),
                DeliveryEntry::Article { id, sku } => match Sku::parse(&sku) {
                    Ok(sku) => self.articles.push((id, sku.as_str().to_owned())),
                    Err(error) => {
                        self.add_rejected(RejectedRow::new(
                            0,
                            &format!("{id}: {sku}"),
                            error.to_string(),
                        ));
                    }
                },
                DeliveryEntry::Rejected(rejected) => {
                    self.counts.rows += 1;
                    self.add_rejected(rejected);
                }
                DeliveryEntry::PartBoundary => {
                    self.flush().await?;
                    self.part += 1;
                }
                DeliveryEntry::Suspicious(rejected) => {
                    self.counts.rows += 1;
                    self.add_rejected(RejectedRow {
                        is_suspicious: true,
                        ..rejected
                    });
                }
            }
        }
        self.flush().await
    }

    fn add_rejected(&mut self, row: RejectedRow) {
        self.counts.rejected += 1;
        self.counts.suspicious += u64::from(row.is_suspicious);
        if let Some(Ok(sku)) = row.sku.as_deref().map(Sku::parse) {
            self.listed_skus.push(sku.as_str().to_owned());
            self.rejected_skus
                .push((sku.as_str().to_owned(), self.part));
        } else {
            if let Some(Ok(sku)) = row.possible_sku.as_deref().map(Sku::parse) {
                self.rejected_skus
                    .push((sku.as_str().to_owned(), self.part));
            }
            self.counts.without_sku += 1;
            self.first_without_sku.get_or_insert_with(|| row.clone());
        }
        self.rejected.push(row);
    }

    fn add_row(&mut self, row: Row, now: Timestamp) {
        self.counts.rows += 1;
        let Row {
            line,
            key,
            warehouse: place,
            quantity,
            reserve,
            stated_at: at,
        } = row;
        let warehouse = place
            .as_deref()
            .map(str::trim)
            .unwrap_or_default()
            .to_owned();
        let (name, is_id) = match key {
            ProductKey::Id(id) => (id, true),
            ProductKey::Sku(text) => match Sku::parse(&text) {
                Ok(sku) => (sku.as_str().to_owned(), false),
                Err(error) => {
                    return self.add_rejected(RejectedRow::new(line, &text, error.to_string()));
                }
            },
        };
        let latest = Timestamp::from(now.to_utc() + MAX_FUTURE);
        if let Some(at) = at.filter(|at| *at > latest) {
            let reason = format!("the date is {at}, it must not be in the future");
            let mut rejected = RejectedRow::new(line, &name, reason);
            rejected.sku = Some(name).filter(|_| !is_id);
            return self.add_rejected(rejected);
        }
        // Our clock may be behind the source's; a date ahead of ours would shut out others.
        let at = at.map(|at| at.min(now));
        if self.warehouses.len() < MAX_WAREHOUSES && !self.warehouses.contains(&warehouse) {
            self.warehouses.insert(warehouse.clone());
        }
        let staged = StagedRow {
            name,
            is_id,
            warehouse,
            part: self.part,
            line: i64::try_from(line).unwrap_or(i64::MAX),
            quantity: quantity.map(|quantity| quantity.thousandths()),
            reserve: reserve.map(|reserve| reserve.thousandths()),
            stated_at: at.map(Timestamp::as_micros),
        };
        self.digest = self.digest.wrapping_add(staged.digest());
        self.rows.push(staged);
    }

    /// Writes what has come together, in statements of the same few lengths.
    async fn flush(&mut self) -> Result<(), sqlx::Error> {
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        let rows = std::mem::take(&mut self.rows);
        let (by_id, by_sku): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.is_id);
        for rows in by_sku.chunks(ROWS_PER_INSERT) {
            insert(conn, ROW_COLUMNS, rows, &self.conflict_clause).await?;
        }
        for rows in by_id.chunks(ROWS_PER_INSERT) {
            insert(conn, BY_ID_COLUMNS, rows, "").await?;
        }
        for (id, source_sku) in std::mem::take(&mut self.articles) {
            sqlx::query("INSERT OR REPLACE INTO article (id, said) VALUES (?1, ?2)")
                .bind(id)
                .bind(source_sku)
                .execute(&mut *conn)
                .await?;
        }
        for source_sku in std::mem::take(&mut self.listed_skus) {
            sqlx::query("INSERT OR IGNORE INTO present (said) VALUES (?1)")
                .bind(source_sku)
                .execute(&mut *conn)
                .await?;
        }
        for (source_sku, part) in std::mem::take(&mut self.rejected_skus) {
            sqlx::query("INSERT INTO faulty (said, part) VALUES (?1, ?2)")
                .bind(source_sku)
                .bind(part)
                .execute(&mut *conn)
                .await?;
        }
        for rejected in std::mem::take(&mut self.rejected) {
            insert_rejected(conn, &rejected).await?;
        }
        Ok(())
    }

    /// What has come so far.
    pub(in crate::sources) fn counts(&self) -> StageCounts {
        self.counts
    }

    /// Closes a delivery that has come to its end.
    pub(in crate::sources) async fn finish(mut self) -> Result<StagedDelivery, sqlx::Error> {
        if let Some(mut conn) = self.conn.take() {
            sqlx::raw_sql("COMMIT").execute(&mut conn).await?;
            // It holds the file for itself until then.
            conn.close().await?;
        }
        self.is_kept = true;
        Ok(StagedDelivery {
            path: self.path.clone(),
            counts: self.counts,
            warehouses: std::mem::take(&mut self.warehouses),
            first_without_sku: self.first_without_sku.take(),
            digest: self.digest,
            is_kept: false,
        })
    }
}

impl Drop for StagingFile {
    fn drop(&mut self) {
        if !self.is_kept {
            // Removed at the next start otherwise.
            let _removed = std::fs::remove_file(&self.path);
        }
    }
}

impl StagedRow {
    fn digest(&self) -> u64 {
        let mut digest = Sha256::new();
        digest.update(&self.name);
        digest.update([0xff, u8::from(self.is_id)]);
        digest.update(&self.warehouse);
        digest.update([0xff]);
        for number in [self.quantity, self.reserve] {
            digest.update(number.unwrap_or(i64::MIN).to_le_bytes());
        }
        let bytes = digest.finalize();
        bytes
            .iter()
            .take(8)
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// A delivery that is all there, and waits to be taken. Dropped, it was never there.
#[derive(Debug)]
pub(in crate::sources) struct StagedDelivery {
    path: PathBuf,
    /// What it has brought.
    pub(in crate::sources) counts: StageCounts,
    /// The warehouses it names; `""` where it names none.
    pub(in crate::sources) warehouses: BTreeSet<String>,
    /// The first row that names no SKU, so that absence cannot be told.
    pub(in crate::sources) first_without_sku: Option<RejectedRow>,
    /// What it says, as one number.
    pub(in crate::sources) digest: u64,
    is_kept: bool,
}

impl StagedDelivery {
    /// Opens one that was kept.
    pub(super) async fn open(path: &Path) -> Result<Self, sqlx::Error> {
        let mut conn = connect_options(path).connect().await?;
        migrate::migrate_staged(&mut conn).await?;
        let warehouses = sqlx::query_scalar("SELECT DISTINCT place FROM row LIMIT 1000");
        let warehouses: Vec<String> = warehouses.fetch_all(&mut conn).await?;
        let rejected: i64 = sqlx::query_scalar("SELECT count(*) FROM rejected")
            .fetch_one(&mut conn)
            .await?;
        conn.close().await?;
        let rejected = rejected.cast_unsigned();
        Ok(Self {
            path: path.to_owned(),
            counts: StageCounts {
                rejected,
                ..StageCounts::default()
            },
            warehouses: warehouses.into_iter().collect(),
            first_without_sku: None,
            digest: 0,
            is_kept: true,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it where it survives a restart.
    pub(super) fn persist(mut self, to: &Path) -> std::io::Result<()> {
        std::fs::File::open(&self.path)?.sync_all()?;
        if self.path != to {
            std::fs::rename(&self.path, to)?;
        }
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for StagedDelivery {
    fn drop(&mut self) {
        if !self.is_kept {
            let _removed = std::fs::remove_file(&self.path);
        }
    }
}

fn connect_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Off)
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-16384")
        .disable_statement_logging()
}

const ROW_COLUMNS: &str = "row (said, place, part, line, quantity, reserve, at, clash) ";
const BY_ID_COLUMNS: &str = "by_id (id, place, part, line, quantity, reserve, at) ";

/// Writes rows into a table of those columns; `on_clash` ends the statement where they may clash.
async fn insert(
    conn: &mut SqliteConnection,
    table: &str,
    rows: &[StagedRow],
    conflict_clause: &str,
) -> Result<(), sqlx::Error> {
    let mut insert: QueryBuilder<Sqlite> = QueryBuilder::new(format!("INSERT INTO {table}"));
    insert.push_values(rows, |mut values, row| {
        values
            .push_bind(&row.name)
            .push_bind(&row.warehouse)
            .push_bind(row.part)
            .push_bind(row.line)
            .push_bind(row.quantity)
            .push_bind(row.reserve)
            .push_bind(row.stated_at);
        if !conflict_clause.is_empty() {
            values.push("0");
        }
    });
    insert.push(conflict_clause);
    insert
        .build()
        .persistent(rows.len() == ROWS_PER_INSERT)
        .execute(conn)
        .await?;
    Ok(())
}

async fn insert_rejected(
    conn: &mut SqliteConnection,
    row: &RejectedRow,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO rejected (line, text, reason, suspicious) VALUES (?1, ?2, ?3, ?4)")
        .bind(i64::try_from(row.line).unwrap_or(i64::MAX))
        .bind(&row.text)
        .bind(&row.reason)
        .bind(row.is_suspicious)
        .execute(conn)
        .await?;
    Ok(())
}

/// Finds the SKUs of rows that came by id, and sets aside what cannot be told apart.
///
/// Only the delivery itself is written to: what it says is not taken yet. Once more does no
/// harm: what was found is a row like any other then. Returns how many products have no SKU.
pub(super) async fn resolve(
    conn: &mut SqliteConnection,
    source: SourceId,
    options: ResolveOptions,
) -> Result<u64, sqlx::Error> {
    let resolved: i64 = sqlx::query_scalar("PRAGMA delivery.user_version")
        .fetch_one(&mut *conn)
        .await?;
    if resolved > 0 {
        return Ok(0);
    }
    let has_variants = variants::has_variants(conn, source).await?;
    if has_variants {
        variants::resolve_variants(conn, source, options).await?;
    }
    let said = "COALESCE((SELECT said FROM delivery.article WHERE id = r.id), \
                (SELECT said FROM main.article WHERE source = ?1 AND id = r.id))";
    let found = format!(
        "INSERT INTO delivery.row (said, place, part, line, quantity, reserve, at, clash) \
         SELECT {said}, r.place, r.part, r.line, r.quantity, r.reserve, r.at, 0 \
         FROM delivery.by_id r WHERE {said} IS NOT NULL{}",
        conflict_clause(options.duplicates)
    );
    // Those of variants were found with them.
    let has_none = format!(
        "{said} IS NULL AND NOT EXISTS \
         (SELECT 1 FROM delivery.variant v WHERE v.id = r.id AND v.said IS NOT NULL)"
    );
    let nameless = format!(
        "INSERT INTO delivery.rejected (line, text, reason) SELECT min(r.line), r.id, \
         'no SKU is known for this id: it stands in a catalogue that has not come, or has none' \
         FROM delivery.by_id r WHERE {has_none} GROUP BY r.id"
    );
    let mut products_without_sku = 0;
    for (statement, is_needed) in [(found, !has_variants), (nameless, true)] {
        if is_needed {
            let query = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(source.0);
            // The last one's rows are those that count.
            products_without_sku = query.execute(&mut *conn).await?.rows_affected();
        }
    }
    if has_variants {
        variants::reject_unclear(conn, source, options).await?;
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(reject_duplicates_sql(
        options.duplicates,
    )))
    .execute(conn)
    .await?;
    Ok(products_without_sku)
}

/// Rejects the rows whose SKU stands several times, and sums that are no count.
fn reject_duplicates_sql(duplicates: DuplicatePolicy) -> String {
    let why = match duplicates {
        DuplicatePolicy::Reject => {
            "': set duplicates = \"sum\" if its rows add up, or duplicates = \"same\" if equal rows \
             repeat each other'"
        }
        DuplicatePolicy::Same => {
            "' with different numbers: set duplicates = \"sum\" if its rows add up'"
        }
        DuplicatePolicy::Sum => {
            "CASE WHEN mixed THEN '' ELSE ', of which one states no number: their sum is not known' END"
        }
    };
    let most = crate::sources::Quantity::MAX.thousandths();
    // Where the delivery names several warehouses, the row that is not applied may be of another
    // one, and each is kept for itself; a sum is of all its rows.
    let is_part = match duplicates {
        DuplicatePolicy::Sum => "1",
        DuplicatePolicy::Reject | DuplicatePolicy::Same => {
            "(SELECT count(DISTINCT place) FROM delivery.row) <= 1"
        }
    };
    let is_faulty = format!(
        "{is_part} AND EXISTS (SELECT 1 FROM delivery.faulty f WHERE f.said = row.said \
         AND f.part >= row.part)"
    );
    format!(
        "DELETE FROM delivery.by_id; \
         CREATE INDEX IF NOT EXISTS delivery.faulty_by_said ON faulty (said); \
         INSERT INTO delivery.rejected (line, text, reason, suspicious) SELECT line, said, \
         'the SKU stands here and in row ' || clash || \
         CASE WHEN copies > 2 THEN ' (' || copies || ' rows in all)' ELSE '' END || \
         CASE WHEN mixed THEN ', some with a date and some without: give all of them a date, or \
         none' ELSE '' END || {why}, 1 \
         FROM delivery.row WHERE clash > 0; \
         INSERT INTO delivery.rejected (line, text, reason, suspicious) SELECT line, said, \
         'another row of this SKU is not applied, so this one may be a part of its stock', 1 \
         FROM delivery.row WHERE clash = 0 AND {is_faulty}; \
         INSERT INTO delivery.rejected (line, text, reason, suspicious) SELECT line, said, \
         'the sum of its rows is more than a count can be', 0 \
         FROM delivery.row WHERE clash = 0 AND abs(quantity) > {most} AND NOT ({is_faulty}); \
         INSERT OR IGNORE INTO delivery.present (said) SELECT said FROM delivery.row \
         WHERE clash > 0 OR (quantity IS NULL AND variant = '') OR abs(quantity) > {most}; \
         DELETE FROM delivery.row WHERE clash > 0 OR abs(quantity) > {most} OR ({is_faulty}); \
         PRAGMA delivery.user_version = 1;"
    )
}

/// How a settled delivery is taken.
#[derive(Clone, Copy, Debug)]
pub(in crate::sources) struct CommitOptions {
    /// Whether it is complete.
    pub(in crate::sources) scope: DeliveryScope,
    /// As of when it was stated.
    pub(in crate::sources) stated_at: Timestamp,
    /// What it does not name is absent.
    pub(in crate::sources) implies_absence: bool,
    /// It has waited: what was stated since is newer.
    pub(in crate::sources) is_out_of_order: bool,
}

/// Puts a settled delivery in the place of what its source stated, in an open transaction.
///
/// What is the same as before is not written again.
pub(super) async fn write_statements(
    conn: &mut SqliteConnection,
    source: SourceId,
    options: CommitOptions,
) -> Result<(), sqlx::Error> {
    let CommitOptions {
        scope,
        stated_at: at,
        implies_absence,
        is_out_of_order,
    } = options;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *conn).await?;
    sqlx::query(
        "INSERT INTO main.article (source, id, said) SELECT ?1, id, said FROM delivery.article \
         WHERE true ON CONFLICT (source, id) DO UPDATE SET said = excluded.said \
         WHERE said IS NOT excluded.said",
    )
    .bind(source.0)
    .execute(&mut *conn)
    .await?;
    if variants::has_variants(conn, source).await? {
        variants::write_variants(conn, source, at.as_micros(), is_out_of_order).await?;
    }
    // In a snapshot a row's date is the snapshot's, unless it has one of its own: noted once
    // for all of them, with the source. In a delta each row has the delta's. A snapshot that
    // has waited is not the last one any more, so its rows have their own date too.
    let has_own_date = scope == DeliveryScope::Delta || is_out_of_order;
    let default_date = has_own_date.then_some(at.as_micros());
    let since = "COALESCE(at, (SELECT snapshot_at FROM source WHERE id = ?1), 0)";
    if scope == DeliveryScope::Snapshot {
        // A variant that is there without a number.
        let listed = "EXISTS (SELECT 1 FROM delivery.row r WHERE r.said = stated.said \
                      AND r.variant <> '' AND stated.variant IN ('', r.variant) \
                      AND r.quantity IS NULL)";
        // What is there without a number was last stated before.
        let kept = format!(
            "UPDATE stated SET at = {since} WHERE source = ?1 AND at IS NULL AND \
             (said IN (SELECT said FROM delivery.present) OR {listed})"
        );
        sqlx::query(sqlx::AssertSqlSafe(kept))
            .bind(source.0)
            .execute(&mut *conn)
            .await?;
        let gone = format!(
            "UPDATE stated SET at = {since}, absent_at = CASE WHEN ?2 THEN ?3 ELSE absent_at END \
             WHERE source = ?1 AND absent_at IS NULL AND (at IS NULL OR ?2) AND {since} <= ?3 \
             AND said NOT IN (SELECT said FROM delivery.present) \
             AND NOT EXISTS (SELECT 1 FROM delivery.row r WHERE r.said = stated.said AND \
             r.place = stated.place AND r.variant = stated.variant) AND NOT {listed}"
        );
        sqlx::query(sqlx::AssertSqlSafe(gone))
            .bind(source.0)
            .bind(implies_absence)
            .bind(at.as_micros())
            .execute(&mut *conn)
            .await?;
    }
    let rows = format!(
        "INSERT INTO stated (said, source, place, variant, quantity, reserve, at, absent_at) \
         SELECT said, ?1, place, variant, quantity, reserve, COALESCE(at, ?2), NULL \
         FROM delivery.row WHERE quantity IS NOT NULL ORDER BY said \
         ON CONFLICT (said, source, place, variant) DO UPDATE SET quantity = excluded.quantity, \
         reserve = excluded.reserve, at = excluded.at, absent_at = NULL \
         WHERE (quantity IS NOT excluded.quantity OR reserve IS NOT excluded.reserve \
         OR at IS NOT excluded.at OR absent_at IS NOT NULL) \
         AND (NOT ?3 OR max({since}, COALESCE(absent_at, 0)) <= ?4)"
    );
    sqlx::query(sqlx::AssertSqlSafe(rows))
        .bind(source.0)
        .bind(default_date)
        .bind(is_out_of_order)
        .bind(at.as_micros())
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "UPDATE source SET owes = 1, stated_at = max(COALESCE(stated_at, ?2), ?2), \
         snapshot_at = CASE WHEN ?3 AND NOT ?4 THEN ?2 ELSE snapshot_at END, \
         rows = CASE WHEN ?3 THEN (SELECT count(*) FROM delivery.row) ELSE rows END WHERE id = ?1",
    )
    .bind(source.0)
    .bind(at.as_micros())
    .bind(scope == DeliveryScope::Snapshot)
    .bind(is_out_of_order)
    .execute(conn)
    .await?;
    Ok(())
}

/// Counts the rows of a settled delivery: to be taken, rejected, suspicious among these, and
/// suspicious because variants share their SKU.
pub(super) async fn count_rows(conn: &mut SqliteConnection) -> Result<[u64; 4], sqlx::Error> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM delivery.row), (SELECT count(*) FROM delivery.rejected), \
         (SELECT count(*) FROM delivery.rejected WHERE suspicious), \
         (SELECT count(*) FROM delivery.unclear)",
    )
    .fetch_one(conn)
    .await?;
    let number = |column: usize| row.get::<i64, _>(column).cast_unsigned();
    Ok([number(0), number(1), number(2), number(3)])
}

/// The first rows of a delivery that are not applied.
pub(super) async fn first_rejected(
    conn: &mut SqliteConnection,
) -> Result<Vec<RejectedRow>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT line, text, reason, suspicious FROM delivery.rejected ORDER BY line LIMIT 20",
    );
    Ok(rows
        .fetch_all(conn)
        .await?
        .iter()
        .map(rejected_row)
        .collect())
}

/// Reads a row of line, text, reason and whether it is suspicious.
pub(super) fn rejected_row(row: &sqlx::sqlite::SqliteRow) -> RejectedRow {
    RejectedRow {
        line: u64::try_from(row.get::<i64, _>(0)).unwrap_or_default(),
        text: row.get(1),
        reason: row.get(2),
        sku: None,
        possible_sku: None,
        is_suspicious: row.get::<i64, _>(3) != 0,
    }
}

/// Notes which rows of the attached delivery were set aside, instead of those before.
pub(super) async fn save_rejected(
    conn: &mut SqliteConnection,
    source: SourceId,
    limit: i64,
) -> Result<(), sqlx::Error> {
    let mut transaction = conn.begin().await?;
    sqlx::query("DELETE FROM rejected WHERE source = ?1")
        .bind(source.0)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(
        "INSERT INTO rejected (source, line, text, reason, suspicious) \
         SELECT ?1, line, text, reason, suspicious FROM delivery.rejected ORDER BY line LIMIT ?2",
    )
    .bind(source.0)
    .bind(limit)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}
