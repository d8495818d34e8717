//! `gx exec`: runs a command in a container, and ends with its exit code.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::runtime::ExecSpec;
use gx_core::stream::{InputChunk, InputSender, MAX_ITEM_BYTES, input, pipe};
use gx_core::units::Span;
use gx_core::{Exit, stream::Input};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::{Context, completions, create::pair, logs};
use crate::error::{CliError, Result, Status};
use crate::output::{Show, View};
use crate::terminal;
use crate::variables;

const EXAMPLES: &str = "\
Examples:
  gx exec web -- ls /srv
  gx exec -it web -- sh                a shell
  gx exec -i db -- psql < dump.sql
  gx exec -e LANG=C -w /srv web -- make

It ends with the exit code of the command; 126 when it cannot be run, 127 when there is none of that name.";

/// What `gx exec` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ExecArgs {
    /// Its id, shortened as far as it is unique, or its name
    #[arg(value_name = "ID", add = ArgValueCandidates::new(completions::containers))]
    pub id: String,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    pub command: Vec<String>,
    /// Passes standard input on
    #[arg(short, long)]
    pub interactive: bool,
    /// Gives the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Sets an environment variable for the command; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
    /// Sets the variables in this file, a line NAME=VALUE each; may be repeated
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub env_file: Vec<PathBuf>,
    /// The user in the container, as NAME or UID, with :GROUP or :GID
    #[arg(short, long)]
    pub user: Option<String>,
    /// The working folder in the container
    #[arg(short, long, value_name = "FOLDER")]
    pub workdir: Option<String>,
    /// Kills the command after so long, as in 30s
    #[arg(long, value_name = "SPAN")]
    pub timeout: Option<Span>,
}

pub(crate) async fn run(args: ExecArgs, context: &Context<'_>) -> Result<Status> {
    let takes_keys = args.interactive && args.tty;
    if takes_keys && !terminal::is_input() {
        return Err(
            CliError::usage("standard input is not a terminal").hint("leave out -t to pipe something in")
        );
    }
    if args.interactive && args.env_file.iter().any(|file| file == Path::new("-")) {
        return Err(CliError::usage("standard input is the command's already")
            .hint("name a file in the place of -, or leave out -i"));
    }
    let spec = spec(&args)?;
    let target = context.target().await?;
    let raw = takes_keys.then(terminal::Raw::enter).transpose()?;
    let (given, _feeders) = feed(args.interactive, args.tty)?;
    let (output, items) = pipe(0);
    let (ended, printed) =
        tokio::join!(target.exec(&args.id, spec, given, output), logs::print(items, context.out));
    drop(raw);
    printed?;
    let ended = ended.map_err(|error| error.or_start(&args.id))?;
    if context.out.is_json() {
        context.out.item(&Ended { exit: &ended })?;
    }
    Ok(Status::of(&ended))
}

fn spec(args: &ExecArgs) -> Result<ExecSpec> {
    let timeout = args.timeout.map(|span| u32::try_from(span.0.as_millis()));
    let timeout_ms = timeout.transpose().map_err(|_| CliError::usage("--timeout is longer than 49 days"))?;
    Ok(ExecSpec {
        argv: args.command.clone(),
        env: variables::all(&args.env_file, args.env.clone())?.into_iter().collect(),
        user: args.user.clone(),
        workdir: args.workdir.clone(),
        tty: args.tty,
        stdin: args.interactive,
        size: if args.tty { terminal::size() } else { None },
        timeout_ms,
    })
}

/// What feeds an input; it ends when this is dropped.
struct Feeders(Vec<JoinHandle<()>>);

impl Drop for Feeders {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

fn feed(interactive: bool, tty: bool) -> Result<(Input, Feeders)> {
    let (sender, given) = input();
    let mut feeders = Vec::new();
    if tty {
        let resized = signal(SignalKind::window_change());
        let mut resized = resized.map_err(|error| CliError::io("cannot listen for signals", &error))?;
        let sender = sender.clone();
        feeders.push(tokio::spawn(async move {
            while resized.recv().await.is_some() {
                let Some((columns, rows)) = terminal::size() else { continue };
                if sender.send(InputChunk::Resize { columns, rows }).await.is_err() {
                    return;
                }
            }
        }));
    }
    if interactive {
        let handle = Handle::current();
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || read_stdin(&sender, &handle))
            .map_err(|error| CliError::io("cannot start a thread", &error))?;
    }
    Ok((given, Feeders(feeders)))
}

// A read of standard input cannot be cancelled, so it has a thread of its own, which ends with the program. The
// resizing task holds a sender too: the end of the input is the end of this thread only without a terminal, where
// there is no such task; at a terminal Ctrl-D goes through as a byte.
fn read_stdin(sender: &InputSender, handle: &Handle) {
    let mut buffer = vec![0; MAX_ITEM_BYTES];
    let mut stdin = std::io::stdin().lock();
    loop {
        let bytes = match stdin.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => Bytes::copy_from_slice(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if handle.block_on(sender.send(InputChunk::Data(bytes))).is_err() {
            return;
        }
    }
}

/// The last line for programs: how the command ended.
#[derive(Serialize)]
struct Ended<'a> {
    exit: &'a Exit,
}

impl Show for Ended<'_> {
    fn text(&self, _: &View) -> String {
        format!("{}\n", self.exit.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    #[test]
    fn flags_before_the_command_are_gxs_and_after_it_its_own() {
        let line = ["gx", "exec", "-it", "-u", "root", "web", "--", "sh", "-c", "-i"];
        let Command::Exec(args) = Cli::try_parse_from(line).unwrap().command else { panic!("not exec") };
        assert!(args.interactive && args.tty);
        let spec = spec(&args).unwrap();
        assert_eq!((spec.argv.join(" "), spec.user.as_deref()), ("sh -c -i".into(), Some("root")));
        let plain = Cli::try_parse_from(["gx", "exec", "web", "ls", "-l"]).unwrap().command;
        let Command::Exec(plain) = plain else { panic!("not exec") };
        assert_eq!(plain.command, ["ls", "-l"]);
    }
}
