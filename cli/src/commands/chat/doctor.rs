//! `gx chat doctor`: checks the way into the chat and, where this machine serves it, what it stands on; and says what to do
//! where something is not as it should be.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use gx_chat::client::Week;
use gx_chat::frames::ServerFrame;
use gx_chat::store::{SqliteStore, StoreError};
use gx_client::Client;
use gx_core::units::{Size, Span};

use super::link::{AsArgs, Place, Road, now_ms, server};
use super::{cut, policy};
use crate::commands::Context;
use crate::commands::doctor::{Check, Verdict, configuration, tell};
use crate::error::{CliError, Result, Status};
use crate::road;
use crate::settings::Settings;

/// Room below which the chat soon cannot store, and below which it hardly can.
const ROOM: (u64, u64) = (512 << 20, 64 << 20);
/// How far two clocks may be apart: messages have the server's times.
const CLOCKS_APART: u64 = 60_000;

const EXAMPLES: &str = "\
Examples:
  gx chat doctor
  gx chat doctor --as Navy7 --password-file pw
  gx chat doctor --json | jq '.checks[] | select(.verdict != \"ok\")'

It asks nobody for a password, and sends nothing to a group: it cuts its own connection, comes back, and compares what was \
said. Where this machine serves the chat it also reads the policy and checks every stored message. It ends with 1 when a \
check has failed.";

/// What `gx chat doctor` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DoctorArgs {
    /// Whose way in is checked
    #[command(flatten)]
    pub who: AsArgs,
}

pub(super) async fn run(args: DoctorArgs, context: &Context<'_>) -> Result<Status> {
    let mut checks = Vec::new();
    match context.settings() {
        Ok(settings) => examine(&args.who, &settings, context, &mut checks).await,
        Err(error) => checks.push(Check::of_error("configuration", error)),
    }
    tell(checks, context)
}

async fn examine(args: &AsArgs, settings: &Settings, context: &Context<'_>, checks: &mut Vec<Check>) {
    checks.push(configuration(settings));
    if settings.config.chat.policy.is_some() {
        checks.push(policy(context));
        checks.push(messages(&settings.data.join("chat")));
    }
    checks.push(disk(&settings.data));
    let found = match reach(settings, context, checks).await {
        Ok((client, place)) => match served(&client, &place, checks).await {
            Ok(()) if is_talking(args, &place, settings, context) => {
                Road::to(client, args, settings, context)
            }
            Ok(()) => return,
            Err(error) => return checks.push(Check::of_error("chat", error)),
        },
        Err(error) => return checks.push(Check::of_error("server", error)),
    };
    match found {
        Ok(road) => account(road, checks).await,
        Err(error) => checks.push(Check::of_error("account", error)),
    }
}

/// Returns whether somebody talks from here: whoever runs the chat need not be one of its users.
fn is_talking(args: &AsArgs, place: &Place, settings: &Settings, context: &Context<'_>) -> bool {
    if !matches!(place, Place::Own(_)) || args.user.is_some() || settings.config.chat.user.is_some() {
        return true;
    }
    let user = context.environment.user.as_deref();
    policy::read(None, context)
        .is_ok_and(|(policy, _)| user.is_some_and(|user| policy.user_name(user).is_some()))
}

fn policy(context: &Context<'_>) -> Check {
    match policy::read(None, context) {
        Ok((policy, file)) => {
            let (users, groups) = (policy.users().len(), policy.groups().len());
            Check::ok("policy", format!("{}: {users} users, {groups} groups", file.display()))
        }
        Err(error) => Check::of_error("policy", error.hint("the server goes on with the policy it has")),
    }
}

/// Checks everything that is stored, also beside the server that has it open.
fn messages(folder: &Path) -> Check {
    let name = "messages";
    match SqliteStore::examine(folder) {
        Ok(Some(found)) => {
            let told = format!("{} in {} groups, each as it was stored", found.messages, found.groups);
            Check::ok(name, told)
        }
        Ok(None) => Check::ok(name, format!("none yet in {}", folder.display())),
        Err(error) => Check::of_error(name, told(&error)),
    }
}

fn told(error: &StoreError) -> CliError {
    let hint = error.hint().unwrap_or_else(|| "run it as the user of `gx serve`".to_owned());
    CliError::failed(error.to_string()).sources(error).hint(hint)
}

/// Checks that there is room for messages, of the server and of this user.
fn disk(data: &Path) -> Check {
    let folder = data.ancestors().find(|folder| folder.exists()).unwrap_or(data);
    match rustix::fs::statvfs(folder) {
        Ok(found) => room(folder, found.f_bavail.saturating_mul(found.f_frsize)),
        Err(error) => Check::of_error(
            "disk",
            CliError::io(format!("cannot look at {}", folder.display()), &error.into())
                .hint("GX_DATA_DIR names another data folder"),
        ),
    }
}

fn room(folder: &Path, free: u64) -> Check {
    let verdict = match free {
        free if free < ROOM.1 => Verdict::Fail,
        free if free < ROOM.0 => Verdict::Warn,
        _ => Verdict::Ok,
    };
    let hint = "make room: without any nothing is stored, and nothing acknowledged";
    let check = Check::new("disk", verdict, format!("{} free at {}", Size(free), folder.display()));
    check.hint((verdict != Verdict::Ok).then(|| hint.to_owned()))
}

/// Finds the server, and checks that it answers and has the same time.
async fn reach(
    settings: &Settings,
    context: &Context<'_>,
    checks: &mut Vec<Check>,
) -> Result<(Client, Place)> {
    let place = server(settings, context)?;
    let start = |error: CliError| match place {
        Place::Own(_) => error.hint("`gx serve` serves it"),
        _ => error,
    };
    let client = road::open(place.on(), &settings.data, context.out).await.map_err(start)?;
    let specs = client.specs().await.map_err(|error| start(error.into()))?;
    let told = format!("{}, {}: {}, gx {}", place.on(), place.why(), specs.hostname, specs.version);
    checks.push(Check::ok("server", told));
    Ok((client, place))
}

/// Checks that there is a chat, and accounts for it where its owner asks.
async fn served(client: &Client, place: &Place, checks: &mut Vec<Check>) -> Result {
    if !matches!(place, Place::Own(_)) {
        return Ok(());
    }
    let users = client.chat_users().await?.users;
    let open = users.iter().filter(|user| !user.disabled).count();
    checks.push(match open {
        0 => Check::new("accounts", Verdict::Warn, "nobody has one")
            .hint(Some("`gx chat user add USER` makes one".to_owned())),
        _ => Check::ok("accounts", format!("{open} users have one")),
    });
    Ok(())
}

/// Checks that the user gets in, and that nothing is lost or comes twice when the connection is cut.
async fn account(mut road: Road, checks: &mut Vec<Check>) {
    let name = "account";
    let mut week = match road.week() {
        Ok(week) => week,
        Err(error) => return checks.push(Check::of_error("week", error)),
    };
    match cut::sign_in(&mut road, &mut week).await {
        Ok((socket, welcome, by)) => {
            checks.push(Check::ok(name, format!("{} gets in by {by}", road.user)));
            checks.push(clocks(&welcome));
            checks.push(outbox(&week));
            checks.push(match cut::compare(road, week, socket, welcome).await {
                Ok(told) => Check::ok("connection", told),
                Err(error) => Check::of_error("connection", error),
            });
        }
        Err(error) => checks.push(Check::of_error(name, error)),
    }
}

fn clocks(welcome: &ServerFrame) -> Check {
    let ServerFrame::Welcome { now, .. } = welcome else { unreachable!("a sign-in ends in a welcome") };
    judge_clocks(*now, now_ms())
}

fn judge_clocks(there: u64, here: u64) -> Check {
    let apart = there.abs_diff(here);
    if apart <= CLOCKS_APART {
        return Check::ok("clocks", format!("the server's is {apart} ms off this one"));
    }
    let apart = Span(Duration::from_secs(apart / 1_000));
    Check::new("clocks", Verdict::Warn, format!("the server's is {apart} off this one")).hint(Some(
        "set the one that is wrong, as with `timedatectl set-ntp true`: messages have the server's times"
            .to_owned(),
    ))
}

/// Tells of lines that wait to be sent.
fn outbox(week: &Week) -> Check {
    let name = "outbox";
    match week.waiting() {
        Ok(0) => Check::ok(name, "nothing waits to be sent"),
        Ok(1) => Check::new(name, Verdict::Warn, "1 line waits to be sent").hint(Some(SENDS.to_owned())),
        Ok(count) => Check::new(name, Verdict::Warn, format!("{count} lines wait to be sent"))
            .hint(Some(SENDS.to_owned())),
        Err(error) => Check::of_error(name, error.into()),
    }
}

const SENDS: &str = "`gx chat` sends what waits";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_is_told_before_there_is_none() {
        let verdict = |free| room(Path::new("/data"), free).verdict;
        assert_eq!((verdict(1 << 30), verdict(100 << 20), verdict(1 << 20)), {
            (Verdict::Ok, Verdict::Warn, Verdict::Fail)
        });
        assert_eq!(disk(&tempfile::tempdir().unwrap().path().join("not/there/yet")).verdict, Verdict::Ok);
    }

    #[test]
    fn clocks_apart_are_told_either_way() {
        let now = 1_700_000_000_000;
        assert_eq!(judge_clocks(now + 59_000, now).verdict, Verdict::Ok);
        for there in [now - 7_200_000, now + 7_200_000] {
            assert_eq!(judge_clocks(there, now).verdict, Verdict::Warn);
        }
    }
}
