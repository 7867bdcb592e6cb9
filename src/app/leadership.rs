//! Leadership for the Market: which replica sends for which shop.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use lifecycle::{Clock, Tasks};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::services::Services;
use super::wiring;
use crate::config::Config;
use crate::migrator::{Migrator, RestoreFn, ShopLeases};
use crate::replicas::{LeaderLease, LeaseKeeper, SettingsWatch};
use crate::sources::SourceLeases;
use crate::store::Store;

/// Time between two looks at notes that other replicas may have changed.
const NOTES_INTERVAL: Duration = Duration::from_secs(5);

/// Time for which a new leader waits in addition to the timeout of a request.
///
/// No request of the old leader is on its way when the new one begins. Let E be the end of the lease
/// by the clock of the database:
///
/// 1. The old leader looks at its lease at the time L, after the database has permitted the request,
///    and sends only if the lease lasts for 3 s more by its own monotonic clock. It counts the lease
///    from before its last renewal. So L + 3 s < E; if its clock is slower by up to 3 s in the 30 s of
///    the lease, L < E.
/// 2. Between L and the beginning of the request it waits for nothing. Let s be the time that this
///    takes. Connection, request and response end `total_timeout` later, at L + s + 60 s.
/// 3. The new leader has the lease at E or later, and waits for `total_timeout` and this margin: it
///    begins at E + 65 s or later.
///
/// So 8 s are left, or 5 s with the slow clock, for s, for what the network still delivers of a request
/// that was given up, and for a clock of the new leader that is too fast. If s is longer, because the
/// process is stopped or its machine suspended exactly there, the request is late: see
/// `docs/replicas.md`.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(5);

/// Starts to take and renew the leases for the Market and for sources. Alone, this process always
/// leads.
pub(super) async fn start(
    services: &Services,
    config: &Config,
    restore: RestoreFn,
    tasks: &Tasks,
) -> (ShopLeases, Option<SourceLeases>) {
    let (Some(table), Some(owner)) = (services.store.leases(), &services.lease_owner) else {
        return (ShopLeases::unlimited(), None);
    };
    let takeover_wait = config.outbound().total_timeout + TIMEOUT_MARGIN;
    let mut budgets: HashMap<String, LeaderLease> = HashMap::new();
    let mut by_shop = HashMap::new();
    for (shop, budget) in wiring::budgets(config) {
        let lease = budgets
            .entry(budget)
            .or_insert_with_key(|budget| LeaderLease::named(budget.clone(), takeover_wait));
        by_shop.insert(shop, lease.clone());
    }
    let sources = source_leases(services, config).await;
    let of_sources = sources.iter().flat_map(|sources| sources.by_shop.values());
    let leases = budgets.values().chain(of_sources).cloned().collect();
    let keeper = LeaseKeeper::new(table, owner.clone(), leases);
    tasks.spawn("leader_leases", keeper.run(tasks.clone()));
    (ShopLeases::new(by_shop, restore), sources)
}

/// Returns the leases for the sources of all shops; `None` without other replicas.
async fn source_leases(services: &Services, config: &Config) -> Option<SourceLeases> {
    config.replica.as_ref()?;
    let images = services.store.statement_images().await?;
    let is_elsewhere = config.sources_elsewhere().is_some();
    let lease = |name: &String| {
        let lease_name = format!("sources {name}");
        if is_elsewhere {
            LeaderLease::observed(lease_name)
        } else {
            // What the last leader still writes is rejected, so the next one need not wait.
            LeaderLease::named(lease_name, Duration::ZERO)
        }
    };
    let shops = services.data.book.shops().zip(&*services.names);
    Some(SourceLeases {
        by_shop: shops.map(|(shop, name)| (shop, lease(name))).collect(),
        images: Arc::new(images),
        is_pinned: config.sources_on.is_some() && !is_elsewhere,
    })
}

/// Returns the clock of a replica: that of the database, which all replicas share. With clocks of
/// their own, a wrong one would date updates and requests to the Market differently from the others.
///
/// # Errors
/// The database cannot be used.
pub(super) async fn clock_of_replicas(store: &Store, own: Clock) -> anyhow::Result<Clock> {
    let time = store.database_time().await;
    let time = time.context("read the clock of the database")?;
    Ok(time.map_or(own, Clock::following))
}

/// Lets the clock of a replica follow that of the database.
async fn follow_clock(services: &Services) {
    let (clock, asked_at) = (services.clock, Instant::now());
    if !clock.is_following() {
        return;
    }
    let time = services.store.database_time().await;
    let failures = services.store.failures();
    failures.note("read the clock of the database", &time);
    if let Ok(Some(time)) = time {
        clock.follow(time, asked_at.elapsed());
    }
}

/// Takes over what operators and programs have done on other replicas: pauses, and the times of the
/// last statements. Also reads the list of replicas and the clock of the database.
pub(super) async fn read_notes(services: Services, migrator: Migrator, tasks: Tasks) {
    let mut ticks = interval(NOTES_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = SettingsWatch::default();
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            _ = ticks.tick() => {}
        }
        follow_clock(&services).await;
        let failures = services.store.failures();
        let replicas = services.store.list_replicas().await;
        failures.note("read the list of replicas", &replicas);
        if let Ok(replicas) = replicas {
            watch.update(replicas, &services.replicas, &services.alarms);
        }
        let notes = services.store.read_notes().await;
        failures.note("read the notes of other replicas", &notes);
        if let Ok(Some(notes)) = notes {
            migrator.take_over_pauses(&notes);
            let shops = services.data.book.shops();
            services.origin_times.merge(&notes, shops);
        }
    }
}
