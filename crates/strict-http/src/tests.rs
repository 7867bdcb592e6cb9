//! Tests of the whole listener: over real sockets where bytes matter, over an in-memory pipe with
//! a paused clock where time matters.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Extension;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, http::StatusCode};
use lifecycle::{CrashSignal, Tasks};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::server::ServerState;
use super::*;

const HOST: &str = "Host: shop.example\r\n";
const MAX_BODY: usize = 50_000;
const BIG: usize = 8_000_000;

/// Test service with one listener.
struct HttpHarness {
    tasks: Tasks,
    metrics: Metrics,
    /// Notified when a request reaches `/wait` or `/forever`.
    request_reached: Arc<Notify>,
    /// Lets `/wait` respond.
    release: Arc<Notify>,
    /// Number of running handlers of `/forever`.
    running_handlers: Arc<AtomicUsize>,
    router: Router,
}

impl HttpHarness {
    fn new() -> Self {
        let (request_reached, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let running_handlers = Arc::new(AtomicUsize::new(0));
        let router = Router::new()
            .route("/echo", post(echo).put(echo).get(async || "got"))
            .route("/early", post(async || "early"))
            .route(
                "/peer",
                get(async |Extension(PeerAddr(a)): Extension<PeerAddr>| a.ip().to_string()),
            )
            .route(
                "/panic",
                get(async || -> Response { panic!("secret-of-the-request") }),
            )
            .route("/big", get(async || vec![b'x'; BIG]))
            .route(
                "/wait",
                get(wait).with_state((request_reached.clone(), release.clone())),
            )
            .route(
                "/forever",
                get(forever).with_state((request_reached.clone(), running_handlers.clone())),
            );
        let tasks = Tasks::new(CrashSignal::default());
        Self {
            tasks,
            metrics: Metrics::default(),
            request_reached,
            release,
            running_handlers,
            router,
        }
    }

    /// Starts a listener on a free port.
    fn start_server(&mut self, limits: ServerLimits) -> SocketAddr {
        let server = HttpServer::bind("127.0.0.1:0".parse().unwrap(), limits).unwrap();
        let addr = server.local_addr().unwrap();
        self.metrics = server.metrics();
        self.tasks.spawn(
            "listener",
            server.run(self.router.clone(), self.tasks.clone()),
        );
        addr
    }

    /// In-memory connection with a buffer of `capacity` bytes in each direction.
    fn connect_in_memory(&self, capacity: usize) -> DuplexStream {
        let (client_io, server_io) = tokio::io::duplex(capacity);
        let state = ServerState {
            router: self.router.clone(),
            limits: ServerLimits::default(),
            metrics: self.metrics.clone(),
            tasks: self.tasks.clone(),
        };
        let peer = PeerAddr("192.0.2.1:9".parse().unwrap());
        self.tasks
            .spawn_short_lived(async move { state.serve_connection(server_io, peer).await });
        client_io
    }
}

async fn echo(request: axum::extract::Request) -> Response {
    match read_body(request.into_body(), MAX_BODY).await {
        Ok(body) => body.into_response(),
        Err(rejected) => ErrorResponse::from(rejected).into_response(),
    }
}

type WaitState = axum::extract::State<(Arc<Notify>, Arc<Notify>)>;

async fn wait(axum::extract::State((request_reached, release)): WaitState) -> &'static str {
    request_reached.notify_one();
    release.notified().await;
    "waited"
}

type ForeverState = axum::extract::State<(Arc<Notify>, Arc<AtomicUsize>)>;

async fn forever(
    axum::extract::State((request_reached, running_handlers)): ForeverState,
) -> &'static str {
    struct DecrementOnDrop(Arc<AtomicUsize>);
    impl Drop for DecrementOnDrop {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    running_handlers.fetch_add(1, Ordering::SeqCst);
    let _guard = DecrementOnDrop(running_handlers);
    request_reached.notify_one();
    pending().await
}

/// Response as the client reads it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct ReceivedResponse {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl ReceivedResponse {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn closes_connection(&self) -> bool {
        self.head.contains("connection: close") || self.head.starts_with("http/1.0")
    }
}

/// Reads one response with a Content-Length. Returns `None` at the end of the connection.
async fn receive_response(io: &mut (impl AsyncRead + Unpin)) -> Option<ReceivedResponse> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match io.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return None,
            Err(e) => panic!("{e} after {}", String::from_utf8_lossy(&head)),
        }
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let status = head.get(9..12).unwrap().parse().unwrap();
    if status == 100 {
        return Some(ReceivedResponse {
            status,
            head,
            body: Vec::new(),
        });
    }
    let length = head
        .split("content-length: ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    io.read_exact(&mut body).await.unwrap();
    Some(ReceivedResponse { status, head, body })
}

/// Sends a request on a new connection. Returns the first response, and true if the connection
/// was closed.
async fn request_once(addr: SocketAddr, request: &[u8]) -> (Option<ReceivedResponse>, bool) {
    let mut io = TcpStream::connect(addr).await.unwrap();
    io.write_all(request).await.unwrap();
    let first = receive_response(&mut io).await;
    let is_closed = first
        .as_ref()
        .is_none_or(ReceivedResponse::closes_connection);
    if is_closed {
        assert!(
            is_at_eof(&mut io).await,
            "{first:?} is followed by more bytes"
        );
    }
    (first, is_closed)
}

async fn is_at_eof(io: &mut (impl AsyncRead + Unpin)) -> bool {
    matches!(io.read(&mut [0]).await, Ok(0))
}

async fn send(io: &mut (impl AsyncWrite + Unpin), request: &str) {
    io.write_all(request.as_bytes()).await.unwrap();
}

/// Fields that another program may read differently. Each is answered with 400.
fn ambiguous_fields() -> Vec<(u16, Vec<u8>)> {
    let post = |fields: &str| format!("POST /echo HTTP/1.1\r\n{HOST}{fields}\r\n\r\n0\r\n\r\n");
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\ncontent-length: 6",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length:",
        "Content-Length: 5.0",
        "Content-Length: 18446744073709551616",
        "Content-Length: 18446744073709551621",
        "Content-Length: \u{0665}",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked;a=b",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding\t: chunked",
        "Content-Length : 5",
        " Content-Length: 5",
        "X: a\r\n Transfer-Encoding: chunked",
        "X: a\r\n\tb",
        "X: a\nY: b",
        "X: a\rY: b",
        "X: a\r\r\nY: b",
        "X: a\0b",
        "X: a\x1bb",
        "X: a\x7fb",
        "X",
        ": a",
        "X Y: a",
        "X(Y): a",
        "Host: shop.example",
        "Host: other.example",
    ]
    .map(|fields| (400, post(fields).into_bytes()))
    .into()
}

/// Invalid request lines, hosts and sizes, with the expected status.
fn invalid_request_lines() -> Vec<(u16, Vec<u8>)> {
    let get = |line: &str, fields: &str| format!("{line}\r\n{fields}\r\n");
    let lines = [
        (400, get("GET /echo HTTP/1.1", "")),
        (400, get("GET /echo HTTP/1.1", "Host:\r\n")),
        (400, get("GET /echo HTTP/1.1", "Host: a b\r\n")),
        (400, get("GET /echo HTTP/1.1", "Host: a@b\r\n")),
        (400, get("GET /echo HTTP/1.1", "Host: a/b\r\n")),
        (400, get("GET /echo HTTP/1.1", "Host: a, b\r\n")),
        (400, get("GET /echo HTTP/1.0", "Host: a\r\nHost: a\r\n")),
        (
            400,
            get("POST /echo HTTP/1.0", "Transfer-Encoding: chunked\r\n"),
        ),
        (400, get("GET http://other.example/echo HTTP/1.1", HOST)),
        (400, get("GET http://u@shop.example/echo HTTP/1.1", HOST)),
        (400, get("GET http://shop.example:81/echo HTTP/1.1", HOST)),
        (400, get("GET ftp://shop.example/echo HTTP/1.1", HOST)),
        (400, get("GET echo HTTP/1.1", HOST)),
        (400, get("GET * HTTP/1.1", HOST)),
        (400, get("GET /a#b HTTP/1.1", HOST)),
        (400, get("GET /\u{44f} HTTP/1.1", HOST)),
        (
            400,
            get(
                "GET /echo HTTP/1.1",
                &format!("{HOST}Content-Length: 5\r\n"),
            ),
        ),
        (400, get("GET  /echo HTTP/1.1", HOST)),
        (400, get(" GET /echo HTTP/1.1", HOST)),
        (400, get("GET /echo  HTTP/1.1", HOST)),
        (400, get("GET /echo HTTP/1.1 ", HOST)),
        (400, get("GET\t/echo\tHTTP/1.1", HOST)),
        (400, get("GET /echo", HOST)),
        (400, get("GET /ec ho HTTP/1.1", HOST)),
        (400, get("G(T /echo HTTP/1.1", HOST)),
        (400, get("GET /echo HTTP/1.2", HOST)),
        (400, get("GET /echo HTTP/2.0", HOST)),
        (400, get("GET /echo HTTP/0.9", HOST)),
        (400, get("GET /echo http/1.1", HOST)),
        (400, get("GET /echo HTTP/01.1", HOST)),
        (400, "\r\n\r\nGET /echo HTTP/1.1\r\n\r\n".into()),
        (400, "\nGET /echo HTTP/1.1\r\n".into()),
        (400, "GET /echo HTTP/1.1\nHost: a\n\n".into()),
        (400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
        (400, "\x16\x03\x01\x02\0\x01".into()),
        (405, get("CONNECT shop.example:80 HTTP/1.1", HOST)),
        (405, get("TRACE /echo HTTP/1.1", HOST)),
        (
            414,
            get(&format!("GET /{} HTTP/1.1", "u".repeat(4 * 1024)), HOST),
        ),
        (414, format!("GET /{}", "u".repeat(70_000))),
        (
            431,
            get(
                "GET /echo HTTP/1.1",
                &format!("{HOST}X: {}\r\n", "v".repeat(16 * 1024)),
            ),
        ),
        (
            431,
            get(
                "GET /echo HTTP/1.1",
                &format!("{HOST}{}", "X: y\r\n".repeat(64)),
            ),
        ),
    ];
    lines
        .map(|(status, request)| (status, request.into_bytes()))
        .into()
}

#[tokio::test]
async fn rejects_ambiguous_requests_and_closes() {
    let mut harness = HttpHarness::new();
    let addr = harness.start_server(ServerLimits::default());
    let all = [ambiguous_fields(), invalid_request_lines()].concat();
    for (status, request) in &all {
        let shown = String::from_utf8_lossy(&request[..request.len().min(90)]).into_owned();
        let (rejected, is_closed) = request_once(addr, request).await;
        let rejected = rejected.unwrap_or_else(|| panic!("no response to {shown:?}"));
        assert_eq!(
            (rejected.status, is_closed),
            (*status, true),
            "{shown:?}: {rejected:?}"
        );
        assert!(rejected.head.contains("content-type: application/json\r\n"));
        let json: serde_json::Value = serde_json::from_slice(&rejected.body).unwrap();
        assert!(json["error"]["code"].is_string() && json["error"]["message"].is_string());
    }
    let reasons = [
        "malformed",
        "framing",
        "host",
        "version",
        "method",
        "uri_too_long",
        "head_too_large",
    ];
    let counted: u64 = reasons.iter().map(|r| harness.metrics.refused(r)).sum();
    assert_eq!(usize::try_from(counted).unwrap(), all.len());
}

#[tokio::test]
async fn serves_plain_requests_in_all_spellings() {
    let mut harness = HttpHarness::new();
    let addr = harness.start_server(ServerLimits::default());
    for (request, body, closes) in [
        (format!("GET /echo HTTP/1.1\r\n{HOST}\r\n"), "got", false),
        (
            format!("\r\nGET /echo HTTP/1.1\r\n{HOST}\r\n"),
            "got",
            false,
        ),
        (
            format!("GET http://SHOP.example/echo HTTP/1.1\r\n{HOST}\r\n"),
            "got",
            false,
        ),
        ("GET /echo HTTP/1.0\r\n\r\n".to_owned(), "got", true),
        (
            format!("GET /echo HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"),
            "got",
            true,
        ),
        (
            format!("GET /echo HTTP/1.1\r\n{HOST}Upgrade: h2c\r\nConnection: upgrade\r\n\r\n"),
            "got",
            false,
        ),
        (
            format!("GET /peer HTTP/1.1\r\n{HOST}\r\n"),
            "127.0.0.1",
            false,
        ),
        (
            format!("POST /echo HTTP/1.1\r\n{HOST}Content-Length: 005\r\n\r\nhello"),
            "hello",
            false,
        ),
        (
            format!("PUT /echo HTTP/1.1\r\n{HOST}Content-Length: 0\r\n\r\n"),
            "",
            false,
        ),
        (
            format!(
                "PUT /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nT: r\r\n\r\n"
            ),
            "abcd",
            true,
        ),
    ] {
        let (served, is_closed) = request_once(addr, request.as_bytes()).await;
        let served = served.unwrap();
        assert_eq!(
            (served.status, served.text(), is_closed),
            (200, body, closes),
            "{request}"
        );
    }
    let many = format!("GET /echo HTTP/1.1\r\n{HOST}{}\r\n", "X: y\r\n".repeat(63));
    assert_eq!(
        request_once(addr, many.as_bytes()).await.0.unwrap().status,
        200
    );
}

#[tokio::test]
async fn never_serves_bytes_after_a_chunked_body() {
    let mut harness = HttpHarness::new();
    let addr = harness.start_server(ServerLimits::default());
    let request = format!(
        "POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /echo HTTP/1.1\r\n{HOST}\r\n"
    );
    let (served, is_closed) = request_once(addr, request.as_bytes()).await;
    assert_eq!((served.unwrap().status, is_closed), (200, true));
}

#[tokio::test]
async fn body_over_the_limit_gets_a_readable_413() {
    let mut harness = HttpHarness::new();
    let addr = harness.start_server(ServerLimits::default());
    let head = format!("POST /echo HTTP/1.1\r\n{HOST}Content-Length: 4000000\r\n\r\n");
    let mut io = TcpStream::connect(addr).await.unwrap();
    send(&mut io, &head).await;
    let (mut reader, mut writer) = io.split();
    // The client sends its whole body, as most clients do, and reads only then.
    writer.write_all(&vec![b'x'; 4_000_000]).await.unwrap();
    let rejected = receive_response(&mut reader).await.unwrap();
    assert_eq!((rejected.status, rejected.closes_connection()), (413, true));
    assert!(
        rejected.text().contains("longer than 50000 bytes"),
        "{}",
        rejected.text()
    );
    let chunked = format!(
        "POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\nc351\r\n{}\r\n0\r\n\r\n",
        "x".repeat(50_001)
    );
    assert_eq!(
        request_once(addr, chunked.as_bytes())
            .await
            .0
            .unwrap()
            .status,
        413
    );
    let broken = format!("POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\nzz\r\n");
    assert_eq!(
        request_once(addr, broken.as_bytes())
            .await
            .0
            .unwrap()
            .status,
        400
    );
}

#[tokio::test]
async fn sends_100_only_when_the_body_is_read() {
    let mut harness = HttpHarness::new();
    let addr = harness.start_server(ServerLimits::default());
    let head = |length: usize| {
        format!(
            "POST /echo HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut io = TcpStream::connect(addr).await.unwrap();
    send(&mut io, &head(5)).await;
    assert_eq!(receive_response(&mut io).await.unwrap().status, 100);
    send(&mut io, "hello").await;
    assert_eq!(receive_response(&mut io).await.unwrap().text(), "hello");
    send(&mut io, &head(50_001)).await;
    assert_eq!(receive_response(&mut io).await.unwrap().status, 413);
    assert!(is_at_eof(&mut io).await);
}

#[tokio::test]
async fn panic_is_500_and_keeps_the_connection() {
    let mut harness = HttpHarness::new();
    let addr = harness.start_server(ServerLimits::default());
    let mut io = TcpStream::connect(addr).await.unwrap();
    send(
        &mut io,
        &format!("GET /panic HTTP/1.1\r\n{HOST}\r\nGET /echo HTTP/1.1\r\n{HOST}\r\n"),
    )
    .await;
    let failed = receive_response(&mut io).await.unwrap();
    assert_eq!(failed.status, 500);
    assert_eq!(
        failed.text(),
        r#"{"error":{"code":"INTERNAL","message":"internal error: see the log of the service"}}"#
    );
    assert_eq!(receive_response(&mut io).await.unwrap().text(), "got");
    assert_eq!(harness.metrics.panics.get(), 1);
}

#[tokio::test]
async fn stop_finishes_requests_and_closes_idle_ones() {
    let mut harness = HttpHarness::new();
    let addr = harness.start_server(ServerLimits::default());
    let (mut busy, mut idle) = (
        TcpStream::connect(addr).await.unwrap(),
        TcpStream::connect(addr).await.unwrap(),
    );
    send(&mut idle, &format!("GET /echo HTTP/1.1\r\n{HOST}\r\n")).await;
    assert!(
        !receive_response(&mut idle)
            .await
            .unwrap()
            .closes_connection()
    );
    send(&mut busy, &format!("GET /wait HTTP/1.1\r\n{HOST}\r\n")).await;
    harness.request_reached.notified().await;
    assert_eq!(harness.metrics.connections.get(), 2);
    harness.tasks.stop();
    assert!(is_at_eof(&mut idle).await);
    assert_eq!(harness.tasks.len(), 1);
    harness.release.notify_one();
    let last = receive_response(&mut busy).await.unwrap();
    assert_eq!((last.text(), last.closes_connection()), ("waited", true));
    drop(busy);
    harness.tasks.ended().await;
    assert_eq!(harness.metrics.connections.get(), 0);
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn serves_a_request_that_is_arriving_during_stop() {
    let mut harness = HttpHarness::new();
    let addr = harness.start_server(ServerLimits::default());
    let mut io = TcpStream::connect(addr).await.unwrap();
    send(&mut io, "GET /echo HTTP/1.1\r\n").await;
    harness.tasks.stop();
    send(&mut io, &format!("{HOST}\r\n")).await;
    let last = receive_response(&mut io).await.unwrap();
    assert_eq!((last.text(), last.closes_connection()), ("got", true));
}

#[tokio::test]
async fn connection_over_the_limit_gets_503() {
    let mut harness = HttpHarness::new();
    let addr = harness.start_server(ServerLimits {
        max_connections: 1,
        ..ServerLimits::default()
    });
    let mut first = TcpStream::connect(addr).await.unwrap();
    send(&mut first, &format!("GET /echo HTTP/1.1\r\n{HOST}\r\n")).await;
    assert_eq!(receive_response(&mut first).await.unwrap().status, 200);
    let (rejected, is_closed) =
        request_once(addr, format!("GET /echo HTTP/1.1\r\n{HOST}\r\n").as_bytes()).await;
    let rejected = rejected.unwrap();
    assert_eq!((rejected.status, is_closed), (503, true));
    assert!(rejected.head.contains("retry-after: 5\r\n"));
    assert_eq!(harness.metrics.refused("over_capacity"), 1);
}

#[tokio::test]
async fn limits_connections_per_address() {
    let mut harness = HttpHarness::new();
    let limits = ServerLimits {
        max_connections_per_address: Some(1),
        ..ServerLimits::default()
    };
    let addr = harness.start_server(limits);
    let request = format!("GET /echo HTTP/1.1\r\n{HOST}\r\n");
    let mut first = TcpStream::connect(addr).await.unwrap();
    send(&mut first, &request).await;
    assert_eq!(receive_response(&mut first).await.unwrap().status, 200);
    let (rejected, is_closed) = request_once(addr, request.as_bytes()).await;
    let rejected = rejected.unwrap();
    assert_eq!((rejected.status, is_closed), (503, true));
    assert!(
        rejected.text().contains("connections per source address"),
        "{}",
        rejected.text()
    );
    let counted = ["over_address_share", "over_capacity"].map(|why| harness.metrics.refused(why));
    assert_eq!(counted, [1, 0]);
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(addr).await.unwrap();
    send(&mut other, &request).await;
    assert_eq!(receive_response(&mut other).await.unwrap().status, 200);
}

#[tokio::test]
async fn half_close_gets_a_response_and_reset_cancels() {
    let mut harness = HttpHarness::new();
    let addr = harness.start_server(ServerLimits::default());
    let mut half_closed = TcpStream::connect(addr).await.unwrap();
    send(
        &mut half_closed,
        &format!("GET /wait HTTP/1.1\r\n{HOST}\r\n"),
    )
    .await;
    half_closed.shutdown().await.unwrap();
    harness.request_reached.notified().await;
    harness.release.notify_one();
    assert_eq!(
        receive_response(&mut half_closed).await.unwrap().text(),
        "waited"
    );

    let mut disconnected = TcpStream::connect(addr).await.unwrap();
    send(
        &mut disconnected,
        &format!("GET /forever HTTP/1.1\r\n{HOST}\r\n"),
    )
    .await;
    harness.request_reached.notified().await;
    disconnected.set_zero_linger().unwrap();
    drop(disconnected);
    while harness.running_handlers.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    harness.tasks.stop();
    harness.tasks.ended().await;
}

#[tokio::test]
async fn answers_pipelined_requests_in_order() {
    let mut harness = HttpHarness::new();
    let addr = harness.start_server(ServerLimits::default());
    let mut io = TcpStream::connect(addr).await.unwrap();
    send(&mut io, &format!("GET /wait HTTP/1.1\r\n{HOST}\r\n")).await;
    harness.request_reached.notified().await;
    send(
        &mut io,
        &format!("POST /echo HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\nabc"),
    )
    .await;
    send(
        &mut io,
        &format!("DELETE /echo HTTP/1.1\r\n{HOST}\r\nbroken \r\n"),
    )
    .await;
    harness.release.notify_one();
    assert_eq!(receive_response(&mut io).await.unwrap().text(), "waited");
    assert_eq!(receive_response(&mut io).await.unwrap().text(), "abc");
    assert_eq!(receive_response(&mut io).await.unwrap().status, 405);
    let rejected = {
        send(&mut io, "\r\n").await;
        receive_response(&mut io).await.unwrap()
    };
    assert_eq!((rejected.status, rejected.closes_connection()), (400, true));
    assert!(is_at_eof(&mut io).await);
}

#[tokio::test(start_paused = true)]
async fn silent_connection_closes_after_5_s() {
    let harness = HttpHarness::new();
    let mut io = harness.connect_in_memory(1024);
    let start = Instant::now();
    assert!(is_at_eof(&mut io).await);
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn incomplete_head_is_408_after_5_s() {
    let harness = HttpHarness::new();
    let (mut io, start) = (harness.connect_in_memory(1024), Instant::now());
    sleep(Duration::from_secs(4)).await;
    for byte in b"GET /e" {
        io.write_all(&[*byte]).await.unwrap();
        sleep(Duration::from_millis(800)).await;
    }
    assert_eq!(receive_response(&mut io).await.unwrap().status, 408);
    assert_eq!(start.elapsed().as_secs(), 9);
    assert_eq!(harness.metrics.refused("head_timed_out"), 1);
    drop(io);
    harness.tasks.stop();
    harness.tasks.ended().await;
}

#[tokio::test(start_paused = true)]
async fn slow_body_is_408_after_10_s() {
    for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let harness = HttpHarness::new();
        let (mut io, start) = (harness.connect_in_memory(1024), Instant::now());
        send(
            &mut io,
            &format!("POST /echo HTTP/1.1\r\n{HOST}{framing}\r\n\r\n"),
        )
        .await;
        let (mut reader, mut writer) = tokio::io::split(io);
        let dribble = async {
            while writer.write_all(b"1\r\n1\r\n").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        let late = tokio::select! {
            late = receive_response(&mut reader) => late.unwrap(),
            () = dribble => panic!("closed without a response"),
        };
        assert_eq!(
            (late.status, late.closes_connection()),
            (408, true),
            "{framing}"
        );
        assert_eq!(start.elapsed().as_secs(), 10, "{framing}");
        drop((reader, writer));
        harness.tasks.stop();
        harness.tasks.ended().await;
        assert_eq!(harness.metrics.refused("body_timed_out"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn closes_stalled_readers_at_10_s_and_slow_at_60_s() {
    for (pause, cut_at) in [(100, 10), (9, 60)] {
        let harness = HttpHarness::new();
        let (mut io, start) = (harness.connect_in_memory(1024), Instant::now());
        send(&mut io, &format!("GET /big HTTP/1.1\r\n{HOST}\r\n")).await;
        harness.tasks.stop();
        let ended = async {
            harness.tasks.ended().await;
            start.elapsed().as_secs()
        };
        let read = async {
            loop {
                sleep(Duration::from_secs(pause)).await;
                io.read_exact(&mut [0; 500]).await.unwrap();
            }
        };
        tokio::select! { at = ended => assert_eq!(at, cut_at), () = read => {} }
        assert_eq!(harness.metrics.refused("write_stalled"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn slow_reader_with_progress_gets_the_response() {
    let harness = HttpHarness::new();
    let mut io = harness.connect_in_memory(256 * 1024);
    send(&mut io, &format!("GET /big HTTP/1.1\r\n{HOST}\r\n")).await;
    let mut got = 0;
    while got < BIG {
        sleep(Duration::from_secs(1)).await;
        let mut piece = vec![0; 200_000];
        got += io.read(&mut piece).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connection_closes_after_75_s() {
    let harness = HttpHarness::new();
    let mut io = harness.connect_in_memory(1024);
    for _ in 0..3 {
        send(&mut io, &format!("GET /echo HTTP/1.1\r\n{HOST}\r\n")).await;
        assert_eq!(receive_response(&mut io).await.unwrap().text(), "got");
        sleep(Duration::from_secs(74)).await;
    }
    let start = Instant::now();
    assert!(is_at_eof(&mut io).await);
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn handler_timeout_is_503_after_20_s() {
    let harness = HttpHarness::new();
    let (mut io, start) = (harness.connect_in_memory(1024), Instant::now());
    send(&mut io, &format!("GET /forever HTTP/1.1\r\n{HOST}\r\n")).await;
    let late = receive_response(&mut io).await.unwrap();
    assert_eq!((late.status, start.elapsed().as_secs()), (503, 20));
    assert_eq!(harness.running_handlers.load(Ordering::SeqCst), 0);
    send(&mut io, &format!("GET /echo HTTP/1.1\r\n{HOST}\r\n")).await;
    assert_eq!(receive_response(&mut io).await.unwrap().text(), "got");
}

#[tokio::test(start_paused = true)]
async fn early_response_is_complete() {
    let harness = HttpHarness::new();
    // Too small for the response, so that body and response are in transit at the same time.
    let mut io = harness.connect_in_memory(16);
    send(
        &mut io,
        &format!("POST /early HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nhel"),
    )
    .await;
    let (mut reader, mut writer) = tokio::io::split(io);
    let (early, _) = tokio::join!(receive_response(&mut reader), writer.write_all(b"lo"));
    assert_eq!(early.unwrap().text(), "early");
}

#[tokio::test]
async fn early_response_announces_keep_alive_or_close() {
    let mut harness = HttpHarness::new();
    let addr = harness.start_server(ServerLimits::default());
    let head = |more: &str| format!("POST /early HTTP/1.1\r\n{HOST}{more}\r\n\r\n");
    // A short body that has arrived is drained, and the next request is served.
    let mut io = TcpStream::connect(addr).await.unwrap();
    for body in ["hello".to_owned(), "x".repeat(60_000)] {
        send(
            &mut io,
            &(head(&format!("Content-Length: {}", body.len())) + &body),
        )
        .await;
        let early = receive_response(&mut io).await.unwrap();
        assert_eq!((early.text(), early.closes_connection()), ("early", false));
        send(&mut io, &format!("GET /echo HTTP/1.1\r\n{HOST}\r\n")).await;
        assert_eq!(receive_response(&mut io).await.unwrap().text(), "got");
    }
    // A long, late or announced body closes the connection.
    for more in [
        "Content-Length: 900000000",
        "Content-Length: 5",
        "Content-Length: 5\r\nExpect: 100-continue",
        "Transfer-Encoding: chunked",
    ] {
        let mut io = TcpStream::connect(addr).await.unwrap();
        send(&mut io, &head(more)).await;
        let early = receive_response(&mut io).await.unwrap();
        assert_eq!(
            (early.status, early.text(), early.closes_connection()),
            (200, "early", true),
            "{more}"
        );
        assert!(is_at_eof(&mut io).await, "{more}");
    }
}

#[tokio::test]
async fn rejected_head_request_gets_no_body() {
    let mut harness = HttpHarness::new();
    let addr = harness.start_server(ServerLimits::default());
    for (status, request) in [
        (
            400,
            format!("HEAD /echo HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nhello"),
        ),
        (
            400,
            format!("HEAD /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n"),
        ),
        (400, "HEAD /echo HTTP/1.1\r\n\r\n".to_owned()),
        (
            414,
            format!("HEAD /{} HTTP/1.1\r\n{HOST}\r\n", "u".repeat(5_000)),
        ),
    ] {
        let mut io = TcpStream::connect(addr).await.unwrap();
        send(&mut io, &request).await;
        let mut bytes = Vec::new();
        io.read_to_end(&mut bytes).await.unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert!(
            text.ends_with("\r\n\r\n") && text.contains("content-length: "),
            "{text}"
        );
    }
}

#[tokio::test]
async fn control_character_in_chunk_extension_is_400() {
    let mut harness = HttpHarness::new();
    let addr = harness.start_server(ServerLimits::default());
    let body = |body: &str| {
        format!("POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{body}")
    };
    for broken in [
        "3;x=\0\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0;\x7f\r\n\r\n",
        "3;\x1b[2J\r\n",
    ] {
        let (rejected, is_closed) = request_once(addr, body(broken).as_bytes()).await;
        assert_eq!(
            (rejected.unwrap().status, is_closed),
            (400, true),
            "{broken:?}"
        );
    }
    let valid = body("3;x=\"a b\"\r\nabc\r\n0\r\n\r\n");
    assert_eq!(
        request_once(addr, valid.as_bytes()).await.0.unwrap().text(),
        "abc"
    );
}

/// Returns the responses to `requests` that arrive in pieces which end at `cuts`.
async fn exchange_in_pieces(
    requests: &[u8],
    cuts: &[usize],
    capacity: usize,
) -> Vec<ReceivedResponse> {
    let harness = HttpHarness::new();
    let (mut reader, mut writer) = tokio::io::split(harness.connect_in_memory(capacity));
    let sending = async {
        let mut from = 0;
        for &cut in cuts.iter().chain([&requests.len()]) {
            writer.write_all(&requests[from..cut]).await.unwrap();
            from = cut;
            sleep(Duration::from_millis(1)).await;
        }
        writer.shutdown().await.unwrap();
    };
    let reading = async {
        let mut all = Vec::new();
        while let Some(mut one) = receive_response(&mut reader).await {
            one.head = one
                .head
                .lines()
                .filter(|l| !l.starts_with("date"))
                .collect();
            all.push(one);
        }
        all
    };
    tokio::join!(sending, reading).1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn splits_do_not_change_the_responses(
        bodies in proptest::collection::vec(0_usize..6000, 1..6),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        is_narrow in any::<bool>(),
        chunked in any::<bool>(),
    ) {
        let mut requests = String::new();
        for (n, length) in bodies.iter().enumerate() {
            let body = n.to_string().repeat(*length);
            requests += &match n % 2 {
                0 => format!("POST /echo HTTP/1.1\r\n{HOST}Content-Length: {length}\r\n\r\n{body}"),
                _ => format!("GET /echo?{n} HTTP/1.1\r\n{HOST}\r\n"),
            };
        }
        if chunked {
            requests += &format!("PUT /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n4\r\nlast\r\n0\r\n\r\n");
        }
        let mut cuts: Vec<_> = cuts.iter().map(|c| c.index(requests.len())).collect();
        cuts.sort_unstable();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        let (whole, split) = runtime.block_on(async {
            let whole = exchange_in_pieces(requests.as_bytes(), &[], 1 << 20).await;
            (whole, exchange_in_pieces(requests.as_bytes(), &cuts, if is_narrow { 7 } else { 1 << 20 }).await)
        });
        prop_assert_eq!(&whole, &split);
        prop_assert_eq!(whole.len(), bodies.len() + usize::from(chunked));
        for (n, length) in bodies.iter().enumerate().step_by(2) {
            prop_assert_eq!(whole[n].text(), n.to_string().repeat(*length));
        }
    }
}

#[tokio::test]
async fn client_ignores_redirects_and_limits_bodies() {
    let mut harness = HttpHarness::new();
    let redirect = (StatusCode::TEMPORARY_REDIRECT, [("location", "/echo")]);
    harness.router = harness
        .router
        .clone()
        .route("/moved", get(async move || redirect))
        .route(
            "/agent",
            get(async |fields: axum::http::HeaderMap| {
                fields["user-agent"].to_str().unwrap().to_owned()
            }),
        );
    let streamed = get(async || {
        let pieces = [Ok::<_, io::Error>("1234"), Ok("5678")];
        Body::from_stream(futures_util::stream::iter(pieces))
    });
    harness.router = harness.router.clone().route("/streamed", streamed);
    let addr = harness.start_server(ServerLimits::default());
    let client = client(&ClientConfig::default()).unwrap();
    let get = async |path| {
        client
            .get(format!("http://{addr}{path}"))
            .send()
            .await
            .unwrap()
    };
    let agent = read_response(get("/agent").await, 100).await.unwrap();
    assert_eq!(agent, concat!("stockbridge/", env!("CARGO_PKG_VERSION")));
    assert_eq!(get("/moved").await.status(), 307);
    assert_eq!(
        read_response(get("/streamed").await, 8).await.unwrap(),
        "12345678"
    );
    for path in ["/streamed", "/big"] {
        let cut = read_response(get(path).await, 7).await;
        assert!(
            matches!(cut, Err(ReadResponseError::TooLarge { limit: 7 })),
            "{path}"
        );
    }
}
