//! Other servers as processes, and their CPU time.

use std::fmt;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::Instant;

/// Ticks per second of the times in `/proc/PID/stat`, which Linux fixes for user space.
const TICKS: u64 = 100;

/// Time that a peer may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A peer whose program is not installed, with the command that installs it.
#[derive(Debug)]
pub(crate) struct Missing(pub(crate) String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// Returns name and version of the peer of a script.
pub(crate) fn version(script: &Path) -> anyhow::Result<String> {
    let output = Command::new(script)
        .arg("version")
        .output()
        .with_context(|| format!("run {}", script.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(text),
        // EX_UNAVAILABLE
        Some(69) => Err(Missing(text).into()),
        _ => bail!("{} failed: {text}", script.display()),
    }
}

/// Returns a local address that no server uses at the moment.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// A process and its children, killed at the latest when it is dropped.
pub(crate) struct PeerProcess(pub(crate) Child);

impl PeerProcess {
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        // A group of its own, so that its children are found and killed with it.
        let child = command.process_group(0).stdin(Stdio::null()).spawn();
        Ok(Self(child.with_context(|| format!("start {command:?}"))?))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a peer is a program of another make, which tells by no event that it listens"
    )]
    pub(crate) fn wait_until_open(&self, addr: SocketAddr) -> anyhow::Result<()> {
        let started = Instant::now();
        while TcpStream::connect(addr).is_err() {
            let process = format!("/proc/{}/stat", self.0.id());
            let stat = std::fs::read_to_string(process).context("the peer ended")?;
            ensure!(!stat.contains(") Z "), "the peer ended");
            ensure!(
                started.elapsed() < START_TIMEOUT,
                "the peer does not listen"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Returns the CPU time of the process and its children so far, user and system.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let (mut ticks, mut is_running) = (0, false);
        for entry in std::fs::read_dir("/proc")? {
            // A process may end meanwhile, so a file that cannot be read is none of the group.
            let Ok(stat) = std::fs::read_to_string(entry?.path().join("stat")) else {
                continue;
            };
            let fields = numbers(&stat)?;
            if fields.get(GROUP) == Some(&u64::from(self.0.id())) {
                ticks += fields[USER] + fields[SYSTEM];
                is_running = true;
            }
        }
        ensure!(is_running, "the peer ended");
        Ok(Duration::from_millis(ticks * 1000 / TICKS))
    }
}

impl Drop for PeerProcess {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        drop(Command::new("kill").args(["-KILL", "--", &group]).status());
        drop(self.0.wait());
    }
}

/// Returns the CPU time of this process's ended children, such as a finished import.
pub(crate) fn children_cpu() -> anyhow::Result<Duration> {
    let fields = numbers(&std::fs::read_to_string("/proc/self/stat")?)?;
    let ticks = fields[CHILDREN_USER] + fields[CHILDREN_SYSTEM];
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}

// Places in the part of `/proc/PID/stat` after the name. Source: proc_pid_stat(5).
const GROUP: usize = 2;
const USER: usize = 11;
const SYSTEM: usize = 12;
const CHILDREN_USER: usize = 13;
const CHILDREN_SYSTEM: usize = 14;

/// Returns the fields after the name; those that are no positive number are 0.
fn numbers(stat: &str) -> anyhow::Result<Vec<u64>> {
    // The name is in parentheses and may have blanks itself.
    let (_, fields) = stat.rsplit_once(") ").context("read /proc/PID/stat")?;
    let number = |field: &str| field.parse().unwrap_or_default();
    Ok(fields.split_whitespace().map(number).collect())
}
