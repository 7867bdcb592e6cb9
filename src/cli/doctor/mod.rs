//! Checks everything a configuration depends on, and says what to do.
//!
//! Each file looks at one side of it and has two halves: what is asked, with a deadline, and
//! what the answers mean, which is decided without asking. Nothing here stops at a fault.

mod certificate;
mod finding;
mod machine;
mod market;
mod reachability;
mod service;

use std::process::ExitCode;

use self::finding::{Finding, Severity, to_json};
use super::{ConfigArgs, print_line, runtime};
use crate::clock::Clock;
use crate::config::Config;

/// What to check.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print one JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

/// Prints what was found, and fails if anything is wrong that will not mend itself.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let mut findings = vec![Finding::ok(
        "configuration",
        format!(
            "{} is read, shops: {}",
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
    Ok(if is_bad {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn examine(config: &Config, clock: Clock) -> Vec<Finding> {
    let mut findings = machine::examine(config, clock.now());
    findings.extend(market::examine(config, clock).await);
    // The service first: being asked, as below, changes what it says of itself.
    let service = service::probe(config).await;
    findings.extend(service::evaluate(config, &service, clock.now()));
    findings.extend(reachability::examine(config, &service, clock.now()).await);
    findings
}
