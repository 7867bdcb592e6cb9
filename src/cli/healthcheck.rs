use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use super::{print_line, runtime};
use crate::http::{ClientConfig, Trust, client};

/// How long the answer may take: less than a container's usual limit of some seconds.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Where to ask.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The operator's listener.
    #[arg(long, env = "STOCKBRIDGE_OPS_LISTEN", default_value = "127.0.0.1:9090")]
    ops: SocketAddr,
}

/// Asks `/readyz` and fails unless it says 200.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = ClientConfig {
        total_timeout: TIMEOUT,
        trust: Trust::PlainHttpOnly,
        ..ClientConfig::default()
    };
    let url = format!("{}/readyz", ops_url(args.ops));
    runtime()?.block_on(async {
        let response = client(&config)?
            .get(&url)
            .send()
            .await
            .context("ask the service")?;
        let status = response.status();
        let body = response.text().await.context("read the answer")?;
        if !status.is_success() {
            bail!("{url} says {status}: {body}");
        }
        print_line(&body);
        Ok(ExitCode::SUCCESS)
    })
}

/// Where an operator's listener is asked: one on every address on this machine's own.
pub(super) fn ops_url(ops: SocketAddr) -> String {
    let ip = match ops.ip() {
        ip if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, ops.port()))
}
