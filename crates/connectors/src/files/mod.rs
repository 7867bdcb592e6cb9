//! Stock from files: polls for files and imports those that are unchanged since the last poll.
//!
//! A file that is still being written changes between two polls, so it is imported only when it is
//! complete. Processed files are recorded by size, time and inode, so a restart imports nothing
//! twice. File system notifications are not used: network disks and many container volumes do not
//! send them.

mod found_file;
mod read_files;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::found_file::FoundFile;
use self::found_file::{FileStamp, MAX_FILES, find_files, sort_files};
use self::read_files::read_delivery;
pub use self::read_files::{combined_scope, read_file, read_on_blocking_thread};
use lifecycle::run_blocking;
use stock::Timestamp;
use stock_import::formats::Format;
use stock_import::{DeliveryEntry, ReadSettings};

use super::source::{DeliveryEnd, DueDelivery, PollContext, ReadFailure, Source};
use super::{EntrySender, ReadReport};

/// Settings of a source that reads files.
#[derive(Clone, Debug)]
pub struct Config {
    /// Path of a file or a directory, or a pattern such as `/exports/stock-*.csv`.
    pub path: PathBuf,
    /// Format of the files; detected if `None`.
    pub format: Option<Format>,
    /// True if all files together are one delivery; otherwise each file is one.
    pub is_one_delivery: bool,
}

/// Files that were imported or rejected for good. Kept over restarts.
#[derive(Debug, Default, Deserialize, Serialize)]
struct ProcessedFiles {
    files: BTreeMap<PathBuf, FileStamp>,
}

/// Watcher of one source's files.
#[derive(Debug)]
pub struct FileWatcher {
    config: Config,
    settings: ReadSettings,
    // Stamps at the last poll.
    last_seen: BTreeMap<PathBuf, FileStamp>,
    processed: ProcessedFiles,
    // The delivery that is in force must be read again.
    must_read_again: bool,
    // Processed files that are read again.
    forgotten: BTreeMap<PathBuf, FileStamp>,
    // A delivery of this poll was applied or held.
    has_accepted: bool,
}

impl FileWatcher {
    /// Creates a watcher that has not polled yet.
    #[must_use]
    pub fn new(config: Config, settings: ReadSettings) -> Self {
        Self {
            config,
            settings,
            last_seen: BTreeMap::new(),
            processed: ProcessedFiles::default(),
            must_read_again: false,
            forgotten: BTreeMap::new(),
            has_accepted: false,
        }
    }

    /// Forgets processed files that are missing, if there are too many. Otherwise they stay recorded:
    /// an unmounted disk may return with already processed files.
    fn forget_missing_files(&mut self, found: &[FoundFile]) {
        let known = &mut self.processed.files;
        if known.len() > 2 * MAX_FILES {
            known.retain(|path, _| found.iter().any(|file| file.path == *path));
        }
    }

    /// Forgets the files that must be read again: all files of one delivery, otherwise the newest.
    /// Older ones would replace newer stock until their successors are read.
    fn forget_files_in_force(&mut self, found: &[FoundFile]) {
        if self.config.is_one_delivery {
            self.forgotten = std::mem::take(&mut self.processed.files);
            return;
        }
        let mut files = found.to_vec();
        sort_files(&mut files, false);
        if let Some(newest) = files.last() {
            self.forgotten
                .extend(self.processed.files.remove_entry(&newest.path));
        }
    }

    /// Returns the deliveries that are unchanged since the last poll and new, oldest first.
    fn due_deliveries(&self, found: &[FoundFile]) -> Vec<Vec<FoundFile>> {
        let is_unchanged = |file: &&FoundFile| self.last_seen.get(&file.path) == Some(&file.stamp);
        let processed = &self.processed.files;
        let is_new = |file: &&FoundFile| processed.get(&file.path) != Some(&file.stamp);
        if self.config.is_one_delivery {
            let is_due =
                found.iter().all(|file| is_unchanged(&file)) && found.iter().any(|f| is_new(&f));
            let mut files = found.to_vec();
            sort_files(&mut files, true);
            return if is_due { vec![files] } else { Vec::new() };
        }
        let due = found.iter().filter(is_unchanged).filter(is_new);
        let mut due: Vec<FoundFile> = due.cloned().collect();
        sort_files(&mut due, false);
        due.into_iter().map(|file| vec![file]).collect()
    }
}

impl Source for FileWatcher {
    type Target = Vec<FoundFile>;

    const DUE_CONTACTS_SOURCE: bool = true;

    fn restore(&mut self, state: &str) {
        self.processed = serde_json::from_str(state).unwrap_or_default();
    }

    fn read_again(&mut self) {
        self.must_read_again = true;
    }

    async fn due(
        &mut self,
        _poll: &PollContext<'_>,
    ) -> Result<Vec<DueDelivery<Vec<FoundFile>>>, String> {
        let config = self.config.clone();
        let found = run_blocking(move || find_files(&config.path)).await;
        let found = found.map_err(|error| format!("{}: {error}", self.config.path.display()))?;
        if self.must_read_again && !found.is_empty() {
            self.must_read_again = false;
            self.forget_files_in_force(&found);
        }
        let due_deliveries = self.due_deliveries(&found);
        self.forget_missing_files(&found);
        self.last_seen = found
            .into_iter()
            .map(|file| (file.path, file.stamp))
            .collect();
        self.has_accepted = false;
        let due = due_deliveries.into_iter().map(|files| DueDelivery {
            repeats_last: files
                .iter()
                .all(|file| self.forgotten.get(&file.path) == Some(&file.stamp)),
            stated_at: modified_at(&files),
            target: files,
        });
        Ok(due.collect())
    }

    async fn read(
        &mut self,
        files: &mut Vec<FoundFile>,
        poll: &PollContext<'_>,
        rows: &mut EntrySender,
    ) -> Result<ReadReport, ReadFailure> {
        let (mut rows, settings) = (rows.new_sender(), self.settings.clone());
        let (files, format, spool) = (files.clone(), self.config.format, poll.spool.to_owned());
        run_blocking(move || read_delivery(&files, format, &settings, &spool, &mut rows)).await
    }

    fn ended(&mut self, files: Vec<FoundFile>, end: DeliveryEnd) -> Option<String> {
        match end {
            // Only temporary errors, of this service or the disk, are retried.
            DeliveryEnd::Interrupted => return None,
            DeliveryEnd::Applied | DeliveryEnd::Held => self.has_accepted = true,
            // The same bytes would give the same result, so the files count as processed.
            DeliveryEnd::Rejected => {}
        }
        self.forgotten.clear();
        let stamps = files.into_iter().map(|file| (file.path, file.stamp));
        self.processed.files.extend(stamps);
        // While only rejected files were found, a restart reads them again and so repeats the alarm.
        self.has_accepted
            .then(|| serde_json::to_string(&self.processed).unwrap_or_default())
    }

    async fn read_all(
        &mut self,
        poll: &PollContext<'_>,
        rows: &mut EntrySender,
    ) -> Result<(), String> {
        let (config, settings) = (self.config.clone(), self.settings.clone());
        let (spool, mut rows) = (poll.spool.to_owned(), rows.new_sender());
        run_blocking(move || read_present_files(&config, &settings, &spool, &mut rows)).await
    }
}

/// Returns the time at which the newest of the files was changed.
fn modified_at(files: &[FoundFile]) -> Option<Timestamp> {
    let newest = files.iter().map(|file| file.stamp.changed).max()?;
    i64::try_from(newest / 1_000)
        .ok()
        .and_then(Timestamp::from_micros)
}

/// Reads all present files at once, without waiting for a second poll. Nothing is recorded.
///
/// Files that are a delivery each are read as parts, each followed by a
/// [`DeliveryEntry::PartBoundary`]: later parts replace earlier ones.
///
/// # Errors
/// No file was found, or a file is not readable to its verified end.
fn read_present_files(
    config: &Config,
    settings: &ReadSettings,
    spool: &Path,
    rows: &mut EntrySender,
) -> Result<(), String> {
    let path = config.path.display();
    let mut found = find_files(&config.path).map_err(|error| format!("{path}: {error}"))?;
    if found.is_empty() {
        return Err(format!("{path}: no file found"));
    }
    sort_files(&mut found, config.is_one_delivery);
    if config.is_one_delivery {
        let read = read_delivery(&found, config.format, settings, spool, rows);
        return read.map(drop).map_err(|error| error.message);
    }
    for file in found {
        let read = read_delivery(&[file], config.format, settings, spool, rows);
        read.map_err(|error| error.message)?;
        rows.send_blocking(DeliveryEntry::PartBoundary)
            .map_err(|error| error.to_string())?;
    }
    rows.flush_blocking().map_err(|error| error.to_string())
}
