//! Replicas: several processes that serve the same stock from one database.
//!
//! Each replica reads the changes of the others and renews a row in the database, which says what it
//! has applied. An update is acknowledged when every live replica has applied it. So any replica
//! answers with every acknowledged update, without a look at the database.
//!
//! A replica that could not read the changes for some seconds no longer counts for the others. It
//! knows that by its own monotonic clock, and then answers the Market with 503.

mod follower;
mod lead_right;
mod leader_lease;
mod replica_board;
mod serving_permit;
mod settings_watch;

pub use self::follower::Follower;
pub use self::lead_right::LeadRight;
pub use self::leader_lease::{LeaderLease, LeaseKeeper, NotLeading, SendingReplica};
pub use self::replica_board::ReplicaBoard;
pub use self::serving_permit::{RequestPermit, ServingPermit};
pub use self::settings_watch::SettingsWatch;
