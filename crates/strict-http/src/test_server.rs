//! Server for tests of outbound calls, in this crate and its users: serves a router on a free
//! loopback port.
#![expect(clippy::unwrap_used, reason = "a test ends at the first error")]

use std::net::Ipv4Addr;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lifecycle::{CrashSignal, Tasks};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use super::client::{ClientConfig, Trust, client};

/// Test server that runs until it is dropped.
pub struct TestServer {
    /// `http://127.0.0.1:port`.
    pub url: String,
    tasks: Tasks,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// Serves a router on `127.0.0.1`.
pub async fn serve(router: Router) -> TestServer {
    serve_at(Ipv4Addr::LOCALHOST, router).await
}

/// Serves a router on the given loopback address.
pub async fn serve_at(address: Ipv4Addr, router: Router) -> TestServer {
    let tasks = Tasks::new(CrashSignal::default());
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server_tasks = tasks.clone();
    tasks.spawn_short_lived(async move {
        loop {
            let (stream, _) = tokio::select! {
                accepted = listener.accept() => accepted.unwrap(),
                () = server_tasks.stopping() => return,
            };
            stream.set_nodelay(true).unwrap();
            let router = router.clone();
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                router.clone().oneshot(request.map(Body::new))
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let stopping = server_tasks.clone();
            server_tasks.spawn_short_lived(async move {
                tokio::select! {
                    ended = connection => drop(ended),
                    () = stopping.stopping() => {}
                }
            });
        }
    });
    TestServer { url, tasks }
}

/// Client with the default configuration that needs no certificates.
#[must_use]
pub fn plain_client() -> reqwest::Client {
    client(&ClientConfig {
        trust: Trust::PlainHttpOnly,
        ..ClientConfig::default()
    })
    .unwrap()
}
