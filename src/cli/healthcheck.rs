//! `healthcheck`: reports the readiness of a running service by the exit code.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use strict_http::{ClientConfig, Trust, client};

use crate::command::ops_client::{OpsArgs, ops_url};
use crate::command::{print_line, runtime};

pub(super) const EXAMPLES: &str = "\
Examples:
  stockbridge healthcheck
  stockbridge healthcheck --ops 127.0.0.1:9091";

/// Timeout of the request. It is shorter than the usual limit of a container's health check.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Arguments of `healthcheck`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    ops: OpsArgs,
}

/// Requests `/readyz` and fails unless the status is 200.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = ClientConfig {
        total_timeout: TIMEOUT,
        trust: Trust::PlainHttpOnly,
        ..ClientConfig::default()
    };
    let url = format!("{}/readyz", ops_url(args.ops.address()));
    let password = args.ops.password()?;
    runtime()?.block_on(async {
        let mut request = client(&config)?.get(&url);
        if let Some(password) = &password {
            request = request.bearer_auth(password.expose());
        }
        let response = request
            .send()
            .await
            .with_context(|| format!("no response from {url}: is the service running?"))?;
        let status = response.status();
        let body = response.text().await.context("read the response")?;
        if !status.is_success() {
            bail!("the service is not ready: {url} responded with {status}: {body}");
        }
        print_line(&body);
        Ok(ExitCode::SUCCESS)
    })
}
