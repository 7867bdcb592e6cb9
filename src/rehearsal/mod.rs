//! A Market in miniature, with cabinets, campaigns, warehouses and buyers, which keeps its own
//! stock and enforces its own rules on both sides.
//!
//! Used by `stockbridge rehearse` and by the tests. It shares no parser with the rooms it
//! judges: what a body means it reads anew, and more strictly, so that a misreading of ours
//! is not agreed with. It never runs in a process that serves a real shop.

mod answers;
mod cabinet;
/// A seller's catalogue, invented but shaped like real ones.
pub mod catalogue;
/// Whether the Market ends up with what the seller has.
pub mod check;
mod dice;
mod faults;
mod market;
mod meter;
/// The other side of the Market: it asks the shop for everything, all at once.
pub mod push;
mod report;
mod rules;
mod serve;
mod shelf;
/// One product's day, as the Market's documentation tells it.
pub mod story;
mod value;

pub use check::{Comparison, compare};
pub use faults::{Fault, FaultPlan};
pub use market::{
    Availability, CampaignConfig, Group, HOME_BUSINESS, Market, MarketConfig, Placement, Scope,
};
pub use push::{Push, PushProgress, PushReport, TokenPlace};
pub use report::{Broken, Call, Logged, Report, Verdict};
pub use shelf::{Held, Stocks};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_cabinet;
#[cfg(test)]
mod tests_life;
