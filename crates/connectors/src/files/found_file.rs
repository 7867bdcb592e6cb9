//! Finds the files of a source and sorts them into reading order.
//!
//! Links are followed only if the operator named the file, because a link in a directory could lead
//! to any file of this machine. Unfinished files are skipped by their names.

use std::fs::{File, Metadata, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

/// Most files of one source; older ones are ignored with a warning.
pub(super) const MAX_FILES: usize = 10_000;

/// Size, time and inode of a file, to detect changes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct FileStamp {
    size: u64,
    // Time of the last change of its content, in nanoseconds since 1970.
    pub(super) changed: i128,
    inode: u64,
}

impl FileStamp {
    pub(super) fn of_metadata(metadata: &Metadata) -> Self {
        let changed =
            i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Self {
            size: metadata.len(),
            changed,
            inode: metadata.ino(),
        }
    }
}

/// File found by a poll.
#[derive(Clone, Debug)]
pub struct FoundFile {
    pub(super) path: PathBuf,
    pub(super) stamp: FileStamp,
    // True if the operator named the file. Only then a symbolic link is followed.
    pub(super) is_named: bool,
}

/// Content of a 1C file, in reading order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum OneCFileRole {
    /// SKUs of 1C's ids.
    Catalogue,
    /// Offers, with or without stock.
    Offers,
    /// Stock that replaces the stock in the offers.
    StockLevels,
}

impl OneCFileRole {
    pub(super) fn of_path(path: &Path) -> Self {
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

/// Returns the present files, sorted by path.
pub(super) fn find_files(path: &Path) -> std::io::Result<Vec<FoundFile>> {
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
            // Directories and links are skipped: a link could lead to any file of this machine.
            // A file that disappeared after the listing is skipped too.
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_named => {}
            Err(error) => return Err(error),
        }
    }
    if found.len() > MAX_FILES {
        warn!(
            files = found.len(),
            "found {} files, only the newest {MAX_FILES} are read",
            found.len()
        );
        found.sort_by_key(|file| std::cmp::Reverse(file.stamp.changed));
        found.truncate(MAX_FILES);
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// Sorts files into reading order: those of one delivery by role, others by age.
pub(super) fn sort_files(files: &mut [FoundFile], is_one_delivery: bool) {
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

/// True for names that programs give to unfinished files, and for lists of rejected rows, which
/// this service writes itself.
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

pub(super) fn open_file(path: &Path, follows_links: bool) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    if !follows_links {
        // The file may have been replaced by a link after the listing.
        let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        options.custom_flags(flags);
    }
    options.open(path)
}
