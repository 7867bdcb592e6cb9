//! Command line: the arguments, one file per command, and exit codes. The commands that prepare a
//! shop are in [`setup`](crate::setup).

mod accept;
mod check;
mod completions;
mod config_command;
mod explain;
mod healthcheck;
mod import;
mod inspect;
mod notify;
mod ready;
mod selftest;
mod serve;
mod store_copy;
#[cfg(test)]
mod tests;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::command::ops_client::ReportArgs;
use crate::command::{ConfigArgs, print_error};
use crate::config::ConfigError;
use crate::setup::{discover, doctor, rehearse};

/// Keeps a seller's stock on Yandex Market up to date: answers the push API, sends to the new API.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service: answer the Market, accept the seller's stock and send it to the Market.
    #[command(after_help = serve::EXAMPLES)]
    Serve(serve::Args),
    /// Test the whole service on this machine against a Market simulator.
    ///
    /// The real Market is never called. Exit code 0 means that the simulator's copy equals the
    /// seller's stock and no limit was exceeded.
    #[command(after_help = rehearse::EXAMPLES)]
    Rehearse(rehearse::Args),
    /// Check a configuration and print the settings in force, with secrets as `***`.
    ///
    /// Every error is reported at once, and the exit code is then 78. Nothing is started, written
    /// or called.
    #[command(after_help = check::EXAMPLES)]
    Check(ConfigArgs),
    /// Print a commented configuration file to start from.
    #[command(after_help = config_command::EXAMPLES)]
    Config(config_command::Args),
    /// List the cabinets of an Api-Key and print the shops of a configuration for them.
    ///
    /// The Market is only read. The output is a configuration file with comments.
    #[command(after_help = discover::EXAMPLES)]
    Discover(discover::Args),
    /// Check everything that a configuration depends on, and print a remedy for each problem.
    ///
    /// Checks the files, the disk, the Api-Keys, the ids, the running service and the way from the
    /// Market to it. The exit code is 1 if a line is FAIL.
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::Args),
    /// Read the Market's copy back now, and print each difference with its reason.
    ///
    /// The running service does the work. The exit code is 1 if a difference is not explained.
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::Args),
    /// Report if the push API can be switched off, and what is still missing.
    ///
    /// The exit code is 0 only if the verdict is GO for every shop.
    #[command(after_help = ready::EXAMPLES)]
    Ready(ReportArgs),
    /// Explain one SKU: the source of its count, the rules applied, and what the Market has.
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::Args),
    /// Send a stock file to a running service, or print what it would change.
    #[command(after_help = import::EXAMPLES)]
    Import(import::Args),
    /// Show how a stock file would be read, and print the settings of a source that reads it.
    ///
    /// Needs no configuration and no running service.
    #[command(after_help = inspect::EXAMPLES)]
    Inspect(inspect::Args),
    /// Apply a delivery that is held for approval.
    #[command(after_help = accept::EXAMPLES)]
    Accept(accept::Args),
    /// Run the Market's integration check with one product, on the real Market.
    ///
    /// The product is hidden, its stock is sent and read back, and the product is shown again.
    #[command(after_help = selftest::EXAMPLES)]
    Selftest(selftest::Args),
    /// Send a test message over each channel that sends alarms to people.
    ///
    /// Needs no running service. The exit code is 1 if a message was not delivered.
    #[command(after_help = notify::EXAMPLES)]
    Notify(notify::Args),
    /// Exit with 0 if the running service is ready; for a container's health check.
    #[command(after_help = healthcheck::EXAMPLES)]
    Healthcheck(healthcheck::Args),
    /// Copy the store of a stopped service.
    #[command(subcommand, after_help = store_copy::EXAMPLES)]
    Store(store_copy::StoreCommand),
    /// Print a completion script for a shell.
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::Args),
}

/// Examples at the end of the program's own help.
const EXAMPLES: &str = "\
Examples:
  stockbridge rehearse
  stockbridge check --config config.toml
  stockbridge serve --config config.toml
  stockbridge help doctor";

/// Exit code for an invalid configuration, `EX_CONFIG` of `sysexits.h`. A supervisor must not
/// restart the service: a restart does not repair the file.
const EXIT_CONFIG: u8 = 78;

impl Cli {
    /// Runs the command and returns its exit code.
    ///
    /// 0: success. 1: failed, or the result is not good. 78: invalid configuration. (`clap` exits
    /// with 2 for wrong usage.)
    #[must_use]
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Serve(args) => serve::run(&args),
            Command::Rehearse(args) => rehearse::run(&args),
            Command::Check(args) => check::run(&args),
            Command::Config(args) => config_command::run(&args),
            Command::Discover(args) => discover::run(&args),
            Command::Doctor(args) => doctor::run(&args),
            Command::Verify(args) => verify::run(&args),
            Command::Ready(args) => ready::run(&args),
            Command::Explain(args) => explain::run(&args),
            Command::Import(args) => import::run(&args),
            Command::Inspect(args) => inspect::run(&args),
            Command::Accept(args) => accept::run(&args),
            Command::Selftest(args) => selftest::run(&args),
            Command::Notify(args) => notify::run(&args),
            Command::Healthcheck(args) => healthcheck::run(&args),
            Command::Store(command) => store_copy::run(&command),
            Command::Completions(args) => completions::run(&args),
        };
        result.unwrap_or_else(|error| {
            print_error(&format!("{error:#}"));
            let is_config = error.downcast_ref::<ConfigError>().is_some();
            ExitCode::from(if is_config { EXIT_CONFIG } else { 1 })
        })
    }
}
