//! Wire format of a read-back by campaign, and the shapes that it shares with that by business.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Filters of a read-back. Unknown members are ignored.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CampaignReadbackRequest {
    /// True for archived offers only; otherwise only offers that are not archived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// True for offers with stock only, false for those without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has_stocks: Option<bool>,
    /// Exactly these 1 to 500 SKUs, on one page, archived or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer_ids: Option<Vec<String>>,
    /// Only offers of this warehouse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stocks_warehouse_id: Option<u64>,
}

/// Response to a read-back by either method.
#[derive(Debug, Deserialize, Serialize)]
pub struct ReadbackResponse<T> {
    /// `OK` or `ERROR`.
    pub status: String,
    /// Page; absent on errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<T>,
}

/// Page of a read-back.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct CampaignReadbackResult {
    /// Token of the next page.
    #[serde(default)]
    pub paging: ResponsePaging,
    /// Warehouses with their offers; may include the Market's own return warehouse.
    pub warehouses: Vec<WarehouseOffers>,
}

/// Pagination of a response.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponsePaging {
    /// Value of `page_token` for the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// Offers of one warehouse.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WarehouseOffers {
    /// Warehouse id.
    pub warehouse_id: u64,
    /// Offers on this page.
    pub offers: Vec<WarehouseOffer>,
}

/// Offer of a read-back.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WarehouseOffer {
    /// SKU.
    pub offer_id: String,
    /// Counts by type.
    pub stocks: Vec<OfferStock>,
    /// Time of the last update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<DateTime<Utc>>,
}

/// Count of one type.
#[derive(Debug, Deserialize, Serialize)]
pub struct OfferStock {
    /// Type: `AVAILABLE` can be ordered, `FIT` includes reserved pieces, `FREEZE` is reserved.
    #[serde(rename = "type")]
    pub kind: String,
    /// Number of pieces.
    pub count: i64,
}
