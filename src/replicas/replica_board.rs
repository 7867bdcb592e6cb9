//! Replicas as the operator sees them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::store::{REPLICA_LIFETIME, REPLICA_MARGIN, ReplicaStatus, SettingsDigest};

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
    // Name and settings of this replica.
    own: Option<(String, SettingsDigest)>,
}

impl ReplicaList {
    /// Names the parts of the configuration in which live replicas differ from this one.
    fn compare_settings(&mut self) {
        let Some((own, settings)) = &self.own else {
            return;
        };
        for replica in &mut self.replicas {
            // The row of this replica may have the settings before a reload.
            let is_compared = replica.is_alive && replica.name != *own;
            replica.differing_settings = if is_compared {
                settings.differing_parts(&replica.release, &replica.settings)
            } else {
                Vec::new()
            };
        }
    }
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
        let ReplicaList {
            replicas, read_at, ..
        } = self.0.lock().clone();
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
                if !replica.is_alive {
                    replica.differing_settings.clear();
                }
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
        let mut list = self.0.lock();
        list.replicas = replicas;
        list.read_at = Some(Instant::now());
        list.compare_settings();
    }

    /// Sets the name and the settings of this replica, with which others are compared.
    pub fn set_own(&self, name: &str, settings: SettingsDigest) {
        let mut list = self.0.lock();
        list.own = Some((name.to_owned(), settings));
        list.compare_settings();
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
            ..ReplicaStatus::default()
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

    #[tokio::test(start_paused = true)]
    async fn settings_of_live_replicas_are_compared() {
        let digest = |text: &str| {
            let parts = [("service".to_owned(), text.to_owned())];
            SettingsDigest::new(parts.into())
        };
        let with_settings = |name: &str, is_alive, settings: &str| ReplicaStatus {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            settings: digest(settings).to_string(),
            ..replica(name, is_alive, 0)
        };
        let board = ReplicaBoard::default();
        let list = [
            ("a", true, "2"),
            ("b", true, "2"),
            ("c", true, "1"),
            ("d", false, "2"),
        ];
        board.set(
            list.map(|(name, is_alive, text)| with_settings(name, is_alive, text))
                .into(),
        );
        let differing = |board: &ReplicaBoard| {
            let differ = |it: &ReplicaStatus| !it.differing_settings.is_empty();
            let found = board.present(Some("a")).into_iter().filter(differ);
            found.map(|it| it.name).collect::<Vec<_>>()
        };
        assert!(differing(&board).is_empty(), "own settings are not known");
        board.set_own("a", digest("1"));
        assert_eq!(differing(&board), ["b"]);
        board.set_own("a", digest("2"));
        assert_eq!(differing(&board), ["c"], "after a reload");
        advance(LONGEST_PROOF).await;
        assert!(differing(&board).is_empty(), "they may have stopped");
    }
}
