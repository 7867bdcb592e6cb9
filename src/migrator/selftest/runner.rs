//! Runner of self-tests: the steps, the note of the hidden product, and showing it again.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::join_all;
use lifecycle::Tasks;
use market_api::partner::hidden_offers::is_offer_hidden;
use market_api::partner::readback_page::{ReadbackPage, ReadbackQuery, ReadbackSelection};
use market_api::partner::wire::UpdateBody;
use stock::{BookEntry, Level, Sku};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::market_call::MarketCall;
use super::{
    HIDDEN_NOTE_PREFIX, LatestSelftest, SelftestStartError, SelftestStatus, SelftestStep,
    campaign_location, quoted_list,
};
use crate::event_log::ServiceEvent;
use crate::migrator::status::{QuarantinedSku, WorkerHandle, WorkerState};
use crate::migrator::{Context, MarketTarget, Mode, OPERATOR_PAUSE_REASON};
use crate::replicas::SendingReplica;
use crate::store::StoreError;
use crate::telemetry::AlarmKind;

/// Longest wait for the acknowledgement of the stock.
const ACK_TIMEOUT: Duration = Duration::from_mins(2);

/// Longest wait until a change is visible on the Market. Sources: `updateStocks` and
/// `deleteHiddenOffers`, "several minutes".
const VISIBILITY_TIMEOUT: Duration = Duration::from_mins(15);

/// Interval between two checks for the acknowledgement.
const ACK_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Interval between two checks of the Market's state.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// First delay between attempts to show the product; doubles up to [`MAX_SHOW_DELAY`].
const FIRST_SHOW_DELAY: Duration = Duration::from_secs(2);

/// Longest delay between attempts to show the product.
const MAX_SHOW_DELAY: Duration = Duration::from_mins(5);

/// Time that a self-test may continue after the process begins to stop. Then it shows the product.
const FINISH_GRACE: Duration = Duration::from_secs(5);

/// Time from the begin of a stop until showing is left to the next start, before a kill.
const SHOW_DEADLINE: Duration = Duration::from_secs(15);

/// Reason of a step that the end of the process prevents.
const STOPPING: &str = "the process is stopping";

/// Reason of a failed step, for the operator.
pub(super) type FailureText = String;

/// Runs self-tests of one shop. Clones share the latest self-test.
#[derive(Clone)]
pub(in crate::migrator) struct SelftestRunner {
    pub(in crate::migrator) target: Arc<MarketTarget>,
    pub(in crate::migrator) context: Context,
    pub(in crate::migrator) worker: Arc<WorkerHandle>,
    pub(in crate::migrator) latest_selftest: Arc<LatestSelftest>,
    pub(in crate::migrator) tasks: Tasks,
}

impl SelftestRunner {
    /// Starts a self-test in a task of its own.
    pub(in crate::migrator) fn start(&self, sku: &Sku) -> Result<(), SelftestStartError> {
        if self.book_entry(sku).is_none() {
            return Err(SelftestStartError::UnknownSku(sku.clone()));
        }
        if self.tasks.is_stopping() {
            return Err(SelftestStartError::Stopping);
        }
        if let Some(reason) = self.send_obstacle(sku) {
            return Err(SelftestStartError::NotSendable(reason));
        }
        let now = self.context.clock.now();
        if !self.latest_selftest.try_begin(sku, now) {
            return Err(SelftestStartError::Running);
        }
        self.record(ServiceEvent::SelftestStarted {
            sku: sku.as_str().into(),
        });
        let (runner, sku) = (self.clone(), sku.clone());
        self.tasks
            .spawn_short_lived(async move { runner.run(&sku).await });
        Ok(())
    }

    /// Shows products that were hidden before a restart. No other self-test starts meanwhile,
    /// because its note would be deleted.
    pub(in crate::migrator) fn resume_interrupted(&self, skus: Vec<Sku>) {
        let Some(first_sku) = skus.first().cloned() else {
            return;
        };
        let now = self.context.clock.now();
        self.latest_selftest.try_begin(&first_sku, now);
        self.latest_selftest.update(|test| test.is_shown = false);
        self.add_step(
            false,
            "the self-test was interrupted by the end of the process",
        );
        let runner = self.clone();
        self.tasks.spawn_short_lived(async move {
            let text = format!(
                "an interrupted self-test has left products of {} hidden on the Market: {}; they \
                 are being shown again",
                runner.target.name,
                quoted_list(&skus)
            );
            runner.raise_hidden_alarm(text);
            let all_shown = join_all(skus.iter().map(|sku| runner.show_with_retries(sku))).await;
            let is_shown = all_shown.into_iter().all(|is_shown| is_shown);
            runner.finish(&first_sku, SelftestStatus::Failed, is_shown);
        });
    }

    fn book_entry(&self, sku: &Sku) -> Option<BookEntry> {
        self.context.data.book.get(self.target.shop, sku.as_str())
    }

    fn record(&self, event: ServiceEvent) {
        let events = &self.context.events;
        events.record_for_shop(&self.target.name, "", event);
    }

    fn raise_hidden_alarm(&self, text: String) {
        let alarms = &self.context.alarms;
        alarms.raise(AlarmKind::SelftestHidden, &self.target.name, text);
    }

    /// Returns why this process may not call the Market for the shop, if another replica may.
    pub(in crate::migrator) fn lead_obstacle(&self) -> Option<String> {
        let lease = self.context.leases.of_shop(self.target.shop);
        lease.epoch().is_none().then(|| lease.obstacle())
    }

    /// Returns the replica that calls the Market for the shop; `None` without replicas.
    pub(in crate::migrator) fn sender(&self) -> Option<SendingReplica> {
        let lease = self.context.leases.of_shop(self.target.shop);
        lease.sender()
    }

    /// Returns the reason why the worker would not send this SKU, if there is one.
    fn send_obstacle(&self, sku: &Sku) -> Option<String> {
        if let Some(obstacle) = self.lead_obstacle() {
            return Some(format!("{obstacle}, start the check there"));
        }
        if self.worker.operator_pause().is_some() {
            return Some(OPERATOR_PAUSE_REASON.to_owned());
        }
        if self.target.mode != Mode::On {
            return None;
        }
        let status = self.worker.status.lock().clone();
        let is_this_sku = |quarantined: &&QuarantinedSku| quarantined.sku == sku.as_str();
        if let Some(quarantined) = status.quarantined.iter().find(is_this_sku) {
            return Some(format!("the Market rejects it: {}", quarantined.reason));
        }
        let reason = || {
            status
                .reason
                .unwrap_or_else(|| "the reason is unknown".to_owned())
        };
        (status.state == WorkerState::Paused)
            .then(|| format!("the campaign is paused: {}", reason()))
    }

    async fn run(&self, sku: &Sku) {
        let outcome = tokio::select! {
            outcome = self.run_steps(sku) => outcome,
            () = self.sleep_after_stop(FINISH_GRACE) => Err(STOPPING.to_owned()),
        };
        if let Err(reason) = &outcome {
            self.add_step(false, reason);
        }
        let is_shown = self.latest_selftest.get().is_some_and(|test| test.is_shown)
            || self.show_with_retries(sku).await;
        let state = if outcome.is_ok() && is_shown {
            SelftestStatus::Passed
        } else {
            SelftestStatus::Failed
        };
        info!(
            shop = self.target.name,
            sku = sku.as_str(),
            "self-test {state}"
        );
        self.finish(sku, state, is_shown);
    }

    fn finish(&self, sku: &Sku, state: SelftestStatus, is_shown: bool) {
        self.latest_selftest
            .update(|test| (test.state, test.is_shown) = (state, is_shown));
        self.record(ServiceEvent::SelftestEnded {
            sku: sku.as_str().into(),
            passed: state == SelftestStatus::Passed,
        });
    }

    async fn run_steps(&self, sku: &Sku) -> Result<(), FailureText> {
        if self.is_hidden(sku).await? {
            return Err(
                "the product is hidden already, and the self-test would show it: choose a \
                 product that is on sale"
                    .to_owned(),
            );
        }
        self.hide_offer(sku).await?;
        let entry = self.book_entry(sku);
        let entry = entry.ok_or("the SKU was removed from the stock")?;
        let sent_at = Instant::now();
        self.send_stock(sku, entry).await?;
        let (count, elapsed) = (entry.level().count, sent_at.elapsed().as_millis());
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
            return Err(STOPPING.to_owned());
        }
        let location = campaign_location(self.context.market.base(), self.target.campaign);
        // Before the call: after a crash in between, showing a product that is not hidden does no
        // harm.
        let noted = self.put_hidden_note(sku, Some(&location)).await;
        noted.map_err(|error| {
            format!("the product was not hidden, because the store cannot write: {error}")
        })?;
        self.latest_selftest.update(|test| test.is_shown = false);
        self.call_with_retries(&MarketCall::Hide, sku).await?;
        self.add_step(true, "asked the Market to hide the product");
        // A delayed hiding could otherwise take effect after the showing.
        self.wait_until(VISIBILITY_TIMEOUT, POLL_INTERVAL, || self.is_hidden(sku))
            .await
            .map_err(|reason| format!("the product was not hidden: {reason}"))?;
        self.add_step(true, "the Market hides it");
        Ok(())
    }

    /// Has the worker send the stock, so that a SKU is never in two requests at the same time. In a
    /// dry run the worker sends nothing, so the self-test sends the stock itself.
    async fn send_stock(&self, sku: &Sku, entry: BookEntry) -> Result<(), FailureText> {
        let Context { data, clock, .. } = &self.context;
        let ledger = &data.ledger;
        let (shop, id) = (self.target.shop, entry.id());
        if self.target.mode == Mode::DryRun {
            let mut body = UpdateBody::new(usize::MAX, &self.target.address);
            let at = clock.now() - TimeDelta::seconds(2);
            let level = Level {
                updated_at: at.into(),
                ..entry.level()
            };
            body.push(sku, level);
            let call = MarketCall::Send(body.finish());
            return self.call_with_retries(&call, sku).await.map(drop);
        }
        // In seconds, because acknowledgements are stored in seconds.
        let since = clock.now().timestamp();
        ledger.mark_for_resend(shop, std::iter::once(id));
        self.worker.notify_changed(std::slice::from_ref(sku));
        let is_acknowledged = || async move {
            let acked = ledger.get(shop, id);
            let at = acked.acked_at().filter(|_| !acked.needs_resend());
            Ok(at.is_some_and(|at| at.timestamp() >= since))
        };
        self.wait_until(ACK_TIMEOUT, ACK_POLL_INTERVAL, is_acknowledged)
            .await
            .map_err(|reason| format!("the stock was not acknowledged: {reason}"))
    }

    async fn wait_until_shown(&self, sku: &Sku) -> Result<(), FailureText> {
        let shows_count = || async move {
            let available = self.read_count(sku).await?;
            let entry = self.book_entry(sku);
            let count = entry.map(|entry| u64::from(entry.level().count.get()));
            Ok(available.is_some() && available == count)
        };
        let outcome = self
            .wait_until(VISIBILITY_TIMEOUT, POLL_INTERVAL, shows_count)
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
            .call_with_retries(&MarketCall::Readback(query.clone()), sku)
            .await?;
        let page = ReadbackPage::read(&response.body, &query)?;
        let offer = page
            .offers
            .iter()
            .find(|listed| listed.sku.trim() == sku.as_str());
        Ok(offer.map(|listed| listed.available))
    }

    async fn is_hidden(&self, sku: &Sku) -> Result<bool, FailureText> {
        let response = self.call_with_retries(&MarketCall::GetHidden, sku).await?;
        is_offer_hidden(&response.body, sku)
    }

    /// Shows the product and retries without a limit. Returns false if the process stops first.
    async fn show_with_retries(&self, sku: &Sku) -> bool {
        let shop_name = &self.target.name;
        let mut pause = FIRST_SHOW_DELAY;
        loop {
            let shown = tokio::select! {
                shown = self.show_once(sku) => shown,
                () = self.sleep_after_stop(SHOW_DEADLINE) => Err(STOPPING.to_owned()),
            };
            let Err(reason) = shown else { break };
            self.raise_hidden_alarm(format!(
                "the self-test has hidden the product '{sku}' of {shop_name} on the Market and \
                 cannot show it again yet: {reason}; it will retry, or show the product in the \
                 cabinet"
            ));
            if self.tasks.is_stopping() {
                // The note stays, so the next start continues.
                return false;
            }
            self.sleep_unless_stopping(pause).await;
            pause = (pause * 2).min(MAX_SHOW_DELAY);
        }
        let alarms = &self.context.alarms;
        alarms.clear(AlarmKind::SelftestHidden, shop_name);
        self.add_step(true, "the Market shows the product again");
        // Retried without a limit: with the note, the next start would show the product, which the
        // seller may have hidden by then.
        while let Err(error) = self.put_hidden_note(sku, None).await {
            warn!(error = %error, "failed to delete the note of a hidden product");
            if !self.sleep_unless_stopping(POLL_INTERVAL).await {
                break;
            }
        }
        true
    }

    /// Writes or deletes the note of a hidden product.
    async fn put_hidden_note(&self, sku: &Sku, text: Option<&str>) -> Result<(), StoreError> {
        let name = format!("{HIDDEN_NOTE_PREFIX}{sku}");
        let store = &self.context.store;
        store.put_note(Some(self.target.shop), &name, text).await
    }

    /// Waits until the process is stopping, and then for `time`.
    async fn sleep_after_stop(&self, time: Duration) {
        self.tasks.stopping().await;
        sleep(time).await;
    }

    /// Waits for `time`. Returns false, and at once, if the process is stopping.
    async fn sleep_unless_stopping(&self, time: Duration) -> bool {
        tokio::select! {
            () = sleep(time) => true,
            () = self.tasks.stopping() => false,
        }
    }

    async fn show_once(&self, sku: &Sku) -> Result<(), FailureText> {
        self.call_with_retries(&MarketCall::Show, sku).await?;
        // A stopping process does not wait until the product is visible. The note stays, and the
        // next start checks it.
        let is_visible = || async move { Ok(!self.is_hidden(sku).await?) };
        self.wait_until(VISIBILITY_TIMEOUT, POLL_INTERVAL, is_visible)
            .await
    }

    /// Waits for a condition. Fails after `timeout`, or when the process is stopping.
    async fn wait_until<F: Future<Output = Result<bool, FailureText>>>(
        &self,
        timeout: Duration,
        poll_interval: Duration,
        is_reached: impl Fn() -> F,
    ) -> Result<(), FailureText> {
        let deadline = Instant::now() + timeout;
        loop {
            let reached = is_reached().await;
            if reached == Ok(true) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                reached?;
                return Err(format!("not within {} minutes", timeout.as_secs() / 60));
            }
            if !self.sleep_unless_stopping(poll_interval).await {
                return Err(STOPPING.to_owned());
            }
        }
    }

    fn add_step(&self, is_good: bool, what: impl Into<String>) {
        let (at, what) = (self.context.clock.now(), what.into());
        self.latest_selftest
            .update(|test| test.steps.push(SelftestStep { at, what, is_good }));
    }
}
