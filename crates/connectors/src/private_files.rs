//! Files and directories that only their owner can read, regardless of the process's umask.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Creates a directory and its missing parents.
///
/// # Errors
/// One of them cannot be created.
pub fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)
}

/// Returns options that create a file if it is missing.
pub(crate) fn create_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(FILE_MODE);
    options
}

/// Returns options that create a file, or truncate it.
pub(crate) fn truncate_options() -> OpenOptions {
    let mut options = create_options();
    options.write(true).truncate(true);
    options
}

/// Creates a file, or truncates it.
pub(crate) fn create_file(path: &Path) -> io::Result<File> {
    truncate_options().open(path)
}

/// Creates a file unless it exists. SQLite gives its WAL the permissions of the database file, so
/// it is enough to create the latter.
///
/// # Errors
/// It does not exist and cannot be created, or it cannot be written.
pub fn ensure_file(path: &Path) -> io::Result<()> {
    create_options().append(true).open(path).map(drop)
}

/// Removes the permissions of group and others from a path and everything below it. An earlier
/// version or a copy of the directory may have granted them. Symbolic links are not followed.
///
/// # Errors
/// A path cannot be read, or its permissions cannot be changed.
pub fn restrict_recursively(path: &Path) -> io::Result<()> {
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
    fn created_files_are_private() {
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
    fn restricts_files_without_following_links() {
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
