//! Sources of stock other than the partner API: files, the shop's old handler, 1C, MoySklad, SQL.
//!
//! A connector of the crate [`connectors`] turns its source into
//! [`DeliveryEntry`](stock_import::DeliveryEntry)s. The [`DeliveryPipeline`] stages them, has the guard
//! check them, and applies them completely or not at all: it stores the statements unchanged,
//! evaluates the rules of [`stock_import`] and passes the result to [`crate::ingest`].

pub mod inspect;
mod manager;
mod mirror;
pub mod operator_files;
mod pipeline;
mod read_once;
mod source_config;
mod statements;

pub use connectors::onec_exchange;
pub use manager::{
    ImportRequest, KnownSkus, READ_THROUGH_TIMEOUT, ShopSources, SourceLeader, SourceLeases,
    SourceManager, SourceStartError, import_source,
};
pub use mirror::MirrorError;
pub use pipeline::{
    AbsentPolicy, ChangeCounts, Context, DeliveryDate, DeliveryOutcome, DeliveryPipeline,
    DeliveryReport, DuplicatePolicy, HeldPreview, HeldRules, PipelineError, PreviewProgress,
    RULES_NAME, SourcePolicy, SourceState, SourceStatus, SourceWarehouses, StatementStep,
    StockStep,
};
pub use read_once::read_once;
pub use source_config::{Config, SourceKind, SourceKindName};
pub use statements::{
    HeldDelivery, PreviewRow, StageCounts, StatementError, StockChange, StockChangeKind,
    StockChangeTotals, StorageError,
};
