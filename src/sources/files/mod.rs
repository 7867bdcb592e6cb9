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

use super::formats::{self, DataFile, Ending, Format, FormatError};
use super::{Entry, Intake, IntakeError, ReadReport, Reading, Receipt, Rows, Scope};
use crate::http::causes;
use crate::lifecycle::run_blocking;
use crate::stock::Instant;

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
    pub is_one: bool,
}

/// What a file looked like.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Look {
    size: u64,
    // Of the last change of its content, in nanoseconds since 1970.
    changed: i128,
    inode: u64,
}

impl Look {
    fn of(metadata: &Metadata) -> Self {
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
struct Taken {
    files: BTreeMap<PathBuf, Look>,
}

/// A watch over one source's files.
#[derive(Debug)]
pub struct Files {
    config: Config,
    reading: Reading,
    // What they looked like the last time.
    seen: BTreeMap<PathBuf, Look>,
    taken: Option<Taken>,
}

impl Files {
    /// A watch that has not looked yet.
    #[must_use]
    pub fn new(config: Config, reading: Reading) -> Self {
        Self {
            config,
            reading,
            seen: BTreeMap::new(),
            taken: None,
        }
    }

    /// Looks once, and takes what stands still and was not taken yet.
    ///
    /// # Errors
    /// The files cannot be looked for, or what was taken cannot be remembered. A file that
    /// cannot be taken is told with the source, and not tried again until it changes.
    pub async fn look(
        &mut self,
        intake: &Intake,
        source: usize,
    ) -> Result<Vec<Receipt>, IntakeError> {
        if self.taken.is_none() {
            let noted = intake.reader(source).await?;
            self.taken = Some(serde_json::from_str(&noted).unwrap_or_default());
        }
        let config = self.config.clone();
        let found = run_blocking(move || find(&config.path)).await;
        let found = found.map_err(|error| {
            IntakeError::Unread(format!("{}: {error}", self.config.path.display()))
        })?;
        let due = self.due(&found);
        let mut receipts = Vec::new();
        for files in due {
            let delivered = self.deliver(intake, source, &files).await;
            // Whatever came of it: the same bytes would come to the same. What is ours to mend,
            // or the disk's, is tried again.
            let (delivered, is_passing) = delivered;
            if is_passing {
                break;
            }
            let taken = self.taken.get_or_insert_default();
            taken
                .files
                .extend(files.iter().map(|file| (file.path.clone(), file.look)));
            receipts.extend(delivered.ok());
        }
        let taken = self.taken.get_or_insert_default();
        let before = taken.files.len();
        // A disk that was taken away comes back with files that were taken long ago.
        if before > 2 * MAX_FILES {
            taken
                .files
                .retain(|path, _| found.iter().any(|file| file.path == *path));
        }
        if before != taken.files.len() || !receipts.is_empty() || self.seen.is_empty() {
            let text = serde_json::to_string(taken).unwrap_or_default();
            intake.remember(source, &text).await?;
        }
        self.seen = found
            .into_iter()
            .map(|file| (file.path, file.look))
            .collect();
        Ok(receipts)
    }

    /// The deliveries that stand still and are new, the oldest first.
    fn due(&self, found: &[Found]) -> Vec<Vec<Found>> {
        let stands = |file: &&Found| self.seen.get(&file.path) == Some(&file.look);
        let taken = self.taken.as_ref();
        let is_new = |file: &&Found| {
            taken.is_none_or(|taken| taken.files.get(&file.path) != Some(&file.look))
        };
        if self.config.is_one {
            let is_due = found.iter().all(|file| stands(&file)) && found.iter().any(|f| is_new(&f));
            let mut files = found.to_vec();
            sort(&mut files, true);
            return if is_due { vec![files] } else { Vec::new() };
        }
        let due = found.iter().filter(stands).filter(is_new);
        let mut due: Vec<Found> = due.cloned().collect();
        sort(&mut due, false);
        due.into_iter().map(|file| vec![file]).collect()
    }

    async fn deliver(
        &self,
        intake: &Intake,
        source: usize,
        files: &[Found],
    ) -> (Result<Receipt, IntakeError>, bool) {
        let newest = files
            .iter()
            .map(|file| file.look.changed)
            .max()
            .unwrap_or_default();
        let at = i64::try_from(newest / 1_000)
            .ok()
            .and_then(Instant::from_micros);
        let (reading, format) = (&self.reading, self.config.format);
        let spool = intake.directory().to_owned();
        let files = files.to_vec();
        let mut is_passing = false;
        let delivered = intake.deliver(source, at, true, async |rows: &mut Rows| {
            let (mut rows, reading) = (rows.another(), reading.clone());
            let read = move || read_all(&files, format, &reading, &spool, &mut rows);
            run_blocking(read).await.map_err(|failure| {
                is_passing = failure.is_passing;
                failure.text
            })
        });
        let delivered = delivered.await;
        let is_passing = is_passing || !lies_with_file(&delivered);
        (delivered, is_passing)
    }
}

/// Why files could not be read.
struct Failure {
    text: String,
    // It is the disk's, or the moment's, and not the file's.
    is_passing: bool,
}

impl Failure {
    fn of(path: &Path, error: &FormatError) -> Self {
        Self {
            text: format!("{}: {}", path.display(), causes(error)),
            is_passing: matches!(error, FormatError::Io(_)),
        }
    }

    fn passing(text: String) -> Self {
        Self {
            text,
            is_passing: true,
        }
    }
}

/// Whether what came of a delivery would come of the same files again.
fn lies_with_file(delivered: &Result<Receipt, IntakeError>) -> bool {
    match delivered {
        Ok(_) | Err(IntakeError::Unread(_) | IntakeError::Unfit(_)) => true,
        Err(
            IntakeError::Stated(_)
            | IntakeError::Staging(_)
            | IntakeError::Ingest(_)
            | IntakeError::NothingHeld(_),
        ) => false,
    }
}

/// A file that is there.
#[derive(Clone, Debug)]
struct Found {
    path: PathBuf,
    look: Look,
    // Named by the operator, so a link is followed; found in a directory, it is not.
    is_named: bool,
}

/// In which order the files of 1C belong together.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Role {
    /// Which article an id stands for.
    Catalogue,
    /// Stock, or none.
    Offers,
    /// Stock, and newer than that.
    Rests,
}

impl Role {
    fn of(path: &Path) -> Self {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        if name.starts_with("import") {
            Self::Catalogue
        } else if name.starts_with("rests") {
            Self::Rests
        } else {
            Self::Offers
        }
    }
}

/// The files there are now, by their path.
fn find(path: &Path) -> std::io::Result<Vec<Found>> {
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
                found.push(Found {
                    path,
                    look: Look::of(&metadata),
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
        found.sort_by_key(|file| std::cmp::Reverse(file.look.changed));
        found.truncate(MAX_FILES);
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// Into the order in which they are read: those of one delivery by what they are, others by age.
fn sort(files: &mut [Found], is_one: bool) {
    files.sort_by(|one, other| {
        let by_role = Role::of(&one.path).cmp(&Role::of(&other.path));
        let first = if is_one {
            by_role
        } else {
            one.look.changed.cmp(&other.look.changed)
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
pub fn read_now(
    config: &Config,
    reading: &Reading,
    spool: &Path,
    rows: &mut Rows,
) -> Result<(), String> {
    let place = config.path.display();
    let mut found = find(&config.path).map_err(|error| format!("{place}: {error}"))?;
    if found.is_empty() {
        return Err(format!("{place}: there is no file"));
    }
    sort(&mut found, config.is_one);
    if config.is_one {
        let read = read_all(&found, config.format, reading, spool, rows);
        return read.map(drop).map_err(|failure| failure.text);
    }
    for file in found {
        let read = read_all(&[file], config.format, reading, spool, rows);
        read.map_err(|failure| failure.text)?;
        rows.put_blocking(Entry::NextPart)
            .map_err(|error| error.to_string())?;
    }
    rows.flush_blocking().map_err(|error| error.to_string())
}

/// Reads some files into one delivery. What they say of its completeness, together.
fn read_all(
    files: &[Found],
    format: Option<Format>,
    reading: &Reading,
    spool: &Path,
    rows: &mut Rows,
) -> Result<ReadReport, Failure> {
    let mut endings = Vec::new();
    let mut role = files.first().map(|file| Role::of(&file.path));
    let given_up = |_| Failure::passing("the delivery was given up".to_owned());
    for Found {
        path,
        look,
        is_named,
    } in files
    {
        if role.replace(Role::of(path)) == Some(Role::Offers) && Role::of(path) == Role::Rests {
            rows.put_blocking(Entry::NextPart).map_err(given_up)?;
        }
        let mut file = open(path, *is_named).map_err(|e| Failure::of(path, &e.into()))?;
        let stands = |file: &File| file.metadata().is_ok_and(|now| Look::of(&now) == *look);
        if !stands(&file) {
            return Err(Failure::passing(format!(
                "{} was replaced just now",
                path.display()
            )));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let read = read(&name, &mut file, format, reading, spool, rows);
        endings.extend(read.map_err(|error| Failure::of(path, &error))?);
        if !stands(&file) {
            return Err(Failure::passing(format!(
                "{} changed while it was read",
                path.display()
            )));
        }
    }
    rows.flush_blocking().map_err(given_up)?;
    Ok(ReadReport::of_files(together(&endings).into(), endings))
}

/// Reads one file, and what it holds if it is packed.
///
/// # Errors
/// It cannot be read to its verified end.
pub fn read(
    name: &str,
    file: &mut File,
    format: Option<Format>,
    reading: &Reading,
    spool: &Path,
    rows: &mut Rows,
) -> Result<Vec<Ending>, FormatError> {
    file.rewind()?;
    let mut endings = Vec::new();
    let told = formats::Told {
        format,
        encoding: reading.encoding,
    };
    let unpack = || {
        formats::unpack(name, file, told, spool, &mut |data: DataFile<'_>| {
            let mut sink = |entry| rows.put_blocking(entry);
            let read = formats::read(data.format, data.input, reading, &mut sink);
            // A file in an archive is named; the archive itself is by whoever opened it.
            let is_packed = data.name != name;
            let mut ending = read.map_err(|e| if is_packed { e.in_file(data.name) } else { e })?;
            if is_packed {
                ending.shape.set("file", data.name);
            }
            endings.push(ending);
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
    Ok(endings)
}

/// The same on a thread of its own, so that the threads that answer requests stay free.
///
/// # Errors
/// It cannot be read to its verified end, in a sentence.
pub async fn read_apart(
    name: String,
    mut file: File,
    format: Option<Format>,
    (reading, spool): (&Reading, &Path),
    rows: &Rows,
) -> Result<Vec<Ending>, String> {
    let (mut rows, reading, spool) = (rows.another(), reading.clone(), spool.to_owned());
    run_blocking(move || {
        let read = read(&name, &mut file, format, &reading, &spool, &mut rows);
        let endings = read.map_err(|error| causes(&error))?;
        rows.flush_blocking().map_err(|error| error.to_string())?;
        Ok(endings)
    })
    .await
}

/// Of several files one that holds changes only makes all of them changes.
#[must_use]
pub fn together(endings: &[Ending]) -> Option<Scope> {
    let scopes: Vec<Scope> = endings.iter().filter_map(|ending| ending.scope).collect();
    let is_delta = scopes.contains(&Scope::Delta);
    if is_delta {
        Some(Scope::Delta)
    } else {
        scopes.first().copied()
    }
}

fn open(path: &Path, follows_links: bool) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    if !follows_links {
        // Between the look and now somebody may have put a link there.
        let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        options.custom_flags(flags);
    }
    options.open(path)
}
