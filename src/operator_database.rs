//! SQLite files with data for the operator's pages: events and the history for the charts.
//!
//! The service works without these files. So a file that cannot be used never keeps the service
//! from starting: a damaged one is renamed and a new one is begun, and a disk that is full or
//! read-only is tried again later.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};
use tracing::error;

/// Suffix of a damaged file. A later damaged file replaces it, so at most one is kept.
const DAMAGED_SUFFIX: &str = ".damaged";

/// Timeout of a commit that waits for the write lock, which an operator's `sqlite3` may hold.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Size in bytes to which SQLite truncates its write-ahead log.
const WAL_KEPT_BYTES: &str = "1048576";

/// Name and tables of a file.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseLayout {
    /// Name of the file in the store's directory.
    pub file_name: &'static str,
    /// Statements that create the tables, each ended by `;` and a line feed. SQLite keeps their
    /// text, and a file with another text counts as damaged.
    pub schema: &'static str,
}

/// Opened file.
#[derive(Debug)]
pub struct OpenedDatabase {
    /// Connection that may write.
    pub connection: SqliteConnection,
    /// Damage for which a previous file was renamed.
    pub replaced_because: Option<String>,
}

/// Reason why a file cannot be used now.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite failed.
    #[error("{0}")]
    Sqlite(#[from] sqlx::Error),
    /// The file cannot be created, renamed or restricted to its owner.
    #[error("{0}")]
    File(#[from] io::Error),
    /// The content is not what was written.
    #[error("{0}")]
    Damaged(String),
}

impl DatabaseError {
    /// Returns true if the content of the file is at fault, so that only a new file helps.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::File(_) => false,
            Self::Sqlite(error) => is_damage(error),
        }
    }
}

/// Returns true if an error of SQLite shows that the content of the file is at fault.
fn is_damage(error: &sqlx::Error) -> bool {
    match error {
        // Values of a type that the schema does not allow.
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::RowNotFound
        | sqlx::Error::ColumnNotFound(_) => true,
        sqlx::Error::Database(database) => {
            let code: Option<i32> = database.code().and_then(|code| code.parse().ok());
            // ERROR (our SQL does not fit the tables), CORRUPT and NOTADB.
            // Source: https://sqlite.org/rescode.html
            code.is_some_and(|code| matches!(code & 0xff, 1 | 11 | 26))
        }
        _ => false,
    }
}

/// Opens a file, and creates it if it is missing. A damaged file is renamed and a new one is begun.
///
/// # Errors
/// The file cannot be used now: the disk is full or read-only, or another program locks the file.
pub async fn open_database(
    directory: &Path,
    layout: DatabaseLayout,
) -> Result<OpenedDatabase, DatabaseError> {
    match open_existing(directory, layout).await {
        Ok(connection) => Ok(OpenedDatabase {
            connection,
            replaced_because: None,
        }),
        Err(error) if error.is_damage() => {
            let what = error.to_string();
            rename_damaged(directory, layout, &what)?;
            Ok(OpenedDatabase {
                connection: open_existing(directory, layout).await?,
                replaced_because: Some(what),
            })
        }
        Err(error) => Err(error),
    }
}

/// Opens a second connection that only reads.
///
/// # Errors
/// The file is missing or cannot be read.
pub async fn open_for_reading(
    directory: &Path,
    layout: DatabaseLayout,
) -> Result<SqliteConnection, sqlx::Error> {
    let options = options_of(&directory.join(layout.file_name));
    options.read_only(true).connect().await
}

fn options_of(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("trusted_schema", "OFF")
        .disable_statement_logging()
}

async fn open_existing(
    directory: &Path,
    layout: DatabaseLayout,
) -> Result<SqliteConnection, DatabaseError> {
    let path = directory.join(layout.file_name);
    create_private(&path)?;
    let options = options_of(&path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", WAL_KEPT_BYTES)
        .pragma("cell_size_check", "ON");
    let mut connection = options.connect().await?;
    match check_tables(&mut connection, layout).await {
        Ok(()) => Ok(connection),
        Err(error) => {
            // Awaited so that its locks are released. The first error is the one to return.
            let _closed = connection.close().await;
            Err(error)
        }
    }
}

/// Checks pages and tables, and creates the tables in an empty file.
async fn check_tables(
    connection: &mut SqliteConnection,
    layout: DatabaseLayout,
) -> Result<(), DatabaseError> {
    let check_result: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(&mut *connection)
        .await?;
    if check_result != "ok" {
        return Err(DatabaseError::Damaged(check_result));
    }
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT sql || ';' || char(10) FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid",
    )
    .fetch_all(&mut *connection)
    .await?;
    if tables.is_empty() {
        let create = format!("BEGIN IMMEDIATE; {} COMMIT;", layout.schema);
        sqlx::raw_sql(sqlx::AssertSqlSafe(create))
            .execute(&mut *connection)
            .await?;
    } else if tables.concat() != layout.schema {
        return Err(DatabaseError::Damaged(
            "the tables are not those of this release".to_owned(),
        ));
    }
    Ok(())
}

/// Creates the file unless it exists, and restricts it to its owner. SQLite gives its log the same
/// permissions.
fn create_private(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn rename_damaged(directory: &Path, layout: DatabaseLayout, what: &str) -> io::Result<()> {
    let name = layout.file_name;
    let file = |suffix: &str| -> PathBuf { directory.join(format!("{name}{suffix}")) };
    // The log belongs to the file. The index of the log is rebuilt from it.
    for (from, to) in [
        ("", DAMAGED_SUFFIX.to_owned()),
        ("-wal", format!("{DAMAGED_SUFFIX}-wal")),
    ] {
        let outcome = match fs::rename(file(from), file(&to)) {
            Err(error) if error.kind() == ErrorKind::NotFound => remove_if_exists(&file(&to)),
            other => other,
        };
        outcome?;
    }
    remove_if_exists(&file("-shm"))?;
    error!(
        file = %file("").display(),
        "{name} is damaged: {what}. It was renamed to {name}{DAMAGED_SUFFIX}, and a new file is \
         begun; the stock is not concerned"
    );
    Ok(())
}

fn remove_if_exists(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: DatabaseLayout = DatabaseLayout {
        file_name: "x.db",
        schema: "CREATE TABLE x (y INTEGER NOT NULL) STRICT;\n",
    };

    async fn count(connection: &mut SqliteConnection) -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM x");
        count.fetch_one(connection).await.unwrap()
    }

    #[tokio::test]
    async fn keeps_a_good_file_and_its_permissions() {
        let directory = tempfile::tempdir().unwrap();
        let mut opened = open_database(directory.path(), LAYOUT).await.unwrap();
        let insert = sqlx::raw_sql("INSERT INTO x VALUES (1)");
        insert.execute(&mut opened.connection).await.unwrap();
        drop(opened);
        let mut opened = open_database(directory.path(), LAYOUT).await.unwrap();
        assert_eq!(opened.replaced_because, None);
        assert_eq!(count(&mut opened.connection).await, 1);
        let metadata = fs::metadata(directory.path().join("x.db")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        let mut reader = open_for_reading(directory.path(), LAYOUT).await.unwrap();
        assert_eq!(count(&mut reader).await, 1);
        let insert = sqlx::raw_sql("INSERT INTO x VALUES (2)");
        insert.execute(&mut reader).await.unwrap_err();
    }

    #[tokio::test]
    async fn renames_a_damaged_file_and_begins_a_new_one() {
        let other = "CREATE TABLE x (y TEXT) STRICT;\n";
        for damage in ["no database", "other tables", "a page"] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("x.db");
            match damage {
                "no database" => fs::write(&path, [b'x'; 5_000]).unwrap(),
                "other tables" => {
                    let layout = DatabaseLayout {
                        schema: other,
                        ..LAYOUT
                    };
                    drop(open_database(directory.path(), layout).await.unwrap());
                }
                _ => {
                    let opened = open_database(directory.path(), LAYOUT).await.unwrap();
                    opened.connection.close().await.unwrap();
                    let mut bytes = fs::read(&path).unwrap();
                    bytes[4096..4196].fill(0xff);
                    fs::write(&path, bytes).unwrap();
                }
            }
            let mut opened = open_database(directory.path(), LAYOUT).await.unwrap();
            assert!(opened.replaced_because.is_some(), "{damage}");
            assert_eq!(count(&mut opened.connection).await, 0);
            assert!(directory.path().join("x.db.damaged").exists(), "{damage}");
        }
    }

    #[tokio::test]
    async fn unusable_directory_is_an_error_not_damage() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("x.db")).unwrap();
        let error = open_database(directory.path(), LAYOUT).await.unwrap_err();
        assert!(!error.is_damage(), "{error}");
        assert!(directory.path().join("x.db").is_dir());
    }
}
