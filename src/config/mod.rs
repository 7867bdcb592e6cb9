//! Configuration: the file over the defaults, environment variables over the file.
//!
//! All errors of a configuration are reported at once, each with its place in the file. Only this
//! module reads the environment and the files of secrets. Secrets print as `***`.

mod conflicts;
mod difference;
mod effective;
mod fault;
mod notify_settings;
mod reader;
mod schema;
mod secret_file;
mod service_settings;
mod setting_list;
mod shared_settings;
mod source_kinds;
mod source_settings;
mod template;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::StatusCode;
use chrono::{FixedOffset, NaiveDate, TimeDelta};

pub use self::difference::ConfigDifference;
pub(crate) use self::difference::holds_back;
pub use self::fault::ConfigError;
use self::reader::SettingsReader;
pub use self::schema::schema;
pub use self::secret_file::read_secret;
pub use self::setting_list::{NOTIFY_SETTINGS, SETTINGS, SHOP_SETTINGS, SOURCE_SETTINGS, Setting};
pub use self::shared_settings::SharedSettings;
pub use self::template::{settings_reference, template};
pub use self::values::parse_market_url;
use market_api::partner::wire::MarketAddress;
use stock_import::stock_rules::ShopRules;
use strict_http::secret::{Secret, TokenDigest};
use strict_http::{ClientConfig, Trust};

use crate::auth_failures::Network;
use crate::migrator::Mode;
use crate::notify::ChannelConfig;
use crate::push_api::stocks_handler::UnknownSku;
use crate::store::StoreUrl;
use crate::telemetry::LogFormat;

/// Name of the source of files that are imported by hand.
pub const IMPORT_SOURCE: &str = "import";

/// A complete and valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// File from which it was read; `None` if it was parsed from a text.
    pub path: Option<PathBuf>,
    /// Address of the public listener, for the Market and the seller's programs.
    pub listen: SocketAddr,
    /// Address of the operator listener, by default a loopback address.
    pub ops_listen: SocketAddr,
    /// Host names for `ops_listen`, in addition to its own address and localhost.
    pub ops_hosts: Vec<String>,
    /// Directory of the store.
    pub store: PathBuf,
    /// Database that keeps the stock instead of the directory.
    pub store_url: Option<StoreUrl>,
    /// Name of this process among those that share the database. `None` if it is the only one.
    pub replica: Option<String>,
    /// Name of the replica that reads the sources.
    pub sources_on: Option<String>,
    /// Base URL of the Market's API.
    pub market_url: String,
    /// PEM file of further certificate authorities for outbound requests.
    pub ca_file: Option<PathBuf>,
    /// Name of this installation, because a copy of the store elsewhere must not send. Empty if
    /// neither the setting nor the machine id names it.
    pub instance: String,
    /// Public base URL, which `doctor` calls.
    pub public_url: Option<String>,
    /// Base URL of the operator's pages, for links in notifications.
    pub page_url: Option<String>,
    /// Interval of read-backs. `None` if they are switched off.
    pub verify_every: Option<Duration>,
    /// Time that the Market may take to show a stock that it has accepted.
    pub grace: TimeDelta,
    /// Time without a statement after which an alarm is raised.
    pub stale_after: TimeDelta,
    /// Date on which the push API ends, for reports.
    pub cutoff: NaiveDate,
    /// Password of the operator listener.
    pub ops_password: Option<Secret>,
    /// The password is also needed for metrics and health.
    pub ops_protect_metrics: bool,
    /// Zone of the times on the operator's pages.
    pub time_zone: FixedOffset,
    /// Maximum number of open connections of the public listener.
    pub max_connections: usize,
    /// Maximum number of open connections of the public listener from one client address. `None`
    /// if unlimited.
    pub max_connections_per_address: Option<usize>,
    /// Proxies whose `X-Forwarded-For` names the client.
    pub trusted_proxies: Vec<Network>,
    /// Format of log lines.
    pub log_format: LogFormat,
    /// Filter of log lines, see [`parse_filter`](crate::telemetry::parse_filter).
    pub log_filter: String,
    /// Shops, at least one.
    pub shops: Vec<ShopConfig>,
    /// Channels that send alarms to people.
    pub notify: Vec<ChannelConfig>,
    /// Files from which secrets of the service, its shops, sources and channels were read.
    pub secret_files: Vec<PathBuf>,
    /// All settings in TOML, with secrets as `***`.
    // Digests of all secrets, by key with indexes such as `shops[0].push_token`.
    secret_digests: Vec<(String, TokenDigest)>,
    effective: String,
    shared: SharedSettings,
}

/// One shop: one stock list of the seller.
#[derive(Clone, Debug)]
pub struct ShopConfig {
    /// Name in logs, metrics and the store. It must never change.
    pub name: String,
    /// The Market's ids of the warehouses that share this stock.
    pub warehouses: Vec<u64>,
    /// Ids of the same warehouses in the methods by business.
    pub partner_warehouses: Vec<u64>,
    /// Path before `/stocks`.
    pub base_path: String,
    /// Tokens in the Market's requests: one, or two while one replaces the other.
    pub push_tokens: Vec<Secret>,
    /// Keys with which the seller's programs update the stock.
    pub feed_keys: Vec<Secret>,
    /// Campaign to which the stock is sent, and by which programs update it.
    pub campaign: u64,
    /// Further campaigns by which programs may update the same stock.
    pub feed_campaigns: Vec<u64>,
    /// Id of the cabinet, if it is set.
    pub business: Option<u64>,
    /// API method and address with which stock is sent.
    pub address: MarketAddress,
    /// Api-Keys for the Market. Empty only if nothing is sent.
    pub api_keys: Vec<Secret>,
    /// Sending: on, dry run or off.
    pub migrate: Mode,
    /// Maximum number of parallel requests to the Market.
    pub parallel: usize,
    /// Part of the Market's rate limit that we use, 0.01 to 1.0.
    pub limit_share: f64,
    /// Response for SKUs whose stock was never stated.
    pub unknown_sku: UnknownSku,
    /// Status of the response while the shop has no stock: 500 or 503.
    pub unavailable_status: StatusCode,
    /// Sources of stock in addition to the partner API.
    pub sources: Vec<crate::sources::Config>,
    /// Rules that make one stock of the statements of all sources.
    pub rules: ShopRules,
}

impl Config {
    /// Reads a file and the environment of this process.
    ///
    /// # Errors
    /// All errors found, each with key, value and rule.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            ConfigError::without_place(format!("cannot read {}: {e}", path.display()))
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        // Names and values of our variables are always Unicode.
        let unicode_pair = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let environment = std::env::vars_os().filter_map(unicode_pair).collect();
        // Most containers have no such file. There only the setting names the installation.
        let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        // Images contain this text until their first start, so it does not name a machine.
        let machine = Some(id.trim()).filter(|id| *id != "uninitialized");
        let mut config = Self::read(&text, environment, base, machine.unwrap_or_default())
            .map_err(|error| error.in_file(path))?;
        config.path = Some(path.to_owned());
        Ok(config)
    }

    /// Reads a text and these environment variables. Relative paths start at `base`.
    ///
    /// # Errors
    /// All errors found, each with key, value and rule.
    pub fn parse(
        text: &str,
        environment: BTreeMap<String, String>,
        base: &Path,
    ) -> Result<Self, ConfigError> {
        Self::read(text, environment, base, "")
    }

    /// Reads a configuration. `machine` names the installation if no setting does.
    fn read(
        text: &str,
        environment: BTreeMap<String, String>,
        base: &Path,
        machine: &str,
    ) -> Result<Self, ConfigError> {
        let table: toml::Table = text
            .parse()
            .map_err(|error| ConfigError::syntax(text, &error))?;
        let mut reader = SettingsReader::new(table, environment, base, SETTINGS);
        let config = service_settings::read_config(&mut reader, machine);
        let (effective, secret_digests) = (reader.effective(), reader.secret_digests());
        let secret_files = reader.secret_files();
        let config = config.filter(|_| reader.is_valid());
        let mut faults = reader.finish();
        faults.extend(config.iter().flat_map(conflicts::conflicts));
        match config {
            Some(config) if faults.is_empty() => {
                let mut config = Self {
                    effective,
                    secret_files,
                    secret_digests,
                    ..config
                };
                config.shared = SharedSettings::of(&config, base);
                Ok(config)
            }
            Some(_) | None => Err(ConfigError::new(text, faults)),
        }
    }

    /// Returns the name of the replica that reads the sources, if it is another one.
    #[must_use]
    pub fn sources_elsewhere(&self) -> Option<&str> {
        let own = self.replica.as_ref().filter(|_| self.store_url.is_some())?;
        let other = self.sources_on.as_ref().filter(|other| *other != own);
        other.map(String::as_str)
    }

    /// Returns the settings that all replicas of a database must have in common.
    #[must_use]
    pub fn shared_settings(&self) -> &SharedSettings {
        &self.shared
    }

    /// Settings of the outbound HTTP client.
    ///
    /// A service that makes no TLS request also starts on a machine without certificates.
    #[must_use]
    pub fn outbound(&self) -> ClientConfig {
        let is_called = self.shops.iter().any(|shop| shop.migrate != Mode::Off);
        let trust = if is_called {
            Trust::needed_for(&self.market_url)
        } else {
            Trust::PlainHttpOnly
        };
        ClientConfig {
            trust,
            extra_ca_file: self.ca_file.clone(),
            ..ClientConfig::default()
        }
    }
}

#[cfg(test)]
mod tests;
