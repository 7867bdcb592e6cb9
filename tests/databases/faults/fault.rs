//! Faults of replicas, database and network, and their random choice.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

/// Fault of one round.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
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

impl Fault {
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
            Kind::Kill => Self::Kill(replica),
            Kind::Restart => Self::Restart(replica),
            Kind::KillSender => Self::KillSender,
            Kind::Stop => Self::Stop(replica),
            Kind::RestartDatabase if is_first => Self::RestartDatabase("fast"),
            Kind::RestartDatabase => Self::RestartDatabase("immediate"),
            Kind::Cut => Self::Cut(replica),
            Kind::Swallow => Self::Swallow(replica),
            Kind::JumpClock => {
                let hours = [0, 1, -1, 24, -24].choose(rng);
                Self::JumpClock(replica, *hours.expect("there are some"))
            }
            Kind::Failover => Self::Failover,
        }
    }

    const WEIGHTS: [(Kind, u32); 9] = [
        (Kind::Kill, 15),
        (Kind::Restart, 5),
        (Kind::KillSender, 15),
        (Kind::Stop, 5),
        (Kind::RestartDatabase, 15),
        (Kind::Cut, 15),
        (Kind::Swallow, 8),
        (Kind::JumpClock, 17),
        (Kind::Failover, 5),
    ];
}

#[derive(Clone, Copy, Debug)]
enum Kind {
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
    assert_eq!(Fault::each_kind(5), Fault::each_kind(5));
    assert_eq!(Fault::each_kind(5).len(), 9);
    let draw = |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..50).map(|_| Fault::draw(&mut rng)).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}
