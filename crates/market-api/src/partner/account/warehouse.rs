//! Warehouses of an account, as the v2 and v3 methods list them.

use serde::Deserialize;

/// Warehouse as listed by `POST /v2/businesses/{businessId}/warehouses`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MarketWarehouse {
    /// Id in the requests of the push API.
    pub id: u64,
    /// Name of the warehouse.
    pub name: Option<String>,
    /// Campaign that sells from the warehouse.
    pub campaign_id: Option<u64>,
    /// True if the warehouse offers express delivery.
    pub express: Option<bool>,
    /// Group of the warehouse; absent if it belongs to none.
    pub group_info: Option<WarehouseGroup>,
    /// Status; present because the request asks for it.
    pub status: Option<MarketWarehouseStatus>,
}

impl MarketWarehouse {
    /// Returns the name, or an empty text.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Returns the id of the warehouse's group.
    #[must_use]
    pub fn group(&self) -> Option<u64> {
        self.group_info.as_ref().map(|group| group.id)
    }

    /// Returns true if the seller has disabled the warehouse.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        let status = self.status.as_ref();
        status.is_some_and(|it| it.status == "DISABLED_MANUALLY")
    }
}

/// Group of warehouses that share one stock.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct WarehouseGroup {
    /// Id of the group. No setting takes it.
    pub id: u64,
    /// Name of the group.
    pub name: Option<String>,
}

/// Status of a warehouse.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct MarketWarehouseStatus {
    /// `DISABLED_MANUALLY` or `OTHER`.
    #[serde(default)]
    pub status: String,
}

/// Warehouse with the id of the v3 methods.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct MarketPartnerWarehouse {
    /// Id for `partnerWarehouseId` in updates by business.
    pub id: u64,
    /// Name of the warehouse.
    pub name: Option<String>,
}
