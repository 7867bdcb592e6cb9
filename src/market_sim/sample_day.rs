/// One event of a product's day.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SampleEvent {
    /// What happened, for people.
    pub title: &'static str,
    /// How many can be ordered afterwards.
    pub count: u32,
}

/// The product the story is about.
pub const SAMPLE_SKU: &str = "ЧАЙНИК-1";

/// 0 → 10 → 8 → 18 → 15.
///
/// Source: "Transfer of balances via API", Market's partner documentation, November 2026.
pub const SAMPLE_DAY: [SampleEvent; 5] = [
    SampleEvent {
        title: "the warehouse is empty",
        count: 0,
    },
    SampleEvent {
        title: "10 pieces are delivered",
        count: 10,
    },
    SampleEvent {
        title: "a buyer orders 2 on the Market",
        count: 8,
    },
    SampleEvent {
        title: "10 more are delivered",
        count: 18,
    },
    SampleEvent {
        title: "3 are sold in the seller's own shop",
        count: 15,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_goes_as_the_documentation_tells_it() {
        assert_eq!(SAMPLE_DAY.map(|event| event.count), [0, 10, 8, 18, 15]);
    }
}
