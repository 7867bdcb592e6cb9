//! The `stockbridge` program.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    stockbridge::cli::Cli::parse().run()
}
