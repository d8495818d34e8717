//! `gx logs`: what a container wrote, as it wrote it.

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::Timestamp;
use gx_core::runtime::LogOptions;
use gx_core::stream::{Item, Items, Kind, pipe};
use gx_core::units::Span;
use serde::Serialize;
use time::OffsetDateTime;

use super::{Context, completions};
use crate::error::{Kind as ErrorKind, Result};
use crate::output::{Out, Show, View};

const EXAMPLES: &str = "\
Examples:
  gx logs web
  gx logs -f --tail 20 web
  gx logs --since 10m --timestamps web
  gx logs --since 2026-01-31T12:00:00Z --until 5m web";

/// What `gx logs` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LogsArgs {
    /// Its id, shortened as far as it is unique, or its name
    #[arg(value_name = "ID", add = ArgValueCandidates::new(completions::containers))]
    pub id: String,
    /// Goes on until the container ends
    #[arg(short, long)]
    pub follow: bool,
    /// Prints only the last so many lines, or `all`
    #[arg(short = 'n', long, value_name = "LINES", value_parser = tail)]
    pub tail: Option<Tail>,
    /// Prints only what was written since: a span before now, as 10m, or a time, as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Prints only what was written before: as for --since
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// Begins every line with the time it was written
    #[arg(short, long)]
    pub timestamps: bool,
}

/// How many lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail(Option<u32>);

pub(crate) async fn run(args: LogsArgs, context: &Context<'_>) -> Result {
    let options = LogOptions {
        follow: args.follow,
        tail: args.tail.and_then(|tail| tail.0),
        since: args.since,
        until: args.until,
        timestamps: args.timestamps,
    };
    let target = context.target().await?;
    let (output, items) = pipe(0);
    let (read, printed) = tokio::join!(target.logs(&args.id, options, output), print(items, context.out));
    // Where nobody reads any more the call ended because of that.
    printed?;
    read
}

/// Passes on what a process writes: as it is, or as one JSON object for each line.
pub(crate) async fn print(mut items: Items, out: &Out) -> Result {
    let mut lines = Lines::default();
    while let Some(item) = items.next().await {
        match item.kind {
            Kind::Stdout | Kind::Stderr if out.is_json() => {
                lines.add(&item).iter().try_for_each(|line| out.item(line))?;
            }
            Kind::Stdout => out.raw_stdout(&item.bytes).await?,
            // Standard error that is gone must not end what standard output still reads.
            Kind::Stderr => match out.raw_stderr(&item.bytes).await {
                Err(error) if error.kind == ErrorKind::BrokenPipe => {}
                written => written?,
            },
            Kind::Event | Kind::Progress => {}
        }
    }
    lines.rest().iter().try_for_each(|line| out.item(line))
}

/// A line of output, for programs. What is not UTF-8 is replaced: who wants the bytes leaves out `--json`.
#[derive(Debug, PartialEq, Serialize)]
struct Line {
    stream: &'static str,
    text: String,
}

impl Line {
    fn new(stream: &'static str, bytes: &[u8]) -> Self {
        Self { stream, text: String::from_utf8_lossy(bytes).into_owned() }
    }
}

impl Show for Line {
    fn text(&self, _: &View) -> String {
        format!("{}\n", self.text)
    }
}

/// A line longer than this becomes several, so that memory stays bounded.
const LONGEST_LINE_BYTES: usize = 256 * 1024;

/// Cuts both streams into lines, wherever the pieces they come in end.
#[derive(Default)]
struct Lines {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Lines {
    fn add(&mut self, item: &Item) -> Vec<Line> {
        let (stream, held) = match item.kind {
            Kind::Stderr => ("stderr", &mut self.stderr),
            _ => ("stdout", &mut self.stdout),
        };
        held.extend_from_slice(&item.bytes);
        let whole = match held.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => held.drain(..=last).collect(),
            None if held.len() > LONGEST_LINE_BYTES => std::mem::take(held),
            None => return Vec::new(),
        };
        let lines = whole.strip_suffix(b"\n").unwrap_or(&whole).split(|byte| *byte == b'\n');
        lines.map(|line| Line::new(stream, line.strip_suffix(b"\r").unwrap_or(line))).collect()
    }

    fn rest(self) -> Vec<Line> {
        let both = [("stdout", self.stdout), ("stderr", self.stderr)];
        both.iter().filter(|(_, held)| !held.is_empty()).map(|(name, held)| Line::new(name, held)).collect()
    }
}

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail(None)),
        _ => text
            .parse()
            .map(|lines| Tail(Some(lines)))
            .map_err(|_| format!("{text:?} is not a number of lines")),
    }
}

pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(span) = text.parse::<Span>() {
        let now = OffsetDateTime::now_utc();
        return now
            .checked_sub(span.0.try_into().map_err(|_| format!("{text} is too long ago"))?)
            .map(Timestamp)
            .ok_or_else(|| format!("{text} is too long ago"));
    }
    text.parse().map_err(|_| {
        format!("{text:?} is no time: it is a span before now, as 10m, or a time, as 2026-01-31T12:00:00Z")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_wherever_the_pieces_end() {
        let mut lines = Lines::default();
        let mut add = |kind, text: &'static [u8]| {
            let told = lines.add(&Item { kind, bytes: bytes::Bytes::from_static(text) });
            told.into_iter().map(|line| line.text).collect::<Vec<_>>()
        };
        assert_eq!(add(Kind::Stdout, b"a\n\nb\xc3"), ["a", ""]);
        assert_eq!(add(Kind::Stderr, b"oops\r\n"), ["oops"]);
        assert_eq!(add(Kind::Stdout, b"\xa4\nrest"), ["b\u{e4}"]);
        assert_eq!(lines.rest(), [Line::new("stdout", b"rest")]);
    }

    #[test]
    fn moments_are_spans_or_times() {
        let before = moment("10m").unwrap().unix();
        let now = OffsetDateTime::now_utc().unix_timestamp();
        assert!((now - 605..=now - 595).contains(&before));
        assert_eq!(moment("1970-01-01T00:01:00Z").unwrap().unix(), 60);
        assert!(moment("yesterday").is_err());
        assert_eq!((tail("all"), tail("5")), (Ok(Tail(None)), Ok(Tail(Some(5)))));
        assert!(tail("-1").is_err());
    }
}
