use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use chrono::{DateTime, Utc};
use compact_str::CompactString;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::check::Found;
use super::shelf::Stocks;

/// Most SKUs the Market puts in one question. Source: the push API's `getStocks`.
pub const SKUS_PER_QUESTION: usize = 1_000;

/// The Market asks again if it was not answered by then. Source: the push API's pages.
pub const DEADLINE: Duration = Duration::from_secs(27);

/// Largest count. Source: the push API's `getStocks`.
const MAX_COUNT: u32 = 2_000_000_000;

/// Where the Market puts the token, as set in the seller's cabinet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenPlace {
    /// Bare in `Authorization`.
    Header,
    /// In the query, as `auth-token`.
    Query,
}

/// The Market's hourly question about a whole warehouse: every request at the same time.
#[derive(Clone, Copy, Debug)]
pub struct Push<'a> {
    /// Asks; should not follow redirects, as the Market does not.
    pub client: &'a reqwest::Client,
    /// What stands before `/stocks`.
    pub base_url: &'a str,
    /// The shop's token.
    pub token: &'a str,
    /// Where it goes.
    pub place: TokenPlace,
    /// Which warehouse.
    pub warehouse_id: u64,
    /// What is asked about.
    pub skus: &'a [String],
    /// [`SKUS_PER_QUESTION`], or fewer.
    pub per_request: usize,
    /// [`DEADLINE`], or another.
    pub deadline: Duration,
}

/// How far a push has come, to be read while it runs.
#[derive(Debug, Default)]
pub struct PushProgress {
    asked: AtomicUsize,
    answered: AtomicUsize,
    checked: AtomicUsize,
}

impl PushProgress {
    /// Questions there are.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Questions answered to the last byte, or given up.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Answers checked.
    #[must_use]
    pub fn checked(&self) -> usize {
        self.checked.load(Ordering::Relaxed)
    }
}

/// What the Market learned, and how long it had to wait.
#[derive(Debug, Default)]
pub struct PushReport {
    /// Questions asked.
    pub questions: usize,
    /// Questions answered as the Market wants it.
    pub good: usize,
    /// Questions that were not, and why: no answer, another status, a broken rule.
    pub failures: Found<String>,
    /// Answers that came, good or not, each with the time from asking to the last byte, the
    /// quickest first.
    pub latencies: Vec<Duration>,
    /// From the first question to the last answer.
    pub took: Duration,
    /// SKUs left out of answers that are otherwise good: the Market keeps what it had.
    pub missing: Found<String>,
    /// What was said of each SKU.
    pub stocks: Stocks,
}

impl PushReport {
    /// The slowest answer.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        self.latencies.last().copied().unwrap_or_default()
    }

    /// The time within which this share of the answers came, `0.0..=1.0`.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let last = u32::try_from(self.latencies.len())
            .unwrap_or(u32::MAX)
            .saturating_sub(1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a u32, and a cast saturates"
        )]
        let rank = (f64::from(last) * share).ceil() as usize;
        self.latencies.get(rank).copied().unwrap_or_default()
    }
}

/// One answer as it came, not looked into.
struct Reply {
    status: u16,
    content_type: Option<String>,
    chunks: Vec<Bytes>,
    latency: Duration,
}

impl Push<'_> {
    /// Asks everything at once, and only when the last answer is in looks at what they say,
    /// so that looking does not slow them down.
    pub async fn ask_everything(&self, progress: &PushProgress) -> PushReport {
        let groups: Vec<&[String]> = self.skus.chunks(self.per_request.max(1)).collect();
        progress.asked.store(groups.len(), Ordering::Relaxed);
        let bodies: Vec<Bytes> = groups.iter().map(|skus| self.question(skus)).collect();
        let url = self.url();
        let started = Instant::now();
        let mut asking: FuturesUnordered<_> = bodies
            .into_iter()
            .enumerate()
            .map(|(index, body)| {
                let url = url.as_str();
                async move { (index, self.ask(url, body).await) }
            })
            .collect();
        let mut replies: Vec<Option<Result<Reply, String>>> = Vec::new();
        replies.resize_with(groups.len(), || None);
        while let Some((index, reply)) = asking.next().await {
            replies[index] = Some(reply);
            progress.answered.fetch_add(1, Ordering::Relaxed);
        }
        let mut report = PushReport {
            questions: groups.len(),
            took: started.elapsed(),
            ..PushReport::default()
        };
        report.stocks.reserve(self.skus.len());
        for (skus, reply) in groups.into_iter().zip(replies.into_iter().flatten()) {
            self.look_into(skus, reply, &mut report);
            progress.checked.fetch_add(1, Ordering::Relaxed);
            // A thousand answers take a second to check: others want to run too.
            tokio::task::yield_now().await;
        }
        report.latencies.sort_unstable();
        report
    }

    fn url(&self) -> String {
        let base = self.base_url.trim_end_matches('/');
        match self.place {
            TokenPlace::Header => format!("{base}/stocks"),
            TokenPlace::Query => {
                let token = utf8_percent_encode(self.token, NON_ALPHANUMERIC);
                format!("{base}/stocks?auth-token={token}")
            }
        }
    }

    fn question(&self, skus: &[String]) -> Bytes {
        let list = serde_json::to_string(skus).unwrap_or_default();
        format!(r#"{{"warehouseId":{},"skus":{list}}}"#, self.warehouse_id).into()
    }

    async fn ask(&self, url: &str, body: Bytes) -> Result<Reply, String> {
        let started = Instant::now();
        let asked = tokio::time::timeout(self.deadline, self.exchange(url, body, started)).await;
        match asked {
            Ok(Ok(reply)) => Ok(reply),
            // The address may hold the token.
            Ok(Err(e)) => Err(tell(&e.without_url())),
            Err(_) => Err(format!("no answer within {:?}", self.deadline)),
        }
    }

    async fn exchange(
        &self,
        url: &str,
        body: Bytes,
        started: Instant,
    ) -> Result<Reply, reqwest::Error> {
        let request = self.client.post(url).body(body);
        let request = request.header(CONTENT_TYPE, "application/json;charset=utf-8");
        let request = match self.place {
            TokenPlace::Header => request.header(AUTHORIZATION, self.token),
            TokenPlace::Query => request,
        };
        let mut response = request.send().await?;
        let mut chunks = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            chunks.push(chunk);
        }
        let content_type = response.headers().get(CONTENT_TYPE);
        Ok(Reply {
            status: response.status().as_u16(),
            content_type: content_type
                .and_then(|v| v.to_str().ok())
                .map(str::to_owned),
            chunks,
            latency: started.elapsed(),
        })
    }

    fn look_into(&self, skus: &[String], reply: Result<Reply, String>, report: &mut PushReport) {
        let checked = reply.and_then(|reply| {
            report.latencies.push(reply.latency);
            self.check(skus, &reply, report)
        });
        match checked {
            Ok(()) => report.good += 1,
            Err(reason) => report.failures.add(|| reason),
        }
    }

    fn check(&self, skus: &[String], reply: &Reply, report: &mut PushReport) -> Result<(), String> {
        if reply.status != 200 {
            return Err(format!("status {}", reply.status));
        }
        let media = reply
            .content_type
            .as_deref()
            .and_then(|kind| kind.split(';').next());
        if !media.is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json")) {
            return Err(format!("content type {:?}", reply.content_type));
        }
        let body = reply.chunks.concat();
        let answer: Answer<'_> =
            serde_json::from_slice(&body).map_err(|e| format!("the body is no answer: {e}"))?;
        let warehouse = self.warehouse_id.to_string();
        let mut asked = skus.iter();
        for item in &answer.skus {
            let sku = item.sku.as_ref();
            // Those in between were left out; one that is never found was not asked, or not now.
            let skipped = asked.as_slice();
            let place = skipped
                .iter()
                .position(|asked| asked == sku)
                .ok_or_else(|| format!("{sku:?} was not asked, or is out of order"))?;
            for missing in skipped.iter().take(place) {
                report.missing.add(|| missing.clone());
            }
            asked.nth(place);
            let said = item
                .read(&warehouse)
                .map_err(|rule| format!("{sku:?}: {rule}"))?;
            report.stocks.insert(CompactString::new(sku), said);
        }
        for missing in asked {
            report.missing.add(|| missing.clone());
        }
        Ok(())
    }
}

/// An error with its causes: what it says alone is "error sending request".
fn tell(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    skus: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    sku: Cow<'a, str>,
    #[serde(borrow, rename = "warehouseId")]
    warehouse_id: &'a RawValue,
    #[serde(borrow)]
    items: Vec<Level<'a>>,
}

#[derive(Deserialize)]
struct Level<'a> {
    count: u32,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, rename = "updatedAt")]
    updated_at: Cow<'a, str>,
}

impl Item<'_> {
    fn read(&self, warehouse: &str) -> Result<(u32, DateTime<Utc>), String> {
        if self.warehouse_id.get() != warehouse {
            return Err(format!(
                "warehouseId is {}, not {warehouse}",
                self.warehouse_id
            ));
        }
        let [level] = self.items.as_slice() else {
            return Err(format!("{} items, not one", self.items.len()));
        };
        if level.kind != "FIT" {
            return Err(format!("type is {}, not FIT", level.kind));
        }
        if level.count > MAX_COUNT {
            return Err(format!("count is {}", level.count));
        }
        let at = DateTime::parse_from_rfc3339(&level.updated_at)
            .map_err(|e| format!("updatedAt is {:?}: {e}", level.updated_at))?;
        Ok((level.count, at.with_timezone(&Utc)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::Router;
    use axum::extract::Request;
    use axum::http::StatusCode;
    use axum::response::{IntoResponse, Response};
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;
    use tower::ServiceExt as _;

    use super::*;
    use crate::legacy::wire::{Answer, Question};
    use crate::lifecycle::{Fuse, Tasks};
    use crate::stock::{Count, Instant, Level};

    fn level(count: i64) -> Level {
        let updated_at = Instant::from_micros(1_000_000).unwrap();
        Level {
            count: Count::try_from(count).unwrap(),
            updated_at,
        }
    }

    /// A shop that answers with whatever `say` makes of a question and its own good answer.
    async fn shop(tasks: &Tasks, say: fn(&Question<'_>, Answer) -> Response) -> String {
        let router = Router::new().fallback(async move |request: Request| {
            let uri = request.uri().to_string();
            let authorization = request.headers().get(AUTHORIZATION).cloned();
            let body = axum::body::to_bytes(request.into_body(), usize::MAX)
                .await
                .unwrap();
            let question = Question::parse(&body).unwrap();
            let is_ours = authorization.is_some_and(|token| token == "to+ken")
                || uri.ends_with("?auth-token=to%2Bken");
            assert!(is_ours && uri.starts_with("/shop/stocks"), "{uri}");
            say(&question, Answer::to(&question))
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let owned = tasks.clone();
        tasks.spawn_brief(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let router = router.clone();
                let service = service_fn(move |request: hyper::Request<Incoming>| {
                    router.clone().oneshot(request.map(axum::body::Body::new))
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                owned.spawn_brief(async move { drop(connection.await) });
            }
        });
        format!("http://{address}/shop/")
    }

    async fn push(place: TokenPlace, say: fn(&Question<'_>, Answer) -> Response) -> PushReport {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let base_url = shop(&Tasks::new(Fuse::default()), say).await;
        let skus: Vec<String> = (0..25).map(|n| format!("0{n}")).collect();
        let progress = PushProgress::default();
        let push = Push {
            client: &reqwest::Client::new(),
            base_url: &base_url,
            token: "to+ken",
            place,
            warehouse_id: 7,
            skus: &skus,
            per_request: 10,
            deadline: DEADLINE,
        };
        let report = push.ask_everything(&progress).await;
        assert_eq!(
            (progress.asked(), progress.answered(), progress.checked()),
            (3, 3, 3)
        );
        assert_eq!(report.questions, 3);
        report
    }

    fn json(body: impl IntoResponse) -> Response {
        ([(CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
    }

    fn well(question: &Question<'_>, mut answer: Answer) -> Response {
        for sku in &question.skus {
            answer.push(&sku.0, level(5));
        }
        json(answer.finish())
    }

    #[tokio::test]
    async fn good_answers_are_all_taken_with_the_token_in_either_place() {
        for place in [TokenPlace::Header, TokenPlace::Query] {
            let report = push(place, well).await;
            assert_eq!(
                (report.good, report.stocks.len()),
                (3, 25),
                "{:?}",
                report.failures
            );
            assert_eq!(report.stocks["024"].0, 5);
            assert_eq!(report.latencies.len(), 3);
            assert_eq!(report.quantile(1.0), report.slowest());
        }
    }

    #[tokio::test]
    async fn skus_left_out_are_missing_and_the_others_still_count() {
        let report = push(TokenPlace::Header, |question, mut answer| {
            for sku in question.skus.iter().skip(1) {
                answer.push(&sku.0, level(5));
            }
            json(answer.finish())
        })
        .await;
        assert_eq!((report.good, report.stocks.len()), (3, 22));
        assert_eq!(report.missing.count, 3);
        assert!(report.missing.first.contains(&"00".to_owned()));
    }

    #[tokio::test]
    async fn answers_the_market_would_not_take_are_failures() {
        for (reason, say) in [
            (
                "status 201",
                (|_, answer| (StatusCode::CREATED, json(answer.finish())).into_response())
                    as fn(&Question<'_>, Answer) -> Response,
            ),
            ("content type", |_, answer| answer.finish().into_response()),
            ("is no answer", |_, _| json("[]")),
            ("out of order", |question, mut answer| {
                for sku in question.skus.iter().rev() {
                    answer.push(&sku.0, level(5));
                }
                json(answer.finish())
            }),
            ("was not asked", |_, mut answer| {
                answer.push("stranger", level(5));
                json(answer.finish())
            }),
            ("warehouseId is 70", |question, answer| {
                changed(question, answer, ":7,", ":70,")
            }),
            ("type is X", |question, answer| {
                changed(question, answer, "FIT", "X")
            }),
            ("count is 2000000001", |question, answer| {
                changed(question, answer, ":5,", ":2000000001,")
            }),
            ("updatedAt is", |question, answer| {
                changed(question, answer, "Z\"", "\"")
            }),
            ("0 items", |question, answer| {
                changed(
                    question,
                    answer,
                    r#"{"count":5,"type":"FIT","updatedAt":"1970-01-01T00:00:01Z"}"#,
                    "",
                )
            }),
        ] {
            let report = push(TokenPlace::Header, say).await;
            assert_eq!((report.good, report.failures.count), (0, 3), "{reason}");
            assert!(
                report.failures.first[0].contains(reason),
                "{:?}",
                report.failures
            );
        }
    }

    fn changed(question: &Question<'_>, mut answer: Answer, from: &str, to: &str) -> Response {
        for sku in &question.skus {
            answer.push(&sku.0, level(5));
        }
        json(
            String::from_utf8(answer.finish())
                .unwrap()
                .replace(from, to),
        )
    }

    #[tokio::test]
    async fn a_shop_that_is_not_there_fails_every_question() {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let push = Push {
            client: &reqwest::Client::new(),
            base_url: &base_url,
            token: "secret",
            place: TokenPlace::Query,
            warehouse_id: 7,
            skus: &["A".to_owned()],
            per_request: SKUS_PER_QUESTION,
            deadline: DEADLINE,
        };
        let report = push.ask_everything(&PushProgress::default()).await;
        assert_eq!(
            (report.good, report.failures.count, report.latencies.len()),
            (0, 1, 0)
        );
        assert!(
            !report.failures.first[0].contains("secret"),
            "{:?}",
            report.failures
        );
    }
}
