use crate::config::{Config, IMPORT, ShopConfig};
use crate::ingest::Origin;
use crate::legacy::server as legacy;
use crate::migrator::{Memory, Mode, Target};
use crate::ops;
use crate::partner::server as partner;
use crate::partner::wire::Address;
use crate::sources::guard::Limits;
use crate::sources::rules::SourceRules;
use crate::sources::{Absent, Duplicates, Plan, Taking, Variants, Warehouses, import_source};
use crate::stock::ShopId;
use crate::store::ShopKey;

/// Where a shop's stock goes, in words that change exactly if the Market's copy is another.
pub(super) fn shop_key(shop: &ShopConfig, market_url: &str) -> ShopKey {
    let target = format!("{market_url} {}", shop.address);
    ShopKey {
        name: shop.name.clone(),
        target,
        warehouses: shop.warehouses.clone(),
    }
}

fn ids(config: &Config) -> impl Iterator<Item = (ShopId, &ShopConfig)> {
    (0..).map(ShopId).zip(&config.shops)
}

pub(super) fn targets(config: &Config, memories: &[Memory]) -> Vec<(Target, Memory)> {
    ids(config)
        .zip(memories)
        .filter(|((_, shop), _)| shop.migrate != Mode::Off)
        .map(|((id, shop), memory)| {
            let target = Target {
                shop: id,
                name: shop.name.clone(),
                address: shop.address.clone(),
                warehouses: match &shop.address {
                    Address::Campaign { .. } => shop.warehouses.clone(),
                    Address::Business { warehouses, .. } => warehouses.clone(),
                },
                mode: shop.migrate,
                campaign: shop.campaign,
                keys: shop.api_keys.clone(),
                parallel: shop.parallel,
                limit_share: shop.limit_share,
            };
            (target, memory.clone())
        })
        .collect()
}

pub(super) fn legacy_shops(config: &Config) -> Vec<legacy::Shop> {
    ids(config)
        .map(|(id, shop)| legacy::Shop {
            id,
            name: shop.name.clone(),
            base_path: shop.base_path.clone(),
            tokens: shop.push_tokens.clone(),
            warehouses: shop.warehouses.clone(),
            unknown_sku: shop.unknown_sku,
            unavailable_status: shop.unavailable_status,
        })
        .collect()
}

pub(super) fn partner_shops(config: &Config) -> Vec<partner::Shop> {
    ids(config)
        .map(|(id, shop)| partner::Shop {
            id,
            name: shop.name.clone(),
            campaigns: std::iter::once(shop.campaign)
                .chain(shop.feed_campaigns.clone())
                .collect(),
            feed_keys: shop.feed_keys.clone(),
            warehouses: shop.warehouses.clone(),
            business: shop.business,
            partner_warehouses: shop.partner_warehouses.clone(),
        })
        .collect()
}

/// What feeds each shop: its sources, and last what is handed over by hand.
pub(super) fn feeds(config: &Config) -> Vec<Plan> {
    ids(config)
        .map(|(id, shop)| {
            let by_hand = import_source(Taking {
                name: IMPORT.to_owned(),
                origin: Origin::Import,
                scope: None,
                absent: Absent::Keep,
                warehouses: Warehouses::Unsaid,
                limits: Limits::default(),
                rules: SourceRules::default(),
                mapping: Vec::new(),
                duplicates: Duplicates::default(),
                reading: String::new(),
                variants: Variants::default(),
            });
            Plan {
                shop: id,
                name: shop.name.clone(),
                sources: shop.sources.iter().cloned().chain([by_hand]).collect(),
                rules: shop.rules.clone(),
            }
        })
        .collect()
}

/// A shop as the operator sees it.
pub(super) fn shown_shop(shop: &ShopConfig) -> ops::Shop {
    ops::Shop {
        name: shop.name.clone(),
        campaign: shop.campaign,
        address: shop.address.to_string(),
        mode: shop.migrate,
    }
}
