//! Where a host is, as people write it: `HOST[:PORT]`, `NODEID@HOST[:PORT]` and `plain:HOST[:PORT]`.
//!
//! Only what it may look like is decided here. Names are looked up, and keys compared, by who connects.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{NodeId, ParseIdError};

/// The port of a host, where nobody says another.
pub const DEFAULT_PORT: u16 = 7467;

const PLAIN: &str = "plain:";
const ENDPOINT_RULE: &str = "it is HOST, HOST:PORT or [IPv6]:PORT";
const ADDRESS_RULE: &str =
    "it is HOST, HOST:PORT or [IPv6]:PORT, with NODEID@ in front where the node is known";
const PLAIN_RULE: &str =
    "`plain:` is without encryption, and leads to this machine only: localhost, 127.0.0.1 or [::1]";

/// A name or an IP address, and a port; the name in lower case. Text: `box:7467`, `[::1]:7467`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// Returns the name or the IP address, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns whether only this machine is reached there.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }
}

impl From<std::net::SocketAddr> for Endpoint {
    fn from(address: std::net::SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        f.pad(&if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    }
}

impl FromStr for Endpoint {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        read_endpoint(text).ok_or_else(|| bad(text, ENDPOINT_RULE))
    }
}

impl TryFrom<String> for Endpoint {
    type Error = ParseIdError;
    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> String {
        endpoint.to_string()
    }
}

/// Where a host is, and how it is known to be the one that is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Address {
    /// `HOST[:PORT]`: the node that answers first is the one that is meant from then on.
    Bare(Endpoint),
    /// `NODEID@HOST[:PORT]`: this node and no other.
    Node(NodeId, Endpoint),
    /// `plain:HOST[:PORT]`: without encryption; of this machine only.
    Plain(Endpoint),
}

impl Address {
    /// Returns where to connect to.
    pub fn endpoint(&self) -> &Endpoint {
        match self {
            Self::Bare(endpoint) | Self::Node(_, endpoint) | Self::Plain(endpoint) => endpoint,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bare(endpoint) => endpoint.fmt(f),
            Self::Node(node, endpoint) => f.pad(&format!("{node}@{endpoint}")),
            Self::Plain(endpoint) => f.pad(&format!("{PLAIN}{endpoint}")),
        }
    }
}

impl FromStr for Address {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let endpoint = |part: &str| read_endpoint(part).ok_or_else(|| bad(text, ADDRESS_RULE));
        if let Some(rest) = text.strip_prefix(PLAIN) {
            let endpoint = endpoint(rest)?;
            return if endpoint.is_loopback() {
                Ok(Self::Plain(endpoint))
            } else {
                Err(bad(text, PLAIN_RULE))
            };
        }
        match text.split_once('@') {
            Some((node, rest)) => Ok(Self::Node(node.parse()?, endpoint(rest)?)),
            None => Ok(Self::Bare(endpoint(text)?)),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = ParseIdError;
    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

fn bad(text: &str, rule: &'static str) -> ParseIdError {
    ParseIdError::new("host's address", text, rule)
}

fn read_endpoint(text: &str) -> Option<Endpoint> {
    if let Ok(ip) = text.parse::<Ipv6Addr>() {
        return Some(Endpoint { host: ip.to_string(), port: DEFAULT_PORT });
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, rest) = rest.split_once(']')?;
            (ip.parse::<Ipv6Addr>().ok()?.to_string(), rest)
        }
        None => {
            let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            (read_name(host)?, rest)
        }
    };
    let port = match port.strip_prefix(':') {
        Some(digits) => read_port(digits)?,
        None if port.is_empty() => DEFAULT_PORT,
        None => return None,
    };
    Some(Endpoint { host, port })
}

fn read_port(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|&port| plain && port != 0)
}

/// Returns a DNS name in lower case, or an IPv4 address. What ends in a number and is no such address is nothing: some
/// programs would read `127.1` or `0x7f.1` as one, and others would not.
fn read_name(host: &str) -> Option<String> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !(1..=253).contains(&host.len()) || !host.bytes().all(letter) || host.starts_with(['-', '.']) {
        return None;
    }
    let host = host.to_ascii_lowercase();
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let numeric = last.starts_with("0x") || last.bytes().all(|b| b.is_ascii_digit());
    (!numeric || host.parse::<Ipv4Addr>().is_ok()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, shown) in [
            ("box", "box:7467"),
            ("Box.Example", "box.example:7467"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("::1", "[::1]:7467"),
            ("[::1]", "[::1]:7467"),
            ("[::1]:99", "[::1]:99"),
            ("[2001:DB8::0:1]:99", "[2001:db8::1]:99"),
            ("plain:localhost", "plain:localhost:7467"),
            ("plain:127.0.0.1:80", "plain:127.0.0.1:80"),
            ("plain:[::1]:80", "plain:[::1]:80"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown, "{text}");
        }
        for bad in [
            "",
            "http://x",
            "x:",
            "x:0",
            "x:70000",
            "x:+1",
            "a b",
            "x:1:2",
            "[::1",
            "[box]",
            "::1]",
            "-x",
            ".",
            "é",
            "127.1",
            "0x7f.1",
            "1",
            "box.0x7f",
            "256.0.0.1",
            "@x",
            "user@x",
            "x?y",
            "x/..",
            "x\\y",
            "x#y",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_node_may_stand_in_front() {
        let node = NodeId::from_bytes([7; 32]);
        let address: Address = format!("{node}@box:99").parse().unwrap();
        assert_eq!(address, Address::Node(node, "box:99".parse().unwrap()));
        assert_eq!(address.to_string(), format!("{node}@box:99"));
        assert!(format!("{node}@").parse::<Address>().is_err());
        assert!(format!("{node}@{node}@box").parse::<Address>().is_err());
        assert!(format!("plain:{node}@localhost").parse::<Address>().is_err());
    }

    #[test]
    fn without_encryption_only_this_machine_is_reached() {
        for other in ["plain:box", "plain:10.0.0.1:80", "plain:localhost.evil", "plain:0.0.0.0", "plain:[::]"]
        {
            let error = other.parse::<Address>().unwrap_err();
            assert!(error.to_string().contains("this machine only"), "{other}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_that_is_read_again_or_an_error(text in "(plain:)?[a-z0-9.:@\\[\\]é -]{0,30}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
            }
        }
    }
}
