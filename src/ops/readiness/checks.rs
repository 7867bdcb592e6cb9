//! Checks of one shop: pure decisions about the facts that a verdict is based on.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use strum::VariantArray as _;

use super::PushCoverage;
use super::reason::ReadinessReason;
use crate::migrator::readback::{MatchClass, ReadbackReport};
use crate::migrator::{Mode, WorkerState, WorkerStatus};

/// Longest age of the last read-back with a full match.
const MAX_FULL_MATCH_AGE: TimeDelta = TimeDelta::hours(24);

/// Condition for switching the push API off.
#[derive(Clone, Copy, Debug, Eq, PartialEq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum ReadinessCheck {
    /// The store belongs to this installation, and `migrate` is `on`.
    SendingOn,
    /// Stock of the shop is known.
    StockKnown,
    /// The Market has requested stock.
    RequestsSeen,
    /// All recently requested SKUs have known stock.
    RequestsCovered,
    /// The Market has acknowledged the stock of all recently requested SKUs.
    RequestsAcknowledged,
    /// Nothing waits to be sent.
    EverythingSent,
    /// The Market rejects no SKU.
    NothingRejected,
    /// Sending is not paused.
    NotPaused,
    /// No SKU differs on the Market without an explanation.
    NoDifference,
    /// The Market shows all accepted SKUs.
    AllShown,
    /// A recent read-back had a full match.
    RecentFullMatch,
    /// A source has stated stock recently.
    SourcesActive,
}

impl ReadinessCheck {
    /// Returns the name in the addresses of elements.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Result of a check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CheckResult {
    /// The condition is met.
    Passed,
    /// The condition is not met.
    Failed(ReadinessReason),
    /// The condition is not met, but that does not count.
    NotNeeded(ReadinessReason),
    /// Another condition must be met first.
    NotChecked,
}

/// All checks of a shop with their results, and remarks that belong to none.
#[derive(Clone, Debug)]
pub(super) struct CheckedShop {
    /// Checks in the order of the report.
    pub(super) checks: Vec<(ReadinessCheck, CheckResult)>,
    /// Remarks that do not change the verdict.
    pub(super) remarks: Vec<ReadinessReason>,
}

impl CheckedShop {
    /// Returns the reasons against switching off.
    pub(super) fn reasons(&self) -> impl Iterator<Item = &ReadinessReason> {
        self.checks.iter().filter_map(|(_, result)| match result {
            CheckResult::Failed(reason) => Some(reason),
            CheckResult::Passed | CheckResult::NotNeeded(_) | CheckResult::NotChecked => None,
        })
    }
}

/// Facts that a verdict is based on.
pub(super) struct ReadinessInputs<'a> {
    pub(super) now: DateTime<Utc>,
    pub(super) cutoff: NaiveDate,
    pub(super) mode: Mode,
    pub(super) not_sending_reason: Option<&'a str>,
    /// Reason why this process does not send, if there are several replicas.
    pub(super) other_replica: Option<ReadinessReason>,
    pub(super) has_no_stock: bool,
    pub(super) coverage: &'a PushCoverage,
    pub(super) report: Option<&'a WorkerStatus>,
    pub(super) readback: Option<&'a ReadbackReport>,
    pub(super) dirty: usize,
    pub(super) silent_for: TimeDelta,
    pub(super) stale_after: TimeDelta,
}

impl ReadinessInputs<'_> {
    /// Makes all checks.
    pub(super) fn evaluate(&self) -> CheckedShop {
        let not_checked = |check: &ReadinessCheck| (*check, CheckResult::NotChecked);
        let mut shop = CheckedShop {
            checks: ReadinessCheck::VARIANTS.iter().map(not_checked).collect(),
            remarks: Vec::new(),
        };
        let reason = match self.not_sending_reason {
            Some(reason) => Some(ReadinessReason::NotSending(reason.to_owned())),
            None if self.mode != Mode::On => Some(ReadinessReason::ModeNotOn(self.mode)),
            None => self.other_replica.clone(),
        };
        shop.set(ReadinessCheck::SendingOn, reason);
        let no_stock = self.has_no_stock.then_some(ReadinessReason::NoStock);
        shop.set(ReadinessCheck::StockKnown, no_stock);
        self.check_coverage(&mut shop);
        // Only the replica that sends knows the rest.
        if self.other_replica.is_none() {
            self.check_sending(&mut shop);
            self.check_market_copy(&mut shop);
        }
        if !self.has_no_stock {
            let silent = self.silent_for >= self.stale_after;
            let reason =
                silent.then(|| ReadinessReason::SourcesSilent(self.silent_for.num_hours()));
            shop.set(ReadinessCheck::SourcesActive, reason);
        }
        shop
    }

    fn check_coverage(&self, shop: &mut CheckedShop) {
        let PushCoverage {
            asked,
            in_book,
            acknowledged,
            ref missing,
            incomplete,
            ..
        } = *self.coverage;
        if asked == 0 {
            let reason = ReadinessReason::NothingRequested;
            // After the cutoff the Market sends no more requests, so a later start cannot wait for one.
            if self.now.date_naive() > self.cutoff {
                shop.remarks.push(reason.clone());
                let result = CheckResult::NotNeeded(reason);
                shop.checks[ReadinessCheck::RequestsSeen as usize].1 = result;
            } else {
                shop.set(ReadinessCheck::RequestsSeen, Some(reason));
            }
        } else {
            shop.set(ReadinessCheck::RequestsSeen, None);
            let missing = (in_book < asked).then(|| ReadinessReason::MissingStock {
                missing: asked - in_book,
                asked,
                examples: missing.clone(),
            });
            shop.set(ReadinessCheck::RequestsCovered, missing);
            let waiting = in_book.saturating_sub(acknowledged);
            let waiting = (waiting > 0).then_some(ReadinessReason::NotAcknowledged(waiting));
            shop.set(ReadinessCheck::RequestsAcknowledged, waiting);
        }
        if incomplete {
            shop.remarks.push(ReadinessReason::RequestsForgotten);
        }
    }

    fn check_sending(&self, shop: &mut CheckedShop) {
        let Some(report) = self.report else {
            return;
        };
        let is_on = self.mode == Mode::On;
        let rejected = report.quarantined.len();
        if is_on {
            let waiting = self.dirty.saturating_sub(rejected);
            let waiting = (waiting > 0).then_some(ReadinessReason::WaitingToSend(waiting));
            shop.set(ReadinessCheck::EverythingSent, waiting);
        }
        let first = report.quarantined.first();
        let rejected = first.map(|first| ReadinessReason::Rejected {
            count: rejected,
            sku: first.sku.clone(),
            message: first.reason.clone(),
        });
        let is_paused = report.state == WorkerState::Paused;
        let paused = is_paused.then(|| ReadinessReason::Paused(report.reason.clone()));
        for (check, reason) in [
            (ReadinessCheck::NothingRejected, rejected),
            (ReadinessCheck::NotPaused, paused),
        ] {
            // They pass only if the stock is sent.
            if is_on || reason.is_some() {
                shop.set(check, reason);
            }
        }
    }

    fn check_market_copy(&self, shop: &mut CheckedShop) {
        let Some(readback) = self.readback else {
            return;
        };
        let reason = |class, reason: fn(u64) -> ReadinessReason| {
            let count = readback.count(class);
            (count > 0).then(|| reason(count))
        };
        shop.remarks
            .extend(reason(MatchClass::NotOurs, ReadinessReason::NotOurs));
        // In a dry run nothing was sent, which is a reason already.
        if self.mode != Mode::On {
            return;
        }
        let drifted = reason(MatchClass::Drifted, ReadinessReason::Drifted);
        shop.set(ReadinessCheck::NoDifference, drifted);
        let not_shown = reason(MatchClass::Unknown, ReadinessReason::NotShown);
        shop.set(ReadinessCheck::AllShown, not_shown);
        let reason = match readback.last_equal {
            Some(at) if self.now - at <= MAX_FULL_MATCH_AGE => None,
            Some(at) => Some(ReadinessReason::FullMatchTooOld(
                (self.now - at).num_hours(),
            )),
            None => Some(ReadinessReason::NeverFullMatch),
        };
        shop.set(ReadinessCheck::RecentFullMatch, reason);
    }
}

impl CheckedShop {
    fn set(&mut self, check: ReadinessCheck, reason: Option<ReadinessReason>) {
        let result = reason.map_or(CheckResult::Passed, CheckResult::Failed);
        self.checks[check as usize].1 = result;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_stock_its_age_is_not_checked() {
        let (coverage, readback, report) = good_inputs();
        for (has_no_stock, expected) in [
            (true, CheckResult::NotChecked),
            (false, CheckResult::Passed),
        ] {
            let inputs = ReadinessInputs {
                has_no_stock,
                ..inputs(&coverage, &readback, &report)
            };
            let checks = inputs.evaluate().checks;
            assert!(checks.contains(&(ReadinessCheck::SourcesActive, expected)));
        }
    }

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
            other_replica: None,
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
            inputs(&coverage, &readback, &report)
                .evaluate()
                .reasons()
                .count(),
            0
        );
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table of cases")]
    fn each_problem_alone_is_a_reason() {
        let (coverage, readback, report) = good_inputs();
        let reasons = |inputs: ReadinessInputs<'_>| {
            let checked = inputs.evaluate();
            let reasons: Vec<String> = checked.reasons().map(ToString::to_string).collect();
            reasons.join("; ")
        };
        let base = || inputs(&coverage, &readback, &report);
        let drifted = ReadbackReport {
            classes: [("drifted".into(), 2)].into(),
            ..readback.clone()
        };
        let old = ReadbackReport {
            last_equal: Some("2026-11-18T09:00:00Z".parse().unwrap()),
            ..readback.clone()
        };
        let paused = WorkerStatus {
            state: WorkerState::Paused,
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
    fn another_replica_passes_no_check_about_sent_stock() {
        let (coverage, readback, report) = good_inputs();
        let reason = ReadinessReason::OtherReplica(Some("dc-2".to_owned()));
        let checked = ReadinessInputs {
            other_replica: Some(reason.clone()),
            ..inputs(&coverage, &readback, &report)
        }
        .evaluate();
        assert_eq!(checked.reasons().collect::<Vec<_>>(), [&reason]);
        let results = checked.checks[5..11].iter().map(|(_, result)| result);
        assert_eq!(
            results.filter(|it| **it != CheckResult::NotChecked).count(),
            0
        );
    }

    #[test]
    fn missing_requests_after_cutoff_are_a_remark() {
        let (_, readback, report) = good_inputs();
        let unasked = PushCoverage::default();
        let after_cutoff = ReadinessInputs {
            cutoff: "2026-11-01".parse().unwrap(),
            ..inputs(&unasked, &readback, &report)
        };
        let checked = after_cutoff.evaluate();
        assert_eq!((checked.reasons().count(), checked.remarks.len()), (0, 1));
    }

    #[test]
    fn every_check_is_listed_in_every_mode() {
        let (coverage, readback, report) = good_inputs();
        for mode in [Mode::On, Mode::DryRun, Mode::Off] {
            for coverage in [&coverage, &PushCoverage::default()] {
                for (report, readback) in [(Some(&report), Some(&readback)), (None, None)] {
                    let checked = ReadinessInputs {
                        mode,
                        report,
                        readback,
                        ..inputs(coverage, &good_inputs().1, &good_inputs().2)
                    }
                    .evaluate();
                    let checks: Vec<ReadinessCheck> =
                        checked.checks.iter().map(|(check, _)| *check).collect();
                    assert_eq!(checks, ALL_CHECKS);
                }
            }
        }
    }

    const ALL_CHECKS: &[ReadinessCheck] = ReadinessCheck::VARIANTS;

    #[test]
    fn a_dry_run_passes_no_check_about_sent_stock() {
        let (coverage, readback, report) = good_inputs();
        let checked = ReadinessInputs {
            mode: Mode::DryRun,
            ..inputs(&coverage, &readback, &report)
        }
        .evaluate();
        let skipped = |(check, result): &(ReadinessCheck, CheckResult)| {
            (*result == CheckResult::NotChecked).then_some(*check)
        };
        let skipped: Vec<ReadinessCheck> = checked.checks.iter().filter_map(skipped).collect();
        assert_eq!(skipped, ALL_CHECKS[5..11]);
    }
}
