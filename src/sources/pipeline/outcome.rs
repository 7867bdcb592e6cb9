//! Record of what happened to deliveries and polls: status, alarms and log.

use std::time::Duration;

use chrono::{DateTime, Utc};
use stock_import::{DeliveryScope, RejectedRow};
use strict_http::causes;
use tracing::{info, warn};

use super::{ChangeCounts, DeliveryOutcome, DeliveryPipeline, DeliveryReport, PipelineError};
use crate::telemetry::{AlarmKind, Alarms};

/// Limit for the rejected and suspicious rows of a delivery that are logged.
const MAX_LOGGED_ROWS: usize = 5;

impl DeliveryPipeline {
    /// Records the outcome of a delivery in the status, the alarms and the log.
    pub(super) fn record_outcome(
        &self,
        source: usize,
        started_at: DateTime<Utc>,
        should_apply: bool,
        delivered: Result<DeliveryReport, PipelineError>,
    ) -> Result<DeliveryReport, PipelineError> {
        let now = self.0.context.clock.now();
        let (shop, name) = (&self.0.name, self.source_name(source));
        let about = format!("{shop}/{name}");
        let alarms = &self.0.context.alarms;
        let mut statuses = self.0.statuses.lock();
        let status = &mut statuses[source];
        let mut report = match delivered {
            Ok(report) => report,
            // The new leader reports about the source.
            Err(error @ PipelineError::NotLeading) => return Err(error),
            Err(error) => {
                if should_apply {
                    status.is_unreachable = false;
                    status.failed_total += 1;
                    let text = causes(&error);
                    status.last_failure = Some((now, text.clone()));
                    drop(statuses);
                    let text =
                        format!("{about} could not be applied, the stock is unchanged: {text}");
                    alarms.raise(AlarmKind::SourceFailed, &about, text);
                }
                return Err(error);
            }
        };
        report.duration_ms = (now - started_at).num_milliseconds();
        if !should_apply {
            return Ok(report);
        }
        status.last_failure = None;
        status.last_report_at = Some(now);
        status.rejected_total += report.rejected;
        status.suspicious_total += report.suspicious;
        let DeliveryReport {
            rows,
            rejected,
            suspicious,
            changes,
            duration_ms,
            ..
        } = &report;
        log_notices(&about, &report);
        match &report.outcome {
            DeliveryOutcome::Held(reason) => {
                status.held_total += 1;
                raise_held_alarm(alarms, shop, name, reason);
            }
            DeliveryOutcome::Applied | DeliveryOutcome::Previewed => {
                status.applied_total += 1;
                status.rows_total += rows;
                if status.held.is_empty() {
                    alarms.clear(AlarmKind::SourceHeld, &about);
                }
                match &report.absence_not_applied {
                    Some(reason) => raise_absence_alarm(alarms, &about, reason),
                    // A delta does not show whether the problem is solved; the next snapshot does.
                    None if report.scope == DeliveryScope::Snapshot => {
                        alarms.clear(AlarmKind::AbsenceNotApplied, &about);
                    }
                    None => {}
                }
                let ChangeCounts {
                    new,
                    changed,
                    unchanged,
                    zeroed,
                    ..
                } = changes;
                info!(
                    shop,
                    source = name,
                    rows,
                    rejected,
                    suspicious,
                    new,
                    changed,
                    unchanged,
                    zeroed,
                    took_ms = duration_ms,
                    "{about} delivered {rows} rows: {new} new, {changed} changed ({zeroed} to \
                     zero), {unchanged} unchanged, {rejected} rejected, {suspicious} suspicious"
                );
            }
        }
        alarms.clear(AlarmKind::SourceFailed, &about);
        status.last_report = Some(report.clone());
        Ok(report)
    }

    /// Records that a source could not be polled at all.
    pub fn record_failure(&self, source: usize, text: &str) {
        let now = self.0.context.clock.now();
        self.record_poll_failure(source, text);
        let about = format!("{}/{}", self.0.name, self.source_name(source));
        {
            let status = &mut self.0.statuses.lock()[source];
            status.failed_total += 1;
            status.is_unreachable = true;
            status.last_failure = Some((now, text.to_owned()));
        }
        let text = format!("{about} cannot be read, the stock is unchanged: {text}");
        self.0
            .context
            .alarms
            .raise(AlarmKind::SourceFailed, &about, text);
    }

    /// Records the beginning of a poll.
    pub fn record_poll_started(&self, source: usize) {
        let status = &mut self.0.statuses.lock()[source];
        status.last_poll_at = Some(self.0.context.clock.now());
        status.next_poll_at = None;
    }

    /// Records the end of a poll, and the pause before the next one.
    pub fn record_poll_ended(&self, source: usize, pause: Duration) {
        self.0.statuses.lock()[source].next_poll_at = Some(self.0.context.clock.now() + pause);
    }

    /// Records that a source was polled and has nothing new.
    pub fn record_reachable(&self, source: usize) {
        let status = &mut self.0.statuses.lock()[source];
        if std::mem::take(&mut status.is_unreachable) {
            status.last_failure = None;
            let about = format!("{}/{}", self.0.name, self.source_name(source));
            self.0.context.alarms.clear(AlarmKind::SourceFailed, &about);
        }
    }
}

/// Logs the notices of a delivery and its first rows that are not applied.
fn log_notices(about: &str, report: &DeliveryReport) {
    for notice in &report.notices {
        info!("{about}: {notice}");
    }
    for RejectedRow {
        line,
        text,
        reason,
        is_suspicious,
        ..
    } in report.first_rejected.iter().take(MAX_LOGGED_ROWS)
    {
        let kind = if *is_suspicious {
            "suspicious"
        } else {
            "rejected"
        };
        warn!(line, "{about}: {kind} row, line {line}: {reason}: {text}");
    }
}

pub(super) fn raise_absence_alarm(alarms: &Alarms, about: &str, reason: &str) {
    alarms.raise(
        AlarmKind::AbsenceNotApplied,
        about,
        format!("{about}: {reason}"),
    );
}

pub(super) fn raise_held_alarm(alarms: &Alarms, shop: &str, source: &str, reason: &str) {
    let about = format!("{shop}/{source}");
    let text = format!(
        "{about} is held for approval, the stock is unchanged: {reason}. To apply it: stockbridge \
         accept {source} --shop {shop}"
    );
    alarms.raise(AlarmKind::SourceHeld, &about, text);
}
