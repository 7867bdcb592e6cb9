//! Page of one shop: its numbers, its sending with the operator's pause, charts, sources, the last
//! read-back and the quarantine.

use askama::Template;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::response::Response;
use serde::Deserialize;

use super::cell::{Cell, NamedCell};
use super::chart::AreaChart;
use super::layout::{Layout, Screen, render};
use super::links::shop_path;
use super::live::{LiveValues, stream_values};
use super::page_context::PageContext;
use super::page_request::ShopRequest;
use super::replica_panel::{sent_elsewhere, sources_elsewhere};
use super::shop_actions::ActionQuery;
use super::shop_charts::{ChartPeriod, shop_charts};
use super::shop_health::HealthLevel;
use super::shop_readback::ReadbackPanel;
use super::shop_row::{FeedExample, ShopRow, can_be_paused};
use super::shop_sending::{QuarantinePanel, SendingPanel};
use super::shop_sources::SourceRow;
use super::texts::Text;
use crate::migrator::{LimitUnit, WorkerStatus};

/// Values of the page that the stream keeps current.
struct ShopPanels {
    state: Cell,
    /// Sentence about the replica that sends, if it is another one.
    sent_elsewhere: Option<String>,
    /// Sentence about the replica that reads the sources, likewise.
    sources_elsewhere: Option<String>,
    feed: Option<FeedExample>,
    numbers: Vec<NamedCell>,
    sending: SendingPanel,
    sources: Vec<SourceRow>,
    readback: ReadbackPanel,
    quarantine: QuarantinePanel,
}

/// Link of the switch between the charts' periods.
struct PeriodLink {
    address: String,
    title: &'static str,
    is_current: bool,
}

#[derive(Template)]
#[template(path = "shop.html")]
struct ShopPage {
    layout: Layout,
    structure: String,
    name: String,
    address: String,
    notice: Option<Cell>,
    panels: ShopPanels,
    periods: Vec<PeriodLink>,
    charts: Vec<AreaChart>,
}

/// Period of the charts in the query of the page.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ChartQuery {
    period: Option<String>,
}

/// Serves the page.
pub(super) async fn page(
    request: ShopRequest,
    chart: Result<Query<ChartQuery>, QueryRejection>,
    action: Result<Query<ActionQuery>, QueryRejection>,
) -> Response {
    let (page, shop) = (&request.page, request.shop());
    // An address that a person has changed is shown without these values.
    let (Query(chart), Query(action)) = (chart.unwrap_or_default(), action.unwrap_or_default());
    let context = page.context();
    let panels = ShopPanels::collect(&request, context);
    let period = ChartPeriod::from_name(chart.period.as_deref());
    let link = |other: ChartPeriod| PeriodLink {
        address: format!("{}?period={}", shop_path(&shop.name), other.name),
        title: context.text(other.title),
        is_current: other.name == period.name,
    };
    let live_path = format!("/live/shops/{}", shop.name);
    let layout = Layout::new(page, Screen::Overview, &shop.name, live_path);
    render(&ShopPage {
        layout: layout.into_subpage().with_search("", &shop.name),
        structure: panels.live_values().structure_mark(),
        name: shop.name.clone(),
        address: shop.address.clone(),
        notice: action.notice(context),
        panels,
        periods: ChartPeriod::ALL.into_iter().map(link).collect(),
        charts: shop_charts(page.state(), request.id, period, context),
    })
}

/// Serves the stream of changed values.
pub(super) async fn live(request: ShopRequest) -> Response {
    stream_values(request.page.clone(), move |page| {
        ShopPanels::collect(&request, page.context()).live_values()
    })
}

impl ShopPanels {
    fn collect(request: &ShopRequest, context: PageContext) -> Self {
        let (state, id, shop) = (request.page.state(), request.id, request.shop());
        let row = ShopRow::collect(state, id, shop, context);
        let sender = state.sender(id).filter(|sender| !sender.is_this());
        let worker = state.migrator.status(id);
        // On a replica that does not send, a worker knows only the operator's pause.
        let sending_worker = worker.as_ref().filter(|_| sender.is_none());
        let columns = row.cells.into_iter().map(|column| NamedCell {
            name: column.heading,
            cell: column.cell,
        });
        let readback = state.migrator.readback_report(id);
        Self {
            state: row.state,
            sent_elsewhere: sent_elsewhere(state, id, context),
            sources_elsewhere: sources_elsewhere(state, id, context),
            feed: row.feed,
            numbers: columns
                .chain(more_numbers(sending_worker, context))
                .collect(),
            sending: SendingPanel::collect(
                worker.as_ref(),
                sender.as_ref(),
                (can_be_paused(state, shop), shop.mode),
                context,
            ),
            sources: SourceRow::collect_all(state, id, context),
            readback: ReadbackPanel::collect(readback, &shop.name, context),
            quarantine: QuarantinePanel::collect(worker.as_ref(), &shop.name, context),
        }
    }

    fn live_values(&self) -> LiveValues {
        let mut values = LiveValues::default();
        values.add([&self.state]);
        values.add(self.numbers.iter().map(|number| &number.cell));
        values.add(self.sending.cells());
        values.add(self.sources.iter().flat_map(|row| [&row.state, &row.next]));
        values.add(self.readback.cells());
        values.add([&self.quarantine.count]);
        values.add_structure(&self.feed.is_some().to_string());
        for elsewhere in [&self.sent_elsewhere, &self.sources_elsewhere] {
            values.add_structure(elsewhere.as_deref().unwrap_or_default());
        }
        values.add_structure(&self.sending.structure());
        values.add_structure(&self.readback.structure());
        values.add_structure(&self.quarantine.structure());
        for row in &self.sources {
            values.add_structure(&row.structure());
        }
        values
    }
}

/// Numbers that the overview does not show; none if the Market is not called.
fn more_numbers(worker: Option<&WorkerStatus>, context: PageContext) -> Vec<NamedCell> {
    let Some(worker) = worker else {
        return Vec::new();
    };
    let dirty = worker.dirty_skus() as u64;
    let limit_name = match worker.rate_limit.unit {
        LimitUnit::Requests => Text::LIMIT_REQUESTS,
        LimitUnit::Skus => Text::LIMIT_SKUS,
    };
    let named = |name: Text, id: &str, n: u64| NamedCell {
        name: context.text(name),
        cell: Cell::new(id, context.number(n)),
    };
    let mut numbers = vec![
        named(Text::DIRTY_SKUS, "dirty", dirty),
        named(
            Text::IN_FLIGHT_SKUS,
            "in-flight",
            worker.in_flight_skus as u64,
        ),
        named(Text::ACKNOWLEDGED_SKUS, "acknowledged", worker.acknowledged),
        named(limit_name, "limit", worker.rate_limit.per_minute.into()),
    ];
    numbers[0].cell.severity = Some(HealthLevel::Waiting).filter(|_| dirty > 0);
    numbers
}
