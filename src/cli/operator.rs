//! The operator at the terminal, who asks a running service on its own listener.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::healthcheck::ops_url;
use super::say;
use crate::http::{ClientConfig, Trust, client, read_answer};
use crate::ops::access;
use crate::telemetry::printable;

/// How long an answer may take: the service may have to look at millions of SKUs.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a large file may take to be sent and taken.
const LONG_PATIENCE: Duration = Duration::from_secs(3_600);

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
    pub(super) fn tell(
        &self,
        answer: &Value,
        is_well: bool,
        print: impl FnOnce(&Value),
    ) -> anyhow::Result<ExitCode> {
        if self.json {
            say(&serde_json::to_string_pretty(answer)?);
        } else {
            print(answer);
        }
        Ok(if is_well {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// See the module.
pub(super) struct Operator {
    client: reqwest::Client,
    ops: SocketAddr,
}

impl OpsArgs {
    pub(super) fn operator(&self) -> anyhow::Result<Operator> {
        Operator::at(self.ops)
    }

    /// For what may take as long as a million rows do.
    pub(super) fn patient_operator(&self) -> anyhow::Result<Operator> {
        Operator::with(self.ops, LONG_PATIENCE)
    }
}

impl Operator {
    pub(super) fn at(ops: SocketAddr) -> anyhow::Result<Self> {
        Self::with(ops, PATIENCE)
    }

    fn with(ops: SocketAddr, patience: Duration) -> anyhow::Result<Self> {
        let config = ClientConfig {
            read_timeout: patience,
            total_timeout: patience,
            trust: Trust::Nobody,
            ..ClientConfig::default()
        };
        Ok(Self {
            client: client(&config)?,
            ops,
        })
    }

    /// What is at this path.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(self.client.get(format!("{}{path}", ops_url(self.ops))))
            .await
    }

    /// Has something done.
    pub(super) async fn post(&self, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let mut request = self.client.post(format!("{}{path}", ops_url(self.ops)));
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body.to_string());
        }
        self.ask(request).await
    }

    /// Hands over what may be long.
    pub(super) async fn send(&self, path: &str, body: reqwest::Body) -> anyhow::Result<Value> {
        let request = self.client.post(format!("{}{path}", ops_url(self.ops)));
        self.ask(
            request
                .header("Content-Type", "application/octet-stream")
                .body(body),
        )
        .await
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let request = request.header(access::HEADER, access::HEADER_VALUE);
        let answer = request.send().await.with_context(|| {
            format!(
                "no service answers on {}: is it running, and is --ops right?",
                self.ops
            )
        })?;
        let status = answer.status();
        let body = read_answer(answer, MAX_BYTES)
            .await
            .context("read the answer")?;
        if body.is_empty() && status.is_success() {
            return Ok(Value::Null);
        }
        let value: Value = serde_json::from_slice(&body)
            .map_err(|_| anyhow!("{} is no service of ours: {status}", self.ops))?;
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
pub(super) fn query(pairs: &[(&str, Option<&str>)]) -> String {
    let said = pairs
        .iter()
        .filter_map(|(key, value)| Some((key, (*value)?)));
    said.enumerate()
        .fold(String::new(), |query, (index, (key, value))| {
            let sign = if index == 0 { '?' } else { '&' };
            format!(
                "{query}{sign}{key}={}",
                utf8_percent_encode(value, NON_ALPHANUMERIC)
            )
        })
}

/// Text of a JSON value, for people: a string without its quotes, on one line.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text).into_owned(),
        Value::Null => "—".to_owned(),
        other => other.to_string(),
    }
}

/// The elements of a list, none if it is no list.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
