//! `gx audit`: who did what on this host. It reads the files of the log, whether or not a server runs.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use gx_core::Timestamp;
use gx_core::audit::{self, AuditEntry, AuditEvent};
use gx_core::units::Span;

use super::{Context, logs};
use crate::error::{CliError, Result};
use crate::output::{Out, Show, View, clean, human};

const EXAMPLES: &str = "\
Examples:
  gx audit                       everything there is
  gx audit -f --denied           what is refused, as it happens
  gx audit --since 1h --who ann  what a member did in the last hour
  gx audit --json | jq -r 'select(.event == \"end\") | .ms'

It reads `audit.log` in the data folder of this machine, and what was rotated away from it; run it as the user whose \
server it is.";

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// The longest line that is read.
const LINE_MAX: u64 = 1 << 20;

/// What `gx audit` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct AuditArgs {
    /// Goes on, and prints entries as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Prints only what was since: a span before now, as 10m, or a time, as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = logs::moment)]
    pub since: Option<Timestamp>,
    /// Prints only what they did: `host`, `member`, `stranger`, a member's name, or the beginning of a node id
    #[arg(long, value_name = "WHO")]
    pub who: Option<String>,
    /// Prints only what was not allowed
    #[arg(long)]
    pub denied: bool,
}

pub(crate) async fn run(args: AuditArgs, context: &Context<'_>) -> Result {
    let settings = context.settings()?;
    if settings.config.client.on != "local" {
        return Err(CliError::usage("the audit log of another machine cannot be read from here")
            .hint("run it there, or leave out --on: gx --on local audit"));
    }
    let path = settings.data.join(audit::FILE);
    let mut reading = Reading::default();
    let mut any = false;
    for old in rotated(&path) {
        any |= print(&mut reading, &old, &args, context.out)?;
    }
    any |= print(&mut reading, &path, &args, context.out)?;
    if !any && !path.exists() {
        context.out.note("there is no audit log yet: `gx serve` writes it");
    }
    if !args.follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(LOOK).await;
        if reading.was_rotated(&path) {
            // What came before the file was moved is read to its end.
            let moved = PathBuf::from(format!("{}.1", path.display()));
            if reading.is_at(&moved) {
                print(&mut reading, &moved, &args, context.out)?;
            }
            reading = Reading::default();
        }
        print(&mut reading, &path, &args, context.out)?;
    }
}

/// Returns the older files, the oldest first.
fn rotated(path: &Path) -> Vec<PathBuf> {
    let numbered = |number: u32| PathBuf::from(format!("{}.{number}", path.display()));
    let mut files: Vec<_> = (1..).map(numbered).take_while(|path| path.exists()).collect();
    files.reverse();
    files
}

/// Prints what a file has more than was read of it, and returns whether there was anything.
fn print(reading: &mut Reading, path: &Path, args: &AuditArgs, out: &Out) -> Result<bool> {
    let failed = |error: io::Error| CliError::io(format!("cannot read {}", path.display()), &error);
    let mut any = false;
    let (entries, damaged) = match reading.more(path) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    if damaged > 0 {
        out.warn(&format!("{damaged} lines of {} are no entries", path.display()), None);
    }
    for entry in entries.iter().filter(|entry| fits(entry, args)) {
        any = true;
        out.item(entry)?;
    }
    Ok(any)
}

/// How far a file was read.
#[derive(Debug, Default)]
struct Reading {
    file: Option<(u64, u64)>,
    at: u64,
}

impl Reading {
    /// Reads the whole lines that are new, and counts those that are no entries.
    fn more(&mut self, path: &Path) -> io::Result<(Vec<AuditEntry>, usize)> {
        let mut file = File::open(path)?;
        let about = file.metadata()?;
        let which = (about.dev(), about.ino());
        if self.file != Some(which) || about.len() < self.at {
            *self = Self { file: Some(which), at: 0 };
        }
        file.seek(SeekFrom::Start(self.at))?;
        let mut lines = BufReader::new(file);
        let (mut entries, mut damaged) = (Vec::new(), 0);
        let mut line = Vec::new();
        loop {
            line.clear();
            lines.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
            let is_whole = line.last() == Some(&b'\n') || line.len() as u64 == LINE_MAX;
            if !is_whole {
                return Ok((entries, damaged)); // it is just being written
            }
            self.at += line.len() as u64;
            match serde_json::from_slice(&line) {
                Ok(entry) => entries.push(entry),
                Err(_) => damaged += 1,
            }
        }
    }

    fn was_rotated(&self, path: &Path) -> bool {
        self.file.is_some() && !self.is_at(path)
    }

    fn is_at(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|about| self.file == Some((about.dev(), about.ino())))
    }
}

fn fits(entry: &AuditEntry, args: &AuditArgs) -> bool {
    let is_who = |who: &String| {
        entry.caller.as_str() == who
            || entry.name.as_ref() == Some(who)
            || entry.node.is_some_and(|node| who.len() >= 4 && node.to_string().starts_with(who.as_str()))
    };
    args.since.is_none_or(|since| entry.time >= since)
        && args.who.as_ref().is_none_or(is_who)
        && !(args.denied && entry.allowed)
}

impl Show for AuditEntry {
    fn text(&self, view: &View) -> String {
        let who = match (&self.name, self.node) {
            (Some(name), _) => name.clone(),
            (None, Some(node)) => format!("{} {}", self.caller.as_str(), node.short()),
            (None, None) => self.caller.as_str().to_owned(),
        };
        let mut result = match (self.event, self.code) {
            (AuditEvent::End, _) => format!("ended after {}", Span(Duration::from_millis(self.ms))),
            (AuditEvent::Request, None) => format!("{} in {} ms", self.status, self.ms),
            (AuditEvent::Request, Some(code)) if self.allowed => format!("{} {code:?}", self.status),
            (AuditEvent::Request, Some(code)) => view.red(&format!("denied: {} {code:?}", self.status)),
        };
        if self.missing > 0 {
            result.push_str(&format!(" ({} before this are missing)", self.missing));
        }
        let user = self.user.as_deref().map(|user| format!("  as {}", clean::line(user)));
        let container = self.container.as_deref().map(|name| format!("  {}", clean::line(name)));
        format!(
            "{}  {:<22}  {:<21}  {}{}{}  {result}\n",
            human::moment(self.time),
            clean::line(&who),
            clean::line(&self.from),
            clean::line(&self.verb),
            container.unwrap_or_default(),
            user.unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::ErrorCode;
    use gx_core::NodeId;
    use gx_core::audit::CallerKind;
    use std::io::Write as _;

    fn entry(caller: CallerKind) -> AuditEntry {
        AuditEntry {
            time: Timestamp::from_unix(0),
            request: "r1".to_owned(),
            event: AuditEvent::Request,
            caller,
            node: None,
            name: None,
            user: None,
            from: "192.0.2.1:5".to_owned(),
            verb: "POST /v1/containers".to_owned(),
            container: None,
            allowed: true,
            code: None,
            status: 201,
            ms: 12,
            missing: 0,
        }
    }

    #[test]
    fn a_line_says_who_did_what_and_steers_no_terminal() {
        let member = AuditEntry {
            name: Some("an\u{1b}[2Jn".to_owned()),
            container: Some("web".to_owned()),
            ..entry(CallerKind::Member)
        };
        let text = member.text(&View::plain());
        assert!(
            text.ends_with(
                "ann                     192.0.2.1:5            POST /v1/containers  web  201 in 12 ms\n"
            ),
            "{text}"
        );
        let (allowed, code) = (false, Some(ErrorCode::PermissionDenied));
        let denied = AuditEntry { allowed, code, status: 403, missing: 7, ..entry(CallerKind::Stranger) };
        let text = denied.text(&View::plain());
        assert!(text.contains("denied: 403 PermissionDenied (7 before this are missing)"), "{text}");
    }

    #[test]
    fn entries_are_chosen_by_who_when_and_what_came_of_it() {
        let args = |who: Option<&str>, denied: bool| AuditArgs {
            follow: false,
            since: Some(Timestamp::from_unix(0)),
            who: who.map(str::to_owned),
            denied,
        };
        let node = NodeId::from_bytes([7; 32]);
        let one = AuditEntry { node: Some(node), name: Some("ann".to_owned()), ..entry(CallerKind::Member) };
        for who in ["member", "ann", &node.to_string()[..8], &node.to_string()] {
            assert!(fits(&one, &args(Some(who), false)), "{who}");
        }
        for who in ["host", "an", &node.to_string()[..3], ""] {
            assert!(!fits(&one, &args(Some(who), false)), "{who}");
        }
        assert!(!fits(&one, &args(None, true)));
        assert!(!fits(&AuditEntry { time: Timestamp::from_unix(-1), ..one }, &args(None, false)));
    }

    #[test]
    fn a_file_is_read_on_from_where_it_was_and_anew_when_it_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let line = |ms| {
            let entry = AuditEntry { ms, ..entry(CallerKind::Host) };
            serde_json::to_string(&entry).unwrap() + "\n"
        };
        let mut reading = Reading::default();
        let half = &line(2)[..9];
        std::fs::write(&path, format!("{}no entry\n{half}", line(1))).unwrap();
        let (entries, damaged) = reading.more(&path).unwrap();
        assert_eq!((entries.len(), entries[0].ms, damaged), (1, 1, 1));
        let rest = line(2)[9..].to_owned();
        File::options().append(true).open(&path).unwrap().write_all(rest.as_bytes()).unwrap();
        assert_eq!(reading.more(&path).unwrap().0[0].ms, 2);
        assert_eq!(reading.more(&path).unwrap().0, []);
        std::fs::rename(&path, folder.path().join("audit.log.1")).unwrap();
        std::fs::write(&path, line(3)).unwrap();
        assert!(reading.was_rotated(&path));
        assert_eq!(rotated(&path), [folder.path().join("audit.log.1")]);
        assert_eq!(reading.more(&path).unwrap().0[0].ms, 3);
    }
}
