use std::process::ExitCode;

use super::operator::{ReportArgs, list, text};
use super::{runtime, say};

/// Prints whether the push API can be switched off; succeeds only if it can.
pub(super) fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let report = args.ops.operator()?.get("/ready-report").await?;
        args.tell(&report, report["verdict"] == "GO", print)
    })
}

fn print(report: &serde_json::Value) {
    say(&format!(
        "{} days to the cutoff of {}: {}",
        report["days_to_cutoff"],
        text(&report["cutoff"]),
        text(&report["verdict"])
    ));
    for shop in list(&report["shops"]) {
        let coverage = &shop["coverage"];
        say(&format!(
            "\n{}, {}, migrate {}: {}",
            text(&shop["name"]),
            text(&shop["address"]),
            text(&shop["migrate"]),
            text(&shop["verdict"])
        ));
        say(&format!(
            "  asked for lately {}, of which known {}, of which acknowledged {}",
            coverage["asked"], coverage["in_book"], coverage["acknowledged"]
        ));
        say(&format!(
            "  last push {}, last explained whole {}",
            text(&shop["last_push"]),
            text(&shop["last_equal"])
        ));
        for source in list(&shop["sources"]) {
            let (origin, at) = (text(&source["origin"]), text(&source["last_asserted"]));
            say(&format!("  fed by {origin}, last at {at}"));
        }
        for reason in list(&shop["reasons"]) {
            say(&format!("  NOT YET  {}", text(reason)));
        }
        for remark in list(&shop["remarks"]) {
            say(&format!("  note     {}", text(remark)));
        }
    }
}
