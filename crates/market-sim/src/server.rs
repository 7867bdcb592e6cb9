//! Accept loop of the simulator.
//!
//! It does not use axum's own server, because an axum handler cannot close the connection without
//! a response.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lifecycle::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;
use tracing::warn;

use super::api::MarketSimulator;
use super::responses::CloseConnection;

impl MarketSimulator {
    /// Serves the simulator at `address` until `tasks` stop, and returns the bound address.
    ///
    /// Port 0 selects a free port.
    ///
    /// # Errors
    /// Fails if the address cannot be bound.
    pub async fn start(&self, address: SocketAddr, tasks: &Tasks) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (router, owned_tasks) = (self.router(), tasks.clone());
        tasks.spawn("rehearsal market", async move {
            tokio::select! {
                never = accept_loop(&listener, &router, &owned_tasks) => match never {},
                () = owned_tasks.stopping() => {}
            }
        });
        Ok(address)
    }
}

async fn accept_loop(listener: &TcpListener, router: &Router, tasks: &Tasks) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (router, owned_tasks) = (router.clone(), tasks.clone());
                tasks.spawn_short_lived(async move {
                    tokio::select! {
                        () = serve_connection(stream, router) => {}
                        () = owned_tasks.stopping() => {}
                    }
                });
            }
            Err(e) => {
                warn!(error = %e, "Market simulator failed to accept a connection, will retry: {e}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router) {
    // With Nagle's algorithm, a response of two packets may wait for an acknowledgement.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(|request| handle(router.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    // The only errors are disconnected clients and faults that close the connection. The request
    // log has both.
    drop(connection.await);
}

async fn handle(router: Router, request: Request<Incoming>) -> io::Result<Response> {
    let response = router
        .oneshot(request.map(Body::new))
        .await
        .unwrap_or_else(|e| match e {});
    if response.extensions().get::<CloseConnection>().is_some() {
        return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
    }
    Ok(response)
}
