//! Rules between settings that are each valid.

use std::collections::{BTreeMap, BTreeSet};

use super::{Config, ShopConfig};
use crate::sources::{self, SourceKind};

/// Returns the conflicts between settings of the service.
pub(super) fn service_conflicts(config: &Config) -> Vec<String> {
    let mut errors = Vec::new();
    if config.listen == config.ops_listen && config.listen.port() != 0 {
        errors.push(format!(
            "ops_listen is \"{}\": listen has it already",
            config.ops_listen
        ));
    }
    if !config.ops_listen.ip().is_loopback() && config.ops_password.is_none() {
        errors.push(format!(
            "ops_listen is \"{}\", which others can reach: an address other than loopback needs a \
             password; set ops_password_file, or ops_listen = \"127.0.0.1:{}\"",
            config.ops_listen,
            config.ops_listen.port()
        ));
    }
    if let Some(file) = &config.ca_file
        && let Err(error) = std::fs::File::open(file)
    {
        errors.push(format!(
            "ca_file, {}, cannot be read: {error}",
            file.display()
        ));
    }
    errors
}

pub(super) fn shop_conflicts(shops: &[ShopConfig]) -> Vec<String> {
    let mut errors = Vec::new();
    let mut names = BTreeMap::new();
    let mut base_path_warehouses = BTreeMap::new();
    let mut campaigns = BTreeMap::new();
    let mut business_warehouses = BTreeMap::new();
    let mut path_owners = BTreeMap::new();
    for (index, shop) in shops.iter().enumerate() {
        errors.extend(source_conflicts(index, &shop.sources));
        for path in exchange_paths(&shop.sources) {
            if let Some(other) = path_owners.insert(path, index) {
                errors.push(format!(
                    "shops[{index}].sources holds the path {path}: shops[{other}] has it already"
                ));
            }
        }
        if let Some(other) = names.insert(&shop.name, index) {
            errors.push(format!(
                "shops[{index}].name is '{}': shops[{other}] has that name already",
                shop.name
            ));
        }
        for warehouse in &shop.warehouses {
            if let Some(other) = base_path_warehouses.insert((&shop.base_path, warehouse), index) {
                errors.push(format!(
                    "shops[{index}].warehouses holds {warehouse}: shops[{other}] lists it \
                     already under the same base_path"
                ));
            }
        }
        for warehouse in shop.business.iter().flat_map(|_| &shop.partner_warehouses) {
            if let Some(other) = business_warehouses.insert((shop.business, warehouse), index) {
                errors.push(format!(
                    "shops[{index}].partner_warehouses holds {warehouse}: shops[{other}] has it \
                     already in the same business"
                ));
            }
        }
        for campaign in std::iter::once(&shop.campaign).chain(&shop.feed_campaigns) {
            if let Some(other) = campaigns.insert(campaign, index) {
                errors.push(format!(
                    "shops[{index}].campaign or feed_campaigns holds {campaign}: shops[{other}] \
                     has it already"
                ));
            }
        }
    }
    errors
}

/// Returns the conflicts between channels, and between channels and shops.
pub(super) fn channel_conflicts(config: &Config) -> Vec<String> {
    let mut errors = Vec::new();
    let mut names = BTreeMap::new();
    for (index, channel) in config.notify.iter().enumerate() {
        if let Some(other) = names.insert(&channel.name, index) {
            errors.push(format!(
                "notify[{index}].name is '{}': notify[{other}] has that name already",
                channel.name
            ));
        }
        for shop in &channel.policy.shops {
            if !config.shops.iter().any(|known| known.name == *shop) {
                errors.push(format!(
                    "notify[{index}].shops holds {shop}: no [[shops]] table has that name"
                ));
            }
        }
    }
    errors
}

/// Returns the conflicts between the sources of one shop.
fn source_conflicts(shop: usize, sources: &[sources::Config]) -> Vec<String> {
    let mut errors = Vec::new();
    let mut names = BTreeSet::new();
    for (index, source) in sources.iter().enumerate() {
        let name = &source.policy.name;
        if !names.insert(name) {
            errors.push(format!(
                "shops[{shop}].sources[{index}].name is '{name}': another one has that name already"
            ));
        }
    }
    errors
}

/// URL paths under which 1C exchanges data.
fn exchange_paths(sources: &[sources::Config]) -> impl Iterator<Item = &str> {
    sources.iter().filter_map(|source| match &source.kind {
        SourceKind::Exchange(exchange) => Some(exchange.path.as_str()),
        SourceKind::Files(_)
        | SourceKind::RemoteFile(_)
        | SourceKind::OldHandler { .. }
        | SourceKind::MoySklad(_)
        | SourceKind::Sql(_)
        | SourceKind::Import => None,
    })
}
