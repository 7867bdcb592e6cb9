//! Numbers of one shop: the row of the overview, and the head of the shop's page.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use chrono::{DateTime, Utc};
use stock::ShopId;

use super::chart::{Sparkline, sparkline};
use super::links::shop_path;
use super::overview::Cell;
use super::page_context::PageContext;
use super::shop_health::{HealthLevel, ShopCondition, ShopFacts};
use super::texts::{self, Text};
use crate::chart_history::{Resolution, Series};
use crate::migrator::{Mode, WorkerState};
use crate::ops::{OpsShop, OpsState};

/// Shortest time that a sparkline covers, in minutes.
const FEWEST_MINUTES: usize = 60;

/// Operator's listener that commands use without the option `--ops`.
const DEFAULT_OPS_LISTENER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// Value in one column of the table.
pub(super) struct ColumnCell {
    pub(super) heading: &'static str,
    /// Numbers are aligned at their end.
    pub(super) is_number: bool,
    pub(super) cell: Cell,
    /// Last 24 hours of the value; empty without a chart.
    pub(super) sparkline: Sparkline,
}

/// Names and addresses in the example commands of `feed.html`.
pub(super) struct FeedExample {
    pub(super) shop: String,
    pub(super) campaign: u64,
    pub(super) listener: SocketAddr,
    /// Option of the commands, if the operator's listener is not at the default address.
    pub(super) ops_option: String,
}

/// One shop in the table.
pub(super) struct ShopRow {
    pub(super) name: String,
    pub(super) link: String,
    pub(super) state: Cell,
    pub(super) cells: Vec<ColumnCell>,
    /// Set if the shop has no stock yet, and no source that the service polls.
    pub(super) feed: Option<FeedExample>,
    pub(super) condition: ShopCondition,
}

impl ShopRow {
    /// Reads the numbers of a shop.
    pub(super) fn collect(
        state: &OpsState,
        (id, shop): (ShopId, &OpsShop),
        context: PageContext,
    ) -> Self {
        let worker = state.migrator.status(id);
        let readback = state.migrator.readback_report(id);
        let waiting = worker
            .as_ref()
            .map_or(0, |worker| worker.unacknowledged_skus());
        let rejected = worker.as_ref().map_or(0, |worker| worker.quarantined.len());
        let differing = readback
            .as_ref()
            .map_or(0, |report| report.unexplained_skus());
        let last_equal = readback.as_ref().and_then(|report| report.last_equal);
        let facts = ShopFacts {
            mode: shop.mode,
            has_stock: !state.book.is_empty(id),
            is_foreign_store: state.not_sending_reason.is_some(),
            is_paused_by_operator: worker
                .as_ref()
                .is_some_and(|worker| worker.paused_since.is_some()),
            is_paused: worker
                .as_ref()
                .is_some_and(|worker| worker.state == WorkerState::Paused),
            rejected: rejected as u64,
            differing,
            waiting: waiting as u64,
            was_equal: last_equal.is_some(),
        };
        let condition = facts.condition();
        let cell = |part: &str, text: String| Cell::new(format!("{}-{part}", shop.name), text);
        let number = |heading, part, n: u64, severity| ColumnCell {
            heading: context.text(heading),
            is_number: true,
            cell: Cell {
                severity: Some(severity).filter(|_| n > 0),
                ..cell(part, context.number(n))
            },
            sparkline: Sparkline::default(),
        };
        let other = |heading, cell| ColumnCell {
            heading: context.text(heading),
            is_number: false,
            cell,
            sparkline: Sparkline::default(),
        };
        let time = |heading, part, at: Option<DateTime<Utc>>| {
            let moment = context.past(at);
            let time = Cell {
                title: moment.title,
                ..cell(part, moment.text)
            };
            other(heading, time)
        };
        let skus = state.book.len(id) as u64;
        let acknowledged = worker.as_ref().and_then(|worker| worker.last_acknowledged);
        let cells = vec![
            number(Text::SkusColumn, "skus", skus, HealthLevel::Good),
            number(
                Text::WaitingColumn,
                "waiting",
                facts.waiting,
                HealthLevel::Waiting,
            ),
            number(
                Text::RejectedColumn,
                "rejected",
                facts.rejected,
                HealthLevel::Attention,
            ),
            number(
                Text::DifferingColumn,
                "differing",
                differing,
                HealthLevel::Attention,
            ),
            time(Text::PushColumn, "push", state.last_requests.last(id)),
            time(Text::AcknowledgedColumn, "acknowledged", acknowledged),
            time(Text::MatchColumn, "match", last_equal),
            other(
                Text::ModeColumn,
                cell("mode", context.text(mode_text(shop.mode)).to_owned()),
            ),
        ];
        let mut sources = state.source_manager.configs(id);
        let has_source = sources.any(|source| !source.kind.is_passive());
        let mut state_cell = cell("state", texts::condition(condition, context.language));
        state_cell.severity = Some(condition.severity());
        Self {
            name: shop.name.clone(),
            link: shop_path(&shop.name),
            state: state_cell,
            cells,
            feed: (!facts.has_stock && !has_source).then(|| FeedExample {
                shop: shop.name.clone(),
                campaign: shop.campaign,
                listener: state.listeners.public,
                ops_option: match state.listeners.ops {
                    DEFAULT_OPS_LISTENER => String::new(),
                    address => format!(" --ops {address}"),
                },
            }),
            condition,
        }
    }

    /// Adds the charts of the last 24 hours: waiting SKUs and requests of the Market.
    pub(super) fn with_sparklines(
        mut self,
        state: &OpsState,
        id: ShopId,
        context: PageContext,
    ) -> Self {
        for (part, series) in [
            ("waiting", Series::WaitingSkus),
            ("push", Series::MarketRequests),
        ] {
            let element = format!("{}-{part}", self.name);
            let points = state.charts.series(id, series, Resolution::Minute);
            // A service that has just started has no values of the day; its line would be a dot.
            let first = points.iter().position(|(_, value)| value.is_some());
            let skipped = points.len().saturating_sub(FEWEST_MINUTES);
            let points = points
                .get(first.unwrap_or_default().min(skipped)..)
                .unwrap_or_default();
            let mut cells = self.cells.iter_mut();
            if let Some(column) = cells.find(|column| column.cell.id == element) {
                let title = match series {
                    Series::MarketRequests => context.text(Text::ChartMarketRequests),
                    _ => column.heading,
                };
                column.sparkline = sparkline(points, title, context.language);
            }
        }
        self
    }
}

/// Returns true if the operator can pause or resume sending for the shop.
pub(super) fn can_be_paused(state: &OpsState, shop: &OpsShop) -> bool {
    shop.mode == Mode::On && state.not_sending_reason.is_none()
}

const fn mode_text(mode: Mode) -> Text {
    match mode {
        Mode::On => Text::ModeOn,
        Mode::DryRun => Text::ModeDryRun,
        Mode::Off => Text::ModeOff,
    }
}
