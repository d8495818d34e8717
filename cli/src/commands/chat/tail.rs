//! `gx chat tail`: messages as they come, from all groups or one, over connections that come and go.

use std::collections::BTreeMap;

use clap::Args;
use gx_chat::frames::{ClientFrame, MAX_PAGE, Message, ServerFrame};
use gx_chat::{GroupId, Seq};

use super::backoff::Backoff;
use super::history::Told;
use super::link::AsArgs;
use super::remote::Remote;
use crate::commands::Context;
use crate::error::{CliError, Kind, Result};

/// What `gx chat tail` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gx chat tail\n  gx chat tail --group navy\n  gx chat tail --json | jq -r '.from + \": \" + .text'\n\n\
                        It ends with Ctrl-C. A connection that breaks is made anew, and what was missed meanwhile is printed in its \
                        order."
)]
pub struct TailArgs {
    /// This group only, by its id, name or command
    #[arg(long)]
    pub group: Option<String>,
    /// Who reads
    #[command(flatten)]
    pub who: AsArgs,
}

pub(super) async fn run(args: TailArgs, context: &Context<'_>) -> Result {
    let mut remote = Remote::open(&args.who, context).await?;
    let only = match &args.group {
        Some(named) => Some(remote.group(Some(named))?.g.clone()),
        None => None,
    };
    let mut tail = Tail { only, seen: BTreeMap::new(), context };
    // What was said before is for `gx chat history`.
    tail.begin(&remote);
    loop {
        match tail.follow(&mut remote).await {
            Err(error) if error.kind == Kind::Unreachable => {
                context.out.warn(&format!("{error}; trying again"), None);
                remote = again(&args.who, context).await?;
            }
            ended => return ended,
        }
    }
}

/// Signs in again, when that can be done.
async fn again(who: &AsArgs, context: &Context<'_>) -> Result<Remote> {
    let mut backoff = Backoff::new();
    loop {
        tokio::time::sleep(backoff.next()).await;
        match Remote::open(who, context).await {
            Ok(remote) => {
                context.out.note("connected again");
                return Ok(remote);
            }
            Err(error) if matches!(error.kind, Kind::NotAllowed | Kind::Usage) => return Err(error),
            Err(error) => tracing::info!(%error, "no connection yet"),
        }
    }
}

struct Tail<'a> {
    only: Option<GroupId>,
    /// The last message of each group that was printed, or was there before.
    seen: BTreeMap<GroupId, Seq>,
    context: &'a Context<'a>,
}

impl Tail<'_> {
    fn begin(&mut self, remote: &Remote) {
        self.seen = remote.rights.groups.iter().map(|group| (group.g.clone(), group.last)).collect();
    }

    /// Prints what was missed, and then what comes.
    async fn follow(&mut self, remote: &mut Remote) -> Result {
        for group in remote.rights.groups.clone().into_iter().filter(|group| group.r) {
            let seen = self.seen.entry(group.g.clone()).or_insert(group.last);
            // A server that was restored from a backup begins again after what it has.
            *seen = group.last.min(*seen);
            self.reach(remote, &group.g, group.last).await?;
        }
        loop {
            match remote.wait().await? {
                ServerFrame::Msgs { g, m } => self.live(remote, &g, &m).await?,
                ServerFrame::Lag { g, from } => self.reach(remote, &g, from).await?,
                _ => {}
            }
        }
    }

    /// Prints what comes; with a gap before it, what is missing first.
    async fn live(&mut self, remote: &mut Remote, group: &GroupId, messages: &[Message]) -> Result {
        let (Some(first), Some(last)) = (messages.first(), messages.last()) else { return Ok(()) };
        // A group that is new to the user begins with what comes.
        let before = Seq::new(first.seq.get().saturating_sub(1)).unwrap_or(Seq::ZERO);
        let seen = *self.seen.entry(group.clone()).or_insert(before);
        if first.seq > seen.next() {
            return self.reach(remote, group, last.seq).await;
        }
        self.print(group, messages)
    }

    /// Prints up to a message, page by page, and whatever came meanwhile.
    async fn reach(&mut self, remote: &mut Remote, group: &GroupId, due: Seq) -> Result {
        if !self.is_meant(group) {
            return Ok(());
        }
        let mut due = due;
        loop {
            let after = self.seen.get(group).copied().unwrap_or(Seq::ZERO);
            due = due.max(remote.news.remove(group).unwrap_or(Seq::ZERO));
            if after >= due {
                return Ok(());
            }
            let g = group.clone();
            let ask = |id| ClientFrame::Hist {
                id,
                g,
                after: Some(after),
                before: None,
                since: None,
                limit: MAX_PAGE,
            };
            let ServerFrame::Page { m, .. } = remote.ask(ask).await? else {
                return Err(CliError::new(Kind::Unreachable, "the chat's server answers something else")
                    .hint("is it a gx of this version?"));
            };
            if m.is_empty() {
                // It is too old, or not ours any more.
                self.seen.insert(group.clone(), due);
                return Ok(());
            }
            self.print(group, &m)?;
        }
    }

    fn print(&mut self, group: &GroupId, messages: &[Message]) -> Result {
        let seen = self.seen.entry(group.clone()).or_default();
        for message in messages.iter().filter(|message| message.seq > *seen) {
            if self.only.as_ref().is_none_or(|only| only == group) {
                self.context.out.item(&Told::new(group, message))?;
            }
        }
        *seen = messages.last().map_or(*seen, |message| message.seq.max(*seen));
        Ok(())
    }

    fn is_meant(&self, group: &GroupId) -> bool {
        self.only.as_ref().is_none_or(|only| only == group)
    }
}
