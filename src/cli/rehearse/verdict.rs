use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use crate::rehearsal::{Comparison, PushReport, Report};

/// What a rehearsal came to.
pub(super) struct Verdict {
    pub(super) push: PushReport,
    pub(super) comparison: Comparison,
    pub(super) invented_zeros: usize,
    /// SKUs the Market was told to refuse.
    pub(super) poison: HashSet<String>,
    pub(super) quarantined: Vec<String>,
    /// SKUs of which a read-back cannot tell why they differ; `None` if there was none.
    pub(super) open_questions: Option<u64>,
    pub(super) migrated: Migrated,
    pub(super) report: Report,
}

/// What reached the Market.
pub(super) struct Migrated {
    pub(super) skus: usize,
    pub(super) took: Duration,
}

/// How long the Market waits for an answer.
const MARKET_WAITS: Duration = Duration::from_secs(27);

impl Verdict {
    pub(super) fn is_good(&self) -> bool {
        self.lines().iter().all(|line| line.is_good)
    }

    fn lines(&self) -> Vec<Line> {
        let Self {
            push,
            comparison,
            report,
            migrated,
            ..
        } = self;
        let slowest = push.slowest();
        let differing =
            comparison.differing.count + comparison.missing.count + comparison.surplus.count;
        let aside: HashSet<&str> = self.quarantined.iter().map(String::as_str).collect();
        let poison: HashSet<&str> = self.poison.iter().map(String::as_str).collect();
        vec![
            Line::new(
                "SKUs answered",
                format!(
                    "{} of {}",
                    push.stocks.len(),
                    push.stocks.len() + push.missing.count
                ),
                push.good == push.questions && push.missing.is_empty(),
            ),
            Line::new(
                "slowest answer",
                format!("{} ms of {} s", slowest.as_millis(), MARKET_WAITS.as_secs()),
                slowest < MARKET_WAITS,
            ),
            Line::new(
                "SKUs migrated",
                format!("{} in {:.1} s", migrated.skus, migrated.took.as_secs_f64()),
                migrated.skus > 0,
            ),
            Line::new(
                "requests",
                format!(
                    "{}, {} refused, at most {} at a time",
                    report.requests,
                    refused(report),
                    report.peak_parallel
                ),
                true,
            ),
            Line::new(
                "limits broken",
                report.broken_in_all().to_string(),
                report.broken_in_all() == 0,
            ),
            Line::new(
                "SKUs set aside",
                format!("{} of {} the Market refuses", aside.len(), poison.len()),
                aside == poison,
            ),
            Line::new(
                "read back",
                match self.open_questions {
                    None => "not tried".to_owned(),
                    Some(open) => format!("{open} SKUs unexplained"),
                },
                self.open_questions.is_none_or(|open| open == 0),
            ),
            Line::new("SKUs that differ", differing.to_string(), differing == 0),
            Line::new(
                "zeros invented",
                self.invented_zeros.to_string(),
                self.invented_zeros == 0,
            ),
        ]
    }

    /// What went wrong, by example.
    fn examples(&self) -> impl Iterator<Item = String> {
        let Comparison {
            differing,
            missing,
            surplus,
            ..
        } = &self.comparison;
        let differing = differing.first.iter().map(|d| {
            format!(
                "'{}': the shop has {}, the Market {}",
                d.sku, d.expected, d.got
            )
        });
        let missing = missing
            .first
            .iter()
            .map(|sku| format!("'{sku}': not on the Market"));
        let surplus = surplus
            .first
            .iter()
            .map(|sku| format!("'{sku}': only on the Market"));
        let unasked = self
            .push
            .missing
            .first
            .iter()
            .map(|sku| format!("'{sku}': not answered"));
        let failures = self.push.failures.first.iter().cloned();
        let broken = self.report.examples.iter().cloned();
        differing
            .chain(missing)
            .chain(surplus)
            .chain(unasked)
            .chain(failures)
            .chain(broken)
    }
}

fn refused(report: &Report) -> u64 {
    report.refused.values().sum::<u64>() + report.faults.values().sum::<u64>()
}

struct Line {
    what: &'static str,
    found: String,
    is_good: bool,
}

impl Line {
    fn new(what: &'static str, found: String, is_good: bool) -> Self {
        Self {
            what,
            found,
            is_good,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for Line {
            what,
            found,
            is_good,
        } in self.lines()
        {
            let mark = if is_good { "ok  " } else { "FAIL" };
            writeln!(f, "  {mark}  {what:<17} {found}")?;
        }
        for example in self.examples() {
            writeln!(f, "        {example}")?;
        }
        let word = if self.is_good() {
            "All is well: the Market's copy equals the seller's."
        } else {
            "NOT well: see above."
        };
        write!(f, "\n{word}")
    }
}
