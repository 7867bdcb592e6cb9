//! Poll of a database: one run of the query.
//!
//! The state is the watermark of the last applied delivery.

use stock::Timestamp;
use stock_import::ReadSettings;
use stock_import::shape_change::RecordedShape;
use strict_http::causes;

use super::{Config, read};
use crate::source::{DeliveryEnd, DueDelivery, PollContext, ReadFailure, Source};
use crate::{Completeness, EntrySender, ReadReport};

/// Database as a source.
#[derive(Debug)]
pub struct SqlSource {
    config: Config,
    settings: ReadSettings,
    watermark: Option<String>,
}

impl SqlSource {
    /// Creates a source that was not polled yet.
    #[must_use]
    pub fn new(config: Config, settings: ReadSettings) -> Self {
        Self {
            config,
            settings,
            watermark: None,
        }
    }
}

impl Source for SqlSource {
    /// Watermark of the rows that were read, if the query has one.
    type Target = Option<String>;

    const DUE_CONTACTS_SOURCE: bool = false;

    fn restore(&mut self, state: &str) {
        self.watermark = Some(state.to_owned()).filter(|state| !state.is_empty());
    }

    fn read_again(&mut self) {
        self.watermark = None;
    }

    async fn due(
        &mut self,
        poll: &PollContext<'_>,
    ) -> Result<Vec<DueDelivery<Option<String>>>, String> {
        Ok(vec![DueDelivery {
            stated_at: Some(Timestamp::from(poll.now)),
            repeats_last: false,
            target: None,
        }])
    }

    async fn read(
        &mut self,
        reached: &mut Option<String>,
        _poll: &PollContext<'_>,
        rows: &mut EntrySender,
    ) -> Result<ReadReport, ReadFailure> {
        let since = self.watermark.as_deref();
        let summary = read(&self.config, &self.settings, since, rows).await;
        let summary = summary.map_err(|error| ReadFailure::temporary(causes(&error)))?;
        *reached = summary.watermark;
        let report = ReadReport::from(Completeness::Certain(summary.scope));
        let shapes = summary.shape.iter().map(RecordedShape::from).collect();
        Ok(ReadReport { shapes, ..report })
    }

    fn ended(&mut self, reached: Option<String>, end: DeliveryEnd) -> Option<String> {
        // A held delivery was not applied, so it is read again until the operator has decided.
        let reached = reached.filter(|_| end == DeliveryEnd::Applied)?;
        self.watermark = Some(reached.clone());
        Some(reached)
    }

    async fn read_all(
        &mut self,
        _poll: &PollContext<'_>,
        rows: &mut EntrySender,
    ) -> Result<(), String> {
        let summary = read(&self.config, &self.settings, None, rows).await;
        summary.map(drop).map_err(|error| causes(&error))
    }
}
