//! Notifications: alarms that reach a person by webhook, Telegram or email.
//!
//! Each channel has a task of its own, which looks at the active alarms and decides with a pure
//! planner what is sent when. Beginnings and ends are sent once, also across restarts; a message
//! that may have been delivered although its confirmation was lost is sent again with the same
//! ids. A channel that fails retries with growing pauses and raises the alarm `notify_failed`,
//! which the other channels send. Nothing else waits for a channel: the tasks only read alarms.
//!
//! Not a log: alarms that began and ended before they could be sent are reported in short, and a
//! changed description of an active alarm is not sent.

mod channel_sender;
mod email;
mod message;
mod metrics;
mod planner;
mod quiet_hours;
mod send_failure;
mod sent_alarms;
#[cfg(test)]
mod smtp_tests;
mod telegram;
#[cfg(test)]
mod tests;
mod webhook;
mod worker;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tracing::warn;

use self::channel_sender::ChannelSender;
pub use self::email::{EmailConfig, SmtpTls};
use self::message::MessageStyle;
pub use self::metrics::Metrics;
use self::planner::AlarmPlanner;
pub use self::planner::ChannelPolicy;
pub use self::quiet_hours::QuietHours;
pub use self::telegram::TelegramConfig;
pub use self::webhook::WebhookConfig;
use lifecycle::Clock;
use lifecycle::Tasks;
use strict_http::ClientConfig;

use self::worker::ChannelWorker;
use crate::i18n::Language;
use crate::store::{Notes, Store};
use crate::telemetry::{AlarmKind, Alarms};

/// Beginning of the names of notes that contain the sent alarms of a channel.
const NOTE_PREFIX: &str = "notify:";

/// One `[[notify]]` table.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// Name in logs, alarms and the store.
    pub name: String,
    /// Language of the messages.
    pub language: Language,
    /// Selection and times of the messages.
    pub policy: ChannelPolicy,
    /// Receiver of the messages.
    pub kind: ChannelKind,
}

/// Receiver of messages.
#[derive(Clone, Debug, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ChannelKind {
    /// A program, by HTTP.
    Webhook(WebhookConfig),
    /// A chat.
    Telegram(TelegramConfig),
    /// People, by SMTP.
    Email(EmailConfig),
}

impl ChannelKind {
    /// Returns the name in the configuration.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

/// State and settings that all channels share.
#[derive(Clone, Debug)]
pub struct Context {
    /// Source of the alarms.
    pub alarms: Alarms,
    /// Clock of the process.
    pub clock: Clock,
    /// Settings of outbound calls.
    pub outbound: ClientConfig,
    /// Base URL of the operator's pages, for links.
    pub page_url: Option<String>,
    /// Names of all shops.
    pub shops: Vec<String>,
    /// Counters of messages.
    pub metrics: Metrics,
}

/// Starts one task for each channel, and one that saves its state in the store.
///
/// `notes` are those of the previous run. A channel that cannot be prepared raises its alarm and is
/// left out. Notes of channels that are not configured any more are deleted.
pub async fn start(
    channels: &[ChannelConfig],
    context: &Context,
    notes: &Notes,
    store: &Arc<Store>,
    tasks: &Tasks,
) {
    for (name, _) in notes.with_prefix(None, NOTE_PREFIX) {
        if !channels.iter().any(|channel| channel.name == name) {
            let note = format!("{NOTE_PREFIX}{name}");
            if let Err(error) = store.put_note(None, &note, None).await {
                warn!(error = %error, "failed to delete {note}, will retry at the next start");
            }
        }
    }
    for channel in channels {
        let name = format!("{NOTE_PREFIX}{}", channel.name);
        let saved = notes.get(None, &name).unwrap_or_default();
        match channel_worker(channel, context, saved) {
            Ok((worker, state)) => {
                tasks.spawn("notify", worker.run(tasks.clone()));
                // The task ends with its worker, which may be before the others stop.
                tasks.spawn_short_lived(save_states(Arc::clone(store), name, state));
            }
            Err(error) => {
                let text = format!(
                    "notifications over {} are not sent: {error}. Correct it and restart",
                    channel.name
                );
                context
                    .alarms
                    .raise(AlarmKind::NotifyFailed, &channel.name, text);
            }
        }
    }
}

/// Sends a test message over a channel.
///
/// # Errors
/// The cause with a remedy, if the message was not delivered.
pub async fn send_test(channel: &ChannelConfig, context: &Context) -> Result<(), String> {
    let sender = ChannelSender::new(channel, &context.outbound)?;
    let now = context.clock.now();
    let message = message_style(channel, context).test_message(now);
    sender
        .send(&message, now)
        .await
        .map_err(|failure| failure.text)
}

fn channel_worker(
    channel: &ChannelConfig,
    context: &Context,
    saved: &str,
) -> Result<(ChannelWorker, watch::Receiver<String>), String> {
    let now: DateTime<Utc> = context.clock.now();
    let (state, states) = watch::channel(saved.to_owned());
    let worker = ChannelWorker {
        sender: ChannelSender::new(channel, &context.outbound)?,
        style: message_style(channel, context),
        planner: AlarmPlanner::new(
            &channel.name,
            channel.policy.clone(),
            &context.shops,
            sent_alarms::from_text(saved),
            now,
        ),
        alarms: context.alarms.clone(),
        clock: context.clock,
        counter: context.metrics.of(&channel.name),
        state,
    };
    Ok((worker, states))
}

fn message_style(channel: &ChannelConfig, context: &Context) -> MessageStyle {
    MessageStyle {
        channel: channel.name.clone(),
        language: channel.language,
        time_zone: channel.policy.time_zone,
        page_url: context.page_url.clone(),
        shops: context.shops.clone(),
    }
}

/// Saves each new state until the worker has ended. Sending does not wait for it: the disk may be
/// the very thing that an alarm is about.
async fn save_states(store: Arc<Store>, note: String, mut states: watch::Receiver<String>) {
    while states.changed().await.is_ok() {
        let text = states.borrow_and_update().clone();
        if let Err(error) = store.put_note(None, &note, Some(&text)).await {
            warn!(
                error = %error,
                "failed to save the sent alarms in {note}: after a restart they are sent again"
            );
        }
    }
}
