//! The documented haproxy repeats a request whose head and body arrive one after the other.
//!
//! Caddy sends them so. haproxy repeats only a request that it has received as a whole before it sends it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::load_balancer::{LoadBalancer, ReplicaPorts};

/// Time in which haproxy forwards a head if it does not wait for the body.
const HEAD_TIME: Duration = Duration::from_secs(1);

/// Enough for a request at each replica.
const REQUESTS: usize = 6;

const BODY: &str = "{\"warehouseId\":1,\"skus\":[\"A\"]}";

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Serves connections; a response follows what ends with `end`, or never.
async fn listen(end: Option<&'static str>, received: Arc<Notify>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(respond(stream, end, Arc::clone(&received)));
        }
    });
    port
}

async fn respond(mut stream: TcpStream, end: Option<&'static str>, received: Arc<Notify>) {
    let mut request = Vec::new();
    while stream
        .read_buf(&mut request)
        .await
        .is_ok_and(|read| read > 0)
    {
        received.notify_one();
        if end.is_some_and(|end| request.ends_with(end.as_bytes())) {
            // haproxy may have closed the connection.
            let _sent = stream.write_all(OK).await;
            return;
        }
    }
}

/// Starts a replica that is ready, and that responds to requests or is stopped.
async fn replica(is_stopped: bool, received: &Arc<Notify>) -> ReplicaPorts {
    let end = (!is_stopped).then_some("}");
    let public = listen(end, Arc::clone(received)).await;
    let ops = listen(Some("\r\n\r\n"), Arc::default()).await;
    (public, ops)
}

/// Sends the head of a request, later its body, and returns the first line of the response.
async fn send_in_parts(address: SocketAddr, received: &Notify) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /market/api/Moscow/stocks HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        BODY.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The documented haproxy waits for the body, so nothing comes.
    let _forwarded = timeout(HEAD_TIME, received.notified()).await;
    stream.write_all(BODY.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn request_in_parts_goes_to_another_replica() {
    let received = Arc::default();
    let replicas = [
        replica(true, &received).await,
        replica(false, &received).await,
        replica(false, &received).await,
    ];
    let balancer = LoadBalancer::start(&replicas).await;
    let requests = (0..REQUESTS).map(|_| send_in_parts(balancer.address(), &received));
    let responses = join_all(requests).await;
    assert_eq!(responses, vec!["HTTP/1.1 200 OK"; REQUESTS]);
}
