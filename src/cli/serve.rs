//! `serve`: runs the service until a signal stops it.

use std::convert::Infallible;
use std::future::pending;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use lifecycle::Clock;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, warn};

use crate::app::{App, Ownership};
use crate::command::{ConfigArgs, runtime};
use crate::telemetry::start_logging;

pub(super) const EXAMPLES: &str = "\
Examples:
  stockbridge serve --config config.toml
  stockbridge serve --config config.toml --adopt";

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Take over a store that another installation wrote. That installation must not run any more.
    #[arg(long)]
    adopt: bool,
}

/// Runs the service. The first signal to stop ends it in order, the second one at once. SIGHUP
/// reloads the configuration.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let ownership = if args.adopt {
        Ownership::TakeOver
    } else {
        Ownership::Verify
    };
    let log_filter = start_logging(config.log_format, &config.log_filter)
        .map_err(|reason| anyhow!("start logging: {reason}"))?;
    let result = runtime()?.block_on(async {
        let listen = |kind| signal(kind).context("listen for signals");
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut reload_signal = listen(SignalKind::hangup())?;
        let app = App::build(config, Clock::wall(), ownership).await?;
        let app = app.with_log_filter(log_filter);
        let reload = app.reload_handle();
        let reload_on_signal = async move {
            while reload_signal.recv().await.is_some() {
                // The service logs the result.
                let _logged = reload.reload().await;
            }
            pending::<Infallible>().await
        };
        let stop = tokio_util::sync::CancellationToken::new();
        let stop_on_signal = stop.clone();
        let until_second_signal = async move {
            let mut next_signal = async || {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            next_signal().await;
            stop_on_signal.cancel();
            next_signal().await;
            warn!("received a second signal, stopping without waiting for open requests");
        };
        tokio::select! {
            done = app.run(stop.cancelled_owned()) => done,
            never = reload_on_signal => match never {},
            () = until_second_signal => Err(anyhow!("stopped by a second signal")),
        }
    });
    if let Err(error) = result {
        // Logged instead of printed: a supervisor often keeps only the log.
        error!("{error:#}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
