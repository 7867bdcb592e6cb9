//! The commands, a file each.

mod accept;
mod account_probe;
mod check;
mod discover;
mod doctor;
mod explain;
mod healthcheck;
mod import;
mod inspect;
mod ops_client;
mod progress;
mod ready;
mod rehearse;
mod selftest;
mod serve;
mod verify;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::warn;

use crate::config::{Config, ConfigError};
use crate::telemetry::printable_lines;

/// Carries a seller's stock across the end of Yandex Market's push API.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer the Market, take the seller's stock, and forward it.
    Serve(serve::Args),
    /// Play the whole job on this machine, against a Market in miniature, and judge it.
    Rehearse(rehearse::Args),
    /// Check a configuration, print what is in force, and do nothing else.
    Check(ConfigArgs),
    /// Ask the Market what a cabinet holds, and print the shops of a configuration for it.
    Discover(discover::Args),
    /// Check everything a configuration depends on, and say what to do.
    Doctor(doctor::Args),
    /// Have a running service read the Market's copy back now, and say what differs and why.
    Verify(verify::Args),
    /// Say whether the push API can be switched off, and what is in the way.
    Ready(ops_client::ReportArgs),
    /// Say all that is known of a SKU: where its number comes from, and what became of it.
    Explain(explain::Args),
    /// Hand a file with stock to a running service, or say what it would change.
    Import(import::Args),
    /// Show how a file would be read, and print the settings that read it so.
    Inspect(inspect::Args),
    /// Let through what the guard holds of a source, because it is meant.
    Accept(accept::Args),
    /// Make the Market's own check of the integration with one product, on the real Market.
    Selftest(selftest::Args),
    /// Ask a running service whether it is ready; for a container's health check.
    Healthcheck(healthcheck::Args),
}

/// Open files asked for: the most connections that can be set, and some for everything else.
const OPEN_FILE_LIMIT: u64 = 101_000;

/// Which configuration.
#[derive(Debug, clap::Args)]
struct ConfigArgs {
    /// The configuration file.
    #[arg(long, env = "STOCKBRIDGE_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

/// Bad configuration, as `sysexits.h` numbers it: a supervisor need not try again.
const EXIT_CONFIG: u8 = 78;

impl Cli {
    /// Runs the command; the exit code is 0 well, 1 failed, 78 bad configuration.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Serve(args) => serve::run(&args),
            Command::Rehearse(args) => rehearse::run(&args),
            Command::Check(args) => check::run(&args),
            Command::Discover(args) => discover::run(&args),
            Command::Doctor(args) => doctor::run(&args),
            Command::Verify(args) => verify::run(&args),
            Command::Ready(args) => ready::run(&args),
            Command::Explain(args) => explain::run(&args),
            Command::Import(args) => import::run(&args),
            Command::Inspect(args) => inspect::run(&args),
            Command::Accept(args) => accept::run(&args),
            Command::Selftest(args) => selftest::run(&args),
            Command::Healthcheck(args) => healthcheck::run(&args),
        };
        result.unwrap_or_else(|error| {
            print_error(&format!("{error:#}"));
            let is_config = error.downcast_ref::<ConfigError>().is_some();
            ExitCode::from(if is_config { EXIT_CONFIG } else { 1 })
        })
    }
}

impl ConfigArgs {
    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(&self.config)
    }
}

/// A line for the person at the terminal, on standard output. What is printed comes from sellers'
/// files and other servers in part, so characters that mislead a terminal are escaped; JSON stays
/// the same JSON.
fn print_line(text: &str) {
    // Whoever reads may have gone, such as `head`: that is no fault of ours.
    let _ignored = writeln!(std::io::stdout(), "{}", printable_lines(text));
}

/// A line about what went wrong, on standard error.
fn print_error(text: &str) {
    let _ignored = writeln!(std::io::stderr(), "{}", printable_lines(text));
}

/// The runtime of every command that talks to somebody.
///
/// Ten thousand connections need as many open files; many systems give 1024 to those who do
/// not ask for more. If more cannot be had, the accept loop waits for one to be closed.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    if let Err(error) = rlimit::increase_nofile_limit(OPEN_FILE_LIMIT) {
        warn!(error = %error, "cannot raise the limit of open files");
    }
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}
