//! The Market's own check of an integration, step by step: hide a product, send its stock, read
//! it back, show the product again.
//!
//! Showing it again is what must never be forgotten. So that it is hidden is noted in the store
//! before it is asked for, and the note is taken away after the Market has confirmed that it is
//! shown; a run that was told to stop goes straight to showing, and a run that was cut off is
//! finished by the next start. Until then there is an alarm, also where the next start may not
//! call the Market.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::desk::{Aside, Desk};
use super::verdict::{Verdict, judge};
use super::{Context, HIDDEN, Mode, Target};
use crate::http::secret::Secret;
use crate::lifecycle::Tasks;
use crate::partner::client::{Answer, Reply};
use crate::partner::hidden::read_hidden;
use crate::partner::page::{Look, Page, Part};
use crate::partner::wire::UpdateBody;
use crate::stock::{Entry, Level, Sku};
use crate::telemetry::AlarmKind;

/// How long the Market may take to take a batch.
const SENT_WITHIN: Duration = Duration::from_mins(2);

/// How long it may take to show what it took, and that a product is shown. Sources:
/// `updateStocks` and `deleteHiddenOffers`, "several minutes".
const SEEN_WITHIN: Duration = Duration::from_mins(15);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Tries of a call that stumbles.
const TRIES: u32 = 4;

/// Between two of them, and at first between tries to show the product again.
const TRY_AGAIN: Duration = Duration::from_secs(2);
const TRY_AGAIN_AT_LAST: Duration = Duration::from_mins(5);

/// What a check may still do after it was told to stop, before it goes over to showing.
const WIND_UP: Duration = Duration::from_secs(5);

/// And when it leaves the showing to the next start: before the whole process is cut off.
const LEAVE: Duration = Duration::from_secs(15);

/// How far a check has come.
#[derive(Clone, Debug, Serialize)]
pub struct Selftest {
    /// The product.
    pub sku: String,
    /// Whether it is over, and how it went.
    pub state: State,
    /// When it began.
    pub began: DateTime<Utc>,
    /// What was done, in order.
    pub steps: Vec<Step>,
    /// Whether the product is shown as before.
    pub is_shown: bool,
}

/// Whether a check is over, and how it went.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is not over.
    Running,
    /// Every step went well, and the product is shown.
    Passed,
    /// Some step did not.
    Failed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "is running",
            Self::Passed => "passed",
            Self::Failed => "failed",
        })
    }
}

/// One step of a check.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// What was done.
    pub what: String,
    /// Whether it went well.
    pub is_good: bool,
}

/// The check of one shop that runs or ran last.
#[derive(Debug, Default)]
pub(super) struct Stand {
    latest: Mutex<Option<Selftest>>,
}

impl Stand {
    pub(super) fn latest(&self) -> Option<Selftest> {
        self.latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Begins a check, unless one runs.
    fn begin(&self, sku: &Sku, now: DateTime<Utc>) -> bool {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest
            .as_ref()
            .is_some_and(|test| test.state == State::Running)
        {
            return false;
        }
        *latest = Some(Selftest {
            sku: sku.to_string(),
            state: State::Running,
            began: now,
            steps: Vec::new(),
            is_shown: true,
        });
        true
    }

    fn change(&self, change: impl FnOnce(&mut Selftest)) {
        if let Some(test) = self
            .latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            change(test);
        }
    }
}

/// Why a check did not begin.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotBegun {
    /// The Market is not called for this shop.
    #[error("the Market is not called for this shop: migrate is off, or the store is held")]
    NotForwarded,
    /// There is nothing to send.
    #[error("the seller has not said how many there are of '{0}'")]
    UnknownSku(Sku),
    /// One is running already.
    #[error("a check of this shop is running already, or one that was cut off is being undone")]
    Running,
    /// The product would be hidden for nothing.
    #[error("nothing of it can be sent now: {0}")]
    NotSendable(String),
    /// Nobody would be there to show the product again.
    #[error("stockbridge is stopping")]
    Stopping,
}

/// Where a product is hidden, in words that change exactly if it is another place.
#[must_use]
pub fn place(market_url: &str, campaign: u64) -> String {
    format!("{market_url} campaign {campaign}")
}

/// Everything a check needs; cheap to clone.
#[derive(Clone)]
pub(super) struct Bench {
    pub(super) target: Arc<Target>,
    pub(super) context: Context,
    pub(super) desk: Arc<Desk>,
    pub(super) stand: Arc<Stand>,
    pub(super) tasks: Tasks,
}

/// What went wrong, in words.
type Failed = String;

/// One call of the Market.
enum Act {
    AskHidden,
    Hide,
    Look(Look),
    Send(Vec<u8>),
    Show,
}

impl Act {
    fn name(&self) -> &'static str {
        match self {
            Self::AskHidden => "ask whether the product is hidden",
            Self::Hide => "hide the product",
            Self::Look(_) => "read the stock back",
            Self::Send(_) => "send the stock",
            Self::Show => "show the product",
        }
    }
}

/// What is waited for.
enum Wanted {
    /// The Market has taken the stock since this second.
    Acknowledged { since: i64 },
    /// The Market shows the count the book has.
    OnTheShelf,
    /// The product is hidden.
    Hidden,
    /// The product is not hidden any more.
    Shown,
}

impl Wanted {
    fn look_every(&self) -> Duration {
        match self {
            Self::Acknowledged { .. } => Duration::from_millis(100),
            Self::Hidden | Self::OnTheShelf | Self::Shown => LOOK_EVERY,
        }
    }
}

impl Bench {
    /// Starts a check.
    pub(super) fn start(&self, sku: &Sku) -> Result<(), NotBegun> {
        let entry = self.context.book.get(self.target.shop, sku.as_str());
        let entry = entry.ok_or_else(|| NotBegun::UnknownSku(sku.clone()))?;
        if self.tasks.is_stopping() {
            return Err(NotBegun::Stopping);
        }
        if let Some(obstacle) = self.obstacle(sku) {
            return Err(NotBegun::NotSendable(obstacle));
        }
        if !self.stand.begin(sku, self.context.clock.now()) {
            return Err(NotBegun::Running);
        }
        let (bench, sku) = (self.clone(), sku.clone());
        self.tasks
            .spawn_brief(async move { bench.run(&sku, entry).await });
        Ok(())
    }

    /// Shows again what an earlier life has hidden; no other check begins meanwhile, or its note
    /// would be taken away.
    pub(super) fn resume(&self, skus: Vec<Sku>) {
        let Some(first) = skus.first() else { return };
        self.stand.begin(first, self.context.clock.now());
        self.stand.change(|test| test.is_shown = false);
        self.note(
            false,
            "the check was cut off by the end of the process".to_owned(),
        );
        let bench = self.clone();
        self.tasks.spawn_brief(async move {
            let about = &bench.target.name;
            let text = format!(
                "a check of the integration was cut off and has left products of {about} hidden \
                 on the Market: {}; they are being shown again",
                listed(&skus)
            );
            bench
                .context
                .alarms
                .raise(AlarmKind::SelftestHidden, about, text);
            let shown = join_all(skus.iter().map(|sku| bench.show_again(sku))).await;
            let is_shown = shown.into_iter().all(|is_shown| is_shown);
            bench
                .stand
                .change(|test| (test.state, test.is_shown) = (State::Failed, is_shown));
        });
    }

    /// Why the lane would not send this SKU.
    fn obstacle(&self, sku: &Sku) -> Option<String> {
        if self.target.mode != Mode::On {
            return None;
        }
        let report = self.desk.report();
        let is_it = |row: &&Aside| row.sku == sku.as_str();
        if let Some(aside) = report.quarantined.iter().find(is_it) {
            return Some(format!("the Market refuses it: {}", aside.reason));
        }
        let why = || {
            report
                .reason
                .unwrap_or_else(|| "no reason is known".to_owned())
        };
        (report.state == "paused").then(|| format!("the campaign is paused: {}", why()))
    }

    async fn run(&self, sku: &Sku, entry: Entry) {
        let outcome = tokio::select! {
            outcome = self.check(sku, entry) => outcome,
            () = self.since_told_to_stop(WIND_UP) => Err("told to stop".to_owned()),
        };
        if let Err(reason) = &outcome {
            self.note(false, reason.clone());
        }
        let is_shown =
            self.stand.latest().is_some_and(|test| test.is_shown) || self.show_again(sku).await;
        let state = if outcome.is_ok() && is_shown {
            State::Passed
        } else {
            State::Failed
        };
        self.stand
            .change(|test| (test.state, test.is_shown) = (state, is_shown));
        info!(
            shop = self.target.name,
            sku = sku.as_str(),
            "the check of the integration {state}"
        );
    }

    async fn check(&self, sku: &Sku, entry: Entry) -> Result<(), Failed> {
        if self.is_hidden(sku).await? {
            return Err(
                "the product is hidden already, and would be shown at the end: choose one \
                        that is on sale"
                    .to_owned(),
            );
        }
        self.hide(sku).await?;
        let count = entry.level().count;
        let begun = Instant::now();
        self.send(sku).await?;
        let took = begun.elapsed().as_millis();
        self.note(
            true,
            format!("sent {count}, the Market acknowledged it after {took} ms"),
        );
        let begun = Instant::now();
        self.read_back(sku).await?;
        let took = begun.elapsed().as_secs();
        self.note(
            true,
            format!("read it back: the Market shows it, {took} s later"),
        );
        Ok(())
    }

    async fn hide(&self, sku: &Sku) -> Result<(), Failed> {
        if self.tasks.is_stopping() {
            return Err("told to stop".to_owned());
        }
        let name = format!("{HIDDEN}{sku}");
        let place = place(self.context.market.base(), self.target.campaign);
        // Before the call: after a crash in between, showing what was never hidden does no harm.
        self.context
            .store
            .note(Some(self.target.shop), &name, Some(&place))
            .await
            .map_err(|error| format!("not hidden, because that could not be noted: {error}"))?;
        self.stand.change(|test| test.is_shown = false);
        self.call(&Act::Hide, sku).await?;
        self.note(true, "asked the Market to hide the product".to_owned());
        // Or a hiding that takes its time could come after the showing.
        self.until(SEEN_WITHIN, &Wanted::Hidden, sku)
            .await
            .map_err(|why| format!("the product was not hidden: {why}"))?;
        self.note(true, "the Market hides it".to_owned());
        Ok(())
    }

    /// Has the stock sent: by the lane, so that no SKU is in two requests at a time, or, in a
    /// dry run, where the lane sends nothing, from here.
    async fn send(&self, sku: &Sku) -> Result<(), Failed> {
        let Context {
            book,
            ledger,
            clock,
            ..
        } = &self.context;
        let shop = self.target.shop;
        let entry = book
            .get(shop, sku.as_str())
            .ok_or("the SKU is gone from the book")?;
        if self.target.mode == Mode::DryRun {
            let mut body = UpdateBody::new(usize::MAX, &self.target.address);
            let at = clock.now() - TimeDelta::seconds(2);
            body.push(
                sku,
                Level {
                    updated_at: at.into(),
                    ..entry.level()
                },
            );
            return self.call(&Act::Send(body.finish()), sku).await.map(drop);
        }
        // To the second, as acknowledgements are kept.
        let since = clock.now().timestamp();
        ledger.doubt(shop, std::iter::once(entry.id()));
        self.desk.hint(std::slice::from_ref(sku));
        self.until(SENT_WITHIN, &Wanted::Acknowledged { since }, sku)
            .await
            .map_err(|why| format!("the stock was not acknowledged: {why}"))
    }

    async fn read_back(&self, sku: &Sku) -> Result<(), Failed> {
        let seen = self.until(SEEN_WITHIN, &Wanted::OnTheShelf, sku).await;
        let Err(why) = seen else { return Ok(()) };
        Err(match self.look(sku).await {
            Ok(Some(shown)) => format!("the Market shows {shown}: {why}"),
            Ok(None) => format!("the Market does not show the SKU: {why}"),
            Err(_) => why,
        })
    }

    async fn look(&self, sku: &Sku) -> Result<Option<u64>, Failed> {
        let look = Look {
            warehouses: self.target.warehouses.clone(),
            part: Part::Named(vec![sku.to_string()]),
        };
        let answer = self.call(&Act::Look(look.clone()), sku).await?;
        let page = Page::read(&answer.body, &look)?;
        let mine = page
            .offers
            .iter()
            .find(|shown| shown.sku.trim() == sku.as_str());
        Ok(mine.map(|shown| shown.available))
    }

    async fn is_hidden(&self, sku: &Sku) -> Result<bool, Failed> {
        read_hidden(&self.call(&Act::AskHidden, sku).await?.body, sku)
    }

    /// Shows the product, whatever it takes; `false` if the process stops before that.
    async fn show_again(&self, sku: &Sku) -> bool {
        let about = &self.target.name;
        let alarms = &self.context.alarms;
        let mut pause = TRY_AGAIN;
        loop {
            let shown = tokio::select! {
                shown = self.show(sku) => shown,
                () = self.since_told_to_stop(LEAVE) => Err("told to stop".to_owned()),
            };
            match shown {
                Ok(()) => break,
                Err(reason) => {
                    let text = format!(
                        "the product '{sku}' of {about} is hidden on the Market by a check, and \
                         cannot be shown again yet: {reason}; it is tried again, or show it in \
                         the cabinet"
                    );
                    alarms.raise(AlarmKind::SelftestHidden, about, text);
                    if self.tasks.is_stopping() {
                        // The note stays: the next start goes on.
                        return false;
                    }
                }
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.tasks.stopping() => {}
            }
            pause = (pause * 2).min(TRY_AGAIN_AT_LAST);
        }
        alarms.clear(AlarmKind::SelftestHidden, about);
        self.note(true, "the Market shows the product again".to_owned());
        self.forget(sku).await;
        true
    }

    /// Takes the note away, whatever it takes: the next start would show the product again, which
    /// the seller may have hidden himself by then.
    async fn forget(&self, sku: &Sku) {
        let name = format!("{HIDDEN}{sku}");
        while let Err(error) = self
            .context
            .store
            .note(Some(self.target.shop), &name, None)
            .await
        {
            warn!(error = %error, "that the product is shown again is not on disk");
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                () = self.tasks.stopping() => return,
            }
        }
    }

    /// So long after the process was told to stop.
    async fn since_told_to_stop(&self, time: Duration) {
        self.tasks.stopping().await;
        sleep(time).await;
    }

    async fn show(&self, sku: &Sku) -> Result<(), Failed> {
        self.call(&Act::Show, sku).await?;
        // Told to stop, there is no time to wait until it shows: the note stays, and the next
        // start makes sure.
        self.until(SEEN_WITHIN, &Wanted::Shown, sku).await
    }

    /// Waits for something to come about; told to stop, it gives up.
    async fn until(&self, patience: Duration, wanted: &Wanted, sku: &Sku) -> Result<(), Failed> {
        let deadline = Instant::now() + patience;
        loop {
            let now_so = self.is_so(wanted, sku).await;
            if now_so == Ok(true) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                now_so?;
                return Err(format!("not within {} min", patience.as_secs() / 60));
            }
            tokio::select! {
                () = sleep(wanted.look_every()) => {}
                () = self.tasks.stopping() => return Err("told to stop".to_owned()),
            }
        }
    }

    async fn is_so(&self, wanted: &Wanted, sku: &Sku) -> Result<bool, Failed> {
        let Context { book, ledger, .. } = &self.context;
        let entry = book.get(self.target.shop, sku.as_str());
        match wanted {
            Wanted::Acknowledged { since } => {
                let acked = entry.map(|entry| ledger.get(self.target.shop, entry.id()));
                let acked = acked.filter(|acked| !acked.is_doubted());
                Ok(acked
                    .and_then(|a| a.acked_at())
                    .is_some_and(|at| at.timestamp() >= *since))
            }
            Wanted::OnTheShelf => {
                let shown = self.look(sku).await?;
                let count = entry.map(|entry| u64::from(entry.level().count.get()));
                Ok(shown.is_some() && shown == count)
            }
            Wanted::Hidden => self.is_hidden(sku).await,
            Wanted::Shown => Ok(!self.is_hidden(sku).await?),
        }
    }

    /// Calls the Market, some times if it stumbles.
    async fn call(&self, act: &Act, sku: &Sku) -> Result<Answer, Failed> {
        let mut tries = 1;
        loop {
            let verdict = match self.call_once(act, sku).await {
                Ok(answer) => return Ok(answer),
                Err(verdict) => verdict,
            };
            // Only showing is worth a wait then.
            let is_over = self.tasks.is_stopping() && !matches!(act, Act::Show);
            if is_over || tries == TRIES || is_final(&verdict) {
                return Err(format!("{}: {verdict}", act.name()));
            }
            tries += 1;
            sleep(TRY_AGAIN).await;
        }
    }

    /// Calls it with the first key that is not refused.
    async fn call_once(&self, act: &Act, sku: &Sku) -> Result<Answer, Verdict> {
        let mut last = Verdict::Deny {
            reason: "there is no key".to_owned(),
            is_unknown_key: false,
        };
        for key in &self.target.keys {
            let reply = self.act(act, sku, key).await;
            match (judge(&reply), reply) {
                (Verdict::Accept, Reply::Answer(answer)) => return Ok(answer),
                (denied @ Verdict::Deny { .. }, _) => last = denied,
                (verdict, _) => return Err(verdict),
            }
        }
        Err(last)
    }

    async fn act(&self, act: &Act, sku: &Sku, key: &Secret) -> Reply {
        let Target {
            address, campaign, ..
        } = &*self.target;
        let Context { market, clock, .. } = &self.context;
        let now = clock.now();
        match act {
            Act::AskHidden => market.ask_hidden(*campaign, key, sku, now).await,
            Act::Hide => market.hide(*campaign, key, sku, now).await,
            Act::Look(look) => market.read_back(address, key, look, now).await,
            Act::Send(body) => market.update_stocks(address, key, body.clone(), now).await,
            Act::Show => market.show(*campaign, key, sku, now).await,
        }
    }

    fn note(&self, is_good: bool, what: String) {
        let at = self.context.clock.now();
        self.stand
            .change(|test| test.steps.push(Step { at, what, is_good }));
    }
}

/// Whether the same call would end the same way.
fn is_final(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Accept | Verdict::Limit { .. } | Verdict::Retry { .. } | Verdict::Thin => false,
        Verdict::Close { .. } | Verdict::Deny { .. } | Verdict::Refuse { .. } | Verdict::Shrink => {
            true
        }
    }
}

/// SKUs in a sentence.
#[must_use]
pub fn listed(skus: &[Sku]) -> String {
    skus.iter()
        .map(|sku| format!("'{sku}'"))
        .collect::<Vec<_>>()
        .join(", ")
}
