//! How one enters each of the servers, and what a message looks like there.
//!
//! Everywhere the text has one `|`, which nothing else has: by it a reader counts messages without parsing anything.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;
use std::time::Duration;

use crate::Result;

/// What begins each text.
pub(crate) const MARK: u8 = b'|';
/// Connections of one user of the chat, who may have 32.
pub(crate) const OF_A_USER: usize = 25;
/// How long a server may take to let somebody in.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The chat: JSON over a WebSocket.
    Gx,
    /// The protocol of NATS' clients.
    Nats,
    /// RFC 2812.
    Irc,
}

/// Who comes in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who {
    Reader(usize),
    Writer(usize),
}

impl FromStr for Dialect {
    type Err = String;
    fn from_str(kind: &str) -> std::result::Result<Self, String> {
        match kind {
            "gx" | "memory" => Ok(Self::Gx),
            "nats" => Ok(Self::Nats),
            "irc" => Ok(Self::Irc),
            _ => Err(format!("{kind} is none of gx, memory, nats and irc")),
        }
    }
}

impl Dialect {
    /// Connects, signs in, and has a reader get what is said from now on.
    pub(crate) fn enter(self, address: SocketAddr, who: Who) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        match self {
            Self::Gx => enter_gx(&mut stream, address, who)?,
            Self::Nats => {
                until(&mut stream, "\r\n")?;
                let wants = if matches!(who, Who::Reader(_)) { "SUB chat 1\r\n" } else { "" };
                write!(stream, "CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\n{wants}PING\r\n")?;
                until(&mut stream, "PONG\r\n")?;
            }
            Self::Irc => {
                let nick = match who {
                    Who::Reader(number) => format!("r{number}"),
                    Who::Writer(number) => format!("w{number}"),
                };
                write!(stream, "NICK {nick}\r\nUSER {nick} 0 * :{nick}\r\n")?;
                until(&mut stream, " 001 ")?;
                if matches!(who, Who::Reader(_)) {
                    stream.write_all(b"JOIN #chat\r\n")?;
                    until(&mut stream, " 366 ")?;
                }
            }
        }
        Ok(stream)
    }

    /// Adds a message to what is to be sent. `id` is one that no other message has.
    pub(crate) fn message(self, id: &str, text: &str, to: &mut Vec<u8>) {
        match self {
            Self::Gx => {
                frame(&format!(r#"{{"t":"send","cid":"{id}","g":"g","text":"{text}"}}"#), to);
            }
            Self::Nats => to.extend_from_slice(format!("PUB chat {}\r\n{text}\r\n", text.len()).as_bytes()),
            Self::Irc => to.extend_from_slice(format!("PRIVMSG #chat :{text}\r\n").as_bytes()),
        }
    }

    /// A sign of life, where a server ends connections that give none: a pong nobody asked for (RFC 6455, section 5.5.3).
    pub(crate) fn sign_of_life(self) -> &'static [u8] {
        match self {
            Self::Gx => &[0x8a, 0x80, 0, 0, 0, 0],
            // They are told to wait for an hour.
            Self::Nats | Self::Irc => &[],
        }
    }
}

fn enter_gx(stream: &mut TcpStream, address: SocketAddr, who: Who) -> Result<()> {
    write!(
        stream,
        "GET /v1/chat HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )?;
    let head = until(stream, "\r\n\r\n")?;
    if !head.starts_with("HTTP/1.1 101") {
        return Err(format!("no WebSocket: {}", head.lines().next().unwrap_or_default()).into());
    }
    let (user, device) = match who {
        Who::Reader(number) => (format!("Reader{}", number / OF_A_USER + 1), number),
        Who::Writer(number) => (format!("Writer{}", number + 1), number),
    };
    let mut hello = Vec::new();
    let text = format!(r#"{{"t":"hello","v":1,"user":"{user}","auth":{{"by":"key"}},"device":"d{device}"}}"#);
    frame(&text, &mut hello);
    stream.write_all(&hello)?;
    until(stream, r#""t":"welcome""#).map(drop)
}

/// Adds a text as a client sends it (RFC 6455, section 5.2). The mask is zero, which leaves the text as it is.
fn frame(text: &str, to: &mut Vec<u8>) {
    to.push(0x81);
    match u8::try_from(text.len()) {
        Ok(length) if length < 126 => to.push(0x80 | length),
        _ => {
            to.push(0x80 | 126);
            to.extend_from_slice(&u16::try_from(text.len()).expect("it is short").to_be_bytes());
        }
    }
    to.extend_from_slice(&[0; 4]);
    to.extend_from_slice(text.as_bytes());
}

/// Reads until this was said.
fn until(stream: &mut TcpStream, needle: &str) -> Result<String> {
    let mut said = Vec::new();
    let mut part = [0; 4096];
    loop {
        let length = stream.read(&mut part)?;
        said.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&said);
        if text.contains(needle) {
            return Ok(text.into_owned());
        }
        if length == 0 || said.len() > 1 << 20 {
            let end: String = text.chars().rev().take(300).collect::<Vec<_>>().into_iter().rev().collect();
            return Err(format!("the server does not let a client in: {end}").into());
        }
    }
}
