//! `check`: validates a configuration and prints the settings in force.

use std::process::ExitCode;

use crate::command::{ConfigArgs, print_line};

pub(super) const EXAMPLES: &str = "\
Examples:
  stockbridge check --config config.toml
  STOCKBRIDGE_LISTEN=0.0.0.0:8080 stockbridge check --config config.toml";

/// Prints every setting in force, secrets as `***`.
pub(super) fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    print_line(args.load()?.to_string().trim_end());
    Ok(ExitCode::SUCCESS)
}
