//! Reasons against switching the push API off, as typed values with their English texts.
//!
//! The pages write them in other languages.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::migrator::Mode;

/// Most SKUs that the text of a reason names.
const MAX_NAMED_IN_TEXT: usize = 3;

/// Reason against switching the push API off, or a remark. `Display` is the text in JSON.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReadinessReason {
    /// Nothing may be sent at all. The text is the reason.
    NotSending(String),
    /// `migrate` is not `on`.
    ModeNotOn(Mode),
    /// No stock of the shop is known.
    NoStock,
    /// The Market has not requested any stock.
    NothingRequested,
    /// Recently requested SKUs have no known stock.
    MissingStock {
        /// Number of these SKUs.
        missing: usize,
        /// Number of all recently requested SKUs.
        asked: usize,
        /// First of these SKUs.
        examples: Vec<String>,
    },
    /// So many requested SKUs have stock that the Market has not acknowledged.
    NotAcknowledged(usize),
    /// Remark: not all unknown SKUs are remembered.
    RequestsForgotten,
    /// So many SKUs wait to be sent.
    WaitingToSend(usize),
    /// The Market rejects SKUs.
    Rejected {
        /// Number of these SKUs.
        count: usize,
        /// First of these SKUs.
        sku: String,
        /// The Market's message about it.
        message: String,
    },
    /// Sending is paused. The text is the reason, if there is one.
    Paused(Option<String>),
    /// So many SKUs differ on the Market without an explanation.
    Drifted(u64),
    /// So many SKUs were accepted, but the Market does not show them.
    NotShown(u64),
    /// The last read-back with a full match was so many hours ago.
    FullMatchTooOld(i64),
    /// No read-back had a full match.
    NeverFullMatch,
    /// Remark: the Market shows so many SKUs that the seller never stated.
    NotOurs(u64),
    /// No source has stated stock for so many hours.
    SourcesSilent(i64),
}

impl ReadinessReason {
    /// Returns the words of the service or of the Market that belong to the reason, in English.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::NotSending(detail)
            | Self::Rejected {
                message: detail, ..
            } => Some(detail),
            Self::Paused(detail) => detail.as_deref(),
            Self::ModeNotOn(_)
            | Self::NoStock
            | Self::NothingRequested
            | Self::MissingStock { .. }
            | Self::NotAcknowledged(_)
            | Self::RequestsForgotten
            | Self::WaitingToSend(_)
            | Self::Drifted(_)
            | Self::NotShown(_)
            | Self::FullMatchTooOld(_)
            | Self::NeverFullMatch
            | Self::NotOurs(_)
            | Self::SourcesSilent(_) => None,
        }
    }
}

impl fmt::Display for ReadinessReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSending(reason) => f.write_str(reason),
            Self::ModeNotOn(mode) => write!(f, "migrate is \"{mode}\": nothing is sent"),
            Self::NoStock => f.write_str("no stock is known yet: send stock or add a source"),
            Self::NothingRequested => f.write_str(
                "the Market has requested nothing yet, so it is unknown which SKUs it needs",
            ),
            Self::MissingStock {
                missing,
                asked,
                examples,
            } => {
                let named: Vec<String> = examples
                    .iter()
                    .take(MAX_NAMED_IN_TEXT)
                    .map(|sku| format!("'{sku}'"))
                    .collect();
                write!(
                    f,
                    "{missing} of {asked} SKUs that the Market requested recently have no known \
                     stock, such as {}",
                    named.join(", ")
                )
            }
            Self::NotAcknowledged(count) => write!(
                f,
                "{count} of the requested SKUs have stock that the Market has not acknowledged yet"
            ),
            Self::RequestsForgotten => f.write_str(
                "the Market requested more SKUs without known stock than are remembered",
            ),
            Self::WaitingToSend(count) => write!(f, "{count} SKUs wait to be sent"),
            Self::Rejected {
                count,
                sku,
                message,
            } => write!(
                f,
                "the Market rejects {count} SKUs, such as '{sku}': {message}"
            ),
            Self::Paused(reason) => {
                let reason = reason.as_deref().unwrap_or("the campaign is paused");
                write!(f, "nothing is sent: {reason}")
            }
            Self::Drifted(count) => write!(
                f,
                "{count} SKUs differ on the Market without an explanation"
            ),
            Self::NotShown(count) => write!(
                f,
                "{count} SKUs were accepted by the Market, but it does not show them"
            ),
            Self::FullMatchTooOld(hours) => write!(
                f,
                "the last read-back with a full match was {hours} h ago: run `stockbridge verify`"
            ),
            Self::NeverFullMatch => f.write_str(
                "the Market's copy was never read back with a full match: run `stockbridge verify`",
            ),
            Self::NotOurs(count) => write!(
                f,
                "the Market shows {count} SKUs whose stock the seller never stated"
            ),
            Self::SourcesSilent(hours) => {
                write!(f, "no source has stated any stock for {hours} h")
            }
        }
    }
}

impl Serialize for ReadinessReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_in_json_stay_as_they_are() {
        let missing = |examples: &[&str]| ReadinessReason::MissingStock {
            missing: 5,
            asked: 9,
            examples: examples.iter().map(|sku| (*sku).to_owned()).collect(),
        };
        for (reason, text) in [
            (
                ReadinessReason::NotSending("another installation".to_owned()),
                "another installation",
            ),
            (
                ReadinessReason::ModeNotOn(Mode::DryRun),
                "migrate is \"dry-run\": nothing is sent",
            ),
            (
                ReadinessReason::NoStock,
                "no stock is known yet: send stock or add a source",
            ),
            (
                ReadinessReason::NothingRequested,
                "the Market has requested nothing yet, so it is unknown which SKUs it needs",
            ),
            (
                missing(&["A", "B", "C", "D"]),
                "5 of 9 SKUs that the Market requested recently have no known stock, such as 'A', \
                 'B', 'C'",
            ),
            (
                ReadinessReason::NotAcknowledged(2),
                "2 of the requested SKUs have stock that the Market has not acknowledged yet",
            ),
            (
                ReadinessReason::RequestsForgotten,
                "the Market requested more SKUs without known stock than are remembered",
            ),
            (ReadinessReason::WaitingToSend(3), "3 SKUs wait to be sent"),
            (
                ReadinessReason::Rejected {
                    count: 4,
                    sku: "A".to_owned(),
                    message: "unknown offer".to_owned(),
                },
                "the Market rejects 4 SKUs, such as 'A': unknown offer",
            ),
            (
                ReadinessReason::Paused(Some("revoked".to_owned())),
                "nothing is sent: revoked",
            ),
            (
                ReadinessReason::Paused(None),
                "nothing is sent: the campaign is paused",
            ),
            (
                ReadinessReason::Drifted(6),
                "6 SKUs differ on the Market without an explanation",
            ),
            (
                ReadinessReason::NotShown(7),
                "7 SKUs were accepted by the Market, but it does not show them",
            ),
            (
                ReadinessReason::FullMatchTooOld(49),
                "the last read-back with a full match was 49 h ago: run `stockbridge verify`",
            ),
            (
                ReadinessReason::NeverFullMatch,
                "the Market's copy was never read back with a full match: run `stockbridge verify`",
            ),
            (
                ReadinessReason::NotOurs(8),
                "the Market shows 8 SKUs whose stock the seller never stated",
            ),
            (
                ReadinessReason::SourcesSilent(30),
                "no source has stated any stock for 30 h",
            ),
        ] {
            assert_eq!(reason.to_string(), text);
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(json, serde_json::to_string(text).unwrap());
        }
    }
}
