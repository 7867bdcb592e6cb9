//! Model of the stock that writers, readers and the Market have seen, and its invariants.
//!
//! Each SKU has one writer, and its counts rise from 1, so the order of its updates is known. The
//! outcome of an update is known only with a response: after a timeout or an error 5xx it may be
//! stored, also later. An update with a date that was stored late loses against a newer one; one
//! without a date is dated when it is stored, so it may win.
//!
//! SKUs of the complete list that the shop's source reads have no other writer. Their count is the
//! number of the list, and 0 is right only while a list that lacks the SKU may be in force.

use std::collections::BTreeMap;

use market_sim::SimulatorReport;

use super::complete_list::count_in_list;

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

/// Writer of a SKU's updates, and their dates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dates {
    /// Every update has `updatedAt` from the clock of the test.
    Own,
    /// No update has a date, so the service dates it when it is stored.
    OfArrival,
    /// The SKU with this number is in some of the lists of the source.
    OfList(u32),
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
    /// Count of the last update that was sent, or number of the last list.
    issued: u32,
    /// Count of the last acknowledged update, or number of the last list that every replica has
    /// answered with; 0 before the first.
    acknowledged: u32,
    refused: Vec<u32>,
    unknown: Vec<u32>,
    /// Highest count that the Market has shown, or number of the first list that it can be of.
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

    /// Returns the SKUs that programs update.
    pub(super) fn updated_skus(&self) -> Vec<String> {
        self.skus_where(|dates| !matches!(dates, Dates::OfList(_)))
    }

    /// Returns the SKUs of the source's lists.
    pub(super) fn listed_skus(&self) -> Vec<String> {
        self.skus_where(|dates| matches!(dates, Dates::OfList(_)))
    }

    fn skus_where(&self, is_wanted: impl Fn(Dates) -> bool) -> Vec<String> {
        let wanted = self.skus.iter().filter(|(_, it)| is_wanted(it.dates));
        wanted.map(|(sku, _)| sku.clone()).collect()
    }

    /// Returns the number of the last list; 0 before the first.
    pub(super) fn list(&self) -> u32 {
        self.of_lists(|history| history.issued)
    }

    /// Returns the number of the last list that was confirmed; 0 before the first.
    pub(super) fn confirmed_list(&self) -> u32 {
        self.of_lists(|history| history.acknowledged)
    }

    fn of_lists(&self, number: impl Fn(&SkuHistory) -> u32) -> u32 {
        let mut listed = self.skus.values();
        let listed = listed.find(|it| matches!(it.dates, Dates::OfList(_)));
        listed.map_or(0, number)
    }

    /// Records that a list is written now.
    pub(super) fn issue_list(&mut self, number: u32) {
        self.for_each_listed(|history| history.issued = number);
    }

    /// Records that every replica has answered with the stock of a list.
    pub(super) fn confirm_list(&mut self, number: u32) {
        self.for_each_listed(|history| history.acknowledged = number);
    }

    fn for_each_listed(&mut self, change: impl Fn(&mut SkuHistory)) {
        let listed = self.skus.values_mut();
        listed
            .filter(|it| matches!(it.dates, Dates::OfList(_)))
            .for_each(change);
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
                (Some(history), Some(count)) => history.order_of(*count, *acknowledged).err(),
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
        match history.order_of(count, history.market) {
            Ok(order) => history.market = history.market.max(order),
            Err(fault) => self.violate(format!("Market: {sku} = {count} {fault}")),
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
    /// Returns the place of a count in the order of the updates, or why it must not be seen after
    /// `floor`, which is such a place.
    fn order_of(&self, count: u32, floor: u32) -> Result<u32, String> {
        if let Dates::OfList(number) = self.dates {
            let mut lists = floor.max(1)..=self.issued;
            let found = lists.find(|list| count_in_list(number, *list) == count);
            let (last, kind) = (
                self.issued,
                if count == 0 {
                    "an invented zero"
                } else {
                    "wrong"
                },
            );
            return found.ok_or_else(|| format!("is {kind}: in no list from {floor} to {last}"));
        }
        if count == 0 {
            return Err("is an invented zero".to_owned());
        }
        if count > self.issued {
            let last = self.issued;
            return Err(format!("was never sent; the last update was {last}"));
        }
        if self.refused.contains(&count) {
            return Err("was refused".to_owned());
        }
        let may_be_late = self.dates == Dates::OfArrival && self.unknown.contains(&count);
        if count < floor && !may_be_late {
            return Err(format!("is older than {floor}"));
        }
        Ok(count)
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
    fn zero_is_right_only_while_a_list_lacks_the_sku() {
        // The SKU 1 is not in the lists 2 and 5, and the SKU 0 is in each.
        let listed = |confirmed, issued| {
            let mut model = StockModel::default();
            model.add_sku("LIST-0", Dates::OfList(0));
            model.add_sku("LIST-1", Dates::OfList(1));
            model.issue_list(issued);
            model.confirm_list(confirmed);
            model
        };
        for (confirmed, issued, counts) in [
            (0, 1, &[][..]),
            (1, 1, &[1, 1]),
            (1, 2, &[1, 1]),
            (1, 2, &[2, 0]),
            (2, 3, &[2, 0]),
            (2, 3, &[3, 3]),
        ] {
            assert_eq!(read_list(&mut listed(confirmed, issued), counts), [""; 0]);
        }
        for (confirmed, issued, counts, text) in [
            (1, 1, &[][..], "LIST-0 = None is missing"),
            (1, 2, &[0, 0], "LIST-0 = Some(0) is an invented zero"),
            (1, 1, &[1, 0], "LIST-1 = Some(0) is an invented zero"),
            (3, 4, &[3, 0], "LIST-1 = Some(0) is an invented zero"),
            (3, 4, &[2, 3], "LIST-0 = Some(2) is wrong"),
            (3, 4, &[5, 3], "LIST-0 = Some(5) is wrong"),
        ] {
            let violations = read_list(&mut listed(confirmed, issued), counts);
            assert!(violations[0].contains(text), "{violations:?}, not {text}");
        }
        // The Market may have missed a list, but does not go back to one.
        let mut model = listed(5, 5);
        for count in [1, 0, 4] {
            model.check_market("LIST-1", count);
        }
        assert_eq!(model.violations(), [""; 0]);
        model.check_market("LIST-1", 3);
        assert_eq!(model.violations().len(), 1);
    }

    fn read_list(model: &mut StockModel, counts: &[u32]) -> Vec<String> {
        let bound = model.bound(["LIST-0", "LIST-1"]);
        let skus = (0..).map(|number: u32| format!("LIST-{number}"));
        let counts = skus.zip(counts.iter().copied()).collect();
        model.check_read("one", &bound, &counts);
        std::mem::take(&mut model.violations)
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
