//! Classification of the Market's responses: the consequence for the batch and for the campaign.
//! Pure.

use std::fmt;
use std::time::Duration;

use market_api::partner::client::{CallOutcome, MarketResponse};
use market_api::partner::wire::ApiError;
use serde::Deserialize;

use super::queue::QueuedSku;

/// Consequence of a response, or of a missing one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ResponseVerdict {
    /// The Market accepted the request.
    Accepted,
    /// The campaign accepts no requests: unknown id, wrong method, or campaign in migration. A
    /// retry will not help soon.
    CampaignUnavailable {
        /// Status and the Market's messages.
        reason: String,
    },
    /// The key is invalid or lacks a permission.
    AuthRejected {
        /// Status and the Market's messages.
        reason: String,
        /// True if the key itself is invalid, for all campaigns and methods.
        is_unknown_key: bool,
    },
    /// The rate limit is used up.
    RateLimited {
        /// Wait that the response's headers ask for.
        wait: Option<Duration>,
    },
    /// The batch is invalid and must not be repeated unchanged.
    Rejected {
        /// The Market's errors. They may name SKUs.
        errors: Vec<ApiError>,
    },
    /// The effect is unknown: the SKUs are sent again after a pause.
    Retry {
        /// Description of the failure.
        reason: String,
    },
    /// The request is too large.
    SplitBatch,
    /// The campaign has too many parallel requests.
    ReduceParallelism,
}

impl ResponseVerdict {
    /// Returns the value of the metric label `verdict`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Accepted => "accept",
            Self::CampaignUnavailable { .. } => "close",
            Self::AuthRejected { .. } => "deny",
            Self::RateLimited { .. } => "limit",
            Self::Rejected { .. } => "refuse",
            Self::Retry { .. } => "retry",
            Self::SplitBatch => "shrink",
            Self::ReduceParallelism => "thin",
        }
    }
}

impl fmt::Display for ResponseVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::CampaignUnavailable { reason }
            | Self::AuthRejected { reason, .. }
            | Self::Retry { reason } => f.write_str(reason),
            Self::RateLimited { wait: None } => f.write_str("the rate limit is used up"),
            Self::RateLimited { wait: Some(wait) } => {
                write!(f, "the rate limit is used up for {} ms", wait.as_millis())
            }
            Self::Rejected { errors } => f.write_str(&error_text(errors)),
            Self::SplitBatch => f.write_str("the request is too large"),
            Self::ReduceParallelism => f.write_str("too many parallel requests"),
        }
    }
}

/// Classifies the outcome of a request. Sources: the limits and errors pages, 2026.
#[must_use]
pub fn classify_response(outcome: &CallOutcome) -> ResponseVerdict {
    let response = match outcome {
        CallOutcome::Response(response) => response,
        CallOutcome::NoResponse(reason) => {
            return ResponseVerdict::Retry {
                reason: reason.clone(),
            };
        }
    };
    let envelope = serde_json::from_slice::<ResponseEnvelope>(&response.body);
    let envelope = envelope.unwrap_or_default();
    let errors = envelope.errors.unwrap_or_default();
    match response.status {
        200 if envelope.status.as_deref() == Some("OK") => ResponseVerdict::Accepted,
        200 => ResponseVerdict::Retry {
            reason: format!("status 200 without status OK: {}", excerpt(&response.body)),
        },
        400 if contains_text(&errors, "request is too big") => ResponseVerdict::SplitBatch,
        400 if !errors.is_empty() => ResponseVerdict::Rejected { errors },
        status @ (401 | 403) => ResponseVerdict::AuthRejected {
            reason: reason(response, &errors),
            is_unknown_key: status == 401,
        },
        404 | 405 | 415 | 423 => ResponseVerdict::CampaignUnavailable {
            reason: reason(response, &errors),
        },
        413 => ResponseVerdict::SplitBatch,
        420 if contains_text(&errors, "parallel") => ResponseVerdict::ReduceParallelism,
        420 => ResponseVerdict::RateLimited {
            wait: response.rate.resets_in,
        },
        _ => ResponseVerdict::Retry {
            reason: reason(response, &errors),
        },
    }
}

/// Returns the SKUs of the batch that the Market's error messages name.
///
/// The Market names a SKU only inside a sentence, in single quotes. A SKU may contain quotes, and
/// it may be spelt like a field name. So the messages are searched for the SKUs of the batch, not
/// for quotes, and only after the known openings of messages about one SKU.
pub fn named_skus<'a>(
    errors: &'a [ApiError],
    batch: impl Iterator<Item = &'a QueuedSku>,
) -> impl Iterator<Item = &'a QueuedSku> {
    const OPENINGS: [&str; 2] = ["Stock for '", "Duplicate shop-sku '"];
    let text_after = |message: &'a str, opening: &'static str| {
        let places = message.match_indices(opening);
        places.filter_map(move |(start, opening)| message.get(start + opening.len()..))
    };
    let details: Vec<&str> = errors
        .iter()
        .flat_map(|error| OPENINGS.map(|opening| text_after(&error.message, opening)))
        .flatten()
        .collect();
    batch.filter(move |queued| {
        details
            .iter()
            .filter_map(|rest| rest.strip_prefix(queued.sku.as_str()))
            .any(|rest| rest.starts_with("' should") || rest.starts_with("' for warehouse"))
    })
}

/// Returns true if the errors are about dates, not about SKUs. Source: the errors page, 2026.
#[must_use]
pub fn mention_dates(errors: &[ApiError]) -> bool {
    contains_text(errors, "should not be in the future")
        || contains_text(errors, "should not be older than a day")
}

// Lenient on purpose: unknown members are ignored, and either of the two may be missing.
#[derive(Default, Deserialize)]
struct ResponseEnvelope {
    status: Option<String>,
    errors: Option<Vec<ApiError>>,
}

fn contains_text(errors: &[ApiError], text: &str) -> bool {
    errors.iter().any(|error| error.message.contains(text))
}

/// Formats the status and the Market's messages, or the beginning of the body if there are none.
fn reason(response: &MarketResponse, errors: &[ApiError]) -> String {
    let text = match error_text(errors) {
        empty if empty.is_empty() => excerpt(&response.body),
        text => text,
    };
    format!("status {}: {text}", response.status)
}

/// Joins the messages of at most 20 errors, cut to 500 characters to fit a log line.
#[must_use]
pub fn error_text(errors: &[ApiError]) -> String {
    const MAX_CHARS: usize = 500;
    let messages: Vec<&str> = errors
        .iter()
        .take(20)
        .map(|error| error.message.as_str())
        .collect();
    messages.join("; ").chars().take(MAX_CHARS).collect()
}

fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use market_api::partner::client::{RateHeaders, RequestTimes};
    use stock::{Count, Level, ShopId, Sku, StockBook};

    use super::*;

    fn response(status: u16, body: &str) -> CallOutcome {
        CallOutcome::Response(MarketResponse {
            status,
            body: body.to_owned().into(),
            rate: RateHeaders::default(),
            date: None,
            times: RequestTimes {
                sent_at: DateTime::UNIX_EPOCH,
                head_at: DateTime::UNIX_EPOCH,
            },
            trace_id: None,
        })
    }

    fn error_body(message: &str) -> String {
        let message = serde_json::to_string(message).unwrap();
        format!(r#"{{"status":"ERROR","errors":[{{"code":"X","message":{message}}}],"new":1}}"#)
    }

    #[test]
    fn success_needs_200_and_status_ok() {
        assert_eq!(
            classify_response(&response(200, r#"{"status":"OK"}"#)),
            ResponseVerdict::Accepted
        );
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"status":"ERROR"}"#,
            r#"{"status":"ok"}"#,
        ] {
            assert_eq!(
                classify_response(&response(200, body)).name(),
                "retry",
                "{body}"
            );
        }
        assert_eq!(
            classify_response(&response(201, r#"{"status":"OK"}"#)).name(),
            "retry"
        );
    }

    #[test]
    fn every_status_has_a_verdict() {
        for (status, message, verdict) in [
            (400, "'skus' size must be between 1 and 2000", "refuse"),
            (400, "The request is too big: 600000", "shrink"),
            (401, "Api-Key token is invalid", "deny"),
            (403, "Access denied", "deny"),
            (404, "Campaign not found", "close"),
            (405, "", "close"),
            (415, "", "close"),
            (423, "Campaign is in migration", "close"),
            (413, "", "shrink"),
            (
                420,
                "Hit rate limit of 4 parallel requests for campaignId 12345",
                "thin",
            ),
            (
                420,
                "Hit rate limit of 100000 requests per '60 SECONDS'",
                "limit",
            ),
            (429, "", "retry"),
            (499, "", "retry"),
            (500, "", "retry"),
            (503, "", "retry"),
            (302, "", "retry"),
        ] {
            assert_eq!(
                classify_response(&response(status, &error_body(message))).name(),
                verdict,
                "{status}"
            );
        }
        assert_eq!(
            classify_response(&CallOutcome::NoResponse("connection reset".to_owned())).name(),
            "retry"
        );
    }

    #[test]
    fn retries_a_400_without_market_errors() {
        assert_eq!(
            classify_response(&response(400, "<html>nginx</html>")).name(),
            "retry"
        );
    }

    #[test]
    fn finds_named_skus_with_quotes_and_field_names() {
        let book = StockBook::new([0]);
        let level = Level {
            count: Count::ZERO,
            updated_at: DateTime::UNIX_EPOCH.into(),
        };
        let batch = ["A", "A' should", "it's", "skus", "AA"].map(|text| {
            let sku = Sku::parse(text).unwrap();
            let id = book.restore(ShopId(0), &sku, level);
            QueuedSku { id, sku, since: 0 }
        });
        let find = |message: &str| -> Vec<String> {
            named_skus(&[ApiError::bad_request(message)], batch.iter())
                .map(|queued| queued.sku.to_string())
                .collect()
        };
        assert_eq!(find("Stock for 'A' should not be in the future"), ["A"]);
        assert_eq!(
            find("Stock for 'it's' should not be older than a day"),
            ["it's"]
        );
        assert_eq!(find("Duplicate shop-sku 'AA' for warehouse '7'"), ["AA"]);
        assert_eq!(
            find("'skus' size must be between 1 and 2000"),
            Vec::<String>::new()
        );
        assert_eq!(
            find(
                "Stock for 'A' should not be in the future, Stock for 'AA' should not be in the future"
            ),
            ["A", "AA"]
        );
    }
}
