//! The documented haproxy in front of three replicas.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::server::free_port;
use crate::service_process::wait_until;

/// Configuration that the documentation gives to users.
pub(crate) const CONFIG: &str = "docs/replicas.haproxy.cfg";

/// Running haproxy, killed when it is dropped.
pub(super) struct LoadBalancer {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

/// Ports of a replica: of its public and of its operator's listener.
pub(super) type ReplicaPorts = (u16, u16);

impl LoadBalancer {
    /// Starts the documented haproxy with these replicas, and waits until it accepts connections.
    pub(super) async fn start(replicas: &[ReplicaPorts; 3]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let log = File::create(directory.path().join("log")).unwrap();
        let mut command = haproxy();
        command.arg("-f").arg(config_file());
        command.env("BIND", address.to_string());
        for (number, (port, ops_port)) in (1..).zip(replicas) {
            command.env(format!("DC_{number}"), format!("127.0.0.1:{port}"));
            command.env(format!("DC_{number}_OPS"), ops_port.to_string());
        }
        let output = [log.try_clone().unwrap(), log];
        let [stdout, stderr] = output;
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .expect("haproxy must be installed: apt-get install haproxy");
        let mut balancer = Self {
            child,
            address,
            directory,
        };
        wait_until("haproxy accepts connections", async || {
            let has_ended = balancer.child.try_wait().unwrap().is_some();
            assert!(!has_ended, "{}", balancer.log());
            TcpStream::connect(address).is_ok()
        })
        .await;
        balancer
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns true if no replica is out of use after a health check.
    pub(super) fn uses_all(&self) -> bool {
        let log = self.log();
        let mut is_up = BTreeMap::new();
        for line in log.lines() {
            let Some((_, state)) = line.split_once("Server ") else {
                continue;
            };
            let (server, state) = state.split_once(" is ").unwrap_or_default();
            is_up.insert(server, state.starts_with("UP"));
        }
        is_up.into_values().all(|is_up| is_up)
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for LoadBalancer {
    fn drop(&mut self) {
        // It may have ended.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// Returns the command of haproxy, which Debian keeps in a directory for administrators.
pub(super) fn haproxy() -> Command {
    let debian = Path::new("/usr/sbin/haproxy");
    Command::new(if debian.exists() {
        debian
    } else {
        Path::new("haproxy")
    })
}

pub(super) fn config_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(CONFIG)
}
