//! Rate limiter for updates and read-backs of one campaign or business. Pure: time is an argument.
//!
//! Decides how many SKUs may be sent now, and when the next request may be.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use market_api::partner::client::RateHeaders;
use market_api::partner::wire::{MarketAddress, SKUS_PER_MINUTE, UPDATES_PER_MINUTE};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use super::RateLimitStatus;

/// Length of the sliding period in which the Market counts. Source: the limits page, 2026.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Longest wait accepted from a header, so that a wrong date cannot stop a shop for a day.
pub const MAX_SERVER_WAIT: Duration = Duration::from_mins(10);

/// Sliding window over the units sent: SKUs or requests, see [`SharedRateLimiter`].
///
/// The Market counts a request when it arrives, at an unknown time between sending and response.
/// So a request counts here from its sending until one [`WINDOW`] after its *end*, and the Market's
/// count is never higher than ours. A token bucket is not enough: a full bucket and a minute's
/// refill allow twice the limit within 60 seconds.
#[derive(Debug)]
pub struct SlidingWindow {
    // Configured limit. The Market's headers may lower `limit` and raise it again, but never above
    // this.
    max_limit: u32,
    limit: u32,
    // Requests that ended within the last window, the oldest first.
    completed: VecDeque<(Instant, u32)>,
    used: u32,
    in_flight: u32,
    max_in_flight: u32,
    // Read-backs count as parallel requests, but not against the limit of updates.
    readbacks_in_flight: u32,
    last_readback_at: Option<Instant>,
    server_limit: Option<ServerLimit>,
}

/// Rate limit of the Market's last headers.
#[derive(Clone, Copy, Debug)]
struct ServerLimit {
    remaining: u32,
    resets_at: Instant,
}

impl SlidingWindow {
    /// Creates an empty window with at most `limit` units per [`WINDOW`].
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            max_limit: limit,
            limit,
            completed: VecDeque::new(),
            used: 0,
            in_flight: 0,
            max_in_flight: u32::MAX,
            readbacks_in_flight: 0,
            last_readback_at: None,
            server_limit: None,
        }
    }

    /// Returns the number of units that may be sent now.
    pub fn available(&mut self, now: Instant) -> u32 {
        self.evict_expired(now);
        if !self.has_slot() {
            return 0;
        }
        let own = self.limit.saturating_sub(self.used + self.in_flight);
        let server = self.server_limit.map(|server| server.remaining);
        server.map_or(own, |remaining| own.min(remaining))
    }

    /// Returns the time at which `skus` units may be sent, if nothing else is sent until then.
    /// `None` while only the end of a request in flight can free capacity.
    #[must_use]
    pub fn next_available_at(&self, skus: u32, now: Instant) -> Option<Instant> {
        if !self.has_slot() {
            return None;
        }
        let skus = skus.min(self.limit);
        let mut used = self.used + self.in_flight;
        let mut when = now;
        for (ended, count) in &self.completed {
            if used + skus <= self.limit {
                break;
            }
            used -= count;
            when = *ended + WINDOW;
        }
        if used + skus > self.limit {
            return None;
        }
        match self.server_limit {
            Some(server) if server.remaining < skus => Some(when.max(server.resets_at)),
            Some(_) | None => Some(when),
        }
    }

    /// Reserves `skus` units for a request that is sent now.
    pub fn begin_request(&mut self, skus: u32) {
        self.in_flight += skus;
        if let Some(server) = &mut self.server_limit {
            server.remaining = server.remaining.saturating_sub(skus);
        }
    }

    /// Returns reserved units that were not used.
    fn refund(&mut self, skus: u32) {
        self.in_flight = self.in_flight.saturating_sub(skus);
        if let Some(server) = &mut self.server_limit {
            server.remaining += skus;
        }
    }

    /// Records the end of a request, with or without a response.
    pub fn end_request(&mut self, skus: u32, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(skus);
        self.used += skus;
        self.completed.push_back((now, skus));
    }

    /// Applies the rate-limit headers of a response.
    ///
    /// `share` is the part of the Market's limit that this program may use, `0.0..=1.0`.
    pub fn apply_server_limit(&mut self, rate: &RateHeaders, share: f64, now: Instant) {
        if let Some(limit) = rate.limit.filter(|limit| *limit > 0) {
            self.limit = self.max_limit.min(scale(limit, share));
        }
        if let (Some(remaining), Some(wait)) = (rate.remaining, rate.resets_in) {
            // The Market may not have counted the requests in flight yet.
            let remaining = remaining.saturating_sub(self.in_flight);
            self.server_limit = Some(ServerLimit {
                remaining,
                resets_at: now + wait.min(MAX_SERVER_WAIT),
            });
        }
    }

    /// Returns the current limit, in units per [`WINDOW`].
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    fn has_slot(&self) -> bool {
        self.in_flight + self.readbacks_in_flight < self.max_in_flight
    }

    fn evict_expired(&mut self, now: Instant) {
        while let Some((_, skus)) = self
            .completed
            .pop_front_if(|(ended, _)| *ended + WINDOW <= now)
        {
            self.used -= skus;
        }
        self.server_limit = self.server_limit.filter(|server| now < server.resets_at);
    }
}

/// Unit in which the Market counts. The names are those in metrics and in the status.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum LimitUnit {
    /// SKUs, for updates by campaign.
    #[default]
    Skus,
    /// Requests of any size, for updates by business, whose shops share the limit.
    Requests,
}

/// Rate limiter for one campaign or business.
///
/// Clones share one window: all shops updated by business share the limits of that business.
#[derive(Clone, Debug)]
pub struct SharedRateLimiter {
    unit: LimitUnit,
    share: f64,
    window: Arc<Mutex<SlidingWindow>>,
}

impl SharedRateLimiter {
    /// Creates a limiter for the address, using `share` of its limit.
    #[must_use]
    pub fn new(address: &MarketAddress, share: f64) -> Self {
        let (unit, limit) = match address {
            MarketAddress::Campaign { .. } => (LimitUnit::Skus, SKUS_PER_MINUTE),
            MarketAddress::Business { .. } => (LimitUnit::Requests, UPDATES_PER_MINUTE),
        };
        let mut window = SlidingWindow::new(scale(limit, share));
        if unit == LimitUnit::Requests {
            // The limit of parallel requests is one for the whole business, too.
            window.max_in_flight = u32::try_from(super::MAX_PARALLEL_REQUESTS).unwrap_or(u32::MAX);
        }
        Self {
            unit,
            share,
            window: Arc::new(Mutex::new(window)),
        }
    }

    /// Returns the current limit, for the operator.
    #[must_use]
    pub fn status(&self) -> RateLimitStatus {
        RateLimitStatus {
            per_minute: self.window.lock().limit(),
            unit: self.unit,
        }
    }

    /// Returns the largest number of SKUs that the limit allows in one request.
    #[must_use]
    pub fn max_skus(&self) -> usize {
        match self.unit {
            LimitUnit::Skus => self.window.lock().limit() as usize,
            LimitUnit::Requests => usize::MAX,
        }
    }

    /// Reserves the cost of a request with `skus` SKUs. Returns false if it may not be sent now.
    #[must_use]
    pub fn try_begin_request(&self, skus: usize, now: Instant) -> bool {
        let cost = self.cost(skus);
        let mut window = self.window.lock();
        let is_available = window.available(now) >= cost;
        if is_available {
            window.begin_request(cost);
        }
        is_available
    }

    /// Returns the part of a reservation that the SKUs `needed` do not use. Without any, no request
    /// is sent and the whole reservation is returned.
    pub fn refund(&self, reserved: usize, needed: usize) {
        let used = if needed == 0 { 0 } else { self.cost(needed) };
        self.window
            .lock()
            .refund(self.cost(reserved).saturating_sub(used));
    }

    /// Reserves a parallel request for a read-back. Returns false if the last one of any shop began
    /// less than `gap` ago, or if too many requests are in flight.
    #[must_use]
    pub fn begin_readback(&self, gap: Duration, now: Instant) -> bool {
        let mut window = self.window.lock();
        let is_time = window.last_readback_at.is_none_or(|at| at + gap <= now);
        let is_allowed = is_time && window.has_slot();
        if is_allowed {
            window.readbacks_in_flight += 1;
            window.last_readback_at = Some(now);
        }
        is_allowed
    }

    /// Records the end of a read-back.
    pub fn end_readback(&self) {
        let mut window = self.window.lock();
        window.readbacks_in_flight = window.readbacks_in_flight.saturating_sub(1);
    }

    /// Returns the time at which a request may be sent, see [`SlidingWindow::next_available_at`].
    #[must_use]
    pub fn next_available_at(&self, skus: usize, now: Instant) -> Option<Instant> {
        self.window.lock().next_available_at(self.cost(skus), now)
    }

    /// Records the end of a request and applies its rate-limit headers.
    pub fn end_request(&self, skus: usize, rate: &RateHeaders, now: Instant) {
        let mut window = self.window.lock();
        window.end_request(self.cost(skus), now);
        window.apply_server_limit(rate, self.share, now);
    }

    /// Adds a request from before a restart, which ended at `ended_at` or earlier. Called before any
    /// request is in flight.
    pub fn restore(&self, skus: u32, ended_at: Instant) {
        let cost = self.cost(skus as usize);
        self.window.lock().end_request(cost, ended_at);
    }

    fn cost(&self, skus: usize) -> u32 {
        match self.unit {
            LimitUnit::Skus => u32::try_from(skus).unwrap_or(u32::MAX),
            LimitUnit::Requests => 1,
        }
    }
}

/// Returns `share` of a limit, rounded down, at least 1.
#[must_use]
pub fn scale(limit: u32, share: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share between 0 and 1 of a u32 fits a u32, and `as` saturates"
    )]
    let scaled = (f64::from(limit) * share) as u32;
    scaled.max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn request_counts_until_a_window_after_its_end() {
        let t = Instant::now();
        let mut window = SlidingWindow::new(100);
        window.begin_request(100);
        assert_eq!(window.available(t), 0);
        assert_eq!(
            window.next_available_at(1, t),
            None,
            "only its end can free capacity"
        );
        window.end_request(100, t + secs(10));
        assert_eq!(window.available(t + secs(69)), 0);
        assert_eq!(
            window.next_available_at(1, t + secs(69)),
            Some(t + secs(70))
        );
        assert_eq!(window.available(t + secs(70)), 100);
    }

    #[test]
    fn applies_the_remaining_header_until_its_reset() {
        let t = Instant::now();
        let mut window = SlidingWindow::new(100_000);
        let rate = RateHeaders {
            limit: Some(100_000),
            remaining: Some(500),
            resets_in: Some(secs(7)),
        };
        window.begin_request(200);
        window.apply_server_limit(&rate, 1.0, t);
        window.end_request(200, t);
        assert_eq!(window.available(t), 300);
        assert_eq!(window.next_available_at(2000, t), Some(t + secs(7)));
        assert_eq!(window.available(t + secs(7)), 100_000 - 200);
    }

    #[test]
    fn applies_a_lower_limit_but_not_a_higher_one() {
        let t = Instant::now();
        let mut window = SlidingWindow::new(100_000);
        let limit = |n| RateHeaders {
            limit: Some(n),
            remaining: None,
            resets_in: None,
        };
        window.apply_server_limit(&limit(500_000), 1.0, t);
        assert_eq!(window.limit(), 100_000);
        window.apply_server_limit(&limit(50_000), 0.5, t);
        assert_eq!(window.limit(), 25_000);
    }

    #[test]
    fn caps_the_wait_from_a_header() {
        let t = Instant::now();
        let mut window = SlidingWindow::new(1000);
        let rate = RateHeaders {
            limit: None,
            remaining: Some(0),
            resets_in: Some(secs(86_400)),
        };
        window.apply_server_limit(&rate, 1.0, t);
        assert_eq!(window.next_available_at(1, t), Some(t + MAX_SERVER_WAIT));
    }

    #[test]
    fn business_limit_is_shared_by_all_shops() {
        let t = Instant::now();
        let address = MarketAddress::Business {
            id: 9,
            warehouses: vec![7],
        };
        let limiter = SharedRateLimiter::new(&address, 1.0);
        let other = limiter.clone();
        for n in 0..50 {
            let chosen = if n % 2 == 0 { &limiter } else { &other };
            assert!(chosen.try_begin_request(2000, t), "request {n}");
            chosen.end_request(2000, &RateHeaders::default(), t);
        }
        assert!(!other.try_begin_request(1, t));
        assert_eq!(other.next_available_at(1, t), Some(t + WINDOW));
        let gap = Duration::from_secs(1);
        assert!(limiter.begin_readback(gap, t));
        for _ in 1..super::super::MAX_PARALLEL_REQUESTS {
            assert!(limiter.try_begin_request(1, t + WINDOW));
        }
        assert!(
            !limiter.try_begin_request(1, t + WINDOW) && !other.begin_readback(gap, t + WINDOW),
            "four at a time"
        );
        limiter.end_readback();
        assert!(limiter.try_begin_request(1, t + WINDOW));
    }

    #[test]
    fn refunded_capacity_can_be_used() {
        let t = Instant::now();
        let limiter = SharedRateLimiter::new(&MarketAddress::Campaign { id: 1 }, 0.1);
        assert!(limiter.try_begin_request(10_000, t));
        limiter.refund(10_000, 4_000);
        assert!(limiter.try_begin_request(6_000, t));
        assert!(!limiter.try_begin_request(1, t));
        let address = MarketAddress::Business {
            id: 9,
            warehouses: vec![7],
        };
        let by_business = SharedRateLimiter::new(&address, 0.02);
        assert!(by_business.try_begin_request(2_000, t));
        by_business.refund(2_000, 0);
        assert!(
            by_business.try_begin_request(2_000, t),
            "the refunded request was not made"
        );
        by_business.refund(2_000, 5);
        assert!(!by_business.try_begin_request(1, t));
    }

    proptest! {
        /// For any delay between request and response, no period of 60 seconds has more SKUs than
        /// the limit, and the whole limit can be used.
        #[test]
        fn never_exceeds_the_limit_in_any_minute(
            requests in prop::collection::vec((1u32..60, 0u64..30, 0u64..30), 1..80),
        ) {
            let limit = 100;
            let start = Instant::now();
            let (mut now, mut window) = (start, SlidingWindow::new(limit));
            let mut arrivals: Vec<(Instant, u32)> = Vec::new();
            for (skus, delay, rest) in requests {
                if window.available(now) < skus {
                    now = window.next_available_at(skus, now).expect("nothing is in flight");
                }
                prop_assert!(window.available(now) >= skus, "available at the predicted time");
                window.begin_request(skus);
                arrivals.push((now + secs(delay), skus));
                now += secs(delay + rest);
                window.end_request(skus, now);
            }
            for (from, _) in &arrivals {
                let seen: u32 = arrivals.iter()
                    .filter(|(at, _)| at >= from && *at < *from + WINDOW)
                    .map(|(_, skus)| skus).sum();
                prop_assert!(seen <= limit, "{seen} in a minute");
            }
        }
    }
}
