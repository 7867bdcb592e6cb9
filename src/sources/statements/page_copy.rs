//! Pages of the file of statements, for a copy of it elsewhere: the pages that differ from the copy.
//!
//! The copy is described by the digest of each page. After a commit only the pages in the new part of
//! SQLite's log are compared. All pages are compared if the log was begun again, because the part
//! before is unknown then: at the first comparison, and after a checkpoint. Only the owner of the
//! store makes checkpoints.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::wal_frames::{CommittedPages, WalPosition, committed_pages};
use super::{FILE_NAME, HeldDelivery, StatementError, StatementStore, StorageError};

/// Bytes of the log above which it is written to the file.
const CHECKPOINT_BYTES: u64 = 16 * 1024 * 1024;

/// Digests of the pages that a copy has, and the part of the log that they include.
#[derive(Clone, Debug, Default)]
pub(in crate::sources) struct PageDigests {
    /// Digest of each page, the first one at index 0; `None` if it is not known.
    digests: Vec<Option<u64>>,
    position: Option<WalPosition>,
}

/// Page that differs from the copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::sources) struct ChangedPage {
    /// Number, from 1.
    pub(in crate::sources) page: u32,
    /// Digest of its content.
    digest: u64,
    location: PageLocation,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PageLocation {
    File(u64),
    Log(u64),
}

/// All pages that differ from the copy.
#[derive(Clone, Debug)]
pub(in crate::sources) struct ChangedPages {
    /// The pages in their order.
    pub(in crate::sources) pages: Vec<ChangedPage>,
    /// Number of all pages of the file.
    pub(in crate::sources) total: u32,
    /// Bytes of a page.
    pub(in crate::sources) page_bytes: u32,
    position: Option<WalPosition>,
}

impl PageDigests {
    /// Returns digests that were computed while the pages were written.
    pub(in crate::sources) fn of_written(digests: Vec<u64>) -> Self {
        Self {
            digests: digests.into_iter().map(Some).collect(),
            position: None,
        }
    }

    /// Returns the sum of all digests, which does not depend on their order.
    pub(in crate::sources) fn sum(&self) -> u64 {
        self.digests
            .iter()
            .flatten()
            .fold(0, |sum, digest| sum.wrapping_add(*digest))
    }

    /// Returns the number of pages.
    pub(in crate::sources) fn len(&self) -> usize {
        self.digests.len()
    }

    /// Returns the digests after a change.
    pub(in crate::sources) fn after(&self, changed: &ChangedPages) -> Self {
        let mut digests = self.digests.clone();
        digests.resize(changed.total as usize, None);
        for page in &changed.pages {
            digests[page.page as usize - 1] = Some(page.digest);
        }
        Self {
            digests,
            position: changed.position,
        }
    }

    /// Notes that the copy has everything up to the end of what was compared.
    pub(in crate::sources) fn advance(&mut self, compared: &ChangedPages) {
        self.position = compared.position;
    }
}

/// Returns the digest of a page.
pub(in crate::sources) fn page_digest(page: u32, content: &[u8]) -> u64 {
    let mut digest = Sha256::new();
    digest.update(page.to_le_bytes());
    digest.update(content);
    let (first, _) = digest
        .finalize()
        .split_first_chunk()
        .map_or(([0; 8], ()), |it| (*it.0, ()));
    u64::from_le_bytes(first)
}

/// Returns the digests of a file of this name in parts of this size; `None` if the file does not exist.
/// Statements are first written from SQLite's log to their file.
pub(in crate::sources) fn digests_of_file(
    directory: &Path,
    name: &str,
    page_bytes: usize,
) -> Result<Option<PageDigests>, StorageError> {
    let path = directory.join(name);
    if !path.exists() {
        return Ok(None);
    }
    if name == FILE_NAME {
        // The last connection removes the log.
        let conn = rusqlite::Connection::open(&path)?;
        conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
        conn.close().map_err(|(_, error)| error)?;
    }
    let file = File::open(&path)?;
    let (mut digests, mut content) = (Vec::new(), vec![0; page_bytes]);
    for page in 1.. {
        let length = read_up_to(&file, &mut content, u64::from(page - 1) * page_bytes as u64)?;
        if length == 0 {
            break;
        }
        digests.push(page_digest(page, &content[..length]));
    }
    Ok(Some(PageDigests::of_written(digests)))
}

/// Reads until the buffer is full or the file ends.
pub(in crate::sources) fn read_up_to(
    file: &File,
    buffer: &mut [u8],
    offset: u64,
) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset + length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

impl StatementStore {
    /// Lets only this process write SQLite's log to the file, so that changed pages can be found.
    pub(in crate::sources) fn track_pages(&mut self) -> Result<(), StatementError> {
        let track = || {
            self.conn.execute_batch("PRAGMA wal_autocheckpoint = 0")?;
            Ok(File::open(self.directory.join(FILE_NAME))?)
        };
        self.file = Some(track().map_err(|error: StorageError| self.database_error(error))?);
        Ok(())
    }

    /// Returns the pages that differ from a copy.
    pub(in crate::sources) fn changed_pages(
        &self,
        copy: &PageDigests,
    ) -> Result<ChangedPages, StatementError> {
        self.find_changed_pages(copy)
            .map_err(|error| self.database_error(error))
    }

    fn find_changed_pages(&self, copy: &PageDigests) -> Result<ChangedPages, StorageError> {
        let number = |pragma: &str| self.conn.query_row(pragma, [], |row| row.get::<_, u32>(0));
        let (total, page_bytes) = (number("PRAGMA page_count")?, number("PRAGMA page_size")?);
        let log = self.open_log()?;
        let committed = match &log {
            Some(log) => committed_pages(log, page_bytes as usize, copy.position)?,
            None => CommittedPages::default(),
        };
        let location = |page: u32| match committed.pages.get(&page) {
            Some(offset) => PageLocation::Log(*offset),
            None => PageLocation::File(u64::from(page - 1) * u64::from(page_bytes)),
        };
        let candidates: Vec<u32> = if committed.continues {
            committed.pages.keys().copied().collect()
        } else {
            (1..=total).collect()
        };
        let (mut pages, mut content) = (Vec::new(), vec![0; page_bytes as usize]);
        for page in candidates.into_iter().filter(|page| *page <= total) {
            let location = location(page);
            self.read_page(location, log.as_ref(), &mut content)?;
            let digest = page_digest(page, &content);
            let known = copy.digests.get(page as usize - 1).copied().flatten();
            if known != Some(digest) {
                pages.push(ChangedPage {
                    page,
                    digest,
                    location,
                });
            }
        }
        Ok(ChangedPages {
            pages,
            total,
            page_bytes,
            position: committed.end,
        })
    }

    /// Reads the content of pages that were found, before any other change.
    pub(in crate::sources) fn read_changed_pages(
        &self,
        pages: &[ChangedPage],
        page_bytes: u32,
    ) -> Result<Vec<Vec<u8>>, StatementError> {
        let read = || {
            let log = self.open_log()?;
            let mut contents = Vec::with_capacity(pages.len());
            for page in pages {
                let mut content = vec![0; page_bytes as usize];
                self.read_page(page.location, log.as_ref(), &mut content)?;
                contents.push(content);
            }
            Ok(contents)
        };
        read().map_err(|error: StorageError| self.database_error(error))
    }

    fn read_page(
        &self,
        location: PageLocation,
        log: Option<&File>,
        content: &mut [u8],
    ) -> Result<(), StorageError> {
        let (file, offset) = match location {
            PageLocation::File(offset) => (self.file.as_ref(), offset),
            PageLocation::Log(offset) => (log, offset),
        };
        Ok(file
            .ok_or(StorageError::Damaged)?
            .read_exact_at(content, offset)?)
    }

    // SQLite locks its file and not the log, so the log may be closed at any time.
    fn open_log(&self) -> Result<Option<File>, StorageError> {
        match File::open(self.directory.join(format!("{FILE_NAME}-wal"))) {
            Ok(log) => Ok(Some(log)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes SQLite's log to the file if it is long and a copy has all of it.
    pub(in crate::sources) fn checkpoint_if_long(
        &self,
        copy: &PageDigests,
    ) -> Result<(), StatementError> {
        let bytes = copy.position.map_or(0, WalPosition::bytes);
        if bytes < CHECKPOINT_BYTES {
            return Ok(());
        }
        // It waits for no reader. What a reader still needs stays in the log.
        let done = self
            .conn
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        done.map_err(|error| self.database_error(error))
    }

    /// Returns the names of the files of all held deliveries.
    pub(in crate::sources) fn held_files(&self) -> Result<Vec<String>, StatementError> {
        let read = || {
            let mut query = self.conn.prepare_cached("SELECT held FROM source")?;
            let texts = query.query_map([], |row| row.get::<_, String>(0))?;
            let mut names = Vec::new();
            for text in texts {
                let held: Vec<HeldDelivery> = serde_json::from_str(&text?).unwrap_or_default();
                names.extend(held.into_iter().map(|held| held.file));
            }
            names.sort_unstable();
            Ok(names)
        };
        read().map_err(|error: rusqlite::Error| self.database_error(error))
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};
    use rusqlite::params;
    use tempfile::TempDir;

    use super::*;

    /// Store whose pages are copied to memory.
    struct CopiedStore {
        directory: TempDir,
        store: StatementStore,
        digests: PageDigests,
        copy: Vec<Vec<u8>>,
    }

    impl CopiedStore {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            Self {
                store: tracked(directory.path()),
                directory,
                digests: PageDigests::default(),
                copy: Vec::new(),
            }
        }

        /// Copies the changed pages. Returns their number.
        fn copy_changes(&mut self) -> usize {
            let changed = self.store.changed_pages(&self.digests).unwrap();
            let contents = self
                .store
                .read_changed_pages(&changed.pages, changed.page_bytes);
            self.copy.resize(changed.total as usize, Vec::new());
            for (page, content) in changed.pages.iter().zip(contents.unwrap()) {
                self.copy[page.page as usize - 1] = content;
            }
            self.digests = self.digests.after(&changed);
            changed.pages.len()
        }

        /// Checks that the copy, opened as a database, has the same rows.
        fn assert_copied(&self) {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join(FILE_NAME), self.copy.concat()).unwrap();
            let digests = digests_of_file(directory.path(), FILE_NAME, self.copy[0].len());
            let digests = digests.unwrap().unwrap();
            assert_eq!(
                (digests.sum(), digests.len()),
                (self.digests.sum(), self.digests.len())
            );
            let copied = StatementStore::open(directory.path()).unwrap();
            let check = copied
                .conn
                .query_row("PRAGMA integrity_check", [], |row| row.get(0));
            assert_eq!(check, Ok("ok".to_owned()));
            assert_eq!(all_rows(&copied), all_rows(&self.store));
        }

        fn write(&self, rng: &mut StdRng, rows: usize) {
            for _ in 0..rows {
                let id: u32 = rng.random_range(0..3_000);
                let length = rng.random_range(1..2_000);
                let rejected = format!("{id}{}", "r".repeat(length));
                self.store
                    .execute(
                        "INSERT OR REPLACE INTO article (source, id, said) VALUES (1, ?1, ?2)",
                        params![id.to_string(), rejected],
                    )
                    .unwrap();
            }
        }
    }

    fn tracked(directory: &Path) -> StatementStore {
        let mut store = StatementStore::open(directory).unwrap();
        store.track_pages().unwrap();
        store
    }

    fn all_rows(store: &StatementStore) -> Vec<(String, String)> {
        let mut query = store
            .conn
            .prepare("SELECT id, said FROM article ORDER BY id")
            .unwrap();
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn copy_follows_random_changes() {
        for seed in 0..4 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut copied = CopiedStore::new();
            for step in 0..60 {
                let rows = rng.random_range(0..20);
                match rng.random_range(0..8) {
                    // A rolled back transaction may leave frames in the log.
                    0 => {
                        copied
                            .store
                            .conn
                            .execute_batch("PRAGMA cache_spill = 1; BEGIN")
                            .unwrap();
                        copied.write(&mut rng, 200);
                        copied.store.conn.execute_batch("ROLLBACK").unwrap();
                    }
                    1 => copied
                        .store
                        .conn
                        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
                        .unwrap(),
                    // The next write begins the log again.
                    2 => copied
                        .store
                        .conn
                        .execute_batch("PRAGMA wal_checkpoint(RESTART)")
                        .unwrap(),
                    3 => {
                        let path = copied.directory.path().to_owned();
                        drop(copied.store);
                        copied.store = tracked(&path);
                        copied.digests.position = None;
                    }
                    4 => {
                        // The copy is another one, so all pages are copied again.
                        copied.write(&mut rng, rows);
                        copied.digests = PageDigests::default();
                    }
                    5 => {
                        let id: u32 = rng.random_range(0..3_000);
                        let delete = "DELETE FROM article WHERE id < ?1";
                        copied
                            .store
                            .execute(delete, params![id.to_string()])
                            .unwrap();
                    }
                    _ => copied.write(&mut rng, rows),
                }
                copied.copy_changes();
                if step % 5 == 0 {
                    copied.assert_copied();
                }
            }
            copied.assert_copied();
        }
    }

    #[test]
    fn small_change_copies_few_pages() {
        let mut copied = CopiedStore::new();
        copied.write(&mut StdRng::seed_from_u64(1), 3_000);
        assert!(copied.copy_changes() > 500);
        assert_eq!(copied.copy_changes(), 0);
        let id = copied.store.register_source("erp").unwrap();
        copied.copy_changes();
        copied.store.save_reader_state(id, "state").unwrap();
        assert_eq!(copied.copy_changes(), 1);
        copied.store.save_reader_state(id, "state").unwrap();
        assert_eq!(copied.copy_changes(), 0, "the page is the same");
        // A reader keeps the log, and changes are found nevertheless.
        let reader = super::super::StatementReader::open(copied.directory.path()).unwrap();
        reader.source_record(id).unwrap();
        copied.write(&mut StdRng::seed_from_u64(2), 3_000);
        copied.copy_changes();
        copied.store.checkpoint_if_long(&copied.digests).unwrap();
        copied.store.save_reader_state(id, "later").unwrap();
        assert_eq!(copied.copy_changes(), 1);
        drop(reader);
        copied.store.checkpoint_if_long(&copied.digests).unwrap();
        copied.store.save_reader_state(id, "last").unwrap();
        assert_eq!(copied.copy_changes(), 1);
        copied.assert_copied();
    }
}
