//! Waits for the sources of a rehearsal, and reports what the service read from each.

use std::fmt;
use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep};

use crate::command::ops_client::OpsClient;
use crate::command::print_line;
use crate::ops::{DeliveryDto, RowDto, SourceStatusDto};

/// Interval at which the sources' progress is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(400);

/// Interval of the lines about the number of rows.
const PRINT_INTERVAL: Duration = Duration::from_secs(10);

/// Time without progress after which the rehearsal gives up. It is longer than a handler may take
/// for its first response and one retry.
const STALL_TIMEOUT: Duration = Duration::from_mins(5);

/// Timeout until a source starts to deliver. It is polled four times a second.
const FIRST_DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum number of rejected or suspicious rows that are printed.
const MAX_ROWS_PRINTED: usize = 10;

/// Result of one source, for printing.
pub(super) struct SourceReport(SourceStatusDto);

/// Waits until every source is applied, or one fails or is held, and returns a report of each.
pub(super) async fn wait_for_sources(client: &OpsClient) -> anyhow::Result<Vec<SourceReport>> {
    let mut last_printed = Instant::now();
    let started = Instant::now();
    let mut last_change = (0, Instant::now());
    let mut previous_dates = Vec::new();
    loop {
        let sources: Vec<SourceStatusDto> = client.get("/sources").await?;
        let dates: Vec<_> = sources.iter().map(|source| source.last_at).collect();
        let is_applied = |source: &SourceStatusDto| matches!(&*source.state, "ok" | "incomplete");
        let is_refused =
            |source: &SourceStatusDto| source.state == "failed" || source.state == "held";
        // A source with several files is done when two polls see the same deliveries.
        let is_done =
            !sources.is_empty() && sources.iter().all(is_applied) && dates == previous_dates;
        if is_done || sources.iter().any(is_refused) {
            return Ok(sources.into_iter().map(SourceReport).collect());
        }
        let rows: u64 = sources.iter().filter_map(|source| source.rows_so_far).sum();
        if last_printed.elapsed() >= PRINT_INTERVAL {
            last_printed = Instant::now();
            print_line(&format!("{:<12} {rows} rows so far", "read"));
        }
        if rows != last_change.0 || dates != previous_dates {
            last_change = (rows, Instant::now());
        }
        let is_overdue = sources.iter().any(|source| source.state == "waiting")
            && started.elapsed() > FIRST_DELIVERY_TIMEOUT;
        if is_overdue || last_change.1.elapsed() > STALL_TIMEOUT {
            let pending = sources.iter().find(|source| !is_applied(source));
            let name = pending.map_or("", |source| source.source.as_str());
            bail!(
                "the source {name} delivers nothing: check that its file or server exists, and its \
                 settings"
            );
        }
        previous_dates = dates;
        sleep(POLL_INTERVAL).await;
    }
}

impl SourceReport {
    /// Returns true if the delivery is applied completely.
    pub(super) fn is_applied(&self) -> bool {
        matches!(&*self.0.state, "ok" | "incomplete")
    }
}

impl fmt::Display for SourceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SourceStatusDto {
            source,
            kind,
            last,
            held,
            failure,
            rejected,
            ..
        } = &self.0;
        write!(f, "{source:<12} ")?;
        match (last, failure) {
            (_, Some(failure)) => {
                let (_, reason) = failure.split_once(" UTC: ").unwrap_or(("", failure));
                return write!(f, "FAILED, kind {kind}: {reason}");
            }
            (Some(last), None) => {
                let DeliveryDto {
                    scope,
                    rows,
                    rejected,
                    suspicious,
                    took_ms,
                    ..
                } = last;
                let verb = if self.is_applied() {
                    "applied"
                } else {
                    "valid"
                };
                let all = rows + rejected + suspicious;
                write!(
                    f,
                    "kind {kind}, {scope}: {all} rows, {rows} {verb}, {rejected} rejected, \
                     {suspicious} suspicious, in {:.1} s",
                    Duration::from_millis(took_ms.unsigned_abs()).as_secs_f64()
                )?;
            }
            (None, None) => write!(f, "kind {kind}: {}", self.0.state)?,
        }
        if let Some(hold_reason) = held {
            write!(
                f,
                "\n{:<12} HELD for approval, as the real service would do: {hold_reason}",
                ""
            )?;
        }
        for RowDto {
            line,
            text,
            reason,
            kind,
        } in rejected.iter().take(MAX_ROWS_PRINTED)
        {
            write!(f, "\n{:<12} {kind}: line {line}, {reason}: {text}", "")?;
        }
        let all = last
            .as_ref()
            .map_or(0, |last| last.rejected + last.suspicious);
        let more = all.saturating_sub(MAX_ROWS_PRINTED.min(rejected.len()) as u64);
        if more > 0 {
            write!(f, "\n{:<12} and {more} more rejected or suspicious", "")?;
        }
        let last = last.iter();
        for line in last.flat_map(|last| last.notices.iter().chain(&last.absence_untold)) {
            write!(f, "\n{:<12} {line}", "")?;
        }
        Ok(())
    }
}
