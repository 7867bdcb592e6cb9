//! Server on a separate thread, so that its CPU time can be measured alone.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use lifecycle::{CrashSignal, Tasks};
use strict_http::{HttpServer, ServerLimits};

/// Server thread that runs until the process ends.
pub(crate) struct ServerThread {
    pub(crate) addr: SocketAddr,
    /// File whose first number is the thread's CPU time in nanoseconds.
    schedstat: PathBuf,
}

impl ServerThread {
    /// Starts a server with our own listener.
    pub(crate) fn start(router: Router) -> anyhow::Result<Self> {
        Self::start_with(move || async move {
            let server = HttpServer::bind(([127, 0, 0, 1], 0).into(), ServerLimits::default())?;
            let addr = server.local_addr()?;
            Ok((addr, server.run(router, Tasks::new(CrashSignal::default()))))
        })
    }

    /// Starts a server from `open`, which returns the address and the serving future.
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

    /// Returns the CPU time of the server thread so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let text = std::fs::read_to_string(&self.schedstat).context("read the CPU time")?;
        let nanos = text
            .split(' ')
            .next()
            .context("schedstat is empty")?
            .parse()?;
        Ok(Duration::from_nanos(nanos))
    }
}
