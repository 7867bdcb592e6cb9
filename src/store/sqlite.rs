use std::collections::BTreeSet;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::compact::{self, Snapshot};
use super::directory::Directory;
use super::quarantine::Quarantine;
use super::record::{Fact, Facts, Kind, Malformed, Packed, Packer};
use super::replay::{replay, sizes};
use super::session::{DiskShop, Flaw, Head, Session, Write};
use super::{
    AbsentShop, Acked, COMPACTION_BYTES, Change, Config, Notes, Opened, ShopKey, Spent, Status,
    StoreError, Vitals, notes, spent,
};
use crate::stock::{Column, Mark, Marks, ShopId, SkuId, StockBook};

/// The store, in a SQLite database: see [`super`].
///
/// There is one connection, and it is waited for in turn: appends and the small steps of a
/// compaction alternate. What a writer needs to know before it appends, [`Store::is_failed`],
/// [`Store::wants_compaction`] and [`Store::status`], never waits.
pub struct Store {
    desk: tokio::sync::Mutex<Contents>,
    compacting: tokio::sync::Mutex<()>,
    /// The configured shops' numbers on disk, and those of all others.
    configured: Vec<i64>,
    absent: Vec<i64>,
    /// First change of every append whose receipt is still held.
    held: Mutex<BTreeSet<i64>>,
    vitals: Mutex<Vitals>,
    directory: Arc<Directory>,
}

impl Store {
    /// Opens the store, or creates an empty one, and reads all that is in it.
    ///
    /// # Errors
    /// Everything [`StoreError`] knows except `Closed`. Nothing that cannot be read in full and
    /// verified is served, and nothing is ever emptied to get going.
    pub async fn open(config: &Config, shops: &[ShopKey]) -> Result<Opened, StoreError> {
        let directory = Arc::new(Directory::claim(&config.path)?);
        let mut session = Session::open(Arc::clone(&directory)).await?;
        let known = session.shops().await?;
        let roll = enrol(&mut session, known, shops).await?;
        let outcome = read(&mut session, &roll.configured, shops).await;
        let contents = outcome.map_err(|flaw| session.failure(flaw))?;
        let Reading {
            book,
            acked,
            quarantine,
            spent,
            marks,
            mut notes,
            ..
        } = contents;
        let stray = |shop: &DiskShop| AbsentShop {
            name: shop.name.clone(),
            notes: notes.take_strays(shop.id),
        };
        let absent = roll.absent.iter().map(stray).collect();
        let listed = |id| quarantine.of(id).cloned().collect();
        let quarantined = roll.configured.iter().map(|id| listed(*id)).collect();
        let store = Self {
            vitals: Mutex::new(session.vitals()),
            desk: tokio::sync::Mutex::new(Contents {
                session,
                quarantine,
            }),
            compacting: tokio::sync::Mutex::new(()),
            configured: roll.configured,
            absent: roll.absent.into_iter().map(|shop| shop.id).collect(),
            held: Mutex::default(),
            directory,
        };
        match compact::sweep(&store).await {
            // Waste can wait for the next compaction: a full disk must not keep us from serving.
            Err(error) if error.is_fatal() => return Err(error),
            Ok(()) | Err(_) => {}
        }
        Ok(Opened {
            store,
            book,
            acked,
            quarantine: quarantined,
            spent,
            marks,
            notes,
            absent,
        })
    }

    /// Makes changes durable, all together: one commit, one fsync.
    ///
    /// `Ok` means that they are on the disk. If the future is dropped before that, they are
    /// there whole or not at all, and the next call takes them back, since nobody was told.
    ///
    /// # Errors
    /// `Full` and `Busy` change nothing and pass by themselves; after `Failed` only
    /// [`Store::heal`] helps.
    pub async fn append(&self, changes: &[Change<'_>]) -> Result<Receipt<'_>, StoreError> {
        let records: Vec<_> = changes
            .iter()
            .flat_map(|change| self.pack(change))
            .collect();
        if records.is_empty() {
            return Ok(Receipt {
                store: self,
                seq: None,
            });
        }
        let mut desk = self.desk().await;
        desk.session.ready().await?;
        let head = desk.session.head();
        // What a record costs beside its body is counted too: a log may be all of single rows.
        let bytes = records
            .iter()
            .map(|(_, packed)| packed.body.len() as u64 + 20)
            .sum();
        let write = |((shop, packed), seq)| Write::Change { seq, shop, packed };
        let writes: Vec<_> = records
            .into_iter()
            .zip(head.last_seq + 1..)
            .map(write)
            .collect();
        let last_seq = head.last_seq + i64::try_from(writes.len()).unwrap_or(i64::MAX);
        desk.session
            .commit(writes, Head { last_seq, ..head })
            .await?;
        desk.session.logged(bytes);
        for change in changes {
            self.follow(&mut desk.quarantine, change);
        }
        let seq = head.last_seq + 1;
        locked(&self.held).insert(seq);
        Ok(Receipt {
            store: self,
            seq: Some(seq),
        })
    }

    /// Notes durably that so many SKUs of a shop are about to be sent.
    ///
    /// # Errors
    /// As those of [`Store::append`].
    pub async fn note_spent(&self, shop: ShopId, spent: Spent) -> Result<(), StoreError> {
        let mut desk = self.desk().await;
        desk.session.ready().await?;
        let head = desk.session.head();
        let write = Write::Spent {
            shop: self.disk_id(shop),
            spent,
        };
        desk.session.commit(vec![write], head).await
    }

    /// Notes a text under a name, of a shop or of the whole; `None` takes the note away.
    ///
    /// # Errors
    /// As those of [`Store::append`].
    pub async fn note(
        &self,
        shop: Option<ShopId>,
        name: &str,
        text: Option<&str>,
    ) -> Result<(), StoreError> {
        let shop = shop.map_or(notes::WHOLE, |shop| self.disk_id(shop));
        let write = Write::Note {
            shop,
            name: name.to_owned(),
            text: text.map(ToOwned::to_owned),
        };
        let mut desk = self.desk().await;
        desk.session.ready().await?;
        let head = desk.session.head();
        desk.session.commit(vec![write], head).await
    }

    /// Makes a durable commit that changes nothing, to learn whether one is possible.
    ///
    /// # Errors
    /// As those of [`Store::append`].
    pub async fn probe(&self) -> Result<(), StoreError> {
        let mut desk = self.desk().await;
        desk.session.ready().await?;
        let head = desk.session.head();
        desk.session.commit(Vec::new(), head).await
    }

    /// Whether the log has grown enough to be folded.
    #[must_use]
    pub fn wants_compaction(&self) -> bool {
        let vitals = locked(&self.vitals);
        vitals.log_bytes > vitals.snapshot_bytes.max(COMPACTION_BYTES)
    }

    /// Writes what `book`, `acked` and `marks` hold as the new snapshot, and drops the log before
    /// it.
    ///
    /// Appends go on meanwhile; none waits for more than one small step. On a runtime with
    /// several threads, packing a shop keeps nobody waiting.
    ///
    /// # Errors
    /// What the store held before is untouched. After `Full` and `Busy` another attempt may
    /// succeed.
    pub async fn compact(
        &self,
        book: &StockBook,
        acked: impl Fn(ShopId, SkuId) -> Acked + Send + Sync,
        marks: &Marks,
    ) -> Result<(), StoreError> {
        let _alone = self.compacting.lock().await;
        let outcome = self.write_snapshot(book, acked, marks).await;
        if outcome.is_err() && !self.is_failed() {
            // Gives the space back to the appends; the first error is the one that counts.
            let _swept_later = compact::sweep(self).await;
        }
        outcome
    }

    /// After a failure, closes the database, opens it again and verifies every record.
    ///
    /// Changes that were not acknowledged are taken back, and all that is left is written and
    /// synced once more. Returns whether there was anything to heal.
    ///
    /// # Errors
    /// The store has failed for good, or still does; it may be tried again.
    pub async fn heal(&self) -> Result<bool, StoreError> {
        let mut desk = self.desk().await;
        if !desk.session.has_failed() {
            return Ok(false);
        }
        desk.session.reconnect().await?;
        Ok(true)
    }

    /// Whether appends are refused until [`Store::heal`] has succeeded.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        locked(&self.vitals).failed.is_some()
    }

    /// How the store is.
    #[must_use]
    pub fn status(&self) -> Status {
        let vitals = locked(&self.vitals).clone();
        Status {
            disk_bytes: self.directory.bytes(),
            log_bytes: vitals.log_bytes,
            snapshot_bytes: vitals.snapshot_bytes,
            last_seq: vitals.last_seq,
            generation: vitals.generation,
            last_commit_us: u64::try_from(vitals.last_commit.as_micros()).unwrap_or(u64::MAX),
            failed: vitals.failed,
        }
    }

    /// Writes everything into the one file, closes it and lets go of the directory.
    ///
    /// # Errors
    /// Nothing acknowledged is lost, but it may still lie in SQLite's log.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.desk().await.session.close().await
    }

    pub(super) async fn desk(&self) -> Desk<'_> {
        Desk {
            contents: self.desk.lock().await,
            vitals: &self.vitals,
        }
    }

    pub(super) fn disk_id(&self, shop: ShopId) -> i64 {
        self.configured[shop.index()]
    }

    /// The last change of which it is certain that memory has it too.
    pub(super) fn settled_seq(&self, desk: &Desk<'_>) -> i64 {
        let last_seq = desk.session.head().last_seq;
        locked(&self.held)
            .first()
            .map_or(last_seq, |first| first - 1)
    }

    async fn write_snapshot(
        &self,
        book: &StockBook,
        acked: impl Fn(ShopId, SkuId) -> Acked + Send + Sync,
        marks: &Marks,
    ) -> Result<(), StoreError> {
        let mut snapshot = Snapshot::begin(self).await?;
        for shop in book.shops() {
            snapshot
                .shop(book, shop, |id| acked(shop, id), marks)
                .await?;
        }
        for shop in &self.absent {
            snapshot.absent(*shop).await?;
        }
        snapshot.finish().await
    }

    fn pack(&self, change: &Change<'_>) -> Vec<(i64, Packed)> {
        let (shop, packer) = match *change {
            Change::Stock { shop, rows } => {
                let mut packer = Packer::new(Kind::Stock);
                rows.iter()
                    .for_each(|(sku, level)| packer.stock(sku, *level));
                (shop, packer)
            }
            Change::Acked { shop, rows } => {
                let mut packer = Packer::new(Kind::Acked);
                rows.iter()
                    .for_each(|(sku, acked)| packer.acked(sku, *acked));
                (shop, packer)
            }
            Change::Marked { shop, rows } => {
                let mut packer = Packer::new(Kind::Marked);
                rows.iter().for_each(|(sku, mark)| packer.marked(sku, mark));
                (shop, packer)
            }
            Change::Quarantined { shop, row } => {
                let mut packer = Packer::new(Kind::Quarantined);
                packer.quarantined(row);
                (shop, packer)
            }
            Change::Released { shop, sku } => {
                let mut packer = Packer::new(Kind::Released);
                packer.released(sku);
                (shop, packer)
            }
        };
        let id = self.disk_id(shop);
        packer
            .finish()
            .into_iter()
            .map(|packed| (id, packed))
            .collect()
    }

    fn follow(&self, quarantine: &mut Quarantine, change: &Change<'_>) {
        match *change {
            Change::Stock { .. } | Change::Acked { .. } | Change::Marked { .. } => {}
            Change::Quarantined { shop, row } => quarantine.put(self.disk_id(shop), row.clone()),
            Change::Released { shop, sku } => quarantine.release(self.disk_id(shop), sku),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// Proof that changes are on the disk; to be held until memory has them too.
///
/// A compaction writes what memory has and drops from the log what it takes for written: a
/// change that is durable but not yet in the book would be lost with it. As long as a receipt
/// is held, its changes stay in the log.
#[derive(Debug)]
#[must_use = "hold it until book or ledger have the change: a compaction may drop it from the log"]
pub struct Receipt<'a> {
    store: &'a Store,
    // None if nothing had to be written.
    seq: Option<i64>,
}

impl Drop for Receipt<'_> {
    fn drop(&mut self) {
        if let Some(seq) = self.seq {
            locked(&self.store.held).remove(&seq);
        }
    }
}

/// What the one who holds the connection owns.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) session: Session,
    pub(super) quarantine: Quarantine,
}

/// The connection's turn; says how things are when it ends, however it ends.
pub(super) struct Desk<'a> {
    contents: tokio::sync::MutexGuard<'a, Contents>,
    vitals: &'a Mutex<Vitals>,
}

impl Deref for Desk<'_> {
    type Target = Contents;

    fn deref(&self) -> &Contents {
        &self.contents
    }
}

impl DerefMut for Desk<'_> {
    fn deref_mut(&mut self) -> &mut Contents {
        &mut self.contents
    }
}

impl Drop for Desk<'_> {
    fn drop(&mut self) {
        *locked(self.vitals) = self.contents.session.vitals();
    }
}

/// The shops' numbers on disk.
struct Roll {
    configured: Vec<i64>,
    absent: Vec<DiskShop>,
}

/// Numbers the shops that are new and notes the targets that have changed, in one transaction.
async fn enrol(
    session: &mut Session,
    known: Vec<DiskShop>,
    shops: &[ShopKey],
) -> Result<Roll, StoreError> {
    let mut head = session.head();
    let mut writes = Vec::new();
    let mut configured = Vec::new();
    for ShopKey { name, target, .. } in shops {
        let found = known.iter().find(|shop| shop.name == *name);
        let id = found.map_or(head.shops + 1, |shop| shop.id);
        configured.push(id);
        if found.is_some_and(|shop| shop.target == *target) {
            continue;
        }
        writes.push(Write::Shop(DiskShop {
            id,
            name: name.clone(),
            target: target.clone(),
        }));
        if found.is_some() {
            head.last_seq += 1;
            let packed = Packer::forgotten();
            writes.push(Write::Change {
                seq: head.last_seq,
                shop: id,
                packed,
            });
        } else {
            head.shops = id;
        }
    }
    if !writes.is_empty() {
        session.ready().await?;
        session.commit(writes, head).await?;
    }
    let absent = known
        .into_iter()
        .filter(|shop| !configured.contains(&shop.id))
        .collect();
    Ok(Roll { configured, absent })
}

/// The memory of the configured shops, while it is read.
struct Reading {
    /// By number on disk, from 1.
    homes: Vec<Option<ShopId>>,
    book: StockBook,
    acked: Vec<Column<Acked>>,
    quarantine: Quarantine,
    spent: Vec<Vec<Spent>>,
    marks: Marks,
    notes: Notes,
}

async fn read(
    session: &mut Session,
    configured: &[i64],
    shops: &[ShopKey],
) -> Result<Reading, Flaw> {
    let head = session.head();
    let conn = session.conn()?;
    let sizes = sizes(conn, head).await?;
    let size = |id: &i64| {
        sizes
            .iter()
            .find(|(shop, _)| shop == id)
            .map_or(0, |(_, rows)| *rows)
    };
    let home = |id: i64| {
        let place = configured.iter().position(|known| *known == id)?;
        u16::try_from(place).ok().map(ShopId)
    };
    let mut reading = Reading {
        homes: (1..=head.shops).map(home).collect(),
        book: StockBook::new(configured.iter().map(size)),
        acked: configured.iter().map(|_| Column::default()).collect(),
        quarantine: Quarantine::default(),
        spent: Vec::new(),
        marks: Marks::new(shops.iter().map(|shop| shop.warehouses.clone()).collect()),
        notes: notes::read(conn, home).await?,
    };
    replay(&mut *conn, head, |shop, facts| reading.see(shop, facts)).await?;
    for shop in configured {
        reading.spent.push(spent::read(conn, *shop).await?);
    }
    Ok(reading)
}

impl Reading {
    fn see(&mut self, id: i64, facts: Facts<'_>) -> Result<(), Malformed> {
        let place = usize::try_from(id - 1).ok();
        let Some(shop) = place.and_then(|place| self.homes.get(place).copied().flatten()) else {
            // The shop is not configured today: its checksums were right, that is all.
            return Ok(());
        };
        for fact in facts {
            match fact? {
                Fact::Stock(sku, level) => {
                    self.book.restore(shop, sku, level);
                }
                Fact::Acked(sku, acked) => self.acknowledge(shop, sku.as_str(), acked),
                Fact::Full(sku, level, acked, mark) => {
                    let is_marked = mark != Mark::default();
                    // Restoring takes the SKU away: its marks are for the few that have some.
                    let again = is_marked.then(|| sku.clone());
                    let id = self.book.restore(shop, sku, level);
                    if acked != Acked::default() {
                        self.acked[shop.index()].set(id, acked);
                    }
                    if let Some(sku) = again {
                        self.marks.restore(shop, &sku, Some(id), &mark);
                    }
                }
                Fact::Marked(sku, mark) => {
                    let id = self.book.get(shop, sku.as_str()).map(|entry| entry.id());
                    self.marks.restore(shop, &sku, id, &mark);
                }
                Fact::Quarantined(row) => self.quarantine.put(id, row),
                Fact::Released(sku) => self.quarantine.release(id, &sku),
                Fact::Forgotten => {
                    self.acked[shop.index()].clear();
                    self.quarantine.forget(id);
                }
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, shop: ShopId, sku: &str, acked: Acked) {
        if let Some(entry) = self.book.get(shop, sku) {
            self.acked[shop.index()].set(entry.id(), acked);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic is done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
