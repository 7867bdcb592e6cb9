//! Read-back: compares the Market's stock with the acknowledged stock. Decides the next query;
//! `worker` sends it.
//!
//! A pass reads every page of each warehouse, first of the active and then of the archived offers.
//! Then it queries by SKU the acknowledged SKUs that were on no page. Each SKU gets a
//! [`MatchClass`]. A SKU is sent again only in three cases: the Market's date proves that the
//! update was lost, the Market does not know the SKU, or the seller has stated it again recently.
//! Any other old count would undo the orders that the Market has subtracted since.

mod classify;
mod compare;
mod driver;
mod observed;
mod page_cursor;
mod readback_report;
mod schedule;

use std::time::Duration;

use chrono::TimeDelta;

pub use classify::MatchClass;
pub use compare::{FindMissing, FinishPass, PassResult};
pub use driver::{ReadbackDriver, ReadbackStep};
pub use observed::{Observations, Observed};
pub use readback_report::{DryRunEstimate, ReadbackExample, ReadbackProgress, ReadbackReport};

use market_api::partner::client::CallOutcome;
use market_api::partner::readback_page::{ReadbackPage, ReadbackQuery, ReadbackSelection};
use market_api::partner::wire::MarketAddress;
use stock::BookEntry;

use self::classify::Expected;
use self::page_cursor::PageCursor;
use super::classify_response::{ResponseVerdict, classify_response};
use super::clock_skew::SkewRange;
use super::{MarketTarget, Mode, ShopData};
use crate::store::Acked;

/// Dependencies and settings of a read-back driver.
#[derive(Clone, Debug)]
pub struct ReadbackContext {
    /// Shop, and where its stock is read.
    pub target: MarketTarget,
    /// Interval between scheduled passes; `None` if passes run only on request.
    pub pass_interval: Option<Duration>,
    /// Time that the Market may take to show an accepted update. Source: `updateStocks`, "several
    /// minutes".
    pub grace: TimeDelta,
    /// Stock, and what is known about each SKU.
    pub data: ShopData,
}

impl ReadbackContext {
    fn expected(&self, entry: BookEntry, acked: Acked, max_clock_skew: TimeDelta) -> Expected {
        let sent_date = self.data.ledger.sent_date(self.target.shop, entry.id());
        Expected {
            level: entry.level(),
            acked,
            sent_date,
            is_dry_run: self.target.mode == Mode::DryRun,
            grace: self.grace,
            max_clock_skew,
        }
    }

    /// Returns the positions from which a selection is read: a campaign lists all its warehouses
    /// together, a business lists each one separately.
    fn cursors(&self, selection: ReadbackSelection) -> impl Iterator<Item = PageCursor> {
        let warehouse_groups = match &self.target.address {
            MarketAddress::Campaign { .. } => vec![self.target.warehouses.clone()],
            MarketAddress::Business { warehouses, .. } => {
                warehouses.iter().map(|id| vec![*id]).collect()
            }
        };
        warehouse_groups.into_iter().map(move |warehouses| {
            PageCursor::new(ReadbackQuery {
                warehouses,
                selection: selection.clone(),
            })
        })
    }
}

/// Completed read-back request.
#[derive(Debug)]
pub struct CompletedReadback {
    pub(super) page: Result<ReadbackPage, ResponseVerdict>,
    /// Clock skew of the response; `None` without a `Date` header.
    pub(super) skew_range: Option<SkewRange>,
}

impl CompletedReadback {
    /// Classifies the outcome and parses the page.
    #[must_use]
    pub fn new(query: &ReadbackQuery, outcome: &CallOutcome) -> Self {
        let response = match outcome {
            CallOutcome::Response(response) => Some(response),
            CallOutcome::NoResponse(_) => None,
        };
        let page = match (classify_response(outcome), response) {
            (ResponseVerdict::Accepted, Some(response)) => {
                ReadbackPage::read(&response.body, query).map_err(|reason| ResponseVerdict::Retry {
                    reason: format!("the response is not a page: {reason}"),
                })
            }
            (verdict, _) => Err(verdict),
        };
        let skew_range = response.and_then(SkewRange::of);
        Self { page, skew_range }
    }
}
