use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::time::Duration;

use reqwest::Url;

use super::reader::Reader;
use super::{in_range, positive};
use crate::http::secret::Secret;
use crate::ingest::Origin;
use crate::legacy::client::{Handler, TokenIn};
use crate::sources::formats::Format;
use crate::sources::guard::Limits;
use crate::sources::rules::{Combine, Shape, ShopRules, SourceRules};
use crate::sources::{
    Absent, Config, DecimalMark, Door, Duplicates, Feed, Quantity, RULES, Reading, Scope, Taking,
    Variants, Warehouses, fetch, files, lists, moysklad, sql,
};
use crate::stock::MAX_COUNT;

/// What files that are handed over by hand go by.
pub const IMPORT: &str = "import";

/// A million pieces kept back are a mistake.
const MAX_BUFFER: u32 = 1_000_000;

/// The rules over all sources of a shop.
pub(super) fn read_rules(reader: &mut Reader<'_>) -> Option<ShopRules> {
    let combine = reader.take("combine", Combine::parse);
    let shape = read_shape(reader);
    let file = reader.optional_path("overrides_file");
    let overrides = match file.map(|path| lists::overrides(&path)) {
        None => Default::default(),
        Some(Ok(overrides)) => overrides,
        Some(Err(fault)) => {
            reader.fault(&format!("overrides_file: {fault}"));
            return None;
        }
    };
    Some(ShopRules {
        combine: combine?,
        shape: shape?,
        overrides,
    })
}

fn read_shape(reader: &mut Reader<'_>) -> Option<Shape> {
    let number = |most: u32| move |text: &str| text.parse().ok().filter(|n: &u32| *n <= most);
    let buffer = reader.take("buffer", number(MAX_BUFFER));
    let below = reader.take("zero_below", number(MAX_BUFFER));
    let cap = reader.optional("cap", number(MAX_COUNT));
    Some(Shape {
        buffer: buffer?,
        below: below?,
        cap,
    })
}

/// One source; `warehouse` is the Market's number of the shop's first warehouse.
pub(super) fn read_source(reader: &mut Reader<'_>, warehouse: u64) -> Option<Config> {
    let name = reader.take("name", |text| {
        super::parse_name(text).filter(|name| name != RULES && name != IMPORT)
    });
    let kind = reader.take("kind", |text| {
        ["file", "legacy", "1c", "moysklad", "sql"]
            .into_iter()
            .find(|kind| *kind == text)
    });
    let Some(kind) = kind else {
        // Which of the others there may be, nobody can say.
        reader.leave_rest();
        return None;
    };
    let origin = match kind {
        "file" => Origin::File,
        "legacy" => Origin::OldHandler,
        "1c" => Origin::Exchange,
        "moysklad" => Origin::MoySklad,
        _ => Origin::Sql,
    };
    let taking = read_taking(reader, name, origin, kind);
    let reading = read_reading(reader, kind);
    let feed = match kind {
        "file" => read_file(reader),
        "legacy" => read_handler(reader, warehouse),
        "1c" => read_door(reader),
        "moysklad" => read_moysklad(
            reader,
            taking.as_ref().map(|t| &t.warehouses),
            reading.as_ref(),
        ),
        _ => read_database(reader, taking.as_ref().and_then(|taking| taking.scope)),
    };
    if let (Some(taking), Some(feed)) = (&taking, &feed)
        && taking.absent == Absent::Zero
        && taking.scope != Some(Scope::Snapshot)
        && !tells_scope(feed)
    {
        reader.fault(
            "absent is \"zero\": only a snapshot tells what is absent, so scope must be \
             \"snapshot\", or format \"commerceml\", whose files say it",
        );
        return None;
    }
    let default = match &feed {
        Some(Feed::Files(_)) => 5,
        Some(Feed::OldHandler { .. }) => 900,
        _ => 300,
    };
    let every = reader
        .optional("every_seconds", in_range(1, 86_400))
        .unwrap_or(default);
    let every = Duration::from_secs(every as u64);
    let (mut taking, reading) = (taking?, reading?);
    taking.reading = written(&reading);
    if let Some(Feed::Sql(sql)) = &feed {
        // Another query may have other columns.
        taking.reading.push_str(&sql.query);
    }
    taking.variants = reading.variants;
    Some(Config {
        taking,
        reading,
        every,
        feed: feed?,
    })
}

/// The settings by which a source is read, as they are written.
fn written(reading: &Reading) -> String {
    struct Written<'a>(&'a Reading);
    impl fmt::Display for Written<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_reading(f, self.0)
        }
    }
    Written(reading).to_string()
}

/// Whether what comes this way says itself whether it is complete.
fn tells_scope(feed: &Feed) -> bool {
    match feed {
        Feed::Files(files::Config { format, .. }) | Feed::Remote(fetch::Config { format, .. }) => {
            *format == Some(Format::CommerceMl)
        }
        Feed::OldHandler { .. } | Feed::MoySklad(_) => true,
        Feed::Sql(config) => config.watermark.is_none(),
        // Each file of an exchange is some of it.
        Feed::Exchange(_) | Feed::Import => false,
    }
}

fn read_taking(
    reader: &mut Reader<'_>,
    name: Option<String>,
    origin: Origin,
    kind: &str,
) -> Option<Taking> {
    // What the others bring is whole or not by how they were asked, and nobody can say otherwise.
    let scope = matches!(kind, "file" | "1c" | "sql")
        .then(|| read_scope(reader))
        .flatten();
    let absent = reader.take("absent", |text| match text {
        "keep" => Some(Absent::Keep),
        "zero" => Some(Absent::Zero),
        _ => None,
    });
    let warehouses = reader.list("warehouses", |text| Some(text.trim().to_owned()));
    let warehouses = warehouses.map(|list| match list.as_slice() {
        [] => Warehouses::Unsaid,
        [all] if all == "*" => Warehouses::All,
        _ => Warehouses::Named(list),
    });
    let places = reader.take("places", |text| match text {
        "sum" => Some(Combine::Sum),
        "minimum" => Some(Combine::Least),
        _ => None,
    });
    let pack = reader.take("pack", |text| {
        text.parse().ok().filter(|n| (1..=1_000_000).contains(n))
    });
    let shape = read_shape(reader);
    let part = |text: &str| text.parse().ok().filter(|part| (0.0..=1.0).contains(part));
    let least_rows = reader.take("guard_rows", part);
    let most_zeroed = reader.take("guard_zeros", part);
    let most_rejected = reader.take("guard_bad_rows", part);
    let repeats = reader.take("guard_repeats", |text| {
        text.parse().ok().filter(|n: &u32| *n <= 1000)
    });
    let duplicates = reader.optional("duplicates", Duplicates::from_name);
    // The old handler repeats its rows if a part is asked for again. Files do not, and a product of
    // MoySklad that is on two pages is read once.
    let duplicates = duplicates.unwrap_or(match kind {
        "legacy" => Duplicates::Same,
        _ => Duplicates::Reject,
    });
    let mapping = match reader
        .optional_path("mapping_file")
        .map(|path| lists::mapping(&path))
    {
        None => Some(Vec::new()),
        Some(Ok(mapping)) => Some(mapping),
        Some(Err(fault)) => {
            reader.fault(&format!("mapping_file: {fault}"));
            None
        }
    };
    Some(Taking {
        name: name?,
        origin,
        scope,
        absent: absent?,
        warehouses: warehouses?,
        limits: Limits {
            least_rows: least_rows?,
            most_zeroed: most_zeroed?,
            most_rejected: most_rejected?,
            repeats: repeats.map(|repeats| (repeats > 0).then_some(repeats))?,
        },
        rules: SourceRules {
            subtracts_reserve: true,
            places: places?,
            pack: pack?,
            shape: shape?,
        },
        mapping: mapping?,
        duplicates,
        reading: String::new(),
        variants: Variants::default(),
    })
}

fn read_scope(reader: &mut Reader<'_>) -> Option<Scope> {
    reader.optional("scope", |text| match text {
        "snapshot" => Some(Scope::Snapshot),
        "delta" => Some(Scope::Delta),
        _ => None,
    })
}

fn read_reading(reader: &mut Reader<'_>, kind: &str) -> Option<Reading> {
    let field = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let sku = reader.optional("sku", field);
    let mut reading = Reading {
        sku,
        ..Reading::default()
    };
    if matches!(kind, "file" | "1c" | "sql") {
        reading.quantity = reader.optional("quantity", field);
        reading.reserve = reader.optional("reserve", field);
        reading.warehouse = reader.optional("warehouse", field);
        reading.updated_at = reader.optional("updated_at", field);
    }
    if kind == "file" {
        reading.sheet = reader.optional("sheet", field);
        reading.list = reader.optional("list", field);
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
    let unended = if kind == "file" {
        one_of(reader, "unended_row", ["reject", "take"])
    } else {
        Some(false)
    };
    // TOML's own numbers have a point, and so have these where they are texts.
    let words = reader
        .pairs("words", |text| {
            Quantity::parse(text, Some(DecimalMark::Point)).ok()
        })
        .filter(|words| {
            let has_empty = words.iter().any(|(word, _)| word.trim().is_empty());
            if has_empty {
                reader.fault("words has \"\": set empty = \"zero\" if an empty quantity is zero");
            }
            !has_empty
        });
    let fraction = one_of(reader, "fraction", ["reject", "floor"]);
    let negative = one_of(reader, "negative", ["reject", "zero"]);
    let unavailable = one_of(reader, "unavailable", ["keep", "zero"]);
    let empty = one_of(reader, "empty", ["keep", "zero"]);
    let suspicious_sku = one_of(reader, "suspicious_sku", ["reject", "take"]);
    let single_page = one_of(reader, "single_page", ["reject", "take"]);
    let decimal = reader.optional("decimal", DecimalMark::from_name);
    let variants = if matches!(kind, "file" | "1c") {
        one_of(reader, "variants", ["reject", "sum"])
    } else {
        Some(false)
    };
    Some(Reading {
        takes_unended_row: unended?,
        words: words?,
        floors_fractions: fraction?,
        zeroes_negatives: negative?,
        zeroes_unavailable: unavailable?,
        zeroes_empties: empty?,
        takes_suspicious_skus: suspicious_sku?,
        takes_single_pages: single_page?,
        decimal,
        variants: if variants? {
            Variants::Sum
        } else {
            Variants::Reject
        },
        ..reading
    })
}

/// Whether the second of two words is said.
fn one_of(reader: &mut Reader<'_>, key: &str, words: [&str; 2]) -> Option<bool> {
    reader
        .take(key, |text| words.iter().position(|word| *word == text))
        .map(|at| at == 1)
}

fn read_file(reader: &mut Reader<'_>) -> Option<Feed> {
    let format = reader.optional("format", Format::from_name);
    let path = reader.optional_path("path");
    let url = reader.optional("url", parse_url);
    match (path, url) {
        (Some(_), Some(_)) => {
            reader.fault("path and url are both there: a source has one of them");
            None
        }
        (None, None) => {
            reader.missing("path");
            None
        }
        (Some(path), None) => {
            let is_one = reader.optional("files", |text| match text {
                "each" => Some(false),
                "together" => Some(true),
                _ => None,
            });
            // 1C cuts one export into several files, and joins them by its ids.
            let is_one = is_one.unwrap_or(format == Some(Format::CommerceMl));
            Some(Feed::Files(files::Config {
                path,
                format,
                is_one,
            }))
        }
        (None, Some(url)) => {
            let login = read_login(reader, false);
            Some(Feed::Remote(fetch::Config { url, login, format }))
        }
    }
}

/// Name and password, if they are there; `is_ours` if others come to us with them.
fn read_login(reader: &mut Reader<'_>, is_ours: bool) -> Option<(String, Secret)> {
    let login = reader.optional("login", |text| {
        Some(text.to_owned()).filter(|text| !text.is_empty() && !text.contains(':'))
    })?;
    let password = match is_ours {
        true => reader.chosen_secrets(["password"], true).pop()?,
        false => reader.secrets(["password"], true).pop()?,
    };
    Some((login, password))
}

fn read_handler(reader: &mut Reader<'_>, warehouse: u64) -> Option<Feed> {
    let url = needed_url(reader);
    let token = reader.secrets(["token"], true).pop();
    let in_query = one_of(reader, "token_in", ["header", "query"]);
    let ask = reader
        .optional("ask_warehouse", positive)
        .unwrap_or(warehouse);
    let part = reader.take("part_skus", in_range(1, 1000));
    let parallel = reader.take("parallel", in_range(1, 8));
    let skus = match reader
        .optional_path("skus_file")
        .map(|path| lists::skus(&path))
    {
        None => Some(Vec::new()),
        Some(Ok(skus)) => Some(skus),
        Some(Err(fault)) => {
            reader.fault(&format!("skus_file: {fault}"));
            None
        }
    };
    let url = url?;
    let base = url.as_str().trim_end_matches('/');
    // The Market's own setting has no `/stocks` at its end, and many people write it.
    let base = base.strip_suffix("/stocks").unwrap_or(base);
    let mut handler = Handler::new(base, token?, ask);
    handler.token_in = if in_query? {
        TokenIn::Query
    } else {
        TokenIn::Header
    };
    handler.max_skus = part?;
    handler.parallel = parallel?;
    Some(Feed::OldHandler {
        handler,
        skus: skus?,
    })
}

fn read_door(reader: &mut Reader<'_>) -> Option<Feed> {
    let path = reader.take("path", |text| {
        let path = super::parse_base_path(text)?;
        let is_taken = path.is_empty() || path.ends_with("/stocks");
        (!is_taken).then_some(path)
    });
    if reader.given_nothing("login") {
        reader.missing("login");
    }
    let login = read_login(reader, true);
    let max_mib = reader.take("max_mib", in_range(1, 65_536));
    let (login, password) = login?;
    let max_bytes = max_mib? as u64 * 1024 * 1024;
    Some(Feed::Exchange(Door {
        path: path?,
        login,
        password,
        max_bytes,
    }))
}

fn read_moysklad(
    reader: &mut Reader<'_>,
    warehouses: Option<&Warehouses>,
    reading: Option<&Reading>,
) -> Option<Feed> {
    let url = reader.optional("url", parse_url);
    let stock_type = reader.take("stock", moysklad::StockType::parse);
    let token = reader.optional_secret("token");
    let access = token.map(moysklad::Access::Token).or_else(|| {
        let (login, password) = read_login(reader, false)?;
        Some(moysklad::Access::Password { login, password })
    });
    let Some(access) = access else {
        reader.fault("moysklad needs token_file, or login and password_file");
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
            reader.fault(&format!(
                "sku is {field:?}: for moysklad it must be article, code, externalCode or name"
            ));
            return None;
        };
        config.sku_field = field;
    }
    if let Some(Warehouses::Named(stores)) = warehouses {
        config.stores = moysklad::Stores::Named(stores.clone());
    }
    Some(Feed::MoySklad(config))
}

fn read_database(reader: &mut Reader<'_>, scope: Option<Scope>) -> Option<Feed> {
    let database = reader.secrets(["database"], true).pop();
    let query = reader.take("query", |text| Some(text.to_owned()));
    let watermark = reader.optional("watermark", |text| Some(text.to_owned()));
    let timeout = reader.take("timeout_seconds", in_range(1, 86_400));
    let url = match database.map(|secret| sql::Url::parse(secret.expose())) {
        None => None,
        Some(Ok(url)) => Some(url),
        Some(Err(error)) => {
            reader.fault(&format!("database: {error}"));
            None
        }
    };
    let timeout = Duration::from_secs(timeout? as u64);
    if watermark.is_some() && scope == Some(Scope::Snapshot) {
        reader.fault("scope is snapshot: with watermark only what has changed is asked for");
        return None;
    }
    let config = sql::Config {
        url: url?,
        query: query?,
        timeout,
        watermark,
    };
    if let Err(error) = config.check() {
        reader.fault(&error.to_string());
        return None;
    }
    Some(Feed::Sql(config))
}

fn needed_url(reader: &mut Reader<'_>) -> Option<Url> {
    let url = reader.take("url", parse_url)?;
    if url.query().is_some() {
        reader.fault("url has a query: a token goes into token_file");
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
pub(super) fn conflicts(shop: usize, sources: &[Config]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut names = BTreeSet::new();
    for (index, source) in sources.iter().enumerate() {
        let name = &source.taking.name;
        if !names.insert(name) {
            faults.push(format!(
                "shops[{shop}].sources[{index}].name is '{name}': another one has that name already"
            ));
        }
    }
    faults
}

/// The paths that 1C is let in by.
pub(super) fn doors(sources: &[Config]) -> impl Iterator<Item = &str> {
    sources.iter().filter_map(|source| match &source.feed {
        Feed::Exchange(door) => Some(door.path.as_str()),
        Feed::Files(_)
        | Feed::Remote(_)
        | Feed::OldHandler { .. }
        | Feed::MoySklad(_)
        | Feed::Sql(_)
        | Feed::Import => None,
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
    write_shape(f, rules.shape)?;
    if !rules.overrides.is_empty() {
        writeln!(f, "# and rules of {} SKUs", rules.overrides.len())?;
    }
    Ok(())
}

fn write_shape(f: &mut fmt::Formatter<'_>, shape: Shape) -> fmt::Result {
    writeln!(f, "buffer = {}\nzero_below = {}", shape.buffer, shape.below)?;
    shape.cap.map_or(Ok(()), |cap| writeln!(f, "cap = {cap}"))
}

/// Writes one source.
pub(super) fn write_source(f: &mut fmt::Formatter<'_>, source: &Config) -> fmt::Result {
    let Config {
        taking,
        reading,
        every,
        feed,
    } = source;
    writeln!(
        f,
        "\n[[shops.sources]]\nname = {}\nkind = \"{}\"",
        quoted(&taking.name),
        feed.kind()
    )?;
    writeln!(f, "every_seconds = {}", every.as_secs())?;
    match feed {
        Feed::Files(config) => {
            writeln!(f, "path = {}", quoted(&config.path.display().to_string()))?;
            writeln!(
                f,
                "files = \"{}\"",
                if config.is_one { "together" } else { "each" }
            )?;
            write_format(f, config.format)?;
        }
        Feed::Remote(config) => {
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
        Feed::OldHandler { handler, skus } => {
            writeln!(
                f,
                "url = {}\ntoken = \"{:?}\"",
                quoted(&handler.url),
                handler.token
            )?;
            let token_in = match handler.token_in {
                TokenIn::Header => "header",
                TokenIn::Query => "query",
            };
            writeln!(
                f,
                "token_in = \"{token_in}\"\nask_warehouse = {}",
                handler.warehouse
            )?;
            writeln!(
                f,
                "part_skus = {}\nparallel = {}",
                handler.max_skus, handler.parallel
            )?;
            if !skus.is_empty() {
                writeln!(f, "# and {} SKUs to ask for", skus.len())?;
            }
        }
        Feed::Exchange(door) => {
            writeln!(
                f,
                "path = {}\nlogin = {}",
                quoted(&door.path),
                quoted(&door.login)
            )?;
            writeln!(f, "password = \"{:?}\"", door.password)?;
            writeln!(f, "max_mib = {}", door.max_bytes / 1024 / 1024)?;
        }
        Feed::MoySklad(config) => {
            writeln!(f, "url = {}", quoted(&config.base_url))?;
            writeln!(f, "stock = \"{}\"", config.stock_type.name())?;
            match &config.access {
                moysklad::Access::Token(token) => writeln!(f, "token = \"{token:?}\"")?,
                moysklad::Access::Password { login, password } => {
                    writeln!(f, "login = {}\npassword = \"{password:?}\"", quoted(login))?;
                }
            }
        }
        Feed::Sql(config) => {
            writeln!(f, "# database {}\ndatabase = \"***\"", config.url)?;
            writeln!(f, "query = {}", quoted(&config.query))?;
            writeln!(f, "timeout_seconds = {}", config.timeout.as_secs())?;
            if let Some(watermark) = &config.watermark {
                writeln!(f, "watermark = {}", quoted(watermark))?;
            }
        }
        Feed::Import => {}
    }
    write_reading(f, reading)?;
    write_taking(f, taking)
}

fn write_format(f: &mut fmt::Formatter<'_>, format: Option<Format>) -> fmt::Result {
    format.map_or(Ok(()), |format| {
        writeln!(f, "format = \"{}\"", format.name())
    })
}

fn write_reading(f: &mut fmt::Formatter<'_>, reading: &Reading) -> fmt::Result {
    for (key, field) in [
        ("sku", &reading.sku),
        ("quantity", &reading.quantity),
        ("reserve", &reading.reserve),
        ("warehouse", &reading.warehouse),
        ("updated_at", &reading.updated_at),
        ("sheet", &reading.sheet),
        ("list", &reading.list),
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
    reading
        .encoding
        .map_or(Ok(()), |it| writeln!(f, "encoding = \"{}\"", it.name()))?;
    let word = |is_second: bool, words: [&'static str; 2]| words[usize::from(is_second)];
    writeln!(
        f,
        "fraction = \"{}\"",
        word(reading.floors_fractions, ["reject", "floor"])
    )?;
    writeln!(
        f,
        "negative = \"{}\"",
        word(reading.zeroes_negatives, ["reject", "zero"])
    )?;
    writeln!(
        f,
        "unavailable = \"{}\"",
        word(reading.zeroes_unavailable, ["keep", "zero"])
    )?;
    writeln!(
        f,
        "empty = \"{}\"",
        word(reading.zeroes_empties, ["keep", "zero"])
    )?;
    let takes_suspicious = reading.takes_suspicious_skus;
    let takes_pages = reading.takes_single_pages;
    writeln!(
        f,
        "suspicious_sku = \"{}\"",
        word(takes_suspicious, ["reject", "take"])
    )?;
    writeln!(
        f,
        "single_page = \"{}\"",
        word(takes_pages, ["reject", "take"])
    )?;
    reading
        .decimal
        .map_or(Ok(()), |it| writeln!(f, "decimal = \"{}\"", it.name()))?;
    if reading.variants == Variants::Sum {
        writeln!(f, "variants = \"sum\"")?;
    }
    if reading.takes_unended_row {
        writeln!(f, "unended_row = \"take\"")?;
    }
    if !reading.words.is_empty() {
        let mut words = String::new();
        for (index, (known, quantity)) in reading.words.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let _infallible = write!(words, "{comma}{} = \"{quantity}\"", quoted(known));
        }
        writeln!(f, "words = {{ {words} }}")?;
    }
    Ok(())
}

fn write_taking(f: &mut fmt::Formatter<'_>, taking: &Taking) -> fmt::Result {
    taking
        .scope
        .map_or(Ok(()), |scope| writeln!(f, "scope = \"{}\"", scope.name()))?;
    let absent = match taking.absent {
        Absent::Keep => "keep",
        Absent::Zero => "zero",
    };
    writeln!(f, "absent = \"{absent}\"")?;
    match &taking.warehouses {
        Warehouses::Unsaid => {}
        Warehouses::All => writeln!(f, "warehouses = \"*\"")?,
        Warehouses::Named(names) => {
            let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
            writeln!(f, "warehouses = [{}]", names.join(", "))?;
        }
    }
    writeln!(
        f,
        "places = \"{}\"\npack = {}",
        taking.rules.places.name(),
        taking.rules.pack
    )?;
    write_shape(f, taking.rules.shape)?;
    writeln!(f, "duplicates = \"{}\"", taking.duplicates.name())?;
    if !taking.mapping.is_empty() {
        writeln!(f, "# and what {} words stand for", taking.mapping.len())?;
    }
    let limits = &taking.limits;
    writeln!(
        f,
        "guard_rows = {:?}\nguard_zeros = {:?}",
        limits.least_rows, limits.most_zeroed
    )?;
    writeln!(f, "guard_bad_rows = {:?}", limits.most_rejected)?;
    writeln!(f, "guard_repeats = {}", limits.repeats.unwrap_or(0))
}
