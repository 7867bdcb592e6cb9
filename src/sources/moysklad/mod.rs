//! MoySklad, over its JSON API 1.2: what is in stock, and which product is which SKU.
//!
//! The short stock report names products by their ids alone, so the assortment is read with it.
//! One request at a time, and none sooner than the service's strictest limit lets us.
//!
//! Source: the service's own documentation, `moysklad/api-remap-1.2-doc`, state of 2026, for
//! the report "current stock", the assortment, the limits and the errors.

mod call;
mod read;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::Instant;

use self::read::{Catalogue, Report, read_page};
use super::row::{Entry, GivenUp, Reading, Rows};
use crate::http::secret::Secret;
use crate::http::{ClientConfig, Trust};
use crate::lifecycle::run_blocking;

/// Where the service is.
pub const BASE_URL: &str = "https://api.moysklad.ru/api/remap/1.2";

/// Most bytes of an answer as it comes, all of which are in memory.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Most bytes of a report unpacked, which is about two million rows by store. It is read as it
/// is unpacked, so of these only a row is in memory.
const MAX_REPORT_BYTES: usize = 256 * 1024 * 1024;

/// Most bytes of a page of the assortment unpacked: 64 kB for each product.
const MAX_PAGE_BYTES: usize = 64 * 1024 * 1024;

/// Most products on a page. Source: `limit` of the assortment, `1..=1000`.
const PAGE: usize = 1_000;

/// Most pages of the assortment: a million products.
const MAX_PAGES: usize = 1_000;

/// How long one request may take: the service makes large reports while we wait.
const DEADLINE: Duration = Duration::from_secs(180);

/// How often a request is made at most, the first time included. A user whose requests fail more
/// than 200 times a minute is locked out by the service.
const MAX_TRIES: u32 = 5;

/// How far changes overlap with those asked for before. Source: the report's `changedSince`,
/// which says that a small overlap saves what falls between two requests.
const OVERLAP: TimeDelta = TimeDelta::minutes(5);

/// How far back changes can be asked for: the service's 24 hours, less a minute for its clock.
const FURTHEST_BACK: TimeDelta = TimeDelta::minutes(24 * 60 - 1);

/// The service writes and reads times as Moscow's, which is three hours ahead all year round.
const MOSCOW: TimeDelta = TimeDelta::hours(3);

/// How we are let in.
#[derive(Clone, Debug)]
pub enum Access {
    /// By a token, as `Bearer`.
    Token(Secret),
    /// By a user's name and password, as `Basic`.
    Password {
        /// The name.
        login: String,
        /// The password.
        password: Secret,
    },
}

/// Which stores count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stores {
    /// All of them, added up by the service, reserves that belong to no store included.
    Total,
    /// These, by their ids, each as a place of its own.
    ///
    /// Reserves that belong to no store come as rows without one. They are left out: which of
    /// the stores they will be served from, nobody knows yet.
    Named(Vec<String>),
}

/// Which stock is told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StockType {
    /// What is there, less what is reserved.
    #[default]
    Free,
    /// What is there and what is on its way, less what is reserved.
    Available,
    /// What is there.
    Physical,
}

impl StockType {
    /// Its name on the wire, in the query and in the rows alike.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "freeStock",
            Self::Available => "quantity",
            Self::Physical => "stock",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Free, Self::Available, Self::Physical].into_iter().find(|it| it.name() == name)
    }
}

/// Which field of a product holds the SKU.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SkuField {
    /// The article. Variants of a product have none.
    #[default]
    Article,
    /// The code.
    Code,
    /// The external code.
    ExternalCode,
    /// The name.
    Name,
}

impl SkuField {
    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Article => "article",
            Self::Code => "code",
            Self::ExternalCode => "externalCode",
            Self::Name => "name",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let fields = [Self::Article, Self::Code, Self::ExternalCode, Self::Name];
        fields.into_iter().find(|it| it.name() == name)
    }
}

/// What is read, and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// What stands before `/entity` and `/report`; see [`BASE_URL`].
    pub base_url: String,
    /// How we are let in.
    pub access: Access,
    /// Which stores count.
    pub stores: Stores,
    /// Which stock is told.
    pub stock_type: StockType,
    /// Which field holds the SKU.
    pub sku_field: SkuField,
}

impl Config {
    /// The free stock of all stores, by article.
    #[must_use]
    pub fn new(access: Access) -> Self {
        Self {
            base_url: BASE_URL.to_owned(),
            access,
            stores: Stores::Total,
            stock_type: StockType::default(),
            sku_field: SkuField::default(),
        }
    }

    /// How a client must be made that is to wait for large reports.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        ClientConfig {
            read_timeout: DEADLINE,
            total_timeout: DEADLINE,
            trust: Trust::needed_for(&self.base_url),
            ..ClientConfig::default()
        }
    }
}

/// What became of a reading.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// Products whose SKU is told.
    pub articles: usize,
    /// Products without a SKU, and archived ones whose SKU a product in use has.
    pub nameless: usize,
    /// Rows of stock that were put.
    pub rows: usize,
    /// Rows of products without a SKU, and of no store, which are left out.
    pub left_out: usize,
    /// Products and rows that were set aside.
    pub faults: usize,
}

/// Why the service's stock could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MoySkladError {
    /// It does not let us in, or not to this.
    #[error("moysklad answered {status}, the token or the user may not do this: {said}")]
    Denied {
        /// The HTTP status.
        status: u16,
        /// What it says.
        said: String,
    },
    /// It found that we ask too much, each time we asked.
    #[error("moysklad limited a request {MAX_TRIES} times")]
    Limited,
    /// It answered with an error.
    #[error("moysklad answered {status}: {said}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it says.
        said: String,
    },
    /// No connection, or it broke.
    #[error("moysklad cannot be reached: {0}")]
    Unreachable(String),
    /// The answer is longer than we read.
    #[error("an answer of moysklad is longer than we read")]
    TooLarge,
    /// The answer is not what the documentation says.
    #[error("an answer of moysklad is broken: {0}")]
    Broken(String),
    /// The assortment has no end.
    #[error("the assortment of moysklad repeats itself or has more than {MAX_PAGES} pages")]
    Endless,
    /// Changes so long ago are not known any more: everything must be read.
    #[error("changes since {0} are asked for, moysklad knows those of 24 hours")]
    TooLongAgo(DateTime<Utc>),
    /// Nobody wants the rest.
    #[error(transparent)]
    GivenUp(#[from] GivenUp),
}

/// A seller's MoySklad.
#[derive(Debug)]
pub struct MoySklad {
    http: reqwest::Client,
    config: Config,
    /// Ids that were seen to stand for no SKU: the stock of these is nobody's business.
    nameless: Arc<HashSet<String>>,
    /// When the last request began.
    last: Option<Instant>,
}

impl MoySklad {
    /// Reads through a client that follows no redirects; see [`Config::client_config`].
    #[must_use]
    pub fn new(http: reqwest::Client, config: Config) -> Self {
        Self { http, config, nameless: Arc::default(), last: None }
    }

    /// Reads everything there is: first which product is which SKU, then all stock, zeros too.
    ///
    /// What it puts is a [`Scope::Snapshot`](super::Scope::Snapshot). Rows may come under ids no
    /// page told of, if the assortment changed while it was turned: an earlier delivery may have
    /// told of them, and leaving them out would make them zeros. If reading fails, what has been put already is half of a whole, and must not be taken.
    ///
    /// # Errors
    /// The service could not be read to the end, or nobody wants the rest.
    pub async fn full(
        &mut self,
        reading: &Reading,
        rows: &mut Rows,
    ) -> Result<Summary, MoySkladError> {
        let mut summary = Summary::default();
        self.assortment(&mut summary, rows).await?;
        self.stock("include=zeroLines", reading, &mut summary, rows).await?;
        rows.flush().await?;
        Ok(summary)
    }

    /// Reads the stock of what has changed since then, and in the five minutes before: a
    /// [`Scope::Delta`](super::Scope::Delta).
    ///
    /// Products that are new since the last [`MoySklad::full`] come under ids nobody was told
    /// of.
    ///
    /// # Errors
    /// It is too long ago, the service could not be read, or nobody wants the rest.
    pub async fn changes(
        &mut self,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
        reading: &Reading,
        rows: &mut Rows,
    ) -> Result<Summary, MoySkladError> {
        let query = changed_since(since, now)?;
        let mut summary = Summary::default();
        self.stock(&query, reading, &mut summary, rows).await?;
        rows.flush().await?;
        Ok(summary)
    }

    async fn assortment(
        &mut self,
        summary: &mut Summary,
        rows: &mut Rows,
    ) -> Result<(), MoySkladError> {
        let mut catalogue = Catalogue::default();
        for _ in 0..MAX_PAGES {
            // Archived products too: their stock is told, and must not come as a stranger's.
            let offset = catalogue.offset;
            let path = format!(
                "entity/assortment?limit={PAGE}&offset={offset}\
                 &filter=archived%3Dfalse%3Barchived%3Dtrue"
            );
            let body = self.get(&path).await?;
            let field = self.config.sku_field;
            let page = run_blocking(move || read_page(body.unpack(MAX_PAGE_BYTES)?, field)).await?;
            let is_last = catalogue.add(page)?;
            for entry in catalogue.take_entries() {
                summary.note(&entry);
                rows.put(entry).await?;
            }
            if is_last {
                for entry in catalogue.archived() {
                    summary.note(&entry);
                    rows.put(entry).await?;
                }
                summary.nameless = catalogue.nameless.len();
                self.nameless = Arc::new(catalogue.nameless);
                return Ok(());
            }
        }
        Err(MoySkladError::Endless)
    }

    async fn stock(
        &mut self,
        query: &str,
        reading: &Reading,
        summary: &mut Summary,
        rows: &mut Rows,
    ) -> Result<(), MoySkladError> {
        let name = self.config.stock_type.name();
        let path = match &self.config.stores {
            Stores::Total => format!("report/stock/all/current?stockType={name}&{query}"),
            Stores::Named(stores) => {
                let filter: Vec<_> = stores.iter().map(|id| format!("storeId={id}")).collect();
                let filter = escaped(&filter.join(";"));
                format!("report/stock/bystore/current?stockType={name}&{query}&filter={filter}")
            }
        };
        let body = self.get(&path).await?;
        let report = Report {
            stock_type: self.config.stock_type,
            stores: self.config.stores.clone(),
            nameless: Arc::clone(&self.nameless),
            reading: reading.clone(),
        };
        let (mut own, batches) = Rows::channel();
        let reading = run_blocking(move || {
            let left_out = report
                .read(body.unpack(MAX_REPORT_BYTES)?, &mut |entry| own.put_blocking(entry))?;
            own.flush_blocking()?;
            Ok::<usize, MoySkladError>(left_out)
        });
        let (noted, rows) = (&mut *summary, &mut *rows);
        let handing_on = async move {
            // Dropped as soon as nobody wants the rest, and then the thread that reads ends too.
            let mut batches = batches;
            while let Some(batch) = batches.recv().await {
                for entry in batch {
                    noted.note(&entry);
                    rows.put(entry).await?;
                }
            }
            Ok::<(), GivenUp>(())
        };
        let (read, handed) = future::join(reading, handing_on).await;
        handed?;
        summary.left_out += read?;
        Ok(())
    }
}

impl Summary {
    fn note(&mut self, entry: &Entry) {
        match entry {
            Entry::Row(_) => self.rows += 1,
            Entry::Article { .. } => self.articles += 1,
            Entry::Rejected(_) => self.faults += 1,
            Entry::NextPart | Entry::Suspicious(_) => {}
        }
    }
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn changed_since(since: DateTime<Utc>, now: DateTime<Utc>) -> Result<String, MoySkladError> {
    // The service refuses a moment of the future, which after a step of the clock it may be.
    let from = since.min(now) - OVERLAP;
    if now - from > FURTHEST_BACK {
        return Err(MoySkladError::TooLongAgo(since));
    }
    let moscow = (from + MOSCOW).format("%Y-%m-%d %H:%M:%S").to_string();
    Ok(format!("changedSince={}", escaped(&moscow)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Mutex;

    use axum::Router;
    use axum::extract::Request;
    use axum::http::StatusCode;
    use axum::response::{IntoResponse as _, Response};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use percent_encoding::percent_decode_str;
    use serde_json::json;

    use super::*;
    use crate::http::scripted::{Scripted, plain_client, serve};
    use crate::sources::row::{Key, Row};

    const ASSORTMENT: &str = include_str!("../../../fixtures/sources/moysklad-assortment.json");

    type Say = Arc<dyn Fn(usize, &str) -> Response + Send + Sync>;
    type Asked = Arc<Mutex<Vec<String>>>;

    /// A service that is told how often it was asked before and for what.
    async fn service(say: Say) -> (Scripted, Asked) {
        let asked = Asked::default();
        let noted = Arc::clone(&asked);
        let router = Router::new().fallback(async move |request: Request| {
            assert_eq!(request.headers()["accept-encoding"], "gzip");
            let access = request.headers()["authorization"].to_str().unwrap();
            assert!(["Bearer canary", "Basic YWRtaW46Y2FuYXJ5"].contains(&access), "{access}");
            let uri = request.uri().to_string();
            let uri = percent_decode_str(&uri).decode_utf8().unwrap().into_owned();
            let before = {
                let mut asked = noted.lock().unwrap();
                asked.push(uri.clone());
                asked.len() - 1
            };
            say(before, &uri)
        });
        (serve(router).await, asked)
    }

    fn gzip(body: &str) -> Response {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body.as_bytes()).unwrap();
        ([("content-encoding", "gzip")], encoder.finish().unwrap()).into_response()
    }

    fn moysklad(server: &Scripted, stores: Stores) -> MoySklad {
        let access = Access::Token(Secret::new("canary"));
        let base_url = format!("{}/api/", server.url);
        let config = Config { base_url, stores, ..Config::new(access) };
        MoySklad::new(plain_client(), config)
    }

    async fn full(moysklad: &mut MoySklad) -> (Result<Summary, MoySkladError>, Vec<Entry>) {
        let (mut rows, mut stage) = Rows::channel();
        let reading = Reading::default();
        let reader = async move { moysklad.full(&reading, &mut rows).await };
        let stage = async move {
            let mut all = Vec::new();
            while let Some(batch) = stage.recv().await {
                all.extend(batch);
            }
            all
        };
        future::join(reader, stage).await
    }

    fn two_pages(uri: &str) -> Response {
        let page = |id: &str, sku: &str| {
            let rows = json!([{ "id": id, "article": sku }]);
            gzip(&json!({ "meta": { "size": 2 }, "rows": rows }).to_string())
        };
        if uri.contains("/entity/assortment?limit=1000&offset=0&") {
            page("a", "SKU-A")
        } else if uri.contains("/entity/assortment?limit=1000&offset=1&") {
            page("b", "SKU-B")
        } else {
            gzip(r#"[{"assortmentId":"a","freeStock":4},{"assortmentId":"b","freeStock":0.0}]"#)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_the_assortment_page_by_page_and_then_the_stock() {
        let (server, asked) = service(Arc::new(|_, uri| two_pages(uri))).await;
        let before = Instant::now();
        let (summary, entries) = full(&mut moysklad(&server, Stores::Total)).await;
        assert_eq!(summary.unwrap(), Summary { articles: 2, rows: 2, ..Summary::default() });
        let article = |id: &str, sku: &str| Entry::Article { id: id.into(), sku: sku.into() };
        assert_eq!(entries[..2], [article("a", "SKU-A"), article("b", "SKU-B")]);
        let Entry::Row(Row { line: 1, key, place: None, quantity: Some(four), .. }) = &entries[2]
        else {
            panic!("{entries:?}")
        };
        assert_eq!((key, four.pieces()), (&Key::Id("a".to_owned()), 4));
        let archived = "filter=archived=false;archived=true";
        assert_eq!(
            *asked.lock().unwrap(),
            [
                format!("/api/entity/assortment?limit=1000&offset=0&{archived}"),
                format!("/api/entity/assortment?limit=1000&offset=1&{archived}"),
                "/api/report/stock/all/current?stockType=freeStock&include=zeroLines".to_owned(),
            ]
        );
        // Two pauses, so that three requests never are 11 in 3 seconds.
        assert!(before.elapsed() >= 2 * Duration::from_millis(300));
    }

    #[tokio::test(start_paused = true)]
    async fn named_stores_are_asked_for_by_their_ids_and_nameless_products_left_out() {
        let (server, asked) = service(Arc::new(|_, uri| {
            if uri.contains("assortment") {
                return gzip(ASSORTMENT);
            }
            let row = |id: &str, store: Option<&str>| {
                json!({ "assortmentId": id, "storeId": store, "stock": 3 })
            };
            gzip(
                &json!([
                    row("archived-and-alone", Some("s1")),
                    row("archived-and-alone", None),
                    row("a-service", Some("s2")),
                    row("unheard-of", Some("s2")),
                ])
                .to_string(),
            )
        }))
        .await;
        let mut moysklad = moysklad(&server, Stores::Named(vec!["s1".to_owned(), "s2".to_owned()]));
        moysklad.config.stock_type = StockType::Physical;
        moysklad.config.access =
            Access::Password { login: "admin".to_owned(), password: Secret::new("canary") };
        let (summary, entries) = full(&mut moysklad).await;
        let expected = Summary { articles: 3, nameless: 3, rows: 2, left_out: 2, faults: 2 };
        assert_eq!(summary.unwrap(), expected);
        let rows: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Row(row) => Some((row.key.clone(), row.place.clone().unwrap())),
                Entry::Article { .. }
                | Entry::NextPart
                | Entry::Rejected(_)
                | Entry::Suspicious(_) => None,
            })
            .collect();
        let id = |id: &str| Key::Id(id.to_owned());
        // One that no page told of may be known from an earlier delivery.
        let expected = [(id("archived-and-alone"), "s1".into()), (id("unheard-of"), "s2".into())];
        assert_eq!(rows, expected);
        let filter = "&include=zeroLines&filter=storeId=s1;storeId=s2";
        let report = format!("/api/report/stock/bystore/current?stockType=stock{filter}");
        assert_eq!(asked.lock().unwrap()[1], report);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_waited_out_and_the_rest_goes_on() {
        let (server, asked) = service(Arc::new(|before, uri| match before {
            0 | 2 => {
                let fields = [("x-lognex-retry-after", "5000")];
                (StatusCode::TOO_MANY_REQUESTS, fields).into_response()
            }
            _ => two_pages(uri),
        }))
        .await;
        let before = Instant::now();
        let (summary, _) = full(&mut moysklad(&server, Stores::Total)).await;
        assert_eq!(summary.unwrap().rows, 2);
        assert_eq!(asked.lock().unwrap().len(), 5);
        assert_eq!(before.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_is_told_and_the_key_is_not() {
        let denied = include_str!("../../../fixtures/sources/moysklad-denied.json");
        let cases: [(Say, &str, usize); 5] = [
            (
                Arc::new(move |_, _| (StatusCode::UNAUTHORIZED, gzip(denied)).into_response()),
                "moysklad answered 401, the token or the user may not do this: Ошибка",
                1,
            ),
            (
                Arc::new(|_, _| StatusCode::TOO_MANY_REQUESTS.into_response()),
                "moysklad limited a request 5 times",
                5,
            ),
            (
                Arc::new(|_, _| {
                    let elsewhere = [("location", "https://elsewhere.example/")];
                    (StatusCode::PERMANENT_REDIRECT, elsewhere).into_response()
                }),
                "moysklad answered 308: no more is said",
                1,
            ),
            (
                Arc::new(|_, _| gzip(r#"{"meta":{"size":9},"rows":[{"id":"a","article":"A"}]}"#)),
                "the assortment of moysklad repeats itself",
                2,
            ),
            (
                Arc::new(|before, uri| match before {
                    2 => gzip(r#"[{"assortmentId":"a","freeStock":4}"#),
                    _ => two_pages(uri),
                }),
                "an answer of moysklad is broken: EOF",
                3,
            ),
        ];
        for (say, told, times) in cases {
            let (server, asked) = service(say).await;
            let (summary, _) = full(&mut moysklad(&server, Stores::Total)).await;
            let error = summary.unwrap_err();
            assert!(error.to_string().starts_with(told), "{error}, not {told}");
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
            assert_eq!(asked.lock().unwrap().len(), times, "{told}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_asked_for_with_an_overlap_in_moscows_time() {
        let (server, asked) = service(Arc::new(|_, uri| two_pages(uri))).await;
        let mut moysklad = moysklad(&server, Stores::Total);
        let (mut rows, mut stage) = Rows::channel();
        let since = "2026-11-22T20:59:30Z".parse().unwrap();
        let now = "2026-11-22T21:30:00Z".parse().unwrap();
        let reading = Reading::default();
        let summary = moysklad.changes(since, now, &reading, &mut rows).await.unwrap();
        assert_eq!((summary.rows, stage.recv().await.unwrap().len()), (2, 2));
        let query = "stockType=freeStock&changedSince=2026-11-22 23:54:30";
        assert_eq!(*asked.lock().unwrap(), [format!("/api/report/stock/all/current?{query}")]);
    }

    #[test]
    fn changes_are_known_for_a_day_and_never_asked_of_the_future() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let now = at("2026-11-22T12:00:00Z");
        let query = |since: &str| changed_since(at(since), now);
        assert_eq!(
            query("2026-11-21T12:06:00Z").unwrap(),
            "changedSince=2026%2D11%2D21%2015%3A01%3A00"
        );
        assert!(matches!(query("2026-11-21T12:05:59Z"), Err(MoySkladError::TooLongAgo(_))));
        assert_eq!(
            query("2027-01-01T00:00:00Z").unwrap(),
            "changedSince=2026%2D11%2D22%2014%3A55%3A00"
        );
    }

    #[tokio::test]
    async fn a_stage_that_gives_up_ends_the_reading() {
        let (server, _) = service(Arc::new(|_, uri| {
            if uri.contains("assortment") {
                return two_pages(uri);
            }
            let row = |n: u32| json!({ "assortmentId": n.to_string(), "freeStock": n });
            gzip(&json!((0..20_000).map(row).collect::<Vec<_>>()).to_string())
        }))
        .await;
        let (mut rows, mut stage) = Rows::channel();
        let mut moysklad = moysklad(&server, Stores::Total);
        let reading = Reading::default();
        let reader = moysklad.full(&reading, &mut rows);
        let stage = async move { stage.recv().await.unwrap().len() };
        let (read, first) = future::join(reader, stage).await;
        assert!(matches!(read, Err(MoySkladError::GivenUp(GivenUp))), "{read:?}");
        assert_eq!(first, 1_000);
    }

    #[test]
    fn the_key_is_not_printed() {
        let config = Config::new(Access::Token(Secret::new("canary")));
        assert!(!format!("{:?}", MoySklad::new(plain_client(), config)).contains("canary"));
    }
}
