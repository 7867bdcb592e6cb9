//! Makes the configuration of the service and of its shops from their tables.

use std::time::Duration;

use chrono::TimeDelta;
use market_api::partner::wire::MarketAddress;
use strict_http::secret::Secret;

use super::notify_settings::read_channel;
use super::reader::SettingsReader;
use super::setting_list::{
    NOTIFY_SETTINGS, SHOP_SETTINGS, SOURCE_SETTINGS, ServiceTable, ShopTable,
};
use super::source_settings::{adjustments, read_source};
use super::values::{CampaignOrBusiness, MarketId, SecretText};
use super::{Config, SharedSettings, ShopConfig};
use crate::migrator::Mode;
use crate::sources::operator_files;
use crate::store::StoreUrl;
use stock_import::stock_rules::ShopRules;

/// Reads the whole file. `machine` names the installation if no setting does. Returns `None` after
/// a fault, which is then in `reader`.
pub(super) fn read_config(reader: &mut SettingsReader<'_>, machine: &str) -> Option<Config> {
    let mut table = ServiceTable::read(reader);
    reader.resolve(&mut table.store);
    table
        .ca_file
        .iter_mut()
        .for_each(|file| reader.resolve(file));
    if table.instance.0.is_empty() {
        if table.store_url_file.is_some() {
            reader.fault_of_needed(
                "instance",
                "store_url_file",
                " is empty: with store_url_file it must be set, because the machine may change \
                 while the database stays",
            );
        }
        machine.clone_into(&mut table.instance.0);
    }
    reader.show(&table, None);
    let shop_readers = reader.tables("shops", SHOP_SETTINGS).iter_mut();
    let shops: Vec<Option<ShopConfig>> = shop_readers.map(read_shop).collect();
    if shops.is_empty() {
        reader.fault(
            "shops",
            ": there is none, at least one [[shops]] table is needed",
        );
    }
    let channel_readers = reader.tables("notify", NOTIFY_SETTINGS).iter_mut();
    let notify: Vec<_> = channel_readers
        .map(|reader| read_channel(reader, &table.time_zone))
        .collect();
    check_replica(reader, &table);
    let (address, listen_address) = (table.store_url_file, table.store_listen_url_file);
    let store_url = read_store_url(reader, address, listen_address);
    let max_per_address = table.max_connections_per_address.0 as usize;
    let verify_hours = u64::from(table.verify_hours.0);
    Some(Config {
        path: None,
        listen: table.listen,
        ops_listen: table.ops_listen,
        ops_hosts: table.ops_hosts.into_iter().map(|host| host.0).collect(),
        ops_password: secrets([table.ops_password_file]).pop(),
        ops_protect_metrics: table.ops_protect_metrics,
        store: table.store.0,
        store_url,
        replica: table.replica.map(|name| name.0),
        sources_on: table.sources_on.map(|name| name.0),
        market_url: table.market_url.0,
        ca_file: table.ca_file.map(|file| file.0),
        instance: table.instance.0,
        public_url: table.public_url.map(|url| url.0),
        page_url: table.page_url.map(|url| url.0),
        verify_every: (verify_hours > 0).then(|| Duration::from_hours(verify_hours)),
        grace: TimeDelta::seconds(table.grace_seconds.0.into()),
        stale_after: TimeDelta::hours(table.stale_hours.0.into()),
        cutoff: table.cutoff,
        time_zone: table.time_zone.0,
        max_connections: table.max_connections.0 as usize,
        max_connections_per_address: (max_per_address > 0).then_some(max_per_address),
        trusted_proxies: table
            .trusted_proxies
            .into_iter()
            .map(|proxy| proxy.0)
            .collect(),
        log_format: table.log_format,
        log_filter: table.log_filter.0,
        shops: shops.into_iter().collect::<Option<_>>()?,
        notify: notify.into_iter().collect::<Option<_>>()?,
        effective: String::new(),
        shared: SharedSettings::default(),
        secret_files: Vec::new(),
        secret_digests: Vec::new(),
    })
}

/// Checks that a replica has a database, and that the sources are read by a replica.
fn check_replica(reader: &mut SettingsReader<'_>, table: &ServiceTable) {
    if let Some(name) = &table.replica
        && table.store_url_file.is_none()
    {
        let text = format!(
            " is {:?}, but replicas share a database: set store_url_file, or remove replica",
            name.0
        );
        reader.fault("replica", &text);
    }
    if let Some(name) = &table.sources_on
        && table.replica.is_none()
    {
        let text = format!(
            " is {:?}, but this process has no name: set replica to its name, or remove sources_on",
            name.0
        );
        reader.fault("sources_on", &text);
    }
}

/// Reads the address of the database, with that for notifications.
fn read_store_url(
    reader: &mut SettingsReader<'_>,
    address: Option<SecretText>,
    listen_address: Option<SecretText>,
) -> Option<StoreUrl> {
    let has_store_url = address.is_some();
    let mut read = |key: &str, address: Option<SecretText>| {
        let address = secrets([address]).pop()?;
        let url = StoreUrl::parse(address.expose());
        url.map_err(|error| reader.fault(key, &format!(": the file {error}")))
            .ok()
    };
    let listen_url = read("store_listen_url_file", listen_address);
    let store_url = read("store_url_file", address);
    if listen_url.is_some() && !has_store_url {
        let text = " has no effect without store_url_file: set both, or none";
        reader.fault("store_listen_url_file", text);
    }
    store_url.map(|url| match listen_url {
        Some(listen_url) => url.with_listen_url(listen_url),
        None => url,
    })
}

fn read_shop(reader: &mut SettingsReader<'_>) -> Option<ShopConfig> {
    let mut table = ShopTable::read(reader);
    let is_by_business = table.method == CampaignOrBusiness::Business;
    if is_by_business {
        reader.needed("business", table.business);
    }
    if table.partner_warehouses.is_empty() {
        table.partner_warehouses.clone_from(&table.warehouses);
    }
    let overrides_file = table.overrides_file.as_mut();
    let read_overrides = operator_files::read_overrides;
    let overrides = reader.read_list("overrides_file", overrides_file, read_overrides);
    let has_overrides = !overrides.is_empty();
    let comment = has_overrides.then(|| format!("and rules of {} SKUs", overrides.len()));
    reader.show(&table, comment);
    let push_tokens = secrets([table.push_token_file, table.push_token_2_file]);
    let feed_keys = secrets([table.feed_key_file, table.feed_key_2_file]);
    let api_keys = secrets([table.api_key_file, table.api_key_2_file]);
    reader.needed("push_token_file", push_tokens.first());
    let warehouses = ids(&table.warehouses);
    let source_readers = reader.tables("sources", SOURCE_SETTINGS).iter_mut();
    let sources: Vec<_> = source_readers
        .map(|reader| read_source(reader, table.warehouses[0]))
        .collect();
    // A shop with sources works without a program that updates it.
    if sources.is_empty() {
        reader.needed("feed_key_file", feed_keys.first());
    }
    // A shop that sends nothing needs no Api-Key.
    if table.migrate != Mode::Off {
        reader.needed("api_key_file", api_keys.first());
    }
    let business = table.business.map(MarketId::get);
    let partner_warehouses = ids(&table.partner_warehouses);
    let address = match table.method {
        CampaignOrBusiness::Campaign => MarketAddress::Campaign {
            id: table.campaign.get(),
        },
        CampaignOrBusiness::Business => MarketAddress::Business {
            id: business?,
            warehouses: partner_warehouses.clone(),
        },
    };
    Some(ShopConfig {
        name: table.name.0,
        warehouses,
        partner_warehouses,
        business,
        address,
        base_path: table.base_path.0,
        push_tokens,
        feed_keys,
        campaign: table.campaign.get(),
        feed_campaigns: ids(&table.feed_campaigns),
        api_keys,
        migrate: table.migrate,
        parallel: table.parallel.0 as usize,
        limit_share: table.limit_share.0,
        unknown_sku: table.unknown_sku,
        unavailable_status: table.unavailable_status.0,
        sources: sources.into_iter().collect::<Option<_>>()?,
        rules: ShopRules {
            combine: table.combine,
            adjustments: adjustments(table.buffer, table.zero_below, table.cap),
            overrides,
        },
    })
}

fn ids(ids: &[MarketId]) -> Vec<u64> {
    ids.iter().map(|id| id.get()).collect()
}

fn secrets<const N: usize>(secrets: [Option<SecretText>; N]) -> Vec<Secret> {
    secrets
        .into_iter()
        .flatten()
        .map(|secret| secret.0)
        .collect()
}
