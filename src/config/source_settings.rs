use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::time::Duration;

use reqwest::Url;

use super::reader::SettingsReader;
use super::{in_range, parse_positive};
use crate::http::secret::Secret;
use crate::ingest::Origin;
use crate::push_api::client::{OldHandlerConfig, TokenLocation};
use crate::sources::delivery_guard::GuardLimits;
use crate::sources::formats::Format;
use crate::sources::stock_rules::{Adjustments, Combine, ShopRules, SourceRules};
use crate::sources::{
    AbsentPolicy, Config, DecimalMark, DeliveryScope, DuplicatePolicy, ExchangeConfig, Quantity,
    RULES_NAME, ReadSettings, SourceKind, SourcePolicy, SourceWarehouses, VariantPolicy, files,
    http_file, moysklad, operator_files, sql,
};
use crate::stock::MAX_COUNT;

/// What files that are handed over by hand go by.
pub const IMPORT_SOURCE: &str = "import";

/// A million pieces kept back are a mistake.
const MAX_BUFFER: u32 = 1_000_000;

/// The rules over all sources of a shop.
pub(super) fn read_rules(reader: &mut SettingsReader<'_>) -> Option<ShopRules> {
    let combine = reader.take("combine", Combine::parse);
    let adjustments = read_adjustments(reader);
    let file = reader.optional_path("overrides_file");
    let overrides = match file.map(|path| operator_files::read_overrides(&path)) {
        None => Default::default(),
        Some(Ok(overrides)) => overrides,
        Some(Err(error)) => {
            reader.add_error(&format!("overrides_file: {error}"));
            return None;
        }
    };
    Some(ShopRules {
        combine: combine?,
        adjustments: adjustments?,
        overrides,
    })
}

fn read_adjustments(reader: &mut SettingsReader<'_>) -> Option<Adjustments> {
    let number_up_to = |max: u32| move |text: &str| text.parse().ok().filter(|n: &u32| *n <= max);
    let buffer = reader.take("buffer", number_up_to(MAX_BUFFER));
    let below = reader.take("zero_below", number_up_to(MAX_BUFFER));
    let cap = reader.optional("cap", number_up_to(MAX_COUNT));
    Some(Adjustments {
        buffer: buffer?,
        zero_below: below?,
        cap,
    })
}

/// One source; `warehouse` is the Market's number of the shop's first warehouse.
pub(super) fn read_source(reader: &mut SettingsReader<'_>, warehouse: u64) -> Option<Config> {
    let name = reader.take("name", |text| {
        super::parse_name(text).filter(|name| name != RULES_NAME && name != IMPORT_SOURCE)
    });
    let kind = reader.take("kind", |text| {
        ["file", "legacy", "1c", "moysklad", "sql"]
            .into_iter()
            .find(|kind| *kind == text)
    });
    let Some(kind) = kind else {
        // Which of the others there may be, nobody can say.
        reader.ignore_remaining();
        return None;
    };
    let origin = match kind {
        "file" => Origin::File,
        "legacy" => Origin::OldHandler,
        "1c" => Origin::Exchange,
        "moysklad" => Origin::MoySklad,
        _ => Origin::Sql,
    };
    let policy = read_policy(reader, name, origin, kind);
    let reading = read_reading(reader, kind);
    let feed = match kind {
        "file" => read_file(reader),
        "legacy" => read_handler(reader, warehouse),
        "1c" => read_exchange(reader),
        "moysklad" => read_moysklad(
            reader,
            policy.as_ref().map(|policy| &policy.warehouses),
            reading.as_ref(),
        ),
        _ => read_database(reader, policy.as_ref().and_then(|policy| policy.scope)),
    };
    if let (Some(policy), Some(feed)) = (&policy, &feed)
        && policy.absent == AbsentPolicy::Zero
        && policy.scope != Some(DeliveryScope::Snapshot)
        && !states_scope(feed)
    {
        reader.add_error(
            "absent is \"zero\": only a snapshot tells what is absent, so scope must be \
             \"snapshot\", or format \"commerceml\", whose files say it",
        );
        return None;
    }
    let default = match &feed {
        Some(SourceKind::Files(_)) => 5,
        Some(SourceKind::OldHandler { .. }) => 900,
        _ => 300,
    };
    let every = reader
        .optional("every_seconds", in_range(1, 86_400))
        .unwrap_or(default);
    let every = Duration::from_secs(every as u64);
    let (mut policy, reading) = (policy?, reading?);
    policy.read_settings_text = reading_text(&reading);
    if let Some(SourceKind::Sql(sql)) = &feed {
        // Another query may have other columns.
        policy.read_settings_text.push_str(&sql.query);
    }
    policy.variants = reading.variants;
    Some(Config {
        policy,
        read_settings: reading,
        poll_interval: every,
        kind: feed?,
    })
}

/// The settings by which a source is read, as they are written.
fn reading_text(reading: &ReadSettings) -> String {
    struct DisplayReading<'a>(&'a ReadSettings);
    impl fmt::Display for DisplayReading<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_reading(f, self.0)
        }
    }
    DisplayReading(reading).to_string()
}

/// Whether what comes this way says itself whether it is complete.
fn states_scope(feed: &SourceKind) -> bool {
    match feed {
        SourceKind::Files(files::Config { format, .. })
        | SourceKind::RemoteFile(http_file::Config { format, .. }) => {
            *format == Some(Format::CommerceMl)
        }
        SourceKind::OldHandler { .. } | SourceKind::MoySklad(_) => true,
        SourceKind::Sql(config) => config.watermark.is_none(),
        // Each file of an exchange is some of it.
        SourceKind::Exchange(_) | SourceKind::Import => false,
    }
}

fn read_policy(
    reader: &mut SettingsReader<'_>,
    name: Option<String>,
    origin: Origin,
    kind: &str,
) -> Option<SourcePolicy> {
    // What the others bring is whole or not by how they were asked, and nobody can say otherwise.
    let scope = matches!(kind, "file" | "1c" | "sql")
        .then(|| read_scope(reader))
        .flatten();
    let absent = reader.take("absent", |text| match text {
        "keep" => Some(AbsentPolicy::Keep),
        "zero" => Some(AbsentPolicy::Zero),
        _ => None,
    });
    let warehouses = reader.list("warehouses", |text| Some(text.trim().to_owned()));
    let warehouses = warehouses.map(|list| match list.as_slice() {
        [] => SourceWarehouses::Unset,
        [single] if single == "*" => SourceWarehouses::All,
        _ => SourceWarehouses::Named(list),
    });
    let places = reader.take("places", |text| match text {
        "sum" => Some(Combine::Sum),
        "minimum" => Some(Combine::Minimum),
        _ => None,
    });
    let pack = reader.take("pack", |text| {
        text.parse().ok().filter(|n| (1..=1_000_000).contains(n))
    });
    let adjustments = read_adjustments(reader);
    let fraction = |text: &str| text.parse().ok().filter(|part| (0.0..=1.0).contains(part));
    let min_rows = reader.take("guard_rows", fraction);
    let max_zeroed = reader.take("guard_zeros", fraction);
    let max_rejected = reader.take("guard_bad_rows", fraction);
    let repeats = reader.take("guard_repeats", |text| {
        text.parse().ok().filter(|n: &u32| *n <= 1000)
    });
    let duplicates = reader.optional("duplicates", DuplicatePolicy::from_name);
    // The old handler repeats its rows if a part is asked for again. Files do not, and a product of
    // MoySklad that is on two pages is read once.
    let duplicates = duplicates.unwrap_or(match kind {
        "legacy" => DuplicatePolicy::Same,
        _ => DuplicatePolicy::Reject,
    });
    let mapping = match reader
        .optional_path("mapping_file")
        .map(|path| operator_files::read_mapping(&path))
    {
        None => Some(Vec::new()),
        Some(Ok(mapping)) => Some(mapping),
        Some(Err(error)) => {
            reader.add_error(&format!("mapping_file: {error}"));
            None
        }
    };
    Some(SourcePolicy {
        name: name?,
        origin,
        scope,
        absent: absent?,
        warehouses: warehouses?,
        limits: GuardLimits {
            min_rows_ratio: min_rows?,
            max_zeroed_ratio: max_zeroed?,
            max_rejected_ratio: max_rejected?,
            accept_after_repeats: repeats.map(|repeats| (repeats > 0).then_some(repeats))?,
        },
        rules: SourceRules {
            subtracts_reserve: true,
            combine_warehouses: places?,
            pack_size: pack?,
            adjustments: adjustments?,
        },
        mapping: mapping?,
        duplicates,
        read_settings_text: String::new(),
        variants: VariantPolicy::default(),
    })
}

fn read_scope(reader: &mut SettingsReader<'_>) -> Option<DeliveryScope> {
    reader.optional("scope", |text| match text {
        "snapshot" => Some(DeliveryScope::Snapshot),
        "delta" => Some(DeliveryScope::Delta),
        _ => None,
    })
}

fn read_reading(reader: &mut SettingsReader<'_>, kind: &str) -> Option<ReadSettings> {
    let parse_field = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let sku = reader.optional("sku", parse_field);
    let mut reading = ReadSettings {
        sku,
        ..ReadSettings::default()
    };
    if matches!(kind, "file" | "1c" | "sql") {
        reading.quantity = reader.optional("quantity", parse_field);
        reading.reserve = reader.optional("reserve", parse_field);
        reading.warehouse = reader.optional("warehouse", parse_field);
        reading.updated_at = reader.optional("updated_at", parse_field);
    }
    if kind == "file" {
        reading.sheet = reader.optional("sheet", parse_field);
        reading.list_path = reader.optional("list", parse_field);
        reading.delimiter = reader.optional("delimiter", |text| match text {
            "semicolon" => Some(b';'),
            "comma" => Some(b','),
            "tab" => Some(b'\t'),
            "bar" => Some(b'|'),
            _ => None,
        });
        reading.encoding = reader.optional("encoding", |text| {
            encoding_rs::Encoding::for_label(text.as_bytes())
        });
    }
    let takes_unended_row = if kind == "file" {
        is_second_choice(reader, "unended_row", ["reject", "take"])
    } else {
        Some(false)
    };
    // TOML's own numbers have a point, and so have these where they are texts.
    let words = reader
        .string_map("words", |text| {
            Quantity::parse(text, Some(DecimalMark::Point)).ok()
        })
        .filter(|words| {
            let has_empty = words.iter().any(|(word, _)| word.trim().is_empty());
            if has_empty {
                reader
                    .add_error("words has \"\": set empty = \"zero\" if an empty quantity is zero");
            }
            !has_empty
        });
    let fraction = is_second_choice(reader, "fraction", ["reject", "floor"]);
    let negative = is_second_choice(reader, "negative", ["reject", "zero"]);
    let unavailable = is_second_choice(reader, "unavailable", ["keep", "zero"]);
    let empty = is_second_choice(reader, "empty", ["keep", "zero"]);
    let suspicious_sku = is_second_choice(reader, "suspicious_sku", ["reject", "take"]);
    let single_page = is_second_choice(reader, "single_page", ["reject", "take"]);
    let decimal = reader.optional("decimal", DecimalMark::from_name);
    let variants = if matches!(kind, "file" | "1c") {
        is_second_choice(reader, "variants", ["reject", "sum"])
    } else {
        Some(false)
    };
    Some(ReadSettings {
        accepts_unterminated_row: takes_unended_row?,
        words: words?,
        floors_fractions: fraction?,
        zeroes_negatives: negative?,
        zeroes_unavailable: unavailable?,
        zeroes_empty_quantities: empty?,
        accepts_suspicious_skus: suspicious_sku?,
        accepts_single_pages: single_page?,
        decimal,
        variants: if variants? {
            VariantPolicy::Sum
        } else {
            VariantPolicy::Reject
        },
        ..reading
    })
}

/// Whether the second of two words is said.
fn is_second_choice(reader: &mut SettingsReader<'_>, key: &str, words: [&str; 2]) -> Option<bool> {
    reader
        .take(key, |text| words.iter().position(|word| *word == text))
        .map(|index| index == 1)
}

fn read_file(reader: &mut SettingsReader<'_>) -> Option<SourceKind> {
    let format = reader.optional("format", Format::from_name);
    let path = reader.optional_path("path");
    let url = reader.optional("url", parse_url);
    match (path, url) {
        (Some(_), Some(_)) => {
            reader.add_error("path and url are both there: a source has one of them");
            None
        }
        (None, None) => {
            reader.missing("path");
            None
        }
        (Some(path), None) => {
            let is_combined = reader.optional("files", |text| match text {
                "each" => Some(false),
                "together" => Some(true),
                _ => None,
            });
            // 1C cuts one export into several files, and joins them by its ids.
            let is_combined = is_combined.unwrap_or(format == Some(Format::CommerceMl));
            Some(SourceKind::Files(files::Config {
                path,
                format,
                is_one_delivery: is_combined,
            }))
        }
        (None, Some(url)) => {
            let login = read_login(reader, false);
            Some(SourceKind::RemoteFile(http_file::Config {
                url,
                login,
                format,
            }))
        }
    }
}

/// Name and password, if they are there; `is_ours` if others come to us with them.
fn read_login(reader: &mut SettingsReader<'_>, is_inbound: bool) -> Option<(String, Secret)> {
    let login = reader.optional("login", |text| {
        Some(text.to_owned()).filter(|text| !text.is_empty() && !text.contains(':'))
    })?;
    let password = match is_inbound {
        true => reader.chosen_secrets(["password"], true).pop()?,
        false => reader.secrets(["password"], true).pop()?,
    };
    Some((login, password))
}

fn read_handler(reader: &mut SettingsReader<'_>, warehouse: u64) -> Option<SourceKind> {
    let url = required_url(reader);
    let token = reader.secrets(["token"], true).pop();
    let in_query = is_second_choice(reader, "token_in", ["header", "query"]);
    let warehouse_id = reader
        .optional("ask_warehouse", parse_positive)
        .unwrap_or(warehouse);
    let skus_per_request = reader.take("part_skus", in_range(1, 1000));
    let parallel = reader.take("parallel", in_range(1, 8));
    let skus = match reader
        .optional_path("skus_file")
        .map(|path| operator_files::read_skus(&path))
    {
        None => Some(Vec::new()),
        Some(Ok(skus)) => Some(skus),
        Some(Err(error)) => {
            reader.add_error(&format!("skus_file: {error}"));
            None
        }
    };
    let url = url?;
    let base = url.as_str().trim_end_matches('/');
    // The Market's own setting has no `/stocks` at its end, and many people write it.
    let base = base.strip_suffix("/stocks").unwrap_or(base);
    let mut handler = OldHandlerConfig::new(base, token?, warehouse_id);
    handler.token_location = if in_query? {
        TokenLocation::Query
    } else {
        TokenLocation::Header
    };
    handler.max_skus = skus_per_request?;
    handler.parallel_requests = parallel?;
    Some(SourceKind::OldHandler {
        handler,
        skus: skus?,
    })
}

fn read_exchange(reader: &mut SettingsReader<'_>) -> Option<SourceKind> {
    let path = reader.take("path", |text| {
        let path = super::parse_base_path(text)?;
        let is_taken = path.is_empty() || path.ends_with("/stocks");
        (!is_taken).then_some(path)
    });
    if reader.is_unset("login") {
        reader.missing("login");
    }
    let login = read_login(reader, true);
    let max_mib = reader.take("max_mib", in_range(1, 65_536));
    let (login, password) = login?;
    let max_bytes = max_mib? as u64 * 1024 * 1024;
    Some(SourceKind::Exchange(ExchangeConfig {
        path: path?,
        login,
        password,
        max_bytes,
    }))
}

fn read_moysklad(
    reader: &mut SettingsReader<'_>,
    warehouses: Option<&SourceWarehouses>,
    reading: Option<&ReadSettings>,
) -> Option<SourceKind> {
    let url = reader.optional("url", parse_url);
    let stock_type = reader.take("stock", moysklad::StockType::parse);
    let token = reader.optional_secret("token");
    let access = token.map(moysklad::MoySkladCredentials::Token).or_else(|| {
        let (login, password) = read_login(reader, false)?;
        Some(moysklad::MoySkladCredentials::Password { login, password })
    });
    let Some(access) = access else {
        reader.add_error("moysklad needs token_file, or login and password_file");
        return None;
    };
    let mut config = moysklad::Config::new(access);
    if let Some(url) = url {
        url.as_str()
            .trim_end_matches('/')
            .clone_into(&mut config.base_url);
    }
    config.stock_type = stock_type?;
    if let Some(field) = &reading?.sku {
        let Some(field) = moysklad::SkuField::parse(field) else {
            reader.add_error(&format!(
                "sku is {field:?}: for moysklad it must be article, code, externalCode or name"
            ));
            return None;
        };
        config.sku_field = field;
    }
    if let Some(SourceWarehouses::Named(stores)) = warehouses {
        config.stores = moysklad::StoreSelection::Named(stores.clone());
    }
    Some(SourceKind::MoySklad(config))
}

fn read_database(
    reader: &mut SettingsReader<'_>,
    scope: Option<DeliveryScope>,
) -> Option<SourceKind> {
    let database = reader.secrets(["database"], true).pop();
    let query = reader.take("query", |text| Some(text.to_owned()));
    let watermark = reader.optional("watermark", |text| Some(text.to_owned()));
    let timeout = reader.take("timeout_seconds", in_range(1, 86_400));
    let url = match database.map(|secret| sql::DatabaseUrl::parse(secret.expose())) {
        None => None,
        Some(Ok(url)) => Some(url),
        Some(Err(error)) => {
            reader.add_error(&format!("database: {error}"));
            None
        }
    };
    let timeout = Duration::from_secs(timeout? as u64);
    if watermark.is_some() && scope == Some(DeliveryScope::Snapshot) {
        reader.add_error("scope is snapshot: with watermark only what has changed is asked for");
        return None;
    }
    let config = sql::Config {
        url: url?,
        query: query?,
        timeout,
        watermark,
    };
    if let Err(error) = config.validate() {
        reader.add_error(&error.to_string());
        return None;
    }
    Some(SourceKind::Sql(config))
}

fn required_url(reader: &mut SettingsReader<'_>) -> Option<Url> {
    let url = reader.take("url", parse_url)?;
    if url.query().is_some() {
        reader.add_error("url has a query: a token goes into token_file");
        return None;
    }
    Some(url)
}

fn parse_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let is_web = matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
    (is_bare && is_web).then_some(url)
}

/// What is wrong with a shop's sources that are each well.
pub(super) fn source_conflicts(shop: usize, sources: &[Config]) -> Vec<String> {
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

/// The paths that 1C is let in by.
pub(super) fn exchange_paths(sources: &[Config]) -> impl Iterator<Item = &str> {
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

// === As a file ===

/// A text in quotes. What JSON makes of it TOML reads as it was meant; of Rust's own escapes,
/// such as that of a no-break space, it knows nothing.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Writes the rules over all sources of a shop.
pub(super) fn write_rules(f: &mut fmt::Formatter<'_>, rules: &ShopRules) -> fmt::Result {
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

/// Writes one source.
pub(super) fn write_source(f: &mut fmt::Formatter<'_>, source: &Config) -> fmt::Result {
    let Config {
        policy,
        read_settings: reading,
        poll_interval: every,
        kind: feed,
    } = source;
    writeln!(
        f,
        "\n[[shops.sources]]\nname = {}\nkind = \"{}\"",
        quoted(&policy.name),
        feed.name()
    )?;
    writeln!(f, "every_seconds = {}", every.as_secs())?;
    match feed {
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
                    writeln!(f, "token = \"{token:?}\"")?
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

fn write_reading(f: &mut fmt::Formatter<'_>, reading: &ReadSettings) -> fmt::Result {
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
