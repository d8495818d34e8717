//! Addresses by name, as the container sees them.
//!
//! Not by the C library: linked statically it would load parts of whatever library the image has, or has not.

mod dns;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::place::Place;

/// Returns the addresses of a host, best first; none when nobody knows it.
pub(crate) async fn addresses(place: &Place, host: &str) -> Vec<IpAddr> {
    let host = host.trim_end_matches('.');
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return vec![address];
    }
    let listed = in_hosts(&std::fs::read_to_string(place.hosts()).unwrap_or_default(), host);
    match listed.is_empty() {
        false => listed,
        true if host.eq_ignore_ascii_case("localhost") => {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        }
        true => {
            let servers = std::fs::read_to_string(place.resolv_conf()).unwrap_or_default();
            dns::Servers::parse(&servers).ask(host).await
        }
    }
}

/// Reads hosts(5).
fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(host)).then_some(address)
    });
    let mut found: Vec<IpAddr> = lines.collect();
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_comments_are_none() {
        let text =
            "::1 localhost ip6\n127.0.0.1 localhost\n# 1.2.3.4 box\n10.0.0.7\tBox # other\nbroken box\n";
        let localhost: Vec<String> = in_hosts(text, "LOCALHOST").iter().map(ToString::to_string).collect();
        assert_eq!(localhost, ["127.0.0.1", "::1"]);
        assert_eq!(in_hosts(text, "box"), [IpAddr::from([10, 0, 0, 7])]);
        assert!(in_hosts(text, "other").is_empty());
    }
}
