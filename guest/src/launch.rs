//! Starting a process as somebody: the way from words, an environment and an account to a command.

#![expect(unsafe_code, reason = "what happens between fork and exec")]

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use gx_core::os_error;
use rustix::process::{Gid, Uid, geteuid};

use crate::account::Account;
use crate::place::Place;

/// What `PATH` is when the image says nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Returns the container's: this process's own without what is meant for the guest alone.
    pub(crate) fn of_container() -> Self {
        let own = |name: &OsStr| name.to_str().is_some_and(Place::is_own);
        let mut all: BTreeMap<_, _> = std::env::vars_os().filter(|(name, _)| !own(name)).collect();
        all.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
        Self(all)
    }

    /// Sets a variable.
    pub(crate) fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.0.insert(name.into(), value.into());
    }

    /// Returns a variable.
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }
}

/// Where a process stands among others. All but the first have a group of their own, with their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stance {
    /// Wherever the guest is.
    Here,
    /// In this session, in a group of its own.
    Group,
    /// In this session, in the foreground of the terminal that is standard input.
    Foreground,
    /// In a session of its own without a terminal.
    Session,
    /// In a session of its own whose terminal is standard input.
    Terminal,
}

/// A process to start.
#[derive(Debug, Clone)]
pub(crate) struct Launch<'a> {
    /// The program and its arguments, at least the program.
    pub(crate) argv: Vec<OsString>,
    /// What it is called to itself, if not the program.
    pub(crate) arg0: Option<OsString>,
    pub(crate) environment: &'a Environment,
    /// Where it starts; if it may not go there, in `/`. `None` is where the guest is.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) account: &'a Account,
    pub(crate) stance: Stance,
}

/// Why a process cannot be started.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// There is no such program on `PATH`.
    NotFound(OsString),
    /// The file cannot be run.
    Cannot(OsString, io::Error),
}

impl Trouble {
    /// Returns the code a shell, and an engine, ends with for it.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::NotFound(_) => 127,
            Self::Cannot(_, error) if error.kind() == io::ErrorKind::NotFound => 127,
            Self::Cannot(..) => 126,
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound(name) => write!(f, "exec: {name:?}: executable file not found in $PATH"),
            Self::Cannot(name, error) => match error.raw_os_error() {
                Some(_) => write!(f, "exec: {name:?}: {}", os_error::text(error)),
                None => write!(f, "exec: {name:?}: {error}"),
            },
        }
    }
}

impl Launch<'_> {
    /// Returns the command, to be started once.
    ///
    /// # Errors
    /// [`Trouble`] when there is no such program. Starting it may fail besides.
    pub(crate) fn command(&self) -> Result<Command, Trouble> {
        let name = self.argv.first().cloned().unwrap_or_default();
        let program = program(&name, self.environment.get("PATH")).ok_or(Trouble::NotFound(name.clone()))?;
        let mut command = Command::new(program);
        command.arg0(self.arg0.as_ref().unwrap_or(&name)).args(&self.argv[1..]);
        command.env_clear().envs(&self.environment.0);
        let stance = self.stance;
        let identity = Identity::of(self.account);
        let folder = self.folder.as_ref().map(|folder| c_path(folder));
        let enter = move || {
            take(stance)?;
            identity.take_on()?;
            match &folder {
                Some(folder) if rustix::process::chdir(folder).is_err() => Ok(rustix::process::chdir(c"/")?),
                _ => Ok(()),
            }
        };
        // SAFETY: between fork and exec the closure makes system calls only; what it needs was allocated before.
        unsafe { command.pre_exec(enter) };
        Ok(command)
    }

    /// Returns an error of starting the command as trouble.
    pub(crate) fn trouble(&self, error: io::Error) -> Trouble {
        Trouble::Cannot(self.argv.first().cloned().unwrap_or_default(), error)
    }
}

/// Returns the file that a program's name means: itself with a slash in it, else the first on the path that can be run.
pub(crate) fn program(name: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    if name.as_bytes().contains(&b'/') {
        return Some(name.into());
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| can_run(file))
}

/// Returns whether a file is there and may be run by somebody.
pub(crate) fn can_run(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Numbers to be taken on between fork and exec.
struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Identity {
    fn of(account: &Account) -> Self {
        Self {
            uid: Uid::from_raw(account.uid),
            gid: Gid::from_raw(account.gid),
            groups: account.groups.iter().map(|group| Gid::from_raw(*group)).collect(),
        }
    }

    fn take_on(&self) -> io::Result<()> {
        // Of one thread each.
        use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
        if geteuid().is_root() {
            set_thread_groups(&self.groups)?;
            set_thread_res_gid(self.gid, self.gid, self.gid)?;
            set_thread_res_uid(self.uid, self.uid, self.uid)?;
        }
        match geteuid() == self.uid {
            true => Ok(()),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

/// Makes the user of this thread, which cannot go back.
///
/// # Errors
/// Where this is not root, for any other user.
pub(crate) fn become_user(account: &Account) -> io::Result<()> {
    Identity::of(account).take_on()
}

/// Takes the stance: called in the child.
fn take(stance: Stance) -> io::Result<()> {
    // SAFETY: standard input is open in a child that was just made.
    let input = unsafe { BorrowedFd::borrow_raw(0) };
    match stance {
        Stance::Here => {}
        Stance::Group => rustix::process::setpgid(None, None)?,
        Stance::Foreground => {
            rustix::process::setpgid(None, None)?;
            // The kernel stops a background process that reaches for the terminal, unless it ignores being stopped.
            // SAFETY: these calls take numbers alone.
            unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
            let taken = rustix::termios::tcsetpgrp(input, rustix::process::getpid());
            // SAFETY: as above.
            unsafe { libc::signal(libc::SIGTTOU, libc::SIG_DFL) };
            taken?;
        }
        Stance::Session => drop(rustix::process::setsid()?),
        Stance::Terminal => {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(input)?;
        }
    }
    Ok(())
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().to_os_string().into_vec()).unwrap_or_else(|_| c"/".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_on_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tool");
        std::fs::write(&file, "").unwrap();
        let path = Some(folder.path().as_os_str());
        assert_eq!(program("tool".as_ref(), path), None, "nobody may run it");
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(program("tool".as_ref(), path), Some(file));
        assert_eq!(program("other".as_ref(), path), None);
        assert_eq!(program("".as_ref(), path), None);
        assert_eq!(program("./odd".as_ref(), path), Some("./odd".into()));
    }

    #[test]
    fn trouble_is_told_as_engines_do() {
        let missing = Trouble::NotFound("nope".into());
        assert_eq!(missing.to_string(), "exec: \"nope\": executable file not found in $PATH");
        assert_eq!(missing.code(), 127);
        let denied = Trouble::Cannot("/etc/passwd".into(), io::Error::from_raw_os_error(13));
        assert_eq!(denied.to_string(), "exec: \"/etc/passwd\": permission denied");
        assert_eq!(denied.code(), 126);
        let gone = Trouble::Cannot("/nope".into(), io::Error::from_raw_os_error(2));
        assert_eq!(
            (gone.to_string().as_str(), gone.code()),
            ("exec: \"/nope\": no such file or directory", 127)
        );
    }
}
