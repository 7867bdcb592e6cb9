//! Reasons against switching the push API off, as typed values with their English texts.
//!
//! The pages write them in other languages.

use serde::{Serialize, Serializer};

use crate::migrator::Mode;

/// Most SKUs that the text of a reason names.
const MAX_NAMED_IN_TEXT: usize = 3;

/// Reason against switching the push API off, or a remark. `Display` is the text in JSON.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReadinessReason {
    /// Nothing may be sent at all. The text is the reason.
    #[error("{0}")]
    NotSending(String),
    /// `migrate` is not `on`.
    #[error("migrate is \"{0}\": nothing is sent")]
    ModeNotOn(Mode),
    /// Another replica sends, or none yet. Only the one that sends knows what the Market shows.
    #[error("{}", other_replica(.0.as_deref()))]
    OtherReplica(Option<String>),
    /// No stock of the shop is known.
    #[error("no stock is known yet: send stock or add a source")]
    NoStock,
    /// The Market has not requested any stock.
    #[error("the Market has requested nothing yet, so it is unknown which SKUs it needs")]
    NothingRequested,
    /// Recently requested SKUs have no known stock.
    #[error(
        "{missing} of {asked} SKUs that the Market requested recently have no known stock, such as \
         {}",
        quoted(examples)
    )]
    MissingStock {
        /// Number of these SKUs.
        missing: usize,
        /// Number of all recently requested SKUs.
        asked: usize,
        /// First of these SKUs.
        examples: Vec<String>,
    },
    /// So many requested SKUs have stock that the Market has not acknowledged.
    #[error("{0} of the requested SKUs have stock that the Market has not acknowledged yet")]
    NotAcknowledged(usize),
    /// Remark: not all unknown SKUs are remembered.
    #[error("the Market requested more SKUs without known stock than are remembered")]
    RequestsForgotten,
    /// So many SKUs wait to be sent.
    #[error("{0} SKUs wait to be sent")]
    WaitingToSend(usize),
    /// The Market rejects SKUs.
    #[error("the Market rejects {count} SKUs, such as '{sku}': {message}")]
    Rejected {
        /// Number of these SKUs.
        count: usize,
        /// First of these SKUs.
        sku: String,
        /// The Market's message about it.
        message: String,
    },
    /// Sending is paused. The text is the reason, if there is one.
    #[error("nothing is sent: {}", .0.as_deref().unwrap_or("the campaign is paused"))]
    Paused(Option<String>),
    /// So many SKUs differ on the Market without an explanation.
    #[error("{0} SKUs differ on the Market without an explanation")]
    Drifted(u64),
    /// So many SKUs were accepted, but the Market does not show them.
    #[error("{0} SKUs were accepted by the Market, but it does not show them")]
    NotShown(u64),
    /// The last read-back with a full match was so many hours ago.
    #[error("the last read-back with a full match was {0} h ago: run `stockbridge verify`")]
    FullMatchTooOld(i64),
    /// No read-back had a full match.
    #[error("the Market's copy was never read back with a full match: run `stockbridge verify`")]
    NeverFullMatch,
    /// Remark: the Market shows so many SKUs that the seller never stated.
    #[error("the Market shows {0} SKUs whose stock the seller never stated")]
    NotOurs(u64),
    /// No source has stated stock for so many hours.
    #[error("no source has stated any stock for {0} h")]
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
            _ => None,
        }
    }
}

fn other_replica(name: Option<&str>) -> String {
    match name {
        Some(name) => format!(
            "replica {name} sends for this shop, and only it knows the Market's copy: ask there"
        ),
        None => "no replica sends for this shop at the moment: ask again in two minutes, and then \
                 check the database"
            .to_owned(),
    }
}

/// Joins the first SKUs in single quotes with commas.
fn quoted(skus: &[String]) -> String {
    let named = skus.iter().take(MAX_NAMED_IN_TEXT);
    let named: Vec<String> = named.map(|sku| format!("'{sku}'")).collect();
    named.join(", ")
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
                ReadinessReason::OtherReplica(Some("dc-2".to_owned())),
                "replica dc-2 sends for this shop, and only it knows the Market's copy: ask there",
            ),
            (
                ReadinessReason::OtherReplica(None),
                "no replica sends for this shop at the moment: ask again in two minutes, and then check \
                 the database",
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
