//! Publisher of this process's settings to the other replicas, at the start and after each reload.

use std::sync::Arc;

use super::services::Services;
use crate::config::{Config, SharedSettings};
use crate::replicas::ReplicaBoard;
use crate::store::Store;

/// Publisher of the digests of this replica's settings.
pub(super) struct SettingsPublisher {
    store: Arc<Store>,
    replicas: ReplicaBoard,
    // Name of this replica; `None` if it is the only process.
    name: Option<String>,
    in_use: SharedSettings,
}

impl SettingsPublisher {
    /// Publishes the settings of the start. Call it before this replica joins the others.
    pub(super) fn publish_at_start(services: &Services, config: &Config) -> Self {
        let publisher = Self {
            store: Arc::clone(&services.store),
            replicas: services.replicas.clone(),
            name: config.replica.clone(),
            in_use: config.shared_settings().clone(),
        };
        publisher.publish();
        publisher
    }

    /// Publishes the settings that are in use after a reload of `new`.
    pub(super) fn publish_after_reload(
        &mut self,
        at_start: &Config,
        new: &Config,
        needs_restart: &[String],
    ) {
        let (at_start, new) = (at_start.shared_settings(), new.shared_settings());
        self.in_use = self.in_use.after_reload(at_start, new, needs_restart);
        self.publish();
    }

    fn publish(&self) {
        if let Some(name) = &self.name {
            let digest = self.in_use.digest();
            self.store.set_settings(&digest);
            self.replicas.set_own(name, digest);
        }
    }
}
