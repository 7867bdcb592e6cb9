use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use crate::clock::Clock;

/// The business of campaigns whose [`CampaignConfig::business`] is 0.
///
/// Far from the numbers that rehearsals give to campaigns: one taken for the other shows.
pub const DEFAULT_BUSINESS_ID: u64 = 900_000;

/// What a rehearsal Market is like.
#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// Tells the Market what time it is.
    pub clock: Clock,
    /// The campaigns it knows.
    pub campaigns: Vec<CampaignConfig>,
    /// What a key may do; one that is not here may do everything.
    pub key_scopes: BTreeMap<String, Vec<SimKeyScope>>,
    /// SKUs a campaign may send in any 60 seconds.
    pub skus_per_minute: usize,
    /// Updates a business may send in any 60 seconds.
    pub business_updates_per_minute: usize,
    /// Read-backs a business may ask for in any 60 seconds.
    pub business_read_backs_per_minute: usize,
    /// Requests a campaign, or a business, may have in flight.
    pub max_parallel: usize,
    /// Largest body of a request.
    pub max_body_bytes: usize,
    /// So many pieces of every SKU are reserved: they count as `FIT`, not as `AVAILABLE`.
    pub reserved: u32,
    /// A return warehouse of the Market's own, listed by read-backs before the seller's.
    pub return_warehouse: Option<u64>,
    /// Pages of a read-back are at times shorter than asked for, though more follow.
    pub short_pages: bool,
    /// So much later than it was taken does an update show in read-backs.
    pub visibility_delay: Duration,
    /// What the shop sells; other SKUs are acknowledged all the same, and never shown.
    pub catalogue: Option<HashSet<String>>,
    /// `PUT …/offers/stocks` is refused to campaigns of businesses without warehouse groups.
    pub campaign_method_needs_groups: bool,
}

impl SimulatorConfig {
    /// A Market with the documented limits and no campaigns.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            campaigns: Vec::new(),
            key_scopes: BTreeMap::new(),
            skus_per_minute: 100_000,
            business_updates_per_minute: 50,
            business_read_backs_per_minute: 500,
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
        self.campaigns
            .push(CampaignConfig::new(id, warehouse, vec![key.to_owned()]));
        self
    }

    /// Sets what a key may do.
    #[must_use]
    pub fn with_key_scopes(mut self, key: &str, scopes: &[SimKeyScope]) -> Self {
        self.key_scopes.insert(key.to_owned(), scopes.to_vec());
        self
    }

    pub(super) fn scopes_of(&self, key: &str) -> &[SimKeyScope] {
        self.key_scopes
            .get(key)
            .map_or(&[SimKeyScope::AllMethods], Vec::as_slice)
    }

    pub(super) fn sells(&self, sku: &str) -> bool {
        self.catalogue
            .as_ref()
            .is_none_or(|catalogue| catalogue.contains(sku))
    }
}

/// One campaign of a rehearsal Market.
///
/// Campaigns of the same business and warehouse keep one stock between them, as do those of
/// the same business and group.
#[derive(Clone, Debug, Default)]
pub struct CampaignConfig {
    /// Its number, as in the path.
    pub id: u64,
    /// The warehouse whose stock it keeps.
    pub warehouse: u64,
    /// The keys that may speak for it.
    pub keys: Vec<String>,
    /// The business it belongs to; 0 stands for [`HOME_BUSINESS`].
    pub business: u64,
    /// The shop's name.
    pub domain: String,
    /// How it delivers.
    pub placement: Placement,
    /// Whether it may be spoken for at all.
    pub availability: Availability,
    /// The group of its warehouse.
    pub group: Option<SimWarehouseGroup>,
}

impl CampaignConfig {
    /// A campaign of [`HOME_BUSINESS`] that delivers `FBS` from a warehouse of its own.
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

    /// The same in another business.
    #[must_use]
    pub fn in_business(mut self, business: u64) -> Self {
        self.business = business;
        self
    }

    /// The same with its warehouse in a group.
    #[must_use]
    pub fn in_group(mut self, id: u64, name: &str) -> Self {
        self.group = Some(SimWarehouseGroup {
            id,
            name: name.to_owned(),
        });
        self
    }
}

/// A group of warehouses that share one stock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SimWarehouseGroup {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
}

/// How a campaign delivers. Source: `PlacementType`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Placement {
    /// The seller stores, the Market delivers.
    #[default]
    Fbs,
    /// The Market stores and delivers.
    Fby,
    /// The seller stores and delivers.
    Dbs,
    /// The Market delivers for other shops.
    Laas,
}

impl Placement {
    /// Whether the methods by business know the program: their `WarehouseProgramType` has only
    /// programs in which the seller keeps the stock.
    pub(super) fn has_partner_warehouse(self) -> bool {
        match self {
            Self::Fbs | Self::Dbs => true,
            Self::Fby | Self::Laas => false,
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fbs => "FBS",
            Self::Fby => "FBY",
            Self::Dbs => "DBS",
            Self::Laas => "LAAS",
        })
    }
}

/// Whether a campaign may be spoken for. Source: `ApiAvailabilityStatusType`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Availability {
    /// It may.
    #[default]
    Available,
    /// Nothing was on sale for 90 days.
    DisabledByInactivity,
    /// There is no contract in force.
    DisabledByNoActiveContract,
    /// Somebody switched it off.
    ManuallyDisabled,
    /// The shop takes part in no programme.
    DisabledByNoPlacementType,
}

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Available => "AVAILABLE",
            Self::DisabledByInactivity => "DISABLED_BY_INACTIVITY",
            Self::DisabledByNoActiveContract => "DISABLED_BY_NO_ACTIVE_CONTRACT",
            Self::ManuallyDisabled => "MANUALLY_DISABLED",
            Self::DisabledByNoPlacementType => "DISABLED_BY_NO_PLACEMENT_TYPE",
        })
    }
}

/// What a key may do. Source: `ApiKeyScopeType`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    missing_docs,
    reason = "the Market's own names, which say all there is to say"
)]
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
    /// One of these is needed to change stock, or what is hidden.
    pub(super) const WRITE: &[Self] = &[Self::AllMethods, Self::OffersAndCardsManagement];

    /// One of these is needed to read it.
    pub(super) const READ: &[Self] = &[
        Self::AllMethods,
        Self::AllMethodsReadOnly,
        Self::OffersAndCardsManagement,
        Self::OffersAndCardsManagementReadOnly,
    ];

    /// One of these is needed to see the warehouses.
    pub(super) const WAREHOUSES: &[Self] = &[
        Self::AllMethods,
        Self::AllMethodsReadOnly,
        Self::InventoryAndOrderProcessing,
        Self::InventoryAndOrderProcessingReadOnly,
    ];
}

impl fmt::Display for SimKeyScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AllMethods => "ALL_METHODS",
            Self::AllMethodsReadOnly => "ALL_METHODS_READ_ONLY",
            Self::InventoryAndOrderProcessing => "INVENTORY_AND_ORDER_PROCESSING",
            Self::InventoryAndOrderProcessingReadOnly => "INVENTORY_AND_ORDER_PROCESSING_READ_ONLY",
            Self::Pricing => "PRICING",
            Self::PricingReadOnly => "PRICING_READ_ONLY",
            Self::OffersAndCardsManagement => "OFFERS_AND_CARDS_MANAGEMENT",
            Self::OffersAndCardsManagementReadOnly => "OFFERS_AND_CARDS_MANAGEMENT_READ_ONLY",
            Self::Promotion => "PROMOTION",
            Self::PromotionReadOnly => "PROMOTION_READ_ONLY",
            Self::FinanceAndAccounting => "FINANCE_AND_ACCOUNTING",
            Self::Communication => "COMMUNICATION",
            Self::SettingsManagement => "SETTINGS_MANAGEMENT",
            Self::SuppliesManagementReadOnly => "SUPPLIES_MANAGEMENT_READ_ONLY",
        })
    }
}
