//! Reads the settings of the service and of its shops.

use axum::http::StatusCode;
use chrono::TimeDelta;
use market_api::partner::wire::MarketAddress;

use super::reader::SettingsReader;
use super::setting_list::{NOTIFY_SETTINGS, SHOP_SETTINGS, SOURCE_SETTINGS};
use super::values::{
    hours_to_duration, in_range, parse_base_path, parse_host, parse_instance, parse_market_url,
    parse_name, parse_positive, parse_time_zone,
};
use super::{Config, ShopConfig, notify_settings, source_settings};
use crate::auth_failures::Network;
use crate::migrator::Mode;
use crate::notify::ChannelConfig;
use crate::push_api::stocks_handler::UnknownSku;
use crate::telemetry::{LogFormat, parse_filter};

/// Reads the whole file. Returns `None` after an error, which is then in `reader`.
pub(super) fn read_config(reader: &mut SettingsReader<'_>) -> Option<Config> {
    let shops: Vec<Option<ShopConfig>> = reader
        .tables("shops", "name", SHOP_SETTINGS)
        .iter_mut()
        .map(read_shop)
        .collect();
    if shops.is_empty() {
        reader.add_error("shops: there is none, at least one [[shops]] table is needed");
    }
    let time_zone = reader.take("time_zone", parse_time_zone);
    let notify: Vec<Option<ChannelConfig>> = reader
        .tables("notify", "name", NOTIFY_SETTINGS)
        .iter_mut()
        .map(|reader| notify_settings::read_channel(reader, time_zone))
        .collect();
    let listen = reader.take("listen", |text| text.parse().ok());
    let ops_listen = reader.take("ops_listen", |text| text.parse().ok());
    let ops_password = reader.chosen_secrets(["ops_password"], false).pop();
    let ops_protect_metrics = reader.take("ops_protect_metrics", |text| text.parse().ok());
    let ops_hosts = reader.list("ops_hosts", parse_host);
    let store = reader.path("store");
    let market_url = reader.take("market_url", parse_market_url);
    let ca_file = reader.optional_path("ca_file");
    let instance = reader.take("instance", parse_instance);
    let public_url = reader.optional("public_url", parse_market_url);
    let page_url = reader.optional("page_url", parse_market_url);
    let verify_every = reader.take("verify_hours", in_range(0, 168));
    let grace = reader.take("grace_seconds", in_range(0, 86_400));
    let stale_after = reader.take("stale_hours", in_range(1, 720));
    let cutoff = reader.take("cutoff", |text| text.parse().ok());
    let max_connections = reader.take("max_connections", in_range(1, 100_000));
    let max_per_address = reader.take("max_connections_per_address", in_range(0, 100_000));
    let trusted_proxies = reader.list("trusted_proxies", Network::parse);
    let log_format = reader.take("log_format", |text| match text {
        "auto" => Some(LogFormat::Auto),
        "json" => Some(LogFormat::Json),
        "text" => Some(LogFormat::Text),
        _ => None,
    });
    let log_filter = reader.take("log_filter", |text| {
        parse_filter(text).is_ok().then(|| text.to_owned())
    });
    Some(Config {
        listen: listen?,
        ops_listen: ops_listen?,
        ops_hosts: ops_hosts?,
        ops_password,
        ops_protect_metrics: ops_protect_metrics?,
        store: store?,
        market_url: market_url?,
        ca_file,
        instance: instance?,
        public_url,
        page_url,
        verify_every: verify_every.map(|hours| (hours > 0).then(|| hours_to_duration(hours)))?,
        grace: TimeDelta::seconds(grace?.try_into().ok()?),
        stale_after: TimeDelta::hours(stale_after?.try_into().ok()?),
        cutoff: cutoff?,
        time_zone: time_zone?,
        max_connections: max_connections?,
        max_connections_per_address: max_per_address.map(|max| (max > 0).then_some(max))?,
        trusted_proxies: trusted_proxies?,
        log_format: log_format?,
        log_filter: log_filter?,
        shops: shops.into_iter().collect::<Option<_>>()?,
        notify: notify.into_iter().collect::<Option<_>>()?,
    })
}

fn read_shop(reader: &mut SettingsReader<'_>) -> Option<ShopConfig> {
    let name = reader.take("name", parse_name);
    let warehouses = reader.list("warehouses", parse_positive);
    let base_path = reader.take("base_path", parse_base_path);
    let campaign = reader.take("campaign", parse_positive);
    let feed_campaigns = reader.list("feed_campaigns", parse_positive);
    let business = reader.optional("business", parse_positive);
    let partner_warehouses = reader.list("partner_warehouses", parse_positive);
    let is_by_business = reader.take("method", |text| match text {
        "campaign" => Some(false),
        "business" => Some(true),
        _ => None,
    });
    if is_by_business == Some(true) && business.is_none() {
        reader.missing("business");
    }
    let migrate = reader.take("migrate", |text| text.parse().ok());
    let parallel = reader.take(
        "parallel",
        in_range(1, crate::migrator::MAX_PARALLEL_REQUESTS),
    );
    let limit_share = reader.take("limit_share", |text| {
        text.parse()
            .ok()
            .filter(|share| (0.01..=1.0).contains(share))
    });
    let unknown_sku = reader.take("unknown_sku", |text| match text {
        "omit" => Some(UnknownSku::Omit),
        "zero" => Some(UnknownSku::Zero),
        "fail" => Some(UnknownSku::Fail),
        _ => None,
    });
    let unavailable_status = reader.take("unavailable_status", |text| match text {
        "500" => Some(StatusCode::INTERNAL_SERVER_ERROR),
        "503" => Some(StatusCode::SERVICE_UNAVAILABLE),
        _ => None,
    });
    let push_tokens = reader.secrets(["push_token", "push_token_2"], true);
    let first = warehouses
        .as_ref()
        .and_then(|list| list.first().copied())
        .unwrap_or_default();
    let sources: Vec<Option<crate::sources::Config>> = reader
        .tables("sources", "name", SOURCE_SETTINGS)
        .iter_mut()
        .map(|reader| source_settings::read_source(reader, first))
        .collect();
    let rules = source_settings::read_rules(reader);
    // A shop with sources works without a program that updates it.
    let feed_keys = reader.chosen_secrets(["feed_key", "feed_key_2"], sources.is_empty());
    // A shop that sends nothing needs no Api-Key.
    let api_keys = reader.secrets(["api_key", "api_key_2"], migrate != Some(Mode::Off));
    let secret_files = reader.secret_files();
    let warehouses = warehouses?;
    let partner_warehouses = partner_warehouses.filter(|list| !list.is_empty());
    let partner_warehouses = partner_warehouses.unwrap_or_else(|| warehouses.clone());
    let address = match (is_by_business?, business) {
        (false, _) => MarketAddress::Campaign { id: campaign? },
        (true, business) => MarketAddress::Business {
            id: business?,
            warehouses: partner_warehouses.clone(),
        },
    };
    Some(ShopConfig {
        name: name?,
        warehouses,
        partner_warehouses,
        business,
        address,
        base_path: base_path?,
        push_tokens,
        feed_keys,
        campaign: campaign?,
        feed_campaigns: feed_campaigns?,
        api_keys,
        secret_files,
        migrate: migrate?,
        parallel: parallel?,
        limit_share: limit_share?,
        unknown_sku: unknown_sku?,
        unavailable_status: unavailable_status?,
        sources: sources.into_iter().collect::<Option<_>>()?,
        rules: rules?,
    })
}
