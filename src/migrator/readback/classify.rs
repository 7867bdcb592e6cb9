//! How the Market's copy of one SKU stands to what it was told. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use crate::migrator::ledger::is_dirty;
use crate::migrator::queue::clamp_to_window;
use crate::partner_api::readback_page::{OfferList, ReadbackOffer};
use crate::stock::{Level, Timestamp};
use crate::store::Acked;

/// See the module.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum MatchClass {
    /// It shows what we sent.
    Equal,
    /// It shows fewer, and the difference is reserved, or the Market has changed it since.
    Explained,
    /// It shows another number, or nothing, and took ours a short while ago.
    Pending,
    /// It is in the Market's archive.
    Archived,
    /// The Market shows it, and the seller never spoke of it.
    NotOurs,
    /// The book is ahead of what was sent.
    Unsent,
    /// The Market refuses it.
    Rejected,
    /// The Market took it and shows it nowhere: perhaps it is not in the catalogue.
    Unknown,
    /// It shows another number, and nothing explains it.
    Drifted,
}

impl MatchClass {
    /// All of them, the most harmless first.
    pub const ALL: [Self; 9] = [
        Self::Equal,
        Self::Explained,
        Self::Pending,
        Self::Archived,
        Self::NotOurs,
        Self::Unsent,
        Self::Rejected,
        Self::Unknown,
        Self::Drifted,
    ];

    /// A stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Explained => "explained",
            Self::Pending => "pending",
            Self::Archived => "archived",
            Self::NotOurs => "not_ours",
            Self::Unsent => "unsent",
            Self::Rejected => "refused",
            Self::Unknown => "unknown",
            Self::Drifted => "drifted",
        }
    }

    /// Whether such a SKU leaves no question.
    #[must_use]
    pub fn is_explained(self) -> bool {
        match self {
            Self::Equal | Self::Explained | Self::Pending | Self::Archived | Self::NotOurs => true,
            Self::Unsent | Self::Rejected | Self::Unknown | Self::Drifted => false,
        }
    }

    /// Its number in a sighting and in the history.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The class of that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// What a comparison of one SKU starts from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) level: Level,
    pub(super) acked: Acked,
    /// The date it was sent with, if this life of the program sent it.
    pub(super) sent_date: Option<Timestamp>,
    /// Nothing is ever sent: the book itself is compared.
    pub(super) is_dry_run: bool,
    /// How long the Market may take to show what it took.
    pub(super) grace: TimeDelta,
    /// How far apart the two clocks have been of late at most.
    pub(super) max_clock_skew: TimeDelta,
}

const SECOND: TimeDelta = TimeDelta::seconds(1);

impl Expected {
    /// Compares what the Market shows of a SKU with what it was told.
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
        // Orders may explain the number, but not a date from before we spoke.
        if self.is_provably_lost(offer) {
            return MatchClass::Drifted;
        }
        // The Market's own bookkeeping is dated after what we said.
        let (_, latest) = self.sent_date_range(sent_at);
        let was_updated_later = offer.updated_at.is_some_and(|at| at.to_utc() > latest);
        let is_reserved = offer.available + offer.reserved >= count;
        if offer.available < count && (is_reserved || was_updated_later) {
            return MatchClass::Explained;
        }
        MatchClass::Drifted
    }

    /// How a SKU stands that is shown nowhere, in a pass that began at this moment.
    pub(super) fn classify_missing(&self, pass_start: DateTime<Utc>) -> MatchClass {
        match self.acked.acked_at() {
            _ if self.is_dry_run => MatchClass::Unknown,
            None => MatchClass::Unsent,
            Some(_) if self.has_unsent_change() => MatchClass::Unsent,
            // Perhaps its place was passed before it was there.
            Some(at) if at >= pass_start - self.grace => MatchClass::Pending,
            Some(_) => MatchClass::Unknown,
        }
    }

    /// Whether what the Market shows is dated before the earliest date that we can have sent:
    /// then our update never arrived, whatever was answered.
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

    /// Between which moments the date lies that was sent, by the Market's clock.
    fn sent_date_range(&self, sent_at: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
        // It was held inside what the Market takes, at a moment of which we keep the second; and
        // what the Market shows may be cut to seconds again.
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
    use super::*;
    use crate::stock::Count;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-20T{text}Z").parse().unwrap()
    }

    /// Ten pieces as of nine, sent at ten.
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
    fn a_number_that_differs_is_explained_by_reserves_and_by_later_orders_only() {
        assert_eq!(class_of(&offer(10, 0, "09:00:00")), MatchClass::Equal);
        assert_eq!(class_of(&offer(7, 3, "09:00:00")), MatchClass::Explained);
        assert_eq!(class_of(&offer(7, 0, "11:00:00")), MatchClass::Explained);
        assert_eq!(class_of(&offer(7, 2, "09:00:00")), MatchClass::Drifted);
        assert_eq!(class_of(&offer(7, 3, "08:00:00")), MatchClass::Drifted);
        // More than we said is nobody's order.
        assert_eq!(class_of(&offer(12, 0, "11:00:00")), MatchClass::Drifted);
        let archived = ReadbackOffer {
            list: OfferList::Archived,
            ..offer(3, 0, "09:00:00")
        };
        assert_eq!(class_of(&archived), MatchClass::Archived);
    }

    #[test]
    fn for_a_while_after_the_sending_another_number_is_pending() {
        let early = |now| ten_pieces().classify(&offer(3, 0, "08:00:00"), at(now));
        assert_eq!(early("10:14:59"), MatchClass::Pending);
        assert_eq!(early("10:15:00"), MatchClass::Drifted);
    }

    #[test]
    fn what_the_book_says_beyond_the_ledger_is_unsent() {
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
        // It was sent while the pass was under way.
        assert_eq!(
            ten_pieces().classify_missing(at("09:50:00")),
            MatchClass::Pending
        );
    }

    #[test]
    fn an_update_is_proven_lost_only_by_a_date_before_any_that_can_have_been_sent() {
        assert!(ten_pieces().is_provably_lost(&offer(3, 0, "08:59:58")));
        assert!(!ten_pieces().is_provably_lost(&offer(3, 0, "08:59:59")));
        assert!(!ten_pieces().is_provably_lost(&ReadbackOffer {
            updated_at: None,
            ..offer(3, 0, "08:00:00")
        }));
        // As of now: what went out was dated two seconds before it did.
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
        // A stamp of last week went out as yesterday's.
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
    fn the_date_that_was_sent_is_compared_where_it_is_known() {
        // The clock was set back: it was sent with the date before, not with one of its own.
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
    fn clocks_that_are_apart_prove_nothing_within_their_distance() {
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
    fn a_dry_run_compares_the_book_itself() {
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
    fn every_class_has_its_own_name_and_number() {
        for class in MatchClass::ALL {
            assert_eq!(MatchClass::from_number(class.number()), Some(class));
        }
        let names: std::collections::BTreeSet<_> =
            MatchClass::ALL.iter().map(|c| c.name()).collect();
        assert_eq!(names.len(), MatchClass::ALL.len());
    }
}
