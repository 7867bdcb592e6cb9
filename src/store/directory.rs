use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::StoreError;

/// The store's directory, held for this process alone as long as this value lives.
#[derive(Debug)]
pub(super) struct StoreDirectory {
    path: PathBuf,
    // The system lets go of it when the process ends, however it ends.
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
                // Whoever holds the lock may not have written its number yet.
                let _partly = file.read_to_string(&mut pid);
                return Err(StoreError::Locked {
                    path: path.to_owned(),
                    pid: pid.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(unwritable(&lock)(source)),
        }
        let pid = std::process::id();
        // A courtesy to whoever comes second: a full disk must not keep us from serving.
        let _best_effort = file.set_len(0).and_then(|()| writeln!(file, "{pid}"));
        Ok(Self {
            path: path.to_owned(),
            lock: file,
        })
    }

    /// Lets another process have it.
    pub(super) fn unlock(&self) {
        // If that fails, the end of this value or of the process does it.
        let _unlocked = self.lock.unlock();
    }

    /// The database file.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join("stock.db")
    }

    /// SQLite's log, which belongs to the database file.
    pub(super) fn wal(&self) -> PathBuf {
        self.path.join("stock.db-wal")
    }

    /// A database under a name that is not yet the real one: empty, owner-only.
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

    /// Gives a draft the real name, durably.
    pub(super) fn publish(&self, draft: &Path) -> Result<(), StoreError> {
        File::open(draft)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(draft, self.database()))
            // Without this a power cut could take the name away again.
            .and_then(|()| File::open(&self.path)?.sync_all())
            .map_err(unwritable(draft))
    }

    /// Takes away from others what a careless copy may have given them.
    pub(super) fn restrict_permissions(&self) -> Result<(), StoreError> {
        let database = self.database();
        let metadata = fs::metadata(&database).map_err(unwritable(&database))?;
        if metadata.permissions().mode() & 0o077 == 0 {
            return Ok(());
        }
        fs::set_permissions(&database, fs::Permissions::from_mode(0o600))
            .map_err(unwritable(&database))
    }

    /// The first `length` bytes of the database file, fewer if there are no more.
    pub(super) fn read_prefix(&self, length: u64) -> Result<Vec<u8>, StoreError> {
        let database = self.database();
        let mut bytes = Vec::new();
        File::open(&database)
            .and_then(|file| file.take(length).read_to_end(&mut bytes))
            .map_err(unwritable(&database))?;
        Ok(bytes)
    }

    /// Whether a small write fails for want of space, which SQLite does not tell from other
    /// failures if a quota is the reason.
    pub(super) fn is_disk_full(&self) -> bool {
        let probe = self.path.join("probe");
        let outcome = File::create(&probe).and_then(|mut file| {
            file.write_all(&[1; 64 * 1024])
                .and_then(|()| file.sync_all())
        });
        let _removed = fs::remove_file(&probe);
        let is_no_space = |error: io::Error| {
            matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            )
        };
        outcome.is_err_and(is_no_space)
    }

    /// Bytes of the database and its log.
    pub(super) fn disk_bytes(&self) -> u64 {
        let size = |path: PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
        size(self.database()) + size(self.wal())
    }
}

/// Who is at a store's directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DirectoryState {
    /// There is no such directory.
    Missing,
    /// It is there, and no process has it open.
    Free,
    /// A process has it open; its number, if it was written down.
    Locked(Option<u32>),
}

/// Looks who is at a store's directory, and creates, opens and changes nothing there.
///
/// # Errors
/// The place cannot be looked at, or is no directory.
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
    // Shared, and let go at once with the file: only a service that starts in this very
    // instant could be turned away by it.
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
    fn looking_tells_a_held_directory_and_leaves_no_trace() {
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
        // And it can be claimed after having been looked at.
        StoreDirectory::acquire(&path).unwrap();
        assert!(
            directory_state(&path.join("lock")).is_err(),
            "a file is no directory"
        );
    }
}
