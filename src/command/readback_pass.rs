//! Read-back by a running service: its start, its progress, and its report.

use std::time::Duration;

use anyhow::{anyhow, bail};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::ops_client::{OpsClient, or_dash, query_string};
use super::print_error;
use super::progress::ProgressReporter;
use crate::migrator::WorkerState;
use crate::migrator::readback::ReadbackProgress;
use crate::ops::{ShopStatusDto, StartedReadbacks, StatusAlarm, StatusResponse};
use crate::telemetry::{AlarmKind, printable};

/// Interval at which the progress of the read-back is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(300);

/// Time without progress after which the command gives up. It is longer than the service's own
/// pauses.
const STALL_TIMEOUT: Duration = Duration::from_mins(11);

/// Shop after a read-back.
#[derive(Deserialize, Serialize)]
pub(crate) struct VerifiedShop {
    #[serde(flatten)]
    pub(crate) status: ShopStatusDto,
    /// Sources whose latest snapshot lacks SKUs that keep their stock. The Market then shows the
    /// stock of the service, which is not the stock of the source.
    pub(crate) absence_not_applied: Vec<UnappliedAbsence>,
}

/// Source whose alarm about absence is active.
#[derive(Deserialize, Serialize)]
pub(crate) struct UnappliedAbsence {
    pub(crate) source: String,
    pub(crate) text: String,
}

/// Starts a read-back, waits for its end, and returns each shop after it.
pub(crate) async fn readback(
    client: &OpsClient,
    shop: Option<&str>,
    title: &str,
    is_quiet: bool,
) -> anyhow::Result<Vec<VerifiedShop>> {
    let status_before: StatusResponse = client.get("/status").await?;
    let path = format!("/verify{}", query_string(&[("shop", shop)]));
    let started: StartedReadbacks = client.post(&path, None).await?;
    let mut shops = Vec::new();
    for name in &started.shops {
        let title = if title.is_empty() { name } else { title };
        shops.push(wait_for_pass(client, (name, title), &status_before, is_quiet).await?);
    }
    Ok(shops)
}

/// Waits for the end of the pass and returns the shop after it.
async fn wait_for_pass(
    client: &OpsClient,
    (name, title): (&str, &str),
    status_before: &StatusResponse,
    is_quiet: bool,
) -> anyhow::Result<VerifiedShop> {
    let before = shop_of(status_before, name)?.survey.clone();
    let before = before.unwrap_or_default();
    // A pass that already ran keeps its `began`. Its failure must be reported all the same.
    let was_running = before.state == ReadbackProgress::Running;
    let began = before.began.filter(|_| !was_running);
    let mut progress: Option<ProgressReporter> = None;
    let mut last_change = (None, Instant::now());
    let mut last_trouble = None;
    loop {
        let status: StatusResponse = client.get("/status").await?;
        let shop = shop_of(&status, name)?;
        let readback = shop.survey.clone().unwrap_or_default();
        let trouble = or_dash(readback.trouble.as_deref().map(printable));
        if !is_quiet {
            let progress = progress
                .get_or_insert_with(|| ProgressReporter::start(title, shop.skus, "SKUs read back"));
            progress.set_position(usize::try_from(readback.listed).unwrap_or(0));
        }
        if readback.state == ReadbackProgress::Done && readback.ended != before.ended {
            if let Some(progress) = progress {
                let (listed, pages) = (readback.listed, readback.pages);
                progress.finish(&format!("{listed} offers on {pages} pages"));
            }
            return Ok(VerifiedShop {
                status: shop.clone(),
                absence_not_applied: absence_not_applied(&status, name),
            });
        }
        if readback.state == ReadbackProgress::Failed && readback.began != began {
            bail!(
                "{name}: the Market's copy cannot be read: {trouble}. Run stockbridge doctor to find \
                 the cause"
            );
        }
        let paused = shop.migrator.as_ref();
        if let Some(worker) = paused.filter(|worker| worker.state == WorkerState::Paused)
            && last_change.1.elapsed() > POLL_INTERVAL * 3
        {
            bail!(
                "{name}: the campaign is paused, so it is not read back: {}. Run stockbridge \
                 doctor to find the cause",
                or_dash(worker.reason.as_deref().map(printable))
            );
        }
        if !is_quiet && readback.trouble.is_some() && readback.trouble != last_trouble {
            print_error(&format!("{name}: {trouble}; retrying"));
        }
        last_trouble.clone_from(&readback.trouble);
        let current = Some((readback.pages, readback.state, readback.trouble));
        if current != last_change.0 {
            last_change = (current, Instant::now());
        } else if last_change.1.elapsed() > STALL_TIMEOUT {
            bail!(
                "{name}: no progress for {} minutes, last problem: {trouble}. Read the log of the \
                 service",
                STALL_TIMEOUT.as_secs() / 60
            );
        }
        sleep(POLL_INTERVAL).await;
    }
}

fn shop_of<'a>(status: &'a StatusResponse, name: &str) -> anyhow::Result<&'a ShopStatusDto> {
    let mut shops = status.shops.iter();
    shops.find(|shop| shop.name == name).ok_or_else(|| {
        anyhow!("the service has no shop {name} any more, it was restarted; run verify again")
    })
}

/// Returns the active alarms about absence for one shop's sources.
fn absence_not_applied(status: &StatusResponse, shop: &str) -> Vec<UnappliedAbsence> {
    let of_shop = status.alarms.iter().filter(|alarm| {
        alarm.alarm == AlarmKind::AbsenceNotApplied.name()
            && alarm.about.split('/').next() == Some(shop)
    });
    let source = |alarm: &StatusAlarm| UnappliedAbsence {
        source: alarm.about.clone(),
        text: alarm.text.clone(),
    };
    of_shop.map(source).collect()
}
