//! Shared transport.

/// JSON read strictly.
pub mod json;
