use std::process::ExitCode;

use serde_json::Value;

use super::operator::{ReportArgs, list, query, text};
use super::{runtime, say};

/// What to explain.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The SKU, as the catalogue spells it.
    sku: String,
    /// Only in this shop.
    #[arg(long, value_name = "NAME")]
    shop: Option<String>,
    #[command(flatten)]
    report: ReportArgs,
}

/// Prints all that is known of a SKU; succeeds if some shop has it.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let asked = query(&[("sku", Some(&args.sku)), ("shop", args.shop.as_deref())]);
        let path = format!("/explain{asked}");
        let told = args.report.ops.operator()?.get(&path).await?;
        let is_known = list(&told).iter().any(|shop| !shop["book"].is_null());
        args.report
            .tell(&told, is_known, |told| list(told).iter().for_each(print))
    })
}

fn print(told: &Value) {
    say(&format!(
        "{} '{}': {}",
        text(&told["shop"]),
        text(&told["sku"]),
        text(&told["summary"])
    ));
    let (book, ledger, market) = (&told["book"], &told["ledger"], &told["market"]);
    if !book.is_null() {
        say(&format!(
            "  book     {} as of {}; last said in the hour of {} by {}",
            book["count"],
            text(&book["updated_at"]),
            text(&book["last_asserted_hour"]),
            text(&book["origin"])
        ));
    }
    for step in list(&told["sources"]) {
        say(&format!("  source   {}", text(step)));
    }
    if !ledger.is_null() {
        say(&format!(
            "  ledger   {} as of {}, acknowledged, sent at {}{}",
            ledger["count"],
            text(&ledger["updated_at"]),
            text(&ledger["sent_at"]),
            if ledger["due_again"] == true {
                ", to be said once more"
            } else {
                ""
            }
        ));
    }
    if !market.is_null() {
        say(&format!(
            "  market   {} ({}), looked at in the minute of {}",
            text(&market["available"]),
            text(&market["class"]),
            text(&market["looked_at"])
        ));
    }
    if !told["quarantine"].is_null() {
        let aside = &told["quarantine"];
        say(&format!(
            "  refused  since {}, {} times, next try by {}: {}",
            text(&aside["since"]),
            aside["attempts"],
            text(&aside["retry_at"]),
            text(&aside["reason"])
        ));
    }
    for asked in list(&told["asked"]) {
        let (warehouse, hour) = (&asked["warehouse"], text(&asked["hour"]));
        say(&format!(
            "  asked    for warehouse {warehouse}, last in the hour of {hour}"
        ));
    }
    list(&told["events"]).iter().for_each(print_event);
    if !told["events_since"].is_null() {
        say(&format!(
            "  (events before {} are forgotten)",
            text(&told["events_since"])
        ));
    }
}

fn print_event(event: &Value) {
    let mut line = format!(
        "  {} {} {}",
        text(&event["at"]),
        text(&event["what"]),
        event["count"]
    );
    for key in ["origin", "class"] {
        if !event[key].is_null() {
            line.push_str(&format!(", {}", text(&event[key])));
        }
    }
    let request = &event["request"];
    if !request.is_null() {
        line.push_str(&format!(
            ", with {} SKUs in {} ms: {}, trace {}",
            request["skus"],
            request["took_ms"],
            text(&request["answer"]),
            text(&request["trace"])
        ));
    }
    say(&line);
}
