//! Replicas as the operator sees them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::store::ReplicaStatus;

/// Last known list of the replicas, which a background task reads from the database. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ReplicaBoard(Arc<Mutex<ReplicaList>>);

#[derive(Clone, Debug, Default)]
struct ReplicaList {
    replicas: Vec<ReplicaStatus>,
    read_at: Option<Instant>,
}

impl ReplicaBoard {
    /// Returns the replicas; none if this process is the only one that uses the store.
    #[must_use]
    pub fn get(&self) -> Vec<ReplicaStatus> {
        self.0.lock().replicas.clone()
    }

    /// Returns the age of the list; `None` before it was read.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.0.lock().read_at.map(|at| at.elapsed())
    }

    /// Replaces the list.
    pub fn set(&self, replicas: Vec<ReplicaStatus>) {
        *self.0.lock() = ReplicaList {
            replicas,
            read_at: Some(Instant::now()),
        };
    }

    /// Returns the number of replicas that serve, at least 1: this one.
    #[must_use]
    pub fn count_alive(&self) -> usize {
        let list = self.0.lock();
        let alive = list.replicas.iter().filter(|it| it.is_alive).count();
        alive.max(1)
    }
}
