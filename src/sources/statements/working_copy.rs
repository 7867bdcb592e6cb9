//! Working copy of a shop's statements, on which a held delivery is tried out.
//!
//! The copy is made on a connection of its own from a consistent state of the file. Deliveries of
//! the shop go on meanwhile: they wait neither for the copy nor for what is done with it.

use std::path::Path;

use connectors::private_files;
use rusqlite::{Connection, OpenFlags, params};

use super::{FILE_NAME, HeldDelivery, StatementError, StatementStore};

/// Beginning of the names of directories with working copies.
pub(in crate::sources) const DIRECTORY_PREFIX: &str = "preview-";

/// Copies the statements in directory `from` to directory `to`, and opens the copy.
pub(in crate::sources) fn copy_statements(
    from: &Path,
    to: &Path,
) -> Result<StatementStore, StatementError> {
    let (source, target) = (from.join(FILE_NAME), to.join(FILE_NAME));
    // SQLite writes into an empty file, whose permissions stay.
    private_files::ensure_file(&target).map_err(|error| StatementError::Directory {
        path: target.clone(),
        source: error,
    })?;
    let copied = || {
        let conn = Connection::open_with_flags(&source, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        conn.execute("VACUUM INTO ?1", params![target.display().to_string()])
    };
    copied().map_err(|error| StatementError::database(&source, error.into()))?;
    StatementStore::open(to)
}

/// Copies the file of a held delivery. Returns false if it is not held any more.
pub(in crate::sources) fn copy_held(
    from: &Path,
    to: &Path,
    held: &HeldDelivery,
) -> Result<bool, StatementError> {
    let path = from.join(&held.file);
    match std::fs::copy(&path, to.join(&held.file)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StatementError::Directory { path, source }),
    }
}
