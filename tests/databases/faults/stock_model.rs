//! Model of the stock that writers, readers and the Market have seen, and its invariants.
//!
//! Each SKU has one writer, and its counts rise from 1, so the order of its updates is known. The
//! outcome of an update is known only with a response: after a timeout or an error 5xx it may be
//! stored, also later. An update with a date that was stored late loses against a newer one; one
//! without a date is dated when it is stored, so it may win.

use std::collections::BTreeMap;

use market_sim::SimulatorReport;

/// Response to an update.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PutOutcome {
    /// Status 200.
    Acknowledged,
    /// Status 4xx: nothing was stored.
    Refused,
    /// Status 5xx or no response: stored or not, now or later.
    Unknown,
}

/// Kind of the dates of a SKU's updates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dates {
    /// Every update has `updatedAt` from the clock of the test.
    Own,
    /// No update has a date, so the service dates it when it is stored.
    OfArrival,
}

/// Updates and observations of all SKUs.
#[derive(Debug, Default)]
pub(super) struct StockModel {
    skus: BTreeMap<String, SkuHistory>,
    violations: Vec<String>,
    acknowledged: u64,
    reads: u64,
    /// Violations in the last report of the Market.
    broken_rules: u64,
}

#[derive(Debug)]
struct SkuHistory {
    dates: Dates,
    /// Count of the last update that was sent.
    issued: u32,
    /// Count of the last acknowledged update; 0 before the first.
    acknowledged: u32,
    refused: Vec<u32>,
    unknown: Vec<u32>,
    /// Highest count that the Market has shown.
    market: u32,
}

/// Acknowledged stock before a request, for the check of its response.
#[derive(Clone, Debug)]
pub(super) struct ReadBound {
    skus: Vec<(String, u32)>,
}

impl ReadBound {
    /// Returns the SKUs of the request.
    pub(super) fn skus(&self) -> Vec<&str> {
        self.skus.iter().map(|(sku, _)| sku.as_str()).collect()
    }
}

impl StockModel {
    /// Adds a SKU without stock.
    pub(super) fn add_sku(&mut self, sku: &str, dates: Dates) {
        let history = SkuHistory {
            dates,
            issued: 0,
            acknowledged: 0,
            refused: Vec::new(),
            unknown: Vec::new(),
            market: 0,
        };
        self.skus.insert(sku.to_owned(), history);
    }

    pub(super) fn skus(&self) -> Vec<String> {
        self.skus.keys().cloned().collect()
    }

    pub(super) fn dates(&self, sku: &str) -> Dates {
        self.skus[sku].dates
    }

    /// Returns the number of acknowledged updates and of checked responses.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.acknowledged, self.reads)
    }

    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Returns the next count of a SKU, which the caller sends now.
    pub(super) fn issue(&mut self, sku: &str) -> u32 {
        let history = self.history(sku);
        history.issued += 1;
        history.issued
    }

    /// Records the response to an update.
    pub(super) fn record_write(&mut self, sku: &str, count: u32, outcome: PutOutcome) {
        let history = self.history(sku);
        match outcome {
            PutOutcome::Acknowledged => history.acknowledged = history.acknowledged.max(count),
            PutOutcome::Refused => history.refused.push(count),
            PutOutcome::Unknown => history.unknown.push(count),
        }
        if outcome == PutOutcome::Acknowledged {
            self.acknowledged += 1;
        }
    }

    /// Returns the acknowledged state of SKUs, for the check of a request that is sent now.
    pub(super) fn bound<'a>(&self, skus: impl IntoIterator<Item = &'a str>) -> ReadBound {
        let acknowledged = |sku: &str| self.skus.get(sku).map_or(0, |it| it.acknowledged);
        let skus = skus.into_iter();
        ReadBound {
            skus: skus
                .map(|sku| (sku.to_owned(), acknowledged(sku)))
                .collect(),
        }
    }

    /// Checks the counts of a response. SKUs that it omits have none.
    pub(super) fn check_read(
        &mut self,
        reader: &str,
        bound: &ReadBound,
        counts: &BTreeMap<String, u32>,
    ) {
        self.reads += 1;
        for (sku, acknowledged) in &bound.skus {
            let fault = match (self.skus.get(sku), counts.get(sku)) {
                (None, None) => None,
                (None, Some(_)) => Some("was never sent".to_owned()),
                (Some(_), None) => (*acknowledged > 0).then(|| {
                    format!("is missing, but {acknowledged} was acknowledged before the request")
                }),
                (Some(history), Some(count)) => history.fault_of(*count, *acknowledged),
            };
            if let Some(fault) = fault {
                let count = counts.get(sku);
                self.violate(format!("{reader}: {sku} = {count:?} {fault}"));
            }
        }
    }

    /// Checks the count that the Market shows.
    pub(super) fn check_market(&mut self, sku: &str, count: u32) {
        let history = self.history(sku);
        let fault = history.fault_of(count, history.market);
        history.market = history.market.max(count);
        if let Some(fault) = fault {
            self.violate(format!("Market: {sku} = {count} {fault}"));
        }
    }

    /// Checks that no rule of the Market was broken: no limit, no older date, and no wrong date.
    pub(super) fn check_report(&mut self, report: &SimulatorReport) {
        let total = report.total_violations();
        if total > self.broken_rules {
            self.broken_rules = total;
            let SimulatorReport {
                violations,
                violation_examples,
                ..
            } = report;
            self.violate(format!("Market: {violations:?}: {violation_examples:?}"));
        }
    }

    /// Checks that all copies have the same stock of every SKU.
    pub(super) fn check_copies(&mut self, copies: &[(String, BTreeMap<String, u32>)]) {
        let Some(((first_name, first), others)) = copies.split_first() else {
            return;
        };
        for (name, copy) in others {
            if copy != first {
                self.violate(format!("{first_name} has {first:?}, {name} has {copy:?}"));
            }
        }
    }

    fn history(&mut self, sku: &str) -> &mut SkuHistory {
        self.skus.get_mut(sku).expect("the SKU was added")
    }

    fn violate(&mut self, text: String) {
        eprintln!("VIOLATION {text}");
        self.violations.push(text);
    }
}

impl SkuHistory {
    /// Returns why this count must not be seen after `floor` was acknowledged.
    fn fault_of(&self, count: u32, floor: u32) -> Option<String> {
        if count == 0 {
            return Some("is an invented zero".to_owned());
        }
        if count > self.issued {
            return Some(format!(
                "was never sent; the last update was {}",
                self.issued
            ));
        }
        if self.refused.contains(&count) {
            return Some("was refused".to_owned());
        }
        let may_be_late = self.dates == Dates::OfArrival && self.unknown.contains(&count);
        (count < floor && !may_be_late).then(|| format!("is older than {floor}"))
    }
}

#[cfg(test)]
mod tests {
    use market_sim::MarketViolation;

    use super::*;

    /// Model with a dated and an undated SKU, of which 1 and 3 were acknowledged; 2 is unknown.
    fn model() -> StockModel {
        let mut model = StockModel::default();
        model.add_sku("DATED", Dates::Own);
        model.add_sku("UNDATED", Dates::OfArrival);
        for sku in ["DATED", "UNDATED"] {
            for outcome in [
                PutOutcome::Acknowledged,
                PutOutcome::Unknown,
                PutOutcome::Acknowledged,
                PutOutcome::Refused,
            ] {
                let count = model.issue(sku);
                model.record_write(sku, count, outcome);
            }
        }
        model
    }

    fn read(model: &mut StockModel, counts: &[(&str, u32)]) -> Vec<String> {
        let bound = model.bound(["DATED", "UNDATED", "UNKNOWN"]);
        let counts = counts
            .iter()
            .map(|(sku, count)| ((*sku).to_owned(), *count));
        model.check_read("one", &bound, &counts.collect());
        std::mem::take(&mut model.violations)
    }

    #[test]
    fn acknowledged_stock_passes() {
        let mut model = model();
        assert!(read(&mut model, &[("DATED", 3), ("UNDATED", 3)]).is_empty());
        // Stored when it arrived late, and then dated.
        assert!(read(&mut model, &[("DATED", 3), ("UNDATED", 2)]).is_empty());
        // A response to an earlier request may be older.
        let bound = model.bound(["DATED"]);
        let count = model.issue("DATED");
        model.record_write("DATED", count, PutOutcome::Acknowledged);
        let counts = BTreeMap::from([("DATED".to_owned(), 3)]);
        model.check_read("one", &bound, &counts);
        for count in [1, 2, 3, 5] {
            model.check_market("DATED", count);
        }
        model.check_report(&SimulatorReport::default());
        model.check_copies(&[
            ("one".to_owned(), counts.clone()),
            ("two".to_owned(), counts),
        ]);
        assert_eq!(model.violations(), &[] as &[String]);
        assert_eq!(model.progress(), (5, 3));
    }

    #[test]
    fn each_wrong_answer_is_a_violation() {
        for (counts, text) in [
            (&[("UNDATED", 3)][..], "DATED = None is missing"),
            (
                &[("DATED", 1), ("UNDATED", 3)],
                "DATED = Some(1) is older than 3",
            ),
            (
                &[("DATED", 2), ("UNDATED", 3)],
                "DATED = Some(2) is older than 3",
            ),
            (
                &[("DATED", 3), ("UNDATED", 1)],
                "UNDATED = Some(1) is older than 3",
            ),
            (
                &[("DATED", 0), ("UNDATED", 3)],
                "DATED = Some(0) is an invented zero",
            ),
            (
                &[("DATED", 4), ("UNDATED", 3)],
                "DATED = Some(4) was refused",
            ),
            (
                &[("DATED", 5), ("UNDATED", 3)],
                "DATED = Some(5) was never sent",
            ),
            (
                &[("DATED", 3), ("UNDATED", 3), ("UNKNOWN", 0)],
                "UNKNOWN = Some(0) was never sent",
            ),
        ] {
            let violations = read(&mut model(), counts);
            assert_eq!(violations.len(), 1, "{violations:?}");
            assert!(violations[0].contains(text), "{violations:?}, not {text}");
        }
    }

    #[test]
    fn each_wrong_state_of_the_market_is_a_violation() {
        for (counts, text) in [
            (&[0][..], "invented zero"),
            (&[3, 1], "1 is older than 3"),
            (&[5], "was never sent"),
            (&[4], "was refused"),
        ] {
            let mut model = model();
            for count in counts {
                model.check_market("DATED", *count);
            }
            let violations = model.violations();
            assert_eq!(violations.len(), 1, "{violations:?}");
            assert!(violations[0].contains(text), "{violations:?}, not {text}");
        }
    }

    #[test]
    fn each_broken_rule_of_the_market_is_a_violation() {
        for violation in [
            MarketViolation::Volume,
            MarketViolation::Parallel,
            MarketViolation::SkuTwiceInFlight,
            MarketViolation::WentBackwards,
            MarketViolation::Content,
        ] {
            let report = SimulatorReport {
                violations: BTreeMap::from([(violation, 1)]),
                ..SimulatorReport::default()
            };
            let mut model = model();
            model.check_report(&report);
            assert_eq!(model.violations().len(), 1, "{violation:?}");
        }
    }

    #[test]
    fn different_copies_are_a_violation() {
        let copy = |count| BTreeMap::from([("DATED".to_owned(), count)]);
        let mut model = model();
        model.check_copies(&[
            ("one".to_owned(), copy(3)),
            ("two".to_owned(), copy(3)),
            ("database".to_owned(), copy(1)),
        ]);
        assert_eq!(model.violations().len(), 1);
        assert!(model.violations()[0].contains("database has"));
    }
}
