//! First rows of a staged delivery, for an operator who looks at a file before it is applied.

use stock_import::Quantity;

use super::resolve::{DeliveryContents, SkuResolver};
use super::staging::DeliveredSku;
use super::variants::ResolveOptions;
use super::{SourceId, StagedDelivery, StatementReader, StorageError};

/// A row of a delivery as it would be applied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PreviewRow {
    /// Position in the file, as in [`Row::line`](stock_import::Row::line).
    pub line: u64,
    /// SKU, as the source spells it.
    pub sku: String,
    /// Warehouse, if the source names one.
    pub warehouse: Option<String>,
    /// Quantity; `None` if the row has none.
    pub quantity: Option<Quantity>,
    /// Reserved part, if the source states it.
    pub reserve: Option<Quantity>,
}

/// Contents of a delivery that was only looked at.
#[derive(Clone, Debug)]
pub(in crate::sources) struct DeliveryPreview {
    pub(in crate::sources) contents: DeliveryContents,
    /// Rows without a quantity.
    pub(in crate::sources) without_quantity: u64,
    /// The first rows that would be applied, in the order of the delivery.
    pub(in crate::sources) first_rows: Vec<PreviewRow>,
}

impl StagedDelivery {
    /// Resolves the delivery, and returns its first `limit` rows that would be applied.
    pub(in crate::sources) fn preview(
        &mut self,
        reader: &StatementReader,
        source: SourceId,
        options: ResolveOptions,
        limit: usize,
    ) -> Result<DeliveryPreview, StorageError> {
        self.prepare(reader, source, options)?;
        let mut resolver = SkuResolver::new(self, reader, source, options)?;
        let mut delivered = DeliveredSku::default();
        let mut without_quantity = 0;
        let mut first_rows: Vec<((u32, i64), PreviewRow)> = Vec::new();
        while resolver.next(&mut delivered)? {
            for row in &delivered.rows {
                let position = (row.part, row.line);
                if row.quantity.is_none() {
                    without_quantity += 1;
                    continue;
                }
                let index = first_rows.partition_point(|(known, _)| *known <= position);
                if index >= limit {
                    continue;
                }
                let quantity = |number: Option<i64>| number.and_then(Quantity::from_thousandths);
                let preview = PreviewRow {
                    line: row.line.cast_unsigned(),
                    sku: delivered.sku.clone(),
                    warehouse: Some(row.warehouse.clone()).filter(|it| !it.is_empty()),
                    quantity: quantity(row.quantity),
                    reserve: quantity(row.reserve),
                };
                first_rows.insert(index, (position, preview));
                first_rows.truncate(limit);
            }
        }
        let counts = resolver.finish()?;
        Ok(DeliveryPreview {
            contents: self.contents(counts)?,
            without_quantity,
            first_rows: first_rows.into_iter().map(|(_, row)| row).collect(),
        })
    }
}
