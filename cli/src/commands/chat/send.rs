//! `gx chat send`: sends one text, and ends when the server has stored it.

use std::io::Read as _;

use clap::Args;
use gx_chat::client::{Waiting, Week};
use gx_chat::frames::Rights;
use gx_chat::{Cid, GroupId};

use super::link::{AsArgs, fresh, now_ms};
use super::remote::{Remote, Said, group};
use crate::commands::Context;
use crate::error::{CliError, Kind, Result};
use crate::output::{Show, View};

/// More than a text may have; the server says what its own limit is.
const MAX_TEXT: u64 = 16 * 1024;

const NOT_KEPT: &str = "the line is not kept: this machine has not been in this chat yet";

const EXAMPLES: &str = "\
Examples:
  gx chat send 'all well'
  gx chat send --group n 'all well' --as NavyMarshal
  uptime | gx chat send -

It ends when the server has stored the text. Until then the text is kept on this machine: where the server cannot be \
reached it goes with the next `gx chat` or `gx chat send`.";

/// What `gx chat send` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SendArgs {
    /// The text; - reads it from standard input
    pub text: String,
    /// The group, by its id, name or command; without it the one to begin in
    #[arg(long)]
    pub group: Option<String>,
    /// Who sends
    #[command(flatten)]
    pub who: AsArgs,
}

pub(super) async fn run(args: SendArgs, context: &Context<'_>) -> Result {
    let text = if args.text == "-" { given()? } else { args.text };
    let opened = Remote::open_or_keep(&args.who, context).await;
    // A server that cannot be found has nothing kept for it.
    let opened =
        opened.map_err(|error| if error.kind == Kind::Unreachable { error.hint(NOT_KEPT) } else { error });
    let mut remote = match opened? {
        Ok(remote) => remote,
        Err((error, week)) => return Err(kept(error, &week, args.group.as_deref(), text)?),
    };
    let group = written(&remote.rights, args.group.as_deref())?;
    let said = remote.say(&group, &text).await;
    for lost in std::mem::take(&mut remote.lost) {
        context.out.warn(&lost, Some("it waited since before, and is not kept any more"));
    }
    let said = said?;
    remote.close().await;
    context.out.show(&said)
}

/// Returns the group, if the user may write there.
fn written(rights: &Rights, named: Option<&str>) -> Result<GroupId> {
    let group = group(rights, named)?;
    if !group.w {
        let told = format!("you may only read {}", group.name);
        return Err(CliError::new(Kind::NotAllowed, told).hint("`gx chat groups` says where you may write"));
    }
    Ok(group.g.clone())
}

/// Keeps a line for a server that cannot be reached, and returns that it cannot be with what becomes of the line.
fn kept(error: CliError, week: &Week, named: Option<&str>, text: String) -> Result<CliError> {
    let Some(rights) = week.rights()? else {
        return Ok(error.hint(NOT_KEPT));
    };
    let cid = Cid::of(now_ms(), &fresh())?;
    week.queue(&Waiting { cid, group: written(&rights, named)?, text })?;
    Ok(error.hint("the line is kept, and goes with the next `gx chat` or `gx chat send`"))
}

fn given() -> Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(MAX_TEXT)
        .read_to_end(&mut bytes)
        .map_err(|error| CliError::io("cannot read standard input", &error))?;
    let text = String::from_utf8(bytes).map_err(|_| {
        CliError::usage("standard input is not UTF-8").hint("the chat is of texts; `gx cp` copies files")
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

impl Show for Said {
    fn text(&self, _: &View) -> String {
        let again = if self.dup { ", as before" } else { "" };
        format!("stored as {} of {}{again}\n", self.seq, self.group)
    }

    fn ids(&self, _: &View) -> String {
        format!("{}\n", self.seq)
    }
}
