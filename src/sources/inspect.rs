//! Preview of a file: the rows that would be applied or rejected. It needs no running service and
//! no store.

use std::fs::File;
use std::path::Path;

use connectors::{Completeness, EntrySender, files};
use lifecycle::run_blocking;
use stock::Timestamp;
use stock_import::RejectedRow;
use stock_import::formats::FileSummary;

use super::statements::{
    DeliveryPreview, PreviewRow, ResolveOptions, SORT_BUFFER, StatementError, StatementReader,
    StatementStore, StorageError,
};
use super::{Config, SourceKind};

/// Limit for the rows that a preview shows of each kind.
pub const MAX_SHOWN_ROWS: usize = 10;

/// Result of reading and staging a file without applying it.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Summary of each data file; several only for an archive.
    pub files: Vec<FileSummary>,
    /// Rows that would be applied.
    pub rows: u64,
    /// Rows that name a product without a quantity.
    pub without_quantity: u64,
    /// Rows that break a rule, and are not applied.
    pub rejected: u64,
    /// Rows that can be read in two ways, and are not applied.
    pub suspicious: u64,
    /// The first rows that would be applied.
    pub first_rows: Vec<PreviewRow>,
    /// The first rows that would not be applied, of both kinds.
    pub first_rejected: Vec<RejectedRow>,
    /// Warehouses that the file names.
    pub warehouses: Vec<String>,
}

/// Reason why a file has no preview.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The file cannot be read to its verified end.
    #[error("{0}")]
    Read(String),
    /// The statements cannot be stored in the temporary directory.
    #[error(transparent)]
    Stage(#[from] StatementError),
    /// A temporary file cannot be read or written.
    #[error("the file cannot be staged")]
    Storage(#[from] StorageError),
}

/// Reads a file with the settings of a source. `spool` is an empty directory for temporary files;
/// `now` is the upper bound for the dates of rows.
///
/// # Errors
/// The file cannot be read, or temporary files cannot be written.
pub async fn inspect(
    name: String,
    file: File,
    config: &Config,
    spool: &Path,
    now: Timestamp,
) -> Result<Preview, InspectError> {
    let format = match &config.kind {
        SourceKind::Files(files) => files.format,
        SourceKind::RemoteFile(remote) => remote.format,
        SourceKind::OldHandler { .. }
        | SourceKind::Exchange(_)
        | SourceKind::MoySklad(_)
        | SourceKind::Sql(_)
        | SourceKind::Import => None,
    };
    let duplicates = config.policy.duplicates;
    let (directory, source_name) = (spool.to_owned(), config.policy.name.clone());
    let (source, mut stage) = run_blocking(move || {
        let mut statements = StatementStore::open(&directory)?;
        let source = statements.register_source(&source_name)?;
        Ok::<_, StatementError>((source, statements.begin_staging(SORT_BUFFER)?))
    })
    .await?;
    let (rows, entries) = EntrySender::channel();
    let reading_file = async {
        let from = (&config.read_settings, spool);
        let read = files::read_on_blocking_thread(name, file, format, from, &rows).await;
        drop(rows);
        read
    };
    let staging = run_blocking(move || {
        // Dropped here on an error, so that the reader stops too.
        let mut entries = entries;
        while let Some(entries) = entries.blocking_recv() {
            stage.add_entries(entries, now)?;
        }
        stage.finish()
    });
    let (read, staged) = tokio::join!(reading_file, staging);
    let staged = staged?;
    let files = read.map_err(InspectError::Read)?;
    let declared = files::combined_scope(&files);
    let options = ResolveOptions {
        duplicates,
        variants: config.read_settings.variants,
        listing: Completeness::from(declared).listing(config.policy.scope),
    };
    let directory = spool.to_owned();
    let (staged, preview) = run_blocking(move || {
        let mut staged = staged;
        let reader = StatementReader::open(&directory)?;
        let preview = staged.preview(&reader, source, options, MAX_SHOWN_ROWS)?;
        Ok::<_, InspectError>((staged, preview))
    })
    .await?;
    let DeliveryPreview {
        contents,
        without_quantity,
        first_rows,
    } = preview;
    let warehouses = staged
        .warehouses
        .iter()
        .filter(|warehouse| !warehouse.is_empty())
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
