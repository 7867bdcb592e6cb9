//! `doctor`: checks everything that a configuration depends on, and names a remedy for each
//! problem.
//!
//! Each file checks one side. It collects facts with timeouts, and then evaluates them without I/O.
//! No check stops the others.

mod certificate;
mod database;
mod finding;
mod machine;
mod market;
mod reachability;
mod service;

use std::process::ExitCode;

use lifecycle::Clock;

use self::finding::{Finding, Severity, to_json};
use crate::command::{ConfigArgs, exit_code, print_line, runtime};
use crate::config::Config;

pub(crate) const EXAMPLES: &str = "\
Examples:
  stockbridge doctor --config config.toml
  stockbridge doctor --config config.toml --json";

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the findings as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints all findings. Fails if one of them is FAIL.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let mut findings = vec![Finding::ok(
        "configuration",
        format!(
            "{} is valid, shops: {}",
            args.config.config.display(),
            config.shops.len()
        ),
    )];
    findings.extend(runtime()?.block_on(examine(&config, Clock::wall())));
    if args.json {
        print_line(&to_json(&findings));
    } else {
        findings
            .iter()
            .for_each(|finding| print_line(&finding.to_string()));
    }
    let is_bad = findings
        .iter()
        .any(|finding| finding.level == Severity::Fail);
    Ok(exit_code(!is_bad))
}

async fn examine(config: &Config, clock: Clock) -> Vec<Finding> {
    let mut findings = machine::examine(config, clock.now());
    findings.extend(database::examine(config).await);
    findings.extend(market::examine(config, clock).await);
    // Before the reachability check, because its requests change the status of the service.
    let service = service::probe(config).await;
    findings.extend(service::evaluate(config, &service, clock.now()));
    findings.extend(reachability::examine(config, &service, clock.now()).await);
    findings
}
