//! Mirror of a shop's statements in the database of the replicas, for the next leader of its sources.
//!
//! After a delivery was committed to the local file, and before it is applied to the stock, the
//! leader stores the changed pages under the epoch of its lease. If another replica leads by then,
//! nothing is stored, and the delivery is not applied. A new leader first makes its local files equal
//! to the image ([`adopt()`]). So it knows each delivery of which stock was applied, and the commit that
//! the last leader made without applying it is completed.
//!
//! Deliveries that are held for approval are stored likewise, because 1C does not send one again.
//!
//! Before each write the leader compares the image with what it has stored. After a failover to a standby
//! that was behind, the database has an older image, and then everything is stored again.

mod adopt;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifecycle::run_blocking;
use stock::ShopId;
use tracing::warn;

use super::pipeline::LockedStatements;
use super::statements::{
    ChangedPages, FILE_NAME, PageDigests, StatementError, StatementStore, page_digest, read_up_to,
};
use crate::replicas::LeaderLease;
use crate::store::{Fence, ImageFile, ImageState, PageBatch, StatementImages, StoreError};

pub(super) use self::adopt::{Adopted, adopt};

/// Bytes of pages in one statement.
const BATCH_BYTES: usize = 1024 * 1024;

/// Bytes of a part of a held delivery, which never changes.
const HELD_PART_BYTES: u32 = 64 * 1024;

/// Reason why statements were not stored in the database, or not read from it.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// Another replica leads, or this one may not lead for much longer.
    #[error("another replica reads the sources of this shop now")]
    NotLeading,
    /// The database cannot be used.
    #[error("the statements of sources cannot be stored in the database of the replicas")]
    Database(#[source] StoreError),
    /// The local statements cannot be read or written.
    #[error(transparent)]
    Statements(#[from] StatementError),
    /// A local file cannot be read or written.
    #[error("cannot write the statements of sources in {path}")]
    File {
        /// File.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// The image is not what was written.
    #[error(
        "the image of {file} in the database is damaged: restore the database from its backup, or \
         delete the rows of the shop in stockbridge.statement_file and set sources_on to a replica \
         whose directory has the latest statements"
    )]
    Damaged {
        /// File of the image.
        file: String,
    },
    /// The database has stock of the shop, but no statements. They may be on a disk of another one.
    #[error(
        "the database has stock of this shop, but not what its sources have stated: set sources_on \
         on all replicas to the one that read the sources last, until it has started once"
    )]
    NeedsSourcesOn,
    /// A process of an earlier release may read the sources.
    #[error(
        "replica {0} runs an earlier release, which reads sources without a lease: upgrade it, or set \
         sources_on on all replicas"
    )]
    EarlierRelease(String),
}

impl From<StoreError> for MirrorError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotLeader { .. } => Self::NotLeading,
            error => Self::Database(error),
        }
    }
}

/// Mirror of one shop's statements, for one term of leading.
#[derive(Debug)]
pub(super) struct StatementMirror {
    images: Arc<StatementImages>,
    shop: ShopId,
    directory: PathBuf,
    lease: LeaderLease,
    epoch: i64,
    copy: parking_lot::Mutex<KnownCopy>,
}

/// What the database has, as far as this process knows.
#[derive(Debug, Default)]
struct KnownCopy {
    stored: StoredCopy,
    /// Copy that the database has if the last write was stored although it failed.
    possible: Option<StoredCopy>,
}

/// Image that this process has stored or read.
#[derive(Clone, Debug, Default)]
struct StoredCopy {
    statements: PageDigests,
    held: Vec<String>,
}

impl StoredCopy {
    /// Returns true if the database has this copy.
    fn is_stored(&self, state: &ImageState) -> bool {
        let ImageState::Stored(image) = state else {
            return self.statements.len() == 0;
        };
        let is_same = |file: &ImageFile| match &*file.name {
            FILE_NAME => {
                file.pages as usize == self.statements.len() && file.digest == self.statements.sum()
            }
            name => self.held.iter().any(|held| held == name),
        };
        image.files.len() == self.held.len() + 1 && image.files.iter().all(is_same)
    }
}

/// What the database lacks.
struct Difference {
    changed: ChangedPages,
    held: Vec<String>,
    is_held_changed: bool,
}

impl StatementMirror {
    pub(super) fn new(
        images: Arc<StatementImages>,
        (shop, directory): (ShopId, &Path),
        (lease, epoch): (LeaderLease, i64),
        adopted: Adopted,
    ) -> Self {
        Self {
            images,
            shop,
            directory: directory.to_owned(),
            lease,
            epoch,
            copy: parking_lot::Mutex::new(KnownCopy {
                stored: StoredCopy {
                    statements: adopted.statements,
                    held: adopted.held,
                },
                possible: None,
            }),
        }
    }

    /// Checks that this process still leads.
    pub(super) fn check_leading(&self) -> Result<(), MirrorError> {
        if self.lease.may_act_in(self.epoch) {
            Ok(())
        } else {
            Err(MirrorError::NotLeading)
        }
    }

    /// Stores what the local files have and the database lacks.
    pub(super) async fn store(
        self: &Arc<Self>,
        statements: &mut LockedStatements,
    ) -> Result<(), MirrorError> {
        self.check_leading()?;
        self.compare_with_image().await?;
        let mirror = Arc::clone(self);
        let difference = statements.run(move |it| mirror.difference(it)).await?;
        let Difference {
            changed,
            held,
            is_held_changed,
        } = difference;
        if changed.pages.is_empty() && !is_held_changed {
            self.copy.lock().stored.statements.advance(&changed);
            return Ok(());
        }
        let known = self.copy.lock().stored.clone();
        let after = known.statements.after(&changed);
        let written = self
            .write(statements, (&changed, &after), (&known.held, &held))
            .await;
        let new = StoredCopy {
            statements: after.clone(),
            held,
        };
        if let Err(error) = written {
            // The database may have it or not, and the next comparison shows it.
            self.copy.lock().possible = Some(new);
            return Err(error);
        }
        self.copy.lock().stored = new;
        Ok(statements
            .run(move |it| it.checkpoint_if_long(&after))
            .await?)
    }

    /// Forgets what this process has stored if the database has something else.
    async fn compare_with_image(&self) -> Result<(), MirrorError> {
        let state = self.images.state(self.shop).await?;
        let mut copy = self.copy.lock();
        let possible = copy.possible.take();
        if let Some(possible) = possible.filter(|possible| possible.is_stored(&state)) {
            copy.stored = possible;
        } else if !copy.stored.is_stored(&state) {
            warn!(
                "the database has another image of the statements in {} than was stored, as after a \
                 failover to a standby that was behind; they are stored again",
                self.directory.display()
            );
            copy.stored = StoredCopy::default();
        }
        Ok(())
    }

    fn difference(&self, statements: &StatementStore) -> Result<Difference, StatementError> {
        let copy = self.copy.lock().stored.clone();
        let held = statements.held_files()?;
        Ok(Difference {
            changed: statements.changed_pages(&copy.statements)?,
            is_held_changed: held != copy.held,
            held,
        })
    }

    async fn write(
        &self,
        statements: &mut LockedStatements,
        (changed, after): (&ChangedPages, &PageDigests),
        (known_held, held): (&[String], &[String]),
    ) -> Result<(), MirrorError> {
        let fence = self.fence()?;
        let mut writer = self.images.writer().await;
        let mut write = writer.begin(self.shop).await?;
        let page_bytes = changed.page_bytes;
        for pages in changed.pages.chunks(BATCH_BYTES / page_bytes as usize) {
            let numbers = pages.iter().map(|page| i64::from(page.page)).collect();
            let pages = pages.to_vec();
            let read = statements.run(move |it| it.read_changed_pages(&pages, page_bytes));
            let batch = PageBatch {
                pages: numbers,
                bodies: read.await?,
            };
            write.put_pages(FILE_NAME, batch).await?;
        }
        let mut files = vec![ImageFile {
            name: FILE_NAME.to_owned(),
            pages: changed.total,
            page_bytes,
            digest: after.sum(),
        }];
        for name in held.iter().filter(|name| !known_held.contains(name)) {
            let mut digests = Vec::new();
            loop {
                let (path, first) = (self.directory.join(name), digests.len());
                let batch = read_held(path, first).await?;
                if batch.pages.is_empty() {
                    break;
                }
                let parts = batch.pages.iter().zip(&batch.bodies);
                digests.extend(parts.map(|(page, body)| page_digest(to_u32(*page), body)));
                write.put_pages(name, batch).await?;
            }
            files.push(ImageFile {
                name: name.clone(),
                pages: u32::try_from(digests.len()).unwrap_or(u32::MAX),
                page_bytes: HELD_PART_BYTES,
                digest: PageDigests::of_written(digests).sum(),
            });
        }
        let kept: Vec<String> = held.iter().cloned().chain([FILE_NAME.to_owned()]).collect();
        Ok(write.finish(&fence, &files, &kept).await?)
    }

    fn fence(&self) -> Result<Fence, MirrorError> {
        let fence = self.lease.fence().ok().flatten();
        let own = fence.filter(|fence| fence.epoch == self.epoch);
        own.ok_or(MirrorError::NotLeading)
    }
}

fn to_u32(page: i64) -> u32 {
    u32::try_from(page).unwrap_or(u32::MAX)
}

/// Reads the parts of a held delivery after the first `first`.
async fn read_held(path: PathBuf, first: usize) -> Result<PageBatch, MirrorError> {
    let reading = run_blocking(move || {
        let read = || {
            let file = std::fs::File::open(&path)?;
            let part_bytes = HELD_PART_BYTES as usize;
            let mut batch = PageBatch::default();
            for part in first..first + BATCH_BYTES / part_bytes {
                let mut content = vec![0; part_bytes];
                let length = read_up_to(&file, &mut content, part as u64 * part_bytes as u64)?;
                if length == 0 {
                    break;
                }
                content.truncate(length);
                batch
                    .pages
                    .push(i64::try_from(part + 1).unwrap_or(i64::MAX));
                batch.bodies.push(content);
            }
            Ok(batch)
        };
        read().map_err(|source| MirrorError::File { path, source })
    });
    reading.await
}
