//! `ready`: reports if every shop can do without the push API.

use std::process::ExitCode;

use crate::command::ops_client::{ReportArgs, time_in_seconds};
use crate::command::{print_line, runtime};
use crate::ops::ReadinessReport;
use crate::telemetry::printable;

pub(super) const EXAMPLES: &str = "\
Examples:
  stockbridge ready
  stockbridge ready --json";

/// Prints if the push API can be switched off. Fails unless the verdict is GO.
pub(super) fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let report = args.ops.client()?.get("/ready-report").await?;
        let is_go = |report: &ReadinessReport<String>| report.verdict == "GO";
        args.print_report(report, is_go, print)
    })
}

fn print(report: &ReadinessReport<String>) {
    print_line(&format!(
        "push API ends {}, days left {}: {}",
        report.cutoff, report.days_to_cutoff, report.verdict
    ));
    for shop in &report.shops {
        let (name, address) = (printable(&shop.name), printable(&shop.address));
        print_line(&format!(
            "\n{name}, {address}, migrate {}: {}",
            shop.migrate, shop.verdict
        ));
        let coverage = &shop.coverage;
        print_line(&format!(
            "  SKUs requested by the Market: {}, of these known: {}, acknowledged: {}",
            coverage.asked, coverage.in_book, coverage.acknowledged
        ));
        print_line(&format!(
            "  last push request {}, last full match {}",
            time_in_seconds(shop.last_push),
            time_in_seconds(shop.last_equal)
        ));
        for source in &shop.sources {
            let at = time_in_seconds(source.last_asserted);
            print_line(&format!("  source {}, last statement {at}", source.origin));
        }
        for reason in &shop.reasons {
            print_line(&format!("  NOT YET  {}", printable(reason)));
        }
        for remark in &shop.remarks {
            print_line(&format!("  note     {}", printable(remark)));
        }
    }
}
