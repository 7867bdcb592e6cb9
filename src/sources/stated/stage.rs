use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, QueryBuilder, Row as _, Sqlite};

use super::variants::{self, Settling};
use super::{SourceId, migrate};
use crate::sources::{Duplicates, Entry, Fault, Key, Row, Scope, private};
use crate::stock::{Instant, Sku};

/// Rows that go to the staging file in one statement.
const AT_ONCE: usize = 500;

/// Warehouses whose names are remembered, for a message.
const MAX_PLACES: usize = 1_000;

/// How far in the future a row may be before it is a mistake.
const AHEAD: TimeDelta = TimeDelta::minutes(5);

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
pub(super) fn on_clash(duplicates: Duplicates) -> String {
    let states_nothing = "(excluded.quantity IS NULL AND quantity IS NULL)";
    let is_same = "(excluded.quantity IS quantity AND excluded.reserve IS reserve)";
    let is_mixed = "(mixed OR (excluded.at IS NULL) <> (at IS NULL))";
    let (is_fine, sum, is_fine_mixed) = match duplicates {
        Duplicates::Reject => (
            states_nothing,
            false,
            "NOT varied AND excluded.quantity IS NULL",
        ),
        Duplicates::Same => (is_same, false, "NOT varied"),
        // Of a row that states nothing it is not known how much it would add.
        Duplicates::Sum => (
            "((excluded.quantity IS NULL) = (quantity IS NULL))",
            true,
            "0",
        ),
    };
    let is_fine_mixed = format!("({is_fine_mixed} AND {is_same})");
    let taken = |column: &str| {
        let both = format!("COALESCE({column}, 0) + COALESCE(excluded.{column}, 0)");
        let neither = format!("{column} IS NULL AND excluded.{column} IS NULL");
        let otherwise = if sum {
            format!("WHEN {IS_EARLIER} OR ({neither}) THEN {column} ELSE {both}")
        } else {
            format!("ELSE {column}")
        };
        format!("{column} = CASE WHEN {IS_LATER} THEN excluded.{column} {otherwise} END")
    };
    let replaced = |column: &str| {
        format!("{column} = CASE WHEN {IS_LATER} THEN excluded.{column} ELSE {column} END")
    };
    let in_part = |column: &str, first: &str, next: &str| {
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
        in_part("clash", "0", &in_same_part),
        in_part("mixed", "0", is_mixed),
        in_part("varied", "0", &format!("varied OR NOT {is_same}")),
        in_part("copies", "1", "copies + 1"),
        taken("quantity"),
        taken("reserve"),
        replaced("line"),
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
pub struct Brought {
    /// Rows that were read, good or bad.
    pub rows: u64,
    /// Rows that were set aside.
    pub rejected: u64,
    /// Those of them that do not even name a product.
    pub unnamed: u64,
    /// Rows that can be read in two ways; they are among the rejected.
    pub suspicious: u64,
}

/// A delivery on its way in. Dropped, it was never there.
#[derive(Debug)]
pub(in crate::sources) struct Stage {
    path: PathBuf,
    // None once it is closed.
    conn: Option<SqliteConnection>,
    rows: Vec<Stated>,
    rejected: Vec<Fault>,
    present: Vec<String>,
    articles: Vec<(String, String)>,
    faulty: Vec<(String, u32)>,
    unnamed: Option<Fault>,
    on_clash: String,
    part: u32,
    brought: Brought,
    places: BTreeSet<String>,
    // Sum of the rows' digests, so that their order does not matter.
    digest: u64,
    is_kept: bool,
}

/// A row as it is written.
#[derive(Debug)]
struct Stated {
    // The SKU as the source spells it, or an id of the source's own.
    name: String,
    is_id: bool,
    place: String,
    part: u32,
    line: i64,
    quantity: Option<i64>,
    reserve: Option<i64>,
    at: Option<i64>,
}

impl Stage {
    pub(super) async fn begin(path: &Path, duplicates: Duplicates) -> Result<Self, sqlx::Error> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(sqlx::Error::Io(error));
            }
            Ok(()) | Err(_) => {}
        }
        private::ensure_file(path).map_err(sqlx::Error::Io)?;
        let mut conn = options(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Off)
            .locking_mode(sqlx::sqlite::SqliteLockingMode::Exclusive)
            .connect()
            .await?;
        sqlx::raw_sql(SCHEMA).execute(&mut conn).await?;
        sqlx::raw_sql(variants::STAGE_SCHEMA)
            .execute(&mut conn)
            .await?;
        sqlx::raw_sql("BEGIN").execute(&mut conn).await?;
        Ok(Self {
            path: path.to_owned(),
            conn: Some(conn),
            rows: Vec::new(),
            rejected: Vec::new(),
            present: Vec::new(),
            articles: Vec::new(),
            faulty: Vec::new(),
            unnamed: None,
            on_clash: on_clash(duplicates),
            part: 0,
            brought: Brought::default(),
            places: BTreeSet::new(),
            digest: 0,
            is_kept: false,
        })
    }

    /// Takes some entries in. `now` bounds the dates they may have.
    pub(in crate::sources) async fn put(
        &mut self,
        entries: Vec<Entry>,
        now: Instant,
    ) -> Result<(), sqlx::Error> {
        for entry in entries {
            match entry {
                Entry::Row(row) => self.put_row(row, now),
                Entry::Article { id, sku } => match Sku::parse(&sku) {
                    Ok(sku) => self.articles.push((id, sku.as_str().to_owned())),
                    Err(error) => {
                        self.reject(Fault::new(0, &format!("{id}: {sku}"), error.to_string()));
                    }
                },
                Entry::Rejected(fault) => {
                    self.brought.rows += 1;
                    self.reject(fault);
                }
                Entry::NextPart => {
                    self.write().await?;
                    self.part += 1;
                }
                Entry::Suspicious(fault) => {
                    self.brought.rows += 1;
                    self.reject(Fault {
                        is_suspicious: true,
                        ..fault
                    });
                }
            }
        }
        self.write().await
    }

    fn reject(&mut self, fault: Fault) {
        self.brought.rejected += 1;
        self.brought.suspicious += u64::from(fault.is_suspicious);
        if let Some(Ok(sku)) = fault.sku.as_deref().map(Sku::parse) {
            self.present.push(sku.as_str().to_owned());
            self.faulty.push((sku.as_str().to_owned(), self.part));
        } else {
            if let Some(Ok(sku)) = fault.may_be.as_deref().map(Sku::parse) {
                self.faulty.push((sku.as_str().to_owned(), self.part));
            }
            self.brought.unnamed += 1;
            self.unnamed.get_or_insert_with(|| fault.clone());
        }
        self.rejected.push(fault);
    }

    fn put_row(&mut self, row: Row, now: Instant) {
        self.brought.rows += 1;
        let Row {
            line,
            key,
            place,
            quantity,
            reserve,
            at,
        } = row;
        let place = place
            .as_deref()
            .map(str::trim)
            .unwrap_or_default()
            .to_owned();
        let (name, is_id) = match key {
            Key::Id(id) => (id, true),
            Key::Sku(text) => match Sku::parse(&text) {
                Ok(sku) => (sku.as_str().to_owned(), false),
                Err(error) => return self.reject(Fault::new(line, &text, error.to_string())),
            },
        };
        let latest = Instant::from(now.to_utc() + AHEAD);
        if let Some(at) = at.filter(|at| *at > latest) {
            let reason = format!("the date is {at}, it must not be in the future");
            let mut fault = Fault::new(line, &name, reason);
            fault.sku = Some(name).filter(|_| !is_id);
            return self.reject(fault);
        }
        // Our clock may be behind the source's; a date ahead of ours would shut out others.
        let at = at.map(|at| at.min(now));
        if self.places.len() < MAX_PLACES && !self.places.contains(&place) {
            self.places.insert(place.clone());
        }
        let stated = Stated {
            name,
            is_id,
            place,
            part: self.part,
            line: i64::try_from(line).unwrap_or(i64::MAX),
            quantity: quantity.map(|quantity| quantity.thousandths()),
            reserve: reserve.map(|reserve| reserve.thousandths()),
            at: at.map(Instant::as_micros),
        };
        self.digest = self.digest.wrapping_add(stated.digest());
        self.rows.push(stated);
    }

    /// Writes what has come together, in statements of the same few lengths.
    async fn write(&mut self) -> Result<(), sqlx::Error> {
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        let rows = std::mem::take(&mut self.rows);
        let (by_id, by_sku): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.is_id);
        for rows in by_sku.chunks(AT_ONCE) {
            insert(conn, ROW, rows, &self.on_clash).await?;
        }
        for rows in by_id.chunks(AT_ONCE) {
            insert(conn, BY_ID, rows, "").await?;
        }
        for (id, said) in std::mem::take(&mut self.articles) {
            sqlx::query("INSERT OR REPLACE INTO article (id, said) VALUES (?1, ?2)")
                .bind(id)
                .bind(said)
                .execute(&mut *conn)
                .await?;
        }
        for said in std::mem::take(&mut self.present) {
            sqlx::query("INSERT OR IGNORE INTO present (said) VALUES (?1)")
                .bind(said)
                .execute(&mut *conn)
                .await?;
        }
        for (said, part) in std::mem::take(&mut self.faulty) {
            sqlx::query("INSERT INTO faulty (said, part) VALUES (?1, ?2)")
                .bind(said)
                .bind(part)
                .execute(&mut *conn)
                .await?;
        }
        for fault in std::mem::take(&mut self.rejected) {
            reject(conn, &fault).await?;
        }
        Ok(())
    }

    /// What has come so far.
    pub(in crate::sources) fn brought(&self) -> Brought {
        self.brought
    }

    /// Closes a delivery that has come to its end.
    pub(in crate::sources) async fn end(mut self) -> Result<Staged, sqlx::Error> {
        if let Some(mut conn) = self.conn.take() {
            sqlx::raw_sql("COMMIT").execute(&mut conn).await?;
            // It holds the file for itself until then.
            conn.close().await?;
        }
        self.is_kept = true;
        Ok(Staged {
            path: self.path.clone(),
            brought: self.brought,
            places: std::mem::take(&mut self.places),
            unnamed: self.unnamed.take(),
            digest: self.digest,
            is_kept: false,
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.is_kept {
            // Removed at the next start otherwise.
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

impl Stated {
    fn digest(&self) -> u64 {
        let mut digest = Sha256::new();
        digest.update(&self.name);
        digest.update([0xff, u8::from(self.is_id)]);
        digest.update(&self.place);
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
pub(in crate::sources) struct Staged {
    path: PathBuf,
    /// What it has brought.
    pub(in crate::sources) brought: Brought,
    /// The warehouses it names; `""` where it names none.
    pub(in crate::sources) places: BTreeSet<String>,
    /// The first row that names no SKU, so that absence cannot be told.
    pub(in crate::sources) unnamed: Option<Fault>,
    /// What it says, as one number.
    pub(in crate::sources) digest: u64,
    is_kept: bool,
}

impl Staged {
    /// Opens one that was kept.
    pub(super) async fn open(path: &Path) -> Result<Self, sqlx::Error> {
        let mut conn = options(path).connect().await?;
        migrate::staged(&mut conn).await?;
        let places = sqlx::query_scalar("SELECT DISTINCT place FROM row LIMIT 1000");
        let places: Vec<String> = places.fetch_all(&mut conn).await?;
        let rejected: i64 = sqlx::query_scalar("SELECT count(*) FROM rejected")
            .fetch_one(&mut conn)
            .await?;
        conn.close().await?;
        let rejected = rejected.cast_unsigned();
        Ok(Self {
            path: path.to_owned(),
            brought: Brought {
                rejected,
                ..Brought::default()
            },
            places: places.into_iter().collect(),
            unnamed: None,
            digest: 0,
            is_kept: true,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it where it survives a restart.
    pub(super) fn keep(mut self, to: &Path) -> std::io::Result<()> {
        std::fs::File::open(&self.path)?.sync_all()?;
        if self.path != to {
            std::fs::rename(&self.path, to)?;
        }
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_kept {
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Off)
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-16384")
        .disable_statement_logging()
}

const ROW: &str = "row (said, place, part, line, quantity, reserve, at, clash) ";
const BY_ID: &str = "by_id (id, place, part, line, quantity, reserve, at) ";

/// Writes rows into a table of those columns; `on_clash` ends the statement where they may clash.
async fn insert(
    conn: &mut SqliteConnection,
    into: &str,
    rows: &[Stated],
    on_clash: &str,
) -> Result<(), sqlx::Error> {
    let mut insert: QueryBuilder<Sqlite> = QueryBuilder::new(format!("INSERT INTO {into}"));
    insert.push_values(rows, |mut values, row| {
        values
            .push_bind(&row.name)
            .push_bind(&row.place)
            .push_bind(row.part)
            .push_bind(row.line)
            .push_bind(row.quantity)
            .push_bind(row.reserve)
            .push_bind(row.at);
        if !on_clash.is_empty() {
            values.push("0");
        }
    });
    insert.push(on_clash);
    insert
        .build()
        .persistent(rows.len() == AT_ONCE)
        .execute(conn)
        .await?;
    Ok(())
}

async fn reject(conn: &mut SqliteConnection, fault: &Fault) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO rejected (line, text, reason, suspicious) VALUES (?1, ?2, ?3, ?4)")
        .bind(i64::try_from(fault.line).unwrap_or(i64::MAX))
        .bind(&fault.text)
        .bind(&fault.reason)
        .bind(fault.is_suspicious)
        .execute(conn)
        .await?;
    Ok(())
}

/// Finds the SKUs of rows that came by id, and sets aside what cannot be told apart.
///
/// Only the delivery itself is written to: what it says is not taken yet. Once more does no
/// harm: what was found is a row like any other then. Returns how many products have no SKU.
pub(super) async fn settle(
    conn: &mut SqliteConnection,
    source: SourceId,
    settling: Settling,
) -> Result<u64, sqlx::Error> {
    let settled: i64 = sqlx::query_scalar("PRAGMA delivery.user_version")
        .fetch_one(&mut *conn)
        .await?;
    if settled > 0 {
        return Ok(0);
    }
    let has_variants = variants::are_known(conn, source).await?;
    if has_variants {
        variants::join(conn, source, settling).await?;
    }
    let said = "COALESCE((SELECT said FROM delivery.article WHERE id = r.id), \
                (SELECT said FROM main.article WHERE source = ?1 AND id = r.id))";
    let found = format!(
        "INSERT INTO delivery.row (said, place, part, line, quantity, reserve, at, clash) \
         SELECT {said}, r.place, r.part, r.line, r.quantity, r.reserve, r.at, 0 \
         FROM delivery.by_id r WHERE {said} IS NOT NULL{}",
        on_clash(settling.duplicates)
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
    let mut nameless_products = 0;
    for (statement, is_needed) in [(found, !has_variants), (nameless, true)] {
        if is_needed {
            let query = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(source.0);
            // The last one's rows are those that count.
            nameless_products = query.execute(&mut *conn).await?.rows_affected();
        }
    }
    if has_variants {
        variants::set_aside(conn, source, settling).await?;
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(set_aside_duplicates(
        settling.duplicates,
    )))
    .execute(conn)
    .await?;
    Ok(nameless_products)
}

/// Rejects the rows whose SKU stands several times, and sums that are no count.
fn set_aside_duplicates(duplicates: Duplicates) -> String {
    let why = match duplicates {
        Duplicates::Reject => {
            "': set duplicates = \"sum\" if its rows add up, or duplicates = \"same\" if equal rows \
             repeat each other'"
        }
        Duplicates::Same => {
            "' with different numbers: set duplicates = \"sum\" if its rows add up'"
        }
        Duplicates::Sum => {
            "CASE WHEN mixed THEN '' ELSE ', of which one states no number: their sum is not known' END"
        }
    };
    let most = crate::sources::Quantity::MAX.thousandths();
    // Where the delivery names several warehouses, the row that is not applied may be of another
    // one, and each is kept for itself; a sum is of all its rows.
    let is_part = match duplicates {
        Duplicates::Sum => "1",
        Duplicates::Reject | Duplicates::Same => {
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
pub(in crate::sources) struct Taking {
    /// Whether it is complete.
    pub(in crate::sources) scope: Scope,
    /// As of when it was stated.
    pub(in crate::sources) at: Instant,
    /// What it does not name is absent.
    pub(in crate::sources) tells_absence: bool,
    /// It has waited: what was stated since is newer.
    pub(in crate::sources) is_late: bool,
}

/// Puts a settled delivery in the place of what its source stated, in an open transaction.
///
/// What is the same as before is not written again.
pub(super) async fn take(
    conn: &mut SqliteConnection,
    source: SourceId,
    taking: Taking,
) -> Result<(), sqlx::Error> {
    let Taking {
        scope,
        at,
        tells_absence,
        is_late,
    } = taking;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *conn).await?;
    sqlx::query(
        "INSERT INTO main.article (source, id, said) SELECT ?1, id, said FROM delivery.article \
         WHERE true ON CONFLICT (source, id) DO UPDATE SET said = excluded.said \
         WHERE said IS NOT excluded.said",
    )
    .bind(source.0)
    .execute(&mut *conn)
    .await?;
    if variants::are_known(conn, source).await? {
        variants::take(conn, source, at.as_micros(), is_late).await?;
    }
    // In a snapshot a row's date is the snapshot's, unless it has one of its own: noted once
    // for all of them, with the source. In a delta each row has the delta's. A snapshot that
    // has waited is not the last one any more, so its rows have their own date too.
    let own_date = scope == Scope::Delta || is_late;
    let default = own_date.then_some(at.as_micros());
    let since = "COALESCE(at, (SELECT snapshot_at FROM source WHERE id = ?1), 0)";
    if scope == Scope::Snapshot {
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
            .bind(tells_absence)
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
        .bind(default)
        .bind(is_late)
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
    .bind(scope == Scope::Snapshot)
    .bind(is_late)
    .execute(conn)
    .await?;
    Ok(())
}

/// Counts the rows of a settled delivery: to be taken, rejected, suspicious among these, and
/// suspicious because variants share their SKU.
pub(super) async fn count(conn: &mut SqliteConnection) -> Result<[u64; 4], sqlx::Error> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM delivery.row), (SELECT count(*) FROM delivery.rejected), \
         (SELECT count(*) FROM delivery.rejected WHERE suspicious), \
         (SELECT count(*) FROM delivery.unclear)",
    )
    .fetch_one(conn)
    .await?;
    let number = |at: usize| row.get::<i64, _>(at).cast_unsigned();
    Ok([number(0), number(1), number(2), number(3)])
}

/// The first rows of a delivery that are not applied.
pub(super) async fn first_rejected(conn: &mut SqliteConnection) -> Result<Vec<Fault>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT line, text, reason, suspicious FROM delivery.rejected ORDER BY line LIMIT 20",
    );
    Ok(rows.fetch_all(conn).await?.iter().map(fault).collect())
}

/// Reads a row of line, text, reason and whether it is suspicious.
pub(super) fn fault(row: &sqlx::sqlite::SqliteRow) -> Fault {
    Fault {
        line: u64::try_from(row.get::<i64, _>(0)).unwrap_or_default(),
        text: row.get(1),
        reason: row.get(2),
        sku: None,
        may_be: None,
        is_suspicious: row.get::<i64, _>(3) != 0,
    }
}

/// Notes which rows of the attached delivery were set aside, instead of those before.
pub(super) async fn note_rejected(
    conn: &mut SqliteConnection,
    source: SourceId,
    most: i64,
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
    .bind(most)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}
