//! Readers who count what they get, and those who write to them, in one thread that waits for all of them together.
//!
//! They run beside the server on the same machine: what they take themselves must not hide what it takes. So nothing is
//! parsed, and no more than [`WINDOW`] messages are under way: a message is sent when the slowest reader has an earlier one.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::Result;
use crate::dialect::{Dialect, MARK, Who};

/// Messages that some reader does not have yet, at most. ngircd ends connections for which 64 KiB wait.
const WINDOW: u64 = 256;
/// The length of a text.
const TEXT: usize = 100;
/// Who comes in together; between them all read what the others' coming makes the server say.
const TOGETHER: usize = 25;
/// How long nothing may come while something is due.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it has to be silent before anything is measured: the chat tells once a second who came.
const SILENCE: Duration = Duration::from_millis(1_300);
/// What an answer to a writer has, and nothing else.
const ACK: &[u8] = br#""t":"ack""#;
/// How many digits behind the mark say when a text was sent.
const DIGITS: usize = 16;

/// Everybody at one server.
pub(crate) struct Crowd {
    dialect: Dialect,
    poll: Poll,
    events: Events,
    /// The readers, then the writers.
    members: Vec<Member>,
    readers: usize,
    board: Board,
    buffer: Vec<u8>,
    began: Instant,
    sent: u64,
    /// When deliveries were late by how much, while that is measured.
    delays: Option<Vec<f64>>,
}

struct Member {
    stream: TcpStream,
    /// What is still to be sent.
    out: Vec<u8>,
    seen: u64,
}

/// How many readers have seen how much.
#[derive(Debug)]
struct Board {
    /// What all have seen.
    least: u64,
    /// How many have seen that, one more, and so on.
    at: VecDeque<usize>,
}

impl Board {
    fn new(readers: usize) -> Self {
        Self { least: 0, at: VecDeque::from([readers]) }
    }

    fn moved(&mut self, from: u64, by: u64) {
        let place = |seen: u64| usize::try_from(seen - self.least).expect("the window is small");
        let (old, new) = (place(from), place(from + by));
        if self.at.len() <= new {
            self.at.resize(new + 1, 0);
        }
        self.at[old] -= 1;
        self.at[new] += 1;
        while self.at.len() > 1 && self.at[0] == 0 {
            self.at.pop_front();
            self.least += 1;
        }
    }
}

impl Crowd {
    /// Connects everybody, and waits until the server has no more to say about it.
    pub(crate) fn gather(
        dialect: Dialect,
        address: SocketAddr,
        readers: usize,
        writers: usize,
    ) -> Result<Self> {
        let mut crowd = Self {
            dialect,
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            members: Vec::with_capacity(readers + writers),
            readers,
            board: Board::new(readers),
            buffer: vec![0; 256 * 1024],
            began: Instant::now(),
            sent: 0,
            delays: None,
        };
        let all = (0..readers).map(Who::Reader).chain((0..writers).map(Who::Writer));
        for (number, who) in all.enumerate() {
            let stream = dialect.enter(address, who)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            crowd.poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            crowd.members.push(Member { stream, out: Vec::new(), seen: 0 });
            if number % TOGETHER == 0 {
                while crowd.turn(Duration::ZERO)? > 0 {}
            }
        }
        crowd.until_silent()?;
        Ok(crowd)
    }

    /// Lets everybody give a sign of life.
    pub(crate) fn keep_alive(&mut self) -> Result<()> {
        let sign = self.dialect.sign_of_life();
        self.members.iter_mut().for_each(|member| member.out.extend_from_slice(sign));
        let all = self.members.len();
        self.flush(0..all)?;
        while self.turn(Duration::from_millis(50))? > 0 {}
        Ok(())
    }

    /// Sends so many messages, and returns how long it took until every reader had every one.
    pub(crate) fn burst(&mut self, messages: u64) -> Result<Duration> {
        let (first, mut sent, began) = (self.board.least, 0, Instant::now());
        let mut news = Instant::now();
        while self.board.least - first < messages {
            while sent < messages && sent - (self.board.least - first) < WINDOW {
                self.say();
                sent += 1;
            }
            self.flush(self.readers..self.members.len())?;
            if self.turn(Duration::from_millis(100))? > 0 {
                news = Instant::now();
            } else if news.elapsed() > PATIENCE {
                let missing = first + messages - self.board.least;
                return Err(format!("a reader lacks {missing} of {messages} messages").into());
            }
        }
        Ok(began.elapsed())
    }

    /// Sends at a steady rate, and returns how long after it was sent each reader had each message, in milliseconds.
    pub(crate) fn steady(&mut self, each_second: u32, seconds: u32) -> Result<Vec<f64>> {
        let messages = u64::from(each_second * seconds);
        let interval = Duration::from_secs(1) / each_second;
        let (first, mut sent) = (self.board.least, 0);
        let (mut next, mut news) = (Instant::now(), Instant::now());
        self.delays = Some(Vec::with_capacity(usize::try_from(messages)? * self.readers));
        while self.board.least - first < messages {
            if sent < messages && Instant::now() >= next {
                self.say();
                sent += 1;
                next += interval;
                self.flush(self.readers..self.members.len())?;
            }
            let wait =
                if sent < messages { next.saturating_duration_since(Instant::now()) } else { interval };
            if self.turn(wait)? > 0 {
                news = Instant::now();
            } else if news.elapsed() > PATIENCE {
                return Err("a message did not come".into());
            }
        }
        Ok(self.delays.take().unwrap_or_default())
    }

    /// Lets each writer send, wait for the answer and send again, for so long; returns how many were answered.
    pub(crate) fn ingest(&mut self, time: Duration) -> Result<u64> {
        let writers = self.members.len();
        let (mut acked, mut due) = (0, writers as u64);
        (0..writers).for_each(|_| self.say());
        self.flush(0..writers)?;
        let (began, mut news) = (Instant::now(), Instant::now());
        while acked < due {
            let mut answered = Vec::new();
            self.turn_with(Duration::from_millis(100), |member, said| {
                let acks = said.windows(ACK.len()).filter(|part| *part == ACK).count();
                answered.extend(std::iter::repeat_n(member, acks));
            })?;
            if !answered.is_empty() {
                news = Instant::now();
            } else if news.elapsed() > PATIENCE {
                return Err("a message is not acknowledged".into());
            }
            acked += answered.len() as u64;
            if began.elapsed() < time {
                due += answered.len() as u64;
                answered.iter().for_each(|member| self.say_as(*member));
                self.flush(0..writers)?;
            }
        }
        Ok(acked)
    }

    /// Has the next writer say something.
    fn say(&mut self) {
        let writers = self.members.len() - self.readers;
        let turn = usize::try_from(self.sent % writers as u64).expect("there are few writers");
        self.say_as(self.readers + turn);
    }

    fn say_as(&mut self, writer: usize) {
        let at = u64::try_from(self.began.elapsed().as_micros()).expect("a bench is short");
        let mut text = format!("|{at:0DIGITS$x}");
        text.extend(std::iter::repeat_n('x', TEXT - text.len()));
        // As a client of ours makes them: the later, the greater.
        let id = format!("{:08x}{:011x}", std::process::id(), self.sent);
        self.dialect.message(&id, &text, &mut self.members[writer].out);
        self.sent += 1;
    }

    /// Sends what these have to send, as far as the server takes it.
    fn flush(&mut self, members: std::ops::Range<usize>) -> Result<()> {
        for member in &mut self.members[members] {
            while !member.out.is_empty() {
                match member.stream.write(&member.out) {
                    Ok(length) => drop(member.out.drain(..length)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn until_silent(&mut self) -> Result<()> {
        let mut heard = Instant::now();
        while heard.elapsed() < SILENCE {
            if self.turn(SILENCE)? > 0 {
                heard = Instant::now();
            }
        }
        Ok(())
    }

    fn turn(&mut self, wait: Duration) -> Result<usize> {
        self.turn_with(wait, |_, _| {})
    }

    /// Waits for something to read, reads all there is, and returns how many had something.
    fn turn_with(&mut self, wait: Duration, mut heard: impl FnMut(usize, &[u8])) -> Result<usize> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(0),
            polled => polled?,
        }
        let Self { events, members, board, buffer, delays, began, readers, .. } = self;
        let mut had = 0;
        for event in &*events {
            had += 1;
            let number = event.token().0;
            let member = &mut members[number];
            loop {
                let length = match member.stream.read(buffer) {
                    Ok(0) => return Err("the server has closed a connection".into()),
                    Ok(length) => length,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error.into()),
                };
                let said = &buffer[..length];
                heard(number, said);
                let marks = said.iter().map(|byte| u64::from(*byte == MARK)).sum::<u64>();
                if marks > 0 && number < *readers {
                    board.moved(member.seen, marks);
                    member.seen += marks;
                    if let Some(delays) = delays {
                        let now = began.elapsed().as_secs_f64() * 1e3;
                        delays.extend(sent_at(said).map(|at| now - at));
                    }
                }
                if length < buffer.len() {
                    break; // there is no more now
                }
            }
        }
        Ok(had)
    }
}

/// Returns when the texts were sent, in milliseconds; of one that is cut in two nothing is known.
fn sent_at(said: &[u8]) -> impl Iterator<Item = f64> {
    let marks = said.iter().enumerate().filter(|(_, byte)| **byte == MARK).map(|(at, _)| at + 1);
    marks.filter_map(|at| {
        let digits = std::str::from_utf8(said.get(at..at + DIGITS)?).ok()?;
        Some(u64::from_str_radix(digits, 16).ok()? as f64 / 1e3)
    })
}
