//! What an answer of the Market means for the batch and for the campaign. Pure.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::partner_api::client::{CallOutcome, MarketResponse};
use crate::partner_api::wire::ApiError;
use crate::stock::Sku;

/// What to do about a batch after its request ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ResponseVerdict {
    /// The Market has it.
    Accepted,
    /// The Market is open to nobody here: wrong address, wrong method, campaign in migration.
    /// Nothing will change by itself soon.
    CampaignUnavailable {
        /// The Market's words.
        reason: String,
    },
    /// The key is not, or no longer, good for this.
    AuthRejected {
        /// The Market's words.
        reason: String,
        /// The Market does not know the key, whatever it is used for.
        is_unknown_key: bool,
    },
    /// The volume of the minute is spent.
    RateLimited {
        /// How long the Market says it will last, if it says.
        wait: Option<Duration>,
    },
    /// Something in the batch is wrong: the batch as it is must not be repeated.
    Rejected {
        /// The Market's words; perhaps they name SKUs.
        errors: Vec<ApiError>,
    },
    /// Nobody can know whether the Market has it: it stays to be sent, after a pause.
    Retry {
        /// What happened.
        reason: String,
    },
    /// The batch is too large as a whole.
    SplitBatch,
    /// Too many requests of this campaign at a time.
    ReduceParallelism,
}

impl ResponseVerdict {
    /// A stable name, for counts.
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
            Self::RateLimited { wait: None } => f.write_str("its limit is spent"),
            Self::RateLimited { wait: Some(wait) } => {
                write!(f, "its limit is spent for {} ms", wait.as_millis())
            }
            Self::Rejected { errors } => f.write_str(&error_text(errors)),
            Self::SplitBatch => f.write_str("it is too large"),
            Self::ReduceParallelism => f.write_str("too many requests at a time"),
        }
    }
}

/// Judges how a request ended. Sources: the limits and errors pages, 2026.
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
    let errors = parse_errors(response);
    match response.status {
        200 if is_ok(response) => ResponseVerdict::Accepted,
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

/// Which SKUs of the batch the Market's words name.
///
/// The Market names a SKU only inside a sentence, in single quotes, and a SKU may hold quotes
/// itself or be called like a field. So the batch's own SKUs are looked for, not the quotes,
/// and only in sentences that begin as the Market's sentences about one SKU do.
#[must_use]
pub fn named_skus<'a>(errors: &[ApiError], batch: impl Iterator<Item = &'a Sku>) -> Vec<Sku> {
    const OPENINGS: [&str; 2] = ["Stock for '", "Duplicate shop-sku '"];
    let details: Vec<&str> = errors
        .iter()
        .flat_map(|api_error| {
            OPENINGS
                .iter()
                .flat_map(|opening| api_error.message.match_indices(opening))
                .map(|(start, opening)| {
                    api_error
                        .message
                        .get(start + opening.len()..)
                        .unwrap_or_default()
                })
        })
        .collect();
    if details.is_empty() {
        return Vec::new();
    }
    let is_named = |sku: &&Sku| {
        details.iter().any(|rest| {
            rest.strip_prefix(sku.as_str()).is_some_and(|rest| {
                rest.starts_with("' should") || rest.starts_with("' for warehouse")
            })
        })
    };
    batch.filter(is_named).cloned().collect()
}

/// Whether the Market's words are about a date, not about a SKU. Source: the errors page, 2026.
#[must_use]
pub fn mention_dates(errors: &[ApiError]) -> bool {
    contains_text(errors, "should not be in the future")
        || contains_text(errors, "should not be older than a day")
}

fn is_ok(response: &MarketResponse) -> bool {
    serde_json::from_slice::<ResponseEnvelope>(&response.body)
        .is_ok_and(|envelope| envelope.status.as_deref() == Some("OK"))
}

fn parse_errors(response: &MarketResponse) -> Vec<ApiError> {
    serde_json::from_slice::<ResponseEnvelope>(&response.body)
        .ok()
        .and_then(|envelope| envelope.errors)
        .unwrap_or_default()
}

// More lenient than what we answer ourselves: unknown members are ignored, and either of the
// two may be missing.
#[derive(Deserialize)]
struct ResponseEnvelope {
    status: Option<String>,
    errors: Option<Vec<ApiError>>,
}

fn contains_text(errors: &[ApiError], text: &str) -> bool {
    errors.iter().any(|error| error.message.contains(text))
}

/// One line for people: the Market's own words if it said any.
fn reason(response: &MarketResponse, errors: &[ApiError]) -> String {
    let text = error_text(errors);
    let text = if text.is_empty() {
        excerpt(&response.body)
    } else {
        text
    };
    format!("status {}: {text}", response.status)
}

/// What the Market says, as far as a line of a log can take it.
#[must_use]
pub fn error_text(errors: &[ApiError]) -> String {
    const MOST_CHARACTERS: usize = 500;
    let messages: Vec<&str> = errors
        .iter()
        .take(20)
        .map(|error| error.message.as_str())
        .collect();
    messages.join("; ").chars().take(MOST_CHARACTERS).collect()
}

fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    use crate::partner_api::client::{RateHeaders, RequestTimes};

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
    fn success_is_200_and_json_and_ok() {
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
    fn every_status_has_its_verdict() {
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
    fn a_400_that_is_not_the_markets_is_not_taken_for_a_refusal() {
        assert_eq!(
            classify_response(&response(400, "<html>nginx</html>")).name(),
            "retry"
        );
    }

    #[test]
    fn skus_are_found_in_the_markets_sentences_whatever_they_hold() {
        let batch: Vec<Sku> = ["A", "A' should", "it's", "skus", "AA"]
            .iter()
            .map(|s| Sku::parse(s).unwrap())
            .collect();
        let find = |message: &str| -> Vec<String> {
            named_skus(&[ApiError::bad_request(message)], batch.iter())
                .iter()
                .map(ToString::to_string)
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
