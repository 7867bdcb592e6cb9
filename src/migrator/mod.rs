//! Brings the Market's copy into line with ours.

pub mod batch;
pub mod pace;
pub mod verdict;
