//! How many SKUs may go out, and when. Pure: told what time it is.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::partner::client::RateHeaders;
use crate::partner::wire::{Address, SKUS_PER_MINUTE, UPDATES_PER_MINUTE};

/// The Market counts SKUs in any period of this length. Source: the limits page, 2026.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The longest wait we take from a header: a wrong date must not stop a shop for a day.
pub const MAX_TOLD_WAIT: Duration = Duration::from_mins(10);

/// The sliding window over what one campaign sends.
///
/// The Market counts a request when it arrives, and all we know is that it arrived between
/// being sent and being answered. So a request counts from the moment it is sent until a
/// window after it *ended*: whatever the network did to it, the Market's own count is never
/// higher than ours. A token bucket would not do: with a burst of a minute's worth, twice the
/// limit fits into some 60 seconds.
#[derive(Debug)]
pub struct Pace {
    // What we allow ourselves; the Market's headers can lower the limit, and raise it again,
    // but never above this.
    ceiling: u32,
    limit: u32,
    // Requests that ended within the last window, oldest first.
    ended: VecDeque<(Instant, u32)>,
    spent: u32,
    in_flight: u32,
    most_in_flight: u32,
    // Read-backs, which take a place and nothing of the limit.
    looks: u32,
    looked_at: Option<Instant>,
    told: Option<Told>,
}

/// What the Market's headers said last.
#[derive(Clone, Copy, Debug)]
struct Told {
    left: u32,
    until: Instant,
}

impl Pace {
    /// Nothing sent yet, at most `limit` SKUs in any minute.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            ceiling: limit,
            limit,
            ended: VecDeque::new(),
            spent: 0,
            in_flight: 0,
            most_in_flight: u32::MAX,
            looks: 0,
            looked_at: None,
            told: None,
        }
    }

    /// How many SKUs may be sent at this moment.
    pub fn room(&mut self, now: Instant) -> u32 {
        self.forget(now);
        if self.in_flight + self.looks >= self.most_in_flight {
            return 0;
        }
        let own = self.limit.saturating_sub(self.spent + self.in_flight);
        self.told.map_or(own, |told| own.min(told.left))
    }

    /// When there may be room for `skus`, if nothing else is sent until then. `None` while
    /// only the end of a request in flight can make room.
    #[must_use]
    pub fn next_room(&self, skus: u32, now: Instant) -> Option<Instant> {
        if self.in_flight + self.looks >= self.most_in_flight {
            return None;
        }
        let skus = skus.min(self.limit);
        let mut spent = self.spent + self.in_flight;
        let mut when = now;
        for (ended, n) in &self.ended {
            if spent + skus <= self.limit {
                break;
            }
            spent -= n;
            when = *ended + WINDOW;
        }
        if spent + skus > self.limit {
            return None;
        }
        match self.told {
            Some(told) if told.left < skus => Some(when.max(told.until)),
            Some(_) | None => Some(when),
        }
    }

    /// A request with so many SKUs goes out.
    pub fn start(&mut self, skus: u32) {
        self.in_flight += skus;
        if let Some(told) = &mut self.told {
            told.left = told.left.saturating_sub(skus);
        }
    }

    /// So much of what was started was not needed.
    fn give_back(&mut self, skus: u32) {
        self.in_flight = self.in_flight.saturating_sub(skus);
        if let Some(told) = &mut self.told {
            told.left += skus;
        }
    }

    /// That request ended, however it ended.
    pub fn end(&mut self, skus: u32, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(skus);
        self.spent += skus;
        self.ended.push_back((now, skus));
    }

    /// A request of an earlier life of this program, which ended at the latest at `ended`.
    pub fn recall(&mut self, skus: u32, ended: Instant) {
        self.spent += skus;
        self.ended.push_back((ended, skus));
    }

    /// The Market's own count, from the headers of an answer.
    ///
    /// `share` is the part of the Market's limit that is ours, `0.0..=1.0`.
    pub fn heed(&mut self, rate: &RateHeaders, share: f64, now: Instant) {
        if let Some(limit) = rate.limit.filter(|limit| *limit > 0) {
            self.limit = self.ceiling.min(scale(limit, share));
        }
        if let (Some(left), Some(wait)) = (rate.remaining, rate.wait) {
            // What is in flight may not be in the Market's count yet.
            let left = left.saturating_sub(self.in_flight);
            self.told = Some(Told {
                left,
                until: now + wait.min(MAX_TOLD_WAIT),
            });
        }
    }

    /// The limit in force, in SKUs a minute.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    fn forget(&mut self, now: Instant) {
        while let Some((_, skus)) = self.ended.pop_front_if(|(ended, _)| *ended + WINDOW <= now) {
            self.spent -= skus;
        }
        self.told = self.told.filter(|told| now < told.until);
    }
}

/// What the Market counts of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Unit {
    /// Each SKU in it, by campaign.
    Skus,
    /// The request itself, by cabinet, however many SKUs are in it.
    Requests,
}

/// The pace of one limit of the Market's, which several lanes may share: all shops of a cabinet
/// do that are told by business.
#[derive(Clone, Debug)]
pub struct Purse {
    unit: Unit,
    share: f64,
    pace: Arc<Mutex<Pace>>,
}

impl Purse {
    /// The full purse of an address, of whose limit this share is ours.
    #[must_use]
    pub fn new(address: &Address, share: f64) -> Self {
        let (unit, pace) = match address {
            Address::Campaign { .. } => (Unit::Skus, Pace::new(scale(SKUS_PER_MINUTE, share))),
            Address::Business { .. } => {
                let mut pace = Pace::new(scale(UPDATES_PER_MINUTE, share));
                // The Market's limit of requests at a time is one for all lanes too.
                pace.most_in_flight = u32::try_from(super::MAX_PARALLEL).unwrap_or(u32::MAX);
                (Unit::Requests, pace)
            }
        };
        Self {
            unit,
            share,
            pace: Arc::new(Mutex::new(pace)),
        }
    }

    /// Most SKUs that the limit allows in one request.
    #[must_use]
    pub fn most(&self) -> usize {
        match self.unit {
            Unit::Skus => self.pace().limit() as usize,
            Unit::Requests => usize::MAX,
        }
    }

    /// Takes what a request with so many SKUs costs, if it may go out now.
    #[must_use]
    pub fn start(&self, skus: usize, now: Instant) -> bool {
        let cost = self.cost(skus);
        let mut pace = self.pace();
        let has_room = pace.room(now) >= cost;
        if has_room {
            pace.start(cost);
        }
        has_room
    }

    /// The request has only so many SKUs after all; with none, it is not made.
    pub fn give_back(&self, taken: usize, left: usize) {
        let left = if left == 0 { 0 } else { self.cost(left) };
        self.pace().give_back(self.cost(taken).saturating_sub(left));
    }

    /// Takes a place for a read-back, so long after the last one, whoever made it.
    #[must_use]
    pub fn begin_look(&self, gap: Duration, now: Instant) -> bool {
        let mut pace = self.pace();
        let is_time = pace.looked_at.is_none_or(|at| at + gap <= now);
        let has_place = pace.in_flight + pace.looks < pace.most_in_flight;
        if is_time && has_place {
            pace.looks += 1;
            pace.looked_at = Some(now);
        }
        is_time && has_place
    }

    /// That read-back ended.
    pub fn end_look(&self) {
        let mut pace = self.pace();
        pace.looks = pace.looks.saturating_sub(1);
    }

    /// When there may be room for it; see [`Pace::next_room`].
    #[must_use]
    pub fn next_room(&self, skus: usize, now: Instant) -> Option<Instant> {
        self.pace().next_room(self.cost(skus), now)
    }

    /// That request ended, and this is what its headers said.
    pub fn end(&self, skus: usize, rate: &RateHeaders, now: Instant) {
        let mut pace = self.pace();
        pace.end(self.cost(skus), now);
        pace.heed(rate, self.share, now);
    }

    /// See [`Pace::recall`].
    pub fn recall(&self, skus: u32, ended: Instant) {
        self.pace().recall(self.cost(skus as usize), ended);
    }

    fn cost(&self, skus: usize) -> u32 {
        match self.unit {
            Unit::Skus => u32::try_from(skus).unwrap_or(u32::MAX),
            Unit::Requests => 1,
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A share of a limit, at least one.
#[must_use]
pub fn scale(limit: u32, share: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a u32 between 0 and 1 is a u32; `as` saturates besides"
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
    fn a_request_counts_until_a_window_after_its_end() {
        let t = Instant::now();
        let mut pace = Pace::new(100);
        pace.start(100);
        assert_eq!(pace.room(t), 0);
        assert_eq!(pace.next_room(1, t), None, "only its end can make room");
        pace.end(100, t + secs(10));
        assert_eq!(pace.room(t + secs(69)), 0);
        assert_eq!(pace.next_room(1, t + secs(69)), Some(t + secs(70)));
        assert_eq!(pace.room(t + secs(70)), 100);
    }

    #[test]
    fn a_header_that_says_less_is_heeded_until_its_time() {
        let t = Instant::now();
        let mut pace = Pace::new(100_000);
        let rate = RateHeaders {
            limit: Some(100_000),
            remaining: Some(500),
            wait: Some(secs(7)),
        };
        pace.start(200);
        pace.heed(&rate, 1.0, t);
        pace.end(200, t);
        assert_eq!(pace.room(t), 300);
        assert_eq!(pace.next_room(2000, t), Some(t + secs(7)));
        assert_eq!(pace.room(t + secs(7)), 100_000 - 200);
    }

    #[test]
    fn a_lower_limit_is_taken_over_and_a_higher_one_is_not() {
        let t = Instant::now();
        let mut pace = Pace::new(100_000);
        let limit = |n| RateHeaders {
            limit: Some(n),
            remaining: None,
            wait: None,
        };
        pace.heed(&limit(500_000), 1.0, t);
        assert_eq!(pace.limit(), 100_000);
        pace.heed(&limit(50_000), 0.5, t);
        assert_eq!(pace.limit(), 25_000);
    }

    #[test]
    fn a_wait_from_a_header_is_capped() {
        let t = Instant::now();
        let mut pace = Pace::new(1000);
        let rate = RateHeaders {
            limit: None,
            remaining: Some(0),
            wait: Some(secs(86_400)),
        };
        pace.heed(&rate, 1.0, t);
        assert_eq!(pace.next_room(1, t), Some(t + MAX_TOLD_WAIT));
    }

    #[test]
    fn a_cabinet_counts_requests_whoever_makes_them() {
        let t = Instant::now();
        let address = Address::Business {
            id: 9,
            warehouses: vec![7],
        };
        let purse = Purse::new(&address, 1.0);
        let other = purse.clone();
        for n in 0..50 {
            let purse = if n % 2 == 0 { &purse } else { &other };
            assert!(purse.start(2000, t), "request {n}");
            purse.end(2000, &RateHeaders::default(), t);
        }
        assert!(!other.start(1, t));
        assert_eq!(other.next_room(1, t), Some(t + WINDOW));
        let gap = Duration::from_secs(1);
        assert!(purse.begin_look(gap, t));
        for _ in 1..super::super::MAX_PARALLEL {
            assert!(purse.start(1, t + WINDOW));
        }
        assert!(
            !purse.start(1, t + WINDOW) && !other.begin_look(gap, t + WINDOW),
            "four at a time"
        );
        purse.end_look();
        assert!(purse.start(1, t + WINDOW));
    }

    #[test]
    fn what_was_not_needed_after_all_can_be_spent() {
        let t = Instant::now();
        let purse = Purse::new(&Address::Campaign { id: 1 }, 0.1);
        assert!(purse.start(10_000, t));
        purse.give_back(10_000, 4_000);
        assert!(purse.start(6_000, t));
        assert!(!purse.start(1, t));
        let address = Address::Business {
            id: 9,
            warehouses: vec![7],
        };
        let cabinet = Purse::new(&address, 0.02);
        assert!(cabinet.start(2_000, t));
        cabinet.give_back(2_000, 0);
        assert!(cabinet.start(2_000, t), "the one request was never made");
        cabinet.give_back(2_000, 5);
        assert!(!cabinet.start(1, t));
    }

    proptest! {
        /// Whatever the network does between send and answer, in no 60 seconds do more SKUs
        /// arrive than the limit, and the limit is used up.
        #[test]
        fn no_minute_sees_more_than_the_limit(
            requests in prop::collection::vec((1u32..60, 0u64..30, 0u64..30), 1..80),
        ) {
            let limit = 100;
            let start = Instant::now();
            let (mut now, mut pace) = (start, Pace::new(limit));
            let mut arrivals: Vec<(Instant, u32)> = Vec::new();
            for (skus, travel, rest) in requests {
                if pace.room(now) < skus {
                    now = pace.next_room(skus, now).expect("nothing is in flight");
                }
                prop_assert!(pace.room(now) >= skus, "next_room told the truth");
                pace.start(skus);
                arrivals.push((now + secs(travel), skus));
                now += secs(travel + rest);
                pace.end(skus, now);
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
