//! Endpoint `/ready-report`: decides for each shop if the push API can be switched off.
//!
//! A shop is ready if the Market's recent requests are covered, everything is sent and
//! acknowledged, and a recent read-back explains the Market's whole copy.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::Serialize;

use super::{Ops, OpsShop, OpsState, starting_error};
use crate::ingest::OriginTime;
use crate::lifecycle::run_blocking;
use crate::migrator::readback::{MatchClass, ReadbackReport};
use crate::migrator::{Mode, WorkerStatus};
use crate::stock::{Hour, ShopId, SkuActivity};

/// Time before the Market's last request of all. A SKU whose own last request is within this time
/// counts as recently requested.
const RECENT_WINDOW: TimeDelta = TimeDelta::hours(72);

/// Longest age of the last read-back with a full match.
const MAX_FULL_MATCH_AGE: TimeDelta = TimeDelta::hours(24);

/// Most missing SKUs in the report.
const MAX_MISSING_NAMED: usize = 20;

pub(super) async fn report(State(ops): State<Ops>) -> Response {
    // The report visits every SKU, so it runs outside the threads that serve the Market.
    run_blocking(move || match ops.state.get() {
        Some(ops_state) => Json(ops_state.readiness()).into_response(),
        None => starting_error().into_response(),
    })
    .await
}

#[derive(Serialize)]
struct ReadinessReport<'a> {
    now: DateTime<Utc>,
    cutoff: NaiveDate,
    days_to_cutoff: i64,
    /// `GO` if every shop is ready, otherwise `NOT YET`.
    verdict: &'static str,
    shops: Vec<ShopReadiness<'a>>,
}

#[derive(Serialize)]
struct ShopReadiness<'a> {
    name: &'a str,
    address: &'a str,
    migrate: &'static str,
    /// `GO` or `NOT YET`.
    verdict: &'static str,
    /// Reasons against switching off.
    reasons: Vec<String>,
    /// Remarks that do not change the verdict.
    remarks: Vec<String>,
    coverage: PushCoverage,
    last_push: Option<DateTime<Utc>>,
    last_equal: Option<DateTime<Utc>>,
    hours_since_equal: Option<i64>,
    dirty: Option<usize>,
    quarantined: usize,
    drifted: u64,
    unknown_to_the_market: u64,
    sources: Vec<OriginTime>,
}

/// Coverage of the Market's recent requests.
#[derive(Debug, Default, Serialize)]
struct PushCoverage {
    /// SKUs that the Market requested recently.
    asked: usize,
    /// Those of `asked` whose stock is in the book.
    in_book: usize,
    /// Those of `in_book` whose current stock the Market has acknowledged.
    acknowledged: usize,
    /// The first SKUs of `asked` whose stock is not in the book.
    missing: Vec<String>,
    /// True if `asked` is too low because not all unknown SKUs are remembered.
    incomplete: bool,
    #[serde(skip)]
    last_asked: Option<DateTime<Utc>>,
}

impl OpsState {
    fn readiness(&self) -> ReadinessReport<'_> {
        let now = self.clock.now();
        let shops: Vec<_> = self
            .shops_with_ids()
            .map(|(id, shop)| self.shop_readiness(id, shop))
            .collect();
        let is_go = shops.iter().all(|shop| shop.reasons.is_empty());
        ReadinessReport {
            now,
            cutoff: self.cutoff,
            days_to_cutoff: (self.cutoff - now.date_naive()).num_days(),
            verdict: verdict(is_go),
            shops,
        }
    }

    fn shop_readiness<'a>(&'a self, id: ShopId, shop: &'a OpsShop) -> ShopReadiness<'a> {
        let now = self.clock.now();
        let coverage = self.coverage(id);
        let report = self.migrator.status(id);
        let readback = self.migrator.readback_report(id);
        let dirty = report
            .is_some()
            .then(|| self.ledger.count_dirty(id, &self.book));
        let last_equal = readback.as_ref().and_then(|readback| readback.last_equal);
        let inputs = ReadinessInputs {
            now,
            cutoff: self.cutoff,
            mode: shop.mode,
            not_sending_reason: self.not_sending_reason.as_deref(),
            has_no_stock: self.book.is_empty(id),
            coverage: &coverage,
            report: report.as_ref(),
            readback: readback.as_ref(),
            dirty: dirty.unwrap_or_default(),
            silent_for: now - self.sources.latest(id).map_or(self.started, |(_, at)| at),
            stale_after: self.stale_after,
        };
        let (reasons, remarks) = inputs.evaluate();
        let count = |class: MatchClass| {
            readback
                .as_ref()
                .map_or(0, |readback| count_in_class(readback, class))
        };
        ShopReadiness {
            name: &shop.name,
            address: &shop.address,
            migrate: shop.mode.name(),
            verdict: verdict(reasons.is_empty()),
            last_push: self.last_requests.last(id).or(coverage.last_asked),
            last_equal,
            hours_since_equal: last_equal.map(|at| (now - at).num_hours()),
            dirty,
            quarantined: report.as_ref().map_or(0, |report| report.quarantined.len()),
            drifted: count(MatchClass::Drifted),
            unknown_to_the_market: count(MatchClass::Unknown),
            sources: self.sources.by_name(id),
            reasons,
            remarks,
            coverage,
        }
    }

    fn coverage(&self, shop: ShopId) -> PushCoverage {
        let mut latest: Option<Hour> = None;
        self.book.for_each(shop, |_, entry| {
            latest = latest.max(self.activity.last_requested(shop, entry.id()));
        });
        let for_each_unknown = |visit: &mut dyn FnMut(&str, &SkuActivity)| {
            self.activity
                .for_each_unknown(shop, &self.book, |sku, mark| visit(sku.as_str(), mark))
        };
        for_each_unknown(&mut |_, mark| latest = latest.max(mark.last_requested()));
        let Some(latest) = latest else {
            return PushCoverage::default();
        };
        let since = latest.start().to_utc() - RECENT_WINDOW;
        let is_recent = |hour: Option<Hour>| hour.is_some_and(|h| h.start().to_utc() >= since);
        let mut coverage = PushCoverage {
            last_asked: Some(latest.start().to_utc()),
            ..PushCoverage::default()
        };
        self.book.for_each(shop, |_, entry| {
            if is_recent(self.activity.last_requested(shop, entry.id())) {
                coverage.in_book += 1;
                let acked = self.ledger.get(shop, entry.id()).level();
                coverage.acknowledged += usize::from(acked == Some(entry.level()));
            }
        });
        coverage.asked = coverage.in_book;
        coverage.incomplete = for_each_unknown(&mut |sku, mark| {
            if is_recent(mark.last_requested()) {
                coverage.asked += 1;
                if coverage.missing.len() < MAX_MISSING_NAMED {
                    coverage.missing.push(sku.to_owned());
                }
            }
        });
        coverage
    }
}

fn verdict(is_go: bool) -> &'static str {
    if is_go { "GO" } else { "NOT YET" }
}

fn count_in_class(readback: &ReadbackReport, class: MatchClass) -> u64 {
    readback
        .classes
        .get(class.name())
        .copied()
        .unwrap_or_default()
}

/// Facts that a verdict is based on.
struct ReadinessInputs<'a> {
    now: DateTime<Utc>,
    cutoff: NaiveDate,
    mode: Mode,
    not_sending_reason: Option<&'a str>,
    has_no_stock: bool,
    coverage: &'a PushCoverage,
    report: Option<&'a WorkerStatus>,
    readback: Option<&'a ReadbackReport>,
    dirty: usize,
    silent_for: TimeDelta,
    stale_after: TimeDelta,
}

impl ReadinessInputs<'_> {
    /// Returns the reasons against switching the push API off, and remarks.
    fn evaluate(&self) -> (Vec<String>, Vec<String>) {
        let mut reasons = Vec::new();
        let mut remarks = Vec::new();
        if let Some(reason) = self.not_sending_reason {
            reasons.push(reason.to_owned());
        } else if self.mode != Mode::On {
            reasons.push(format!("migrate is \"{}\": nothing is sent", self.mode));
        }
        if self.has_no_stock {
            reasons.push("no stock is known yet: send stock or add a source".to_owned());
        }
        self.check_coverage(&mut reasons, &mut remarks);
        self.check_sending(&mut reasons);
        self.check_market_copy(&mut reasons, &mut remarks);
        if self.silent_for >= self.stale_after {
            let hours = self.silent_for.num_hours();
            reasons.push(format!("no source has stated any stock for {hours} h"));
        }
        (reasons, remarks)
    }

    fn check_coverage(&self, reasons: &mut Vec<String>, remarks: &mut Vec<String>) {
        let PushCoverage {
            asked,
            in_book,
            acknowledged,
            missing,
            incomplete,
            ..
        } = self.coverage;
        if *asked == 0 {
            let text = "the Market has requested nothing yet, so it is unknown which SKUs it needs";
            // After the cutoff the Market sends no more requests, so a later start cannot wait for one.
            let is_over = self.now.date_naive() > self.cutoff;
            let list = if is_over {
                &mut *remarks
            } else {
                &mut *reasons
            };
            list.push(text.to_owned());
        }
        if in_book < asked {
            let named = missing
                .iter()
                .take(3)
                .map(|sku| format!("'{sku}'"))
                .collect::<Vec<_>>();
            reasons.push(format!(
                "{} of {asked} SKUs that the Market requested recently have no known stock, such as {}",
                asked - in_book,
                named.join(", ")
            ));
        }
        if acknowledged < in_book {
            let waiting = in_book - acknowledged;
            reasons.push(format!(
                "{waiting} of the requested SKUs have stock that the Market has not acknowledged yet"
            ));
        }
        if *incomplete {
            remarks.push(
                "the Market requested more SKUs without known stock than are remembered".to_owned(),
            );
        }
    }

    fn check_sending(&self, reasons: &mut Vec<String>) {
        let Some(report) = self.report else { return };
        let quarantined = report.quarantined.len();
        if self.mode == Mode::On && self.dirty > quarantined {
            reasons.push(format!("{} SKUs wait to be sent", self.dirty - quarantined));
        }
        if let Some(first) = report.quarantined.first() {
            reasons.push(format!(
                "the Market rejects {quarantined} SKUs, such as '{}': {}",
                first.sku, first.reason
            ));
        }
        if report.state == "paused" {
            let why = report.reason.as_deref().unwrap_or("the campaign is paused");
            reasons.push(format!("nothing is sent: {why}"));
        }
    }

    fn check_market_copy(&self, reasons: &mut Vec<String>, remarks: &mut Vec<String>) {
        let Some(readback) = self.readback else {
            return;
        };
        for (class, text) in [
            (
                MatchClass::Drifted,
                "SKUs differ on the Market without an explanation",
            ),
            (
                MatchClass::Unknown,
                "SKUs were accepted by the Market, but it does not show them",
            ),
        ] {
            let count = count_in_class(readback, class);
            // In a dry run nothing was sent, which is a reason already.
            if count > 0 && self.mode == Mode::On {
                reasons.push(format!("{count} {text}"));
            }
        }
        match readback.last_equal {
            _ if self.mode != Mode::On => {}
            Some(at) if self.now - at <= MAX_FULL_MATCH_AGE => {}
            Some(at) => {
                let hours = (self.now - at).num_hours();
                reasons.push(format!(
                    "the last read-back with a full match was {hours} h ago: run `stockbridge verify`"
                ));
            }
            None => reasons.push(
                "the Market's copy was never read back with a full match: run `stockbridge verify`"
                    .to_owned(),
            ),
        }
        let not_ours = count_in_class(readback, MatchClass::NotOurs);
        if not_ours > 0 {
            remarks.push(format!(
                "the Market shows {not_ours} SKUs whose stock the seller never stated"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs<'a>(
        coverage: &'a PushCoverage,
        readback: &'a ReadbackReport,
        report: &'a WorkerStatus,
    ) -> ReadinessInputs<'a> {
        ReadinessInputs {
            now: "2026-11-20T10:00:00Z".parse().unwrap(),
            cutoff: "2026-12-31".parse().unwrap(),
            mode: Mode::On,
            not_sending_reason: None,
            has_no_stock: false,
            coverage,
            report: Some(report),
            readback: Some(readback),
            dirty: 0,
            silent_for: TimeDelta::hours(1),
            stale_after: TimeDelta::hours(24),
        }
    }

    fn good_inputs() -> (PushCoverage, ReadbackReport, WorkerStatus) {
        let coverage = PushCoverage {
            asked: 9,
            in_book: 9,
            acknowledged: 9,
            ..PushCoverage::default()
        };
        let last_equal = Some("2026-11-20T09:00:00Z".parse().unwrap());
        (
            coverage,
            ReadbackReport {
                last_equal,
                ..ReadbackReport::default()
            },
            WorkerStatus::default(),
        )
    }

    #[test]
    fn no_problems_is_go() {
        let (coverage, readback, report) = good_inputs();
        assert_eq!(
            inputs(&coverage, &readback, &report).evaluate().0,
            Vec::<String>::new()
        );
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table of cases")]
    fn each_problem_alone_is_a_reason() {
        let (coverage, readback, report) = good_inputs();
        let reasons = |inputs: ReadinessInputs<'_>| inputs.evaluate().0.join("; ");
        let base = || inputs(&coverage, &readback, &report);
        let drifted = ReadbackReport {
            classes: [("drifted", 2)].into(),
            ..readback.clone()
        };
        let old = ReadbackReport {
            last_equal: Some("2026-11-18T09:00:00Z".parse().unwrap()),
            ..readback.clone()
        };
        let paused = WorkerStatus {
            state: "paused",
            reason: Some("revoked".into()),
            ..WorkerStatus::default()
        };
        let missing = PushCoverage {
            asked: 10,
            missing: vec!["X".into()],
            ..good_inputs().0
        };
        let unacked = PushCoverage {
            acknowledged: 8,
            ..good_inputs().0
        };
        let unasked = PushCoverage::default();
        for (inputs, expected) in [
            (
                ReadinessInputs {
                    mode: Mode::DryRun,
                    ..base()
                },
                "migrate is \"dry-run\"",
            ),
            (
                ReadinessInputs {
                    not_sending_reason: Some("another installation"),
                    ..base()
                },
                "another installation",
            ),
            (
                ReadinessInputs {
                    has_no_stock: true,
                    ..base()
                },
                "no stock is known",
            ),
            (ReadinessInputs { dirty: 3, ..base() }, "3 SKUs wait"),
            (
                ReadinessInputs {
                    silent_for: TimeDelta::hours(30),
                    ..base()
                },
                "for 30 h",
            ),
            (
                ReadinessInputs {
                    readback: Some(&drifted),
                    ..base()
                },
                "2 SKUs differ",
            ),
            (
                ReadinessInputs {
                    readback: Some(&old),
                    ..base()
                },
                "49 h ago",
            ),
            (
                ReadinessInputs {
                    readback: Some(&ReadbackReport::default()),
                    ..base()
                },
                "never read back",
            ),
            (
                ReadinessInputs {
                    report: Some(&paused),
                    ..base()
                },
                "revoked",
            ),
            (
                ReadinessInputs {
                    coverage: &missing,
                    ..base()
                },
                "1 of 10 SKUs",
            ),
            (
                ReadinessInputs {
                    coverage: &unacked,
                    ..base()
                },
                "1 of the requested SKUs",
            ),
            (
                ReadinessInputs {
                    coverage: &unasked,
                    ..base()
                },
                "requested nothing yet",
            ),
        ] {
            let actual = reasons(inputs);
            assert!(
                actual.contains(expected),
                "{expected:?} is not in {actual:?}"
            );
            assert_eq!(actual.matches("; ").count(), 0, "{actual}");
        }
    }

    #[test]
    fn missing_requests_after_cutoff_are_a_remark() {
        let (_, readback, report) = good_inputs();
        let unasked = PushCoverage::default();
        let after_cutoff = ReadinessInputs {
            cutoff: "2026-11-01".parse().unwrap(),
            ..inputs(&unasked, &readback, &report)
        };
        let (reasons, remarks) = after_cutoff.evaluate();
        assert_eq!((reasons.len(), remarks.len()), (0, 1));
    }
}
