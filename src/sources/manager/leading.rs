//! Lead of a shop's sources among several replicas: one reads them, and another one takes over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::Tasks;
use stock::ShopId;
use strict_http::causes;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::{ManagedShop, SourceManager};
use crate::replicas::LeaderLease;
use crate::sources::mirror::{MirrorError, StatementMirror, adopt};
use crate::sources::{DeliveryPipeline, RULES_NAME};
use crate::store::StatementImages;
use crate::telemetry::AlarmKind;

/// Time between two looks at the lease.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Time without a leader after which the alarm is raised. A lease that was not given back ends before.
const VACANT_LIMIT: Duration = Duration::from_secs(90);

/// The same, if this replica knows a reason. Another one may have taken over before.
const FAILED_LIMIT: Duration = Duration::from_secs(20);

/// Alarms that only the leader raises.
const LEADER_ALARMS: &[AlarmKind] = &[
    AlarmKind::AbsenceNotApplied,
    AlarmKind::SourceFailed,
    AlarmKind::SourceHeld,
];

/// Leases for the sources of all shops, and what a replica takes over with them.
#[derive(Clone, Debug)]
pub struct SourceLeases {
    /// Lease of each shop.
    pub by_shop: HashMap<ShopId, LeaderLease>,
    /// Images of the statements in the database.
    pub images: Arc<StatementImages>,
    /// True if the operator has named this replica as the one that reads the sources.
    pub is_pinned: bool,
}

/// Process that reads the sources of a shop.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SourceLeader {
    /// This one.
    This,
    /// Another replica, with this name.
    Replica(String),
    /// None at the moment, or it is not known yet.
    Vacant,
}

/// Sources of a shop that this replica reads.
struct Term {
    epoch: i64,
    pipeline: DeliveryPipeline,
    tasks: Tasks,
}

/// What the lead of a shop does next.
#[derive(Debug, Eq, PartialEq)]
enum LeadChange {
    Keep,
    Begin(i64),
    End,
}

/// Decides about the lead. `running` is the epoch in which this replica reads the sources.
fn next_change(running: Option<i64>, held: Option<i64>) -> LeadChange {
    match (running, held) {
        (Some(running), Some(held)) if running == held => LeadChange::Keep,
        // Also in a new epoch: another replica may have led in between.
        (Some(_), _) => LeadChange::End,
        (None, Some(held)) => LeadChange::Begin(held),
        (None, None) => LeadChange::Keep,
    }
}

/// Reads the sources of a shop while this replica has the lease, until the tasks are stopping.
pub(super) async fn lead(manager: SourceManager, shop_index: usize, tasks: Tasks) {
    let shop = &manager.0.shops[shop_index];
    let leases = manager.0.leases.as_ref();
    let Some((leases, lease)) = leases.and_then(|it| Some((it, it.by_shop.get(&shop.id)?))) else {
        return tasks.stopping().await;
    };
    let mut ticks = interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut term: Option<Term> = None;
    let mut vacancy = Vacancy::default();
    loop {
        tokio::select! {
            () = tasks.stopping() => break,
            _ = ticks.tick() => {}
            () = lease.changed() => {}
        }
        let held = lease.epoch().filter(|epoch| lease.may_act_in(*epoch));
        match next_change(term.as_ref().map(|term| term.epoch), held) {
            LeadChange::Keep => {}
            LeadChange::End => {
                if let Some(term) = term.take() {
                    end(&manager, shop, term).await;
                }
            }
            LeadChange::Begin(epoch) => {
                let begun = tokio::select! {
                    () = tasks.stopping() => break,
                    begun = begin(&manager, shop_index, (leases, lease, epoch), &tasks) => begun,
                };
                match begun {
                    Ok(begun) => {
                        term = Some(begun);
                        vacancy.last_failure = None;
                    }
                    Err(reason) => {
                        let name = &shop.name;
                        warn!(shop = name, "cannot read the sources of {name}: {reason}");
                        vacancy.last_failure = Some(reason);
                        lease.pause();
                    }
                }
            }
        }
        let leader = match (&term, lease.holder()) {
            (Some(_), _) => SourceLeader::This,
            (None, Some(replica)) => SourceLeader::Replica(replica),
            (None, None) => SourceLeader::Vacant,
        };
        vacancy.update(&manager, shop, &leader);
        *shop.leader.write() = leader;
    }
    if let Some(term) = term.take() {
        end(&manager, shop, term).await;
    }
}

/// Takes the statements over, applies what is not in the book yet, and starts the sources.
async fn begin(
    manager: &SourceManager,
    shop_index: usize,
    (leases, lease, epoch): (&SourceLeases, &LeaderLease, i64),
    tasks: &Tasks,
) -> Result<Term, String> {
    let shop = &manager.0.shops[shop_index];
    let (id, name, directory) = (shop.id, &*shop.name, &*shop.directory);
    let images = Arc::clone(&leases.images);
    let adopting = adopt(&images, (id, name, directory), leases.is_pinned);
    let adopted = adopting.await.map_err(|error| causes(&error))?;
    let term_of = (lease.clone(), epoch);
    let mirror = StatementMirror::new(images, (id, directory), term_of, adopted);
    let opening = manager.open_shop(shop, Some(Arc::new(mirror)));
    let pipeline = opening.await.map_err(|error| causes(&error))?;
    let term = Term {
        epoch,
        pipeline,
        tasks: tasks.new_part(),
    };
    if let Err(error) = manager.start_shop(shop_index, &term.pipeline, &term.tasks) {
        end(manager, shop, term).await;
        return Err(causes(&error));
    }
    info!(shop = name, "reads the sources of {name} in epoch {epoch}");
    Ok(term)
}

/// Stops the sources of a shop in order, and closes their statements.
async fn end(manager: &SourceManager, shop: &ManagedShop, term: Term) {
    *shop.pipeline.write() = None;
    term.tasks.stop();
    term.tasks.ended().await;
    // From here on a delivery of 1C or an import fails, too.
    term.pipeline.close().await;
    let names = term.pipeline.source_names().chain([RULES_NAME]);
    for about in names.map(|source| format!("{}/{source}", shop.name)) {
        for kind in LEADER_ALARMS {
            manager.0.context.alarms.clear(*kind, &about);
        }
    }
    info!(
        shop = shop.name,
        "no longer reads the sources of {}", shop.name
    );
}

/// Time without a leader.
#[derive(Default)]
struct Vacancy {
    since: Option<Instant>,
    /// Reason why this replica cannot lead.
    last_failure: Option<String>,
}

/// Returns true if the operator must know that no replica leads. `has_failed` is true if this one
/// has tried to.
fn is_overdue(vacant_for: Duration, has_failed: bool) -> bool {
    vacant_for
        >= if has_failed {
            FAILED_LIMIT
        } else {
            VACANT_LIMIT
        }
}

impl Vacancy {
    /// Raises the alarm if no replica reads the sources, and clears it if one does.
    fn update(&mut self, manager: &SourceManager, shop: &ManagedShop, leader: &SourceLeader) {
        let (alarms, name) = (&manager.0.context.alarms, &shop.name);
        if *leader != SourceLeader::Vacant {
            *self = Self::default();
            alarms.clear(AlarmKind::SourcesUnread, name);
            return;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if !is_overdue(since.elapsed(), self.last_failure.is_some()) {
            return;
        }
        let reason = match &self.last_failure {
            Some(reason) => format!("this one cannot: {reason}"),
            None => {
                "none has the lease. Check the replica of sources_on, and the database".to_owned()
            }
        };
        let text =
            format!("no replica reads the sources of {name}, its stock stays as it was: {reason}");
        alarms.raise(AlarmKind::SourcesUnread, name, text);
    }
}

/// Prepares the directory of a process that uses the database alone: it takes an image over that
/// replicas have left, and deletes it, because the directory has the statements from then on.
///
/// # Errors
/// The database or the directory cannot be used.
pub(super) async fn leave_images(
    manager: &SourceManager,
    images: &StatementImages,
) -> Result<(), MirrorError> {
    for shop in &manager.0.shops {
        adopt(images, (shop.id, &shop.name, &shop.directory), true).await?;
        images
            .delete(shop.id)
            .await
            .map_err(MirrorError::Database)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takeover_raises_no_alarm() {
        let lease_and_retry = Duration::from_secs(35);
        for (vacant_for, has_failed, expected) in [
            (lease_and_retry, false, false),
            (VACANT_LIMIT, false, true),
            (Duration::from_secs(10), true, false),
            (FAILED_LIMIT, true, true),
        ] {
            assert_eq!(is_overdue(vacant_for, has_failed), expected);
        }
    }

    #[test]
    fn sources_run_in_the_epoch_of_the_lease() {
        for (running, held, expected) in [
            (None, None, LeadChange::Keep),
            (None, Some(4), LeadChange::Begin(4)),
            (Some(4), Some(4), LeadChange::Keep),
            (Some(4), None, LeadChange::End),
            (Some(4), Some(6), LeadChange::End),
        ] {
            assert_eq!(next_change(running, held), expected);
        }
    }
}
