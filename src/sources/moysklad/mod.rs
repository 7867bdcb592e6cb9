//! MoySklad, over its JSON API 1.2: what is in stock, and which product is which SKU.
//!
//! The short stock report names products by their ids alone, so the assortment is read with it.
//! One request at a time, and none sooner than the service's strictest limit lets us.
//!
//! Source: the service's own documentation, `moysklad/api-remap-1.2-doc`, state of 2026, for
//! the report "current stock", the assortment, the limits and the errors.

mod client;
#[cfg(fuzzing)]
pub mod fuzzing;
mod parse;
mod products;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::Instant;

use self::client::EncodedBody;
use self::parse::{AssortmentBuilder, ReportReader, parse_page};
use self::products::{ProductsWithoutSku, SkuProducts, StockWithoutSku};
use super::row::{DeliveryCancelled, DeliveryEntry, EntrySender, ReadSettings};
use crate::http::secret::Secret;
use crate::http::{ClientConfig, Trust};
use crate::lifecycle::run_blocking;

/// Where the service is.
pub const BASE_URL: &str = "https://api.moysklad.ru/api/remap/1.2";

/// Most bytes of an answer as it comes, all of which are in memory.
const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;

/// Most bytes of a report unpacked, which is about two million rows by store. It is read as it
/// is unpacked, so of these only a row is in memory.
const MAX_REPORT_BYTES: usize = 256 * 1024 * 1024;

/// Most bytes of a page of the assortment unpacked: 64 kB for each product.
const MAX_PAGE_BYTES: usize = 64 * 1024 * 1024;

/// Most products on a page. Source: `limit` of the assortment, `1..=1000`.
const PAGE_SIZE: usize = 1_000;

/// Most pages of the assortment: a million products.
const MAX_PAGES: usize = 1_000;

/// Products that are asked for by their ids because the report left them out: at most so many, for
/// many more were never in an operation.
const MAX_REREQUESTED_IDS: usize = 1_000;

/// Ids in one request: 36 characters each.
const IDS_PER_REQUEST: usize = 100;

/// How long one request may take: the service makes large reports while we wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(180);

/// How often a request is made at most, the first time included. A user whose requests fail more
/// than 200 times a minute is locked out by the service.
const MAX_TRIES: u32 = 5;

/// How far changes overlap with those asked for before. Source: the report's `changedSince`,
/// which says that a small overlap saves what falls between two requests.
const CHANGES_OVERLAP: TimeDelta = TimeDelta::minutes(5);

/// How far back changes can be asked for: the service's 24 hours, less a minute for its clock.
const MAX_CHANGES_AGE: TimeDelta = TimeDelta::minutes(24 * 60 - 1);

/// The service writes and reads times as Moscow's, which is three hours ahead all year round.
const MOSCOW_OFFSET: TimeDelta = TimeDelta::hours(3);

/// How we are let in.
#[derive(Clone, Debug)]
pub enum MoySkladCredentials {
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
pub enum StoreSelection {
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
        [Self::Free, Self::Available, Self::Physical]
            .into_iter()
            .find(|it| it.name() == name)
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
    pub credentials: MoySkladCredentials,
    /// Which stores count.
    pub stores: StoreSelection,
    /// Which stock is told.
    pub stock_type: StockType,
    /// Which field holds the SKU.
    pub sku_field: SkuField,
}

impl Config {
    /// The free stock of all stores, by article.
    #[must_use]
    pub fn new(credentials: MoySkladCredentials) -> Self {
        Self {
            base_url: BASE_URL.to_owned(),
            credentials,
            stores: StoreSelection::Total,
            stock_type: StockType::default(),
            sku_field: SkuField::default(),
        }
    }

    /// How a client must be made that is to wait for large reports.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        ClientConfig {
            read_timeout: REQUEST_TIMEOUT,
            total_timeout: REQUEST_TIMEOUT,
            trust: Trust::needed_for(&self.base_url),
            ..ClientConfig::default()
        }
    }
}

/// What became of a reading.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MoySkladSummary {
    /// Products whose SKU is told.
    pub products: usize,
    /// Products without a SKU, and archived ones whose SKU a product in use has.
    pub without_sku: usize,
    /// Rows of stock that were put.
    pub rows: usize,
    /// Rows of products without a SKU, and of no store, which are left out.
    pub ignored_rows: usize,
    /// Products and rows that were set aside.
    pub rejected: usize,
    /// Products in use of which the report has no number: they stay as they were.
    pub unreported: usize,
    /// What the operator should know.
    pub notices: Vec<String>,
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
    RateLimited,
    /// It answered with an error.
    #[error("moysklad answered {status}: {said}")]
    ErrorStatus {
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
    InvalidResponse(String),
    /// The assortment has no end.
    #[error("the assortment of moysklad repeats itself or has more than {MAX_PAGES} pages")]
    EndlessAssortment,
    /// The report is empty, or has no number that can be read.
    #[error(
        "the report of moysklad states no stock of any of {products} products with {field}: it \
         leaves out what is being recalculated, and what the user may not see"
    )]
    NoStock {
        /// How many products in use have a SKU.
        products: usize,
        /// The field that holds it.
        field: &'static str,
    },
    /// Changes so long ago are not known any more: everything must be read.
    #[error("changes since {0} are asked for, moysklad knows those of 24 hours")]
    ChangesTooOld(DateTime<Utc>),
    /// Nobody wants the rest.
    #[error(transparent)]
    Cancelled(#[from] DeliveryCancelled),
}

/// A seller's MoySklad.
#[derive(Debug)]
pub struct MoySklad {
    http: reqwest::Client,
    config: Config,
    /// What the assortment has without a SKU; `None` until it was read.
    without_sku: Option<Arc<ProductsWithoutSku>>,
    /// Products whose parts without a SKU hold stock.
    stock_without_sku: Arc<StockWithoutSku>,
    /// Products of which no accepted delivery had a number.
    missing: SkuProducts,
    /// What `missing` is once the last delivery is accepted.
    missing_once_accepted: SkuProducts,
    /// When the last request began.
    last_request_at: Option<Instant>,
}

impl MoySklad {
    /// Reads through a client that follows no redirects; see [`Config::client_config`].
    #[must_use]
    pub fn new(http: reqwest::Client, config: Config) -> Self {
        let (missing, missing_once_accepted) = (SkuProducts::default(), SkuProducts::default());
        Self {
            http,
            config,
            without_sku: None,
            stock_without_sku: Arc::default(),
            missing,
            missing_once_accepted,
            last_request_at: None,
        }
    }

    /// Notes that what was read last is taken: products that it had a number of are not asked for
    /// again.
    pub fn mark_accepted(&mut self) {
        self.missing = std::mem::take(&mut self.missing_once_accepted);
    }

    /// Reads everything there is: first which product is which SKU, then all stock, zeros too.
    ///
    /// What it puts is a [`Scope::Snapshot`](super::Scope::Snapshot). Rows may come under ids no
    /// page told of, if the assortment changed while it was turned: an earlier delivery may have
    /// told of them, and leaving them out would make them zeros. If reading fails, what has been put already is half of a whole, and must not be taken.
    ///
    /// The report leaves out what is being recalculated. So a product that is in use and not in the
    /// report is asked for by its id, and if it has no number then either, it is put without one:
    /// it is not absent. An archived product that the report leaves out is absent.
    ///
    /// # Errors
    /// The service could not be read to the end, states no stock at all, or nobody wants the rest.
    pub async fn read_snapshot(
        &mut self,
        settings: &ReadSettings,
        rows: &mut EntrySender,
    ) -> Result<MoySkladSummary, MoySkladError> {
        let mut summary = MoySkladSummary::default();
        let mut sku_products = self
            .read_assortment(settings, true, &mut summary, rows)
            .await?;
        let report = self.report_reader(settings);
        let body = self
            .get(&self.report_path("include=zeroLines", &[]))
            .await?;
        self.stock_without_sku = Arc::new(self.read_stock_without_sku(&report, &body).await?);
        let report = ReportReader {
            stock_without_sku: Arc::clone(&self.stock_without_sku),
            ..report
        };
        summary.ignored_rows =
            forward_report(report, body, &mut sku_products, &mut summary, rows).await?;
        let missing = sku_products.missing();
        if !sku_products.has_reported_stock() && !missing.ids.is_empty() {
            let (products, field) = (missing.ids.len(), self.config.sku_field.name());
            return Err(MoySkladError::NoStock { products, field });
        }
        let requested_ids = if missing.ids.len() > MAX_REREQUESTED_IDS {
            &[][..]
        } else {
            &missing.ids
        };
        self.request_by_id(
            requested_ids,
            settings,
            &mut sku_products,
            &mut summary,
            rows,
        )
        .await?;
        let stores = match &self.config.stores {
            StoreSelection::Total => &[][..],
            StoreSelection::Named(stores) => stores,
        };
        let unreported_entries: Vec<DeliveryEntry> = sku_products
            .unreported_entries(stores)
            .chain(self.stock_without_sku.entries_without_row(&sku_products))
            .collect();
        for entry in unreported_entries {
            summary.count(&entry);
            rows.send(entry).await?;
        }
        let still_missing = sku_products.missing();
        summary.notices.extend(self.stock_without_sku.notice());
        summary.notices.extend(kits_notice(still_missing.kits));
        summary
            .notices
            .extend(missing_notice(still_missing.ids.len()));
        let requested_ids = if still_missing.ids.len() > MAX_REREQUESTED_IDS {
            &[][..]
        } else {
            &still_missing.ids
        };
        self.missing_once_accepted = sku_products.select(requested_ids);
        rows.flush().await?;
        Ok(summary)
    }

    /// Reads the stock of what has changed since then, and in the five minutes before, and of what
    /// the last whole report had no number of: a [`Scope::Delta`](super::Scope::Delta).
    ///
    /// If the assortment was not read yet, it is now: what a row of stock means depends on it.
    /// Products that are new since the last [`MoySklad::full`] come under ids nobody was told
    /// of.
    ///
    /// # Errors
    /// It is too long ago, the service could not be read, or nobody wants the rest.
    pub async fn read_changes(
        &mut self,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
        settings: &ReadSettings,
        rows: &mut EntrySender,
    ) -> Result<MoySkladSummary, MoySkladError> {
        let query = changed_since_query(since, now)?;
        let mut summary = MoySkladSummary::default();
        let mut products = SkuProducts::default();
        if self.without_sku.is_none() {
            // What is wrong with the assortment is told with the whole of it.
            products = self
                .read_assortment(settings, false, &mut summary, rows)
                .await?;
            let has_parents = self
                .without_sku
                .as_ref()
                .is_some_and(|parts| parts.has_parents());
            if has_parents {
                let body = self.get(&self.report_path("", &[])).await?;
                self.stock_without_sku = Arc::new(
                    self.read_stock_without_sku(&self.report_reader(settings), &body)
                        .await?,
                );
            }
        }
        let mut missing = self.missing.clone();
        let ids = missing.ids();
        self.request_by_id(&ids, settings, &mut missing, &mut summary, rows)
            .await?;
        self.missing_once_accepted = missing.into_missing();
        // Of two numbers of one product that which was asked for later holds.
        rows.send(DeliveryEntry::PartBoundary).await?;
        let report = self.report_reader(settings);
        let body = self.get(&self.report_path(&query, &[])).await?;
        let newly_found = self.read_stock_without_sku(&report, &body).await?;
        let mut merged = StockWithoutSku::clone(&self.stock_without_sku);
        merged.merge(newly_found);
        self.stock_without_sku = Arc::new(merged);
        let report = ReportReader {
            stock_without_sku: Arc::clone(&self.stock_without_sku),
            ..report
        };
        summary.ignored_rows =
            forward_report(report, body, &mut products, &mut summary, rows).await?;
        rows.flush().await?;
        Ok(summary)
    }

    /// Reads the assortment page by page: which product is which SKU.
    async fn read_assortment(
        &mut self,
        settings: &ReadSettings,
        reports_problems: bool,
        summary: &mut MoySkladSummary,
        rows: &mut EntrySender,
    ) -> Result<SkuProducts, MoySkladError> {
        let mut builder = AssortmentBuilder::default();
        for _ in 0..MAX_PAGES {
            // Archived products too: their stock is told, and must not come as a stranger's.
            let offset = builder.offset;
            let path = format!(
                "entity/assortment?limit={PAGE_SIZE}&offset={offset}\
                 &filter=archived%3Dfalse%3Barchived%3Dtrue"
            );
            let body = self.get(&path).await?;
            let (field, page_settings) = (self.config.sku_field, settings.clone());
            let read = move || parse_page(body.decode(MAX_PAGE_BYTES)?, field, &page_settings);
            let page = run_blocking(read).await?;
            let is_last = builder.add_page(page)?;
            let mut entries = builder.take_entries();
            if is_last {
                entries.extend(builder.archived_entries());
            }
            for entry in entries {
                if reports_problems || matches!(entry, DeliveryEntry::Article { .. }) {
                    summary.count(&entry);
                    rows.send(entry).await?;
                }
            }
            if is_last {
                let (products, without_sku) = builder.finish();
                summary.without_sku = without_sku.ids.len();
                self.without_sku = Some(Arc::new(without_sku));
                return Ok(products);
            }
        }
        Err(MoySkladError::EndlessAssortment)
    }

    fn report_reader(&self, settings: &ReadSettings) -> ReportReader {
        let stock = (self.config.stock_type, self.config.stores.clone());
        ReportReader::new(
            stock,
            self.without_sku.clone().unwrap_or_default(),
            settings,
        )
    }

    /// The path of a report, about these products only if there are any.
    fn report_path(&self, query: &str, ids: &[String]) -> String {
        let name = self.config.stock_type.name();
        let products: Vec<_> = ids.iter().map(|id| format!("assortmentId={id}")).collect();
        let (report, more, stores) = match &self.config.stores {
            StoreSelection::Total => ("all", "", Vec::new()),
            StoreSelection::Named(stores) => {
                let filter = stores.iter().map(|id| format!("storeId={id}")).collect();
                // Only this report can list what is being recalculated, with null for its stock.
                ("bystore", "&withRecalculate=true", filter)
            }
        };
        let query = if query.is_empty() {
            String::new()
        } else {
            format!("&{query}")
        };
        let mut path = format!("report/stock/{report}/current?stockType={name}{query}{more}");
        let filter = [stores, products].concat().join(";");
        if !filter.is_empty() {
            path.push_str("&filter=");
            path.push_str(&percent_encode(&filter));
        }
        path
    }

    /// Reads a report for what has no SKU.
    async fn read_stock_without_sku(
        &self,
        report: &ReportReader,
        body: &EncodedBody,
    ) -> Result<StockWithoutSku, MoySkladError> {
        let mut stock = StockWithoutSku::new(self.config.sku_field);
        if report.without_sku.in_use.is_empty() {
            return Ok(stock);
        }
        let (report, body) = (report.clone(), body.clone());
        run_blocking(move || {
            report.collect_stock_without_sku(body.decode(MAX_REPORT_BYTES)?, &mut stock)?;
            Ok(stock)
        })
        .await
    }

    /// Requests the stock of these products by id. A failed request is noted in `summary`; its
    /// products stay without a number.
    ///
    /// # Errors
    /// The delivery was given up.
    async fn request_by_id(
        &mut self,
        ids: &[String],
        settings: &ReadSettings,
        products: &mut SkuProducts,
        summary: &mut MoySkladSummary,
        rows: &mut EntrySender,
    ) -> Result<(), DeliveryCancelled> {
        for (chunk_index, chunk) in ids.chunks(IDS_PER_REQUEST).enumerate() {
            match self.read_by_id(chunk, settings, products).await {
                Ok(entries) => {
                    for entry in entries {
                        summary.count(&entry);
                        rows.send(entry).await?;
                    }
                }
                Err(MoySkladError::Cancelled(cancelled)) => return Err(cancelled),
                Err(error) => {
                    // Of a response that is cut nothing is used, so nothing of it is noted either.
                    products.unmark(chunk);
                    summary.notices.push(format!(
                        "moysklad did not answer about {} products that its report leaves out: \
                         {error}: they keep their stock and are asked for with the next reading",
                        ids.len() - chunk_index * IDS_PER_REQUEST
                    ));
                    break;
                }
            }
        }
        Ok(())
    }

    /// Reads what a report about these products states, all of it or nothing.
    async fn read_by_id(
        &mut self,
        ids: &[String],
        settings: &ReadSettings,
        products: &mut SkuProducts,
    ) -> Result<Vec<DeliveryEntry>, MoySkladError> {
        let body = self
            .get(&self.report_path("include=zeroLines", ids))
            .await?;
        let report = ReportReader {
            stock_without_sku: Arc::clone(&self.stock_without_sku),
            only_ids: Some(ids.iter().cloned().collect()),
            ..self.report_reader(settings)
        };
        let mut read_products = std::mem::take(products);
        let (read_products, result) = run_blocking(move || {
            let mut entries = Vec::new();
            let mut put = |entry| {
                entries.push(entry);
                Ok(())
            };
            let result = body
                .decode(MAX_REPORT_BYTES)
                .and_then(|body| report.read(body, &mut read_products, &mut put));
            (read_products, result.map(|_left_out| entries))
        })
        .await;
        *products = read_products;
        result
    }
}

/// Reads a report in a thread, and hands on what it says; returns how many rows were left out.
async fn forward_report(
    report: ReportReader,
    body: EncodedBody,
    products: &mut SkuProducts,
    summary: &mut MoySkladSummary,
    rows: &mut EntrySender,
) -> Result<usize, MoySkladError> {
    let (mut sender, receiver) = EntrySender::channel();
    let mut read_products = std::mem::take(products);
    let parsing = run_blocking(move || {
        let result = body.decode(MAX_REPORT_BYTES).and_then(|body| {
            report.read(body, &mut read_products, &mut |entry| {
                sender.send_blocking(entry)
            })
        });
        let result = result.and_then(|left_out| {
            sender.flush_blocking()?;
            Ok(left_out)
        });
        (read_products, result)
    });
    let forwarding = async move {
        // Dropped as soon as nobody wants the rest, and then the thread that reads ends too.
        let mut receiver = receiver;
        while let Some(batch) = receiver.recv().await {
            for entry in batch {
                summary.count(&entry);
                rows.send(entry).await?;
            }
        }
        Ok::<(), DeliveryCancelled>(())
    };
    let ((read_products, result), forwarded) = future::join(parsing, forwarding).await;
    *products = read_products;
    forwarded?;
    result
}

fn kits_notice(kits: usize) -> Option<String> {
    (kits > 0).then(|| {
        format!(
            "{kits} kits have a SKU, and the report of moysklad states no stock of kits: they stay \
             as they were"
        )
    })
}

fn missing_notice(missing: usize) -> Option<String> {
    (missing > 0).then(|| {
        format!(
            "{missing} products are in the assortment and not in the report, which leaves out what \
             is being recalculated or was never in an operation: they stay as they were"
        )
    })
}

impl MoySkladSummary {
    fn count(&mut self, entry: &DeliveryEntry) {
        match entry {
            DeliveryEntry::Row(row) if row.quantity.is_none() => self.unreported += 1,
            DeliveryEntry::Row(_) => self.rows += 1,
            DeliveryEntry::Article { .. } => self.products += 1,
            DeliveryEntry::Rejected(_) | DeliveryEntry::Suspicious(_) => self.rejected += 1,
            DeliveryEntry::PartBoundary => {}
        }
    }
}

fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn changed_since_query(since: DateTime<Utc>, now: DateTime<Utc>) -> Result<String, MoySkladError> {
    // The service refuses a moment of the future, which after a step of the clock it may be.
    let from = since.min(now) - CHANGES_OVERLAP;
    if now - from > MAX_CHANGES_AGE {
        return Err(MoySkladError::ChangesTooOld(since));
    }
    let moscow = (from + MOSCOW_OFFSET)
        .format("%Y-%m-%d %H:%M:%S")
        .to_string();
    Ok(format!("changedSince={}", percent_encode(&moscow)))
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
    use crate::http::test_server::{TestServer, plain_client, serve};
    use crate::sources::row::{ProductKey, Row};

    const ASSORTMENT: &str = include_str!("../../../fixtures/sources/moysklad-assortment.json");

    type ServiceResponder = Arc<dyn Fn(usize, &str) -> Response + Send + Sync>;
    type RequestedUris = Arc<Mutex<Vec<String>>>;

    /// A service that is told how often it was asked before and for what.
    async fn scripted_service(respond: ServiceResponder) -> (TestServer, RequestedUris) {
        let requested = RequestedUris::default();
        let recorded = Arc::clone(&requested);
        let router = Router::new().fallback(async move |request: Request| {
            assert_eq!(request.headers()["accept-encoding"], "gzip");
            let authorization = request.headers()["authorization"].to_str().unwrap();
            assert!(
                ["Bearer canary", "Basic YWRtaW46Y2FuYXJ5"].contains(&authorization),
                "{authorization}"
            );
            let uri = request.uri().to_string();
            let uri = percent_decode_str(&uri).decode_utf8().unwrap().into_owned();
            let earlier = {
                let mut requested = recorded.lock().unwrap();
                requested.push(uri.clone());
                requested.len() - 1
            };
            respond(earlier, &uri)
        });
        (serve(router).await, requested)
    }

    fn gzip(body: &str) -> Response {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body.as_bytes()).unwrap();
        ([("content-encoding", "gzip")], encoder.finish().unwrap()).into_response()
    }

    fn moysklad(server: &TestServer, stores: StoreSelection) -> MoySklad {
        let credentials = MoySkladCredentials::Token(Secret::new("canary"));
        let base_url = format!("{}/api/", server.url);
        let config = Config {
            base_url,
            stores,
            ..Config::new(credentials)
        };
        MoySklad::new(plain_client(), config)
    }

    async fn read_snapshot_entries(
        moysklad: &mut MoySklad,
    ) -> (Result<MoySkladSummary, MoySkladError>, Vec<DeliveryEntry>) {
        let (mut rows, mut receiver) = EntrySender::channel();
        let settings = ReadSettings::default();
        let reader = async move { moysklad.read_snapshot(&settings, &mut rows).await };
        let collecting = async move {
            let mut all = Vec::new();
            while let Some(batch) = receiver.recv().await {
                all.extend(batch);
            }
            all
        };
        future::join(reader, collecting).await
    }

    fn respond_with_two_pages(uri: &str) -> Response {
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
        let (server, requested) =
            scripted_service(Arc::new(|_, uri| respond_with_two_pages(uri))).await;
        let before = Instant::now();
        let (summary, entries) =
            read_snapshot_entries(&mut moysklad(&server, StoreSelection::Total)).await;
        assert_eq!(
            summary.unwrap(),
            MoySkladSummary {
                products: 2,
                rows: 2,
                ..MoySkladSummary::default()
            }
        );
        let article = |id: &str, sku: &str| DeliveryEntry::Article {
            id: id.into(),
            sku: sku.into(),
        };
        assert_eq!(entries[..2], [article("a", "SKU-A"), article("b", "SKU-B")]);
        let DeliveryEntry::Row(Row {
            line: 1,
            key,
            warehouse: None,
            quantity: Some(four),
            ..
        }) = &entries[2]
        else {
            panic!("{entries:?}")
        };
        assert_eq!((key, four.pieces()), (&ProductKey::Id("a".to_owned()), 4));
        let archived = "filter=archived=false;archived=true";
        assert_eq!(
            *requested.lock().unwrap(),
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
        let (server, requested) = scripted_service(Arc::new(|_, uri| {
            if uri.contains("/entity/assortment") {
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
        let mut moysklad = moysklad(
            &server,
            StoreSelection::Named(vec!["s1".to_owned(), "s2".to_owned()]),
        );
        moysklad.config.stock_type = StockType::Physical;
        moysklad.config.credentials = MoySkladCredentials::Password {
            login: "admin".to_owned(),
            password: Secret::new("canary"),
        };
        let (summary, entries) = read_snapshot_entries(&mut moysklad).await;
        let summary = summary.unwrap();
        let counts = (
            summary.products,
            summary.without_sku,
            summary.rows,
            summary.ignored_rows,
        );
        assert_eq!((counts, summary.rejected), ((3, 3, 2, 2), 2));
        // The kettle and the rope are in use and not in the report.
        assert_eq!(summary.unreported, 2);
        let rows: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry {
                DeliveryEntry::Row(row) if row.quantity.is_some() => {
                    Some((row.key.clone(), row.warehouse.clone().unwrap()))
                }
                DeliveryEntry::Row(_)
                | DeliveryEntry::Article { .. }
                | DeliveryEntry::PartBoundary
                | DeliveryEntry::Rejected(_)
                | DeliveryEntry::Suspicious(_) => None,
            })
            .collect();
        let id = |id: &str| ProductKey::Id(id.to_owned());
        // One that no page told of may be known from an earlier delivery.
        let expected = [
            (id("archived-and-alone"), "s1".into()),
            (id("unheard-of"), "s2".into()),
        ];
        assert_eq!(rows, expected);
        let filter = "&include=zeroLines&withRecalculate=true&filter=storeId=s1;storeId=s2";
        let report = format!("/api/report/stock/bystore/current?stockType=stock{filter}");
        let ids = [
            "12345678-279c-aaeb-0a80-00d6001f847c",
            "12345678-5838-aaeb-0a80-003a003ef439",
        ];
        let rerequest = format!("{report};assortmentId={};assortmentId={}", ids[0], ids[1]);
        assert_eq!(requested.lock().unwrap()[1..], [report, rerequest]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_waited_out_and_the_rest_goes_on() {
        let (server, requested) = scripted_service(Arc::new(|before, uri| match before {
            0 | 2 => {
                let fields = [("x-lognex-retry-after", "5000")];
                (StatusCode::TOO_MANY_REQUESTS, fields).into_response()
            }
            _ => respond_with_two_pages(uri),
        }))
        .await;
        let before = Instant::now();
        let (summary, _) =
            read_snapshot_entries(&mut moysklad(&server, StoreSelection::Total)).await;
        assert_eq!(summary.unwrap().rows, 2);
        assert_eq!(requested.lock().unwrap().len(), 5);
        assert_eq!(before.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_is_told_and_the_key_is_not() {
        let denied = include_str!("../../../fixtures/sources/moysklad-denied.json");
        let cases: [(ServiceResponder, &str, usize); 5] = [
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
                    _ => respond_with_two_pages(uri),
                }),
                "an answer of moysklad is broken: EOF",
                3,
            ),
        ];
        for (respond, reason, times) in cases {
            let (server, requested) = scripted_service(respond).await;
            let (summary, _) =
                read_snapshot_entries(&mut moysklad(&server, StoreSelection::Total)).await;
            let error = summary.unwrap_err();
            assert!(
                error.to_string().starts_with(reason),
                "{error}, not {reason}"
            );
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
            assert_eq!(requested.lock().unwrap().len(), times, "{reason}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_asked_for_with_an_overlap_in_moscows_time() {
        let (server, requested) =
            scripted_service(Arc::new(|_, uri| respond_with_two_pages(uri))).await;
        let mut moysklad = moysklad(&server, StoreSelection::Total);
        read_snapshot_entries(&mut moysklad).await.0.unwrap();
        let (summary, entries) = read_changes_entries(&mut moysklad).await;
        assert_eq!((summary.unwrap().rows, entries.len()), (2, 2));
        let query = "stockType=freeStock&changedSince=2026-11-22 23:54:30";
        let requested = requested.lock().unwrap();
        assert_eq!(
            requested[3..],
            [format!("/api/report/stock/all/current?{query}")]
        );
    }

    async fn read_changes_entries(
        moysklad: &mut MoySklad,
    ) -> (Result<MoySkladSummary, MoySkladError>, Vec<DeliveryEntry>) {
        let (mut rows, mut receiver) = EntrySender::channel();
        let reader = async move {
            let since = "2026-11-22T20:59:30Z".parse().unwrap();
            let now = "2026-11-22T21:30:00Z".parse().unwrap();
            moysklad
                .read_changes(since, now, &ReadSettings::default(), &mut rows)
                .await
        };
        let collecting = async move {
            let mut all = Vec::new();
            while let Some(batch) = receiver.recv().await {
                all.extend(
                    batch
                        .into_iter()
                        .filter(|entry| *entry != DeliveryEntry::PartBoundary),
                );
            }
            all
        };
        future::join(reader, collecting).await
    }

    /// A service with these products, and these reports, one after the other.
    fn scripted_reports(products: &serde_json::Value, reports: &[&str]) -> ServiceResponder {
        let page =
            json!({ "meta": { "size": products.as_array().unwrap().len() }, "rows": products });
        let (page, reports) = (
            page.to_string(),
            Mutex::new(
                reports
                    .iter()
                    .rev()
                    .map(|it| (*it).to_owned())
                    .collect::<Vec<_>>(),
            ),
        );
        Arc::new(move |_, uri| {
            if uri.contains("/entity/assortment") {
                return gzip(&page);
            }
            gzip(
                &reports
                    .lock()
                    .unwrap()
                    .pop()
                    .expect("no more reports were expected"),
            )
        })
    }

    /// Each row of stock: the id, and the quantity if it has one.
    fn stock_rows(entries: &[DeliveryEntry]) -> Vec<(String, Option<String>)> {
        let row = |entry: &DeliveryEntry| match entry {
            DeliveryEntry::Row(Row {
                key: ProductKey::Id(id),
                quantity,
                ..
            }) => Some((id.clone(), quantity.map(|quantity| quantity.to_string()))),
            _other => None,
        };
        let mut rows: Vec<_> = entries.iter().filter_map(row).collect();
        rows.sort();
        rows
    }

    fn stock_row(id: &str, quantity: Option<&str>) -> (String, Option<String>) {
        (id.to_owned(), quantity.map(str::to_owned))
    }

    #[tokio::test(start_paused = true)]
    async fn a_product_that_the_report_leaves_out_is_there_without_a_number() {
        let products = json!([
            { "id": "a", "article": "A" },
            { "id": "b", "article": "B" },
            { "id": "c", "article": "C" },
            { "id": "old", "article": "OLD", "archived": true },
            { "id": "s", "article": "S", "meta": { "type": "service" } },
        ]);
        let reports = [
            r#"[{"assortmentId":"a","freeStock":4}]"#,
            // Asked for by their ids, one of them is calculated.
            r#"[{"assortmentId":"b","freeStock":7}]"#,
        ];
        let (server, requested) = scripted_service(scripted_reports(&products, &reports)).await;
        let mut moysklad = moysklad(&server, StoreSelection::Total);
        let (summary, entries) = read_snapshot_entries(&mut moysklad).await;
        let summary = summary.unwrap();
        let expected = [
            stock_row("a", Some("4")),
            stock_row("b", Some("7")),
            stock_row("c", None),
            stock_row("s", None),
        ];
        assert_eq!(stock_rows(&entries), expected);
        assert_eq!(summary.unreported, 2);
        assert!(
            summary.notices[0].starts_with("1 products are in the assortment"),
            "{summary:?}"
        );
        let last = requested.lock().unwrap().pop().unwrap();
        let filter = "include=zeroLines&filter=assortmentId=b;assortmentId=c";
        assert!(last.ends_with(filter), "{last}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_by_id_that_is_cut_states_nothing() {
        let products = json!([
            { "id": "a", "article": "A" },
            { "id": "b", "article": "B" },
            { "id": "c", "article": "C" },
        ]);
        let cut = r#"[{"assortmentId":"b","freeStock":5},{"asso"#;
        let reports = [r#"[{"assortmentId":"a","freeStock":4}]"#, cut];
        let (server, _) = scripted_service(scripted_reports(&products, &reports)).await;
        let mut moysklad = moysklad(&server, StoreSelection::Total);
        let (summary, entries) = read_snapshot_entries(&mut moysklad).await;
        // Both are there without a number, so neither is absent.
        let expected = [
            stock_row("a", Some("4")),
            stock_row("b", None),
            stock_row("c", None),
        ];
        assert_eq!(stock_rows(&entries), expected);
        let notices = summary.unwrap().notices;
        let prefix = "moysklad did not answer about 2 products that its report leaves out";
        assert!(
            notices.iter().any(|notice| notice.starts_with(prefix)),
            "{notices:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_left_out_is_asked_for_until_its_number_is_accepted() {
        let products = json!([{ "id": "a", "article": "A" }, { "id": "b", "article": "B" }]);
        let number = r#"[{"assortmentId":"b","freeStock":7}]"#;
        let reports = [
            r#"[{"assortmentId":"a","freeStock":4}]"#,
            "[]",
            number,
            "[]",
            number,
            "[]",
        ];
        let (server, requested) = scripted_service(scripted_reports(&products, &reports)).await;
        let mut moysklad = moysklad(&server, StoreSelection::Total);
        read_snapshot_entries(&mut moysklad).await.0.unwrap();
        moysklad.mark_accepted();
        for _held in 0..2 {
            let (_, entries) = read_changes_entries(&mut moysklad).await;
            assert_eq!(stock_rows(&entries), [stock_row("b", Some("7"))]);
        }
        assert_eq!(requested.lock().unwrap().len(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_left_out_is_asked_for_with_the_changes() {
        let products = json!([{ "id": "a", "article": "A" }, { "id": "b", "article": "B" }]);
        let reports = [
            r#"[{"assortmentId":"a","freeStock":4}]"#,
            "[]",
            // With the changes.
            r#"[{"assortmentId":"b","freeStock":-2}]"#,
            r#"[{"assortmentId":"a","freeStock":3}]"#,
            // From then on it is not asked for any more.
            "[]",
        ];
        let (server, requested) = scripted_service(scripted_reports(&products, &reports)).await;
        let mut moysklad = moysklad(&server, StoreSelection::Total);
        read_snapshot_entries(&mut moysklad).await.0.unwrap();
        moysklad.mark_accepted();
        let (_, entries) = read_changes_entries(&mut moysklad).await;
        let [DeliveryEntry::Rejected(fault), DeliveryEntry::Row(_)] = entries.as_slice() else {
            panic!("{entries:?}")
        };
        assert_eq!(fault.sku.as_deref(), Some("B"));
        moysklad.mark_accepted();
        read_changes_entries(&mut moysklad).await.0.unwrap();
        assert_eq!(requested.lock().unwrap().len(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_being_recalculated_does_not_lose_its_number() {
        let products = json!([{ "id": "a", "article": "A" }, { "id": "b", "article": "B" }]);
        let row = |id: &str, store: &str, stock: serde_json::Value| json!({ "assortmentId": id, "storeId": store, "freeStock": stock });
        let report = json!([
            row("a", "s1", json!(4)),
            row("a", "s2", json!(null)),
            row("b", "s1", json!(0)),
            row("b", "s2", json!(6)),
        ]);
        let (server, _) =
            scripted_service(scripted_reports(&products, &[&report.to_string()])).await;
        let stores = StoreSelection::Named(["s1", "s2"].map(str::to_owned).to_vec());
        let (_, entries) = read_snapshot_entries(&mut moysklad(&server, stores)).await;
        let rows = entries.iter().filter_map(|entry| match entry {
            DeliveryEntry::Row(row) => Some((
                row.warehouse.clone().unwrap(),
                row.quantity.map(|it| it.pieces()),
            )),
            _other => None,
        });
        let rows: Vec<_> = rows.collect();
        let at = |store: &str, quantity| (store.to_owned(), quantity);
        let expected = [
            at("s1", Some(4)),
            at("s1", Some(0)),
            at("s2", Some(6)),
            at("s2", None),
        ];
        assert_eq!(rows, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_without_any_number_is_refused() {
        let products = json!([{ "id": "a", "article": "A" }, { "id": "b", "article": "B" }]);
        for report in ["[]", r#"[{"assortmentId":"a","freeStock":null}]"#] {
            let (server, _) = scripted_service(scripted_reports(&products, &[report])).await;
            let (result, _) =
                read_snapshot_entries(&mut moysklad(&server, StoreSelection::Total)).await;
            let error = result.unwrap_err().to_string();
            assert!(
                error.contains("no stock of any of 2 products with article"),
                "{error}"
            );
        }
        // Where no product has a SKU, the report has nothing to say.
        let nameless = json!([{ "id": "a" }]);
        let (server, _) = scripted_service(scripted_reports(&nameless, &["[]"])).await;
        assert!(
            read_snapshot_entries(&mut moysklad(&server, StoreSelection::Total))
                .await
                .0
                .is_ok()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn hidden_stock_is_known_in_changes_too() {
        let of_shoe = json!({ "meta": { "href": "https://x/entity/product/s" } });
        let products = json!([
            { "id": "s", "article": "SHOE" },
            { "id": "v", "meta": { "type": "variant" }, "product": of_shoe },
        ]);
        let snapshot =
            r#"[{"assortmentId":"s","freeStock":0},{"assortmentId":"v","freeStock":12}]"#;
        let delta = r#"[{"assortmentId":"s","freeStock":0}]"#;
        for (is_fresh, reports) in [(false, [snapshot, delta]), (true, [snapshot, delta])] {
            let (server, _) = scripted_service(scripted_reports(&products, &reports)).await;
            let mut moysklad = moysklad(&server, StoreSelection::Total);
            if !is_fresh {
                let (summary, entries) = read_snapshot_entries(&mut moysklad).await;
                assert!(stock_rows(&entries).is_empty(), "{entries:?}");
                let notice = "1 variant without article holds 12 pieces";
                assert!(summary.unwrap().notices[0].starts_with(notice));
            }
            let (_, entries) = read_changes_entries(&mut moysklad).await;
            assert!(stock_rows(&entries).is_empty(), "{entries:?}");
            let faults = entries.iter().filter_map(|entry| match entry {
                DeliveryEntry::Suspicious(fault) => fault.sku.as_deref(),
                _other => None,
            });
            assert_eq!(faults.collect::<Vec<_>>(), ["SHOE"], "{is_fresh}");
        }
    }

    #[test]
    fn changes_are_known_for_a_day_and_never_asked_of_the_future() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let now = at("2026-11-22T12:00:00Z");
        let query = |since: &str| changed_since_query(at(since), now);
        assert_eq!(
            query("2026-11-21T12:06:00Z").unwrap(),
            "changedSince=2026%2D11%2D21%2015%3A01%3A00"
        );
        assert!(matches!(
            query("2026-11-21T12:05:59Z"),
            Err(MoySkladError::ChangesTooOld(_))
        ));
        assert_eq!(
            query("2027-01-01T00:00:00Z").unwrap(),
            "changedSince=2026%2D11%2D22%2014%3A55%3A00"
        );
    }

    #[tokio::test]
    async fn a_stage_that_gives_up_ends_the_reading() {
        let (server, _) = scripted_service(Arc::new(|_, uri| {
            if uri.contains("assortment") {
                return respond_with_two_pages(uri);
            }
            let row = |n: u32| json!({ "assortmentId": n.to_string(), "freeStock": n });
            gzip(&json!((0..20_000).map(row).collect::<Vec<_>>()).to_string())
        }))
        .await;
        let (mut rows, mut receiver) = EntrySender::channel();
        let mut moysklad = moysklad(&server, StoreSelection::Total);
        let settings = ReadSettings::default();
        let reader = moysklad.read_snapshot(&settings, &mut rows);
        let first_batch = async move { receiver.recv().await.unwrap().len() };
        let (result, first) = future::join(reader, first_batch).await;
        assert!(
            matches!(result, Err(MoySkladError::Cancelled(DeliveryCancelled))),
            "{result:?}"
        );
        assert_eq!(first, 1_000);
    }

    #[test]
    fn the_key_is_not_printed() {
        let config = Config::new(MoySkladCredentials::Token(Secret::new("canary")));
        assert!(!format!("{:?}", MoySklad::new(plain_client(), config)).contains("canary"));
    }
}
