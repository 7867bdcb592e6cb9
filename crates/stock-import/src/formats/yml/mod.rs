//! Reader of the Market's product feed, `yml_catalog`.
//!
//! The SKU is `<shop-sku>` of old feeds, otherwise the offer's `id`. The stock is `<count>`,
//! otherwise that of its outlets, each of which is a warehouse. If `<count/>` is empty and an
//! outlet has a number, the outlets count, regardless of the setting `empty`. A field named by a
//! setting replaces the default one; it may be a child or an attribute of the offer.
//!
//! A feed does not declare a scope. As in the Market, an absent offer keeps its stock unless the
//! settings declare the source a snapshot.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::fields::{SingleValue, StockFields, matches_setting};
use super::xml::{XmlNode, XmlReader};
use super::{FileSummary, FormatError, Input, Sink};
use crate::{ProductKey, Quantity, ReadSettings, RowProblem};

/// Most elements of offers that a message lists.
const MAX_LISTED_ELEMENTS: usize = 40;

/// Reads a feed.
///
/// # Errors
/// The file is broken or not a feed, or the sink cancels.
pub(super) fn read(
    input: &mut dyn Input,
    reading: &ReadSettings,
    sink: Sink<'_>,
) -> Result<FileSummary, FormatError> {
    let mut xml = XmlReader::new(input, reading.encoding)?;
    if !xml.next_child()? || xml.name() != "yml_catalog" {
        return Err(wrong_root_error(&xml));
    }
    let mut line = 0;
    let mut names = BTreeSet::new();
    loop {
        match xml.next()? {
            XmlNode::ElementStart if xml.name() == "offer" => {
                line += 1;
                read_offer(&mut xml, line, reading, sink, &mut names)?;
            }
            XmlNode::DocumentEnd => {
                let mut summary = FileSummary::default();
                let names: Vec<String> = names.iter().map(|name| format!("<{name}>")).collect();
                summary.shape.set("columns", names.join(", "));
                return Ok(summary);
            }
            XmlNode::ElementStart
            | XmlNode::ElementEnd
            | XmlNode::Text
            | XmlNode::UnresolvedReference => {}
        }
    }
}

fn wrong_root_error(xml: &XmlReader<'_>) -> FormatError {
    FormatError::Unusable(format!(
        "a feed must begin with <yml_catalog>, but this file begins with <{}>",
        xml.name()
    ))
}

#[derive(Default)]
struct YmlOffer {
    id: SingleValue,
    shop_sku: SingleValue,
    sku: SingleValue,
    own_stock: StockFields,
    outlets: Vec<StockFields>,
    available: SingleValue,
    disabled: SingleValue,
}

fn read_offer(
    xml: &mut XmlReader<'_>,
    line: u64,
    reading: &ReadSettings,
    sink: Sink<'_>,
    names: &mut BTreeSet<String>,
) -> Result<(), FormatError> {
    let mut offer = YmlOffer::from_tag(xml, reading)?;
    while xml.next_child()? {
        if names.len() < MAX_LISTED_ELEMENTS && !names.contains(xml.name()) {
            names.insert(xml.name().to_owned());
        }
        offer.read_child(xml, reading)?;
    }
    let key = match offer.key(reading) {
        Ok(key) => key,
        Err(problem) => {
            let text = offer.id.value().ok().flatten().unwrap_or_default();
            return Ok(sink(problem.into_entry(line, text, None))?);
        }
    };
    let is_unavailable = reading.zeroes_unavailable && offer.is_unavailable();
    for stock in offer.into_stock() {
        sink(if is_unavailable {
            stock.into_unavailable(line, &key, Some(Quantity::ZERO))
        } else {
            stock.into_entry(line, &key, reading)
        })?;
    }
    Ok(())
}

impl YmlOffer {
    /// Creates an offer with the attributes of its tag.
    fn from_tag(xml: &XmlReader<'_>, reading: &ReadSettings) -> Result<Self, FormatError> {
        let mut offer = Self::default();
        if let Some(id) = xml.attribute("id")? {
            offer.id.set("id", id);
        }
        if let Some(available) = xml.attribute("available")? {
            offer.available.set("available", available);
        }
        let fields_by_setting = [
            (&reading.sku, &mut offer.sku),
            (&reading.quantity, &mut offer.own_stock.quantity),
            (&reading.reserve, &mut offer.own_stock.reserve),
            (&reading.warehouse, &mut offer.own_stock.warehouse),
            (&reading.updated_at, &mut offer.own_stock.updated_at),
        ];
        for (setting, field) in fields_by_setting {
            let is_match = |found: &str| matches_setting(setting.as_ref(), found);
            if let Some(text) = xml.attribute_where(is_match)? {
                field.set("an attribute of the offer", text);
            }
        }
        Ok(offer)
    }

    fn read_child(
        &mut self,
        xml: &mut XmlReader<'_>,
        reading: &ReadSettings,
    ) -> Result<(), FormatError> {
        let is_set = |setting: &Option<String>| matches_setting(setting.as_ref(), xml.name());
        let field = if is_set(&reading.sku) {
            &mut self.sku
        } else if is_set(&reading.quantity) {
            &mut self.own_stock.quantity
        } else if is_set(&reading.reserve) {
            &mut self.own_stock.reserve
        } else if is_set(&reading.warehouse) {
            &mut self.own_stock.warehouse
        } else if is_set(&reading.updated_at) {
            &mut self.own_stock.updated_at
        } else {
            match xml.name() {
                "shop-sku" => &mut self.shop_sku,
                "count" if reading.quantity.is_none() => &mut self.own_stock.quantity,
                "disabled" => &mut self.disabled,
                "available" => &mut self.available,
                "outlets" if reading.quantity.is_none() => return self.read_outlets(xml, reading),
                _ => return xml.skip(),
            }
        };
        let name = format!("<{}>", xml.name());
        field.set(&name, xml.read_text()?);
        Ok(())
    }

    fn read_outlets(
        &mut self,
        xml: &mut XmlReader<'_>,
        reading: &ReadSettings,
    ) -> Result<(), FormatError> {
        while xml.next_child()? {
            if xml.name() == "outlet" {
                self.outlets.push(read_outlet(xml, reading)?);
            }
            xml.skip()?;
        }
        Ok(())
    }

    fn key(&self, reading: &ReadSettings) -> Result<ProductKey, RowProblem> {
        let sku = match (&reading.sku, self.shop_sku.value()?) {
            (Some(name), _) => self
                .sku
                .value()?
                .ok_or_else(|| format!("the offer has no '{name}'"))?,
            (None, Some(sku)) => sku,
            (None, None) => self
                .id
                .value()?
                .ok_or_else(|| "the offer has no id".to_owned())?,
        };
        Ok(ProductKey::Sku(reading.parse_sku(sku)?))
    }

    fn is_unavailable(&self) -> bool {
        let has_text = |field: &SingleValue, word: &str| matches!(field.value(), Ok(Some(text)) if text.eq_ignore_ascii_case(word));
        has_text(&self.available, "false") || has_text(&self.disabled, "true")
    }

    /// Returns the stock of each warehouse. The offer's own stock counts if it has a quantity, or
    /// if no outlet has one.
    fn into_stock(self) -> Vec<StockFields> {
        let has_quantity = |stock: &StockFields| !matches!(stock.quantity.value(), Ok(None));
        let uses_own_stock = if self.own_stock.quantity.is_present() {
            has_quantity(&self.own_stock) || !self.outlets.iter().any(has_quantity)
        } else {
            self.outlets.is_empty()
        };
        if uses_own_stock {
            vec![self.own_stock]
        } else {
            self.outlets
        }
    }
}

/// Reads an outlet. Its name is preferred over its id because sellers know warehouses by name.
fn read_outlet(xml: &XmlReader<'_>, reading: &ReadSettings) -> Result<StockFields, FormatError> {
    let mut stock = StockFields::default();
    let name_attribute = match &reading.warehouse {
        Some(name) => xml.attribute_where(|found| super::fields::same_name(found, name))?,
        None => xml.attribute("warehouse_name")?,
    };
    let warehouse = match name_attribute {
        Some(Ok(name)) if name.trim().is_empty() => xml.attribute("id")?,
        Some(name) => Some(name),
        None => xml.attribute("id")?,
    };
    if let Some(warehouse) = warehouse {
        stock.warehouse.set("warehouse", warehouse);
    }
    if let Some(count) = xml.attribute("instock")? {
        stock.quantity.set("instock", count);
    }
    Ok(stock)
}
