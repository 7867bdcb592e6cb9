//! `config`: prints a configuration to start from.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Subcommand;

use crate::config::template;

pub(super) const EXAMPLES: &str = "\
Examples:
  stockbridge config template > config.toml
  stockbridge config template | less";

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: ConfigAction,
}

#[derive(Debug, Subcommand)]
enum ConfigAction {
    /// Print a commented configuration file with every setting, its rule, default and example.
    ///
    /// The file is valid as soon as the secret files that it names exist.
    Template,
}

/// Prints the template on standard output.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match args.action {
        ConfigAction::Template => std::io::stdout().write_all(template().as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}
