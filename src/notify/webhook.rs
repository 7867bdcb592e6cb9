//! Webhook: one signed POST request with JSON for each message.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use ring::hmac;
use strict_http::secret::Secret;
use strict_http::{causes, read_response};

use super::message::Notification;
use super::planner::hex;
use super::send_failure::{SendFailure, response_excerpt};

/// Header with the time and the signature.
const SIGNATURE_HEADER: &str = "X-Stockbridge-Signature";

/// Header with the id of the message.
const ID_HEADER: &str = "X-Stockbridge-Id";

/// Bytes of a response that are read.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// Settings of a webhook.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// Address that receives the messages. Its query may hold a token.
    pub url: Url,
    /// Key of the signature; `None` if messages are not signed.
    pub secret: Option<Secret>,
}

/// Sends one message. The time is part of the signature.
pub(super) async fn send(
    config: &WebhookConfig,
    client: &reqwest::Client,
    message: &Notification,
    now: DateTime<Utc>,
) -> Result<(), SendFailure> {
    let body = serde_json::to_vec(message)
        .map_err(|error| SendFailure::permanent(format!("cannot write the JSON: {error}")))?;
    let mut request = client
        .post(config.url.clone())
        .header(CONTENT_TYPE, "application/json")
        .header(ID_HEADER, &message.id);
    if let Some(secret) = &config.secret {
        request = request.header(SIGNATURE_HEADER, signature(secret, now.timestamp(), &body));
    }
    let result = request.body(body).send().await;
    let response = result.map_err(|error| {
        SendFailure::temporary(format!(
            "the webhook cannot be reached: {}. Check url, ca_file and the network",
            causes(&error.without_url())
        ))
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let wait = response.headers().get(RETRY_AFTER);
    let wait = wait.and_then(|wait| wait.to_str().ok()?.trim().parse().ok());
    let answer = read_response(response, MAX_RESPONSE_BYTES).await;
    let answer = answer.map_or(String::new(), |body| response_excerpt(&body));
    let answer = if answer.is_empty() {
        answer
    } else {
        format!(": {answer}")
    };
    let failure = SendFailure {
        text: format!(
            "the webhook responded with {status}{answer}. A response between 200 and 299 \
             confirms the message; {}",
            remedy(status)
        ),
        wait: wait.map(Duration::from_secs),
        is_permanent: is_permanent(status),
    };
    Err(match &config.secret {
        Some(secret) => failure.without(secret),
        None => failure,
    })
}

/// Value of the header: `t=UNIX SECONDS,v1=HMAC-SHA256 of "t.body" in hexadecimal`.
fn signature(secret: &Secret, timestamp: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{timestamp}.").as_bytes());
    context.update(body);
    format!("t={timestamp},v1={}", hex(context.sign().as_ref()))
}

fn is_permanent(status: StatusCode) -> bool {
    let may_pass = matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY
    );
    !status.is_server_error() && !may_pass
}

const fn remedy(status: StatusCode) -> &'static str {
    match status.as_u16() {
        300..=399 => "redirects are not followed, so set url to the new address",
        401 | 403 => "check secret_file, and the receiver's rules",
        404 | 405 | 410 => "check url",
        _ => "look at the log of the receiver",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_hmac_sha256_of_time_and_body() {
        // printf '1764453600.{"a":1}' | openssl dgst -sha256 -hmac key-of-the-receiver
        let signature = signature(
            &Secret::new("key-of-the-receiver"),
            1_764_453_600,
            br#"{"a":1}"#,
        );
        assert_eq!(
            signature,
            "t=1764453600,v1=90adc1624a581a6d179a656ebf13279be788318d6ea9e68079a5c2cad7c6f2e3"
        );
    }

    #[test]
    fn only_faults_of_the_settings_are_permanent() {
        for (status, expected) in [
            (301, true),
            (400, true),
            (401, true),
            (404, true),
            (408, false),
            (429, false),
            (500, false),
            (503, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_permanent(status), expected, "{status}");
        }
    }
}
