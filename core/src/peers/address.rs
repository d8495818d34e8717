//! Addresses that others tell: which are never right, and which only a neighbour may tell.
//!
//! A row is no reason to connect to somebody's router or metadata service, so each address is held against where the row
//! came from. Nothing here looks anything up: records have addresses, not names.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::id::ParseIdError;

/// Where something came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// This machine's own user, configuration or file.
    Own,
    /// The other end of a connection.
    Peer(IpAddr),
}

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// It is no server's: unspecified, multicast, link-local, reserved.
    Nowhere,
    /// This machine.
    Loopback,
    /// A network of somebody's own (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// Everybody.
    Public,
}

/// A network as one holder of addresses has it: a /24 of IPv4, a /48 of IPv6. Text: `203.0.113.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// The first three bytes.
    V4([u8; 3]),
    /// The first six bytes.
    V6([u8; 6]),
}

impl Network {
    /// Returns the network an address is in; an IPv4 address written as IPv6 is the IPv4 one.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, ..] = v6.octets();
                Self::V6([a, b, c, d, e, f])
            }
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4([a, b, c]) => write!(f, "{a}.{b}.{c}.0/24"),
            Self::V6([a, b, c, d, e, g]) => {
                let mut bytes = [0; 16];
                bytes[..6].copy_from_slice(&[*a, *b, *c, *d, *e, *g]);
                write!(f, "{}/48", Ipv6Addr::from(bytes))
            }
        }
    }
}

impl FromStr for Network {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let network = match text.split_once('/') {
            Some((address, "24")) => address.parse::<Ipv4Addr>().ok().map(|v4| Self::of(v4.into())),
            Some((address, "48")) => address.parse::<Ipv6Addr>().ok().map(|v6| Self::of(v6.into())),
            _ => None,
        };
        network.filter(|network| network.to_string() == text).ok_or_else(|| ParseIdError {
            noun: "network",
            value: text.chars().take(80).collect(),
            rule: "it is a /24 of IPv4 or a /48 of IPv6, as 203.0.113.0/24",
        })
    }
}

/// Returns how far an address reaches.
pub fn scope(address: IpAddr) -> Scope {
    match address.to_canonical() {
        IpAddr::V4(v4) => scope_v4(v4),
        IpAddr::V6(v6) => scope_v6(v6),
    }
}

fn scope_v4(address: Ipv4Addr) -> Scope {
    let [a, b, ..] = address.octets();
    match (a, b) {
        // 169.254.0.0/16 is link-local, where clouds have the service that tells a machine its secrets.
        (0 | 224.., _) | (169, 254) => Scope::Nowhere,
        (127, _) => Scope::Loopback,
        (10, _) | (172, 16..=31) | (192, 168) | (100, 64..=127) => Scope::Private,
        _ => Scope::Public,
    }
}

fn scope_v6(address: Ipv6Addr) -> Scope {
    let first = address.segments()[0];
    if address.is_loopback() {
        return Scope::Loopback;
    }
    match first {
        0xfc00..=0xfdff => Scope::Private,
        // Global unicast is 2000::/3 so far (RFC 4291); NAT64 would hide an IPv4 address of any scope.
        0x2000..=0x3fff if first != 0x2002 => Scope::Public,
        _ => Scope::Nowhere,
    }
}

/// Returns whether a server may have this address, wherever it is: it has a port and reaches somebody.
pub fn possible(address: SocketAddr) -> bool {
    let plain = match address {
        SocketAddr::V4(_) => true,
        SocketAddr::V6(v6) => v6.scope_id() == 0 && v6.flowinfo() == 0 && v6.ip().to_ipv4_mapped().is_none(),
    };
    plain && address.port() != 0 && scope(address.ip()) != Scope::Nowhere
}

/// Returns whether `source` may tell this address, and be told it: anybody a public one; a private one whoever is in the
/// same [`Network`] or on this machine; loopback only who is on this machine.
pub fn credible(address: IpAddr, source: Source) -> bool {
    let Source::Peer(from) = source else { return scope(address) != Scope::Nowhere };
    match scope(address) {
        Scope::Nowhere => false,
        Scope::Public => true,
        Scope::Loopback => scope(from) == Scope::Loopback,
        Scope::Private => scope(from) == Scope::Loopback || Network::of(from) == Network::of(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_reaches_nobody_is_impossible() {
        for bad in [
            "0.0.0.0:1",
            "224.0.0.1:1",
            "255.255.255.255:1",
            "169.254.169.254:80",
            "203.0.113.7:0",
            "0.1.2.3:1",
            "[::]:1",
            "[ff02::1]:1",
            "[fe80::1]:1",
            "[::ffff:127.0.0.1]:1",
            "[::ffff:8.8.8.8]:1",
            "[64:ff9b::7f00:1]:1",
            "[2002:7f00:1::]:1",
            "[2001:db8::1%3]:1",
        ] {
            if let Ok(address) = bad.parse() {
                assert!(!possible(address), "{bad}");
            }
        }
        for good in
            ["203.0.113.7:7467", "127.0.0.1:1", "192.168.1.5:22", "[::1]:1", "[2001:db8::1]:7", "[fd00::1]:7"]
        {
            assert!(possible(good.parse().unwrap()), "{good}");
        }
    }

    #[test]
    fn a_stranger_cannot_point_at_my_network() {
        let table = [
            ("203.0.113.7", "198.51.100.1", true),
            ("127.0.0.1", "198.51.100.1", false),
            ("127.0.0.1", "192.168.1.9", false),
            ("127.0.0.1", "::1", true),
            ("192.168.1.5", "192.168.1.9", true),
            ("192.168.1.5", "192.168.2.9", false),
            ("192.168.1.5", "198.51.100.1", false),
            ("192.168.1.5", "127.0.0.1", true),
            ("100.64.1.5", "198.51.100.1", false),
            ("fd00::1", "fd00::2", true),
            ("fd00::1", "2001:db8::2", false),
            ("169.254.169.254", "127.0.0.1", false),
            ("::ffff:127.0.0.1", "198.51.100.1", false),
        ];
        for (address, from, told) in table {
            assert_eq!(credible(ip(address), Source::Peer(ip(from))), told, "{address} by {from}");
        }
        assert!(credible(ip("192.168.1.5"), Source::Own) && !credible(ip("0.0.0.0"), Source::Own));
    }

    #[test]
    fn networks_survive_a_round_trip() {
        for text in ["203.0.113.0/24", "2001:db8:7::/48"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        for bad in ["203.0.113.7/24", "203.0.113.0/16", "203.0.113.0", "x/24", "2001:db8::/24"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
        assert_eq!(Network::of(ip("::ffff:203.0.113.9")), Network::V4([203, 0, 113]));
    }
}
