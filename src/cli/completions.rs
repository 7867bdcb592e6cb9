//! `completions`: prints the completion script of a shell.

use std::io::Write as _;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;

pub(super) const EXAMPLES: &str = "\
Examples:
  stockbridge completions bash > /etc/bash_completion.d/stockbridge
  stockbridge completions zsh > ~/.zfunc/_stockbridge
  stockbridge completions fish > ~/.config/fish/completions/stockbridge.fish";

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script on standard output.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    std::io::stdout().write_all(&script(args.shell))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the script. It is built in memory first, because `clap_complete` panics if the reader of
/// a pipe closes it.
fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "stockbridge", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_has_a_script() {
        for shell in Shell::value_variants() {
            assert!(!script(*shell).is_empty(), "{shell}");
        }
    }

    #[test]
    fn bash_script_names_every_command() {
        let script = String::from_utf8(script(Shell::Bash)).unwrap();
        let commands = Cli::command();
        for command in commands.get_subcommands() {
            let case = format!("stockbridge,{})", command.get_name());
            assert!(script.contains(&case), "{case} is missing in\n{script}");
        }
    }
}
