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

use super::classify_response::{ResponseVerdict, classify_response};
use super::status::{QuarantinedSku, WorkerHandle};
use super::{Context, HIDDEN_NOTE_PREFIX, MarketTarget, Mode};
use crate::http::secret::Secret;
use crate::lifecycle::Tasks;
use crate::partner_api::client::{CallOutcome, MarketResponse};
use crate::partner_api::hidden_offers::is_offer_hidden;
use crate::partner_api::readback_page::{ReadbackPage, ReadbackQuery, ReadbackSelection};
use crate::partner_api::wire::UpdateBody;
use crate::stock::{BookEntry, Level, Sku};
use crate::telemetry::AlarmKind;

/// How long the Market may take to take a batch.
const ACK_TIMEOUT: Duration = Duration::from_mins(2);

/// How long it may take to show what it took, and that a product is shown. Sources:
/// `updateStocks` and `deleteHiddenOffers`, "several minutes".
const VISIBILITY_TIMEOUT: Duration = Duration::from_mins(15);

/// Between two looks.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Tries of a call that stumbles.
const MAX_ATTEMPTS: u32 = 4;

/// Between two of them, and at first between tries to show the product again.
const RETRY_DELAY: Duration = Duration::from_secs(2);
const MAX_RETRY_DELAY: Duration = Duration::from_mins(5);

/// What a check may still do after it was told to stop, before it goes over to showing.
const FINISH_GRACE: Duration = Duration::from_secs(5);

/// And when it leaves the showing to the next start: before the whole process is cut off.
const SHOW_DEADLINE: Duration = Duration::from_secs(15);

/// How far a check has come.
#[derive(Clone, Debug, Serialize)]
pub struct Selftest {
    /// The product.
    pub sku: String,
    /// Whether it is over, and how it went.
    pub state: SelftestStatus,
    /// When it began.
    pub began: DateTime<Utc>,
    /// What was done, in order.
    pub steps: Vec<SelftestStep>,
    /// Whether the product is shown as before.
    pub is_shown: bool,
}

/// Whether a check is over, and how it went.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SelftestStatus {
    /// It is not over.
    Running,
    /// Every step went well, and the product is shown.
    Passed,
    /// Some step did not.
    Failed,
}

impl fmt::Display for SelftestStatus {
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
pub struct SelftestStep {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// What was done.
    pub what: String,
    /// Whether it went well.
    pub is_good: bool,
}

/// The check of one shop that runs or ran last.
#[derive(Debug, Default)]
pub(super) struct LatestSelftest {
    latest: Mutex<Option<Selftest>>,
}

impl LatestSelftest {
    pub(super) fn get(&self) -> Option<Selftest> {
        self.latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Begins a check, unless one runs.
    fn try_begin(&self, sku: &Sku, now: DateTime<Utc>) -> bool {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest
            .as_ref()
            .is_some_and(|test| test.state == SelftestStatus::Running)
        {
            return false;
        }
        *latest = Some(Selftest {
            sku: sku.to_string(),
            state: SelftestStatus::Running,
            began: now,
            steps: Vec::new(),
            is_shown: true,
        });
        true
    }

    fn update(&self, change: impl FnOnce(&mut Selftest)) {
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
pub enum SelftestStartError {
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
pub fn campaign_location(market_url: &str, campaign: u64) -> String {
    format!("{market_url} campaign {campaign}")
}

/// Everything a check needs; cheap to clone.
#[derive(Clone)]
pub(super) struct SelftestRunner {
    pub(super) target: Arc<MarketTarget>,
    pub(super) context: Context,
    pub(super) worker: Arc<WorkerHandle>,
    pub(super) latest_selftest: Arc<LatestSelftest>,
    pub(super) tasks: Tasks,
}

/// What went wrong, in words.
type FailureText = String;

/// One call of the Market.
enum MarketCall {
    GetHidden,
    Hide,
    ReadBack(ReadbackQuery),
    Send(Vec<u8>),
    Show,
}

impl MarketCall {
    fn name(&self) -> &'static str {
        match self {
            Self::GetHidden => "ask whether the product is hidden",
            Self::Hide => "hide the product",
            Self::ReadBack(_) => "read the stock back",
            Self::Send(_) => "send the stock",
            Self::Show => "show the product",
        }
    }
}

/// What is waited for.
enum AwaitedState {
    /// The Market has taken the stock since this second.
    Acknowledged { since: i64 },
    /// The Market shows the count the book has.
    StockVisible,
    /// The product is hidden.
    OfferHidden,
    /// The product is not hidden any more.
    OfferVisible,
}

impl AwaitedState {
    fn poll_interval(&self) -> Duration {
        match self {
            Self::Acknowledged { .. } => Duration::from_millis(100),
            Self::OfferHidden | Self::StockVisible | Self::OfferVisible => POLL_INTERVAL,
        }
    }
}

impl SelftestRunner {
    /// Starts a check.
    pub(super) fn start(&self, sku: &Sku) -> Result<(), SelftestStartError> {
        let entry = self.context.book.get(self.target.shop, sku.as_str());
        let entry = entry.ok_or_else(|| SelftestStartError::UnknownSku(sku.clone()))?;
        if self.tasks.is_stopping() {
            return Err(SelftestStartError::Stopping);
        }
        if let Some(reason) = self.send_obstacle(sku) {
            return Err(SelftestStartError::NotSendable(reason));
        }
        if !self
            .latest_selftest
            .try_begin(sku, self.context.clock.now())
        {
            return Err(SelftestStartError::Running);
        }
        let (runner, sku) = (self.clone(), sku.clone());
        self.tasks
            .spawn_short_lived(async move { runner.run(&sku, entry).await });
        Ok(())
    }

    /// Shows again what an earlier life has hidden; no other check begins meanwhile, or its note
    /// would be taken away.
    pub(super) fn resume_interrupted(&self, skus: Vec<Sku>) {
        let Some(first_sku) = skus.first() else {
            return;
        };
        self.latest_selftest
            .try_begin(first_sku, self.context.clock.now());
        self.latest_selftest.update(|test| test.is_shown = false);
        self.add_step(
            false,
            "the check was cut off by the end of the process".to_owned(),
        );
        let runner = self.clone();
        self.tasks.spawn_short_lived(async move {
            let shop_name = &runner.target.name;
            let text = format!(
                "a check of the integration was cut off and has left products of {shop_name} hidden \
                 on the Market: {}; they are being shown again",
                quoted_list(&skus)
            );
            runner
                .context
                .alarms
                .raise(AlarmKind::SelftestHidden, shop_name, text);
            let all_shown = join_all(skus.iter().map(|sku| runner.show_with_retries(sku))).await;
            let is_shown = all_shown.into_iter().all(|is_shown| is_shown);
            runner
                .latest_selftest
                .update(|test| (test.state, test.is_shown) = (SelftestStatus::Failed, is_shown));
        });
    }

    /// Why the lane would not send this SKU.
    fn send_obstacle(&self, sku: &Sku) -> Option<String> {
        if self.target.mode != Mode::On {
            return None;
        }
        let status = self.worker.status();
        let is_this_sku = |quarantined: &&QuarantinedSku| quarantined.sku == sku.as_str();
        if let Some(quarantined) = status.quarantined.iter().find(is_this_sku) {
            return Some(format!("the Market refuses it: {}", quarantined.reason));
        }
        let reason = || {
            status
                .reason
                .unwrap_or_else(|| "no reason is known".to_owned())
        };
        (status.state == "paused").then(|| format!("the campaign is paused: {}", reason()))
    }

    async fn run(&self, sku: &Sku, entry: BookEntry) {
        let outcome = tokio::select! {
            outcome = self.run_steps(sku, entry) => outcome,
            () = self.sleep_after_stop(FINISH_GRACE) => Err("told to stop".to_owned()),
        };
        if let Err(reason) = &outcome {
            self.add_step(false, reason.clone());
        }
        let is_shown = self.latest_selftest.get().is_some_and(|test| test.is_shown)
            || self.show_with_retries(sku).await;
        let state = if outcome.is_ok() && is_shown {
            SelftestStatus::Passed
        } else {
            SelftestStatus::Failed
        };
        self.latest_selftest
            .update(|test| (test.state, test.is_shown) = (state, is_shown));
        info!(
            shop = self.target.name,
            sku = sku.as_str(),
            "the check of the integration {state}"
        );
    }

    async fn run_steps(&self, sku: &Sku, entry: BookEntry) -> Result<(), FailureText> {
        if self.is_hidden(sku).await? {
            return Err(
                "the product is hidden already, and would be shown at the end: choose one \
                        that is on sale"
                    .to_owned(),
            );
        }
        self.hide_offer(sku).await?;
        let count = entry.level().count;
        let sent_at = Instant::now();
        self.send_stock(sku).await?;
        let elapsed = sent_at.elapsed().as_millis();
        self.add_step(
            true,
            format!("sent {count}, the Market acknowledged it after {elapsed} ms"),
        );
        let read_at = Instant::now();
        self.wait_until_shown(sku).await?;
        let elapsed = read_at.elapsed().as_secs();
        self.add_step(
            true,
            format!("read it back: the Market shows it, {elapsed} s later"),
        );
        Ok(())
    }

    async fn hide_offer(&self, sku: &Sku) -> Result<(), FailureText> {
        if self.tasks.is_stopping() {
            return Err("told to stop".to_owned());
        }
        let name = format!("{HIDDEN_NOTE_PREFIX}{sku}");
        let location = campaign_location(self.context.market.base(), self.target.campaign);
        // Before the call: after a crash in between, showing what was never hidden does no harm.
        self.context
            .store
            .put_note(Some(self.target.shop), &name, Some(&location))
            .await
            .map_err(|error| format!("not hidden, because that could not be noted: {error}"))?;
        self.latest_selftest.update(|test| test.is_shown = false);
        self.call_with_retries(&MarketCall::Hide, sku).await?;
        self.add_step(true, "asked the Market to hide the product".to_owned());
        // Or a hiding that takes its time could come after the showing.
        self.wait_until(VISIBILITY_TIMEOUT, &AwaitedState::OfferHidden, sku)
            .await
            .map_err(|reason| format!("the product was not hidden: {reason}"))?;
        self.add_step(true, "the Market hides it".to_owned());
        Ok(())
    }

    /// Has the stock sent: by the lane, so that no SKU is in two requests at a time, or, in a
    /// dry run, where the lane sends nothing, from here.
    async fn send_stock(&self, sku: &Sku) -> Result<(), FailureText> {
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
            return self
                .call_with_retries(&MarketCall::Send(body.finish()), sku)
                .await
                .map(drop);
        }
        // To the second, as acknowledgements are kept.
        let since = clock.now().timestamp();
        ledger.mark_for_resend(shop, std::iter::once(entry.id()));
        self.worker.notify_changed(std::slice::from_ref(sku));
        self.wait_until(ACK_TIMEOUT, &AwaitedState::Acknowledged { since }, sku)
            .await
            .map_err(|reason| format!("the stock was not acknowledged: {reason}"))
    }

    async fn wait_until_shown(&self, sku: &Sku) -> Result<(), FailureText> {
        let outcome = self
            .wait_until(VISIBILITY_TIMEOUT, &AwaitedState::StockVisible, sku)
            .await;
        let Err(reason) = outcome else { return Ok(()) };
        Err(match self.read_count(sku).await {
            Ok(Some(available)) => format!("the Market shows {available}: {reason}"),
            Ok(None) => format!("the Market does not show the SKU: {reason}"),
            Err(_) => reason,
        })
    }

    async fn read_count(&self, sku: &Sku) -> Result<Option<u64>, FailureText> {
        let query = ReadbackQuery {
            warehouses: self.target.warehouses.clone(),
            selection: ReadbackSelection::Skus(vec![sku.to_string()]),
        };
        let response = self
            .call_with_retries(&MarketCall::ReadBack(query.clone()), sku)
            .await?;
        let page = ReadbackPage::read(&response.body, &query)?;
        let offer = page
            .offers
            .iter()
            .find(|listed| listed.sku.trim() == sku.as_str());
        Ok(offer.map(|listed| listed.available))
    }

    async fn is_hidden(&self, sku: &Sku) -> Result<bool, FailureText> {
        is_offer_hidden(
            &self
                .call_with_retries(&MarketCall::GetHidden, sku)
                .await?
                .body,
            sku,
        )
    }

    /// Shows the product, whatever it takes; `false` if the process stops before that.
    async fn show_with_retries(&self, sku: &Sku) -> bool {
        let shop_name = &self.target.name;
        let alarms = &self.context.alarms;
        let mut pause = RETRY_DELAY;
        loop {
            let shown = tokio::select! {
                shown = self.show_once(sku) => shown,
                () = self.sleep_after_stop(SHOW_DEADLINE) => Err("told to stop".to_owned()),
            };
            match shown {
                Ok(()) => break,
                Err(reason) => {
                    let text = format!(
                        "the product '{sku}' of {shop_name} is hidden on the Market by a check, and \
                         cannot be shown again yet: {reason}; it is tried again, or show it in \
                         the cabinet"
                    );
                    alarms.raise(AlarmKind::SelftestHidden, shop_name, text);
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
            pause = (pause * 2).min(MAX_RETRY_DELAY);
        }
        alarms.clear(AlarmKind::SelftestHidden, shop_name);
        self.add_step(true, "the Market shows the product again".to_owned());
        self.clear_hidden_note(sku).await;
        true
    }

    /// Takes the note away, whatever it takes: the next start would show the product again, which
    /// the seller may have hidden himself by then.
    async fn clear_hidden_note(&self, sku: &Sku) {
        let name = format!("{HIDDEN_NOTE_PREFIX}{sku}");
        while let Err(error) = self
            .context
            .store
            .put_note(Some(self.target.shop), &name, None)
            .await
        {
            warn!(error = %error, "that the product is shown again is not on disk");
            tokio::select! {
                () = sleep(POLL_INTERVAL) => {}
                () = self.tasks.stopping() => return,
            }
        }
    }

    /// So long after the process was told to stop.
    async fn sleep_after_stop(&self, time: Duration) {
        self.tasks.stopping().await;
        sleep(time).await;
    }

    async fn show_once(&self, sku: &Sku) -> Result<(), FailureText> {
        self.call_with_retries(&MarketCall::Show, sku).await?;
        // Told to stop, there is no time to wait until it shows: the note stays, and the next
        // start makes sure.
        self.wait_until(VISIBILITY_TIMEOUT, &AwaitedState::OfferVisible, sku)
            .await
    }

    /// Waits for something to come about; told to stop, it gives up.
    async fn wait_until(
        &self,
        timeout: Duration,
        awaited: &AwaitedState,
        sku: &Sku,
    ) -> Result<(), FailureText> {
        let deadline = Instant::now() + timeout;
        loop {
            let reached = self.is_reached(awaited, sku).await;
            if reached == Ok(true) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                reached?;
                return Err(format!("not within {} min", timeout.as_secs() / 60));
            }
            tokio::select! {
                () = sleep(awaited.poll_interval()) => {}
                () = self.tasks.stopping() => return Err("told to stop".to_owned()),
            }
        }
    }

    async fn is_reached(&self, awaited: &AwaitedState, sku: &Sku) -> Result<bool, FailureText> {
        let Context { book, ledger, .. } = &self.context;
        let entry = book.get(self.target.shop, sku.as_str());
        match awaited {
            AwaitedState::Acknowledged { since } => {
                let acked = entry.map(|entry| ledger.get(self.target.shop, entry.id()));
                let acked = acked.filter(|acked| !acked.needs_resend());
                Ok(acked
                    .and_then(|acked| acked.acked_at())
                    .is_some_and(|at| at.timestamp() >= *since))
            }
            AwaitedState::StockVisible => {
                let available = self.read_count(sku).await?;
                let count = entry.map(|entry| u64::from(entry.level().count.get()));
                Ok(available.is_some() && available == count)
            }
            AwaitedState::OfferHidden => self.is_hidden(sku).await,
            AwaitedState::OfferVisible => Ok(!self.is_hidden(sku).await?),
        }
    }

    /// Calls the Market, some times if it stumbles.
    async fn call_with_retries(
        &self,
        call: &MarketCall,
        sku: &Sku,
    ) -> Result<MarketResponse, FailureText> {
        let mut attempts = 1;
        loop {
            let verdict = match self.call_with_any_key(call, sku).await {
                Ok(response) => return Ok(response),
                Err(verdict) => verdict,
            };
            // Only showing is worth a wait then.
            let is_over = self.tasks.is_stopping() && !matches!(call, MarketCall::Show);
            if is_over || attempts == MAX_ATTEMPTS || is_permanent(&verdict) {
                return Err(format!("{}: {verdict}", call.name()));
            }
            attempts += 1;
            sleep(RETRY_DELAY).await;
        }
    }

    /// Calls it with the first key that is not refused.
    async fn call_with_any_key(
        &self,
        call: &MarketCall,
        sku: &Sku,
    ) -> Result<MarketResponse, ResponseVerdict> {
        let mut last_rejection = ResponseVerdict::AuthRejected {
            reason: "there is no key".to_owned(),
            is_unknown_key: false,
        };
        for key in &self.target.keys {
            let outcome = self.send_request(call, sku, key).await;
            match (classify_response(&outcome), outcome) {
                (ResponseVerdict::Accepted, CallOutcome::Response(response)) => {
                    return Ok(response);
                }
                (rejection @ ResponseVerdict::AuthRejected { .. }, _) => last_rejection = rejection,
                (verdict, _) => return Err(verdict),
            }
        }
        Err(last_rejection)
    }

    async fn send_request(&self, call: &MarketCall, sku: &Sku, key: &Secret) -> CallOutcome {
        let MarketTarget {
            address, campaign, ..
        } = &*self.target;
        let Context { market, clock, .. } = &self.context;
        let now = clock.now();
        match call {
            MarketCall::GetHidden => market.get_hidden_offers(*campaign, key, sku, now).await,
            MarketCall::Hide => market.hide_offer(*campaign, key, sku, now).await,
            MarketCall::ReadBack(query) => market.read_back(address, key, query, now).await,
            MarketCall::Send(body) => market.update_stocks(address, key, body.clone(), now).await,
            MarketCall::Show => market.show_offer(*campaign, key, sku, now).await,
        }
    }

    fn add_step(&self, is_good: bool, what: String) {
        let at = self.context.clock.now();
        self.latest_selftest
            .update(|test| test.steps.push(SelftestStep { at, what, is_good }));
    }
}

/// Whether the same call would end the same way.
fn is_permanent(verdict: &ResponseVerdict) -> bool {
    match verdict {
        ResponseVerdict::Accepted
        | ResponseVerdict::RateLimited { .. }
        | ResponseVerdict::Retry { .. }
        | ResponseVerdict::ReduceParallelism => false,
        ResponseVerdict::CampaignUnavailable { .. }
        | ResponseVerdict::AuthRejected { .. }
        | ResponseVerdict::Rejected { .. }
        | ResponseVerdict::SplitBatch => true,
    }
}

/// SKUs in a sentence.
#[must_use]
pub fn quoted_list(skus: &[Sku]) -> String {
    skus.iter()
        .map(|sku| format!("'{sku}'"))
        .collect::<Vec<_>>()
        .join(", ")
}
