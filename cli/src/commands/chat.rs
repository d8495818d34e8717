//! `gx chat`: the group chat of an organisation, and what its policy says.

use clap::Subcommand;

use super::Context;
use crate::error::Result;

mod matrix;
mod policy;
mod why;

/// What to do in the chat.
#[derive(Debug, Subcommand)]
pub enum ChatCommand {
    /// Checks a policy and shows who may do what
    Matrix(matrix::MatrixArgs),
    /// Says by which rule a user may do something, or why not
    Why(why::WhyArgs),
}

pub(crate) async fn run(command: ChatCommand, context: &Context<'_>) -> Result {
    match command {
        ChatCommand::Matrix(args) => matrix::run(&args, context),
        ChatCommand::Why(args) => why::run(&args, context),
    }
}
