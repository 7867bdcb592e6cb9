//! Read-back by a running service: its start, its progress, and its report.

use std::time::Duration;

use anyhow::{anyhow, bail};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::ops_client::{OpsClient, json_list, json_text, query_string};
use super::print_error;
use super::progress::ProgressReporter;
use crate::telemetry::AlarmKind;

/// Interval at which the progress of the read-back is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(300);

/// Time without progress after which the command gives up. It is longer than the service's own
/// pauses.
const STALL_TIMEOUT: Duration = Duration::from_mins(11);

/// Name of the member of the report that lists sources: the latest snapshot of each lacks SKUs, but
/// these SKUs keep their stock.
///
/// It is the name of the alarm. The Market then shows the stock of the service, which is not the
/// stock of the source.
pub(crate) const ABSENCE_KEY: &str = "absence_not_applied";

/// Starts a read-back, waits for its end, and returns each shop's part of `/status` after it.
pub(crate) async fn readback(
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
