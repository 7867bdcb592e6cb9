//! The whole service, and the rules of the house. One binary, so that it is linked once.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod harness;
mod wire;

mod asked;
mod contract;
mod convergence;
mod fed;
mod forwarded;
mod guarded;
mod guessed;
mod operated;
mod operator_access;
mod program;
mod readme;
mod rehearsed;
mod remembered;
mod replay;
mod selftested;
mod setup;
mod sourced;
mod tidy;
