//! Comparison of the seller's stock with the Market's copy, with counts and examples of differences.

use std::collections::HashSet;

use super::warehouse_stock::SkuStocks;

/// Most examples kept of each kind of difference.
const MAX_EXAMPLES: usize = 20;

/// Number of items, with the first few as examples.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CountedExamples<T> {
    /// Number of all items.
    pub count: usize,
    /// First items, at most twenty.
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
    /// Returns true if there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn record(&mut self, make_example: impl FnOnce() -> T) {
        self.count += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(make_example());
        }
    }
}

/// SKU whose count on the Market differs from the seller's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StockDifference {
    /// SKU as the seller spells it.
    pub sku: String,
    /// Count that the seller has.
    pub expected: u32,
    /// Count that the Market received last.
    pub actual: u32,
}

/// Result of comparing the seller's stock with the Market's.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StockComparison {
    /// SKUs with the same count on both sides.
    pub equal: usize,
    /// SKUs with different counts.
    pub differing: CountedExamples<StockDifference>,
    /// SKUs of the seller that the Market never received.
    pub missing: CountedExamples<String>,
    /// SKUs that the Market received and the seller does not have.
    pub surplus: CountedExamples<String>,
    /// SKUs with zero on the Market although the seller's count is not zero. Each is also
    /// counted as differing or surplus.
    pub invented_zeros: CountedExamples<String>,
}

impl StockComparison {
    /// Returns true if both sides have the same SKUs with the same counts.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.differing.is_empty() && self.missing.is_empty() && self.surplus.is_empty()
    }
}

/// Compares the seller's stock with the Market's copy.
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
    let surplus = market
        .iter()
        .filter(|(sku, _)| !known.contains(sku.as_str()));
    for (sku, (count, _)) in surplus {
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
    fn equal_counts_are_only_counted() {
        let comparison = compare([("A", 1), ("B", 0)], &market(&[("A", 1), ("B", 0)]));
        assert!(comparison.is_equal());
        assert_eq!(comparison.equal, 2);
        assert!(comparison.invented_zeros.is_empty());
    }

    #[test]
    fn classifies_each_kind_of_difference() {
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
    fn keeps_twenty_examples_of_many_differences() {
        let skus: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        let comparison = compare(skus.iter().map(|sku| (sku.as_str(), 1)), &market(&[]));
        assert_eq!(comparison.missing.count, 1000);
        assert_eq!(comparison.missing.examples.len(), 20);
    }
}
