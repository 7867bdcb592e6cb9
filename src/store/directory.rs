//! Directory of the store: lock, owner-only permissions, and atomic creation of the database.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::StoreError;

/// Locked directory of the store. The lock excludes other processes as long as this value lives.
#[derive(Debug)]
pub(super) struct StoreDirectory {
    path: PathBuf,
    // The system releases the lock when the process ends, even after a crash.
    lock: File,
}

impl StoreDirectory {
    /// Creates the directory if it is missing, and locks it.
    pub(super) fn acquire(path: &Path) -> Result<Self, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(unwritable(path))?;
        let lock = path.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock)
            .map_err(unwritable(&lock))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The process with the lock may not have written its id yet.
                let _partly = file.read_to_string(&mut pid);
                return Err(StoreError::Locked {
                    path: path.to_owned(),
                    pid: pid.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(unwritable(&lock)(source)),
        }
        let pid = std::process::id();
        // The id is only for the error message of a second process. A full disk must not prevent
        // the start.
        let _best_effort = file.set_len(0).and_then(|()| writeln!(file, "{pid}"));
        Ok(Self {
            path: path.to_owned(),
            lock: file,
        })
    }

    /// Releases the lock.
    pub(super) fn unlock(&self) {
        // If that fails, the lock ends with this value or with the process.
        let _unlocked = self.lock.unlock();
    }

    /// Returns the path of the directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Deletes a database that was closed, durably.
    pub(super) fn remove_database(&self) -> Result<(), StoreError> {
        let database = self.database();
        fs::remove_file(&database)
            .and_then(|()| File::open(&self.path)?.sync_all())
            .map_err(unwritable(&database))
    }

    /// Returns the path of the database file.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join("stock.db")
    }

    /// Returns the path of SQLite's write-ahead log of the database.
    pub(super) fn wal(&self) -> PathBuf {
        self.path.join("stock.db-wal")
    }

    /// Creates an empty, owner-only database file under a temporary name.
    pub(super) fn create_draft(&self) -> Result<PathBuf, StoreError> {
        let draft = self.path.join("stock.db.new");
        for leftover in ["stock.db.new", "stock.db.new-wal", "stock.db.new-shm"] {
            let leftover = self.path.join(leftover);
            match fs::remove_file(&leftover) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(unwritable(&leftover)(error)),
            }
        }
        // SQLite gives its log the permissions of the database.
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .map_err(unwritable(&draft))?;
        Ok(draft)
    }

    /// Renames a draft to the real name, durably.
    pub(super) fn publish(&self, draft: &Path) -> Result<(), StoreError> {
        File::open(draft)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(draft, self.database()))
            // Without this sync a power cut could undo the rename.
            .and_then(|()| File::open(&self.path)?.sync_all())
            .map_err(unwritable(draft))
    }

    /// Restricts the database to its owner, because a copied or restored file may be readable by
    /// others.
    pub(super) fn restrict_permissions(&self) -> Result<(), StoreError> {
        let database = self.database();
        let metadata = fs::metadata(&database).map_err(unwritable(&database))?;
        if metadata.permissions().mode() & 0o077 == 0 {
            return Ok(());
        }
        fs::set_permissions(&database, fs::Permissions::from_mode(0o600))
            .map_err(unwritable(&database))
    }

    /// Reads the first `length` bytes of the database file, fewer if the file is shorter.
    pub(super) fn read_prefix(&self, length: u64) -> Result<Vec<u8>, StoreError> {
        let database = self.database();
        let mut bytes = Vec::new();
        File::open(&database)
            .and_then(|file| file.take(length).read_to_end(&mut bytes))
            .map_err(unwritable(&database))?;
        Ok(bytes)
    }

    /// Returns true if a small write fails because the disk or the quota is full.
    ///
    /// SQLite does not distinguish an exceeded quota from other write errors.
    pub(super) fn is_disk_full(&self) -> bool {
        let probe = self.path.join("probe");
        let outcome = File::create(&probe).and_then(|mut file| {
            file.write_all(&[1; 64 * 1024])
                .and_then(|()| file.sync_all())
        });
        let _removed = fs::remove_file(&probe);
        let lacks_space = |error: io::Error| {
            matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            )
        };
        outcome.is_err_and(lacks_space)
    }

    /// Returns the size of the database and its write-ahead log, in bytes.
    pub(super) fn disk_bytes(&self) -> u64 {
        let size = |path: PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
        size(self.database()) + size(self.wal())
    }
}

/// State of a store's directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DirectoryState {
    /// The directory does not exist.
    Missing,
    /// The directory exists, and no process uses it.
    Free,
    /// A process uses the directory; its id, if the lock file has it.
    Locked(Option<u32>),
}

/// Returns the state of a store's directory, without a change on disk.
///
/// # Errors
/// The path cannot be read, or it is not a directory.
pub fn directory_state(path: &Path) -> io::Result<DirectoryState> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(DirectoryState::Missing),
        Err(error) => return Err(error),
    }
    let mut file = match File::open(path.join("lock")) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(DirectoryState::Free),
        Err(error) => return Err(error),
    };
    // A shared lock, released at the end of this function. Only a service that starts at the same
    // moment could find the directory locked by it.
    match file.try_lock_shared() {
        Ok(()) => Ok(DirectoryState::Free),
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _partly = file.read_to_string(&mut pid);
            Ok(DirectoryState::Locked(pid.trim().parse().ok()))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> StoreError + '_ {
    |source| StoreError::Unwritable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_the_state_without_a_trace() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("store");
        assert_eq!(directory_state(&path).unwrap(), DirectoryState::Missing);
        assert!(!path.exists());
        let directory = StoreDirectory::acquire(&path).unwrap();
        assert_eq!(
            directory_state(&path).unwrap(),
            DirectoryState::Locked(Some(std::process::id()))
        );
        drop(directory);
        assert_eq!(directory_state(&path).unwrap(), DirectoryState::Free);
        // The check leaves no lock behind.
        StoreDirectory::acquire(&path).unwrap();
        assert!(
            directory_state(&path.join("lock")).is_err(),
            "a file is not a directory"
        );
    }
}
