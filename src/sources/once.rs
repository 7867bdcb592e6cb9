use std::path::Path;

use chrono::{DateTime, Utc};

use super::fetch::Remote;
use super::moysklad::MoySklad;
use super::{Config, Feed, Rows, feeds, files, pull, sql};
use crate::http::{self, ClientConfig, causes};
use crate::lifecycle::run_blocking;

/// Reads a source once, whole, for somebody who wants to know what it says now.
///
/// Nothing is taken and nothing is remembered. An old handler is asked for the SKUs that its
/// settings name, and for no other. `spool` is a directory for files on their way in.
///
/// # Errors
/// It cannot be read to its end, or comes by itself and cannot be asked.
pub async fn read_once(
    config: &Config,
    outbound: &ClientConfig,
    spool: &Path,
    now: DateTime<Utc>,
    rows: &mut Rows,
) -> Result<(), String> {
    let reading = &config.reading;
    let call = |wanted: ClientConfig| {
        let wanted = ClientConfig {
            extra_ca_file: outbound.extra_ca_file.clone(),
            ..wanted
        };
        http::client(&wanted).map_err(|error| causes(&error))
    };
    match &config.feed {
        Feed::Files(files) => {
            let (files, reading) = (files.clone(), reading.clone());
            let (spool, mut rows) = (spool.to_owned(), rows.another());
            run_blocking(move || files::read_now(&files, &reading, &spool, &mut rows)).await?;
        }
        Feed::Remote(remote) => {
            let clients = remote.clients(call)?;
            Remote::new(remote.clone(), reading.clone(), clients)
                .read_now(spool, rows)
                .await?;
        }
        Feed::OldHandler { skus, .. } => {
            let client = feeds::handler(config, outbound, &config.taking.name);
            let client = client.map_err(|error| causes(&error))?;
            if let Some(client) = client {
                let pulled = pull::pull(&client, skus, reading, now, rows).await;
                pulled.map_err(|error| causes(&error))?;
            }
        }
        Feed::MoySklad(moysklad) => {
            let client = call(moysklad.client_config())?;
            let read = MoySklad::new(client, moysklad.clone())
                .full(reading, rows)
                .await
                .map(drop);
            read.map_err(|error| causes(&error))?;
        }
        Feed::Sql(sql) => {
            let read = sql::read(sql, reading, None, rows).await;
            read.map_err(|error| causes(&error))?;
        }
        Feed::Exchange(_) | Feed::Import => {
            return Err("it comes by itself, and cannot be asked".to_owned());
        }
    }
    rows.flush().await.map_err(|error| error.to_string())
}
