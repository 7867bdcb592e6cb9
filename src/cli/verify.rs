//! `verify`: starts a read-back of the Market's copy and prints each difference with its reason.

use std::process::ExitCode;

use crate::command::ops_client::{ReportArgs, exact_time};
use crate::command::readback_pass::{VerifiedShop, readback};
use crate::command::{print_line, runtime};
use crate::migrator::Mode;
use crate::migrator::readback::{MatchClass, ReadbackExample};
use crate::telemetry::printable;

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
        let is_success = |shops: &Vec<VerifiedShop>| shops.iter().all(is_explained);
        args.report
            .print_report(serde_json::to_value(shops)?, is_success, |shops| {
                shops.iter().for_each(print);
            })
    })
}

fn is_explained(shop: &VerifiedShop) -> bool {
    let report = shop.status.survey.as_ref();
    shop.absence_not_applied.is_empty() && report.is_none_or(|it| it.unexplained_skus() == 0)
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

fn print(shop: &VerifiedShop) {
    let readback = shop.status.survey.clone().unwrap_or_default();
    let is_dry = shop.status.migrate == Mode::DryRun;
    print_line("");
    if is_dry {
        print_line(
            "DRY RUN: nothing was sent. The stock in the service is compared with the Market's \
             copy.",
        );
    }
    for &class in MatchClass::ALL {
        let count = readback.count(class);
        if count > 0 {
            let mark = if class.is_explained() { "ok  " } else { "OPEN" };
            let (name, meaning) = (class.name(), class_meaning(class, is_dry));
            print_line(&format!("  {mark}  {name:<10} {count:>9}  {meaning}"));
        }
    }
    for &class in MatchClass::ALL {
        let examples = readback.examples.iter().filter(|it| it.class == class);
        examples.take(MAX_EXAMPLES).for_each(print_example);
    }
    for absence in &shop.absence_not_applied {
        let (source, text) = (printable(&absence.source), printable(&absence.text));
        print_line(&format!(
            "  OPEN  absence not applied, source {source}: {text}"
        ));
    }
    if let Some(estimate) = readback.would_send {
        print_line(&format!(
            "  with migrate = \"on\": higher {}, lower {}, minutes {}, requests {}, unchanged {}, \
             SKUs to send {}, to zero {}, not shown by the Market {}",
            estimate.higher,
            estimate.lower,
            estimate.minutes,
            estimate.requests,
            estimate.same,
            estimate.skus,
            estimate.to_zero,
            estimate.unknown
        ));
    }
    if readback.resent > 0 {
        print_line(&format!(
            "  SKUs sent again: {}. The Market acknowledged them, but the stock did not arrive.",
            readback.resent
        ));
    }
    let name = printable(&shop.status.name);
    print_line(&if is_explained(shop) {
        format!("{name}: the Market's copy is correct, or each difference is explained.")
    } else {
        format!(
            "{name}: the Market's copy is NOT explained: see the lines marked OPEN. stockbridge \
             explain SKU prints the history of one SKU."
        )
    });
}

fn print_example(example: &ReadbackExample) {
    let (class, sku) = (example.class.name(), printable(&example.sku));
    let mut line = format!("        {class} '{sku}'");
    for (label, value) in [
        ("in the service", example.ours.map(|n| n.to_string())),
        ("on the Market", example.markets.map(|n| n.to_string())),
        ("reserved", example.reserved.map(|n| n.to_string())),
        ("sent", example.sent_at.map(exact_time)),
        (
            "updated on the Market",
            example.markets_updated_at.map(exact_time),
        ),
    ] {
        if let Some(value) = value {
            line.push_str(&format!(", {label} {value}"));
        }
    }
    print_line(&line);
}
