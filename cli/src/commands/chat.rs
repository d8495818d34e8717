//! `gx chat`: the group chat of an organisation, to talk in and for scripts, and what its policy says.

use clap::{Args, Subcommand};

use super::Context;
use crate::error::{Result, Status};

mod ask;
mod backoff;
mod cut;
mod doctor;
mod groups;
mod history;
mod link;
mod matrix;
mod policy;
mod remote;
mod screen;
mod send;
mod tail;
mod talk;
mod user;
mod verify;
mod why;

const EXAMPLES: &str = "\
Examples:
  gx chat                                  talks, as the system's user, in the group to begin in
  gx chat --as NavyMarshal --group n
  gx chat send --group n 'all well'        for scripts: ends when the server has stored it
  gx chat tail --json                      messages as they come
  gx chat matrix examples/chat/army.toml   who may do what

In a session :help lists the commands, and logmeout ends it. The server is `server` in [chat], or what --on names; \
without them the joined host that says in the table of servers that it has a chat, else the one host that was joined.";

/// What `gx chat` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct ChatArgs {
    /// What to do; without it, talks
    #[command(subcommand)]
    pub command: Option<ChatCommand>,
    /// How to talk
    #[command(flatten)]
    pub talk: talk::TalkArgs,
}

impl ChatArgs {
    /// Returns whether it goes on until somebody ends it.
    pub(crate) fn is_endless(&self) -> bool {
        matches!(self.command, None | Some(ChatCommand::Tail(_)))
    }
}

/// What to do in the chat.
#[derive(Debug, Subcommand)]
pub enum ChatCommand {
    /// Sends a text, and ends when it is stored
    Send(send::SendArgs),
    /// Prints messages as they come
    Tail(tail::TailArgs),
    /// Prints what was said
    History(history::HistoryArgs),
    /// Finds what was said
    Search(history::SearchArgs),
    /// Writes what was said as text, Markdown or JSON lines
    Export(history::ExportArgs),
    /// Checks that an export is what the server has stored
    Verify(verify::VerifyArgs),
    /// Lists your groups
    Groups(groups::GroupsArgs),
    /// Lists who may be in a group, and who is there
    Who(groups::WhoArgs),
    /// Checks the way into the chat and, where it is served, what it stands on; says what to do
    Doctor(doctor::DoctorArgs),
    /// Ends the chat on its server, in good order
    Stop(user::StopArgs),
    /// Has the chat served again, after it was ended
    Start(user::StartArgs),
    /// Lists, makes and disables accounts
    #[command(subcommand)]
    User(user::UserCommand),
    /// Checks a policy and shows who may do what
    Matrix(matrix::MatrixArgs),
    /// Says by which rule a user may do something, or why not
    Why(why::WhyArgs),
}

pub(crate) async fn run(args: ChatArgs, context: &Context<'_>) -> Result<Status> {
    let done = match args.command {
        None => talk::run(args.talk, context).await,
        Some(ChatCommand::Send(args)) => send::run(args, context).await,
        Some(ChatCommand::Tail(args)) => tail::run(args, context).await,
        Some(ChatCommand::History(args)) => history::history(args, context).await,
        Some(ChatCommand::Search(args)) => history::search(args, context).await,
        Some(ChatCommand::Export(args)) => history::export(args, context).await,
        Some(ChatCommand::Verify(args)) => verify::run(&args, context),
        Some(ChatCommand::Groups(args)) => groups::groups(args, context).await,
        Some(ChatCommand::Who(args)) => groups::who(args, context).await,
        Some(ChatCommand::Doctor(args)) => return doctor::run(args, context).await,
        Some(ChatCommand::Stop(args)) => user::stop(args, context).await,
        Some(ChatCommand::Start(args)) => user::start(args, context).await,
        Some(ChatCommand::User(command)) => user::run(command, context).await,
        Some(ChatCommand::Matrix(args)) => matrix::run(&args, context),
        Some(ChatCommand::Why(args)) => why::run(&args, context),
    };
    done.map(|()| Status::DONE)
}
