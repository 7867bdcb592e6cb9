//! One read of a source for the setup commands, without a store and without the pipeline.

use std::path::Path;

use chrono::{DateTime, Utc};
use lifecycle::run_blocking;
use strict_http::{ClientConfig, causes};

use super::http_file::HttpFile;
use super::moysklad::MoySklad;
use super::{Config, EntrySender, SourceKind, files, manager, old_handler, sql};

/// Reads a complete snapshot of a source and sends its entries to `rows`.
///
/// Nothing is applied or stored. An old handler is asked only for the SKUs in its settings.
/// `spool` is a directory for temporary files.
///
/// # Errors
/// The source cannot be read to its end, or it pushes its data and cannot be polled.
pub async fn read_once(
    config: &Config,
    outbound: &ClientConfig,
    spool: &Path,
    now: DateTime<Utc>,
    rows: &mut EntrySender,
) -> Result<(), String> {
    let read_settings = &config.read_settings;
    let build_client = |wanted: ClientConfig| {
        let client_config = ClientConfig {
            extra_ca_file: outbound.extra_ca_file.clone(),
            ..wanted
        };
        strict_http::client(&client_config).map_err(|error| causes(&error))
    };
    match &config.kind {
        SourceKind::Files(files) => {
            let (files, read_settings) = (files.clone(), read_settings.clone());
            let (spool, mut rows) = (spool.to_owned(), rows.new_sender());
            run_blocking(move || files::read_all_now(&files, &read_settings, &spool, &mut rows))
                .await?;
        }
        SourceKind::RemoteFile(remote) => {
            let clients = remote.clients(build_client)?;
            HttpFile::new(remote.clone(), read_settings.clone(), clients)
                .read_now(spool, rows)
                .await?;
        }
        SourceKind::OldHandler { skus, .. } => {
            let client = manager::old_handler_client(config, outbound, &config.policy.name);
            let client = client.map_err(|error| causes(&error))?;
            if let Some(client) = client {
                let pulled = old_handler::pull(&client, skus, read_settings, now, rows).await;
                pulled.map_err(|error| causes(&error))?;
            }
        }
        SourceKind::MoySklad(moysklad) => {
            let client = build_client(moysklad.client_config())?;
            let read = MoySklad::new(client, moysklad.clone())
                .read_snapshot(read_settings, rows)
                .await
                .map(drop);
            read.map_err(|error| causes(&error))?;
        }
        SourceKind::Sql(sql) => {
            let read = sql::read(sql, read_settings, None, rows).await;
            read.map_err(|error| causes(&error))?;
        }
        SourceKind::Exchange(_) | SourceKind::Import => {
            return Err("this source pushes its data and cannot be polled".to_owned());
        }
    }
    rows.flush().await.map_err(|error| error.to_string())
}
