//! `verify`: starts a read-back of the Market's copy and prints each difference with its reason.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::ops_client::{OpsClient, ReportArgs, json_list, json_text, query_string};
use super::progress::ProgressReporter;
use super::{print_error, print_line, runtime};
use crate::migrator::readback::MatchClass;
use crate::telemetry::AlarmKind;

pub(super) const EXAMPLES: &str = "\
Examples:
  stockbridge verify
  stockbridge verify --shop moscow
  stockbridge verify --json";

/// Interval at which the progress of the read-back is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(300);

/// Time without progress after which the command gives up. It is longer than the service's own
/// pauses.
const STALL_TIMEOUT: Duration = Duration::from_mins(11);

/// Maximum number of examples printed for each class.
const MAX_EXAMPLES: usize = 5;

/// Name of the member of the report that lists sources: the latest snapshot of each lacks SKUs, but
/// these SKUs keep their stock.
///
/// It is the name of the alarm. The Market then shows the stock of the service, which is not the
/// stock of the source.
const ABSENCE_KEY: &str = "absence_not_applied";

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

/// Starts a read-back, waits for its end, and returns each shop's part of `/status` after it.
pub(super) async fn readback(
    client: &OpsClient,
    shop: Option<&str>,
    title: &str,
    is_quiet: bool,
) -> anyhow::Result<Vec<Value>> {
    let status_before = client.get("/status").await?;
    let response = client
        .post(&format!("/verify{}", query_string(&[("shop", shop)])), None)
        .await?;
    let mut shops = Vec::new();
    for name in json_list(&response["shops"])
        .iter()
        .filter_map(Value::as_str)
    {
        let title = if title.is_empty() { name } else { title };
        shops.push(wait_for_pass(client, (name, title), &status_before, is_quiet).await?);
    }
    Ok(shops)
}

/// Waits for the end of the pass and returns the shop's part of `/status` after it.
async fn wait_for_pass(
    client: &OpsClient,
    (name, title): (&str, &str),
    status_before: &Value,
    is_quiet: bool,
) -> anyhow::Result<Value> {
    let readback = &shop_of(status_before, name)?["survey"];
    // A pass that already ran keeps its `began`. Its failure must be reported all the same.
    let was_running = readback["state"] == "running";
    let began = if was_running {
        Value::Null
    } else {
        readback["began"].clone()
    };
    let ended = readback["ended"].clone();
    let mut progress: Option<ProgressReporter> = None;
    let mut last_change = (Value::Null, Instant::now());
    loop {
        let status = client.get("/status").await?;
        let shop = shop_of(&status, name)?;
        let readback = &shop["survey"];
        let count = |value: &Value| usize::try_from(value.as_u64().unwrap_or(0)).unwrap_or(0);
        if !is_quiet {
            let total = count(&shop["skus"]);
            let progress = progress
                .get_or_insert_with(|| ProgressReporter::start(title, total, "SKUs read back"));
            progress.set_position(count(&readback["listed"]));
        }
        if readback["state"] == "done" && readback["ended"] != ended {
            if let Some(progress) = progress {
                progress.finish(&format!(
                    "{} offers on {} pages",
                    readback["listed"], readback["pages"]
                ));
            }
            let mut shop = shop.clone();
            shop[ABSENCE_KEY] = absence_not_applied(&status, name);
            return Ok(shop);
        }
        if readback["state"] == "failed" && readback["began"] != began {
            bail!(
                "{name}: the Market's copy cannot be read: {}. Run stockbridge doctor to find the \
                 cause",
                json_text(&readback["trouble"])
            );
        }
        let migrator = &shop["migrator"];
        if migrator["state"] == "paused" && last_change.1.elapsed() > POLL_INTERVAL * 3 {
            bail!(
                "{name}: the campaign is paused, so it is not read back: {}. Run stockbridge \
                 doctor to find the cause",
                json_text(&migrator["reason"])
            );
        }
        let current = json!([readback["pages"], readback["state"], readback["trouble"]]);
        if !is_quiet && readback["trouble"] != last_change.0[2] && !readback["trouble"].is_null() {
            print_error(&format!(
                "{name}: {}; retrying",
                json_text(&readback["trouble"])
            ));
        }
        if current != last_change.0 {
            last_change = (current, Instant::now());
        } else if last_change.1.elapsed() > STALL_TIMEOUT {
            bail!(
                "{name}: no progress for {} minutes, last problem: {}. Read the log of the service",
                STALL_TIMEOUT.as_secs() / 60,
                json_text(&readback["trouble"])
            );
        }
        sleep(POLL_INTERVAL).await;
    }
}

fn shop_of<'a>(status: &'a Value, name: &str) -> anyhow::Result<&'a Value> {
    let mut shops = json_list(&status["shops"]).iter();
    shops.find(|shop| shop["name"] == name).ok_or_else(|| {
        anyhow!("the service has no shop {name} any more, it was restarted; run verify again")
    })
}

/// Returns the active alarms about absence for one shop's sources, as `source` and `text`.
fn absence_not_applied(status: &Value, shop: &str) -> Value {
    let is_of_shop = |about: &str| about.split('/').next() == Some(shop);
    let alarms = json_list(&status["alarms"])
        .iter()
        .filter(|alarm| alarm["alarm"] == AlarmKind::AbsenceNotApplied.name());
    let of_shop = alarms.filter(|alarm| is_of_shop(&json_text(&alarm["about"])));
    of_shop
        .map(|alarm| json!({"source": alarm["about"], "text": alarm["text"]}))
        .collect()
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
