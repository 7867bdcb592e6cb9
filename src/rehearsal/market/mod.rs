use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::Response;
use axum::routing::{any, put};
use chrono::{DateTime, SecondsFormat, Timelike, Utc};
use compact_str::CompactString;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answers::{self, Refusal, Wait};
use super::campaign::{Campaign, Held, Seat, Stocks};
use super::dice;
use super::faults::{Drawn, Fault, FaultPlan};
use super::report::{Broken, Call, Journal, Logged, Report, Verdict};
use super::rules::{self, Filter, Line};
use crate::clock::Clock;

/// Largest and default page of a read-back. Source: the change log, 2026-08-04.
const MAX_PAGE: usize = 100;
const DEFAULT_PAGE: usize = 50;

/// What a rehearsal Market is like.
#[derive(Clone, Debug)]
pub struct MarketConfig {
    /// Tells the Market what time it is.
    pub clock: Clock,
    /// The campaigns it knows.
    pub campaigns: Vec<CampaignConfig>,
    /// SKUs a campaign may send in any 60 seconds.
    pub skus_per_minute: usize,
    /// Requests a campaign may have in flight.
    pub parallel: usize,
    /// Largest body of a request.
    pub max_body_bytes: usize,
    /// So many pieces of every SKU are reserved: they count as `FIT`, not as `AVAILABLE`.
    pub reserved: u32,
    /// A return warehouse of the Market's own, listed by read-backs before the seller's.
    pub return_warehouse: Option<u64>,
    /// Pages of a read-back are at times shorter than asked for, though more follow.
    pub thin_pages: bool,
}

/// One campaign of a rehearsal Market.
#[derive(Clone, Debug)]
pub struct CampaignConfig {
    /// Its number, as in the path.
    pub id: u64,
    /// The warehouse whose stock it keeps.
    pub warehouse: u64,
    /// The keys that may speak for it.
    pub keys: Vec<String>,
}

impl MarketConfig {
    /// A Market with the documented limits and no campaigns.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            campaigns: Vec::new(),
            skus_per_minute: 100_000,
            parallel: 4,
            max_body_bytes: 512 * 1024,
            reserved: 0,
            return_warehouse: None,
            thin_pages: false,
        }
    }

    /// Adds a campaign with one key.
    #[must_use]
    pub fn campaign(mut self, id: u64, warehouse: u64, key: &str) -> Self {
        self.campaigns.push(CampaignConfig { id, warehouse, keys: vec![key.to_owned()] });
        self
    }
}

/// A Market in miniature. A clone is another handle on the same one.
#[derive(Clone, Debug)]
pub struct Market {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: MarketConfig,
    campaigns: BTreeMap<u64, Arc<Campaign>>,
    revoked: Mutex<HashSet<String>>,
    plan: Mutex<Playing>,
    journal: Mutex<Journal>,
}

/// The plan in force, and how many requests it has seen.
#[derive(Debug, Default)]
struct Playing {
    plan: Arc<FaultPlan>,
    next: u64,
}

/// What the plan has in store for one request.
struct Fate {
    plan: Arc<FaultPlan>,
    number: u64,
    drawn: Option<Drawn>,
}

impl Market {
    /// A Market that knows nothing of any stock yet.
    #[must_use]
    pub fn new(config: MarketConfig) -> Self {
        let (parallel, volume) = (config.parallel, config.skus_per_minute);
        let open = |c: &CampaignConfig| {
            let campaign = Campaign::new(c.id, c.warehouse, c.keys.clone(), parallel, volume);
            (c.id, Arc::new(campaign))
        };
        let campaigns = config.campaigns.iter().map(open).collect();
        Self {
            inner: Arc::new(Inner {
                config,
                campaigns,
                revoked: Mutex::default(),
                plan: Mutex::default(),
                journal: Mutex::default(),
            }),
        }
    }

    /// `PUT` and `POST` of `/v2/campaigns/{id}/offers/stocks`.
    ///
    /// Behind an accept loop other than [`Market::start`]'s, a fault that hangs up without an
    /// answer may show the head of one.
    pub fn router(&self) -> Router {
        Router::new()
            .route(
                "/v2/campaigns/{campaign}/offers/stocks",
                put(update).post(read_back).fallback(wrong_method),
            )
            .route("/elsewhere/{*path}", any(followed))
            .fallback(nowhere)
            .with_state(self.clone())
    }

    /// From now on this goes wrong. Requests are numbered anew.
    pub fn set_faults(&self, plan: FaultPlan) {
        *lock(&self.inner.plan) = Playing { plan: Arc::new(plan), next: 0 };
    }

    /// From now on nothing goes wrong. Revoked keys stay revoked.
    pub fn heal(&self) {
        self.set_faults(FaultPlan::none());
    }

    /// From now on nothing goes wrong, but for the SKUs that are refused whatever happens.
    pub fn heal_but_poison(&self) {
        let plan = lock(&self.inner.plan).plan.poison_alone();
        self.set_faults(plan);
    }

    /// From now on this key is answered 401.
    pub fn revoke_key(&self, key: &str) {
        lock(&self.inner.revoked).insert(key.to_owned());
    }

    /// From now on this key is good again.
    pub fn restore_key(&self, key: &str) {
        lock(&self.inner.revoked).remove(key);
    }

    /// Puts a SKU on the Market's shelf as if it had been told and had acknowledged it.
    pub fn plant(&self, campaign: u64, sku: &str, count: u32, updated_at: DateTime<Utc>) {
        let line = Line { sku: sku.into(), count, updated_at: updated_at.into() };
        if let Some(campaign) = self.campaign(campaign) {
            campaign.write(&[line], self.now().into(), true, |_| false);
        }
    }

    /// How many of each SKU a campaign's warehouse has; nothing for an unknown campaign.
    #[must_use]
    pub fn snapshot(&self, campaign: u64) -> Stocks {
        self.campaign(campaign).map(|campaign| campaign.snapshot()).unwrap_or_default()
    }

    /// What the Market holds of one SKU.
    #[must_use]
    pub fn get(&self, campaign: u64, sku: &str) -> Option<Held> {
        self.campaign(campaign)?.get(sku)
    }

    /// How many SKUs of a campaign the Market was told of.
    #[must_use]
    pub fn len(&self, campaign: u64) -> usize {
        self.campaign(campaign).map_or(0, |campaign| campaign.len())
    }

    /// The Market was told of no SKU of this campaign.
    #[must_use]
    pub fn is_empty(&self, campaign: u64) -> bool {
        self.len(campaign) == 0
    }

    /// SKUs that were sold out on the Market at any time, in order, to be held against what
    /// the seller said: a zero that was mended since has cost sales all the same.
    #[must_use]
    pub fn ever_zero(&self, campaign: u64) -> Vec<String> {
        self.campaign(campaign).map(|campaign| campaign.ever_zero()).unwrap_or_default()
    }

    /// What the Market has seen so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = lock(&self.inner.journal).report.clone();
        for campaign in self.inner.campaigns.values() {
            let (skus, parallel) = campaign.peaks();
            report.peak_skus_a_minute = report.peak_skus_a_minute.max(as_u64(skus));
            report.peak_parallel = report.peak_parallel.max(parallel);
        }
        report
    }

    /// The last ten thousand requests, the oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Logged> {
        lock(&self.inner.journal).requests()
    }

    fn now(&self) -> DateTime<Utc> {
        self.inner.config.clock.now()
    }

    fn campaign(&self, id: u64) -> Option<&Arc<Campaign>> {
        self.inner.campaigns.get(&id)
    }

    fn broken(&self, rule: Broken, times: u64, words: impl FnOnce() -> String) {
        lock(&self.inner.journal).broken(rule, times, words);
    }

    fn draw(&self, is_read_back: bool) -> Fate {
        let mut playing = lock(&self.inner.plan);
        let number = playing.next;
        playing.next += 1;
        let drawn = playing.plan.draw(number, is_read_back);
        Fate { plan: Arc::clone(&playing.plan), number, drawn }
    }

    fn plan(&self) -> Arc<FaultPlan> {
        Arc::clone(&lock(&self.inner.plan).plan)
    }

    // === What both methods ask of a request ===

    /// Who is meant, and may the caller speak for them?
    fn admit(&self, id: &str, headers: &HeaderMap) -> Result<Arc<Campaign>, Refusal> {
        let key = key(headers)?;
        if lock(&self.inner.revoked).contains(key) {
            return Err(Refusal::new(401, "Api-Key token is revoked"));
        }
        let opens = |campaign: &Arc<Campaign>| campaign.keys.iter().any(|k| k == key);
        if !self.inner.campaigns.values().any(opens) {
            return Err(Refusal::new(401, "Api-Key token is invalid"));
        }
        let id: u64 = id.parse().map_err(|_| Refusal::new(400, "Illegal input at 'campaignId'"))?;
        let campaign = self.campaign(id).ok_or_else(|| Refusal::new(404, "Campaign not found"))?;
        if !opens(campaign) {
            return Err(Refusal::new(403, "Access denied"));
        }
        if self.plan().is_locked(self.now()) {
            return Err(Refusal::new(423, format!("Campaign {id} is in migration")));
        }
        Ok(Arc::clone(campaign))
    }

    fn seat(&self, campaign: &Arc<Campaign>) -> Result<Seat, Refusal> {
        campaign.seat().ok_or_else(|| {
            let limit = self.inner.config.parallel;
            self.broken(Broken::Parallel, 1, || {
                format!("campaign {}: more than {limit} requests at a time", campaign.id)
            });
            Refusal::parallel(limit, campaign.id)
        })
    }

    async fn read(&self, campaign: &Campaign, body: Body) -> Result<Vec<u8>, Refusal> {
        let limit = self.inner.config.max_body_bytes;
        let (bytes, length) = read_body(body, limit)
            .await
            .map_err(|_| Refusal::new(400, "Illegal input: the body ended early"))?;
        if length <= limit {
            return Ok(bytes);
        }
        self.broken(Broken::BodySize, 1, || {
            format!("campaign {}: a body of {length} bytes, the limit is {limit}", campaign.id)
        });
        Err(Refusal::new(400, format!("The request is too big: {length}, the limit is {limit}")))
    }

    /// A 420 that says how long to wait, the date rounded up to its whole seconds.
    fn limited(&self, campaign: &Campaign, wait: Duration, wrong_weekday: bool) -> Refusal {
        campaign.tell_to_wait(Instant::now(), wait);
        let until = self.now() + wait;
        let until = if until.nanosecond() == 0 { until } else { until + Duration::from_secs(1) };
        let limit = self.inner.config.skus_per_minute;
        Refusal::volume(limit, campaign.id, Some(Wait { limit, until, wrong_weekday }))
    }

    fn over_the_limit(&self, campaign: &Campaign, skus: usize, wait: Duration) -> Refusal {
        let limit = self.inner.config.skus_per_minute;
        self.broken(Broken::Volume, 1, || {
            let id = campaign.id;
            format!("campaign {id}: {skus} SKUs more than {limit} within 60 s, {wait:?} too soon")
        });
        self.limited(campaign, wait, false)
    }

    // === PUT ===

    async fn update(
        &self,
        id: &str,
        request: Request,
        visit: &mut Visit,
    ) -> Result<Response, Refusal> {
        let (head, body) = request.into_parts();
        let campaign = self.admit(id, &head.headers)?;
        require_json(&head.headers)?;
        if campaign.is_too_soon(visit.arrived) {
            lock(&self.inner.journal).report.came_too_soon += 1;
        }
        let seat = visit.seat.insert(self.seat(&campaign)?);
        let body = self.read(&campaign, body).await?;
        visit.logged.bytes = body.len();
        let now = self.now();
        let reading = rules::read_update(&body, campaign.warehouse, now);
        drop(body);
        visit.logged.skus = reading.charged;
        lock(&self.inner.journal).report.skus_received += as_u64(reading.charged);
        campaign
            .charge_update(visit.arrived, reading.charged)
            .map_err(|wait| self.over_the_limit(&campaign, reading.charged, wait))?;
        let lines = reading.lines.map_err(|messages| {
            self.broken(Broken::Content, 1, || format!("campaign {id}: {}", messages.join("; ")));
            Refusal::bad_request(messages)
        })?;
        let (twice, first) = seat.carry(&lines);
        self.broken(Broken::SkuTwiceInFlight, twice, || {
            format!("campaign {id}: {} in two requests at a time", first.unwrap_or_default())
        });
        let fate = self.draw(false);
        if fate.plan.is_too_many(lines.len()) {
            visit.logged.verdict = Verdict::Refused(413);
            return Ok(answers::html(413));
        }
        let objections = fate.plan.objections(lines.iter().map(|line| line.sku.as_str()));
        if !objections.is_empty() {
            return Err(Refusal::bad_request(objections));
        }
        self.take(&campaign, &lines, now, &fate);
        match fate.drawn {
            None => Ok(answers::ok()),
            Some((fault, dice)) => {
                visit.logged.verdict = Verdict::Faulted(fault);
                if !fault.spends() {
                    campaign.refund_update(visit.arrived, lines.len());
                }
                let response = self.misbehave(&campaign, &fate, fault, dice, answers::ok()).await;
                if fault == Fault::Slow {
                    campaign.acknowledge(&lines);
                }
                Ok(response)
            }
        }
    }

    /// Writes the lines down, unless the fault keeps them from the shelf.
    fn take(&self, campaign: &Campaign, lines: &[Line], now: DateTime<Utc>, fate: &Fate) {
        if fate.drawn.is_some_and(|(fault, dice)| !fault.applies(dice)) {
            return;
        }
        let drops = |index| fate.plan.drops(fate.number, index);
        let written = campaign.write(lines, now.into(), fate.drawn.is_none(), drops);
        let mut journal = lock(&self.inner.journal);
        journal.report.skus_applied += written.applied;
        journal.report.skus_dropped += written.dropped;
        journal.broken(Broken::WentBackwards, written.backwards, || {
            let sku = written.first_backwards.unwrap_or_default();
            format!("campaign {}: {sku} was sent older than acknowledged", campaign.id)
        });
    }

    /// Answers as the fault will have it; `good` is what a Market in health would say.
    async fn misbehave(
        &self,
        campaign: &Campaign,
        fate: &Fate,
        fault: Fault,
        dice: u64,
        good: Response,
    ) -> Response {
        match fault {
            Fault::ParallelLimit => {
                Refusal::parallel(self.inner.config.parallel, campaign.id).into_response()
            }
            Fault::VolumeLimit => self.volume_fault(campaign, fate, dice).into_response(),
            Fault::ServerError | Fault::ApplyThenError => server_error(dice),
            Fault::Hang | Fault::ApplyThenHang => {
                match fate.plan.hang_for {
                    Some(time) => tokio::time::sleep(time).await,
                    None => std::future::pending().await,
                }
                answers::unanswered()
            }
            Fault::CloseUnanswered => answers::unanswered(),
            Fault::CutAnswer => answers::cut(good),
            Fault::ErrorInOk => {
                let error = json!({ "code": "INTERNAL_ERROR", "message": "Try again" });
                answers::json(200, &json!({ "status": "ERROR", "errors": [error] }))
            }
            Fault::HtmlInOk => answers::html(200),
            Fault::EmptyOk => answers::empty(200),
            Fault::Redirect => answers::redirect("/elsewhere/v2/offers/stocks"),
            Fault::Slow => {
                tokio::time::sleep(fate.plan.slow_by).await;
                good
            }
        }
    }

    fn volume_fault(&self, campaign: &Campaign, fate: &Fate, dice: u64) -> Refusal {
        let variety = dice % 3;
        if variety == 0 {
            Refusal::volume(self.inner.config.skus_per_minute, campaign.id, None)
        } else {
            self.limited(campaign, fate.plan.limited_for, variety == 1)
        }
    }

    // === POST ===

    async fn read_back(
        &self,
        id: &str,
        request: Request,
        visit: &mut Visit,
    ) -> Result<Response, Refusal> {
        let (head, body) = request.into_parts();
        let campaign = self.admit(id, &head.headers)?;
        visit.seat = Some(self.seat(&campaign)?);
        let body = self.read(&campaign, body).await?;
        visit.logged.bytes = body.len();
        if !body.is_empty() {
            require_json(&head.headers)?;
        }
        let filter = rules::read_filter(&body).map_err(|message| Refusal::new(400, message))?;
        let page = Page::read(&head.uri, filter.offer_ids.is_some())?;
        let (offers, next) = self.page(&campaign, &filter, &page);
        visit.logged.skus = offers.len();
        campaign
            .charge_read_back(visit.arrived, offers.len())
            .map_err(|wait| self.over_the_limit(&campaign, offers.len(), wait))?;
        let good = answers::json(200, &self.listing(&campaign, &filter, &offers, next));
        let fate = self.draw(true);
        match fate.drawn {
            None => Ok(good),
            Some((fault, dice)) => {
                visit.logged.verdict = Verdict::Faulted(fault);
                Ok(self.misbehave(&campaign, &fate, fault, dice, good).await)
            }
        }
    }

    fn page(&self, campaign: &Campaign, filter: &Filter, page: &Page) -> (Offers, Option<String>) {
        let passes = |held: &Held| filter.has_stocks.is_none_or(|has| has == (held.count > 0));
        if filter.archived && filter.offer_ids.is_none() {
            return (Vec::new(), None);
        }
        if let Some(ids) = &filter.offer_ids {
            let held = |sku: &String| Some((CompactString::new(sku), campaign.get(sku)?));
            let offers = ids.iter().filter_map(held).filter(|(_, held)| passes(held));
            return (offers.collect(), None);
        }
        let mut limit = page.limit;
        if self.inner.config.thin_pages {
            let length = page.after.as_ref().map_or(0, |after| as_u64(after.len()));
            let share = dice::share(dice::throw(length, as_u64(limit)));
            limit = if share < 0.5 { limit } else { limit.div_ceil(3) };
        }
        let (offers, is_more) = campaign.page(page.after.as_deref(), limit, passes);
        let next = offers.last().filter(|_| is_more).map(|(sku, _)| to_token(sku));
        (offers, next)
    }

    fn listing(
        &self,
        campaign: &Campaign,
        filter: &Filter,
        offers: &[(CompactString, Held)],
        next: Option<String>,
    ) -> Value {
        let reserved = self.inner.config.reserved;
        let own = |(sku, held): &(CompactString, Held)| {
            json!({
                "offerId": sku.as_str(),
                "stocks": [
                    { "type": "FIT", "count": u64::from(held.count) + u64::from(reserved) },
                    { "type": "AVAILABLE", "count": held.count },
                ],
                "updatedAt": held.updated_at.to_utc().to_rfc3339_opts(SecondsFormat::AutoSi, true),
            })
        };
        let returned = |(sku, _): &(CompactString, Held)| {
            let stocks =
                json!([{ "type": "FIT", "count": 1 }, { "type": "AVAILABLE", "count": 1 }]);
            json!({ "offerId": sku.as_str(), "stocks": stocks })
        };
        let is_asked_for = |id: u64| filter.warehouse.is_none_or(|asked| asked == id);
        let mut warehouses = Vec::new();
        if let Some(id) = self.inner.config.return_warehouse.filter(|id| is_asked_for(*id)) {
            let offers: Vec<Value> = offers.iter().map(returned).collect();
            warehouses.push(json!({ "warehouseId": id, "offers": offers }));
        }
        if is_asked_for(campaign.warehouse) {
            let offers: Vec<Value> = offers.iter().map(own).collect();
            warehouses.push(json!({ "warehouseId": campaign.warehouse, "offers": offers }));
        }
        let paging = next.map_or_else(|| json!({}), |next| json!({ "nextPageToken": next }));
        json!({ "status": "OK", "result": { "paging": paging, "warehouses": warehouses } })
    }
}

type Offers = Vec<(CompactString, Held)>;

// === The doors ===

async fn update(
    State(market): State<Market>,
    Path(campaign): Path<String>,
    request: Request,
) -> Response {
    let mut visit = Visit::begin(&market, &campaign, Call::Update);
    let outcome = market.update(&campaign, request, &mut visit).await;
    visit.end(outcome)
}

async fn read_back(
    State(market): State<Market>,
    Path(campaign): Path<String>,
    request: Request,
) -> Response {
    let mut visit = Visit::begin(&market, &campaign, Call::ReadBack);
    let outcome = market.read_back(&campaign, request, &mut visit).await;
    visit.end(outcome)
}

async fn wrong_method(State(market): State<Market>, request: Request) -> Response {
    let message = format!("Request method '{}' not supported", request.method());
    answers::dated(Refusal::new(405, message).into_response(), market.now())
}

async fn nowhere(State(market): State<Market>) -> Response {
    answers::dated(Refusal::new(404, "Resource not found").into_response(), market.now())
}

async fn followed(State(market): State<Market>, headers: HeaderMap) -> Response {
    market.broken(Broken::RedirectFollowed, 1, || {
        let with = if key(&headers).is_ok() { "with" } else { "without" };
        format!("a redirect was followed, {with} the key")
    });
    answers::dated(answers::ok(), market.now())
}

/// One request from its arrival to its answer; logged when dropped, as it is if the client
/// goes away in between.
struct Visit {
    market: Market,
    arrived: Instant,
    logged: Logged,
    // Given up right after the log is written, before the answer goes out.
    seat: Option<Seat>,
}

impl Visit {
    fn begin(market: &Market, campaign: &str, call: Call) -> Self {
        let logged = Logged {
            at: market.now(),
            took: Duration::ZERO,
            campaign: campaign.parse().unwrap_or_default(),
            call,
            bytes: 0,
            skus: 0,
            verdict: Verdict::Abandoned,
        };
        Self { market: market.clone(), arrived: Instant::now(), logged, seat: None }
    }

    fn end(mut self, outcome: Result<Response, Refusal>) -> Response {
        let now = self.market.now();
        let response = match outcome {
            Ok(response) => {
                if self.logged.verdict == Verdict::Abandoned {
                    self.logged.verdict = Verdict::Accepted;
                }
                response
            }
            Err(refusal) => {
                self.logged.verdict = Verdict::Refused(refusal.status);
                refusal.into_response()
            }
        };
        answers::dated(response, now)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.logged.took = self.arrived.elapsed();
        lock(&self.market.inner.journal).log(self.logged);
    }
}

// === Reading a request ===

fn key(headers: &HeaderMap) -> Result<&str, Refusal> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    text("api-key")
        .or_else(|| text("authorization")?.strip_prefix("Bearer "))
        .filter(|key| !key.is_empty())
        .ok_or_else(|| Refusal::new(401, "Api-Key token is not specified"))
}

fn require_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Refusal::new(415, format!("Content type '{media}' not supported")))
    }
}

/// Reads a body, of which it keeps no more than the limit, and says how long it was.
///
/// To the end, even beyond the limit: a client still sending would not hear the refusal.
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

/// Which part of a read-back is asked for.
#[derive(Debug)]
struct Page {
    after: Option<String>,
    limit: usize,
}

impl Page {
    fn read(uri: &Uri, is_by_ids: bool) -> Result<Self, Refusal> {
        let query = uri.query().unwrap_or_default();
        let member = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(member, _)| *member == name).map(|(_, value)| value)
        };
        let token = member("page_token").or_else(|| member("pageToken"));
        let token = token.filter(|token| !token.is_empty());
        let limit = member("limit");
        if is_by_ids && (token.is_some() || limit.is_some()) {
            let message = "'offerIds' cannot be used together with 'limit' and 'page_token'";
            return Err(Refusal::new(400, message));
        }
        let limit = match limit.map(|limit| limit.parse::<usize>()) {
            None => DEFAULT_PAGE,
            Some(Ok(limit)) if limit > 0 => limit.min(MAX_PAGE),
            Some(_) => return Err(Refusal::new(400, "Illegal input at 'limit'")),
        };
        let after = match token {
            None => None,
            Some(token) => Some(
                from_token(token)
                    .ok_or_else(|| Refusal::new(400, "Illegal input at 'page_token'"))?,
            ),
        };
        Ok(Self { after, limit })
    }
}

/// The last SKU of a page in hexadecimal: opaque to the client, safe in a URL.
fn to_token(sku: &str) -> String {
    sku.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn from_token(token: &str) -> Option<String> {
    let digits: Vec<u32> = token.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let byte = |pair: &[u32]| u8::try_from(pair.first()? * 16 + pair.get(1)?).ok();
    let bytes = digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>()?;
    String::from_utf8(bytes).ok()
}

fn server_error(dice: u64) -> Response {
    let status = [500, 502, 503][usize::try_from(dice % 3).unwrap_or_default()];
    match dice / 3 % 3 {
        0 => Refusal::new(status, "Internal error").into_response(),
        1 => answers::html(status),
        _ => answers::empty(status),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
