//! Wire format of `…/v2/campaigns/{campaignId}/offers/stocks`: shared types, limits and addresses.
//!
//! Sources: the Market's OpenAPI description, state of 2026-07-17, and its pages on limits and
//! errors, 2026.

pub mod business;
mod readback;
mod update_body;
mod validate_update;

use std::fmt;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

pub use self::readback::{
    CampaignReadbackRequest, CampaignReadbackResult, OfferStock, ReadbackResponse, ResponsePaging,
    WarehouseOffer, WarehouseOffers,
};
pub use self::update_body::UpdateBody;
pub use self::validate_update::MAX_ERRORS;
pub(super) use self::validate_update::parse_timestamp;
pub use self::validate_update::parse_update;

/// Most SKUs in one update. Source: `UpdateStocksRequest.skus.maxItems`.
pub const MAX_SKUS_PER_UPDATE: usize = 2_000;

/// Largest accepted update, in bytes. The largest legal one has about 3.25 MB: 2,000 SKUs of 255
/// characters, each written as `\uXXXX`.
pub const MAX_UPDATE_BYTES: usize = 4 * 1024 * 1024;

/// SKUs that a campaign may send per minute. Source: `updateStocks`, "100,000 products per minute".
pub const SKUS_PER_MINUTE: u32 = 100_000;

/// Update requests by business that an account may send per minute. Source: change log,
/// 2026-07-29.
pub const UPDATES_PER_MINUTE: u32 = 50;

/// Most SKUs in the filter of a read-back. Source: `GetWarehouseStocksRequest.offerIds`.
pub const MAX_OFFER_IDS: usize = 500;

/// Largest page of a read-back by either method. A larger `limit` is reduced to it without an
/// error. Source: `PageLimit100Truncate`, change log of 2026-08-04.
pub const MAX_PAGE_SIZE: usize = 100;

/// Page size of a read-back without a `limit`. Source: as for [`MAX_PAGE_SIZE`].
pub const DEFAULT_PAGE_SIZE: usize = 50;

/// Longest time that an `updatedAt` may be in the future. A later date would freeze its SKU until
/// then.
pub const MAX_FUTURE_SKEW: TimeDelta = TimeDelta::minutes(5);

/// Id of a shop's stock on the Market, which also decides the method of updates and read-backs.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum MarketAddress {
    /// `…/v2/campaigns/{campaignId}/offers/stocks`: the campaign decides the warehouse.
    Campaign {
        /// Campaign id; any one of a warehouse group.
        id: u64,
    },
    /// `…/v3/businesses/{businessId}/offers/stocks`: for accounts without warehouse groups.
    Business {
        /// Business id of the account.
        id: u64,
        /// Warehouses that share this stock. Each one gets every update.
        warehouses: Vec<u64>,
    },
}

impl MarketAddress {
    /// Returns the business id if the method is `business`.
    #[must_use]
    pub fn business_id(&self) -> Option<u64> {
        match self {
            Self::Campaign { .. } => None,
            Self::Business { id, .. } => Some(*id),
        }
    }

    /// Returns the beginning of the paths of its methods, without slashes around it.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Campaign { id } => format!("v2/campaigns/{id}"),
            Self::Business { id, .. } => format!("v3/businesses/{id}"),
        }
    }
}

impl fmt::Display for MarketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Campaign { id } => write!(f, "campaign {id}"),
            Self::Business { id, warehouses } => {
                write!(f, "business {id} warehouses {warehouses:?}")
            }
        }
    }
}

/// Error in a response of the partner API.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ApiError {
    /// Stable error code, such as `BAD_REQUEST`.
    pub code: String,
    /// Text for people. It is the only place where the Market names a SKU.
    #[serde(default)]
    pub message: String,
}

impl ApiError {
    /// Creates an error about the content of a request.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self {
            code: "BAD_REQUEST".to_owned(),
            message: message.into(),
        }
    }
}

/// Envelope of every response of the partner API.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ApiResponse {
    /// `OK` or `ERROR`.
    pub status: String,
    /// Errors; absent on success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<ApiError>>,
}

/// Response with a result; other members are ignored.
#[derive(Deserialize)]
pub(super) struct ResultEnvelope<T> {
    pub(super) result: T,
}

impl ApiResponse {
    /// Creates a success response.
    #[must_use]
    pub fn ok() -> Self {
        Self {
            status: "OK".to_owned(),
            errors: None,
        }
    }

    /// Creates an error response.
    #[must_use]
    pub fn error(errors: Vec<ApiError>) -> Self {
        Self {
            status: "ERROR".to_owned(),
            errors: Some(errors),
        }
    }
}
