//! What the operator decides: defaults, under the file, under the environment.
//!
//! Every fault is found before any is told. The only room that reads the environment and the
//! files of secrets; secrets print as `***`.

mod reader;
mod setting_list;
mod source_settings;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::StatusCode;
use chrono::{NaiveDate, TimeDelta};

use self::reader::SettingsReader;
pub use self::reader::read_secret;
pub use self::setting_list::{SETTINGS, SHOP_SETTINGS, SOURCE_SETTINGS, Setting};
pub use self::source_settings::IMPORT_SOURCE;
use crate::auth_failures::Network;
use crate::http::secret::Secret;
use crate::http::{ClientConfig, Trust};
use crate::migrator::Mode;
use crate::partner_api::wire::MarketAddress;
use crate::push_api::server::UnknownSku;
use crate::sources::stock_rules::ShopRules;
use crate::telemetry::{LogFormat, parse_filter};

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the Market and the seller call.
    pub listen: SocketAddr,
    /// Where the operator looks; loopback unless set otherwise.
    pub ops_listen: SocketAddr,
    /// Names under which `ops_listen` is called, besides its own address and localhost.
    pub ops_hosts: Vec<String>,
    /// The store's directory.
    pub store: PathBuf,
    /// The Market.
    pub market_url: String,
    /// A file of further certificate authorities to trust when calling the Market.
    pub ca_file: Option<PathBuf>,
    /// Which installation this is: a copy of the store elsewhere must not send. Empty if
    /// nothing tells.
    pub instance: String,
    /// The address under which the Market reaches us, for checks.
    pub public_url: Option<String>,
    /// How often the Market's copy is read back; `None` for never.
    pub verify_every: Option<Duration>,
    /// How long the Market may take to show what it took.
    pub grace: TimeDelta,
    /// For how long a source may be silent.
    pub stale_after: TimeDelta,
    /// When the push API ends, for display.
    pub cutoff: NaiveDate,
    /// Most connections at a time on the public listener.
    pub max_connections: usize,
    /// Connections the Market's and the seller's listener has open from one source address;
    /// `None` is no limit.
    pub max_connections_per_address: Option<usize>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// The filter of log lines, see [`parse_filter`].
    pub log_filter: String,
    /// At least one.
    pub shops: Vec<ShopConfig>,
}

/// One shop: one stock list of the seller.
#[derive(Clone, Debug)]
pub struct ShopConfig {
    /// In logs, metrics and the store; never changes.
    pub name: String,
    /// The Market's numbers of the warehouses that share this stock.
    pub warehouses: Vec<u64>,
    /// Their numbers in the methods by business.
    pub partner_warehouses: Vec<u64>,
    /// What stands before `/stocks`.
    pub base_path: String,
    /// Under which the Market asks: one, or two while one replaces the other.
    pub push_tokens: Vec<Secret>,
    /// With which the seller feeds the shop.
    pub feed_keys: Vec<Secret>,
    /// Where the stock is forwarded to, and under which the seller feeds it.
    pub campaign: u64,
    /// Other campaigns under which the seller may feed the same stock.
    pub feed_campaigns: Vec<u64>,
    /// The cabinet, if it is known.
    pub business: Option<u64>,
    /// How the Market is told.
    pub address: MarketAddress,
    /// With which we call the Market; empty only if nothing is forwarded.
    pub api_keys: Vec<Secret>,
    /// The files the tokens and keys above were read from.
    pub secret_files: Vec<PathBuf>,
    /// Whether stock is forwarded.
    pub migrate: Mode,
    /// Requests at a time.
    pub parallel: usize,
    /// Our part of the campaign's limit.
    pub limit_share: f64,
    /// About SKUs never heard of.
    pub unknown_sku: UnknownSku,
    /// Said to the Market while there is nothing to say.
    pub unavailable_status: StatusCode,
    /// Where stock comes from besides the drop-in.
    pub sources: Vec<crate::sources::Config>,
    /// What is made of what they say.
    pub rules: ShopRules,
}

/// Why there is no configuration: every fault of it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

impl Config {
    /// Reads a file, under this process's environment.
    ///
    /// # Errors
    /// Every fault found, each with its key, its value and the rule.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| ConfigError(vec![format!("cannot read {}: {e}", path.display())]))?;
        let base = path.parent().unwrap_or(Path::new(""));
        // A variable that is not Unicode is not ours.
        let unicode_pair = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let mut config = Self::parse(
            &text,
            std::env::vars_os().filter_map(unicode_pair).collect(),
            base,
        )?;
        if config.instance.is_empty() {
            // No such file in most containers: then only a name that was set can tell.
            let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
            // What images hold until their first start, the same in all: no name either.
            config.instance = Some(id.trim())
                .filter(|id| *id != "uninitialized")
                .unwrap_or_default()
                .to_owned();
        }
        Ok(config)
    }

    /// Reads a text, under these variables; relative paths are taken from `base`.
    ///
    /// # Errors
    /// Every fault found, each with its key, its value and the rule.
    pub fn parse(
        text: &str,
        environment: BTreeMap<String, String>,
        base: &Path,
    ) -> Result<Self, ConfigError> {
        let table: toml::Table = text
            .parse()
            .map_err(|error| ConfigError(vec![describe_syntax(text, &error)]))?;
        let mut reader = SettingsReader::new(table, environment, base, SETTINGS);
        let config = read_config(&mut reader);
        let mut errors = reader.finish();
        if let Some(config) = &config {
            errors.extend(config.own_conflicts());
            errors.extend(shop_conflicts(&config.shops));
        }
        match config {
            Some(config) if errors.is_empty() => Ok(config),
            Some(_) | None => Err(ConfigError(errors)),
        }
    }
}

impl Config {
    /// How the Market is called. A house that calls nobody over TLS starts on a machine
    /// without certificates too.
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

    /// What is wrong with settings that are each well.
    fn own_conflicts(&self) -> Vec<String> {
        let mut errors = Vec::new();
        if self.listen == self.ops_listen && self.listen.port() != 0 {
            errors.push(format!(
                "ops_listen is \"{}\": listen has it already",
                self.ops_listen
            ));
        }
        if let Some(file) = &self.ca_file
            && let Err(error) = std::fs::File::open(file)
        {
            errors.push(format!(
                "ca_file, {}, cannot be read: {error}",
                file.display()
            ));
        }
        errors
    }
}

/// Where the file is no TOML, and why; not the line itself, in which a secret may stand.
fn describe_syntax(text: &str, error: &toml::de::Error) -> String {
    let before = error
        .span()
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    format!(
        "line {}: {}",
        before.matches('\n').count() + 1,
        error.message()
    )
}

/// `None` if a setting without a default could not be read; its fault is with the reader.
fn read_config(reader: &mut SettingsReader<'_>) -> Option<Config> {
    let shops: Vec<Option<ShopConfig>> = reader
        .tables("shops", "name", SHOP_SETTINGS)
        .iter_mut()
        .map(read_shop)
        .collect();
    if shops.is_empty() {
        reader.add_error("shops: there is none, at least one [[shops]] table is needed");
    }
    let listen = reader.take("listen", |text| text.parse().ok());
    let ops_listen = reader.take("ops_listen", |text| text.parse().ok());
    let ops_hosts = reader.list("ops_hosts", parse_host);
    let store = reader.path("store");
    let market_url = reader.take("market_url", parse_market_url);
    let ca_file = reader.optional_path("ca_file");
    let instance = reader.take("instance", parse_instance);
    let public_url = reader.optional("public_url", parse_market_url);
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
        store: store?,
        market_url: market_url?,
        ca_file,
        instance: instance?,
        public_url,
        verify_every: verify_every.map(|hours| (hours > 0).then(|| hours_to_duration(hours)))?,
        grace: TimeDelta::seconds(grace?.try_into().ok()?),
        stale_after: TimeDelta::hours(stale_after?.try_into().ok()?),
        cutoff: cutoff?,
        max_connections: max_connections?,
        max_connections_per_address: max_per_address.map(|max| (max > 0).then_some(max))?,
        trusted_proxies: trusted_proxies?,
        log_format: log_format?,
        log_filter: log_filter?,
        shops: shops.into_iter().collect::<Option<_>>()?,
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
    let migrate = reader.take("migrate", Mode::parse);
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
    // A shop that is fed by its sources needs no key for a program.
    let feed_keys = reader.chosen_secrets(["feed_key", "feed_key_2"], sources.is_empty());
    // A shop that forwards nothing needs no key for it.
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

// === Rules of single values ===

fn parse_positive(text: &str) -> Option<u64> {
    text.parse().ok().filter(|n| *n > 0)
}

fn in_range(min: usize, max: usize) -> impl Fn(&str) -> Option<usize> {
    move |text| text.parse().ok().filter(|n| (min..=max).contains(n))
}

fn hours_to_duration(hours: usize) -> Duration {
    Duration::from_secs(hours as u64 * 3600)
}

fn parse_name(text: &str) -> Option<String> {
    let is_valid = (1..=40).contains(&text.len())
        && text.chars().all(is_plain)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    is_valid.then(|| text.to_owned())
}

fn parse_instance(text: &str) -> Option<String> {
    (text.len() <= 60 && text.chars().all(is_plain)).then(|| text.to_owned())
}

fn is_plain(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_'
}

/// A host name or an IP address, without a port.
fn parse_host(text: &str) -> Option<String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let is_name = (1..=253).contains(&text.len()) && text.chars().all(is_plain);
    (bare.parse::<std::net::IpAddr>().is_ok() || is_name).then(|| bare.to_ascii_lowercase())
}

fn parse_base_path(text: &str) -> Option<String> {
    if text.is_empty() || text == "/" {
        return Some(String::new());
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let segments: Vec<&str> = text.strip_prefix('/')?.split('/').collect();
    let is_valid = segments.iter().all(|segment| {
        !segment.is_empty() && segment.chars().all(is_plain) && *segment != "." && *segment != ".."
    });
    // `…/campaigns/1/offers` would take the drop-in's own path.
    let is_partner_api_path = segments.contains(&"campaigns") || segments.contains(&"businesses");
    (is_valid && !is_partner_api_path).then(|| text.to_owned())
}

/// Reads an address that may be given a key: HTTPS, or HTTP to this very machine.
///
/// A rehearsal Market has no certificate, and elsewhere the key would travel in clear.
#[must_use]
pub fn parse_market_url(text: &str) -> Option<String> {
    let url = reqwest::Url::parse(text).ok()?;
    let is_bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let is_loopback = match url.host_str()?.trim_matches(['[', ']']) {
        "localhost" => true,
        host => host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback()),
    };
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback);
    (is_bare && is_safe).then(|| text.trim_end_matches('/').to_owned())
}

// === Rules between shops ===

fn shop_conflicts(shops: &[ShopConfig]) -> Vec<String> {
    let mut errors = Vec::new();
    let mut names = BTreeMap::new();
    let mut base_path_warehouses = BTreeMap::new();
    let mut campaigns = BTreeMap::new();
    let mut business_warehouses = BTreeMap::new();
    let mut exchange_paths = BTreeMap::new();
    for (index, shop) in shops.iter().enumerate() {
        errors.extend(source_settings::source_conflicts(index, &shop.sources));
        for path in source_settings::exchange_paths(&shop.sources) {
            if let Some(other) = exchange_paths.insert(path, index) {
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

// === The effective configuration, as a file ===

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "listen = \"{}\"", self.listen)?;
        writeln!(f, "ops_listen = \"{}\"", self.ops_listen)?;
        writeln!(f, "ops_hosts = {:?}", self.ops_hosts)?;
        writeln!(f, "store = {:?}", self.store.display().to_string())?;
        writeln!(f, "market_url = {:?}", self.market_url)?;
        if let Some(file) = &self.ca_file {
            writeln!(f, "ca_file = {:?}", file.display().to_string())?;
        }
        writeln!(f, "instance = {:?}", self.instance)?;
        if let Some(url) = &self.public_url {
            writeln!(f, "public_url = {url:?}")?;
        }
        writeln!(
            f,
            "verify_hours = {}",
            self.verify_every.map_or(0, |every| every.as_secs() / 3600)
        )?;
        writeln!(f, "grace_seconds = {}", self.grace.num_seconds())?;
        writeln!(f, "stale_hours = {}", self.stale_after.num_hours())?;
        writeln!(f, "cutoff = \"{}\"", self.cutoff)?;
        writeln!(f, "max_connections = {}", self.max_connections)?;
        let per_address = self.max_connections_per_address.unwrap_or(0);
        writeln!(f, "max_connections_per_address = {per_address}")?;
        let proxies: Vec<String> = self
            .trusted_proxies
            .iter()
            .map(Network::to_string)
            .collect();
        writeln!(f, "trusted_proxies = {proxies:?}")?;
        let format = match self.log_format {
            LogFormat::Auto => "auto",
            LogFormat::Json => "json",
            LogFormat::Text => "text",
        };
        writeln!(f, "log_format = \"{format}\"")?;
        writeln!(f, "log_filter = {:?}", self.log_filter)?;
        self.shops.iter().try_for_each(|shop| write!(f, "\n{shop}"))
    }
}

impl fmt::Display for ShopConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[shops]]")?;
        writeln!(f, "name = {:?}", self.name)?;
        writeln!(f, "warehouses = {:?}", self.warehouses)?;
        writeln!(f, "base_path = {:?}", self.base_path)?;
        writeln!(f, "campaign = {}", self.campaign)?;
        writeln!(f, "feed_campaigns = {:?}", self.feed_campaigns)?;
        writeln!(f, "method = \"{}\"", self.address.method_name())?;
        if let Some(business) = self.business {
            writeln!(f, "business = {business}")?;
        }
        writeln!(f, "partner_warehouses = {:?}", self.partner_warehouses)?;
        for (name, secrets) in [
            ("push_token", &self.push_tokens),
            ("feed_key", &self.feed_keys),
            ("api_key", &self.api_keys),
        ] {
            for (secret, suffix) in secrets.iter().zip(["", "_2"]) {
                writeln!(f, "{name}{suffix} = \"{secret:?}\"")?;
            }
        }
        writeln!(f, "migrate = \"{}\"", self.migrate)?;
        writeln!(f, "parallel = {}", self.parallel)?;
        writeln!(f, "limit_share = {:?}", self.limit_share)?;
        let unknown = match self.unknown_sku {
            UnknownSku::Omit => "omit",
            UnknownSku::Zero => "zero",
            UnknownSku::Fail => "fail",
        };
        writeln!(f, "unknown_sku = \"{unknown}\"")?;
        writeln!(
            f,
            "unavailable_status = {}",
            self.unavailable_status.as_u16()
        )?;
        source_settings::write_rules(f, &self.rules)?;
        self.sources
            .iter()
            .try_for_each(|source| source_settings::write_source(f, source))
    }
}

#[cfg(test)]
mod tests;
