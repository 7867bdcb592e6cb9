//! `accept`: approves a delivery that is held for approval.

use std::process::ExitCode;

use super::import::print;
use crate::command::ops_client::{ReportArgs, query_string};
use crate::command::{print_line, runtime};
use crate::ops::AcceptedDto;

pub(super) const EXAMPLES: &str = "\
Examples:
  stockbridge accept erp
  stockbridge accept erp --shop moscow
  stockbridge accept rules";

/// Arguments of `accept`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The source whose delivery is held, or `rules` for held changes of the rules.
    source: String,
    /// The shop of the source. Needed if several shops have a source of this name.
    #[arg(long, value_name = "NAME")]
    shop: Option<String>,
    #[command(flatten)]
    report: ReportArgs,
}

/// Approves the held delivery, or the held rules, and prints the result.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let query = query_string(&[
            ("source", Some(&args.source)),
            ("shop", args.shop.as_deref()),
        ]);
        let operator = args.report.ops.upload_client()?;
        let response = operator.post(&format!("/accept{query}"), None).await?;
        let is_success = |_: &AcceptedDto| true;
        args.report
            .print_report(response, is_success, |approved| match approved {
                AcceptedDto::Rules(shops) => {
                    let shops = shops.len();
                    print_line(&format!("accepted; shops that apply the rules: {shops}"));
                }
                AcceptedDto::Delivery(report) => print(report),
            })
    })
}
