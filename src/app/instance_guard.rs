//! Instance guard: decides if this installation owns the store and may send stock.
//!
//! A copy of a store must not send, because two installations that send the same stock overwrite
//! each other.

use anyhow::Context as _;
use tracing::warn;

use crate::store::{INSTANCE_NOTE, Notes, Store, StoreError};
use crate::telemetry::{AlarmKind, Alarms};

/// Treatment of a store that another installation has written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ownership {
    /// Become the owner, because the previous owner no longer sends.
    TakeOver,
    /// Respect the owner: serve from the store, but send nothing.
    Verify,
}

/// Returns the reason why nothing may be sent if another installation owns the store.
///
/// A store without an owner is claimed.
pub(super) async fn check(
    store: &Store,
    notes: &Notes,
    instance: &str,
    ownership: Ownership,
    alarms: &Alarms,
) -> anyhow::Result<Option<String>> {
    let owner = notes.get(None, INSTANCE_NOTE).unwrap_or_default();
    if owner == instance {
        return Ok(None);
    }
    if owner.is_empty() || ownership == Ownership::TakeOver {
        let name = (!instance.is_empty()).then_some(instance);
        return match store.put_note(None, INSTANCE_NOTE, name).await {
            Ok(()) => {
                if !owner.is_empty() {
                    warn!("took over the store from installation '{owner}'");
                }
                Ok(None)
            }
            // A full disk must not stop the service from answering, and the store has no other owner.
            Err(StoreError::DiskFull | StoreError::Busy) if owner.is_empty() => {
                warn!("could not record the store owner; will retry at next start");
                Ok(None)
            }
            Err(error) => Err(error).context("record the store owner"),
        };
    }
    let text = format!(
        "the store belongs to installation '{owner}', but this is installation '{instance}'. Two \
        installations that send the same stock overwrite each other, so nothing is sent. If \
        '{owner}' no longer runs, start once with --adopt. If this is a copy for tests, give it \
        a store of its own"
    );
    alarms.raise(AlarmKind::CloneGuard, "", text.clone());
    Ok(Some(text))
}
