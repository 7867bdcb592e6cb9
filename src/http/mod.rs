//! Shared transport.

/// JSON read strictly.
pub mod json;
/// Tokens and keys.
pub mod secret;
