//! Client of a running service's operator API, and the arguments that its commands share.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use strict_http::secret::Secret;
use strict_http::{ClientConfig, Trust, client, reachable_address, read_response};

use super::{exit_code, print_line};
use crate::config::read_secret;
use crate::ops::access;

/// Timeout of a request. The service may have to walk through millions of SKUs.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Timeout for sending and applying a large file.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Maximum size of a response. `/status` lists thousands of quarantined SKUs, each with a reason.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Argument for the address of the running service.
#[derive(Debug, clap::Args)]
pub(crate) struct OpsArgs {
    /// The address of the running service's `ops_listen`.
    #[arg(
        long,
        env = "STOCKBRIDGE_OPS_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:9090"
    )]
    ops: SocketAddr,
    /// A file with the operator's password, if the service has an `ops_password_file`.
    #[arg(long, env = "STOCKBRIDGE_OPS_PASSWORD_FILE", value_name = "FILE")]
    ops_password_file: Option<PathBuf>,
}

/// Arguments of commands that print a response of the service.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// Print the response of the service as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) ops: OpsArgs,
}

impl ReportArgs {
    /// Prints the response as JSON with `--json`, or else with `print`. The exit code is 0 if
    /// `is_success`, or else 1.
    pub(crate) fn print_report<T: DeserializeOwned>(
        &self,
        response: Value,
        is_success: impl FnOnce(&T) -> bool,
        print: impl FnOnce(&T),
    ) -> anyhow::Result<ExitCode> {
        let json = self.json.then(|| format!("{response:#}"));
        let report = parse_response(response)?;
        match json {
            Some(json) => print_line(&json),
            None => print(&report),
        }
        Ok(exit_code(is_success(&report)))
    }
}

/// HTTP client of the operator API.
pub(crate) struct OpsClient {
    client: reqwest::Client,
    address: SocketAddr,
    password: Option<Secret>,
}

impl OpsArgs {
    pub(crate) fn client(&self) -> anyhow::Result<OpsClient> {
        OpsClient::with_timeout(self.ops, TIMEOUT, self.password()?)
    }

    /// Returns a client with the long timeout for uploads.
    pub(crate) fn upload_client(&self) -> anyhow::Result<OpsClient> {
        OpsClient::with_timeout(self.ops, UPLOAD_TIMEOUT, self.password()?)
    }

    /// Address of the listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.ops
    }

    /// Reads the password of the listener, if a file is named.
    pub(crate) fn password(&self) -> anyhow::Result<Option<Secret>> {
        let Some(path) = &self.ops_password_file else {
            return Ok(None);
        };
        let secret = read_secret(path);
        secret
            .map(Some)
            .map_err(|rule| anyhow!("--ops-password-file, {}, {rule}", path.display()))
    }
}

impl OpsClient {
    pub(crate) fn new(address: SocketAddr) -> anyhow::Result<Self> {
        Self::with_timeout(address, TIMEOUT, None)
    }

    fn with_timeout(
        address: SocketAddr,
        timeout: Duration,
        password: Option<Secret>,
    ) -> anyhow::Result<Self> {
        let config = ClientConfig {
            read_timeout: timeout,
            total_timeout: timeout,
            trust: Trust::PlainHttpOnly,
            ..ClientConfig::default()
        };
        Ok(Self {
            client: client(&config)?,
            address,
            password,
        })
    }

    /// Sends a GET request and returns the response.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.execute(self.client.get(format!("{}{path}", ops_url(self.address))))
            .await
    }

    /// Sends a POST request with an optional JSON body.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<T> {
        let mut request = self.client.post(format!("{}{path}", ops_url(self.address)));
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body.to_string());
        }
        self.execute(request).await
    }

    /// Sends a POST request with a streamed body.
    pub(crate) async fn upload(&self, path: &str, body: reqwest::Body) -> anyhow::Result<Value> {
        let request = self.client.post(format!("{}{path}", ops_url(self.address)));
        let request = request.header("Content-Type", "application/octet-stream");
        self.execute(request.body(body)).await
    }

    async fn execute<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> anyhow::Result<T> {
        let mut request = request.header(access::CSRF_HEADER, access::CSRF_HEADER_VALUE);
        if let Some(password) = &self.password {
            request = request.bearer_auth(password.expose());
        }
        let response = request.send().await.with_context(|| {
            format!(
                "no response from {}: is it running, and is --ops its ops_listen?",
                self.address
            )
        })?;
        let status = response.status();
        let body = read_response(response, MAX_BYTES)
            .await
            .context("read the response")?;
        if body.is_empty() && status.is_success() {
            return parse_response(Value::Null);
        }
        let value: Value = serde_json::from_slice(&body).map_err(|_| {
            anyhow!(
                "{} is not a stockbridge service, it responded with {status} and without JSON: \
                     set --ops to the address of ops_listen",
                self.address
            )
        })?;
        if !status.is_success() {
            let message = value.pointer("/error/message").and_then(Value::as_str);
            let unknown = "the service rejected the request without a reason";
            bail!("{}", message.unwrap_or(unknown));
        }
        parse_response(value)
    }
}

fn parse_response<T: DeserializeOwned>(response: Value) -> anyhow::Result<T> {
    serde_json::from_value(response).context(
        "the service responded with other members than expected: is it of the same release as this \
         command?",
    )
}

/// Returns the query string of the values present, with its `?`; empty without values.
pub(crate) fn query_string(pairs: &[(&str, Option<&str>)]) -> String {
    let present = pairs
        .iter()
        .filter_map(|(key, value)| Some((key, (*value)?)));
    present
        .enumerate()
        .fold(String::new(), |query, (index, (key, value))| {
            let sign = if index == 0 { '?' } else { '&' };
            format!(
                "{query}{sign}{key}={}",
                utf8_percent_encode(value, NON_ALPHANUMERIC)
            )
        })
}

/// Returns a value as text; a dash for none.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "—".to_owned(), |value| value.to_string())
}

/// Returns a time as the JSON of the service has it; a dash for none.
pub(crate) fn exact_time(at: impl Into<Option<DateTime<Utc>>>) -> String {
    time_text(at.into(), SecondsFormat::AutoSi)
}

/// Returns a time without fractions of a second; a dash for none.
pub(crate) fn time_in_seconds(at: impl Into<Option<DateTime<Utc>>>) -> String {
    time_text(at.into(), SecondsFormat::Secs)
}

fn time_text(at: Option<DateTime<Utc>>, format: SecondsFormat) -> String {
    or_dash(at.map(|at| at.to_rfc3339_opts(format, true)))
}

/// Returns the base URL of an operators' listener.
pub(crate) fn ops_url(ops: SocketAddr) -> String {
    format!("http://{}", reachable_address(ops))
}
