//! Packed forms of activity in 16 and 32 bits, with a flag for what is not on disk yet.
//!
//! Decides when an hour has to be written to disk again, and when a known hour is replaced because
//! it comes from a wrong clock.

use super::{Hour, LastStated};

/// Length of a save period. A new hour is written to disk only if the known hour is in another
/// period: twice a day for a SKU that is requested hourly.
const SAVE_PERIOD_HOURS: u16 = 12;

/// Maximum hours that a known hour may lie ahead of a new one. A larger distance means that the
/// clock was wrong, and the new hour replaces the known one.
const MAX_HOURS_AHEAD: u16 = 2;

/// Optional hour in the lower fifteen bits, counted from 1, and a flag for "not on disk yet".
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct PackedHour(pub(super) u16);

impl PackedHour {
    pub(super) const UNSAVED: u16 = 0x8000;

    pub(super) fn hour(self) -> Option<Hour> {
        (self.0 & !Self::UNSAVED).checked_sub(1).map(Hour)
    }

    pub(super) fn is_unsaved(self) -> bool {
        self.0 & Self::UNSAVED != 0
    }

    pub(super) fn as_saved(self) -> Self {
        Self(self.0 & !Self::UNSAVED)
    }

    pub(super) fn from_saved(hour: Hour) -> Self {
        Self(hour.0 + 1)
    }

    pub(super) fn advanced_to(self, hour: Hour) -> Self {
        match self.hour() {
            // A known hour far ahead comes from a wrong clock and is replaced below.
            Some(known) if known >= hour && known.0 - hour.0 <= MAX_HOURS_AHEAD => self,
            known => {
                let must_save = is_other_save_period(known, hour) || self.is_unsaved();
                Self((hour.0 + 1) | if must_save { Self::UNSAVED } else { 0 })
            }
        }
    }
}

/// Optional [`LastStated`]: a [`PackedHour`] in the upper half, the origin in the lower half.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct PackedStated(pub(super) u32);

impl PackedStated {
    pub(super) fn new(hour: PackedHour, origin: u8) -> Self {
        Self(u32::from(hour.0) << 16 | u32::from(origin))
    }

    pub(super) fn packed_hour(self) -> PackedHour {
        PackedHour((self.0 >> 16) as u16)
    }

    pub(super) fn get(self) -> Option<LastStated> {
        let hour = self.packed_hour().hour()?;
        let origin = self.origin();
        Some(LastStated { hour, origin })
    }

    pub(super) fn origin(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    pub(super) fn advanced_to(self, LastStated { hour, origin }: LastStated) -> Self {
        let advanced = self.packed_hour().advanced_to(hour);
        if advanced.hour() == Some(hour) {
            Self::new(advanced, origin)
        } else {
            self
        }
    }
}

fn is_other_save_period(known: Option<Hour>, hour: Hour) -> bool {
    known.is_none_or(|known| known.0 / SAVE_PERIOD_HOURS != hour.0 / SAVE_PERIOD_HOURS)
}
