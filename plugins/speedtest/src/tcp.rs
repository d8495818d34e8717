//! What the kernel knows of a connection: `TCP_INFO`, asked for over netlink (sock_diag(7)), which takes no unsafe code and
//! no rights. Where there is no answer, figures are left out.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use crate::http::About;

/// The sizes of `struct nlmsghdr`, `struct inet_diag_req_v2`, `struct inet_diag_msg` and `struct nlattr`.
const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;
const MESSAGE: usize = HEADER + 72;
const ATTRIBUTE: usize = 4;
/// `SOCK_DIAG_BY_FAMILY`, `NLM_F_REQUEST`, `INET_DIAG_INFO`, `IPPROTO_TCP`.
const BY_FAMILY: u16 = 20;
const FLAG_REQUEST: u16 = 1;
const INFO: u16 = 2;
const TCP: u8 = 6;

/// What the kernel has counted of a connection, or of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counters {
    /// What the peer's kernel has, in order or behind a gap.
    pub(crate) bytes_arrived: u64,
    pub(crate) segments_sent: u64,
    pub(crate) segments_again: u64,
    pub(crate) segments_received: u64,
    pub(crate) segments_out_of_order: u64,
}

impl std::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.bytes_arrived += other.bytes_arrived;
        self.segments_sent += other.segments_sent;
        self.segments_again += other.segments_again;
        self.segments_received += other.segments_received;
        self.segments_out_of_order += other.segments_out_of_order;
    }
}

/// The way to ask.
#[derive(Debug)]
pub(crate) struct Diagnostics(OwnedFd);

impl Diagnostics {
    /// Opens it; `None` where the kernel has none.
    pub(crate) fn open() -> Option<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG)).ok()?;
        Some(Self(socket))
    }

    /// Returns what has been counted of connections; `None` unless it is known of all.
    pub(crate) fn of<'a>(&self, connections: impl IntoIterator<Item = &'a About>) -> Option<Counters> {
        let mut all = Counters::default();
        for connection in connections {
            all += self.ask(connection.local, connection.peer)?;
        }
        Some(all)
    }

    /// The kernel answers while it is asked, so nothing is waited for.
    fn ask(&self, local: SocketAddr, peer: SocketAddr) -> Option<Counters> {
        send(&self.0, &request(local, peer), SendFlags::empty()).ok()?;
        let mut answer = [0; 1024];
        let (_, length) = recv(&self.0, &mut answer, RecvFlags::empty()).ok()?;
        read(answer.get(..length)?)
    }
}

fn request(local: SocketAddr, peer: SocketAddr) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
    put(0, &(REQUEST as u32).to_ne_bytes());
    put(4, &BY_FAMILY.to_ne_bytes());
    put(6, &FLAG_REQUEST.to_ne_bytes());
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    put(HEADER, &[family.as_raw() as u8, TCP, 1 << (INFO - 1)]);
    put(HEADER + 4, &u32::MAX.to_ne_bytes()); // in whatever state
    put(HEADER + 8, &local.port().to_be_bytes());
    put(HEADER + 10, &peer.port().to_be_bytes());
    for (at, address) in [(HEADER + 12, local.ip()), (HEADER + 28, peer.ip())] {
        match address {
            IpAddr::V4(address) => put(at, &address.octets()),
            IpAddr::V6(address) => put(at, &address.octets()),
        }
    }
    put(HEADER + 48, &u64::MAX.to_ne_bytes()); // no cookie
    bytes
}

fn read(answer: &[u8]) -> Option<Counters> {
    if u16_at(answer, 4)? != BY_FAMILY {
        return None;
    }
    let mut at = MESSAGE;
    loop {
        let (length, kind) = (usize::from(u16_at(answer, at)?), u16_at(answer, at + 2)?);
        if length < ATTRIBUTE {
            return None;
        }
        if kind == INFO {
            return counters(answer.get(at + ATTRIBUTE..at + length)?);
        }
        at += length.next_multiple_of(4);
    }
}

/// Reads `struct tcp_info` (linux/tcp.h); what an old kernel lacks at its end is 0.
fn counters(info: &[u8]) -> Option<Counters> {
    let long = |at: usize| info.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes);
    let number = |at: usize| info.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
    Some(Counters {
        // What is acknowledged to its end, and the segments behind a gap (RFC 2018), of which only the number is told.
        bytes_arrived: long(120)? + u64::from(number(28)?) * u64::from(number(16)?),
        segments_again: number(100)?.into(),
        segments_received: number(152)?.into(),
        segments_sent: number(156)?.into(),
        segments_out_of_order: number(224).unwrap_or_default().into(),
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    fn counted(bind: &str) -> Option<Counters> {
        let listener = TcpListener::bind(bind).unwrap();
        let mut here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut there = listener.accept().unwrap().0;
        here.write_all(&[7; 10_000]).unwrap();
        there.read_exact(&mut [0; 10_000]).unwrap();
        there.write_all(b"x").unwrap(); // which carries the acknowledgement
        here.read_exact(&mut [0]).unwrap();
        let (local, peer) = (here.local_addr().unwrap(), here.peer_addr().unwrap());
        let about = About { took: Duration::ZERO, local, peer, congestion_control: None, tls: false };
        Diagnostics::open().unwrap().of([&about])
    }

    #[test]
    fn the_kernel_tells_what_was_acknowledged() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let counters = counted(bind).unwrap();
            assert!((10_000..10_010).contains(&counters.bytes_arrived), "{counters:?}");
            assert!(counters.segments_sent >= 1 && counters.segments_received >= 1, "{counters:?}");
        }
    }

    #[test]
    fn a_connection_that_is_not_there_has_no_counters() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(Diagnostics::open().unwrap().ask(address(1), address(2)), None);
    }

    #[test]
    fn an_answer_that_is_cut_off_is_none() {
        let mut answer = vec![0; MESSAGE];
        answer[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        assert_eq!(read(&answer), None);
        answer.extend([200, 0, 2, 0, 1, 2, 3]);
        assert_eq!(read(&answer), None);
        answer.truncate(MESSAGE);
        answer.extend([0, 0, 9, 0]);
        assert_eq!(read(&answer), None, "an attribute without a length would be read for ever");
        assert_eq!(read(&[]), None);
    }
}
