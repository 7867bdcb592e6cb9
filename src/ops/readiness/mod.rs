//! Endpoint `/ready-report`: decides for each shop if the push API can be switched off.
//!
//! A shop is ready if the Market's recent requests are covered, everything is sent and
//! acknowledged, and a recent read-back explains the Market's whole copy.

mod cache;
mod checks;
mod reason;

use std::borrow::Cow;

use axum::Json;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

pub use self::cache::CachedReadiness;
pub(super) use self::cache::ReadinessCache;
use self::checks::ReadinessInputs;
pub use self::checks::{CheckResult, ReadinessCheck};
pub use self::reason::ReadinessReason;
use lifecycle::run_blocking;
use stock::{Hour, ShopId, SkuActivity};

use super::{OpsShop, OpsState, Started};
use crate::ingest::OriginTime;
use crate::migrator::Mode;
use crate::migrator::readback::MatchClass;
use crate::replicas::SendingReplica;

/// Time before the Market's last request of all. A SKU whose own last request is within this time
/// counts as recently requested.
const RECENT_WINDOW: TimeDelta = TimeDelta::hours(72);

/// Most missing SKUs in the report.
const MAX_MISSING_NAMED: usize = 20;

/// Responds with the report of this moment.
pub(super) async fn report(Started(state): Started) -> Json<ReadinessReport> {
    // The report visits every SKU, so it runs outside the threads that serve the Market.
    run_blocking(move || Json(state.readiness())).await
}

/// Report about all shops, as JSON and for the pages. For a client, reasons are texts.
#[derive(Debug, Deserialize, Serialize)]
pub struct ReadinessReport<Reason = ReadinessReason> {
    /// Time of the report.
    pub now: DateTime<Utc>,
    /// Date on which the push API ends.
    pub cutoff: NaiveDate,
    /// Days until then.
    pub days_to_cutoff: i64,
    /// `GO` if every shop is ready, otherwise `NOT YET`.
    pub verdict: Cow<'static, str>,
    /// All shops, in the order of the configuration.
    pub shops: Vec<ShopReadiness<Reason>>,
}

impl ReadinessReport {
    /// Returns true if every shop is ready.
    #[must_use]
    pub fn is_go(&self) -> bool {
        self.shops.iter().all(|shop| shop.reasons.is_empty())
    }
}

/// Readiness of one shop.
#[derive(Debug, Deserialize, Serialize)]
pub struct ShopReadiness<Reason = ReadinessReason> {
    /// Name of the shop.
    pub name: String,
    /// Forwarding target.
    pub address: String,
    /// Forwarding mode.
    pub migrate: Mode,
    /// `GO` or `NOT YET`.
    pub verdict: Cow<'static, str>,
    /// Reasons against switching off.
    pub reasons: Vec<Reason>,
    /// Remarks that do not change the verdict.
    pub remarks: Vec<Reason>,
    /// Coverage of the Market's recent requests.
    pub coverage: PushCoverage,
    /// Time of the Market's last request.
    pub last_push: Option<DateTime<Utc>>,
    /// Time of the last read-back with a full match.
    pub last_equal: Option<DateTime<Utc>>,
    hours_since_equal: Option<i64>,
    dirty: Option<usize>,
    quarantined: usize,
    drifted: u64,
    unknown_to_the_market: u64,
    /// Origins of the stock, with the time of the last statement.
    pub sources: Vec<OriginTime>,
    /// All checks, also those that are met.
    #[serde(skip)]
    pub checks: Vec<(ReadinessCheck, CheckResult)>,
}

/// Coverage of the Market's recent requests.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct PushCoverage {
    /// SKUs that the Market requested recently.
    pub asked: usize,
    /// Those of `asked` whose stock is in the book.
    pub in_book: usize,
    /// Those of `in_book` whose current stock the Market has acknowledged.
    pub acknowledged: usize,
    /// The first SKUs of `asked` whose stock is not in the book.
    missing: Vec<String>,
    /// True if `asked` is too low because not all unknown SKUs are remembered.
    incomplete: bool,
    #[serde(skip)]
    last_asked: Option<DateTime<Utc>>,
}

impl OpsState {
    fn readiness(&self) -> ReadinessReport {
        let now = self.clock.now();
        let shops: Vec<_> = self
            .shops_with_ids()
            .map(|(id, shop)| self.shop_readiness(id, shop))
            .collect();
        let is_go = shops.iter().all(|shop| shop.reasons.is_empty());
        ReadinessReport {
            now,
            cutoff: self.cutoff,
            days_to_cutoff: (self.cutoff - now.date_naive()).num_days(),
            verdict: verdict(is_go).into(),
            shops,
        }
    }

    fn shop_readiness(&self, id: ShopId, shop: &OpsShop) -> ShopReadiness {
        let now = self.clock.now();
        let coverage = self.coverage(id);
        let report = self.migrator.status(id);
        let readback = self.migrator.readback_report(id);
        let dirty = self.count_dirty(id);
        let last_equal = readback.as_ref().and_then(|readback| readback.last_equal);
        let inputs = ReadinessInputs {
            now,
            cutoff: self.cutoff,
            mode: shop.mode,
            not_sending_reason: self.not_sending_reason.as_deref(),
            other_replica: match self.sender(id) {
                Some(SendingReplica::Other(name)) => {
                    Some(ReadinessReason::OtherReplica(Some(name)))
                }
                Some(SendingReplica::Unknown) => Some(ReadinessReason::OtherReplica(None)),
                Some(SendingReplica::This { .. }) | None => None,
            },
            has_no_stock: self.data.book.is_empty(id),
            coverage: &coverage,
            report: report.as_ref(),
            readback: readback.as_ref(),
            dirty: dirty.unwrap_or_default(),
            silent_for: now
                - self
                    .origin_times
                    .latest(id)
                    .map_or(self.started, |(_, at)| at),
            stale_after: self.stale_after,
        };
        let checked = inputs.evaluate();
        let reasons: Vec<ReadinessReason> = checked.reasons().cloned().collect();
        let count = |class| {
            readback
                .as_ref()
                .map_or(0, |readback| readback.count(class))
        };
        ShopReadiness {
            name: shop.name.clone(),
            address: shop.address.clone(),
            migrate: shop.mode,
            verdict: verdict(reasons.is_empty()).into(),
            last_push: self.last_requests.last(id).or(coverage.last_asked),
            last_equal,
            hours_since_equal: last_equal.map(|at| (now - at).num_hours()),
            dirty,
            quarantined: report.as_ref().map_or(0, |report| report.quarantined.len()),
            drifted: count(MatchClass::Drifted),
            unknown_to_the_market: count(MatchClass::Unknown),
            sources: self.origin_times.by_name(id),
            reasons,
            remarks: checked.remarks,
            checks: checked.checks,
            coverage,
        }
    }

    fn coverage(&self, shop: ShopId) -> PushCoverage {
        let mut latest: Option<Hour> = None;
        self.data.book.for_each(shop, |_, entry| {
            latest = latest.max(self.data.activity.last_requested(shop, entry.id()));
        });
        let for_each_unknown = |visit: &mut dyn FnMut(&str, &SkuActivity)| {
            self.data
                .activity
                .for_each_unknown(shop, |sku, mark| visit(sku.as_str(), mark))
        };
        for_each_unknown(&mut |_, mark| latest = latest.max(mark.last_requested()));
        let Some(latest) = latest else {
            return PushCoverage::default();
        };
        let since = latest.start().to_utc() - RECENT_WINDOW;
        let is_recent = |hour: Option<Hour>| hour.is_some_and(|h| h.start().to_utc() >= since);
        let mut coverage = PushCoverage {
            last_asked: Some(latest.start().to_utc()),
            ..PushCoverage::default()
        };
        self.data.book.for_each(shop, |_, entry| {
            if is_recent(self.data.activity.last_requested(shop, entry.id())) {
                coverage.in_book += 1;
                let acked = self.data.ledger.get(shop, entry.id()).level();
                coverage.acknowledged += usize::from(acked == Some(entry.level()));
            }
        });
        coverage.asked = coverage.in_book;
        coverage.incomplete = for_each_unknown(&mut |sku, mark| {
            if is_recent(mark.last_requested()) {
                coverage.asked += 1;
                if coverage.missing.len() < MAX_MISSING_NAMED {
                    coverage.missing.push(sku.to_owned());
                }
            }
        });
        coverage
    }
}

fn verdict(is_go: bool) -> &'static str {
    if is_go { "GO" } else { "NOT YET" }
}
