//! Requests for stock reports: snapshots, changes, and products by id.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future;
use lifecycle::run_blocking;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use stock_import::{DeliveryCancelled, DeliveryEntry, ReadSettings};

use super::client::EncodedBody;
use super::parse::ReportReader;
use super::products::{SkuProducts, StockWithoutSku};
use super::{MoySklad, MoySkladError, MoySkladSummary, StoreSelection};
use crate::EntrySender;

/// Most bytes of a decompressed report, about two million rows by store. Rows are parsed while
/// decompressing, so only one row is in memory at a time.
const MAX_REPORT_BYTES: usize = 256 * 1024 * 1024;

/// Ids in one request: 36 characters each.
const IDS_PER_REQUEST: usize = 100;

/// Overlap of two requests for changes. Source: the report's `changedSince`, which recommends a
/// small overlap so that no change falls between two requests.
const CHANGES_OVERLAP: TimeDelta = TimeDelta::minutes(5);

/// Longest time back that changes can be requested: the service's 24 hours, less a minute for
/// differences of its clock.
const MAX_CHANGES_AGE: TimeDelta = TimeDelta::minutes(24 * 60 - 1);

/// Offset of the service's times: Moscow time, three hours ahead of UTC all year.
const MOSCOW_OFFSET: TimeDelta = TimeDelta::hours(3);

impl MoySklad {
    pub(super) fn report_reader(&self, settings: &ReadSettings) -> ReportReader {
        let stock = (self.config.stock_type, self.config.stores.clone());
        ReportReader::new(
            stock,
            self.without_sku.clone().unwrap_or_default(),
            settings,
        )
    }

    /// Returns the path of a report, limited to the products `ids` if there are any.
    pub(super) fn report_path(&self, query: &str, ids: &[String]) -> String {
        let name = self.config.stock_type.name();
        let products: Vec<_> = ids.iter().map(|id| format!("assortmentId={id}")).collect();
        let (report, more, stores) = match &self.config.stores {
            StoreSelection::Total => ("all", "", Vec::new()),
            StoreSelection::Named(stores) => {
                let filter = stores.iter().map(|id| format!("storeId={id}")).collect();
                // Only this report can list products that are being recalculated; their stock is
                // null.
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

    /// Reads a report for the stock of products without a SKU.
    pub(super) async fn read_stock_without_sku(
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

    /// Requests the stock of these products by id. A failed request adds a notice to `summary`; its
    /// products stay without a quantity.
    ///
    /// # Errors
    /// The receiver of the rows is gone.
    pub(super) async fn request_by_id(
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
                    // Nothing of a truncated response is used, so its products count as missing.
                    products.unmark(chunk);
                    summary.notices.push(format!(
                        "failed to request {} products that the report of moysklad leaves out: {error}; \
                         they keep their stock and are requested again at the next reading",
                        ids.len() - chunk_index * IDS_PER_REQUEST
                    ));
                    break;
                }
            }
        }
        Ok(())
    }

    /// Requests a report about these products and returns all of its entries or an error.
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
            (read_products, result.map(|_ignored_rows| entries))
        })
        .await;
        *products = read_products;
        result
    }
}

/// Parses a report on a blocking thread and forwards its entries; returns the number of ignored
/// rows.
pub(super) async fn forward_report(
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
        let result = result.and_then(|ignored_rows| {
            sender.flush_blocking()?;
            Ok(ignored_rows)
        });
        (read_products, result)
    });
    let forwarding = async move {
        // Dropped as soon as the receiver of `rows` is gone, which also ends the parsing thread.
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

fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Returns the query parameter for changes since `since`, with the overlap and in Moscow time.
pub(super) fn changed_since_query(
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<String, MoySkladError> {
    // After a step of the clock `since` may be in the future, which the service rejects.
    let from = since.min(now) - CHANGES_OVERLAP;
    if now - from > MAX_CHANGES_AGE {
        return Err(MoySkladError::ChangesTooOld(since));
    }
    let moscow = (from + MOSCOW_OFFSET)
        .format("%Y-%m-%d %H:%M:%S")
        .to_string();
    Ok(format!("changedSince={}", percent_encode(&moscow)))
}
