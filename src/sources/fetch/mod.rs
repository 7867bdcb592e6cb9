//! A file that somebody else's server hands out.
//!
//! Asked for with what the server said of it the last time, so that an unchanged file is not
//! sent again. It goes to disk first and is read from there: a line that breaks in the middle
//! leaves nothing half done.
//!
//! Redirects are followed on the configured host, and from there to public addresses; to private
//! addresses only if the configured host has a private address itself. So a public server cannot
//! make this program read from the seller's own network.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{
    ACCEPT_ENCODING, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION,
};
use chrono::{DateTime, Utc};
use reqwest::{Client, Response, Url};
use serde::{Deserialize, Serialize};

use super::files::{self, together};
use super::formats::Format;
use super::{Intake, IntakeError, ReadReport, Reading, Receipt, Rows};
use crate::http::secret::Secret;
use crate::http::{AddressRule, ClientConfig, Trust, causes, is_public};
use crate::stock::Instant;

/// The most that is fetched, in bytes; unpacked it may be more.
const MAX_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// How long a file may take to come.
const DEADLINE: Duration = Duration::from_secs(3_600);

/// How often a server may send us elsewhere.
const MAX_REDIRECTS: usize = 5;

/// Where a file is, and how we are let in.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its address.
    pub url: Url,
    /// Name and password, for that host alone.
    pub login: Option<(String, Secret)>,
    /// What it is; found out if not said.
    pub format: Option<Format>,
}

impl Config {
    /// Makes the clients, which wait for large files.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn clients<E>(
        &self,
        make: impl Fn(ClientConfig) -> Result<Client, E>,
    ) -> Result<Clients, E> {
        let wanted = ClientConfig {
            total_timeout: DEADLINE,
            // It may send us on to an address of its own choice.
            trust: Trust::System,
            ..ClientConfig::default()
        };
        let public = ClientConfig {
            address_rule: Some(is_public),
            ..wanted.clone()
        };
        Ok(Clients {
            configured: make(wanted)?,
            public: make(public)?,
        })
    }
}

/// What a server said of the file the last time.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Known {
    etag: Option<String>,
    modified: Option<String>,
}

/// A file of one source on a server.
#[derive(Debug)]
pub struct Remote {
    config: Config,
    reading: Reading,
    clients: Clients,
    known: Option<Known>,
    // Tests have loopback addresses only.
    is_public: AddressRule,
}

/// Clients of one remote file.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Client for the configured host.
    configured: Client,
    /// Client for redirects to other hosts; it connects to public addresses only.
    public: Client,
}

impl Remote {
    /// A file that was not asked for yet.
    #[must_use]
    pub fn new(config: Config, reading: Reading, clients: Clients) -> Self {
        Self {
            config,
            reading,
            clients,
            known: None,
            is_public,
        }
    }

    /// Asks for it, and takes it if it has changed. What became of it stands with the source.
    ///
    /// # Errors
    /// The server does not hand it out, or what was taken cannot be remembered.
    pub async fn look(&mut self, intake: &Intake, source: usize) -> Result<(), IntakeError> {
        let known = match self.known.take() {
            Some(known) => known,
            None => serde_json::from_str(&intake.reader(source).await?).unwrap_or_default(),
        };
        let answered = self.ask(&known).await.map_err(IntakeError::Unread);
        let Some(answer) = answered.inspect_err(|_| self.known = Some(known.clone()))? else {
            self.known = Some(known);
            return Ok(());
        };
        let header = |name| {
            let value = answer.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let new = Known {
            etag: header(ETAG),
            modified: header(LAST_MODIFIED),
        };
        let at = new
            .modified
            .as_deref()
            .and_then(|text| DateTime::parse_from_rfc2822(text).ok());
        let at = at.map(|at| Instant::from(at.with_timezone(&Utc)));
        let delivered = self.deliver(intake, source, at, answer).await;
        // What cannot be taken is not asked for again until it changes, unless it is ours to
        // mend, or the line's.
        if matches!(&delivered, Ok(_) | Err(IntakeError::Unfit(_))) {
            intake
                .remember(source, &serde_json::to_string(&new).unwrap_or_default())
                .await?;
            self.known = Some(new);
        } else {
            self.known = Some(known);
        }
        Ok(())
    }

    async fn deliver(
        &self,
        intake: &Intake,
        source: usize,
        at: Option<Instant>,
        answer: Response,
    ) -> Result<Receipt, IntakeError> {
        let spool = intake.directory();
        let read = async |rows: &mut Rows| self.read(answer, spool, rows).await;
        intake.deliver(source, at, true, read).await
    }

    /// Asks for it and reads it, whatever is known of it; nothing is taken, nor remembered.
    ///
    /// # Errors
    /// The server does not hand it out, or it cannot be read to its verified end.
    pub async fn read_now(&self, spool: &Path, rows: &mut Rows) -> Result<(), String> {
        let answer = self.ask(&Known::default()).await?;
        let answer =
            answer.ok_or("the server says that it is as it was, and was not asked that")?;
        self.read(answer, spool, rows).await.map(drop)
    }

    async fn read(
        &self,
        answer: Response,
        spool: &Path,
        rows: &mut Rows,
    ) -> Result<ReadReport, String> {
        let format = self.config.format;
        let name = self.config.url.path_segments().and_then(Iterator::last);
        let name = name.unwrap_or_default().to_owned();
        let file = save(answer, spool).await?;
        let from = (&self.reading, spool);
        let endings = files::read_apart(name, file, format, from, rows).await?;
        Ok(ReadReport::of_files(together(&endings).into(), endings))
    }

    /// The file, or `None` if it is what it was.
    async fn ask(&self, known: &Known) -> Result<Option<Response>, String> {
        let mut url = self.config.url.clone();
        let mut reach = Reach::Public;
        for _ in 0..=MAX_REDIRECTS {
            let is_configured_host = url.host() == self.config.url.host();
            let client = match reach {
                Reach::Public if !is_configured_host => &self.clients.public,
                Reach::Public | Reach::Private => &self.clients.configured,
            };
            let mut call = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            if let Some((name, password)) = &self.config.login
                && url.origin() == self.config.url.origin()
            {
                call = call.basic_auth(name, Some(password.expose()));
            }
            if let Some(etag) = &known.etag {
                call = call.header(IF_NONE_MATCH, etag);
            }
            if let Some(modified) = &known.modified {
                call = call.header(IF_MODIFIED_SINCE, modified);
            }
            // The address may hold a token.
            let host = url.host_str().unwrap_or_default().to_owned();
            let unreachable = |error: reqwest::Error| {
                format!("{host} cannot be reached: {}", causes(&error.without_url()))
            };
            let answer = call.send().await.map_err(unreachable)?;
            if is_configured_host {
                reach = self.reach(answer.remote_addr().map(|address| address.ip()));
            }
            match answer.status() {
                StatusCode::NOT_MODIFIED => return Ok(None),
                status if status.is_redirection() => {
                    url = self.redirect_target(&url, &answer, reach)?;
                }
                status if status == StatusCode::OK => return Ok(Some(answer)),
                status => {
                    let host = url.host_str().unwrap_or_default();
                    return Err(format!("{host} answers {status}, it must be 200"));
                }
            }
        }
        Err(format!("more than {MAX_REDIRECTS} redirections"))
    }
}

/// Addresses that redirects from the configured host may lead to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reach {
    /// Public ones: the configured host is on the internet.
    Public,
    /// All: the configured host is in a private network itself.
    Private,
}

impl Remote {
    /// Reach of redirects, by the address under which the configured host responded.
    fn reach(&self, address: Option<IpAddr>) -> Reach {
        match address {
            Some(address) if !(self.is_public)(address) => Reach::Private,
            Some(_) | None => Reach::Public,
        }
    }

    /// Checked target of a redirect.
    ///
    /// An address in the URL is checked here; a host name is checked when it is resolved, by the
    /// client for public addresses.
    fn redirect_target(&self, from: &Url, answer: &Response, reach: Reach) -> Result<Url, String> {
        let to = elsewhere(from, answer)?;
        let host = to.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let is_private = host
            .parse()
            .is_ok_and(|address: IpAddr| !(self.is_public)(address));
        if reach == Reach::Public && is_private && to.host() != self.config.url.host() {
            return Err(format!(
                "{} redirects to {}, which is not a public address: set url to the final address \
                 if it is right",
                from.host_str().unwrap_or_default(),
                to.host_str().unwrap_or_default()
            ));
        }
        Ok(to)
    }
}

/// Where a server sends us; never from HTTPS to HTTP.
fn elsewhere(from: &Url, answer: &Response) -> Result<Url, String> {
    let location = answer
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok());
    let host = from.host_str().unwrap_or_default();
    let location =
        location.ok_or_else(|| format!("{host} sends us elsewhere without saying where"))?;
    let to = from
        .join(location)
        .map_err(|_| format!("{host} sends us to no address"))?;
    let is_web = matches!(to.scheme(), "http" | "https");
    if !is_web || (from.scheme() == "https" && to.scheme() == "http") {
        return Err(format!(
            "{host} sends us from {} to {}",
            from.scheme(),
            to.scheme()
        ));
    }
    Ok(to)
}

/// Puts an answer on disk, whole.
async fn save(mut answer: Response, spool: &Path) -> Result<File, String> {
    let unwritable = |error: std::io::Error| format!("cannot keep the file: {error}");
    let mut file = tempfile::tempfile_in(spool).map_err(unwritable)?;
    let mut length = 0_u64;
    let cut = |error: reqwest::Error| format!("the line broke: {}", error.without_url());
    while let Some(piece) = answer.chunk().await.map_err(cut)? {
        length += piece.len() as u64;
        if length > MAX_BYTES {
            return Err(format!("the file is longer than {MAX_BYTES} bytes"));
        }
        // A piece is some kilobytes, which the system takes into its memory.
        file.write_all(&piece).map_err(unwritable)?;
    }
    file.rewind().map_err(unwritable)?;
    Ok(file)
}

#[cfg(test)]
mod tests;
