//! One question or line after the other, for commands that are called by scripts: no history is fetched for it.

use std::collections::BTreeMap;
use std::time::Duration;

use gx_chat::client::{Waiting, Week};
use gx_chat::frames::{
    Auth, ClientFrame, ErrorCode, Hello, NackCode, Rights, RightsIn, ServerFrame, VERSION,
};
use gx_chat::{Cid, DeviceId, GroupId, Seq, UserName};
use gx_client::ChatSocket;

use super::link::{AsArgs, Road, fresh, now_ms, parse};
use crate::commands::Context;
use crate::error::{CliError, Kind, Result};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// How often a question is asked again that came too soon.
const MAX_WAITS: u32 = 10;
/// How often a server may say that it cannot store a line now.
const MAX_REFUSALS: u32 = 3;
/// How often a sign of life is asked for.
const PING: Duration = Duration::from_secs(20);

/// A user who is signed in.
pub(super) struct Remote {
    socket: Box<ChatSocket>,
    pub(super) week: Week,
    pub(super) user: UserName,
    pub(super) rights: Rights,
    /// Lines of before that were refused on the way, each with the reason.
    pub(super) lost: Vec<String>,
    /// Up to which message of a group there is more, that came while an answer was waited for.
    pub(super) news: BTreeMap<GroupId, Seq>,
    questions: u64,
}

enum Delivered {
    Stored(Said),
    Refused(CliError),
}

impl Remote {
    /// Signs in.
    pub(super) async fn open(args: &AsArgs, context: &Context<'_>) -> Result<Self> {
        let mut road = Road::find(args, context).await?;
        let week = road.week()?;
        Self::sign_in(&mut road, week).await
    }

    /// Signs in, or says that the server cannot be reached and gives back what is kept.
    pub(super) async fn open_or_keep(
        args: &AsArgs,
        context: &Context<'_>,
    ) -> Result<Result<Self, (CliError, Week)>> {
        let mut road = Road::find(args, context).await?;
        let week = road.week()?;
        match Self::sign_in(&mut road, week).await {
            Err(error) if error.kind == Kind::Unreachable => Ok(Err((error, road.week()?))),
            opened => opened.map(Ok),
        }
    }

    async fn sign_in(road: &mut Road, mut week: Week) -> Result<Self> {
        // A token is for one device. Without `resume` nothing is said of what this one has.
        let fresh: DeviceId = format!("d-{}", fresh()).parse()?;
        let hello = |week: &Week, user: &UserName, auth: Auth| {
            let (resume, chain) = Default::default();
            let device = week.device(&fresh)?;
            Ok(ClientFrame::Hello(Hello { v: VERSION, user: user.clone(), auth, device, resume, chain }))
        };
        let (socket, welcome) = road.sign_in(&mut week, hello).await?;
        Self::welcomed(socket, welcome, week)
    }

    /// Goes on after a sign-in.
    pub(super) fn welcomed(socket: Box<ChatSocket>, welcome: ServerFrame, week: Week) -> Result<Self> {
        let ServerFrame::Welcome { user, token, rights, .. } = welcome else {
            unreachable!("a sign-in that succeeds ends in a welcome");
        };
        if let Some(token) = token {
            week.set_token(Some(&token))?;
        }
        week.set_rights(&rights)?;
        Ok(Self { socket, week, user, rights, lost: Vec::new(), news: BTreeMap::new(), questions: 0 })
    }

    /// Returns a group that the user has: the one that is named by its id, name or command, else the default.
    pub(super) fn group(&self, named: Option<&str>) -> Result<&RightsIn> {
        group(&self.rights, named)
    }

    /// Asks, and returns the answer. `question` gets the number by which the answer is known.
    pub(super) async fn ask(&mut self, question: impl FnOnce(u64) -> ClientFrame) -> Result<ServerFrame> {
        self.questions += 1;
        let asked = self.questions;
        let text = question(asked).to_text();
        self.socket.send(vec![text.clone()]).await?;
        let mut waits = 0;
        loop {
            match self.next().await? {
                // A long history is asked for page by page, and soon faster than anybody may.
                ServerFrame::Error { id: Some(id), code: ErrorCode::Rate, retry_ms: Some(ms), .. }
                    if id == asked && waits < MAX_WAITS =>
                {
                    waits += 1;
                    tokio::time::sleep(Duration::from_millis(ms).min(ANSWER)).await;
                    self.socket.send(vec![text.clone()]).await?;
                }
                frame @ (ServerFrame::Page { id, .. }
                | ServerFrame::Hits { id, .. }
                | ServerFrame::Members { id, .. })
                    if id == asked =>
                {
                    return Ok(frame);
                }
                ServerFrame::Error { id: Some(id), msg, retry_ms, .. } if id == asked => {
                    return Err(match retry_ms {
                        Some(ms) => {
                            CliError::failed(msg).hint(format!("try again in {} s", ms.div_ceil(1_000)))
                        }
                        None => CliError::failed(msg).hint("`gx chat groups` lists what is yours"),
                    });
                }
                ServerFrame::Msgs { g, m } => {
                    let last = m.last().map_or(Seq::ZERO, |message| message.seq);
                    self.note(g, last);
                }
                ServerFrame::Lag { g, from } => self.note(g, from),
                _ => {}
            }
        }
    }

    fn note(&mut self, group: GroupId, seq: Seq) {
        let known = self.news.entry(group).or_default();
        *known = seq.max(*known);
    }

    /// Returns the next frame that does not end the connection.
    async fn next(&mut self) -> Result<ServerFrame> {
        let next = tokio::time::timeout(ANSWER, self.next_frame()).await;
        next.map_err(|_| lost().cause("it did not answer in time"))?
    }

    async fn next_frame(&mut self) -> Result<ServerFrame> {
        let text = self.socket.next().await?.ok_or_else(lost)?;
        match parse(&text)? {
            ServerFrame::Error { fatal: true, msg, .. } => Err(lost().cause(msg)),
            ServerFrame::Closing { .. } => Err(lost()),
            frame => Ok(frame),
        }
    }

    /// Returns the next frame, however long it takes; the server is asked for signs of life meanwhile.
    pub(super) async fn wait(&mut self) -> Result<ServerFrame> {
        loop {
            let quiet = tokio::time::sleep(PING);
            tokio::select! {
                frame = self.next_frame() => return frame,
                () = quiet => self.socket.send(vec![ClientFrame::Ping {}.to_text()]).await?,
            }
        }
    }

    /// Puts a text into the outbox, then sends what waits there, in order, until this text is stored.
    pub(super) async fn say(&mut self, group: &GroupId, text: &str) -> Result<Said> {
        let cid = Cid::of(now_ms(), &fresh())?;
        let line = Waiting { cid, group: group.clone(), text: text.to_owned() };
        self.week.queue(&line)?;
        let kept = |error: CliError| {
            error.hint("the line is kept, and goes with the next `gx chat` or `gx chat send`")
        };
        loop {
            let Some(due) = self.week.due()?.into_iter().next() else {
                // An interactive session of the same user has sent it meanwhile.
                let (seq, ts) = self.week.stored(group, &line.cid)?.ok_or_else(|| {
                    CliError::failed("another program took the line out of the outbox")
                        .hint("look at `gx chat history`")
                })?;
                return Ok(Said {
                    cid: line.cid.to_string(),
                    group: group.clone(),
                    seq: seq.get(),
                    ts,
                    dup: true,
                });
            };
            match self.deliver(&due).await.map_err(kept)? {
                Delivered::Stored(said) if due.cid == line.cid => return Ok(said),
                Delivered::Refused(error) if due.cid == line.cid => return Err(error),
                Delivered::Stored(_) => {}
                Delivered::Refused(error) => self.lost.push(format!("{error}: {}", due.text)),
            }
        }
    }

    /// Sends a line until it is stored or refused for good; both take it out of the outbox.
    async fn deliver(&mut self, line: &Waiting) -> Result<Delivered> {
        let mut refusals = 0;
        loop {
            let frame = ClientFrame::Send {
                cid: line.cid.to_string(),
                g: line.group.to_string(),
                text: line.text.clone(),
            };
            self.socket.send(vec![frame.to_text()]).await?;
            let again = loop {
                match self.next().await? {
                    ServerFrame::Ack { cid, g, seq, ts, dup } if cid == line.cid => {
                        self.week.acked(&cid, &g, seq, ts, self.user.as_str())?;
                        let said = Said { cid: cid.to_string(), group: g, seq: seq.get(), ts, dup };
                        return Ok(Delivered::Stored(said));
                    }
                    ServerFrame::Nack { cid, code, retry_ms, msg } if cid == line.cid.as_str() => {
                        let later = matches!(code, NackCode::Rate | NackCode::Closed | NackCode::Unavailable);
                        if !later {
                            self.week.refused(&cid)?;
                            return Ok(Delivered::Refused(not_stored(code, msg)));
                        }
                        if code == NackCode::Unavailable {
                            refusals += 1;
                            if refusals >= MAX_REFUSALS {
                                return Err(CliError::failed("the message is not stored yet").cause(msg));
                            }
                        }
                        break retry_ms.unwrap_or(1_000);
                    }
                    _ => {}
                }
            };
            tokio::time::sleep(Duration::from_millis(again)).await;
        }
    }

    /// Says good-bye.
    pub(super) async fn close(mut self) {
        // Where the host is gone there is nothing to tell it.
        let _ = self.socket.send(vec![ClientFrame::Bye {}.to_text()]).await;
        self.socket.close().await;
    }
}

/// Returns a group that the user has: the one that is named by its id, name or command, else the default.
pub(super) fn group<'a>(rights: &'a Rights, named: Option<&str>) -> Result<&'a RightsIn> {
    let Some(named) = named else {
        let default = rights.groups.iter().find(|group| Some(&group.g) == rights.default.as_ref());
        return default
            .or(rights.groups.first())
            .ok_or_else(|| CliError::new(Kind::NotAllowed, "you are in no group").hint("gx chat groups"));
    };
    let lower = named.to_lowercase();
    let is_it = |group: &&RightsIn| {
        group.g.as_str() == lower
            || group.name.to_lowercase() == lower
            || group.command.as_deref() == Some(&lower)
    };
    rights.groups.iter().find(is_it).ok_or_else(|| {
        let names: Vec<&str> = rights.groups.iter().map(|group| group.g.as_str()).collect();
        let near = gx_core::config::closest(&lower, names.iter().copied()).map(str::to_owned);
        let told = CliError::failed(format!("you have no group {named}"));
        told.hint(
            near.map_or("`gx chat groups` lists yours".to_owned(), |near| format!("did you mean `{near}`?")),
        )
    })
}

fn lost() -> CliError {
    CliError::new(Kind::Unreachable, "the chat's server ended the connection").hint("try again")
}

fn not_stored(code: NackCode, msg: String) -> CliError {
    let kind = match code {
        NackCode::NoWrite | NackCode::NoGroup => Kind::NotAllowed,
        _ => Kind::Failed,
    };
    CliError::new(kind, "the message was refused")
        .cause(msg)
        .hint("`gx chat groups` says where you may write")
}

/// A message that is stored.
#[derive(Debug, serde::Serialize)]
pub(super) struct Said {
    /// What this client calls it.
    pub(super) cid: String,
    /// The group.
    pub(super) group: GroupId,
    /// Its number there.
    pub(super) seq: u64,
    /// When, in milliseconds since 1970 by the server's clock.
    pub(super) ts: u64,
    /// Whether it was there already.
    pub(super) dup: bool,
}
