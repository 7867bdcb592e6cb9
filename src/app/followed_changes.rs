//! Changes of other processes that use the same database: they reach memory and the migrator.

use std::sync::Arc;

use anyhow::Context as _;
use lifecycle::Tasks;
use stock::ShopId;

use super::leadership;
use super::services::Services;
use crate::migrator::{Migrator, ShopData};
use crate::replicas::{Follower, ServingPermit};
use crate::store::{Acked, RecordRow, apply_followed};
use crate::telemetry::AlarmKind;

/// Applies the changes of other processes from now on, and follows them. Returns the permit to answer
/// the Market.
///
/// # Errors
/// The database cannot be used.
pub(super) async fn start(
    services: &Services,
    migrator: Migrator,
    replica: Option<&str>,
    tasks: &Tasks,
) -> anyhow::Result<ServingPermit> {
    if !services.store.is_shared() {
        return Ok(ServingPermit::unlimited());
    }
    let migrator_of_notes = migrator.clone();
    let (data, alarms, names) = (
        services.data.clone(),
        services.alarms.clone(),
        services.names.clone(),
    );
    let on_followed = Box::new(move |shop: ShopId, rows: &[RecordRow]| {
        if apply(&data, &migrator, shop, rows) {
            alarms.clear(AlarmKind::SourceSilent, &names[shop.index()]);
        }
    });
    let book = Arc::clone(&services.data.book);
    let levels = Box::new(move |shop| book.levels(shop));
    services.store.follow_with(on_followed, levels);
    let (store, alarms) = (Arc::clone(&services.store), services.alarms.clone());
    let mut follower = Follower::new(store, replica, alarms);
    follower.join().await.context("join the other replicas")?;
    let permit = follower.permit();
    follower.start(tasks);
    let reading = leadership::read_notes(services.clone(), migrator_of_notes, tasks.clone());
    tasks.spawn("replica_notes", reading);
    Ok(permit)
}

/// Applies rows of one record. Returns true if they changed stock.
fn apply(data: &ShopData, migrator: &Migrator, shop: ShopId, rows: &[RecordRow]) -> bool {
    let effect = apply_followed(&data.book, &data.activity, shop, rows);
    if effect.is_target_changed {
        let mut ids = Vec::with_capacity(data.book.len(shop));
        data.book.for_each(shop, |_, entry| ids.push(entry.id()));
        let void = ids.into_iter().map(|id| (id, Acked::default()));
        data.ledger.record(shop, void);
    }
    data.ledger.record(shop, effect.acked.into_iter());
    // Also what is sent again although its stock is the same. Otherwise a leader would find it only in
    // its next rescan.
    for skus in [&effect.changed, &effect.void] {
        if !skus.is_empty() {
            migrator.notify_changed(shop, skus);
        }
    }
    if effect.is_target_changed {
        migrator.request_rescan(shop);
    }
    !effect.changed.is_empty()
}
