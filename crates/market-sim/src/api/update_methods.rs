//! Update methods for campaigns and businesses: charging, storing, and the faults of the plan.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use chrono::{DateTime, Utc};
use serde_json::json;

use super::request_checks::require_json;
use super::sim_request::SimRequest;
use super::simulator_config::SimKeyScope;
use super::{MarketSimulator, PlannedOutcome, as_u64};
use crate::faults::{LineOutcome, MarketFault};
use crate::quota::{QuotaOwner, QuotaTracker};
use crate::registry::SimCampaign;
use crate::request_validation::{self, ParsedUpdate, SimUpdateLine};
use crate::responses::{self, SimError, SimResult};
use crate::simulator_report::{MarketViolation, RequestOutcome};

/// Wait that [`MarketFault::VolumeLimit`] requests.
const RATE_LIMIT_WAIT: Duration = Duration::from_secs(3);

/// Lines of an update for one warehouse, sent through one campaign.
struct SimCampaignUpdate {
    campaign: Arc<SimCampaign>,
    lines: Vec<SimUpdateLine>,
}

impl MarketSimulator {
    /// Handles `PUT /v2/campaigns/{campaignId}/offers/stocks`.
    pub(super) async fn update(&self, request: &mut SimRequest) -> SimResult {
        let campaign = self.authorize_campaign(request, SimKeyScope::WRITE)?;
        self.require_groups_if_needed(&campaign)?;
        let quota = Arc::clone(&campaign.quota);
        let body = self.read_update(&quota, request).await?;
        let now = self.now();
        let parsed = request_validation::parse_update(&body, campaign.config.warehouse, now);
        drop(body);
        let lines = self.charge_and_validate(&quota, parsed, request)?;
        let updates = [SimCampaignUpdate { campaign, lines }];
        self.apply_and_respond(&quota, &updates, now, request).await
    }

    /// Handles `POST /v3/businesses/{businessId}/offers/stocks/update`.
    pub(super) async fn update_business(&self, request: &mut SimRequest) -> SimResult {
        let (business, key) = self.authorize_business(request, SimKeyScope::WRITE)?;
        if business.has_groups() {
            // The documentation excludes these businesses but gives no message, so this one is
            // made up.
            let message = "Method is not allowed for businesses with warehouse groups";
            return Err(SimError::new(400, message));
        }
        let body = self.read_update(&business.quota, request).await?;
        let now = self.now();
        let is_known = |warehouse| business.selling_from(warehouse).next().is_some();
        let parsed = request_validation::parse_business_update(&body, now, is_known);
        drop(body);
        let mut warehouses: BTreeMap<u64, Vec<SimUpdateLine>> = BTreeMap::new();
        for (warehouse, line) in self.charge_and_validate(&business.quota, parsed, request)? {
            warehouses.entry(warehouse).or_default().push(line);
        }
        let mut updates = Vec::with_capacity(warehouses.len());
        for (warehouse, lines) in warehouses {
            let campaign = Self::authorize_warehouse(business, warehouse, &key)
                .expect("the parser accepts only known warehouses")?;
            updates.push(SimCampaignUpdate { campaign, lines });
        }
        self.apply_and_respond(&business.quota, &updates, now, request)
            .await
    }

    fn require_groups_if_needed(&self, campaign: &SimCampaign) -> SimResult<()> {
        let business = self.state.registry.businesses.get(&campaign.business_id());
        let has_groups = business.is_some_and(|business| business.has_groups());
        if has_groups || !self.state.config.campaign_method_needs_groups {
            return Ok(());
        }
        let message = "The method is deprecated and is occasionally forbidden for use";
        Err(SimError::new(403, message))
    }

    /// Records the arrival of an update and reads its body.
    async fn read_update(
        &self,
        quota: &Arc<QuotaTracker>,
        request: &mut SimRequest,
    ) -> SimResult<Vec<u8>> {
        require_json(&request.head.headers)?;
        request.quota = Some(Arc::clone(quota));
        if quota.is_too_soon(request.arrived) {
            self.state.request_log.lock().report.early_retries += 1;
        }
        self.acquire_slot_and_read(quota, request).await
    }

    /// Charges the update to the quota and returns its lines if they are valid.
    fn charge_and_validate<L>(
        &self,
        quota: &QuotaTracker,
        parsed: ParsedUpdate<L>,
        request: &mut SimRequest,
    ) -> SimResult<Vec<L>> {
        request.entry.skus = parsed.sku_count;
        self.state.request_log.lock().report.skus_received += as_u64(parsed.sku_count);
        let limit = self.update_limit(quota.owner);
        let amount = cost(quota.owner, parsed.sku_count);
        quota
            .charge_update(request.arrived, amount, limit)
            .map_err(|wait| self.reject_over_limit(quota, amount, limit, wait))?;
        parsed.lines.map_err(|messages| {
            let describe = || format!("{}: {}", quota.owner, messages.join("; "));
            self.record_violation(MarketViolation::Content, 1, describe);
            SimError::bad_request(messages)
        })
    }

    async fn apply_and_respond(
        &self,
        quota: &QuotaTracker,
        updates: &[SimCampaignUpdate],
        now: DateTime<Utc>,
        request: &mut SimRequest,
    ) -> SimResult {
        for update in updates {
            self.record_in_flight(update, request);
        }
        let skus = updates.iter().map(|update| update.lines.len()).sum();
        let planned = self.next_outcome(false);
        if planned.plan.exceeds_max_skus(skus) {
            request.entry.outcome = RequestOutcome::Rejected(413);
            return Ok(responses::html(413));
        }
        let lines = updates.iter().flat_map(|update| &update.lines);
        let skus_of_lines = lines.map(|line| line.sku.as_str());
        let rejections = planned.plan.rejection_messages(skus_of_lines);
        if !rejections.is_empty() {
            return Err(SimError::bad_request(rejections));
        }
        self.write_lines(updates, now, &planned);
        let Some((fault, random)) = planned.fault else {
            return Ok(responses::ok());
        };
        request.entry.outcome = RequestOutcome::Faulted(fault);
        if !fault.consumes_quota() {
            quota.refund_update(request.arrived, cost(quota.owner, skus));
        }
        let response = self
            .respond_with_fault(quota, &planned, fault, random, responses::ok())
            .await;
        if fault == MarketFault::Slow {
            for update in updates {
                update.campaign.stock.acknowledge(&update.lines);
            }
        }
        Ok(response)
    }

    /// Reports SKUs that are already in flight, or that came through another campaign of the group.
    fn record_in_flight(&self, update: &SimCampaignUpdate, request: &mut SimRequest) {
        let (id, stock) = (update.campaign.id(), &update.campaign.stock);
        let (guard, duplicates) = stock.mark_in_flight(&update.lines);
        request.in_flight.push(guard);
        self.record_violation(MarketViolation::SkuTwiceInFlight, duplicates.count, || {
            let sku = duplicates.first_sku.unwrap_or_default();
            format!("campaign {id}: {sku} in two parallel requests")
        });
        let other_routes = stock.record_route(id, &update.lines);
        self.record_violation(MarketViolation::SecondOfGroup, other_routes.count, || {
            let sku = other_routes.first_sku.unwrap_or_default();
            format!("campaign {id}: {sku} was first sent through another campaign of the group")
        });
    }

    /// Stores the lines, unless the fault prevents it.
    fn write_lines(
        &self,
        updates: &[SimCampaignUpdate],
        now: DateTime<Utc>,
        planned: &PlannedOutcome,
    ) {
        if matches!(planned.fault, Some((fault, random)) if !fault.applies(random)) {
            return;
        }
        let mut offset = 0;
        for update in updates {
            let outcome_of = |index, sku: &str| {
                let outcome = planned.plan.line_outcome(planned.number, offset + index);
                // Buyers can only order what the shop sells.
                if outcome == LineOutcome::Sold && !self.state.config.sells(sku) {
                    LineOutcome::Kept
                } else {
                    outcome
                }
            };
            let stock = &update.campaign.stock;
            let counts = stock.write(&update.lines, now, planned.fault.is_none(), outcome_of);
            offset += update.lines.len();
            let mut log = self.state.request_log.lock();
            log.report.skus_applied += counts.applied;
            log.report.skus_dropped += counts.dropped;
            log.report.pieces_ordered += counts.sold;
            log.record_violation(MarketViolation::WentBackwards, counts.outdated, || {
                let id = update.campaign.id();
                let sku = counts.first_outdated.unwrap_or_default();
                format!("campaign {id}: {sku} was sent with an older updatedAt than acknowledged")
            });
        }
    }

    /// Creates the response for a fault; `normal_response` is the one without it.
    pub(super) async fn respond_with_fault(
        &self,
        quota: &QuotaTracker,
        planned: &PlannedOutcome,
        fault: MarketFault,
        random: u64,
        normal_response: Response,
    ) -> Response {
        match fault {
            MarketFault::ParallelLimit => {
                let limit = self.state.config.max_parallel;
                SimError::parallel_limit(limit, quota.owner).into_response()
            }
            MarketFault::VolumeLimit => {
                let (variety, limit) = (random % 3, self.update_limit(quota.owner));
                // A plan that announces the limit always sends its headers.
                if variety == 0 && planned.plan.announced_limit.is_none() {
                    SimError::volume_limit(limit, quota.owner, None).into_response()
                } else {
                    self.rate_limited(quota, limit, RATE_LIMIT_WAIT, variety == 1)
                        .into_response()
                }
            }
            MarketFault::ServerError | MarketFault::ApplyThenError => server_error_response(random),
            MarketFault::Hang | MarketFault::ApplyThenHang => {
                match planned.plan.hang_duration {
                    Some(duration) => tokio::time::sleep(duration).await,
                    None => std::future::pending().await,
                }
                responses::close_without_response()
            }
            MarketFault::CloseWithoutResponse => responses::close_without_response(),
            MarketFault::TruncatedResponse => responses::truncated(normal_response),
            MarketFault::ErrorInOk => {
                let error = json!({ "code": "INTERNAL_ERROR", "message": "Try again" });
                responses::json(200, &json!({ "status": "ERROR", "errors": [error] }))
            }
            MarketFault::HtmlInOk => responses::html(200),
            MarketFault::EmptyOk => responses::empty(200),
            MarketFault::Redirect => responses::redirect("/elsewhere/v2/offers/stocks"),
            MarketFault::Slow => {
                tokio::time::sleep(planned.plan.slow_delay).await;
                normal_response
            }
        }
    }
}

/// Returns the quota cost of an update with this number of SKUs.
fn cost(owner: QuotaOwner, skus: usize) -> usize {
    match owner {
        QuotaOwner::Campaign(_) => skus,
        QuotaOwner::Business(_) => 1,
    }
}

fn server_error_response(random: u64) -> Response {
    let status = [500, 502, 503][usize::try_from(random % 3).unwrap_or_default()];
    match random / 3 % 3 {
        0 => SimError::new(status, "Internal error").into_response(),
        1 => responses::html(status),
        _ => responses::empty(status),
    }
}
