//! Reading and staging of a delivery, and the approval of held ones.

use std::sync::atomic::Ordering;

use connectors::{EntrySender, ReadReport};
use lifecycle::run_blocking;
use stock::Timestamp;
use stock_import::shape_change::RecordedShape;
use stock_import::{DeliveryEntry, DeliveryScope, VariantListing};
use strict_http::causes;
use tokio::sync::mpsc;
use tracing::warn;

use super::compare::Approval;
use super::{DeliveryOutcome, DeliveryPipeline, DeliveryReport, PipelineError};
use crate::sources::statements::{
    HeldDelivery, SourceId, StagedDelivery, StagingFile, begin_staging, delivery_mark,
};

/// A delivery that was read to its end.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) staged: StagedDelivery,
    pub(super) scope: DeliveryScope,
    /// Variants that it lists.
    pub(super) listing: VariantListing,
    /// Date that the source states.
    pub(super) date: DeliveryDate,
    /// Products that it lacks are absent. False if a row without a SKU may be one of them.
    pub(super) implies_absence: bool,
    pub(super) shapes: Vec<RecordedShape>,
    pub(super) notices: Vec<String>,
}

/// Date of a delivery as its source states it.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryDate {
    /// Date of the delivery. The current time is used if there is none.
    pub stated_at: Option<Timestamp>,
    /// True if it has the data of the last delivery, because other settings decide now how the source
    /// is read. It keeps the date of the last delivery, so that it does not replace what others
    /// have stated since.
    pub repeats_last: bool,
}

impl From<Option<Timestamp>> for DeliveryDate {
    fn from(stated_at: Option<Timestamp>) -> Self {
        Self {
            stated_at,
            repeats_last: false,
        }
    }
}

impl From<Timestamp> for DeliveryDate {
    fn from(stated_at: Timestamp) -> Self {
        Some(stated_at).into()
    }
}

impl DeliveryPipeline {
    /// Processes one delivery: reads and stages it, checks it, and applies or holds it.
    ///
    /// `date` is the date of the delivery as the source states it. `read` sends the entries and
    /// returns the connector's report. If `should_apply` is false, it is a dry run.
    ///
    /// # Errors
    /// The delivery could not be read, stored or applied. The stock is unchanged, unless ingest
    /// failed half-way; then the rest is applied later.
    pub async fn ingest_delivery<R: Into<ReadReport>>(
        &self,
        source: usize,
        date: impl Into<DeliveryDate>,
        should_apply: bool,
        read: impl AsyncFnOnce(&mut EntrySender) -> Result<R, String>,
    ) -> Result<DeliveryReport, PipelineError> {
        let started_at = self.0.context.clock.now();
        let delivered = self
            .run_delivery(source, date.into(), should_apply, read)
            .await;
        if should_apply {
            self.record_delivery(source, false, &delivered);
        }
        self.record_outcome(source, started_at, should_apply, delivered)
    }

    async fn run_delivery<R: Into<ReadReport>>(
        &self,
        source: usize,
        date: DeliveryDate,
        should_apply: bool,
        read: impl AsyncFnOnce(&mut EntrySender) -> Result<R, String>,
    ) -> Result<DeliveryReport, PipelineError> {
        let settings = self.settings();
        let target = &settings.sources[source];
        let _reading = ReadingGuard::start(self, source);
        let (directory, sort_buffer) = (self.0.directory.clone(), self.sort_buffer());
        let stage = run_blocking(move || begin_staging(&directory, sort_buffer)).await?;
        let (mut rows, entries) = EntrySender::channel();
        let reading = async {
            let read = read(&mut rows).await;
            // The receiver is gone only if staging has failed. That error is reported below.
            let _cancelled = rows.flush().await;
            drop(rows);
            read
        };
        let (read, staged) = tokio::join!(reading, self.stage_entries(source, stage, entries));
        // If staging failed, the reader was cancelled for it, so the error of staging is the cause.
        let stage = staged?;
        let ReadReport {
            completeness,
            shapes,
            notices,
        } = read.map_err(PipelineError::Read)?.into();
        let staged = run_blocking(move || stage.finish()).await?;
        let approval = if should_apply {
            Approval::NotGiven
        } else {
            Approval::DryRun
        };
        let delivery = Delivery {
            scope: completeness.scope(target.policy.scope),
            listing: completeness.listing(target.policy.scope),
            date,
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
        let pipeline = self.clone();
        run_blocking(move || {
            while let Some(entries) = entries.blocking_recv() {
                stage.add_entries(entries, pipeline.now())?;
                pipeline.0.statuses.lock()[source].rows_read = stage.counts().rows;
            }
            pipeline.0.steps.reach("staged");
            Ok(stage)
        })
        .await
    }

    /// Applies all held deliveries of a source, the oldest first. Later statements of the source
    /// are newer and stay.
    ///
    /// `expected` is the mark of the deliveries that were looked at, as in
    /// [`HeldPreview::mark`](super::HeldPreview::mark); if others are held by now, none is applied.
    ///
    /// # Errors
    /// No delivery is held, another one is held, or it cannot be applied now.
    pub async fn accept(
        &self,
        name: &str,
        expected: Option<&str>,
    ) -> Result<DeliveryReport, PipelineError> {
        let nothing_held = || PipelineError::NothingToAccept(name.to_owned());
        let source = self.source_index(name).ok_or_else(nothing_held)?;
        let id = self.source_id(source);
        let held = self.held_deliveries(id).await?;
        if held.is_empty() {
            return Err(nothing_held());
        }
        if expected
            .is_some_and(|expected| expected != delivery_mark(&held, &self.settings().digest))
        {
            return Err(PipelineError::DeliveryChanged(name.to_owned()));
        }
        let mut report = Err(nothing_held());
        for held in held {
            report = Ok(self.accept_held(source, held).await?);
        }
        self.forget_preview(name);
        report
    }

    /// Decides again about held deliveries, because the settings may have changed: those that the
    /// guard would not hold now are applied, the oldest first, up to one that stays held. Does
    /// nothing while rules are held. A delivery that cannot be decided about stays held.
    pub async fn reconsider_held(&self) {
        for source in 0..self.0.source_names.len() {
            if let Err(error) = self.reconsider_source(source).await {
                let (shop, name, error) = (&self.0.name, self.source_name(source), causes(&error));
                warn!(
                    shop,
                    source = name,
                    "a held delivery of {name} stays held: {error}"
                );
            }
        }
    }

    async fn reconsider_source(&self, source: usize) -> Result<(), PipelineError> {
        let id = self.source_id(source);
        for held in self.held_deliveries(id).await? {
            if self.0.has_new_rules.load(Ordering::Relaxed) {
                return Ok(());
            }
            let Some(delivery) = self.open_held(id, &held).await? else {
                return Ok(());
            };
            let decided = self.decide_held(source, delivery, Approval::Reconsidered(held));
            match decided.await {
                Ok(report) if report.outcome == DeliveryOutcome::Applied => {}
                Ok(_) | Err(PipelineError::DeliveryChanged(_)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn accept_held(
        &self,
        source: usize,
        held: HeldDelivery,
    ) -> Result<DeliveryReport, PipelineError> {
        let started_at = self.0.context.clock.now();
        match self.open_held(self.source_id(source), &held).await {
            Ok(Some(delivery)) => {
                let approval = Approval::Approved(held);
                self.decide_held(source, delivery, approval).await
            }
            Ok(None) => {
                let name = self.source_name(source).to_owned();
                Err(PipelineError::DeliveryChanged(name))
            }
            Err(error) => self.record_outcome(source, started_at, true, Err(error)),
        }
    }

    /// Decides about a held delivery, and records the result unless it stays held.
    async fn decide_held(
        &self,
        source: usize,
        delivery: Delivery,
        approval: Approval,
    ) -> Result<DeliveryReport, PipelineError> {
        let started_at = self.0.context.clock.now();
        let is_approved = matches!(approval, Approval::Approved(_));
        let decided = self.decide(source, delivery, approval).await;
        match &decided {
            // Another delivery has replaced it a moment ago. That is not a failure of the source.
            Err(PipelineError::DeliveryChanged(_)) => return decided,
            Ok(report) if matches!(report.outcome, DeliveryOutcome::Held(_)) => return decided,
            Ok(_) | Err(_) => {}
        }
        self.record_delivery(source, is_approved, &decided);
        self.record_outcome(source, started_at, true, decided)
    }
}

impl DeliveryPipeline {
    async fn held_deliveries(&self, source: SourceId) -> Result<Vec<HeldDelivery>, PipelineError> {
        self.read(move |reader| Ok(reader.source_record(source)?.held))
            .await
    }

    /// Opens a delivery, if it is still held.
    async fn open_held(
        &self,
        source: SourceId,
        held: &HeldDelivery,
    ) -> Result<Option<Delivery>, PipelineError> {
        let held = held.clone();
        let mut statements = self.statements().await?;
        let open = statements.run(move |statements| {
            if !statements.source_record(source)?.held.contains(&held) {
                return Ok(None);
            }
            let staged = statements.open_held(&held)?;
            Ok(Some(Delivery::of_held(staged, &held)))
        });
        open.await
    }
}

impl Delivery {
    /// Returns the delivery that was held.
    pub(super) fn of_held(staged: StagedDelivery, held: &HeldDelivery) -> Self {
        Self {
            scope: if held.is_snapshot {
                DeliveryScope::Snapshot
            } else {
                DeliveryScope::Delta
            },
            // Its variants were resolved before it was held.
            listing: VariantListing::Changes,
            date: Timestamp::from_micros(held.at).into(),
            implies_absence: held.implies_absence,
            staged,
            shapes: held.shapes.clone(),
            notices: Vec::new(),
        }
    }
}

/// Marks a source as being read until it is dropped, also if the caller is cancelled.
struct ReadingGuard<'a> {
    pipeline: &'a DeliveryPipeline,
    source: usize,
}

impl<'a> ReadingGuard<'a> {
    fn start(pipeline: &'a DeliveryPipeline, source: usize) -> Self {
        let now = pipeline.0.context.clock.now();
        let status = &mut pipeline.0.statuses.lock()[source];
        (status.reading_since, status.rows_read) = (Some(now), 0);
        Self { pipeline, source }
    }
}

impl Drop for ReadingGuard<'_> {
    fn drop(&mut self) {
        self.pipeline.0.statuses.lock()[self.source].reading_since = None;
    }
}
