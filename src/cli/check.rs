use std::process::ExitCode;

use super::{ConfigArgs, say};

/// Prints the configuration in force, secrets as `***`.
pub(super) fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    say(args.load()?.to_string().trim_end());
    Ok(ExitCode::SUCCESS)
}
