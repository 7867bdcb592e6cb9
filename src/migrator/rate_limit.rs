//! Rate limiter for updates and read-backs of one campaign or business. Pure: time is an argument.
//!
//! Decides how many SKUs may be sent now, and when the next request may be.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use market_api::partner::client::RateHeaders;
use market_api::partner::wire::{MarketAddress, SKUS_PER_MINUTE, UPDATES_PER_MINUTE};
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::RateLimitStatus;
use super::planner::Now;
use crate::store::RecentSend;

/// Length of the sliding period in which the Market counts. Source: the limits page, 2026.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Longest wait accepted from a header, so that a wrong date cannot stop a shop for a day.
pub const MAX_SERVER_WAIT: Duration = Duration::from_mins(10);

/// Unit in which the Market counts. The names are those in metrics and in the status.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize, strum::IntoStaticStr,
)]
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
pub struct SharedRateLimiter(Arc<Mutex<SlidingWindow>>);

impl SharedRateLimiter {
    /// Creates a limiter for the address, using `share` of its limit.
    #[must_use]
    pub fn new(address: &MarketAddress, share: f64) -> Self {
        let window = match address {
            MarketAddress::Campaign { .. } => {
                SlidingWindow::new(LimitUnit::Skus, SKUS_PER_MINUTE, share)
            }
            MarketAddress::Business { .. } => SlidingWindow {
                // The limit of parallel requests is one for the whole business, too.
                max_in_flight: u32::try_from(super::MAX_PARALLEL_REQUESTS).unwrap_or(u32::MAX),
                ..SlidingWindow::new(LimitUnit::Requests, UPDATES_PER_MINUTE, share)
            },
        };
        Self(Arc::new(Mutex::new(window)))
    }

    /// Adds requests of an earlier run. `request_timeout` is the longest duration of a request.
    pub fn add_earlier(&self, sends: &[RecentSend], request_timeout: Duration, now: Now) {
        let mut window = self.lock();
        for (skus, ended_at) in latest_ends(sends, request_timeout, now) {
            window.end_request(skus, ended_at);
        }
    }

    /// Replaces the completed requests by those of all processes, for a process that begins to lead in
    /// this epoch. Later calls for the epoch, of the other shops with the same limit, change nothing.
    ///
    /// No request that the limiter knows is lost: each was recorded for the others before it was
    /// sent. One that is still in flight counts twice for up to one [`WINDOW`].
    pub fn restore_in(
        &self,
        epoch: i64,
        sends: &[RecentSend],
        request_timeout: Duration,
        now: Now,
    ) {
        let mut window = self.lock();
        // A worker that begins late may also have read the state of an older epoch.
        if window.restored_epoch.is_some_and(|known| epoch <= known) {
            return;
        }
        window.restored_epoch = Some(epoch);
        window.completed.clear();
        window.used = 0;
        for (skus, ended_at) in latest_ends(sends, request_timeout, now) {
            let units = window.cost(skus);
            window.used += units;
            window.completed.push_back((ended_at, units));
        }
    }

    /// Returns the window. It is not locked while the Market is called.
    pub fn lock(&self) -> MutexGuard<'_, SlidingWindow> {
        self.0.lock()
    }
}

/// Sliding window over the units sent.
///
/// The Market counts a request when it arrives, at an unknown time between sending and response.
/// So a request counts here from its sending until one [`WINDOW`] after its *end*, and the Market's
/// count is never higher than ours. A token bucket is not enough: a full bucket and a minute's
/// refill allow twice the limit within 60 seconds.
#[derive(Debug)]
pub struct SlidingWindow {
    unit: LimitUnit,
    // Part of the Market's limit that this program may use, `0.0..=1.0`.
    share: f64,
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
    // Epoch in which this process leads and has read what all processes have sent.
    restored_epoch: Option<i64>,
}

/// Rate limit of the Market's last headers.
#[derive(Clone, Copy, Debug)]
struct ServerLimit {
    remaining: u32,
    resets_at: Instant,
}

impl SlidingWindow {
    /// Creates an empty window with at most `share` of `limit` units per [`WINDOW`].
    fn new(unit: LimitUnit, limit: u32, share: f64) -> Self {
        let limit = scale(limit, share);
        Self {
            unit,
            share,
            max_limit: limit,
            limit,
            completed: VecDeque::new(),
            used: 0,
            in_flight: 0,
            max_in_flight: u32::MAX,
            readbacks_in_flight: 0,
            last_readback_at: None,
            server_limit: None,
            restored_epoch: None,
        }
    }

    /// Returns the current limit, for the operator.
    #[must_use]
    pub fn status(&self) -> RateLimitStatus {
        RateLimitStatus {
            per_minute: self.limit,
            unit: self.unit,
        }
    }

    /// Returns the largest number of SKUs that the limit allows in one request.
    #[must_use]
    pub fn max_skus(&self) -> usize {
        match self.unit {
            LimitUnit::Skus => self.limit as usize,
            LimitUnit::Requests => usize::MAX,
        }
    }

    /// Returns the number of units that may be sent now.
    fn available(&mut self, now: Instant) -> u32 {
        while let Some((_, units)) = self
            .completed
            .pop_front_if(|(ended, _)| *ended + WINDOW <= now)
        {
            self.used -= units;
        }
        self.server_limit = self.server_limit.filter(|server| now < server.resets_at);
        if !self.has_slot() {
            return 0;
        }
        let own = self.limit.saturating_sub(self.used + self.in_flight);
        let server = self.server_limit.map(|server| server.remaining);
        server.map_or(own, |remaining| own.min(remaining))
    }

    /// Returns the time at which a request with `skus` SKUs may be sent, if nothing else is sent
    /// until then. `None` while only the end of a request in flight can free capacity.
    #[must_use]
    pub fn next_available_at(&self, skus: usize, now: Instant) -> Option<Instant> {
        if !self.has_slot() {
            return None;
        }
        let units = self.cost(skus).min(self.limit);
        let mut used = self.used + self.in_flight;
        let mut when = now;
        for (ended, count) in &self.completed {
            if used + units <= self.limit {
                break;
            }
            used -= count;
            when = *ended + WINDOW;
        }
        if used + units > self.limit {
            return None;
        }
        match self.server_limit {
            Some(server) if server.remaining < units => Some(when.max(server.resets_at)),
            Some(_) | None => Some(when),
        }
    }

    /// Reserves the cost of a request with `skus` SKUs. Returns false if it may not be sent now.
    #[must_use]
    pub fn try_begin_request(&mut self, skus: usize, now: Instant) -> bool {
        let units = self.cost(skus);
        let is_available = self.available(now) >= units;
        if is_available {
            self.in_flight += units;
            if let Some(server) = &mut self.server_limit {
                server.remaining = server.remaining.saturating_sub(units);
            }
        }
        is_available
    }

    /// Returns the part of a reservation that the SKUs `needed` do not use. Without any, no request
    /// is sent and the whole reservation is returned.
    pub fn refund(&mut self, reserved: usize, needed: usize) {
        let used = if needed == 0 { 0 } else { self.cost(needed) };
        let units = self.cost(reserved).saturating_sub(used);
        self.in_flight = self.in_flight.saturating_sub(units);
        if let Some(server) = &mut self.server_limit {
            server.remaining += units;
        }
    }

    /// Records the end of a request, with or without a response, or of one from before a restart.
    pub fn end_request(&mut self, skus: usize, ended_at: Instant) {
        let units = self.cost(skus);
        self.in_flight = self.in_flight.saturating_sub(units);
        self.used += units;
        self.completed.push_back((ended_at, units));
    }

    /// Applies the rate-limit headers of a response.
    pub fn apply_server_limit(&mut self, rate: &RateHeaders, now: Instant) {
        if let Some(limit) = rate.limit.filter(|limit| *limit > 0) {
            self.limit = self.max_limit.min(scale(limit, self.share));
        }
        if let (Some(remaining), Some(wait)) = (rate.remaining, rate.resets_in) {
            self.server_limit = Some(ServerLimit {
                // The Market may not have counted the requests in flight yet.
                remaining: remaining.saturating_sub(self.in_flight),
                resets_at: now + wait.min(MAX_SERVER_WAIT),
            });
        }
    }

    /// Reserves a parallel request for a read-back. Returns false if the last one of any shop began
    /// less than `gap` ago, or if too many requests are in flight.
    #[must_use]
    pub fn begin_readback(&mut self, gap: Duration, now: Instant) -> bool {
        let is_time = self.last_readback_at.is_none_or(|at| at + gap <= now);
        let is_allowed = is_time && self.has_slot();
        if is_allowed {
            self.readbacks_in_flight += 1;
            self.last_readback_at = Some(now);
        }
        is_allowed
    }

    /// Records the end of a read-back.
    pub fn end_readback(&mut self) {
        self.readbacks_in_flight = self.readbacks_in_flight.saturating_sub(1);
    }

    fn has_slot(&self) -> bool {
        self.in_flight + self.readbacks_in_flight < self.max_in_flight
    }

    fn cost(&self, skus: usize) -> u32 {
        match self.unit {
            LimitUnit::Skus => u32::try_from(skus).unwrap_or(u32::MAX),
            LimitUnit::Requests => 1,
        }
    }
}

/// Returns the SKUs of earlier requests, with the latest time at which each may have ended: it ended
/// between its sending and now, at the latest after the timeout.
fn latest_ends(
    sends: &[RecentSend],
    request_timeout: Duration,
    now: Now,
) -> impl Iterator<Item = (usize, Instant)> {
    sends.iter().filter_map(move |RecentSend { at, skus }| {
        let ended_at = (*at + request_timeout).min(now.wall);
        let elapsed = (now.wall - ended_at).to_std().unwrap_or_default();
        Some((*skus as usize, now.monotonic.checked_sub(elapsed)?))
    })
}

/// Returns `share` of a limit, rounded down, at least 1.
fn scale(limit: u32, share: f64) -> u32 {
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
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn window_of(limit: u32) -> SlidingWindow {
        SlidingWindow::new(LimitUnit::Skus, limit, 1.0)
    }

    #[test]
    fn request_counts_until_a_window_after_its_end() {
        let t = Instant::now();
        let mut window = window_of(100);
        assert!(window.try_begin_request(100, t));
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
        let mut window = window_of(100_000);
        let rate = RateHeaders {
            limit: Some(100_000),
            remaining: Some(500),
            resets_in: Some(secs(7)),
        };
        assert!(window.try_begin_request(200, t));
        window.apply_server_limit(&rate, t);
        window.end_request(200, t);
        assert_eq!(window.available(t), 300);
        assert_eq!(window.next_available_at(2000, t), Some(t + secs(7)));
        assert_eq!(window.available(t + secs(7)), 100_000 - 200);
    }

    #[test]
    fn applies_a_lower_limit_but_not_a_higher_one() {
        let t = Instant::now();
        let mut window = window_of(100_000);
        let limit = |n| RateHeaders {
            limit: Some(n),
            remaining: None,
            resets_in: None,
        };
        window.apply_server_limit(&limit(500_000), t);
        assert_eq!(window.limit, 100_000);
        window.share = 0.5;
        window.apply_server_limit(&limit(50_000), t);
        assert_eq!(window.limit, 25_000);
    }

    #[test]
    fn caps_the_wait_from_a_header() {
        let t = Instant::now();
        let mut window = window_of(1000);
        let rate = RateHeaders {
            limit: None,
            remaining: Some(0),
            resets_in: Some(secs(86_400)),
        };
        window.apply_server_limit(&rate, t);
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
            assert!(chosen.lock().try_begin_request(2000, t), "request {n}");
            chosen.lock().end_request(2000, t);
        }
        assert!(!other.lock().try_begin_request(1, t));
        assert_eq!(other.lock().next_available_at(1, t), Some(t + WINDOW));
        let gap = Duration::from_secs(1);
        assert!(limiter.lock().begin_readback(gap, t));
        for _ in 1..super::super::MAX_PARALLEL_REQUESTS {
            assert!(limiter.lock().try_begin_request(1, t + WINDOW));
        }
        assert!(
            !limiter.lock().try_begin_request(1, t + WINDOW)
                && !other.lock().begin_readback(gap, t + WINDOW),
            "four at a time"
        );
        limiter.lock().end_readback();
        assert!(limiter.lock().try_begin_request(1, t + WINDOW));
    }

    fn sent(seconds_ago: i64, skus: u32, now: Now) -> RecentSend {
        RecentSend {
            at: now.wall - TimeDelta::seconds(seconds_ago),
            skus,
        }
    }

    fn now_at(wall: &str) -> Now {
        Now {
            monotonic: Instant::now() + secs(1000),
            wall: wall.parse().unwrap(),
        }
    }

    #[test]
    fn earlier_request_ends_at_the_timeout() {
        let now = now_at("2026-11-20T10:00:00Z");
        let t = now.monotonic;
        let address = MarketAddress::Campaign { id: 1 };
        for (timeout, free_after) in [(10, 40), (30, 60), (90, 60)] {
            let limiter = SharedRateLimiter::new(&address, 1.0);
            limiter.add_earlier(&[sent(30, 100_000, now)], secs(timeout), now);
            let at = limiter.lock().next_available_at(100_000, t);
            assert_eq!(at, Some(t + secs(free_after)), "timeout of {timeout} s");
        }
    }

    #[test]
    fn new_leader_counts_all_requests_once() {
        let now = now_at("2026-11-20T10:00:00Z");
        let t = now.monotonic;
        let address = MarketAddress::Business {
            id: 9,
            warehouses: vec![7],
        };
        // The limit is 50 requests a minute. Two workers share it.
        let (one, other) = {
            let limiter = SharedRateLimiter::new(&address, 1.0);
            (limiter.clone(), limiter)
        };
        let own = one.lock().try_begin_request(1, t);
        assert!(own);
        one.lock().end_request(1, t);
        let sends: Vec<RecentSend> = (0..40).map(|_| sent(20, 2000, now)).collect();
        // The own request is among them. Another worker may have read the epoch later or earlier.
        one.restore_in(3, &sends, secs(60), now);
        other.restore_in(3, &sends, secs(60), now);
        other.restore_in(2, &[], secs(60), now);
        let free = |limiter: &SharedRateLimiter| limiter.lock().available(t);
        assert_eq!((free(&one), free(&other)), (10, 10));
        // In a later epoch other processes may have sent more.
        let more: Vec<RecentSend> = (0..45).map(|_| sent(5, 2000, now)).collect();
        assert!(one.lock().try_begin_request(1, t));
        other.restore_in(5, &more, secs(60), now);
        assert_eq!((free(&one), free(&other)), (4, 4), "one is in flight");
    }

    #[test]
    fn refunded_capacity_can_be_used() {
        let t = Instant::now();
        let limiter = SharedRateLimiter::new(&MarketAddress::Campaign { id: 1 }, 0.1);
        assert!(limiter.lock().try_begin_request(10_000, t));
        limiter.lock().refund(10_000, 4_000);
        assert!(limiter.lock().try_begin_request(6_000, t));
        assert!(!limiter.lock().try_begin_request(1, t));
        let address = MarketAddress::Business {
            id: 9,
            warehouses: vec![7],
        };
        let by_business = SharedRateLimiter::new(&address, 0.02);
        assert!(by_business.lock().try_begin_request(2_000, t));
        by_business.lock().refund(2_000, 0);
        assert!(
            by_business.lock().try_begin_request(2_000, t),
            "the refunded request was not made"
        );
        by_business.lock().refund(2_000, 5);
        assert!(!by_business.lock().try_begin_request(1, t));
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
            let (mut now, mut window) = (start, window_of(limit));
            let mut arrivals: Vec<(Instant, u32)> = Vec::new();
            for (skus, delay, rest) in requests {
                if window.available(now) < skus {
                    now = window.next_available_at(skus as usize, now).expect("nothing is in flight");
                }
                prop_assert!(window.available(now) >= skus, "available at the predicted time");
                prop_assert!(window.try_begin_request(skus as usize, now));
                arrivals.push((now + secs(delay), skus));
                now += secs(delay + rest);
                window.end_request(skus as usize, now);
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
