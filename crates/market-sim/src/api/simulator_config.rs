//! Configuration of the simulator (`MarketSimulator` in `api/mod.rs`): limits, campaigns, keys
//! with scopes, and optional behaviour.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use lifecycle::Clock;

/// Business id of campaigns whose [`CampaignConfig::business`] is 0.
///
/// It differs from the campaign ids of rehearsals, so that a mix-up of the two is noticed.
pub const DEFAULT_BUSINESS_ID: u64 = 900_000;

/// Configuration of a simulator.
#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// Clock of the simulator.
    pub clock: Clock,
    /// Campaigns of all businesses.
    pub campaigns: Vec<CampaignConfig>,
    /// Scopes of a key. Keys without an entry have all scopes.
    pub key_scopes: BTreeMap<String, Vec<SimKeyScope>>,
    /// Most SKUs of a campaign in updates or in read-backs within any 60 seconds.
    pub skus_per_minute: usize,
    /// Most updates of a business within any 60 seconds.
    pub business_updates_per_minute: usize,
    /// Most read-backs of a business within any 60 seconds.
    pub business_readbacks_per_minute: usize,
    /// Most parallel requests of a campaign, or of a business.
    pub max_parallel: usize,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Reserved pieces of every SKU. They count as `FIT`, not as `AVAILABLE`.
    pub reserved: u32,
    /// Return warehouse of the Market, which read-backs list before the seller's.
    pub return_warehouse: Option<u64>,
    /// Makes some pages of a read-back shorter than requested, although more pages follow.
    pub short_pages: bool,
    /// Delay until read-backs show an accepted update.
    pub visibility_delay: Duration,
    /// SKUs that the shop sells; `None` means all. Other SKUs are acknowledged but never shown.
    pub catalogue: Option<HashSet<String>>,
    /// Rejects `PUT …/offers/stocks` for campaigns of businesses without warehouse groups.
    pub campaign_method_needs_groups: bool,
}

impl SimulatorConfig {
    /// Creates a configuration with the documented limits and no campaigns.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            campaigns: Vec::new(),
            key_scopes: BTreeMap::new(),
            skus_per_minute: 100_000,
            business_updates_per_minute: 50,
            business_readbacks_per_minute: 500,
            max_parallel: 4,
            max_body_bytes: 512 * 1024,
            reserved: 0,
            return_warehouse: None,
            short_pages: false,
            visibility_delay: Duration::ZERO,
            catalogue: None,
            campaign_method_needs_groups: false,
        }
    }

    /// Adds a campaign with one key.
    #[must_use]
    pub fn with_campaign(mut self, id: u64, warehouse: u64, key: &str) -> Self {
        let campaign = CampaignConfig::new(id, warehouse, vec![key.to_owned()]);
        self.campaigns.push(campaign);
        self
    }

    /// Sets the scopes of a key.
    #[must_use]
    pub fn with_key_scopes(mut self, key: &str, scopes: &[SimKeyScope]) -> Self {
        self.key_scopes.insert(key.to_owned(), scopes.to_vec());
        self
    }

    pub(super) fn scopes_of(&self, key: &str) -> &[SimKeyScope] {
        let scopes = self.key_scopes.get(key);
        scopes.map_or(&[SimKeyScope::AllMethods], Vec::as_slice)
    }

    pub(super) fn sells(&self, sku: &str) -> bool {
        let catalogue = self.catalogue.as_ref();
        catalogue.is_none_or(|catalogue| catalogue.contains(sku))
    }
}

/// Configuration of a campaign.
///
/// Campaigns of a business share one stock if they have the same warehouse or warehouse group.
#[derive(Clone, Debug, Default)]
pub struct CampaignConfig {
    /// Campaign id, as in the path.
    pub id: u64,
    /// Warehouse id.
    pub warehouse: u64,
    /// Keys with access to the campaign.
    pub keys: Vec<String>,
    /// Business id; 0 means [`DEFAULT_BUSINESS_ID`].
    pub business: u64,
    /// Domain of the shop.
    pub domain: String,
    /// Placement type.
    pub placement: Placement,
    /// API availability. Only an available campaign accepts stock methods.
    pub availability: Availability,
    /// Warehouse group, if the warehouse has one.
    pub group: Option<SimWarehouseGroup>,
}

impl CampaignConfig {
    /// Creates an available `FBS` campaign of the business [`DEFAULT_BUSINESS_ID`] without a group.
    #[must_use]
    pub fn new(id: u64, warehouse: u64, keys: Vec<String>) -> Self {
        Self {
            id,
            warehouse,
            keys,
            domain: format!("shop-{id}.example"),
            ..Self::default()
        }
    }

    /// Moves the campaign to another business.
    #[must_use]
    pub fn in_business(mut self, business: u64) -> Self {
        self.business = business;
        self
    }

    /// Puts the campaign's warehouse into a group.
    #[must_use]
    pub fn in_group(mut self, id: u64, name: &str) -> Self {
        self.group = Some(SimWarehouseGroup {
            id,
            name: name.to_owned(),
        });
        self
    }
}

/// Group of warehouses that share one stock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SimWarehouseGroup {
    /// Group id.
    pub id: u64,
    /// Name that warehouse lists show.
    pub name: String,
}

/// Placement type of a campaign. Source: `PlacementType`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, strum::Display)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Placement {
    /// Seller stores, Market delivers.
    #[default]
    Fbs,
    /// Market stores and delivers.
    Fby,
    /// Seller stores and delivers.
    Dbs,
    /// Market delivers for other shops.
    Laas,
}

impl Placement {
    /// Returns true if the `/v3` warehouse list contains warehouses of this type. Its
    /// `WarehouseProgramType` has only programs with a warehouse of the seller.
    pub(super) fn has_partner_warehouse(self) -> bool {
        matches!(self, Self::Fbs | Self::Dbs)
    }
}

/// API availability of a campaign. Source: `ApiAvailabilityStatusType`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, strum::Display)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Availability {
    /// API is enabled.
    #[default]
    Available,
    /// Disabled after 90 days without offers on sale.
    DisabledByInactivity,
    /// Disabled without an active contract.
    DisabledByNoActiveContract,
    /// Disabled by a person.
    ManuallyDisabled,
    /// Disabled because the shop has no placement type.
    DisabledByNoPlacementType,
}

/// Scope of a key. Source: `ApiKeyScopeType`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, strum::Display)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the Market's own names describe the scopes")]
pub enum SimKeyScope {
    AllMethods,
    AllMethodsReadOnly,
    InventoryAndOrderProcessing,
    InventoryAndOrderProcessingReadOnly,
    Pricing,
    PricingReadOnly,
    OffersAndCardsManagement,
    OffersAndCardsManagementReadOnly,
    Promotion,
    PromotionReadOnly,
    FinanceAndAccounting,
    Communication,
    SettingsManagement,
    SuppliesManagementReadOnly,
}

impl SimKeyScope {
    /// Scopes that allow changes of stock and of hidden offers.
    pub(super) const WRITE: &[Self] = &[Self::AllMethods, Self::OffersAndCardsManagement];

    /// Scopes that allow reading stock and hidden offers.
    pub(super) const READ: &[Self] = &[
        Self::AllMethods,
        Self::AllMethodsReadOnly,
        Self::OffersAndCardsManagement,
        Self::OffersAndCardsManagementReadOnly,
    ];

    /// Scopes that allow reading the warehouse lists.
    pub(super) const WAREHOUSES: &[Self] = &[
        Self::AllMethods,
        Self::AllMethodsReadOnly,
        Self::InventoryAndOrderProcessing,
        Self::InventoryAndOrderProcessingReadOnly,
    ];
}
