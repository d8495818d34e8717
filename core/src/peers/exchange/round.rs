//! The asking end: what to send in one round, given what was answered so far.

use crate::peers::digest::{Buckets, ShortId, ShortIds};
use crate::peers::exchange::{Answer, Ask, Book, fitting};
use crate::peers::table::Page;

/// Servers asked in one round at most.
const FANOUT: usize = 3;
/// Requests of one update at most.
const REQUESTS: usize = 32;
/// With so few records all short ids are no longer than a digest.
const FEW: usize = 256;
/// Short ids of one ask at most: 160 KB of text.
const MAX_HAVE: usize = 20_000;
/// Bytes of records that go along with one ask: with what is around them they are a body that the other end takes.
const MAX_PUSH_BYTES: usize = 240 * 1_024;
/// Fewer than so many are not worth a request of their own; they come in another round.
const WORTH_ASKING: usize = 16;

/// How an update goes, from round to round.
#[derive(Debug, Clone)]
pub struct Pace {
    requests_left: usize,
    /// Whether much was new in the last round.
    lively: bool,
    /// Whether servers do not know me.
    unknown: bool,
    /// Rounds in a row that brought nothing.
    quiet_rounds: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}

impl Pace {
    /// Begins an update, of 32 requests at most.
    pub fn new() -> Self {
        Self { requests_left: REQUESTS, lively: false, unknown: true, quiet_rounds: 0 }
    }

    /// Begins the next update, knowing how the last one went.
    pub fn renew(&mut self) {
        self.requests_left = REQUESTS;
        self.unknown = true;
    }

    /// Returns how many servers to ask: three, and one when the last two rounds brought nothing.
    pub fn fanout(&self) -> usize {
        if self.quiet_rounds >= 2 { 1 } else { FANOUT.min(self.requests_left) }
    }

    /// Returns how many requests there may yet be.
    pub fn requests_left(&self) -> usize {
        self.requests_left
    }

    /// Returns whether the last two rounds brought nothing, so that another one is not likely to.
    pub fn is_settled(&self) -> bool {
        self.quiet_rounds >= 2
    }

    /// Notes how a round went, after which so many records are known.
    pub fn ended(&mut self, round: &Round, known: usize) {
        let news = round.records;
        // An eighth of a table in short ids is as long as its digest and then the differing part.
        self.lively = news * 8 > known;
        self.unknown = round.unknown;
        self.quiet_rounds = if news == 0 { self.quiet_rounds + 1 } else { 0 };
    }
}

/// One round of asking several servers at once.
#[derive(Debug, Clone)]
pub struct Round {
    peers: Vec<Peer>,
    turn: u8,
    lively: bool,
    /// Whether to send my own record along; then whether anybody asked lacked it.
    unknown: bool,
    own: Option<ShortId>,
    begun: bool,
    /// Records that came, whether or not they were new.
    records: usize,
}

/// What is known of one server's table.
#[derive(Debug, Clone, Default)]
struct Peer {
    /// What it has and I lacked.
    rest: ShortIds,
    /// What it lacks.
    lack: ShortIds,
    /// Where it differs, and I have not said what I have.
    differ: Option<Buckets>,
    lost: bool,
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent<R> {
    /// To which server of the round, from 0.
    pub peer: usize,
    /// What to ask.
    pub ask: Ask,
    /// Records to send along.
    pub push: Vec<R>,
}

impl Round {
    /// Begins a round with so many servers. `turn` is any number: the round's servers begin their answers at different
    /// buckets from there.
    pub fn begin(pace: &Pace, peers: usize, turn: u8) -> Self {
        let peers = vec![Peer::default(); peers];
        Self { peers, turn, lively: pace.lively, unknown: pace.unknown, own: None, begun: false, records: 0 }
    }

    /// Returns the requests to make now, all at once, to different servers; none when the round is over. Call it again
    /// when all of them were answered, or lost.
    pub fn asks<B: Book>(&mut self, book: &mut B, pace: &mut Pace) -> Vec<Sent<B::Record>> {
        let mut asks = if self.begun { self.next(book) } else { self.first(book) };
        self.begun = true;
        asks.truncate(pace.requests_left);
        pace.requests_left -= asks.len();
        asks
    }

    /// Notes an answer. Its records have been merged, so far as they were any good.
    pub fn heard<R>(&mut self, peer: usize, ask: &Ask, answer: &Answer<R>) {
        self.records += answer.records.len();
        let Some(peer) = self.peers.get_mut(peer) else { return };
        peer.rest = peer.rest.union(&answer.rest);
        // What was pushed is no longer lacking, and a later answer does not repeat what an earlier one said.
        if ask.have.is_some() {
            self.unknown |= self.own.is_some_and(|own| answer.lack.contains(own));
            peer.lack = answer.lack.clone();
        }
        let all_there = !answer.records.is_empty();
        peer.differ = answer.differ.filter(|differ| ask.digest.is_some() && !all_there && !differ.is_empty());
    }

    /// Notes that a server did not answer, or not as it should: it is not asked again in this round.
    pub fn lost(&mut self, peer: usize) {
        if let Some(peer) = self.peers.get_mut(peer) {
            *peer = Peer { lost: true, ..Peer::default() };
        }
    }

    /// Returns how many records came so far.
    pub fn records(&self) -> usize {
        self.records
    }

    fn first<B: Book>(&mut self, book: &mut B) -> Vec<Sent<B::Record>> {
        let count = self.peers.len().max(1);
        let digest_first = !self.lively && book.known() > FEW;
        self.own = book.own();
        let own: ShortIds = self.own.filter(|_| self.unknown).into_iter().collect();
        let push = book.lookup(&own);
        // A digest is not answered with what is lacking; then it is said each time.
        self.unknown = self.unknown && digest_first;
        let all = if digest_first { None } else { Some(book.short_ids(&Buckets::ALL)) };
        let digest = if digest_first { Some(book.digest()) } else { None };
        let start = |peer: usize| self.turn.wrapping_add((peer * 256 / count) as u8);
        let ask = |peer| match (&all, &digest) {
            (Some(all), _) => Ask { parts: count as u8, ..have(all, start(peer)) },
            (None, digest) => Ask { digest: digest.clone(), start: start(peer), ..Ask::default() },
        };
        (0..self.peers.len()).map(|peer| Sent { peer, ask: ask(peer), push: push.clone() }).collect()
    }

    fn next<B: Book>(&mut self, book: &mut B) -> Vec<Sent<B::Record>> {
        let mine = book.short_ids(&Buckets::ALL);
        let mut asked = ShortIds::default();
        let mut asks = Vec::new();
        for (index, peer) in self.peers.iter_mut().enumerate().filter(|(_, peer)| !peer.lost) {
            if let Some(differ) = peer.differ.take() {
                let mut ask = have(&book.short_ids(&differ), self.turn);
                ask.within = Some(ask.within.map_or(differ, |arc| arc.and(&differ)));
                asks.push(Sent { peer: index, ask, push: Vec::new() });
                continue;
            }
            let mut wanted = std::mem::take(&mut peer.rest).without(&mine).without(&asked);
            if wanted.len() < WORTH_ASKING {
                continue;
            }
            let want = wanted.take_from(self.turn, Page::MAX_RECORDS);
            peer.rest = wanted;
            asked = asked.union(&want);
            let lacking = peer.lack.take_from(self.turn, Page::MAX_RECORDS);
            let (push, _) = fitting::<B>(book.lookup(&lacking), MAX_PUSH_BYTES);
            asks.push(Sent { peer: index, ask: Ask { want, ..Ask::default() }, push });
        }
        asks
    }
}

/// Says what I have: all of it, or what of it one ask can say, from a bucket on.
fn have(all: &ShortIds, start: u8) -> Ask {
    if all.len() <= MAX_HAVE {
        return Ask { have: Some(all.clone()), start, ..Ask::default() };
    }
    let mut within = Buckets::NONE;
    let mut count = 0;
    for bucket in (0..=u8::MAX).map(|step| start.wrapping_add(step)) {
        count += all.in_bucket(bucket).len();
        if count > MAX_HAVE && !within.is_empty() {
            break;
        }
        within.insert(bucket);
    }
    let have = all.as_slice().iter().copied().filter(|id| within.contains(id.bucket())).collect();
    Ask { have: Some(have), within: Some(within), start, ..Ask::default() }
}
