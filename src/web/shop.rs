//! Page of one shop: its numbers, its sending with the operator's pause, charts, sources, the last
//! read-back and the quarantine.

use askama::Template;
use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::Deserialize;
use stock::ShopId;

use super::Config;
use super::chart::AreaChart;
use super::language_choice::LanguageChoice;
use super::layout::{Layout, Screen, render};
use super::links::{find_shop, shop_path};
use super::live::{LiveValues, stream_values};
use super::not_found;
use super::overview::Cell;
use super::page_context::PageContext;
use super::shop_actions::{ActionNotice, ActionQuery};
use super::shop_charts::{ChartPeriod, shop_charts};
use super::shop_health::HealthLevel;
use super::shop_readback::ReadbackPanel;
use super::shop_row::{FeedExample, ShopRow, can_be_paused};
use super::shop_sending::{QuarantinePanel, SendingPanel};
use super::shop_sources::SourceRow;
use super::texts::{Text, text};
use crate::migrator::LimitUnit;
use crate::ops::{Ops, OpsShop, OpsState};

/// Number with its name.
pub(super) struct NamedCell {
    pub(super) name: &'static str,
    pub(super) cell: Cell,
}

/// Values of the page that the stream keeps current.
struct ShopPanels {
    state: Cell,
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
    notice: Option<ActionNotice>,
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
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
    Path(name): Path<String>,
    chart: Result<Query<ChartQuery>, QueryRejection>,
    action: Result<Query<ActionQuery>, QueryRejection>,
) -> Response {
    let Some(state) = ops.state() else {
        return super::layout::starting(choice.language);
    };
    let Some((id, shop)) = find_shop(state, &name) else {
        return not_found::unknown_shop(&ops, (config, &choice), state, &name);
    };
    // An address that a person has changed is shown without these values.
    let (Query(chart), Query(action)) = (chart.unwrap_or_default(), action.unwrap_or_default());
    let context = PageContext::new(state, choice.language, config.time_zone);
    let panels = ShopPanels::collect(state, (id, shop), context);
    let period = ChartPeriod::from_name(chart.period.as_deref());
    let link = |other: ChartPeriod| PeriodLink {
        address: format!("{}?period={}", shop_path(&shop.name), other.name()),
        title: text(other.title(), choice.language),
        is_current: other == period,
    };
    let layout = Layout::new(
        &ops,
        (config, &choice),
        context.now,
        (Screen::Overview, shop.name.clone()),
        &format!("/live/shops/{}", shop.name),
    );
    render(&ShopPage {
        layout: layout.into_subpage().with_search("", &shop.name),
        structure: panels.live_values().structure_mark(),
        name: shop.name.clone(),
        address: shop.address.clone(),
        notice: action.notice(context),
        panels,
        periods: ChartPeriod::ALL.into_iter().map(link).collect(),
        charts: shop_charts(state, id, period, context),
    })
}

/// Serves the stream of changed values.
pub(super) async fn live(
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
    Path(name): Path<String>,
) -> Response {
    let Some(state) = ops.state() else {
        return super::layout::starting(choice.language);
    };
    let Some((id, _)) = find_shop(state, &name) else {
        return not_found::unknown_shop(&ops, (config, &choice), state, &name);
    };
    stream_values(&ops, (config, &choice), move |state, context| {
        ShopPanels::collect(state, (id, &state.shops[id.index()]), context).live_values()
    })
}

impl ShopPanels {
    fn collect(state: &OpsState, (id, shop): (ShopId, &OpsShop), context: PageContext) -> Self {
        let row = ShopRow::collect(state, (id, shop), context);
        let worker = state.migrator.status(id);
        let columns = row.cells.into_iter().map(|column| NamedCell {
            name: column.heading,
            cell: column.cell,
        });
        let numbers = columns.chain(more_numbers(state, id, context)).collect();
        Self {
            state: row.state,
            feed: row.feed,
            numbers,
            sending: SendingPanel::collect(
                worker.as_ref(),
                can_be_paused(state, shop),
                shop.mode,
                context,
            ),
            sources: SourceRow::collect_all(state, id, context),
            readback: ReadbackPanel::collect(
                state.migrator.readback_report(id),
                &shop.name,
                context,
            ),
            quarantine: QuarantinePanel::collect(worker.as_ref(), &shop.name, context),
        }
    }

    fn live_values(&self) -> LiveValues {
        let mut values = LiveValues::default();
        let numbers = self.numbers.iter().map(|number| &number.cell);
        let sources = self.sources.iter().flat_map(|row| [&row.state, &row.next]);
        let cells = [&self.state]
            .into_iter()
            .chain(numbers)
            .chain(self.sending.cells())
            .chain(sources)
            .chain(self.readback.cells())
            .chain([&self.quarantine.count]);
        for cell in cells {
            values.set(&cell.id, &cell.text, cell.severity);
        }
        values.add_structure(&self.feed.is_some().to_string());
        values.add_structure(&self.sending.structure());
        values.add_structure(&self.readback.structure());
        values.add_structure(&self.quarantine.structure());
        for row in &self.sources {
            values.add_structure(&row.structure());
        }
        values
    }
}

/// Numbers that the overview does not show.
fn more_numbers(state: &OpsState, id: ShopId, context: PageContext) -> Vec<NamedCell> {
    let named = |name, id: &str, text: String| NamedCell {
        name: context.text(name),
        cell: Cell::new(id.to_owned(), text),
    };
    let mut numbers = Vec::new();
    if let Some(worker) = state.migrator.status(id) {
        let dirty = worker.dirty_skus() as u64;
        let mut number = named(Text::DirtySkus, "dirty", context.number(dirty));
        number.cell.severity = Some(HealthLevel::Waiting).filter(|_| dirty > 0);
        numbers.push(number);
        let in_flight = context.number(worker.in_flight_skus as u64);
        let acknowledged = context.number(worker.acknowledged);
        let limit = context.number(worker.rate_limit.per_minute.into());
        let limit_name = match worker.rate_limit.unit {
            LimitUnit::Requests => Text::LimitRequests,
            LimitUnit::Skus => Text::LimitSkus,
        };
        numbers.push(named(Text::InFlightSkus, "in-flight", in_flight));
        numbers.push(named(Text::AcknowledgedSkus, "acknowledged", acknowledged));
        numbers.push(named(limit_name, "limit", limit));
    }
    numbers
}
