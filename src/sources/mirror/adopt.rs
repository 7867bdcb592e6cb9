//! Start of a term of leading: the local files are made equal to the image in the database.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use connectors::private_files;
use lifecycle::run_blocking;
use stock::ShopId;
use tracing::{info, warn};

use super::MirrorError;
use crate::sources::statements::{FILE_NAME, PageDigests, digests_of_file, page_digest};
use crate::store::{ImageFile, ImageState, StatementImage, StatementImages};

/// Bytes that are read from the database at once.
const READ_BYTES: i64 = 4 * 1024 * 1024;

/// Beginning of the names of held deliveries.
const HELD_PREFIX: &str = "held-";

/// What the database has of the local files.
#[derive(Clone, Debug, Default)]
pub(in crate::sources) struct Adopted {
    pub(super) statements: PageDigests,
    pub(super) held: Vec<String>,
}

/// Source of the statements for a process that begins to lead.
#[derive(Clone, Debug, Eq, PartialEq)]
enum StatementOrigin {
    /// The image in the database.
    Image(StatementImage),
    /// The local files, also if there are none. The database gets an image of them.
    Local,
}

/// Returns the statements with which a process begins to lead. `is_pinned` is true if the operator has
/// named this replica as the one that reads the sources.
fn choose_origin(state: ImageState, is_pinned: bool) -> Result<StatementOrigin, MirrorError> {
    match state {
        ImageState::Stored(image) => Ok(StatementOrigin::Image(image)),
        ImageState::Missing { .. } if is_pinned => Ok(StatementOrigin::Local),
        ImageState::Missing {
            earlier_release: Some(name),
            ..
        } => Err(MirrorError::EarlierRelease(name)),
        ImageState::Missing {
            may_be_in_directory: true,
            ..
        } => Err(MirrorError::NeedsSourcesOn),
        ImageState::Missing {
            may_be_in_directory: false,
            ..
        } => Ok(StatementOrigin::Local),
    }
}

/// Makes the local files of a shop equal to its image, if there is one. Nothing may use the files.
pub(in crate::sources) async fn adopt(
    images: &StatementImages,
    (shop, name, directory): (ShopId, &str, &Path),
    is_pinned: bool,
) -> Result<Adopted, MirrorError> {
    let state = images.state(shop).await.map_err(MirrorError::Database)?;
    let image = match choose_origin(state, is_pinned)? {
        StatementOrigin::Image(image) => image,
        StatementOrigin::Local => return Ok(Adopted::default()),
    };
    let created = private_files::create_directory(directory);
    created.map_err(|source| file_error(directory, source))?;
    let mut adopted = Adopted::default();
    for file in &image.files {
        let local = local_digests(directory, file).await;
        let is_equal = local
            .as_ref()
            .is_some_and(|local| local.len() == file.pages as usize && local.sum() == file.digest);
        let digests = match local {
            Some(local) if is_equal => local,
            Some(_) | None => download(images, shop, file, directory).await?,
        };
        if !is_equal {
            let (generation, pages) = (image.generation, file.pages);
            info!(
                shop = name,
                "took {} of {name} over from the database: generation {generation}, {pages} pages",
                file.name
            );
        }
        if file.name == FILE_NAME {
            adopted.statements = digests;
        } else {
            adopted.held.push(file.name.clone());
        }
    }
    let (directory, held) = (directory.to_owned(), adopted.held.clone());
    run_blocking(move || remove_other_held(&directory, &held)).await?;
    Ok(adopted)
}

/// Returns the digests of a local file. One that cannot be read is replaced.
async fn local_digests(directory: &Path, file: &ImageFile) -> Option<PageDigests> {
    let (directory, name) = (directory.to_owned(), file.name.clone());
    let page_bytes = file.page_bytes as usize;
    let reading = run_blocking(move || digests_of_file(&directory, &name, page_bytes));
    reading.await.unwrap_or_else(|error| {
        warn!("the local file {} cannot be read: {error}", file.name);
        None
    })
}

/// Writes a file of the image under a temporary name, verifies it, and renames it.
async fn download(
    images: &StatementImages,
    shop: ShopId,
    file: &ImageFile,
    directory: &Path,
) -> Result<PageDigests, MirrorError> {
    let damaged = || MirrorError::Damaged {
        file: file.name.clone(),
    };
    let path = directory.join(&file.name);
    let temporary = directory.join(format!("{}.new", file.name));
    let create = temporary.clone();
    let created = run_blocking(move || {
        private_files::ensure_file(&create)?;
        let file = File::options().write(true).truncate(true).open(&create)?;
        Ok(std::io::BufWriter::new(file))
    });
    let mut output = created
        .await
        .map_err(|source| file_error(&temporary, source))?;
    let limit = (READ_BYTES / i64::from(file.page_bytes.max(1))).max(1);
    let mut digests: Vec<u64> = Vec::new();
    loop {
        let after = i64::try_from(digests.len()).unwrap_or(i64::MAX);
        let batch = images.pages((shop, &file.name), (after, limit)).await;
        let batch = batch.map_err(MirrorError::Database)?;
        if batch.pages.is_empty() {
            break;
        }
        for (page, body) in batch.pages.iter().zip(&batch.bodies) {
            // A page that is missing would shift those after it.
            if usize::try_from(*page).ok() != Some(digests.len() + 1) {
                return Err(damaged());
            }
            digests.push(page_digest(
                u32::try_from(*page).map_err(|_| damaged())?,
                body,
            ));
        }
        let writing = run_blocking(move || {
            let written = batch
                .bodies
                .iter()
                .try_for_each(|body| output.write_all(body));
            written.map(|()| output)
        });
        output = writing
            .await
            .map_err(|source| file_error(&temporary, source))?;
    }
    let digests = PageDigests::of_written(digests);
    if digests.len() != file.pages as usize || digests.sum() != file.digest {
        return Err(damaged());
    }
    let (directory, name) = (directory.to_owned(), file.name.clone());
    let replacing = run_blocking(move || {
        output
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)?
            .sync_all()?;
        // First, because SQLite would apply an old log to the new file. A crash after it leaves an
        // old file, which differs from the image too.
        for suffix in ["-wal", "-shm"] {
            remove_if_exists(&directory.join(format!("{name}{suffix}")))?;
        }
        std::fs::rename(directory.join(format!("{name}.new")), directory.join(name))?;
        File::open(&directory)?.sync_all()
    });
    replacing
        .await
        .map_err(|source| file_error(&path, source))?;
    Ok(digests)
}

/// Removes held deliveries that the image does not have.
fn remove_other_held(directory: &Path, held: &[String]) -> Result<(), MirrorError> {
    let remove = || {
        for entry in std::fs::read_dir(directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with(HELD_PREFIX) && !held.contains(&name) {
                remove_if_exists(&directory.join(name))?;
            }
        }
        Ok(())
    };
    remove().map_err(|source| file_error(directory, source))
}

fn remove_if_exists(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn file_error(path: &Path, source: std::io::Error) -> MirrorError {
    MirrorError::File {
        path: PathBuf::from(path),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_known_owner_brings_statements() {
        let missing = |may_be_in_directory, earlier: Option<&str>| ImageState::Missing {
            may_be_in_directory,
            earlier_release: earlier.map(ToOwned::to_owned),
        };
        let image = StatementImage {
            generation: 3,
            ..StatementImage::default()
        };
        for (state, is_pinned, expected) in [
            (ImageState::Stored(image.clone()), false, "image"),
            (ImageState::Stored(image), true, "image"),
            // A new installation.
            (missing(false, None), false, "local"),
            (missing(false, None), true, "local"),
            // After an upgrade, or after the stock was copied from a directory.
            (missing(true, None), true, "local"),
            (missing(true, None), false, "needs sources_on"),
            // During an upgrade, the earlier release reads the sources without a lease.
            (missing(true, Some("one")), true, "local"),
            (missing(true, Some("one")), false, "earlier release"),
            (missing(false, Some("one")), false, "earlier release"),
        ] {
            let chosen = match choose_origin(state, is_pinned) {
                Ok(StatementOrigin::Image(_)) => "image",
                Ok(StatementOrigin::Local) => "local",
                Err(MirrorError::NeedsSourcesOn) => "needs sources_on",
                Err(MirrorError::EarlierRelease(_)) => "earlier release",
                Err(error) => panic!("{error}"),
            };
            assert_eq!(chosen, expected);
        }
    }
}
