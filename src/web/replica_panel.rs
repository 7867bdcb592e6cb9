//! Replicas on the pages: which are live, how far behind, who sends for which shop, who reads the
//! sources.

use std::time::Duration;

use chrono::TimeDelta;
use stock::ShopId;

use super::cell::Cell;
use super::live::LiveValues;
use super::page_context::PageContext;
use super::shop_health::HealthLevel;
use super::texts::{self, Text};
use crate::ops::{OpsState, ReplicaStatus, SendingReplica};
use crate::sources::{SourceKindName, SourceLeader};

/// Age from which the list of the replicas says nothing about the present. It is read every 5 s.
const MAX_LIST_AGE: Duration = Duration::from_secs(20);

/// Most shops that a row names.
const MAX_NAMED_SHOPS: usize = 8;

/// Replica in the table.
pub(super) struct ReplicaRow {
    pub(super) name: String,
    /// It serves this page.
    pub(super) is_this: bool,
    pub(super) state: Cell,
    /// Changes that it has not applied yet.
    pub(super) lag: Cell,
    /// Time since it last renewed its row.
    pub(super) seen: Cell,
    /// Shops for which it calls the Market.
    pub(super) shops: Cell,
    /// Shops whose sources it reads.
    pub(super) sources: Cell,
}

/// All replicas.
pub(super) struct ReplicaPanel {
    pub(super) rows: Vec<ReplicaRow>,
    /// Sentences about what deserves a look.
    pub(super) notes: Vec<Cell>,
}

/// Facts about all replicas.
struct ReplicaFacts<'a> {
    own: &'a str,
    /// This process may answer the Market.
    is_serving: bool,
    replicas: Vec<ReplicaStatus>,
    list_age: Option<Duration>,
    /// Shops for which the Market is called.
    senders: Vec<(&'a str, SendingReplica)>,
    /// Shops with sources.
    readers: Vec<(&'a str, SourceLeader)>,
}

impl ReplicaPanel {
    /// Returns `None` if this process alone uses its store.
    pub(super) fn collect(state: &OpsState, context: PageContext) -> Option<Self> {
        let senders = state.shops_with_ids();
        let senders = senders.filter_map(|(id, shop)| Some((&*shop.name, state.sender(id)?)));
        let readers = state
            .shops_with_ids()
            .filter(|(id, _)| has_sources(state, *id));
        let readers =
            readers.filter_map(|(id, shop)| Some((&*shop.name, state.source_reader(id)?)));
        let facts = ReplicaFacts {
            own: state.replica.as_deref()?,
            is_serving: state.permit.is_valid(),
            replicas: state.replicas.get(),
            list_age: state.replicas.age(),
            senders: senders.collect(),
            readers: readers.collect(),
        };
        Some(facts.panel(context))
    }

    pub(super) fn add_to(&self, values: &mut LiveValues) {
        for row in &self.rows {
            values.add([&row.state, &row.lag, &row.seen, &row.shops, &row.sources]);
            values.add_structure(&row.name);
        }
        for note in &self.notes {
            values.add([note]);
            values.add_structure(&note.id);
        }
    }
}

impl ReplicaFacts<'_> {
    fn panel(&self, context: PageContext) -> ReplicaPanel {
        let mut names: Vec<&str> = vec![self.own];
        names.extend(self.replicas.iter().map(|replica| replica.name.as_str()));
        names.extend(self.senders.iter().map(|(_, sender)| self.name_of(sender)));
        names.extend(
            self.readers
                .iter()
                .map(|(_, reader)| self.reader_name(reader)),
        );
        names.retain(|name| !name.is_empty());
        names.sort_unstable();
        names.dedup();
        let rows = names.into_iter().map(|name| self.row(name, context));
        ReplicaPanel {
            rows: rows.collect(),
            notes: self.notes(context),
        }
    }

    /// Returns the name of the replica that sends; empty if it is not known.
    fn name_of<'a>(&'a self, sender: &'a SendingReplica) -> &'a str {
        match sender {
            SendingReplica::This { .. } => self.own,
            SendingReplica::Other(name) => name,
            SendingReplica::Unknown => "",
        }
    }

    /// Returns the name of the replica that reads the sources; empty if none does.
    fn reader_name<'a>(&'a self, reader: &'a SourceLeader) -> &'a str {
        match reader {
            SourceLeader::This => self.own,
            SourceLeader::Replica(name) => name,
            SourceLeader::Vacant => "",
        }
    }

    /// Returns the last row of a replica. One that was killed and started again has two.
    fn status(&self, name: &str) -> Option<&ReplicaStatus> {
        let mut replicas = self.replicas.iter();
        replicas.rfind(|replica| replica.name == name)
    }

    fn is_list_old(&self) -> bool {
        self.list_age.is_some_and(|age| age > MAX_LIST_AGE)
    }

    fn is_live(&self, name: &str) -> bool {
        name == self.own || self.status(name).is_some_and(|status| status.is_alive)
    }

    fn state(&self, name: &str) -> (Text, HealthLevel) {
        let has_task = self.senders.iter().any(|(_, it)| self.name_of(it) == name)
            || self
                .readers
                .iter()
                .any(|(_, it)| self.reader_name(it) == name);
        match self.status(name) {
            _ if name == self.own && self.is_serving => (Text::REPLICA_LIVE, HealthLevel::Good),
            _ if name == self.own => (Text::REPLICA_BEHIND, HealthLevel::Trouble),
            _ if self.is_list_old() => (Text::REPLICA_UNKNOWN, HealthLevel::Attention),
            // The list is read some seconds after the start.
            None if self.list_age.is_none() => (Text::REPLICA_UNKNOWN, HealthLevel::Waiting),
            Some(status) if status.is_alive => (Text::REPLICA_LIVE, HealthLevel::Good),
            _ if has_task => (Text::REPLICA_NOT_LIVE, HealthLevel::Trouble),
            _ => (Text::REPLICA_NOT_LIVE, HealthLevel::Attention),
        }
    }

    fn row(&self, name: &str, context: PageContext) -> ReplicaRow {
        let element = |part: &str| format!("replica-{name}-{part}");
        let (state, severity) = self.state(name);
        let status = self.status(name);
        let lag = status.and_then(|status| u64::try_from(status.lag).ok());
        let seen = status.map(|status| status.seconds_since_renewal);
        let sent = self.senders.iter();
        let sent = sent.filter(|(_, sender)| self.name_of(sender) == name);
        let sent: Vec<&str> = sent.map(|(shop, _)| *shop).collect();
        let read = self.readers.iter();
        let read = read.filter(|(_, reader)| self.reader_name(reader) == name);
        let read: Vec<&str> = read.map(|(shop, _)| *shop).collect();
        let none = || "–".to_owned();
        ReplicaRow {
            name: name.to_owned(),
            is_this: name == self.own,
            state: Cell::new(element("state"), context.text(state)).with_severity(severity),
            lag: Cell::new(element("lag"), lag.map_or_else(none, |n| context.number(n)))
                .with_severity(lag.filter(|n| *n > 0).map(|_| HealthLevel::Waiting)),
            seen: Cell::new(
                element("seen"),
                seen.map_or_else(none, |seconds| seconds_ago(seconds, context)),
            ),
            shops: Cell::new(element("shops"), shop_names(&sent, context)),
            sources: Cell::new(element("sources"), shop_names(&read, context)),
        }
    }

    fn notes(&self, context: PageContext) -> Vec<Cell> {
        let language = context.language;
        let mut notes = Vec::new();
        let mut add = |id: &str, severity, text: String| {
            notes.push(Cell::new(format!("note-{id}"), text).with_severity(severity));
        };
        if let Some(age) = self.list_age.filter(|_| self.is_list_old()) {
            let ago = seconds_ago(age.as_secs(), context);
            add(
                "list",
                HealthLevel::Attention,
                texts::old_list(&ago, language),
            );
        }
        let is_known = self.list_age.is_some() && !self.is_list_old();
        let differing = self
            .replicas
            .iter()
            .filter(|it| is_known && !it.differing_settings.is_empty());
        for ReplicaStatus {
            name,
            differing_settings: parts,
            ..
        } in differing
        {
            let text = texts::other_settings(name, &parts.join(", "), language);
            add(&format!("settings-{name}"), HealthLevel::Attention, text);
        }
        let unread = self.readers.iter().filter(|(_, reader)| match reader {
            SourceLeader::This => false,
            SourceLeader::Replica(name) => is_known && !self.is_live(name),
            SourceLeader::Vacant => true,
        });
        let unread: Vec<&str> = unread.map(|(shop, _)| *shop).collect();
        if !unread.is_empty() {
            let text = texts::sources_not_read(&shop_names(&unread, context), language);
            add("sources", HealthLevel::Trouble, text);
        }
        let shops_of = |is_meant: &dyn Fn(&SendingReplica) -> bool| -> Vec<&str> {
            let meant = self.senders.iter().filter(|(_, sender)| is_meant(sender));
            meant.map(|(shop, _)| *shop).collect()
        };
        let unsent = shops_of(&|sender| *sender == SendingReplica::Unknown);
        if !unsent.is_empty() {
            let text = texts::no_sender(&shop_names(&unsent, context), language);
            add("unsent", HealthLevel::Attention, text);
        }
        let is_waiting = |sender: &SendingReplica| matches!(sender, SendingReplica::This { wait } if !wait.is_zero());
        let waiting = shops_of(&is_waiting);
        if !waiting.is_empty() {
            let text = texts::taking_over(&shop_names(&waiting, context), language);
            add("takeover", HealthLevel::Waiting, text);
        }
        notes
    }
}

/// Formats a short age in seconds, a longer one in a larger unit.
fn seconds_ago(seconds: u64, context: PageContext) -> String {
    if seconds < 120 {
        return texts::seconds_ago(seconds, context.language);
    }
    let age = TimeDelta::seconds(i64::try_from(seconds).unwrap_or(i64::MAX / 1_000));
    context.past(Some(context.now - age)).text
}

/// Joins the first names of shops.
fn shop_names(names: &[&str], context: PageContext) -> String {
    if names.is_empty() {
        return "–".to_owned();
    }
    let shown = &names[..names.len().min(MAX_NAMED_SHOPS)];
    let rest = (names.len() - shown.len()) as u64;
    texts::names(shown, rest, context.language)
}

/// Sentence about the replica that sends for a shop, if it is not this process.
pub(super) fn sent_elsewhere(
    state: &OpsState,
    shop: ShopId,
    context: PageContext,
) -> Option<String> {
    match state.sender(shop)? {
        SendingReplica::This { .. } => None,
        SendingReplica::Other(name) => Some(texts::sent_by_other(&name, context.language)),
        SendingReplica::Unknown => {
            let name = &state.shops[shop.index()].name;
            Some(texts::no_sender(name, context.language))
        }
    }
}

/// Sentence about the replica that reads the sources of a shop, if it is not this process.
pub(super) fn sources_elsewhere(
    state: &OpsState,
    shop: ShopId,
    context: PageContext,
) -> Option<String> {
    let name = &state.shops[shop.index()].name;
    elsewhere(&state.source_reader(shop)?, name, context)
}

/// The same about all shops with sources, one sentence for each replica.
pub(super) fn all_sources_elsewhere(state: &OpsState, context: PageContext) -> Vec<String> {
    let mut readers: Vec<(SourceLeader, Vec<&str>)> = Vec::new();
    for (id, shop) in state
        .shops_with_ids()
        .filter(|(id, _)| has_sources(state, *id))
    {
        let Some(reader) = state.source_reader(id) else {
            continue;
        };
        match readers.iter_mut().find(|(known, _)| *known == reader) {
            Some((_, shops)) => shops.push(&shop.name),
            None => readers.push((reader, vec![&shop.name])),
        }
    }
    let sentence = |(reader, shops): &(SourceLeader, Vec<&str>)| {
        elsewhere(reader, &shop_names(shops, context), context)
    };
    readers.iter().filter_map(sentence).collect()
}

fn elsewhere(reader: &SourceLeader, shops: &str, context: PageContext) -> Option<String> {
    match reader {
        SourceLeader::This => None,
        SourceLeader::Replica(name) => Some(texts::sources_on_other(name, shops, context.language)),
        SourceLeader::Vacant => Some(texts::sources_not_read(shops, context.language)),
    }
}

/// Returns true if the shop has a source besides the imports by hand.
fn has_sources(state: &OpsState, shop: ShopId) -> bool {
    let mut configs = state.source_manager.configs(shop);
    configs.any(|config| config.kind.kind_name() != SourceKindName::Import)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, FixedOffset};

    use super::*;
    use crate::i18n::Language;

    fn context() -> PageContext {
        PageContext {
            now: DateTime::UNIX_EPOCH + TimeDelta::days(20_000),
            language: Language::English,
            zone: FixedOffset::east_opt(0).unwrap(),
        }
    }

    fn replica(name: &str, is_alive: bool, seconds: u64, lag: i64) -> ReplicaStatus {
        ReplicaStatus {
            name: name.to_owned(),
            is_alive,
            seconds_since_renewal: seconds,
            lag,
            ..ReplicaStatus::default()
        }
    }

    fn facts(reader: &str, replicas: Vec<ReplicaStatus>) -> ReplicaFacts<'static> {
        let reader = match reader {
            "dc-1" => SourceLeader::This,
            "" => SourceLeader::Vacant,
            other => SourceLeader::Replica(other.to_owned()),
        };
        ReplicaFacts {
            own: "dc-1",
            readers: vec![("moscow", reader)],
            is_serving: true,
            replicas,
            list_age: Some(Duration::from_secs(4)),
            senders: vec![
                (
                    "moscow",
                    SendingReplica::This {
                        wait: Duration::ZERO,
                    },
                ),
                ("kazan", SendingReplica::Other("dc-2".to_owned())),
            ],
        }
    }

    /// Texts of a row: name, state, lag, last renewal, shops.
    fn texts_of(row: &ReplicaRow) -> [&str; 5] {
        [
            &row.name,
            &row.state.text,
            &row.lag.text,
            &row.seen.text,
            &row.shops.text,
        ]
    }

    fn notes(panel: &ReplicaPanel) -> Vec<&str> {
        panel.notes.iter().map(|note| note.id.as_str()).collect()
    }

    #[test]
    fn live_replicas_have_no_notes() {
        let reader = "dc-2";
        let list = vec![replica("dc-1", true, 0, 0), replica("dc-2", true, 1, 3)];
        let panel = facts(reader, list).panel(context());
        let rows: Vec<_> = panel.rows.iter().map(texts_of).collect();
        let expected = [
            ["dc-1", "live", "0", "0\u{a0}s ago", "moscow"],
            ["dc-2", "live", "3", "1\u{a0}s ago", "kazan"],
        ];
        assert_eq!(rows, expected);
        assert!(panel.rows[0].is_this);
        assert_eq!(panel.rows[1].sources.text, "moscow");
        assert!(
            panel
                .rows
                .iter()
                .all(|row| row.state.severity == Some(HealthLevel::Good))
        );
        assert!(notes(&panel).is_empty());
    }

    #[test]
    fn a_dead_replica_with_a_task_is_trouble() {
        let reader = "dc-3";
        let list = vec![
            replica("dc-1", true, 0, 0),
            replica("dc-2", false, 600, 9),
            replica("dc-4", false, 90, 0),
        ];
        let panel = facts(reader, list).panel(context());
        let severities: Vec<_> = panel
            .rows
            .iter()
            .map(|row| row.state.severity.unwrap())
            .collect();
        use HealthLevel::{Attention, Good, Trouble};
        // dc-2 sends for a shop, dc-3 reads the sources and was never seen, dc-4 has no task.
        assert_eq!(severities, [Good, Trouble, Trouble, Attention]);
        assert_eq!(panel.rows[1].seen.text, "10\u{a0}min ago");
        assert_eq!(notes(&panel), ["note-sources"]);
        assert!(panel.notes[0].text.contains("moscow"));
    }

    #[test]
    fn a_restarted_replica_has_one_row() {
        let reader = "dc-1";
        let list = vec![replica("dc-2", false, 50, 7), replica("dc-2", true, 0, 0)];
        let panel = facts(reader, list).panel(context());
        assert_eq!(panel.rows.len(), 2);
        assert_eq!(texts_of(&panel.rows[1])[1..3], ["live", "0"]);
    }

    #[test]
    fn an_old_list_says_nothing_about_others() {
        let reader = "dc-2";
        let list = vec![replica("dc-1", true, 0, 0), replica("dc-2", true, 0, 0)];
        let mut facts = facts(reader, list);
        (facts.is_serving, facts.list_age) = (false, Some(Duration::from_secs(60)));
        let panel = facts.panel(context());
        assert_eq!(panel.rows[0].state.severity, Some(HealthLevel::Trouble));
        assert_eq!(panel.rows[1].state.text, "not known");
        assert_eq!(notes(&panel), ["note-list"]);
        // Before the first look at the list.
        (facts.is_serving, facts.list_age, facts.replicas) = (true, None, Vec::new());
        let panel = facts.panel(context());
        assert_eq!(panel.rows[1].state.severity, Some(HealthLevel::Waiting));
        assert!(notes(&panel).is_empty());
    }

    #[test]
    fn replica_with_other_settings_has_a_note() {
        let mut other = replica("dc-2", true, 1, 0);
        other.differing_settings = vec!["service".to_owned(), "shop:moscow".to_owned()];
        let mut facts = facts("dc-1", vec![replica("dc-1", true, 0, 0), other]);
        let panel = facts.panel(context());
        assert_eq!(notes(&panel), ["note-settings-dc-2"]);
        let text = &panel.notes[0].text;
        assert!(text.contains("service, shop:moscow"), "{text}");
        facts.list_age = Some(Duration::from_secs(60));
        assert_eq!(notes(&facts.panel(context())), ["note-list"]);
    }

    #[test]
    fn shops_without_a_sender_are_named() {
        let reader = "dc-1";
        let mut facts = facts(reader, vec![replica("dc-1", true, 0, 0)]);
        facts.senders = vec![
            ("moscow", SendingReplica::Unknown),
            (
                "kazan",
                SendingReplica::This {
                    wait: Duration::from_secs(40),
                },
            ),
        ];
        let panel = facts.panel(context());
        assert_eq!(panel.rows.len(), 1);
        assert_eq!(notes(&panel), ["note-unsent", "note-takeover"]);
        assert!(panel.notes[0].text.contains("moscow") && panel.notes[1].text.contains("kazan"));
        let many: Vec<String> = (0..20).map(|n| format!("shop-{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(shop_names(&many, context()).ends_with("shop-7 and 12 more"));
    }
}
