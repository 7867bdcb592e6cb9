//! One product's day from the Market's documentation, which a rehearsal plays.

/// Event in a product's day.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SampleEvent {
    /// Description of the event for the user.
    pub title: &'static str,
    /// Pieces that can be ordered after the event.
    pub count: u32,
}

/// SKU of the sample product.
pub const SAMPLE_SKU: &str = "ЧАЙНИК-1";

/// Events of the sample day; the counts are 0, 10, 8, 18 and 15.
///
/// Source: "Transfer of balances via API", Market's partner documentation, November 2026.
pub const SAMPLE_DAY: [SampleEvent; 5] = [
    event("the warehouse is empty", 0),
    event("10 pieces are delivered", 10),
    event("a buyer orders 2 on the Market", 8),
    event("10 more are delivered", 18),
    event("3 are sold in the seller's own shop", 15),
];

const fn event(title: &'static str, count: u32) -> SampleEvent {
    SampleEvent { title, count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_match_the_documentation() {
        assert_eq!(SAMPLE_DAY.map(|event| event.count), [0, 10, 8, 18, 15]);
    }
}
