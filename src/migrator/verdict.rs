//! What an answer of the Market means for the batch and for the campaign. Pure.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::partner::client::{Answer, Reply};
use crate::partner::wire::ApiError;
use crate::stock::Sku;

/// What to do about a batch after its request ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The Market has it.
    Accept,
    /// The Market is open to nobody here: wrong address, wrong method, campaign in migration.
    /// Nothing will change by itself soon.
    Close {
        /// The Market's words.
        reason: String,
    },
    /// The key is not, or no longer, good for this.
    Deny {
        /// The Market's words.
        reason: String,
        /// The Market does not know the key, whatever it is used for.
        is_unknown_key: bool,
    },
    /// The volume of the minute is spent.
    Limit {
        /// How long the Market says it will last, if it says.
        wait: Option<Duration>,
    },
    /// Something in the batch is wrong: the batch as it is must not be repeated.
    Refuse {
        /// The Market's words; perhaps they name SKUs.
        errors: Vec<ApiError>,
    },
    /// Nobody can know whether the Market has it: it stays to be sent, after a pause.
    Retry {
        /// What happened.
        reason: String,
    },
    /// The batch is too large as a whole.
    Shrink,
    /// Too many requests of this campaign at a time.
    Thin,
}

impl Verdict {
    /// A stable name, for counts.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Close { .. } => "close",
            Self::Deny { .. } => "deny",
            Self::Limit { .. } => "limit",
            Self::Refuse { .. } => "refuse",
            Self::Retry { .. } => "retry",
            Self::Shrink => "shrink",
            Self::Thin => "thin",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accepted"),
            Self::Close { reason } | Self::Deny { reason, .. } | Self::Retry { reason } => {
                f.write_str(reason)
            }
            Self::Limit { wait: None } => f.write_str("its limit is spent"),
            Self::Limit { wait: Some(wait) } => {
                write!(f, "its limit is spent for {} ms", wait.as_millis())
            }
            Self::Refuse { errors } => f.write_str(&words(errors)),
            Self::Shrink => f.write_str("it is too large"),
            Self::Thin => f.write_str("too many requests at a time"),
        }
    }
}

/// Judges how a request ended. Sources: the limits and errors pages, 2026.
#[must_use]
pub fn judge(reply: &Reply) -> Verdict {
    let answer = match reply {
        Reply::Answer(answer) => answer,
        Reply::Failure(reason) => {
            return Verdict::Retry {
                reason: reason.clone(),
            };
        }
    };
    let errors = errors(answer);
    match answer.status {
        200 if is_ok(answer) => Verdict::Accept,
        200 => Verdict::Retry {
            reason: format!("status 200 without status OK: {}", excerpt(&answer.body)),
        },
        400 if says(&errors, "request is too big") => Verdict::Shrink,
        400 if !errors.is_empty() => Verdict::Refuse { errors },
        status @ (401 | 403) => Verdict::Deny {
            reason: reason(answer, &errors),
            is_unknown_key: status == 401,
        },
        404 | 405 | 415 | 423 => Verdict::Close {
            reason: reason(answer, &errors),
        },
        413 => Verdict::Shrink,
        420 if says(&errors, "parallel") => Verdict::Thin,
        420 => Verdict::Limit {
            wait: answer.rate.wait,
        },
        _ => Verdict::Retry {
            reason: reason(answer, &errors),
        },
    }
}

/// Which SKUs of the batch the Market's words name.
///
/// The Market names a SKU only inside a sentence, in single quotes, and a SKU may hold quotes
/// itself or be called like a field. So the batch's own SKUs are looked for, not the quotes,
/// and only in sentences that begin as the Market's sentences about one SKU do.
#[must_use]
pub fn named<'a>(errors: &[ApiError], batch: impl Iterator<Item = &'a Sku>) -> Vec<Sku> {
    const OPENINGS: [&str; 2] = ["Stock for '", "Duplicate shop-sku '"];
    let about_one: Vec<&str> = errors
        .iter()
        .flat_map(|error| {
            OPENINGS
                .iter()
                .flat_map(|opening| error.message.match_indices(opening))
                .map(|(at, opening)| error.message.get(at + opening.len()..).unwrap_or_default())
        })
        .collect();
    if about_one.is_empty() {
        return Vec::new();
    }
    let is_named = |sku: &&Sku| {
        about_one.iter().any(|rest| {
            rest.strip_prefix(sku.as_str()).is_some_and(|rest| {
                rest.starts_with("' should") || rest.starts_with("' for warehouse")
            })
        })
    };
    batch.filter(is_named).cloned().collect()
}

/// Whether the Market's words are about a date, not about a SKU. Source: the errors page, 2026.
#[must_use]
pub fn are_about_dates(errors: &[ApiError]) -> bool {
    says(errors, "should not be in the future") || says(errors, "should not be older than a day")
}

fn is_ok(answer: &Answer) -> bool {
    serde_json::from_slice::<Wrapper>(&answer.body)
        .is_ok_and(|wrapper| wrapper.status.as_deref() == Some("OK"))
}

fn errors(answer: &Answer) -> Vec<ApiError> {
    serde_json::from_slice::<Wrapper>(&answer.body)
        .ok()
        .and_then(|wrapper| wrapper.errors)
        .unwrap_or_default()
}

// More lenient than what we answer ourselves: unknown members are ignored, and either of the
// two may be missing.
#[derive(Deserialize)]
struct Wrapper {
    status: Option<String>,
    errors: Option<Vec<ApiError>>,
}

fn says(errors: &[ApiError], words: &str) -> bool {
    errors.iter().any(|error| error.message.contains(words))
}

/// One line for people: the Market's own words if it said any.
fn reason(answer: &Answer, errors: &[ApiError]) -> String {
    let words = words(errors);
    let words = if words.is_empty() {
        excerpt(&answer.body)
    } else {
        words
    };
    format!("status {}: {words}", answer.status)
}

/// What the Market says, as far as a line of a log can take it.
#[must_use]
pub fn words(errors: &[ApiError]) -> String {
    const MOST_CHARACTERS: usize = 500;
    let words: Vec<&str> = errors
        .iter()
        .take(20)
        .map(|error| error.message.as_str())
        .collect();
    words.join("; ").chars().take(MOST_CHARACTERS).collect()
}

fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    use crate::partner::client::{RateHeaders, Way};

    fn answer(status: u16, body: &str) -> Reply {
        Reply::Answer(Answer {
            status,
            body: body.to_owned().into(),
            rate: RateHeaders::default(),
            date: None,
            way: Way {
                asked: DateTime::UNIX_EPOCH,
                head: DateTime::UNIX_EPOCH,
            },
            trace: None,
        })
    }

    fn error(message: &str) -> String {
        let message = serde_json::to_string(message).unwrap();
        format!(r#"{{"status":"ERROR","errors":[{{"code":"X","message":{message}}}],"new":1}}"#)
    }

    #[test]
    fn success_is_200_and_json_and_ok() {
        assert_eq!(judge(&answer(200, r#"{"status":"OK"}"#)), Verdict::Accept);
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"status":"ERROR"}"#,
            r#"{"status":"ok"}"#,
        ] {
            assert_eq!(judge(&answer(200, body)).name(), "retry", "{body}");
        }
        assert_eq!(judge(&answer(201, r#"{"status":"OK"}"#)).name(), "retry");
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
                judge(&answer(status, &error(message))).name(),
                verdict,
                "{status}"
            );
        }
        assert_eq!(
            judge(&Reply::Failure("connection reset".to_owned())).name(),
            "retry"
        );
    }

    #[test]
    fn a_400_that_is_not_the_markets_is_not_taken_for_a_refusal() {
        assert_eq!(judge(&answer(400, "<html>nginx</html>")).name(), "retry");
    }

    #[test]
    fn skus_are_found_in_the_markets_sentences_whatever_they_hold() {
        let batch: Vec<Sku> = ["A", "A' should", "it's", "skus", "AA"]
            .iter()
            .map(|s| Sku::parse(s).unwrap())
            .collect();
        let find = |message: &str| -> Vec<String> {
            named(&[ApiError::bad_request(message)], batch.iter())
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
