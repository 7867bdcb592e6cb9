//! Replicas as the operator sees them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::store::{REPLICA_LIFETIME, REPLICA_MARGIN, ReplicaStatus};

/// Age at which a row that was live when the list was read no longer proves that its replica lives. The
/// list is read every 5 s.
const LONGEST_PROOF: Duration = REPLICA_LIFETIME.saturating_add(Duration::from_secs(5));

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

    /// Returns one entry for each name, as of now: while the list cannot be read, its entries grow old.
    ///
    /// `own` is the name of this replica if it may answer the Market. Its entry then is alive, whatever the
    /// list says.
    #[must_use]
    pub fn present(&self, own: Option<&str>) -> Vec<ReplicaStatus> {
        let ReplicaList { replicas, read_at } = self.0.lock().clone();
        let age = read_at.map_or(Duration::ZERO, |at| at.elapsed()).as_secs();
        let proof = (REPLICA_LIFETIME - REPLICA_MARGIN).as_secs();
        let mut present: Vec<ReplicaStatus> = Vec::new();
        // Those of one name follow each other, the last renewed one at the end: a replica that was killed
        // and started again has two.
        for mut replica in replicas {
            replica.seconds_since_renewal += age;
            if own == Some(&*replica.name) {
                // The permit to answer lasts that long after a renewal.
                replica.seconds_since_renewal = replica.seconds_since_renewal.min(proof);
                replica.is_alive = true;
            } else {
                replica.is_alive &= replica.seconds_since_renewal < LONGEST_PROOF.as_secs();
            }
            if present.last().is_some_and(|last| last.name == replica.name) {
                present.pop();
            }
            present.push(replica);
        }
        present
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

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn replica(name: &str, is_alive: bool, seconds_since_renewal: u64) -> ReplicaStatus {
        ReplicaStatus {
            name: name.to_owned(),
            is_alive,
            seconds_since_renewal,
            lag: 0,
        }
    }

    fn facts(board: &ReplicaBoard, own: Option<&str>) -> Vec<(String, bool, u64)> {
        let facts = |it: ReplicaStatus| (it.name, it.is_alive, it.seconds_since_renewal);
        board.present(own).into_iter().map(facts).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn dead_run_is_not_listed_beside_a_live_one() {
        let board = ReplicaBoard::default();
        assert!(facts(&board, Some("a")).is_empty());
        board.set(vec![
            replica("a", false, 900),
            replica("a", true, 0),
            replica("b", false, 70),
        ]);
        let expected = [("a".to_owned(), true, 0), ("b".to_owned(), false, 70)];
        assert_eq!(facts(&board, None), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn unread_list_grows_old() {
        let board = ReplicaBoard::default();
        board.set(vec![replica("a", true, 1), replica("b", true, 0)]);
        advance(Duration::from_secs(6)).await;
        let expected = [("a".to_owned(), true, 7), ("b".to_owned(), true, 6)];
        assert_eq!(facts(&board, None), expected);
        advance(Duration::from_secs(5)).await;
        let expected = [("a".to_owned(), false, 12), ("b".to_owned(), false, 11)];
        assert_eq!(facts(&board, None), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn own_entry_follows_the_permit() {
        let board = ReplicaBoard::default();
        board.set(vec![replica("a", false, 24), replica("b", false, 24)]);
        let expected = [("a".to_owned(), true, 4), ("b".to_owned(), false, 24)];
        assert_eq!(facts(&board, Some("a")), expected);
        assert_eq!(facts(&board, None)[0], ("a".to_owned(), false, 24));
    }
}
