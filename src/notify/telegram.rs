//! Telegram: one `sendMessage` of the Bot API for each message.
//!
//! The text has no markup, so text from outside cannot change its look. The token is part of the
//! URL, so no error contains the URL.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::json;
use strict_http::secret::Secret;
use strict_http::{causes, read_response};

use super::message::Notification;
use super::send_failure::{SendFailure, response_excerpt};

/// Most UTF-16 code units of a message. Source: `sendMessage`, Telegram Bot API.
const MAX_MESSAGE_UNITS: usize = 4_096;

/// Bytes of a response that are read.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// Settings of a Telegram chat.
#[derive(Clone, Debug)]
pub struct TelegramConfig {
    /// Base URL of the Bot API.
    pub api_url: String,
    /// Token of the bot.
    pub token: Secret,
    /// Id of the chat, or `@name` of a public channel.
    pub chat: String,
}

/// Response of the Bot API. Source: "Making requests", Telegram Bot API.
#[derive(Debug, Default, Deserialize)]
struct BotResponse {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    description: String,
    #[serde(default)]
    parameters: BotResponseParameters,
}

/// Reasons for which a request can be repeated.
#[derive(Debug, Default, Deserialize)]
struct BotResponseParameters {
    migrate_to_chat_id: Option<i64>,
    retry_after: Option<u64>,
}

/// Sends one message.
pub(super) async fn send(
    config: &TelegramConfig,
    client: &reqwest::Client,
    message: &Notification,
) -> Result<(), SendFailure> {
    let url = format!(
        "{}/bot{}/sendMessage",
        config.api_url,
        config.token.expose()
    );
    let text = format!("{}\n\n{}", message.subject, message.text);
    let body = json!({
        "chat_id": config.chat,
        "text": cut_to_units(&text, MAX_MESSAGE_UNITS),
        "link_preview_options": { "is_disabled": true },
    });
    let result = client
        .post(url)
        .header(reqwest::header::CONTENT_TYPE, "application/json")
        .body(body.to_string())
        .send()
        .await;
    let unreachable = |cause: String| {
        let text = format!(
            "Telegram cannot be reached: {cause}. Check api_url, and that this machine may call it"
        );
        SendFailure::temporary(text).without(&config.token)
    };
    let response = result.map_err(|error| unreachable(causes(&error.without_url())))?;
    let status = response.status();
    let body = read_response(response, MAX_RESPONSE_BYTES)
        .await
        .map_err(|error| unreachable(causes(&error)))?;
    let parsed: BotResponse = serde_json::from_slice(&body).unwrap_or_default();
    if status.is_success() && parsed.ok {
        return Ok(());
    }
    let description = if parsed.description.is_empty() {
        response_excerpt(&body)
    } else {
        response_excerpt(parsed.description.as_bytes())
    };
    let failure = SendFailure {
        text: format!(
            "Telegram responded with {status}: {description}. {}",
            remedy(status, &parsed.parameters)
        ),
        wait: parsed.parameters.retry_after.map(Duration::from_secs),
        is_permanent: status.as_u16() != 429 && !status.is_server_error(),
    };
    Err(failure.without(&config.token))
}

fn remedy(status: StatusCode, parameters: &BotResponseParameters) -> String {
    if let Some(chat) = parameters.migrate_to_chat_id {
        return format!("The group has a new id: set chat = \"{chat}\"");
    }
    let text = match status.as_u16() {
        400 => {
            "Check chat: the bot must be a member of it, and a person must have written to the bot"
        }
        401 | 404 => "Check token_file: @BotFather shows the token of the bot",
        403 => "Add the bot to the chat again, or let the person unblock it",
        429 => "The message is sent again after the wait that Telegram asks for",
        _ => "The message is sent again",
    };
    text.to_owned()
}

/// Start of a text in at most `max` UTF-16 code units, with `…` if it was cut.
fn cut_to_units(text: &str, max: usize) -> String {
    if text.encode_utf16().count() <= max {
        return text.to_owned();
    }
    let mut units = 0;
    let kept = text.chars().take_while(|c| {
        units += c.len_utf16();
        // One unit is left for the ellipsis.
        units < max
    });
    let mut cut: String = kept.collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_by_utf_16_code_units() {
        for (text, max, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("тревога", 7, "тревога"),
            ("тревога", 6, "трево…"),
            // Each of these has two units.
            ("😀😀", 4, "😀😀"),
            ("😀😀", 3, "😀…"),
            ("😀😀a", 4, "😀…"),
        ] {
            let cut = cut_to_units(text, max);
            assert_eq!(cut, expected, "{text}");
            assert!(cut.encode_utf16().count() <= max);
        }
        let long = cut_to_units(&"я😀".repeat(5_000), MAX_MESSAGE_UNITS);
        assert!(long.encode_utf16().count() <= MAX_MESSAGE_UNITS);
    }
}
