//! The operator at the terminal, who asks a running service on its own listener.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::healthcheck::ops_url;
use super::print_line;
use crate::http::{ClientConfig, Trust, client, read_response};
use crate::ops::access;
use crate::telemetry::printable;

/// How long an answer may take: the service may have to look at millions of SKUs.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a large file may take to be sent and taken.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Most bytes read of an answer: thousands of SKUs set aside, each with its reason.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Where the service is.
#[derive(Debug, clap::Args)]
pub(super) struct OpsArgs {
    /// The running service's listener for operators.
    #[arg(
        long,
        env = "STOCKBRIDGE_OPS_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:9090"
    )]
    ops: SocketAddr,
}

/// A question whose answer can be had as it came.
#[derive(Debug, clap::Args)]
pub(super) struct ReportArgs {
    /// Print the answer as JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) ops: OpsArgs,
}

impl ReportArgs {
    /// Prints an answer as JSON, or as `print` does; the exit code says whether all is well.
    pub(super) fn print_report(
        &self,
        response: &Value,
        is_success: bool,
        print: impl FnOnce(&Value),
    ) -> anyhow::Result<ExitCode> {
        if self.json {
            print_line(&serde_json::to_string_pretty(response)?);
        } else {
            print(response);
        }
        Ok(if is_success {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// See the module.
pub(super) struct OpsClient {
    client: reqwest::Client,
    address: SocketAddr,
}

impl OpsArgs {
    pub(super) fn client(&self) -> anyhow::Result<OpsClient> {
        OpsClient::new(self.ops)
    }

    /// For what may take as long as a million rows do.
    pub(super) fn upload_client(&self) -> anyhow::Result<OpsClient> {
        OpsClient::with_timeout(self.ops, UPLOAD_TIMEOUT)
    }
}

impl OpsClient {
    pub(super) fn new(address: SocketAddr) -> anyhow::Result<Self> {
        Self::with_timeout(address, TIMEOUT)
    }

    fn with_timeout(address: SocketAddr, timeout: Duration) -> anyhow::Result<Self> {
        let config = ClientConfig {
            read_timeout: timeout,
            total_timeout: timeout,
            trust: Trust::PlainHttpOnly,
            ..ClientConfig::default()
        };
        Ok(Self {
            client: client(&config)?,
            address,
        })
    }

    /// What is at this path.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.execute(self.client.get(format!("{}{path}", ops_url(self.address))))
            .await
    }

    /// Has something done.
    pub(super) async fn post(&self, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let mut request = self.client.post(format!("{}{path}", ops_url(self.address)));
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body.to_string());
        }
        self.execute(request).await
    }

    /// Hands over what may be long.
    pub(super) async fn upload(&self, path: &str, body: reqwest::Body) -> anyhow::Result<Value> {
        let request = self.client.post(format!("{}{path}", ops_url(self.address)));
        self.execute(
            request
                .header("Content-Type", "application/octet-stream")
                .body(body),
        )
        .await
    }

    async fn execute(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let request = request.header(access::CSRF_HEADER, access::CSRF_HEADER_VALUE);
        let response = request.send().await.with_context(|| {
            format!(
                "no service answers on {}: is it running, and is --ops right?",
                self.address
            )
        })?;
        let status = response.status();
        let body = read_response(response, MAX_BYTES)
            .await
            .context("read the answer")?;
        if body.is_empty() && status.is_success() {
            return Ok(Value::Null);
        }
        let value: Value = serde_json::from_slice(&body)
            .map_err(|_| anyhow!("{} is no service of ours: {status}", self.address))?;
        if !status.is_success() {
            bail!(
                "{}",
                value["error"]["message"]
                    .as_str()
                    .unwrap_or("the service refuses")
            );
        }
        Ok(value)
    }
}

/// A query of what is said, with its question mark; empty if nothing is.
pub(super) fn query_string(pairs: &[(&str, Option<&str>)]) -> String {
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

/// Text of a JSON value, for people: a string without its quotes, on one line.
pub(super) fn json_text(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text).into_owned(),
        Value::Null => "—".to_owned(),
        other => other.to_string(),
    }
}

/// The elements of a list, none if it is no list.
pub(super) fn json_list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
