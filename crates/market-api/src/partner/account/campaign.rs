//! Campaigns and accounts, as `GET /v2/campaigns` lists them.

use serde::Deserialize;

/// Campaign: the API's name for a shop.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MarketCampaign {
    /// Id in the paths of the API. It differs from the shop id shown in the seller's account.
    pub id: u64,
    /// Name of the shop.
    pub domain: Option<String>,
    /// Account that the campaign belongs to.
    pub business: Option<MarketBusiness>,
    /// Sales model: `FBS`, `DBS`, `FBY` or `LAAS`.
    pub placement_type: Option<String>,
    /// `AVAILABLE`, or the reason why the API is disabled for it.
    pub api_availability: Option<String>,
}

impl MarketCampaign {
    /// Returns the name of the shop, or an empty text.
    #[must_use]
    pub fn name(&self) -> &str {
        self.domain.as_deref().unwrap_or_default()
    }

    /// Returns the id of the account, if the response has it.
    #[must_use]
    pub fn business_id(&self) -> Option<u64> {
        self.business.as_ref().and_then(|business| business.id)
    }

    /// Returns the reason why stock cannot be sent to the campaign, or `None` if it can.
    #[must_use]
    pub fn sending_obstacle(&self) -> Option<String> {
        if let Some(kind @ ("FBY" | "LAAS")) = self.placement_type.as_deref() {
            return Some(format!(
                "it sells by {kind}: its goods are in the Market's own warehouses, and the Market \
                counts them itself"
            ));
        }
        let availability = self.api_availability.as_deref();
        let availability = availability.filter(|it| *it != "AVAILABLE")?;
        let reason = match availability {
            "DISABLED_BY_INACTIVITY" => ": it has had no offers for more than 90 days",
            "DISABLED_BY_NO_ACTIVE_CONTRACT" => ": it has no active contract",
            "MANUALLY_DISABLED" => ": its API access was disabled manually",
            "DISABLED_BY_NO_PLACEMENT_TYPE" => ": it has no placement type",
            _ => "",
        };
        Some(format!(
            "the API is disabled for it ({availability}){reason}"
        ))
    }
}

/// Account ("cabinet") of a seller, which contains campaigns.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct MarketBusiness {
    /// Id in the paths of the API.
    pub id: Option<u64>,
    /// Name of the account.
    pub name: Option<String>,
}
