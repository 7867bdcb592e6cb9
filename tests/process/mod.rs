//! The program as a process, for the tests and benchmarks that start it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

/// Maximum time for a process to start or to end, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(90);

/// Returns the program, without settings of the developer's environment, which must not change a
/// test.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockbridge"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STOCKBRIDGE_")) {
        command.env_remove(name);
    }
    command
}

/// A running `serve` with a log in JSON, killed at the latest when it is dropped.
pub(crate) struct ProgramProcess {
    child: Child,
    /// Address of the public listener.
    pub(crate) public: SocketAddr,
    /// Address of the operator's listener.
    pub(crate) ops: SocketAddr,
    log: Arc<Mutex<String>>,
    // Ends when the process has closed its standard error.
    log_reader: Mutex<Option<JoinHandle<()>>>,
}

impl ProgramProcess {
    /// Starts the process and waits until it serves.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let shared_log = Arc::clone(&log);
        let (sender, addresses) = channel();
        let log_reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(found) = parse_addresses(&line) {
                    // The test may have ended.
                    let _ignored = sender.send(found);
                }
                shared_log.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let found = block_in_place(|| addresses.recv_timeout(TIMEOUT));
        let (public, ops) = found.unwrap_or_else(|e| panic!("{e}: {}", log.lock().unwrap()));
        Self {
            child,
            public,
            ops,
            log,
            log_reader: Mutex::new(Some(log_reader)),
        }
    }

    /// Sends a signal such as `-TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        let mut kill = Command::new("kill");
        let status = kill.arg(signal).arg(self.child.id().to_string()).status();
        assert!(status.unwrap().success());
    }

    /// `kill -9`, which leaves no time for anything.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        block_in_place(|| self.child.wait()).unwrap();
    }

    /// Waits for the end; polled, because std has no wait with a deadline.
    pub(crate) async fn wait_for_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns what it has logged until now.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Returns everything it has logged, after its end.
    pub(crate) fn full_log(&self) -> String {
        if let Some(reader) = self.log_reader.lock().unwrap().take() {
            block_in_place(|| reader.join().unwrap());
        }
        self.log()
    }
}

impl Drop for ProgramProcess {
    fn drop(&mut self) {
        // The process may have ended.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// Returns the addresses in the line that says that it serves.
fn parse_addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let record: Value = serde_json::from_str(line).ok()?;
    let address = |key: &str| record[key].as_str()?.parse().ok();
    Some((address("listen")?, address("ops")?))
}
