//! Stock from MoySklad, over its JSON API 1.2.
//!
//! The short stock report identifies products by id only, so the assortment is read for their SKUs.
//! Requests are sent one at a time, at the rate of the service's strictest limit. A product that
//! the report leaves out keeps its stock: it is requested by id, and otherwise has no quantity.
//!
//! Source: the service's documentation, `moysklad/api-remap-1.2-doc`, state of 2026, for the report
//! "current stock", the assortment, the limits and the errors.

mod client;
mod config;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod parse;
mod products;
mod report_requests;
mod source;
mod summary;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

pub use self::config::{Config, MoySkladCredentials, SkuField, StockType, StoreSelection};
use self::error::MoySkladError;
use self::parse::{AssortmentBuilder, ReportReader, parse_page};
use self::products::{ProductsWithoutSku, SkuProducts, StockWithoutSku};
use self::report_requests::{changed_since_query, forward_report};
use lifecycle::run_blocking;
use stock_import::{DeliveryEntry, ReadSettings};

use self::summary::{MoySkladSummary, kits_notice, missing_notice};
use crate::EntrySender;

pub use self::source::{AccountRead, MoySkladSource};

/// Most bytes of a decompressed page of the assortment: 64 kB for each product.
const MAX_PAGE_BYTES: usize = 64 * 1024 * 1024;

/// Most products on a page. Source: `limit` of the assortment, `1..=1000`.
const PAGE_SIZE: usize = 1_000;

/// Most pages of the assortment: a million products.
const MAX_PAGES: usize = 1_000;

/// Most products requested by id because the report left them out. If there are more, none is
/// requested, because so many were never in an operation.
const MAX_REREQUESTED_IDS: usize = 1_000;

/// Timeout of one request; the service computes large reports during the request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(180);

/// Most attempts of one request. The service blocks a user with more than 200 failed requests a
/// minute.
const MAX_TRIES: u32 = 5;

/// Connector to a seller's MoySklad account.
#[derive(Debug)]
struct MoySklad {
    http: reqwest::Client,
    config: Config,
    /// Products of the assortment without a SKU; `None` until the assortment is read.
    without_sku: Option<Arc<ProductsWithoutSku>>,
    /// Stock of variants, kits and batches without a SKU.
    stock_without_sku: Arc<StockWithoutSku>,
    /// Products without a quantity in any accepted delivery.
    missing: SkuProducts,
    /// Value of `missing` after the last delivery is accepted.
    missing_once_accepted: SkuProducts,
    /// Start of the last request.
    last_request_at: Option<Instant>,
}

impl MoySklad {
    /// Creates a connector. The client must not follow redirects; see [`Config::client_config`].
    fn new(http: reqwest::Client, config: Config) -> Self {
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

    /// Records that the last delivery was accepted: products with a quantity in it are not
    /// requested by id again.
    fn mark_accepted(&mut self) {
        self.missing = std::mem::take(&mut self.missing_once_accepted);
    }

    /// Reads a [`DeliveryScope::Snapshot`](stock_import::DeliveryScope::Snapshot): the assortment,
    /// then all stock including zeros.
    ///
    /// Rows may have ids that no page contained, if the assortment changed during pagination. They
    /// are kept, because an earlier delivery may have had their SKU, and without a row its stock
    /// would become zero. If reading fails, the rows sent so far must not be applied.
    ///
    /// The report leaves out products that are being recalculated. So a product in use that is
    /// missing from the report is requested by id. If it still has no quantity, its row is sent
    /// without one: it is not absent. A missing archived product is absent.
    ///
    /// # Errors
    /// A request failed, the report contains no stock at all, or the receiver of the rows is gone.
    async fn read_snapshot(
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

    /// Reads a [`DeliveryScope::Delta`](stock_import::DeliveryScope::Delta): stock changed since
    /// `since` or in the five minutes before, and the products that were missing from the last
    /// snapshot.
    ///
    /// The assortment is read first if it was not read yet, because it decides which rows count.
    /// Products that are new since the last [`MoySklad::read_snapshot`] have ids without a SKU.
    ///
    /// # Errors
    /// `since` is too old, a request failed, or the receiver of the rows is gone.
    async fn read_changes(
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
            // Problems of the assortment are reported with each snapshot, so not here.
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
        // If a product has two quantities, the later request wins.
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

    /// Reads the assortment page by page, for the SKU of each product.
    async fn read_assortment(
        &mut self,
        settings: &ReadSettings,
        reports_problems: bool,
        summary: &mut MoySkladSummary,
        rows: &mut EntrySender,
    ) -> Result<SkuProducts, MoySkladError> {
        let mut builder = AssortmentBuilder::default();
        for _ in 0..MAX_PAGES {
            // Archived products are read too: the report contains their stock, which must not look
            // like the stock of an unknown product.
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
}
