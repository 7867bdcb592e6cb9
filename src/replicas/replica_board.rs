//! Replicas as the operator sees them.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::store::ReplicaStatus;

/// Last known list of the replicas, which a background task reads from the database. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ReplicaBoard(Arc<Mutex<Vec<ReplicaStatus>>>);

impl ReplicaBoard {
    /// Returns the replicas; none if this process is the only one that uses the store.
    #[must_use]
    pub fn get(&self) -> Vec<ReplicaStatus> {
        self.0.lock().clone()
    }

    /// Replaces the list.
    pub fn set(&self, replicas: Vec<ReplicaStatus>) {
        *self.0.lock() = replicas;
    }

    /// Returns the number of replicas that serve, at least 1: this one.
    #[must_use]
    pub fn count_alive(&self) -> usize {
        let alive = self.0.lock().iter().filter(|it| it.is_alive).count();
        alive.max(1)
    }
}
