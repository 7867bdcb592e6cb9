//! The Market's product feed, `yml_catalog`.
//!
//! The SKU is `<shop-sku>`, which old feeds have, or else the offer's `id`; the stock is
//! `<count>`, or else what its outlets have, each a warehouse of its own. An empty `<count/>`
//! leaves the word to outlets that state a number, whatever the setting `empty` is. A field the
//! settings name is the only one looked at: a child of the offer, or an attribute of it.
//!
//! A feed does not say whether it is complete: the Market leaves an offer that is absent as it
//! was, and so do we, unless the settings declare the source a snapshot.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::fields::{Once, Statement, is_set_to};
use super::xml::{Node, Xml};
use super::{Ending, FormatError, Input, Sink};
use crate::sources::{Key, Quantity, Reading, RowProblem};

/// Elements of offers that are named in a message.
const MAX_NAMES: usize = 40;

/// Reads a feed to its end.
///
/// # Errors
/// It is broken, no feed, or nobody wants the rest.
pub(super) fn read(
    input: &mut dyn Input,
    reading: &Reading,
    sink: Sink<'_>,
) -> Result<Ending, FormatError> {
    let mut xml = Xml::new(input, reading.encoding)?;
    if !xml.child()? || xml.name() != "yml_catalog" {
        return Err(unfit(&xml));
    }
    let mut line = 0;
    let mut names = BTreeSet::new();
    loop {
        match xml.next()? {
            Node::Open if xml.name() == "offer" => {
                line += 1;
                offer(&mut xml, line, reading, sink, &mut names)?;
            }
            Node::End => {
                let mut ending = Ending::default();
                let names: Vec<String> = names.iter().map(|name| format!("<{name}>")).collect();
                ending.shape.set("columns", names.join(", "));
                return Ok(ending);
            }
            Node::Open | Node::Close | Node::Text | Node::Unknown => {}
        }
    }
}

fn unfit(xml: &Xml<'_>) -> FormatError {
    FormatError::Unfit(format!(
        "a feed begins with <yml_catalog>, this with <{}>",
        xml.name()
    ))
}

#[derive(Default)]
struct Offer {
    id: Once,
    shop_sku: Once,
    sku: Once,
    own: Statement,
    outlets: Vec<Statement>,
    available: Once,
    disabled: Once,
}

fn offer(
    xml: &mut Xml<'_>,
    line: u64,
    reading: &Reading,
    sink: Sink<'_>,
    names: &mut BTreeSet<String>,
) -> Result<(), FormatError> {
    let mut offer = Offer::begin(xml, reading)?;
    while xml.child()? {
        if names.len() < MAX_NAMES && !names.contains(xml.name()) {
            names.insert(xml.name().to_owned());
        }
        offer.take_child(xml, reading)?;
    }
    let key = match offer.key(reading) {
        Ok(key) => key,
        Err(problem) => {
            let shown = offer.id.said().ok().flatten().unwrap_or_default();
            return Ok(sink(problem.into_entry(line, shown, None))?);
        }
    };
    let is_out = reading.zeroes_unavailable && offer.is_unavailable();
    for statement in offer.statements() {
        sink(if is_out {
            statement.into_unavailable(line, &key, Some(Quantity::ZERO))
        } else {
            statement.into_entry(line, &key, reading)
        })?;
    }
    Ok(())
}

impl Offer {
    /// With what the tag itself says.
    fn begin(xml: &Xml<'_>, reading: &Reading) -> Result<Self, FormatError> {
        let mut offer = Self::default();
        if let Some(id) = xml.attribute("id")? {
            offer.id.state("id", id);
        }
        if let Some(available) = xml.attribute("available")? {
            offer.available.state("available", available);
        }
        let named = [
            (&reading.sku, &mut offer.sku),
            (&reading.quantity, &mut offer.own.quantity),
            (&reading.reserve, &mut offer.own.reserve),
            (&reading.warehouse, &mut offer.own.place),
            (&reading.updated_at, &mut offer.own.at),
        ];
        for (setting, field) in named {
            let is_meant = |found: &str| is_set_to(setting.as_ref(), found);
            if let Some(text) = xml.attribute_where(is_meant)? {
                field.state("an attribute of the offer", text);
            }
        }
        Ok(offer)
    }

    fn take_child(&mut self, xml: &mut Xml<'_>, reading: &Reading) -> Result<(), FormatError> {
        let is_set = |setting: &Option<String>| is_set_to(setting.as_ref(), xml.name());
        let field = if is_set(&reading.sku) {
            &mut self.sku
        } else if is_set(&reading.quantity) {
            &mut self.own.quantity
        } else if is_set(&reading.reserve) {
            &mut self.own.reserve
        } else if is_set(&reading.warehouse) {
            &mut self.own.place
        } else if is_set(&reading.updated_at) {
            &mut self.own.at
        } else {
            match xml.name() {
                "shop-sku" => &mut self.shop_sku,
                "count" if reading.quantity.is_none() => &mut self.own.quantity,
                "disabled" => &mut self.disabled,
                "available" => &mut self.available,
                "outlets" if reading.quantity.is_none() => return self.take_outlets(xml, reading),
                _ => return xml.skip(),
            }
        };
        let name = format!("<{}>", xml.name());
        field.state(&name, xml.field()?);
        Ok(())
    }

    fn take_outlets(&mut self, xml: &mut Xml<'_>, reading: &Reading) -> Result<(), FormatError> {
        while xml.child()? {
            if xml.name() == "outlet" {
                self.outlets.push(outlet(xml, reading)?);
            }
            xml.skip()?;
        }
        Ok(())
    }

    fn key(&self, reading: &Reading) -> Result<Key, RowProblem> {
        let sku = match (&reading.sku, self.shop_sku.said()?) {
            (Some(name), _) => self
                .sku
                .said()?
                .ok_or_else(|| format!("the offer has no '{name}'"))?,
            (None, Some(sku)) => sku,
            (None, None) => self
                .id
                .said()?
                .ok_or_else(|| "the offer has no id".to_owned())?,
        };
        Ok(Key::Sku(reading.sku(sku)?))
    }

    fn is_unavailable(&self) -> bool {
        let says = |field: &Once, word: &str| matches!(field.said(), Ok(Some(text)) if text.eq_ignore_ascii_case(word));
        says(&self.available, "false") || says(&self.disabled, "true")
    }

    /// One for each place; the offer's own if it states how much, or if no outlet does.
    fn statements(self) -> Vec<Statement> {
        let states = |statement: &Statement| !matches!(statement.quantity.said(), Ok(None));
        let is_own = if self.own.quantity.is_stated() {
            states(&self.own) || !self.outlets.iter().any(states)
        } else {
            self.outlets.is_empty()
        };
        if is_own { vec![self.own] } else { self.outlets }
    }
}

/// What an outlet states; its name, if it has one, is what sellers know it by.
fn outlet(xml: &Xml<'_>, reading: &Reading) -> Result<Statement, FormatError> {
    let mut statement = Statement::default();
    let named = match &reading.warehouse {
        Some(name) => xml.attribute_where(|found| super::fields::is_named(found, name))?,
        None => xml.attribute("warehouse_name")?,
    };
    let place = match named {
        Some(Ok(name)) if name.trim().is_empty() => xml.attribute("id")?,
        Some(name) => Some(name),
        None => xml.attribute("id")?,
    };
    if let Some(place) = place {
        statement.place.state("warehouse", place);
    }
    if let Some(count) = xml.attribute("instock")? {
        statement.quantity.state("instock", count);
    }
    Ok(statement)
}
