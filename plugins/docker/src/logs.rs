//! The output of a main process, as the engine has kept it.

use std::time::Duration;

use futures_util::TryStreamExt;
use gx_core::runtime::LogOptions;
use gx_core::stream::{Kind, MAX_ITEM_BYTES, Output};
use gx_core::{ContainerId, ErrorCode, RuntimeError, Timestamp};
use http_body_util::BodyStream;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::engine::Engine;
use crate::frames::{self, Frames, Last, Run, Stamps};

/// How long a line waits for the next ones.
const TOGETHER: Duration = Duration::from_millis(2);

/// Writes the output of the main process.
pub(crate) async fn logs(
    engine: &Engine,
    id: ContainerId,
    options: LogOptions,
    out: Output,
) -> Result<(), RuntimeError> {
    let tty = engine.inspect(&id).await?.config.and_then(|config| config.tty).unwrap_or(false);
    let stamps = match (options.timestamps, options.follow) {
        (true, _) => Stamps::Shown,
        (false, true) if !tty => Stamps::Hidden,
        (false, _) => Stamps::Absent,
    };
    let frames = (!tty).then(|| Frames::new(stamps));
    let ended = copy(engine, &id, &query(&options, stamps), frames, &out).await?;
    match ended {
        Copied::Whole(Some(frames)) if options.follow => {
            // What a process wrote last before it ended the engine may not have given to who followed, though it has kept it
            // (moby 28.2: 1 of 30 that end at once). What is there now and was not given follows here.
            let rest = LogOptions { follow: false, ..since(&options, frames.last()) };
            let frames = Frames::after(stamps, frames.last().clone());
            match copy(engine, &id, &query(&rest, stamps), Some(frames), &out).await {
                Err(error) if error.code != ErrorCode::NotFound => Err(error),
                _ => Ok(()), // one that is removed when it ends may be gone
            }
        }
        _ => Ok(()),
    }
}

/// Returns the options by which everything is read that is later than the last times.
fn since(options: &LogOptions, last: &Last) -> LogOptions {
    let times = || last.iter().flatten().filter_map(|time| time.parse::<Timestamp>().ok());
    match (times().count(), options.tail) {
        (0, _) => options.clone(),
        // Of an output of which nothing came, all is to come, unless only the last lines of both were asked for.
        (1, None) => options.clone(),
        _ => LogOptions { since: times().min(), tail: None, ..options.clone() },
    }
}

/// How an answer of the engine ended.
enum Copied {
    /// Nobody reads any longer.
    Unread,
    /// All was written. `None`: it had no frames.
    Whole(Option<Frames>),
}

/// Writes one answer of the engine.
async fn copy(
    engine: &Engine,
    id: &ContainerId,
    query: &str,
    frames: Option<Frames>,
    out: &Output,
) -> Result<Copied, RuntimeError> {
    let path = format!("/containers/{id}/logs?{query}");
    let body = engine.wire.get(&path).await.map_err(|error| engine.error_of(id, error))?;
    let mut reader = Reader { body: BodyStream::new(body), frames };
    loop {
        let runs = tokio::select! {
            () = out.gone() => return Ok(Copied::Unread),
            runs = reader.next() => runs.map_err(|error| engine.error(error.into()))?,
        };
        if runs.is_empty() {
            break;
        }
        for (kind, run) in runs {
            if out.write(kind, &run).await.is_err() {
                return Ok(Copied::Unread);
            }
        }
    }
    // An engine that is gone ends it as the end does (see `Wire::get`).
    engine.docker.ping().await.map_err(|error| engine.error(error))?;
    match reader.frames.as_ref().and_then(Frames::complaint) {
        Some(complaint) => {
            Err(RuntimeError::new(ErrorCode::Internal, "the docker engine cannot read the log")
                .backend(complaint))
        }
        None => Ok(Copied::Whole(reader.frames)),
    }
}

/// A log as it comes.
struct Reader {
    body: BodyStream<Incoming>,
    /// `None` for a terminal's.
    frames: Option<Frames>,
}

impl Reader {
    /// Returns what is there, at least something; nothing at the end.
    ///
    /// The engine sends each line by itself; those that come close to one another are taken together.
    async fn next(&mut self) -> Result<Vec<Run>, hyper::Error> {
        let (mut runs, mut taken) = (Vec::new(), 0);
        let Some(mut frame) = self.body.try_next().await? else { return Ok(runs) };
        let deadline = Instant::now() + TOGETHER;
        loop {
            if let Ok(bytes) = frame.into_data() {
                taken += bytes.len();
                match &mut self.frames {
                    Some(frames) => frames.push_to(&bytes, &mut runs),
                    None => frames::add(Kind::Stdout, &bytes, &mut runs),
                }
            }
            // With nothing to give it goes on: nothing at all would be the end.
            let next = match (taken < MAX_ITEM_BYTES, runs.is_empty()) {
                (_, true) => self.body.try_next().await?,
                (true, false) => match timeout_at(deadline, self.body.try_next()).await {
                    Ok(next) => next?,
                    Err(_) => return Ok(runs),
                },
                (false, false) => return Ok(runs),
            };
            let Some(next) = next else { return Ok(runs) };
            frame = next;
        }
    }
}

/// The engine takes times as seconds and nanoseconds with a dot between.
fn query(options: &LogOptions, stamps: Stamps) -> String {
    let stamped = stamps != Stamps::Absent;
    let mut query = format!("stdout=true&stderr=true&follow={}&timestamps={stamped}", options.follow);
    if let Some(tail) = options.tail {
        query += &format!("&tail={tail}");
    }
    if let Some(since) = options.since {
        query += &format!("&since={}", seconds(since));
    }
    if let Some(until) = options.until {
        // The engine's bound is inclusive, ours is not.
        let before = Timestamp(until.0 - time::Duration::NANOSECOND);
        query += &format!("&until={}", seconds(before));
    }
    query
}

/// Returns a point in time as the engine's API takes it: `1700000000.000000001`.
pub(crate) fn seconds(at: Timestamp) -> String {
    let nanos = at.0.unix_timestamp_nanos();
    format!("{}.{:09}", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_and_nanoseconds() {
        let at: Timestamp = "2023-11-14T22:13:20.000000001Z".parse().unwrap();
        assert_eq!(seconds(at), "1700000000.000000001");
        let options = LogOptions { until: Some(at), tail: Some(3), ..LogOptions::default() };
        let query = query(&options, Stamps::Absent);
        assert!(query.ends_with("&timestamps=false&tail=3&until=1700000000.000000000"), "{query}");
    }

    #[test]
    fn what_is_read_again_is_what_came_after_the_last() {
        let time = |second| Some(format!("2023-11-14T22:13:{second}.000000000Z"));
        let at = |second| time(second).and_then(|time| time.parse::<Timestamp>().ok());
        let of = |last, tail| {
            let again = since(&LogOptions { tail, ..LogOptions::default() }, &last);
            (again.since, again.tail)
        };
        assert_eq!(of([None, None], Some(3)), (None, Some(3)));
        assert_eq!(of([time(20), None], None), (None, None));
        assert_eq!(of([time(20), None], Some(3)), (at(20), None));
        assert_eq!(of([time(25), time(20)], None), (at(20), None));
    }
}
