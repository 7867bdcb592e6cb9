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

use self::found_file::{FileStamp, FoundFile, MAX_FILES, find_files, sort_files};
use self::read_files::read_delivery;
pub use self::read_files::{combined_scope, read_file, read_on_blocking_thread};
use lifecycle::run_blocking;
use stock::Timestamp;
use stock_import::formats::Format;
use stock_import::{DeliveryEntry, ReadSettings};

use super::{DeliveryPipeline, DeliveryReport, EntrySender, PipelineError};

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
    processed: Option<ProcessedFiles>,
}

impl FileWatcher {
    /// Creates a watcher that has not polled yet.
    #[must_use]
    pub fn new(config: Config, settings: ReadSettings) -> Self {
        Self {
            config,
            settings,
            last_seen: BTreeMap::new(),
            processed: None,
        }
    }

    /// Polls once and imports the files that are unchanged since the last poll and not processed
    /// yet. A file with a permanent error is recorded in the status of the source and is not
    /// retried until it changes.
    ///
    /// # Errors
    /// The files cannot be listed, or the record of processed files cannot be saved.
    pub async fn poll(
        &mut self,
        pipeline: &DeliveryPipeline,
        source_index: usize,
    ) -> Result<Vec<DeliveryReport>, PipelineError> {
        if self.processed.is_none() {
            let saved = pipeline.reader_state(source_index).await?;
            self.processed = Some(serde_json::from_str(&saved).unwrap_or_default());
        }
        let config = self.config.clone();
        let found = run_blocking(move || find_files(&config.path)).await;
        let found = found.map_err(|error| {
            PipelineError::Read(format!("{}: {error}", self.config.path.display()))
        })?;
        let due_deliveries = self.due_deliveries(&found);
        let mut reports = Vec::new();
        for files in due_deliveries {
            let result = self.deliver(pipeline, source_index, &files).await;
            // The same bytes would give the same result, so the files count as processed even if
            // they were rejected. Only temporary errors, of this service or the disk, are retried.
            let (result, is_temporary) = result;
            if is_temporary {
                break;
            }
            let processed = self.processed.get_or_insert_default();
            processed
                .files
                .extend(files.iter().map(|file| (file.path.clone(), file.stamp)));
            reports.extend(result.ok());
        }
        let processed = self.processed.get_or_insert_default();
        let before = processed.files.len();
        // Missing files stay recorded for long: an unmounted disk may return with already
        // processed files.
        if before > 2 * MAX_FILES {
            processed
                .files
                .retain(|path, _| found.iter().any(|file| file.path == *path));
        }
        if before != processed.files.len() || !reports.is_empty() || self.last_seen.is_empty() {
            let text = serde_json::to_string(processed).unwrap_or_default();
            pipeline.save_reader_state(source_index, &text).await?;
        }
        self.last_seen = found
            .into_iter()
            .map(|file| (file.path, file.stamp))
            .collect();
        Ok(reports)
    }

    /// Returns the deliveries that are unchanged since the last poll and new, oldest first.
    fn due_deliveries(&self, found: &[FoundFile]) -> Vec<Vec<FoundFile>> {
        let is_unchanged = |file: &&FoundFile| self.last_seen.get(&file.path) == Some(&file.stamp);
        let processed = self.processed.as_ref();
        let is_new = |file: &&FoundFile| {
            processed.is_none_or(|known| known.files.get(&file.path) != Some(&file.stamp))
        };
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

    async fn deliver(
        &self,
        pipeline: &DeliveryPipeline,
        source_index: usize,
        files: &[FoundFile],
    ) -> (Result<DeliveryReport, PipelineError>, bool) {
        let newest = files
            .iter()
            .map(|file| file.stamp.changed)
            .max()
            .unwrap_or_default();
        let modified_at = i64::try_from(newest / 1_000)
            .ok()
            .and_then(Timestamp::from_micros);
        let (settings, format) = (&self.settings, self.config.format);
        let spool = pipeline.directory().to_owned();
        let files = files.to_vec();
        let mut is_temporary = false;
        let result = pipeline.ingest_delivery(
            source_index,
            modified_at,
            true,
            async |rows: &mut EntrySender| {
                let (mut rows, settings) = (rows.new_sender(), settings.clone());
                let read = move || read_delivery(&files, format, &settings, &spool, &mut rows);
                run_blocking(read).await.map_err(|error| {
                    is_temporary = error.is_temporary;
                    error.message
                })
            },
        );
        let result = result.await;
        let is_temporary = is_temporary || !is_final(&result);
        (result, is_temporary)
    }
}

/// True if the same files would give the same result again.
fn is_final(result: &Result<DeliveryReport, PipelineError>) -> bool {
    match result {
        Ok(_) | Err(PipelineError::Read(_) | PipelineError::Settings(_)) => true,
        Err(
            PipelineError::Persist(_)
            | PipelineError::Stage(_)
            | PipelineError::Ingest(_)
            | PipelineError::NothingToAccept(_)
            | PipelineError::DeliveryChanged(_),
        ) => false,
    }
}

/// Reads all present files at once, without waiting for a second poll. Nothing is recorded.
///
/// Files that are a delivery each are read as parts, each followed by a
/// [`DeliveryEntry::PartBoundary`]: later parts replace earlier ones.
///
/// # Errors
/// No file was found, or a file is not readable to its verified end.
pub fn read_all_now(
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
