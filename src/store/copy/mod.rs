//! Copy of a whole store to another place: from a directory into a database, back, or between two
//! of a kind.
//!
//! At any time at most one of both ends can be used by a service. The copy is written with a mark
//! that makes a start refuse it. Both ends are then loaded as a start does it, and compared. After
//! that the source gets a mark that makes a start refuse it, and only then the copy loses its mark.
//! So a crash leaves a target that cannot be used, and another run replaces it.
//!
//! Records are copied as they are, so a shop need not be configured. Files beside the stock, such
//! as what sources have stated, are not copied.

mod copy_end;
mod copy_marks;
mod store_image;
mod store_summary;

use std::fmt;
use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat, Utc};

pub(super) use self::copy_end::CopyEnd;
pub(super) use self::copy_marks::{CopyMark, check_marks};
pub(super) use self::store_image::{ShopImage, StoreImage};
pub use self::store_summary::{INSTANCE_NOTE, ShopSummary, StoreSummary};
pub(super) use self::store_summary::{identities, summarize};
use super::{Config, StoreError, StoreUrl};

/// Place where a store is.
#[derive(Clone, Debug)]
pub enum StorePlace {
    /// Directory, which one process uses.
    Directory(PathBuf),
    /// PostgreSQL database.
    Database(StoreUrl),
}

impl StorePlace {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directory(one), Self::Directory(two)) => {
                let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
                real(one) == real(two)
            }
            (Self::Database(one), Self::Database(two)) => one.to_string() == two.to_string(),
            (Self::Directory(_), Self::Database(_)) | (Self::Database(_), Self::Directory(_)) => {
                false
            }
        }
    }
}

impl fmt::Display for StorePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Database(url) => url.fmt(f),
        }
    }
}

impl From<&Config> for StorePlace {
    fn from(config: &Config) -> Self {
        match &config.url {
            Some(url) => Self::Database(url.clone()),
            None => Self::Directory(config.path.clone()),
        }
    }
}

/// Reason why a store was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the ends cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Both ends are the same place.
    #[error("{0} cannot be copied to itself: name another place")]
    SamePlace(String),
    /// The source has no stock.
    #[error("{0} has no store: name the directory or the database of a service that has run")]
    NothingToCopy(String),
    /// The target has content. Nothing was changed.
    #[error("{place} is not empty: {cure}")]
    NotEmpty {
        /// Target of the copy.
        place: String,
        /// Way to get an empty target.
        cure: &'static str,
    },
    /// A service uses the database.
    #[error(
        "{place} is in use by {owner}: stop that process, or wait 30 s if it was killed, and copy \
         again"
    )]
    InUse {
        /// Database.
        place: String,
        /// Process that uses it.
        owner: String,
    },
    /// Another process has taken the database, because this one stood still for too long.
    #[error("the lease on {0} was lost during the copy: copy again")]
    LeaseLost(String),
}

/// Result of a copy: what a start would load from either end.
#[derive(Clone, Debug)]
pub struct CopyReport {
    /// Content of the source.
    pub source: StoreSummary,
    /// Content of the copy.
    pub copy: StoreSummary,
}

impl CopyReport {
    /// Returns true if the copy has what the source has. Otherwise the copy is not usable, and the
    /// source is as it was.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.source == self.copy
    }
}

/// Copies everything that `from` has to the empty place `to`, and compares both.
///
/// With `is_repeated`, `from` may have been copied to another place before.
///
/// # Errors
/// Nothing was copied, or the copy cannot be used; `from` is as it was, or, after a failure in the
/// last step, only another copy to the same place is possible.
pub async fn copy_store(
    from: &StorePlace,
    to: &StorePlace,
    is_repeated: bool,
    now: DateTime<Utc>,
) -> Result<CopyReport, CopyError> {
    if from.is_same(to) {
        return Err(CopyError::SamePlace(from.to_string()));
    }
    let mut source = CopyEnd::open_source(from).await?;
    let outcome = async {
        let mut target = CopyEnd::open_target(to).await?;
        let outcome = copy_between((&mut source, &mut target), (from, to), is_repeated, now).await;
        target.close().await;
        outcome
    }
    .await;
    source.close().await;
    outcome
}

async fn copy_between(
    (source, target): (&mut CopyEnd, &mut CopyEnd),
    (from, to): (&StorePlace, &StorePlace),
    is_repeated: bool,
    now: DateTime<Utc>,
) -> Result<CopyReport, CopyError> {
    let leases = [source.lease(), target.lease()];
    let copying = async {
        let image = source.read_image().await?;
        if let Some(source_place) = image.unfinished_from {
            let place = from.to_string();
            return Err(CopyError::Store(StoreError::UnfinishedCopy {
                place,
                source_place,
            }));
        }
        let is_same_target = image.copied_to.as_ref().is_some_and(|mark| mark.names(to));
        if let Some(mark) = image.copied_to.as_ref()
            && !is_repeated
            && !(is_same_target && target.has_unfinished_copy().await?)
        {
            return Err(CopyError::Store(mark.to_error(&from.to_string())));
        }
        let at = now.to_rfc3339_opts(SecondsFormat::Secs, true);
        let unfinished = CopyMark::Unfinished.text(&from.to_string(), &at);
        target.write_image(&image, &unfinished).await?;
        drop(image);
        let report = CopyReport {
            source: source.summarize().await?,
            copy: target.summarize().await?,
        };
        if report.is_equal() {
            let copied = CopyMark::CopiedTo.text(&to.to_string(), &at);
            source.put_mark(CopyMark::CopiedTo, Some(&copied)).await?;
            target.put_mark(CopyMark::Unfinished, None).await?;
        }
        Ok(report)
    };
    let [source_lease, target_lease] = leases;
    tokio::select! {
        outcome = copying => outcome,
        place = copy_end::keep(source_lease) => Err(CopyError::LeaseLost(place)),
        place = copy_end::keep(target_lease) => Err(CopyError::LeaseLost(place)),
    }
}

/// Lets a service use a store again that was copied to another place. That copy must not be used
/// any more.
///
/// # Errors
/// The store cannot be opened or written.
pub async fn reclaim_copied_store(config: &Config) -> Result<(), StoreError> {
    let mut end = CopyEnd::open_without_lease(&StorePlace::from(config)).await?;
    let outcome = end.put_mark(CopyMark::CopiedTo, None).await;
    end.close().await;
    outcome
}
