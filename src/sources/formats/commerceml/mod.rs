//! 1C's exchange, CommerceML 2: catalogues (`import*.xml`), and offers with their stock
//! (`offers*.xml`, `rests*.xml`), with or without namespaces.
//!
//! How much there is is told in one of three ways, in this order of preference: `<Остатки>`
//! (2.08 and later), `<Склад ИдСклада КоличествоНаСкладе>` (2.04 to 2.07), and `<Количество>`,
//! the sum of all warehouses. A quantity the settings name is the only one looked at. A
//! warehouse is named by its `Ид`: the list of warehouses is in another file often enough.
//!
//! The article often stands in the catalogue only. A product with both tells which SKU its `Ид`
//! stands for, an offer without an article goes by its `Ид`, and who has both joins them.
//!
//! A variant has the `Ид` `product#variant`, and often its product's article. It always goes by
//! its `Ид`: only with all of them, those of earlier deliveries included, is it known whether its
//! article is its own (`crate::sources::stated`). An `Ид` whose part behind `#` is empty, or a
//! UUID of zeros, is that of the product itself.
//!
//! Numbers are decimals of XML Schema: `3.000` is three, and `2,000` has two readings.
//!
//! A product is deleted if `Статус`, as attribute or element, is `Удален`, or `ПометкаУдаления`
//! (2.09 and later) is true.

#[cfg(test)]
mod tests;

use super::fields::{Once, Statement, Text, is_named, is_set_to};
use super::xml::{Node, Xml};
use super::{Ending, FormatError, Input, Sink};
use crate::sources::quantity::NumberStyle;
use crate::sources::{Entry, Fault, Key, Quantity, Reading, RowProblem, Scope};

/// What holds the SKU if the settings do not say.
const ARTICLE: &str = "Артикул";

/// The mark of deletion, an element or an attribute.
const DELETION: &str = "ПометкаУдаления";

/// The variant of a product that has none.
const NO_VARIANT: &str = "00000000-0000-0000-0000-000000000000";

/// Reads a document of either kind to its end.
///
/// # Errors
/// It is broken, no exchange, or nobody wants the rest.
pub(super) fn read(
    input: &mut dyn Input,
    reading: &Reading,
    sink: Sink<'_>,
) -> Result<Ending, FormatError> {
    let mut xml = Xml::new(input, reading.encoding)?;
    if !xml.child()? || xml.name() != "КоммерческаяИнформация" {
        let reason = "an exchange begins with <КоммерческаяИнформация>, this with";
        return Err(FormatError::Unfit(format!("{reason} <{}>", xml.name())));
    }
    let mut line = 0;
    let mut packages = Packages::default();
    loop {
        let node = xml.next()?;
        if node == Node::End {
            return Ok(Ending::of_scope(packages.scope()));
        }
        if node != Node::Open {
            continue;
        }
        match xml.name() {
            // Orders have products too, with how many of them were bought.
            "Документ" => xml.skip()?,
            "ПакетПредложений" => packages.begin(&xml)?,
            "ИзмененияПакетаПредложений" => {
                packages.push(Some(Scope::Delta));
            }
            "Каталог" => packages.is_inside = false,
            "СодержитТолькоИзменения" => packages.tell(&xml.field()?),
            "Предложение" | "Товар" => {
                line += 1;
                product(&mut xml, line, reading, sink)?;
            }
            _ => {}
        }
    }
}

/// What each package of offers says of itself; a catalogue is none.
#[derive(Default)]
struct Packages {
    scopes: Vec<Option<Scope>>,
    is_inside: bool,
}

impl Packages {
    fn begin(&mut self, xml: &Xml<'_>) -> Result<(), FormatError> {
        let says = xml.attribute("СодержитТолькоИзменения")?;
        self.push(says.as_ref().and_then(scope));
        Ok(())
    }

    fn push(&mut self, scope: Option<Scope>) {
        self.scopes.push(scope);
        self.is_inside = true;
    }

    /// Takes it from an element of the package instead of its tag.
    fn tell(&mut self, text: &Text) {
        match self.scopes.last_mut() {
            Some(last @ None) if self.is_inside => *last = scope(text),
            Some(_) | None => {}
        }
    }

    /// Of all of them: complete only if each of them says so.
    fn scope(&self) -> Option<Scope> {
        if self.scopes.contains(&Some(Scope::Delta)) {
            return Some(Scope::Delta);
        }
        let is_whole = !self.scopes.is_empty() && !self.scopes.contains(&None);
        is_whole.then_some(Scope::Snapshot)
    }
}

fn scope(has_changes_only: &Text) -> Option<Scope> {
    let is_delta = truth(has_changes_only.as_ref().ok()?)?;
    Some(if is_delta {
        Scope::Delta
    } else {
        Scope::Snapshot
    })
}

/// A yes or no of XML Schema, or of 1C.
fn truth(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        "true" | "1" | "истина" | "да" => Some(true),
        "false" | "0" | "ложь" | "нет" => Some(false),
        _ => None,
    }
}

/// A product of a catalogue, or an offer of it with its stock.
#[derive(Default)]
struct Product {
    is_offer: bool,
    id: Once,
    sku: Once,
    status: Once,
    deletion: Once,
    /// `<Остатки>` by warehouse, and without one.
    rests: Vec<Statement>,
    rest: Statement,
    /// `<Склад ИдСклада КоличествоНаСкладе>`.
    warehouses: Vec<Statement>,
    /// `<Количество>`, or what the settings name.
    own: Statement,
}

fn product(
    xml: &mut Xml<'_>,
    line: u64,
    reading: &Reading,
    sink: Sink<'_>,
) -> Result<(), FormatError> {
    let mut product = Product {
        is_offer: xml.name() == "Предложение",
        ..Product::default()
    };
    if let Some(status) = xml.attribute("Статус")? {
        product.status.state("Статус", status);
    }
    if let Some(deletion) = xml.attribute(DELETION)? {
        product.deletion.state(DELETION, deletion);
    }
    while xml.child()? {
        product.take_child(xml, reading)?;
    }
    let read = product
        .names(reading)
        .and_then(|names| Ok((names, product.is_deleted()?)));
    let (names, is_deleted) = match read {
        Ok(read) => read,
        Err(problem) => {
            let shown = product.id.said().ok().flatten().unwrap_or_default();
            return Ok(sink(problem.into_entry(line, shown, None))?);
        }
    };
    let Names { article, key } = names;
    if let Some((id, sku)) = &article {
        sink(Entry::Article {
            id: id.clone(),
            sku: sku.clone(),
        })?;
    }
    let none = reading.zeroes_unavailable.then_some(Quantity::ZERO);
    // A catalogue states no stock, but that a product is gone.
    let is_gone = is_deleted && none.is_some();
    if !(product.is_offer || is_gone) {
        return Ok(());
    }
    for statement in product.statements() {
        let entry = if is_deleted {
            statement.into_unavailable(line, &key, none)
        } else {
            Statement {
                style: NumberStyle::POINT,
                ..statement
            }
            .into_entry(line, &key, reading)
        };
        sink(naming(entry, article.as_ref()))?;
    }
    Ok(())
}

/// Names the SKU of a row that is not applied, if its own article is known.
fn naming(entry: Entry, article: Option<&(String, String)>) -> Entry {
    let name = |fault: Fault| {
        let sku = fault.sku.or_else(|| article.map(|(_, sku)| sku.clone()));
        Fault { sku, ..fault }
    };
    match entry {
        Entry::Rejected(fault) => Entry::Rejected(name(fault)),
        Entry::Suspicious(fault) => Entry::Suspicious(name(fault)),
        entry @ (Entry::Row(_) | Entry::Article { .. } | Entry::NextPart) => entry,
    }
}

/// What a product is called.
struct Names {
    /// Its `Ид`, and the SKU that stands for it.
    article: Option<(String, String)>,
    /// By what it goes.
    key: Key,
}

/// An `Ид`, without the variant if there is none.
fn of_product(id: &str) -> &str {
    match id.split_once('#') {
        Some((product, variant)) if variant.is_empty() || variant == NO_VARIANT => product,
        Some(_) | None => id,
    }
}

impl Product {
    fn take_child(&mut self, xml: &mut Xml<'_>, reading: &Reading) -> Result<(), FormatError> {
        let sums_up = reading.quantity.is_none();
        let name = xml.name().to_owned();
        if name == "Ид" {
            let id = xml.field()?;
            self.id.state(&name, id);
            return Ok(());
        }
        let field = if is_named(&name, reading.sku.as_deref().unwrap_or(ARTICLE)) {
            &mut self.sku
        } else if is_set_to(reading.quantity.as_ref(), &name) {
            &mut self.own.quantity
        } else if is_set_to(reading.reserve.as_ref(), &name) {
            &mut self.own.reserve
        } else if is_set_to(reading.warehouse.as_ref(), &name) {
            &mut self.own.place
        } else if is_set_to(reading.updated_at.as_ref(), &name) {
            &mut self.own.at
        } else {
            match name.as_str() {
                "Статус" => &mut self.status,
                DELETION => &mut self.deletion,
                "Количество" if sums_up => &mut self.own.quantity,
                "Остатки" if sums_up && self.is_offer => {
                    return self.take_rests(xml, reading);
                }
                "Склад" | "Склады" if sums_up && self.is_offer => {
                    return take_warehouses(xml, reading, &mut self.warehouses);
                }
                _ => return xml.skip(),
            }
        };
        field.state(&name, xml.field()?);
        Ok(())
    }

    /// `<Остатки>`: one `<Остаток>` or several, each with a quantity or with warehouses.
    fn take_rests(&mut self, xml: &mut Xml<'_>, reading: &Reading) -> Result<(), FormatError> {
        while xml.child()? {
            if xml.name() != "Остаток" {
                xml.skip()?;
                continue;
            }
            while xml.child()? {
                match xml.name() {
                    "Склад" | "Склады" => {
                        take_warehouses(xml, reading, &mut self.rests)?;
                    }
                    "Количество" => self.rest.quantity.state("Остаток", xml.field()?),
                    _ => xml.skip()?,
                }
            }
        }
        Ok(())
    }

    /// What it is called.
    fn names(&self, reading: &Reading) -> Result<Names, RowProblem> {
        let id = self.id.said()?;
        let missing = || RowProblem::Rejected("it has neither an article nor an Ид".to_owned());
        if is_set_to(reading.sku.as_ref(), "Ид") {
            let sku = reading.sku(id.ok_or_else(missing)?)?;
            return Ok(Names {
                article: None,
                key: Key::Sku(sku),
            });
        }
        let id = id.map(of_product).map(str::to_owned);
        let sku = self.sku.said()?.map(|text| reading.sku(text)).transpose()?;
        let key = match (&sku, &id) {
            (_, Some(id)) if id.contains('#') => Key::Id(id.clone()),
            (Some(sku), _) => Key::Sku(sku.clone()),
            (None, Some(id)) => Key::Id(id.clone()),
            (None, None) => return Err(missing()),
        };
        Ok(Names {
            article: id.zip(sku),
            key,
        })
    }

    fn is_deleted(&self) -> Result<bool, RowProblem> {
        let is_so = |text: &str| ["удален", "удалён"].contains(&text.to_lowercase().as_str());
        if matches!(self.status.said(), Ok(Some(text)) if is_so(text)) {
            return Ok(true);
        }
        let Some(text) = self.deletion.said()? else {
            return Ok(false);
        };
        truth(text).ok_or_else(|| {
            RowProblem::Rejected(format!("{DELETION} is '{text}', it must be true or false"))
        })
    }

    /// One for each place, by the first way of telling that is there.
    fn statements(self) -> Vec<Statement> {
        if !self.rests.is_empty() {
            self.rests
        } else if self.rest.quantity.is_stated() {
            vec![Statement {
                quantity: self.rest.quantity,
                ..self.own
            }]
        } else if !self.warehouses.is_empty() {
            self.warehouses
        } else {
            vec![self.own]
        }
    }
}

/// A warehouse that has just begun, and those inside it: `<Склады>` is one and a list of some.
fn take_warehouses(
    xml: &mut Xml<'_>,
    reading: &Reading,
    into: &mut Vec<Statement>,
) -> Result<(), FormatError> {
    let mut statement = Statement::default();
    if let Some(id) = xml.attribute("ИдСклада")? {
        statement.place.state("ИдСклада", id);
    }
    if let Some(count) = xml.attribute("КоличествоНаСкладе")? {
        // 1C writes nothing where there is none.
        let is_blank = matches!(&count, Ok(text) if text.trim().is_empty());
        let count = if is_blank { Ok("0".to_owned()) } else { count };
        statement.quantity.state("КоличествоНаСкладе", count);
    }
    while xml.child()? {
        match xml.name() {
            "Ид" | "ИдСклада" => statement.place.state("Ид of a warehouse", xml.field()?),
            "Количество" | "КоличествоНаСкладе" => {
                statement
                    .quantity
                    .state("Количество at a warehouse", xml.field()?);
            }
            "Склад" => take_warehouses(xml, reading, into)?,
            name if is_set_to(reading.reserve.as_ref(), name) => {
                statement
                    .reserve
                    .state("the reserve at a warehouse", xml.field()?);
            }
            _ => xml.skip()?,
        }
    }
    if statement == Statement::default() {
        return Ok(());
    }
    if !statement.place.is_stated() {
        statement
            .place
            .state("Ид", Err("a warehouse has no Ид".to_owned()));
    }
    into.push(statement);
    Ok(())
}
