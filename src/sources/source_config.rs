//! Configuration of one source: its connector, its schedule, and how its data is read and applied.
//! The loop that follows the schedule is `manager::poll_loop`.

use std::time::Duration;

use connectors::{files, http_file, moysklad, onec_exchange, sql};
use market_api::push::client::OldHandlerConfig;
use serde::{Deserialize, Serialize};
use stock::Sku;
use stock_import::ReadSettings;

use super::SourcePolicy;
use crate::ingest::Origin;

/// Configuration of one source of a shop.
#[derive(Clone, Debug)]
pub struct Config {
    /// Policy for its deliveries.
    pub policy: SourcePolicy,
    /// Settings for reading its data.
    pub read_settings: ReadSettings,
    /// Digest of the settings that decide which rows the source has and how they are read. If it
    /// differs from that of the last delivery, the source is read again.
    pub read_digest: String,
    /// Pause between two polls.
    pub poll_interval: Duration,
    /// Kind of source, with the settings of its connector.
    pub kind: SourceKind,
}

/// Name of a kind of source in settings, on pages and in metrics.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, strum::VariantArray)]
#[serde(rename_all = "lowercase")]
pub enum SourceKindName {
    /// Files of this machine or of a web server.
    File,
    /// The shop's own old handler.
    Legacy,
    /// Exchange that 1C starts.
    #[serde(rename = "1c")]
    Exchange,
    /// The cloud service MoySklad.
    MoySklad,
    /// A PostgreSQL or MySQL database.
    Sql,
    /// Files that an operator imports by hand. No setting can have this kind.
    #[serde(skip)]
    Import,
}

impl SourceKindName {
    /// Returns the name as it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Legacy => "legacy",
            Self::Exchange => "1c",
            Self::MoySklad => "moysklad",
            Self::Sql => "sql",
            Self::Import => "import",
        }
    }

    /// Returns the origin of the stock that such a source states.
    #[must_use]
    pub fn origin(self) -> Origin {
        match self {
            Self::File => Origin::File,
            Self::Legacy => Origin::OldHandler,
            Self::Exchange => Origin::Exchange,
            Self::MoySklad => Origin::MoySklad,
            Self::Sql => Origin::Sql,
            Self::Import => Origin::Import,
        }
    }
}

/// Kind of source, with the settings of its connector.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// Files on this machine.
    Files(files::Config),
    /// A file on an HTTP or HTTPS server.
    RemoteFile(http_file::Config),
    /// The shop's own old handler.
    OldHandler {
        /// Address, credentials and limits of the handler.
        handler: OldHandlerConfig,
        /// SKUs to request in addition to the known ones.
        skus: Vec<Sku>,
    },
    /// Uploads by 1C. The service does not poll it.
    Exchange(onec_exchange::Config),
    /// The cloud service MoySklad.
    MoySklad(moysklad::Config),
    /// A PostgreSQL or MySQL database.
    Sql(sql::Config),
    /// Files that an operator imports by hand. The service does not poll it.
    Import,
}

impl SourceKind {
    /// Returns the URL path under which 1C exchanges data with this source, if it is such a source.
    #[must_use]
    pub fn exchange_path(&self) -> Option<&str> {
        match self {
            Self::Exchange(exchange) => Some(&exchange.path),
            Self::Files(_)
            | Self::RemoteFile(_)
            | Self::OldHandler { .. }
            | Self::MoySklad(_)
            | Self::Sql(_)
            | Self::Import => None,
        }
    }

    /// Returns the name in settings, pages and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind_name().name()
    }

    /// Returns the kind without its settings.
    #[must_use]
    pub fn kind_name(&self) -> SourceKindName {
        match self {
            Self::Files(_) | Self::RemoteFile(_) => SourceKindName::File,
            Self::OldHandler { .. } => SourceKindName::Legacy,
            Self::Exchange(_) => SourceKindName::Exchange,
            Self::MoySklad(_) => SourceKindName::MoySklad,
            Self::Sql(_) => SourceKindName::Sql,
            Self::Import => SourceKindName::Import,
        }
    }

    /// Returns true if the source sends its data by itself, so that it is not polled.
    #[must_use]
    pub fn is_passive(&self) -> bool {
        match self {
            Self::Exchange(_) | Self::Import => true,
            Self::Files(_)
            | Self::RemoteFile(_)
            | Self::OldHandler { .. }
            | Self::MoySklad(_)
            | Self::Sql(_) => false,
        }
    }

    /// Returns the base URL of the HTTP requests to the source; `None` if there are none.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        match self {
            Self::RemoteFile(remote) => Some(remote.url.as_str()),
            Self::OldHandler { handler, .. } => Some(&handler.url),
            Self::MoySklad(config) => Some(&config.base_url),
            Self::Files(_) | Self::Exchange(_) | Self::Sql(_) | Self::Import => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::*;

    #[test]
    fn a_kind_has_one_name_and_imports_are_not_a_setting() {
        for kind in SourceKindName::VARIANTS {
            let read = serde_json::from_value::<SourceKindName>(kind.name().into()).ok();
            let expected = Some(*kind).filter(|kind| *kind != SourceKindName::Import);
            assert_eq!(read, expected, "{}", kind.name());
        }
    }
}
