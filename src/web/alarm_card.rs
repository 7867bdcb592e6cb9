//! Active alarms as cards: what each means, since when, what to do, and the page that helps.

use super::cell::TitledText;
use super::links::{encode, find_shop, shop_path};
use super::page_context::PageContext;
use super::texts::Text;
use super::visible::visible;
use crate::i18n::{AlarmText, alarm_text};
use crate::ops::OpsState;
use crate::telemetry::{ActiveAlarm, AlarmKind};

/// Page on which the cause of an alarm is seen.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct AlarmPlace {
    pub(super) label: Text,
    pub(super) address: String,
}

/// One alarm.
pub(super) struct AlarmCard {
    pub(super) about: String,
    pub(super) since: TitledText,
    pub(super) text: AlarmText,
    /// Description by the service, in English.
    pub(super) detail: String,
    pub(super) place: AlarmPlace,
}

impl AlarmCard {
    pub(super) fn new(alarm: &ActiveAlarm, state: &OpsState, context: PageContext) -> Self {
        let shop = alarm.about.split('/').next().unwrap_or_default();
        let is_shop = find_shop(state, shop).is_some();
        Self {
            about: visible(&alarm.about),
            since: context.past(Some(alarm.since)),
            text: alarm_text(alarm.kind, context.language),
            detail: visible(&alarm.text),
            place: if is_shop {
                place_in_shop(alarm.kind, &alarm.about)
            } else {
                events()
            },
        }
    }
}

/// Returns the page about an alarm whose `about` is `SHOP` or `SHOP/SOURCE`.
fn place_in_shop(kind: AlarmKind, about: &str) -> AlarmPlace {
    let (shop, source) = about.split_once('/').unwrap_or((about, ""));
    let in_shop = |section: &str| AlarmPlace {
        label: Text::OPEN_SHOP,
        address: format!("{}#{section}", shop_path(shop)),
    };
    match kind {
        AlarmKind::SourceHeld => AlarmPlace {
            label: Text::SEE_CHANGES,
            address: format!("/sources/{shop}/{source}/held"),
        },
        AlarmKind::SourceFailed | AlarmKind::AbsenceNotApplied => AlarmPlace {
            label: Text::OPEN_SOURCE,
            address: format!("/sources#{}", encode(&format!("{shop}-{source}"))),
        },
        AlarmKind::ColdShopAsked | AlarmKind::SourceSilent => in_shop("sources"),
        AlarmKind::Quarantine => in_shop("quarantine"),
        AlarmKind::Drift | AlarmKind::ReadbackFailed => in_shop("readback"),
        AlarmKind::BatchRefused | AlarmKind::CampaignPaused | AlarmKind::NothingAcknowledged => {
            in_shop("sending")
        }
        AlarmKind::AuthFailures
        | AlarmKind::ClockJumped
        | AlarmKind::CloneGuard
        | AlarmKind::NotifyFailed
        | AlarmKind::SelftestHidden
        | AlarmKind::StoreFailed
        | AlarmKind::UnmappedWarehouse => events(),
    }
}

fn events() -> AlarmPlace {
    AlarmPlace {
        label: Text::OPEN_EVENTS,
        address: "/events".to_owned(),
    }
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
            assert_eq!(place_in_shop(kind, about), AlarmPlace { label, address });
        }
    }
}
