//! The output of the main process.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use gx_core::runtime::LogOptions;
use gx_core::stream::{DEFAULT_WINDOW_BYTES, Items, Kind, pipe};
use gx_core::{ContainerId, ErrorCode, Timestamp};

use super::lifecycle::missing;
use crate::trial::{Called, Case, Failure, SOON, Said, Trial, Verdict, case, check, refused, same, soon};
use crate::workload::{flood, flood_line, says_at_the_end, sh, stubborn};

pub(super) const CASES: &[Case] = &[
    case!("logs/split", "standard output and standard error are apart", [], split),
    case!("logs/bytes", "they are the bytes that were written, without a last newline too", [], bytes),
    case!("logs/nothing", "a container that was not started has none", [], nothing),
    case!("logs/missing", "NotFound", [], no_container),
    case!("logs/while it runs", "without follow it ends with what there is", [], while_running),
    case!("logs/tail", "only the last so many lines", [], tail),
    case!("logs/since and until", "at or after since, before until", [], since_until),
    case!("logs/timestamps", "every line begins with the time it was written and a space", [], timestamps),
    case!("logs/follow", "follow gives lines as they are written, and ends at the exit", [], follow),
    case!("logs/follow after the exit", "follow of an ended container gives all and ends", [], follow_ended),
    case!("logs/follow with tail", "follow goes on after the last lines", [], follow_tail),
    case!("logs/reader gone", "when the reader is gone the method returns soon, with Ok", [], reader_gone),
    case!(
        "logs/flood",
        "a slow reader stops the runtime; nothing is lost, memory stays bounded",
        [],
        large,
        alone
    ),
];

async fn ended(t: &Trial, script: &str) -> Verdict<ContainerId> {
    Ok(t.ended(t.spec(sh(script))).await?.0)
}

async fn split(t: Arc<Trial>) -> Verdict {
    let id = ended(&t, "echo out; echo err >&2; echo out2; echo err2 >&2").await?;
    same("the output", t.logs(&id, LogOptions::default()).await?, Said::new("out\nout2\n", "err\nerr2\n"))
}

async fn bytes(t: Arc<Trial>) -> Verdict {
    let id = ended(&t, "echo 'tab\t é \u{1}'; echo; yes abc | head -c 6").await?;
    same("the output", t.logs(&id, LogOptions::default()).await?, Said::new("tab\t é \u{1}\n\nabc\nab", ""))
}

async fn nothing(t: Arc<Trial>) -> Verdict {
    let id = t.create(t.spec(stubborn())).await?;
    same("the output", t.logs(&id, LogOptions::default()).await?, Said::default())
}

async fn no_container(t: Arc<Trial>) -> Verdict {
    for follow in [false, true] {
        let (out, _items) = pipe(0);
        let options = LogOptions { follow, ..LogOptions::default() };
        let called = soon("logs", SOON, t.runtime.logs(missing(), options, out)).await?;
        refused("logs", called, ErrorCode::NotFound, None)?;
    }
    Ok(())
}

async fn while_running(t: Arc<Trial>) -> Verdict {
    let id = t.running(sh("echo first; sleep 3600")).await?;
    t.until_said(&id, "first").await?;
    same("the output", t.logs(&id, LogOptions::default()).await?, Said::new("first\n", ""))
}

async fn tail(t: Arc<Trial>) -> Verdict {
    let id = ended(&t, "echo a; echo b; echo c; echo d").await?;
    for (lines, expected) in [(2, "c\nd\n"), (1, "d\n"), (0, ""), (4, "a\nb\nc\nd\n"), (99, "a\nb\nc\nd\n")] {
        let options = LogOptions { tail: Some(lines), ..LogOptions::default() };
        same(&format!("the last {lines} lines"), t.logs(&id, options).await?.stdout.as_str(), expected)?;
    }
    Ok(())
}

async fn since_until(t: Arc<Trial>) -> Verdict {
    let id = ended(&t, "echo a; sleep 0.4; echo b; sleep 0.4; echo c").await?;
    let stamped = t.logs(&id, LogOptions { timestamps: true, ..LogOptions::default() }).await?;
    let times =
        stamped.stdout.lines().map(|line| stamp(line).map(|(time, _)| time)).collect::<Verdict<Vec<_>>>()?;
    let [first, second, third] = times[..] else {
        return Err(Failure::new(format!("three lines come as {stamped:?}")));
    };
    let early = Timestamp(first.0 - Duration::from_secs(5));
    let late = Timestamp(third.0 + Duration::from_secs(5));
    let table = [
        (Some(second), None, "b\nc\n"),
        (None, Some(second), "a\n"),
        (Some(second), Some(third), "b\n"),
        (Some(early), Some(late), "a\nb\nc\n"),
        (Some(late), None, ""),
        (None, Some(early), ""),
    ];
    for (since, until, expected) in table {
        let options = LogOptions { since, until, ..LogOptions::default() };
        let said = t.logs(&id, options).await?;
        same(&format!("what is written since {since:?} until {until:?}"), said.stdout.as_str(), expected)?;
    }
    Ok(())
}

fn stamp(line: &str) -> Verdict<(Timestamp, &str)> {
    let parts = line.split_once(' ').and_then(|(time, text)| Some((time.parse().ok()?, text)));
    parts.ok_or_else(|| Failure::new(format!("a line begins with no RFC 3339 time: {line:?}")))
}

async fn timestamps(t: Arc<Trial>) -> Verdict {
    let before = Timestamp::from(SystemTime::now() - Duration::from_secs(5));
    let id = ended(&t, "echo 'a b'; sleep 0.2; echo c; sleep 0.1; echo d >&2").await?;
    let after = Timestamp::from(SystemTime::now() + Duration::from_secs(5));
    let said = t.logs(&id, LogOptions { timestamps: true, ..LogOptions::default() }).await?;
    let lines = said.stdout.lines().chain(said.stderr.lines()).map(stamp).collect::<Verdict<Vec<_>>>()?;
    let texts: Vec<_> = lines.iter().map(|(_, text)| *text).collect();
    same("the lines", texts, vec!["a b", "c", "d"])?;
    check!(lines.iter().all(|(time, _)| before < *time && *time < after), "the times are not now: {said:?}");
    check!(lines.is_sorted_by_key(|(time, _)| *time), "the times go back: {said:?}");
    check!(
        (lines[1].0.0 - lines[0].0.0) > Duration::from_millis(100),
        "the times are all the same: {said:?}"
    );
    Ok(())
}

/// Follows the logs on a task of its own, which ends with the case.
fn following(
    t: &Arc<Trial>,
    id: &ContainerId,
    options: LogOptions,
) -> (Items, tokio::task::JoinHandle<Verdict>) {
    let (out, items) = pipe(DEFAULT_WINDOW_BYTES);
    let (t, id) = (t.clone(), id.clone());
    let call = async move { t.runtime.logs(id, options, out).await.of("logs") };
    (items, tokio::spawn(call))
}

async fn line(items: &mut Items) -> Verdict<Option<String>> {
    let item = soon("the next line", SOON, items.next()).await?;
    Ok(item.map(|item| String::from_utf8_lossy(&item.bytes).into_owned()))
}

async fn follow(t: Arc<Trial>) -> Verdict {
    let id = t.running(says_at_the_end("first", "second third")).await?;
    let (mut items, call) = following(&t, &id, LogOptions { follow: true, ..LogOptions::default() });
    same("the first line", line(&mut items).await?.as_deref(), Some("first\n"))?;
    t.ask_to_end(&id).await?;
    let mut rest = String::new();
    while let Some(text) = line(&mut items).await? {
        rest.push_str(&text);
    }
    same("the rest", rest.as_str(), "second\nthird\n")?;
    soon("logs", SOON, call).await?.expect("the task is not aborted")
}

async fn follow_ended(t: Arc<Trial>) -> Verdict {
    let id = ended(&t, "echo a; echo b").await?;
    let said = t.logs(&id, LogOptions { follow: true, ..LogOptions::default() }).await?;
    same("the output", said, Said::new("a\nb\n", ""))
}

async fn follow_tail(t: Arc<Trial>) -> Verdict {
    let id = t.running(says_at_the_end("a b ready", "c")).await?;
    t.until_said(&id, "ready").await?;
    let options = LogOptions { follow: true, tail: Some(1), ..LogOptions::default() };
    let (mut items, call) = following(&t, &id, options);
    same("the last line", line(&mut items).await?.as_deref(), Some("ready\n"))?;
    t.ask_to_end(&id).await?;
    same("the next", line(&mut items).await?.as_deref(), Some("c\n"))?;
    same("the end", line(&mut items).await?, None)?;
    soon("logs", SOON, call).await?.expect("the task is not aborted")
}

async fn reader_gone(t: Arc<Trial>) -> Verdict {
    let id = t.running(sh("echo ready; sleep 3600")).await?;
    let (mut items, call) = following(&t, &id, LogOptions { follow: true, ..LogOptions::default() });
    same("the first line", line(&mut items).await?.as_deref(), Some("ready\n"))?;
    drop(items);
    soon("logs without a reader", Duration::from_secs(5), call).await?.expect("the task is not aborted")
}

async fn large(t: Arc<Trial>) -> Verdict {
    let total = t.options.log_bytes;
    let id = t.running(flood(total)).await?;
    soon("writing the logs", 8 * SOON, t.runtime.wait(id.clone())).await?.of("wait")?;
    let memory = || t.options.hooks.memory.as_ref().and_then(|probe| probe());
    let before = memory();
    let (mut items, call) = following(&t, &id, LogOptions::default());
    let (mut read, mut most, mut paused) = (0_u64, before, false);
    let (began, line) = (Instant::now(), flood_line());
    while let Some(item) = soon("the next piece", SOON, items.next()).await? {
        check!(item.kind == Kind::Stdout, "a piece is {:?}", item.kind);
        expected_at(line.as_bytes(), read, &item.bytes)?;
        read += item.bytes.len() as u64;
        if read > total / 4 && !paused {
            // A reader that stands still: who does not wait for it fills the memory now.
            paused = true;
            tokio::time::sleep(Duration::from_secs(1)).await;
            most = most.max(memory());
        }
    }
    same("the bytes read", read, total)?;
    soon("logs", SOON, call).await?.expect("the task is not aborted")?;
    if let (Some(before), Some(most)) = (before, most) {
        let grown = most.saturating_sub(before) >> 20;
        check!(grown < 32, "the runtime's memory grew by {grown} MiB within {:?}", began.elapsed());
    }
    Ok(())
}

/// Fails unless these bytes are what a flood has at this place.
fn expected_at(line: &[u8], place: u64, bytes: &[u8]) -> Verdict {
    let shift = (place % line.len() as u64) as usize;
    let good = bytes.iter().zip(line.iter().cycle().skip(shift)).all(|(got, want)| got == want);
    check!(good, "the bytes from {place} on are not those that were written");
    Ok(())
}
