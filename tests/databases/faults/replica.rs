//! Replica in a process of its own, with a clock that can jump and a proxy to the database.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use chrono::{DateTime, TimeDelta, Utc};

use super::load_balancer::ReplicaPorts;
use super::tcp_proxy::TcpProxy;
use crate::server::{DatabaseServer, free_port};
use crate::service_process::{Service, ServiceConfig};

/// Replica and what is between it and the database.
pub(super) struct Replica {
    pub(super) name: &'static str,
    /// Process; `None` while it does not run.
    pub(super) service: Option<Service>,
    pub(super) database: TcpProxy,
    ports: ReplicaPorts,
    config: ServiceConfig,
    has_clock: bool,
}

impl Replica {
    /// Prepares a replica of the database with this name. It does not run yet.
    pub(super) async fn new(
        name: &'static str,
        (server, database): (&DatabaseServer, &str),
        market_url: &str,
        (settings, shop_settings): (&str, &str),
    ) -> Self {
        let database_proxy = TcpProxy::start(server.address()).await;
        let url = format!(
            "postgres://reader@{}/{database}?sslmode=disable",
            database_proxy.address()
        );
        let ports = (free_port(), free_port());
        let settings = format!("replica = {name:?}\n{settings}");
        let replica = Self {
            name,
            service: None,
            database: database_proxy,
            ports,
            config: ServiceConfig::listening((market_url, &url), ports, (&settings, shop_settings)),
            has_clock: false,
        };
        replica.set_clock(0);
        replica
    }

    /// The same with a clock that [`Self::set_clock`] changes.
    pub(super) fn with_clock(mut self) -> Self {
        self.has_clock = true;
        self
    }

    /// The same with further settings of the shop, at the end of the file.
    pub(super) fn with_source(self, settings: &str) -> Self {
        self.config.add(settings);
        self
    }

    /// Returns the address of the public listener.
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.0))
    }

    pub(super) fn ports(&self) -> ReplicaPorts {
        self.ports
    }

    /// Starts the process and waits until it serves.
    pub(super) fn start(&mut self) {
        let mut command = self.config.command();
        if self.has_clock {
            self.fake_clock(&mut command);
        }
        self.service = Some(Service::start(&mut command));
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        if let Some(mut service) = self.service.take() {
            service.kill();
        }
    }

    pub(super) fn service(&self) -> &Service {
        self.service.as_ref().expect("the replica runs")
    }

    /// Sets the wall clock of the process, by hours relative to the right time. The monotonic clock
    /// does not change.
    pub(super) fn set_clock(&self, hours: i64) {
        // In one step, because the process reads it at any time.
        let new = self.config.directory().join("clock.new");
        std::fs::write(&new, format!("{hours:+}h\n")).unwrap();
        std::fs::rename(new, self.clock_file()).unwrap();
        if self.has_clock {
            let error = self.shown_clock() - Utc::now() - TimeDelta::hours(hours);
            assert!(
                error.abs() < TimeDelta::minutes(1),
                "{error}, not {hours} h"
            );
        }
    }

    fn clock_file(&self) -> PathBuf {
        self.config.directory().join("clock")
    }

    fn fake_clock(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", libfaketime())
            .env("FAKETIME_TIMESTAMP_FILE", self.clock_file())
            // The file is read at each look at the clock.
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }

    /// Returns the clock that a process with the environment of the replica shows.
    fn shown_clock(&self) -> DateTime<Utc> {
        let mut date = Command::new("date");
        self.fake_clock(date.arg("+%s"));
        let output = String::from_utf8(date.output().unwrap().stdout).unwrap();
        let seconds = output.trim().parse().unwrap();
        DateTime::from_timestamp_secs(seconds).unwrap()
    }
}

/// Returns the library that changes the clock of a process.
fn libfaketime() -> PathBuf {
    let directories = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten();
    let libraries = directories.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    let library = libraries.into_iter().find(|path| path.exists());
    library.expect("libfaketime must be installed: apt-get install faketime")
}
