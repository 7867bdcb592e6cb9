//! Overview: the verdict, the alarms, and one row for each shop.

use askama::Template;
use axum::response::Response;

use super::alarm_card::AlarmCard;
use super::cell::Cell;
use super::layout::{Layout, Screen, render};
use super::live::{LiveValues, stream_values};
use super::page_context::PageContext;
use super::page_request::PageRequest;
use super::ready_page;
use super::replica_panel::ReplicaPanel;
use super::shop_health::{HealthLevel, ShopCondition};
use super::shop_row::{FeedExample, ShopRow};
use super::texts::{self, Text};

/// Values of the page.
struct Overview {
    verdict: Cell,
    push_end: Cell,
    /// Verdict about the switch-over.
    readiness: Cell,
    alarms: Vec<AlarmCard>,
    alarm_count: usize,
    shops: Vec<ShopRow>,
    /// `None` if this process alone uses its store.
    replicas: Option<ReplicaPanel>,
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
pub(super) async fn page(page: PageRequest) -> Response {
    let (state, context) = (page.state(), page.context());
    page.ops.wait_for_readiness().await;
    let mut overview = Overview::collect(&page, context);
    for (row, id) in overview.shops.iter_mut().zip(state.data.book.shops()) {
        // The stream does not need these.
        row.add_sparklines(state, id, context);
    }
    let title = page.text(Text::OVERVIEW);
    render(&OverviewPage {
        layout: Layout::new(&page, Screen::Overview, title, "/live/overview"),
        structure: overview.live_values().structure_mark(),
        overview,
    })
}

/// Serves the stream of changed values.
pub(super) async fn live(page: PageRequest) -> Response {
    stream_values(page, |page| {
        Overview::collect(page, page.context()).live_values()
    })
}

impl Overview {
    fn collect(page: &PageRequest, context: PageContext) -> Self {
        let (state, language) = (page.state(), context.language);
        let shops: Vec<ShopRow> = state
            .shops_with_ids()
            .map(|(id, shop)| ShopRow::collect(state, id, shop, context))
            .collect();
        let in_sync = shops
            .iter()
            .filter(|row| row.condition == ShopCondition::InSync)
            .count();
        let elsewhere = shops
            .iter()
            .filter(|row| row.condition == ShopCondition::SentElsewhere)
            .count();
        let known = shops.len() - elsewhere;
        let sync_verdict = if known == 0 && elsewhere > 0 {
            String::new()
        } else {
            texts::sync_verdict(in_sync as u64, known as u64, language)
        };
        let alarms = state.alarms.active();
        let severities = shops.iter().map(|row| row.condition.severity());
        let of_alarms = (!alarms.is_empty()).then_some(HealthLevel::Trouble);
        let verdict = texts::join(
            &[
                sync_verdict,
                texts::sent_elsewhere_verdict(elsewhere as u64, language),
                texts::alarm_count(alarms.len() as u64, language),
            ],
            language,
        );
        let days = (state.cutoff - context.now.date_naive()).num_days();
        let push_end = texts::days_left(days, &language.date(state.cutoff), language);
        Self {
            verdict: Cell::new("verdict", verdict).with_severity(severities.chain(of_alarms).max()),
            push_end: Cell::new("push-end", push_end),
            readiness: ready_page::verdict_cell(page.ops.recent_readiness().as_ref(), language),
            alarms: AlarmCard::collect(&alarms, state, context),
            alarm_count: alarms.len(),
            shops,
            replicas: ReplicaPanel::collect(state, context),
        }
    }

    fn live_values(&self) -> LiveValues {
        let mut values = LiveValues::default();
        values.add([&self.verdict, &self.push_end, &self.readiness]);
        for row in &self.shops {
            values.add([&row.state]);
            values.add(row.cells.iter().map(|column| &column.cell));
        }
        values.add_structure(&self.alarm_count.to_string());
        for card in &self.alarms {
            for alarm in &card.subjects {
                values.add_structure(&format!("{} {}", card.kind.name(), alarm.about));
            }
        }
        for row in &self.shops {
            values.add_structure(&format!("{} {}", row.name, row.feed.is_some()));
        }
        if let Some(replicas) = &self.replicas {
            replicas.add_to(&mut values);
        }
        values
    }
}
