//! Switch-over: the readiness report as a check list, with links to the causes.

use askama::Template;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::response::Response;
use serde::Deserialize;

use super::cell::Cell;
use super::layout::{Layout, Screen, render, starting};
use super::links::{PageLink, shop_path};
use super::live::{LiveValues, stream_values};
use super::page_context::PageContext;
use super::page_request::PageRequest;
use super::shop_health::HealthLevel;
use super::texts::{self, Text};
use super::visible::visible;
use crate::i18n::Language;
use crate::ops::{CachedReadiness, CheckResult, ReadinessCheck, ReadinessReason, ShopReadiness};

/// Most SKUs that a check links to.
const MAX_LINKED_SKUS: usize = 5;

/// One check of a shop.
struct CheckLine {
    title: &'static str,
    /// Reason, or empty if the check has passed.
    reason: Cell,
    /// The service's or the Market's own words, in English.
    detail: String,
    /// Element that a person ticks.
    tick_id: String,
    severity: HealthLevel,
    links: Vec<PageLink>,
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
    page: PageRequest,
    params: Result<Query<ReadyParams>, QueryRejection>,
) -> Response {
    let Query(params) = params.unwrap_or_default();
    let Some(readiness) = page.ops.readiness(params.again.is_some()).await else {
        return starting(page.language);
    };
    let list = CheckList::new(&readiness, page.context());
    let title = page.text(Text::SWITCH_OVER);
    render(&ReadyPage {
        layout: Layout::new(&page, Screen::SwitchOver, title, "/live/ready"),
        structure: list.live_values().structure_mark(),
        list,
    })
}

/// Serves the stream of changed values.
pub(super) async fn live(page: PageRequest) -> Response {
    // While a new report is computed, the last one stays.
    let mut last = None;
    stream_values(page, move |page| {
        last = page.ops.recent_readiness().or(last.take());
        last.as_ref().map_or_else(LiveValues::default, |readiness| {
            CheckList::new(readiness, page.context()).live_values()
        })
    })
}

/// Verdict about all shops, for this page and the overview.
pub(super) fn verdict_cell(readiness: Option<&CachedReadiness>, language: Language) -> Cell {
    let Some(readiness) = readiness else {
        let pending = Text::READINESS_PENDING.in_language(language);
        return Cell::new("readiness", pending).with_severity(HealthLevel::Waiting);
    };
    let shops = &readiness.report.shops;
    let mut reasons = shops.iter().flat_map(|shop| {
        let reasons = shop.reasons.iter();
        reasons.map(move |reason| (&shop.name, texts::readiness_reason(reason, language)))
    });
    let first = reasons.next().map(|(shop, reason)| {
        if shops.len() > 1 {
            format!("{shop}: {reason}")
        } else {
            reason
        }
    });
    let others = reasons.count() as u64;
    let verdict = texts::readiness_verdict(first.as_deref(), others, language);
    Cell::new("readiness", verdict).with_severity(HealthLevel::attention_unless(first.is_none()))
}

impl CheckList {
    fn new(readiness: &CachedReadiness, context: PageContext) -> Self {
        let (report, language) = (&readiness.report, context.language);
        let date = language.date(report.cutoff);
        let as_of = texts::as_of(&context.full(report.now), language);
        let shops = report.shops.iter();
        Self {
            verdict: verdict_cell(Some(readiness), language),
            as_of: Cell::new("as-of", as_of),
            push_end: texts::days_left(report.days_to_cutoff, &date, language),
            shops: shops.map(|shop| ShopChecks::new(shop, context)).collect(),
        }
    }

    fn live_values(&self) -> LiveValues {
        let mut values = LiveValues::default();
        values.add([&self.verdict, &self.as_of]);
        for shop in &self.shops {
            values.add([&shop.verdict]);
            values.add(shop.checks.iter().map(|check| &check.reason));
            // Links and remarks change with the reasons, so the page is loaded again for those.
            values.add_structure(&format!("{} {:?}", shop.name, shop.remarks));
            for check in &shop.checks {
                let links = check.links.iter().map(|link| link.address.as_str());
                let links: Vec<&str> = links.collect();
                let (severity, detail) = (check.severity.name(), &check.detail);
                values.add_structure(&format!("{severity} {detail} {links:?}"));
            }
        }
        values
    }
}

impl ShopChecks {
    fn new(shop: &ShopReadiness, context: PageContext) -> Self {
        let language = context.language;
        let is_ready = shop.reasons.is_empty();
        let id = |part: &str| format!("{}-{part}", shop.name);
        let coverage = &shop.coverage;
        let number = |name, n: usize| (context.text(name), context.number(n as u64));
        let time = |at: Option<_>| {
            let never = || context.text(Text::NEVER).to_owned();
            at.map_or_else(never, |at| context.full(at))
        };
        // Only the replica that sends reads the Market's copy back.
        let is_elsewhere = shop
            .reasons
            .iter()
            .any(|reason| matches!(reason, ReadinessReason::OtherReplica(_)));
        let (checks, remarks) = (shop.checks.iter(), shop.remarks.iter());
        Self {
            heading_id: id("checks"),
            link: shop_path(&shop.name),
            verdict: Cell::new(id("verdict"), texts::shop_verdict(is_ready, language))
                .with_severity(HealthLevel::attention_unless(is_ready)),
            coverage: [
                number(Text::COVERAGE, coverage.asked),
                number(Text::COVERAGE_KNOWN, coverage.in_book),
                number(Text::COVERAGE_ACKNOWLEDGED, coverage.acknowledged),
            ],
            last_push: time(shop.last_push),
            last_match: if is_elsewhere {
                "–".to_owned()
            } else {
                time(shop.last_equal)
            },
            checks: checks
                .map(|(check, result)| CheckLine::new(&shop.name, *check, result, language))
                .collect(),
            remarks: remarks
                .map(|remark| texts::readiness_reason(remark, language))
                .collect(),
            name: shop.name.clone(),
        }
    }
}

impl CheckLine {
    fn new(shop: &str, check: ReadinessCheck, result: &CheckResult, language: Language) -> Self {
        let (severity, reason) = match result {
            CheckResult::Passed => (HealthLevel::Good, None),
            // It is checked on another replica.
            CheckResult::Failed(reason @ ReadinessReason::OtherReplica(Some(_))) => {
                (HealthLevel::Waiting, Some(reason))
            }
            CheckResult::Failed(reason) => (HealthLevel::Trouble, Some(reason)),
            CheckResult::NotNeeded(reason) => (HealthLevel::Good, Some(reason)),
            CheckResult::NotChecked => (HealthLevel::Waiting, None),
        };
        let sentence = match result {
            CheckResult::NotChecked => Text::CHECK_NOT_CHECKED.in_language(language).to_owned(),
            _ => reason.map_or_else(String::new, |it| texts::readiness_reason(it, language)),
        };
        let id = format!("{shop}-check-{}", check.name());
        Self {
            title: texts::readiness_check(check, language),
            tick_id: format!("{id}-tick"),
            reason: Cell::new(id, sentence),
            detail: visible(reason.and_then(ReadinessReason::detail).unwrap_or_default()),
            severity,
            links: match result {
                CheckResult::Failed(reason) => cause_links(shop, reason, language),
                _ => Vec::new(),
            },
        }
    }
}

/// Returns the pages on which the cause of a reason is seen.
fn cause_links(shop: &str, reason: &ReadinessReason, language: Language) -> Vec<PageLink> {
    let to_sku = |sku: &String| PageLink::to_sku(shop, sku);
    let to_shop = || {
        let text = format!("{}: {shop}", Text::SHOP.in_language(language));
        vec![PageLink::new(text, shop_path(shop))]
    };
    match reason {
        ReadinessReason::MissingStock { examples, .. } => {
            examples.iter().take(MAX_LINKED_SKUS).map(to_sku).collect()
        }
        ReadinessReason::Rejected { sku, .. } => vec![to_sku(sku)],
        ReadinessReason::NoStock | ReadinessReason::SourcesSilent(_) => {
            let text = Text::SOURCES.in_language(language);
            vec![PageLink::new(text, "/sources")]
        }
        ReadinessReason::NotSending(_)
        | ReadinessReason::ModeNotOn(_)
        | ReadinessReason::OtherReplica(_)
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
