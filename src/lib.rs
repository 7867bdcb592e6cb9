//! Carries a seller's stock across the end of Yandex Market's push API.

pub mod clock;
pub mod lifecycle;
pub mod stock;
pub mod telemetry;
