//! Failures to read from MoySklad.

use chrono::{DateTime, Utc};
use stock_import::DeliveryCancelled;

use super::{MAX_PAGES, MAX_TRIES};

/// Failure to read the service's stock.
#[derive(Debug, thiserror::Error)]
pub(super) enum MoySkladError {
    /// The credentials are wrong or lack a permission.
    #[error("moysklad answered {status}: the token or the user lacks the permission: {message}")]
    Denied {
        /// HTTP status.
        status: u16,
        /// Error message of the service.
        message: String,
    },
    /// All attempts exceeded the rate limit.
    #[error("moysklad answered 429 Too Many Requests {MAX_TRIES} times")]
    RateLimited,
    /// The service returned another error.
    #[error("moysklad answered {status}: {message}")]
    ErrorStatus {
        /// HTTP status.
        status: u16,
        /// Error message of the service.
        message: String,
    },
    /// The connection failed or was interrupted.
    #[error("moysklad is not reachable: {0}")]
    Unreachable(String),
    /// The response exceeds the size limit.
    #[error("a response of moysklad exceeds the size limit")]
    TooLarge,
    /// The response differs from the documentation.
    #[error("a response of moysklad is invalid: {0}")]
    InvalidResponse(String),
    /// The pagination of the assortment does not end.
    #[error("the assortment of moysklad repeats a page or has more than {MAX_PAGES} pages")]
    EndlessAssortment,
    /// The report contains no readable quantity.
    #[error(
        "the report of moysklad has no stock for any of the {products} products with {field}: it \
         leaves out products that are being recalculated or that the user may not see"
    )]
    NoStock {
        /// Number of products in use with a SKU.
        products: usize,
        /// Field that contains the SKU.
        field: &'static str,
    },
    /// The changes are too old; a snapshot must be read.
    #[error("changes since {0} were requested, but moysklad keeps changes for 24 hours only")]
    ChangesTooOld(DateTime<Utc>),
    /// The receiver of the rows is gone.
    #[error(transparent)]
    Cancelled(#[from] DeliveryCancelled),
}
