//! `gx chat history`, `search` and `export`: what was said.

use std::path::PathBuf;

use clap::Args;
use gx_chat::client::{Exporter, Format, clock, shown};
use gx_chat::frames::{ClientFrame, MAX_PAGE, Message, ServerFrame};
use gx_chat::{GroupId, Seq};
use gx_core::Timestamp;
use serde::Serialize;

use super::link::AsArgs;
use super::remote::Remote;
use super::screen::save;
use crate::commands::{Context, logs};
use crate::error::{CliError, Result};
use crate::output::{Show, View};

/// What `gx chat history` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gx chat history\n  gx chat history --group navy --limit 500\n  gx chat history --since 2h \
                        --json | jq -r .text"
)]
pub struct HistoryArgs {
    /// The group, by its id, name or command; without it the one to begin in
    #[arg(long)]
    pub group: Option<String>,
    /// How many messages at most, the last ones; with --since the first ones
    #[arg(long, default_value_t = 30)]
    pub limit: u32,
    /// Those since: a span before now, as 10m, or a time, as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = logs::moment)]
    pub since: Option<Timestamp>,
    /// Who reads
    #[command(flatten)]
    pub who: AsArgs,
}

/// What `gx chat search` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gx chat search harbour\n  gx chat search 'fuel report' --group n --json"
)]
pub struct SearchArgs {
    /// Words that must all be in a message
    pub words: String,
    /// In this group only, by its id, name or command
    #[arg(long)]
    pub group: Option<String>,
    /// How many messages at most, the newest ones
    #[arg(long, default_value_t = 30)]
    pub limit: u32,
    /// Who searches
    #[command(flatten)]
    pub who: AsArgs,
}

/// What `gx chat export` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gx chat export --group navy > navy.txt\n  gx chat export --format jsonl --out week.jsonl\n  \
                        gx chat export --format md --since 1d\n\nText is `[YYYY-MM-DD HH:MM:SS]user:text` in UTC, one message a \
                        line. JSON lines keep texts exactly, with the chain of hashes: `gx chat verify FILE` checks it."
)]
pub struct ExportArgs {
    /// The group, by its id, name or command; without it the one to begin in
    #[arg(long)]
    pub group: Option<String>,
    /// txt, md or jsonl
    #[arg(long, default_value = "txt")]
    pub format: Format,
    /// Those since: a span before now, as 10m, or a time, as 2026-01-31T12:00:00Z; without it all that are kept
    #[arg(long, value_name = "WHEN", value_parser = logs::moment)]
    pub since: Option<Timestamp>,
    /// Writes this file, which must not be there yet; without it standard output
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// Who exports
    #[command(flatten)]
    pub who: AsArgs,
}

pub(super) async fn history(args: HistoryArgs, context: &Context<'_>) -> Result {
    let mut remote = Remote::open(&args.who, context).await?;
    let group = remote.group(args.group.as_deref())?.g.clone();
    let messages = match args.since.map(ms) {
        Some(since) => {
            let mut all = Vec::new();
            pages(&mut remote, &group, since, args.limit, |m| {
                all.extend(m);
                Ok(())
            })
            .await?;
            all
        }
        None => last(&mut remote, &group, args.limit).await?,
    };
    remote.close().await;
    messages.into_iter().try_for_each(|m| context.out.item(&Told::new(&group, &m)))
}

pub(super) async fn search(args: SearchArgs, context: &Context<'_>) -> Result {
    let mut remote = Remote::open(&args.who, context).await?;
    let g = match &args.group {
        Some(named) => [remote.group(Some(named))?.g.clone()].into(),
        None => Default::default(),
    };
    let (q, limit) = (args.words, args.limit.min(MAX_PAGE));
    let answer = remote.ask(|id| ClientFrame::Find { id, q, g, limit }).await?;
    remote.close().await;
    let ServerFrame::Hits { m, more, .. } = answer else { return Err(odd()) };
    m.iter().rev().try_for_each(|hit| context.out.item(&Told::new(&hit.g, &hit.m)))?;
    if m.is_empty() {
        context.out.note("nothing was found");
    }
    if more {
        context.out.note("there is more, from before: --limit shows up to 200");
    }
    Ok(())
}

pub(super) async fn export(args: ExportArgs, context: &Context<'_>) -> Result {
    let mut remote = Remote::open(&args.who, context).await?;
    let (group, name) = {
        let group = remote.group(args.group.as_deref())?;
        (group.g.clone(), group.name.clone())
    };
    let mut exporter = Exporter::new(args.format, group.clone());
    let mut text = exporter.head(&name);
    let since = args.since.map_or(0, ms);
    let to_file = args.out.is_some();
    pages(&mut remote, &group, since, u32::MAX, |messages| {
        messages.iter().for_each(|message| exporter.add(message, &mut text));
        // A file is written when all of it is there; a pipe gets page by page.
        if to_file { Ok(()) } else { context.out.write(std::mem::take(&mut text).as_bytes()) }
    })
    .await?;
    remote.close().await;
    match &args.out {
        None => context.out.write(text.as_bytes()),
        Some(file) => {
            save(file, &text).map_err(|error| {
                CliError::io(format!("cannot write {}", file.display()), &error)
                    .hint("name a file that is not there yet")
            })?;
            context.out.show(&Exported { written: file.clone(), messages: exporter.count() })
        }
    }
}

/// Returns the last messages of a group, the oldest first.
async fn last(remote: &mut Remote, group: &GroupId, limit: u32) -> Result<Vec<Message>> {
    let mut found: Vec<Message> = Vec::new();
    loop {
        let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        if left == 0 {
            return Ok(found);
        }
        let before = found.first().map(|m| m.seq);
        let (g, limit) = (group.clone(), left.min(MAX_PAGE));
        let ask = |id| ClientFrame::Hist { id, g, after: None, before, since: None, limit };
        let ServerFrame::Page { m, more, .. } = remote.ask(ask).await? else { return Err(odd()) };
        let is_last = m.is_empty() || !more;
        found.splice(0..0, m);
        if is_last {
            return Ok(found);
        }
    }
}

/// Hands out the messages of a group since a time, page by page, so many at most.
async fn pages(
    remote: &mut Remote,
    group: &GroupId,
    since: u64,
    limit: u32,
    mut take: impl FnMut(Vec<Message>) -> Result,
) -> Result {
    let (mut after, mut left): (Option<Seq>, u32) = (None, limit);
    while left > 0 {
        let (g, limit) = (group.clone(), left.min(MAX_PAGE));
        let since = after.is_none().then_some(since);
        let ask = |id| ClientFrame::Hist { id, g, after, before: None, since, limit };
        let ServerFrame::Page { m, more, .. } = remote.ask(ask).await? else { return Err(odd()) };
        let Some(last) = m.last() else { return Ok(()) };
        after = Some(last.seq);
        left = left.saturating_sub(u32::try_from(m.len()).unwrap_or(u32::MAX));
        take(m)?;
        if !more {
            return Ok(());
        }
    }
    Ok(())
}

fn odd() -> CliError {
    CliError::new(crate::error::Kind::Unreachable, "the chat's server answers something else")
        .hint("is it a gx of this version?")
}

fn ms(at: Timestamp) -> u64 {
    at.unix_ms().max(0).cast_unsigned()
}

/// A message as it is told.
#[derive(Serialize)]
pub(super) struct Told<'a> {
    group: &'a GroupId,
    seq: Seq,
    ts: u64,
    from: &'a str,
    text: &'a str,
}

impl<'a> Told<'a> {
    pub(super) fn new(group: &'a GroupId, message: &'a Message) -> Self {
        let (from, text) = (message.from.as_str(), message.text.as_str());
        Self { group, seq: message.seq, ts: message.ts, from, text }
    }
}

impl Show for Told<'_> {
    fn text(&self, view: &View) -> String {
        let head = view.dim(&format!("{} {}", clock(self.ts), self.group));
        format!("{head} {}: {}\n", view.bold(&shown(self.from)), shown(self.text))
    }
}

#[derive(Serialize)]
struct Exported {
    written: PathBuf,
    messages: u64,
}

impl Show for Exported {
    fn text(&self, _: &View) -> String {
        format!("{} messages are in {}\n", self.messages, self.written.display())
    }
}
