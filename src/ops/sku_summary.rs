//! Summary of everything that is known about one SKU: typed facts, and the English sentence of the
//! JSON response. Pages translate the facts.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Serialize, Serializer};

use super::explain::SkuExplanation;
use crate::migrator::Mode;
use crate::migrator::readback::MatchClass;

/// Facts of the summary.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum SkuSummary {
    /// Neither the seller nor the Market has named the SKU.
    Unknown,
    /// The Market requests the SKU, but the seller never stated its stock.
    OnlyRequested {
        /// Hour of the last request.
        hour: DateTime<Utc>,
    },
    /// The seller has stated the stock.
    Stated {
        /// Count in the book.
        count: u32,
        /// Date of the count.
        updated_at: DateTime<Utc>,
        /// Progress of the sending.
        sent: SentState,
        /// Stock that the Market showed; `None` without a read-back.
        shown: Option<ShownState>,
        /// Setting or obstacle of the sending.
        sending: SendingMode,
        /// True if the operator has paused sending.
        is_paused: bool,
    },
}

/// Progress of the sending of one SKU.
#[derive(Clone, Copy, Debug, Eq, PartialEq, strum::Display)]
pub(crate) enum SentState {
    /// The Market rejects the SKU.
    #[strum(to_string = "the Market rejects it")]
    Rejected,
    /// The Market has acknowledged the current count.
    #[strum(to_string = "the Market has acknowledged it")]
    Acknowledged,
    /// The Market has acknowledged only this older count.
    #[strum(to_string = "the Market has acknowledged only {0}")]
    AcknowledgedOnly(u32),
    /// The Market has acknowledged no count.
    #[strum(to_string = "the Market has not acknowledged it")]
    NotAcknowledged,
}

/// Stock that the Market showed in the last read-back of the SKU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ShownState {
    /// The Market does not show the SKU.
    Missing,
    /// The Market showed a count.
    Shown {
        /// Pieces that can be ordered.
        available: u32,
        /// Result of the comparison.
        class: MatchClass,
        /// True if the read-back was before the acknowledged count was sent.
        is_before_sending: bool,
    },
}

/// Setting or obstacle of the sending of a shop.
#[derive(Clone, Copy, Debug, Eq, PartialEq, strum::Display)]
pub(crate) enum SendingMode {
    /// The store belongs to another installation.
    #[strum(to_string = "blocked because the store belongs to another installation")]
    ForeignStore,
    /// Value of the setting `migrate`.
    #[strum(to_string = "{0}")]
    Mode(Mode),
}

impl SkuSummary {
    /// Summarises an explanation.
    pub(super) fn of(facts: &SkuExplanation, sending: SendingMode, is_paused: bool) -> Self {
        let Some(book) = &facts.book else {
            let latest = facts.asked.iter().map(|asked| asked.hour).max();
            return latest.map_or(Self::Unknown, |hour| Self::OnlyRequested { hour });
        };
        let sent = match &facts.ledger {
            _ if facts.quarantine.is_some() => SentState::Rejected,
            Some(ledger) if (ledger.count, ledger.updated_at) == (book.count, book.updated_at) => {
                SentState::Acknowledged
            }
            Some(ledger) => SentState::AcknowledgedOnly(ledger.count),
            None => SentState::NotAcknowledged,
        };
        let sent_at = facts.ledger.as_ref().and_then(|ledger| ledger.sent_at);
        let shown = facts.market.as_ref().map(|market| match market.class {
            MatchClass::Unknown => ShownState::Missing,
            class => {
                // The time of a read-back is stored to the minute.
                let minute = TimeDelta::minutes(1);
                let times = market.looked_at.zip(sent_at);
                ShownState::Shown {
                    available: market.available.unwrap_or_default(),
                    class,
                    is_before_sending: times
                        .is_some_and(|(looked_at, sent_at)| looked_at + minute <= sent_at),
                }
            }
        });
        Self::Stated {
            count: book.count,
            updated_at: book.updated_at,
            sent,
            shown,
            sending,
            is_paused,
        }
    }
}

impl fmt::Display for SkuSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => {
                f.write_str("unknown: neither the seller nor the Market has named this SKU")
            }
            Self::OnlyRequested { hour } => write!(
                f,
                "the seller never stated its stock, and the Market last requested it in the hour of {hour}"
            ),
            Self::Stated {
                count,
                updated_at,
                sent,
                shown,
                sending,
                is_paused,
            } => {
                write!(f, "the seller has {count} as of {updated_at}; {sent}")?;
                if let Some(shown) = shown {
                    write!(f, "{shown}")?;
                }
                write!(f, "; migrate is {sending}")?;
                if *is_paused {
                    f.write_str("; sending is paused by the operator")?;
                }
                Ok(())
            }
        }
    }
}

/// Part of a sentence that follows [`SentState`].
impl fmt::Display for ShownState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(", but does not show it"),
            Self::Shown {
                available,
                class,
                is_before_sending,
            } => {
                let when = if *is_before_sending {
                    ", before this value was sent"
                } else {
                    ""
                };
                write!(f, ", and showed {available} ({}{when})", class.name())
            }
        }
    }
}

impl Serialize for SkuSummary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(sent: SentState, shown: Option<ShownState>, sending: SendingMode) -> SkuSummary {
        SkuSummary::Stated {
            count: 5,
            updated_at: "2026-11-20T10:00:00Z".parse().unwrap(),
            sent,
            shown,
            sending,
            is_paused: false,
        }
    }

    #[test]
    fn facts_become_one_sentence() {
        let shown = |is_before_sending| {
            Some(ShownState::Shown {
                available: 3,
                class: MatchClass::Explained,
                is_before_sending,
            })
        };
        let on = SendingMode::Mode(Mode::On);
        let hour = "2026-11-20T10:00:00Z".parse().unwrap();
        let mut paused = stated(SentState::Acknowledged, None, on);
        if let SkuSummary::Stated { is_paused, .. } = &mut paused {
            *is_paused = true;
        }
        for (summary, expected) in [
            (
                SkuSummary::Unknown,
                "unknown: neither the seller nor the Market has named this SKU",
            ),
            (
                SkuSummary::OnlyRequested { hour },
                "the seller never stated its stock, and the Market last requested it in the hour \
                 of 2026-11-20 10:00:00 UTC",
            ),
            (
                stated(SentState::NotAcknowledged, None, on),
                "the seller has 5 as of 2026-11-20 10:00:00 UTC; the Market has not acknowledged \
                 it; migrate is on",
            ),
            (
                stated(SentState::AcknowledgedOnly(2), shown(true), on),
                "the seller has 5 as of 2026-11-20 10:00:00 UTC; the Market has acknowledged only \
                 2, and showed 3 (explained, before this value was sent); migrate is on",
            ),
            (
                stated(SentState::Acknowledged, shown(false), on),
                "the seller has 5 as of 2026-11-20 10:00:00 UTC; the Market has acknowledged it, \
                 and showed 3 (explained); migrate is on",
            ),
            (
                stated(
                    SentState::Rejected,
                    Some(ShownState::Missing),
                    SendingMode::ForeignStore,
                ),
                "the seller has 5 as of 2026-11-20 10:00:00 UTC; the Market rejects it, but does \
                 not show it; migrate is blocked because the store belongs to another installation",
            ),
            (
                paused,
                "the seller has 5 as of 2026-11-20 10:00:00 UTC; the Market has acknowledged it; \
                 migrate is on; sending is paused by the operator",
            ),
        ] {
            assert_eq!(summary.to_string(), expected);
        }
    }
}
