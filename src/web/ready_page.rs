//! Switch-over: the readiness report as a check list, with links to the causes.

use askama::Template;
use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use chrono::FixedOffset;
use serde::Deserialize;

use super::Config;
use super::format;
use super::language_choice::LanguageChoice;
use super::layout::{Layout, Screen, render};
use super::links::{shop_path, sku_path};
use super::live::{LiveValues, stream_values};
use super::overview::Cell;
use super::shop_health::HealthLevel;
use super::texts::{self, Text, text};
use super::visible::visible;
use crate::i18n::{Language, zone_name};
use crate::ops::{
    CachedReadiness, CheckResult, Ops, ReadinessCheck, ReadinessReason, ShopReadiness,
};

/// Most SKUs that a check links to.
const MAX_LINKED_SKUS: usize = 5;

/// Link to a cause.
struct CauseLink {
    text: String,
    address: String,
    is_sku: bool,
}

/// One check of a shop.
struct CheckLine {
    title: &'static str,
    /// Reason, or empty if the check has passed.
    reason: Cell,
    /// The service's or the Market's own words, in English.
    detail: String,
    /// Element that a person ticks.
    tick_id: String,
    severity_name: &'static str,
    links: Vec<CauseLink>,
}

/// One shop with its checks.
struct ShopChecks {
    name: String,
    heading_id: String,
    link: String,
    verdict: Cell,
    coverage: [(&'static str, String); 3],
    last_push: String,
    last_match: String,
    checks: Vec<CheckLine>,
    remarks: Vec<String>,
}

/// Values of the page.
struct CheckList {
    verdict: Cell,
    as_of: Cell,
    push_end: String,
    shops: Vec<ShopChecks>,
}

#[derive(Template)]
#[template(path = "ready.html")]
struct ReadyPage {
    layout: Layout,
    list: CheckList,
    structure: String,
}

/// Request for a new report.
#[derive(Default, Deserialize)]
pub(super) struct ReadyParams {
    again: Option<String>,
}

/// Serves the page.
pub(super) async fn page(
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
    params: Result<Query<ReadyParams>, QueryRejection>,
) -> Response {
    let language = choice.language;
    let Query(params) = params.unwrap_or_default();
    let readiness = ops.readiness(params.again.is_some()).await;
    let (Some(state), Some(readiness)) = (ops.state(), readiness) else {
        return super::layout::starting(language);
    };
    let list = CheckList::new(&readiness, language, config.time_zone);
    let title = text(Text::SwitchOver, language).to_owned();
    let layout = Layout::new(
        &ops,
        (config, &choice),
        state.clock.now(),
        (Screen::SwitchOver, title),
        "/live/ready",
    );
    let structure = list.live_values().structure_mark();
    render(&ReadyPage {
        layout,
        list,
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
    // While a new report is computed, the last one stays.
    let mut last = None;
    stream_values(&ops, (config, &choice), move |_, context| {
        if let Some(recent) = shared_ops.recent_readiness() {
            last = Some(recent);
        }
        last.as_ref().map_or_else(LiveValues::default, |readiness| {
            CheckList::new(readiness, context.language, context.zone).live_values()
        })
    })
}

/// Verdict about all shops, for this page and the overview.
pub(super) fn verdict_cell(readiness: Option<&CachedReadiness>, language: Language) -> Cell {
    let id = "readiness".to_owned();
    let Some(readiness) = readiness else {
        let pending = text(Text::ReadinessPending, language).to_owned();
        return Cell {
            severity: Some(HealthLevel::Waiting),
            ..Cell::new(id, pending)
        };
    };
    let report = &readiness.report;
    let mut reasons = report.shops.iter().flat_map(|shop| {
        let reasons = shop.reasons.iter();
        reasons.map(move |reason| (shop.name.as_str(), reason))
    });
    let first = reasons.next().map(|(shop, reason)| {
        let reason = texts::readiness_reason(reason, language);
        if report.shops.len() > 1 {
            format!("{shop}: {reason}")
        } else {
            reason
        }
    });
    let others = reasons.count() as u64;
    let severity = if first.is_none() {
        HealthLevel::Good
    } else {
        HealthLevel::Attention
    };
    Cell {
        severity: Some(severity),
        ..Cell::new(
            id,
            texts::readiness_verdict(first.as_deref(), others, language),
        )
    }
}

impl CheckList {
    fn new(readiness: &CachedReadiness, language: Language, zone: FixedOffset) -> Self {
        let report = &readiness.report;
        let date = language.date(report.cutoff);
        let time = format!(
            "{} {}",
            language.date_time(report.now, zone),
            zone_name(zone)
        );
        Self {
            verdict: verdict_cell(Some(readiness), language),
            as_of: Cell::new("as-of".to_owned(), texts::as_of(&time, language)),
            push_end: texts::days_left(report.days_to_cutoff, &date, language),
            shops: report
                .shops
                .iter()
                .map(|shop| ShopChecks::new(shop, language, zone))
                .collect(),
        }
    }

    fn live_values(&self) -> LiveValues {
        let mut values = LiveValues::default();
        let shops = self.shops.iter();
        let cells = shops.flat_map(|shop| {
            let reasons = shop.checks.iter().map(|check| &check.reason);
            std::iter::once(&shop.verdict).chain(reasons)
        });
        for cell in [&self.verdict, &self.as_of].into_iter().chain(cells) {
            values.set(&cell.id, &cell.text, cell.severity);
        }
        // Links and remarks change with the reasons, so the page is loaded again for those.
        for shop in &self.shops {
            values.add_structure(&format!("{} {:?}", shop.name, shop.remarks));
            for check in &shop.checks {
                let links = check.links.iter().map(|link| link.address.as_str());
                let links: Vec<&str> = links.collect();
                let (severity, detail) = (check.severity_name, &check.detail);
                values.add_structure(&format!("{severity} {detail} {links:?}"));
            }
        }
        values
    }
}

impl ShopChecks {
    fn new(shop: &ShopReadiness, language: Language, zone: FixedOffset) -> Self {
        let is_ready = shop.reasons.is_empty();
        let severity = if is_ready {
            HealthLevel::Good
        } else {
            HealthLevel::Attention
        };
        let id = |part: &str| format!("{}-{part}", shop.name);
        let verdict = Cell {
            severity: Some(severity),
            ..Cell::new(
                id("verdict"),
                texts::shop_verdict(is_ready, language).to_owned(),
            )
        };
        let number = |n: usize| language.number(n as u64);
        let time = |at: Option<_>| {
            at.map_or_else(
                || text(Text::Never, language).to_owned(),
                |at| format::full(at, zone, language),
            )
        };
        Self {
            heading_id: id("checks"),
            link: shop_path(&shop.name),
            verdict,
            coverage: [
                (text(Text::Coverage, language), number(shop.coverage.asked)),
                (
                    text(Text::CoverageKnown, language),
                    number(shop.coverage.in_book),
                ),
                (
                    text(Text::CoverageAcknowledged, language),
                    number(shop.coverage.acknowledged),
                ),
            ],
            last_push: time(shop.last_push),
            last_match: time(shop.last_equal),
            checks: shop
                .checks
                .iter()
                .map(|(check, result)| CheckLine::new(&shop.name, (*check, result), language))
                .collect(),
            remarks: shop
                .remarks
                .iter()
                .map(|remark| texts::readiness_reason(remark, language))
                .collect(),
            name: shop.name.clone(),
        }
    }
}

impl CheckLine {
    fn new(
        shop: &str,
        (check, result): (ReadinessCheck, &CheckResult),
        language: Language,
    ) -> Self {
        let sentence = |reason| texts::readiness_reason(reason, language);
        let (severity, sentence, links) = match result {
            CheckResult::Passed => (HealthLevel::Good, String::new(), Vec::new()),
            CheckResult::Failed(reason) => {
                let links = cause_links(shop, reason, language);
                (HealthLevel::Trouble, sentence(reason), links)
            }
            CheckResult::NotNeeded(reason) => (HealthLevel::Good, sentence(reason), Vec::new()),
            CheckResult::NotChecked => {
                let sentence = text(Text::CheckNotChecked, language).to_owned();
                (HealthLevel::Waiting, sentence, Vec::new())
            }
        };
        let detail = match result {
            CheckResult::Failed(reason) | CheckResult::NotNeeded(reason) => reason.detail(),
            CheckResult::Passed | CheckResult::NotChecked => None,
        };
        let id = format!("{shop}-check-{}", check.name());
        Self {
            title: texts::readiness_check(check, language),
            tick_id: format!("{id}-tick"),
            reason: Cell::new(id, sentence),
            detail: visible(detail.unwrap_or_default()),
            severity_name: severity.name(),
            links,
        }
    }
}

/// Returns the pages on which the cause of a reason is seen.
fn cause_links(shop: &str, reason: &ReadinessReason, language: Language) -> Vec<CauseLink> {
    let to_sku = |sku: &String| CauseLink {
        text: visible(sku),
        address: sku_path(shop, sku),
        is_sku: true,
    };
    let to_shop = || {
        vec![CauseLink {
            text: format!("{}: {shop}", text(Text::Shop, language)),
            address: shop_path(shop),
            is_sku: false,
        }]
    };
    match reason {
        ReadinessReason::MissingStock { examples, .. } => {
            examples.iter().take(MAX_LINKED_SKUS).map(to_sku).collect()
        }
        ReadinessReason::Rejected { sku, .. } => vec![to_sku(sku)],
        ReadinessReason::NoStock | ReadinessReason::SourcesSilent(_) => vec![CauseLink {
            text: text(Text::Sources, language).to_owned(),
            address: "/sources".to_owned(),
            is_sku: false,
        }],
        ReadinessReason::NotSending(_)
        | ReadinessReason::ModeNotOn(_)
        | ReadinessReason::NothingRequested
        | ReadinessReason::NotAcknowledged(_)
        | ReadinessReason::RequestsForgotten
        | ReadinessReason::WaitingToSend(_)
        | ReadinessReason::Paused(_)
        | ReadinessReason::Drifted(_)
        | ReadinessReason::NotShown(_)
        | ReadinessReason::FullMatchTooOld(_)
        | ReadinessReason::NeverFullMatch
        | ReadinessReason::NotOurs(_) => to_shop(),
    }
}
