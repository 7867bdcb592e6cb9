use std::path::PathBuf;
use std::time::Duration;

use super::{Reading, Taking, exchange, fetch, files, moysklad, sql};
use crate::http::secret::Secret;
use crate::legacy::client::Handler;
use crate::stock::Sku;

/// One source of a shop, as the operator wants it.
#[derive(Clone, Debug)]
pub struct Config {
    /// How its deliveries are taken.
    pub taking: Taking,
    /// How what it says is read.
    pub reading: Reading,
    /// How often it is looked at or asked.
    pub every: Duration,
    /// How it is reached.
    pub feed: Feed,
}

/// How a source is reached.
#[derive(Clone, Debug)]
pub enum Feed {
    /// Files of this machine.
    Files(files::Config),
    /// A file of another machine.
    Remote(fetch::Config),
    /// The shop's own old handler.
    OldHandler {
        /// How it is asked.
        handler: Handler,
        /// What it is asked for besides what is known.
        skus: Vec<Sku>,
    },
    /// 1C comes by itself.
    Exchange(Door),
    /// The service.
    MoySklad(moysklad::Config),
    /// A database.
    Sql(sql::Config),
    /// Nobody is asked: what is handed over by hand.
    Import,
}

impl Feed {
    /// Its name in the settings and on pages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Files(_) | Self::Remote(_) => "file",
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
            Self::Remote(remote) => Some(remote.url.as_str()),
            Self::OldHandler { handler, .. } => Some(&handler.url),
            Self::MoySklad(config) => Some(&config.base_url),
            Self::Files(_) | Self::Exchange(_) | Self::Sql(_) | Self::Import => None,
        }
    }
}

/// Where 1C comes in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Door {
    /// The path of its URL.
    pub path: String,
    /// Under which name it comes.
    pub login: String,
    /// And with which password.
    pub password: Secret,
    /// The most one transfer may bring, in bytes.
    pub max_bytes: u64,
}

impl Door {
    /// The door of the source at that place, which keeps what arrives in that directory.
    #[must_use]
    pub fn open(&self, source: usize, name: &str, spool: PathBuf) -> exchange::Door {
        exchange::Door {
            source,
            name: name.to_owned(),
            path: self.path.clone(),
            login: self.login.clone(),
            password: self.password.clone(),
            spool,
            max_bytes: self.max_bytes,
            takes_zip: true,
        }
    }
}
