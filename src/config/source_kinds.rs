//! Reads the settings of single kinds of source: path, URL, login, query.

use std::time::Duration;

use market_api::push::client::{OldHandlerConfig, TokenLocation};
use reqwest::Url;
use stock_import::formats::Format;
use stock_import::{DeliveryScope, ReadSettings};
use strict_http::secret::Secret;

use super::reader::SettingsReader;
use super::source_settings::is_second_choice;
use super::values::{in_range, parse_base_path, parse_positive};
use crate::sources::{
    ExchangeConfig, SourceKind, SourceWarehouses, files, http_file, moysklad, operator_files, sql,
};

pub(super) fn read_file(reader: &mut SettingsReader<'_>) -> Option<SourceKind> {
    let format = reader.optional("format", Format::from_name);
    let path = reader.optional_path("path");
    let url = reader.optional("url", parse_url);
    match (path, url) {
        (Some(_), Some(_)) => {
            reader.add_error("path and url are both set: a source has one of them");
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
            // 1C splits one export into several files that refer to each other by id.
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

/// Reads login and password, if they are set. `is_inbound` is true if others send them to us:
/// then a short password is an error.
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

pub(super) fn read_handler(reader: &mut SettingsReader<'_>, warehouse: u64) -> Option<SourceKind> {
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
    // The Market's own setting does not end in `/stocks`, but many people write it.
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

pub(super) fn read_exchange(reader: &mut SettingsReader<'_>) -> Option<SourceKind> {
    let path = reader.take("path", |text| {
        let path = parse_base_path(text)?;
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

pub(super) fn read_moysklad(
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
        reader.add_error(
            "token_file is missing: moysklad needs token_file, or login and password_file",
        );
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

pub(super) fn read_database(
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
        reader.add_error(
            "scope is snapshot: a query with watermark reads only changes, so remove scope",
        );
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
        reader.add_error("url has a query: remove it, and put a token into token_file");
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
