//! Commands that prepare a shop for production: `discover` proposes a configuration, `doctor` checks
//! one, and `rehearse` runs the service against the Market simulator.

mod account_probe;
pub(crate) mod discover;
pub(crate) mod doctor;
pub(crate) mod rehearse;
