//! Sources of stock other than the partner API: files, the shop's old handler, 1C, MoySklad, SQL.
//!
//! A connector turns its source into [`DeliveryEntry`]s. The [`DeliveryPipeline`] stages them, has
//! the [`delivery_guard`] check them, and applies them completely or not at all: it stores the
//! statements unchanged, evaluates the [`stock_rules`] and passes the result to [`crate::ingest`].

mod aliases;
mod archive;
pub mod delivery_guard;
pub mod files;
pub mod formats;
pub mod http_file;
pub mod inspect;
mod manager;
pub mod moysklad;
pub mod old_handler;
pub mod onec_exchange;
pub mod operator_files;
mod pipeline;
mod private_files;
mod quantity;
mod read_once;
mod row;
mod shape_change;
mod sku_text;
mod source_config;
pub mod sql;
mod statements;
pub mod stock_rules;

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
pub use quantity::{DecimalMark, Quantity, QuantityError};
pub use read_once::read_once;
pub use row::{
    DeliveryCancelled, DeliveryEntry, DeliveryScope, EntrySender, ProductKey, ReadSettings,
    RejectedRow, Row, RowProblem, VariantListing, VariantPolicy,
};
pub use source_config::{Config, ExchangeConfig, SourceKind};
pub use statements::{
    HeldDelivery, PreviewRow, StageCounts, StatementError, StockChange, StockChangeKind,
    StockChangeTotals,
};
