//! Comparison of the Market's copy of one SKU with our book and ledger. Pure.
//!
//! Decides whether a difference is explained by orders, by delay or by unsent changes, and whether
//! the Market's date proves that an update was lost.

use chrono::{DateTime, TimeDelta, Utc};
use market_api::partner::readback_page::{OfferList, ReadbackOffer};
use stock::{Level, Timestamp};

use crate::migrator::ledger::is_dirty;
use crate::migrator::queue::clamp_to_window;
use crate::store::Acked;

/// Result of the comparison of one SKU, ordered from the most harmless.
#[derive(
    Clone,
    Copy,
    Debug,
    Eq,
    Ord,
    PartialEq,
    PartialOrd,
    serde::Serialize,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(into = "&'static str")]
#[strum(serialize_all = "snake_case")]
pub enum MatchClass {
    /// The Market shows the count we sent.
    Equal,
    /// The Market shows fewer pieces, and reserves or a later change by the Market explain it.
    Explained,
    /// The Market shows another count or none, but accepted ours less than the grace period ago.
    Pending,
    /// The offer is in the Market's archive.
    Archived,
    /// The Market shows the offer, but the book has no such SKU.
    NotOurs,
    /// The book has a change that the Market has not acknowledged yet.
    Unsent,
    /// The SKU is unsent because it is in quarantine.
    #[strum(serialize = "refused")]
    Rejected,
    /// The Market accepted the SKU but shows it nowhere: perhaps it is not in the catalogue.
    Unknown,
    /// The Market shows another count without an explanation.
    Drifted,
}

impl MatchClass {
    /// All classes, the most harmless first.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the stable name used in JSON and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns true if the SKU needs no further attention.
    #[must_use]
    pub fn is_explained(self) -> bool {
        match self {
            Self::Equal | Self::Explained | Self::Pending | Self::Archived | Self::NotOurs => true,
            Self::Unsent | Self::Rejected | Self::Unknown | Self::Drifted => false,
        }
    }

    /// Returns the stable number used in [`super::Observed`] and the history.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns the class with this number; `None` if there is none.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// Our side of the comparison of one SKU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) level: Level,
    pub(super) acked: Acked,
    /// Date with which it was last sent; `None` if not since this process started.
    pub(super) sent_date: Option<Timestamp>,
    /// True in a dry run: nothing is sent, and the book itself is compared.
    pub(super) is_dry_run: bool,
    /// Time that the Market may take to show an accepted update.
    pub(super) grace: TimeDelta,
    /// Largest recent difference between our clock and the Market's.
    pub(super) max_clock_skew: TimeDelta,
}

const SECOND: TimeDelta = TimeDelta::seconds(1);

impl Expected {
    /// Classifies an offer that the Market shows.
    pub(super) fn classify(&self, offer: &ReadbackOffer, now: DateTime<Utc>) -> MatchClass {
        let count = u64::from(self.level.count.get());
        if offer.list == OfferList::Archived {
            return MatchClass::Archived;
        }
        if self.is_dry_run {
            return if offer.available == count {
                MatchClass::Equal
            } else {
                MatchClass::Drifted
            };
        }
        let Some(sent_at) = self.acked.acked_at().filter(|_| !self.has_unsent_change()) else {
            return MatchClass::Unsent;
        };
        if offer.available == count {
            return MatchClass::Equal;
        }
        if now - sent_at < self.grace {
            return MatchClass::Pending;
        }
        // Orders may explain the count, but not a date before our update.
        if self.is_provably_lost(offer) {
            return MatchClass::Drifted;
        }
        // Changes by the Market itself, such as orders, are dated after our update.
        let (_, latest) = self.sent_date_range(sent_at);
        let was_updated_later = offer.updated_at.is_some_and(|at| at.to_utc() > latest);
        let is_reserved = offer.available + offer.reserved >= count;
        if offer.available < count && (is_reserved || was_updated_later) {
            return MatchClass::Explained;
        }
        MatchClass::Drifted
    }

    /// Classifies a SKU that was on no page of a pass that began at `pass_start`.
    pub(super) fn classify_missing(&self, pass_start: DateTime<Utc>) -> MatchClass {
        match self.acked.acked_at() {
            _ if self.is_dry_run => MatchClass::Unknown,
            None => MatchClass::Unsent,
            Some(_) if self.has_unsent_change() => MatchClass::Unsent,
            // It may have appeared on a page that the pass had read already.
            Some(at) if at >= pass_start - self.grace => MatchClass::Pending,
            Some(_) => MatchClass::Unknown,
        }
    }

    /// Returns true if the Market's date is before the earliest date that we can have sent. Then
    /// our update never arrived, although it was acknowledged.
    pub(super) fn is_provably_lost(&self, offer: &ReadbackOffer) -> bool {
        let (Some(sent_at), Some(shown_at)) = (self.acked.acked_at(), offer.updated_at) else {
            return false;
        };
        let (earliest, _) = self.sent_date_range(sent_at);
        shown_at.to_utc() < earliest
    }

    fn has_unsent_change(&self) -> bool {
        is_dirty(self.level, self.acked)
    }

    /// Returns the earliest and the latest date that we can have sent, by the Market's clock.
    fn sent_date_range(&self, sent_at: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
        // The date was clamped at a time that we store in seconds, and the Market may show it
        // truncated to seconds.
        let clamped = |now| clamp_to_window(self.level.updated_at, now).to_utc();
        let margin = self.max_clock_skew + SECOND;
        if let Some(sent_date) = self.sent_date {
            return (sent_date.to_utc() - margin, sent_date.to_utc() + margin);
        }
        (
            clamped(sent_at) - margin,
            clamped(sent_at + SECOND) + margin,
        )
    }
}

#[cfg(test)]
mod tests {
    use stock::Count;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-20T{text}Z").parse().unwrap()
    }

    /// Ten pieces, dated 09:00 and sent at 10:00.
    fn ten_pieces() -> Expected {
        let level = Level {
            count: Count::try_from(10).unwrap(),
            updated_at: at("09:00:00").into(),
        };
        Expected {
            level,
            acked: Acked::new(level, at("10:00:00")),
            sent_date: None,
            is_dry_run: false,
            grace: TimeDelta::minutes(15),
            max_clock_skew: TimeDelta::zero(),
        }
    }

    fn offer(available: u64, reserved: u64, since: &str) -> ReadbackOffer {
        let (sku, updated_at) = ("A".to_owned(), Some(at(since).into()));
        ReadbackOffer {
            sku,
            available,
            reserved,
            updated_at,
            list: OfferList::Active,
        }
    }

    fn class_of(offer: &ReadbackOffer) -> MatchClass {
        ten_pieces().classify(offer, at("12:00:00"))
    }

    #[test]
    fn only_reserves_and_later_orders_explain_a_count() {
        assert_eq!(class_of(&offer(10, 0, "09:00:00")), MatchClass::Equal);
        assert_eq!(class_of(&offer(7, 3, "09:00:00")), MatchClass::Explained);
        assert_eq!(class_of(&offer(7, 0, "11:00:00")), MatchClass::Explained);
        assert_eq!(class_of(&offer(7, 2, "09:00:00")), MatchClass::Drifted);
        assert_eq!(class_of(&offer(7, 3, "08:00:00")), MatchClass::Drifted);
        // No order explains more pieces than we sent.
        assert_eq!(class_of(&offer(12, 0, "11:00:00")), MatchClass::Drifted);
        let archived = ReadbackOffer {
            list: OfferList::Archived,
            ..offer(3, 0, "09:00:00")
        };
        assert_eq!(class_of(&archived), MatchClass::Archived);
    }

    #[test]
    fn another_count_is_pending_within_the_grace_period() {
        let early = |now| ten_pieces().classify(&offer(3, 0, "08:00:00"), at(now));
        assert_eq!(early("10:14:59"), MatchClass::Pending);
        assert_eq!(early("10:15:00"), MatchClass::Drifted);
    }

    #[test]
    fn unacknowledged_change_is_unsent() {
        let not_acked = Expected {
            acked: Acked::default(),
            ..ten_pieces()
        };
        assert_eq!(
            not_acked.classify(&offer(10, 0, "09:00:00"), at("12:00:00")),
            MatchClass::Unsent
        );
        assert_eq!(
            not_acked.classify_missing(at("12:00:00")),
            MatchClass::Unsent
        );
        assert_eq!(
            ten_pieces().classify_missing(at("12:00:00")),
            MatchClass::Unknown
        );
        // Sent while the pass was running.
        assert_eq!(
            ten_pieces().classify_missing(at("09:50:00")),
            MatchClass::Pending
        );
    }

    #[test]
    fn older_date_proves_a_lost_update() {
        assert!(ten_pieces().is_provably_lost(&offer(3, 0, "08:59:58")));
        assert!(!ten_pieces().is_provably_lost(&offer(3, 0, "08:59:59")));
        assert!(!ten_pieces().is_provably_lost(&ReadbackOffer {
            updated_at: None,
            ..offer(3, 0, "08:00:00")
        }));
        // A current level is sent with a date two seconds before the sending.
        let now = Level {
            updated_at: at("10:00:00").into(),
            ..ten_pieces().level
        };
        let expected = Expected {
            level: now,
            acked: Acked::new(now, at("10:00:00")),
            ..ten_pieces()
        };
        assert!(expected.is_provably_lost(&offer(3, 0, "09:59:56")));
        assert!(!expected.is_provably_lost(&offer(3, 0, "09:59:57")));
        // A level of last week is sent with the date of yesterday.
        let old = Level {
            updated_at: "2026-11-10T00:00:00Z"
                .parse::<DateTime<Utc>>()
                .unwrap()
                .into(),
            ..now
        };
        let expected = Expected {
            level: old,
            acked: Acked::new(old, at("10:00:00")),
            ..ten_pieces()
        };
        let yesterday = |text: &str| {
            format!("2026-11-19T{text}Z")
                .parse::<DateTime<Utc>>()
                .unwrap()
        };
        let offer_dated = |text| ReadbackOffer {
            updated_at: Some(yesterday(text).into()),
            ..offer(3, 0, "00:00:00")
        };
        assert!(expected.is_provably_lost(&offer_dated("10:00:58")));
        assert!(!expected.is_provably_lost(&offer_dated("10:00:59")));
    }

    #[test]
    fn compares_the_sent_date_if_it_is_known() {
        // The clock was set back, so the date of the request before was sent.
        let expected = Expected {
            sent_date: Some(at("11:00:00").into()),
            ..ten_pieces()
        };
        assert!(
            expected.is_provably_lost(&offer(3, 0, "10:59:58"))
                && !expected.is_provably_lost(&offer(3, 0, "11:00:00"))
        );
        assert_eq!(
            expected.classify(&offer(7, 0, "11:00:00"), at("12:00:00")),
            MatchClass::Drifted
        );
        assert_eq!(
            expected.classify(&offer(7, 0, "11:00:02"), at("12:00:00")),
            MatchClass::Explained
        );
    }

    #[test]
    fn clock_skew_widens_the_sent_date_range() {
        let expected = Expected {
            max_clock_skew: TimeDelta::minutes(5),
            ..ten_pieces()
        };
        assert!(!expected.is_provably_lost(&offer(3, 0, "08:55:00")));
        assert!(expected.is_provably_lost(&offer(3, 0, "08:54:58")));
        assert_eq!(
            expected.classify(&offer(7, 0, "09:04:00"), at("12:00:00")),
            MatchClass::Drifted
        );
    }

    #[test]
    fn dry_run_compares_the_book() {
        let dry_run = Expected {
            is_dry_run: true,
            acked: Acked::default(),
            ..ten_pieces()
        };
        assert_eq!(
            dry_run.classify(&offer(10, 0, "09:00:00"), at("12:00:00")),
            MatchClass::Equal
        );
        assert_eq!(
            dry_run.classify(&offer(9, 1, "09:00:00"), at("12:00:00")),
            MatchClass::Drifted
        );
        assert_eq!(
            dry_run.classify_missing(at("12:00:00")),
            MatchClass::Unknown
        );
    }

    #[test]
    fn every_class_has_a_unique_name_and_number() {
        for &class in MatchClass::ALL {
            assert_eq!(MatchClass::from_number(class.number()), Some(class));
        }
        let names: std::collections::BTreeSet<_> =
            MatchClass::ALL.iter().map(|c| c.name()).collect();
        assert_eq!(names.len(), MatchClass::ALL.len());
    }
}
