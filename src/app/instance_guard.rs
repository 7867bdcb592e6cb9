use anyhow::Context as _;
use tracing::warn;

use crate::store::{Notes, Store, StoreError};
use crate::telemetry::{AlarmKind, Alarms};

/// Under which name the installation a store belongs to is noted in it.
const INSTANCE: &str = "instance";

/// What to do with a store that another installation has written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ownership {
    /// Take it over: whoever wrote it does not send any more.
    TakeOver,
    /// Leave it to its owner, answer from it, and send nothing.
    Verify,
}

/// Finds out whether the store is ours; says why nothing may be sent if it is not.
///
/// A store that nobody has claimed yet becomes ours.
pub(super) async fn check(
    store: &Store,
    notes: &Notes,
    instance: &str,
    ownership: Ownership,
    alarms: &Alarms,
) -> anyhow::Result<Option<String>> {
    let owner = notes.get(None, INSTANCE).unwrap_or_default();
    if owner == instance {
        return Ok(None);
    }
    if owner.is_empty() || ownership == Ownership::TakeOver {
        let name = (!instance.is_empty()).then_some(instance);
        return match store.put_note(None, INSTANCE, name).await {
            Ok(()) => {
                if !owner.is_empty() {
                    warn!("the store was taken over from the installation '{owner}'");
                }
                Ok(None)
            }
            // A full disk must not keep us from answering; nobody else has claimed it.
            Err(StoreError::DiskFull | StoreError::Busy) if owner.is_empty() => {
                warn!("whose store this is could not be noted, the next start tries again");
                Ok(None)
            }
            Err(error) => Err(error).context("note whose store this is"),
        };
    }
    let text = format!(
        "this store was written by the installation '{owner}', and this one is '{instance}': two \
         that send the same stock overwrite each other, so nothing is sent. If '{owner}' does not \
         run any more, start once with --adopt; if this is a copy for tests, give it a store of \
         its own"
    );
    alarms.raise(AlarmKind::CloneGuard, "", text.clone());
    Ok(Some(text))
}
