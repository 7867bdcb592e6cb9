//! Parsers of the service's responses: pages of the assortment and stock reports.
//!
//! Pure: bytes in, entries out. A bad row is rejected and does not affect the others.

mod assortment;
mod report;
#[cfg(test)]
mod tests;

use std::io;

pub(super) use self::assortment::{AssortmentBuilder, parse_page};
pub(super) use self::report::{ReportReader, store_bit};
use super::MoySkladError;

fn json_error(error: &serde_json::Error) -> MoySkladError {
    match error.io_error_kind() {
        Some(io::ErrorKind::FileTooLarge) => MoySkladError::TooLarge,
        Some(_) | None => MoySkladError::InvalidResponse(error.to_string()),
    }
}
