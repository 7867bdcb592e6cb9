//! Statements grouped by SKU, over all sources of a shop and after the mapping of SKUs.

use std::cmp::Ordering;
use std::collections::HashMap;

use rusqlite::params;

use super::blocks::{StatementCursor, StatementKey, StoredStatement};
use super::encoding::{
    ByteReader, put_flags, put_number, put_present, put_signed, put_text, text_of,
};
use super::sorted_runs::RunSorter;
use super::{SourceId, StatementReader, StorageError};

const HAS_RESERVE: u8 = 1;
const HAS_DATE: u8 = 2;
const IS_ABSENT: u8 = 4;
const IS_SELECTED: u8 = 8;
/// The source spells the SKU differently.
const IS_MAPPED: u8 = 16;
const IS_REPEATED: u8 = 32;

/// Filter for the SKUs of a query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::sources) enum GroupFilter {
    /// All SKUs.
    All,
    /// SKUs with statements of this source.
    Source(SourceId),
}

/// Part of a delivery in the group of a SKU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::sources) enum GroupSelection {
    /// The delivery does not concern the statements.
    NotSelected,
    /// The delivery repeats the statements.
    Repeated,
    /// The delivery changed the statements, or it is not known if it did.
    Changed,
}

impl GroupSelection {
    const fn flags(self) -> u8 {
        match self {
            Self::NotSelected => 0,
            Self::Repeated => IS_SELECTED | IS_REPEATED,
            Self::Changed => IS_SELECTED,
        }
    }

    const fn of_flags(flags: u8) -> Self {
        match (flags & IS_SELECTED != 0, flags & IS_REPEATED != 0) {
            (false, _) => Self::NotSelected,
            (true, true) => Self::Repeated,
            (true, false) => Self::Changed,
        }
    }
}

/// Statement of a source about one SKU at one warehouse.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::sources) struct StatementRow {
    /// Source of the statement.
    pub(in crate::sources) source: SourceId,
    /// SKU as the source spells it, if it differs from ours.
    pub(in crate::sources) source_sku: Option<String>,
    /// The statement.
    pub(in crate::sources) statement: StoredStatement,
    /// Units of the source in one piece.
    pub(in crate::sources) pack_size: u32,
}

/// All statements about one SKU, in the order of source, spelling, warehouse and variant.
#[derive(Clone, Debug, Default)]
pub(in crate::sources) struct SkuGroup {
    /// SKU after the mapping.
    pub(in crate::sources) sku: String,
    pub(in crate::sources) rows: Vec<StatementRow>,
    /// True if a delivery repeats the statements that it has about the SKU.
    pub(in crate::sources) is_repeated: bool,
}

impl SkuGroup {
    fn extend(&mut self, source: SourceId, rows: &[StoredStatement]) {
        self.rows.extend(rows.iter().map(|statement| StatementRow {
            source,
            source_sku: None,
            statement: statement.clone(),
            pack_size: 1,
        }));
    }
}

/// Our SKUs of each spelling of a source, with the units of the source in one piece.
type SkuMapping = HashMap<SourceId, HashMap<String, Vec<(String, u32)>>>;

/// Collector of groups.
///
/// Without a mapping, one source drives: its statements are added in the order of their SKUs, and
/// those of other sources are looked up. With a mapping, all statements are sorted by our SKUs.
pub(super) struct GroupCollector<'c> {
    sources: Vec<StatementCursor<'c>>,
    driver: Option<SourceId>,
    mapping: SkuMapping,
    sorter: Option<RunSorter>,
    group: SkuGroup,
    payload: Vec<u8>,
}

impl<'c> GroupCollector<'c> {
    pub(super) fn new(
        reader: &'c StatementReader,
        driver: Option<SourceId>,
        sort_buffer: usize,
    ) -> Result<Self, StorageError> {
        let mapping = load_mapping(reader)?;
        let sorter = (!mapping.is_empty()).then(|| RunSorter::new(reader.directory(), sort_buffer));
        let sources = reader.sources_with_statements()?;
        // The driver may have no statement yet.
        let missing = driver.filter(|driver| !sources.contains(driver));
        let mut sources: Vec<SourceId> = sources.into_iter().chain(missing).collect();
        sources.sort_unstable();
        let cursor = |source| StatementCursor::new(reader.conn(), source);
        Ok(Self {
            sources: sources.into_iter().map(cursor).collect(),
            driver,
            mapping,
            sorter,
            group: SkuGroup::default(),
            payload: Vec::new(),
        })
    }

    pub(super) fn has_mapping(&self) -> bool {
        self.sorter.is_some()
    }

    /// Adds the statements of the driver about a SKU.
    pub(super) fn add_driven<E: From<StorageError>>(
        &mut self,
        sku: &str,
        rows: &[StoredStatement],
        selection: GroupSelection,
        on_group: &mut dyn FnMut(&SkuGroup) -> Result<(), E>,
    ) -> Result<(), E> {
        if let (true, Some(driver)) = (self.has_mapping(), self.driver) {
            return Ok(self.sort_rows(driver, sku, rows, selection)?);
        }
        if selection == GroupSelection::NotSelected || rows.is_empty() {
            return Ok(());
        }
        self.group.is_repeated = selection == GroupSelection::Repeated;
        self.group.rows.clear();
        sku.clone_into(&mut self.group.sku);
        for cursor in &mut self.sources {
            if Some(cursor.source) == self.driver {
                self.group.extend(cursor.source, rows);
            } else if cursor.seek(sku)? {
                self.group.extend(cursor.source, cursor.rows());
            }
        }
        on_group(&self.group)
    }

    /// Adds all statements of all sources.
    fn add_all<E: From<StorageError>>(
        &mut self,
        on_group: &mut dyn FnMut(&SkuGroup) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.has_mapping() {
            return Ok(());
        }
        for cursor in &mut self.sources {
            cursor.advance()?;
        }
        loop {
            let first = self.sources.iter().filter_map(StatementCursor::sku).min();
            let Some(sku) = first else {
                return Ok(());
            };
            sku.clone_into(&mut self.group.sku);
            self.group.rows.clear();
            for cursor in &mut self.sources {
                if cursor.sku() == Some(&*self.group.sku) {
                    self.group.extend(cursor.source, cursor.rows());
                    cursor.advance()?;
                }
            }
            on_group(&self.group)?;
        }
    }

    /// Adds the statements about a SKU to those that are sorted by our SKUs.
    fn sort_rows(
        &mut self,
        source: SourceId,
        source_sku: &str,
        rows: &[StoredStatement],
        selection: GroupSelection,
    ) -> Result<(), StorageError> {
        let Some(sorter) = &mut self.sorter else {
            return Ok(());
        };
        let targets = self.mapping.get(&source).and_then(|it| it.get(source_sku));
        for row in rows {
            // A mapped spelling means only the SKUs of the mapping, and not itself.
            let mut push = |sku: &str, pack_size| {
                self.payload.clear();
                let is_mapped = sku != source_sku;
                let spelled = is_mapped.then_some(source_sku);
                encode(
                    &mut self.payload,
                    (source, spelled, pack_size),
                    row,
                    selection,
                );
                sorter.push(sku.as_bytes(), &self.payload)
            };
            match targets {
                None => push(source_sku, 1)?,
                Some(targets) => targets
                    .iter()
                    .try_for_each(|(sku, pack)| push(sku, *pack))?,
            }
        }
        Ok(())
    }

    /// Passes on the groups that are left.
    pub(super) fn finish<E: From<StorageError>>(
        mut self,
        on_group: &mut dyn FnMut(&SkuGroup) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.has_mapping() {
            return Ok(());
        }
        // Without a driver, all statements are selected.
        let selection = match self.driver {
            None => GroupSelection::Changed,
            Some(_) => GroupSelection::NotSelected,
        };
        for mut cursor in std::mem::take(&mut self.sources) {
            while Some(cursor.source) != self.driver && cursor.advance()? {
                let sku = cursor.sku().unwrap_or_default().to_owned();
                self.sort_rows(cursor.source, &sku, cursor.rows(), selection)?;
            }
        }
        let Some(sorter) = self.sorter.take() else {
            return Ok(());
        };
        let mut sorted = sorter.finish();
        sorted.advance().map_err(StorageError::from)?;
        while let Some(sku) = sorted.key() {
            text_of(sku)?.clone_into(&mut self.group.sku);
            self.group.rows.clear();
            let mut is_selected = false;
            self.group.is_repeated = true;
            while sorted.key() == Some(self.group.sku.as_bytes()) {
                let (row, selection) = decode(sorted.payload())?;
                is_selected |= selection != GroupSelection::NotSelected;
                self.group.is_repeated &= selection != GroupSelection::Changed;
                self.group.rows.push(row);
                sorted.advance().map_err(StorageError::from)?;
            }
            if is_selected {
                let sku = std::mem::take(&mut self.group.sku);
                self.group
                    .rows
                    .sort_by(|one, other| order(&sku, one, other));
                self.group.sku = sku;
                on_group(&self.group)?;
            }
        }
        Ok(())
    }
}

fn order(sku: &str, one: &StatementRow, other: &StatementRow) -> Ordering {
    fn key<'r>(sku: &'r str, row: &'r StatementRow) -> (SourceId, &'r str, StatementKey<'r>) {
        let source_sku = row.source_sku.as_deref().unwrap_or(sku);
        (row.source, source_sku, row.statement.key())
    }
    key(sku, one).cmp(&key(sku, other))
}

fn load_mapping(reader: &StatementReader) -> Result<SkuMapping, StorageError> {
    let mut mapping = SkuMapping::new();
    let mut query = reader
        .conn()
        .prepare("SELECT source, said, sku, pack FROM mapping")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let of_source = mapping.entry(SourceId(row.get(0)?)).or_default();
        let targets: &mut Vec<(String, u32)> = of_source.entry(row.get(1)?).or_default();
        targets.push((row.get(2)?, row.get(3)?));
    }
    Ok(mapping)
}

fn encode(
    out: &mut Vec<u8>,
    (source, source_sku, pack_size): (SourceId, Option<&str>, u32),
    row: &StoredStatement,
    selection: GroupSelection,
) {
    put_flags(
        out,
        &[
            (row.reserve.is_some(), HAS_RESERVE),
            (row.stated_at.is_some(), HAS_DATE),
            (row.absent_at.is_some(), IS_ABSENT),
            (source_sku.is_some(), IS_MAPPED),
            (true, selection.flags()),
        ],
    );
    put_signed(out, source.0);
    put_number(out, pack_size.into());
    if let Some(source_sku) = source_sku {
        put_text(out, source_sku);
    }
    put_text(out, &row.warehouse);
    put_text(out, &row.variant);
    put_signed(out, row.quantity);
    put_present(out, [row.reserve, row.stated_at, row.absent_at]);
}

fn decode(bytes: &[u8]) -> Result<(StatementRow, GroupSelection), StorageError> {
    let mut reader = ByteReader(bytes);
    let flags = reader.byte()?;
    let source = SourceId(reader.signed()?);
    let pack_size = u32::try_from(reader.number()?).map_err(|_| StorageError::Damaged)?;
    let source_sku = match flags & IS_MAPPED {
        0 => None,
        _ => Some(reader.text()?.to_owned()),
    };
    let row = StatementRow {
        source,
        source_sku,
        statement: StoredStatement {
            warehouse: reader.text()?.to_owned(),
            variant: reader.text()?.to_owned(),
            quantity: reader.signed()?,
            reserve: reader.signed_if(flags & HAS_RESERVE != 0)?,
            stated_at: reader.signed_if(flags & HAS_DATE != 0)?,
            absent_at: reader.signed_if(flags & IS_ABSENT != 0)?,
        },
        pack_size,
    };
    Ok((row, GroupSelection::of_flags(flags)))
}

impl StatementReader {
    /// Calls `on_group` for each SKU that the filter selects, in order.
    pub(in crate::sources) fn for_each_group<E: From<StorageError>>(
        &self,
        filter: GroupFilter,
        sort_buffer: usize,
        on_group: &mut dyn FnMut(&SkuGroup) -> Result<(), E>,
    ) -> Result<(), E> {
        match filter {
            GroupFilter::All => {
                let mut groups = GroupCollector::new(self, None, sort_buffer)?;
                groups.add_all(on_group)?;
                groups.finish(on_group)
            }
            GroupFilter::Source(source) => {
                let mut groups = GroupCollector::new(self, Some(source), sort_buffer)?;
                let mut cursor = StatementCursor::new(self.conn(), source);
                while cursor.advance()? {
                    let sku = cursor.sku().unwrap_or_default();
                    groups.add_driven(sku, cursor.rows(), GroupSelection::Changed, on_group)?;
                }
                groups.finish(on_group)
            }
        }
    }

    /// Returns the statements about one of our SKUs.
    pub(in crate::sources) fn group_of(&self, sku: &str) -> Result<SkuGroup, StorageError> {
        let mut group = SkuGroup {
            sku: sku.to_owned(),
            ..SkuGroup::default()
        };
        let mut mapped = self
            .conn()
            .prepare("SELECT said, pack FROM mapping WHERE source = ?1 AND sku = ?2")?;
        let is_mapped = "SELECT EXISTS (SELECT 1 FROM mapping WHERE source = ?1 AND said = ?2)";
        for source in self.sources_with_statements()? {
            let mut cursor = StatementCursor::new(self.conn(), source);
            let spellings = mapped.query_map(params![source.0, sku], |row| {
                Ok((row.get::<_, String>(0)?, row.get(1)?))
            })?;
            let mut spellings = spellings.collect::<Result<Vec<(String, u32)>, _>>()?;
            let is_mapped: bool =
                self.conn()
                    .query_row(is_mapped, params![source.0, sku], |row| row.get(0))?;
            if !is_mapped {
                spellings.push((sku.to_owned(), 1));
            }
            for (spelling, pack_size) in spellings {
                if !cursor.seek(&spelling)? {
                    continue;
                }
                let from = group.rows.len();
                group.extend(source, cursor.rows());
                for row in &mut group.rows[from..] {
                    row.source_sku = Some(spelling.clone()).filter(|spelling| spelling != sku);
                    row.pack_size = pack_size;
                }
            }
        }
        group.rows.sort_by(|one, other| order(sku, one, other));
        Ok(group)
    }
}
