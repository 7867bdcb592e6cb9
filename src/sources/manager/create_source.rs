//! Creation of a source from its configuration, with the HTTP clients that it needs.

use connectors::files::FileWatcher;
use connectors::http_file::HttpFile;
use connectors::moysklad::MoySkladSource;
use connectors::old_handler::OldHandlerSource;
use connectors::sql::SqlSource;
use market_api::push::client::OldHandlerClient;
use strict_http::ClientConfig;

use super::SourceStartError;
use crate::sources::{Config, SourceKind};

/// Source that is ready to be polled.
pub(in crate::sources) enum ReadySource {
    Files(FileWatcher),
    RemoteFile(HttpFile),
    OldHandler(OldHandlerSource),
    MoySklad(MoySkladSource),
    Sql(SqlSource),
    /// A source that pushes its data.
    Passive,
}

/// Creates a source. `old_handler` is the result of [`old_handler_client`]; `about` names the source
/// in errors.
pub(in crate::sources) fn create_source(
    config: &Config,
    old_handler: Option<OldHandlerClient>,
    outbound: &ClientConfig,
    about: &str,
) -> Result<ReadySource, SourceStartError> {
    let settings = config.read_settings.clone();
    let build_client = |wanted: ClientConfig| build_client(&wanted, outbound, about);
    Ok(match &config.kind {
        SourceKind::Files(files) => ReadySource::Files(FileWatcher::new(files.clone(), settings)),
        SourceKind::RemoteFile(remote) => {
            let clients = remote.clients(build_client)?;
            ReadySource::RemoteFile(HttpFile::new(remote.clone(), settings, clients))
        }
        SourceKind::OldHandler { skus, .. } => match old_handler {
            Some(client) => {
                ReadySource::OldHandler(OldHandlerSource::new(client, skus.clone(), settings))
            }
            None => ReadySource::Passive,
        },
        SourceKind::MoySklad(moysklad) => {
            let client = build_client(moysklad.client_config())?;
            ReadySource::MoySklad(MoySkladSource::new(client, moysklad.clone(), settings))
        }
        SourceKind::Sql(sql) => ReadySource::Sql(SqlSource::new(sql.clone(), settings)),
        SourceKind::Exchange(_) | SourceKind::Import => ReadySource::Passive,
    })
}

/// Builds the client of an old handler; `None` for sources of other kinds. `about` names the source
/// in errors.
pub(in crate::sources) fn old_handler_client(
    config: &Config,
    outbound: &ClientConfig,
    about: &str,
) -> Result<Option<OldHandlerClient>, SourceStartError> {
    let SourceKind::OldHandler { handler, .. } = &config.kind else {
        return Ok(None);
    };
    let client = build_client(&handler.client_config(), outbound, about)?;
    let client = OldHandlerClient::new(client, handler.clone());
    client
        .map(Some)
        .map_err(|source| SourceStartError::Handler {
            about: about.to_owned(),
            source,
        })
}

fn build_client(
    wanted: &ClientConfig,
    outbound: &ClientConfig,
    about: &str,
) -> Result<reqwest::Client, SourceStartError> {
    let client_config = ClientConfig {
        extra_ca_file: outbound.extra_ca_file.clone(),
        ..wanted.clone()
    };
    strict_http::client(&client_config).map_err(|source| SourceStartError::Client {
        about: about.to_owned(),
        source,
    })
}
