//! Pause of one shop's sending by the operator. It is on disk, so it survives a restart.
//!
//! While it is active nothing is sent, and read-backs continue. Changes wait as the difference
//! between book and ledger, so a long pause needs no memory.

use chrono::{DateTime, Utc};
use stock::ShopId;

use super::selftest::SelftestRunner;
use super::{Migrator, Mode, ShopHandle};
use crate::store::StoreError;

/// Name of the store note with the time at which the operator paused sending. The pause holds for
/// the shop, also after a change of its target.
pub(super) const OPERATOR_PAUSE_NOTE: &str = "paused_by_operator";

/// Reason of the pause in the status of the worker.
pub const OPERATOR_PAUSE_REASON: &str = "paused by the operator";

/// Reason why sending could not be paused or resumed. Nothing was changed.
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
    /// The store cannot persist the change.
    #[error("the change cannot be written to disk, so it was not made")]
    Persist(#[source] StoreError),
}

impl ShopHandle {
    async fn pause(&self) -> Result<DateTime<Utc>, OperatorPauseError> {
        let _guard = self.pause_order.lock().await;
        if let Some(since) = self.worker.paused_since() {
            return Ok(since);
        }
        if self.selftests.target.mode != Mode::On {
            return Err(OperatorPauseError::DryRun);
        }
        let now = self.selftests.context.clock.now();
        // On disk first: after a crash in between, the shop is paused although the operator saw no
        // success. The other order could send after a confirmed pause.
        self.persist_pause(Some(&now.to_rfc3339())).await?;
        self.worker.set_paused_since(Some(now));
        Ok(now)
    }

    async fn resume(&self) -> Result<(), OperatorPauseError> {
        let _guard = self.pause_order.lock().await;
        self.persist_pause(None).await?;
        self.worker.set_paused_since(None);
        Ok(())
    }

    /// Takes over the pause that a note of the store describes, unless it is changed right now.
    pub(super) fn take_over_pause(&self, note: Option<&str>) {
        let Ok(_guard) = self.pause_order.try_lock() else {
            return;
        };
        let known = self.worker.paused_since();
        let now = self.selftests.context.clock.now();
        // A note that is not a time still pauses.
        let since = note.map(|text| text.parse().unwrap_or_else(|_| known.unwrap_or(now)));
        if since != known {
            self.worker.set_paused_since(since);
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
        written.map_err(OperatorPauseError::Persist)
    }
}

impl Migrator {
    /// Pauses sending for a shop until [`Migrator::resume`], also across restarts. Requests in
    /// flight end. Returns the time since which it is paused; a repeated pause changes nothing.
    ///
    /// # Errors
    /// Nothing is sent for the shop anyway, or the store cannot persist the pause.
    pub async fn pause(&self, shop: ShopId) -> Result<DateTime<Utc>, OperatorPauseError> {
        let handle = self.shops.get(&shop);
        handle
            .ok_or(OperatorPauseError::NotForwarded)?
            .pause()
            .await
    }

    /// Ends the operator's pause of a shop; does nothing if there is none.
    ///
    /// # Errors
    /// The Market is not called for the shop, or the store cannot persist the change.
    pub async fn resume(&self, shop: ShopId) -> Result<(), OperatorPauseError> {
        let handle = self.shops.get(&shop);
        handle
            .ok_or(OperatorPauseError::NotForwarded)?
            .resume()
            .await
    }
}
