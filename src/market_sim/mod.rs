//! A Market in miniature, with cabinets, campaigns, warehouses and buyers, which keeps its own
//! stock and enforces its own rules on both sides.
//!
//! Used by `stockbridge rehearse` and by the tests. It shares no parser with the rooms it
//! judges: what a body means it reads anew, and more strictly, so that a misreading of ours
//! is not agreed with. It never runs in a process that serves a real shop.

mod api;
mod borrowed_json;
/// A seller's catalogue, invented but shaped like real ones.
pub mod catalogue;
/// Whether the Market ends up with what the seller has.
pub mod comparison;
mod faults;
/// The other side of the Market: it asks the shop for everything, all at once.
pub mod push_client;
mod quota;
mod registry;
mod request_validation;
mod responses;
/// One product's day, as the Market's documentation tells it.
pub mod sample_day;
mod seeded_random;
mod server;
mod simulator_report;
mod warehouse_stock;

pub use api::{
    Availability, CampaignConfig, DEFAULT_BUSINESS_ID, MarketSimulator, Placement, SimKeyScope,
    SimWarehouseGroup, SimulatorConfig,
};
pub use comparison::{StockComparison, compare};
pub use faults::{FaultPlan, MarketFault};
pub use push_client::{PushClient, PushProgress, PushReport, PushTokenLocation};
pub use simulator_report::{
    LoggedRequest, MarketViolation, RequestOutcome, SimCall, SimulatorReport,
};
pub use warehouse_stock::{SkuStocks, StockRecord};

#[cfg(test)]
mod business_api_tests;
#[cfg(test)]
mod order_and_visibility_tests;
#[cfg(test)]
mod tests;
