//! How figures are printed: what was measured, beside what it must not exceed.

use std::time::Duration;

/// The limits of a figure: to be reached first, and then.
pub(crate) struct FigureLimits(pub(crate) f64, pub(crate) f64);

impl FigureLimits {
    /// Prints a figure that has been measured, such as `7.9` with the unit `× null`.
    pub(crate) fn print(&self, what: &str, value: f64, unit: &str) {
        let Self(first, then) = self;
        let verdict = match value {
            v if v <= *then => "",
            v if v <= *first => " - not yet",
            _ => " - MISSED",
        };
        println!("{what}: {value:.2} {unit} (first: ≤ {first}, then: ≤ {then}){verdict}");
    }
}

/// The middle one of what several rounds gave.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The value that follows this word on the command line.
pub(crate) fn argument(flag: &str) -> Option<String> {
    std::env::args()
        .skip_while(|argument| argument != flag)
        .nth(1)
}
