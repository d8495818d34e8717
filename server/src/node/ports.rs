//! Ports on the host for containers: within the configured range, free, and never given twice at a time.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use gx_core::config::{LimitConfig, PortRange};
use gx_core::{PortRequest, Protocol};

use super::caller::Caller;
use crate::error::{Result, ServerError};

/// The ports that are promised to containers which are just being made.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ports(Arc<Mutex<BTreeSet<HostPort>>>);

/// A port on the host.
pub(crate) type HostPort = (Protocol, u16);

/// What a request wants of ports.
#[derive(Debug, Clone)]
pub(crate) struct PortWish {
    /// Named ports.
    pub(crate) ports: Vec<PortRequest>,
    /// So many beside, with the same number inside and outside.
    pub(crate) extra: u16,
}

impl PortWish {
    /// Returns whether the host chooses at least one port, so that another choice may be free.
    pub(crate) fn has_choice(&self) -> bool {
        self.extra > 0 || self.ports.iter().any(|port| port.host_port.is_none())
    }

    /// Checks what is asked for by name against the limits, and fills in the address. The machine's own user may have
    /// any port by its number.
    ///
    /// # Errors
    /// [`ServerError::PortOutside`], [`ServerError::AddressOutside`].
    pub(crate) fn check(mut self, limits: &LimitConfig, caller: &Caller) -> Result<Self> {
        for port in &mut self.ports {
            if let Some(asked) = port.host_port
                && *caller != Caller::Host
                && !(limits.ports.first..=limits.ports.last).contains(&asked)
            {
                return Err(ServerError::PortOutside { port: asked, range: limits.ports });
            }
            let allowed = limits.publish_address;
            let asked = *port.host_address.get_or_insert(allowed);
            // Loopback is never more than the host gives; everything is within "all addresses".
            if asked != allowed && !asked.is_loopback() && !allowed.is_unspecified() {
                return Err(ServerError::AddressOutside { asked, allowed });
            }
        }
        Ok(self)
    }

    /// Adds a port of the container, published where the configuration says, unless it is asked for already.
    pub(crate) fn add(&mut self, port: PortRequest, limits: &LimitConfig) {
        let inside = |port: &PortRequest| (port.container_port, port.protocol);
        if !self.ports.iter().any(|asked| inside(asked) == inside(&port)) {
            self.ports.push(PortRequest { host_address: Some(limits.publish_address), ..port });
        }
    }
}

/// Chosen ports; they are promised to nobody else until this is dropped.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// What the engine is asked for; each has a port and an address on the host.
    pub(crate) ports: Vec<PortRequest>,
    promised: Vec<HostPort>,
    all: Ports,
}

impl Ports {
    /// Chooses a free port wherever the wish leaves it to the host, beginning at a place that `seed` gives. Those in
    /// `taken` are passed over.
    ///
    /// # Errors
    /// [`ServerError::NoFreePort`].
    pub(crate) fn choose(
        &self,
        wish: &PortWish,
        limits: &LimitConfig,
        taken: &BTreeSet<HostPort>,
        seed: u64,
    ) -> Result<Chosen> {
        let range = limits.ports;
        let wanted = wish.ports.len() + usize::from(wish.extra);
        let none_free = || ServerError::NoFreePort { wanted, range };
        let mut promised = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut candidates = candidates(range, seed);
        let mut chosen = Chosen { ports: Vec::new(), promised: Vec::new(), all: self.clone() };
        let inside: BTreeSet<HostPort> =
            wish.ports.iter().map(|port| (port.protocol, port.container_port)).collect();
        let named: BTreeSet<HostPort> =
            wish.ports.iter().filter_map(|port| Some((port.protocol, port.host_port?))).collect();
        let mut next = |protocol, address, extra: bool| {
            candidates.find(|&port| {
                let place = (protocol, port);
                let spoken_for =
                    taken.contains(&place) || named.contains(&place) || (extra && inside.contains(&place));
                !spoken_for
                    && !promised.contains(&place)
                    && is_free(protocol, address, port)
                    && promised.insert(place)
            })
        };
        let extra = PortRequest {
            container_port: 0,
            protocol: Protocol::Tcp,
            host_port: None,
            host_address: Some(limits.publish_address),
        };
        let wishes = wish.ports.iter().map(|port| (*port, false));
        let extras = std::iter::repeat_n((extra, true), usize::from(wish.extra));
        let mut failed = false;
        for (mut port, extra) in wishes.chain(extras) {
            if port.host_port.is_none() {
                let address = port.host_address.unwrap_or(limits.publish_address);
                let Some(free) = next(port.protocol, address, extra) else {
                    failed = true;
                    break;
                };
                chosen.promised.push((port.protocol, free));
                port.host_port = Some(free);
                if extra {
                    port.container_port = free;
                }
            }
            chosen.ports.push(port);
        }
        drop(promised); // dropping what was chosen takes the lock
        if failed { Err(none_free()) } else { Ok(chosen) }
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        for port in &self.promised {
            all.remove(port);
        }
    }
}

/// Returns every port of the range once, from a place within it on.
fn candidates(range: PortRange, seed: u64) -> impl Iterator<Item = u16> {
    let count = u64::from(range.last - range.first) + 1;
    let start = seed % count;
    (0..count).map(move |step| range.first + ((start + step) % count) as u16)
}

/// Returns whether nobody listens there now. An engine may still find it taken a moment later; and what only an engine
/// may bind (a low port, an address it is about to have) is for the engine to say.
fn is_free(protocol: Protocol, address: IpAddr, port: u16) -> bool {
    let place = SocketAddr::new(address, port);
    let bound = match protocol {
        Protocol::Tcp => TcpListener::bind(place).map(drop),
        Protocol::Udp => UdpSocket::bind(place).map(drop),
    };
    !bound.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(first: u16, last: u16) -> LimitConfig {
        LimitConfig { ports: PortRange { first, last }, ..LimitConfig::default() }
    }

    /// Returns a range of ports, all of them free a moment ago.
    fn free_range(count: u16) -> LimitConfig {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        (20_000..60_000)
            .step_by(usize::from(count))
            .find(|&first| (first..first + count).all(|port| is_free(Protocol::Tcp, loopback, port)))
            .map(|first| limits(first, first + count - 1))
            .unwrap()
    }

    #[test]
    fn extra_ports_have_the_same_number_inside_and_outside() {
        let limits = free_range(4);
        let wish =
            PortWish { ports: vec!["80".parse().unwrap()], extra: 3 }.check(&limits, &Caller::Host).unwrap();
        let chosen = Ports::default().choose(&wish, &limits, &BTreeSet::new(), 2).unwrap();
        assert_eq!(chosen.ports[0].container_port, 80);
        assert!(chosen.ports[1..].iter().all(|port| port.host_port == Some(port.container_port)));
        let outside: BTreeSet<_> = chosen.ports.iter().map(|port| port.host_port).collect();
        assert_eq!(outside.len(), 4);
    }

    #[test]
    fn a_port_is_promised_once_and_comes_back() {
        let limits = free_range(2);
        let (ports, none) = (Ports::default(), BTreeSet::new());
        let wish = PortWish { ports: Vec::new(), extra: 2 };
        let first = ports.choose(&wish, &limits, &none, 0).unwrap();
        assert!(matches!(
            ports.choose(&wish, &limits, &none, 0),
            Err(ServerError::NoFreePort { wanted: 2, .. })
        ));
        drop(first);
        ports.choose(&wish, &limits, &none, 1).unwrap();
    }

    #[test]
    fn a_port_somebody_listens_on_is_passed_over() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let wish = PortWish { ports: Vec::new(), extra: 1 };
        assert!(Ports::default().choose(&wish, &limits(port, port), &BTreeSet::new(), 0).is_err());
    }

    #[test]
    fn ports_and_addresses_outside_the_limits_are_refused() {
        let limits = LimitConfig::default();
        let other = crate::tests::member(1);
        let by = |caller, port: PortRequest| PortWish { ports: vec![port], extra: 0 }.check(&limits, caller);
        let wish = |port: PortRequest| by(&other, port);
        let error = wish("8080:80".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "host port 8080 is outside the range of this host, 20000-29999");
        let everywhere = PortRequest { host_address: Some("0.0.0.0".parse().unwrap()), ..port(80) };
        assert!(matches!(wish(everywhere), Err(ServerError::AddressOutside { .. })));
        assert!(matches!(by(&Caller::Host, everywhere), Err(ServerError::AddressOutside { .. })));
        assert_eq!(wish(port(80)).unwrap().ports[0].host_address, Some(limits.publish_address));
        let own = by(&Caller::Host, "8080:80".parse().unwrap()).unwrap();
        assert_eq!(own.ports[0].host_port, Some(8080), "the machine's own user may have any port");
    }

    #[test]
    fn a_port_of_our_own_is_added_where_nobody_asks_for_it() {
        let limits = LimitConfig::default();
        let mut wish = PortWish { ports: vec!["2222:7468".parse().unwrap()], extra: 0 };
        wish.add(port(7468), &limits);
        wish.add(port(5900), &limits);
        let ports: Vec<_> = wish.ports.iter().map(|port| (port.container_port, port.host_port)).collect();
        assert_eq!(ports, [(7468, Some(2222)), (5900, None)]);
    }

    fn port(container_port: u16) -> PortRequest {
        PortRequest { container_port, protocol: Protocol::Tcp, host_port: None, host_address: None }
    }
}
