//! Pipeline from a connector to the book, for all sources of one shop.
//!
//! A delivery is staged, checked by the guard, stored as statements, and applied through
//! [`crate::ingest`]; or it is held for approval. The statements of a delivery are committed
//! completely or not at all. Statements that did not reach the book are applied at the next poll
//! or start.

mod apply;
mod decision;
mod delivery;
mod delivery_events;
mod delivery_report;
mod digest;
#[cfg(test)]
mod interruption_tests;
mod outcome;
mod preview;
#[cfg(test)]
mod reference_model_tests;
mod rule_context;
mod source_policy;
mod stock_step;
#[cfg(test)]
pub(super) mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

pub use self::delivery_report::{
    ChangeCounts, DeliveryOutcome, DeliveryReport, SourceState, SourceStatus,
};
use self::outcome::{raise_absence_alarm, raise_held_alarm};
use self::preview::PreviewCache;
pub use self::preview::{HeldPreview, HeldRules, PreviewProgress};
pub use self::source_policy::{AbsentPolicy, DuplicatePolicy, SourcePolicy, SourceWarehouses};
pub use self::stock_step::{StatementStep, StockStep};
use lifecycle::Clock;
use stock::{ShopId, StockBook, Timestamp};
use stock_import::RejectedRow;
use stock_import::stock_rules::{Combine, ShopRules};

use super::statements::{SourceId, StatementError, StatementStore};
use crate::event_log::EventLog;
use crate::ingest::{Ingest, IngestError};
use crate::telemetry::Alarms;

/// Name under which a change of the rules is held and accepted, in place of a source.
pub const RULES_NAME: &str = "rules";

/// Reason why a delivery was neither applied nor held.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The source could not be read to its end.
    #[error("{0}")]
    Read(String),
    /// The delivery does not fit the settings.
    #[error("{0}")]
    Settings(String),
    /// The statements cannot be stored.
    #[error(transparent)]
    Persist(#[from] StatementError),
    /// SQLite fails on the staging file or on the statements.
    #[error("the delivery cannot be staged")]
    Stage(#[from] sqlx::Error),
    /// Ingest does not accept updates now. The statements are stored and will be applied later.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The source is unknown, or no delivery of it is held.
    #[error("no delivery of {0} is held for approval")]
    NothingToAccept(String),
    /// The delivery that is held is not the one that was looked at.
    #[error(
        "the delivery of {0} that is held for approval has changed since it was looked at: look at \
         the new one, and approve that"
    )]
    DeliveryChanged(String),
    /// The comparison of a held delivery with the stock has ended without a result.
    #[error("the comparison with the stock was interrupted: request it again")]
    ComparisonInterrupted,
}

/// Dependencies of a pipeline.
#[derive(Clone, Debug)]
pub struct Context {
    /// Current stock.
    pub book: Arc<StockBook>,
    /// The only writer of stock.
    pub ingest: Ingest,
    /// Wall clock.
    pub clock: Clock,
    /// Alarms for the operator.
    pub alarms: Alarms,
    /// Log of deliveries and approvals.
    pub events: EventLog,
}

/// Delivery pipeline for all sources of one shop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DeliveryPipeline(Arc<PipelineState>);

#[derive(Debug)]
struct PipelineState {
    shop: ShopId,
    name: String,
    directory: PathBuf,
    // Names of the sources, in configuration order.
    source_names: Vec<String>,
    settings: RwLock<Arc<PipelineSettings>>,
    statements: tokio::sync::Mutex<StatementStore>,
    statuses: Mutex<Vec<SourceStatus>>,
    // The rules differ from those under which all stock was last evaluated.
    has_new_rules: AtomicBool,
    // The new rules, if they would zero too much stock and wait for approval.
    held_rules: Mutex<Option<HeldRules>>,
    previews: PreviewCache,
    context: Context,
}

/// Settings that a reload may replace. A delivery is staged with the settings of its beginning, and
/// decided with those of its end.
#[derive(Debug)]
struct PipelineSettings {
    sources: Vec<PipelineSource>,
    rules: ShopRules,
    // Digest of all rules that turn statements into stock.
    digest: String,
}

impl PipelineSettings {
    fn new(sources: Vec<PipelineSource>, rules: ShopRules) -> Arc<Self> {
        let policies = sources.iter().map(|source| &source.policy);
        Arc::new(Self {
            digest: digest::rules_digest(&rules, policies),
            sources,
            rules,
        })
    }
}

#[derive(Clone, Debug)]
struct PipelineSource {
    id: SourceId,
    policy: SourcePolicy,
}

impl DeliveryPipeline {
    /// Opens the stored statements of a shop. Nothing is applied yet.
    ///
    /// # Errors
    /// The directory cannot be used, or the statements in it cannot be read.
    pub async fn open(
        directory: &Path,
        (shop, name): (ShopId, &str),
        policies: Vec<SourcePolicy>,
        rules: ShopRules,
        context: Context,
    ) -> Result<Self, PipelineError> {
        let mut statements = StatementStore::open(directory).await?;
        let mut sources = Vec::new();
        let mut statuses = Vec::new();
        for policy in policies {
            let id = statements.register_source(&policy.name).await?;
            statements.set_mapping(id, &policy.mapping).await?;
            let record = statements.source_record(id).await?;
            let (held, had_snapshot) = (record.held, record.snapshot_rows > 0);
            if let Some(held) = held.last() {
                raise_held_alarm(&context.alarms, name, &policy.name, &held.reason);
            }
            if policy.absent == AbsentPolicy::Zero && !record.absence_not_applied.is_empty() {
                raise_absence_alarm(
                    &context.alarms,
                    &format!("{name}/{}", policy.name),
                    &record.absence_not_applied,
                );
            }
            let has_unapplied = record.has_unapplied;
            statuses.push(SourceStatus {
                held,
                had_snapshot,
                has_unapplied,
                ..SourceStatus::default()
            });
            sources.push(PipelineSource { id, policy });
        }
        Ok(Self(Arc::new(PipelineState {
            shop,
            name: name.to_owned(),
            directory: directory.to_owned(),
            source_names: sources.iter().map(|it| it.policy.name.clone()).collect(),
            settings: RwLock::new(PipelineSettings::new(sources, rules)),
            statements: tokio::sync::Mutex::new(statements),
            statuses: Mutex::new(statuses),
            has_new_rules: AtomicBool::new(true),
            held_rules: Mutex::default(),
            previews: PreviewCache::default(),
            context,
        })))
    }

    /// Returns the name of the shop.
    #[must_use]
    pub fn shop_name(&self) -> &str {
        &self.0.name
    }

    /// Returns the names of the sources, in configuration order.
    pub fn source_names(&self) -> impl Iterator<Item = &str> {
        self.0.source_names.iter().map(String::as_str)
    }

    /// Returns the name of a source.
    #[must_use]
    pub fn source_name(&self, source: usize) -> &str {
        &self.0.source_names[source]
    }

    /// Returns the index of a source in configuration order.
    #[must_use]
    pub fn source_index(&self, name: &str) -> Option<usize> {
        self.source_names().position(|known| known == name)
    }

    /// Returns the policy of a source.
    #[must_use]
    pub fn policy(&self, source: usize) -> SourcePolicy {
        self.settings().sources[source].policy.clone()
    }

    /// Replaces the rules of the shop and the policies of its sources, which must be the same ones
    /// in the same order. What belongs to the reading of a source keeps its old value. All stock is
    /// evaluated again, and held if the new rules would zero too much. Held deliveries that the guard
    /// would not hold now are applied.
    ///
    /// # Errors
    /// The statements cannot be read or applied.
    pub async fn replace_settings(
        &self,
        policies: Vec<SourcePolicy>,
        rules: ShopRules,
    ) -> Result<(), PipelineError> {
        // Held until the guard has decided, so that no delivery is applied under the new rules
        // before.
        let mut statements = self.statements().await;
        let mut sources = self.settings().sources.clone();
        for (source, policy) in sources.iter_mut().zip(policies) {
            let old = std::mem::replace(&mut source.policy, policy);
            source.policy.origin = old.origin;
            source.policy.scope = old.scope;
            source.policy.warehouses = old.warehouses;
            source.policy.variants = old.variants;
            source.policy.duplicates = old.duplicates;
            source.policy.read_settings_text = old.read_settings_text;
        }
        let settings = PipelineSettings::new(sources, rules);
        if settings.digest != self.settings().digest {
            self.0.has_new_rules.store(true, Ordering::Relaxed);
        }
        for (source, old) in settings.sources.iter().zip(&self.settings().sources) {
            if source.policy.mapping != old.policy.mapping {
                let mapping = &source.policy.mapping;
                statements.set_mapping(source.id, mapping).await?;
            }
        }
        *self.0.settings.write() = settings;
        self.reapply_locked(&mut statements).await?;
        drop(statements);
        self.reconsider_held().await;
        Ok(())
    }

    /// Returns the directory for temporary files of connectors.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Returns the status of a source.
    #[must_use]
    pub fn status(&self, source: usize) -> SourceStatus {
        self.0.statuses.lock()[source].clone()
    }

    /// Returns true if the latest statement of all sources decides.
    #[must_use]
    pub fn combines_by_latest(&self) -> bool {
        self.settings().rules.combine == Combine::Latest
    }

    /// Returns true if a snapshot of the source was ever applied.
    #[must_use]
    pub fn had_snapshot(&self, source: usize) -> bool {
        self.0.statuses.lock()[source].had_snapshot
    }

    /// Returns true if the book lacks some statements, and applying them needs no approval.
    #[must_use]
    pub fn needs_reapply(&self, source: usize) -> bool {
        let is_pending = self.0.has_new_rules.load(Ordering::Relaxed);
        (is_pending || self.0.statuses.lock()[source].has_unapplied)
            && self.0.held_rules.lock().is_none()
    }

    /// Returns the saved state of a source's connector; empty if there is none.
    ///
    /// # Errors
    /// The state cannot be read.
    pub async fn reader_state(&self, source: usize) -> Result<String, PipelineError> {
        let mut statements = self.statements().await;
        Ok(statements
            .source_record(self.source_id(source))
            .await?
            .reader_state)
    }

    /// Saves the state of a source's connector for its next poll.
    ///
    /// # Errors
    /// The state cannot be stored.
    pub async fn save_reader_state(&self, source: usize, state: &str) -> Result<(), PipelineError> {
        let mut statements = self.statements().await;
        Ok(statements
            .save_reader_state(self.source_id(source), state)
            .await?)
    }

    /// Returns the first `limit` rejected and suspicious rows of a source's last delivery.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub async fn rejected_rows(
        &self,
        source: usize,
        limit: u32,
    ) -> Result<Vec<RejectedRow>, PipelineError> {
        let mut statements = self.statements().await;
        Ok(statements
            .rejected_rows(self.source_id(source), limit)
            .await?)
    }

    // A caller may have been cancelled in the middle of a delivery, so each user of the statements
    // first cleans up.
    async fn statements(&self) -> tokio::sync::MutexGuard<'_, StatementStore> {
        let mut statements = self.0.statements.lock().await;
        statements.clean_up().await;
        statements
    }

    fn settings(&self) -> Arc<PipelineSettings> {
        Arc::clone(&self.0.settings.read())
    }

    fn source_id(&self, source: usize) -> SourceId {
        self.settings().sources[source].id
    }

    fn now(&self) -> Timestamp {
        self.0.context.clock.now().into()
    }
}
