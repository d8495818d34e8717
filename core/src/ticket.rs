//! Tickets: one string by which a node becomes a member of a host. It has where the host is, which key it proves, and a
//! secret; whoever holds it may join, so it is shown once and never logged.
//!
//! Text: `gx1`, then lower-case base32 of the host's NodeId (32 bytes), the id of the invitation (10), the secret (32),
//! the number of addresses (1), each address with its length in front (2), and the CRC-32 of `gx1` and all that (4).
//! The checksum finds every mistake within six letters side by side; that a ticket is genuine only its host can tell.

use std::fmt;
use std::str::FromStr;

use crate::address::Endpoint;
use crate::base32;
use crate::id::{InviteId, NodeId};
use crate::secret::Secret;

/// What every ticket begins with, before the number of its version.
const MARK: &str = "gx";
/// The version that is written and read.
const VERSION: &str = "1";
/// The most addresses of one ticket.
pub const ADDRESSES_MAX: usize = 8;
/// The longest ticket, in letters: with eight of the longest addresses it has 3,471.
const TEXT_MAX: usize = 3_500;
/// The longest text that is looked at, white space included.
const PASTE_MAX: usize = 16 * 1024;
/// Before the addresses and behind them.
const FIXED: usize = 32 + 10 + 32 + 1 + 4;

/// A ticket. It has no `Display`, and its `Debug` says nothing of the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The host's identity.
    pub host: NodeId,
    /// Where the host is reached, 1 to [`ADDRESSES_MAX`], the best first.
    pub addresses: Vec<Endpoint>,
    /// Which invitation it is of.
    pub invite: InviteId,
    /// What proves that its holder was invited.
    pub secret: TicketSecret,
}

/// 32 random bytes. `Debug` is silent and there is no `Display`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TicketSecret(pub [u8; 32]);

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketSecret(..)")
    }
}

impl TicketSecret {
    /// Returns it as text, as a request carries it.
    pub fn to_text(self) -> Secret {
        Secret::new(base32::encode(&self.0))
    }

    /// Reads it from the text in a request.
    pub fn from_text(text: &Secret) -> Option<Self> {
        let bytes = base32::decode(text.reveal()).filter(|bytes| bytes.len() == 32)?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Ticket");
        shown.field("host", &self.host).field("addresses", &self.addresses).field("invite", &self.invite);
        shown.finish_non_exhaustive()
    }
}

/// Says why a text is no ticket. None of it repeats the text, which may be most of a good ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not look like one.
    #[error("this is not a ticket: one begins with gx1 and has small letters and digits only")]
    NotATicket,
    /// Its format is of another version.
    #[error("the ticket was made by a newer gx")]
    Newer,
    /// The checksum does not fit.
    #[error("a character of the ticket is wrong or missing")]
    Checksum,
    /// No ticket is that long.
    #[error("this is longer than any ticket")]
    TooLong,
    /// It is whole, and what it says makes no sense.
    #[error("the ticket is whole, and has no address that could be one")]
    Addresses,
}

impl TicketError {
    /// Returns what to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::NotATicket => "`gx invite` on the host prints one",
            Self::Newer => "use the gx of the host, or a newer one",
            Self::Checksum | Self::TooLong => "copy all of it once more, and nothing beside",
            Self::Addresses => "ask for another: `gx invite --address HOST:PORT`",
        }
    }
}

impl Ticket {
    /// Returns the string to hand over.
    ///
    /// # Errors
    /// [`TicketError::Addresses`] when there are none, or more than [`ADDRESSES_MAX`].
    pub fn to_text(&self) -> Result<Secret, TicketError> {
        if self.addresses.is_empty() || self.addresses.len() > ADDRESSES_MAX {
            return Err(TicketError::Addresses);
        }
        let mut bytes = Vec::new();
        bytes.extend_from_slice(self.host.as_bytes());
        bytes.extend_from_slice(&self.invite.to_bytes());
        bytes.extend_from_slice(&self.secret.0);
        bytes.push(self.addresses.len() as u8);
        for address in &self.addresses {
            let text = address.to_string();
            bytes.extend_from_slice(
                &u16::try_from(text.len()).map_err(|_| TicketError::Addresses)?.to_be_bytes(),
            );
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.extend_from_slice(&checksum(&bytes));
        Ok(Secret::new(format!("{MARK}{VERSION}{}", base32::encode(&bytes))))
    }
}

impl FromStr for Ticket {
    type Err = TicketError;
    /// Reads a ticket; white space around it and line breaks in it, as mail adds them, count for nothing.
    fn from_str(text: &str) -> Result<Self, TicketError> {
        if text.len() > PASTE_MAX {
            return Err(TicketError::TooLong);
        }
        let text: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
        let body = body(&text)?;
        let bytes = base32::decode(body).ok_or(TicketError::Checksum)?;
        let (bytes, sum) = bytes.split_last_chunk::<4>().ok_or(TicketError::Checksum)?;
        if checksum(bytes) != *sum || bytes.len() + sum.len() < FIXED {
            return Err(TicketError::Checksum);
        }
        read(bytes).ok_or(TicketError::Addresses)
    }
}

/// Returns what stands behind the mark and the version.
fn body(text: &str) -> Result<&str, TicketError> {
    let small = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let rest = text.strip_prefix(MARK).filter(|_| text.bytes().all(small)).ok_or(TicketError::NotATicket)?;
    match rest.strip_prefix(VERSION) {
        _ if !rest.starts_with(|first: char| first.is_ascii_digit()) => Err(TicketError::NotATicket),
        None => Err(TicketError::Newer),
        Some(_) if text.len() > TEXT_MAX => Err(TicketError::TooLong),
        Some(body) => Ok(body),
    }
}

fn read(bytes: &[u8]) -> Option<Ticket> {
    let (host, bytes) = bytes.split_first_chunk::<32>()?;
    let (invite, bytes) = bytes.split_first_chunk::<10>()?;
    let (secret, bytes) = bytes.split_first_chunk::<32>()?;
    let (count, mut bytes) = bytes.split_first()?;
    let mut addresses = Vec::new();
    for _ in 0..*count {
        let (length, rest) = bytes.split_first_chunk()?;
        let (address, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        addresses.push(std::str::from_utf8(address).ok()?.parse().ok()?);
        bytes = rest;
    }
    let (host, invite, secret) =
        (NodeId::from_bytes(*host), InviteId::from_bytes(invite), TicketSecret(*secret));
    let whole = bytes.is_empty() && (1..=ADDRESSES_MAX).contains(&addresses.len());
    whole.then_some(Ticket { host, addresses, invite, secret })
}

/// The CRC-32 of IEEE 802.3 over the mark, the version and the bytes.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let all = MARK.bytes().chain(VERSION.bytes()).chain(bytes.iter().copied());
    let rest = all.fold(u32::MAX, |rest, byte| {
        (0..8).fold(rest ^ u32::from(byte), |rest, _| (rest >> 1) ^ (0xEDB8_8320 & (rest & 1).wrapping_neg()))
    });
    (!rest).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticket() -> Ticket {
        Ticket {
            host: NodeId::from_bytes([7; 32]),
            addresses: vec!["lab.example:7467".parse().unwrap(), "[2001:db8::1]:99".parse().unwrap()],
            invite: InviteId::from_bytes(&[9; 10]),
            secret: TicketSecret([0x5a; 32]),
        }
    }

    fn text() -> String {
        ticket().to_text().unwrap().reveal().to_owned()
    }

    #[test]
    fn the_checksum_is_the_one_of_ieee() {
        let all = |text: &str| u32::from_be_bytes(checksum(text.as_bytes()));
        assert_eq!(all("23456789"), 0xda0b_dab3, "of gx123456789, by zlib");
    }

    #[test]
    fn a_ticket_is_one_word_that_says_nothing_where_it_is_logged() {
        let text = text();
        assert!(
            text.starts_with("gx1") && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        );
        let shown = format!("{:?} {:?}", ticket(), ticket().to_text());
        let secret = ticket().secret.to_text();
        assert!(
            !shown.contains("90") && !shown.contains("5a") && !shown.contains(secret.reveal()),
            "{shown}"
        );
        assert_eq!(TicketSecret::from_text(&secret), Some(TicketSecret([0x5a; 32])));
    }

    #[test]
    fn what_mail_does_to_it_does_no_harm() {
        let text = text();
        let lines: Vec<&str> =
            text.as_bytes().chunks(72).map(|line| std::str::from_utf8(line).unwrap()).collect();
        for pasted in
            [format!("  {text}\r\n"), lines.join("\r\n"), lines.join(" \n\t"), format!("\u{a0}{text}")]
        {
            assert_eq!(pasted.parse::<Ticket>(), Ok(ticket()));
        }
    }

    #[test]
    fn each_mistake_is_told_apart() {
        let text = text();
        let parse = |text: &str| text.parse::<Ticket>().unwrap_err();
        for other in
            ["", "gx", "hello", "gxa", &text.to_uppercase(), &format!("<{text}>"), &format!("{text}é")]
        {
            assert_eq!(parse(other), TicketError::NotATicket, "{other}");
        }
        assert_eq!(parse(&text.replacen("gx1", "gx2", 1)), TicketError::Newer);
        assert_eq!(parse(&text[..text.len() - 1]), TicketError::Checksum);
        assert_eq!(parse("gx1"), TicketError::Checksum);
        assert_eq!(parse(&format!("{text}8")), TicketError::Checksum);
        assert_eq!(parse(&format!("gx1{}", "a".repeat(TEXT_MAX))), TicketError::TooLong);
        assert_eq!(parse(&" ".repeat(PASTE_MAX + 1)), TicketError::TooLong);
    }

    #[test]
    fn the_longest_ticket_is_not_too_long_and_a_longer_one_is_not_made() {
        let longest: Endpoint = format!("{}.example:65535", "a".repeat(245)).parse().unwrap();
        let most = Ticket { addresses: vec![longest; ADDRESSES_MAX], ..ticket() };
        let text = most.to_text().unwrap();
        assert_eq!(text.reveal().len(), 3_471);
        assert_eq!(text.reveal().parse::<Ticket>(), Ok(most));
        for count in [0, ADDRESSES_MAX + 1] {
            let addresses = vec!["a:1".parse().unwrap(); count];
            assert_eq!(Ticket { addresses, ..ticket() }.to_text().unwrap_err(), TicketError::Addresses);
        }
    }

    #[test]
    fn a_whole_ticket_with_nonsense_in_it_is_refused() {
        let with = |tail: &[u8]| {
            let mut bytes = vec![1; 74];
            bytes.extend_from_slice(tail);
            bytes.extend_from_slice(&checksum(&bytes));
            format!("gx1{}", base32::encode(&bytes)).parse::<Ticket>()
        };
        assert!(with(b"\x01\0\x03a:1").is_ok());
        for tail in [
            &b"\x00"[..],
            b"\x01\0\x03a:0",
            b"\x01\0\x09a:1",
            b"\x01\0\x03a:1x",
            b"\x02\0\x03a:1",
            b"\x01\0\x03\xff:1",
        ] {
            assert_eq!(with(tail), Err(TicketError::Addresses), "{tail:?}");
        }
    }

    fn tickets() -> impl Strategy<Value = Ticket> {
        let address = "[a-z][a-z0-9]{0,20}(\\.[a-z]{1,9}){0,3}:[1-9][0-9]{0,3}";
        let addresses = proptest::collection::vec(address, 1..=ADDRESSES_MAX);
        (any::<[u8; 32]>(), any::<[u8; 10]>(), any::<[u8; 32]>(), addresses).prop_map(
            |(host, invite, secret, addresses)| Ticket {
                host: NodeId::from_bytes(host),
                addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
                invite: InviteId::from_bytes(&invite),
                secret: TicketSecret(secret),
            },
        )
    }

    proptest! {
        #[test]
        fn tickets_survive_a_round_trip(ticket in tickets()) {
            let text = ticket.to_text().unwrap();
            prop_assert_eq!(text.reveal().parse::<Ticket>().unwrap(), ticket);
        }

        #[test]
        fn an_edited_ticket_is_never_another_one(ticket in tickets(), at: usize, letter in "[a-z2-7]", what in 0..4_u8) {
            let text = ticket.to_text().unwrap().reveal().to_owned();
            let at = 3 + at % (text.len() - 3);
            let mut edited = text.clone();
            match what {
                0 => edited.replace_range(at..=at, &letter),
                1 => edited.insert_str(at, &letter),
                2 => drop(edited.remove(at)),
                _ => { // two letters side by side have changed places
                    let at = at.min(text.len() - 2);
                    edited.replace_range(at..at + 2, &text[at..at + 2].chars().rev().collect::<String>());
                }
            }
            prop_assume!(edited != text);
            prop_assert!(edited.parse::<Ticket>().is_err());
        }

        #[test]
        fn any_text_is_a_ticket_or_an_error(text in "(gx1)?(\\PC|[a-z2-7]){0,200}") {
            let _ = text.parse::<Ticket>();
        }
    }
}
