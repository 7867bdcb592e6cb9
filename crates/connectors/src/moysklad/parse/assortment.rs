//! Pages of the assortment: the SKU of each product, and the parent of each row without a SKU.
//!
//! Pagination ends at the total that the service states. SKUs of two products in use are
//! suspicious. If an archived product and a product in use have the same SKU, the SKU belongs to
//! the product in use.

use std::collections::{HashMap, HashSet};
use std::io;

use serde::Deserialize;
use serde_json::value::RawValue;
use stock_import::{DeliveryEntry, ReadSettings, RejectedRow, RowProblem};
use strict_http::json::{JsonText, StrictObject};

use super::json_error;
use crate::moysklad::products::{ProductKind, ProductWithoutSku, ProductsWithoutSku, SkuProducts};
use crate::moysklad::{MoySkladError, PAGE_SIZE, SkuField};

#[derive(Deserialize)]
struct WireAssortmentPage {
    meta: StrictObject<WireListMeta>,
    rows: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct WireListMeta {
    #[serde(default)]
    size: Option<usize>,
}

#[derive(Deserialize)]
struct WireProduct<'a> {
    #[serde(borrow, default)]
    meta: Option<WireMeta<'a>>,
    #[serde(borrow, default)]
    id: Option<JsonText<'a>>,
    #[serde(default)]
    archived: bool,
    /// Product of a variant.
    #[serde(borrow, default)]
    product: Option<WireLink<'a>>,
    /// Product or variant of a batch.
    #[serde(borrow, default)]
    assortment: Option<WireLink<'a>>,
    #[serde(borrow, default)]
    article: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "externalCode")]
    external_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireLink<'a> {
    #[serde(borrow, default)]
    meta: Option<WireMeta<'a>>,
}

#[derive(Deserialize)]
struct WireMeta<'a> {
    #[serde(borrow, default)]
    href: Option<JsonText<'a>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<JsonText<'a>>,
}

impl WireMeta<'_> {
    /// Returns the last segments of the URL path: entity type and id.
    fn segments(&self) -> (Option<&str>, Option<&str>) {
        let href = self
            .href
            .as_ref()
            .map_or("", |JsonText(href)| href.as_ref());
        let path = href.split(['?', '#']).next().unwrap_or_default();
        let mut segments = path.rsplit('/').filter(|segment| !segment.is_empty());
        let id = segments.next();
        (segments.next(), id)
    }
}

/// Row of the assortment: a product, variant, kit, batch or service.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct MoySkladProduct {
    pub(super) id: String,
    /// `None` if the field is empty.
    pub(super) sku: Option<String>,
    /// Reason why the SKU is rejected or suspicious.
    pub(super) problem: Option<RowProblem>,
    pub(super) is_archived: bool,
    pub(super) kind: ProductKind,
    /// Id of the product of a variant, or of the product or variant of a batch.
    pub(super) parent: Option<String>,
}

/// Page of the assortment.
#[derive(Debug)]
pub(in crate::moysklad) struct AssortmentPage {
    /// Number of products on all pages, according to the service.
    pub(super) size: Option<usize>,
    /// A product, or the text of an unreadable row with the reason.
    pub(super) products: Vec<Result<MoySkladProduct, (String, String)>>,
}

/// Reads a page of the assortment.
pub(in crate::moysklad) fn parse_page(
    body: impl io::Read,
    field: SkuField,
    settings: &ReadSettings,
) -> Result<AssortmentPage, MoySkladError> {
    let StrictObject(page) = serde_json::from_reader::<_, StrictObject<WireAssortmentPage>>(body)
        .map_err(|e| json_error(&e))?;
    let parse_row = |row: Box<RawValue>| {
        parse_product(row.get(), field, settings).map_err(|reason| (row.get().to_owned(), reason))
    };
    Ok(AssortmentPage {
        size: page.meta.0.size,
        products: page.rows.into_iter().map(parse_row).collect(),
    })
}

fn parse_product(
    json: &str,
    field: SkuField,
    settings: &ReadSettings,
) -> Result<MoySkladProduct, String> {
    let StrictObject(wire) = serde_json::from_str::<StrictObject<WireProduct<'_>>>(json)
        .map_err(|e| format!("the product is unreadable: {e}"))?;
    let (segment, last) = wire.meta.as_ref().map_or((None, None), WireMeta::segments);
    let id = match &wire.id {
        Some(id) => Some(id.0.as_ref()),
        None => last,
    };
    let id = id
        .filter(|id| !id.is_empty())
        .ok_or("the product has neither id nor href")?;
    let named_kind = wire.meta.as_ref().and_then(|meta| meta.kind.as_ref());
    let kind = ProductKind::from_wire(named_kind.map(|JsonText(kind)| kind.as_ref()).or(segment));
    let raw = match field {
        SkuField::Article => wire.article,
        SkuField::Code => wire.code,
        SkuField::ExternalCode => wire.external_code,
        SkuField::Name => wire.name,
    };
    let (mut sku, mut problem) = (None, None);
    if let Some(json) = raw.map(RawValue::get) {
        let not_text = |_| format!("{} is {json}, it must be a text", field.name());
        let JsonText(text) = serde_json::from_str::<JsonText<'_>>(json).map_err(not_text)?;
        if !text.trim().is_empty() {
            match settings.parse_sku(&text) {
                Ok(parsed) => sku = Some(parsed),
                Err(row_problem) => problem = Some(row_problem),
            }
        }
    }
    let link = |link: &WireLink<'_>| {
        link.meta
            .as_ref()
            .and_then(|meta| meta.segments().1.map(str::to_owned))
    };
    let parent = wire
        .product
        .as_ref()
        .and_then(link)
        .or(wire.assortment.as_ref().and_then(link));
    Ok(MoySkladProduct {
        id: id.to_owned(),
        sku,
        problem,
        is_archived: wire.archived,
        kind,
        parent,
    })
}

/// Products of the pages read so far.
#[derive(Debug, Default)]
pub(in crate::moysklad) struct AssortmentBuilder {
    /// Offset of the next page.
    pub(in crate::moysklad) offset: usize,
    ids: HashSet<String>,
    /// SKUs of products in use.
    skus: HashSet<String>,
    /// Products with a SKU.
    products: SkuProducts,
    without_sku: HashSet<String>,
    /// Parent and kind of rows in use without a SKU.
    parents: HashMap<String, (Option<String>, ProductKind)>,
    /// Archived products with a SKU: line, id and SKU. A later page may contain a product in use
    /// with the same SKU.
    archived: Vec<(u64, String, String)>,
    entries: Vec<DeliveryEntry>,
}

impl AssortmentBuilder {
    /// Adds a page. Returns true if it is the last one.
    pub(in crate::moysklad) fn add_page(
        &mut self,
        page: AssortmentPage,
    ) -> Result<bool, MoySkladError> {
        let length = page.products.len();
        let (before, mut has_new) = (self.ids.len(), length == 0);
        for (product, number) in page.products.into_iter().zip(self.offset + 1..) {
            let line = u64::try_from(number).unwrap_or(u64::MAX);
            match product {
                Ok(product) => self.add_product(line, product),
                Err((text, reason)) => {
                    has_new = true;
                    self.entries.push(DeliveryEntry::Rejected(RejectedRow::new(
                        line, &text, reason,
                    )));
                }
            }
        }
        // A page without any new id means that the service ignores the offset.
        if !has_new && self.ids.len() == before {
            return Err(MoySkladError::EndlessAssortment);
        }
        self.offset += length;
        // The service may shorten pages, so its total decides, not the length of the page.
        Ok(length == 0
            || page
                .size
                .map_or(length < PAGE_SIZE, |size| self.offset >= size))
    }

    fn add_product(&mut self, line: u64, product: MoySkladProduct) {
        let MoySkladProduct {
            id,
            sku,
            problem,
            is_archived,
            kind,
            parent,
        } = product;
        // A product appears twice if the assortment changed between two pages.
        if !self.ids.insert(id.clone()) {
            return;
        }
        if let Some(problem) = problem {
            // Its stock is ignored, because the SKU is not certain.
            self.entries.push(problem.into_entry(line, &id, None));
            self.without_sku.insert(id);
            return;
        }
        match sku {
            None => {
                if !is_archived {
                    self.parents.insert(id.clone(), (parent, kind));
                }
                self.without_sku.insert(id);
            }
            Some(sku) if is_archived => self.archived.push((line, id, sku)),
            Some(sku) => {
                if !self.skus.insert(sku.clone()) {
                    let reason = format!("sku '{sku}' belongs to two products in use");
                    let row = RejectedRow {
                        sku: Some(sku.clone()),
                        ..RejectedRow::new(line, &id, reason)
                    };
                    self.entries.push(DeliveryEntry::Suspicious(row));
                }
                self.products.add(&id, &sku, line, Some(kind));
                self.entries.push(DeliveryEntry::Article { id, sku });
            }
        }
    }

    pub(in crate::moysklad) fn take_entries(&mut self) -> Vec<DeliveryEntry> {
        std::mem::take(&mut self.entries)
    }

    /// Returns the entries of archived products, to be called after the last page. If a product in
    /// use has the same SKU, the archived product counts as one without a SKU.
    pub(in crate::moysklad) fn archived_entries(&mut self) -> Vec<DeliveryEntry> {
        let mut entries = Vec::new();
        let mut archived = HashSet::new();
        for (line, id, sku) in std::mem::take(&mut self.archived) {
            if self.skus.contains(&sku) {
                self.without_sku.insert(id);
                continue;
            }
            if !archived.insert(sku.clone()) {
                let reason = format!("sku '{sku}' belongs to two archived products");
                let row = RejectedRow {
                    sku: Some(sku.clone()),
                    ..RejectedRow::new(line, &id, reason)
                };
                entries.push(DeliveryEntry::Suspicious(row));
            }
            self.products.add(&id, &sku, line, None);
            entries.push(DeliveryEntry::Article { id, sku });
        }
        entries
    }

    /// Returns the products with and without a SKU, after
    /// [`archived_entries`](Self::archived_entries).
    pub(in crate::moysklad) fn finish(self) -> (SkuProducts, ProductsWithoutSku) {
        /// Bound of the search for a parent with a SKU. The longest documented chain has two links:
        /// a batch of a variant of a product.
        const MAX_PARENT_LINKS: usize = 4;
        let mut in_use = HashMap::new();
        for (id, (parent, kind)) in &self.parents {
            let mut sku_parent = parent.as_deref();
            for _ in 0..MAX_PARENT_LINKS {
                match sku_parent {
                    Some(id) if self.products.sku(id).is_none() => {
                        sku_parent = self
                            .parents
                            .get(id)
                            .and_then(|(parent, _)| parent.as_deref());
                    }
                    Some(_) | None => break,
                }
            }
            let sku_parent = sku_parent.and_then(|id| Some((id, self.products.sku(id)?)));
            let sku_parent = sku_parent.map(|(id, sku)| (id.to_owned(), sku.to_owned()));
            in_use.insert(
                id.clone(),
                ProductWithoutSku {
                    parent: sku_parent,
                    kind: *kind,
                },
            );
        }
        (
            self.products,
            ProductsWithoutSku {
                ids: self.without_sku,
                in_use,
            },
        )
    }
}
