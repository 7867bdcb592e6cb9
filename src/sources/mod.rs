//! Sources of stock other than the partner API: files, the shop's old handler, 1C, MoySklad, SQL.
//!
//! A connector turns its source into [`DeliveryEntry`](stock_import::DeliveryEntry)s. The
//! [`DeliveryPipeline`] stages them, has the guard check them, and applies them completely or not at
//! all: it stores the statements unchanged, evaluates the rules of [`stock_import`] and passes the
//! result to [`crate::ingest`].

mod entry_sender;
pub mod files;
pub mod http_file;
pub mod inspect;
mod manager;
pub mod moysklad;
pub mod old_handler;
pub mod onec_exchange;
pub mod operator_files;
mod pipeline;
mod private_files;
mod read_once;
pub mod source;
mod source_config;
pub mod sql;
mod statements;

pub use entry_sender::EntrySender;
pub use manager::{
    ImportRequest, KnownSkus, READ_THROUGH_TIMEOUT, ShopSources, SourceManager, SourceStartError,
    import_source,
};
pub use pipeline::{
    AbsentPolicy, ChangeCounts, Completeness, Context, DeliveryOutcome, DeliveryPipeline,
    DeliveryReport, DuplicatePolicy, HeldPreview, HeldRules, PipelineError, PreviewProgress,
    RULES_NAME, ReadReport, SourcePolicy, SourceState, SourceStatus, SourceWarehouses,
    StatementStep, StockStep,
};
pub use read_once::read_once;
pub use source_config::{Config, ExchangeConfig, SourceKind, SourceKindName};
pub use statements::{
    HeldDelivery, PreviewRow, StageCounts, StatementError, StockChange, StockChangeKind,
    StockChangeTotals, StorageError,
};
