//! Schedule and poll loop of one source: finds what is due, delivers it and waits.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use connectors::{DeliveryEnd, DueDelivery, EntrySender, PollContext, Source};
use lifecycle::Tasks;
use stock::Sku;
use strict_http::causes;
use tokio::time::sleep;
use tracing::info;

use super::{ManagedShop, ManagedSource, SourceManager};
use crate::sources::{
    DeliveryDate, DeliveryOutcome, DeliveryPipeline, DeliveryReport, PipelineError,
};

/// Poll loop of one source.
pub(super) struct PollLoop<S> {
    pub(super) manager: SourceManager,
    pub(super) pipeline: DeliveryPipeline,
    pub(super) shop_index: usize,
    pub(super) source_index: usize,
    pub(super) source: SourcePoller<S>,
}

impl<S: Source> PollLoop<S> {
    pub(super) async fn run(mut self, tasks: Tasks) {
        loop {
            let (poll_interval, poll_now) = {
                let source = self.managed_source();
                (source.config.poll_interval, Arc::clone(&source.poll_now))
            };
            let pipeline = self.pipeline.clone();
            pipeline.record_poll_started(self.source_index);
            tokio::select! {
                // A delivery that is not complete is cancelled. The next start reads it again.
                () = tasks.stopping() => return,
                () = self.poll(&pipeline) => {}
            }
            pipeline.record_poll_ended(self.source_index, poll_interval);
            tokio::select! {
                () = tasks.stopping() => return,
                () = sleep(poll_interval) => {}
                () = poll_now.notified() => {}
            }
        }
    }

    fn shop(&self) -> &ManagedShop {
        &self.manager.0.shops[self.shop_index]
    }

    fn managed_source(&self) -> &ManagedSource {
        &self.shop().sources[self.source_index]
    }

    async fn poll(&mut self, pipeline: &DeliveryPipeline) {
        let (known, shop) = (Arc::clone(&self.manager.0.known), self.shop().id);
        let known_skus = Arc::new(move || known(shop));
        let now = self.manager.0.context.clock.now();
        let index = self.source_index;
        let polled: Result<_, String> = async {
            reapply_if_needed(pipeline, index).await?;
            self.source.poll(pipeline, index, now, known_skus).await
        }
        .await;
        if let Err(reason) = polled {
            pipeline.record_failure(index, &reason);
        }
    }
}

/// Applies stored statements that did not reach the book.
async fn reapply_if_needed(pipeline: &DeliveryPipeline, index: usize) -> Result<(), String> {
    if pipeline.needs_reapply(index) {
        let reapplied = pipeline.reapply_rules().await;
        reapplied.map_err(|error| causes(&error))?;
    }
    Ok(())
}

/// Loop of a source that pushes its data: applies statements that did not reach the book.
pub(super) async fn run_passive(
    manager: SourceManager,
    (shop_index, source_index): (usize, usize),
    pipeline: DeliveryPipeline,
    tasks: Tasks,
) {
    let source = &manager.0.shops[shop_index].sources[source_index];
    loop {
        let reapplied = async {
            if let Err(reason) = reapply_if_needed(&pipeline, source_index).await {
                pipeline.record_failure(source_index, &reason);
            }
        };
        tokio::select! {
            () = tasks.stopping() => return,
            () = reapplied => {}
        }
        tokio::select! {
            () = tasks.stopping() => return,
            () = sleep(source.config.poll_interval) => {}
            () = source.poll_now.notified() => {}
        }
    }
}

/// Beginning of a saved state. The digest of the settings and a line break follow.
const DIGEST_MARK: &str = "read settings ";

/// Returns the digest of the settings by which a source was read, and its state. `None` if nothing
/// is saved.
fn split_saved_state(saved: &str) -> Option<(&str, &str)> {
    saved.strip_prefix(DIGEST_MARK)?.split_once('\n')
}

/// Source with the state between its polls.
pub(super) struct SourcePoller<S> {
    source: S,
    /// Digest of the settings by which the source is read.
    read_digest: String,
    is_restored: bool,
    /// State that could not be saved yet.
    unsaved_state: Option<String>,
}

impl<S: Source> SourcePoller<S> {
    pub(super) fn new(source: S, read_digest: &str) -> Self {
        Self {
            source,
            read_digest: read_digest.to_owned(),
            is_restored: false,
            unsaved_state: None,
        }
    }

    /// Polls the source once, and passes each delivery that is due to the pipeline, which records its
    /// result in the status and the log. Returns the reports of those that were applied or held.
    ///
    /// # Errors
    /// The source cannot be reached, or its state cannot be read or saved.
    pub(super) async fn poll(
        &mut self,
        pipeline: &DeliveryPipeline,
        index: usize,
        now: DateTime<Utc>,
        known_skus: Arc<dyn Fn() -> Vec<Sku> + Send + Sync>,
    ) -> Result<Vec<DeliveryReport>, String> {
        if !self.is_restored {
            let saved = pipeline.reader_state(index).await;
            let saved = saved.map_err(|error| causes(&error))?;
            self.restore(&saved, pipeline.source_name(index));
            self.is_restored = true;
        }
        self.save_state(pipeline, index).await?;
        let poll = PollContext {
            shop: pipeline.shop_name(),
            now,
            spool: pipeline.directory(),
            known_skus,
        };
        let due = self.source.due(&poll).await?;
        if S::DUE_CONTACTS_SOURCE {
            pipeline.record_reachable(index);
        }
        let mut reports = Vec::new();
        for DueDelivery {
            stated_at,
            repeats_last,
            mut target,
        } in due
        {
            let mut is_temporary = false;
            let source = &mut self.source;
            let read = async |rows: &mut EntrySender| {
                let read = source.read(&mut target, &poll, rows).await;
                read.map_err(|failure| {
                    is_temporary = failure.is_temporary;
                    failure.message
                })
            };
            let date = DeliveryDate {
                stated_at,
                repeats_last,
            };
            let delivered = pipeline.ingest_delivery(index, date, true, read).await;
            let end = delivery_end(&delivered, is_temporary);
            reports.extend(delivered.ok());
            if let Some(state) = self.source.ended(target, end) {
                self.unsaved_state = Some(state);
                self.save_state(pipeline, index).await?;
            }
            if end == DeliveryEnd::Interrupted {
                break;
            }
        }
        Ok(reports)
    }

    /// Restores the saved state. If other settings decide now how the source is read, it is read
    /// again.
    fn restore(&mut self, saved: &str, name: &str) {
        let Some((digest, state)) = split_saved_state(saved) else {
            return;
        };
        self.source.restore(state);
        if digest != self.read_digest {
            info!(
                source = name,
                "the settings by which {name} is read have changed, it is read again"
            );
            self.source.read_again();
        }
    }

    /// Saves the state, if it is not saved yet. After an error, the next poll tries again.
    async fn save_state(
        &mut self,
        pipeline: &DeliveryPipeline,
        index: usize,
    ) -> Result<(), String> {
        if let Some(state) = &self.unsaved_state {
            let text = format!("{DIGEST_MARK}{}\n{state}", self.read_digest);
            let saved = pipeline.save_reader_state(index, &text).await;
            saved.map_err(|error| causes(&error))?;
            self.unsaved_state = None;
        }
        Ok(())
    }
}

/// Returns the end of a delivery. `is_temporary` is [`ReadFailure::is_temporary`](connectors::ReadFailure),
/// if the source could not be read.
fn delivery_end(
    delivered: &Result<DeliveryReport, PipelineError>,
    is_temporary: bool,
) -> DeliveryEnd {
    match delivered {
        Ok(report) => match report.outcome {
            DeliveryOutcome::Applied | DeliveryOutcome::Previewed => DeliveryEnd::Applied,
            DeliveryOutcome::Held(_) => DeliveryEnd::Held,
        },
        Err(PipelineError::Read(_)) if is_temporary => DeliveryEnd::Interrupted,
        Err(PipelineError::Read(_) | PipelineError::Settings(_)) => DeliveryEnd::Rejected,
        Err(
            PipelineError::Persist(_)
            | PipelineError::Stage(_)
            | PipelineError::Ingest(_)
            | PipelineError::NothingToAccept(_)
            | PipelineError::DeliveryChanged(_)
            | PipelineError::NotLeading
            | PipelineError::Mirror(_)
            | PipelineError::ComparisonInterrupted,
        ) => DeliveryEnd::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use connectors::{ReadFailure, ReadReport};
    use lifecycle::Clock;
    use stock_import::stock_rules::ShopRules;

    use super::*;
    use crate::sources::StatementError;
    use crate::sources::StorageError;
    use crate::sources::pipeline::tests::{PipelineHarness, test_policy};

    /// Source that never has anything due.
    struct IdleSource<const CONTACTS: bool>;

    impl<const CONTACTS: bool> Source for IdleSource<CONTACTS> {
        type Target = ();

        const DUE_CONTACTS_SOURCE: bool = CONTACTS;

        fn restore(&mut self, _state: &str) {}

        fn read_again(&mut self) {}

        async fn due(&mut self, _poll: &PollContext<'_>) -> Result<Vec<DueDelivery<()>>, String> {
            Ok(Vec::new())
        }

        async fn read(
            &mut self,
            (): &mut (),
            _poll: &PollContext<'_>,
            _rows: &mut EntrySender,
        ) -> Result<ReadReport, ReadFailure> {
            Err(ReadFailure::temporary("nothing is due".to_owned()))
        }

        fn ended(&mut self, (): (), _end: DeliveryEnd) -> Option<String> {
            None
        }

        async fn read_all(
            &mut self,
            _poll: &PollContext<'_>,
            _rows: &mut EntrySender,
        ) -> Result<(), String> {
            Ok(())
        }
    }

    async fn alarms_after_poll<const CONTACTS: bool>() -> Vec<&'static str> {
        let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
        harness.pipeline.record_failure(0, "no response");
        let (now, no_skus) = (Clock::wall().now(), Arc::new(Vec::new));
        let mut poller = SourcePoller::new(IdleSource::<CONTACTS>, "");
        let polled = poller.poll(&harness.pipeline, 0, now, no_skus).await;
        assert_eq!(polled.unwrap().len(), 0);
        harness.alarms()
    }

    #[tokio::test]
    async fn only_contact_ends_a_failure_to_reach_a_source() {
        assert_eq!(alarms_after_poll::<false>().await, ["source_failed"]);
        assert_eq!(alarms_after_poll::<true>().await, [""; 0]);
    }

    #[test]
    fn only_errors_of_the_data_are_final() {
        let disk_full = || StorageError::Io(std::io::ErrorKind::StorageFull.into());
        let persist = StatementError::Database {
            path: "stated.db".into(),
            source: disk_full(),
        };
        for (error, is_temporary, end) in [
            (
                PipelineError::Read("broken".to_owned()),
                false,
                DeliveryEnd::Rejected,
            ),
            (
                PipelineError::Read("cut off".to_owned()),
                true,
                DeliveryEnd::Interrupted,
            ),
            (
                PipelineError::Settings("two".to_owned()),
                false,
                DeliveryEnd::Rejected,
            ),
            (
                PipelineError::Stage(disk_full()),
                false,
                DeliveryEnd::Interrupted,
            ),
            (
                PipelineError::Persist(persist),
                false,
                DeliveryEnd::Interrupted,
            ),
        ] {
            let text = error.to_string();
            assert_eq!(delivery_end(&Err(error), is_temporary), end, "{text}");
        }
    }
}
