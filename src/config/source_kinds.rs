//! Makes the configuration of the connector of a source: path, URL, login, query.

use std::time::Duration;

use connectors::{files, http_file, moysklad, onec_exchange, sql};
use market_api::push::client::OldHandlerConfig;
use stock_import::DeliveryScope;
use stock_import::formats::Format;
use strict_http::secret::Secret;

use super::reader::SettingsReader;
use super::setting_list::{MIN_CHOSEN_SECRET_CHARS, SourceTable};
use super::source_settings::source_warehouses;
use super::values::{EachOrTogether, FilePath, MarketId, WebUrl, Whole, parse_base_path};
use crate::sources::{
    DuplicatePolicy, SourceKind, SourceKindName, SourceWarehouses, operator_files,
};

/// Settings of the kind that have no effect in this table, because another one replaces them.
pub(super) fn unused_settings(
    kind: SourceKindName,
    reader: &SettingsReader<'_>,
) -> Vec<&'static str> {
    let has_other_access = match kind {
        SourceKindName::File => reader.is_set("path"),
        SourceKindName::MoySklad => reader.is_set("token_file"),
        SourceKindName::Legacy
        | SourceKindName::Exchange
        | SourceKindName::Sql
        | SourceKindName::Import => false,
    };
    let mut unused = Vec::new();
    if has_other_access {
        unused.push("login");
    }
    if has_other_access || !reader.is_set("login") {
        unused.push("password_file");
    }
    if kind == SourceKindName::File && !reader.is_set("path") {
        unused.push("files");
    }
    unused
}

/// Sets what depends on the kind or on another setting. `warehouse` is the Market's id of the
/// shop's first warehouse.
pub(super) fn fill_defaults(kind: SourceKindName, table: &mut SourceTable, warehouse: MarketId) {
    // The old handler repeats rows if a batch is requested again. Files do not, and a MoySklad
    // product that is on two pages is read once.
    let (every_seconds, duplicates) = match kind {
        SourceKindName::File if table.path.is_some() => (5, DuplicatePolicy::Reject),
        SourceKindName::Legacy => (900, DuplicatePolicy::Same),
        SourceKindName::File
        | SourceKindName::Exchange
        | SourceKindName::MoySklad
        | SourceKindName::Sql
        | SourceKindName::Import => (300, DuplicatePolicy::Reject),
    };
    table.every_seconds.get_or_insert(Whole(every_seconds));
    table.duplicates.get_or_insert(duplicates);
    if kind == SourceKindName::Legacy {
        table.ask_warehouse.get_or_insert(warehouse);
    }
    if kind == SourceKindName::File && table.path.is_some() {
        // 1C splits one export into several files that refer to each other by id.
        let format = table.format.as_ref().map(|format| format.0);
        table
            .files
            .get_or_insert(match format == Some(Format::CommerceMl) {
                true => EachOrTogether::Together,
                false => EachOrTogether::Each,
            });
    }
}

/// Makes the connector of a source. Resolves the paths of the table.
pub(super) fn read_source_kind(
    reader: &mut SettingsReader<'_>,
    kind: SourceKindName,
    table: &mut SourceTable,
) -> Option<SourceKind> {
    match kind {
        SourceKindName::File => read_file(reader, table),
        SourceKindName::Legacy => read_handler(reader, table),
        SourceKindName::Exchange => read_exchange(reader, table),
        SourceKindName::MoySklad => read_moysklad(reader, table),
        SourceKindName::Sql => read_database(reader, table),
        SourceKindName::Import => None,
    }
}

fn read_file(reader: &mut SettingsReader<'_>, table: &mut SourceTable) -> Option<SourceKind> {
    let format = table.format.as_ref().map(|format| format.0);
    match (&mut table.path, &table.url) {
        (Some(_), Some(_)) => {
            reader.fault("path", " and url are both set: a source has one of them");
            None
        }
        (None, None) => {
            reader.missing("path");
            None
        }
        (Some(path), None) => {
            reader.resolve(path);
            Some(SourceKind::Files(files::Config {
                path: path.0.clone(),
                format,
                is_one_delivery: table.files == Some(EachOrTogether::Together),
            }))
        }
        (None, Some(url)) => Some(SourceKind::RemoteFile(http_file::Config {
            url: url.0.clone(),
            login: read_login(reader, table),
            format,
        })),
    }
}

/// Login and password, if they are set.
fn read_login(reader: &mut SettingsReader<'_>, table: &SourceTable) -> Option<(String, Secret)> {
    let login = table.login.as_ref()?;
    let password = reader.needed("password_file", table.password_file.as_ref())?;
    Some((login.0.clone(), password.0.clone()))
}

fn read_handler(reader: &mut SettingsReader<'_>, table: &mut SourceTable) -> Option<SourceKind> {
    let token = reader.needed("token_file", table.token_file.as_ref());
    let skus_file = table.skus_file.as_mut();
    let skus = reader.read_list("skus_file", skus_file, operator_files::read_skus);
    let url = reader.needed("url", table.url.as_mut())?;
    if url.0.query().is_some() {
        reader.fault(
            "url",
            " has a query: remove it, and put a token into token_file",
        );
    }
    let base = url.0.as_str().trim_end_matches('/');
    // The Market's own setting does not end in `/stocks`, but many people write it.
    let base = base.strip_suffix("/stocks").unwrap_or(base);
    let warehouse_id = table.ask_warehouse?.get();
    let mut handler = OldHandlerConfig::new(base, token?.0.clone(), warehouse_id);
    url.0 = base.parse().ok()?;
    handler.token_location = table.token_in?;
    handler.max_skus = table.part_skus?.0 as usize;
    handler.parallel_requests = table.parallel?.0 as usize;
    Some(SourceKind::OldHandler { handler, skus })
}

fn read_exchange(reader: &mut SettingsReader<'_>, table: &SourceTable) -> Option<SourceKind> {
    let path = reader.needed("path", table.path.as_ref());
    let path = path.and_then(|path| exchange_path(reader, path));
    reader.needed("login", table.login.as_ref());
    let (login, password) = read_login(reader, table)?;
    reader.check_length("password_file", &password, MIN_CHOSEN_SECRET_CHARS);
    Some(SourceKind::Exchange(onec_exchange::Config {
        path: path?,
        login,
        password,
        max_bytes: u64::from(table.max_mib?.0) * 1024 * 1024,
    }))
}

fn exchange_path(reader: &mut SettingsReader<'_>, path: &FilePath) -> Option<String> {
    let text = path.0.to_string_lossy();
    let is_taken = |path: &String| path.is_empty() || path.ends_with("/stocks");
    let path = parse_base_path(&text).filter(|path| !is_taken(path));
    if path.is_none() {
        reader.invalid("path");
    }
    path
}

fn read_moysklad(reader: &mut SettingsReader<'_>, table: &mut SourceTable) -> Option<SourceKind> {
    let access = match &table.token_file {
        Some(token) => Some(moysklad::MoySkladCredentials::Token(token.0.clone())),
        None => read_login(reader, table)
            .map(|(login, password)| moysklad::MoySkladCredentials::Password { login, password }),
    };
    let Some(access) = access else {
        reader.fault(
            "token_file",
            " is missing: moysklad needs token_file, or login and password_file",
        );
        return None;
    };
    let mut config = moysklad::Config::new(access);
    if let Some(url) = &table.url {
        let base_url = url.0.as_str().trim_end_matches('/');
        base_url.clone_into(&mut config.base_url);
    }
    table.url = config.base_url.parse().ok().map(WebUrl);
    config.stock_type = table.stock.as_ref()?.0;
    if let Some(field) = &table.sku {
        let rule = "for moysklad it must be article, code, externalCode or name";
        match moysklad::SkuField::parse(&field.0) {
            Some(field) => config.sku_field = field,
            None => reader.fault("sku", &format!(" is {:?}: {rule}", field.0)),
        }
    }
    if let SourceWarehouses::Named(stores) = source_warehouses(table) {
        config.stores = moysklad::StoreSelection::Named(stores);
    }
    Some(SourceKind::MoySklad(config))
}

fn read_database(reader: &mut SettingsReader<'_>, table: &SourceTable) -> Option<SourceKind> {
    let database = reader.needed("database_file", table.database_file.as_ref());
    let query = reader.needed("query", table.query.as_ref());
    if table.watermark.is_some() && table.scope == Some(DeliveryScope::Snapshot) {
        reader.fault(
            "scope",
            " is snapshot: a query with watermark reads only changes, so remove scope",
        );
    }
    let url = sql::DatabaseUrl::parse(database?.0.expose());
    let url = url.map_err(|error| reader.fault("database_file", &format!(": {error}")));
    let config = sql::Config {
        url: url.ok()?,
        query: query?.clone(),
        timeout: Duration::from_secs(table.timeout_seconds?.0.into()),
        watermark: table.watermark.clone(),
    };
    if let Err(error) = config.validate() {
        reader.fault("query", &format!(": {error}"));
    }
    Some(SourceKind::Sql(config))
}
