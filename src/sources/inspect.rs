//! Preview of a file: how it would be read and staged, without a service and without a store.

use std::fs::File;
use std::path::Path;

use super::files;
use super::formats::Ending;
use super::stated::{PreviewRow, Settling, StatedError, Statements};
use super::{Completeness, Config, Fault, Feed, Rows};
use crate::stock::Instant;

/// Rows that a preview shows of each kind.
pub const SHOWN: u32 = 10;

/// How a file would be read.
#[derive(Clone, Debug)]
pub struct Preview {
    /// How each data file in it is read; one, unless it is an archive.
    pub files: Vec<Ending>,
    /// Rows that would be applied.
    pub rows: u64,
    /// Rows that name a product and state no quantity of it.
    pub without_quantity: u64,
    /// Rows that break a rule.
    pub rejected: u64,
    /// Rows that can be read in two ways.
    pub suspicious: u64,
    /// The first rows that would be applied.
    pub first_rows: Vec<PreviewRow>,
    /// The first rows that would not.
    pub first_rejected: Vec<Fault>,
    /// The warehouses it names.
    pub warehouses: Vec<String>,
}

/// Why a file has no preview.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The file cannot be read to its verified end.
    #[error("{0}")]
    Read(String),
    /// The preview cannot be staged.
    #[error(transparent)]
    Stage(#[from] StatedError),
    /// The preview cannot be staged.
    #[error("the file cannot be staged")]
    Sqlite(#[from] sqlx::Error),
}

/// Reads a file as the source would that is configured so. `spool` is an empty directory for
/// temporary files; `now` bounds the dates of rows.
///
/// # Errors
/// The file cannot be read, or temporary files cannot be written.
pub async fn inspect(
    name: String,
    file: File,
    config: &Config,
    spool: &Path,
    now: Instant,
) -> Result<Preview, InspectError> {
    let format = match &config.feed {
        Feed::Files(files) => files.format,
        Feed::Remote(remote) => remote.format,
        Feed::OldHandler { .. }
        | Feed::Exchange(_)
        | Feed::MoySklad(_)
        | Feed::Sql(_)
        | Feed::Import => None,
    };
    let duplicates = config.taking.duplicates;
    let mut statements = Statements::open(spool).await?;
    let source = statements.source(&config.taking.name).await?;
    let mut stage = statements.stage(source, duplicates).await?;
    let (rows, entries) = Rows::channel();
    let reading = async {
        let from = (&config.reading, spool);
        let read = files::read_apart(name, file, format, from, &rows).await;
        drop(rows);
        read
    };
    let staged_rows = &mut stage;
    let staging = async move {
        // Dropped on an error, so that the reader stops too.
        let mut entries = entries;
        while let Some(entries) = entries.recv().await {
            staged_rows.put(entries, now).await?;
        }
        Ok::<_, sqlx::Error>(())
    };
    let (read, staged) = tokio::join!(reading, staging);
    staged?;
    let files = read.map_err(InspectError::Read)?;
    let staged = stage.end().await?;
    let says = files::together(&files);
    let settling = Settling {
        duplicates,
        variants: config.reading.variants,
        listing: Completeness::from(says).listing(config.taking.scope),
    };
    let contents = statements.settle(source, &staged, settling).await?;
    let first_rows = statements.first_rows(SHOWN).await?;
    let without_quantity = statements.rows_without_quantity().await?;
    statements.abandon().await?;
    let warehouses = staged
        .places
        .iter()
        .filter(|place| !place.is_empty())
        .cloned()
        .collect();
    Ok(Preview {
        files,
        rows: contents.rows.saturating_sub(without_quantity),
        without_quantity,
        rejected: contents.rejected - contents.suspicious,
        suspicious: contents.suspicious,
        first_rows,
        first_rejected: contents.first_rejected,
        warehouses,
    })
}
