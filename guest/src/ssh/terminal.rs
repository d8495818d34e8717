//! A terminal of a session: a pseudo-terminal of the container, set as the client asks (RFC 4254, sections 6.2 and 8).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use russh::Pty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, Winsize, tcgetattr,
    tcsetattr, tcsetwinsize,
};

use crate::account::Account;

/// Both ends of a terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    /// Ours: what is written here is typed there.
    pub(super) master: OwnedFd,
    /// The processes'.
    pub(super) slave: File,
    /// Its name, for `SSH_TTY`.
    pub(super) name: String,
    /// What the client calls its own kind.
    pub(super) term: String,
}

/// Columns, rows, and both in pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size(pub(super) u32, pub(super) u32, pub(super) u32, pub(super) u32);

impl Terminal {
    /// Makes a terminal that belongs to the user.
    ///
    /// # Errors
    /// What the system says, as when the container has no `/dev/ptmx`.
    pub(super) fn open(account: &Account, term: &str, size: Size, modes: &[(Pty, u32)]) -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        let mut settings = tcgetattr(&slave)?;
        apply(&mut settings, modes);
        tcsetattr(&slave, OptionalActions::Now, &settings)?;
        resize(&master, size);
        if rustix::process::geteuid().is_root() {
            // The group is that of terminals, which the mount has set.
            std::os::unix::fs::fchown(&slave, Some(account.uid), None)?;
        }
        let name = ptsname(&master, Vec::new())?.to_string_lossy().into_owned();
        Ok(Self { master, slave: slave.into(), name, term: term.to_owned() })
    }
}

/// Sets the size; processes are told by the kernel.
pub(super) fn resize(terminal: impl AsFd, Size(columns, rows, width, height): Size) {
    let short = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    let size = Winsize {
        ws_row: short(rows),
        ws_col: short(columns),
        ws_xpixel: short(width),
        ws_ypixel: short(height),
    };
    let _ = tcsetwinsize(terminal, size);
}

fn apply(settings: &mut Termios, modes: &[(Pty, u32)]) {
    for (mode, value) in modes {
        if let Some(index) = special(*mode) {
            // 255 is "none" (RFC 4254), which for Linux is 0.
            settings.special_codes[index] =
                u8::try_from(*value).ok().filter(|code| *code != 255).unwrap_or(0);
        } else if let Some(flag) = input(*mode) {
            settings.input_modes.set(flag, *value != 0);
        } else if let Some(flag) = local(*mode) {
            settings.local_modes.set(flag, *value != 0);
        } else if let Some(flag) = output(*mode) {
            settings.output_modes.set(flag, *value != 0);
        }
    }
}

fn special(mode: Pty) -> Option<SpecialCodeIndex> {
    Some(match mode {
        Pty::VINTR => SpecialCodeIndex::VINTR,
        Pty::VQUIT => SpecialCodeIndex::VQUIT,
        Pty::VERASE => SpecialCodeIndex::VERASE,
        Pty::VKILL => SpecialCodeIndex::VKILL,
        Pty::VEOF => SpecialCodeIndex::VEOF,
        Pty::VEOL => SpecialCodeIndex::VEOL,
        Pty::VEOL2 => SpecialCodeIndex::VEOL2,
        Pty::VSTART => SpecialCodeIndex::VSTART,
        Pty::VSTOP => SpecialCodeIndex::VSTOP,
        Pty::VSUSP => SpecialCodeIndex::VSUSP,
        Pty::VREPRINT => SpecialCodeIndex::VREPRINT,
        Pty::VWERASE => SpecialCodeIndex::VWERASE,
        Pty::VLNEXT => SpecialCodeIndex::VLNEXT,
        Pty::VDISCARD => SpecialCodeIndex::VDISCARD,
        _ => return None,
    })
}

fn input(mode: Pty) -> Option<InputModes> {
    Some(match mode {
        Pty::IGNPAR => InputModes::IGNPAR,
        Pty::PARMRK => InputModes::PARMRK,
        Pty::INPCK => InputModes::INPCK,
        Pty::ISTRIP => InputModes::ISTRIP,
        Pty::INLCR => InputModes::INLCR,
        Pty::IGNCR => InputModes::IGNCR,
        Pty::ICRNL => InputModes::ICRNL,
        Pty::IXON => InputModes::IXON,
        Pty::IXANY => InputModes::IXANY,
        Pty::IXOFF => InputModes::IXOFF,
        Pty::IMAXBEL => InputModes::IMAXBEL,
        Pty::IUTF8 => InputModes::IUTF8,
        _ => return None,
    })
}

fn local(mode: Pty) -> Option<LocalModes> {
    Some(match mode {
        Pty::ISIG => LocalModes::ISIG,
        Pty::ICANON => LocalModes::ICANON,
        Pty::ECHO => LocalModes::ECHO,
        Pty::ECHOE => LocalModes::ECHOE,
        Pty::ECHOK => LocalModes::ECHOK,
        Pty::ECHONL => LocalModes::ECHONL,
        Pty::NOFLSH => LocalModes::NOFLSH,
        Pty::TOSTOP => LocalModes::TOSTOP,
        Pty::IEXTEN => LocalModes::IEXTEN,
        Pty::ECHOCTL => LocalModes::ECHOCTL,
        Pty::ECHOKE => LocalModes::ECHOKE,
        _ => return None,
    })
}

fn output(mode: Pty) -> Option<OutputModes> {
    Some(match mode {
        Pty::OPOST => OutputModes::OPOST,
        Pty::ONLCR => OutputModes::ONLCR,
        Pty::OCRNL => OutputModes::OCRNL,
        Pty::ONOCR => OutputModes::ONOCR,
        Pty::ONLRET => OutputModes::ONLRET,
        _ => return None,
    })
}
