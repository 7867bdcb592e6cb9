//! The stored counts and the comparison with them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// Part by which a count may differ from the stored one.
const MARGIN: f64 = 0.03;

const STORE: &str = "benches/instructions/run --store";

/// Instructions of each workload, per unit.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Baseline {
    /// Compiler and target of the build: others give other counts.
    pub(crate) compiler: String,
    pub(crate) instructions: BTreeMap<String, f64>,
}

impl Baseline {
    pub(crate) fn read() -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path())
            .with_context(|| format!("read the stored counts; `{STORE}` makes them"))?;
        Ok(toml::from_str(&text)?)
    }

    pub(crate) fn store(&self) -> anyhow::Result<()> {
        let head = format!("# Instructions per unit. Stored with `{STORE}`.\n");
        let text = toml::to_string(self)?;
        std::fs::write(path(), head + &text).context("write the counts")?;
        println!("{text}");
        Ok(())
    }

    /// Prints the comparison, and returns whether each count is near the stored one.
    pub(crate) fn accepts(&self, counted: &Self) -> bool {
        let is_judged = self.compiler == counted.compiler;
        if !is_judged {
            println!(
                "not judged, because the baseline was counted with {} and this is {}; store \
                 counts of this one with `{STORE}`",
                self.compiler, counted.compiler
            );
        }
        let mut is_near = true;
        for (name, now) in &counted.instructions {
            let stored = self.instructions.get(name).copied().unwrap_or(f64::NAN);
            let verdict = verdict(stored, *now);
            is_near &= verdict.is_none();
            println!(
                "{name}: {now:.1} instructions, {stored:.1} stored, {:+.2} %{}",
                (now / stored - 1.0) * 100.0,
                verdict.unwrap_or_default()
            );
        }
        is_near || !is_judged
    }
}

/// Returns what is to be done about a count that is not near the stored one.
///
/// A lower count fails too: with the old baseline, later changes could lose what was gained.
fn verdict(stored: f64, now: f64) -> Option<String> {
    match now / stored - 1.0 {
        difference if difference.abs() <= MARGIN => None,
        difference if difference < 0.0 => {
            Some(format!(" - BETTER: store the new baseline with `{STORE}`"))
        }
        _ => Some(format!(
            " - MISSED: find the cause, or store the new baseline with `{STORE}` and give the reason"
        )),
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("baseline.toml")
}
