//! Applied changes: how far each process on one database has read the logs.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::{Instant, timeout, timeout_at};

use super::change_listener::ChangeListener;
use super::connection::PostgresWork;
use super::replica_table::{ReplicaRecord, ReplicaStatus, renew};
use super::{DatabaseProblem, LogEnd, PostgresStore, check_open};
use crate::store::StoreError;
use crate::store::append_guard::{AppendedChanges, LogPosition};
use crate::store::error::StoreInternalError;

/// Longest time between two looks at what the other replicas have applied. Notifications make it
/// shorter.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Time after which a renewal is written to the disk of the server before it counts. Those in between,
/// which only name further changes, may be lost in a crash of the server.
const DURABLE_INTERVAL: Duration = Duration::from_millis(500);

/// Time after which the row gets the digests of the settings once more: a server that was replaced by a
/// standby may lack them.
const SETTINGS_INTERVAL: Duration = Duration::from_mins(1);

/// Longest wait for the other replicas. The row of a replica that does not renew it ends before, unless
/// the connection is lost during the wait, so that the row counts longer.
const REPLICATION_LIMIT: Duration = Duration::from_secs(9);

/// Reason for a renewal of the row of this replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RenewalNeed {
    /// The row must not end.
    Always,
    /// Memory has more changes than the row says.
    IfChanged,
}

/// Renewal of the row of a replica.
#[derive(Clone, Copy, Debug)]
pub struct Renewal {
    /// False if the row had ended or did not exist, so that others may have acknowledged changes
    /// meanwhile that this replica does not have.
    pub was_alive: bool,
    /// Time since which all changes of the others were read, and the row on the disk of the server was
    /// renewed.
    pub counts_from: Instant,
}

/// Last renewal of the row of this replica.
#[derive(Debug, Default)]
pub(super) struct RenewedRow {
    /// Last change of each shop.
    pub(super) positions: Vec<LogPosition>,
    /// Start of the last renewal that waited for the disk of the server.
    durable_at: Option<Instant>,
    /// Digests of the settings that the row has, and the time at which it got them.
    settings: Option<(Arc<str>, Instant)>,
}

impl PostgresStore {
    /// Reads the changes of other processes, and renews the row of this replica with what memory has.
    /// Returns `None` if that was not needed.
    pub(in crate::store) async fn renew_replica(
        &self,
        name: &str,
        need: RenewalNeed,
    ) -> Result<Option<Renewal>, StoreError> {
        let mut state = self.state.lock().await;
        check_open(&state)?;
        self.commits.set_replica();
        let outcome = self.follow_and_renew(&mut state, Some((name, need))).await;
        self.publish(&state, outcome.as_ref().err());
        drop(state);
        let renewal = outcome?.renewal;
        if renewal.is_some_and(|renewal| !renewal.was_alive) {
            self.replicas.remove_old().await?;
        }
        Ok(renewal)
    }

    /// Renews the row of this replica at the end of a transaction that has read all changes at
    /// `read_at`.
    pub(super) async fn renew_row(
        &self,
        mut work: PostgresWork<'_>,
        name: &str,
        (positions, read_at): (Vec<LogPosition>, Instant),
    ) -> Result<Renewal, StoreInternalError> {
        let started = Instant::now();
        let settings = Arc::clone(&self.settings.lock());
        let (durable_at, written) = {
            let renewed = self.renewed.lock();
            (renewed.durable_at, renewed.settings.clone())
        };
        let durable_at = durable_at.filter(|at| started - *at < DURABLE_INTERVAL);
        let written =
            written.filter(|(text, at)| *text == settings && started - *at < SETTINGS_INTERVAL);
        let record = ReplicaRecord {
            id: &self.id,
            name,
            applied: &positions,
            settings: &settings,
        };
        let was_alive = renew(work.conn(), record, written.is_none(), durable_at.is_none()).await?;
        work.commit_and_notify("applied", &self.id).await?;
        let durable_at = durable_at.filter(|_| was_alive).unwrap_or(started);
        let written = written.filter(|_| was_alive);
        *self.renewed.lock() = RenewedRow {
            positions,
            durable_at: Some(durable_at),
            settings: Some(written.unwrap_or((settings, started))),
        };
        Ok(Renewal {
            was_alive,
            counts_from: read_at.min(durable_at),
        })
    }

    /// Sets the digests of the settings, which the next renewal writes into the row.
    pub(in crate::store) fn set_settings(&self, settings: String) {
        *self.settings.lock() = settings.into();
    }

    /// Returns the time of the database's clock.
    pub(in crate::store) async fn time(&self) -> Result<DateTime<Utc>, StoreError> {
        self.replicas.time().await
    }

    /// Deletes the row of this replica.
    pub(in crate::store) async fn leave_replicas(&self) -> Result<(), StoreError> {
        self.replicas.remove(&self.id).await
    }

    /// Returns all replicas of the last day.
    pub(in crate::store) async fn list_replicas(&self) -> Result<Vec<ReplicaStatus>, StoreError> {
        self.replicas.list().await
    }

    pub(in crate::store) fn change_listener(&self) -> ChangeListener {
        ChangeListener::new(self.url.clone(), self.id.clone())
    }

    pub(in crate::store) fn wake_acknowledgements(&self) {
        self.others_applied.notify_waiters();
    }

    /// Waits until the database has these changes, and every live replica has applied them.
    ///
    /// # Errors
    /// That is not known after [`REPLICATION_LIMIT`], and the time that a silent server then needs to be
    /// given up.
    pub(in crate::store) async fn replicated(
        &self,
        changes: &AppendedChanges,
    ) -> Result<(), StoreError> {
        let deadline = Instant::now() + REPLICATION_LIMIT;
        let mut ends = changes.ends().to_vec();
        let mut reason = "a live replica has not applied it".to_owned();
        while Instant::now() < deadline {
            // Before the database is read, so that a notification in between is not missed.
            let notified = self.others_applied.notified();
            match self.check_applied(&mut ends, deadline).await {
                Ok(AppliedCheck::Applied) => return Ok(()),
                Ok(AppliedCheck::AppendedAgain) => continue,
                Ok(AppliedCheck::NotYet) => {}
                Err(error) => reason = error.to_string(),
            }
            let _woken = timeout(POLL_INTERVAL, notified).await;
        }
        let seconds = REPLICATION_LIMIT.as_secs();
        Err(StoreError::DatabaseUnusable {
            target: self.url.to_string(),
            what: format!(
                "within {seconds} s it did not show that it and all live replicas have the change: {reason}; \
                 repeat the update, and check the database and the other replicas"
            ),
            problem: DatabaseProblem::Described,
        })
    }

    /// Checks that all live replicas have applied the changes up to `ends`, and that the database has them.
    async fn check_applied(
        &self,
        ends: &mut [(i64, LogEnd)],
        deadline: Instant,
    ) -> Result<AppliedCheck, StoreError> {
        let reading = timeout_at(deadline, self.replicas.read_applied(&self.id, ends));
        let Ok(state) = reading.await else {
            return Ok(AppliedCheck::NotYet);
        };
        let state = state?;
        if state.have_all {
            self.check_history(ends, &state.log_ends).await
        } else {
            Ok(AppliedCheck::NotYet)
        }
    }

    /// Checks that a database whose logs end at `log_ends` has all changes up to `ends`. One that was
    /// replaced by a standby may lack them, or have others of the same number.
    ///
    /// If the changes were lost, this process has appended them again, and `ends` become the ends after
    /// that.
    async fn check_history(
        &self,
        ends: &mut [(i64, LogEnd)],
        log_ends: &[(i64, LogEnd)],
    ) -> Result<AppliedCheck, StoreError> {
        if ends.iter().all(|end| log_ends.contains(end)) {
            return Ok(AppliedCheck::Applied);
        }
        let mut state = self.state.lock().await;
        check_open(&state)?;
        for is_last in [false, true] {
            let mut is_lost = false;
            let mut is_known = true;
            for (id, end) in &mut *ends {
                let mut logs = state.logs.iter();
                let Some(log) = logs.find(|log| log.id == *id) else {
                    continue;
                };
                if !log.tail.has(*end) {
                    *end = log.end;
                    is_lost = true;
                }
                is_known &= log_ends.iter().any(|(of, log_end)| {
                    of == id && log_end.ver >= end.ver && log.tail.has(*log_end)
                });
            }
            if is_lost {
                return Ok(AppliedCheck::AppendedAgain);
            }
            if is_known {
                return Ok(AppliedCheck::Applied);
            }
            // Memory may lack changes that other processes have appended since.
            if !is_last {
                self.follow(&mut state).await?;
            }
        }
        Ok(AppliedCheck::NotYet)
    }
}

/// Result of the check that the database and all live replicas have appended changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum AppliedCheck {
    Applied,
    /// The database lacked them, and they were appended again.
    AppendedAgain,
    /// It is not known; the database must be read again.
    NotYet,
}
