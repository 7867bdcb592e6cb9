//! Sends messages over one channel of any kind.

use std::time::Duration;

use chrono::{DateTime, Utc};
use strict_http::{ClientConfig, Trust};
use strict_http::{causes, client};
use tokio::time::timeout;

use super::email::EmailSender;
use super::message::Notification;
use super::send_failure::SendFailure;
use super::telegram::{self, TelegramConfig};
use super::webhook::{self, WebhookConfig};
use super::{ChannelConfig, ChannelKind};

/// Timeout of an HTTP request.
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout for a whole email. SMTP has ten or more exchanges for one message.
const EMAIL_TIMEOUT: Duration = Duration::from_secs(30);

/// Connection settings of one channel, ready to send.
pub(super) enum ChannelSender {
    Webhook(WebhookConfig, reqwest::Client),
    Telegram(TelegramConfig, reqwest::Client),
    Email(Box<EmailSender>),
}

impl ChannelSender {
    /// Prepares the channel with the settings of all outbound calls.
    pub(super) fn new(config: &ChannelConfig, outbound: &ClientConfig) -> Result<Self, String> {
        let http_client = |url: &str| {
            let config = ClientConfig {
                connect_timeout: HTTP_TIMEOUT,
                read_timeout: HTTP_TIMEOUT,
                total_timeout: HTTP_TIMEOUT,
                trust: Trust::needed_for(url),
                ..outbound.clone()
            };
            client(&config).map_err(|error| causes(&error))
        };
        Ok(match &config.kind {
            ChannelKind::Webhook(webhook) => {
                Self::Webhook(webhook.clone(), http_client(webhook.url.as_str())?)
            }
            ChannelKind::Telegram(telegram) => {
                Self::Telegram(telegram.clone(), http_client(&telegram.api_url)?)
            }
            ChannelKind::Email(email) => {
                let ca_file = outbound.extra_ca_file.as_ref();
                Self::Email(Box::new(EmailSender::new(email, ca_file)?))
            }
        })
    }

    /// Sends one message, within a limited time.
    pub(super) async fn send(
        &self,
        message: &Notification,
        now: DateTime<Utc>,
    ) -> Result<(), SendFailure> {
        let (limit, result) = match self {
            Self::Webhook(config, client) => {
                let sending = webhook::send(config, client, message, now);
                (HTTP_TIMEOUT, timeout(HTTP_TIMEOUT, sending).await)
            }
            Self::Telegram(config, client) => {
                let sending = telegram::send(config, client, message);
                (HTTP_TIMEOUT, timeout(HTTP_TIMEOUT, sending).await)
            }
            Self::Email(sender) => {
                let sending = sender.send(message, now);
                (EMAIL_TIMEOUT, timeout(EMAIL_TIMEOUT, sending).await)
            }
        };
        result.unwrap_or_else(|_| {
            let text = format!(
                "no response within {} s. Check that this machine may call the server",
                limit.as_secs()
            );
            Err(SendFailure::temporary(text))
        })
    }
}
