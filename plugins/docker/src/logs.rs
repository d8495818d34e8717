//! The output of a main process, as the engine has kept it.

use futures_util::TryStreamExt;
use gx_core::runtime::LogOptions;
use gx_core::stream::{Kind, Output};
use gx_core::{ContainerId, ErrorCode, RuntimeError, Timestamp};
use http_body_util::BodyStream;

use crate::engine::Engine;
use crate::frames::Frames;

/// Writes the output of the main process.
pub(crate) async fn logs(
    engine: &Engine,
    id: ContainerId,
    options: LogOptions,
    out: Output,
) -> Result<(), RuntimeError> {
    let tty = engine.inspect(&id).await?.config.and_then(|config| config.tty).unwrap_or(false);
    let path = format!("/containers/{id}/logs?{}", query(&options));
    let body = engine.wire.get(&path).await.map_err(|error| engine.error_of(&id, error))?;
    let mut body = BodyStream::new(body);
    let mut frames = Frames::new(options.timestamps);
    loop {
        let next = tokio::select! {
            () = out.gone() => return Ok(()),
            next = body.try_next() => next.map_err(|error| engine.error(error.into()))?,
        };
        let Some(frame) = next else { break };
        let Ok(bytes) = frame.into_data() else { continue };
        let runs = if tty { vec![(Kind::Stdout, bytes.into())] } else { frames.push(&bytes) };
        for (kind, run) in runs {
            if out.write(kind, &run).await.is_err() {
                return Ok(());
            }
        }
    }
    match frames.complaint() {
        Some(complaint) => {
            Err(RuntimeError::new(ErrorCode::Internal, "the docker engine cannot read the log")
                .backend(complaint))
        }
        None => Ok(()),
    }
}

/// The engine takes times as seconds and nanoseconds with a dot between.
fn query(options: &LogOptions) -> String {
    let mut query =
        format!("stdout=true&stderr=true&follow={}&timestamps={}", options.follow, options.timestamps);
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
        assert!(query(&options).ends_with("&tail=3&until=1700000000.000000000"), "{}", query(&options));
    }
}
