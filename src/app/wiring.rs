//! Conversion of the configuration into the settings of each module.

use std::sync::Arc;

use lifecycle::Clock;
use market_api::partner::wire::MarketAddress;
use stock::ShopId;
use stock_import::VariantPolicy;
use stock_import::delivery_guard::GuardLimits;
use stock_import::stock_rules::SourceRules;

use super::reload::ShopCredentials;
use crate::config::{Config, IMPORT_SOURCE, ShopConfig};
use crate::ingest::Origin;
use crate::migrator::{MarketTarget, Mode, RestoreFn, RestoredState, selftest};
use crate::ops;
use crate::partner_api;
use crate::push_api::stocks_handler as push_api;
use crate::sources::{
    AbsentPolicy, DuplicatePolicy, ShopSources, SourcePolicy, SourceWarehouses, import_source,
};
use crate::store::ShopIdentity;
use crate::telemetry::Alarms;

/// Returns what the Market limits together, for each shop: its campaign, or its business.
pub(super) fn budgets(config: &Config) -> impl Iterator<Item = (ShopId, String)> {
    shops_with_ids(config).map(|(id, shop)| {
        let budget = match &shop.address {
            MarketAddress::Campaign { id } => format!("campaign {id}"),
            MarketAddress::Business { id, .. } => format!("business {id}"),
        };
        (id, budget)
    })
}

/// Returns the function that reads the state of a shop's worker from notes.
pub(super) fn restore_worker(
    (config, keys): (&Config, Vec<ShopIdentity>),
    may_send: bool,
    (clock, alarms): (Clock, Alarms),
) -> RestoreFn {
    let campaign = |shop: &ShopConfig| {
        let may_call_market = may_send && shop.migrate != Mode::Off;
        may_call_market.then(|| selftest::campaign_location(&config.market_url, shop.campaign))
    };
    let campaigns: Vec<Option<String>> = config.shops.iter().map(campaign).collect();
    Arc::new(move |shop, notes| {
        let (key, campaign) = (&keys[shop.index()], &campaigns[shop.index()]);
        RestoredState::from_notes(
            notes,
            (shop, key),
            campaign.as_deref(),
            clock.now(),
            &alarms,
        )
    })
}

/// Returns the identity of a shop. Its target text changes exactly if the stock goes to another
/// place on the Market.
pub(super) fn shop_key(shop: &ShopConfig, market_url: &str) -> ShopIdentity {
    let target = format!("{market_url} {}", shop.address);
    ShopIdentity {
        name: shop.name.clone(),
        target,
        warehouses: shop.warehouses.clone(),
    }
}

fn shops_with_ids(config: &Config) -> impl Iterator<Item = (ShopId, &ShopConfig)> {
    (0..).map(ShopId).zip(&config.shops)
}

pub(super) fn targets(
    config: &Config,
    restored_states: Vec<RestoredState>,
) -> Vec<(MarketTarget, RestoredState)> {
    shops_with_ids(config)
        .zip(restored_states)
        .filter(|((_, shop), _)| shop.migrate != Mode::Off)
        .map(|((id, shop), restored)| {
            let target = MarketTarget {
                shop: id,
                name: shop.name.clone(),
                address: shop.address.clone(),
                warehouses: match &shop.address {
                    MarketAddress::Campaign { .. } => shop.warehouses.clone(),
                    MarketAddress::Business { warehouses, .. } => warehouses.clone(),
                },
                mode: shop.migrate,
                campaign: shop.campaign,
                keys: shop.api_keys.clone(),
                parallel: shop.parallel,
                limit_share: shop.limit_share,
            };
            (target, restored)
        })
        .collect()
}

pub(super) fn push_shops(
    config: &Config,
    credentials: &[ShopCredentials],
) -> Vec<push_api::PushShop> {
    shops_with_ids(config)
        .zip(credentials)
        .map(|((id, shop), credentials)| push_api::PushShop {
            id,
            name: shop.name.clone(),
            base_path: shop.base_path.clone(),
            tokens: credentials.push_tokens.clone(),
            warehouses: shop.warehouses.clone(),
            unknown_sku: shop.unknown_sku,
            unavailable_status: shop.unavailable_status,
        })
        .collect()
}

pub(super) fn partner_shops(
    config: &Config,
    credentials: &[ShopCredentials],
) -> Vec<partner_api::PartnerShop> {
    shops_with_ids(config)
        .zip(credentials)
        .map(|((id, shop), credentials)| partner_api::PartnerShop {
            id,
            name: shop.name.clone(),
            campaigns: std::iter::once(shop.campaign)
                .chain(shop.feed_campaigns.clone())
                .collect(),
            feed_keys: credentials.feed_keys.clone(),
            warehouses: shop.warehouses.clone(),
            business: shop.business,
            partner_warehouses: shop.partner_warehouses.clone(),
        })
        .collect()
}

/// Returns the sources of each shop. The last one receives imports.
pub(super) fn source_plans(config: &Config) -> Vec<ShopSources> {
    shops_with_ids(config)
        .map(|(id, shop)| {
            let import = import_source(SourcePolicy {
                name: IMPORT_SOURCE.to_owned(),
                origin: Origin::Import,
                scope: None,
                absent: AbsentPolicy::Keep,
                warehouses: SourceWarehouses::Unset,
                limits: GuardLimits::default(),
                rules: SourceRules::default(),
                mapping: Vec::new(),
                duplicates: DuplicatePolicy::default(),
                read_settings_text: String::new(),
                variants: VariantPolicy::default(),
            });
            ShopSources {
                shop: id,
                name: shop.name.clone(),
                sources: shop.sources.iter().cloned().chain([import]).collect(),
                rules: shop.rules.clone(),
            }
        })
        .collect()
}

/// Returns the shop settings that the operator sees.
pub(super) fn ops_shop(shop: &ShopConfig) -> ops::OpsShop {
    ops::OpsShop {
        name: shop.name.clone(),
        campaign: shop.campaign,
        address: shop.address.to_string(),
        mode: shop.migrate,
    }
}
