//! Stock reports: rows by id and store, read one at a time.
//!
//! A row with `null` or `isValid: false` is being recalculated and has no entry, so its product
//! keeps its stock.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::Arc;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use stock_import::DecimalMark;
use stock_import::{
    DeliveryCancelled, DeliveryEntry, ProductKey, ReadSettings, RejectedRow, Row, RowProblem,
};
use strict_http::json::{JsonText, StrictObject, expand_exponent};

use super::json_error;
use crate::moysklad::products::{ProductsWithoutSku, SkuProducts, StockWithoutSku};
use crate::moysklad::{MoySkladError, StockType, StoreSelection};

#[derive(Deserialize)]
struct WireReportRow<'a> {
    #[serde(borrow, default, rename = "assortmentId")]
    assortment_id: Option<JsonText<'a>>,
    #[serde(borrow, default, rename = "storeId")]
    store_id: Option<JsonText<'a>>,
    #[serde(borrow, default, rename = "isValid")]
    is_valid: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "freeStock", deserialize_with = "present")]
    free_stock: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    quantity: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    stock: Option<&'a RawValue>,
}

/// Deserializes a present member to `Some`, also if it is `null`.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&'a RawValue>::deserialize(deserializer).map(Some)
}

/// Reader of a stock report.
#[derive(Clone)]
pub(in crate::moysklad) struct ReportReader {
    pub(in crate::moysklad) stock_type: StockType,
    pub(in crate::moysklad) stores: StoreSelection,
    pub(in crate::moysklad) without_sku: Arc<ProductsWithoutSku>,
    /// Stock of variants, kits and batches without a SKU.
    pub(in crate::moysklad) stock_without_sku: Arc<StockWithoutSku>,
    /// Requested ids; all other rows are ignored. `None` reads all rows.
    pub(in crate::moysklad) only_ids: Option<HashSet<String>>,
    pub(in crate::moysklad) settings: ReadSettings,
}

/// Receiver of the entries of a report.
type EmitEntry<'a> = &'a mut dyn FnMut(DeliveryEntry) -> Result<(), DeliveryCancelled>;

/// Parsed row of a report.
enum ReportRow {
    /// Not requested, without a SKU, or of another store.
    Ignored,
    /// Stock of a product, or the reason why it is rejected.
    Stock {
        id: String,
        store: Option<String>,
        entry: DeliveryEntry,
    },
    /// The stock of the product is being recalculated.
    Recalculating,
    /// The row is unreadable or has no product id.
    Invalid(DeliveryEntry),
}

impl ReportReader {
    pub(in crate::moysklad) fn new(
        (stock_type, stores): (StockType, StoreSelection),
        without_sku: Arc<ProductsWithoutSku>,
        settings: &ReadSettings,
    ) -> Self {
        // JSON numbers always have a decimal point; the setting applies to texts only. A missing
        // number means that the stock is being recalculated, so it must not become a zero.
        let settings = ReadSettings {
            decimal: Some(DecimalMark::Point),
            zeroes_empty_quantities: false,
            ..settings.clone()
        };
        Self {
            stock_type,
            stores,
            without_sku,
            stock_without_sku: Arc::default(),
            only_ids: None,
            settings,
        }
    }

    /// Reads a report row by row and marks its products as reported. Returns the number of ignored
    /// rows.
    pub(in crate::moysklad) fn read(
        &self,
        body: impl io::Read,
        products: &mut SkuProducts,
        emit: EmitEntry<'_>,
    ) -> Result<usize, MoySkladError> {
        let mut ignored_rows = 0;
        let mut reported_parents = HashSet::new();
        for_each_row(body, &mut |line, json| {
            match self.parse_row(line, json, products) {
                ReportRow::Ignored => {
                    ignored_rows += 1;
                    Ok(())
                }
                // The product keeps its stock until a later report has its quantity.
                ReportRow::Recalculating => Ok(()),
                ReportRow::Invalid(entry) => emit(entry),
                ReportRow::Stock { id, store, entry } => {
                    products.mark_reported(&id, self.bit_of_store(store.as_deref()));
                    let parent = self
                        .stock_without_sku
                        .parent(&id)
                        .filter(|hidden| hidden.makes_suspicious(&entry));
                    match parent {
                        None => emit(entry),
                        // Once for a product, even if it has rows for several stores.
                        Some(parent) if reported_parents.insert(id) => {
                            emit(parent.suspicious_entry(line))
                        }
                        Some(_) => Ok(()),
                    }
                }
            }
        })?;
        Ok(ignored_rows)
    }

    /// Reads a report only for the stock of products without a SKU.
    pub(in crate::moysklad) fn collect_stock_without_sku(
        &self,
        body: impl io::Read,
        stock_without_sku: &mut StockWithoutSku,
    ) -> Result<(), MoySkladError> {
        let lenient = ReadSettings {
            floors_fractions: true,
            zeroes_negatives: true,
            ..self.settings.clone()
        };
        for_each_row(body, &mut |_, json| {
            let Ok(StrictObject(row)) =
                serde_json::from_str::<StrictObject<WireReportRow<'_>>>(json)
            else {
                return Ok(());
            };
            if let Some(JsonText(id)) = &row.assortment_id
                && let Some(product) = self.without_sku.in_use.get(id.as_ref())
                && self.is_selected_store(row.store_id.as_ref().map(|JsonText(id)| id.as_ref()))
                && let Some(stock) = self.stock(&row)
                && let Ok(Some(quantity)) = lenient.parse_quantity(&plain_number(stock))
                && quantity.pieces() > 0
            {
                stock_without_sku.add(id, product, quantity);
            }
            Ok(())
        })
    }

    /// Returns the stock of a row; `None` if it is missing or being recalculated.
    fn stock<'a>(&self, row: &WireReportRow<'a>) -> Option<&'a str> {
        let stock = match self.stock_type {
            StockType::Free => row.free_stock,
            StockType::Available => row.quantity,
            StockType::Physical => row.stock,
        };
        let is_valid = row.is_valid.map(RawValue::get) != Some("false");
        stock
            .map(RawValue::get)
            .filter(|json| is_valid && *json != "null")
    }

    fn is_selected_store(&self, store: Option<&str>) -> bool {
        match (&self.stores, store) {
            (StoreSelection::Named(stores), Some(store)) => {
                stores.iter().any(|known| known == store)
            }
            // A reserve without a store.
            (StoreSelection::Named(_), None) => false,
            (StoreSelection::Total, _) => true,
        }
    }

    /// Returns the bit of a store.
    fn bit_of_store(&self, store: Option<&str>) -> u128 {
        match (&self.stores, store) {
            (StoreSelection::Named(stores), Some(store)) => {
                let at = stores
                    .iter()
                    .position(|known| known == store)
                    .unwrap_or_default();
                store_bit(at)
            }
            (StoreSelection::Named(_), None) | (StoreSelection::Total, _) => store_bit(0),
        }
    }

    /// Parses a row.
    fn parse_row(&self, line: u64, json: &str, products: &SkuProducts) -> ReportRow {
        let row = match serde_json::from_str::<StrictObject<WireReportRow<'_>>>(json) {
            Ok(StrictObject(row)) => row,
            Err(e) => {
                let reason = format!("the row is unreadable: {e}");
                return ReportRow::Invalid(DeliveryEntry::Rejected(RejectedRow::new(
                    line, json, reason,
                )));
            }
        };
        let Some(JsonText(id)) = &row.assortment_id else {
            let reason = "the row has no assortmentId";
            return ReportRow::Invalid(DeliveryEntry::Rejected(RejectedRow::new(
                line, json, reason,
            )));
        };
        let is_requested = self
            .only_ids
            .as_ref()
            .is_none_or(|ids| ids.contains(id.as_ref()));
        let store = row.store_id.as_ref().map(|JsonText(store)| store.as_ref());
        if !is_requested
            || self.without_sku.ids.contains(id.as_ref())
            || !self.is_selected_store(store)
        {
            return ReportRow::Ignored;
        }
        let member = match self.stock_type {
            StockType::Free => row.free_stock,
            StockType::Available => row.quantity,
            StockType::Physical => row.stock,
        };
        let problem = match (member, self.stock(&row)) {
            (None, _) => RowProblem::Rejected(format!("the row has no {}", self.stock_type.name())),
            (Some(_), None) => return ReportRow::Recalculating,
            (Some(_), Some(stock)) => match self.settings.parse_quantity(&plain_number(stock)) {
                Ok(quantity) => {
                    let (key, warehouse) =
                        (ProductKey::Id(id.to_string()), store.map(str::to_owned));
                    let row = Row {
                        line,
                        key,
                        warehouse,
                        quantity,
                        reserve: None,
                        stated_at: None,
                    };
                    let store = row.warehouse.clone();
                    return ReportRow::Stock {
                        id: id.to_string(),
                        store,
                        entry: DeliveryEntry::Row(row),
                    };
                }
                Err(rule) => rule.into(),
            },
        };
        let entry = problem.into_entry(line, json, products.sku(id).map(str::to_owned));
        ReportRow::Stock {
            id: id.to_string(),
            store: store.map(str::to_owned),
            entry,
        }
    }
}

/// Returns a number literal without its exponent.
fn plain_number(literal: &str) -> std::borrow::Cow<'_, str> {
    expand_exponent(literal).unwrap_or(literal.into())
}

/// Returns the bit of the store at that position of the selection; stores beyond 127 share a bit.
pub(in crate::moysklad) fn store_bit(at: usize) -> u128 {
    1 << at.min(127)
}

/// Calls `callback` for each row of a JSON list, with its number from 1.
fn for_each_row(
    body: impl io::Read,
    callback: &mut dyn FnMut(u64, &str) -> Result<(), DeliveryCancelled>,
) -> Result<(), MoySkladError> {
    let mut visitor = ReportRowVisitor {
        callback,
        is_cancelled: false,
    };
    let mut json = serde_json::Deserializer::from_reader(body);
    let result = json.deserialize_seq(&mut visitor).and_then(|()| json.end());
    if visitor.is_cancelled {
        return Err(DeliveryCancelled.into());
    }
    result.map_err(|e| json_error(&e))
}

/// Visitor that passes on each row while the list is being read.
struct ReportRowVisitor<'a> {
    callback: &'a mut dyn FnMut(u64, &str) -> Result<(), DeliveryCancelled>,
    is_cancelled: bool,
}

impl<'de> Visitor<'de> for &mut ReportRowVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut line = 0;
        while let Some(row) = seq.next_element::<Box<RawValue>>()? {
            line += 1;
            if let Err(cancelled) = (self.callback)(line, row.get()) {
                self.is_cancelled = true;
                return Err(A::Error::custom(cancelled));
            }
        }
        Ok(())
    }
}
