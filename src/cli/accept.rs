use std::process::ExitCode;

use super::import::print;
use super::operator::{ReportArgs, query};
use super::{runtime, say};

/// What to accept.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The source whose delivery is held, or `rules` for rules that would empty the shop.
    source: String,
    /// Its shop, if several shops have a source of that name.
    #[arg(long, value_name = "NAME")]
    shop: Option<String>,
    #[command(flatten)]
    report: ReportArgs,
}

/// Lets through what the guard holds.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let asked = query(&[
            ("source", Some(&args.source)),
            ("shop", args.shop.as_deref()),
        ]);
        let operator = args.report.ops.patient_operator()?;
        let told = operator.post(&format!("/accept{asked}"), None).await?;
        args.report.tell(&told, true, |told| match told.as_array() {
            Some(shops) => say(&format!("the rules are in force in {} shops", shops.len())),
            None => print(told),
        })
    })
}
