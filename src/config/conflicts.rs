//! Rules between settings that are each valid.

use std::collections::{BTreeMap, BTreeSet};

use super::fault::ConfigFault;
use super::{Config, ShopConfig};
use crate::sources;

/// Returns the conflicts between all settings.
pub(super) fn conflicts(config: &Config) -> Vec<ConfigFault> {
    let mut faults = service_conflicts(config);
    faults.extend(shop_conflicts(&config.shops));
    faults.extend(channel_conflicts(config));
    faults
}

fn service_conflicts(config: &Config) -> Vec<ConfigFault> {
    let mut faults = Vec::new();
    let ops_listen = config.ops_listen;
    if config.listen == ops_listen && config.listen.port() != 0 {
        let text = format!(" is \"{ops_listen}\": listen has it already");
        faults.push(ConfigFault::of("ops_listen", &text));
    }
    if !ops_listen.ip().is_loopback() && config.ops_password.is_none() {
        let text = format!(
            " is \"{ops_listen}\", which others can reach: an address other than loopback needs a \
             password; set ops_password_file, or ops_listen = \"127.0.0.1:{}\"",
            ops_listen.port()
        );
        faults.push(ConfigFault::of("ops_listen", &text));
    }
    if let Some(file) = &config.ca_file
        && let Err(error) = std::fs::File::open(file)
    {
        let text = format!(", {}, cannot be read: {error}", file.display());
        faults.push(ConfigFault::of("ca_file", &text));
    }
    faults
}

fn shop_conflicts(shops: &[ShopConfig]) -> Vec<ConfigFault> {
    let mut faults = Vec::new();
    let mut names = BTreeMap::new();
    let mut base_path_warehouses = BTreeMap::new();
    let mut campaigns = BTreeMap::new();
    let mut business_warehouses = BTreeMap::new();
    let mut path_owners = BTreeMap::new();
    for (index, shop) in shops.iter().enumerate() {
        let mut add = |key: &str, text: String| {
            faults.push(ConfigFault::of(&format!("shops[{index}].{key}"), &text));
        };
        let mut source_names = BTreeSet::new();
        for (source, config) in shop.sources.iter().enumerate() {
            let name = &config.policy.name;
            if !source_names.insert(name) {
                let text = format!(" is '{name}': another one has that name already");
                add(&format!("sources[{source}].name"), text);
            }
        }
        for path in exchange_paths(&shop.sources) {
            if let Some(other) = path_owners.insert(path, index) {
                let text = format!(" holds the path {path}: shops[{other}] has it already");
                add("sources", text);
            }
        }
        if let Some(other) = names.insert(&shop.name, index) {
            let text = format!(" is '{}': shops[{other}] has that name already", shop.name);
            add("name", text);
        }
        for warehouse in &shop.warehouses {
            if let Some(other) = base_path_warehouses.insert((&shop.base_path, warehouse), index) {
                let text = format!(
                    " holds {warehouse}: shops[{other}] lists it already under the same base_path"
                );
                add("warehouses", text);
            }
        }
        for warehouse in shop.business.iter().flat_map(|_| &shop.partner_warehouses) {
            if let Some(other) = business_warehouses.insert((shop.business, warehouse), index) {
                let text = format!(
                    " holds {warehouse}: shops[{other}] has it already in the same business"
                );
                add("partner_warehouses", text);
            }
        }
        for campaign in std::iter::once(&shop.campaign).chain(&shop.feed_campaigns) {
            if let Some(other) = campaigns.insert(campaign, index) {
                let text =
                    format!(" or feed_campaigns holds {campaign}: shops[{other}] has it already");
                add("campaign", text);
            }
        }
    }
    faults
}

/// Returns the conflicts between channels, and between channels and shops.
fn channel_conflicts(config: &Config) -> Vec<ConfigFault> {
    let mut faults = Vec::new();
    let mut names = BTreeMap::new();
    for (index, channel) in config.notify.iter().enumerate() {
        let mut add = |key: &str, text: String| {
            faults.push(ConfigFault::of(&format!("notify[{index}].{key}"), &text));
        };
        if let Some(other) = names.insert(&channel.name, index) {
            let text = format!(
                " is '{}': notify[{other}] has that name already",
                channel.name
            );
            add("name", text);
        }
        for shop in &channel.policy.shops {
            if !config.shops.iter().any(|known| known.name == *shop) {
                let text = format!(" holds {shop}: no [[shops]] table has that name");
                add("shops", text);
            }
        }
    }
    faults
}

/// URL paths under which 1C exchanges data.
fn exchange_paths(sources: &[sources::Config]) -> impl Iterator<Item = &str> {
    sources
        .iter()
        .filter_map(|source| source.kind.exchange_path())
}
