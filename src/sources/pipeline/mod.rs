mod delivery_report;
mod digest;
mod rule_context;
mod source_policy;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::{Mutex, MutexGuard, mpsc};
use tracing::{info, warn};

pub use self::delivery_report::{
    ChangeCounts, Completeness, DeliveryOutcome, DeliveryReport, ReadReport, SourceStatus,
};
use self::rule_context::{RuleContext, next_evaluated};
pub use self::source_policy::{AbsentPolicy, DuplicatePolicy, SourcePolicy, SourceWarehouses};
use super::delivery_guard::{DeliveryImpact, HoldReason, check_delivery};
use super::shape_change::RecordedShape;
use super::statements::{
    DeliveryContents, GroupFilter, HeldDelivery, ResolveOptions, SourceId, SourceRecord,
    StagedDelivery, StagingFile, StatementError, StatementStore,
};
use super::stock_rules::{self, Combine, RuleTrace, ShopRules};
use super::{DeliveryEntry, DeliveryScope, EntrySender, RejectedRow, VariantListing};
use crate::clock::Clock;
use crate::http::causes;
use crate::ingest::{Ingest, IngestError, Origin};
use crate::stock::{ShopId, Sku, StockBook, Timestamp, Update};
use crate::telemetry::{AlarmKind, Alarms};

/// Updates that pass the front door together.
const INGEST_BATCH: usize = 2_000;

/// Rows that are not applied of which the log shows so many for each delivery.
const MAX_LOGGED_ROWS: usize = 5;

/// The name under which a change of the rules is held, and accepted.
pub const RULES_NAME: &str = "rules";

/// Why a delivery was not taken, nor held.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Its source could not be read to its end.
    #[error("{0}")]
    Read(String),
    /// What it says does not fit the settings.
    #[error("{0}")]
    Settings(String),
    /// It cannot be kept.
    #[error(transparent)]
    Persist(#[from] StatementError),
    /// It cannot be staged or looked at.
    #[error("the delivery cannot be staged")]
    Stage(#[from] sqlx::Error),
    /// The front door is shut. What was stated is kept, and will be taken later.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// There is no such source, or nothing of it is held.
    #[error("nothing of {0} is held")]
    NothingToAccept(String),
}

/// Whether a doubtful delivery is taken all the same.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Approval {
    /// Nobody has said so.
    NotGiven,
    /// Somebody has, of this one.
    Approved(HeldDelivery),
    /// It is only looked at.
    DryRun,
}

/// What several rooms give an intake.
#[derive(Clone, Debug)]
pub struct Context {
    /// What is known.
    pub book: Arc<StockBook>,
    /// The front door.
    pub ingest: Ingest,
    /// What time it is.
    pub clock: Clock,
    /// Where trouble is told.
    pub alarms: Alarms,
}

/// All sources of one shop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DeliveryPipeline(Arc<PipelineState>);

#[derive(Debug)]
struct PipelineState {
    shop: ShopId,
    name: String,
    directory: PathBuf,
    sources: Vec<PipelineSource>,
    rules: ShopRules,
    statements: Mutex<StatementStore>,
    statuses: StdMutex<Vec<SourceStatus>>,
    // The rules are other ones than those under which the book was reckoned last.
    has_new_rules: AtomicBool,
    // And would empty the shop.
    are_new_rules_held: AtomicBool,
    context: Context,
}

#[derive(Debug)]
struct PipelineSource {
    id: SourceId,
    policy: SourcePolicy,
}

impl DeliveryPipeline {
    /// Opens what the sources of a shop have stated; nothing is taken yet.
    ///
    /// # Errors
    /// The directory cannot be used, or what is in it cannot be read.
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
                raise_held_alarm(&context.alarms, name, &policy.name, &held.doubt);
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
            sources,
            rules,
            statements: Mutex::new(statements),
            statuses: StdMutex::new(statuses),
            has_new_rules: AtomicBool::new(true),
            are_new_rules_held: AtomicBool::new(false),
            context,
        })))
    }

    /// The shop's name.
    #[must_use]
    pub fn shop_name(&self) -> &str {
        &self.0.name
    }

    /// The names of its sources, in the configuration's order.
    pub fn source_names(&self) -> impl Iterator<Item = &str> {
        self.0
            .sources
            .iter()
            .map(|source| source.policy.name.as_str())
    }

    /// The place of the source of that name.
    #[must_use]
    pub fn source_index(&self, name: &str) -> Option<usize> {
        self.0
            .sources
            .iter()
            .position(|source| source.policy.name == name)
    }

    /// How the source is taken.
    #[must_use]
    pub fn policy(&self, source: usize) -> &SourcePolicy {
        &self.0.sources[source].policy
    }

    /// A directory for files on their way in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// How a source is doing.
    #[must_use]
    pub fn status(&self, source: usize) -> SourceStatus {
        self.statuses()[source].clone()
    }

    /// Whether of several sources simply the latest is right.
    #[must_use]
    pub fn combines_by_latest(&self) -> bool {
        self.0.rules.combine == Combine::Latest
    }

    /// Whether a snapshot of a source was taken once.
    #[must_use]
    pub fn had_snapshot(&self, source: usize) -> bool {
        self.statuses()[source].had_snapshot
    }

    /// Whether the book is behind what is stated, and nobody's word is needed to mend that.
    #[must_use]
    pub fn needs_reapply(&self, source: usize) -> bool {
        let is_pending = self.0.has_new_rules.load(Ordering::Relaxed);
        (is_pending || self.statuses()[source].has_unapplied)
            && !self.0.are_new_rules_held.load(Ordering::Relaxed)
    }

    /// What a source's reader wanted to remember.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn reader_state(&self, source: usize) -> Result<String, PipelineError> {
        let mut statements = self.statements().await;
        Ok(statements
            .source_record(self.0.sources[source].id)
            .await?
            .reader_state)
    }

    /// Remembers what a source's reader wants to know next time.
    ///
    /// # Errors
    /// It cannot be kept.
    pub async fn save_reader_state(&self, source: usize, state: &str) -> Result<(), PipelineError> {
        let mut statements = self.statements().await;
        Ok(statements
            .save_reader_state(self.0.sources[source].id, state)
            .await?)
    }

    /// The rows that were set aside in a source's last delivery, at most so many.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn rejected_rows(
        &self,
        source: usize,
        limit: u32,
    ) -> Result<Vec<RejectedRow>, PipelineError> {
        let mut statements = self.statements().await;
        Ok(statements
            .rejected_rows(self.0.sources[source].id, limit)
            .await?)
    }

    async fn statements(&self) -> MutexGuard<'_, StatementStore> {
        let mut statements = self.0.statements.lock().await;
        statements.clean_up().await;
        statements
    }

    fn statuses(&self) -> std::sync::MutexGuard<'_, Vec<SourceStatus>> {
        self.0
            .statuses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.0.context.clock.now().into()
    }

    // === Deliveries ===

    /// Takes one delivery: has it read, stages it, judges it, and takes it whole.
    ///
    /// `at` is when the source says it was stated; now, if it does not say, or if that is not
    /// after its last delivery. `read` answers whether what it read is complete, if that can be
    /// told.
    ///
    /// # Errors
    /// It could not be read, kept or taken; the stock is as it was, but for a front door that
    /// was shut in the middle.
    pub async fn ingest_delivery<R: Into<ReadReport>>(
        &self,
        source: usize,
        at: impl Into<Option<Timestamp>>,
        should_apply: bool,
        read: impl AsyncFnOnce(&mut EntrySender) -> Result<R, String>,
    ) -> Result<DeliveryReport, PipelineError> {
        let started_at = self.0.context.clock.now();
        let delivered = self
            .run_delivery(source, at.into(), should_apply, read)
            .await;
        self.record_outcome(source, started_at, should_apply, delivered)
    }

    async fn run_delivery<R: Into<ReadReport>>(
        &self,
        source: usize,
        at: Option<Timestamp>,
        should_apply: bool,
        read: impl AsyncFnOnce(&mut EntrySender) -> Result<R, String>,
    ) -> Result<DeliveryReport, PipelineError> {
        let target = &self.0.sources[source];
        let _reading = ReadingGuard::start(self, source);
        let stage = self
            .statements()
            .await
            .begin_staging(target.id, target.policy.duplicates)
            .await?;
        let (mut rows, entries) = EntrySender::channel();
        let reading = async {
            let read = read(&mut rows).await;
            // Nobody listens only if staging has failed, which says more.
            let _cancelled = rows.flush().await;
            drop(rows);
            read
        };
        let (read, staged) = tokio::join!(reading, self.stage_entries(source, stage, entries));
        // A stage that broke is the cause of a reader that gave up, not the other way round.
        let stage = staged?;
        let ReadReport {
            completeness,
            shapes,
            notices,
        } = read.map_err(PipelineError::Read)?.into();
        let staged = stage.finish().await?;
        let approval = if should_apply {
            Approval::NotGiven
        } else {
            Approval::DryRun
        };
        let delivery = Delivery {
            scope: completeness.scope(target.policy.scope),
            listing: completeness.listing(target.policy.scope),
            stated_at: at,
            implies_absence: staged.counts.without_sku == 0,
            staged,
            shapes,
            notices,
        };
        self.decide(source, delivery, approval).await
    }

    async fn stage_entries(
        &self,
        source: usize,
        mut stage: StagingFile,
        mut entries: mpsc::Receiver<Vec<DeliveryEntry>>,
    ) -> Result<StagingFile, PipelineError> {
        while let Some(entries) = entries.recv().await {
            stage.add_entries(entries, self.now()).await?;
            self.statuses()[source].rows_read = stage.counts().rows;
        }
        Ok(stage)
    }

    /// Takes what is held of a source, the oldest first. What was stated since is newer, and
    /// stays.
    ///
    /// # Errors
    /// Nothing is held, or it cannot be taken now.
    pub async fn accept(&self, name: &str) -> Result<DeliveryReport, PipelineError> {
        let nothing_held = || PipelineError::NothingToAccept(name.to_owned());
        let source = self.source_index(name).ok_or_else(nothing_held)?;
        let id = self.0.sources[source].id;
        let held = self.statements().await.source_record(id).await?.held;
        let mut report = Err(nothing_held());
        for held in held {
            let started_at = self.0.context.clock.now();
            let accepted = self.accept_held(source, &held).await;
            report = Ok(self.record_outcome(source, started_at, true, accepted)?);
        }
        report
    }

    async fn accept_held(
        &self,
        source: usize,
        held: &HeldDelivery,
    ) -> Result<DeliveryReport, PipelineError> {
        let staged = self.statements().await.open_held(held).await?;
        let delivery = Delivery {
            scope: if held.is_snapshot {
                DeliveryScope::Snapshot
            } else {
                DeliveryScope::Delta
            },
            // What it lists was settled before it was held.
            listing: VariantListing::Changes,
            stated_at: Timestamp::from_micros(held.at),
            implies_absence: held.tells_absence,
            staged,
            shapes: held.shapes.clone(),
            notices: Vec::new(),
        };
        self.decide(source, delivery, Approval::Approved(held.clone()))
            .await
    }

    async fn decide(
        &self,
        source: usize,
        delivery: Delivery,
        approval: Approval,
    ) -> Result<DeliveryReport, PipelineError> {
        let target = &self.0.sources[source];
        let Delivery { scope, staged, .. } = &delivery;
        if let Some(reason) = target
            .policy
            .warehouses
            .refusal_reason(&staged.warehouses, *scope)
        {
            return Err(PipelineError::Settings(reason));
        }
        let mut statements = self.statements().await;
        let record = statements.source_record(target.id).await?;
        let options = self.commit_options(&delivery, &record, &approval);
        let SourcePolicy {
            duplicates,
            variants,
            ..
        } = target.policy;
        let resolve_options = ResolveOptions {
            duplicates,
            variants,
            listing: delivery.listing,
        };
        let contents = statements
            .resolve_delivery(target.id, staged, resolve_options)
            .await?;
        if approval != Approval::DryRun {
            statements.save_rejected(target.id).await?;
        }
        statements.write_delivery(target.id, options).await?;
        // What an earlier delivery owes is paid along with this one.
        let filter = if record.has_unapplied {
            GroupFilter::Source(target.id)
        } else {
            GroupFilter::Delivery(target.id, *scope)
        };
        let changes = match self
            .count_changes(&mut statements, filter.clone(), *scope)
            .await
        {
            Ok(changes) => changes,
            Err(error) => {
                statements.roll_back().await?;
                return Err(error);
            }
        };
        let mut report = build_report(&delivery, options, &contents, changes, target.policy.absent);
        let reasons = self.hold_reasons(
            target,
            &record,
            &delivery,
            delivery_impact(&record, &contents, changes),
        );
        let held = (!reasons.is_empty())
            .then(|| self.held_delivery(&record.held, (&delivery, options), reasons.join("; ")));
        if approval == Approval::DryRun {
            statements.roll_back().await?;
            report.outcome = held.map_or(DeliveryOutcome::Previewed, |held| {
                DeliveryOutcome::Held(held.doubt)
            });
            return Ok(report);
        }
        let is_repeated = |held: &HeldDelivery| {
            target
                .policy
                .limits
                .accept_after_repeats
                .is_some_and(|repeats| held.times > repeats)
        };
        if let Some(held) = held.filter(|held| approval == Approval::NotGiven && !is_repeated(held))
        {
            statements.roll_back().await?;
            report.outcome = DeliveryOutcome::Held(held.doubt.clone());
            let all_held = statements
                .hold_delivery(target.id, delivery.staged, held)
                .await?;
            self.statuses()[source].held = all_held;
            return Ok(report);
        }
        if !delivery.shapes.is_empty() {
            let accepted = record
                .accepted_shapes
                .accept(&delivery.shapes, &target.policy.read_settings_text);
            statements.save_shapes(target.id, &accepted).await?;
        }
        if report.absence_not_applied.is_some() || *scope == DeliveryScope::Snapshot {
            let absence_reason = report.absence_not_applied.as_deref().unwrap_or_default();
            statements
                .save_absence_not_applied(target.id, absence_reason)
                .await?;
        }
        self.commit_and_apply(&mut statements, source, filter)
            .await?;
        // A whole that is meant replaces all that waits; changes only what they are.
        let released = match approval {
            Approval::Approved(held) => vec![held],
            Approval::NotGiven | Approval::DryRun if *scope == DeliveryScope::Snapshot => {
                record.held
            }
            Approval::NotGiven | Approval::DryRun => Vec::new(),
        };
        let all_held = statements.release_held(target.id, &released).await?;
        let status = &mut self.statuses()[source];
        status.had_snapshot |= *scope == DeliveryScope::Snapshot;
        status.held = all_held;
        Ok(report)
    }

    /// What speaks against taking a delivery.
    fn hold_reasons(
        &self,
        source: &PipelineSource,
        record: &SourceRecord,
        delivery: &Delivery,
        impact: DeliveryImpact,
    ) -> Vec<String> {
        // A file that is handed over by hand may be any file.
        let is_import = source.policy.origin == Origin::Import;
        let difference = record
            .accepted_shapes
            .difference(&delivery.shapes, &source.policy.read_settings_text);
        let shape_change = difference
            .filter(|_| !is_import)
            .map(HoldReason::ShapeChanged);
        let impact_reason = check_delivery(delivery.scope, impact, &source.policy.limits);
        shape_change
            .into_iter()
            .chain(impact_reason)
            .map(|reason| reason.to_string())
            .collect()
    }

    /// As of when a delivery is taken.
    fn commit_options(
        &self,
        delivery: &Delivery,
        record: &SourceRecord,
        approval: &Approval,
    ) -> super::statements::CommitOptions {
        let now = self.now();
        let at = delivery.stated_at.unwrap_or(now).min(now);
        let is_later = record.stated_at.is_none_or(|stated| at > stated);
        let was_held = matches!(approval, Approval::Approved(_));
        super::statements::CommitOptions {
            scope: delivery.scope,
            // What comes later from the same source is never older, unless it has waited here.
            stated_at: if is_later || was_held { at } else { now },
            implies_absence: delivery.implies_absence,
            is_out_of_order: was_held && !is_later,
        }
    }

    /// Makes what was taken durable, and brings it into the book.
    async fn commit_and_apply(
        &self,
        statements: &mut StatementStore,
        source: usize,
        filter: GroupFilter,
    ) -> Result<(), PipelineError> {
        let id = self.0.sources[source].id;
        // From here on it is stated; the book follows, later if need be.
        self.statuses()[source].has_unapplied = true;
        statements.commit().await?;
        if self.0.has_new_rules.load(Ordering::Relaxed) {
            // Under which rules is for somebody to say.
            return Ok(statements.close_delivery().await?);
        }
        let applied = self.apply(statements, filter).await;
        statements.close_delivery().await?;
        applied?;
        statements.mark_applied(id).await?;
        self.statuses()[source].has_unapplied = false;
        Ok(())
    }

    fn held_delivery(
        &self,
        previous: &[HeldDelivery],
        (delivery, options): (&Delivery, super::statements::CommitOptions),
        reason: String,
    ) -> HeldDelivery {
        let digest = delivery.staged.digest;
        let repeated = previous.last().filter(|held| held.digest == digest);
        let now = self.now().as_micros();
        HeldDelivery {
            file: format!("held-{now}-{digest:016x}.db"),
            since: previous.first().map_or(now, |held| held.since),
            at: options.stated_at.as_micros(),
            is_snapshot: delivery.scope == DeliveryScope::Snapshot,
            tells_absence: delivery.implies_absence,
            doubt: reason,
            digest,
            shapes: delivery.shapes.clone(),
            times: repeated.map_or(1, |held| held.times.saturating_add(1)),
        }
    }

    /// Notes what became of a delivery, where people look.
    fn record_outcome(
        &self,
        source: usize,
        started_at: DateTime<Utc>,
        should_apply: bool,
        delivered: Result<DeliveryReport, PipelineError>,
    ) -> Result<DeliveryReport, PipelineError> {
        let now = self.0.context.clock.now();
        let (shop, name) = (&self.0.name, &self.0.sources[source].policy.name);
        let about = format!("{shop}/{name}");
        let alarms = &self.0.context.alarms;
        let mut statuses = self.statuses();
        let status = &mut statuses[source];
        let mut report = match delivered {
            Ok(report) => report,
            Err(error) => {
                if should_apply {
                    status.is_unreachable = false;
                    status.failed_total += 1;
                    let text = causes(&error);
                    status.last_failure = Some((now, text.clone()));
                    drop(statuses);
                    let text =
                        format!("{about} could not be taken, the stock is as it was: {text}");
                    alarms.raise(AlarmKind::SourceFailed, &about, text);
                }
                return Err(error);
            }
        };
        report.duration_ms = (now - started_at).num_milliseconds();
        if !should_apply {
            return Ok(report);
        }
        status.last_failure = None;
        status.last_report_at = Some(now);
        status.rejected_total += report.rejected;
        status.suspicious_total += report.suspicious;
        let DeliveryReport {
            rows,
            rejected,
            suspicious,
            changes: tally,
            duration_ms: took_ms,
            ..
        } = &report;
        log_notices(&about, &report);
        match &report.outcome {
            DeliveryOutcome::Held(reason) => {
                status.held_total += 1;
                raise_held_alarm(alarms, shop, name, reason);
            }
            DeliveryOutcome::Applied | DeliveryOutcome::Previewed => {
                status.applied_total += 1;
                status.rows_total += rows;
                if status.held.is_empty() {
                    alarms.clear(AlarmKind::SourceHeld, &about);
                }
                match &report.absence_not_applied {
                    Some(reason) => raise_absence_alarm(alarms, &about, reason),
                    // Only the next snapshot tells whether it is over.
                    None if report.scope == DeliveryScope::Snapshot => {
                        alarms.clear(AlarmKind::AbsenceNotApplied, &about);
                    }
                    None => {}
                }
                let ChangeCounts {
                    new,
                    changed,
                    unchanged,
                    zeroed,
                    ..
                } = tally;
                info!(
                    shop,
                    source = name,
                    rows,
                    rejected,
                    suspicious,
                    new,
                    changed,
                    unchanged,
                    zeroed,
                    took_ms,
                    "{about} has stated {rows} rows: {new} new, {changed} changed, {zeroed} of \
                     them to zero, {unchanged} as before, {rejected} rejected, {suspicious} suspicious"
                );
            }
        }
        alarms.clear(AlarmKind::SourceFailed, &about);
        status.last_report = Some(report.clone());
        Ok(report)
    }

    /// Notes that a source could not be asked at all.
    pub fn record_failure(&self, source: usize, text: &str) {
        let now = self.0.context.clock.now();
        let about = format!("{}/{}", self.0.name, self.0.sources[source].policy.name);
        {
            let status = &mut self.statuses()[source];
            status.failed_total += 1;
            status.is_unreachable = true;
            status.last_failure = Some((now, text.to_owned()));
        }
        let text = format!("{about} cannot be read, the stock is as it was: {text}");
        self.0
            .context
            .alarms
            .raise(AlarmKind::SourceFailed, &about, text);
    }

    /// Notes that a source can be asked again, and has nothing new.
    pub fn record_reachable(&self, source: usize) {
        let status = &mut self.statuses()[source];
        if std::mem::take(&mut status.is_unreachable) {
            status.last_failure = None;
            let about = format!("{}/{}", self.0.name, self.0.sources[source].policy.name);
            self.0.context.alarms.clear(AlarmKind::SourceFailed, &about);
        }
    }

    // === From statements to stock ===

    /// Brings the book in line with what is stated: what was cut off by the last stop, and
    /// everything if the rules are other ones now.
    ///
    /// # Errors
    /// It cannot be read or taken.
    pub async fn reapply_rules(&self) -> Result<(), PipelineError> {
        let mut statements = self.statements().await;
        let digest = self.rules_digest();
        let is_unchanged = statements.applied_rules_digest().await? == digest;
        self.0.has_new_rules.store(!is_unchanged, Ordering::Relaxed);
        for source in &self.0.sources {
            if is_unchanged && statements.source_record(source.id).await?.has_unapplied {
                self.apply(&mut statements, GroupFilter::Source(source.id))
                    .await?;
                statements.mark_applied(source.id).await?;
            }
        }
        if is_unchanged {
            self.statuses()
                .iter_mut()
                .for_each(|status| status.has_unapplied = false);
        }
        if is_unchanged {
            return Ok(());
        }
        let changes = self
            .count_changes(&mut statements, GroupFilter::All, DeliveryScope::Delta)
            .await?;
        let limits = self
            .0
            .sources
            .first()
            .map(|source| source.policy.limits)
            .unwrap_or_default();
        let ChangeCounts {
            in_stock, zeroed, ..
        } = changes;
        let impact = DeliveryImpact {
            in_stock,
            zeroed,
            ..DeliveryImpact::default()
        };
        if let Some(reason) = check_delivery(DeliveryScope::Delta, impact, &limits) {
            // Rules are the operator's own word, but a slip of the pen is not.
            self.0.are_new_rules_held.store(true, Ordering::Relaxed);
            raise_held_alarm(
                &self.0.context.alarms,
                &self.0.name,
                RULES_NAME,
                &reason.to_string(),
            );
            return Ok(());
        }
        self.apply_rules(&mut statements, &digest).await
    }

    /// Takes the rules as they are, whatever they turn to zero.
    ///
    /// # Errors
    /// What is stated cannot be read or taken.
    pub async fn accept_rules(&self) -> Result<(), PipelineError> {
        let mut statements = self.statements().await;
        let digest = self.rules_digest();
        if statements.applied_rules_digest().await? == digest {
            return Err(PipelineError::NothingToAccept(RULES_NAME.to_owned()));
        }
        self.apply_rules(&mut statements, &digest).await
    }

    async fn apply_rules(
        &self,
        statements: &mut StatementStore,
        digest: &str,
    ) -> Result<(), PipelineError> {
        self.apply(statements, GroupFilter::All).await?;
        statements.save_rules_digest(digest).await?;
        self.0.has_new_rules.store(false, Ordering::Relaxed);
        self.0.are_new_rules_held.store(false, Ordering::Relaxed);
        for source in &self.0.sources {
            statements.mark_applied(source.id).await?;
        }
        self.statuses()
            .iter_mut()
            .for_each(|status| status.has_unapplied = false);
        let about = format!("{}/{RULES_NAME}", self.0.name);
        self.0.context.alarms.clear(AlarmKind::SourceHeld, &about);
        Ok(())
    }

    /// The digest of all rules that make stock of statements.
    fn rules_digest(&self) -> String {
        digest::rules_digest(
            &self.0.rules,
            self.0.sources.iter().map(|source| &source.policy),
        )
    }

    async fn rule_context(
        &self,
        statements: &mut StatementStore,
    ) -> Result<RuleContext<'_>, PipelineError> {
        let snapshots = statements.last_snapshots().await?.into_iter().collect();
        let rules = self
            .0
            .sources
            .iter()
            .map(|source| source.policy.rules)
            .collect();
        Ok(RuleContext {
            sources: &self.0.sources,
            last_snapshots: snapshots,
            rules,
            shop_rules: &self.0.rules,
            is_full_recalculation: false,
        })
    }

    /// What would become of the book.
    async fn count_changes(
        &self,
        statements: &mut StatementStore,
        filter: GroupFilter,
        scope: DeliveryScope,
    ) -> Result<ChangeCounts, PipelineError> {
        let mut context = self.rule_context(statements).await?;
        context.is_full_recalculation = matches!(filter, GroupFilter::All);
        let mut changes = ChangeCounts::default();
        let mut groups = statements.sku_groups(filter);
        while let Some((sku, result)) = next_evaluated(&mut groups, &context).await? {
            let known = self.0.context.book.get(self.0.shop, sku.as_str());
            let known = known.map(|entry| entry.level());
            let is_in_stock = known.is_some_and(|level| level.count.get() > 0);
            changes.in_stock += u64::from(is_in_stock);
            match known {
                None => changes.new += 1,
                Some(known) if known.updated_at > result.stated_at => changes.outdated += 1,
                Some(known) if known.count == result.count => changes.unchanged += 1,
                Some(_) => {
                    changes.changed += 1;
                    changes.zeroed += u64::from(is_in_stock && result.count.get() == 0);
                }
            }
        }
        if scope == DeliveryScope::Delta {
            // It speaks of what has changed only: what it empties is a part of the whole shop.
            changes.in_stock = 0;
            self.0.context.book.for_each(self.0.shop, |_, entry| {
                changes.in_stock += u64::from(entry.level().count.get() > 0);
            });
        }
        Ok(changes)
    }

    /// Brings it into the book.
    async fn apply(
        &self,
        statements: &mut StatementStore,
        filter: GroupFilter,
    ) -> Result<(), PipelineError> {
        let mut context = self.rule_context(statements).await?;
        context.is_full_recalculation = matches!(filter, GroupFilter::All);
        let mut batches: Vec<(Origin, Vec<Update>)> = Vec::new();
        let mut groups = statements.sku_groups(filter);
        while let Some((sku, result)) = next_evaluated(&mut groups, &context).await? {
            let origin = self.0.sources[result.source].policy.origin;
            let update = Update {
                sku,
                count: result.count,
                updated_at: Some(result.stated_at),
            };
            let known = batches.iter().position(|(known, _)| *known == origin);
            let index = known.unwrap_or(batches.len());
            if known.is_none() {
                batches.push((origin, Vec::with_capacity(INGEST_BATCH)));
            }
            batches[index].1.push(update);
            if batches[index].1.len() == INGEST_BATCH {
                let updates =
                    std::mem::replace(&mut batches[index].1, Vec::with_capacity(INGEST_BATCH));
                self.0
                    .context
                    .ingest
                    .accept_unchanged(origin, self.0.shop, updates)
                    .await?;
            }
        }
        drop(groups);
        for (origin, updates) in batches
            .into_iter()
            .filter(|(_, updates)| !updates.is_empty())
        {
            self.0
                .context
                .ingest
                .accept_unchanged(origin, self.0.shop, updates)
                .await?;
        }
        Ok(())
    }

    /// How the stock of a SKU comes about, step by step; empty if no source has stated any.
    ///
    /// # Errors
    /// What is stated cannot be read.
    pub async fn explain(&self, sku: &Sku) -> Result<Vec<String>, PipelineError> {
        let mut statements = self.statements().await;
        let context = self.rule_context(&mut statements).await?;
        let mut groups = statements.sku_groups(GroupFilter::Sku(sku.as_str().to_owned()));
        let mut lines = Vec::new();
        while let Some(group) = groups.next().await? {
            if group[0].sku != sku.as_str() {
                continue;
            }
            let quantities = context.quantities(&group);
            for row in &group {
                lines.push(context.describe(row));
            }
            let mut trace = Vec::new();
            let result = stock_rules::evaluate(
                sku,
                &quantities,
                &context.rules,
                context.shop_rules,
                &mut RuleTrace::recording_to(&mut trace),
            );
            lines.append(&mut trace);
            if let Some(result) = result {
                lines.push(format!(
                    "result: {} as of {}",
                    result.count, result.stated_at
                ));
            }
        }
        Ok(lines)
    }
}

/// A source is being read, as long as this is there: its caller may go away in the middle.
struct ReadingGuard<'a> {
    pipeline: &'a DeliveryPipeline,
    source: usize,
}

impl<'a> ReadingGuard<'a> {
    fn start(pipeline: &'a DeliveryPipeline, source: usize) -> Self {
        let now = pipeline.0.context.clock.now();
        let status = &mut pipeline.statuses()[source];
        (status.reading_since, status.rows_read) = (Some(now), 0);
        Self { pipeline, source }
    }
}

impl Drop for ReadingGuard<'_> {
    fn drop(&mut self) {
        self.pipeline.statuses()[self.source].reading_since = None;
    }
}

/// A delivery that is all there.
#[derive(Debug)]
struct Delivery {
    staged: StagedDelivery,
    scope: DeliveryScope,
    // Which variants it lists.
    listing: VariantListing,
    // As the source says.
    stated_at: Option<Timestamp>,
    // Whether absence can be told at all.
    implies_absence: bool,
    shapes: Vec<RecordedShape>,
    notices: Vec<String>,
}

fn build_report(
    delivery: &Delivery,
    options: super::statements::CommitOptions,
    contents: &DeliveryContents,
    changes: ChangeCounts,
    absent: AbsentPolicy,
) -> DeliveryReport {
    let cannot_tell_absence = options.scope == DeliveryScope::Snapshot && !options.implies_absence;
    DeliveryReport {
        outcome: DeliveryOutcome::Applied,
        stated_at: options.stated_at,
        scope: options.scope,
        rows: contents.rows,
        rejected: contents.rejected - contents.suspicious,
        suspicious: contents.suspicious,
        first_rejected: contents.first_rejected.clone(),
        changes,
        absence_not_applied: (cannot_tell_absence && absent == AbsentPolicy::Zero)
            .then(|| absence_not_applied(delivery.staged.first_without_sku.as_ref())),
        notices: delivery.notices.clone(),
        duration_ms: 0,
    }
}

/// Logs what the operator should know of a delivery: notices, and the first rows not applied.
fn log_notices(about: &str, report: &DeliveryReport) {
    for notice in &report.notices {
        info!("{about}: {notice}");
    }
    for RejectedRow {
        line,
        text,
        reason,
        is_suspicious,
        ..
    } in report.first_rejected.iter().take(MAX_LOGGED_ROWS)
    {
        let kind = if *is_suspicious {
            "suspicious"
        } else {
            "rejected"
        };
        warn!(line, "{about}: {kind} row, line {line}: {reason}: {text}");
    }
}

/// Says why SKUs that a snapshot does not name keep their stock.
fn absence_not_applied(row: Option<&RejectedRow>) -> String {
    let row = row.map_or_else(
        || "a row that is not applied does not name its SKU".to_owned(),
        |RejectedRow {
             line, text, reason, ..
         }| {
            format!(
                "the row at line {line} is not applied and does not name its SKU ({reason}): {text}"
            )
        },
    );
    format!(
        "absent = \"zero\" is not applied, SKUs that are missing keep their stock, because {row}. \
         Correct the row, and the next snapshot applies it"
    )
}

fn delivery_impact(
    record: &SourceRecord,
    contents: &DeliveryContents,
    changes: ChangeCounts,
) -> DeliveryImpact {
    DeliveryImpact {
        rows: contents.rows,
        rows_before: record.snapshot_rows,
        // Many a catalogue has products without a SKU, of which nothing can be said; only if
        // nothing else is there, the catalogue itself is missing.
        // Shared articles are how a shop keeps its catalogue, and no sign of a broken file.
        rejected: contents.rejected
            - contents.shared_by_variants
            - if contents.rows == 0 {
                0
            } else {
                contents.without_known_sku
            },
        in_stock: changes.in_stock,
        zeroed: changes.zeroed,
    }
}

fn raise_absence_alarm(alarms: &Alarms, about: &str, reason: &str) {
    alarms.raise(
        AlarmKind::AbsenceNotApplied,
        about,
        format!("{about}: {reason}"),
    );
}

fn raise_held_alarm(alarms: &Alarms, shop: &str, source: &str, reason: &str) {
    let about = format!("{shop}/{source}");
    let text = format!(
        "{about} is held and the stock stays as it was: {reason}. If that is meant: stockbridge \
         accept {source} --shop {shop}"
    );
    alarms.raise(AlarmKind::SourceHeld, &about, text);
}

#[cfg(test)]
mod interruption_tests;
#[cfg(test)]
pub(super) mod tests;
