//! Reads the Market's copy back and compares it with what was acknowledged. Decides, and sends
//! nothing: [`super::run`] does.
//!
//! A pass goes through every page, of each warehouse, first what is on sale and then the
//! archive; then it asks by name for the SKUs that were on none. What differs is told in
//! classes. Sent again is only what the Market's own dates prove not to have arrived, what it
//! does not know at all, or what the seller has said anew since and of late: an old number said
//! once more would undo the Market's own bookkeeping of orders.

mod class;
mod round;
mod sighting;
mod survey;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

pub use class::Class;
pub use round::{Gathering, Outcome, Roundup};
pub use sighting::{Sighting, Sightings};
pub use survey::{Example, Progress, Survey, WouldSend};

use self::class::Ours;
use self::round::{Tally, see};
use self::sighting::PassId;
use super::Mode;
use super::ledger::Ledger;
use super::plan::Now;
use super::skew::Range;
use super::verdict::{Verdict, judge};
use crate::history::History;
use crate::partner::client::Reply;
use crate::partner::page::{Look, Page, Part, Shelf};
use crate::partner::wire::business::READ_BACKS_PER_MINUTE;
use crate::partner::wire::{Address, MAX_OFFER_IDS, MAX_PAGE, SKUS_PER_MINUTE};
use crate::stock::{Entry, Marks, ShopId, Sku, StockBook};
use crate::store::Acked;

/// Part of the read-back limit that scheduled passes use: one in so many. The Market counts
/// read-backs apart from updates: [`SKUS_PER_MINUTE`] by campaign, [`READ_BACKS_PER_MINUTE`] by
/// business.
const SHARE: u32 = 10;

/// Part of the read-back limit that a pass uses while an operator waits for its result.
const SHARE_IN_A_HURRY: u32 = 2;

/// The first pass after a start comes no later than this.
const FIRST_PASS: Duration = Duration::from_mins(15);

/// How long after the Market should show it a pass looks whether what was sent again arrived.
const FOLLOW_UP: Duration = Duration::from_mins(1);

/// Requests without a response bring a pass forward this often at most.
const HASTEN_EVERY: Duration = Duration::from_hours(1);

/// A pass that was given up is begun anew after this at the latest.
const AFTER_FAILURE: Duration = Duration::from_hours(1);

/// Read-backs are tried again after this, when the Market does not answer with a page.
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// And after this, when the key may not.
const TRY_AGAIN_DENIED: Duration = Duration::from_mins(10);

/// A pass that met so many failures in a row is given up; the next one comes in its time.
const MAX_FAILURES: u32 = 20;

/// A list that had to be begun anew so often is given up: its pages lead nowhere.
const MAX_RESTARTS: u32 = 3;

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
        let dated = self.ledger.dated(self.shop, entry.id());
        Ours {
            level: entry.level(),
            acked,
            dated,
            is_dry,
            grace: self.grace,
            apart,
        }
    }

    /// One listing of a campaign shows all its warehouses; by business each has its own.
    fn groups(&self) -> Vec<Vec<u64>> {
        match &self.address {
            Address::Campaign { .. } => vec![self.warehouses.clone()],
            Address::Business { warehouses, .. } => warehouses.iter().map(|id| vec![*id]).collect(),
        }
    }
}

/// See the module.
pub struct Surveyor {
    field: Field,
    pass: Option<Pass>,
    passes: u8,
    next_pass: Option<Instant>,
    next_look: Instant,
    // Told by the Market: not even who is in a hurry looks before.
    not_before: Option<Instant>,
    is_hurried: bool,
    // The next pass looks whether what was sent again has arrived.
    is_follow_up: bool,
    // When a pass was last wanted sooner because of a request without a response.
    hastened: Option<Instant>,
    failures: u32,
    is_looking: bool,
    // What the page shows is no newer than this, however late it comes.
    asked: DateTime<Utc>,
    survey: Survey,
}

/// One pass through the Market's copy.
struct Pass {
    id: PassId,
    // Taken from the end.
    stages: Vec<Stage>,
    is_gathered: bool,
    tally: Tally,
}

/// A list to go through, or SKUs to ask for.
struct Stage {
    warehouses: Vec<u64>,
    part: Part,
    // Tokens that were followed already.
    tokens: HashSet<String>,
    restarts: u32,
    // Of this list alone, which may have to be begun anew.
    not_ours: u64,
}

impl Stage {
    fn listing(warehouses: Vec<u64>, shelf: Shelf) -> Self {
        Self::new(warehouses, Part::Listing { shelf, token: None })
    }

    fn new(warehouses: Vec<u64>, part: Part) -> Self {
        Self {
            warehouses,
            part,
            tokens: HashSet::new(),
            restarts: 0,
            not_ours: 0,
        }
    }

    /// Goes on behind a page; whether there is anything left to do. Errs if this page was there.
    ///
    /// An empty page that names itself as the next one is the last: SKUs that are on no page are
    /// asked for by name.
    fn advance(&mut self, next: Option<String>, is_empty: bool) -> Result<bool, ()> {
        let Part::Listing { token, .. } = &mut self.part else {
            return Ok(false);
        };
        if is_empty && next.is_some() && next == *token {
            return Ok(false);
        }
        *token = next;
        match token {
            None => Ok(false),
            Some(token) if self.tokens.insert(token.clone()) => Ok(true),
            Some(_) => Err(()),
        }
    }

    /// Begins anew: what was seen is seen again. Whether there is any sense in it.
    fn restart(&mut self) -> bool {
        if let Part::Listing { token, .. } = &mut self.part {
            *token = None;
        }
        self.tokens.clear();
        self.not_ours = 0;
        self.restarts += 1;
        self.restarts <= MAX_RESTARTS
    }
}

/// A read-back that ended.
#[derive(Debug)]
pub struct Landed {
    page: Result<Page, Verdict>,
    skew: Option<Range>,
}

impl Landed {
    /// Judges what came back.
    #[must_use]
    pub fn new(look: &Look, reply: &Reply) -> Self {
        let page = match (judge(reply), reply) {
            (Verdict::Accept, Reply::Answer(answer)) => {
                Page::read(&answer.body, look).map_err(|reason| Verdict::Retry {
                    reason: format!("not a page: {reason}"),
                })
            }
            (verdict, _) => Err(verdict),
        };
        let skew = match reply {
            Reply::Answer(answer) => Range::of(answer),
            Reply::Failure(_) => None,
        };
        Self { page, skew }
    }

    /// The Market answered with a page.
    #[must_use]
    pub fn is_page(&self) -> bool {
        self.page.is_ok()
    }

    /// What it says of the Market's clock, if it was dated.
    #[must_use]
    pub fn skew(&self) -> Option<Range> {
        self.skew
    }
}

/// What is to be done after a look, where it disturbs nobody, because it looks at every SKU.
pub enum Step {
    /// The SKUs are found that were on no page: [`Surveyor::ask_for`] takes them.
    Gather(Gathering),
    /// The pass ends: [`Surveyor::end`] takes what it came to.
    Round(Roundup),
}

impl Surveyor {
    /// The first pass begins after a while, so that what waits goes first.
    #[must_use]
    pub fn new(field: Field, last_equal: Option<DateTime<Utc>>, now: Now) -> Self {
        let first = match field.mode {
            // A dry run has nothing to wait for.
            Mode::DryRun => Some(now.mono),
            Mode::On | Mode::Off => field.every.map(|every| now.mono + every.min(FIRST_PASS)),
        };
        Self {
            field,
            pass: None,
            passes: 0,
            next_pass: first,
            next_look: now.mono,
            not_before: None,
            is_hurried: false,
            is_follow_up: false,
            hastened: None,
            failures: 0,
            is_looking: false,
            asked: now.wall,
            survey: Survey {
                last_equal,
                ..Survey::default()
            },
        }
    }

    /// Somebody wants to know now: a pass begins at once, unless one is under way.
    pub fn hurry(&mut self, now: Now) {
        self.is_hurried = true;
        self.failures = 0;
        self.next_look = self.not_before.map_or(now.mono, |at| at.max(now.mono));
        // Told from now on, so that nobody takes the pass before for the one he waits for.
        if self.pass.is_none() {
            self.begin(now);
        }
    }

    /// A request was given up without a response, and the Market may apply it after a later one:
    /// the next pass comes as soon as it would show that, at most once in an hour.
    pub fn hasten(&mut self, now: Now) {
        let is_early = self.hastened.is_some_and(|at| now.mono < at + HASTEN_EVERY);
        if let (false, Some(next)) = (is_early, self.next_pass) {
            let soon = self.field.grace.to_std().unwrap_or_default() + FOLLOW_UP;
            self.next_pass = Some(next.min(now.mono + soon));
            self.hastened = Some(now.mono);
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
        let begins = if self.pass.is_some() {
            Some(self.next_look)
        } else {
            self.next_pass
        };
        begins
            .filter(|_| !self.is_looking)
            .map(|at| at.max(self.next_look))
    }

    /// What to ask for; it must be ended by [`Surveyor::land`].
    pub fn look(&mut self, now: Now) -> Look {
        if self.pass.is_none() {
            self.begin(now);
        }
        self.is_looking = true;
        self.asked = now.wall;
        self.next_look = now.mono + self.gap();
        let stage = self
            .stage()
            .expect("the last stage ends the pass, and it was begun above");
        Look {
            warehouses: stage.warehouses.clone(),
            part: stage.part.clone(),
        }
    }

    /// How long after this look the next of the same cabinet may go out.
    #[must_use]
    pub fn gap(&self) -> Duration {
        let skus = self.stage().map_or(MAX_PAGE, |stage| match &stage.part {
            Part::Listing { .. } => MAX_PAGE,
            Part::Named(skus) => skus.len(),
        });
        let share = if self.is_hurried {
            SHARE_IN_A_HURRY
        } else {
            SHARE
        };
        gap_after(&self.field.address, skus, share)
    }

    fn stage(&self) -> Option<&Stage> {
        self.pass.as_ref().and_then(|pass| pass.stages.last())
    }

    /// What was found to be sent again since this was asked last, while a pass goes on.
    pub fn take_lost(&mut self) -> Vec<Sku> {
        self.pass
            .as_mut()
            .map(|pass| pass.tally.take_lost())
            .unwrap_or_default()
    }

    fn begin(&mut self, now: Now) {
        self.passes = self.passes.wrapping_add(1);
        self.next_pass = self.field.every.map(|every| now.mono + every);
        let groups = self.field.groups();
        let stages = |shelf| {
            groups
                .iter()
                .map(move |group| Stage::listing(group.clone(), shelf))
        };
        self.pass = Some(Pass {
            id: PassId {
                number: self.passes,
                began: now.wall,
            },
            stages: stages(Shelf::Archive)
                .chain(stages(Shelf::OnSale))
                .collect(),
            is_gathered: false,
            tally: Tally::default(),
        });
        // What the pass before has found holds until this one has ended.
        self.survey.state = Progress::Running;
        self.survey.began = Some(now.wall);
        (self.survey.pages, self.survey.listed) = (0, 0);
    }

    /// A look ended; what is to be done next, if anything but the next look.
    ///
    /// `aside` are the SKUs that are set aside, `apart` is how far the Market's clock and ours
    /// have been apart of late.
    pub fn land(
        &mut self,
        landed: Landed,
        aside: Vec<Sku>,
        apart: TimeDelta,
        now: Now,
    ) -> Option<Step> {
        self.is_looking = false;
        match landed.page {
            Ok(page) => self.turn(page, aside, apart, now),
            Err(verdict) => {
                self.fail(&verdict, now);
                None
            }
        }
    }

    fn turn(&mut self, page: Page, aside: Vec<Sku>, apart: TimeDelta, now: Now) -> Option<Step> {
        self.failures = 0;
        self.not_before = None;
        self.survey.trouble = None;
        self.survey.pages += 1;
        let pass = self.pass.as_mut()?;
        let stage = pass.stages.last_mut()?;
        if let Part::Listing { .. } = stage.part {
            self.survey.listed += page.offers.len() as u64;
        }
        for shown in &page.offers {
            let ours = see(
                &self.field,
                &mut pass.tally,
                (pass.id, apart),
                shown,
                self.asked,
            );
            stage.not_ours += u64::from(!ours);
        }
        let is_empty = page.offers.is_empty();
        match stage.advance(page.next, is_empty) {
            Ok(true) => return None,
            Ok(false) => {
                pass.tally.not_ours += stage.not_ours;
                pass.stages.pop();
            }
            Err(()) if stage.restart() => return None,
            Err(()) => {
                self.give_up("its pages lead in a circle".to_owned(), now);
                return None;
            }
        }
        if !pass.stages.is_empty() {
            return None;
        }
        if !pass.is_gathered && self.field.mode == Mode::On {
            pass.is_gathered = true;
            return Some(Step::Gather(Gathering::new(self.field.clone(), pass.id)));
        }
        self.round_up(aside)
    }

    fn round_up(&mut self, aside: Vec<Sku>) -> Option<Step> {
        let Pass { id, tally, .. } = self.pass.take()?;
        self.is_hurried = false;
        Some(Step::Round(Roundup::new(
            self.field.clone(),
            id,
            tally,
            aside,
        )))
    }

    /// Takes in the SKUs that were on no page, to be asked for by name: a list may shift while
    /// it is gone through, or come back empty. If there are none, the pass ends.
    pub fn ask_for(&mut self, missing: &[Sku], aside: Vec<Sku>) -> Option<Step> {
        let pass = self.pass.as_mut()?;
        for skus in missing.chunks(MAX_OFFER_IDS) {
            let names: Vec<String> = skus.iter().map(ToString::to_string).collect();
            for group in self.field.groups() {
                pass.stages
                    .push(Stage::new(group, Part::Named(names.clone())));
            }
        }
        if pass.stages.is_empty() {
            self.round_up(aside)
        } else {
            None
        }
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
        if let Verdict::Limit { .. } = verdict {
            self.not_before = Some(now.mono + pause);
        }
        // Somebody waits: a stumble is no reason to keep him for half a minute.
        let is_short = self.is_hurried && self.failures < 3 && self.not_before.is_none();
        self.next_look = now.mono + if is_short { pause / 10 } else { pause };
        let is_hopeless = matches!(verdict, Verdict::Deny { .. } | Verdict::Close { .. });
        // Whoever waits for it is told at once.
        let is_over = is_hopeless && (self.is_hurried || self.failures >= 2);
        // Perhaps the token has expired.
        let is_refused = matches!(verdict, Verdict::Refuse { .. });
        let stage = self.pass.as_mut().and_then(|pass| pass.stages.last_mut());
        let is_stuck = is_refused && stage.is_some_and(|stage| !stage.restart());
        if self.failures >= MAX_FAILURES || is_over || is_stuck {
            self.give_up(verdict.to_string(), now);
        }
    }

    fn give_up(&mut self, trouble: String, now: Now) {
        self.pass = None;
        self.is_hurried = false;
        self.failures = 0;
        self.survey.state = Progress::Failed;
        self.survey.trouble = Some(trouble);
        self.next_pass = self
            .next_pass
            .map(|next| next.min(now.mono + AFTER_FAILURE));
    }

    /// Takes in what a pass came to; whether the Market's copy is explained.
    pub fn end(&mut self, outcome: Outcome, now: Now) -> bool {
        outcome.tell(&mut self.survey);
        self.survey.state = Progress::Done;
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
/// Pause after a read-back request of so many SKUs, so that one part in `share` of the limit is used.
fn gap_after(address: &Address, skus: usize, share: u32) -> Duration {
    let (cost, limit) = match address {
        Address::Campaign { .. } => (u32::try_from(skus).unwrap_or(u32::MAX), SKUS_PER_MINUTE),
        Address::Business { .. } => (1, READ_BACKS_PER_MINUTE),
    };
    Duration::from_mins(1) * cost / (limit / share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_uses_its_share_of_the_limit_of_its_method() {
        let campaign = Address::Campaign { id: 1 };
        let business = Address::Business {
            id: 1,
            warehouses: vec![2],
        };
        for (address, skus, share, gap_ms) in [
            // By campaign the Market counts SKUs: 10 000 or 50 000 a minute.
            (&campaign, MAX_PAGE, SHARE, 600),
            (&campaign, MAX_PAGE, SHARE_IN_A_HURRY, 120),
            (&campaign, MAX_OFFER_IDS, SHARE, 3_000),
            // By business it counts requests: 50 or 250 a minute, of at most 100 SKUs by page.
            (&business, MAX_PAGE, SHARE, 1_200),
            (&business, MAX_PAGE, SHARE_IN_A_HURRY, 240),
            (&business, MAX_OFFER_IDS, SHARE, 1_200),
            (&business, 1, SHARE_IN_A_HURRY, 240),
        ] {
            let gap = gap_after(address, skus, share);
            assert_eq!(
                gap,
                Duration::from_millis(gap_ms),
                "{address}, {skus} SKUs, 1/{share}"
            );
        }
    }

    #[test]
    fn an_empty_page_that_names_itself_as_the_next_one_is_the_last() {
        let token = |text: &str| Some(text.to_owned());
        let mut stage = Stage::listing(vec![7], Shelf::OnSale);
        assert_eq!(stage.advance(token("a"), false), Ok(true));
        assert_eq!(stage.advance(token("b"), true), Ok(true), "a thin page");
        assert_eq!(stage.advance(token("b"), true), Ok(false));
        let mut stage = Stage::listing(vec![7], Shelf::OnSale);
        assert_eq!(stage.advance(token("a"), false), Ok(true));
        assert_eq!(
            stage.advance(token("a"), false),
            Err(()),
            "it has offers, and leads nowhere"
        );
    }
}
