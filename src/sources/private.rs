//! Files and directories for their owner only, whatever the process's umask.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

const FILE: u32 = 0o600;
const DIRECTORY: u32 = 0o700;

/// Creates a directory and those above it that are missing.
pub(super) fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY)
        .create(path)
}

/// Options that create a file if it is missing.
pub(super) fn creating() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(FILE);
    options
}

/// Options that create a file, or empty it.
pub(super) fn emptying() -> OpenOptions {
    let mut options = creating();
    options.write(true).truncate(true);
    options
}

/// Creates a file, or empties it.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    emptying().open(path)
}

/// Creates a file unless it is there. SQLite gives its log the permissions of the database.
pub(super) fn ensure_file(path: &Path) -> io::Result<()> {
    creating().append(true).open(path).map(drop)
}

/// Takes away from others what an earlier version or a copy may have given them, in a directory
/// and all below it.
pub(super) fn restrict(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let is_directory = metadata.is_dir();
    if !is_directory && !metadata.is_file() {
        return Ok(());
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        let mode = if is_directory { DIRECTORY } else { FILE };
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    if is_directory {
        for entry in fs::read_dir(path)? {
            restrict(&entry?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_created_is_the_owners_only() {
        let place = tempfile::tempdir().unwrap();
        let deep = place.path().join("a/b");
        create_directory(&deep).unwrap();
        create_file(&deep.join("file")).unwrap();
        ensure_file(&deep.join("other")).unwrap();
        assert_eq!([mode(&place.path().join("a")), mode(&deep)], [0o700, 0o700]);
        assert_eq!(
            [mode(&deep.join("file")), mode(&deep.join("other"))],
            [0o600, 0o600]
        );
    }

    #[test]
    fn what_others_could_read_is_restricted_and_links_are_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let (deep, elsewhere) = (place.path().join("a/b"), place.path().join("elsewhere"));
        fs::create_dir_all(&deep).unwrap();
        for file in [deep.join("file"), elsewhere.clone()] {
            fs::write(&file, "x").unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        }
        std::os::unix::fs::symlink(&elsewhere, deep.join("link")).unwrap();
        fs::set_permissions(&deep, Permissions::from_mode(0o755)).unwrap();
        restrict(&place.path().join("a")).unwrap();
        assert_eq!([mode(&deep), mode(&deep.join("file"))], [0o700, 0o600]);
        assert_eq!(mode(&elsewhere), 0o644);
    }
}
