//! Checks before a method runs: authentication, scopes, locked campaigns, parallel requests, body
//! size and content type.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::MarketSimulator;
use super::sim_request::SimRequest;
use super::simulator_config::{Availability, SimKeyScope};
use crate::quota::{QuotaOwner, QuotaTracker};
use crate::registry::{SimBusiness, SimCampaign};
use crate::responses::{self, RateLimitHeaders, SimError, SimResult};
use crate::simulator_report::MarketViolation;

impl MarketSimulator {
    /// Returns the caller's key if it is known and not revoked, otherwise a 401.
    pub(super) fn authenticate(&self, request: &SimRequest) -> SimResult<String> {
        let key = api_key(&request.head.headers)?;
        if self.state.revoked_keys.lock().contains(key) {
            return Err(SimError::new(401, "Api-Key token is revoked"));
        }
        if !self.state.registry.knows_key(key) {
            return Err(SimError::new(401, "Api-Key token is invalid"));
        }
        Ok(key.to_owned())
    }

    /// Returns the campaign if the key has access to it, even if the campaign is disabled.
    pub(super) fn find_campaign(&self, id: &str, key: &str) -> SimResult<Arc<SimCampaign>> {
        let campaign = self.campaign(parse_id(id, "campaignId")?);
        let campaign = campaign.ok_or_else(|| SimError::new(404, "Campaign not found"))?;
        if !campaign.accepts_key(key) {
            return Err(SimError::new(403, "Access denied"));
        }
        Ok(Arc::clone(campaign))
    }

    /// Returns the campaign if the caller's key has one of the `needed` scopes for it, and the
    /// campaign is neither disabled nor locked.
    pub(super) fn authorize_campaign(
        &self,
        request: &SimRequest,
        needed: &[SimKeyScope],
    ) -> SimResult<Arc<SimCampaign>> {
        let key = self.authenticate(request)?;
        let campaign = self.find_campaign(&request.id, &key)?;
        self.require_scope(&key, needed)?;
        require_available(&campaign)?;
        self.require_unlocked(&format!("Campaign {}", request.id))?;
        Ok(campaign)
    }

    /// Returns the business and the caller's key if the key has one of the `needed` scopes for it,
    /// and the simulator is not locked.
    pub(super) fn authorize_business(
        &self,
        request: &SimRequest,
        needed: &[SimKeyScope],
    ) -> SimResult<(&SimBusiness, String)> {
        let key = self.authenticate(request)?;
        let id = parse_id(&request.id, "businessId")?;
        let business = self.state.registry.businesses.get(&id);
        let business = business.ok_or_else(|| SimError::new(404, "Business not found"))?;
        if !business.accepts_key(&key) {
            return Err(SimError::new(403, "Access denied"));
        }
        self.require_scope(&key, needed)?;
        self.require_unlocked(&format!("Business {id}"))?;
        Ok((business, key))
    }

    fn require_unlocked(&self, owner: &str) -> SimResult<()> {
        if self.current_plan().is_locked(self.now()) {
            return Err(SimError::new(423, format!("{owner} is in migration")));
        }
        Ok(())
    }

    /// Returns the campaign through which a key has access to a warehouse of a business, or an
    /// error if there is none.
    ///
    /// `None` means that the business has no such warehouse.
    pub(super) fn authorize_warehouse(
        business: &SimBusiness,
        warehouse: u64,
        key: &str,
    ) -> Option<SimResult<Arc<SimCampaign>>> {
        let mut error = None;
        for campaign in business.selling_from(warehouse) {
            match require_available(campaign) {
                _ if !campaign.accepts_key(key) => {}
                Ok(()) => return Some(Ok(Arc::clone(campaign))),
                Err(disabled) => error = Some(disabled),
            }
        }
        business.selling_from(warehouse).next()?;
        let denied = || SimError::new(403, "Access denied");
        Some(Err(error.unwrap_or_else(denied)))
    }

    fn require_scope(&self, key: &str, needed: &[SimKeyScope]) -> SimResult<()> {
        let scopes = self.state.config.scopes_of(key);
        if scopes.iter().any(|scope| needed.contains(scope)) {
            return Ok(());
        }
        let needed: Vec<_> = needed.iter().map(ToString::to_string).collect();
        let needed = needed.join(", ");
        let message = format!("Token does not have any of the scopes [{needed}]");
        Err(SimError::new(403, message))
    }

    /// Takes a slot for the request and reads its body.
    pub(super) async fn acquire_slot_and_read(
        &self,
        quota: &Arc<QuotaTracker>,
        request: &mut SimRequest,
    ) -> SimResult<Vec<u8>> {
        let (limit, owner) = (self.state.config.max_parallel, quota.owner);
        request.slot = Some(quota.acquire_slot().ok_or_else(|| {
            let describe = || format!("{owner}: more than {limit} parallel requests");
            self.record_violation(MarketViolation::Parallel, 1, describe);
            SimError::parallel_limit(limit, owner)
        })?);
        self.read_limited_body(owner, request).await
    }

    pub(super) async fn read_limited_body(
        &self,
        owner: QuotaOwner,
        request: &mut SimRequest,
    ) -> SimResult<Vec<u8>> {
        let limit = self.state.config.max_body_bytes;
        let read = read_body(std::mem::take(&mut request.body), limit).await;
        let (bytes, length) =
            read.map_err(|_| SimError::new(400, "Illegal input: the body ended early"))?;
        if length <= limit {
            request.entry.bytes = bytes.len();
            return Ok(bytes);
        }
        self.record_violation(MarketViolation::BodySize, 1, || {
            format!("{owner}: the body has {length} bytes, the limit is {limit}")
        });
        let message = format!("The request is too big: {length}, the limit is {limit}");
        Err(message.into())
    }

    /// Returns the limit of updates in any 60 seconds: SKUs of a campaign, requests of a business.
    pub(super) fn update_limit(&self, owner: QuotaOwner) -> usize {
        let config = &self.state.config;
        let configured = match owner {
            QuotaOwner::Campaign(_) => config.skus_per_minute,
            QuotaOwner::Business(_) => config.business_updates_per_minute,
        };
        let announced = self.current_plan().announced_limit;
        announced.map_or(configured, |limit| limit.min(configured))
    }

    /// Creates a 420 with the time to wait, and records that the client must wait.
    pub(super) fn rate_limited(
        &self,
        quota: &QuotaTracker,
        limit: usize,
        wait: Duration,
        wrong_weekday: bool,
    ) -> SimError {
        quota.request_wait(Instant::now(), wait);
        let headers = RateLimitHeaders {
            limit,
            until: responses::round_up_to_seconds(self.now() + wait),
            wrong_weekday,
        };
        SimError::volume_limit(limit, quota.owner, Some(headers))
    }

    pub(super) fn reject_over_limit(
        &self,
        quota: &QuotaTracker,
        amount: usize,
        limit: usize,
        wait: Duration,
    ) -> SimError {
        self.record_violation(MarketViolation::Volume, 1, || {
            let owner = quota.owner;
            format!("{owner}: {amount} more exceeds {limit} within 60 s, {wait:?} too early")
        });
        self.rate_limited(quota, limit, wait, false)
    }
}

fn parse_id(id: &str, field: &str) -> SimResult<u64> {
    let id = id.parse();
    id.map_err(|_| format!("Illegal input at '{field}'").into())
}

fn require_available(campaign: &SimCampaign) -> SimResult<()> {
    let (id, availability) = (campaign.id(), campaign.config.availability);
    if availability == Availability::Available {
        return Ok(());
    }
    let message = format!("API for campaign {id} is disabled: {availability}");
    Err(SimError::new(403, message))
}

pub(super) fn api_key(headers: &HeaderMap) -> SimResult<&str> {
    let header_text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    header_text("api-key")
        .or_else(|| header_text("authorization")?.strip_prefix("Bearer "))
        .filter(|key| !key.is_empty())
        .ok_or_else(|| SimError::new(401, "Api-Key token is not specified"))
}

pub(super) fn require_json(headers: &HeaderMap) -> SimResult<()> {
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next());
    let media_type = media_type.unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = format!("Content type '{media_type}' not supported");
    Err(SimError::new(415, message))
}

/// Same as [`require_json`] for an optional body.
pub(super) fn require_json_unless_empty(headers: &HeaderMap, body: &[u8]) -> SimResult<()> {
    if body.is_empty() {
        return Ok(());
    }
    require_json(headers)
}

/// Reads a body to the end and returns it with its length. A body above the limit is incomplete.
///
/// The part beyond the limit is read too, because a client that is still sending would not see the
/// error response.
async fn read_body(mut body: Body, limit: usize) -> Result<(Vec<u8>, usize), axum::Error> {
    let (mut kept, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            length += data.len();
            if length <= limit {
                kept.extend_from_slice(&data);
            }
        }
    }
    Ok((kept, length))
}
