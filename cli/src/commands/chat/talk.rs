//! `gx chat` itself: a session that goes on until its user ends it, over connections that come and go.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use gx_chat::client::{Effect, Shown, Talk};
use gx_chat::frames::{Auth, ClientFrame};
use gx_client::{ChatSocket, Client};
use tokio::time::{Instant, MissedTickBehavior};

use super::backoff::Backoff;
use super::link::{AsArgs, Dialled, Road, dial, fresh, group, now_ms, parse, refused};
use super::screen::{Input, Screen, save};
use crate::commands::Context;
use crate::error::{CliError, Result};

/// How often what is due is done.
const TICK: Duration = Duration::from_secs(1);
/// How long lines of plain input may take to be stored after its end.
const LAST: Duration = Duration::from_secs(30);

/// What interactive `gx chat` takes.
#[derive(Debug, Default, clap::Args)]
pub struct TalkArgs {
    /// Who talks
    #[command(flatten)]
    pub who: AsArgs,
    /// Begins in this group, by its id
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub group: Option<gx_chat::GroupId>,
}

pub(super) async fn run(args: TalkArgs, context: &Context<'_>) -> Result {
    let mut road = Road::find(&args.who, context).await?;
    let mut week = road.week()?;
    let run = fresh();
    let first = {
        let hello = |week: &gx_chat::client::Week, user: &gx_chat::UserName, auth: Auth| {
            Ok(gx_chat::client::hello(week, user, &run, auth)?)
        };
        road.sign_in(&mut week, hello).await
    };
    let mut talk = Talk::new(week, road.user.clone(), &run, args.group);
    let mut session = Session {
        link: Link::Waits(Instant::now()),
        backoff: Backoff::new(),
        client: road.client.clone(),
        screen: Screen::open(context.out)?,
        ends: None,
    };
    let begun = match first {
        Ok((socket, welcome)) => {
            session.link = Link::Open(socket);
            Ok(talk.frame(welcome, now_ms())?)
        }
        // Who was here before may look at the week, and write what is sent later.
        Err(error) if error.kind == crate::error::Kind::Unreachable && talk.week().rights()?.is_some() => {
            session.pause();
            let told = Shown::Wrong(format!("{error}; trying again"));
            Ok(vec![Effect::Show(told)].into_iter().chain(talk.offline(now_ms())?).collect())
        }
        Err(error) => Err(error),
    };
    let ended = match begun {
        Ok(effects) => session.run(&mut talk, effects).await,
        Err(error) => Err(error),
    };
    session.screen.close();
    ended
}

type Dialling = Pin<Box<dyn Future<Output = Result<Dialled>>>>;

enum Link {
    Open(Box<ChatSocket>),
    Dials(Dialling),
    Waits(Instant),
}

struct Session<'a> {
    link: Link,
    backoff: Backoff,
    client: Client,
    screen: Screen<'a>,
    /// When the session ends, once its input has ended.
    ends: Option<Instant>,
}

enum Event {
    Input(Input),
    Frame(Option<String>),
    Dialled(Result<Dialled>),
    Dial,
    Tick,
}

impl Session<'_> {
    async fn run(&mut self, talk: &mut Talk, begun: Vec<Effect>) -> Result {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if self.apply(talk, begun).await? {
            return self.leave(talk).await;
        }
        loop {
            self.screen.prompt(talk.prompt()?)?;
            // Lines of a script wait until those before them are dealt with.
            let may_type = self.ends.is_none() && (self.screen.is_terminal() || talk.is_settled()?);
            let event = tokio::select! {
                input = self.screen.next(), if may_type => Event::Input(input?),
                event = self.link.next() => event,
                _ = ticks.tick() => Event::Tick,
            };
            let effects = self.effects(talk, event).await?;
            if self.apply(talk, effects).await? || self.is_done(talk)? {
                return self.leave(talk).await;
            }
        }
    }

    async fn effects(&mut self, talk: &mut Talk, event: Event) -> Result<Vec<Effect>> {
        match event {
            Event::Input(Input::Line(line)) => Ok(talk.line(&line, now_ms())?),
            Event::Input(Input::Garbage) => {
                Ok(vec![Effect::Show(Shown::Wrong("not sent: it is not UTF-8".to_owned()))])
            }
            Event::Input(Input::End) if self.screen.is_terminal() => Ok(talk.line(":quit", now_ms())?),
            Event::Input(Input::End) => {
                // The last lines may still be on their way.
                self.ends = Some(Instant::now() + LAST);
                Ok(Vec::new())
            }
            Event::Frame(Some(text)) => match parse(&text) {
                Ok(frame) => Ok(talk.frame(frame, now_ms())?),
                Err(error) => {
                    tracing::warn!(%error, "a frame is left out");
                    Ok(Vec::new())
                }
            },
            Event::Frame(None) => self.lost(talk),
            Event::Dial => {
                let auth = match talk.week().token()? {
                    Some(token) => Auth::Token { token },
                    None => Auth::Key {},
                };
                self.link = Link::Dials(Box::pin(dial(self.client.clone(), talk.hello(auth)?)));
                Ok(Vec::new())
            }
            Event::Dialled(Ok(Dialled::In(socket, welcome))) => {
                self.link = Link::Open(socket);
                self.backoff = Backoff::new();
                let mut effects = vec![Effect::Show(Shown::Notice("connected again".to_owned()))];
                effects.extend(talk.frame(*welcome, now_ms())?);
                Ok(effects)
            }
            Event::Dialled(Ok(Dialled::Refused(why))) => Err(refused(talk.me(), &why)),
            Event::Dialled(Err(error)) => {
                tracing::info!(%error, "no connection yet");
                self.pause();
                Ok(Vec::new())
            }
            Event::Tick => Ok(talk.tick(now_ms())?),
        }
    }

    fn lost(&mut self, talk: &mut Talk) -> Result<Vec<Effect>> {
        if matches!(self.link, Link::Open(_)) {
            self.pause();
        }
        let mut effects =
            vec![Effect::Show(Shown::Notice("the connection is gone; trying again".to_owned()))];
        effects.extend(talk.closed()?);
        Ok(effects)
    }

    /// Waits before the next try: twice as long each time, and not as long as everybody else.
    fn pause(&mut self) {
        self.link = Link::Waits(Instant::now() + self.backoff.next());
    }

    /// Does what is to be done; returns whether the session ends.
    async fn apply(&mut self, talk: &mut Talk, effects: Vec<Effect>) -> Result<bool> {
        let (mut frames, mut shown): (Vec<ClientFrame>, Vec<Shown>) = Default::default();
        let mut ends = false;
        let mut come_back = None;
        for effect in effects {
            match effect {
                Effect::Send(frame) => frames.push(frame),
                Effect::Show(line) => shown.push(line),
                Effect::Offer(text) => self.screen.offer(text),
                Effect::Save { file, text } => shown.push(saved(Path::new(&file), &text)),
                Effect::Leave => ends = true,
                Effect::ComeBack(after) => come_back = Some(after),
                Effect::Refused { why, .. } => {
                    self.screen.show(&shown)?;
                    return Err(refused(talk.me(), &why));
                }
            }
        }
        self.screen.show(&shown)?;
        if let Some(after) = come_back {
            self.link = Link::Waits(Instant::now() + after);
            let effects = talk.closed()?;
            self.screen.show(&lines_of(effects))?;
            return Ok(ends);
        }
        let sent = match &mut self.link {
            Link::Open(socket) if !frames.is_empty() => {
                socket.send(frames.iter().map(ClientFrame::to_text).collect()).await
            }
            _ => Ok(()),
        };
        if let Err(error) = sent {
            tracing::info!(%error, "the connection broke");
            let effects = self.lost(talk)?;
            self.screen.show(&lines_of(effects))?;
        }
        if !ends {
            return Ok(false);
        }
        // What was typed before the end is to be stored.
        self.ends = Some(Instant::now() + LAST);
        self.is_done(talk)
    }

    /// Says good-bye.
    async fn leave(&mut self, talk: &mut Talk) -> Result {
        let frames = talk.bye()?;
        if let Link::Open(mut socket) = std::mem::replace(&mut self.link, Link::Waits(Instant::now())) {
            // Where the host is gone there is nothing to tell it.
            let _ = socket.send(frames.iter().map(ClientFrame::to_text).collect()).await;
            socket.close().await;
        }
        Ok(())
    }

    /// Returns whether plain input has ended and everything of it is stored.
    fn is_done(&self, talk: &Talk) -> Result<bool> {
        let Some(ends) = self.ends else { return Ok(false) };
        let waiting = talk.week().waiting()?;
        if waiting > 0 && Instant::now() >= ends {
            return Err(CliError::new(
                crate::error::Kind::Unreachable,
                format!("{waiting} lines are not sent yet"),
            )
            .hint("they are kept, and go with the next `gx chat`"));
        }
        Ok(waiting == 0 && (talk.is_whole() || self.screen.is_terminal() || Instant::now() >= ends))
    }
}

impl Link {
    /// Returns what happens next to the connection. Nothing is lost when it is dropped before it is ready.
    async fn next(&mut self) -> Event {
        match self {
            Self::Open(socket) => match socket.next().await {
                Ok(text) => Event::Frame(text),
                Err(error) => {
                    tracing::info!(%error, "the connection broke");
                    Event::Frame(None)
                }
            },
            Self::Dials(dialling) => Event::Dialled(dialling.await),
            Self::Waits(until) => {
                tokio::time::sleep_until(*until).await;
                Event::Dial
            }
        }
    }
}

fn lines_of(effects: Vec<Effect>) -> Vec<Shown> {
    let line = |effect| match effect {
        Effect::Show(line) => Some(line),
        _ => None,
    };
    effects.into_iter().filter_map(line).collect()
}

fn saved(file: &Path, text: &str) -> Shown {
    let count = text.lines().count();
    let lines = if count == 1 { "line" } else { "lines" };
    match save(file, text) {
        Ok(()) => Shown::Notice(format!("{count} {lines} saved as {}", file.display())),
        Err(error) => Shown::Wrong(format!("not saved as {}: {error}", file.display())),
    }
}
