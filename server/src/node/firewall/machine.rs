//! What the machine says of its network: whom it asks for names, and which networks it is in.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gx_core::network::Prefix;

use super::Addresses;

/// Where resolvers are, as engines look for them: where the first names only this machine, the second says whom that
/// asks (systemd-resolved(8)).
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
/// Whom engines ask where the machine names nobody (moby's and Podman's defaults).
const DEFAULT_RESOLVERS: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V4(Ipv4Addr::new(8, 8, 4, 4)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8844)),
];

/// Returns whom containers ask for names.
pub(super) fn resolvers() -> Addresses {
    let files = RESOLVERS.iter().map(|file| std::fs::read_to_string(file).unwrap_or_default());
    files.map(|text| servers(&text)).find(|servers| !servers.is_empty()).unwrap_or(DEFAULT_RESOLVERS.into())
}

/// Returns the servers of a resolv.conf(5) that a container can ask.
fn servers(text: &str) -> Addresses {
    let server = |line: &str| line.trim().strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok();
    text.lines()
        .filter_map(server)
        .filter(|address| !address.is_loopback() && !address.is_unspecified())
        .collect()
}

/// Returns the names of all interfaces of this process's network namespace: /sys may show those of another.
pub(super) fn interfaces() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let name = |line: &str| Some(line.split_once(':')?.0.trim().to_owned());
    text.lines().skip(2).filter_map(name).collect()
}

/// Returns the networks that the machine is in, but not those of containers.
pub(super) fn neighbours() -> BTreeSet<Prefix> {
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    let (v4, v6) = (read("/proc/net/route"), read("/proc/net/ipv6_route"));
    v4.lines().skip(1).filter_map(on_link4).chain(v6.lines().filter_map(on_link6)).collect()
}

/// Returns which subnets of the machine a new one must not overlap: whatever it has a road to, but the whole internet.
pub(in crate::node) fn roads() -> BTreeSet<Prefix> {
    let text = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    text.lines().skip(1).filter_map(|line| Some(route4(line)?.to)).filter(|to| to.length() > 0).collect()
}

struct Route4<'a> {
    interface: &'a str,
    to: Prefix,
    has_gateway: bool,
}

/// Reads a line of /proc/net/route: interface, destination, gateway, flags, three numbers, mask; addresses are in
/// hexadecimal, in the order of the machine's bytes.
fn route4(line: &str) -> Option<Route4<'_>> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
    let (address, gateway, mask) = (number(1)?.to_ne_bytes(), number(2)?, number(7)?);
    let length = u32::from_ne_bytes(mask.to_ne_bytes()).count_ones() as u8;
    let to = Prefix::of(IpAddr::from(address), length)?;
    Some(Route4 { interface: fields[0], to, has_gateway: gateway != 0 })
}

fn on_link4(line: &str) -> Option<Prefix> {
    let route = route4(line)?;
    let near = !route.has_gateway && route.to.length() > 0 && !route.interface.starts_with("gx");
    near.then_some(route.to)
}

/// Reads a line of /proc/net/ipv6_route: destination and its length, source and its length, next hop, four numbers,
/// interface.
fn on_link6(line: &str) -> Option<Prefix> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [to, length, _, _, hop, .., interface] = fields.as_slice() else { return None };
    let address = Ipv6Addr::from_bits(u128::from_str_radix(to, 16).ok()?);
    let length = u8::from_str_radix(length, 16).ok()?;
    let near = u128::from_str_radix(hop, 16) == Ok(0) && (1..128).contains(&length);
    let range = Prefix::of(address.into(), length)?;
    (near && *interface != "lo" && !interface.starts_with("gx")).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_on_the_machine_itself_are_not_asked() {
        let text = "# x\nnameserver 127.0.0.53\nnameserver 10.0.0.1\n nameserver\t2001:db8::1 \noptions ndots:0\nnameserver";
        let expected = ["10.0.0.1", "2001:db8::1"].map(|text| text.parse().unwrap());
        assert_eq!(servers(text), expected.into());
    }

    #[test]
    fn networks_are_those_without_a_gateway() {
        let line = |interface: &str, to: &str, gateway: &str, mask: &str| {
            let swap = |hex: &str| format!("{:08X}", u32::from_str_radix(hex, 16).unwrap().to_be());
            format!("{interface}\t{}\t{}\t0001\t0\t0\t0\t{}\t0\t0\t0", swap(to), swap(gateway), swap(mask))
        };
        let near = line("eth0", "C0000200", "00000000", "FFFFFF00");
        if cfg!(target_endian = "little") {
            assert_eq!(near.split('\t').nth(1), Some("000200C0"), "as the kernel has it");
        }
        assert_eq!(on_link4(&near), Some("192.0.2.0/24".parse().unwrap()));
        assert_eq!(on_link4(&line("eth0", "00000000", "C0000201", "00000000")), None);
        assert_eq!(on_link4(&line("eth0", "0A000000", "C0000201", "FF000000")), None);
        assert_eq!(on_link4(&line("gxabcd-x", "0AD50100", "00000000", "FFFFFF00")), None);
        assert_eq!(on_link4("Iface\tDestination"), None);
        let far = route4(&line("eth0", "0A000000", "C0000201", "FF000000")).unwrap().to;
        assert_eq!(far, "10.0.0.0/8".parse().unwrap());
    }

    #[test]
    fn networks_of_ipv6_are_read_too() {
        let zero = "00000000000000000000000000000000";
        let line = |to: &str, length: &str, hop: &str, interface: &str| {
            format!("{to} {length} {zero} 00 {hop} 00000100 00000001 00000000 00000001 {interface}")
        };
        let net = "20010db8000000000000000000000000";
        assert_eq!(on_link6(&line(net, "40", zero, "eth0")), Some("2001:db8::/64".parse().unwrap()));
        assert_eq!(on_link6(&line(zero, "00", zero, "eth0")), None);
        assert_eq!(on_link6(&line(net, "80", zero, "eth0")), None, "an address of its own");
        assert_eq!(on_link6(&line(net, "40", net, "eth0")), None);
        assert_eq!(on_link6(""), None);
    }
}
