//! Numbers of one shop: the row of the overview, and the head of the shop's page.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use stock::ShopId;

use super::cell::Cell;
use super::chart::{Sparkline, sparkline};
use super::links::shop_path;
use super::page_context::PageContext;
use super::shop_health::{HealthLevel, ShopCondition, ShopFacts};
use super::texts::{self, Text};
use crate::chart_history::{Resolution, Series};
use crate::i18n::Language;
use crate::migrator::{Mode, WorkerState};
use crate::ops::{OpsShop, OpsState, SendingReplica};

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
        id: ShopId,
        shop: &OpsShop,
        context: PageContext,
    ) -> Self {
        use HealthLevel::{Attention, Good, Waiting};
        let worker = state.migrator.status(id).unwrap_or_default();
        let sender = state.sender(id);
        let is_sent_elsewhere = sender.as_ref().is_some_and(|sender| !sender.is_this());
        let readback = state.migrator.readback_report(id).unwrap_or_default();
        let facts = ShopFacts {
            mode: shop.mode,
            has_stock: !state.data.book.is_empty(id),
            is_foreign_store: state.not_sending_reason.is_some(),
            is_paused_by_operator: worker.paused_since.is_some(),
            is_sent_elsewhere,
            is_paused: worker.state == WorkerState::Paused,
            rejected: worker.quarantined.len() as u64,
            differing: readback.unexplained_skus(),
            waiting: worker.unacknowledged_skus() as u64,
            was_equal: readback.last_equal.is_some(),
        };
        let condition = facts.condition();
        let element = |part: &str| format!("{}-{part}", shop.name);
        let column = |heading: Text, is_number, cell| ColumnCell {
            heading: context.text(heading),
            is_number,
            cell,
            sparkline: Sparkline::default(),
        };
        let number = |heading, part, n, severity| {
            let cell = Cell::count(element(part), n, severity, context.language);
            column(heading, true, cell)
        };
        let time = |heading, part, at| {
            let cell = Cell::titled(element(part), context.past(at));
            column(heading, false, cell)
        };
        // Only the replica that sends knows these.
        let unknown = |mut column: ColumnCell| {
            if is_sent_elsewhere {
                column.cell = Cell::new(column.cell.id, "–");
            }
            column
        };
        let skus = state.data.book.len(id) as u64;
        let mode = Cell::new(element("mode"), context.text(mode_text(shop.mode)));
        let (differing, sent) = (facts.differing, worker.last_acknowledged);
        let cells = vec![
            number(Text::SKUS_COLUMN, "skus", skus, Good),
            unknown(number(
                Text::WAITING_COLUMN,
                "waiting",
                facts.waiting,
                Waiting,
            )),
            unknown(number(
                Text::REJECTED_COLUMN,
                "rejected",
                facts.rejected,
                Attention,
            )),
            unknown(number(
                Text::DIFFERING_COLUMN,
                "differing",
                differing,
                Attention,
            )),
            time(Text::PUSH_COLUMN, "push", state.last_requests.last(id)),
            unknown(time(Text::ACKNOWLEDGED_COLUMN, "acknowledged", sent)),
            unknown(time(Text::MATCH_COLUMN, "match", readback.last_equal)),
            column(Text::MODE_COLUMN, false, mode),
        ];
        let mut sources = state.source_manager.configs(id);
        let has_source = sources.any(|source| !source.kind.is_passive());
        Self {
            name: shop.name.clone(),
            link: shop_path(&shop.name),
            state: Cell::new(
                element("state"),
                state_text(condition, sender.as_ref(), context.language),
            )
            .with_severity(condition.severity()),
            cells,
            feed: (!facts.has_stock && !has_source).then(|| FeedExample {
                shop: shop.name.clone(),
                campaign: shop.campaign,
                listener: state.public_address,
                ops_option: match state.ops_address {
                    DEFAULT_OPS_LISTENER => String::new(),
                    address => format!(" --ops {address}"),
                },
            }),
            condition,
        }
    }

    /// Adds the charts of the last 24 hours: waiting SKUs and requests of the Market.
    pub(super) fn add_sparklines(&mut self, state: &OpsState, id: ShopId, context: PageContext) {
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
                    Series::MarketRequests => context.text(Text::CHART_MARKET_REQUESTS),
                    _ => column.heading,
                };
                column.sparkline = sparkline(points, title, context.language);
            }
        }
    }
}

/// State of a shop in words.
pub(super) fn state_text(
    condition: ShopCondition,
    sender: Option<&SendingReplica>,
    language: Language,
) -> String {
    match (condition, sender) {
        (ShopCondition::SentElsewhere, Some(SendingReplica::Other(name))) => {
            texts::sender_state(name, language)
        }
        _ => texts::condition(condition, language),
    }
}

/// Returns true if the operator can pause or resume sending for the shop.
pub(super) fn can_be_paused(state: &OpsState, shop: &OpsShop) -> bool {
    shop.mode == Mode::On && state.not_sending_reason.is_none()
}

const fn mode_text(mode: Mode) -> Text {
    match mode {
        Mode::On => Text::MODE_ON,
        Mode::DryRun => Text::MODE_DRY_RUN,
        Mode::Off => Text::MODE_OFF,
    }
}
