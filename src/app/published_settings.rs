//! Settings of this process as the other replicas see them, at the start and after each reload.

use std::sync::Arc;

use super::services::Services;
use crate::config::{Config, SharedSettings};
use crate::replicas::ReplicaBoard;
use crate::store::Store;

/// Places to which the digests of this replica's settings go.
pub(super) struct PublishedSettings {
    store: Arc<Store>,
    replicas: ReplicaBoard,
    // Name of this replica; `None` if it is the only process.
    name: Option<String>,
}

impl PublishedSettings {
    /// Publishes the settings of the start. Call it before this replica joins the others.
    pub(super) fn of_start(services: &Services, config: &Config) -> Self {
        let published = Self {
            store: Arc::clone(&services.store),
            replicas: services.replicas.clone(),
            name: config.replica.clone(),
        };
        published.publish(config.shared_settings());
        published
    }

    /// Publishes the settings that are in use from now on.
    pub(super) fn publish(&self, settings: &SharedSettings) {
        if let Some(name) = &self.name {
            let digest = settings.digest();
            self.store.set_settings(&digest);
            self.replicas.set_own(name, digest);
        }
    }
}
