//! Active alarms as cards: what each means, since when, what to do, and the page that helps.

use super::cell::TitledText;
use super::links::{PageLink, encode, find_shop, shop_path};
use super::page_context::PageContext;
use super::texts::Text;
use super::visible::visible;
use crate::i18n::{AlarmText, alarm_text};
use crate::ops::OpsState;
use crate::telemetry::{ActiveAlarm, AlarmKind};

/// One alarm.
pub(super) struct AlarmCard {
    pub(super) about: String,
    pub(super) since: TitledText,
    pub(super) text: AlarmText,
    /// Description by the service, in English.
    pub(super) detail: String,
    /// Page on which the cause is seen.
    pub(super) place: PageLink,
}

impl AlarmCard {
    pub(super) fn new(alarm: &ActiveAlarm, state: &OpsState, context: PageContext) -> Self {
        let shop = alarm.about.split('/').next().unwrap_or_default();
        let (label, address) = match find_shop(state, shop) {
            Some(_) => place_in_shop(alarm.kind, &alarm.about),
            None => events(),
        };
        Self {
            about: visible(&alarm.about),
            since: context.past(Some(alarm.since)),
            text: alarm_text(alarm.kind, context.language),
            detail: visible(&alarm.text),
            place: PageLink::new(context.text(label), address),
        }
    }
}

/// Returns the label and the address of the page about an alarm whose `about` is `SHOP` or
/// `SHOP/SOURCE`.
fn place_in_shop(kind: AlarmKind, about: &str) -> (Text, String) {
    let (shop, source) = about.split_once('/').unwrap_or((about, ""));
    let in_shop = |section: &str| {
        let address = format!("{}#{section}", shop_path(shop));
        (Text::OPEN_SHOP, address)
    };
    match kind {
        AlarmKind::SourceHeld => {
            let address = format!("/sources/{shop}/{source}/held");
            (Text::SEE_CHANGES, address)
        }
        AlarmKind::SourceFailed | AlarmKind::AbsenceNotApplied => {
            let address = format!("/sources#{}", encode(&format!("{shop}-{source}")));
            (Text::OPEN_SOURCE, address)
        }
        AlarmKind::ColdShopAsked | AlarmKind::SourceSilent => in_shop("sources"),
        AlarmKind::Quarantine => in_shop("quarantine"),
        AlarmKind::Drift | AlarmKind::ReadbackFailed => in_shop("readback"),
        AlarmKind::BatchRefused | AlarmKind::CampaignPaused | AlarmKind::NothingAcknowledged => {
            in_shop("sending")
        }
        AlarmKind::AuthFailures
        | AlarmKind::ClockJumped
        | AlarmKind::CloneGuard
        | AlarmKind::ConfigRejected
        | AlarmKind::DatabaseLostChanges
        | AlarmKind::NotifyFailed
        | AlarmKind::ReplicaBehind
        | AlarmKind::SelftestHidden
        | AlarmKind::SourcesUnread
        | AlarmKind::StoreFailed
        | AlarmKind::UnmappedWarehouse => events(),
    }
}

fn events() -> (Text, String) {
    (Text::OPEN_EVENTS, "/events".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_leads_to_its_cause() {
        for (kind, about, label, address) in [
            (
                AlarmKind::SourceHeld,
                "moscow/erp",
                Text::SEE_CHANGES,
                "/sources/moscow/erp/held",
            ),
            (
                AlarmKind::SourceHeld,
                "moscow/rules",
                Text::SEE_CHANGES,
                "/sources/moscow/rules/held",
            ),
            (
                AlarmKind::SourceFailed,
                "moscow/erp",
                Text::OPEN_SOURCE,
                "/sources#moscow-erp",
            ),
            (
                AlarmKind::Quarantine,
                "moscow",
                Text::OPEN_SHOP,
                "/shops/moscow#quarantine",
            ),
            (
                AlarmKind::CampaignPaused,
                "moscow",
                Text::OPEN_SHOP,
                "/shops/moscow#sending",
            ),
            (AlarmKind::StoreFailed, "", Text::OPEN_EVENTS, "/events"),
        ] {
            let address = address.to_owned();
            assert_eq!(place_in_shop(kind, about), (label, address));
        }
    }
}
