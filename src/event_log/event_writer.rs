//! Background task that writes the events, in batches.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use lifecycle::Tasks;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use super::event_table::{EventTable, LAYOUT};
use super::service_event::{PreviousRun, ServiceEvent};
use super::{EventLog, QueuedEvent};
use crate::operator_database::{DatabaseError, open_database};

/// Most events in one commit.
const MAX_BATCH: usize = 200;

/// Longest time for which an event waits for others.
const BATCH_DELAY: Duration = Duration::from_millis(500);

/// Shortest time between two attempts to open a file that cannot be used.
const REOPEN_INTERVAL: Duration = Duration::from_secs(5);

/// Writer of an [`EventLog`].
#[derive(Debug)]
pub(super) struct EventWriter {
    log: EventLog,
    events: mpsc::Receiver<QueuedEvent>,
    directory: PathBuf,
    table: Option<EventTable>,
    // Time of the last failure, until the file is open again.
    failed_at: Option<Instant>,
    // True if a failure was logged since the last event that was written.
    has_warned: bool,
}

impl EventWriter {
    /// Opens the file and records the start.
    pub(super) async fn open(
        log: EventLog,
        events: mpsc::Receiver<QueuedEvent>,
        directory: &Path,
    ) -> Self {
        let mut writer = Self {
            log,
            events,
            directory: directory.to_owned(),
            table: None,
            failed_at: None,
            has_warned: false,
        };
        let previous = writer.ensure_open().await.unwrap_or(PreviousRun::None);
        writer.log.record(ServiceEvent::ServiceStarted {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            previous,
        });
        writer
    }

    /// Runs until the stop is requested, then writes the events that are queued.
    pub(super) async fn run(mut self, tasks: Tasks) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        loop {
            tokio::select! {
                biased;
                count = self.events.recv_many(&mut batch, MAX_BATCH), if !tasks.is_stopping() => {
                    if count == 0 {
                        // All handles were dropped.
                        tasks.stopping().await;
                    }
                    tokio::select! {
                        () = self.fill(&mut batch) => {}
                        () = tasks.stopping() => {}
                    }
                    self.write(&mut batch).await;
                }
                () = tasks.stopping() => break,
            }
        }
        self.finish().await;
    }

    /// Writes all queued events and closes the file.
    pub(super) async fn finish(mut self) {
        self.write_queued().await;
        if let Some(table) = self.table
            && let Err(error) = table.close().await
        {
            warn!(error = %error, "failed to close the event log: {error}");
        }
    }

    /// Writes all events that are queued now.
    pub(super) async fn write_queued(&mut self) {
        let mut batch = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            batch.push(event);
            if batch.len() == MAX_BATCH {
                self.write(&mut batch).await;
            }
        }
        self.write(&mut batch).await;
    }

    /// Receives more events until the batch is full or its first event has waited long enough.
    async fn fill(&mut self, batch: &mut Vec<QueuedEvent>) {
        let deadline = Instant::now() + BATCH_DELAY;
        while batch.len() < MAX_BATCH {
            let free = MAX_BATCH - batch.len();
            match timeout_at(deadline, self.events.recv_many(batch, free)).await {
                Ok(0) => sleep(BATCH_DELAY).await,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Writes a batch and empties it. Events that cannot be written are counted as lost.
    async fn write(&mut self, batch: &mut Vec<QueuedEvent>) {
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        if self.ensure_open().await.is_none() {
            self.count_lost(count);
            batch.clear();
            return;
        }
        let lost = self.log.0.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let queued = QueuedEvent {
                at: batch[0].at,
                shop: None,
                subject: String::new(),
                event: ServiceEvent::EventsLost { events: lost },
            };
            batch.insert(0, queued);
        }
        let is_clean_stop = batch
            .iter()
            .any(|queued| matches!(queued.event, ServiceEvent::ServiceStopped { failure: None }));
        if let Err(error) = self.write_to_table(batch, is_clean_stop).await {
            self.count_lost(count + lost);
            self.on_failure(&error.into());
        }
        batch.clear();
    }

    async fn write_to_table(
        &mut self,
        batch: &[QueuedEvent],
        is_clean_stop: bool,
    ) -> Result<(), sqlx::Error> {
        let Some(table) = &mut self.table else {
            return Ok(());
        };
        table.write(batch).await?;
        self.has_warned = false;
        self.log.0.latest_id.send_replace(table.last_id());
        if is_clean_stop {
            table.mark_running(false).await?;
        }
        Ok(())
    }

    /// Opens the file unless it is open, at most every few seconds. Returns `None` while it cannot be
    /// used, otherwise the end of the previous run as far as this call has read it.
    async fn ensure_open(&mut self) -> Option<PreviousRun> {
        if self.table.is_some() {
            return Some(PreviousRun::None);
        }
        let is_recent = |at: Instant| at.elapsed() < REOPEN_INTERVAL;
        if self.failed_at.is_some_and(is_recent) {
            return None;
        }
        match self.open_table().await {
            Ok(previous) => {
                self.failed_at = None;
                Some(previous)
            }
            Err(error) => {
                self.on_failure(&error);
                None
            }
        }
    }

    async fn open_table(&mut self) -> Result<PreviousRun, DatabaseError> {
        let opened = open_database(&self.directory, LAYOUT).await?;
        let mut table = EventTable::new(opened.connection).await?;
        table.continue_after(*self.log.0.latest_id.borrow());
        let previous = table.begin_run().await?;
        self.log.0.reader.reopen();
        self.log.0.latest_id.send_replace(table.last_id());
        self.table = Some(table);
        if let Some(reason) = opened.replaced_because {
            self.log.record(ServiceEvent::FileReplaced {
                file: LAYOUT.file_name.to_owned(),
                reason: reason.into(),
            });
        }
        Ok(previous)
    }

    /// Logs a failure, once until an event is written again, and closes the file. A damaged file
    /// is replaced at the next attempt to open it.
    fn on_failure(&mut self, error: &DatabaseError) {
        self.table = None;
        self.failed_at = Some(Instant::now());
        if !std::mem::replace(&mut self.has_warned, true) {
            warn!(
                error = %error,
                "failed to write the event log, events are dropped and counted until it can be \
                 written: {error}"
            );
        }
    }

    fn count_lost(&self, events: u64) {
        self.log.0.lost.fetch_add(events, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn table(&mut self) -> Option<&mut EventTable> {
        self.table.as_mut()
    }
}
