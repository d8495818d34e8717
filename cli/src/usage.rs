//! A wrong command line, explained: what is wrong, what was probably meant, where to look.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use gx_core::config::closest;

use crate::cli::Globals;
use crate::error::{CliError, Kind, Status};

/// Habits from other programs, and what does the same here.
const SLIPS: &[(&[&str], &str)] = &[
    (
        &["run"],
        "`gx create IMAGE -- CMD` makes a container and starts it; with --wait it ends as the container does",
    ),
    (&["kill"], "`gx stop --grace 0s ID` ends it at once; `gx rm -f ID` removes it too"),
    (&["restart"], "`gx stop ID`, then `gx start ID`"),
    (&["attach"], "`gx logs -f ID` shows what it writes; `gx ssh ID` gives a shell in it"),
    (&["shell", "enter", "login"], "`gx ssh ID` gives a shell in a container"),
    (&["top"], "`gx exec ID -- ps`, or `gx stats ID`"),
    (&["wait"], "`gx create --wait` waits for the end; `gx show ID` has the exit code"),
    (&["delete", "del", "destroy"], "`gx rm ID` removes a container"),
    (
        &["info", "status"],
        "`gx doctor` checks this machine, `gx specs` shows what it is, `gx runtimes` its engines",
    ),
    (&["version"], "`gx --version` prints it"),
    (&["help"], "`gx --help`, or `gx COMMAND --help`"),
    (&["engines", "runtime"], "`gx runtimes` lists them"),
    (&["up", "server", "daemon"], "`gx serve` lends this machine"),
];

/// Returns the global flags of a line that could not be read, as far as they decide how to tell it.
pub(crate) fn globals(args: &[OsString]) -> Globals {
    let flags = || args.iter().skip(1).take_while(|arg| *arg != "--");
    let has = |name: &str| flags().any(|arg| arg == OsStr::new(name));
    Globals { json: has("--json"), quiet: has("--quiet") || has("-q"), ..Globals::default() }
}

/// The status of a wrong line.
pub(crate) const STATUS: Status = Kind::Usage.status();

/// Returns whether the answer is the help or the version, asked for or, without a command, not.
pub(crate) fn is_help(told: &clap::Error) -> bool {
    matches!(
        told.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// Turns what clap says into an error like all others.
pub(crate) fn explain(error: &clap::Error, args: &[OsString]) -> CliError {
    let context = |kind| error.get(kind).map(texts).unwrap_or_default();
    let argument = context(ContextKind::InvalidArg).join(", ");
    let command = command_of(args);
    let told = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let name = context(ContextKind::InvalidSubcommand).join(" ");
            CliError::usage(format!("there is no command `{name}`")).hints(slip(&name))
        }
        ErrorKind::UnknownArgument => CliError::usage(format!("`{argument}` does not belong here")),
        ErrorKind::MissingRequiredArgument => {
            CliError::usage(format!("{argument} is missing")).hints(missing(&command, &argument))
        }
        ErrorKind::InvalidValue if context(ContextKind::InvalidValue).concat().is_empty() => {
            CliError::usage(format!("`{argument}` needs a value"))
        }
        ErrorKind::InvalidValue => {
            let value = context(ContextKind::InvalidValue).join(" ");
            CliError::usage(format!("`{value}` is no value for `{argument}`"))
                .hints(one_of(&context(ContextKind::ValidValue)))
        }
        ErrorKind::ValueValidation => {
            let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            CliError::usage(format!("`{argument}`: {source}"))
        }
        ErrorKind::ArgumentConflict => {
            let other = context(ContextKind::PriorArg).join(", ");
            CliError::usage(format!("`{argument}` and `{other}` exclude each other"))
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            CliError::usage("a command is missing")
        }
        _ => CliError::usage(first_line(&error.to_string())),
    };
    let wrong = context(ContextKind::InvalidSubcommand).join(" ");
    let meant = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    let told = meant.iter().fold(told, |told, kind| match context(*kind).as_slice() {
        [] => told,
        some => told.hint(format!("did you mean `{}`?", nearest(&wrong, some).join("` or `"))),
    });
    if !told.hints.is_empty() {
        return told;
    }
    told.hint(format!("`{} --help` shows what there is, with examples", command.join(" ")))
}

/// Returns the one that is a slip away from a word, if one is; clap names whatever is like it.
fn nearest<'s>(word: &str, suggested: &'s [String]) -> Vec<&'s str> {
    let suggested = || suggested.iter().map(String::as_str);
    closest(word, suggested()).map_or_else(|| suggested().collect(), |one| vec![one])
}

fn texts(value: &ContextValue) -> Vec<String> {
    match value {
        ContextValue::String(text) => vec![text.clone()],
        ContextValue::Strings(texts) => texts.clone(),
        ContextValue::StyledStr(text) => vec![text.to_string()],
        ContextValue::StyledStrs(texts) => texts.iter().map(ToString::to_string).collect(),
        ContextValue::Bool(_) | ContextValue::Number(_) | ContextValue::None => Vec::new(),
        _ => Vec::new(),
    }
}

fn slip(name: &str) -> Option<String> {
    let found = SLIPS.iter().find(|(names, _)| names.contains(&name));
    found.map(|(_, hint)| (*hint).to_owned())
}

fn missing(command: &[String], argument: &str) -> Option<String> {
    match (command.last()?.as_str(), argument) {
        ("create", "<IMAGE>") => Some(
            "`gx create debian:bookworm` is the shortest; `gx images` lists what is here already".to_owned(),
        ),
        (_, "<ID>" | "<ID>...") => Some("`gx list --all` lists ids and names".to_owned()),
        _ => None,
    }
}

fn one_of(values: &[String]) -> Option<String> {
    (!values.is_empty()).then(|| format!("it is one of: {}", values.join(", ")))
}

/// Returns the program and the commands of a line, as `gx plugin install`.
fn command_of(args: &[OsString]) -> Vec<String> {
    let mut command = crate::command();
    let mut path = vec!["gx".to_owned()];
    for arg in args.iter().skip(1).filter_map(|arg| arg.to_str()) {
        if let Some(sub) = command.find_subcommand(arg) {
            path.push(sub.get_name().to_owned());
            command = sub.clone();
        }
    }
    path
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> CliError {
        let args: Vec<OsString> = line.split(' ').map(Into::into).collect();
        let error = <crate::cli::Cli as clap::Parser>::try_parse_from(&args).unwrap_err();
        explain(&error, &args)
    }

    #[test]
    fn slips_are_answered_with_what_does_the_same() {
        let error = told("gx run debian");
        assert_eq!(error.message, "there is no command `run`");
        assert!(error.hints[0].contains("gx create IMAGE"), "{error:?}");
        assert!(told("gx lst").hints[0].contains("`list`"), "{:?}", told("gx lst"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (line, message, hint) in [
            ("gx create", "<IMAGE> is missing", "gx images"),
            ("gx show", "<ID> is missing", "gx list --all"),
            ("gx rm", "<ID>... is missing", "gx list --all"),
            ("gx list --al", "`--al` does not belong here", "`--all`"),
            ("gx create --memory 3x a", "`--memory <SIZE>`: \"3x\" is not a size: it is", "gx create --help"),
            ("gx create --runtime Doc a", "`--runtime <NAME>`: \"Doc\" is not a plugin name", "--help"),
            (
                "gx create --pull sometimes a",
                "`sometimes` is no value for",
                "it is one of: missing, always, never",
            ),
            ("gx create -e x a", "`--env <NAME=VALUE>`", "--help"),
            ("gx -q -v list", "exclude each other", "gx list --help"),
            ("gx plugin", "a command is missing", "`gx plugin --help`"),
        ] {
            let error = told(line);
            assert!(error.message.contains(message), "{line}: {error:?}");
            assert!(error.hints.iter().any(|h| h.contains(hint)), "{line}: {error:?}");
        }
    }

    #[test]
    fn json_is_heard_before_the_line_is_understood() {
        let args = |line: &str| line.split(' ').map(Into::into).collect::<Vec<OsString>>();
        assert!(globals(&args("gx lst --json")).json);
        assert!(!globals(&args("gx exec x -- y --json")).json);
    }
}
