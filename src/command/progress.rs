//! Progress output: a bar on a terminal, or else a line now and then.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::print_line;

/// Interval of the lines that replace the bar if standard error is not a terminal.
const PRINT_INTERVAL: Duration = Duration::from_secs(10);

/// Progress of one step of a command.
pub(crate) struct ProgressReporter {
    title: String,
    unit: &'static str,
    total: u64,
    bar: ProgressBar,
    is_terminal: bool,
    started: Instant,
    last_printed: Instant,
}

impl ProgressReporter {
    pub(crate) fn start(title: &str, total: usize, unit: &'static str) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let target = if is_terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        let style = "{msg:<12} [{bar:40}] {human_pos}/{human_len} {elapsed_precise}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(title.to_owned());
        let now = Instant::now();
        Self {
            title: title.to_owned(),
            unit,
            total: total as u64,
            bar,
            is_terminal,
            started: now,
            last_printed: now,
        }
    }

    pub(crate) fn set_position(&mut self, done: usize) {
        self.bar.set_position(done as u64);
        if !self.is_terminal && self.last_printed.elapsed() >= PRINT_INTERVAL {
            self.last_printed = Instant::now();
            print_line(&format!(
                "{:<12} {done} of {} {}",
                self.title, self.total, self.unit
            ));
        }
    }

    /// Replaces the text beside the bar.
    pub(crate) fn set_message(&self, message: &str) {
        self.bar.set_message(message.to_owned());
    }

    /// Removes the bar without printing a line.
    pub(crate) fn clear(self) {
        self.bar.finish_and_clear();
    }

    /// Removes the bar and prints the outcome and the duration in one line.
    pub(crate) fn finish(self, outcome: &str) {
        self.bar.finish_and_clear();
        print_line(&format!(
            "{:<12} {outcome} in {:.1} s",
            self.title,
            self.started.elapsed().as_secs_f64()
        ));
    }
}
