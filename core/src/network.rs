//! Networks of containers: what one is attached to, and how addresses and places to connect to are written.
//!
//! Which network a container gets is the host's to decide; a runtime makes it, and removes it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::ParseIdError;

/// How far a container reaches.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// Nowhere: it has loopback alone, and nobody reaches it.
    None,
    /// To what the host lists, and its published ports are reached.
    Outbound,
    /// To the internet, and its published ports are reached.
    #[default]
    Full,
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Outbound => "outbound",
            Self::Full => "full",
        })
    }
}

/// What a container is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NetworkSpec {
    /// Loopback alone.
    None,
    /// A bridge on the machine, that it shares with the containers of the same owner.
    Bridge(Bridge),
    /// One of a newer version, which a runtime refuses: its own default might be wider.
    #[serde(other)]
    Other,
}

/// A bridge on the machine, with a subnet of its own. A runtime makes it with the first container that is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bridge {
    /// The engine's name for it, of `[a-z0-9-]`, which is that of its interface on the machine too: at most 15
    /// characters (IFNAMSIZ of the kernel). By it the host's firewall knows the container.
    pub name: String,
    /// Subnets (IPv4), the first of which that is free is taken when it has to be made.
    #[serde(default)]
    pub subnets: Vec<Prefix>,
    /// Labels for it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A range of addresses. Text: `10.0.0.0/8`, `2001:db8::/32`, or one address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl From<IpAddr> for Prefix {
    /// Returns the range of this address alone.
    fn from(address: IpAddr) -> Self {
        let length = if address.is_ipv4() { 32 } else { 128 };
        Self { address, length }
    }
}

impl Prefix {
    /// Returns the range of IPv4 addresses that begin as this one does, in so many bits (at most 32).
    pub const fn v4(address: [u8; 4], length: u8) -> Self {
        assert!(length <= 32, "an IPv4 address has 32 bits");
        let bits = u32::from_be_bytes(address) & mask4(length);
        Self { address: IpAddr::V4(Ipv4Addr::from_bits(bits)), length }
    }

    /// Returns the range of IPv6 addresses that begin as this one does, in so many bits (at most 128).
    pub const fn v6(address: [u16; 8], length: u8) -> Self {
        assert!(length <= 128, "an IPv6 address has 128 bits");
        let [a, b, c, d, e, f, g, h] = address;
        let bits = Ipv6Addr::new(a, b, c, d, e, f, g, h).to_bits() & mask6(length);
        Self { address: IpAddr::V6(Ipv6Addr::from_bits(bits)), length }
    }

    /// Returns the range this address is in, when so many bits count; `None` when it has fewer.
    pub const fn of(address: IpAddr, length: u8) -> Option<Self> {
        match address {
            IpAddr::V4(v4) if length <= 32 => Some(Self::v4(v4.octets(), length)),
            IpAddr::V6(v6) if length <= 128 => Some(Self::v6(v6.segments(), length)),
            _ => None,
        }
    }

    /// Returns the first address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns how many bits all its addresses have in common.
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// Returns whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::of(address, self.length).is_some_and(|range| range.address == self.address)
    }

    /// Returns whether all of another range is in it.
    pub fn covers(&self, other: &Self) -> bool {
        self.length <= other.length && self.contains(other.address)
    }

    /// Returns whether they have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Returns the ranges of a greater length that it is made of, beginning with the one of this number, counted
    /// from 0 and around; none where the length is not greater, or it is not IPv4.
    pub fn parts(self, length: u8, first: u64) -> impl Iterator<Item = Self> {
        let bits = match self.address {
            IpAddr::V4(address) if length >= self.length && length <= 32 => Some(address.to_bits()),
            _ => None,
        };
        let count = bits.map_or(0, |_| 1_u64 << (length - self.length));
        (0..count).map(move |step| {
            let number = ((first % count) + step) % count;
            // Below 2^32: the number has as many bits as are between the two lengths.
            let offset = (number << (32 - u32::from(length))) as u32;
            Self::v4((bits.unwrap_or_default() | offset).to_be_bytes(), length)
        })
    }
}

const fn mask4(length: u8) -> u32 {
    if length == 0 { 0 } else { u32::MAX << (32 - length) }
}

const fn mask6(length: u8) -> u128 {
    if length == 0 { 0 } else { u128::MAX << (128 - length) }
}

impl FromStr for Prefix {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bad = |rule| ParseIdError { noun: "range of addresses", value: shown(text), rule };
        let form = "it is an address, or an address, '/' and how many of its bits count, as in 10.0.0.0/8";
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad(form))?;
        if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
            return Err(bad("it is an IPv4 address, and is written as one"));
        }
        let digits = |length: &str| !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
        let length = match length {
            None if address.is_ipv4() => 32,
            None => 128,
            Some(length) if digits(length) => length.parse().map_err(|_| bad(form))?,
            Some(_) => return Err(bad(form)),
        };
        let range = Self::of(address, length).ok_or_else(|| bad(form))?;
        if range.address != address {
            return Err(bad("it has bits behind those that count, as 10.1.0.0/8 has"));
        }
        Ok(range)
    }
}

impl TryFrom<String> for Prefix {
    type Error = ParseIdError;
    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(range: Prefix) -> String {
        range.to_string()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.length) {
            (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => f.pad(&self.address.to_string()),
            (address, length) => f.pad(&format!("{address}/{length}")),
        }
    }
}

/// Where containers may connect to. Text: `host`, `private` or a [`Prefix`], each with `:PORT` where only one port is
/// meant; an IPv6 address with a port stands in brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Destination {
    /// Which machines.
    pub place: Place,
    /// The port, of TCP and of UDP; `None` is all.
    pub port: Option<u16>,
}

/// Which machines a [`Destination`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The host itself, by any of its addresses.
    Host,
    /// Other machines of the networks the host is in, and of all private networks.
    Private,
    /// Those with these addresses.
    Range(Prefix),
}

impl FromStr for Destination {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bad = || ParseIdError {
            noun: "destination",
            value: shown(text),
            rule: "it is `host`, `private`, an address or a range of them, each with :PORT where one port is meant",
        };
        let place = |text: &str| match text {
            "host" => Ok(Place::Host),
            "private" => Ok(Place::Private),
            range => range.parse().map(Place::Range).map_err(|_| bad()),
        };
        let port = |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u16>().ok().filter(|&port| digits && port != 0).ok_or_else(bad)
        };
        if let Some(rest) = text.strip_prefix('[') {
            let (inside, rest) = rest.split_once(']').ok_or_else(bad)?;
            let range: Prefix = inside.parse().map_err(|_| bad())?;
            if range.address.is_ipv4() {
                return Err(bad());
            }
            let port = rest.strip_prefix(':').map(port).transpose()?;
            let whole = port.is_some() || rest.is_empty();
            return if whole { Ok(Self { place: Place::Range(range), port }) } else { Err(bad()) };
        }
        if let Ok(place) = place(text) {
            return Ok(Self { place, port: None });
        }
        let (before, after) = text.rsplit_once(':').ok_or_else(bad)?;
        match place(before)? {
            Place::Range(range) if range.address.is_ipv6() => Err(bad()),
            place => Ok(Self { place, port: Some(port(after)?) }),
        }
    }
}

impl TryFrom<String> for Destination {
    type Error = ParseIdError;
    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> String {
        destination.to_string()
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::Host => "host".to_owned(),
            Place::Private => "private".to_owned(),
            Place::Range(range) if range.address.is_ipv6() && self.port.is_some() => format!("[{range}]"),
            Place::Range(range) => range.to_string(),
        };
        match self.port {
            Some(port) => f.pad(&format!("{place}:{port}")),
            None => f.pad(&place),
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_holds_what_begins_as_it_does() {
        let ten = range("10.0.0.0/8");
        assert!(ten.contains("10.255.0.1".parse().unwrap()) && !ten.contains("11.0.0.0".parse().unwrap()));
        assert!(!ten.contains("::a00:1".parse().unwrap()));
        assert!(ten.covers(&range("10.1.0.0/16")) && !range("10.1.0.0/16").covers(&ten));
        assert!(range("0.0.0.0/0").overlaps(&ten) && !range("fe80::/10").overlaps(&ten));
        assert_eq!(range("10.1.2.3").to_string(), "10.1.2.3");
        for bad in
            ["", "10", "10.1.0.0/8", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/", "::ffff:10.0.0.1", "::/129"]
        {
            assert!(bad.parse::<Prefix>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_parts_of_a_range_are_all_of_it_once() {
        let parts: Vec<String> = range("10.213.0.0/22").parts(24, 6).map(|part| part.to_string()).collect();
        assert_eq!(parts, ["10.213.2.0/24", "10.213.3.0/24", "10.213.0.0/24", "10.213.1.0/24"]);
        assert_eq!(range("10.213.7.0/24").parts(24, 9).count(), 1);
        assert_eq!(range("10.213.7.0/26").parts(24, 0).count(), 0);
        assert_eq!(range("0.0.0.0/0").parts(32, u64::MAX).nth(1), Some(range("0.0.0.0")));
    }

    #[test]
    fn destinations_are_read_as_people_write_them() {
        for text in [
            "host",
            "host:53",
            "private",
            "10.0.0.0/8",
            "1.1.1.1:443",
            "2001:db8::/32",
            "[2001:db8::1]:443",
            "::1",
        ] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
        assert_eq!("[::1]".parse::<Destination>().unwrap(), "::1".parse().unwrap());
        for bad in [
            "",
            "host:",
            "host:0",
            "host:+1",
            "example.org",
            "1.1.1.1:",
            "[1.1.1.1]:5",
            "[::1]5",
            "[::1",
            "::/0:5",
        ] {
            assert!(bad.parse::<Destination>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_network_of_a_newer_version_is_told_from_none() {
        let read = |text: &str| serde_json::from_str::<NetworkSpec>(text).unwrap();
        assert_eq!(read(r#"{"kind":"none"}"#), NetworkSpec::None);
        assert_eq!(read(r#"{"kind":"mesh","x":1}"#), NetworkSpec::Other);
        let bridge =
            Bridge { name: "gx-a".into(), subnets: vec![range("10.0.0.0/24")], labels: BTreeMap::new() };
        let text = serde_json::to_string(&NetworkSpec::Bridge(bridge.clone())).unwrap();
        assert_eq!(read(&text), NetworkSpec::Bridge(bridge));
    }

    proptest! {
        #[test]
        fn any_text_is_a_destination_or_an_error(text in "(\\PC{0,20}|[0-9a-f:./\\[\\]]{0,24})") {
            if let Ok(destination) = text.parse::<Destination>() {
                prop_assert_eq!(destination.to_string().parse::<Destination>().unwrap(), destination);
            }
        }
    }
}
