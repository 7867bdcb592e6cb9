//! Migration of statements and staging files of earlier formats, in place.

use sqlx::sqlite::SqliteConnection;

/// SQL that migrates format 2 to 3 within a transaction: adds `source.absence`, the reason why the
/// last snapshot's absences were not applied.
pub(super) const FROM_2: &str = "ALTER TABLE source ADD COLUMN absence TEXT NOT NULL DEFAULT '';";

/// SQL that migrates format 1 to 3 within a transaction. Format 1 had no variants (a SKU had one
/// row for all of them), no suspicious rows and no shapes of accepted deliveries.
pub(super) const FROM_1: &str = "\
ALTER TABLE rejected ADD COLUMN suspicious INTEGER NOT NULL DEFAULT 0;
ALTER TABLE source ADD COLUMN shapes TEXT NOT NULL DEFAULT '{}';
ALTER TABLE source ADD COLUMN absence TEXT NOT NULL DEFAULT '';
CREATE TABLE stated_2 (said TEXT NOT NULL, source INTEGER NOT NULL, place TEXT NOT NULL, \
variant TEXT NOT NULL DEFAULT '', quantity INTEGER NOT NULL, reserve INTEGER, at INTEGER, \
absent_at INTEGER, PRIMARY KEY (said, source, place, variant)) STRICT, WITHOUT ROWID;
INSERT INTO stated_2 (said, source, place, quantity, reserve, at, absent_at) \
SELECT said, source, place, quantity, reserve, at, absent_at FROM stated;
DROP TABLE stated;
ALTER TABLE stated_2 RENAME TO stated;
CREATE TABLE variant (source INTEGER NOT NULL, product TEXT NOT NULL, id TEXT NOT NULL, \
is_alone INTEGER NOT NULL, PRIMARY KEY (source, product, id)) STRICT, WITHOUT ROWID;
INSERT INTO variant (source, product, id, is_alone) \
SELECT source, substr(id, 1, instr(id, '#') - 1), id, 0 FROM article WHERE instr(id, '#') > 1;";

/// Migrates a delivery that an earlier version held.
///
/// The delivery was resolved before it was held, so all its rows name SKUs and none an id.
pub(super) async fn migrate_staged(conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let is_current = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pragma_table_info('row') WHERE name = 'variant')",
    );
    if is_current.fetch_one(&mut *conn).await? {
        return Ok(());
    }
    let statements = format!(
        "BEGIN; CREATE TABLE row_2 (said TEXT NOT NULL, place TEXT NOT NULL, \
         part INTEGER NOT NULL, line INTEGER NOT NULL, quantity INTEGER, reserve INTEGER, \
         at INTEGER, clash INTEGER NOT NULL, variant TEXT NOT NULL DEFAULT '', \
         PRIMARY KEY (said, place, variant)) WITHOUT ROWID; \
         INSERT INTO row_2 (said, place, part, line, quantity, reserve, at, clash) \
         SELECT said, place, part, line, quantity, reserve, at, clash FROM row; \
         DROP TABLE row; ALTER TABLE row_2 RENAME TO row; \
         CREATE TABLE faulty (said TEXT NOT NULL, part INTEGER NOT NULL); \
         ALTER TABLE rejected ADD COLUMN suspicious INTEGER NOT NULL DEFAULT 0; {} \
         PRAGMA user_version = 1; COMMIT;",
        super::variants::STAGING_SCHEMA
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements))
        .execute(conn)
        .await
        .map(drop)
}
