use std::process::ExitCode;

use super::{ConfigArgs, print_line};

/// Prints the configuration in force, secrets as `***`.
pub(super) fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    print_line(args.load()?.to_string().trim_end());
    Ok(ExitCode::SUCCESS)
}
