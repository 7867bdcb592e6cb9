//! Faults of replicas, database and network, and their random choice.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

/// Fault of one round.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ReplicaFault {
    /// `kill -9` of a replica, and its next start.
    Kill(usize),
    /// Ordered stop of a replica, and its next start, as at an upgrade. No client may notice it.
    Restart(usize),
    /// `kill -9` of the replica that sends, while a request to the Market has no response.
    KillSender,
    /// A replica is stopped by a signal and continues later.
    Stop(usize),
    /// The database restarts: `fast` in order, `immediate` as a crash.
    RestartDatabase(&'static str),
    /// All connections of a replica to the database are closed.
    Cut(usize),
    /// Nothing passes between a replica and the database, and no connection is closed.
    Swallow(usize),
    /// The wall clock of a replica jumps to this many hours from the right time. Those of the
    /// others are right.
    JumpClock(usize, i64),
    /// The database server is lost, and its synchronous standby takes over.
    Failover,
}

impl ReplicaFault {
    /// Returns each kind once, in an order that depends on the seed.
    pub(super) fn each_kind(seed: u64) -> Vec<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut faults = Vec::new();
        while faults.len() < Self::WEIGHTS.len() {
            let fault = Self::draw(&mut rng);
            let is_new =
                |known: &Self| std::mem::discriminant(known) != std::mem::discriminant(&fault);
            if faults.iter().all(is_new) {
                faults.push(fault);
            }
        }
        faults
    }

    /// Returns a random fault. Those that take long are rarer.
    pub(super) fn draw(rng: &mut StdRng) -> Self {
        let replica = rng.random_range(0..3);
        let is_first = rng.random_bool(0.5);
        let (kind, _) = Self::WEIGHTS
            .choose_weighted(rng, |(_, weight)| *weight)
            .expect("the weights are positive");
        match kind {
            FaultKind::Kill => Self::Kill(replica),
            FaultKind::Restart => Self::Restart(replica),
            FaultKind::KillSender => Self::KillSender,
            FaultKind::Stop => Self::Stop(replica),
            FaultKind::RestartDatabase if is_first => Self::RestartDatabase("fast"),
            FaultKind::RestartDatabase => Self::RestartDatabase("immediate"),
            FaultKind::Cut => Self::Cut(replica),
            FaultKind::Swallow => Self::Swallow(replica),
            FaultKind::JumpClock => {
                let hours = [0, 1, -1, 24, -24].choose(rng);
                Self::JumpClock(replica, *hours.expect("there are some"))
            }
            FaultKind::Failover => Self::Failover,
        }
    }

    const WEIGHTS: [(FaultKind, u32); 9] = [
        (FaultKind::Kill, 15),
        (FaultKind::Restart, 5),
        (FaultKind::KillSender, 15),
        (FaultKind::Stop, 5),
        (FaultKind::RestartDatabase, 15),
        (FaultKind::Cut, 15),
        (FaultKind::Swallow, 8),
        (FaultKind::JumpClock, 17),
        (FaultKind::Failover, 5),
    ];
}

#[derive(Clone, Copy, Debug)]
enum FaultKind {
    Kill,
    Restart,
    KillSender,
    Stop,
    RestartDatabase,
    Cut,
    Swallow,
    JumpClock,
    Failover,
}

#[test]
fn seed_determines_the_faults() {
    assert_eq!(ReplicaFault::each_kind(5), ReplicaFault::each_kind(5));
    assert_eq!(ReplicaFault::each_kind(5).len(), 9);
    let draw = |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..50)
            .map(|_| ReplicaFault::draw(&mut rng))
            .collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}
