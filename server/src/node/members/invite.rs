//! Invitations: made, listed and taken back. The ticket is told to who makes one, and kept nowhere.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};

use gx_core::Endpoint;
use gx_core::InviteId;
use gx_core::api::{InviteInfo, InviteList, InviteRequest, Invited};
use gx_core::ticket::{ADDRESSES_MAX, Ticket, TicketSecret};
use sysinfo::{NetworkData, Networks};

use super::digest::Digest;
use crate::error::{Result, ServerError, TrustError};
use crate::node::lock::served_at;
use crate::node::{Caller, Node, Verb, authorize};

/// The most uses of one invitation.
const USES_MAX: u32 = 1_000;
/// The longest an invitation is good, in seconds: a year.
const EXPIRES_MAX_S: u64 = 366 * 86_400;
/// What the names of interfaces begin with that engines and virtual machines make, and that lead nowhere else.
const INNER: [&str; 6] = ["docker", "podman", "cni", "br-", "virbr", "veth"];

impl Node {
    /// Makes an invitation and returns its ticket.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`], [`ServerError::Invalid`]; [`TrustError::OutOfReach`], [`TrustError::Full`],
    /// [`TrustError::Damaged`]; [`ServerError::State`].
    pub async fn invite(&self, caller: &Caller, request: InviteRequest) -> Result<Invited> {
        authorize(caller, Verb::Administer, None)?;
        check(&request)?;
        let addresses = self.reached_at(&request)?;
        let (id, secret): ([u8; 10], [u8; 32]) = (random()?, random()?);
        let (id, digest) = (InviteId::from_bytes(&id), Digest::of(&secret));
        let ticket = Ticket {
            host: self.id(),
            addresses: addresses.clone(),
            invite: id.clone(),
            secret: TicketSecret(secret),
        };
        let ticket =
            ticket.to_text().map_err(|error| ServerError::invalid("addresses", error.to_string()))?;
        let noted = self.members.change(move |book, now| book.invite(id, digest, &request, now));
        let invite = noted.await?;
        tracing::info!(invite = %invite.id, uses = invite.uses, until = %invite.until, "made an invitation");
        Ok(Invited { ticket, addresses, invite })
    }

    /// Lists the invitations that are good still, the newest first.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`]; [`TrustError::Damaged`].
    pub async fn invites(&self, caller: &Caller) -> Result<InviteList> {
        authorize(caller, Verb::Administer, None)?;
        let (list, now) = (self.members.list()?, super::now());
        let good = list.book.invites.iter().map(|invite| &invite.info).filter(|info| info.until > now);
        let mut invites: Vec<InviteInfo> = good.cloned().collect();
        invites.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| a.id.cmp(&b.id)));
        Ok(InviteList { invites })
    }

    /// Takes an invitation back. Who has joined with it stays.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`]; [`TrustError::NoInvite`], [`TrustError::Damaged`]; [`ServerError::State`].
    pub async fn revoke_invite(&self, caller: &Caller, id: &str) -> Result<InviteInfo> {
        authorize(caller, Verb::Administer, None)?;
        let id = id.to_owned();
        let revoked = self.members.change(move |book, _| book.revoke(&id)).await?;
        tracing::info!(invite = %revoked.id, "took an invitation back");
        Ok(revoked)
    }

    /// Returns where a ticket says this host is.
    fn reached_at(&self, request: &InviteRequest) -> Result<Vec<Endpoint>> {
        let said = [&request.addresses, &self.advertise].into_iter().find(|said| !said.is_empty());
        if let Some(said) = said {
            return Ok(said.clone());
        }
        let listen = served_at(self.data()).unwrap_or(self.listen);
        let addresses = outward(listen);
        if addresses.is_empty() {
            return Err(TrustError::OutOfReach { listen: listen.to_string() }.into());
        }
        Ok(addresses)
    }
}

/// Returns where others reach what listens there, by the addresses that this machine has now.
pub(in crate::node) fn outward(listen: SocketAddr) -> Vec<Endpoint> {
    let there = match Networks::new_with_refreshed_list() {
        Ok(networks) => networks.iter().flat_map(|(name, of)| addresses_of(name, of)).collect(),
        Err(error) => {
            tracing::warn!(%error, "cannot tell this machine's addresses");
            Vec::new()
        }
    };
    own_addresses(listen, &there)
}

fn addresses_of(name: &OsString, network: &NetworkData) -> Vec<(String, IpAddr)> {
    let name = name.to_string_lossy();
    network.ip_networks().iter().map(|ip| (name.clone().into_owned(), ip.addr)).collect()
}

/// Returns 32 bytes, or however many are wanted, that nobody can guess.
fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match got {
        Ok(length) if length == N => Ok(bytes),
        Ok(_) => Err(ServerError::Internal("the system gives too few random numbers".to_owned())),
        Err(error) => Err(ServerError::Internal(format!("no random numbers: {error}"))),
    }
}

fn check(request: &InviteRequest) -> Result<()> {
    if !(1..=USES_MAX).contains(&request.uses) {
        return Err(ServerError::invalid("uses", format!("a ticket is for 1 to {USES_MAX} nodes")));
    }
    if !(1..=EXPIRES_MAX_S).contains(&request.expires_s) {
        return Err(ServerError::invalid("expires_s", "a ticket is good for 1s to 366d"));
    }
    if request.for_s == Some(0) {
        return Err(ServerError::invalid("for_s", "a member is one for a second at least"));
    }
    if request.addresses.len() > ADDRESSES_MAX {
        return Err(ServerError::invalid(
            "addresses",
            format!("a ticket has at most {ADDRESSES_MAX} addresses"),
        ));
    }
    Ok(())
}

/// Returns the addresses by which others reach what listens there: those of the machine that are not its own affair, IPv4
/// first, as more networks carry it.
fn own_addresses(listen: SocketAddr, there: &[(String, IpAddr)]) -> Vec<Endpoint> {
    if listen.ip().is_loopback() {
        return Vec::new();
    }
    let outward = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified(),
    };
    // What listens on all addresses of IPv6 takes IPv4 too, as Linux has it where nobody says otherwise.
    let served = |ip: &IpAddr| match listen.ip() {
        one if !one.is_unspecified() => one == *ip,
        all => all.is_ipv6() || ip.is_ipv4(),
    };
    let mut found: Vec<IpAddr> = (there.iter())
        .filter(|(name, _)| !INNER.iter().any(|inner| name.starts_with(inner)))
        .map(|(_, ip)| *ip)
        .filter(|ip| outward(ip) && served(ip))
        .collect();
    found.sort_by_key(|ip| (ip.is_ipv6(), *ip));
    found.dedup();
    let with_port = |ip| Endpoint::from(SocketAddr::new(ip, listen.port()));
    found.into_iter().take(ADDRESSES_MAX).map(with_port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_has_the_addresses_that_others_reach() {
        let there: Vec<(String, IpAddr)> = [
            ("lo", "127.0.0.1"),
            ("eth0", "192.0.2.7"),
            ("eth0", "fe80::1"),
            ("eth0", "2001:db8::7"),
            ("docker0", "172.17.0.1"),
            ("eth1", "10.0.0.7"),
        ]
        .map(|(name, ip)| (name.to_owned(), ip.parse().unwrap()))
        .to_vec();
        let of = |listen: &str| {
            let found = own_addresses(listen.parse().unwrap(), &there);
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("0.0.0.0:7467"), "10.0.0.7:7467 192.0.2.7:7467");
        assert_eq!(of("[::]:80"), "10.0.0.7:80 192.0.2.7:80 [2001:db8::7]:80");
        assert_eq!(of("192.0.2.7:80"), "192.0.2.7:80");
        assert_eq!(of("127.0.0.1:7467"), "", "nobody else gets there");
        let many: Vec<_> = (0..20).map(|n| ("eth0".to_owned(), IpAddr::from([10, 0, 0, n + 1]))).collect();
        assert_eq!(own_addresses("0.0.0.0:1".parse().unwrap(), &many).len(), ADDRESSES_MAX);
    }
}
