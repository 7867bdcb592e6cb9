//! A server on a thread of its own, whose CPU time can be told from everybody else's.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use stockbridge::http::{HttpServer, ServerLimits};
use stockbridge::lifecycle::{CrashSignal, Tasks};

/// Serves until the process ends.
pub(crate) struct ServerThread {
    pub(crate) addr: SocketAddr,
    /// Nanoseconds on a CPU come first in it.
    schedstat: PathBuf,
}

impl ServerThread {
    /// Behind our own listener.
    pub(crate) fn start(router: Router) -> anyhow::Result<Self> {
        Self::start_with(move || async move {
            let server = HttpServer::bind(([127, 0, 0, 1], 0).into(), ServerLimits::default())?;
            let addr = server.local_addr()?;
            Ok((addr, server.run(router, Tasks::new(CrashSignal::default()))))
        })
    }

    /// Whatever `open` returns: the address, and what serves it.
    pub(crate) fn start_with<F, S>(
        open: impl FnOnce() -> F + Send + 'static,
    ) -> anyhow::Result<Self>
    where
        F: Future<Output = anyhow::Result<(SocketAddr, S)>>,
        S: Future<Output = ()>,
    {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || -> anyhow::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let (addr, serve) = open().await?;
                let thread = std::fs::read_link("/proc/thread-self")?;
                sender.send(Self {
                    addr,
                    schedstat: PathBuf::from("/proc").join(thread).join("schedstat"),
                })?;
                serve.await;
                Ok(())
            })
        });
        receiver.recv().context("the server did not start")
    }

    /// What the server's thread has used so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let text = std::fs::read_to_string(&self.schedstat).context("read the CPU time")?;
        let nanos = text
            .split(' ')
            .next()
            .context("an empty schedstat")?
            .parse()?;
        Ok(Duration::from_nanos(nanos))
    }
}
