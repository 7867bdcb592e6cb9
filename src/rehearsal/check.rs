use std::collections::HashSet;

use super::shelf::Stocks;

/// At most so many examples of each kind are kept: enough to look into, whatever went wrong.
const MAX_EXAMPLES: usize = 20;

/// How many of something there are, and the first few of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found<T> {
    /// All of them.
    pub count: usize,
    /// The first twenty.
    pub first: Vec<T>,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self {
            count: 0,
            first: Vec::new(),
        }
    }
}

impl<T> Found<T> {
    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn add(&mut self, make: impl FnOnce() -> T) {
        self.count += 1;
        if self.first.len() < MAX_EXAMPLES {
            self.first.push(make());
        }
    }
}

/// A SKU of which the Market believes something else than the seller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// Which SKU.
    pub sku: String,
    /// What the seller has.
    pub expected: u32,
    /// What the Market was told last.
    pub got: u32,
}

/// What came of a comparison.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Comparison {
    /// SKUs of which both say the same.
    pub equal: usize,
    /// SKUs of which they say different things.
    pub differing: Found<Difference>,
    /// SKUs of the seller the Market was not told of.
    pub missing: Found<String>,
    /// SKUs the seller does not have and the Market was told of.
    pub surplus: Found<String>,
    /// SKUs sold out on the Market though the seller never said zero; each is counted above
    /// as differing or surplus too.
    pub invented_zeros: Found<String>,
}

impl Comparison {
    /// Both say the same of everything.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.differing.is_empty() && self.missing.is_empty() && self.surplus.is_empty()
    }
}

/// Compares what the seller has with what the Market holds.
pub fn compare<'a>(
    expected: impl IntoIterator<Item = (&'a str, u32)>,
    market: &Stocks,
) -> Comparison {
    let mut comparison = Comparison::default();
    let mut known =
        HashSet::with_capacity_and_hasher(market.len(), foldhash::fast::RandomState::default());
    for (sku, expected) in expected {
        known.insert(sku);
        match market.get(sku) {
            None => comparison.missing.add(|| sku.to_owned()),
            Some(&(got, _)) if got == expected => comparison.equal += 1,
            Some(&(got, _)) => {
                comparison.differing.add(|| Difference {
                    sku: sku.to_owned(),
                    expected,
                    got,
                });
                if got == 0 {
                    comparison.invented_zeros.add(|| sku.to_owned());
                }
            }
        }
    }
    for (sku, (count, _)) in market
        .iter()
        .filter(|(sku, _)| !known.contains(sku.as_str()))
    {
        comparison.surplus.add(|| sku.as_str().to_owned());
        if *count == 0 {
            comparison.invented_zeros.add(|| sku.as_str().to_owned());
        }
    }
    comparison
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    fn market(stock: &[(&str, u32)]) -> Stocks {
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
            comparison.differing.first[0],
            Difference {
                sku: "A".into(),
                expected: 1,
                got: 2
            }
        );
        assert_eq!(comparison.missing.first, ["C"]);
        assert_eq!(comparison.surplus.count, 2);
        assert_eq!(comparison.invented_zeros.first, ["B", "E"]);
    }

    #[test]
    fn many_differences_are_counted_but_few_are_kept() {
        let skus: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        let comparison = compare(skus.iter().map(|sku| (sku.as_str(), 1)), &market(&[]));
        assert_eq!(comparison.missing.count, 1000);
        assert_eq!(comparison.missing.first.len(), 20);
    }
}
