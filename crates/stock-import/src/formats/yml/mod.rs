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

use super::fields::{SingleValue, StockFields, matches_setting, same_name};
use super::xml::XmlReader;
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
    xml.next_element()?;
    if xml.name() != "yml_catalog" {
        return Err(FormatError::Unusable(format!(
            "a feed must begin with <yml_catalog>, but this file begins with <{}>",
            xml.name()
        )));
    }
    let mut line = 0;
    let mut names = BTreeSet::new();
    while xml.next_element()? {
        if xml.name() == "offer" {
            line += 1;
            read_offer(&mut xml, line, reading, sink, &mut names)?;
        }
    }
    let mut summary = FileSummary::default();
    let names: Vec<String> = names.iter().map(|name| format!("<{name}>")).collect();
    summary.shape.set("columns", names.join(", "));
    Ok(summary)
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
        let mut offer = Self {
            id: xml.attribute("id")?.into(),
            available: xml.attribute("available")?.into(),
            ..Self::default()
        };
        let sku = (reading.sku.as_ref(), &mut offer.sku);
        let fields = offer.own_stock.named_fields(reading);
        for (setting, field) in [sku].into_iter().chain(fields) {
            *field = xml
                .attribute_where(|name| matches_setting(setting, name))?
                .into();
        }
        Ok(offer)
    }

    fn read_child(
        &mut self,
        xml: &mut XmlReader<'_>,
        reading: &ReadSettings,
    ) -> Result<(), FormatError> {
        let uses_standard_stock = reading.quantity.is_none();
        let field = if matches_setting(reading.sku.as_ref(), xml.name()) {
            &mut self.sku
        } else if let Some(field) = self.own_stock.named_field(reading, xml.name()) {
            field
        } else {
            match xml.name() {
                "shop-sku" => &mut self.shop_sku,
                "count" if uses_standard_stock => &mut self.own_stock.quantity,
                "disabled" => &mut self.disabled,
                "available" => &mut self.available,
                "outlets" if uses_standard_stock => return self.read_outlets(xml, reading),
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
            (Some(name), _) => {
                let sku = self.sku.value()?;
                sku.ok_or_else(|| format!("the offer has no '{name}'"))?
            }
            (None, Some(sku)) => sku,
            (None, None) => self.id.value()?.ok_or("the offer has no id".to_owned())?,
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
    let warehouse = xml.attribute_where(|found| match &reading.warehouse {
        Some(name) => same_name(found, name),
        None => found == "warehouse_name",
    })?;
    let warehouse = match warehouse {
        Some(Ok(name)) if name.trim().is_empty() => xml.attribute("id")?,
        Some(name) => Some(name),
        None => xml.attribute("id")?,
    };
    Ok(StockFields {
        warehouse: warehouse.into(),
        quantity: xml.attribute("instock")?.into(),
        ..StockFields::default()
    })
}
