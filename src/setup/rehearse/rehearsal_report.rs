//! Report of a rehearsal: the checks, examples of problems, and the conclusion.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use market_sim::{PushReport, SimulatorReport, StockComparison};

/// Result of a rehearsal.
pub(super) struct RehearsalReport {
    pub(super) push_report: PushReport,
    pub(super) comparison: StockComparison,
    pub(super) invented_zeros: usize,
    /// SKUs that the simulator was configured to reject.
    pub(super) rejected_skus: HashSet<String>,
    pub(super) quarantined: Vec<String>,
    /// SKUs with an unexplained difference after the last read-back; `None` without a read-back.
    pub(super) unexplained: Option<u64>,
    pub(super) migrated: MigrationStats,
    pub(super) market_report: SimulatorReport,
}

/// Stock that reached the simulator.
pub(super) struct MigrationStats {
    pub(super) skus: usize,
    pub(super) took: Duration,
}

/// Timeout of the Market for a push request. Source: the push API pages.
const MARKET_TIMEOUT: Duration = Duration::from_secs(27);

impl RehearsalReport {
    pub(super) fn is_good(&self) -> bool {
        self.checks().iter().all(|line| line.is_good)
    }

    fn checks(&self) -> Vec<RehearsalCheck> {
        let Self {
            push_report: push,
            comparison,
            market_report: report,
            migrated,
            ..
        } = self;
        let slowest = push.slowest();
        let differing =
            comparison.differing.count + comparison.missing.count + comparison.surplus.count;
        let quarantined: HashSet<&str> = self.quarantined.iter().map(String::as_str).collect();
        let rejected: HashSet<&str> = self.rejected_skus.iter().map(String::as_str).collect();
        vec![
            RehearsalCheck::new(
                "SKUs answered",
                format!(
                    "{} of {}",
                    push.stocks.len(),
                    push.stocks.len() + push.missing.count
                ),
                push.valid_responses == push.requests && push.missing.is_empty(),
            ),
            RehearsalCheck::new(
                "slowest response",
                format!(
                    "{} ms, limit {} s",
                    slowest.as_millis(),
                    MARKET_TIMEOUT.as_secs()
                ),
                slowest < MARKET_TIMEOUT,
            ),
            RehearsalCheck::new(
                "SKUs migrated",
                format!("{} in {:.1} s", migrated.skus, migrated.took.as_secs_f64()),
                migrated.skus > 0,
            ),
            RehearsalCheck::new(
                "requests",
                format!(
                    "{}, {} rejected, at most {} in parallel",
                    report.updates,
                    refused_requests(report),
                    report.peak_parallel
                ),
                true,
            ),
            RehearsalCheck::new(
                "rules broken",
                report.total_violations().to_string(),
                report.total_violations() == 0,
            ),
            RehearsalCheck::new(
                "SKUs quarantined",
                format!(
                    "{} of {} that the Market rejects",
                    quarantined.len(),
                    rejected.len()
                ),
                quarantined == rejected,
            ),
            RehearsalCheck::new(
                "read back",
                match self.unexplained {
                    None => "skipped".to_owned(),
                    Some(count) => format!("{count} SKUs unexplained"),
                },
                self.unexplained.is_none_or(|open| open == 0),
            ),
            RehearsalCheck::new("SKUs that differ", differing.to_string(), differing == 0),
            RehearsalCheck::new(
                "zeros invented",
                self.invented_zeros.to_string(),
                self.invented_zeros == 0,
            ),
        ]
    }

    /// Returns examples of the problems.
    fn examples(&self) -> impl Iterator<Item = String> {
        let StockComparison {
            differing,
            missing,
            surplus,
            ..
        } = &self.comparison;
        let differing = differing.examples.iter().map(|d| {
            format!(
                "'{}': the seller has {}, the Market {}",
                d.sku, d.expected, d.actual
            )
        });
        let missing = missing
            .examples
            .iter()
            .map(|sku| format!("'{sku}': missing on the Market"));
        let surplus = surplus
            .examples
            .iter()
            .map(|sku| format!("'{sku}': only on the Market"));
        let unanswered = self
            .push_report
            .missing
            .examples
            .iter()
            .map(|sku| format!("'{sku}': missing in the response to the Market"));
        let failures = self.push_report.failures.examples.iter().cloned();
        let broken = self.market_report.violation_examples.iter().cloned();
        differing
            .chain(missing)
            .chain(surplus)
            .chain(unanswered)
            .chain(failures)
            .chain(broken)
    }
}

fn refused_requests(report: &SimulatorReport) -> u64 {
    report.rejected.values().sum::<u64>() + report.faults.values().sum::<u64>()
}

struct RehearsalCheck {
    label: &'static str,
    value: String,
    is_good: bool,
}

impl RehearsalCheck {
    fn new(label: &'static str, value: String, is_good: bool) -> Self {
        Self {
            label,
            value,
            is_good,
        }
    }
}

impl fmt::Display for RehearsalReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for RehearsalCheck {
            label,
            value,
            is_good,
        } in self.checks()
        {
            let mark = if is_good { "ok  " } else { "FAIL" };
            writeln!(f, "  {mark}  {label:<17} {value}")?;
        }
        for example in self.examples() {
            writeln!(f, "        {example}")?;
        }
        let conclusion = if self.is_good() {
            "PASSED: the Market's copy equals the seller's stock."
        } else {
            "FAILED: see the lines marked FAIL and the examples below them."
        };
        write!(f, "\n{conclusion}")
    }
}
