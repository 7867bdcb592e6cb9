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
    bar: ProgressBar,
    is_terminal: bool,
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
        Self {
            title: title.to_owned(),
            unit,
            bar,
            is_terminal,
            last_printed: Instant::now(),
        }
    }

    pub(crate) fn set_position(&mut self, done: usize) {
        self.bar.set_position(done as u64);
        if !self.is_terminal && self.last_printed.elapsed() >= PRINT_INTERVAL {
            self.last_printed = Instant::now();
            let (title, unit) = (&self.title, self.unit);
            // The size of a pipe is not known: it is 0.
            match self.bar.length().unwrap_or_default() {
                0 => print_line(&format!("{title:<12} {done} {unit}")),
                total => print_line(&format!("{title:<12} {done} of {total} {unit}")),
            }
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
        let (title, seconds) = (&self.title, self.bar.elapsed().as_secs_f64());
        print_line(&format!("{title:<12} {outcome} in {seconds:.1} s"));
    }
}
