//! Whether the push API can be switched off: shop by shop, with reasons.

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

/// What the Market asked for within so long of its last question counts as asked for lately.
const RECENT_WINDOW: TimeDelta = TimeDelta::hours(72);

/// The Market's copy must have been explained whole within this.
const MAX_FULL_MATCH_AGE: TimeDelta = TimeDelta::hours(24);

/// SKUs named of those that are missing.
const MAX_MISSING_NAMED: usize = 20;

pub(super) async fn report(State(ops): State<Ops>) -> Response {
    // Looks at every SKU: off the threads that answer the Market.
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
    /// `GO` if it is so for every shop.
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
    /// What is in the way.
    reasons: Vec<String>,
    /// What is worth knowing and not in the way.
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

/// How much of what the Market asks for is on the new way.
#[derive(Debug, Default, Serialize)]
struct PushCoverage {
    /// SKUs the Market asked for lately.
    asked: usize,
    /// Of which the seller has told us.
    in_book: usize,
    /// Of which the Market has acknowledged what the book says.
    acknowledged: usize,
    /// Some of those the seller has not told us of.
    missing: Vec<String>,
    /// There were more unknown SKUs than are remembered: `asked` is too low.
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
        let last_equal = readback.as_ref().and_then(|survey| survey.last_equal);
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
                .map_or(0, |survey| count_in_class(survey, class))
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

/// What a verdict is based on.
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
    /// What is in the way of switching the push API off, and what is worth knowing besides.
    fn evaluate(&self) -> (Vec<String>, Vec<String>) {
        let mut reasons = Vec::new();
        let mut remarks = Vec::new();
        if let Some(reason) = self.not_sending_reason {
            reasons.push(reason.to_owned());
        } else if self.mode != Mode::On {
            reasons.push(format!("migrate is \"{}\": nothing is sent", self.mode));
        }
        if self.has_no_stock {
            reasons.push("no stock is known yet".to_owned());
        }
        self.check_coverage(&mut reasons, &mut remarks);
        self.check_sending(&mut reasons);
        self.check_market_copy(&mut reasons, &mut remarks);
        if self.silent_for >= self.stale_after {
            let hours = self.silent_for.num_hours();
            reasons.push(format!("no source has said anything for {hours} h"));
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
            let text = "the Market has asked for nothing yet: what it needs is not known";
            // After the end nobody asks any more, and whoever starts then cannot wait for it.
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
                "{} of {asked} SKUs the Market asked for lately are not in the book, such as {}",
                asked - in_book,
                named.join(", ")
            ));
        }
        if acknowledged < in_book {
            let waiting = in_book - acknowledged;
            reasons.push(format!(
                "{waiting} SKUs it asked for are not acknowledged as they are now"
            ));
        }
        if *incomplete {
            remarks.push("it asked for more unknown SKUs than are remembered".to_owned());
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
                "the Market refuses {quarantined} SKUs, such as '{}': {}",
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
                "SKUs differ on the Market, and nothing explains it",
            ),
            (
                MatchClass::Unknown,
                "SKUs were taken by the Market and are shown nowhere",
            ),
        ] {
            let count = count_in_class(readback, class);
            // In a dry run nothing was sent, and that is said already.
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
                    "the Market's copy was last explained whole {hours} h ago"
                ));
            }
            None => reasons.push(
                "the Market's copy was never read back and explained whole: `stockbridge verify`"
                    .to_owned(),
            ),
        }
        let not_ours = count_in_class(readback, MatchClass::NotOurs);
        if not_ours > 0 {
            remarks.push(format!(
                "the Market shows {not_ours} SKUs of which the seller never spoke"
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
    fn all_well_is_go() {
        let (coverage, readback, report) = good_inputs();
        assert_eq!(
            inputs(&coverage, &readback, &report).evaluate().0,
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_trouble_alone_is_in_the_way_and_named() {
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
                    not_sending_reason: Some("another's"),
                    ..base()
                },
                "another's",
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
                "1 SKUs it asked for",
            ),
            (
                ReadinessInputs {
                    coverage: &unasked,
                    ..base()
                },
                "asked for nothing yet",
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
    fn after_the_end_nobody_asks_and_that_is_only_a_remark() {
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
