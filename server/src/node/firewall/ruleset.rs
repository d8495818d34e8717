//! The rules, as text for nft(8). Pure.
//!
//! The table is the host's own, and is about the bridges of its members alone, by the beginning of their names. It
//! only ever closes: what it lets pass the engines' rules, and those of the machine, still decide about.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use gx_core::config::PolicyConfig;
use gx_core::network::{Destination, NetworkMode, Place, Prefix};

/// Addresses that nobody but `reach` opens, and only by name: the machine itself, its links, and where clouds tell a
/// machine its secrets.
const NEVER: [Prefix; 14] = [
    Prefix::v4([0, 0, 0, 0], 8),
    Prefix::v4([127, 0, 0, 0], 8),
    Prefix::v4([169, 254, 0, 0], 16),
    Prefix::v4([100, 100, 100, 200], 32), // Alibaba Cloud
    Prefix::v4([168, 63, 129, 16], 32),   // Azure
    Prefix::v4([192, 0, 0, 192], 32),     // Oracle Cloud
    Prefix::v4([224, 0, 0, 0], 4),
    Prefix::v4([255, 255, 255, 255], 32),
    Prefix::v6([0, 0, 0, 0, 0, 0, 0, 0], 96),
    Prefix::v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),
    Prefix::v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32), // Amazon's, fd00:ec2::254 among them
    Prefix::v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0], 32),  // Google's
    Prefix::v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    Prefix::v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
];

/// Networks that are somebody's own (RFC 1918, 4193, 6598, 2544), and what leads to IPv4 addresses by another name
/// (RFC 6052, 8215, 3056).
const PRIVATE: [Prefix; 9] = [
    Prefix::v4([10, 0, 0, 0], 8),
    Prefix::v4([100, 64, 0, 0], 10),
    Prefix::v4([172, 16, 0, 0], 12),
    Prefix::v4([192, 168, 0, 0], 16),
    Prefix::v4([198, 18, 0, 0], 15),
    Prefix::v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
    Prefix::v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96),
    Prefix::v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
    Prefix::v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
];

/// The beginnings of the names of other bridges: those of engines, and of virtual machines.
const BRIDGES: [&str; 8] = ["gx", "br-", "cni", "docker", "lxc", "lxd", "podman", "virbr"];

/// What answers a connection that is refused, so that nobody waits for it.
const REFUSE: &str = "reject with icmpx admin-prohibited";

/// What the rules are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ruleset<'a> {
    /// The table's name.
    pub(crate) table: &'a str,
    /// The beginning of the names of the bridges.
    pub(crate) bridges: &'a str,
    /// What is noted beside the first rule.
    pub(crate) note: Option<&'a str>,
    pub(crate) policy: &'a PolicyConfig,
    /// Whom containers ask for names.
    pub(crate) resolvers: &'a BTreeSet<IpAddr>,
    /// The networks that the machine is in.
    pub(crate) neighbours: &'a BTreeSet<Prefix>,
}

impl Ruleset<'_> {
    /// Returns the rules for `nft -f -`, which takes all of them or none in the place of those there were.
    pub(crate) fn text(&self) -> String {
        let (table, own) = (self.table, format!("\"{}*\"", self.bridges));
        let note = self.note.map(|note| format!(" comment \"{note}\"")).unwrap_or_default();
        let mut text = format!("table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n");
        for chain in [
            // An engine may let loopback addresses in from its bridges (route_localnet).
            Chain::base("early", "prerouting", -310)
                .rule(format!("iifname {own} ip daddr 127.0.0.0/8 drop{note}"))
                .rule(format!("iifname {own} ip6 daddr ::1 drop")),
            Chain::base("input", "input", -10).rule(format!("iifname {own} jump to_host")),
            Chain::base("forward", "forward", -10)
                .rule(format!("iifname {own} jump from_container"))
                .rule(format!("oifname {own} jump to_container")),
            self.arriving(),
            self.leaving(),
            // Others on the machine or its networks could else go round the published ports.
            Chain::new("to_container")
                .rule("ct state established,related accept")
                .rule("ct status dnat accept")
                .rule(REFUSE),
        ] {
            chain.write(&mut text);
        }
        text.push_str("}\n");
        text
    }

    /// What may reach the machine itself. Whatever comes here is for one of its addresses.
    fn arriving(&self) -> Chain {
        let own_resolver = format!("fib daddr . iif type local {} accept", port(53));
        let reach = self.policy.reach.iter().flat_map(|to| match to.place {
            Place::Host => vec![match to.port {
                Some(number) => format!("{} accept", port(number)),
                None => "accept".to_owned(),
            }],
            Place::Private => Vec::new(),
            Place::Range(range) => vec![accept(&range, to.port)],
        });
        Chain::new("to_host")
            .rule("ct state established,related accept")
            .rule(own_resolver)
            .rules(self.names())
            .rules(reach)
            .rule(REFUSE)
    }

    /// What may leave a bridge of ours.
    fn leaving(&self) -> Chain {
        let chain =
            Chain::new("from_container")
                .rule("ct state established,related accept")
                // Within one bridge: some kernels filter that too (bridge-nf-call-iptables).
                .rule("fib daddr . iif oif exists accept")
                .rules(self.names())
                .rules(BRIDGES.map(|name| format!("oifname \"{name}*\" {REFUSE}")))
                .rules(self.policy.reach.iter().filter_map(listed))
                .rules(NEVER.iter().map(refuse))
                .rules(
                    self.policy.reach.iter().filter(|to| to.place == Place::Private).flat_map(|to| {
                        self.private().map(|range| accept(&range, to.port)).collect::<Vec<_>>()
                    }),
                );
        let wide = |to: &&Destination| !self.opens_private(to);
        let outbound: &[Destination] = match self.policy.network {
            NetworkMode::Outbound => &self.policy.outbound,
            NetworkMode::Full | NetworkMode::None => &[],
        };
        let narrow = outbound.iter().filter(|to| self.opens_private(to)).filter_map(listed);
        let chain = chain.rules(narrow).rules(self.private().map(|range| refuse(&range)));
        match self.policy.network {
            NetworkMode::Full => chain,
            NetworkMode::Outbound | NetworkMode::None => {
                chain.rules(outbound.iter().filter(wide).filter_map(listed)).rule(REFUSE)
            }
        }
    }

    /// Returns all networks that are closed unless they are named.
    fn private(&self) -> impl Iterator<Item = Prefix> {
        let covered = |range: &&Prefix| !PRIVATE.iter().any(|private| private.covers(range));
        PRIVATE.into_iter().chain(self.neighbours.iter().filter(covered).copied())
    }

    /// Whether a destination names a private network, rather than one that happens to have some in it.
    fn opens_private(&self, to: &Destination) -> bool {
        match to.place {
            Place::Range(range) => self.private().any(|private| private.covers(&range)),
            Place::Host | Place::Private => false,
        }
    }

    /// Whom containers ask for names; one that is itself in a container is behind a published port.
    fn names(&self) -> impl Iterator<Item = String> {
        self.resolvers.iter().flat_map(|address| {
            let family = if address.is_ipv4() { "ip" } else { "ip6" };
            let asked = format!("ct original {family} daddr {address} ct original proto-dst 53");
            let published = format!("ct status dnat meta l4proto {{ tcp, udp }} {asked} accept");
            [accept(&Prefix::from(*address), Some(53)), published]
        })
    }
}

fn port(number: u16) -> String {
    format!("meta l4proto {{ tcp, udp }} th dport {number}")
}

fn matches(range: &Prefix) -> String {
    let family = if range.address().is_ipv4() { "ip" } else { "ip6" };
    match range.length() {
        // nft takes no range of everything.
        0 if range.address().is_ipv4() => "meta nfproto ipv4".to_owned(),
        0 => "meta nfproto ipv6".to_owned(),
        _ => format!("{family} daddr {range}"),
    }
}

fn accept(range: &Prefix, number: Option<u16>) -> String {
    match number {
        Some(number) => format!("{} {} accept", matches(range), port(number)),
        None => format!("{} accept", matches(range)),
    }
}

/// Opens a destination that is named by its addresses.
fn listed(to: &Destination) -> Option<String> {
    match to.place {
        Place::Range(range) => Some(accept(&range, to.port)),
        Place::Host | Place::Private => None,
    }
}

fn refuse(range: &Prefix) -> String {
    format!("{} {REFUSE}", matches(range))
}

struct Chain {
    name: &'static str,
    rules: Vec<String>,
}

impl Chain {
    fn new(name: &'static str) -> Self {
        Self { name, rules: Vec::new() }
    }

    /// A chain that the kernel asks. A refusal of any such chain holds, whatever the others say.
    fn base(name: &'static str, hook: &str, priority: i32) -> Self {
        Self::new(name).rule(format!("type filter hook {hook} priority {priority}; policy accept;"))
    }

    fn rule(mut self, rule: impl Into<String>) -> Self {
        self.rules.push(rule.into());
        self
    }

    fn rules(mut self, rules: impl IntoIterator<Item = String>) -> Self {
        self.rules.extend(rules);
        self
    }

    fn write(&self, text: &mut String) {
        let rules = self.rules.join("\n\t\t");
        write!(text, "\tchain {} {{\n\t\t{rules}\n\t}}\n", self.name).expect("a text takes any text");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(policy: &PolicyConfig) -> String {
        let resolvers = BTreeSet::from(["10.255.255.53".parse().unwrap(), "2001:db8::53".parse().unwrap()]);
        let neighbours = ["203.0.113.0/24", "192.168.7.0/24"].map(|range| range.parse().unwrap());
        let neighbours = BTreeSet::from(neighbours);
        let bridges = "gxabcd-";
        let (table, note) = ("gx_abcd", Some("gx of /data"));
        Ruleset { table, bridges, note, policy, resolvers: &resolvers, neighbours: &neighbours }.text()
    }

    fn chain(text: &str, name: &str) -> Vec<String> {
        let start = text.find(&format!("chain {name} {{")).unwrap();
        let body = text[start..].split_once('\n').unwrap().1.split_once("\n\t}").unwrap().0;
        body.lines().map(|line| line.trim().to_owned()).collect()
    }

    fn destinations(list: &[&str]) -> Vec<Destination> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn before(rules: &[String], first: &str, second: &str) -> bool {
        let at = |mark: &str| rules.iter().position(|rule| rule.starts_with(mark));
        at(first).expect(first) < at(second).expect(second)
    }

    #[test]
    fn by_default_the_internet_is_open_and_all_else_is_closed() {
        let text = text(&PolicyConfig::default());
        let rules = chain(&text, "from_container");
        for closed in ["10.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16", "203.0.113.0/24", "127.0.0.0/8"] {
            assert!(rules.contains(&format!("ip daddr {closed} {REFUSE}")), "{closed}: {rules:#?}");
        }
        assert!(rules.contains(&format!("ip6 daddr fd00:ec2::/32 {REFUSE}")));
        assert!(!text.contains("192.168.7.0/24"), "it is private as it is");
        assert!(
            before(&rules, "oifname \"gx*\" reject", "ip daddr 169.254.0.0/16"),
            "no road between owners"
        );
        assert!(before(
            &rules,
            "ip daddr 10.255.255.53 meta l4proto { tcp, udp } th dport 53",
            "ip daddr 10.0.0.0/8"
        ));
        assert_ne!(rules.last().unwrap(), REFUSE);
        assert_eq!(chain(&text, "to_host").last().unwrap(), REFUSE);
        assert_eq!(chain(&text, "to_container").last().unwrap(), REFUSE);
    }

    #[test]
    fn the_rules_are_about_our_bridges_alone() {
        let text = text(&PolicyConfig::default());
        for base in ["early", "input", "forward"] {
            for rule in chain(&text, base).iter().skip(1) {
                let ours = ["iifname \"gxabcd-*\" ", "oifname \"gxabcd-*\" "];
                assert!(ours.iter().any(|ours| rule.starts_with(ours)), "{rule}");
            }
            assert!(chain(&text, base)[0].ends_with("policy accept;"));
        }
    }

    #[test]
    fn what_is_named_is_open_before_it_is_closed() {
        let reach = destinations(&["host:3128", "10.9.0.0/16", "[fd00:ec2::254]:80", "private:445"]);
        let text = text(&PolicyConfig { reach, ..PolicyConfig::default() });
        let rules = chain(&text, "from_container");
        assert!(before(&rules, "ip daddr 10.9.0.0/16 accept", "ip daddr 169.254.0.0/16"));
        assert!(before(
            &rules,
            "ip6 daddr fd00:ec2::254 meta l4proto { tcp, udp } th dport 80",
            "ip6 daddr fd00:ec2::/32"
        ));
        assert!(before(
            &rules,
            "ip daddr 192.168.0.0/16 meta l4proto { tcp, udp } th dport 445 accept",
            "ip daddr 192.168.0.0/16 reject"
        ));
        assert!(
            chain(&text, "to_host").contains(&"meta l4proto { tcp, udp } th dport 3128 accept".to_owned())
        );
        assert!(before(&rules, "oifname \"docker*\"", "ip daddr 10.9.0.0/16"), "no road to other containers");
    }

    #[test]
    fn private_does_not_open_the_links_nor_the_clouds_secrets() {
        let policy = PolicyConfig { reach: destinations(&["private"]), ..PolicyConfig::default() };
        let rules = chain(&text(&policy), "from_container");
        assert!(!rules.iter().any(|rule| rule.contains("169.254") && rule.ends_with("accept")), "{rules:#?}");
        // fc00::/7 has Amazon's and Google's in it.
        assert!(before(&rules, "ip6 daddr fd00:ec2::/32 reject", "ip6 daddr fc00::/7 accept"));
        assert!(before(&rules, "ip daddr 100.100.100.200 reject", "ip daddr 100.64.0.0/10 accept"));
    }

    #[test]
    fn an_outbound_list_opens_what_it_names_and_nothing_else() {
        let outbound = destinations(&["10.0.0.0/8", "0.0.0.0/0:443", "1.1.1.1"]);
        let rules = |network| {
            let policy = PolicyConfig { network, outbound: outbound.clone(), ..PolicyConfig::default() };
            chain(&text(&policy), "from_container")
        };
        let listed = rules(NetworkMode::Outbound);
        assert!(before(&listed, "ip daddr 10.0.0.0/8 accept", "ip daddr 10.0.0.0/8 reject"));
        assert!(before(&listed, "ip daddr 169.254.0.0/16 reject", "meta nfproto ipv4 meta l4proto"));
        assert!(before(&listed, "ip daddr 192.168.0.0/16 reject", "meta nfproto ipv4 meta l4proto"));
        assert!(listed.contains(&"ip daddr 1.1.1.1 accept".to_owned()));
        assert_eq!(listed.last().unwrap(), REFUSE);
        let none = rules(NetworkMode::None);
        assert!(!none.iter().any(|rule| rule.contains("1.1.1.1")));
        assert_eq!(none.last().unwrap(), REFUSE);
    }
}
