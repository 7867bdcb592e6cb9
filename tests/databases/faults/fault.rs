//! Faults of replicas, database and network, and their random choice.

use std::time::Duration;

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
    /// Nothing passes any more on the connections of a replica to the database, which are never
    /// closed. New ones work.
    LoseConnections(usize),
    /// The wall clock of a replica jumps to this many hours from the right time. Those of the
    /// others are right.
    JumpClock(usize, i64),
    /// The database server is lost, and its synchronous standby takes over.
    Failover,
    /// The database server is lost, and a standby takes over that lacks acknowledged changes.
    FailoverBehind,
}

impl ReplicaFault {
    /// Returns each kind once, in an order that depends on the seed. A failover to a standby that is
    /// behind is the last one, because faults of the sender must wait after it.
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
        faults.sort_by_key(|fault| *fault == Self::FailoverBehind);
        faults
    }

    /// Returns the longest time in which the load balancer may have no successful response for the
    /// Market.
    ///
    /// As long as the database can be reached, the replicas without a fault answer. Replicas answer
    /// for 5 s without the database.
    pub(super) fn longest_outage(self) -> Duration {
        Duration::from_secs(match self {
            Self::Kill(_)
            | Self::Restart(_)
            | Self::KillSender
            | Self::Stop(_)
            | Self::Cut(_)
            | Self::Swallow(_)
            | Self::LoseConnections(_)
            | Self::JumpClock(..) => 3,
            Self::RestartDatabase(_) | Self::Failover | Self::FailoverBehind => 5,
        })
    }

    /// Returns the name of the kind.
    pub(super) fn kind(self) -> String {
        let name = format!("{self:?}");
        name.split('(').next().unwrap_or_default().to_owned()
    }

    /// Returns true if another replica may send to the Market afterwards.
    pub(super) fn may_change_sender(self) -> bool {
        !matches!(
            self,
            Self::RestartDatabase(_) | Self::Cut(_) | Self::JumpClock(..)
        )
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
            FaultKind::LoseConnections => Self::LoseConnections(replica),
            FaultKind::JumpClock => {
                let hours = [0, 1, -1, 24, -24].choose(rng);
                Self::JumpClock(replica, *hours.expect("there are some"))
            }
            FaultKind::Failover => Self::Failover,
            FaultKind::FailoverBehind => Self::FailoverBehind,
        }
    }

    const WEIGHTS: [(FaultKind, u32); 11] = [
        (FaultKind::Kill, 15),
        (FaultKind::Restart, 5),
        (FaultKind::KillSender, 15),
        (FaultKind::Stop, 5),
        (FaultKind::RestartDatabase, 15),
        (FaultKind::Cut, 15),
        (FaultKind::Swallow, 8),
        (FaultKind::LoseConnections, 8),
        (FaultKind::JumpClock, 17),
        (FaultKind::Failover, 5),
        (FaultKind::FailoverBehind, 5),
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
    LoseConnections,
    JumpClock,
    Failover,
    FailoverBehind,
}

#[test]
fn seed_determines_the_faults() {
    assert_eq!(ReplicaFault::each_kind(5), ReplicaFault::each_kind(5));
    assert_eq!(ReplicaFault::each_kind(5).len(), 11);
    assert_eq!(
        ReplicaFault::each_kind(5).last(),
        Some(&ReplicaFault::FailoverBehind)
    );
    let draw = |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..50)
            .map(|_| ReplicaFault::draw(&mut rng))
            .collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}
