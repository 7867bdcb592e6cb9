//! Stock from a file on an HTTP server.
//!
//! Requests are conditional (`ETag`, `Last-Modified`), so that an unchanged file is not downloaded
//! again. A file is downloaded to disk completely before it is parsed, so an interrupted download
//! changes nothing.
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
use stock::Timestamp;
use stock_import::ReadSettings;
use stock_import::formats::Format;
use strict_http::secret::Secret;
use strict_http::{AddressRule, ClientConfig, Trust, causes, is_public};

use super::files::{self, combined_scope};
use super::source::{DeliveryEnd, DueDelivery, PollContext, ReadFailure, Source};
use super::{EntrySender, ReadReport};

/// Largest download, in bytes; unpacked the file may be larger.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Timeout of a whole download.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Most redirects of one request.
const MAX_REDIRECTS: usize = 5;

/// Settings of a source that downloads a file.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of the file.
    pub url: Url,
    /// Name and password; sent only to the origin of `url`.
    pub login: Option<(String, Secret)>,
    /// Format of the file; detected if `None`.
    pub format: Option<Format>,
}

impl Config {
    /// Builds the HTTP clients, with a timeout for large files.
    ///
    /// # Errors
    /// `build_client` failed.
    pub fn clients<E>(
        &self,
        build_client: impl Fn(ClientConfig) -> Result<Client, E>,
    ) -> Result<HttpFileClients, E> {
        let base_config = ClientConfig {
            total_timeout: DOWNLOAD_TIMEOUT,
            // Certificates are needed even for an http:// URL, which may redirect to https://.
            trust: Trust::System,
            ..ClientConfig::default()
        };
        let public = ClientConfig {
            address_rule: Some(is_public),
            ..base_config.clone()
        };
        Ok(HttpFileClients {
            configured: build_client(base_config)?,
            public: build_client(public)?,
        })
    }
}

/// Validators of the last response, for conditional requests.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct HttpValidators {
    etag: Option<String>,
    modified: Option<String>,
}

impl HttpValidators {
    fn is_known(&self) -> bool {
        self.etag.is_some() || self.modified.is_some()
    }
}

/// File of one source on an HTTP server.
#[derive(Debug)]
pub struct HttpFile {
    config: Config,
    settings: ReadSettings,
    clients: HttpFileClients,
    validators: HttpValidators,
    // Validators of the response that must be read again.
    read_again: Option<HttpValidators>,
    // Replaced by tests, which have loopback addresses only.
    is_public: AddressRule,
}

/// Clients of one remote file.
#[derive(Clone, Debug)]
pub struct HttpFileClients {
    /// Client for the configured host.
    configured: Client,
    /// Client for redirects to other hosts; it connects to public addresses only.
    public: Client,
}

impl HttpFile {
    /// Creates a file that was not requested yet.
    #[must_use]
    pub fn new(config: Config, settings: ReadSettings, clients: HttpFileClients) -> Self {
        Self {
            config,
            settings,
            clients,
            validators: HttpValidators::default(),
            read_again: None,
            is_public,
        }
    }

    async fn read_response(
        &self,
        response: &mut Response,
        spool: &Path,
        rows: &mut EntrySender,
    ) -> Result<ReadReport, String> {
        let format = self.config.format;
        let name = self.config.url.path_segments().and_then(Iterator::last);
        let name = name.unwrap_or_default().to_owned();
        let file = download(response, spool).await?;
        let settings_and_spool = (&self.settings, spool);
        let summaries =
            files::read_on_blocking_thread(name, file, format, settings_and_spool, rows).await?;
        Ok(ReadReport::from_files(
            combined_scope(&summaries).into(),
            summaries,
        ))
    }

    /// Returns the response with the file, or `None` if the file is unchanged.
    async fn request(&self, validators: &HttpValidators) -> Result<Option<Response>, String> {
        let mut url = self.config.url.clone();
        let mut redirect_scope = RedirectScope::Public;
        for _ in 0..=MAX_REDIRECTS {
            let is_configured_host = url.host() == self.config.url.host();
            let client = match redirect_scope {
                RedirectScope::Public if !is_configured_host => &self.clients.public,
                RedirectScope::Public | RedirectScope::Private => &self.clients.configured,
            };
            let mut request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            if let Some((name, password)) = &self.config.login
                && url.origin() == self.config.url.origin()
            {
                request = request.basic_auth(name, Some(password.expose()));
            }
            if let Some(etag) = &validators.etag {
                request = request.header(IF_NONE_MATCH, etag);
            }
            if let Some(modified) = &validators.modified {
                request = request.header(IF_MODIFIED_SINCE, modified);
            }
            // Error messages name only the host, because the URL may contain a token.
            let host_name = url.host_str().unwrap_or_default().to_owned();
            let unreachable = |error: reqwest::Error| {
                format!(
                    "{host_name} cannot be reached: {}",
                    causes(&error.without_url())
                )
            };
            let response = request.send().await.map_err(unreachable)?;
            if is_configured_host {
                redirect_scope =
                    self.redirect_scope(response.remote_addr().map(|address| address.ip()));
            }
            match response.status() {
                StatusCode::NOT_MODIFIED => return Ok(None),
                status if status.is_redirection() => {
                    url = self.redirect_target(&url, &response, redirect_scope)?;
                }
                status if status == StatusCode::OK => return Ok(Some(response)),
                status => {
                    let host = url.host_str().unwrap_or_default();
                    return Err(format!("{host} answered {status}, it must be 200"));
                }
            }
        }
        Err(format!("more than {MAX_REDIRECTS} redirects"))
    }
}

/// Response with a file that has changed.
#[derive(Debug)]
pub struct ChangedFile {
    response: Response,
    validators: HttpValidators,
}

impl Source for HttpFile {
    type Target = ChangedFile;

    const DUE_CONTACTS_SOURCE: bool = true;

    fn restore(&mut self, state: &str) {
        self.validators = serde_json::from_str(state).unwrap_or_default();
    }

    fn read_again(&mut self) {
        self.read_again = Some(std::mem::take(&mut self.validators));
    }

    async fn due(
        &mut self,
        _poll: &PollContext<'_>,
    ) -> Result<Vec<DueDelivery<ChangedFile>>, String> {
        let Some(response) = self.request(&self.validators).await? else {
            return Ok(Vec::new());
        };
        let header = |name| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let validators = HttpValidators {
            etag: header(ETAG),
            modified: header(LAST_MODIFIED),
        };
        let modified_at = validators
            .modified
            .as_deref()
            .and_then(|text| DateTime::parse_from_rfc2822(text).ok());
        Ok(vec![DueDelivery {
            repeats_last: validators.is_known() && self.read_again.as_ref() == Some(&validators),
            stated_at: modified_at.map(|at| Timestamp::from(at.with_timezone(&Utc))),
            target: ChangedFile {
                response,
                validators,
            },
        }])
    }

    async fn read(
        &mut self,
        file: &mut ChangedFile,
        poll: &PollContext<'_>,
        rows: &mut EntrySender,
    ) -> Result<ReadReport, ReadFailure> {
        // A broken download and a login page in place of the file may be gone at the next poll.
        self.read_response(&mut file.response, poll.spool, rows)
            .await
            .map_err(ReadFailure::temporary)
    }

    fn ended(&mut self, file: ChangedFile, end: DeliveryEnd) -> Option<String> {
        match end {
            DeliveryEnd::Interrupted => None,
            // A file that does not fit the settings is requested again only when it changes.
            DeliveryEnd::Applied | DeliveryEnd::Held | DeliveryEnd::Rejected => {
                let state = serde_json::to_string(&file.validators).unwrap_or_default();
                self.validators = file.validators;
                self.read_again = None;
                Some(state)
            }
        }
    }

    async fn read_all(
        &mut self,
        poll: &PollContext<'_>,
        rows: &mut EntrySender,
    ) -> Result<(), String> {
        let response = self.request(&HttpValidators::default()).await?;
        let mut response = response
            .ok_or("the server answered 304 Not Modified to a request without a condition")?;
        self.read_response(&mut response, poll.spool, rows)
            .await
            .map(drop)
    }
}

/// Allowed targets of redirects from the configured host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RedirectScope {
    /// Public addresses only: the configured host is on the internet.
    Public,
    /// All addresses: the configured host is in a private network itself.
    Private,
}

impl HttpFile {
    /// Returns the scope of redirects for the address of the configured host.
    fn redirect_scope(&self, address: Option<IpAddr>) -> RedirectScope {
        match address {
            Some(address) if !(self.is_public)(address) => RedirectScope::Private,
            Some(_) | None => RedirectScope::Public,
        }
    }

    /// Returns the checked target of a redirect.
    ///
    /// An address in the URL is checked here; a host name is checked when it is resolved, by the
    /// client for public addresses.
    fn redirect_target(
        &self,
        from: &Url,
        response: &Response,
        redirect_scope: RedirectScope,
    ) -> Result<Url, String> {
        let target = redirect_location(from, response)?;
        let host = target
            .host_str()
            .unwrap_or_default()
            .trim_matches(['[', ']']);
        let is_private = host
            .parse()
            .is_ok_and(|address: IpAddr| !(self.is_public)(address));
        if redirect_scope == RedirectScope::Public
            && is_private
            && target.host() != self.config.url.host()
        {
            return Err(format!(
                "{} redirects to {}, which is not a public address: set url to the final address \
                 if it is right",
                from.host_str().unwrap_or_default(),
                target.host_str().unwrap_or_default()
            ));
        }
        Ok(target)
    }
}

/// Returns the target of a redirect; redirects from HTTPS to HTTP are an error.
fn redirect_location(from: &Url, response: &Response) -> Result<Url, String> {
    let location = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok());
    let host = from.host_str().unwrap_or_default();
    let location =
        location.ok_or_else(|| format!("{host} redirects without a valid Location header"))?;
    let target = from
        .join(location)
        .map_err(|_| format!("{host} redirects to an invalid URL"))?;
    let is_web = matches!(target.scheme(), "http" | "https");
    if !is_web || (from.scheme() == "https" && target.scheme() == "http") {
        return Err(format!(
            "{host} redirects from {} to {}, which is not allowed",
            from.scheme(),
            target.scheme()
        ));
    }
    Ok(target)
}

/// Downloads a response body to a temporary file.
async fn download(response: &mut Response, spool: &Path) -> Result<File, String> {
    let write_error = |error: std::io::Error| format!("cannot store the file: {error}");
    let mut file = tempfile::tempfile_in(spool).map_err(write_error)?;
    let mut length = 0_u64;
    let interrupted =
        |error: reqwest::Error| format!("the download was interrupted: {}", error.without_url());
    while let Some(chunk) = response.chunk().await.map_err(interrupted)? {
        length += chunk.len() as u64;
        if length > MAX_FILE_BYTES {
            return Err(format!("the file is longer than {MAX_FILE_BYTES} bytes"));
        }
        // Blocking is fine here: a chunk has some kilobytes and goes to the page cache.
        file.write_all(&chunk).map_err(write_error)?;
    }
    file.rewind().map_err(write_error)?;
    Ok(file)
}

#[cfg(test)]
mod tests;
