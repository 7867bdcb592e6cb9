//! List of the stock that an approval would change, as a page shows it.

use chrono::DateTime;
use serde::Deserialize;

use super::cell::{Cell, NamedCell};
use super::format;
use super::links::sku_path;
use super::page_context::PageContext;
use super::page_request::PageRequest;
use super::shop_health::HealthLevel;
use super::source_card::{counts, report_facts, scope_text};
use super::texts::{self, Text};
use super::visible::visible;
use crate::i18n::Language;
use crate::sources::{
    AbsentPolicy, DeliveryOutcome, DeliveryPipeline, DeliveryReport, HeldDelivery, HeldPreview,
    PipelineError, RULES_NAME, StockChangeKind,
};

/// Changes on one page.
pub(super) const PAGE_SIZE: u32 = 100;

/// Link to the list of one kind of changes.
pub(super) struct KindTab {
    pub(super) name: &'static str,
    pub(super) count: Cell,
    pub(super) link: String,
    pub(super) is_current: bool,
}

/// Change of one SKU.
pub(super) struct ChangeRow {
    pub(super) sku: String,
    pub(super) link: String,
    pub(super) old: String,
    pub(super) new: String,
    pub(super) is_zero: bool,
    /// The delivery lacks the SKU.
    pub(super) is_absent: bool,
}

/// Effect of an approval on the SKUs that the delivery lacks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AbsenceEffect {
    /// They become zero: so many that are in stock, of all that become zero.
    BecomeZero { absent: u64, zeros: u64 },
    /// They keep their stock, because the delivery is a delta.
    KeptByDelta,
    /// They keep their stock, because the source has `absent = "keep"`.
    KeptBySetting,
    /// They keep their stock, although the source has `absent = "zero"`.
    NotApplied,
}

impl AbsenceEffect {
    pub(super) const fn severity(self) -> HealthLevel {
        match self {
            Self::BecomeZero { absent: 0, .. } | Self::KeptByDelta | Self::KeptBySetting => {
                HealthLevel::Good
            }
            Self::BecomeZero { .. } | Self::NotApplied => HealthLevel::Attention,
        }
    }
}

/// Sentence about the SKUs that the delivery lacks.
pub(super) struct AbsenceNote {
    pub(super) text: String,
    pub(super) severity: HealthLevel,
    /// Reason why `absent = "zero"` is not applied, in English. Empty if it is not known any more.
    pub(super) reason: String,
}

/// Held delivery or rules, with the changes that they would make.
pub(super) struct HeldView {
    pub(super) accept_action: String,
    pub(super) reasons: Vec<String>,
    /// Effect on absent SKUs; `None` for rules.
    pub(super) absence: Option<AbsenceNote>,
    pub(super) facts: Vec<NamedCell>,
    /// Counts of the delivery, as its report has them.
    pub(super) counts: Vec<NamedCell>,
    /// Names of the files that keep what is held.
    pub(super) files: Vec<String>,
    pub(super) compared: String,
    pub(super) changes: String,
    pub(super) tabs: Vec<KindTab>,
    pub(super) rows: Vec<ChangeRow>,
    pub(super) page_text: String,
    pub(super) previous: Option<String>,
    pub(super) next: Option<String>,
}

/// Result of an approval.
pub(super) struct AcceptedView {
    pub(super) facts: Vec<NamedCell>,
    pub(super) counts: Vec<NamedCell>,
}

/// Part of the list, and the result of a form as the redirect after it names it.
#[derive(Default, Deserialize)]
pub(super) struct HeldParams {
    kind: Option<String>,
    page: Option<u64>,
    pub(super) done: Option<String>,
}

impl HeldParams {
    pub(super) fn kind(&self) -> Option<StockChangeKind> {
        StockChangeKind::from_name(self.kind.as_deref()?)
    }

    /// Returns the number of the page, from 1.
    pub(super) fn page(&self) -> u64 {
        self.page.unwrap_or(1).max(1)
    }
}

/// Held deliveries or rules under a name, for a request.
pub(super) struct HeldSubject<'a> {
    pub(super) page: &'a PageRequest,
    pub(super) pipeline: &'a DeliveryPipeline,
    /// Name of a source, or [`RULES_NAME`].
    pub(super) source: String,
    pub(super) context: PageContext,
}

impl HeldSubject<'_> {
    pub(super) fn is_rules(&self) -> bool {
        self.source == RULES_NAME
    }

    /// Returns the last delivery, if it was applied.
    pub(super) fn accepted(&self) -> Option<AcceptedView> {
        let index = self.pipeline.source_index(&self.source)?;
        let status = self.pipeline.status(index);
        let report = status
            .last_report
            .filter(|report| report.outcome == DeliveryOutcome::Applied)?;
        let at = self.context.full(status.last_report_at?);
        let mut facts = vec![self.fact(Text::LAST_DELIVERY, at)];
        let others = report_facts(&report, self.context);
        facts.extend(others.map(|(label, _, value)| self.fact(label, value)));
        Some(AcceptedView {
            facts,
            counts: counts(&report, self.context),
        })
    }

    pub(super) async fn view(
        &self,
        preview: &HeldPreview,
        params: &HeldParams,
    ) -> Result<HeldView, PipelineError> {
        let language = self.context.language;
        let shop = self.pipeline.shop_name();
        let address = format!("/sources/{shop}/{}/held", self.source);
        let kind = params.kind();
        let total = kind.map_or(preview.totals.all(), |kind| preview.totals.of(kind));
        let pages = total.div_ceil(u64::from(PAGE_SIZE)).max(1);
        let page = params.page().min(pages);
        let offset = (page - 1) * u64::from(PAGE_SIZE);
        let changes = preview.changes(kind, offset, PAGE_SIZE).await?;
        let of_kind = kind.map_or_else(String::new, |kind| format!("kind={}&", kind.name()));
        let link = |page: u64| format!("{address}?{of_kind}page={page}");
        let at = self.context.full(preview.compared_at);
        let took = format::duration(preview.duration_ms, language);
        Ok(HeldView {
            accept_action: format!("{address}?delivery={}", preview.mark),
            reasons: self.reasons(&preview.held),
            absence: self.absence(preview),
            facts: self.facts(preview),
            counts: self.held_counts(),
            files: preview.held.iter().map(|held| held.file.clone()).collect(),
            compared: texts::compared(&at, &took, language),
            changes: texts::stock_changes(preview.totals.all(), language),
            tabs: tabs(&address, preview, kind, language),
            rows: changes
                .iter()
                .map(|change| ChangeRow {
                    sku: visible(&change.sku),
                    link: sku_path(shop, &change.sku),
                    old: change
                        .old
                        .map_or_else(|| "–".to_owned(), |old| self.context.number(old)),
                    new: self.context.number(change.new),
                    is_zero: change.kind == StockChangeKind::BecomesZero,
                    is_absent: change.is_absent,
                })
                .collect(),
            page_text: texts::page_of(page, pages, language),
            previous: (page > 1).then(|| link(page - 1)),
            next: (page < pages).then(|| link(page + 1)),
        })
    }

    /// Returns the report of the last delivery, if it is held. A restart deletes it.
    fn held_report(&self) -> Option<DeliveryReport> {
        let index = self.pipeline.source_index(&self.source)?;
        let report = self.pipeline.status(index).last_report?;
        matches!(report.outcome, DeliveryOutcome::Held(_)).then_some(report)
    }

    fn held_counts(&self) -> Vec<NamedCell> {
        self.held_report()
            .map_or_else(Vec::new, |report| counts(&report, self.context))
    }

    fn absence(&self, preview: &HeldPreview) -> Option<AbsenceNote> {
        let effect = absence_effect(self.pipeline, &self.source, preview)?;
        let reason = || Some(visible(&self.held_report()?.absence_not_applied?));
        Some(AbsenceNote {
            text: texts::absence(effect, self.context.language),
            severity: effect.severity(),
            reason: match effect {
                AbsenceEffect::NotApplied => reason().unwrap_or_default(),
                AbsenceEffect::BecomeZero { .. }
                | AbsenceEffect::KeptByDelta
                | AbsenceEffect::KeptBySetting => String::new(),
            },
        })
    }

    fn reasons(&self, held: &[HeldDelivery]) -> Vec<String> {
        let language = self.context.language;
        if self.is_rules() {
            let rules = self.pipeline.held_rules();
            let reason = rules.map(|rules| rules.reason);
            return texts::hold_reasons(reason.as_slice(), language);
        }
        let mut reasons = Vec::new();
        for held in held {
            for reason in texts::hold_reasons(&held.reasons, language) {
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
        }
        reasons
    }

    fn fact(&self, name: Text, value: impl Into<String>) -> NamedCell {
        NamedCell {
            name: self.context.text(name),
            cell: Cell::new("", value),
        }
    }

    fn facts(&self, preview: &HeldPreview) -> Vec<NamedCell> {
        let context = self.context;
        let time = |micros: i64| {
            let at = DateTime::from_timestamp_micros(micros);
            at.map_or_else(String::new, |at| context.full(at))
        };
        let mut facts = Vec::new();
        if let Some(rules) = self.pipeline.held_rules().filter(|_| self.is_rules()) {
            facts.push(self.fact(Text::HELD_SINCE, context.full(rules.since)));
        }
        if let Some(first) = preview.held.first() {
            facts.push(self.fact(Text::HELD_SINCE, time(first.since)));
        }
        for held in &preview.held {
            let scope = context.text(scope_text(held.is_snapshot));
            let times = context.number(held.times.saturating_sub(1));
            facts.push(self.fact(Text::STOCK_DATE, time(held.at)));
            facts.push(self.fact(Text::SCOPE, scope));
            facts.push(self.fact(Text::HELD_TIMES, times));
        }
        facts.push(self.fact(Text::UNCHANGED_COLUMN, context.number(preview.unchanged)));
        facts.push(self.fact(Text::OUTDATED_COLUMN, context.number(preview.outdated)));
        facts
    }
}

/// Returns the effect of the held deliveries of a source on absent SKUs; `None` for rules.
pub(super) fn absence_effect(
    pipeline: &DeliveryPipeline,
    source: &str,
    preview: &HeldPreview,
) -> Option<AbsenceEffect> {
    let policy = pipeline.policy(pipeline.source_index(source)?);
    // A snapshot replaces what was held before it, and deltas may be held after it.
    let snapshot = preview.held.iter().find(|held| held.is_snapshot);
    Some(match (snapshot, policy.absent) {
        (None, AbsentPolicy::Keep | AbsentPolicy::Zero) => AbsenceEffect::KeptByDelta,
        (Some(_), AbsentPolicy::Keep) => AbsenceEffect::KeptBySetting,
        (Some(held), AbsentPolicy::Zero) if !held.implies_absence => AbsenceEffect::NotApplied,
        (Some(_), AbsentPolicy::Zero) => AbsenceEffect::BecomeZero {
            absent: preview.totals.absent_zeros(),
            zeros: preview.totals.of(StockChangeKind::BecomesZero),
        },
    })
}

/// Links to all changes and to those of each kind.
fn tabs(
    address: &str,
    preview: &HeldPreview,
    current: Option<StockChangeKind>,
    language: Language,
) -> Vec<KindTab> {
    let tab = |kind: Option<StockChangeKind>| {
        let label = match kind {
            None => Text::ALL,
            Some(StockChangeKind::BecomesZero) => Text::ZERO_KIND,
            Some(StockChangeKind::Lower) => Text::LOWER_KIND,
            Some(StockChangeKind::Higher) => Text::HIGHER_KIND,
            Some(StockChangeKind::New) => Text::NEW_KIND,
        };
        let totals = &preview.totals;
        let count = kind.map_or(totals.all(), |kind| totals.of(kind));
        let query = kind.map_or_else(String::new, |kind| format!("?kind={}", kind.name()));
        let is_dangerous = kind == Some(StockChangeKind::BecomesZero) && count > 0;
        KindTab {
            name: label.in_language(language),
            count: Cell::new("", language.number(count))
                .with_severity(is_dangerous.then_some(HealthLevel::Attention)),
            link: format!("{address}{query}"),
            is_current: current == kind,
        }
    };
    let kinds = StockChangeKind::ALL.into_iter().map(Some);
    std::iter::once(None).chain(kinds).map(tab).collect()
}
