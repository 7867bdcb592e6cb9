//! State of one shop in a word: the first fact that keeps it from being in sync. Pure.

use crate::migrator::Mode;

/// Meaning of a value, shown by a colour and a symbol.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(super) enum HealthLevel {
    /// Everything is as it should be.
    Good,
    /// The service works on it; no action is needed.
    Waiting,
    /// A person should look at it.
    Attention,
    /// The stock on the Market is wrong or soon will be.
    Trouble,
}

impl HealthLevel {
    /// Returns the level of a fact that is good, or else deserves a look.
    pub(super) const fn attention_unless(is_good: bool) -> Self {
        if is_good { Self::Good } else { Self::Attention }
    }

    /// Returns the name that the stylesheet uses.
    pub(super) fn name(self) -> &'static str {
        self.into()
    }

    /// Returns the symbol beside the colour.
    pub(super) const fn symbol(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Waiting => "…",
            Self::Attention => "!",
            Self::Trouble => "✕",
        }
    }
}

/// First fact that keeps a shop from being in sync.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ShopCondition {
    /// The Market's copy equals the seller's stock.
    InSync,
    /// No stock of the shop is known.
    NoStock,
    /// The store belongs to another installation, so nothing is sent.
    NotSending,
    /// Sending is paused until a person removes the cause.
    Paused,
    /// The operator has paused sending.
    PausedByOperator,
    /// `migrate` is `off`.
    Off,
    /// Another replica sends, so this one does not know the rest.
    SentElsewhere,
    /// `migrate` is `dry-run`.
    DryRun,
    /// The Market rejects this many SKUs.
    Rejected(u64),
    /// The Market shows other stock for this many SKUs.
    Differing(u64),
    /// This many SKUs are on their way.
    Sending(u64),
    /// Everything is sent, but the Market's copy was never read back with a full match.
    NotVerified,
}

impl ShopCondition {
    pub(super) const fn severity(self) -> HealthLevel {
        match self {
            Self::InSync => HealthLevel::Good,
            Self::Sending(_) | Self::NotVerified | Self::SentElsewhere => HealthLevel::Waiting,
            Self::Off
            | Self::DryRun
            | Self::PausedByOperator
            | Self::Rejected(_)
            | Self::Differing(_) => HealthLevel::Attention,
            Self::NoStock | Self::NotSending | Self::Paused => HealthLevel::Trouble,
        }
    }
}

/// Facts about a shop.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShopFacts {
    pub(super) mode: Mode,
    pub(super) has_stock: bool,
    /// The store belongs to another installation.
    pub(super) is_foreign_store: bool,
    /// The operator has paused sending.
    pub(super) is_paused_by_operator: bool,
    /// Another replica sends.
    pub(super) is_sent_elsewhere: bool,
    pub(super) is_paused: bool,
    pub(super) rejected: u64,
    /// SKUs whose difference the last read-back could not explain.
    pub(super) differing: u64,
    /// SKUs in the queue or in flight.
    pub(super) waiting: u64,
    /// A read-back pass has found the Market's copy equal.
    pub(super) was_equal: bool,
}

impl ShopFacts {
    /// Returns the worst condition.
    pub(super) fn condition(self) -> ShopCondition {
        let conditions = [
            (!self.has_stock, ShopCondition::NoStock),
            (self.is_foreign_store, ShopCondition::NotSending),
            (self.mode == Mode::Off, ShopCondition::Off),
            (self.mode == Mode::DryRun, ShopCondition::DryRun),
            (self.is_paused_by_operator, ShopCondition::PausedByOperator),
            (self.is_sent_elsewhere, ShopCondition::SentElsewhere),
            (self.is_paused, ShopCondition::Paused),
            (self.rejected > 0, ShopCondition::Rejected(self.rejected)),
            // A SKU that is on its way still counts as different in the last read-back.
            (self.waiting > 0, ShopCondition::Sending(self.waiting)),
            (self.differing > 0, ShopCondition::Differing(self.differing)),
            (!self.was_equal, ShopCondition::NotVerified),
        ];
        let first = conditions.into_iter().find(|(applies, _)| *applies);
        first.map_or(ShopCondition::InSync, |(_, condition)| condition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: ShopFacts = ShopFacts {
        mode: Mode::On,
        has_stock: true,
        is_foreign_store: false,
        is_paused_by_operator: false,
        is_sent_elsewhere: false,
        is_paused: false,
        rejected: 0,
        differing: 0,
        waiting: 0,
        was_equal: true,
    };

    #[test]
    fn the_worst_fact_is_the_condition() {
        let broken = ShopFacts {
            mode: Mode::On,
            has_stock: false,
            is_foreign_store: true,
            is_paused_by_operator: true,
            is_sent_elsewhere: true,
            is_paused: true,
            rejected: 3,
            differing: 4,
            waiting: 5,
            was_equal: false,
        };
        let mut facts = broken;
        assert_eq!(facts.condition(), ShopCondition::NoStock);
        facts.has_stock = true;
        assert_eq!(facts.condition(), ShopCondition::NotSending);
        facts.is_foreign_store = false;
        assert_eq!(facts.condition(), ShopCondition::PausedByOperator);
        facts.is_paused_by_operator = false;
        assert_eq!(facts.condition(), ShopCondition::SentElsewhere);
        facts.is_sent_elsewhere = false;
        assert_eq!(facts.condition(), ShopCondition::Paused);
        facts.is_paused = false;
        assert_eq!(facts.condition(), ShopCondition::Rejected(3));
        facts.rejected = 0;
        assert_eq!(facts.condition(), ShopCondition::Sending(5));
        facts.waiting = 0;
        assert_eq!(facts.condition(), ShopCondition::Differing(4));
        facts.differing = 0;
        assert_eq!(facts.condition(), ShopCondition::NotVerified);
        facts.was_equal = true;
        assert_eq!(facts.condition(), ShopCondition::InSync);
    }

    #[test]
    fn a_mode_that_does_not_send_is_never_in_sync() {
        for (mode, condition) in [
            (Mode::Off, ShopCondition::Off),
            (Mode::DryRun, ShopCondition::DryRun),
        ] {
            assert_eq!(ShopFacts { mode, ..GOOD }.condition(), condition);
            assert_eq!(condition.severity(), HealthLevel::Attention);
        }
    }
}
