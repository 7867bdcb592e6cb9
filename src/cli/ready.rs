//! `ready`: reports if every shop can do without the push API.

use std::process::ExitCode;

use crate::command::ops_client::{ReportArgs, json_list, json_text, json_time};
use crate::command::{print_line, runtime};

pub(super) const EXAMPLES: &str = "\
Examples:
  stockbridge ready
  stockbridge ready --json";

/// Prints if the push API can be switched off. Fails unless the verdict is GO.
pub(super) fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let report = args.ops.client()?.get("/ready-report").await?;
        args.print_report(&report, report["verdict"] == "GO", print)
    })
}

fn print(report: &serde_json::Value) {
    print_line(&format!(
        "push API ends {}, days left {}: {}",
        json_text(&report["cutoff"]),
        report["days_to_cutoff"],
        json_text(&report["verdict"])
    ));
    for shop in json_list(&report["shops"]) {
        let coverage = &shop["coverage"];
        print_line(&format!(
            "\n{}, {}, migrate {}: {}",
            json_text(&shop["name"]),
            json_text(&shop["address"]),
            json_text(&shop["migrate"]),
            json_text(&shop["verdict"])
        ));
        print_line(&format!(
            "  SKUs requested by the Market: {}, of these known: {}, acknowledged: {}",
            coverage["asked"], coverage["in_book"], coverage["acknowledged"]
        ));
        print_line(&format!(
            "  last push request {}, last full match {}",
            json_time(&shop["last_push"]),
            json_time(&shop["last_equal"])
        ));
        for source in json_list(&shop["sources"]) {
            let (origin, at) = (
                json_text(&source["origin"]),
                json_time(&source["last_asserted"]),
            );
            print_line(&format!("  source {origin}, last statement {at}"));
        }
        for reason in json_list(&shop["reasons"]) {
            print_line(&format!("  NOT YET  {}", json_text(reason)));
        }
        for remark in json_list(&shop["remarks"]) {
            print_line(&format!("  note     {}", json_text(remark)));
        }
    }
}
