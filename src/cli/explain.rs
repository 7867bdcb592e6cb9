//! `explain`: prints the history and the present state of one SKU.

use std::process::ExitCode;

use serde_json::Value;

use crate::command::ops_client::{ReportArgs, json_list, json_text, query_string};
use crate::command::{print_line, runtime};

pub(super) const EXAMPLES: &str = "\
Examples:
  stockbridge explain 557722
  stockbridge explain 557722 --shop moscow
  stockbridge explain 'БОЛТ М5' --json";

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The SKU, spelled as in the catalogue. White space at the ends is ignored.
    sku: String,
    /// Only this shop.
    #[arg(long, value_name = "NAME")]
    shop: Option<String>,
    #[command(flatten)]
    report: ReportArgs,
}

/// Prints everything known about a SKU. Fails if no shop has stock of it.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let query = query_string(&[("sku", Some(&args.sku)), ("shop", args.shop.as_deref())]);
        let path = format!("/explain{query}");
        let response = args.report.ops.client()?.get(&path).await?;
        let is_known = json_list(&response)
            .iter()
            .any(|shop| !shop["book"].is_null());
        args.report.print_report(&response, is_known, |response| {
            json_list(response).iter().for_each(print);
        })
    })
}

fn print(shop: &Value) {
    print_line(&format!(
        "{} '{}': {}",
        json_text(&shop["shop"]),
        json_text(&shop["sku"]),
        json_text(&shop["summary"])
    ));
    let (book, ledger, market) = (&shop["book"], &shop["ledger"], &shop["market"]);
    if !book.is_null() {
        print_line(&format!(
            "  book     {} as of {}; last stated {} (hour) by {}",
            book["count"],
            json_text(&book["updated_at"]),
            json_text(&book["last_asserted_hour"]),
            json_text(&book["origin"])
        ));
    }
    for step in json_list(&shop["sources"]) {
        print_line(&format!("  source   {}", json_text(step)));
    }
    if !ledger.is_null() {
        print_line(&format!(
            "  ledger   {} as of {}, acknowledged by the Market, sent at {}{}",
            ledger["count"],
            json_text(&ledger["updated_at"]),
            json_text(&ledger["sent_at"]),
            if ledger["due_again"] == true {
                ", will be sent again"
            } else {
                ""
            }
        ));
    }
    if !market.is_null() {
        print_line(&format!(
            "  market   {} ({}), read back {} (minute)",
            json_text(&market["available"]),
            json_text(&market["class"]),
            json_text(&market["looked_at"])
        ));
    }
    if !shop["quarantine"].is_null() {
        let quarantine = &shop["quarantine"];
        print_line(&format!(
            "  rejected since {}, {} attempts, next attempt by {}: {}",
            json_text(&quarantine["since"]),
            quarantine["attempts"],
            json_text(&quarantine["retry_at"]),
            json_text(&quarantine["reason"])
        ));
    }
    for request in json_list(&shop["asked"]) {
        let (warehouse, hour) = (&request["warehouse"], json_text(&request["hour"]));
        print_line(&format!(
            "  asked    by the Market for warehouse {warehouse}, last {hour} (hour)"
        ));
    }
    json_list(&shop["events"]).iter().for_each(print_event);
    if !shop["events_since"].is_null() {
        print_line(&format!(
            "  (events before {} are no longer in memory)",
            json_text(&shop["events_since"])
        ));
    }
}

fn print_event(event: &Value) {
    let mut line = format!(
        "  {} {} {}",
        json_text(&event["at"]),
        json_text(&event["what"]),
        event["count"]
    );
    for key in ["origin", "class"] {
        if !event[key].is_null() {
            line.push_str(&format!(", {}", json_text(&event[key])));
        }
    }
    let request = &event["request"];
    if !request.is_null() {
        line.push_str(&format!(
            ", in a request with {} SKUs, {} ms: {}, trace {}",
            request["skus"],
            request["took_ms"],
            json_text(&request["answer"]),
            json_text(&request["trace"])
        ));
    }
    print_line(&line);
}
