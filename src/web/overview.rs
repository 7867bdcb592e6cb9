//! Overview: the verdict, the alarms, and one row for each shop.

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use stock::ShopId;

use super::Config;
use super::alarm_card::AlarmCard;
use super::language_choice::LanguageChoice;
use super::layout::{Layout, Screen, render};
use super::live::{LiveValues, stream_values};
use super::page_context::PageContext;
use super::ready_page;
use super::shop_health::{HealthLevel, ShopCondition};
use super::shop_row::{FeedExample, ShopRow};
use super::texts::{self, Text, text};
use crate::ops::{Ops, OpsState};

/// Value of the page that changes while the page is open.
pub(super) struct Cell {
    pub(super) id: String,
    pub(super) text: String,
    pub(super) severity: Option<HealthLevel>,
    /// Exact form of a rounded value, for the title of the element.
    pub(super) title: String,
}

impl Cell {
    pub(super) fn new(id: String, text: String) -> Self {
        Self {
            id,
            text,
            severity: None,
            title: String::new(),
        }
    }

    pub(super) fn severity_name(&self) -> &'static str {
        self.severity.map_or("", HealthLevel::name)
    }
}

/// Values of the page.
struct Overview {
    verdict: Cell,
    push_end: Cell,
    /// Verdict about the switch-over.
    readiness: Cell,
    alarms: Vec<AlarmCard>,
    shops: Vec<ShopRow>,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    layout: Layout,
    overview: Overview,
    structure: String,
}

impl OverviewPage {
    /// Returns the example for the first shop without stock.
    fn first_feed(&self) -> Option<&FeedExample> {
        let mut rows = self.overview.shops.iter();
        rows.find_map(|row| row.feed.as_ref())
    }
}

/// Serves the page.
pub(super) async fn page(
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
) -> Response {
    let Some(state) = ops.state() else {
        return super::layout::starting(choice.language);
    };
    let context = PageContext::new(state, choice.language, config.time_zone);
    ops.wait_for_readiness().await;
    let mut overview = Overview::collect(&ops, state, context);
    overview.add_sparklines(state, context);
    let layout = Layout::new(
        &ops,
        (config, &choice),
        state.clock.now(),
        (
            Screen::Overview,
            text(Text::Overview, choice.language).to_owned(),
        ),
        "/live/overview",
    );
    let structure = overview.live_values().structure_mark();
    render(&OverviewPage {
        layout,
        overview,
        structure,
    })
}

/// Serves the stream of changed values.
pub(super) async fn live(
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
) -> Response {
    let shared_ops = ops.clone();
    stream_values(&ops, (config, &choice), move |state, context| {
        Overview::collect(&shared_ops, state, context).live_values()
    })
}

impl Overview {
    fn collect(ops: &Ops, state: &OpsState, context: PageContext) -> Self {
        let (now, language) = (context.now, context.language);
        let shops: Vec<ShopRow> = state
            .shops_with_ids()
            .map(|shop| ShopRow::collect(state, shop, context))
            .collect();
        let in_sync = shops
            .iter()
            .filter(|row| row.condition == ShopCondition::InSync)
            .count();
        let alarms = state.alarms.active();
        let severities = shops.iter().map(|row| row.condition.severity());
        let of_alarms = (!alarms.is_empty()).then_some(HealthLevel::Trouble);
        let sentences = [
            texts::sync_verdict(in_sync as u64, shops.len() as u64, language),
            texts::alarm_count(alarms.len() as u64, language),
        ];
        let verdict = Cell {
            severity: severities.chain(of_alarms).max(),
            ..Cell::new("verdict".to_owned(), texts::join(&sentences, language))
        };
        let days = (state.cutoff - now.date_naive()).num_days();
        let push_end = Cell::new(
            "push-end".to_owned(),
            texts::days_left(days, &language.date(state.cutoff), language),
        );
        let alarms = alarms.iter();
        Self {
            verdict,
            push_end,
            readiness: ready_page::verdict_cell(ops.recent_readiness().as_ref(), language),
            alarms: alarms
                .map(|alarm| AlarmCard::new(alarm, state, context))
                .collect(),
            shops,
        }
    }

    /// Adds the charts of the last day, which the stream does not need.
    fn add_sparklines(&mut self, state: &OpsState, context: PageContext) {
        let rows = std::mem::take(&mut self.shops).into_iter();
        let rows = rows.zip(state.data.book.shops());
        let with_sparklines =
            |(row, id): (ShopRow, ShopId)| row.with_sparklines(state, id, context);
        self.shops = rows.map(with_sparklines).collect();
    }

    fn live_values(&self) -> LiveValues {
        let mut values = LiveValues::default();
        let rows = self.shops.iter();
        let cells = rows.flat_map(|row| {
            std::iter::once(&row.state).chain(row.cells.iter().map(|column| &column.cell))
        });
        for cell in [&self.verdict, &self.push_end, &self.readiness]
            .into_iter()
            .chain(cells)
        {
            values.set(&cell.id, &cell.text, cell.severity);
        }
        for alarm in &self.alarms {
            values.add_structure(&format!("{} {}", alarm.text.title, alarm.about));
        }
        for row in &self.shops {
            values.add_structure(&format!("{} {}", row.name, row.feed.is_some()));
        }
        values
    }
}
