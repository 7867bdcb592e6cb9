//! Limits on open connections, in total and per source address.
//!
//! A connection over a limit gets a 503 instead of waiting in the backlog.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::http::StatusCode;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error_response::ErrorResponse;
use super::metrics::Metrics;
use super::server::PeerAddr;
use super::server_limits::ServerLimits;

/// Most connections over the limit that get a 503 at the same time. More are closed without a
/// response.
const MAX_PENDING_REJECTIONS: usize = 256;

/// Slots for open connections, and for rejections that are being sent.
pub(super) struct ConnectionSlots {
    connection_permits: Arc<Semaphore>,
    by_address: Option<AddressSlots>,
    rejection_permits: Arc<Semaphore>,
}

impl ConnectionSlots {
    pub(super) fn new(limits: &ServerLimits) -> Self {
        Self {
            connection_permits: Arc::new(Semaphore::new(limits.max_connections)),
            by_address: limits.max_connections_per_address.map(AddressSlots::new),
            rejection_permits: Arc::new(Semaphore::new(MAX_PENDING_REJECTIONS)),
        }
    }

    /// Reserves the right to send one 503 over the limit; `None` if too many are being sent.
    pub(super) fn acquire_rejection(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.rejection_permits).try_acquire_owned().ok()
    }

    /// Reserves a slot for one connection, or returns the error response for its client.
    ///
    /// The limit per address is checked first, so that a connection over it is not counted as
    /// one over the total limit.
    pub(super) fn acquire(
        &self,
        peer: PeerAddr,
        limits: &ServerLimits,
        metrics: &Metrics,
    ) -> Result<ConnectionSlot, ErrorResponse> {
        let reject = |reason, message| {
            metrics.count_refused(reason);
            let status = StatusCode::SERVICE_UNAVAILABLE;
            ErrorResponse::new(status, "TOO_MANY_CONNECTIONS", message)
        };
        let address_slot = self.by_address.as_ref().map(|slots| {
            slots.acquire(peer.0.ip()).ok_or_else(|| {
                let most = slots.max_per_address;
                let message =
                    format!("the limit of {most} connections per source address is reached");
                reject("over_address_share", message)
            })
        });
        let address_slot = address_slot.transpose()?;
        let permit = Arc::clone(&self.connection_permits).try_acquire_owned();
        let permit = permit.map_err(|_| {
            let most = limits.max_connections;
            reject(
                "over_capacity",
                format!("the limit of {most} connections is reached"),
            )
        })?;
        metrics.connections.inc();
        Ok(ConnectionSlot {
            _permit: permit,
            _address_slot: address_slot,
            connections: metrics.connections.clone(),
        })
    }
}

/// Slot of one connection, released on drop.
pub(super) struct ConnectionSlot {
    _permit: OwnedSemaphorePermit,
    _address_slot: Option<AddressSlot>,
    connections: Gauge,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.dec();
    }
}

/// Open connections by source address. It holds only addresses with an open connection, so its
/// size is at most the number of connections.
struct AddressSlots {
    max_per_address: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl AddressSlots {
    fn new(max_per_address: usize) -> Self {
        Self {
            max_per_address,
            open: Arc::default(),
        }
    }

    fn acquire(&self, address: IpAddr) -> Option<AddressSlot> {
        let network = source_network(address);
        let mut open = self.open.lock();
        let count = open.entry(network).or_default();
        if *count >= self.max_per_address {
            return None;
        }
        *count += 1;
        Some(AddressSlot {
            network,
            open: Arc::clone(&self.open),
        })
    }
}

/// Slot of one connection of a source address, released on drop.
struct AddressSlot {
    network: IpAddr,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

/// Returns the network that counts as one source: an IPv4 address, or an IPv6 /64 network, which
/// providers assign to one customer.
fn source_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_ipv6_addresses_by_network() {
        for (one, other, is_same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        ] {
            let network = |text: &str| source_network(text.parse().unwrap());
            assert_eq!(network(one) == network(other), is_same, "{one} {other}");
        }
    }

    #[test]
    fn releases_address_slots_and_removes_entries() {
        let slots = AddressSlots::new(2);
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = slots.acquire(one).unwrap();
        let second = slots.acquire(one).unwrap();
        assert!(slots.acquire(one).is_none());
        assert!(slots.acquire(other).is_some());
        drop(first);
        let third = slots.acquire(one).unwrap();
        assert!(slots.acquire(one).is_none());
        drop((second, third));
        assert!(slots.open.lock().is_empty());
    }
}
