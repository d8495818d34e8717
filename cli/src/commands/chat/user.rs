//! `gx chat user …`, `gx chat stop` and `start`: what who runs the chat does, on the host itself or from anywhere as its owner.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use gx_chat::UserName;
use gx_core::NodeId;
use gx_core::api::{ChatStarted, ChatStopped, ChatUser, ChatUserRequest, ChatUsers};
use gx_core::secret::Secret;
use serde::Serialize;

use super::{ask, link};
use crate::commands::Context;
use crate::error::Result;
use crate::output::{Pairs, Show, Table, View};

/// What `gx chat user` does.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Lists the accounts
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Gives a user of the policy an account, with a password or a node's key
    Add(AddArgs),
    /// Gives a user another password, and cuts off whoever is signed in with the old one
    Passwd(PasswdArgs),
    /// Lets nobody sign in as this user, and cuts off whoever is
    Disable(DisableArgs),
}

/// What `gx chat user list` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gx chat user list\n  gx chat user list --json | jq '.users[] | select(.disabled)'"
)]
pub struct ListArgs {}

/// What `gx chat user add` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gx chat user add Navy7                          with a password that is shown once\n  \
                        gx chat user add Navy7 --password-file pw       with the one in the file\n  gx chat user add Navy7 --node \
                        aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq\n\nAn account that is there becomes what is said here: a \
                        machine with a new key is let in again by the same command with its new id. Members of the host who \
                        change their key by `gx id rotate` keep their account."
)]
pub struct AddArgs {
    /// The user, as the policy has it
    pub user: UserName,
    /// Takes the first line of this file as the password; - for standard input; without it one is made up
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub password_file: Option<PathBuf>,
    /// Lets in the node with this id, which needs no password
    #[arg(long, value_name = "NODEID")]
    pub node: Option<NodeId>,
}

/// What `gx chat user passwd` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gx chat user passwd Navy7\n  gx chat user passwd Navy7 --password-file - < pw"
)]
pub struct PasswdArgs {
    /// The user
    pub user: UserName,
    /// Takes the first line of this file as the password; - for standard input; without it one is made up
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub password_file: Option<PathBuf>,
}

/// What `gx chat user disable` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gx chat user disable Navy7\n\n`gx chat user add` lets the user in again."
)]
pub struct DisableArgs {
    /// The user
    pub user: UserName,
}

/// What `gx chat stop` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gx chat stop\n  gx --on hq chat stop\n\nWhat was taken is stored and acknowledged first. \
                        The rest of the server goes on; `gx chat start` serves the chat again, and so does `gx serve` when it is \
                        started anew."
)]
pub struct StopArgs {}

/// What `gx chat start` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gx chat start\n  gx --on hq chat start\n\nClients come back by themselves."
)]
pub struct StartArgs {}

pub(super) async fn run(command: UserCommand, context: &Context<'_>) -> Result {
    let host = link::host(context).await?;
    let password =
        |file: Option<PathBuf>| file.map(|file| ask::password_in(&file).map(Secret::new)).transpose();
    let (user, request) = match command {
        UserCommand::List(_) => return context.out.show(&host.chat_users().await?),
        UserCommand::Add(AddArgs { user, password_file, node }) => {
            let password = password(password_file)?;
            (user, ChatUserRequest { password, node, disabled: false })
        }
        UserCommand::Passwd(PasswdArgs { user, password_file }) => {
            let password = password(password_file)?;
            (user, ChatUserRequest { password, node: None, disabled: false })
        }
        UserCommand::Disable(DisableArgs { user }) => {
            (user, ChatUserRequest { password: None, node: None, disabled: true })
        }
    };
    context.out.show(&Changed(host.put_chat_user(user.as_str(), request).await?))
}

pub(super) async fn stop(_: StopArgs, context: &Context<'_>) -> Result {
    let stopped = link::host(context).await?.stop_chat().await?;
    context.out.show(&stopped)
}

pub(super) async fn start(_: StartArgs, context: &Context<'_>) -> Result {
    let started = link::host(context).await?.start_chat().await?;
    context.out.show(&started)
}

impl Show for ChatStarted {
    fn text(&self, _: &View) -> String {
        let told = if self.started { "the chat is served again" } else { "the chat is served already" };
        format!("{told}\n")
    }
}

impl Show for ChatStopped {
    fn text(&self, _: &View) -> String {
        let connections = if self.connections == 1 { "connection" } else { "connections" };
        format!(
            "the chat has stopped; {} {connections} come back when `gx chat start` has it served again\n",
            self.connections
        )
    }
}

impl Show for ChatUsers {
    fn text(&self, view: &View) -> String {
        let mut table = Table::new(["user", "signs in by", "connections"]);
        for user in &self.users {
            table.row([user.user.clone(), by(user), user.connections.to_string()]);
        }
        table.text(view)
    }

    fn ids(&self, _: &View) -> String {
        self.users.iter().map(|user| format!("{}\n", user.user)).collect()
    }
}

fn by(user: &ChatUser) -> String {
    match (user.disabled, user.has_password, user.node) {
        (true, ..) => "disabled".to_owned(),
        (false, true, Some(node)) => format!("password, node {}", node.short()),
        (false, true, None) => "password".to_owned(),
        (false, false, Some(node)) => format!("node {}", node.short()),
        (false, false, None) => "nothing".to_owned(),
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Changed(ChatUser);

impl Show for Changed {
    fn text(&self, view: &View) -> String {
        let password = self.0.password.as_ref().map(|password| password.reveal().to_owned());
        Pairs::new()
            .pair("user", &self.0.user)
            .pair("signs in by", by(&self.0))
            .some("password", password)
            .text(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_was_made_up_is_shown_this_once() {
        let user = ChatUser {
            user: "Navy7".to_owned(),
            has_password: true,
            node: None,
            disabled: false,
            connections: 0,
            password: Some(Secret::new("hush")),
        };
        let text = Changed(user).text(&View::plain());
        assert_eq!(text, "user          Navy7\nsigns in by   password\npassword      hush\n");
    }
}
