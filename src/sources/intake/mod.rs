mod digest;
mod taking;
mod told;
mod view;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as Lock, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::{Mutex, MutexGuard, mpsc};
use tracing::{info, warn};

pub use self::taking::{Absent, Duplicates, Taking, Warehouses};
pub use self::told::{Completeness, Outcome, ReadReport, Receipt, Standing, Tally};
use self::view::{View, next};
use super::guard::{Doubt, Effect, judge};
use super::rules::{self, Combine, ShopRules, Steps};
use super::shape::Shape;
use super::stated::{
    Contents, Held, Memory, Settling, SourceId, Stage, Staged, StatedError, Statements, Which,
};
use super::{Entry, Fault, Listing, Rows, Scope};
use crate::clock::Clock;
use crate::http::causes;
use crate::ingest::{Ingest, IngestError, Origin};
use crate::stock::{Instant, ShopId, Sku, StockBook, Update};
use crate::telemetry::{AlarmKind, Alarms};

/// Updates that pass the front door together.
const AT_ONCE: usize = 2_000;

/// Rows that are not applied of which the log shows so many for each delivery.
const LOGGED: usize = 5;

/// The name under which a change of the rules is held, and accepted.
pub const RULES: &str = "rules";

/// Why a delivery was not taken, nor held.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// Its source could not be read to its end.
    #[error("{0}")]
    Unread(String),
    /// What it says does not fit the settings.
    #[error("{0}")]
    Unfit(String),
    /// It cannot be kept.
    #[error(transparent)]
    Stated(#[from] StatedError),
    /// It cannot be staged or looked at.
    #[error("the delivery cannot be staged")]
    Staging(#[from] sqlx::Error),
    /// The front door is shut. What was stated is kept, and will be taken later.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// There is no such source, or nothing of it is held.
    #[error("nothing of {0} is held")]
    NothingHeld(String),
}

/// Whether a doubtful delivery is taken all the same.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Word {
    /// Nobody has said so.
    None,
    /// Somebody has, of this one.
    Accepted(Held),
    /// It is only looked at.
    Look,
}

/// What several rooms give an intake.
#[derive(Clone, Debug)]
pub struct Context {
    /// What is known.
    pub book: Arc<StockBook>,
    /// The front door.
    pub ingest: Ingest,
    /// What time it is.
    pub clock: Clock,
    /// Where trouble is told.
    pub alarms: Alarms,
}

/// All sources of one shop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Intake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shop: ShopId,
    name: String,
    directory: PathBuf,
    seats: Vec<Seat>,
    rules: ShopRules,
    statements: Mutex<Statements>,
    standings: Lock<Vec<Standing>>,
    // The rules are other ones than those under which the book was reckoned last.
    are_rules_pending: AtomicBool,
    // And would empty the shop.
    are_rules_held: AtomicBool,
    context: Context,
}

#[derive(Debug)]
struct Seat {
    id: SourceId,
    taking: Taking,
}

impl Intake {
    /// Opens what the sources of a shop have stated; nothing is taken yet.
    ///
    /// # Errors
    /// The directory cannot be used, or what is in it cannot be read.
    pub async fn open(
        directory: &Path,
        (shop, name): (ShopId, &str),
        takings: Vec<Taking>,
        rules: ShopRules,
        context: Context,
    ) -> Result<Self, IntakeError> {
        let mut statements = Statements::open(directory).await?;
        let mut seats = Vec::new();
        let mut standings = Vec::new();
        for taking in takings {
            let id = statements.source(&taking.name).await?;
            statements.map(id, &taking.mapping).await?;
            let memory = statements.memory(id).await?;
            let (held, is_filled) = (memory.held, memory.rows > 0);
            if let Some(held) = held.last() {
                tell_of_held(&context.alarms, name, &taking.name, &held.doubt);
            }
            if taking.absent == Absent::Zero && !memory.absence.is_empty() {
                tell_of_absence(
                    &context.alarms,
                    &format!("{name}/{}", taking.name),
                    &memory.absence,
                );
            }
            let owes = memory.owes;
            standings.push(Standing {
                held,
                is_filled,
                owes,
                ..Standing::default()
            });
            seats.push(Seat { id, taking });
        }
        Ok(Self(Arc::new(Inner {
            shop,
            name: name.to_owned(),
            directory: directory.to_owned(),
            seats,
            rules,
            statements: Mutex::new(statements),
            standings: Lock::new(standings),
            are_rules_pending: AtomicBool::new(true),
            are_rules_held: AtomicBool::new(false),
            context,
        })))
    }

    /// The shop's name.
    #[must_use]
    pub fn shop(&self) -> &str {
        &self.0.name
    }

    /// The names of its sources, in the configuration's order.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.0.seats.iter().map(|seat| seat.taking.name.as_str())
    }

    /// The place of the source of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.0
            .seats
            .iter()
            .position(|seat| seat.taking.name == name)
    }

    /// How the source is taken.
    #[must_use]
    pub fn taking(&self, source: usize) -> &Taking {
        &self.0.seats[source].taking
    }

    /// A directory for files on their way in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// How a source is doing.
    #[must_use]
    pub fn standing(&self, source: usize) -> Standing {
        self.standings()[source].clone()
    }

    /// Whether of several sources simply the latest is right.
    #[must_use]
    pub fn takes_latest(&self) -> bool {
        self.0.rules.combine == Combine::Latest
    }

    /// Whether a snapshot of a source was taken once.
    #[must_use]
    pub fn is_filled(&self, source: usize) -> bool {
        self.standings()[source].is_filled
    }

    /// Whether the book is behind what is stated, and nobody's word is needed to mend that.
    #[must_use]
    pub fn is_behind(&self, source: usize) -> bool {
        let is_pending = self.0.are_rules_pending.load(Ordering::Relaxed);
        (is_pending || self.standings()[source].owes)
            && !self.0.are_rules_held.load(Ordering::Relaxed)
    }

    /// What a source's reader wanted to remember.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn reader(&self, source: usize) -> Result<String, IntakeError> {
        let mut statements = self.statements().await;
        Ok(statements.memory(self.0.seats[source].id).await?.reader)
    }

    /// Remembers what a source's reader wants to know next time.
    ///
    /// # Errors
    /// It cannot be kept.
    pub async fn remember(&self, source: usize, reader: &str) -> Result<(), IntakeError> {
        let mut statements = self.statements().await;
        Ok(statements.remember(self.0.seats[source].id, reader).await?)
    }

    /// The rows that were set aside in a source's last delivery, at most so many.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn rejected(&self, source: usize, most: u32) -> Result<Vec<Fault>, IntakeError> {
        let mut statements = self.statements().await;
        Ok(statements.rejected(self.0.seats[source].id, most).await?)
    }

    async fn statements(&self) -> MutexGuard<'_, Statements> {
        let mut statements = self.0.statements.lock().await;
        statements.tidy().await;
        statements
    }

    fn standings(&self) -> std::sync::MutexGuard<'_, Vec<Standing>> {
        self.0
            .standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Instant {
        self.0.context.clock.now().into()
    }

    // === Deliveries ===

    /// Takes one delivery: has it read, stages it, judges it, and takes it whole.
    ///
    /// `at` is when the source says it was stated; now, if it does not say, or if that is not
    /// after its last delivery. `read` answers whether what it read is complete, if that can be
    /// told.
    ///
    /// # Errors
    /// It could not be read, kept or taken; the stock is as it was, but for a front door that
    /// was shut in the middle.
    pub async fn deliver<R: Into<ReadReport>>(
        &self,
        source: usize,
        at: impl Into<Option<Instant>>,
        is_meant: bool,
        read: impl AsyncFnOnce(&mut Rows) -> Result<R, String>,
    ) -> Result<Receipt, IntakeError> {
        let began = self.0.context.clock.now();
        let delivered = self.deliver_inner(source, at.into(), is_meant, read).await;
        self.note(source, began, is_meant, delivered)
    }

    async fn deliver_inner<R: Into<ReadReport>>(
        &self,
        source: usize,
        at: Option<Instant>,
        is_meant: bool,
        read: impl AsyncFnOnce(&mut Rows) -> Result<R, String>,
    ) -> Result<Receipt, IntakeError> {
        let seat = &self.0.seats[source];
        let _under_way = UnderWay::begin(self, source);
        let stage = self
            .statements()
            .await
            .stage(seat.id, seat.taking.duplicates)
            .await?;
        let (mut rows, entries) = Rows::channel();
        let reading = async {
            let read = read(&mut rows).await;
            // Nobody listens only if staging has failed, which says more.
            let _given_up = rows.flush().await;
            drop(rows);
            read
        };
        let (read, staged) = tokio::join!(reading, self.fill(source, stage, entries));
        // A stage that broke is the cause of a reader that gave up, not the other way round.
        let stage = staged?;
        let ReadReport {
            completeness,
            shapes,
            notices,
        } = read.map_err(IntakeError::Unread)?.into();
        let staged = stage.end().await?;
        let word = if is_meant { Word::None } else { Word::Look };
        let delivery = Delivery {
            scope: completeness.scope(seat.taking.scope),
            listing: completeness.listing(seat.taking.scope),
            at,
            tells_absence: staged.brought.unnamed == 0,
            staged,
            shapes,
            notices,
        };
        self.finish(source, delivery, word).await
    }

    async fn fill(
        &self,
        source: usize,
        mut stage: Stage,
        mut entries: mpsc::Receiver<Vec<Entry>>,
    ) -> Result<Stage, IntakeError> {
        while let Some(entries) = entries.recv().await {
            stage.put(entries, self.now()).await?;
            self.standings()[source].read_rows = stage.brought().rows;
        }
        Ok(stage)
    }

    /// Takes what is held of a source, the oldest first. What was stated since is newer, and
    /// stays.
    ///
    /// # Errors
    /// Nothing is held, or it cannot be taken now.
    pub async fn accept(&self, name: &str) -> Result<Receipt, IntakeError> {
        let nothing = || IntakeError::NothingHeld(name.to_owned());
        let source = self.find(name).ok_or_else(nothing)?;
        let id = self.0.seats[source].id;
        let held = self.statements().await.memory(id).await?.held;
        let mut receipt = Err(nothing());
        for held in held {
            let began = self.0.context.clock.now();
            let accepted = self.accept_one(source, &held).await;
            receipt = Ok(self.note(source, began, true, accepted)?);
        }
        receipt
    }

    async fn accept_one(&self, source: usize, held: &Held) -> Result<Receipt, IntakeError> {
        let staged = self.statements().await.held(held).await?;
        let delivery = Delivery {
            scope: if held.is_snapshot {
                Scope::Snapshot
            } else {
                Scope::Delta
            },
            // What it lists was settled before it was held.
            listing: Listing::Changes,
            at: Instant::from_micros(held.at),
            tells_absence: held.tells_absence,
            staged,
            shapes: held.shapes.clone(),
            notices: Vec::new(),
        };
        self.finish(source, delivery, Word::Accepted(held.clone()))
            .await
    }

    async fn finish(
        &self,
        source: usize,
        delivery: Delivery,
        word: Word,
    ) -> Result<Receipt, IntakeError> {
        let seat = &self.0.seats[source];
        let Delivery { scope, staged, .. } = &delivery;
        if let Some(reason) = seat.taking.warehouses.refuse(&staged.places, *scope) {
            return Err(IntakeError::Unfit(reason));
        }
        let mut statements = self.statements().await;
        let memory = statements.memory(seat.id).await?;
        let taking = self.dated(&delivery, &memory, &word);
        let Taking {
            duplicates,
            variants,
            ..
        } = seat.taking;
        let settling = Settling {
            duplicates,
            variants,
            listing: delivery.listing,
        };
        let contents = statements.settle(seat.id, staged, settling).await?;
        if word != Word::Look {
            statements.note_rejected(seat.id).await?;
        }
        statements.take(seat.id, taking).await?;
        // What an earlier delivery owes is paid along with this one.
        let which = if memory.owes {
            Which::Of(seat.id)
        } else {
            Which::Delivered(seat.id, *scope)
        };
        let tally = match self.tally(&mut statements, which.clone(), *scope).await {
            Ok(tally) => tally,
            Err(error) => {
                statements.abandon().await?;
                return Err(error);
            }
        };
        let mut receipt = receipt(&delivery, taking, &contents, tally, seat.taking.absent);
        let doubts = self.doubts(seat, &memory, &delivery, effect(&memory, &contents, tally));
        let held = (!doubts.is_empty())
            .then(|| self.held(&memory.held, (&delivery, taking), doubts.join("; ")));
        if word == Word::Look {
            statements.abandon().await?;
            receipt.outcome = held.map_or(Outcome::Looked, |held| Outcome::Held(held.doubt));
            return Ok(receipt);
        }
        let is_repeated = |held: &Held| {
            seat.taking
                .limits
                .repeats
                .is_some_and(|repeats| held.times > repeats)
        };
        if let Some(held) = held.filter(|held| word == Word::None && !is_repeated(held)) {
            statements.abandon().await?;
            receipt.outcome = Outcome::Held(held.doubt.clone());
            let all = statements.hold(seat.id, delivery.staged, held).await?;
            self.standings()[source].held = all;
            return Ok(receipt);
        }
        if !delivery.shapes.is_empty() {
            let accepted = memory.shapes.accept(&delivery.shapes, &seat.taking.reading);
            statements.note_shapes(seat.id, &accepted).await?;
        }
        if receipt.absence_untold.is_some() || *scope == Scope::Snapshot {
            let why = receipt.absence_untold.as_deref().unwrap_or_default();
            statements.note_absence(seat.id, why).await?;
        }
        self.settle_up(&mut statements, source, which).await?;
        // A whole that is meant replaces all that waits; changes only what they are.
        let released = match word {
            Word::Accepted(held) => vec![held],
            Word::None | Word::Look if *scope == Scope::Snapshot => memory.held,
            Word::None | Word::Look => Vec::new(),
        };
        let all = statements.release(seat.id, &released).await?;
        let standing = &mut self.standings()[source];
        standing.is_filled |= *scope == Scope::Snapshot;
        standing.held = all;
        Ok(receipt)
    }

    /// What speaks against taking a delivery.
    fn doubts(
        &self,
        seat: &Seat,
        memory: &Memory,
        delivery: &Delivery,
        effect: Effect,
    ) -> Vec<String> {
        // A file that is handed over by hand may be any file.
        let is_by_hand = seat.taking.origin == Origin::Import;
        let difference = memory
            .shapes
            .difference(&delivery.shapes, &seat.taking.reading);
        let shape = difference.filter(|_| !is_by_hand).map(Doubt::Shape);
        let effect = judge(delivery.scope, effect, &seat.taking.limits);
        shape
            .into_iter()
            .chain(effect)
            .map(|doubt| doubt.to_string())
            .collect()
    }

    /// As of when a delivery is taken.
    fn dated(&self, delivery: &Delivery, memory: &Memory, word: &Word) -> super::stated::Taking {
        let now = self.now();
        let at = delivery.at.unwrap_or(now).min(now);
        let is_later = memory.stated_at.is_none_or(|stated| at > stated);
        let has_waited = matches!(word, Word::Accepted(_));
        super::stated::Taking {
            scope: delivery.scope,
            // What comes later from the same source is never older, unless it has waited here.
            at: if is_later || has_waited { at } else { now },
            tells_absence: delivery.tells_absence,
            is_late: has_waited && !is_later,
        }
    }

    /// Makes what was taken durable, and brings it into the book.
    async fn settle_up(
        &self,
        statements: &mut Statements,
        source: usize,
        which: Which,
    ) -> Result<(), IntakeError> {
        let id = self.0.seats[source].id;
        // From here on it is stated; the book follows, later if need be.
        self.standings()[source].owes = true;
        statements.commit().await?;
        if self.0.are_rules_pending.load(Ordering::Relaxed) {
            // Under which rules is for somebody to say.
            return Ok(statements.finish().await?);
        }
        let applied = self.apply(statements, which).await;
        statements.finish().await?;
        applied?;
        statements.paid(id).await?;
        self.standings()[source].owes = false;
        Ok(())
    }

    fn held(
        &self,
        before: &[Held],
        (delivery, taking): (&Delivery, super::stated::Taking),
        doubt: String,
    ) -> Held {
        let digest = delivery.staged.digest;
        let same = before.last().filter(|held| held.digest == digest);
        let now = self.now().as_micros();
        Held {
            file: format!("held-{now}-{digest:016x}.db"),
            since: before.first().map_or(now, |held| held.since),
            at: taking.at.as_micros(),
            is_snapshot: delivery.scope == Scope::Snapshot,
            tells_absence: delivery.tells_absence,
            doubt,
            digest,
            shapes: delivery.shapes.clone(),
            times: same.map_or(1, |held| held.times.saturating_add(1)),
        }
    }

    /// Notes what became of a delivery, where people look.
    fn note(
        &self,
        source: usize,
        began: DateTime<Utc>,
        is_meant: bool,
        delivered: Result<Receipt, IntakeError>,
    ) -> Result<Receipt, IntakeError> {
        let now = self.0.context.clock.now();
        let (shop, name) = (&self.0.name, &self.0.seats[source].taking.name);
        let about = format!("{shop}/{name}");
        let alarms = &self.0.context.alarms;
        let mut standings = self.standings();
        let standing = &mut standings[source];
        let mut receipt = match delivered {
            Ok(receipt) => receipt,
            Err(error) => {
                if is_meant {
                    standing.is_unreachable = false;
                    standing.failed += 1;
                    let text = causes(&error);
                    standing.failure = Some((now, text.clone()));
                    drop(standings);
                    let text =
                        format!("{about} could not be taken, the stock is as it was: {text}");
                    alarms.raise(AlarmKind::SourceFailed, &about, text);
                }
                return Err(error);
            }
        };
        receipt.took_ms = (now - began).num_milliseconds();
        if !is_meant {
            return Ok(receipt);
        }
        standing.failure = None;
        standing.last_at = Some(now);
        standing.rejected += receipt.rejected;
        standing.suspicious += receipt.suspicious;
        let Receipt {
            rows,
            rejected,
            suspicious,
            tally,
            took_ms,
            ..
        } = &receipt;
        log_rows(&about, &receipt);
        match &receipt.outcome {
            Outcome::Held(doubt) => {
                standing.held_total += 1;
                tell_of_held(alarms, shop, name, doubt);
            }
            Outcome::Taken | Outcome::Looked => {
                standing.taken += 1;
                standing.rows += rows;
                if standing.held.is_empty() {
                    alarms.clear(AlarmKind::SourceHeld, &about);
                }
                match &receipt.absence_untold {
                    Some(why) => tell_of_absence(alarms, &about, why),
                    // Only the next snapshot tells whether it is over.
                    None if receipt.scope == Scope::Snapshot => {
                        alarms.clear(AlarmKind::AbsenceNotApplied, &about);
                    }
                    None => {}
                }
                let Tally {
                    new,
                    changed,
                    unchanged,
                    zeroed,
                    ..
                } = tally;
                info!(
                    shop,
                    source = name,
                    rows,
                    rejected,
                    suspicious,
                    new,
                    changed,
                    unchanged,
                    zeroed,
                    took_ms,
                    "{about} has stated {rows} rows: {new} new, {changed} changed, {zeroed} of \
                     them to zero, {unchanged} as before, {rejected} rejected, {suspicious} suspicious"
                );
            }
        }
        alarms.clear(AlarmKind::SourceFailed, &about);
        standing.last = Some(receipt.clone());
        Ok(receipt)
    }

    /// Notes that a source could not be asked at all.
    pub fn note_failure(&self, source: usize, text: &str) {
        let now = self.0.context.clock.now();
        let about = format!("{}/{}", self.0.name, self.0.seats[source].taking.name);
        {
            let standing = &mut self.standings()[source];
            standing.failed += 1;
            standing.is_unreachable = true;
            standing.failure = Some((now, text.to_owned()));
        }
        let text = format!("{about} cannot be read, the stock is as it was: {text}");
        self.0
            .context
            .alarms
            .raise(AlarmKind::SourceFailed, &about, text);
    }

    /// Notes that a source can be asked again, and has nothing new.
    pub fn note_reached(&self, source: usize) {
        let standing = &mut self.standings()[source];
        if std::mem::take(&mut standing.is_unreachable) {
            standing.failure = None;
            let about = format!("{}/{}", self.0.name, self.0.seats[source].taking.name);
            self.0.context.alarms.clear(AlarmKind::SourceFailed, &about);
        }
    }

    // === From statements to stock ===

    /// Brings the book in line with what is stated: what was cut off by the last stop, and
    /// everything if the rules are other ones now.
    ///
    /// # Errors
    /// It cannot be read or taken.
    pub async fn reckon(&self) -> Result<(), IntakeError> {
        let mut statements = self.statements().await;
        let rules = self.digest();
        let is_known = statements.rules().await? == rules;
        self.0.are_rules_pending.store(!is_known, Ordering::Relaxed);
        for seat in &self.0.seats {
            if is_known && statements.memory(seat.id).await?.owes {
                self.apply(&mut statements, Which::Of(seat.id)).await?;
                statements.paid(seat.id).await?;
            }
        }
        if is_known {
            self.standings()
                .iter_mut()
                .for_each(|standing| standing.owes = false);
        }
        if is_known {
            return Ok(());
        }
        let tally = self
            .tally(&mut statements, Which::All, Scope::Delta)
            .await?;
        let limits = self
            .0
            .seats
            .first()
            .map(|seat| seat.taking.limits)
            .unwrap_or_default();
        let Tally {
            in_stock, zeroed, ..
        } = tally;
        let effect = Effect {
            in_stock,
            zeroed,
            ..Effect::default()
        };
        if let Some(doubt) = judge(Scope::Delta, effect, &limits) {
            // Rules are the operator's own word, but a slip of the pen is not.
            self.0.are_rules_held.store(true, Ordering::Relaxed);
            tell_of_held(
                &self.0.context.alarms,
                &self.0.name,
                RULES,
                &doubt.to_string(),
            );
            return Ok(());
        }
        self.adopt(&mut statements, &rules).await
    }

    /// Takes the rules as they are, whatever they turn to zero.
    ///
    /// # Errors
    /// What is stated cannot be read or taken.
    pub async fn accept_rules(&self) -> Result<(), IntakeError> {
        let mut statements = self.statements().await;
        let rules = self.digest();
        if statements.rules().await? == rules {
            return Err(IntakeError::NothingHeld(RULES.to_owned()));
        }
        self.adopt(&mut statements, &rules).await
    }

    async fn adopt(&self, statements: &mut Statements, rules: &str) -> Result<(), IntakeError> {
        self.apply(statements, Which::All).await?;
        statements.note_rules(rules).await?;
        self.0.are_rules_pending.store(false, Ordering::Relaxed);
        self.0.are_rules_held.store(false, Ordering::Relaxed);
        for seat in &self.0.seats {
            statements.paid(seat.id).await?;
        }
        self.standings()
            .iter_mut()
            .for_each(|standing| standing.owes = false);
        let about = format!("{}/{RULES}", self.0.name);
        self.0.context.alarms.clear(AlarmKind::SourceHeld, &about);
        Ok(())
    }

    /// The digest of all rules that make stock of statements.
    fn digest(&self) -> String {
        digest::digest(&self.0.rules, self.0.seats.iter().map(|seat| &seat.taking))
    }

    async fn view(&self, statements: &mut Statements) -> Result<View<'_>, IntakeError> {
        let snapshots = statements.snapshots().await?.into_iter().collect();
        let rules = self.0.seats.iter().map(|seat| seat.taking.rules).collect();
        Ok(View {
            seats: &self.0.seats,
            snapshots,
            rules,
            shop: &self.0.rules,
            is_anew: false,
        })
    }

    /// What would become of the book.
    async fn tally(
        &self,
        statements: &mut Statements,
        which: Which,
        scope: Scope,
    ) -> Result<Tally, IntakeError> {
        let mut view = self.view(statements).await?;
        view.is_anew = matches!(which, Which::All);
        let mut tally = Tally::default();
        let mut groups = statements.groups(which);
        while let Some((sku, result)) = next(&mut groups, &view).await? {
            let known = self.0.context.book.get(self.0.shop, sku.as_str());
            let known = known.map(|entry| entry.level());
            let is_in_stock = known.is_some_and(|level| level.count.get() > 0);
            tally.in_stock += u64::from(is_in_stock);
            match known {
                None => tally.new += 1,
                Some(known) if known.updated_at > result.at => tally.outdated += 1,
                Some(known) if known.count == result.count => tally.unchanged += 1,
                Some(_) => {
                    tally.changed += 1;
                    tally.zeroed += u64::from(is_in_stock && result.count.get() == 0);
                }
            }
        }
        if scope == Scope::Delta {
            // It speaks of what has changed only: what it empties is a part of the whole shop.
            tally.in_stock = 0;
            self.0.context.book.for_each(self.0.shop, |_, entry| {
                tally.in_stock += u64::from(entry.level().count.get() > 0);
            });
        }
        Ok(tally)
    }

    /// Brings it into the book.
    async fn apply(&self, statements: &mut Statements, which: Which) -> Result<(), IntakeError> {
        let mut view = self.view(statements).await?;
        view.is_anew = matches!(which, Which::All);
        let mut waiting: Vec<(Origin, Vec<Update>)> = Vec::new();
        let mut groups = statements.groups(which);
        while let Some((sku, result)) = next(&mut groups, &view).await? {
            let origin = self.0.seats[result.source].taking.origin;
            let update = Update {
                sku,
                count: result.count,
                updated_at: Some(result.at),
            };
            let known = waiting.iter().position(|(known, _)| *known == origin);
            let at = known.unwrap_or(waiting.len());
            if known.is_none() {
                waiting.push((origin, Vec::with_capacity(AT_ONCE)));
            }
            waiting[at].1.push(update);
            if waiting[at].1.len() == AT_ONCE {
                let updates = std::mem::replace(&mut waiting[at].1, Vec::with_capacity(AT_ONCE));
                self.0
                    .context
                    .ingest
                    .confirm(origin, self.0.shop, updates)
                    .await?;
            }
        }
        drop(groups);
        for (origin, updates) in waiting
            .into_iter()
            .filter(|(_, updates)| !updates.is_empty())
        {
            self.0
                .context
                .ingest
                .confirm(origin, self.0.shop, updates)
                .await?;
        }
        Ok(())
    }

    /// How the stock of a SKU comes about, step by step; empty if no source has stated any.
    ///
    /// # Errors
    /// What is stated cannot be read.
    pub async fn explain(&self, sku: &Sku) -> Result<Vec<String>, IntakeError> {
        let mut statements = self.statements().await;
        let view = self.view(&mut statements).await?;
        let mut groups = statements.groups(Which::One(sku.as_str().to_owned()));
        let mut lines = Vec::new();
        while let Some(group) = groups.next().await? {
            if group[0].sku != sku.as_str() {
                continue;
            }
            let parts = view.parts(&group);
            for said in &group {
                lines.push(view.describe(said));
            }
            let mut steps = Vec::new();
            let result = rules::evaluate(
                sku,
                &parts,
                &view.rules,
                view.shop,
                &mut Steps::to(&mut steps),
            );
            lines.append(&mut steps);
            if let Some(result) = result {
                lines.push(format!("result: {} as of {}", result.count, result.at));
            }
        }
        Ok(lines)
    }
}

/// A source is being read, as long as this is there: its caller may go away in the middle.
struct UnderWay<'a> {
    intake: &'a Intake,
    source: usize,
}

impl<'a> UnderWay<'a> {
    fn begin(intake: &'a Intake, source: usize) -> Self {
        let now = intake.0.context.clock.now();
        let standing = &mut intake.standings()[source];
        (standing.reading_since, standing.read_rows) = (Some(now), 0);
        Self { intake, source }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.intake.standings()[self.source].reading_since = None;
    }
}

/// A delivery that is all there.
#[derive(Debug)]
struct Delivery {
    staged: Staged,
    scope: Scope,
    // Which variants it lists.
    listing: Listing,
    // As the source says.
    at: Option<Instant>,
    // Whether absence can be told at all.
    tells_absence: bool,
    shapes: Vec<Shape>,
    notices: Vec<String>,
}

fn receipt(
    delivery: &Delivery,
    taking: super::stated::Taking,
    contents: &Contents,
    tally: Tally,
    absent: Absent,
) -> Receipt {
    let is_untold = taking.scope == Scope::Snapshot && !taking.tells_absence;
    Receipt {
        outcome: Outcome::Taken,
        at: taking.at,
        scope: taking.scope,
        rows: contents.rows,
        rejected: contents.rejected - contents.suspicious,
        suspicious: contents.suspicious,
        first_rejected: contents.first_rejected.clone(),
        tally,
        absence_untold: (is_untold && absent == Absent::Zero)
            .then(|| absence_untold(delivery.staged.unnamed.as_ref())),
        notices: delivery.notices.clone(),
        took_ms: 0,
    }
}

/// Logs what the operator should know of a delivery: notices, and the first rows not applied.
fn log_rows(about: &str, receipt: &Receipt) {
    for notice in &receipt.notices {
        info!("{about}: {notice}");
    }
    for Fault {
        line,
        text,
        reason,
        is_suspicious,
        ..
    } in receipt.first_rejected.iter().take(LOGGED)
    {
        let kind = if *is_suspicious {
            "suspicious"
        } else {
            "rejected"
        };
        warn!(line, "{about}: {kind} row, line {line}: {reason}: {text}");
    }
}

/// Says why SKUs that a snapshot does not name keep their stock.
fn absence_untold(row: Option<&Fault>) -> String {
    let row = row.map_or_else(
        || "a row that is not applied does not name its SKU".to_owned(),
        |Fault {
             line, text, reason, ..
         }| {
            format!(
                "the row at line {line} is not applied and does not name its SKU ({reason}): {text}"
            )
        },
    );
    format!(
        "absent = \"zero\" is not applied, SKUs that are missing keep their stock, because {row}. \
         Correct the row, and the next snapshot applies it"
    )
}

fn effect(memory: &Memory, contents: &Contents, tally: Tally) -> Effect {
    Effect {
        rows: contents.rows,
        rows_before: memory.rows,
        // Many a catalogue has products without a SKU, of which nothing can be said; only if
        // nothing else is there, the catalogue itself is missing.
        // Shared articles are how a shop keeps its catalogue, and no sign of a broken file.
        rejected: contents.rejected
            - contents.unclear
            - if contents.rows == 0 {
                0
            } else {
                contents.nameless
            },
        in_stock: tally.in_stock,
        zeroed: tally.zeroed,
    }
}

fn tell_of_absence(alarms: &Alarms, about: &str, why: &str) {
    alarms.raise(
        AlarmKind::AbsenceNotApplied,
        about,
        format!("{about}: {why}"),
    );
}

fn tell_of_held(alarms: &Alarms, shop: &str, source: &str, doubt: &str) {
    let about = format!("{shop}/{source}");
    let text = format!(
        "{about} is held and the stock stays as it was: {doubt}. If that is meant: stockbridge \
         accept {source} --shop {shop}"
    );
    alarms.raise(AlarmKind::SourceHeld, &about, text);
}

#[cfg(test)]
pub(super) mod tests;
#[cfg(test)]
mod tests_cut;
