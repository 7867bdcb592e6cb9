use std::collections::HashSet;

use super::warehouse_stock::SkuStocks;

/// At most so many examples of each kind are kept: enough to look into, whatever went wrong.
const MAX_EXAMPLES: usize = 20;

/// How many of something there are, and the first few of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CountedExamples<T> {
    /// All of them.
    pub count: usize,
    /// The first twenty.
    pub examples: Vec<T>,
}

impl<T> Default for CountedExamples<T> {
    fn default() -> Self {
        Self {
            count: 0,
            examples: Vec::new(),
        }
    }
}

impl<T> CountedExamples<T> {
    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn record(&mut self, make_example: impl FnOnce() -> T) {
        self.count += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(make_example());
        }
    }
}

/// A SKU of which the Market believes something else than the seller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StockDifference {
    /// Which SKU.
    pub sku: String,
    /// What the seller has.
    pub expected: u32,
    /// What the Market was told last.
    pub actual: u32,
}

/// What came of a comparison.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StockComparison {
    /// SKUs of which both say the same.
    pub equal: usize,
    /// SKUs of which they say different things.
    pub differing: CountedExamples<StockDifference>,
    /// SKUs of the seller the Market was not told of.
    pub missing: CountedExamples<String>,
    /// SKUs the seller does not have and the Market was told of.
    pub surplus: CountedExamples<String>,
    /// SKUs sold out on the Market though the seller never said zero; each is counted above
    /// as differing or surplus too.
    pub invented_zeros: CountedExamples<String>,
}

impl StockComparison {
    /// Both say the same of everything.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.differing.is_empty() && self.missing.is_empty() && self.surplus.is_empty()
    }
}

/// Compares what the seller has with what the Market holds.
pub fn compare<'a>(
    expected: impl IntoIterator<Item = (&'a str, u32)>,
    market: &SkuStocks,
) -> StockComparison {
    let mut comparison = StockComparison::default();
    let mut known =
        HashSet::with_capacity_and_hasher(market.len(), foldhash::fast::RandomState::default());
    for (sku, expected) in expected {
        known.insert(sku);
        match market.get(sku) {
            None => comparison.missing.record(|| sku.to_owned()),
            Some(&(actual, _)) if actual == expected => comparison.equal += 1,
            Some(&(actual, _)) => {
                comparison.differing.record(|| StockDifference {
                    sku: sku.to_owned(),
                    expected,
                    actual,
                });
                if actual == 0 {
                    comparison.invented_zeros.record(|| sku.to_owned());
                }
            }
        }
    }
    for (sku, (count, _)) in market
        .iter()
        .filter(|(sku, _)| !known.contains(sku.as_str()))
    {
        comparison.surplus.record(|| sku.as_str().to_owned());
        if *count == 0 {
            comparison.invented_zeros.record(|| sku.as_str().to_owned());
        }
    }
    comparison
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    fn market(stock: &[(&str, u32)]) -> SkuStocks {
        let at = DateTime::<Utc>::default();
        stock
            .iter()
            .map(|&(sku, count)| (sku.into(), (count, at)))
            .collect()
    }

    #[test]
    fn what_is_the_same_is_only_counted() {
        let comparison = compare([("A", 1), ("B", 0)], &market(&[("A", 1), ("B", 0)]));
        assert!(comparison.is_equal());
        assert_eq!(comparison.equal, 2);
        assert!(comparison.invented_zeros.is_empty());
    }

    #[test]
    fn every_kind_of_difference_is_told_apart() {
        let market = market(&[("A", 2), ("B", 0), ("D", 5), ("E", 0)]);
        let comparison = compare([("A", 1), ("B", 7), ("C", 3)], &market);
        assert!(!comparison.is_equal());
        assert_eq!(comparison.equal, 0);
        assert_eq!(
            comparison.differing.examples[0],
            StockDifference {
                sku: "A".into(),
                expected: 1,
                actual: 2
            }
        );
        assert_eq!(comparison.missing.examples, ["C"]);
        assert_eq!(comparison.surplus.count, 2);
        assert_eq!(comparison.invented_zeros.examples, ["B", "E"]);
    }

    #[test]
    fn many_differences_are_counted_but_few_are_kept() {
        let skus: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        let comparison = compare(skus.iter().map(|sku| (sku.as_str(), 1)), &market(&[]));
        assert_eq!(comparison.missing.count, 1000);
        assert_eq!(comparison.missing.examples.len(), 20);
    }
}
