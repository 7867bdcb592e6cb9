use std::process::ExitCode;

use super::import::print;
use super::ops_client::{ReportArgs, query_string};
use super::{print_line, runtime};

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
        let query = query_string(&[
            ("source", Some(&args.source)),
            ("shop", args.shop.as_deref()),
        ]);
        let operator = args.report.ops.upload_client()?;
        let response = operator.post(&format!("/accept{query}"), None).await?;
        args.report
            .print_report(&response, true, |response| match response.as_array() {
                Some(shops) => {
                    print_line(&format!("the rules are in force in {} shops", shops.len()))
                }
                None => print(response),
            })
    })
}
