//! Effect of statements on the book: counts for the guard, and the updates for ingest.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use lifecycle::run_blocking;
use stock::{BookEntry, Count, Level, Sku, Timestamp, Update};
use stock_import::DeliveryScope;
use stock_import::stock_rules::EvaluatedStock;
use tokio::sync::mpsc;

use super::rule_context::{EvaluatedSku, RuleContext};
use super::{ChangeCounts, DeliveryPipeline, PipelineError, PipelineSettings, PipelineState};
use crate::ingest::{RepeatPolicy, SourceUpdates};
use crate::sources::statements::{
    ChangeListWriter, GroupFilter, ListedLevel, SkuGroup, SpoolReader, SpoolWriter,
    StatementReader, StorageError,
};

/// Updates in one call of [`Ingest::accept_of_source`](crate::ingest::Ingest::accept_of_source).
/// A program's update waits at most for the calls in flight.
const INGEST_GROUP: usize = if cfg!(test) { 500 } else { 8_000 };

/// SKUs that are looked up in the book at once. One by one, each look-up would wait for memory.
const LOOKUP_BATCH: usize = 500;

/// Calls of ingest in flight. They share commits.
const GROUPS_IN_FLIGHT: usize = 3;

/// Collector of the effect, SKU by SKU.
pub(super) struct StockEffect<'a> {
    state: &'a PipelineState,
    context: RuleContext<'a>,
    changes: ChangeCounts,
    // Results that were not compared with the book yet.
    pending: Vec<EvaluatedSku>,
    updates: SpoolWriter,
    list: Option<&'a mut ChangeListWriter>,
    /// True if the SKUs are collected.
    pub(super) collects_skus: bool,
    /// Collected SKUs.
    pub(super) skus: Vec<String>,
}

/// Evaluated statements.
#[derive(Debug)]
pub(super) struct EvaluatedUpdates {
    pub(super) changes: ChangeCounts,
    /// Updates of all SKUs that were evaluated, also of unchanged ones: they are stated again.
    pub(super) updates: SpoolReader,
}

impl<'a> StockEffect<'a> {
    /// `directory` is for temporary files. The changes are added to `list`.
    pub(super) fn new(
        state: &'a PipelineState,
        context: RuleContext<'a>,
        directory: &Path,
        list: Option<&'a mut ChangeListWriter>,
    ) -> Self {
        Self {
            state,
            context,
            changes: ChangeCounts::default(),
            pending: Vec::with_capacity(LOOKUP_BATCH),
            updates: SpoolWriter::new(directory),
            list,
            collects_skus: false,
            skus: Vec::new(),
        }
    }

    /// Evaluates the statements about one SKU.
    pub(super) fn add(&mut self, group: &SkuGroup) -> Result<(), PipelineError> {
        if self.collects_skus {
            self.skus.push(group.sku.clone());
        }
        let Some(evaluated) = self.context.evaluate_group(group) else {
            return Ok(());
        };
        self.pending.push(evaluated);
        if self.pending.len() == LOOKUP_BATCH {
            self.compare_pending()?;
        }
        Ok(())
    }

    /// Compares the results with the book, and adds their updates.
    fn compare_pending(&mut self) -> Result<(), PipelineError> {
        let mut pending = std::mem::take(&mut self.pending);
        let skus = pending.iter().map(|evaluated| evaluated.sku.as_str());
        let entries = self.state.context.book.get_many(self.state.shop, skus);
        for (evaluated, entry) in pending.drain(..).zip(entries) {
            let in_book = entry.map(BookEntry::level);
            let result = evaluated.over(in_book);
            let mut payload = [0; 17];
            payload[..8].copy_from_slice(&result.stated_at.as_micros().to_le_bytes());
            payload[8..12].copy_from_slice(&result.count.get().to_le_bytes());
            let source = u32::try_from(result.source).unwrap_or(u32::MAX);
            payload[12..16].copy_from_slice(&source.to_le_bytes());
            payload[16] = u8::from(evaluated.is_applied);
            let pushed = self
                .updates
                .push(evaluated.sku.as_str().as_bytes(), &payload);
            pushed.map_err(StorageError::from)?;
            self.count(&evaluated, result, in_book)?;
        }
        self.pending = pending;
        Ok(())
    }

    fn count(
        &mut self,
        evaluated: &EvaluatedSku,
        result: EvaluatedStock,
        in_book: Option<Level>,
    ) -> Result<(), PipelineError> {
        let known = match &self.list {
            Some(list) => {
                let compared_skus = &self.state.previews.compared_skus;
                compared_skus.fetch_add(1, Ordering::Relaxed);
                list.level(evaluated.sku.as_str())?.or(in_book)
            }
            None => in_book,
        };
        let changes = &mut self.changes;
        let is_in_stock = known.is_some_and(|level| level.count.get() > 0);
        changes.in_stock += u64::from(is_in_stock);
        match known {
            None => changes.new += 1,
            Some(known) if known.updated_at > result.stated_at => {
                changes.outdated += 1;
                return Ok(());
            }
            Some(known) if known.count == result.count => {
                changes.unchanged += 1;
                return Ok(());
            }
            Some(known) if evaluated.is_applied && known.updated_at == result.stated_at => {
                changes.outdated += 1;
                return Ok(());
            }
            Some(_) => {
                changes.changed += 1;
                changes.zeroed += u64::from(is_in_stock && result.count.get() == 0);
            }
        }
        if let Some(list) = &mut self.list {
            let level = Level {
                count: result.count,
                updated_at: result.stated_at,
            };
            let old = in_book.map(|level| level.count.get());
            let is_absent = evaluated.is_absent;
            list.add(
                evaluated.sku.as_str(),
                old,
                ListedLevel { level, is_absent },
            )?;
        }
        Ok(())
    }

    /// Returns the effect of all SKUs.
    pub(super) fn finish(
        mut self,
        scope: DeliveryScope,
    ) -> Result<EvaluatedUpdates, PipelineError> {
        self.compare_pending()?;
        let mut changes = self.changes;
        if scope == DeliveryScope::Delta {
            // A delta names only some SKUs, so its zeros are compared with the whole shop.
            changes.in_stock = 0;
            let book = &self.state.context.book;
            book.for_each(self.state.shop, |_, entry| {
                changes.in_stock += u64::from(entry.level().count.get() > 0);
            });
        }
        Ok(EvaluatedUpdates {
            changes,
            updates: self.updates.finish().map_err(StorageError::from)?,
        })
    }
}

impl DeliveryPipeline {
    /// Evaluates stored statements: those in `directory`, which may be a working copy.
    pub(super) fn evaluate_stored(
        &self,
        settings: &PipelineSettings,
        filter: GroupFilter,
        directory: &Path,
        list: Option<&mut ChangeListWriter>,
    ) -> Result<EvaluatedUpdates, PipelineError> {
        let reader = StatementReader::open(directory)?;
        let mut context = RuleContext::new(settings, reader.last_snapshots()?);
        context.is_full_recalculation = filter == GroupFilter::All;
        let mut effect = StockEffect::new(&self.0, context, directory, list);
        let sort_buffer = self.sort_buffer();
        reader.for_each_group(filter, sort_buffer, &mut |group| effect.add(group))?;
        effect.finish(DeliveryScope::Delta)
    }

    /// Passes updates to ingest, in large groups.
    pub(super) async fn apply(
        &self,
        settings: &Arc<PipelineSettings>,
        updates: SpoolReader,
    ) -> Result<(), PipelineError> {
        let (sender, mut groups) = mpsc::channel(1);
        let settings = Arc::clone(settings);
        let steps = self.0.steps.clone();
        let reading = run_blocking(move || {
            read_groups(updates, &settings, |group| {
                steps.reach("group read");
                sender.blocking_send(group).is_ok()
            })
        });
        let (ingest, shop) = (&self.0.context.ingest, self.0.shop);
        let submit = |group: SourceUpdates| async move {
            self.check_leading()?;
            let accepted = ingest.accept_of_source(shop, group);
            accepted.await.map(drop).map_err(PipelineError::from)
        };
        let submitting = async move {
            let submitted = stream::poll_fn(|cx| groups.poll_recv(cx))
                .map(submit)
                .buffer_unordered(GROUPS_IN_FLIGHT);
            // An error drops the receiver, which ends the reading.
            submitted.try_for_each(async |()| Ok(())).await
        };
        let (read, submitted) = tokio::join!(reading, submitting);
        submitted?;
        Ok(read?)
    }
}

/// Reads updates in groups of one origin and policy. Ends early if `send` returns false.
pub(super) fn read_groups(
    mut updates: SpoolReader,
    settings: &PipelineSettings,
    mut send: impl FnMut(SourceUpdates) -> bool,
) -> Result<(), StorageError> {
    let empty_group = |origin, repeat_policy| SourceUpdates {
        origin,
        repeat_policy,
        updates: Vec::with_capacity(INGEST_GROUP),
    };
    let mut groups: Vec<SourceUpdates> = Vec::new();
    while updates.advance()? {
        let (source, update, policy) = decode_update(&updates).ok_or(StorageError::Damaged)?;
        let origin = settings
            .sources
            .get(source)
            .ok_or(StorageError::Damaged)?
            .policy
            .origin;
        let known = groups
            .iter()
            .position(|group| (group.origin, group.repeat_policy) == (origin, policy));
        let index = known.unwrap_or(groups.len());
        if known.is_none() {
            groups.push(empty_group(origin, policy));
        }
        let group = &mut groups[index];
        group.updates.push(update);
        if group.updates.len() == INGEST_GROUP
            && !send(std::mem::replace(group, empty_group(origin, policy)))
        {
            return Ok(());
        }
    }
    for group in groups {
        if !group.updates.is_empty() && !send(group) {
            return Ok(());
        }
    }
    Ok(())
}

fn decode_update(updates: &SpoolReader) -> Option<(usize, Update, RepeatPolicy)> {
    let (at, rest) = updates.payload().split_first_chunk()?;
    let (count, rest) = rest.split_first_chunk()?;
    let (source, rest) = rest.split_first_chunk()?;
    let policy = match rest {
        [0] => RepeatPolicy::KeepTimestamp,
        [1] => RepeatPolicy::KeepLevel,
        _ => return None,
    };
    let update = Update {
        sku: Sku::parse(std::str::from_utf8(updates.key()).ok()?).ok()?,
        count: Count::try_from(i64::from(u32::from_le_bytes(*count))).ok()?,
        updated_at: Some(Timestamp::from_micros(i64::from_le_bytes(*at))?),
    };
    let source = usize::try_from(u32::from_le_bytes(*source)).ok()?;
    Some((source, update, policy))
}
