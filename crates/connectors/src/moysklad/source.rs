//! Poll of MoySklad: a snapshot once a day, and deltas in between.
//!
//! The state has the times of the last snapshot and of the last read.

use chrono::{DateTime, TimeDelta, Utc};
use stock::Timestamp;
use stock_import::{DeliveryScope, ReadSettings};
use strict_http::causes;

use super::{Config, MoySklad};
use crate::source::{DeliveryEnd, DueDelivery, PollContext, ReadFailure, Source};
use crate::{Completeness, EntrySender, ReadReport};

/// Interval between two snapshots; deltas are read in between.
const SNAPSHOT_INTERVAL: TimeDelta = TimeDelta::hours(24);

/// Account at MoySklad as a source.
#[derive(Debug)]
pub struct MoySkladSource {
    connector: MoySklad,
    settings: ReadSettings,
    last_snapshot: Option<DateTime<Utc>>,
    last_read: Option<DateTime<Utc>>,
}

impl MoySkladSource {
    /// Creates a source that was not polled yet. `client` is built from [`Config::client_config`].
    #[must_use]
    pub fn new(client: reqwest::Client, config: Config, settings: ReadSettings) -> Self {
        Self {
            connector: MoySklad::new(client, config),
            settings,
            last_snapshot: None,
            last_read: None,
        }
    }
}

/// Snapshot or delta of one poll.
#[derive(Clone, Copy, Debug)]
pub struct AccountRead {
    now: DateTime<Utc>,
    /// Time from which a delta begins; `None` for a snapshot.
    since: Option<DateTime<Utc>>,
}

impl Source for MoySkladSource {
    type Target = AccountRead;

    const DUE_CONTACTS_SOURCE: bool = false;

    fn restore(&mut self, state: &str) {
        let mut times = state.split_whitespace().map(|text| text.parse().ok());
        self.last_snapshot = times.next().flatten();
        self.last_read = times.next().flatten();
    }

    fn read_again(&mut self) {
        (self.last_snapshot, self.last_read) = (None, None);
    }

    async fn due(
        &mut self,
        poll: &PollContext<'_>,
    ) -> Result<Vec<DueDelivery<AccountRead>>, String> {
        let now = poll.now;
        let is_recent = |at: DateTime<Utc>| now - at < SNAPSHOT_INTERVAL;
        let needs_snapshot = !self.last_snapshot.is_some_and(is_recent);
        let since = self.last_read.filter(|_| !needs_snapshot);
        Ok(vec![DueDelivery {
            stated_at: Some(Timestamp::from(now)),
            repeats_last: false,
            target: AccountRead { now, since },
        }])
    }

    async fn read(
        &mut self,
        read: &mut AccountRead,
        _poll: &PollContext<'_>,
        rows: &mut EntrySender,
    ) -> Result<ReadReport, ReadFailure> {
        let (connector, settings) = (&mut self.connector, &self.settings);
        let (summary, scope) = if let Some(since) = read.since {
            let changes = connector.read_changes(since, read.now, settings, rows);
            (changes.await, DeliveryScope::Delta)
        } else {
            let snapshot = connector.read_snapshot(settings, rows);
            (snapshot.await, DeliveryScope::Snapshot)
        };
        let summary = summary.map_err(|error| ReadFailure::temporary(causes(&error)))?;
        let report = ReadReport::from(Completeness::Certain(scope));
        Ok(ReadReport {
            notices: summary.notices,
            ..report
        })
    }

    fn ended(&mut self, read: AccountRead, end: DeliveryEnd) -> Option<String> {
        // A held delivery was not applied, so it is read again until the operator has decided.
        if end != DeliveryEnd::Applied {
            return None;
        }
        self.connector.mark_accepted();
        let last_snapshot = match read.since {
            Some(_) => self.last_snapshot.unwrap_or(read.now),
            None => read.now,
        };
        self.last_snapshot = Some(last_snapshot);
        self.last_read = Some(read.now);
        Some(format!(
            "{} {}",
            last_snapshot.to_rfc3339(),
            read.now.to_rfc3339()
        ))
    }

    async fn read_all(
        &mut self,
        _poll: &PollContext<'_>,
        rows: &mut EntrySender,
    ) -> Result<(), String> {
        let read = self.connector.read_snapshot(&self.settings, rows).await;
        read.map(drop).map_err(|error| causes(&error))
    }
}
