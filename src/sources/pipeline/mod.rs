//! Pipeline from a connector to the book, for all sources of one shop.
//!
//! A delivery is staged, checked by the guard, stored as statements, and applied through
//! [`crate::ingest`]; or it is held for approval. The statements of a delivery are committed
//! completely or not at all. Statements that did not reach the book are applied at the next poll
//! or start.

mod apply;
mod compare;
#[cfg(test)]
mod concurrency_tests;
#[cfg(test)]
mod date_order_tests;
mod decision;
mod delivery;
mod delivery_events;
mod delivery_report;
mod digest;
#[cfg(test)]
mod interruption_tests;
mod large_delivery;
mod locked_statements;
mod outcome;
mod preview;
#[cfg(test)]
mod reference_model_tests;
mod rule_context;
mod source_policy;
mod stock_effect;
mod stock_step;
#[cfg(test)]
pub(super) mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

pub use self::delivery::DeliveryDate;
pub use self::delivery_report::{
    ChangeCounts, DeliveryOutcome, DeliveryReport, SourceState, SourceStatus,
};
use self::large_delivery::ConcernedSkus;
pub(super) use self::locked_statements::LockedStatements;
use self::locked_statements::SharedStatements;
use self::outcome::{raise_absence_alarm, raise_held_alarm};
use self::preview::PreviewCache;
pub use self::preview::{HeldPreview, HeldRules, PreviewProgress};
pub use self::source_policy::{AbsentPolicy, DuplicatePolicy, SourcePolicy, SourceWarehouses};
pub use self::stock_step::{StatementStep, StockStep};
use lifecycle::{Clock, run_blocking};
use stock::{ShopId, StockBook, Timestamp};
use stock_import::RejectedRow;
use stock_import::stock_rules::{Combine, ShopRules};

use super::mirror::{MirrorError, StatementMirror};
use super::statements::{
    SORT_BUFFER, SourceId, SourceRecord, StatementError, StatementStore, StepHook, StorageError,
};
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
    /// A temporary file or the statements cannot be read or written.
    #[error("the delivery cannot be staged")]
    Stage(#[from] StorageError),
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
    /// Another replica reads the sources. Nothing was applied.
    #[error("another replica reads the sources of this shop now")]
    NotLeading,
    /// The statements cannot be stored for the other replicas, so they are not applied yet.
    #[error("the statements are not applied yet")]
    Mirror(#[source] MirrorError),
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
    statements: SharedStatements,
    // Only with other replicas.
    mirror: Option<Arc<StatementMirror>>,
    // Locks are taken in this order: the turn of a source, that of large deliveries, that of
    // settings, the statements.
    source_turns: Vec<tokio::sync::Mutex<()>>,
    large_turn: tokio::sync::Mutex<()>,
    // Held while a large delivery is applied, and while settings are replaced.
    settings_turn: tokio::sync::Mutex<()>,
    // SKUs of small deliveries, while a large one is compared or applied.
    concerned: Mutex<Option<ConcernedSkus>>,
    statuses: Mutex<Vec<SourceStatus>>,
    // The rules differ from those under which all stock was last evaluated.
    has_new_rules: AtomicBool,
    // The new rules, if they would zero too much stock and wait for approval.
    held_rules: Mutex<Option<HeldRules>>,
    previews: PreviewCache,
    context: Context,
    steps: StepHook,
    sort_buffer: AtomicUsize,
}

/// Settings that a reload may replace. What belongs to the reading of a source stays as it was. A
/// delivery is compared, decided and applied with the same settings.
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
        Self::open_mirrored(directory, (shop, name), (policies, rules), context, None).await
    }

    /// Opens them with a mirror, which gets the stored statements of the directory at once.
    pub(super) async fn open_mirrored(
        directory: &Path,
        (shop, name): (ShopId, &str),
        (policies, rules): (Vec<SourcePolicy>, ShopRules),
        context: Context,
        mirror: Option<Arc<StatementMirror>>,
    ) -> Result<Self, PipelineError> {
        let (own_directory, tracks_pages) = (directory.to_owned(), mirror.is_some());
        let opened = run_blocking(move || {
            let (mut statements, opened) = open_statements(&own_directory, policies)?;
            if tracks_pages {
                statements.track_pages()?;
            }
            Ok::<_, StatementError>((statements, opened))
        });
        let (mut statements, opened) = opened.await?;
        let steps = StepHook::default();
        statements.set_steps(steps.clone());
        let mut sources = Vec::new();
        let mut statuses = Vec::new();
        for (id, policy, record) in opened {
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
            source_turns: sources
                .iter()
                .map(|_| tokio::sync::Mutex::default())
                .collect(),
            large_turn: tokio::sync::Mutex::default(),
            settings_turn: tokio::sync::Mutex::default(),
            concerned: Mutex::default(),
            settings: RwLock::new(PipelineSettings::new(sources, rules)),
            statements: Arc::new(tokio::sync::Mutex::new(Some(statements))),
            mirror,
            statuses: Mutex::new(statuses),
            has_new_rules: AtomicBool::new(true),
            held_rules: Mutex::default(),
            previews: PreviewCache::default(),
            context,
            steps,
            sort_buffer: AtomicUsize::new(SORT_BUFFER),
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
        // before. A large delivery that is only read or compared is not waited for: it is compared
        // again.
        let turn = self.0.settings_turn.lock().await;
        let mut statements = self.statements().await?;
        let mut sources = self.settings().sources.clone();
        for (source, policy) in sources.iter_mut().zip(policies) {
            source.policy = source.policy.replaced_by(policy);
        }
        let settings = PipelineSettings::new(sources, rules);
        if settings.digest != self.settings().digest {
            self.0.has_new_rules.store(true, Ordering::Relaxed);
        }
        let old = self.settings();
        let pairs = settings.sources.iter().zip(&old.sources);
        let replaced: Vec<_> = pairs
            .filter(|(source, old)| source.policy.mapping != old.policy.mapping)
            .map(|(source, _)| (source.id, source.policy.mapping.clone()))
            .collect();
        if !replaced.is_empty() {
            // All in one transaction: after an error, the old settings have the old mappings.
            let replace = statements.run(move |it| {
                it.set_mappings(replaced.iter().map(|(id, mapping)| (*id, &**mapping)))
            });
            replace.await?;
        }
        *self.0.settings.write() = settings;
        self.reapply_locked(&mut statements).await?;
        self.mirror_later_change(&mut statements).await;
        drop((statements, turn));
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
        let id = self.source_id(source);
        self.read(move |reader| Ok(reader.source_record(id)?.reader_state))
            .await
    }

    /// Saves the state of a source's connector for its next poll.
    ///
    /// # Errors
    /// The state cannot be stored.
    pub async fn save_reader_state(&self, source: usize, state: &str) -> Result<(), PipelineError> {
        let (id, state) = (self.source_id(source), state.to_owned());
        let mut statements = self.statements().await?;
        let saved = statements.run(move |it| it.save_reader_state(id, &state));
        saved.await?;
        // Without it, the next leader would read the source again.
        self.mirror(&mut statements).await
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
        let id = self.source_id(source);
        self.read(move |reader| Ok(reader.rejected_rows(id, limit)?))
            .await
    }

    /// Returns the bytes of a buffer for sorting.
    fn sort_buffer(&self) -> usize {
        self.0.sort_buffer.load(Ordering::Relaxed)
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

/// A source with its id, its policy and its stored state.
type OpenedSource = (SourceId, SourcePolicy, SourceRecord);

fn open_statements(
    directory: &Path,
    policies: Vec<SourcePolicy>,
) -> Result<(StatementStore, Vec<OpenedSource>), StatementError> {
    let mut statements = StatementStore::open(directory)?;
    let mut opened = Vec::new();
    for policy in policies {
        let id = statements.register_source(&policy.name)?;
        statements.set_mappings([(id, &*policy.mapping)])?;
        let record = statements.source_record(id)?;
        opened.push((id, policy, record));
    }
    Ok((statements, opened))
}
