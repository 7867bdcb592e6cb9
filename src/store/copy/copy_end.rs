//! End of a copy, whichever kind of store it is.

use super::{CopyError, CopyMark, StoreImage, StorePlace, StoreSummary};
use crate::store::StoreError;
use crate::store::postgres::{DatabaseEnd, DatabaseLease};
use crate::store::sqlite::DirectoryEnd;

/// Open store of a copy. Until it is closed, no service can use it.
pub(in crate::store) enum CopyEnd {
    Directory(DirectoryEnd),
    Database(Box<DatabaseEnd>),
}

impl CopyEnd {
    /// Opens an existing store that no service uses.
    pub(super) async fn open_source(place: &StorePlace) -> Result<Self, CopyError> {
        Ok(match place {
            StorePlace::Directory(path) => Self::Directory(DirectoryEnd::open_source(path).await?),
            StorePlace::Database(url) => {
                Self::Database(Box::new(DatabaseEnd::open_source(url).await?))
            }
        })
    }

    /// Opens a place for a store that no service uses. It may have one.
    pub(super) async fn open_target(place: &StorePlace) -> Result<Self, CopyError> {
        Ok(match place {
            StorePlace::Directory(path) => Self::Directory(DirectoryEnd::open_target(path).await?),
            StorePlace::Database(url) => {
                Self::Database(Box::new(DatabaseEnd::open_target(url).await?))
            }
        })
    }

    /// Opens an existing store, which a service may use meanwhile if it is in a database.
    pub(super) async fn open_without_lease(place: &StorePlace) -> Result<Self, StoreError> {
        Ok(match place {
            StorePlace::Directory(path) => Self::Directory(DirectoryEnd::open(path).await?),
            StorePlace::Database(url) => {
                Self::Database(Box::new(DatabaseEnd::open_without_lease(url)))
            }
        })
    }

    /// Reads everything.
    pub(super) async fn read_image(&mut self) -> Result<StoreImage, CopyError> {
        match self {
            Self::Directory(end) => end.read_image().await,
            Self::Database(end) => end.read_image().await,
        }
        .map_err(CopyError::Store)
    }

    /// Returns true if the store is a copy that was not finished.
    pub(super) async fn has_unfinished_copy(&mut self) -> Result<bool, CopyError> {
        match self {
            Self::Directory(end) => end.has_unfinished_copy().await,
            Self::Database(end) => end.has_unfinished_copy().await,
        }
        .map_err(CopyError::Store)
    }

    /// Writes everything at once into an empty place, or in place of an unfinished copy. `mark` is
    /// the text of the mark of an unfinished copy.
    pub(super) async fn write_image(
        &mut self,
        image: &StoreImage,
        mark: &str,
    ) -> Result<(), CopyError> {
        match self {
            Self::Directory(end) => end.write_image(image, mark).await,
            Self::Database(end) => end.write_image(image, mark).await,
        }
    }

    /// Loads the store as a start does it.
    pub(super) async fn summarize(&mut self) -> Result<StoreSummary, CopyError> {
        match self {
            Self::Directory(end) => end.summarize().await,
            Self::Database(end) => end.summarize().await,
        }
        .map_err(CopyError::Store)
    }

    /// Writes or, with `None`, deletes a mark.
    pub(super) async fn put_mark(
        &mut self,
        mark: CopyMark,
        text: Option<&str>,
    ) -> Result<(), StoreError> {
        match self {
            Self::Directory(end) => end.put_mark(mark, text).await,
            Self::Database(end) => end.put_mark(mark, text).await,
        }
    }

    /// Returns the lease that must be kept; `None` for a directory, which is locked.
    pub(super) fn lease(&self) -> Option<DatabaseLease> {
        match self {
            Self::Directory(_) => None,
            Self::Database(end) => end.lease(),
        }
    }

    pub(super) async fn close(self) {
        match self {
            Self::Directory(end) => end.close().await,
            Self::Database(end) => end.close().await,
        }
    }
}

/// Renews a lease, and returns the name of the database only if the lease is lost.
pub(super) async fn keep(lease: Option<DatabaseLease>) -> String {
    match lease {
        Some(lease) => lease.keep().await,
        None => std::future::pending().await,
    }
}
