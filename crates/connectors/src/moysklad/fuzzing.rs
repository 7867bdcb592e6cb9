//! Fuzz entry point for the private parsers of MoySklad's responses. Compiled only with
//! `--cfg fuzzing`.

use std::sync::Arc;

use stock_import::{DeliveryEntry, ReadSettings};

use super::parse::{AssortmentBuilder, ReportReader, parse_page};
use super::products::StockWithoutSku;
use super::{SkuField, StockType, StoreSelection};

/// Reads a page of the assortment, then a report about the stock of its products.
#[must_use]
pub fn read(page: &[u8], report: &[u8], settings: &ReadSettings) -> Vec<DeliveryEntry> {
    let field = SkuField::Article;
    let Ok(page) = parse_page(page, field, settings) else {
        return Vec::new();
    };
    let mut builder = AssortmentBuilder::default();
    if builder.add_page(page).is_err() {
        return Vec::new();
    }
    let mut entries = builder.take_entries();
    entries.extend(builder.archived_entries());
    let (mut products, without_sku) = builder.finish();
    let stock = (StockType::Free, StoreSelection::Total);
    let reader = ReportReader::new(stock, Arc::new(without_sku), settings);
    let mut stock_without_sku = StockWithoutSku::new(field);
    // The report may be broken.
    let _result = reader.collect_stock_without_sku(report, &mut stock_without_sku);
    let reader = ReportReader {
        stock_without_sku: Arc::new(stock_without_sku),
        ..reader
    };
    let _result = reader.read(report, &mut products, &mut |entry| {
        entries.push(entry);
        Ok(())
    });
    entries
}
