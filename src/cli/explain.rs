//! `explain`: prints the history and the present state of one SKU.

use std::process::ExitCode;

use crate::command::ops_client::{ReportArgs, exact_time, or_dash, query_string};
use crate::command::{print_line, runtime};
use crate::ops::{HistoryEventDto, MarketRequestDto, SkuExplanation};
use crate::telemetry::printable;

/// Explanation as the service writes it.
type Explanation = SkuExplanation<String, Vec<String>>;

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
        let is_known = |shops: &Vec<Explanation>| shops.iter().any(|shop| shop.book.is_some());
        args.report
            .print_report(response, is_known, |shops| shops.iter().for_each(print))
    })
}

fn print(shop: &Explanation) {
    let [name, sku, summary] = [&shop.shop, &shop.sku, &shop.summary].map(|it| printable(it));
    print_line(&format!("{name} '{sku}': {summary}"));
    if let Some(book) = &shop.book {
        print_line(&format!(
            "  book     {} as of {}; last stated {} (hour) by {}",
            book.count,
            exact_time(book.updated_at),
            exact_time(book.last_asserted_hour),
            or_dash(book.origin)
        ));
    }
    for step in &shop.sources {
        print_line(&format!("  source   {}", printable(step)));
    }
    if let Some(ledger) = &shop.ledger {
        let again = if ledger.due_again {
            ", will be sent again"
        } else {
            ""
        };
        print_line(&format!(
            "  ledger   {} as of {}, acknowledged by the Market, sent at {}{again}",
            ledger.count,
            exact_time(ledger.updated_at),
            exact_time(ledger.sent_at),
        ));
    }
    if let Some(market) = &shop.market {
        print_line(&format!(
            "  market   {} ({}), read back {} (minute)",
            or_dash(market.available),
            market.class.name(),
            exact_time(market.looked_at)
        ));
    }
    if let Some(quarantine) = &shop.quarantine {
        print_line(&format!(
            "  rejected since {}, {} attempts, next attempt by {}: {}",
            exact_time(quarantine.since),
            quarantine.attempts,
            exact_time(quarantine.retry_at),
            printable(&quarantine.reason)
        ));
    }
    for MarketRequestDto { warehouse, hour } in &shop.asked {
        let hour = exact_time(*hour);
        print_line(&format!(
            "  asked    by the Market for warehouse {warehouse}, last {hour} (hour)"
        ));
    }
    shop.events.iter().for_each(print_event);
    if let Some(since) = shop.events_since {
        let since = exact_time(since);
        print_line(&format!(
            "  (events before {since} are no longer in memory)"
        ));
    }
}

fn print_event(event: &HistoryEventDto) {
    let mut line = format!("  {} {} {}", exact_time(event.at), event.what, event.count);
    if let Some(origin) = event.origin {
        line.push_str(&format!(", {origin}"));
    }
    if let Some(class) = event.class {
        line.push_str(&format!(", {}", class.name()));
    }
    if let Some(request) = &event.request {
        line.push_str(&format!(
            ", in a request with {} SKUs, {} ms: {}, trace {}",
            request.skus,
            request.took_ms,
            printable(&request.answer),
            or_dash(request.trace.as_deref().map(printable))
        ));
    }
    print_line(&line);
}
