//! Campaigns and businesses of the simulator, built from its configuration.
//!
//! Campaigns of one business share a stock if they have the same warehouse or warehouse group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use compact_str::CompactString;
use parking_lot::Mutex;

use super::api::{CampaignConfig, DEFAULT_BUSINESS_ID, SimulatorConfig};
use super::quota::{QuotaOwner, QuotaTracker};
use super::warehouse_stock::SimWarehouseStock;

/// Campaign with its stock and its used quota.
#[derive(Debug)]
pub(crate) struct SimCampaign {
    pub(crate) config: CampaignConfig,
    pub(crate) quota: Arc<QuotaTracker>,
    /// Stock of the campaign's warehouse, or of its warehouse group.
    pub(crate) stock: Arc<SimWarehouseStock>,
    pub(crate) hidden_offers: Mutex<BTreeSet<CompactString>>,
}

impl SimCampaign {
    pub(crate) fn id(&self) -> u64 {
        self.config.id
    }

    pub(crate) fn business_id(&self) -> u64 {
        business_id(&self.config)
    }

    pub(crate) fn accepts_key(&self, key: &str) -> bool {
        self.config.keys.iter().any(|accepted| accepted == key)
    }
}

/// Business of a seller, with its campaigns and the used quota of the business methods.
#[derive(Debug)]
pub(crate) struct SimBusiness {
    pub(crate) quota: Arc<QuotaTracker>,
    /// Campaigns in ascending order of their ids.
    pub(crate) campaigns: Vec<Arc<SimCampaign>>,
}

impl SimBusiness {
    pub(crate) fn accepts_key(&self, key: &str) -> bool {
        let mut campaigns = self.campaigns.iter();
        campaigns.any(|campaign| campaign.accepts_key(key))
    }

    pub(crate) fn has_groups(&self) -> bool {
        let mut campaigns = self.campaigns.iter();
        campaigns.any(|campaign| campaign.config.group.is_some())
    }

    /// Returns the campaigns that sell from a warehouse.
    pub(crate) fn selling_from(&self, warehouse: u64) -> impl Iterator<Item = &Arc<SimCampaign>> {
        let campaigns = self.campaigns.iter();
        campaigns.filter(move |campaign| campaign.config.warehouse == warehouse)
    }
}

/// All campaigns and businesses by id.
#[derive(Debug)]
pub(crate) struct AccountRegistry {
    pub(crate) campaigns: BTreeMap<u64, Arc<SimCampaign>>,
    pub(crate) businesses: BTreeMap<u64, SimBusiness>,
}

/// Location of a campaign's stock. Campaigns of one business with equal locations share the stock.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
enum StockLocation {
    Warehouse(u64),
    Group(u64),
}

impl AccountRegistry {
    pub(crate) fn new(config: &SimulatorConfig) -> Self {
        let mut stocks = BTreeMap::new();
        let mut campaigns = BTreeMap::new();
        let new_quota = |owner| Arc::new(QuotaTracker::new(owner, config.max_parallel));
        for campaign in &config.campaigns {
            let location = match &campaign.group {
                Some(group) => StockLocation::Group(group.id),
                None => StockLocation::Warehouse(campaign.warehouse),
            };
            let (is_grouped, delay) = (campaign.group.is_some(), config.visibility_delay);
            let new_stock = || Arc::new(SimWarehouseStock::new(is_grouped, delay));
            let stock: &Arc<SimWarehouseStock> = stocks
                .entry((business_id(campaign), location))
                .or_insert_with(new_stock);
            let sim_campaign = SimCampaign {
                config: campaign.clone(),
                quota: new_quota(QuotaOwner::Campaign(campaign.id)),
                stock: Arc::clone(stock),
                hidden_offers: Mutex::default(),
            };
            campaigns.insert(campaign.id, Arc::new(sim_campaign));
        }
        let mut businesses = BTreeMap::new();
        for campaign in campaigns.values() {
            let id = campaign.business_id();
            let business: &mut SimBusiness = businesses.entry(id).or_insert_with(|| SimBusiness {
                quota: new_quota(QuotaOwner::Business(id)),
                campaigns: Vec::new(),
            });
            business.campaigns.push(Arc::clone(campaign));
        }
        Self {
            campaigns,
            businesses,
        }
    }

    pub(crate) fn knows_key(&self, key: &str) -> bool {
        let mut campaigns = self.campaigns.values();
        campaigns.any(|campaign| campaign.accepts_key(key))
    }

    pub(crate) fn quotas(&self) -> impl Iterator<Item = &QuotaTracker> {
        let campaigns = self.campaigns.values().map(|campaign| &*campaign.quota);
        campaigns.chain(self.businesses.values().map(|business| &*business.quota))
    }
}

fn business_id(config: &CampaignConfig) -> u64 {
    if config.business == 0 {
        DEFAULT_BUSINESS_ID
    } else {
        config.business
    }
}
