use std::path::PathBuf;
use std::time::Duration;

use super::{ReadSettings, SourcePolicy, files, http_file, moysklad, onec_exchange, sql};
use crate::http::secret::Secret;
use crate::push_api::client::OldHandlerConfig;
use crate::stock::Sku;

/// One source of a shop, as the operator wants it.
#[derive(Clone, Debug)]
pub struct Config {
    /// How its deliveries are taken.
    pub policy: SourcePolicy,
    /// How what it says is read.
    pub read_settings: ReadSettings,
    /// How often it is looked at or asked.
    pub poll_interval: Duration,
    /// How it is reached.
    pub kind: SourceKind,
}

/// How a source is reached.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// Files of this machine.
    Files(files::Config),
    /// A file of another machine.
    RemoteFile(http_file::Config),
    /// The shop's own old handler.
    OldHandler {
        /// How it is asked.
        handler: OldHandlerConfig,
        /// What it is asked for besides what is known.
        skus: Vec<Sku>,
    },
    /// 1C comes by itself.
    Exchange(ExchangeConfig),
    /// The service.
    MoySklad(moysklad::Config),
    /// A database.
    Sql(sql::Config),
    /// Nobody is asked: what is handed over by hand.
    Import,
}

impl SourceKind {
    /// Its name in the settings and on pages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Files(_) | Self::RemoteFile(_) => "file",
            Self::OldHandler { .. } => "legacy",
            Self::Exchange(_) => "1c",
            Self::MoySklad(_) => "moysklad",
            Self::Sql(_) => "sql",
            Self::Import => "import",
        }
    }

    /// The address it is reached at, if that is called from here.
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

/// Where 1C comes in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExchangeConfig {
    /// The path of its URL.
    pub path: String,
    /// Under which name it comes.
    pub login: String,
    /// And with which password.
    pub password: Secret,
    /// The most one transfer may bring, in bytes.
    pub max_bytes: u64,
}

impl ExchangeConfig {
    /// The door of the source at that place, which keeps what arrives in that directory.
    #[must_use]
    pub fn endpoint(
        &self,
        source: usize,
        name: &str,
        spool: PathBuf,
    ) -> onec_exchange::ExchangeEndpoint {
        onec_exchange::ExchangeEndpoint {
            source_index: source,
            name: name.to_owned(),
            path: self.path.clone(),
            login: self.login.clone(),
            password: self.password.clone(),
            spool,
            max_bytes: self.max_bytes,
            accepts_zip: true,
        }
    }
}
