//! Fuzz entry point for the private parsers of MoySklad's responses; compiled with `--cfg fuzzing`
//! only.

use std::sync::Arc;

use super::read::{Catalogue, Report, read_page};
use super::stock::HiddenStock;
use super::{SkuField, StockType, Stores};
use crate::sources::row::{Entry, Reading};

/// Reads a page of the assortment, then a report about the stock of what is on it.
pub fn read(page: &[u8], report: &[u8], reading: &Reading) -> Vec<Entry> {
    let field = SkuField::Article;
    let Ok(page) = read_page(page, field, reading) else {
        return Vec::new();
    };
    let mut catalogue = Catalogue::default();
    if catalogue.add(page).is_err() {
        return Vec::new();
    }
    let mut entries = catalogue.take_entries();
    entries.extend(catalogue.archived());
    let (mut articles, parts) = catalogue.finish();
    let about = Report::new((StockType::Free, Stores::Total), Arc::new(parts), reading);
    let mut hidden = HiddenStock::of_field(field);
    let _may_be_broken = about.hidden(report, &mut hidden);
    let about = Report {
        hidden: Arc::new(hidden),
        ..about
    };
    let _may_be_broken = about.read(report, &mut articles, &mut |entry| {
        entries.push(entry);
        Ok(())
    });
    entries
}
