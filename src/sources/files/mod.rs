//! Files: looked for again and again, and taken when they stand still.
//!
//! A file that grows, or is put there piece by piece, looks the same twice in a row only when
//! it is whole. What was taken is remembered by size, date and inode, so a restart takes
//! nothing twice. No notification of the system's is relied on: there is none on network disks
//! and on many of a container's.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::Seek as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::formats::{self, DataFile, FileSummary, Format, FormatError};
use super::{
    DeliveryEntry, DeliveryPipeline, DeliveryReport, DeliveryScope, EntrySender, PipelineError,
    ReadReport, ReadSettings,
};
use crate::http::causes;
use crate::lifecycle::run_blocking;
use crate::stock::Timestamp;

/// Files of one source that are looked at; the rest is told of.
const MAX_FILES: usize = 10_000;

/// Where files are, and what they are.
#[derive(Clone, Debug)]
pub struct Config {
    /// A file, a directory, or a pattern such as `/exports/stock-*.csv`.
    pub path: PathBuf,
    /// What they are; found out if not said.
    pub format: Option<Format>,
    /// All files together are one delivery, otherwise each is one.
    pub is_one_delivery: bool,
}

/// What a file looked like.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct FileStamp {
    size: u64,
    // Of the last change of its content, in nanoseconds since 1970.
    changed: i128,
    inode: u64,
}

impl FileStamp {
    fn of_metadata(metadata: &Metadata) -> Self {
        let changed =
            i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Self {
            size: metadata.len(),
            changed,
            inode: metadata.ino(),
        }
    }
}

/// What is remembered between two looks, and over a restart.
#[derive(Debug, Default, Deserialize, Serialize)]
struct ProcessedFiles {
    files: BTreeMap<PathBuf, FileStamp>,
}

/// A watch over one source's files.
#[derive(Debug)]
pub struct FileWatcher {
    config: Config,
    settings: ReadSettings,
    // What they looked like the last time.
    last_seen: BTreeMap<PathBuf, FileStamp>,
    processed: Option<ProcessedFiles>,
}

impl FileWatcher {
    /// A watch that has not looked yet.
    #[must_use]
    pub fn new(config: Config, settings: ReadSettings) -> Self {
        Self {
            config,
            settings,
            last_seen: BTreeMap::new(),
            processed: None,
        }
    }

    /// Looks once, and takes what stands still and was not taken yet.
    ///
    /// # Errors
    /// The files cannot be looked for, or what was taken cannot be remembered. A file that
    /// cannot be taken is told with the source, and not tried again until it changes.
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
            // Whatever came of it: the same bytes would come to the same. What is ours to mend,
            // or the disk's, is tried again.
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
        // A disk that was taken away comes back with files that were taken long ago.
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

    /// The deliveries that stand still and are new, the oldest first.
    fn due_deliveries(&self, found: &[FoundFile]) -> Vec<Vec<FoundFile>> {
        let is_unchanged = |file: &&FoundFile| self.last_seen.get(&file.path) == Some(&file.stamp);
        let processed = self.processed.as_ref();
        let is_new = |file: &&FoundFile| {
            processed.is_none_or(|taken| taken.files.get(&file.path) != Some(&file.stamp))
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

/// Why files could not be read.
struct FileReadError {
    message: String,
    // It is the disk's, or the moment's, and not the file's.
    is_temporary: bool,
}

impl FileReadError {
    fn of_format_error(path: &Path, error: &FormatError) -> Self {
        Self {
            message: format!("{}: {}", path.display(), causes(error)),
            is_temporary: matches!(error, FormatError::Io(_)),
        }
    }

    fn temporary(message: String) -> Self {
        Self {
            message,
            is_temporary: true,
        }
    }
}

/// Whether what came of a delivery would come of the same files again.
fn is_final(result: &Result<DeliveryReport, PipelineError>) -> bool {
    match result {
        Ok(_) | Err(PipelineError::Read(_) | PipelineError::Settings(_)) => true,
        Err(
            PipelineError::Persist(_)
            | PipelineError::Stage(_)
            | PipelineError::Ingest(_)
            | PipelineError::NothingToAccept(_),
        ) => false,
    }
}

/// A file that is there.
#[derive(Clone, Debug)]
struct FoundFile {
    path: PathBuf,
    stamp: FileStamp,
    // Named by the operator, so a link is followed; found in a directory, it is not.
    is_named: bool,
}

/// In which order the files of 1C belong together.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum OneCFileRole {
    /// Which article an id stands for.
    Catalogue,
    /// Stock, or none.
    Offers,
    /// Stock, and newer than that.
    StockLevels,
}

impl OneCFileRole {
    fn of_path(path: &Path) -> Self {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        if name.starts_with("import") {
            Self::Catalogue
        } else if name.starts_with("rests") {
            Self::StockLevels
        } else {
            Self::Offers
        }
    }
}

/// The files there are now, by their path.
fn find_files(path: &Path) -> std::io::Result<Vec<FoundFile>> {
    let text = path.to_string_lossy();
    let is_pattern = text.contains(['*', '?', '[']) && !path.exists();
    let (candidates, is_named) = if is_pattern {
        let paths = glob::glob(&text).map_err(std::io::Error::other)?;
        (paths.filter_map(Result::ok).collect(), false)
    } else if path.is_dir() {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(path)? {
            paths.push(entry?.path());
        }
        (paths, false)
    } else {
        (vec![path.to_owned()], true)
    };
    let mut found = Vec::new();
    for path in candidates
        .into_iter()
        .filter(|path| is_named || !is_unfinished(path))
    {
        let metadata = if is_named {
            path.metadata()
        } else {
            path.symlink_metadata()
        };
        match metadata {
            Ok(metadata) if metadata.is_file() => {
                found.push(FoundFile {
                    path,
                    stamp: FileStamp::of_metadata(&metadata),
                    is_named,
                });
            }
            // A directory, a link that leads who knows where, or gone since.
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_named => {}
            Err(error) => return Err(error),
        }
    }
    if found.len() > MAX_FILES {
        warn!(
            files = found.len(),
            "there are too many files, the newest {MAX_FILES} are looked at"
        );
        found.sort_by_key(|file| std::cmp::Reverse(file.stamp.changed));
        found.truncate(MAX_FILES);
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// Into the order in which they are read: those of one delivery by what they are, others by age.
fn sort_files(files: &mut [FoundFile], is_one_delivery: bool) {
    files.sort_by(|one, other| {
        let by_role = OneCFileRole::of_path(&one.path).cmp(&OneCFileRole::of_path(&other.path));
        let first = if is_one_delivery {
            by_role
        } else {
            one.stamp.changed.cmp(&other.stamp.changed)
        };
        first.then_with(|| one.path.cmp(&other.path))
    });
}

/// What programs call a file while they write it, and what we write ourselves.
fn is_unfinished(path: &Path) -> bool {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    name.starts_with(['.', '~'])
        || [".tmp", ".part", ".filepart", ".crdownload", ".rejected.csv"]
            .iter()
            .any(|end| name.ends_with(end))
}

/// Reads all that is there now, and waits for nothing to stand still; nothing is remembered.
///
/// Files that would be a delivery each are read as parts, each followed by an
/// [`Entry::NextPart`]: what comes later replaces what came before.
///
/// # Errors
/// There is no file, or one cannot be read to its verified end.
pub fn read_all_now(
    config: &Config,
    settings: &ReadSettings,
    spool: &Path,
    rows: &mut EntrySender,
) -> Result<(), String> {
    let path = config.path.display();
    let mut found = find_files(&config.path).map_err(|error| format!("{path}: {error}"))?;
    if found.is_empty() {
        return Err(format!("{path}: there is no file"));
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

/// Reads some files into one delivery. What they say of its completeness, together.
fn read_delivery(
    files: &[FoundFile],
    format: Option<Format>,
    settings: &ReadSettings,
    spool: &Path,
    rows: &mut EntrySender,
) -> Result<ReadReport, FileReadError> {
    let mut summaries = Vec::new();
    let mut role = files.first().map(|file| OneCFileRole::of_path(&file.path));
    let cancelled = |_| FileReadError::temporary("the delivery was given up".to_owned());
    for FoundFile {
        path,
        stamp,
        is_named,
    } in files
    {
        if role.replace(OneCFileRole::of_path(path)) == Some(OneCFileRole::Offers)
            && OneCFileRole::of_path(path) == OneCFileRole::StockLevels
        {
            rows.send_blocking(DeliveryEntry::PartBoundary)
                .map_err(cancelled)?;
        }
        let mut file = open_file(path, *is_named)
            .map_err(|e| FileReadError::of_format_error(path, &e.into()))?;
        let is_unchanged = |file: &File| {
            file.metadata()
                .is_ok_and(|now| FileStamp::of_metadata(&now) == *stamp)
        };
        if !is_unchanged(&file) {
            return Err(FileReadError::temporary(format!(
                "{} was replaced just now",
                path.display()
            )));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let result = read_file(&name, &mut file, format, settings, spool, rows);
        summaries.extend(result.map_err(|error| FileReadError::of_format_error(path, &error))?);
        if !is_unchanged(&file) {
            return Err(FileReadError::temporary(format!(
                "{} changed while it was read",
                path.display()
            )));
        }
    }
    rows.flush_blocking().map_err(cancelled)?;
    Ok(ReadReport::from_files(
        combined_scope(&summaries).into(),
        summaries,
    ))
}

/// Reads one file, and what it holds if it is packed.
///
/// # Errors
/// It cannot be read to its verified end.
pub fn read_file(
    name: &str,
    file: &mut File,
    format: Option<Format>,
    settings: &ReadSettings,
    spool: &Path,
    rows: &mut EntrySender,
) -> Result<Vec<FileSummary>, FormatError> {
    file.rewind()?;
    let mut summaries = Vec::new();
    let hints = formats::FormatHints {
        format,
        encoding: settings.encoding,
    };
    let unpack = || {
        formats::unpack(name, file, hints, spool, &mut |data: DataFile<'_>| {
            let mut sink = |entry| rows.send_blocking(entry);
            let result = formats::read(data.format, data.input, settings, &mut sink);
            // A file in an archive is named; the archive itself is by whoever opened it.
            let is_packed = data.name != name;
            let mut summary =
                result.map_err(|e| if is_packed { e.in_file(data.name) } else { e })?;
            if is_packed {
                summary.shape.set("file", data.name);
            }
            summaries.push(summary);
            Ok(())
        })
    };
    // A file that makes a library panic must not take down what answers the Market, at each
    // start anew. What was read so far is dropped with the delivery.
    std::panic::catch_unwind(AssertUnwindSafe(unpack)).unwrap_or_else(|_| {
        let reason = "its reader broke down over it".to_owned();
        Err(FormatError::Broken {
            place: "some place".to_owned(),
            reason,
        })
    })?;
    Ok(summaries)
}

/// The same on a thread of its own, so that the threads that answer requests stay free.
///
/// # Errors
/// It cannot be read to its verified end, in a sentence.
pub async fn read_on_blocking_thread(
    name: String,
    mut file: File,
    format: Option<Format>,
    (settings, spool): (&ReadSettings, &Path),
    rows: &EntrySender,
) -> Result<Vec<FileSummary>, String> {
    let (mut rows, settings, spool) = (rows.new_sender(), settings.clone(), spool.to_owned());
    run_blocking(move || {
        let result = read_file(&name, &mut file, format, &settings, &spool, &mut rows);
        let summaries = result.map_err(|error| causes(&error))?;
        rows.flush_blocking().map_err(|error| error.to_string())?;
        Ok(summaries)
    })
    .await
}

/// Of several files one that holds changes only makes all of them changes.
#[must_use]
pub fn combined_scope(summaries: &[FileSummary]) -> Option<DeliveryScope> {
    let scopes: Vec<DeliveryScope> = summaries.iter().filter_map(|ending| ending.scope).collect();
    let is_delta = scopes.contains(&DeliveryScope::Delta);
    if is_delta {
        Some(DeliveryScope::Delta)
    } else {
        scopes.first().copied()
    }
}

fn open_file(path: &Path, follows_links: bool) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    if !follows_links {
        // Between the look and now somebody may have put a link there.
        let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        options.custom_flags(flags);
    }
    options.open(path)
}
