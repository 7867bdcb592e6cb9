//! Stock that comes from the shop's own sources: files, its old handler, 1C, MoySklad.

mod file_source;
mod moysklad;
mod old_handler;
mod onec_exchange;
mod operator_import;

use std::sync::Arc;
use std::time::Duration;

use lifecycle::{CrashSignal, Tasks};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use crate::harness::{Endpoints, TestShop};
use crate::wire::send;

/// Maximum time to wait for a source.
const TIMEOUT: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Adds a source that is polled only on request.
fn with_source(shop: TestShop, name: &str, kind: &str, lines: &[&str]) -> TestShop {
    let table =
        format!("[[shops.sources]]\nname = {name:?}\nkind = {kind:?}\nevery_seconds = 86400");
    lines
        .iter()
        .fold(shop.set(&table), |shop, line| shop.set(line))
}

impl Endpoints {
    /// Status of a source, if it has one.
    async fn source(self, name: &str) -> Option<Value> {
        let (status, body) = self.ops_request("GET", "/sources", "").await;
        assert_eq!(status, 200);
        let mut sources = body.as_array().unwrap().iter();
        sources.find(|source| source["source"] == name).cloned()
    }

    /// Has a source looked at until it is as wanted. Not at every turn: while it is being read
    /// that is all it is.
    async fn poll_source_until(
        self,
        name: &str,
        what: &str,
        is_reached: impl Fn(&Value) -> bool,
    ) -> Value {
        let deadline = Instant::now() + TIMEOUT;
        for attempt in 0_u32.. {
            if attempt.is_multiple_of(5) {
                self.request_poll(name).await;
            }
            let source = self.source(name).await.unwrap();
            if is_reached(&source) {
                return source;
            }
            assert!(
                Instant::now() < deadline,
                "never came about: {what}\n{source:#}"
            );
            sleep(POLL_INTERVAL).await;
        }
        unreachable!("it is looked for a minute")
    }

    /// The same, without telling it to look.
    async fn wait_for_source(
        self,
        name: &str,
        what: &str,
        is_reached: impl Fn(&Value) -> bool,
    ) -> Value {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let source = self.source(name).await.unwrap();
            if is_reached(&source) {
                return source;
            }
            assert!(
                Instant::now() < deadline,
                "never came about: {what}\n{source:#}"
            );
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn request_poll(self, name: &str) {
        let target = format!("/sources/read?source={name}");
        assert_eq!(self.ops_request("POST", &target, "").await.0, 202);
    }

    async fn has_alarm(self, name: &str, about: &str) -> bool {
        self.alarms()
            .await
            .iter()
            .any(|(alarm, subject)| alarm == name && subject == about)
    }

    /// Rejected rows in CSV.
    async fn rejected(self, query: &str) -> (u16, String) {
        let target = format!("/sources/rejected.csv?{query}");
        let response = send(self.ops, "GET", &target, &[], b"").await;
        (response.status, response.text())
    }
}

fn counts(stock: &[(&str, u64)]) -> Vec<(String, u64)> {
    stock
        .iter()
        .map(|(sku, count)| ((*sku).to_owned(), *count))
        .collect()
}

/// A question as it came to a server of the seller's.
#[derive(Clone, Debug)]
struct SellerRequest {
    /// Lines of the head, in small letters.
    head: String,
    /// The first of them, as it was.
    target: String,
    body: String,
}

type SellerResponseFn = Arc<dyn Fn(&SellerRequest) -> Vec<u8> + Send + Sync>;

/// A server of the seller's, to the byte as a test says.
struct SellerServer {
    url: String,
    respond: Arc<Mutex<SellerResponseFn>>,
    requests: Arc<Mutex<Vec<SellerRequest>>>,
    tasks: Tasks,
}

impl SellerServer {
    async fn new(respond: impl Fn(&SellerRequest) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let respond: Arc<Mutex<SellerResponseFn>> = Arc::new(Mutex::new(Arc::new(respond)));
        let requests: Arc<Mutex<Vec<SellerRequest>>> = Arc::default();
        let tasks = Tasks::new(CrashSignal::default());
        let (owner, current_response, log) =
            (tasks.clone(), Arc::clone(&respond), Arc::clone(&requests));
        tasks.spawn_short_lived(async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    () = owner.stopping() => return,
                };
                owner.spawn_short_lived(serve_one(
                    stream,
                    Arc::clone(&current_response),
                    Arc::clone(&log),
                ));
            }
        });
        Self {
            url,
            respond,
            requests,
            tasks,
        }
    }

    /// From now on it answers so.
    fn set_response(&self, respond: impl Fn(&SellerRequest) -> Vec<u8> + Send + Sync + 'static) {
        *self.respond.lock() = Arc::new(respond);
    }

    fn requests(&self) -> Vec<SellerRequest> {
        self.requests.lock().clone()
    }
}

impl Drop for SellerServer {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// One request, one answer, and the line is closed.
async fn serve_one(
    mut stream: TcpStream,
    respond: Arc<Mutex<SellerResponseFn>>,
    requests: Arc<Mutex<Vec<SellerRequest>>>,
) {
    let mut bytes = Vec::new();
    let length = |head: &str| {
        let line = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        line.and_then(|length| length.parse::<usize>().ok())
            .unwrap_or_default()
    };
    let request = loop {
        // A client that was stopped in the middle.
        let Ok(1..) = stream.read_buf(&mut bytes).await else {
            return;
        };
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let target = head.lines().next().unwrap_or_default().to_owned();
        let head = head.to_lowercase();
        if body.len() >= length(&head) {
            break SellerRequest {
                head,
                target,
                body: body.to_owned(),
            };
        }
    };
    let respond = Arc::clone(&respond.lock());
    let reply = respond(&request);
    requests.lock().push(request);
    let _ignored = stream.write_all(&reply).await;
}

/// An answer of that kind.
fn http_response(kind: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
