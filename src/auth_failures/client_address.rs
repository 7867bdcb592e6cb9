//! Address of a client, also behind trusted proxies.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;

/// Network or single IP address from the configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Parses `10.0.0.0/8`, `2001:db8::/32` or a single address; `None` if the text is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= bits)?,
            None => bits,
        };
        Some(Self { address, prefix })
    }

    fn contains(self, ip: IpAddr) -> bool {
        let (difference, bits) = match (self.address, ip) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                (u128::from(network.to_bits() ^ ip.to_bits()), 32)
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => (network.to_bits() ^ ip.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        let outside = difference.checked_shr(bits - u32::from(self.prefix));
        outside.unwrap_or(0) == 0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Returns the address under which a client is counted: for IPv6 its /64 network, because each
/// customer of a provider has at least that.
pub(super) fn address_group(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// Returns the address of the client that sent a request.
///
/// That is the peer, or, behind trusted proxies, the last address in `X-Forwarded-For` that is not
/// a trusted proxy. Earlier addresses may be forged by the client.
pub(super) fn client_address(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted_proxies: &[Network],
) -> IpAddr {
    let is_trusted = |ip: IpAddr| trusted_proxies.iter().any(|network| network.contains(ip));
    let mut client = peer.to_canonical();
    if !is_trusted(client) {
        return client;
    }
    let fields: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .map(|field| field.to_str().unwrap_or("-"))
        .flat_map(|field| field.split(','))
        .collect();
    for field in fields.iter().rev() {
        let Some(ip) = parse_forwarded(field.trim()) else {
            return client;
        };
        client = ip;
        if !is_trusted(ip) {
            break;
        }
    }
    client
}

/// Parses an address of `X-Forwarded-For`, with or without brackets and port.
fn parse_forwarded(field: &str) -> Option<IpAddr> {
    let in_brackets = field.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let address = in_brackets.unwrap_or(field).parse();
    let with_port = || field.parse::<SocketAddr>().map(|it| it.ip());
    let address: Result<IpAddr, _> = address.or_else(|_| with_port());
    address.ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn uses_forwarded_addresses_of_trusted_proxies_only() {
        let proxies = ["10.0.0.0/8", "127.0.0.1", "fd00::/8"].map(|n| Network::parse(n).unwrap());
        for (peer, forwarded, expected) in [
            ("192.0.2.1", vec!["198.51.100.7"], "192.0.2.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            ("::ffff:10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            (
                "10.0.0.1",
                vec!["203.0.113.9, 198.51.100.7"],
                "198.51.100.7",
            ),
            (
                "10.0.0.1",
                vec!["203.0.113.9", "198.51.100.7, 10.2.2.2"],
                "198.51.100.7",
            ),
            ("127.0.0.1", vec!["198.51.100.7:4711"], "198.51.100.7"),
            ("127.0.0.1", vec!["[2001:db8::1]:4711"], "2001:db8::1"),
            ("127.0.0.1", vec!["[2001:db8::1]"], "2001:db8::1"),
            ("127.0.0.1", vec!["203.0.113.9, nonsense"], "127.0.0.1"),
            ("127.0.0.1", vec!["nonsense, 10.2.2.2"], "10.2.2.2"),
        ] {
            let peer = ip(peer);
            let mut headers = HeaderMap::new();
            for field in &forwarded {
                headers.append("x-forwarded-for", field.parse().unwrap());
            }
            assert_eq!(
                client_address(peer, &headers, &proxies),
                ip(expected),
                "{peer} {forwarded:?}"
            );
        }
    }

    #[test]
    fn parses_networks_strictly() {
        for (text, inside, outside) in [
            ("10.1.0.0/16", "10.1.255.255", "10.2.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "192.0.2.1", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
        ] {
            let network = Network::parse(text).unwrap();
            assert!(network.contains(ip(inside)), "{text}");
            assert!(!network.contains(ip(outside)), "{text}");
        }
        for wrong in [
            "",
            "proxy",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0/8",
            "/8",
        ] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ipv6_addresses_count_per_64_network() {
        assert_eq!(
            address_group(ip("2001:db8:1:2:3:4:5:6")),
            ip("2001:db8:1:2::")
        );
        assert_eq!(address_group(ip("192.0.2.1")), ip("192.0.2.1"));
    }
}
