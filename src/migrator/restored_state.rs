//! State of a worker that survives a restart, as read from the store.

use chrono::{DateTime, Utc};
use stock::{ShopId, Sku};

use super::operator_pause::{OPERATOR_PAUSE_NOTE, OperatorPause};
use super::selftest::hidden_products;
use crate::store::{Notes, QuarantineEntry, RecentSend, ShopIdentity};
use crate::telemetry::Alarms;

/// Name of the store note with a shop's [`RestoredState::last_equal`]. The note holds the time, a
/// space and the target, because a read-back of another target proves nothing for this one.
pub(super) const LAST_EQUAL_NOTE: &str = "last_equal";

/// Name of the store note with [`RestoredState::limited_until`], in the same format.
pub(super) const LIMITED_UNTIL_NOTE: &str = "limited_until";

/// State of one worker that survives a restart, as read from the store.
#[derive(Clone, Debug, Default)]
pub struct RestoredState {
    /// SKUs in quarantine.
    pub quarantined: Vec<QuarantineEntry>,
    /// Requests of the last minutes, which still count against the rate limit.
    pub recent_sends: Vec<RecentSend>,
    /// End of the last read-back pass without unexplained SKUs.
    pub last_equal: Option<DateTime<Utc>>,
    /// End of the pause that the Market asked for when the rate limit was used up.
    pub limited_until: Option<DateTime<Utc>>,
    /// Products that an interrupted self-test has left hidden in the target's campaign.
    pub hidden_skus: Vec<Sku>,
    /// Pause by the operator; `None` if sending is not paused.
    pub operator_pause: Option<OperatorPause>,
}

impl RestoredState {
    /// Reads the part that is in the notes. `campaign` is the location of the campaign to which the
    /// shop's stock is sent, see [`campaign_location`](super::selftest::campaign_location); `None`
    /// if the Market may not be called.
    #[must_use]
    pub fn from_notes(
        notes: &Notes,
        (id, shop): (ShopId, &ShopIdentity),
        campaign: Option<&str>,
        now: DateTime<Utc>,
        alarms: &Alarms,
    ) -> Self {
        let note_time = |name| {
            let (at, target) = notes.get(Some(id), name)?.split_once(' ')?;
            at.parse().ok().filter(|_| target == shop.target)
        };
        let paused_by_operator = notes.get(Some(id), OPERATOR_PAUSE_NOTE);
        Self {
            last_equal: note_time(LAST_EQUAL_NOTE),
            limited_until: note_time(LIMITED_UNTIL_NOTE),
            hidden_skus: hidden_products(notes, (id, &shop.name), campaign, alarms),
            operator_pause: paused_by_operator.map(|text| OperatorPause::from_note(text, now)),
            ..Self::default()
        }
    }
}
