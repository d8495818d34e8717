//! The user's shell, and the word `shell`: what an SSH login has, for a host that comes in by the engine's exec.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::account::{Account, Accounts};
use crate::launch::{Environment, Launch, Stance, can_run};
use crate::place::Place;
use crate::say;
use crate::vault::Vault;

/// What images write for users that nobody is to log in as. Here the caller has the whole container anyway.
const NO_SHELLS: &[&str] = &["nologin", "false", "true", "sync", "halt", "shutdown"];

/// Returns the shell a user gets: the image's choice, else `/bin/sh`, if they are there.
pub(crate) fn of(account: &Account) -> Option<PathBuf> {
    let refuses = |shell: &PathBuf| {
        let name = shell.file_name().and_then(OsStr::to_str).unwrap_or_default();
        NO_SHELLS.contains(&name)
    };
    let own = account.shell.clone().filter(|shell| !refuses(shell));
    own.into_iter().chain([PathBuf::from("/bin/sh")]).find(|shell| can_run(shell))
}

/// Returns the words that run a command line, or a login shell without one, and what the program is called to itself.
/// `None` when there is neither a shell nor a command line that can be split into words.
pub(crate) fn words(account: &Account, line: Option<&OsStr>) -> Option<(Vec<OsString>, Option<OsString>)> {
    match (of(account), line) {
        (Some(shell), Some(line)) => Some((vec![shell.into(), "-c".into(), line.into()], None)),
        (Some(shell), None) => {
            let mut login = OsString::from("-");
            login.push(shell.file_name().unwrap_or(OsStr::new("sh")));
            Some((vec![shell.into()], Some(login)))
        }
        (None, Some(line)) => {
            split(line.to_str()?).filter(|words| !words.is_empty()).map(|words| (words, None))
        }
        (None, None) => None,
    }
}

/// Sets what a login sets.
pub(crate) fn log_in(environment: &mut Environment, account: &Account, home: Option<&Path>) {
    environment.set("USER", &account.name);
    environment.set("LOGNAME", &account.name);
    if let Some(home) = home {
        environment.set("HOME", home);
    }
    if let Some(shell) = of(account) {
        environment.set("SHELL", shell);
    }
}

/// `shell [-c COMMAND]`.
pub(crate) fn run(place: &Place, rest: &[OsString]) -> ExitCode {
    let line = match rest {
        [] => None,
        [flag, line] if flag == "-c" => Some(line.as_os_str()),
        _ => {
            say::line("after shell comes nothing, or -c COMMAND");
            return ExitCode::from(2);
        }
    };
    let vault = Vault::of_state(place);
    let account = match Accounts::read(place).resolve(user(&vault).as_deref()) {
        Ok(account) => account,
        Err(who) => {
            say::line(who);
            return ExitCode::from(126);
        }
    };
    let mut environment = Environment::of_container();
    log_in(&mut environment, &account, Some(&*account.home).filter(|_| !vault.home_is_set()));
    let Some((argv, arg0)) = words(&account, line) else {
        say::line(NO_SHELL);
        return ExitCode::from(127);
    };
    let home = environment.get("HOME").map(PathBuf::from);
    let launch = Launch {
        argv,
        arg0,
        environment: &environment,
        folder: home,
        account: &account,
        stance: Stance::Here,
    };
    let trouble = match launch.command() {
        Ok(mut command) => launch.trouble(command.exec()),
        Err(trouble) => trouble,
    };
    say::line(&trouble);
    ExitCode::from(trouble.code())
}

/// What is said where there is no shell.
pub(crate) const NO_SHELL: &str = "this image has no shell: name a program and its arguments";

/// Whom the container runs as; who was not started as root is himself.
fn user(vault: &Vault) -> Option<String> {
    let own = rustix::process::geteuid();
    if own.is_root() { vault.user().map(str::to_owned) } else { Some(own.as_raw().to_string()) }
}

/// Splits a command line into words as a shell would, quotes and backslashes included and nothing else. `None` when a
/// quote is not closed.
fn split(line: &str) -> Option<Vec<OsString>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\n' => words.extend(word.take().map(OsString::from)),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '\'' => break,
                        quoted => word.push(quoted),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '"' => break,
                        '\\' => match letters.next()? {
                            escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                            other => word.extend(['\\', other]),
                        },
                        quoted => word.push(quoted),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(letters.next()?),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word.map(OsString::from));
    Some(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words_of(line: &str) -> Option<Vec<String>> {
        split(line).map(|words| words.into_iter().map(|word| word.into_string().unwrap()).collect())
    }

    #[test]
    fn a_line_is_split_as_a_shell_does() {
        assert_eq!(
            words_of("tool -a  'b c' \"d \\\" e\" f\\ g ''").unwrap(),
            ["tool", "-a", "b c", "d \" e", "f g", ""]
        );
        assert_eq!(words_of("a\"b\"'c'd").unwrap(), ["abcd"]);
        assert_eq!(words_of("  ").unwrap(), [""; 0]);
        for open in ["'a", "\"a", "a\\", "\"a\\"] {
            assert_eq!(words_of(open), None, "{open}");
        }
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words in prop::collection::vec("[^']{0,20}", 0..6)) {
            let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(words_of(&line), Some(words));
        }

        #[test]
        fn any_line_is_read_without_a_panic(line in ".{0,80}") {
            let _ = split(&line);
        }
    }
}
