//! Reader of CommerceML 2, the exchange format of 1C: catalogues (`import*.xml`) and offers with
//! stock (`offers*.xml`, `rests*.xml`), with or without namespaces.
//!
//! The stock is, in this order of preference: `<Остатки>` (2.08 and later), `<Склад ИдСклада
//! КоличествоНаСкладе>` (2.04 to 2.07), or `<Количество>`, the sum of all warehouses. A quantity
//! named by a setting replaces all of them. The key of a warehouse is its `Ид`, because the list of
//! warehouses is often in another file.
//!
//! The article is often only in the catalogue. A product with both links its `Ид` to the SKU, and
//! an offer without an article has its `Ид` as its key; the receiver of the entries joins them.
//!
//! A variant has the `Ид` `product#variant` and often the article of its product. Its key is always
//! the `Ид`, because only all variants together, including those of earlier deliveries, show
//! whether the article is unique. An `Ид` with an empty part or a UUID of zeros after `#` is the
//! product.
//!
//! Numbers are decimals of XML Schema: `3.000` is 3, and `2,000` is ambiguous.
//!
//! A product is deleted if `Статус`, an attribute or an element, is `Удален`, or if
//! `ПометкаУдаления` (2.09 and later) is true.

#[cfg(test)]
mod tests;

use super::fields::{FieldText, SingleValue, StockFields, matches_setting, same_name};
use super::xml::XmlReader;
use super::{FileSummary, FormatError, Input, Sink};
use crate::quantity::NumberStyle;
use crate::{DeliveryEntry, DeliveryScope, ProductKey, Quantity, ReadSettings, RowProblem};

/// Default element of the SKU.
const ARTICLE: &str = "Артикул";

/// Deletion mark, an element or an attribute.
const DELETION_MARK: &str = "ПометкаУдаления";

/// Variant id of a product without variants.
const NO_VARIANT: &str = "00000000-0000-0000-0000-000000000000";

/// Reads a catalogue or an offers document.
///
/// # Errors
/// The file is broken or not CommerceML, or the sink cancels.
pub(super) fn read(
    input: &mut dyn Input,
    reading: &ReadSettings,
    sink: Sink<'_>,
) -> Result<FileSummary, FormatError> {
    let mut xml = XmlReader::new(input, reading.encoding)?;
    xml.next_element()?;
    if xml.name() != "КоммерческаяИнформация" {
        return Err(FormatError::Unusable(format!(
            "a CommerceML file must begin with <КоммерческаяИнформация>, but this file begins with \
             <{}>",
            xml.name()
        )));
    }
    let mut line = 0;
    let mut packages = OfferPackages::default();
    while xml.next_element()? {
        match xml.name() {
            // Products of orders have the quantity bought, not the stock.
            "Документ" => xml.skip()?,
            "ПакетПредложений" => {
                let changes_only = xml.attribute("СодержитТолькоИзменения")?;
                packages.push(changes_only.and_then(parse_scope));
            }
            "ИзмененияПакетаПредложений" => {
                packages.push(Some(DeliveryScope::Delta));
            }
            "Каталог" => packages.is_inside = false,
            "СодержитТолькоИзменения" => {
                let scope = parse_scope(xml.read_text()?);
                // The attribute of the package is preferred.
                if let Some(last @ None) = packages.scopes.last_mut()
                    && packages.is_inside
                {
                    *last = scope;
                }
            }
            "Предложение" | "Товар" => {
                line += 1;
                read_product(&mut xml, line, reading, sink)?;
            }
            _ => {}
        }
    }
    Ok(FileSummary::with_scope(packages.scope()))
}

/// Declared scopes of the packages of offers. A catalogue is not a package.
#[derive(Default)]
struct OfferPackages {
    scopes: Vec<Option<DeliveryScope>>,
    is_inside: bool,
}

impl OfferPackages {
    fn push(&mut self, scope: Option<DeliveryScope>) {
        self.scopes.push(scope);
        self.is_inside = true;
    }

    /// Returns the scope of the document. It is a snapshot only if all packages are snapshots.
    fn scope(&self) -> Option<DeliveryScope> {
        if self.scopes.contains(&Some(DeliveryScope::Delta)) {
            return Some(DeliveryScope::Delta);
        }
        let is_complete = !self.scopes.is_empty() && !self.scopes.contains(&None);
        is_complete.then_some(DeliveryScope::Snapshot)
    }
}

fn parse_scope(has_changes_only: FieldText) -> Option<DeliveryScope> {
    Some(if parse_bool(&has_changes_only.ok()?)? {
        DeliveryScope::Delta
    } else {
        DeliveryScope::Snapshot
    })
}

/// Parses a boolean of XML Schema or of 1C.
fn parse_bool(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        "true" | "1" | "истина" | "да" => Some(true),
        "false" | "0" | "ложь" | "нет" => Some(false),
        _ => None,
    }
}

/// An `Ид` and its SKU.
type Article = Option<(String, String)>;

/// A product of a catalogue, or an offer with its stock.
#[derive(Default)]
struct CommerceMlProduct {
    is_offer: bool,
    id: SingleValue,
    sku: SingleValue,
    status: SingleValue,
    deletion: SingleValue,
    /// `<Остатки>` by warehouse.
    balances: Vec<StockFields>,
    /// `<Остатки>` without a warehouse.
    total_balance: StockFields,
    /// `<Склад ИдСклада КоличествоНаСкладе>`.
    warehouse_stock: Vec<StockFields>,
    /// `<Количество>`, or the elements named by settings.
    total_stock: StockFields,
}

fn read_product(
    xml: &mut XmlReader<'_>,
    line: u64,
    reading: &ReadSettings,
    sink: Sink<'_>,
) -> Result<(), FormatError> {
    let mut product = CommerceMlProduct {
        is_offer: xml.name() == "Предложение",
        status: xml.attribute("Статус")?.into(),
        deletion: xml.attribute(DELETION_MARK)?.into(),
        ..CommerceMlProduct::default()
    };
    while xml.next_child()? {
        product.read_child(xml, reading)?;
    }
    let read = product
        .keys(reading)
        .and_then(|keys| Ok((keys, product.is_deleted()?)));
    let ((article, key), is_deleted) = match read {
        Ok(read) => read,
        Err(problem) => {
            let text = product.id.value().ok().flatten().unwrap_or_default();
            return Ok(sink(problem.into_entry(line, text, None))?);
        }
    };
    if let Some((id, sku)) = &article {
        sink(DeliveryEntry::Article {
            id: id.clone(),
            sku: sku.clone(),
        })?;
    }
    let unavailable_quantity = reading.zeroes_unavailable.then_some(Quantity::ZERO);
    // A catalogue has no stock, except that a deleted product has none.
    let is_gone = is_deleted && unavailable_quantity.is_some();
    if !(product.is_offer || is_gone) {
        return Ok(());
    }
    for mut stock in product.into_stock() {
        stock.style = NumberStyle::POINT;
        let mut entry = if is_deleted {
            stock.into_unavailable(line, &key, unavailable_quantity)
        } else {
            stock.into_entry(line, &key, reading)
        };
        if let (Some(row), Some((_, sku))) = (entry.rejected_mut(), &article) {
            row.sku.get_or_insert_with(|| sku.clone());
        }
        sink(entry)?;
    }
    Ok(())
}

/// Returns an `Ид` without an empty variant.
fn without_empty_variant(id: &str) -> &str {
    match id.split_once('#') {
        Some((product, variant)) if variant.is_empty() || variant == NO_VARIANT => product,
        Some(_) | None => id,
    }
}

impl CommerceMlProduct {
    fn read_child(
        &mut self,
        xml: &mut XmlReader<'_>,
        reading: &ReadSettings,
    ) -> Result<(), FormatError> {
        let uses_standard_stock = reading.quantity.is_none();
        let name = xml.name().to_owned();
        let field = if name == "Ид" {
            &mut self.id
        } else if same_name(&name, reading.sku.as_deref().unwrap_or(ARTICLE)) {
            &mut self.sku
        } else if let Some(field) = self.total_stock.named_field(reading, &name) {
            field
        } else {
            match name.as_str() {
                "Статус" => &mut self.status,
                DELETION_MARK => &mut self.deletion,
                "Количество" if uses_standard_stock => &mut self.total_stock.quantity,
                "Остатки" if uses_standard_stock && self.is_offer => {
                    return self.read_balances(xml, reading);
                }
                "Склад" | "Склады" if uses_standard_stock && self.is_offer => {
                    return read_warehouses(xml, reading, &mut self.warehouse_stock);
                }
                _ => return xml.skip(),
            }
        };
        field.set(&name, xml.read_text()?);
        Ok(())
    }

    /// Reads `<Остатки>`: one or several `<Остаток>`, each with a quantity or with warehouses.
    fn read_balances(
        &mut self,
        xml: &mut XmlReader<'_>,
        reading: &ReadSettings,
    ) -> Result<(), FormatError> {
        while xml.next_child()? {
            if xml.name() != "Остаток" {
                xml.skip()?;
                continue;
            }
            while xml.next_child()? {
                match xml.name() {
                    "Склад" | "Склады" => {
                        read_warehouses(xml, reading, &mut self.balances)?;
                    }
                    "Количество" => {
                        self.total_balance.quantity.set("Остаток", xml.read_text()?);
                    }
                    _ => xml.skip()?,
                }
            }
        }
        Ok(())
    }

    /// Returns the `Ид` with its SKU, if the product has both, and the key of its rows.
    fn keys(&self, reading: &ReadSettings) -> Result<(Article, ProductKey), RowProblem> {
        let id = self.id.value()?;
        let missing =
            || RowProblem::Rejected("the product has neither an article nor an Ид".to_owned());
        if matches_setting(reading.sku.as_ref(), "Ид") {
            let sku = reading.parse_sku(id.ok_or_else(missing)?)?;
            return Ok((None, ProductKey::Sku(sku)));
        }
        let id = id.map(without_empty_variant).map(str::to_owned);
        let sku = self.sku.value()?.map(|text| reading.parse_sku(text));
        let sku = sku.transpose()?;
        let key = match (&sku, &id) {
            (_, Some(id)) if id.contains('#') => ProductKey::Id(id.clone()),
            (Some(sku), _) => ProductKey::Sku(sku.clone()),
            (None, Some(id)) => ProductKey::Id(id.clone()),
            (None, None) => return Err(missing()),
        };
        Ok((id.zip(sku), key))
    }

    fn is_deleted(&self) -> Result<bool, RowProblem> {
        let is_deleted_status =
            |text: &str| ["удален", "удалён"].contains(&text.to_lowercase().as_str());
        if matches!(self.status.value(), Ok(Some(text)) if is_deleted_status(text)) {
            return Ok(true);
        }
        let Some(text) = self.deletion.value()? else {
            return Ok(false);
        };
        parse_bool(text).ok_or_else(|| {
            RowProblem::Rejected(format!(
                "{DELETION_MARK} is '{text}', it must be true or false"
            ))
        })
    }

    /// Returns the stock of each warehouse, from the preferred elements that are present.
    fn into_stock(self) -> Vec<StockFields> {
        if !self.balances.is_empty() {
            self.balances
        } else if self.total_balance.quantity.is_present() {
            vec![StockFields {
                quantity: self.total_balance.quantity,
                ..self.total_stock
            }]
        } else if !self.warehouse_stock.is_empty() {
            self.warehouse_stock
        } else {
            vec![self.total_stock]
        }
    }
}

/// Reads the current warehouse and those inside it: `<Склады>` may be a warehouse or a list of
/// them.
fn read_warehouses(
    xml: &mut XmlReader<'_>,
    reading: &ReadSettings,
    target: &mut Vec<StockFields>,
) -> Result<(), FormatError> {
    let mut count = xml.attribute("КоличествоНаСкладе")?;
    // 1C writes an empty text for zero.
    if matches!(&count, Some(Ok(text)) if text.trim().is_empty()) {
        count = Some(Ok("0".to_owned()));
    }
    let mut stock = StockFields {
        warehouse: xml.attribute("ИдСклада")?.into(),
        quantity: count.into(),
        ..StockFields::default()
    };
    while xml.next_child()? {
        let (field, name) = match xml.name() {
            "Ид" | "ИдСклада" => (&mut stock.warehouse, "Ид of a warehouse"),
            "Количество" | "КоличествоНаСкладе" => {
                (&mut stock.quantity, "Количество at a warehouse")
            }
            "Склад" => {
                read_warehouses(xml, reading, target)?;
                continue;
            }
            name if matches_setting(reading.reserve.as_ref(), name) => {
                (&mut stock.reserve, "the reserve at a warehouse")
            }
            _ => {
                xml.skip()?;
                continue;
            }
        };
        field.set(name, xml.read_text()?);
    }
    if stock == StockFields::default() {
        return Ok(());
    }
    if !stock.warehouse.is_present() {
        stock.warehouse = Some(Err("a warehouse has no Ид".to_owned())).into();
    }
    target.push(stock);
    Ok(())
}
