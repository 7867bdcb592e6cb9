//! `verify`: starts a read-back of the Market's copy and prints each difference with its reason.

use std::process::ExitCode;

use serde_json::Value;

use crate::command::ops_client::{ReportArgs, json_list, json_text};
use crate::command::readback_pass::{ABSENCE_KEY, readback};
use crate::command::{print_line, runtime};
use crate::migrator::readback::MatchClass;

pub(super) const EXAMPLES: &str = "\
Examples:
  stockbridge verify
  stockbridge verify --shop moscow
  stockbridge verify --json";

/// Maximum number of examples printed for each class.
const MAX_EXAMPLES: usize = 5;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Read back only this shop.
    #[arg(long, value_name = "NAME")]
    shop: Option<String>,
    #[command(flatten)]
    report: ReportArgs,
}

/// Reads the Market's copy back. Fails unless every SKU of it is explained.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let ReportArgs { json, ops } = &args.report;
        let shops = readback(&ops.client()?, args.shop.as_deref(), "", *json).await?;
        let is_success = shops.iter().all(is_explained);
        let shops = Value::Array(shops);
        args.report.print_report(&shops, is_success, |shops| {
            json_list(shops).iter().for_each(print);
        })
    })
}

fn is_explained(shop: &Value) -> bool {
    if !json_list(&shop[ABSENCE_KEY]).is_empty() {
        return false;
    }
    let classes = &shop["survey"]["classes"];
    MatchClass::ALL
        .iter()
        .filter(|class| !class.is_explained())
        .all(|c| classes[c.name()].is_null())
}

/// Returns the meaning of a class, as the table prints it.
fn class_meaning(class: MatchClass, is_dry: bool) -> &'static str {
    match class {
        MatchClass::Equal if is_dry => "the Market shows the count that would be sent",
        MatchClass::Unknown if is_dry => "the Market does not show this SKU",
        MatchClass::Drifted if is_dry => "the Market shows another count",
        MatchClass::Equal => "the Market shows the count that was sent",
        MatchClass::Explained => "the Market shows fewer, because of reserves or orders",
        MatchClass::Pending => "sent a short time ago, the Market may not show it yet",
        MatchClass::Archived => "the product is in the Market's archive",
        MatchClass::NotOurs => "the Market shows it, but the seller never stated it",
        MatchClass::Unsent => "not sent yet",
        MatchClass::Rejected => "the Market rejects it; run stockbridge explain SKU for the reason",
        MatchClass::Unknown => "acknowledged but not shown; is the SKU in the Market's catalogue?",
        MatchClass::Drifted => "the Market shows another count; does a second program send stock?",
    }
}

/// Returns the label of a member of `would_send`.
fn would_send_label(key: &str) -> &str {
    match key {
        "skus" => "SKUs to send",
        "same" => "unchanged",
        "to_zero" => "to zero",
        "unknown" => "not shown by the Market",
        other => other,
    }
}

fn print(shop: &Value) {
    let readback = &shop["survey"];
    let is_dry = shop["migrate"] == "dry-run";
    print_line("");
    if is_dry {
        print_line(
            "DRY RUN: nothing was sent. The stock in the service is compared with the Market's \
             copy.",
        );
    }
    for &class in MatchClass::ALL {
        let count = &readback["classes"][class.name()];
        if !count.is_null() {
            let mark = if class.is_explained() { "ok  " } else { "OPEN" };
            let count = count.to_string();
            print_line(&format!(
                "  {mark}  {:<10} {count:>9}  {}",
                class.name(),
                class_meaning(class, is_dry)
            ));
        }
    }
    for &class in MatchClass::ALL {
        let examples = json_list(&readback["examples"])
            .iter()
            .filter(|e| e["class"] == class.name());
        examples.take(MAX_EXAMPLES).for_each(print_example);
    }
    for alarm in json_list(&shop[ABSENCE_KEY]) {
        print_line(&format!(
            "  OPEN  absence not applied, source {}: {}",
            json_text(&alarm["source"]),
            json_text(&alarm["text"])
        ));
    }
    if let Some(would_send) = readback["would_send"].as_object() {
        let counts: Vec<String> = would_send
            .iter()
            .map(|(key, count)| format!("{} {count}", would_send_label(key)))
            .collect();
        print_line(&format!("  with migrate = \"on\": {}", counts.join(", ")));
    }
    let resent = readback["resent"].as_u64().unwrap_or(0);
    if resent > 0 {
        print_line(&format!(
            "  SKUs sent again: {resent}. The Market acknowledged them, but the stock did not \
             arrive."
        ));
    }
    let name = json_text(&shop["name"]);
    print_line(&if is_explained(shop) {
        format!("{name}: the Market's copy is correct, or each difference is explained.")
    } else {
        format!(
            "{name}: the Market's copy is NOT explained: see the lines marked OPEN. stockbridge \
             explain SKU prints the history of one SKU."
        )
    });
}

fn print_example(example: &Value) {
    let mut line = format!(
        "        {} '{}'",
        json_text(&example["class"]),
        json_text(&example["sku"])
    );
    for (key, label) in [
        ("ours", "in the service"),
        ("markets", "on the Market"),
        ("reserved", "reserved"),
        ("sent_at", "sent"),
        ("markets_updated_at", "updated on the Market"),
    ] {
        if !example[key].is_null() {
            line.push_str(&format!(", {label} {}", json_text(&example[key])));
        }
    }
    print_line(&line);
}
