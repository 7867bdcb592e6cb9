use std::process::ExitCode;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, warn};

use super::{ConfigArgs, runtime};
use crate::app::{App, Claim};
use crate::clock::Clock;
use crate::telemetry::start_logging;

/// How to serve.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Take over a store that another installation has written, which does not run any more.
    #[arg(long)]
    adopt: bool,
}

/// Runs the service until it is told to stop: once gently, twice at once.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let claim = if args.adopt {
        Claim::Adopt
    } else {
        Claim::Respect
    };
    start_logging(config.log_format, &config.log_filter)
        .map_err(|reason| anyhow!("start logging: {reason}"))?;
    let served = runtime()?.block_on(async {
        let mut signals = Signals::new().context("listen for signals")?;
        let app = App::build(config, Clock::wall(), claim).await?;
        let stop = tokio_util::sync::CancellationToken::new();
        let asked = stop.clone();
        let twice = async move {
            signals.next().await;
            asked.cancel();
            signals.next().await;
            warn!("told to stop a second time, leaving at once");
        };
        tokio::select! {
            done = app.run(stop.cancelled_owned()) => done,
            () = twice => Err(anyhow!("stopped by a second signal")),
        }
    });
    if let Err(error) = served {
        // In the log as well as on the terminal: somebody may only have the log.
        error!("{error:#}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
