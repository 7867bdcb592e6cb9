//! Instruction counts of this program in another run under valgrind.

use std::process::Command;

use anyhow::Context as _;

/// Returns the instructions per unit: the difference between a run with `more` arguments, which
/// does `units` more, and one with `fewer`. The instructions of the start cancel out.
pub(crate) fn count_per_unit(fewer: &[&str], more: &[&str], units: u64) -> anyhow::Result<f64> {
    let (fewer, more) = std::thread::scope(|scope| {
        let fewer = scope.spawn(|| count(fewer));
        let more = count(more);
        (fewer.join(), more)
    });
    let fewer = fewer.map_err(|_| anyhow::anyhow!("a run under valgrind failed"))?;
    let difference = more?
        .checked_sub(fewer?)
        .context("the larger run took fewer instructions")?;
    Ok(difference as f64 / units as f64)
}

fn count(arguments: &[&str]) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(arguments)
        .output()
        .context("run valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "the counted run failed: {text}");
    let count = text
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, count) =
        count.with_context(|| format!("valgrind printed no instruction count: {text}"))?;
    Ok(count.trim().parse()?)
}
