//! How `ssh` is called, and the same as a part of its configuration. Pure.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::{Login, SshArgs};

/// Everything that a call of ssh needs.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) login: Login,
    /// Where it connects by itself; else it goes through the proxy.
    pub(super) way: Option<(String, u16)>,
    pub(super) identity: PathBuf,
    pub(super) known_hosts: PathBuf,
    /// The command that leads it through gx.
    pub(super) proxy: Vec<OsString>,
}

impl Call {
    /// Returns the words after the program's name.
    pub(super) fn words(&self, args: &SshArgs, verbose: u8, quiet: bool) -> Vec<OsString> {
        // The user's configuration could name another key, another way, or ask; what is here decides.
        let mut words: Vec<OsString> = vec!["-F".into(), "none".into()];
        // Of options that are given twice ssh takes the first: what the user says goes before.
        for option in &args.option {
            words.extend(["-o".into(), option.into()]);
        }
        for (name, value) in self.options() {
            words.extend(["-o".into(), format!("{name}={value}").into()]);
        }
        let level = match (quiet, verbose) {
            (true, _) => "QUIET",
            (false, 0) => "ERROR",
            (false, 1) => "INFO",
            (false, _) => "DEBUG",
        };
        words.extend(["-o".into(), format!("LogLevel={level}").into()]);
        for file in &args.identity {
            words.extend(["-i".into(), file.into()]);
        }
        for (flag, values) in [("-L", &args.local), ("-R", &args.remote), ("-D", &args.dynamic)] {
            words.extend(values.iter().flat_map(|value| [flag.into(), value.into()]));
        }
        let flags = [(args.agent, "-A"), (args.nothing, "-N"), (args.tty, "-t"), (args.no_tty, "-T")];
        words.extend(flags.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag.into()));
        words.extend(["--".into(), self.login.alias.clone().into()]);
        words.extend(line(&args.command).map(OsString::from));
        words
    }

    /// Returns a `Host` block of ssh_config(5).
    pub(super) fn config(&self, name: &str) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let named = !name.is_empty() && name.chars().all(plain);
        let hosts = if named { format!("gx-{name} {}", self.login.alias) } else { self.login.alias.clone() };
        let options = self.options();
        let lines = options.iter().map(|(name, value)| format!("    {name} {value}\n"));
        format!("Host {hosts}\n{}    LogLevel ERROR\n", lines.collect::<String>())
    }

    /// Returns the options by which it logs in as it should and asks nothing.
    fn options(&self) -> Vec<(&'static str, String)> {
        let mut options = vec![
            ("User", self.login.user.clone()),
            ("HostKeyAlias", self.login.alias.clone()),
            ("UserKnownHostsFile", quoted(self.known_hosts.as_os_str())),
            ("GlobalKnownHostsFile", "/dev/null".to_owned()),
            ("StrictHostKeyChecking", "yes".to_owned()),
            ("UpdateHostKeys", "no".to_owned()),
            ("CheckHostIP", "no".to_owned()),
            ("IdentityFile", quoted(self.identity.as_os_str())),
            ("IdentitiesOnly", "yes".to_owned()),
        ];
        match &self.way {
            Some((host, port)) => {
                options.extend([("HostName", host.clone()), ("Port", port.to_string())]);
            }
            None => options.push(("ProxyCommand", self.proxy_line())),
        }
        options
    }

    /// Returns the proxy as a line for a shell; a percent sign begins a token of ssh's own (ssh_config(5), TOKENS).
    fn proxy_line(&self) -> String {
        let words: Vec<String> =
            self.proxy.iter().map(|word| word_for_shell(&word.to_string_lossy())).collect();
        words.join(" ").replace('%', "%%")
    }
}

/// Returns a file's name as ssh's configuration has it.
fn quoted(file: &OsStr) -> String {
    format!("\"{}\"", file.to_string_lossy().replace('%', "%%"))
}

/// Returns a command as one line for the container's shell: a single word is such a line already; of several each
/// arrives as it is.
pub(super) fn line(command: &[String]) -> Option<String> {
    match command {
        [] => None,
        [line] => Some(line.clone()),
        words => Some(words.iter().map(|word| word_for_shell(word)).collect::<Vec<_>>().join(" ")),
    }
}

/// Quotes a word for a POSIX shell, where it needs to be.
fn word_for_shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::super::login::tests::info;
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;
    use proptest::prelude::*;

    fn args(line: &[&str]) -> SshArgs {
        match Cli::try_parse_from([&["gx", "ssh"], line].concat()).unwrap().command {
            Command::Ssh(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn call(way: Option<(&str, u16)>) -> Call {
        Call {
            login: Login::of(&info("app", "127.0.0.1:20001")).unwrap(),
            way: way.map(|(host, port)| (host.to_owned(), port)),
            identity: "/d d/ssh/id_ed25519".into(),
            known_hosts: "/d d/ssh/known_hosts/gx-0123456789ab".into(),
            proxy: ["/opt/my gx/gx", "--on", "host%1", "ssh", "--stdio", "0123"].map(OsString::from).to_vec(),
        }
    }

    fn words(line: &[&str]) -> String {
        let words = call(Some(("127.0.0.1", 20_001))).words(&args(line), 0, false);
        words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_users_options_go_before_ours_and_the_command_is_last() {
        let said = words(&["-L", "1:a:2", "web", "-A", "-o", "StrictHostKeyChecking=no", "--", "ls", "-l"]);
        assert!(said.starts_with("-F none -o StrictHostKeyChecking=no -o User=app "), "{said}");
        assert!(said.contains(" -o StrictHostKeyChecking=yes "), "{said}");
        assert!(said.ends_with(" -o LogLevel=ERROR -L 1:a:2 -A -- gx-0123456789ab ls -l"), "{said}");
        assert!(words(&["web", "ls", "-l"]).ends_with("-- gx-0123456789ab ls -l"));
        assert!(words(&["web"]).ends_with("-- gx-0123456789ab"));
    }

    #[test]
    fn several_words_arrive_as_they_are_and_one_is_a_line() {
        let line = |words: &[&str]| line(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(line(&["sh", "-c", "exit 43"]).unwrap(), "sh -c 'exit 43'");
        assert_eq!(line(&["cd /srv && ls"]).unwrap(), "cd /srv && ls");
        assert_eq!(line(&["echo", "it's", ""]).unwrap(), "echo 'it'\\''s' ''");
        assert_eq!(line(&[]), None);
    }

    #[test]
    fn a_configuration_has_the_way_and_the_pinned_key() {
        let direct = call(Some(("127.0.0.1", 20_001))).config("web");
        assert_eq!(
            direct,
            "Host gx-web gx-0123456789ab\n    User app\n    HostKeyAlias gx-0123456789ab\n    \
             UserKnownHostsFile \"/d d/ssh/known_hosts/gx-0123456789ab\"\n    GlobalKnownHostsFile /dev/null\n    \
             StrictHostKeyChecking yes\n    UpdateHostKeys no\n    CheckHostIP no\n    IdentityFile \
             \"/d d/ssh/id_ed25519\"\n    IdentitiesOnly yes\n    HostName 127.0.0.1\n    Port 20001\n    \
             LogLevel ERROR\n"
        );
        let through = call(None).config("we b");
        assert!(through.starts_with("Host gx-0123456789ab\n"), "{through}");
        assert!(
            through.contains("    ProxyCommand '/opt/my gx/gx' --on 'host%%1' ssh --stdio 0123\n"),
            "{through}"
        );
    }

    proptest! {
        #[test]
        fn a_shell_gives_every_word_back(words in prop::collection::vec("[^\0]{0,12}", 2..5)) {
            let line = line(&words).unwrap();
            let script = format!("for w in {line}; do printf '%s\\0' \"$w\"; done");
            let ran = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            let given: Vec<String> = String::from_utf8(ran.stdout).unwrap().split_terminator('\0').map(str::to_owned).collect();
            prop_assert_eq!(given, words);
        }
    }
}
