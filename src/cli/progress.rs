use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::cli::print_line;

/// How often a line is printed where no bar can be drawn.
const PRINT_INTERVAL: Duration = Duration::from_secs(10);

/// How far one scene has come: a bar on a terminal, plain lines otherwise.
pub(super) struct ProgressReporter {
    title: String,
    unit: &'static str,
    total: u64,
    bar: ProgressBar,
    is_terminal: bool,
    started: Instant,
    last_printed: Instant,
}

impl ProgressReporter {
    pub(super) fn start(title: &str, total: usize, unit: &'static str) -> Self {
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

    pub(super) fn set_position(&mut self, done: usize) {
        self.bar.set_position(done as u64);
        if !self.is_terminal && self.last_printed.elapsed() >= PRINT_INTERVAL {
            self.last_printed = Instant::now();
            print_line(&format!(
                "{:<12} {done} of {} {}",
                self.title, self.total, self.unit
            ));
        }
    }

    /// Says beside the bar what is being done.
    pub(super) fn set_message(&self, message: &str) {
        self.bar.set_message(message.to_owned());
    }

    /// Ends the bar without a word.
    pub(super) fn clear(self) {
        self.bar.finish_and_clear();
    }

    /// Ends the bar and says in a line what came of it.
    pub(super) fn finish(self, outcome: &str) {
        self.bar.finish_and_clear();
        print_line(&format!(
            "{:<12} {outcome} in {:.1} s",
            self.title,
            self.started.elapsed().as_secs_f64()
        ));
    }
}
