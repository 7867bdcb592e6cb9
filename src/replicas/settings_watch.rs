//! Check of the other replicas' settings: raises an alarm when they have differed for too long.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::ReplicaBoard;
use crate::store::ReplicaStatus;
use crate::telemetry::{AlarmKind, Alarms};

/// Time for which settings must differ before an alarm is raised. During a change of a setting, replicas
/// are reloaded or restarted one after the other.
const TOLERATED: Duration = Duration::from_mins(10);

/// Time after which a replica that is not live is forgotten. A restart, and a replica that is behind for a
/// while, do not restart the time.
const ABSENCE: Duration = Duration::from_mins(2);

/// Times since which the settings of other replicas differ.
#[derive(Debug, Default)]
pub struct SettingsWatch {
    differing: BTreeMap<String, OtherSettings>,
}

/// Other settings of one replica.
#[derive(Debug)]
struct OtherSettings {
    since: Instant,
    seen_at: Instant,
    parts: Vec<String>,
}

impl SettingsWatch {
    /// Takes a list of the replicas that was just read, shows it, and raises or clears the alarm.
    pub fn update(&mut self, replicas: Vec<ReplicaStatus>, board: &ReplicaBoard, alarms: &Alarms) {
        board.set(replicas);
        match self.compare(&board.get(), Instant::now()) {
            Some(text) => alarms.raise(AlarmKind::ReplicasDiffer, "", text),
            None => alarms.clear(AlarmKind::ReplicasDiffer, ""),
        }
    }

    /// Notes which replicas differ at `now`. Returns the text of the alarm if settings have differed for
    /// too long.
    fn compare(&mut self, replicas: &[ReplicaStatus], now: Instant) -> Option<String> {
        for replica in replicas.iter().filter(|replica| replica.is_alive) {
            if replica.differing_settings.is_empty() {
                self.differing.remove(&replica.name);
                continue;
            }
            let known = self.differing.entry(replica.name.clone());
            let known = known.or_insert(OtherSettings {
                since: now,
                seen_at: now,
                parts: Vec::new(),
            });
            known.seen_at = now;
            known.parts.clone_from(&replica.differing_settings);
        }
        self.differing
            .retain(|_, difference| now - difference.seen_at < ABSENCE);
        let lasting = self.differing.iter();
        let lasting = lasting.filter(|(_, it)| it.seen_at - it.since >= TOLERATED);
        let named = lasting.map(|(name, it)| format!("{name} ({})", it.parts.join(", ")));
        let named: Vec<String> = named.collect();
        (!named.is_empty()).then(|| {
            format!(
                "these replicas have had other settings than this one for more than {} minutes: {}. So \
                 stock and responses depend on which replica works: use the same settings on all \
                 machines, and reload or restart each replica. stockbridge check prints the settings \
                 of a machine",
                TOLERATED.as_secs() / 60,
                named.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use lifecycle::Clock;

    use super::*;
    use crate::store::SettingsDigest;

    fn replica(name: &str, is_alive: bool, parts: &[&str]) -> ReplicaStatus {
        ReplicaStatus {
            name: name.to_owned(),
            is_alive,
            differing_settings: parts.iter().map(|part| (*part).to_owned()).collect(),
            ..ReplicaStatus::default()
        }
    }

    /// Compares at each of these seconds, and returns whether there was an alarm.
    fn alarms(lists: &[(u64, bool, &[&str])]) -> Vec<bool> {
        let (mut watch, start) = (SettingsWatch::default(), Instant::now());
        let compare = |(second, is_alive, parts): &(u64, bool, &[&str])| {
            let now = start + Duration::from_secs(*second);
            let list = [replica("a", true, &[]), replica("b", *is_alive, parts)];
            watch.compare(&list, now).is_some()
        };
        lists.iter().map(compare).collect()
    }

    #[test]
    fn lasting_difference_raises_the_alarm() {
        let (same, other) = (&[][..], &["service"][..]);
        let shop = &["shop:moscow"][..];
        for (case, lists, expected) in [
            (
                "it lasts",
                vec![(0, true, other), (599, true, other), (600, true, shop)],
                vec![false, false, true],
            ),
            (
                "a rolling restart ends it",
                vec![
                    (0, true, other),
                    (590, false, same),
                    (600, true, same),
                    (1300, true, same),
                ],
                vec![false; 4],
            ),
            (
                "it ends and begins again",
                vec![
                    (0, true, other),
                    (600, true, other),
                    (605, true, same),
                    (610, true, other),
                    (1209, true, other),
                ],
                vec![false, true, false, false, false],
            ),
            (
                "a short absence neither ends nor extends it",
                vec![
                    (0, true, other),
                    (500, true, other),
                    (600, false, same),
                    (615, true, other),
                    (700, false, same),
                ],
                vec![false, false, false, true, true],
            ),
            (
                "the replica is gone",
                vec![
                    (0, true, other),
                    (600, true, other),
                    (720, false, same),
                    (725, true, other),
                ],
                vec![false, true, false, false],
            ),
        ] {
            assert_eq!(alarms(&lists), expected, "{case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn alarm_ends_when_settings_agree() {
        let (mut watch, board) = (SettingsWatch::default(), ReplicaBoard::default());
        let alarms = Alarms::new(Clock::wall());
        let digest = |text: &str| {
            let parts = [("service".to_owned(), text.to_owned())];
            SettingsDigest::new(parts.into())
        };
        board.set_own("a", digest("1"));
        let mut update = |settings: &str| {
            let other = ReplicaStatus {
                release: env!("CARGO_PKG_VERSION").to_owned(),
                settings: digest(settings).to_string(),
                ..replica("b", true, &[])
            };
            watch.update(vec![replica("a", true, &[]), other], &board, &alarms);
            alarms.is_active(AlarmKind::ReplicasDiffer)
        };
        assert!(!update("2"));
        tokio::time::advance(TOLERATED).await;
        assert!(update("2"));
        assert!(!update("1"));
    }

    #[test]
    fn text_names_replicas_and_parts() {
        let (mut watch, start) = (SettingsWatch::default(), Instant::now());
        let list = [
            replica("b", true, &["service", "shop:moscow"]),
            replica("c", true, &[]),
            replica("d", true, &["source:moscow/erp"]),
        ];
        assert_eq!(watch.compare(&list, start), None);
        let text = watch.compare(&list, start + TOLERATED).unwrap();
        let named = "10 minutes: b (service, shop:moscow), d (source:moscow/erp). So stock";
        assert!(text.contains(named), "{text}");
    }
}
