//! The effective configuration in TOML, as `stockbridge check` prints it. Secrets are `***`.

use std::fmt::{self, Write as _};

use market_api::push::client::TokenLocation;
use stock_import::formats::Format;
use stock_import::stock_rules::{Adjustments, ShopRules};
use stock_import::{ReadSettings, VariantPolicy};

use super::notify_settings::write_channel;
use super::{Config, ShopConfig};
use crate::auth_failures::Network;
use crate::push_api::stocks_handler::UnknownSku;
use crate::sources::{self, AbsentPolicy, SourceKind, SourcePolicy, SourceWarehouses, moysklad};
use crate::telemetry::LogFormat;

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "listen = \"{}\"", self.listen)?;
        writeln!(f, "ops_listen = \"{}\"", self.ops_listen)?;
        writeln!(f, "ops_hosts = {:?}", self.ops_hosts)?;
        if let Some(password) = &self.ops_password {
            writeln!(f, "ops_password = \"{password:?}\"")?;
        }
        writeln!(f, "ops_protect_metrics = {}", self.ops_protect_metrics)?;
        writeln!(f, "store = {:?}", self.store.display().to_string())?;
        writeln!(f, "market_url = {:?}", self.market_url)?;
        if let Some(file) = &self.ca_file {
            writeln!(f, "ca_file = {:?}", file.display().to_string())?;
        }
        writeln!(f, "instance = {:?}", self.instance)?;
        if let Some(url) = &self.public_url {
            writeln!(f, "public_url = {url:?}")?;
        }
        if let Some(url) = &self.page_url {
            writeln!(f, "page_url = {url:?}")?;
        }
        writeln!(
            f,
            "verify_hours = {}",
            self.verify_every.map_or(0, |every| every.as_secs() / 3600)
        )?;
        writeln!(f, "grace_seconds = {}", self.grace.num_seconds())?;
        writeln!(f, "stale_hours = {}", self.stale_after.num_hours())?;
        writeln!(f, "cutoff = \"{}\"", self.cutoff)?;
        writeln!(f, "time_zone = \"{}\"", self.time_zone)?;
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
        self.shops
            .iter()
            .try_for_each(|shop| write!(f, "\n{shop}"))?;
        self.notify
            .iter()
            .try_for_each(|channel| write_channel(f, channel))
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
        write_rules(f, &self.rules)?;
        self.sources
            .iter()
            .try_for_each(|source| write_source(f, source))
    }
}

/// Quoted text. TOML reads JSON's escapes, but not those of Rust, for example of a no-break space.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Writes the rules of a shop.
fn write_rules(f: &mut fmt::Formatter<'_>, rules: &ShopRules) -> fmt::Result {
    writeln!(f, "combine = \"{}\"", rules.combine.name())?;
    write_adjustments(f, rules.adjustments)?;
    if !rules.overrides.is_empty() {
        writeln!(f, "# and rules of {} SKUs", rules.overrides.len())?;
    }
    Ok(())
}

fn write_adjustments(f: &mut fmt::Formatter<'_>, adjustments: Adjustments) -> fmt::Result {
    writeln!(
        f,
        "buffer = {}\nzero_below = {}",
        adjustments.buffer, adjustments.zero_below
    )?;
    adjustments
        .cap
        .map_or(Ok(()), |cap| writeln!(f, "cap = {cap}"))
}

/// Writes the table of one source.
fn write_source(f: &mut fmt::Formatter<'_>, source: &sources::Config) -> fmt::Result {
    let sources::Config {
        policy,
        read_settings: reading,
        poll_interval: every,
        kind: source_kind,
    } = source;
    writeln!(
        f,
        "\n[[shops.sources]]\nname = {}\nkind = \"{}\"",
        quoted(&policy.name),
        source_kind.name()
    )?;
    writeln!(f, "every_seconds = {}", every.as_secs())?;
    match source_kind {
        SourceKind::Files(config) => {
            writeln!(f, "path = {}", quoted(&config.path.display().to_string()))?;
            writeln!(
                f,
                "files = \"{}\"",
                if config.is_one_delivery {
                    "together"
                } else {
                    "each"
                }
            )?;
            write_format(f, config.format)?;
        }
        SourceKind::RemoteFile(config) => {
            // A query may hold a token.
            let mut url = config.url.clone();
            if url.query().is_some() {
                url.set_query(Some("***"));
            }
            writeln!(f, "url = {}", quoted(url.as_str()))?;
            if let Some((login, password)) = &config.login {
                writeln!(f, "login = {}\npassword = \"{password:?}\"", quoted(login))?;
            }
            write_format(f, config.format)?;
        }
        SourceKind::OldHandler { handler, skus } => {
            writeln!(
                f,
                "url = {}\ntoken = \"{:?}\"",
                quoted(&handler.url),
                handler.token
            )?;
            let token_in = match handler.token_location {
                TokenLocation::Header => "header",
                TokenLocation::Query => "query",
            };
            writeln!(
                f,
                "token_in = \"{token_in}\"\nask_warehouse = {}",
                handler.warehouse_id
            )?;
            writeln!(
                f,
                "part_skus = {}\nparallel = {}",
                handler.max_skus, handler.parallel_requests
            )?;
            if !skus.is_empty() {
                writeln!(f, "# and {} SKUs to ask for", skus.len())?;
            }
        }
        SourceKind::Exchange(exchange) => {
            writeln!(
                f,
                "path = {}\nlogin = {}",
                quoted(&exchange.path),
                quoted(&exchange.login)
            )?;
            writeln!(f, "password = \"{:?}\"", exchange.password)?;
            writeln!(f, "max_mib = {}", exchange.max_bytes / 1024 / 1024)?;
        }
        SourceKind::MoySklad(config) => {
            writeln!(f, "url = {}", quoted(&config.base_url))?;
            writeln!(f, "stock = \"{}\"", config.stock_type.name())?;
            match &config.credentials {
                moysklad::MoySkladCredentials::Token(token) => {
                    writeln!(f, "token = \"{token:?}\"")?;
                }
                moysklad::MoySkladCredentials::Password { login, password } => {
                    writeln!(f, "login = {}\npassword = \"{password:?}\"", quoted(login))?;
                }
            }
        }
        SourceKind::Sql(config) => {
            writeln!(f, "# database {}\ndatabase = \"***\"", config.url)?;
            writeln!(f, "query = {}", quoted(&config.query))?;
            writeln!(f, "timeout_seconds = {}", config.timeout.as_secs())?;
            if let Some(watermark) = &config.watermark {
                writeln!(f, "watermark = {}", quoted(watermark))?;
            }
        }
        SourceKind::Import => {}
    }
    write_reading(f, reading)?;
    write_policy(f, policy)
}

fn write_format(f: &mut fmt::Formatter<'_>, format: Option<Format>) -> fmt::Result {
    format.map_or(Ok(()), |format| {
        writeln!(f, "format = \"{}\"", format.name())
    })
}

pub(super) fn write_reading(f: &mut fmt::Formatter<'_>, reading: &ReadSettings) -> fmt::Result {
    for (key, field) in [
        ("sku", &reading.sku),
        ("quantity", &reading.quantity),
        ("reserve", &reading.reserve),
        ("warehouse", &reading.warehouse),
        ("updated_at", &reading.updated_at),
        ("sheet", &reading.sheet),
        ("list", &reading.list_path),
    ] {
        field
            .as_ref()
            .map_or(Ok(()), |field| writeln!(f, "{key} = {}", quoted(field)))?;
    }
    let delimiter = match reading.delimiter {
        Some(b';') => Some("semicolon"),
        Some(b',') => Some("comma"),
        Some(b'\t') => Some("tab"),
        Some(_) => Some("bar"),
        None => None,
    };
    delimiter.map_or(Ok(()), |delimiter| {
        writeln!(f, "delimiter = \"{delimiter}\"")
    })?;
    reading.encoding.map_or(Ok(()), |encoding| {
        writeln!(f, "encoding = \"{}\"", encoding.name())
    })?;
    let choice = |is_second: bool, words: [&'static str; 2]| words[usize::from(is_second)];
    writeln!(
        f,
        "fraction = \"{}\"",
        choice(reading.floors_fractions, ["reject", "floor"])
    )?;
    writeln!(
        f,
        "negative = \"{}\"",
        choice(reading.zeroes_negatives, ["reject", "zero"])
    )?;
    writeln!(
        f,
        "unavailable = \"{}\"",
        choice(reading.zeroes_unavailable, ["keep", "zero"])
    )?;
    writeln!(
        f,
        "empty = \"{}\"",
        choice(reading.zeroes_empty_quantities, ["keep", "zero"])
    )?;
    let takes_suspicious = reading.accepts_suspicious_skus;
    let takes_pages = reading.accepts_single_pages;
    writeln!(
        f,
        "suspicious_sku = \"{}\"",
        choice(takes_suspicious, ["reject", "take"])
    )?;
    writeln!(
        f,
        "single_page = \"{}\"",
        choice(takes_pages, ["reject", "take"])
    )?;
    reading.decimal.map_or(Ok(()), |decimal| {
        writeln!(f, "decimal = \"{}\"", decimal.name())
    })?;
    if reading.variants == VariantPolicy::Sum {
        writeln!(f, "variants = \"sum\"")?;
    }
    if reading.accepts_unterminated_row {
        writeln!(f, "unended_row = \"take\"")?;
    }
    if !reading.words.is_empty() {
        let mut words = String::new();
        for (index, (word, quantity)) in reading.words.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let _infallible = write!(words, "{comma}{} = \"{quantity}\"", quoted(word));
        }
        writeln!(f, "words = {{ {words} }}")?;
    }
    Ok(())
}

fn write_policy(f: &mut fmt::Formatter<'_>, policy: &SourcePolicy) -> fmt::Result {
    policy
        .scope
        .map_or(Ok(()), |scope| writeln!(f, "scope = \"{}\"", scope.name()))?;
    let absent = match policy.absent {
        AbsentPolicy::Keep => "keep",
        AbsentPolicy::Zero => "zero",
    };
    writeln!(f, "absent = \"{absent}\"")?;
    match &policy.warehouses {
        SourceWarehouses::Unset => {}
        SourceWarehouses::All => writeln!(f, "warehouses = \"*\"")?,
        SourceWarehouses::Named(names) => {
            let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
            writeln!(f, "warehouses = [{}]", names.join(", "))?;
        }
    }
    writeln!(
        f,
        "places = \"{}\"\npack = {}",
        policy.rules.combine_warehouses.name(),
        policy.rules.pack_size
    )?;
    write_adjustments(f, policy.rules.adjustments)?;
    writeln!(f, "duplicates = \"{}\"", policy.duplicates.name())?;
    if !policy.mapping.is_empty() {
        writeln!(f, "# and what {} words stand for", policy.mapping.len())?;
    }
    let limits = &policy.limits;
    writeln!(
        f,
        "guard_rows = {:?}\nguard_zeros = {:?}",
        limits.min_rows_ratio, limits.max_zeroed_ratio
    )?;
    writeln!(f, "guard_bad_rows = {:?}", limits.max_rejected_ratio)?;
    writeln!(
        f,
        "guard_repeats = {}",
        limits.accept_after_repeats.unwrap_or(0)
    )
}
