//! Files and directories for their owner only, whatever the process's umask.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Creates a directory and those above it that are missing.
pub(super) fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)
}

/// Options that create a file if it is missing.
pub(super) fn create_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(FILE_MODE);
    options
}

/// Options that create a file, or empty it.
pub(super) fn truncate_options() -> OpenOptions {
    let mut options = create_options();
    options.write(true).truncate(true);
    options
}

/// Creates a file, or empties it.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    truncate_options().open(path)
}

/// Creates a file unless it is there. SQLite gives its log the permissions of the database.
pub(super) fn ensure_file(path: &Path) -> io::Result<()> {
    create_options().append(true).open(path).map(drop)
}

/// Takes away from others what an earlier version or a copy may have given them, in a directory
/// and all below it.
pub(super) fn restrict_recursively(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let is_directory = metadata.is_dir();
    if !is_directory && !metadata.is_file() {
        return Ok(());
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        let mode = if is_directory {
            DIRECTORY_MODE
        } else {
            FILE_MODE
        };
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    if is_directory {
        for entry in fs::read_dir(path)? {
            restrict_recursively(&entry?.path())?;
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
        let root = tempfile::tempdir().unwrap();
        let nested = root.path().join("a/b");
        create_directory(&nested).unwrap();
        create_file(&nested.join("file")).unwrap();
        ensure_file(&nested.join("other")).unwrap();
        assert_eq!(
            [mode(&root.path().join("a")), mode(&nested)],
            [0o700, 0o700]
        );
        assert_eq!(
            [mode(&nested.join("file")), mode(&nested.join("other"))],
            [0o600, 0o600]
        );
    }

    #[test]
    fn what_others_could_read_is_restricted_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let (nested, outside) = (root.path().join("a/b"), root.path().join("elsewhere"));
        fs::create_dir_all(&nested).unwrap();
        for file in [nested.join("file"), outside.clone()] {
            fs::write(&file, "x").unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        }
        std::os::unix::fs::symlink(&outside, nested.join("link")).unwrap();
        fs::set_permissions(&nested, Permissions::from_mode(0o755)).unwrap();
        restrict_recursively(&root.path().join("a")).unwrap();
        assert_eq!([mode(&nested), mode(&nested.join("file"))], [0o700, 0o600]);
        assert_eq!(mode(&outside), 0o644);
    }
}
