//! Pause of one shop's sending by the operator. It is on disk, so it survives a restart.
//!
//! While it is active nothing is sent, and read-backs continue. Changes wait as the difference
//! between book and ledger, so a long pause needs no memory.

use chrono::{DateTime, Utc};
use stock::ShopId;

use super::selftest::SelftestRunner;
use super::{Migrator, Mode, ShopHandle};
use crate::store::StoreError;

/// Name of the store note with an [`OperatorPause`]. The pause holds for the shop, also after a change
/// of its target.
pub(super) const OPERATOR_PAUSE_NOTE: &str = "paused_by_operator";

/// Reason of the pause in the status of the worker.
pub const OPERATOR_PAUSE_REASON: &str = "paused by the operator";

/// Pause of a shop's sending by the operator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OperatorPause {
    /// Time at which it began.
    pub since: DateTime<Utc>,
    /// Replica through which the operator set it; `None` without replicas.
    pub through: Option<String>,
}

impl OperatorPause {
    /// Reads a note: the time, and the name of the replica after a blank. Earlier releases write the
    /// time only, and take a note with a name for a pause without a time.
    ///
    /// A note that is not a time still pauses, since `otherwise`: sending against the operator's will
    /// is worse than a wrong time.
    pub(super) fn from_note(text: &str, otherwise: DateTime<Utc>) -> Self {
        let (since, through) = match text.split_once(' ') {
            Some((since, name)) => (since, Some(name.to_owned())),
            None => (text, None),
        };
        Self {
            since: since.parse().unwrap_or(otherwise),
            through,
        }
    }

    fn to_note(&self) -> String {
        let since = self.since.to_rfc3339();
        match &self.through {
            Some(name) => format!("{since} {name}"),
            None => since,
        }
    }
}

/// Reason why sending was not paused or resumed, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum OperatorPauseError {
    /// The Market is not called for this shop.
    #[error(
        "nothing is sent for this shop: migrate is off, or the store belongs to another installation"
    )]
    NotForwarded,
    /// The shop is in a dry run, which sends nothing.
    #[error("nothing is sent for this shop: migrate is dry-run, so there is nothing to pause")]
    DryRun,
    /// The store cannot be read, or cannot persist the change. Nothing was changed.
    #[error("the change cannot be written to disk, so it was not made")]
    Persist(#[source] StoreError),
    /// The store has not confirmed the change. It may take effect later, as when the standby is back for
    /// which the database waits.
    #[error(
        "the store has not confirmed the change, which may take effect later: repeat the request until \
         it succeeds"
    )]
    Unconfirmed(#[source] StoreError),
}

impl OperatorPauseError {
    fn of_write(error: StoreError) -> Self {
        if error.may_be_stored() {
            Self::Unconfirmed(error)
        } else {
            Self::Persist(error)
        }
    }
}

impl ShopHandle {
    async fn pause(&self, through: Option<&str>) -> Result<DateTime<Utc>, OperatorPauseError> {
        let _guard = self.pause_order.lock().await;
        if let Some(pause) = self.read_pause().await? {
            return Ok(pause.since);
        }
        if self.selftests.target.mode != Mode::On {
            return Err(OperatorPauseError::DryRun);
        }
        let pause = OperatorPause {
            since: self.selftests.context.clock.now(),
            through: through.map(str::to_owned),
        };
        let since = pause.since;
        // On disk first: after a crash in between, the shop is paused although the operator saw no
        // success. The other order could send after a confirmed pause.
        self.persist_pause(Some(&pause.to_note())).await?;
        self.worker.set_operator_pause(Some(pause));
        Ok(since)
    }

    async fn resume(&self) -> Result<(), OperatorPauseError> {
        let _guard = self.pause_order.lock().await;
        self.persist_pause(None).await?;
        self.worker.set_operator_pause(None);
        Ok(())
    }

    /// Takes over the pause that a note of the store describes, unless it is changed right now.
    pub(super) fn take_over_pause(&self, note: Option<&str>) {
        let Ok(_guard) = self.pause_order.try_lock() else {
            return;
        };
        self.apply_pause_note(note);
    }

    /// Returns the pause in effect. Another replica may have set or ended it since this one last read the
    /// notes.
    async fn read_pause(&self) -> Result<Option<OperatorPause>, OperatorPauseError> {
        let SelftestRunner {
            context, target, ..
        } = &self.selftests;
        let notes = context.store.read_notes().await;
        if let Some(notes) = notes.map_err(OperatorPauseError::Persist)? {
            self.apply_pause_note(notes.get(Some(target.shop), OPERATOR_PAUSE_NOTE));
        }
        Ok(self.worker.operator_pause())
    }

    fn apply_pause_note(&self, note: Option<&str>) {
        let known = self.worker.operator_pause();
        let now = self.selftests.context.clock.now();
        let since = known.as_ref().map_or(now, |pause| pause.since);
        let pause = note.map(|text| OperatorPause::from_note(text, since));
        if pause != known {
            self.worker.set_operator_pause(pause);
        }
    }

    async fn persist_pause(&self, text: Option<&str>) -> Result<(), OperatorPauseError> {
        let SelftestRunner {
            context, target, ..
        } = &self.selftests;
        let shop = Some(target.shop);
        let written = context
            .store
            .put_note(shop, OPERATOR_PAUSE_NOTE, text)
            .await;
        written.map_err(OperatorPauseError::of_write)
    }
}

impl Migrator {
    /// Pauses sending for a shop until [`Migrator::resume`], also across restarts and on all replicas.
    /// `through` is the name of this replica. Requests in flight end. Returns the time since which it is
    /// paused; a repeated pause changes nothing.
    ///
    /// # Errors
    /// Nothing is sent for the shop anyway, or the store cannot be read, cannot persist the pause, or has not
    /// confirmed it.
    pub async fn pause(
        &self,
        shop: ShopId,
        through: Option<&str>,
    ) -> Result<DateTime<Utc>, OperatorPauseError> {
        let handle = self.shops.get(&shop);
        let handle = handle.ok_or(OperatorPauseError::NotForwarded)?;
        handle.pause(through).await
    }

    /// Ends the operator's pause of a shop; does nothing if there is none.
    ///
    /// # Errors
    /// The Market is not called for the shop, or the store cannot persist the change or has not confirmed
    /// it.
    pub async fn resume(&self, shop: ShopId) -> Result<(), OperatorPauseError> {
        let handle = self.shops.get(&shop);
        handle
            .ok_or(OperatorPauseError::NotForwarded)?
            .resume()
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DatabaseProblem;

    #[test]
    fn given_up_change_may_take_effect_later() {
        let unusable = |problem| StoreError::DatabaseUnusable {
            target: "postgres://db/stock".to_owned(),
            what: "no answer".to_owned(),
            problem,
        };
        for (error, may_take_effect) in [
            (unusable(DatabaseProblem::Unconfirmed), true),
            (unusable(DatabaseProblem::NoResponse), true),
            (unusable(DatabaseProblem::Disconnected), true),
            (unusable(DatabaseProblem::NotReady), true),
            (unusable(DatabaseProblem::Refused), false),
            (unusable(DatabaseProblem::MissingRight), false),
            (StoreError::DiskFull, false),
            (
                StoreError::Failed {
                    what: String::new(),
                },
                true,
            ),
        ] {
            let error = OperatorPauseError::of_write(error);
            let text = error.to_string();
            assert_eq!(
                text.contains("may take effect later"),
                may_take_effect,
                "{text}"
            );
            assert_eq!(text.contains("was not made"), !may_take_effect, "{text}");
        }
    }

    #[test]
    fn note_has_time_and_replica() {
        let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let (since, otherwise) = (time("2026-11-20T10:14:27Z"), time("2026-11-21T00:00:00Z"));
        let written = |through: Option<&str>| OperatorPause {
            since,
            through: through.map(str::to_owned),
        };
        for (note, expected) in [
            ("2026-11-20T10:14:27+00:00", written(None)),
            ("2026-11-20T10:14:27+00:00 dc-2", written(Some("dc-2"))),
        ] {
            assert_eq!(OperatorPause::from_note(note, otherwise), expected);
            assert_eq!(expected.to_note(), note);
        }
        // It pauses all the same.
        for note in ["", "soon", "soon dc-2"] {
            assert_eq!(OperatorPause::from_note(note, otherwise).since, otherwise);
        }
    }
}
