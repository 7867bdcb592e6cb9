//! Output of figures with their limits, medians, and command-line arguments.

use std::time::Duration;

/// Limits of a figure: the required maximum, and the lower one to reach later.
pub(crate) struct FigureLimits(pub(crate) f64, pub(crate) f64);

impl FigureLimits {
    /// Prints a measured figure, such as `7.9` with the unit `× null`.
    pub(crate) fn print(&self, title: &str, value: f64, unit: &str) {
        let Self(first, then) = self;
        let verdict = match value {
            v if v <= *then => "",
            v if v <= *first => " - not yet",
            _ => " - MISSED",
        };
        println!("{title}: {value:.2} {unit} (first: ≤ {first}, then: ≤ {then}){verdict}");
    }
}

/// Returns the median of the values, or NaN without values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Returns the command-line argument after `flag`.
pub(crate) fn argument(flag: &str) -> Option<String> {
    std::env::args()
        .skip_while(|argument| argument != flag)
        .nth(1)
}
