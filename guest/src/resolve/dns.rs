//! Questions to the container's name servers (RFC 1035): addresses of a name, over UDP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::UdpSocket;

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// So many servers are asked, as a C library does.
const SERVERS: usize = 3;

/// The kind of a question, and of its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    V4 = 1,
    V6 = 28,
}

/// What resolv.conf(5) says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Servers {
    servers: Vec<IpAddr>,
    search: Vec<String>,
}

impl Servers {
    /// Reads the file's text; what it does not know it skips.
    pub(super) fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    found.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()))
                }
                Some("search" | "domain") => found.search = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        found.servers.truncate(SERVERS);
        found
    }

    /// Asks for the addresses of a name, with the domains to search for one without dots.
    pub(super) async fn ask(&self, host: &str) -> Vec<IpAddr> {
        let mut names = vec![host.to_owned()];
        if !host.contains('.') {
            names.splice(0..0, self.search.iter().take(3).map(|domain| format!("{host}.{domain}")));
        }
        for name in names {
            for server in &self.servers {
                let (v4, v6) = tokio::join!(query(*server, &name, Kind::V4), query(*server, &name, Kind::V6));
                let answered = v4.is_ok() || v6.is_ok();
                let found: Vec<IpAddr> = v4.into_iter().chain(v6).flatten().collect();
                if !found.is_empty() {
                    return found;
                }
                if answered {
                    break;
                }
            }
        }
        Vec::new()
    }
}

async fn query(server: IpAddr, name: &str, kind: Kind) -> io::Result<Vec<IpAddr>> {
    let mut id = [0; 2];
    SystemRandom::new().fill(&mut id).map_err(|_| io::Error::other("no random numbers"))?;
    let question = question(id, name, kind).ok_or(io::ErrorKind::InvalidInput)?;
    let any: IpAddr = if server.is_ipv6() { [0u8; 16].into() } else { [0u8; 4].into() };
    // The port is a random one, and only the server's packets come in.
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(SocketAddr::new(server, 53)).await?;
    socket.send(&question).await?;
    let mut packet = [0; 1500];
    let answer = async {
        loop {
            let length = socket.recv(&mut packet).await?;
            if let Some(addresses) = answer(&packet[..length], &question, kind) {
                return Ok(addresses);
            }
        }
    };
    tokio::time::timeout(PATIENCE, answer).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// Writes a question; `None` for what is no name.
fn question(id: [u8; 2], name: &str, kind: Kind) -> Option<Vec<u8>> {
    // One question, and recursion is wanted.
    let mut packet = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        packet.push(length);
        packet.extend(label.bytes());
    }
    packet.extend([0, 0, kind as u8, 0, 1]);
    (packet.len() <= 12 + 255 + 4).then_some(packet)
}

/// Reads an answer to this question; `None` when it is none.
fn answer(packet: &[u8], question: &[u8], kind: Kind) -> Option<Vec<IpAddr>> {
    let is_ours = packet.get(..2)? == question.get(..2)? && packet.get(2)? & 0x80 != 0;
    let asked = packet.get(12..question.len())?;
    if !is_ours || !asked.eq_ignore_ascii_case(question.get(12..)?) {
        return None;
    }
    let count = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]);
    let mut rest = packet.get(question.len()..)?;
    let mut found = Vec::new();
    for _ in 0..count {
        let Some((of_kind, data, after)) = record(rest) else { break };
        rest = after;
        match (kind, of_kind) {
            (Kind::V4, 1) => found.extend(<[u8; 4]>::try_from(data).map(IpAddr::from)),
            (Kind::V6, 28) => found.extend(<[u8; 16]>::try_from(data).map(IpAddr::from)),
            _ => {}
        }
    }
    Some(found)
}

/// Reads a record: its kind, its data, and what comes after.
fn record(packet: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let mut rest = packet;
    loop {
        match *rest.first()? {
            0 => {
                rest = rest.get(1..)?;
                break;
            }
            // The rest of the name is elsewhere in the packet.
            pointer if pointer & 0xc0 == 0xc0 => {
                rest = rest.get(2..)?;
                break;
            }
            length => rest = rest.get(usize::from(length) + 1..)?,
        }
    }
    let kind = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
    let length = usize::from(u16::from_be_bytes([*rest.get(8)?, *rest.get(9)?]));
    let (data, after) = rest.get(10..)?.split_at_checked(length)?;
    Some((kind, data, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_file_is_read_as_a_c_library_does() {
        let text =
            "# comment\nnameserver 127.0.0.11\nnameserver ::1\nsearch a.example b.example\noptions ndots:0\n";
        let servers = Servers::parse(text);
        assert_eq!(servers.servers, [IpAddr::from([127, 0, 0, 11]), "::1".parse().unwrap()]);
        assert_eq!(servers.search, ["a.example", "b.example"]);
    }

    #[test]
    fn an_answer_with_an_alias_is_read() {
        let asked = question([7, 8], "db.example", Kind::V4).unwrap();
        let mut packet = asked.clone();
        packet[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 2]);
        packet.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12]);
        packet.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 7]);
        assert_eq!(answer(&packet, &asked, Kind::V4), Some(vec![IpAddr::from([10, 0, 0, 7])]));
        packet[0] = 6;
        assert_eq!(answer(&packet, &asked, Kind::V4), None, "another question's");
    }

    #[test]
    fn what_is_no_name_is_not_asked() {
        for wrong in ["", "a..b", &"a".repeat(64), &"a.".repeat(200)] {
            assert_eq!(question([0, 0], wrong, Kind::V4), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let asked = question([1, 2], "x.y", Kind::V4).unwrap();
            let _ = answer(&bytes, &asked, Kind::V4);
            let mut packet = asked.clone();
            packet[2] = 0x80;
            packet[7] = 9;
            packet.extend(bytes);
            let _ = answer(&packet, &asked, Kind::V4);
        }
    }
}
