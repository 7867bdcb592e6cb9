//! Stock that comes from the shop's own sources: files, its old handler, 1C, MoySklad.

mod by_hand;
mod exchange;
mod handler;
mod moysklad;
mod put_in_place;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use stockbridge::lifecycle::{Fuse, Tasks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use crate::harness::{Doors, Shop};
use crate::wire::send;

/// How long a source may take before the test has failed.
const PATIENCE: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Adds a source that is looked at only when it is told to.
fn with_source(shop: Shop, name: &str, kind: &str, lines: &[&str]) -> Shop {
    let table =
        format!("[[shops.sources]]\nname = {name:?}\nkind = {kind:?}\nevery_seconds = 86400");
    lines
        .iter()
        .fold(shop.set(&table), |shop, line| shop.set(line))
}

impl Doors {
    /// What the operator is shown of a source, if anything.
    async fn source(self, name: &str) -> Option<Value> {
        let (status, shown) = self.operator("GET", "/sources", "").await;
        assert_eq!(status, 200);
        let mut shown = shown.as_array().unwrap().iter();
        shown.find(|source| source["source"] == name).cloned()
    }

    /// Has a source looked at until it is as wanted. Not at every turn: while it is being read
    /// that is all it is.
    async fn look_until(self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        for turn in 0_u32.. {
            if turn.is_multiple_of(5) {
                self.nudge(name).await;
            }
            let shown = self.source(name).await.unwrap();
            if is_so(&shown) {
                return shown;
            }
            assert!(
                Instant::now() < deadline,
                "never came about: {what}\n{shown:#}"
            );
            sleep(LOOK_EVERY).await;
        }
        unreachable!("it is looked for a minute")
    }

    /// The same, without telling it to look.
    async fn wait_until(self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let shown = self.source(name).await.unwrap();
            if is_so(&shown) {
                return shown;
            }
            assert!(
                Instant::now() < deadline,
                "never came about: {what}\n{shown:#}"
            );
            sleep(LOOK_EVERY).await;
        }
    }

    async fn nudge(self, name: &str) {
        let target = format!("/sources/read?source={name}");
        assert_eq!(self.operator("POST", &target, "").await.0, 202);
    }

    async fn has_alarm(self, name: &str, about: &str) -> bool {
        self.alarms()
            .await
            .iter()
            .any(|(alarm, of)| alarm == name && of == about)
    }

    /// The rows that were set aside, as a table.
    async fn rejected(self, query: &str) -> (u16, String) {
        let target = format!("/sources/rejected.csv?{query}");
        let answer = send(self.ops, "GET", &target, &[], b"").await;
        (answer.status, answer.text())
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
struct Asked {
    /// Lines of the head, in small letters.
    head: String,
    /// The first of them, as it was.
    target: String,
    body: String,
}

type Say = Arc<dyn Fn(&Asked) -> Vec<u8> + Send + Sync>;

/// A server of the seller's, to the byte as a test says.
struct Server {
    url: String,
    say: Arc<Mutex<Say>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    tasks: Tasks,
}

impl Server {
    async fn new(say: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let say: Arc<Mutex<Say>> = Arc::new(Mutex::new(Arc::new(say)));
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let tasks = Tasks::new(Fuse::default());
        let (owner, said, noted) = (tasks.clone(), Arc::clone(&say), Arc::clone(&asked));
        tasks.spawn_brief(async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    () = owner.stopping() => return,
                };
                owner.spawn_brief(answer(stream, Arc::clone(&said), Arc::clone(&noted)));
            }
        });
        Self {
            url,
            say,
            asked,
            tasks,
        }
    }

    /// From now on it answers so.
    fn says(&self, say: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) {
        *self.say.lock().unwrap() = Arc::new(say);
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// One request, one answer, and the line is closed.
async fn answer(mut stream: TcpStream, say: Arc<Mutex<Say>>, asked: Arc<Mutex<Vec<Asked>>>) {
    let mut bytes = Vec::new();
    let length = |head: &str| {
        let line = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        line.and_then(|length| length.parse::<usize>().ok())
            .unwrap_or_default()
    };
    let question = loop {
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
            break Asked {
                head,
                target,
                body: body.to_owned(),
            };
        }
    };
    let say = Arc::clone(&say.lock().unwrap_or_else(PoisonError::into_inner));
    let reply = say(&question);
    asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(question);
    let _gone = stream.write_all(&reply).await;
}

/// An answer of that kind.
fn reply(kind: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
