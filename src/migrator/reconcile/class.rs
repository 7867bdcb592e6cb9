//! How the Market's copy of one SKU stands to what it was told. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use crate::migrator::batch::held_in_window;
use crate::migrator::ledger::is_dirty;
use crate::partner::page::{Shelf, Shown};
use crate::stock::{Instant, Level};
use crate::store::Acked;

/// See the module.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Class {
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
    Refused,
    /// The Market took it and shows it nowhere: perhaps it is not in the catalogue.
    Unknown,
    /// It shows another number, and nothing explains it.
    Drifted,
}

impl Class {
    /// All of them, the most harmless first.
    pub const ALL: [Self; 9] = [
        Self::Equal,
        Self::Explained,
        Self::Pending,
        Self::Archived,
        Self::NotOurs,
        Self::Unsent,
        Self::Refused,
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
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Drifted => "drifted",
        }
    }

    /// Whether such a SKU leaves no question.
    #[must_use]
    pub fn is_explained(self) -> bool {
        match self {
            Self::Equal | Self::Explained | Self::Pending | Self::Archived | Self::NotOurs => true,
            Self::Unsent | Self::Refused | Self::Unknown | Self::Drifted => false,
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
pub(super) struct Ours {
    pub(super) level: Level,
    pub(super) acked: Acked,
    /// The date it was sent with, if this life of the program sent it.
    pub(super) dated: Option<Instant>,
    /// Nothing is ever sent: the book itself is compared.
    pub(super) is_dry: bool,
    /// How long the Market may take to show what it took.
    pub(super) grace: TimeDelta,
    /// How far apart the two clocks have been of late at most.
    pub(super) apart: TimeDelta,
}

const SECOND: TimeDelta = TimeDelta::seconds(1);

impl Ours {
    /// Compares what the Market shows of a SKU with what it was told.
    pub(super) fn classify(&self, shown: &Shown, now: DateTime<Utc>) -> Class {
        let count = u64::from(self.level.count.get());
        if shown.shelf == Shelf::Archive {
            return Class::Archived;
        }
        if self.is_dry {
            return if shown.available == count {
                Class::Equal
            } else {
                Class::Drifted
            };
        }
        let Some(sent_at) = self.acked.acked_at().filter(|_| !self.is_unsent()) else {
            return Class::Unsent;
        };
        if shown.available == count {
            return Class::Equal;
        }
        if now - sent_at < self.grace {
            return Class::Pending;
        }
        // Orders may explain the number, but not a date from before we spoke.
        if self.is_lost(shown) {
            return Class::Drifted;
        }
        // The Market's own bookkeeping is dated after what we said.
        let (_, latest) = self.sent_between(sent_at);
        let is_touched = shown.updated_at.is_some_and(|at| at.to_utc() > latest);
        let is_reserved = shown.available + shown.reserved >= count;
        if shown.available < count && (is_reserved || is_touched) {
            return Class::Explained;
        }
        Class::Drifted
    }

    /// How a SKU stands that is shown nowhere, in a pass that began at this moment.
    pub(super) fn classify_missing(&self, began: DateTime<Utc>) -> Class {
        match self.acked.acked_at() {
            _ if self.is_dry => Class::Unknown,
            None => Class::Unsent,
            Some(_) if self.is_unsent() => Class::Unsent,
            // Perhaps its place was passed before it was there.
            Some(at) if at >= began - self.grace => Class::Pending,
            Some(_) => Class::Unknown,
        }
    }

    /// Whether what the Market shows is dated before the earliest date that we can have sent:
    /// then our update never arrived, whatever was answered.
    pub(super) fn is_lost(&self, shown: &Shown) -> bool {
        let (Some(sent_at), Some(shown_at)) = (self.acked.acked_at(), shown.updated_at) else {
            return false;
        };
        let (earliest, _) = self.sent_between(sent_at);
        shown_at.to_utc() < earliest
    }

    fn is_unsent(&self) -> bool {
        is_dirty(self.level, self.acked)
    }

    /// Between which moments the date lies that was sent, by the Market's clock.
    fn sent_between(&self, sent_at: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
        // It was held inside what the Market takes, at a moment of which we keep the second; and
        // what the Market shows may be cut to seconds again.
        let held = |now| held_in_window(self.level.updated_at, now).to_utc();
        let margin = self.apart + SECOND;
        if let Some(dated) = self.dated {
            return (dated.to_utc() - margin, dated.to_utc() + margin);
        }
        (held(sent_at) - margin, held(sent_at + SECOND) + margin)
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
    fn ten() -> Ours {
        let level = Level {
            count: Count::try_from(10).unwrap(),
            updated_at: at("09:00:00").into(),
        };
        Ours {
            level,
            acked: Acked::new(level, at("10:00:00")),
            dated: None,
            is_dry: false,
            grace: TimeDelta::minutes(15),
            apart: TimeDelta::zero(),
        }
    }

    fn shown(available: u64, reserved: u64, since: &str) -> Shown {
        let (sku, updated_at) = ("A".to_owned(), Some(at(since).into()));
        Shown {
            sku,
            available,
            reserved,
            updated_at,
            shelf: Shelf::OnSale,
        }
    }

    fn class_of(shown: &Shown) -> Class {
        ten().classify(shown, at("12:00:00"))
    }

    #[test]
    fn a_number_that_differs_is_explained_by_reserves_and_by_later_orders_only() {
        assert_eq!(class_of(&shown(10, 0, "09:00:00")), Class::Equal);
        assert_eq!(class_of(&shown(7, 3, "09:00:00")), Class::Explained);
        assert_eq!(class_of(&shown(7, 0, "11:00:00")), Class::Explained);
        assert_eq!(class_of(&shown(7, 2, "09:00:00")), Class::Drifted);
        assert_eq!(class_of(&shown(7, 3, "08:00:00")), Class::Drifted);
        // More than we said is nobody's order.
        assert_eq!(class_of(&shown(12, 0, "11:00:00")), Class::Drifted);
        let archived = Shown {
            shelf: Shelf::Archive,
            ..shown(3, 0, "09:00:00")
        };
        assert_eq!(class_of(&archived), Class::Archived);
    }

    #[test]
    fn for_a_while_after_the_sending_another_number_is_pending() {
        let early = |now| ten().classify(&shown(3, 0, "08:00:00"), at(now));
        assert_eq!(early("10:14:59"), Class::Pending);
        assert_eq!(early("10:15:00"), Class::Drifted);
    }

    #[test]
    fn what_the_book_says_beyond_the_ledger_is_unsent() {
        let unacked = Ours {
            acked: Acked::default(),
            ..ten()
        };
        assert_eq!(
            unacked.classify(&shown(10, 0, "09:00:00"), at("12:00:00")),
            Class::Unsent
        );
        assert_eq!(unacked.classify_missing(at("12:00:00")), Class::Unsent);
        assert_eq!(ten().classify_missing(at("12:00:00")), Class::Unknown);
        // It was sent while the pass was under way.
        assert_eq!(ten().classify_missing(at("09:50:00")), Class::Pending);
    }

    #[test]
    fn an_update_is_proven_lost_only_by_a_date_before_any_that_can_have_been_sent() {
        assert!(ten().is_lost(&shown(3, 0, "08:59:58")));
        assert!(!ten().is_lost(&shown(3, 0, "08:59:59")));
        assert!(!ten().is_lost(&Shown {
            updated_at: None,
            ..shown(3, 0, "08:00:00")
        }));
        // As of now: what went out was dated two seconds before it did.
        let now = Level {
            updated_at: at("10:00:00").into(),
            ..ten().level
        };
        let ours = Ours {
            level: now,
            acked: Acked::new(now, at("10:00:00")),
            ..ten()
        };
        assert!(ours.is_lost(&shown(3, 0, "09:59:56")));
        assert!(!ours.is_lost(&shown(3, 0, "09:59:57")));
        // A stamp of last week went out as yesterday's.
        let old = Level {
            updated_at: "2026-11-10T00:00:00Z"
                .parse::<DateTime<Utc>>()
                .unwrap()
                .into(),
            ..now
        };
        let ours = Ours {
            level: old,
            acked: Acked::new(old, at("10:00:00")),
            ..ten()
        };
        let yesterday = |text: &str| {
            format!("2026-11-19T{text}Z")
                .parse::<DateTime<Utc>>()
                .unwrap()
        };
        let dated = |text| Shown {
            updated_at: Some(yesterday(text).into()),
            ..shown(3, 0, "00:00:00")
        };
        assert!(ours.is_lost(&dated("10:00:58")));
        assert!(!ours.is_lost(&dated("10:00:59")));
    }

    #[test]
    fn the_date_that_was_sent_is_compared_where_it_is_known() {
        // The clock was set back: it was sent with the date before, not with one of its own.
        let ours = Ours {
            dated: Some(at("11:00:00").into()),
            ..ten()
        };
        assert!(ours.is_lost(&shown(3, 0, "10:59:58")) && !ours.is_lost(&shown(3, 0, "11:00:00")));
        assert_eq!(
            ours.classify(&shown(7, 0, "11:00:00"), at("12:00:00")),
            Class::Drifted
        );
        assert_eq!(
            ours.classify(&shown(7, 0, "11:00:02"), at("12:00:00")),
            Class::Explained
        );
    }

    #[test]
    fn clocks_that_are_apart_prove_nothing_within_their_distance() {
        let ours = Ours {
            apart: TimeDelta::minutes(5),
            ..ten()
        };
        assert!(!ours.is_lost(&shown(3, 0, "08:55:00")));
        assert!(ours.is_lost(&shown(3, 0, "08:54:58")));
        assert_eq!(
            ours.classify(&shown(7, 0, "09:04:00"), at("12:00:00")),
            Class::Drifted
        );
    }

    #[test]
    fn a_dry_run_compares_the_book_itself() {
        let dry = Ours {
            is_dry: true,
            acked: Acked::default(),
            ..ten()
        };
        assert_eq!(
            dry.classify(&shown(10, 0, "09:00:00"), at("12:00:00")),
            Class::Equal
        );
        assert_eq!(
            dry.classify(&shown(9, 1, "09:00:00"), at("12:00:00")),
            Class::Drifted
        );
        assert_eq!(dry.classify_missing(at("12:00:00")), Class::Unknown);
    }

    #[test]
    fn every_class_has_its_own_name_and_number() {
        for class in Class::ALL {
            assert_eq!(Class::from_number(class.number()), Some(class));
        }
        let names: std::collections::BTreeSet<_> = Class::ALL.iter().map(|c| c.name()).collect();
        assert_eq!(names.len(), Class::ALL.len());
    }
}
