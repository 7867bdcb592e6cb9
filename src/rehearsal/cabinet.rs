use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use compact_str::CompactString;

use super::market::{CampaignConfig, HOME_BUSINESS, MarketConfig};
use super::meter::{Meter, Whose};
use super::shelf::Shelf;

/// One campaign: who it is, its stock, and what it has used of its limits.
#[derive(Debug)]
pub(super) struct Campaign {
    pub(super) config: CampaignConfig,
    pub(super) meter: Arc<Meter>,
    /// Its warehouse's own, or the one of the warehouse's group.
    pub(super) shelf: Arc<Shelf>,
    hidden: Mutex<BTreeSet<CompactString>>,
}

impl Campaign {
    pub(super) fn id(&self) -> u64 {
        self.config.id
    }

    pub(super) fn business(&self) -> u64 {
        business(&self.config)
    }

    pub(super) fn opens_to(&self, key: &str) -> bool {
        self.config.keys.iter().any(|own| own == key)
    }

    /// Its hidden offers; held for a look or a change.
    pub(super) fn hidden(&self) -> MutexGuard<'_, BTreeSet<CompactString>> {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One seller's cabinet: its campaigns, and what it has used of the limits of its own.
#[derive(Debug)]
pub(super) struct Business {
    pub(super) meter: Arc<Meter>,
    /// In order of their numbers.
    pub(super) campaigns: Vec<Arc<Campaign>>,
}

impl Business {
    pub(super) fn opens_to(&self, key: &str) -> bool {
        self.campaigns.iter().any(|campaign| campaign.opens_to(key))
    }

    pub(super) fn has_groups(&self) -> bool {
        self.campaigns
            .iter()
            .any(|campaign| campaign.config.group.is_some())
    }

    /// The campaigns that sell from a warehouse.
    pub(super) fn selling_from(&self, warehouse: u64) -> impl Iterator<Item = &Arc<Campaign>> {
        self.campaigns
            .iter()
            .filter(move |campaign| campaign.config.warehouse == warehouse)
    }
}

/// Everybody a Market knows.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) campaigns: BTreeMap<u64, Arc<Campaign>>,
    pub(super) businesses: BTreeMap<u64, Business>,
}

/// Where a campaign's stock is; within a business, the same place is the same stock.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
enum Place {
    Warehouse(u64),
    Group(u64),
}

impl Registry {
    pub(super) fn open(config: &MarketConfig) -> Self {
        let mut shelves = BTreeMap::new();
        let mut campaigns = BTreeMap::new();
        for own in &config.campaigns {
            let group = own.group.as_ref().map(|group| Place::Group(group.id));
            let place = group.unwrap_or(Place::Warehouse(own.warehouse));
            let shelf = || Arc::new(Shelf::new(own.group.is_some(), config.visible_after));
            let shelf: &Arc<Shelf> = shelves.entry((business(own), place)).or_insert_with(shelf);
            let campaign = Campaign {
                config: own.clone(),
                meter: Arc::new(Meter::new(Whose::Campaign(own.id), config.parallel)),
                shelf: Arc::clone(shelf),
                hidden: Mutex::default(),
            };
            campaigns.insert(own.id, Arc::new(campaign));
        }
        let mut businesses = BTreeMap::new();
        for campaign in campaigns.values() {
            let id = campaign.business();
            let business: &mut Business = businesses.entry(id).or_insert_with(|| Business {
                meter: Arc::new(Meter::new(Whose::Business(id), config.parallel)),
                campaigns: Vec::new(),
            });
            business.campaigns.push(Arc::clone(campaign));
        }
        Self {
            campaigns,
            businesses,
        }
    }

    pub(super) fn knows_key(&self, key: &str) -> bool {
        self.campaigns
            .values()
            .any(|campaign| campaign.opens_to(key))
    }

    pub(super) fn meters(&self) -> impl Iterator<Item = &Meter> {
        let campaigns = self.campaigns.values().map(|campaign| &*campaign.meter);
        campaigns.chain(self.businesses.values().map(|business| &*business.meter))
    }
}

fn business(config: &CampaignConfig) -> u64 {
    if config.business == 0 {
        HOME_BUSINESS
    } else {
        config.business
    }
}
