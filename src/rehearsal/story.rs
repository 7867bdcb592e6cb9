/// One event of a product's day.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Step {
    /// What happened, for people.
    pub title: &'static str,
    /// How many can be ordered afterwards.
    pub count: u32,
}

/// The product the story is about.
pub const SKU: &str = "ЧАЙНИК-1";

/// 0 → 10 → 8 → 18 → 15.
///
/// Source: "Transfer of balances via API", Market's partner documentation, November 2026.
pub const STORY: [Step; 5] = [
    Step {
        title: "the warehouse is empty",
        count: 0,
    },
    Step {
        title: "10 pieces are delivered",
        count: 10,
    },
    Step {
        title: "a buyer orders 2 on the Market",
        count: 8,
    },
    Step {
        title: "10 more are delivered",
        count: 18,
    },
    Step {
        title: "3 are sold in the seller's own shop",
        count: 15,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_goes_as_the_documentation_tells_it() {
        assert_eq!(STORY.map(|step| step.count), [0, 10, 8, 18, 15]);
    }
}
