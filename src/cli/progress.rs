use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::cli::say;

/// How often a line is printed where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How far one scene has come: a bar on a terminal, plain lines otherwise.
pub(super) struct Stage {
    title: String,
    unit: &'static str,
    total: u64,
    bar: ProgressBar,
    is_terminal: bool,
    begun: Instant,
    told: Instant,
}

impl Stage {
    pub(super) fn begin(title: &str, total: usize, unit: &'static str) -> Self {
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
            begun: now,
            told: now,
        }
    }

    pub(super) fn set(&mut self, done: usize) {
        self.bar.set_position(done as u64);
        if !self.is_terminal && self.told.elapsed() >= LINE_EVERY {
            self.told = Instant::now();
            say(&format!(
                "{:<12} {done} of {} {}",
                self.title, self.total, self.unit
            ));
        }
    }

    /// Says beside the bar what is being done.
    pub(super) fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// Ends the bar without a word.
    pub(super) fn put_away(self) {
        self.bar.finish_and_clear();
    }

    /// Ends the bar and says in a line what came of it.
    pub(super) fn end(self, outcome: &str) {
        self.bar.finish_and_clear();
        say(&format!(
            "{:<12} {outcome} in {:.1} s",
            self.title,
            self.begun.elapsed().as_secs_f64()
        ));
    }
}
