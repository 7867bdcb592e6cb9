//! Public and private network addresses, and a resolver that returns only allowed ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

/// Returns true if a client may connect to this address.
pub type AddressRule = fn(IpAddr) -> bool;

/// Returns true if the address is reachable on the public internet.
///
/// Loopback, private, link-local, shared, reserved, documentation and multicast addresses are not
/// public, nor are IPv6 addresses that carry such an IPv4 address.
/// Source: IANA special-purpose address registries (RFC 6890).
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// Returns the address at which programs on this machine reach a listener.
///
/// A listener on all addresses (`0.0.0.0` or `::`) is called on the loopback address.
#[must_use]
pub fn reachable_address(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        ip if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = matches!(
        (a, b, c),
        (0 | 10 | 127, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224..=255, _, _)
    );
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let embedded = |high: u16, low: u16| {
        let [[w, x], [y, z]] = [high.to_be_bytes(), low.to_be_bytes()];
        is_public_v4(Ipv4Addr::new(w, x, y, z))
    };
    match (a, b) {
        // IPv4-mapped (::ffff:a.b.c.d); the rest of this range is loopback or unused.
        (0, 0) => (c, d, e, f) == (0, 0, 0, 0xffff) && embedded(high, low),
        // NAT64.
        (0x64, 0xff9b) => (c, d, e, f) == (0, 0, 0, 0) && embedded(high, low),
        // 6to4.
        (0x2002, _) => embedded(b, c),
        // Teredo, ORCHID, benchmarking (2001::/23) and documentation.
        (0x2001, 0..=0x1ff | 0x0db8) | (0x3fff, 0..=0x0fff) => false,
        // Global unicast is 2000::/3; the rest is local, multicast or unassigned.
        _ => (0x2000..=0x3fff).contains(&a),
    }
}

/// Resolver that drops addresses which the rule does not allow.
///
/// The check is made on the addresses that the connection uses, so a name cannot change its
/// address between the check and the connection.
#[derive(Debug)]
pub(super) struct FilteringResolver(pub(super) AddressRule);

/// Error for a host name that resolves to no allowed address.
#[derive(Debug, Error)]
#[error("{0} has no public address")]
struct NoPublicAddress(String);

impl Resolve for FilteringResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let is_allowed = self.0;
        Box::pin(async move {
            let resolved = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<_> = resolved.filter(|found| is_allowed(found.ip())).collect();
            if allowed.is_empty() {
                return Err(NoPublicAddress(name.as_str().to_owned()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_not_public() {
        for (text, expected) in [
            ("8.8.8.8", true),
            ("77.88.8.8", true),
            ("172.15.0.1", true),
            ("172.32.0.1", true),
            ("100.63.255.255", true),
            ("192.0.1.1", true),
            ("223.255.255.255", true),
            ("0.0.0.0", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.0.0.1", false),
            ("192.0.2.1", false),
            ("192.168.1.1", false),
            ("198.18.0.1", false),
            ("203.0.113.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("2a02:6b8::feed:ff", true),
            ("2001:4860:4860::8888", true),
            ("::", false),
            ("::1", false),
            ("::127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("::ffff:127.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("64:ff9b::8.8.8.8", true),
            ("64:ff9b::10.0.0.1", false),
            ("64:ff9b:1::1", false),
            ("2002:808:808::1", true),
            ("2002:7f00:1::1", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("fc00::1", false),
            ("fd12:3456::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
        }
    }
}
