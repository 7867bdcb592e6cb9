//! Availability of the load balancer for the Market: the longest time without a successful response.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::workload::UNKNOWN_SKU;
use crate::service_process::{WAREHOUSE, exchange};

/// Number of requests at once. The load balancer sends at most some of them to a replica that does
/// not answer.
const CLIENTS: usize = 4;

/// Time after which the Market gives a request up.
const MARKET_TIMEOUT: Duration = Duration::from_secs(27);

/// Pause of a client between two requests.
const PAUSE: Duration = Duration::from_millis(50);

/// Clients that request stock from the load balancer without an end.
pub(super) struct AvailabilityProbe {
    times: Arc<Mutex<OutageMeter>>,
    is_ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl AvailabilityProbe {
    /// Starts the clients. Nothing is measured before the first successful response.
    pub(super) fn start(address: SocketAddr) -> Self {
        let times: Arc<Mutex<OutageMeter>> = Arc::default();
        let is_ending: Arc<AtomicBool> = Arc::default();
        let client = |_| {
            let (times, is_ending) = (Arc::clone(&times), Arc::clone(&is_ending));
            std::thread::spawn(move || {
                while !is_ending.load(Ordering::Acquire) {
                    let sent = Instant::now();
                    let status = request(address);
                    times.lock().record(status, sent, Instant::now());
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "this thread is not of the runtime"
                    )]
                    std::thread::sleep(PAUSE);
                }
            })
        };
        let threads = (0..CLIENTS).map(client).collect();
        Self {
            times,
            is_ending,
            threads,
        }
    }

    /// Returns what was measured since the last call.
    pub(super) fn take(&self) -> MeasuredAvailability {
        self.times.lock().take(Instant::now())
    }
}

impl Drop for AvailabilityProbe {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // A panic of a client is in the output of the test.
            let _joined = thread.join();
        }
    }
}

/// Measured responses of some time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct MeasuredAvailability {
    /// Longest time in which no client got a successful response. It may have begun earlier.
    pub(super) longest_outage: Duration,
    /// Longest time between a request and its successful response.
    pub(super) slowest_response: Duration,
    /// Number of requests without a successful response.
    pub(super) failed: u64,
}

impl MeasuredAvailability {
    /// Adds another measurement of the same kind.
    pub(super) fn merge(&mut self, other: Self) {
        self.longest_outage = self.longest_outage.max(other.longest_outage);
        self.slowest_response = self.slowest_response.max(other.slowest_response);
        self.failed += other.failed;
    }
}

#[derive(Debug, Default)]
struct OutageMeter {
    last_success: Option<Instant>,
    measured: MeasuredAvailability,
}

impl OutageMeter {
    fn record(&mut self, status: u16, sent: Instant, now: Instant) {
        if status != 200 {
            self.measured.failed += u64::from(self.last_success.is_some());
            return;
        }
        if self.last_success.is_some() {
            self.measured.merge(MeasuredAvailability {
                longest_outage: self.since_success(now),
                slowest_response: now - sent,
                failed: 0,
            });
        }
        self.last_success = Some(now);
    }

    fn take(&mut self, now: Instant) -> MeasuredAvailability {
        let mut measured = std::mem::take(&mut self.measured);
        measured.longest_outage = measured.longest_outage.max(self.since_success(now));
        measured
    }

    fn since_success(&self, now: Instant) -> Duration {
        self.last_success
            .map_or(Duration::ZERO, |last| now.saturating_duration_since(last))
    }
}

/// Requests one SKU as the Market does, and returns the status.
fn request(address: SocketAddr) -> u16 {
    let body = json!({ "warehouseId": WAREHOUSE, "skus": [UNKNOWN_SKU] }).to_string();
    let header = "Authorization: push-token";
    exchange(address, MARKET_TIMEOUT, ("POST", "/stocks", header, &body)).0
}

#[test]
fn outage_ends_with_a_successful_response() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut times = OutageMeter::default();
    // Before the first stock all requests fail.
    times.record(503, at(0), at(5));
    assert_eq!(times.take(at(6)), MeasuredAvailability::default());
    times.record(200, at(6), at(7));
    times.record(200, at(7), at(8));
    times.record(503, at(8), at(11));
    times.record(200, at(9), at(12));
    times.record(200, at(12), at(13));
    let measured = |outage, slowest, failed| MeasuredAvailability {
        longest_outage: Duration::from_secs(outage),
        slowest_response: Duration::from_secs(slowest),
        failed,
    };
    assert_eq!(times.take(at(14)), measured(4, 3, 1));
    // An outage that goes on belongs to both times.
    assert_eq!(times.take(at(16)), measured(3, 0, 0));
    times.record(200, at(16), at(20));
    assert_eq!(times.take(at(20)), measured(7, 4, 0));
}
