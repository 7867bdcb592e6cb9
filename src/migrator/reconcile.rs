//! Reads the Market's copy back and compares it with what was acknowledged. Decides, and sends
//! nothing: [`super::run`] does.
//!
//! A pass goes through every page, of each warehouse, first what is on sale and then the
//! archive, and ends with the SKUs that were on none. What differs is told in classes; sent
//! again is only what the Market proves not to have heard, or what the seller has said anew
//! since: an old number said once more would undo the Market's own bookkeeping of orders.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use tokio::time::Instant;

use super::Mode;
use super::batch::held_in_window;
use super::ledger::{Ledger, is_dirty};
use super::plan::{Now, is_asserted_since};
use super::verdict::{Verdict, judge};
use crate::history::{History, What};
use crate::partner::client::Reply;
use crate::partner::page::{Look, Page, Shown, page_size};
use crate::partner::wire::{Address, SKUS_PER_MINUTE};
use crate::stock::{Column, Entry, Level, Marks, ShopId, Sku, SkuId, StockBook};
use crate::store::Acked;

/// SKUs a minute that read-backs may ask for by themselves: a tenth of the limit, which is one
/// of its own. Sources: `getStocks`, 100 000 SKUs a minute; `getStocksOnPartnerWarehouses`, 500
/// requests of 200 SKUs.
const SKUS_A_MINUTE: u32 = SKUS_PER_MINUTE / 10;

/// And while somebody waits for the outcome: half of it.
const SKUS_A_MINUTE_IN_A_HURRY: u32 = SKUS_PER_MINUTE / 2;

/// The first pass after a start comes no later than this.
const FIRST_PASS: Duration = Duration::from_mins(15);

/// How long after the Market should show it a pass looks whether what was sent again arrived.
const FOLLOW_UP: Duration = Duration::from_mins(1);

/// Read-backs are tried again after this, when the Market does not answer with a page.
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// And after this, when the key may not.
const TRY_AGAIN_DENIED: Duration = Duration::from_mins(10);

/// A pass that met so many failures in a row is given up; the next one comes in its time.
const MAX_FAILURES: u32 = 20;

/// So many examples are kept of each class that is worth some.
const MAX_EXAMPLES: usize = 20;

/// Most SKUs that one pass finds to be sent again.
const MAX_RESENT: usize = 50_000;

/// How the Market's copy of one SKU stands to what it was told.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// It shows what we sent.
    Equal,
    /// It shows fewer, and the difference is reserved, or was ordered since.
    Explained,
    /// It shows another number, and took ours less than 15 minutes ago.
    Pending,
    /// It is in the Market's archive.
    Archived,
    /// The Market shows it, and the seller never spoke of it.
    NotOurs,
    /// The book is ahead of what was sent.
    Unsent,
    /// The Market refuses it.
    Refused,
    /// The Market took it and shows it nowhere: perhaps it is not in the catalogue.
    Unknown,
    /// It shows another number, and nothing explains it.
    Drifted,
}

impl Class {
    /// All of them, the most harmless first.
    pub const ALL: [Self; 9] = [
        Self::Equal,
        Self::Explained,
        Self::Pending,
        Self::Archived,
        Self::NotOurs,
        Self::Unsent,
        Self::Refused,
        Self::Unknown,
        Self::Drifted,
    ];

    /// A stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Explained => "explained",
            Self::Pending => "pending",
            Self::Archived => "archived",
            Self::NotOurs => "not_ours",
            Self::Unsent => "unsent",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Drifted => "drifted",
        }
    }

    /// Whether such a SKU leaves no question.
    #[must_use]
    pub fn is_explained(self) -> bool {
        match self {
            Self::Equal | Self::Explained | Self::Pending | Self::Archived | Self::NotOurs => true,
            Self::Unsent | Self::Refused | Self::Unknown | Self::Drifted => false,
        }
    }

    /// Its number in a [`Sighting`] and in the history.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The class of that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// What a comparison of one SKU starts from.
#[derive(Clone, Copy, Debug)]
struct Ours {
    level: Level,
    acked: Acked,
    // In a dry run nothing was sent: the book itself is compared.
    is_dry: bool,
    // How long the Market may take to show what it took.
    grace: TimeDelta,
    // How far apart the two clocks are at most.
    apart: TimeDelta,
}

impl Ours {
    /// Between which moments the date lies that was sent, by the Market's clock.
    fn sent_between(&self, sent_at: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
        // It was held inside what the Market takes, at a moment of which we keep the second; and
        // what the Market shows may be cut to seconds again.
        let held = |now| held_in_window(self.level.updated_at, now).to_utc();
        let margin = self.apart + SECOND;
        (held(sent_at) - margin, held(sent_at + SECOND) + margin)
    }
}

/// Compares what the Market shows of a SKU with what it was told.
fn classify(ours: Ours, shown: &Shown, archived: bool, now: DateTime<Utc>) -> Class {
    let count = u64::from(ours.level.count.get());
    if archived {
        return Class::Archived;
    }
    if ours.is_dry {
        return if shown.available == count { Class::Equal } else { Class::Drifted };
    }
    let Some(acked_at) = ours.acked.acked_at() else { return Class::Unsent };
    if is_dirty(ours.level, ours.acked) {
        return Class::Unsent;
    }
    if shown.available == count {
        return Class::Equal;
    }
    if now - acked_at < ours.grace {
        return Class::Pending;
    }
    let fewer = shown.available < count;
    // The Market's own bookkeeping is dated after what we said.
    let (_, latest) = ours.sent_between(acked_at);
    let is_touched = shown.updated_at.is_some_and(|at| at.to_utc() > latest);
    if fewer && (shown.available + shown.reserved >= count || is_touched) {
        return Class::Explained;
    }
    Class::Drifted
}

const SECOND: TimeDelta = TimeDelta::seconds(1);

/// Whether what the Market shows is dated before the earliest date that we can have sent: then
/// our update never arrived, whatever was answered.
fn is_lost(ours: Ours, shown: &Shown) -> bool {
    let (Some(acked_at), Some(shown_at)) = (ours.acked.acked_at(), shown.updated_at) else {
        return false;
    };
    let (earliest, _) = ours.sent_between(acked_at);
    shown_at.to_utc() < earliest
}

/// What the Market showed of a SKU last, in 8 bytes. Never, by default.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sighting {
    available: u32,
    // Minutes since 2020 in the upper 24 bits, of which 0 is never; then the pass, modulo 16;
    // then the class.
    packed: u32,
}

const SIGHTINGS_BEGIN: i64 = 1_577_836_800;

impl Sighting {
    fn new(available: u64, at: DateTime<Utc>, pass: u8, class: Class) -> Self {
        let minutes = ((at.timestamp() - SIGHTINGS_BEGIN) / 60).clamp(1, 0xff_ffff);
        let minutes = u32::try_from(minutes).unwrap_or(1);
        let packed = minutes << 8 | u32::from(pass % 16) << 4 | u32::from(class.number());
        Self { available: u32::try_from(available).unwrap_or(u32::MAX), packed }
    }

    /// How many can be ordered, by the Market's account.
    #[must_use]
    pub fn available(self) -> u32 {
        self.available
    }

    /// When it was looked at, to the minute; `None` if never.
    #[must_use]
    pub fn at(self) -> Option<DateTime<Utc>> {
        let minutes = i64::from(self.packed >> 8);
        (minutes > 0).then(|| DateTime::from_timestamp(SIGHTINGS_BEGIN + minutes * 60, 0)).flatten()
    }

    /// How it stood to what the Market was told.
    #[must_use]
    pub fn class(self) -> Option<Class> {
        self.at().and_then(|_| Class::from_number(self.packed.to_le_bytes()[0] & 0x0f))
    }

    fn is_of(self, pass: u8) -> bool {
        self.packed >> 8 != 0 && (self.packed >> 4) & 0x0f == u32::from(pass % 16)
    }
}

/// What the Market showed last of each SKU of every shop.
#[derive(Debug)]
pub struct Sightings {
    shops: Vec<Mutex<Column<Sighting>>>,
}

impl Sightings {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(shops: usize) -> Self {
        Self { shops: (0..shops).map(|_| Mutex::default()).collect() }
    }

    /// What was seen last of one SKU.
    #[must_use]
    pub fn get(&self, shop: ShopId, id: SkuId) -> Sighting {
        self.with(shop, |column| column.get(id))
    }

    fn with<T>(&self, shop: ShopId, act: impl FnOnce(&mut Column<Sighting>) -> T) -> T {
        act(&mut self.shops[shop.index()].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What reading the Market's copy back has come to, for the operator.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Survey {
    /// `never`, `running`, `done`, or `failed`: given up for now.
    pub state: &'static str,
    /// When the latest pass began.
    pub began: Option<DateTime<Utc>>,
    /// When the latest whole pass ended.
    pub ended: Option<DateTime<Utc>>,
    /// When the Market's copy was last explained to the last SKU.
    pub last_equal: Option<DateTime<Utc>>,
    /// Pages read in the latest pass.
    pub pages: u64,
    /// Offers on them that are of our warehouses.
    pub listed: u64,
    /// SKUs by class, of the latest whole pass, as all that follows.
    pub classes: BTreeMap<&'static str, u64>,
    /// SKUs the pass found to be sent again.
    pub resent: u64,
    /// What would be sent, if this were no dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_send: Option<WouldSend>,
    /// Some of those that are worth a look.
    pub examples: Arc<[Example]>,
    /// Why there was no page, the last time there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl Survey {
    /// How many SKUs of classes that leave a question.
    #[must_use]
    pub fn open_questions(&self) -> u64 {
        let open = Class::ALL.iter().filter(|class| !class.is_explained());
        open.filter_map(|class| self.classes.get(class.name())).sum()
    }
}

/// What a dry run would send, against what the Market shows.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct WouldSend {
    /// SKUs to be sent in all.
    pub skus: u64,
    /// Of which the Market shows the same number already.
    pub same: u64,
    /// Which would be sold out.
    pub to_zero: u64,
    /// Of which there would be fewer.
    pub lower: u64,
    /// Of which there would be more.
    pub higher: u64,
    /// Which the Market does not show.
    pub unknown: u64,
    /// Requests it would take.
    pub requests: u64,
    /// And minutes, by the Market's limit.
    pub minutes: u64,
}

/// One SKU worth a look.
#[derive(Clone, Debug, Serialize)]
pub struct Example {
    /// Which SKU.
    pub sku: String,
    /// Its class.
    pub class: &'static str,
    /// What the book says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ours: Option<u32>,
    /// When the Market took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// What the Market shows, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub markets: Option<u64>,
    /// How many of it are reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved: Option<u64>,
    /// Since when, by the Market's account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub markets_updated_at: Option<DateTime<Utc>>,
}

/// What the surveyor looks at.
#[derive(Clone, Debug)]
pub struct Field {
    /// Which shop.
    pub shop: ShopId,
    /// By which method the Market is asked.
    pub address: Address,
    /// The warehouses that are ours, as the method numbers them.
    pub warehouses: Vec<u64>,
    /// Whether anything is sent at all.
    pub mode: Mode,
    /// How often a pass begins by itself.
    pub every: Option<Duration>,
    /// How long the Market may take to show what it took. Source: `updateStocks`, "several
    /// minutes".
    pub grace: TimeDelta,
    /// What the seller has.
    pub book: Arc<StockBook>,
    /// What the Market has acknowledged.
    pub ledger: Arc<Ledger>,
    /// When the seller last asserted what.
    pub marks: Arc<Marks>,
    /// What was seen of each SKU.
    pub sightings: Arc<Sightings>,
    /// What happened to each SKU lately.
    pub history: Arc<History>,
}

impl Field {
    fn ours(&self, entry: Entry, acked: Acked, apart: TimeDelta) -> Ours {
        let is_dry = self.mode == Mode::DryRun;
        Ours { level: entry.level(), acked, is_dry, grace: self.grace, apart }
    }
}

/// See the module.
pub struct Surveyor {
    field: Field,
    pass: Option<Pass>,
    // Counts passes, modulo 16.
    number: u8,
    next_pass: Option<Instant>,
    next_look: Instant,
    is_hurried: bool,
    // The next pass looks whether what was sent again has arrived.
    is_follow_up: bool,
    failures: u32,
    is_looking: bool,
    survey: Survey,
}

/// One pass through the Market's copy.
struct Pass {
    stages: Vec<(Vec<u64>, bool)>,
    token: Option<String>,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    not_ours: u64,
    would: WouldSend,
    examples: Vec<Example>,
    by_class: BTreeMap<Class, usize>,
    lost: Vec<(Sku, SkuId)>,
}

/// A read-back that ended.
#[derive(Debug)]
pub struct Landed {
    look: Look,
    page: Result<Page, Verdict>,
    date: Option<DateTime<Utc>>,
}

impl Landed {
    /// Judges what came back.
    #[must_use]
    pub fn new(look: Look, reply: &Reply) -> Self {
        let page = match (judge(reply), reply) {
            (Verdict::Accept, Reply::Answer(answer)) => Page::read(&answer.body, &look)
                .map_err(|reason| Verdict::Retry { reason: format!("not a page: {reason}") }),
            (verdict, _) => Err(verdict),
        };
        let date = match reply {
            Reply::Answer(answer) => answer.date,
            Reply::Failure(_) => None,
        };
        Self { look, page, date }
    }

    /// The Market's own clock, if it told.
    #[must_use]
    pub fn date(&self) -> Option<DateTime<Utc>> {
        self.date
    }
}

/// The last step of a pass, which looks at every SKU: to be made where it disturbs nobody.
pub struct Roundup {
    field: Field,
    pass: u8,
    tally: Tally,
    quarantined: Vec<Sku>,
    now: DateTime<Utc>,
}

/// What a whole pass came to.
pub struct Outcome {
    tally: Tally,
    counts: [u64; Class::ALL.len()],
}

impl Surveyor {
    /// The first pass begins after a while, so that what waits goes first.
    #[must_use]
    pub fn new(field: Field, last_equal: Option<DateTime<Utc>>, now: Now) -> Self {
        let first = field.every.map(|every| now.mono + every.min(FIRST_PASS));
        // A dry run has nothing to wait for.
        let first = if field.mode == Mode::DryRun { Some(now.mono) } else { first };
        Self {
            field,
            pass: None,
            number: 0,
            next_pass: first,
            next_look: now.mono,
            is_hurried: false,
            is_follow_up: false,
            failures: 0,
            is_looking: false,
            survey: Survey { state: "never", last_equal, ..Survey::default() },
        }
    }

    /// Somebody wants to know now: a pass begins at once, unless one is under way.
    pub fn hurry(&mut self, now: Now) {
        self.is_hurried = true;
        self.next_pass = Some(now.mono);
        self.next_look = self.next_look.min(now.mono);
        self.failures = 0;
        // Told from now on, so that nobody takes the pass before for the one he waits for.
        if self.pass.is_none() {
            self.begin(now);
        }
    }

    /// Whether it is time to look.
    #[must_use]
    pub fn is_due(&self, now: Now) -> bool {
        let has_begun = self.pass.is_some() || self.next_pass.is_some_and(|at| at <= now.mono);
        !self.is_looking && has_begun && self.next_look <= now.mono
    }

    /// When it will be time; `None` while a look is under way, or if never.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        let begins = if self.pass.is_some() { Some(self.next_look) } else { self.next_pass };
        begins.filter(|_| !self.is_looking).map(|at| at.max(self.next_look))
    }

    /// What to ask for; it must be ended by [`Surveyor::land`].
    pub fn look(&mut self, now: Now) -> Look {
        if self.pass.is_none() {
            self.begin(now);
        }
        self.is_looking = true;
        let hurried = if self.is_hurried { SKUS_A_MINUTE_IN_A_HURRY } else { SKUS_A_MINUTE };
        let size = u32::try_from(page_size(&self.field.address)).unwrap_or(1);
        self.next_look = now.mono + Duration::from_mins(1) * size / hurried;
        let pass = self.pass.as_ref().expect("it was begun above");
        let (warehouses, archived) = pass.stages.last().expect("the last one ends the pass");
        Look {
            warehouses: warehouses.clone(),
            archived: *archived,
            token: pass.token.clone(),
            named: Vec::new(),
        }
    }

    fn begin(&mut self, now: Now) {
        self.number = self.number.wrapping_add(1) % 16;
        let every = self.field.every;
        self.next_pass = every.map(|every| now.mono + every);
        let groups = match &self.field.address {
            // One listing shows all warehouses of the campaign.
            Address::Campaign { .. } => vec![self.field.warehouses.clone()],
            Address::Business { warehouses, .. } => warehouses.iter().map(|id| vec![*id]).collect(),
        };
        // Taken from the end.
        let stage = |archived| groups.iter().map(move |group| (group.clone(), archived));
        let stages = stage(true).chain(stage(false)).collect();
        self.pass = Some(Pass { stages, token: None, tally: Tally::default() });
        // What the pass before has found holds until this one has ended.
        self.survey.state = "running";
        self.survey.began = Some(now.wall);
        (self.survey.pages, self.survey.listed) = (0, 0);
    }

    /// A look ended. After the last one of a pass there is a roundup to be made, which ends in
    /// [`Surveyor::end`].
    ///
    /// `apart` is how far the Market's clock and ours are apart.
    pub fn land(
        &mut self,
        landed: Landed,
        quarantined: Vec<Sku>,
        apart: TimeDelta,
        now: Now,
    ) -> Option<Roundup> {
        self.is_looking = false;
        let page = match landed.page {
            Ok(page) => page,
            Err(verdict) => {
                self.fail(&verdict, now);
                return None;
            }
        };
        self.failures = 0;
        self.survey.trouble = None;
        self.survey.pages += 1;
        self.survey.listed += page.offers.len() as u64;
        let pass = self.pass.as_mut()?;
        for shown in &page.offers {
            let (tally, archived) = (&mut pass.tally, landed.look.archived);
            see(&self.field, tally, (self.number, apart), shown, archived, now.wall);
        }
        pass.token = page.next;
        if pass.token.is_none() {
            pass.stages.pop();
        }
        if !pass.stages.is_empty() {
            return None;
        }
        let tally = self.pass.take()?.tally;
        self.is_hurried = false;
        let (field, pass) = (self.field.clone(), self.number);
        Some(Roundup { field, pass, tally, quarantined, now: now.wall })
    }

    fn fail(&mut self, verdict: &Verdict, now: Now) {
        self.failures += 1;
        self.survey.trouble = Some(verdict.to_string());
        let pause = match verdict {
            Verdict::Limit { wait } => wait.unwrap_or(Duration::from_mins(1)).max(TRY_AGAIN),
            Verdict::Deny { .. } | Verdict::Close { .. } => TRY_AGAIN_DENIED,
            Verdict::Thin
            | Verdict::Retry { .. }
            | Verdict::Refuse { .. }
            | Verdict::Shrink
            | Verdict::Accept => TRY_AGAIN,
        };
        // Somebody waits: a stumble is no reason to keep him for half a minute.
        let pause = if self.is_hurried && self.failures < 3 { pause / 10 } else { pause };
        self.next_look = now.mono + pause;
        let is_hopeless = matches!(verdict, Verdict::Deny { .. } | Verdict::Close { .. });
        // Whoever waits for it is told at once.
        let is_over = is_hopeless && (self.is_hurried || self.failures >= 2);
        if self.failures >= MAX_FAILURES || is_over {
            self.pass = None;
            self.is_hurried = false;
            self.failures = 0;
            self.survey.state = "failed";
        } else if let (Verdict::Refuse { .. }, Some(pass)) = (verdict, &mut self.pass) {
            // Perhaps the token has expired: the stage begins anew, and what was seen is seen
            // again.
            pass.token = None;
        }
    }

    /// Takes in what a pass came to; whether the Market's copy is explained.
    pub fn end(&mut self, outcome: Outcome, now: Now) -> bool {
        let Outcome { tally, counts } = outcome;
        let classes = Class::ALL.iter().zip(counts).filter(|(_, count)| *count > 0);
        self.survey.classes = classes.map(|(class, count)| (class.name(), count)).collect();
        self.survey.resent = tally.lost.len() as u64;
        self.survey.examples = tally.examples.into();
        self.survey.would_send = (self.field.mode == Mode::DryRun).then_some(tally.would);
        self.survey.state = "done";
        self.survey.ended = Some(now.wall);
        let is_equal = self.field.mode == Mode::On && self.survey.open_questions() == 0;
        if is_equal {
            self.survey.last_equal = Some(now.wall);
        }
        // Whether what is sent again arrives is not left open until the next pass is due; but
        // what never arrives is not asked after all day.
        let is_news = self.survey.resent > 0 && !std::mem::take(&mut self.is_follow_up);
        if let (true, Some(next)) = (is_news, self.next_pass) {
            let soon = self.field.grace.to_std().unwrap_or_default() + FOLLOW_UP;
            self.next_pass = Some(next.min(now.mono + soon));
            self.is_follow_up = true;
        }
        is_equal
    }

    /// For the operator.
    #[must_use]
    pub fn survey(&self) -> &Survey {
        &self.survey
    }
}

/// Notes what the Market shows of one offer.
fn see(
    field: &Field,
    tally: &mut Tally,
    (pass, apart): (u8, TimeDelta),
    shown: &Shown,
    archived: bool,
    now: DateTime<Utc>,
) {
    let sku = Sku::parse(&shown.sku).ok();
    let entry = sku.as_ref().and_then(|sku| field.book.get(field.shop, sku.as_str()));
    let (Some(sku), Some(entry)) = (sku, entry) else {
        tally.not_ours += 1;
        tally.example(&shown.sku, Class::NotOurs, None, Some(shown));
        return;
    };
    let acked = field.ledger.get(field.shop, entry.id());
    let ours = field.ours(entry, acked, apart);
    let mut class = classify(ours, shown, archived, now);
    field.sightings.with(field.shop, |column| {
        let known = column.get(entry.id());
        // Of several warehouses that share the stock, the worst counts.
        if let (true, Some(other)) = (known.is_of(pass), known.class()) {
            class = class.max(other);
        }
        column.set(entry.id(), Sighting::new(shown.available, now, pass, class));
    });
    let what = What::Seen(class.number());
    let count = u32::try_from(shown.available).unwrap_or(u32::MAX);
    if class != Class::Equal {
        let count = crate::stock::Count::try_from(i64::from(count)).unwrap_or(entry.level().count);
        field.history.note(field.shop, now, what, std::iter::once((entry.id(), count)));
    }
    if ours.is_dry {
        tally.compare(entry, shown);
    }
    if class == Class::Drifted && !ours.is_dry {
        let is_news = acked
            .acked_at()
            .is_some_and(|at| is_asserted_since(&field.marks, field.shop, entry.id(), at));
        if (is_news || is_lost(ours, shown)) && tally.lost.len() < MAX_RESENT {
            tally.lost.push((sku.clone(), entry.id()));
        }
    }
    if class != Class::Equal {
        tally.example(sku.as_str(), class, Some(ours), Some(shown));
    }
}

impl Tally {
    fn example(&mut self, sku: &str, class: Class, ours: Option<Ours>, shown: Option<&Shown>) {
        let kept = self.by_class.entry(class).or_default();
        if *kept >= MAX_EXAMPLES {
            return;
        }
        *kept += 1;
        self.examples.push(Example {
            sku: sku.to_owned(),
            class: class.name(),
            ours: ours.map(|ours| ours.level.count.get()),
            acknowledged_at: ours.and_then(|ours| ours.acked.acked_at()),
            markets: shown.map(|shown| shown.available),
            reserved: shown.map(|shown| shown.reserved).filter(|reserved| *reserved > 0),
            markets_updated_at: shown.and_then(|shown| shown.updated_at).map(|at| at.to_utc()),
        });
    }

    fn compare(&mut self, entry: Entry, shown: &Shown) {
        let count = u64::from(entry.level().count.get());
        let would = &mut self.would;
        match count.cmp(&shown.available) {
            std::cmp::Ordering::Equal => would.same += 1,
            std::cmp::Ordering::Less if count == 0 => would.to_zero += 1,
            std::cmp::Ordering::Less => would.lower += 1,
            std::cmp::Ordering::Greater => would.higher += 1,
        }
    }
}

impl Roundup {
    /// Looks at every SKU of the book: counts the classes, and finds those that were on no page.
    #[must_use]
    pub fn run(self) -> Outcome {
        let Self { field, pass, mut tally, mut quarantined, now } = self;
        quarantined.sort_unstable();
        let mut counts = [0; Class::ALL.len()];
        counts[usize::from(Class::NotOurs.number())] = tally.not_ours;
        let is_dry = field.mode == Mode::DryRun;
        field.book.for_each(field.shop, |sku, entry| {
            let id = entry.id();
            let sighting = field.sightings.get(field.shop, id);
            let class = match sighting.class().filter(|_| sighting.is_of(pass)) {
                Some(Class::Unsent) | None if quarantined.binary_search(sku).is_ok() => {
                    Class::Refused
                }
                Some(class) => class,
                None => {
                    let acked = field.ledger.get(field.shop, id);
                    let ours = field.ours(entry, acked, TimeDelta::zero());
                    let class = missing(ours, now);
                    tally.miss(&field, (sku, id), ours, class, (sighting, pass), now);
                    class
                }
            };
            counts[usize::from(class.number())] += 1;
        });
        if is_dry {
            let skus = field.book.len(field.shop) as u64;
            let per_request = crate::partner::wire::MAX_SKUS_PER_UPDATE as u64;
            tally.would.skus = skus;
            tally.would.requests = skus.div_ceil(per_request);
            tally.would.minutes = skus.div_ceil(SKUS_PER_MINUTE.into());
        }
        field.ledger.forget(field.shop, tally.lost.iter().map(|(_, id)| *id));
        Outcome { tally, counts }
    }
}

/// How a SKU stands that was on no page.
fn missing(ours: Ours, now: DateTime<Utc>) -> Class {
    match ours.acked.acked_at() {
        _ if ours.is_dry => Class::Unknown,
        Some(_) if is_dirty(ours.level, ours.acked) => Class::Unsent,
        None => Class::Unsent,
        Some(at) if now - at < ours.grace => Class::Pending,
        Some(_) => Class::Unknown,
    }
}

impl Tally {
    fn miss(
        &mut self,
        field: &Field,
        (sku, id): (&Sku, SkuId),
        ours: Ours,
        class: Class,
        (before, pass): (Sighting, u8),
        now: DateTime<Utc>,
    ) {
        if ours.is_dry {
            self.would.unknown += 1;
        }
        if class == Class::Unknown {
            self.example(sku.as_str(), class, Some(ours), None);
            // Said once more, in case it was lost; not at each pass, in case it is nobody's.
            let is_first = before.class() != Some(Class::Unknown);
            if is_first && !ours.is_dry && self.lost.len() < MAX_RESENT {
                self.lost.push((sku.clone(), id));
            }
        }
        let sighting = Sighting::new(0, now, pass, class);
        field.sightings.with(field.shop, |column| column.set(id, sighting));
    }
}

impl Outcome {
    /// SKUs to be sent again; the ledger has forgotten them already.
    pub fn lost(&self) -> impl Iterator<Item = &Sku> {
        self.tally.lost.iter().map(|(sku, _)| sku)
    }
}
