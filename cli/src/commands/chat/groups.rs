//! `gx chat groups` and `who`: where the user may be, and who is there.

use clap::Args;
use gx_chat::frames::{ClientFrame, Member, RightsIn, ServerFrame};
use serde::Serialize;

use super::link::AsArgs;
use super::remote::Remote;
use crate::commands::Context;
use crate::error::{CliError, Result};
use crate::output::{Show, Table, View};

/// What `gx chat groups` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gx chat groups\n  gx chat groups --as NavyMarshal --json")]
pub struct GroupsArgs {
    /// Whose groups
    #[command(flatten)]
    pub who: AsArgs,
}

/// What `gx chat who` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gx chat who\n  gx chat who --group navy --json | jq '.members[] | select(.on)'"
)]
pub struct WhoArgs {
    /// The group, by its id, name or command; without it the one to begin in
    #[arg(long)]
    pub group: Option<String>,
    /// Who asks
    #[command(flatten)]
    pub who: AsArgs,
}

pub(super) async fn groups(args: GroupsArgs, context: &Context<'_>) -> Result {
    let remote = Remote::open(&args.who, context).await?;
    let groups = Groups { user: remote.user.to_string(), groups: remote.rights.groups.clone() };
    remote.close().await;
    context.out.show(&groups)
}

pub(super) async fn who(args: WhoArgs, context: &Context<'_>) -> Result {
    let mut remote = Remote::open(&args.who, context).await?;
    let g = remote.group(args.group.as_deref())?.g.clone();
    let answer = remote.ask(|id| ClientFrame::Who { id, g: g.clone() }).await?;
    remote.close().await;
    match answer {
        ServerFrame::Members { m, .. } => context.out.show(&Present { group: g.to_string(), members: m }),
        _ => {
            Err(CliError::failed("the chat's server answers something else")
                .hint("is it a gx of this version?"))
        }
    }
}

#[derive(Serialize)]
struct Groups {
    user: String,
    groups: Vec<RightsIn>,
}

impl Show for Groups {
    fn text(&self, view: &View) -> String {
        let mut table = Table::new(["group", "name", "rights", "unread"]);
        for group in &self.groups {
            let rights = match (group.r, group.w) {
                (true, true) => "read and write",
                (true, false) => "read",
                (false, true) => "write",
                (false, false) => "",
            };
            let unread = if group.r {
                group.last.get().saturating_sub(group.read.get()).to_string()
            } else {
                String::new()
            };
            table.row([group.g.to_string(), group.name.clone(), rights.to_owned(), unread]);
        }
        table.text(view)
    }
}

#[derive(Serialize)]
struct Present {
    group: String,
    members: Vec<Member>,
}

impl Show for Present {
    fn text(&self, view: &View) -> String {
        let mut table = Table::new(["user", "here"]);
        for member in &self.members {
            table.row([member.user.to_string(), if member.on { "yes" } else { "no" }.to_owned()]);
        }
        table.text(view)
    }
}
