//! `config`: prints a configuration to start from, or the schema of one.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Subcommand;

use crate::config::{schema, template};

pub(super) const EXAMPLES: &str = "\
Examples:
  stockbridge config template > config.toml
  stockbridge config template | less
  stockbridge config schema > stockbridge.schema.json";

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
    /// Print a JSON Schema of the configuration file, for editors.
    ///
    /// An editor with a TOML language server then completes the settings, shows their texts, and
    /// marks unknown ones.
    Schema,
}

/// Prints the template on standard output.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match args.action {
        ConfigAction::Template => std::io::stdout().write_all(template().as_bytes())?,
        ConfigAction::Schema => {
            let schema = serde_json::to_string_pretty(&schema())?;
            writeln!(std::io::stdout(), "{schema}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
