//! Facts about the keys and cabinets at the Market, fetched with timeouts.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use lifecycle::Clock;
use market_api::partner::account::MarketCampaign;
use market_api::partner::client::MarketClient;
use strict_http::secret::Secret;

use crate::config::ShopConfig;
use crate::migrator::Mode;
use crate::setup::account_probe::{AccountProbe, KeyProbe};

/// Maximum number of keys that are checked in parallel. Without a response, each key takes its full
/// timeout.
const PARALLEL: usize = 4;

/// Responses of the Market about the configured keys.
#[derive(Debug)]
pub(super) struct MarketFacts {
    pub(super) keys: Vec<KeyFacts>,
    /// By business id.
    pub(super) accounts: BTreeMap<u64, AccountProbe>,
}

/// Facts about one key, which several shops may use.
#[derive(Debug)]
pub(super) struct KeyFacts {
    pub(super) key: Secret,
    /// Settings with this key, such as `api_key of moscow`.
    pub(super) users: Vec<String>,
    /// True if a shop sends with the key. False if shops only read with it (dry run).
    pub(super) sends: bool,
    pub(super) probe: KeyProbe,
}

pub(super) async fn fetch(
    market: &MarketClient,
    shops: &[&ShopConfig],
    clock: Clock,
) -> MarketFacts {
    let probes = distinct_keys(shops)
        .into_iter()
        .map(async |(key, users, sends)| {
            let probe = KeyProbe::fetch(market, &key, clock).await;
            KeyFacts {
                key,
                users,
                sends,
                probe,
            }
        });
    let keys = futures_util::stream::iter(probes)
        .buffered(PARALLEL)
        .collect()
        .await;
    let mut facts = MarketFacts {
        keys,
        accounts: BTreeMap::new(),
    };
    for shop in shops {
        for business in facts.businesses(shop) {
            if facts.accounts.contains_key(&business) {
                continue;
            }
            if let Some(key) = facts.warehouse_key(shop) {
                let account = AccountProbe::fetch(market, &key, business).await;
                facts.accounts.insert(business, account);
            }
        }
    }
    facts
}

/// Returns each key once, with the names of its settings, and true if a shop sends with it.
pub(super) fn distinct_keys(shops: &[&ShopConfig]) -> Vec<(Secret, Vec<String>, bool)> {
    let mut keys: Vec<(Secret, Vec<String>, bool)> = Vec::new();
    for shop in shops {
        for (key, setting) in shop.api_keys.iter().zip(["api_key", "api_key_2"]) {
            let user = format!("{setting} of {}", shop.name);
            let sends = shop.migrate == Mode::On;
            match keys.iter_mut().find(|(known, _, _)| known == key) {
                Some((_, users, any_sends)) => {
                    users.push(user);
                    *any_sends |= sends;
                }
                None => keys.push((key.clone(), vec![user], sends)),
            }
        }
    }
    keys
}

impl MarketFacts {
    pub(super) fn keys_of<'a>(
        &'a self,
        shop: &'a ShopConfig,
    ) -> impl Iterator<Item = &'a KeyFacts> {
        self.keys
            .iter()
            .filter(|facts| shop.api_keys.contains(&facts.key))
    }

    /// Returns the shop's campaign, if any of its keys sees it.
    pub(super) fn campaign<'a>(&'a self, shop: &'a ShopConfig) -> Option<&'a MarketCampaign> {
        let mut campaigns = self.keys_of(shop).flat_map(|facts| facts.probe.campaigns());
        campaigns.find(|campaign| campaign.id == shop.campaign)
    }

    /// Returns the cabinets to list: the campaign's and the configured one.
    ///
    /// If no key sees the campaign, the cabinet of a visible campaign is used, so that the kind of
    /// the configured id can be explained.
    fn businesses(&self, shop: &ShopConfig) -> BTreeSet<u64> {
        let campaigns = || self.keys_of(shop).flat_map(|facts| facts.probe.campaigns());
        let is_configured = |campaign: &&MarketCampaign| campaign.id == shop.campaign;
        let seen = campaigns()
            .find(is_configured)
            .or_else(|| campaigns().next());
        seen.and_then(MarketCampaign::business_id)
            .into_iter()
            .chain(shop.business)
            .collect()
    }

    /// Returns the shop's cabinet: the campaign's own, or else the configured one.
    pub(super) fn account<'a>(&'a self, shop: &'a ShopConfig) -> Option<(u64, &'a AccountProbe)> {
        let business = self
            .campaign(shop)
            .and_then(MarketCampaign::business_id)
            .or(shop.business)?;
        Some((business, self.accounts.get(&business)?))
    }

    /// Returns a key of the shop that may list warehouses, or else any key that works.
    fn warehouse_key(&self, shop: &ShopConfig) -> Option<Secret> {
        let may_list = |facts: &&KeyFacts| {
            facts
                .probe
                .key
                .as_ref()
                .is_ok_and(|info| info.may_list_warehouses())
        };
        let works = |facts: &&KeyFacts| facts.probe.campaigns.is_ok();
        let best = self
            .keys_of(shop)
            .find(may_list)
            .or_else(|| self.keys_of(shop).find(works));
        best.map(|facts| facts.key.clone())
    }
}
