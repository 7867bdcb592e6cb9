//! Stateful simulator of Yandex Market's stock methods, with businesses, campaigns, warehouses and
//! buyers.
//!
//! # Purpose
//!
//! [`MarketSimulator`] serves the Market's methods, enforces the Market's rules and limits, and has
//! faults on request. [`PushClient`] requests stock from a shop as the Market does. Both read
//! bodies strictly and share no parser with the code they check, so they cannot repeat its
//! misreadings.
//!
//! # Not here
//!
//! No method that is not about stock, and no disk: a simulator forgets everything when it ends. The
//! verdict about a service belongs to the caller, who gets a [`SimulatorReport`].

mod api;
mod borrowed_json;
pub mod catalogue;
pub mod comparison;
mod faults;
pub mod push_client;
mod quota;
mod registry;
mod request_validation;
mod responses;
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
