//! One read of a source for the setup commands, without a store and without the pipeline.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use connectors::{EntrySender, PollContext, Source as _};
use strict_http::{ClientConfig, causes};

use super::Config;
use super::manager::{ReadySource, create_source, old_handler_client};

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
    let about = &config.policy.name;
    let created = old_handler_client(config, outbound, about)
        .and_then(|old_handler| create_source(config, old_handler, outbound, about));
    let poll = PollContext {
        shop: about,
        now,
        spool,
        known_skus: Arc::new(Vec::new),
    };
    match created.map_err(|error| causes(&error))? {
        ReadySource::Files(mut source) => source.read_all(&poll, rows).await?,
        ReadySource::RemoteFile(mut source) => source.read_all(&poll, rows).await?,
        ReadySource::OldHandler(mut source) => source.read_all(&poll, rows).await?,
        ReadySource::MoySklad(mut source) => source.read_all(&poll, rows).await?,
        ReadySource::Sql(mut source) => source.read_all(&poll, rows).await?,
        ReadySource::Passive => {
            return Err("this source pushes its data and cannot be polled".to_owned());
        }
    }
    rows.flush().await.map_err(|error| error.to_string())
}
