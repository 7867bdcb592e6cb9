//! Active alarms as cards: what each means, since when, what to do, and the page that helps. Alarms
//! of one kind share a card.

use super::cell::TitledText;
use super::links::{PageLink, encode, find_shop, shop_path};
use super::page_context::PageContext;
use super::texts::{self, Text};
use super::visible::visible;
use crate::i18n::{AlarmText, alarm_text};
use crate::ops::OpsState;
use crate::telemetry::{ActiveAlarm, AlarmKind};

/// Most alarms of one kind that a card names.
const MAX_NAMED: usize = 20;

/// Alarms of one kind.
pub(super) struct AlarmCard {
    pub(super) kind: AlarmKind,
    pub(super) text: AlarmText,
    /// The first ones, at least one.
    pub(super) subjects: Vec<AlarmSubject>,
    /// Number of those that are not named; empty without any.
    pub(super) rest: String,
}

/// One alarm.
pub(super) struct AlarmSubject {
    pub(super) about: String,
    pub(super) since: TitledText,
    /// Description by the service, in English.
    pub(super) detail: String,
    /// Page on which the cause is seen.
    pub(super) place: PageLink,
}

impl AlarmCard {
    /// Groups alarms by kind, in the order of the first of each.
    pub(super) fn collect(
        alarms: &[ActiveAlarm],
        state: &OpsState,
        context: PageContext,
    ) -> Vec<Self> {
        let mut groups: Vec<(AlarmKind, Vec<&ActiveAlarm>)> = Vec::new();
        for alarm in alarms {
            match groups.iter_mut().find(|(kind, _)| *kind == alarm.kind) {
                Some((_, group)) => group.push(alarm),
                None => groups.push((alarm.kind, vec![alarm])),
            }
        }
        let card = |(kind, group): (AlarmKind, Vec<&ActiveAlarm>)| {
            let named = group.iter().take(MAX_NAMED);
            let rest = (group.len() - named.len()) as u64;
            Self {
                kind,
                text: alarm_text(kind, context.language),
                subjects: named
                    .map(|alarm| AlarmSubject::new(alarm, state, context))
                    .collect(),
                rest: texts::other_alarms(rest, context.language),
            }
        };
        groups.into_iter().map(card).collect()
    }
}

impl AlarmSubject {
    fn new(alarm: &ActiveAlarm, state: &OpsState, context: PageContext) -> Self {
        let shop = alarm.about.split('/').next().unwrap_or_default();
        let (label, address) = match find_shop(state, shop) {
            Some(_) => place_in_shop(alarm.kind, &alarm.about),
            None => place_in_service(alarm.kind),
        };
        Self {
            about: visible(&alarm.about),
            since: context.past(Some(alarm.since)),
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
        AlarmKind::SourcesUnread => replicas(),
        AlarmKind::AuthFailures
        | AlarmKind::ClockJumped
        | AlarmKind::CloneGuard
        | AlarmKind::ConfigRejected
        | AlarmKind::DatabaseLostChanges
        | AlarmKind::NotifyFailed
        | AlarmKind::ReplicaBehind
        | AlarmKind::ReplicasDiffer
        | AlarmKind::SelftestHidden
        | AlarmKind::StoreFailed
        | AlarmKind::UnmappedWarehouse => events(),
    }
}

/// Returns the label and the address of the page about an alarm that is not about a shop.
fn place_in_service(kind: AlarmKind) -> (Text, String) {
    match kind {
        AlarmKind::ReplicaBehind | AlarmKind::ReplicasDiffer | AlarmKind::SourcesUnread => {
            replicas()
        }
        _ => events(),
    }
}

fn replicas() -> (Text, String) {
    (Text::OPEN_REPLICAS, "/#replicas".to_owned())
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
        for kind in [AlarmKind::ReplicaBehind, AlarmKind::ReplicasDiffer] {
            assert_eq!(place_in_service(kind), replicas());
        }
        assert_eq!(place_in_service(AlarmKind::StoreFailed), events());
    }
}
