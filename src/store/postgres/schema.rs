//! Tables in the database, and their versions.

use sqlx::{AssertSqlSafe, Executor, Row};

use super::connection::{PostgresWork, query};
use crate::store::error::StoreInternalError;

/// Statements that lead from each version of the tables to the next. A published one never changes.
///
/// Bodies are packed already, so the server need not try to compress them.
const MIGRATIONS: [&str; 3] = [RECORDS, STATEMENT_IMAGES, STATEMENTS_AND_SETTINGS];

const RECORDS: &str = "\
CREATE TABLE stockbridge.shop (id bigint PRIMARY KEY, name text NOT NULL UNIQUE, \
target text NOT NULL, ver bigint NOT NULL, chain bigint NOT NULL, generation bigint NOT NULL, \
chunks bigint NOT NULL, rows bigint NOT NULL, upto bigint NOT NULL, upto_chain bigint NOT NULL, \
crc bigint NOT NULL);
CREATE TABLE stockbridge.change (shop bigint NOT NULL, ver bigint NOT NULL, rows bigint NOT NULL, \
body bytea NOT NULL, PRIMARY KEY (shop, ver));
ALTER TABLE stockbridge.change ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TABLE stockbridge.snapshot (shop bigint NOT NULL, generation bigint NOT NULL, \
chunk bigint NOT NULL, rows bigint NOT NULL, body bytea NOT NULL, \
PRIMARY KEY (shop, generation, chunk));
ALTER TABLE stockbridge.snapshot ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TABLE stockbridge.spent (shop bigint NOT NULL, at bigint NOT NULL, skus bigint NOT NULL, \
crc bigint NOT NULL);
CREATE INDEX spent_shop ON stockbridge.spent (shop, at);
CREATE TABLE stockbridge.note (shop bigint NOT NULL, name text NOT NULL, text text NOT NULL, \
crc bigint NOT NULL, PRIMARY KEY (shop, name));
CREATE TABLE stockbridge.lease (name text PRIMARY KEY, owner text NOT NULL, epoch bigint NOT NULL, \
until timestamptz NOT NULL);
CREATE TABLE stockbridge.replica (id text PRIMARY KEY, name text NOT NULL, shops bigint[] NOT NULL, \
applied bigint[] NOT NULL, until timestamptz NOT NULL) WITH (fillfactor = 50);";

/// A replica of a release without images leaves its `release` empty.
const STATEMENT_IMAGES: &str = "\
CREATE TABLE stockbridge.statement_file (shop bigint NOT NULL, name text NOT NULL, \
generation bigint NOT NULL, pages bigint NOT NULL, page_bytes bigint NOT NULL, \
digest bigint NOT NULL, PRIMARY KEY (shop, name));
CREATE TABLE stockbridge.statement_page (shop bigint NOT NULL, name text NOT NULL, \
page bigint NOT NULL, body bytea NOT NULL, PRIMARY KEY (shop, name, page));
ALTER TABLE stockbridge.statement_page ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE stockbridge.replica ADD COLUMN release text NOT NULL DEFAULT '';";

/// `directory_statements` is true for shops whose sources may have been read by a process without
/// images. A release that does not know the column writes none either, so that is the default.
///
/// `settings` has the digests of the settings that all replicas must have in common. A replica of a
/// release that does not know the column leaves it empty.
const STATEMENTS_AND_SETTINGS: &str = "\
ALTER TABLE stockbridge.shop ADD COLUMN directory_statements boolean NOT NULL DEFAULT true;
ALTER TABLE stockbridge.replica ADD COLUMN settings text NOT NULL DEFAULT '';";

/// Key of the lock under which one process at a time changes the tables: "Stbr".
const SCHEMA_LOCK: i64 = 0x5374_6272;

/// Newest version of the tables that this release knows.
pub(super) fn known_version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Creates or upgrades the tables, and returns the version that was found before.
///
/// A version that is newer than [`known_version`] is returned and left alone.
pub(super) async fn migrate(work: &mut PostgresWork<'_>) -> Result<i64, StoreInternalError> {
    let conn = work.conn();
    // Held until the end of the transaction, so it also works through a pooler.
    query("SELECT pg_advisory_xact_lock($1)")
        .bind(SCHEMA_LOCK)
        .execute(&mut *conn)
        .await?;
    // Not `CREATE … IF NOT EXISTS`, for which a user needs the right even if nothing is created.
    let exists = query("SELECT to_regclass('stockbridge.schema_version') IS NOT NULL")
        .fetch_one(&mut *conn)
        .await?;
    let found: i64 = if exists.try_get(0)? {
        let row = query("SELECT max(version) FROM stockbridge.schema_version")
            .fetch_one(&mut *conn)
            .await?;
        row.try_get::<Option<i64>, _>(0)?.unwrap_or(0)
    } else {
        let has_schema = query("SELECT to_regnamespace('stockbridge') IS NOT NULL")
            .fetch_one(&mut *conn)
            .await?;
        if !has_schema.try_get(0)? {
            conn.execute(sqlx::raw_sql("CREATE SCHEMA stockbridge"))
                .await?;
        }
        let table = "CREATE TABLE stockbridge.schema_version (version bigint PRIMARY KEY, \
                     applied_at timestamptz NOT NULL DEFAULT now())";
        conn.execute(sqlx::raw_sql(table)).await?;
        0
    };
    for (version, statements) in (1..).zip(MIGRATIONS) {
        if version <= found {
            continue;
        }
        conn.execute(sqlx::raw_sql(AssertSqlSafe(statements)))
            .await?;
        query("INSERT INTO stockbridge.schema_version (version) VALUES ($1)")
            .bind(version)
            .execute(&mut *conn)
            .await?;
    }
    Ok(found)
}
