//! Carries a seller's stock across the end of Yandex Market's push API.

pub mod clock;
pub mod http;
pub mod legacy;
pub mod lifecycle;
pub mod migrator;
pub mod partner;
pub mod stock;
pub mod store;
pub mod telemetry;
