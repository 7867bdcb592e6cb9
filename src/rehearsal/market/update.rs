use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde_json::json;

use super::config::Scope;
use super::gate::require_json;
use super::visit::Visit;
use super::{Fate, Market, as_u64, lock};
use crate::rehearsal::answers::{self, Refusal};
use crate::rehearsal::cabinet::Campaign;
use crate::rehearsal::faults::{Fault, Luck};
use crate::rehearsal::meter::{Meter, Whose};
use crate::rehearsal::report::{Broken, Verdict};
use crate::rehearsal::rules::{self, Line, Reading};

/// The lines of an update that go to one warehouse, through one campaign.
struct Part {
    campaign: Arc<Campaign>,
    lines: Vec<Line>,
}

/// The methods that change stock.
impl Market {
    /// `PUT /v2/campaigns/{campaignId}/offers/stocks`
    pub(super) async fn update(
        &self,
        id: &str,
        request: Request,
        visit: &mut Visit,
    ) -> Result<Response, Refusal> {
        let (head, body) = request.into_parts();
        let campaign = self.admit(id, &head.headers, Scope::WRITE)?;
        self.require_groups_if_needed(&campaign)?;
        require_json(&head.headers)?;
        self.note_arrival(&campaign.meter, visit);
        let body = self.receive(&campaign.meter, body, visit).await?;
        let now = self.now();
        let reading = rules::read_update(&body, campaign.config.warehouse, now);
        drop(body);
        let meter = Arc::clone(&campaign.meter);
        let lines = self.accept(&meter, reading, visit)?;
        self.carry_out(&meter, &[Part { campaign, lines }], now, visit)
            .await
    }

    /// `POST /v3/businesses/{businessId}/offers/stocks/update`
    pub(super) async fn update_business(
        &self,
        id: &str,
        request: Request,
        visit: &mut Visit,
    ) -> Result<Response, Refusal> {
        let (head, body) = request.into_parts();
        let (business, key) = self.admit_to_business(id, &head.headers, Scope::WRITE)?;
        if business.has_groups() {
            // Ours to invent: that the method is not for them is documented, its answer is not.
            let message = "Method is not allowed for businesses with warehouse groups";
            return Err(Refusal::new(400, message));
        }
        require_json(&head.headers)?;
        self.note_arrival(&business.meter, visit);
        let body = self.receive(&business.meter, body, visit).await?;
        let now = self.now();
        let is_known = |warehouse| business.selling_from(warehouse).next().is_some();
        let reading = rules::read_business_update(&body, now, is_known);
        drop(body);
        let mut warehouses: BTreeMap<u64, Vec<Line>> = BTreeMap::new();
        for (warehouse, line) in self.accept(&business.meter, reading, visit)? {
            warehouses.entry(warehouse).or_default().push(line);
        }
        let mut parts = Vec::with_capacity(warehouses.len());
        for (warehouse, lines) in warehouses {
            let campaign = Self::admit_to_warehouse(business, warehouse, key)
                .expect("the reading took only warehouses that are known")?;
            parts.push(Part { campaign, lines });
        }
        self.carry_out(&business.meter, &parts, now, visit).await
    }

    fn require_groups_if_needed(&self, campaign: &Campaign) -> Result<(), Refusal> {
        let business = self.inner.registry.businesses.get(&campaign.business());
        let has_groups = business.is_some_and(|business| business.has_groups());
        if has_groups || !self.inner.config.campaign_method_needs_groups {
            return Ok(());
        }
        let message = "The method is deprecated and is occasionally forbidden for use";
        Err(Refusal::new(403, message))
    }

    fn note_arrival(&self, meter: &Arc<Meter>, visit: &mut Visit) {
        visit.meter = Some(Arc::clone(meter));
        if meter.is_too_soon(visit.arrived) {
            lock(&self.inner.journal).report.came_too_soon += 1;
        }
    }

    /// Charges what was read, and takes it if the rules do.
    fn accept<L>(
        &self,
        meter: &Meter,
        reading: Reading<L>,
        visit: &mut Visit,
    ) -> Result<Vec<L>, Refusal> {
        visit.logged.skus = reading.charged;
        lock(&self.inner.journal).report.skus_received += as_u64(reading.charged);
        let limit = self.update_limit(meter.whose);
        let amount = price(meter.whose, reading.charged);
        meter
            .charge_update(visit.arrived, amount, limit)
            .map_err(|wait| self.over_the_limit(meter, amount, limit, wait))?;
        reading.lines.map_err(|messages| {
            let words = || format!("{}: {}", meter.whose, messages.join("; "));
            self.broken(Broken::Content, 1, words);
            Refusal::bad_request(messages)
        })
    }

    async fn carry_out(
        &self,
        meter: &Meter,
        parts: &[Part],
        now: DateTime<Utc>,
        visit: &mut Visit,
    ) -> Result<Response, Refusal> {
        for part in parts {
            self.note_on_the_way(part, visit);
        }
        let skus = parts.iter().map(|part| part.lines.len()).sum();
        let fate = self.draw(false);
        if fate.plan.is_too_many(skus) {
            visit.logged.verdict = Verdict::Refused(413);
            return Ok(answers::html(413));
        }
        let lines = parts.iter().flat_map(|part| &part.lines);
        let objections = fate.plan.objections(lines.map(|line| line.sku.as_str()));
        if !objections.is_empty() {
            return Err(Refusal::bad_request(objections));
        }
        self.take(parts, now, &fate);
        let Some((fault, dice)) = fate.drawn else {
            return Ok(answers::ok());
        };
        visit.logged.verdict = Verdict::Faulted(fault);
        if !fault.spends() {
            meter.refund_update(visit.arrived, price(meter.whose, skus));
        }
        let response = self
            .misbehave(meter, &fate, fault, dice, answers::ok())
            .await;
        if fault == Fault::Slow {
            for part in parts {
                part.campaign.shelf.acknowledge(&part.lines);
            }
        }
        Ok(response)
    }

    /// Notices SKUs that are on the way twice, or through a second campaign of a group.
    fn note_on_the_way(&self, part: &Part, visit: &mut Visit) {
        let (id, shelf) = (part.campaign.id(), &part.campaign.shelf);
        let (load, twice) = shelf.carry(&part.lines);
        visit.loads.push(load);
        self.broken(Broken::SkuTwiceInFlight, twice.times, || {
            let sku = twice.first.unwrap_or_default();
            format!("campaign {id}: {sku} in two requests at a time")
        });
        let second = shelf.comes_through(id, &part.lines);
        self.broken(Broken::SecondOfGroup, second.times, || {
            let sku = second.first.unwrap_or_default();
            format!("campaign {id}: {sku} was told through another campaign of the group")
        });
    }

    /// Writes the lines down, unless the fault keeps them from the shelf.
    fn take(&self, parts: &[Part], now: DateTime<Utc>, fate: &Fate) {
        if fate.drawn.is_some_and(|(fault, dice)| !fault.applies(dice)) {
            return;
        }
        let mut before = 0;
        for part in parts {
            let luck = |index, sku: &str| match fate.plan.luck(fate.number, before + index) {
                // Nobody can order what the shop does not sell.
                Luck::Sold if !self.inner.config.sells(sku) => Luck::Kept,
                luck @ (Luck::Kept | Luck::Sold | Luck::Lost) => luck,
            };
            let shelf = &part.campaign.shelf;
            let written = shelf.write(&part.lines, now, fate.drawn.is_none(), luck);
            before += part.lines.len();
            let mut journal = lock(&self.inner.journal);
            journal.report.skus_applied += written.applied;
            journal.report.skus_dropped += written.dropped;
            journal.report.pieces_ordered += written.sold;
            journal.broken(Broken::WentBackwards, written.backwards, || {
                let (id, sku) = (
                    part.campaign.id(),
                    written.first_backwards.unwrap_or_default(),
                );
                format!("campaign {id}: {sku} was sent older than acknowledged")
            });
        }
    }

    /// Answers as the fault will have it; `good` is what a Market in health would say.
    pub(super) async fn misbehave(
        &self,
        meter: &Meter,
        fate: &Fate,
        fault: Fault,
        dice: u64,
        good: Response,
    ) -> Response {
        match fault {
            Fault::ParallelLimit => {
                Refusal::parallel(self.inner.config.parallel, meter.whose).into_response()
            }
            Fault::VolumeLimit => self.volume_fault(meter, fate, dice).into_response(),
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

    fn volume_fault(&self, meter: &Meter, fate: &Fate, dice: u64) -> Refusal {
        let variety = dice % 3;
        let limit = self.update_limit(meter.whose);
        // A plan that promised the headers keeps its word.
        if variety == 0 && fate.plan.limit().is_none() {
            Refusal::volume(limit, meter.whose, None)
        } else {
            self.limited(meter, limit, fate.plan.limited_for, variety == 1)
        }
    }
}

/// What an update of so many SKUs costs.
fn price(whose: Whose, skus: usize) -> usize {
    match whose {
        Whose::Campaign(_) => skus,
        Whose::Business(_) => 1,
    }
}

fn server_error(dice: u64) -> Response {
    let status = [500, 502, 503][usize::try_from(dice % 3).unwrap_or_default()];
    match dice / 3 % 3 {
        0 => Refusal::new(status, "Internal error").into_response(),
        1 => answers::html(status),
        _ => answers::empty(status),
    }
}
