//! Moves files into and out of a container, as tar archives that are never held in memory.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use containers_api::conn::hyper::Body;
use containers_api::conn::hyper::body::HttpBody;
use futures_util::stream;
use gx_core::plugin::*;
use serde::Deserialize;

use crate::engine::{Engine, EngineError};
use crate::{error, lifecycle};

/// Where the engine says what a path is: base64 of JSON.
const STAT_HEADER: &str = "x-docker-container-path-stat";

/// How often a copy is asked for again that came without an entry, and after which pause.
const EMPTY_TRIES: u32 = 40;
const EMPTY_PAUSE: Duration = Duration::from_millis(50);

/// Unpacks an archive below a folder.
pub(crate) async fn copy_in(engine: &Engine, id: &ContainerId, path: &str, archive: Input) -> Result<()> {
    must_be_folder(engine, id, path).await?;
    // libpod would give all files to the container's user; the archive says whose they are.
    let query = [("path", path), ("copyUIDGID", "false")];
    engine
        .put_tar(&format!("/containers/{id}/archive"), &query, body(archive))
        .await
        .map_err(|error| of_copy_in(id, &error))
}

/// Writes an archive of a file or folder.
///
/// Podman answers before it copies. Where it then cannot, as what is mounted goes away beside the end of a container, the
/// archive ends without an entry and without an error.
pub(crate) async fn copy_out(engine: &Engine, id: &ContainerId, path: &str, out: &Output) -> Result<()> {
    for _ in 0..EMPTY_TRIES {
        if copied(engine, id, path, out).await? {
            return Ok(());
        }
        tokio::time::sleep(EMPTY_PAUSE).await;
    }
    let message = format!("podman copied nothing of {path}, which is there");
    Err(RuntimeError::new(ErrorCode::Unavailable, message).hint("try again"))
}

/// Writes an archive, unless it has no entries; returns whether it has.
async fn copied(engine: &Engine, id: &ContainerId, path: &str, out: &Output) -> Result<bool> {
    let mut body = engine
        .get_body(&format!("/containers/{id}/archive"), &[("path", path)])
        .await
        .map_err(|error| of_path(id, path, &error))?;
    let mut has_entries = false;
    loop {
        let chunk = tokio::select! {
            chunk = body.data() => chunk,
            () = out.gone() => return Ok(true),
        };
        let Some(chunk) = chunk else { return Ok(has_entries) };
        let chunk = chunk.map_err(|error| cut_off(&error))?;
        has_entries = has_entries || begins_with_an_entry(&chunk);
        if has_entries && out.stdout(&chunk).await.is_err() {
            return Ok(true);
        }
    }
}

/// Returns whether the first bytes of an archive are an entry's: its name, and not the zeros of the end.
fn begins_with_an_entry(chunk: &[u8]) -> bool {
    chunk.first().is_some_and(|byte| *byte != 0)
}

/// Returns what comes in as the body of a request.
pub(crate) fn body(input: Input) -> Body {
    Body::wrap_stream(stream::unfold(input, |mut input| async {
        let bytes = input.next_data().await?;
        Some((Ok::<_, std::io::Error>(bytes), input))
    }))
}

/// Podman makes a folder that is missing and breaks off at a file, so both are looked for first.
async fn must_be_folder(engine: &Engine, id: &ContainerId, path: &str) -> Result<()> {
    if path.trim_end_matches('/').is_empty() {
        return lifecycle::inspect(engine, id).await.map(drop);
    }
    let answer = match engine.head(&format!("/containers/{id}/archive"), &[("path", path)]).await {
        // The answer to a HEAD has no text, so it may also be the container that is missing.
        Err(error) if error::said(&error).is_some_and(|(status, _)| status == 404) => {
            lifecycle::inspect(engine, id).await?;
            return Err(no_path(path));
        }
        answer => answer.map_err(|error| of_path(id, path, &error))?,
    };
    let stat = answer.headers().get(STAT_HEADER).and_then(|header| header.to_str().ok());
    if stat.is_some_and(|stat| !is_folder(stat)) {
        return Err(
            RuntimeError::new(ErrorCode::InvalidArgument, format!("{path} is not a folder")).field("path")
        );
    }
    Ok(())
}

#[derive(Deserialize)]
struct Stat {
    #[serde(rename = "isDir")]
    is_dir: bool,
}

/// Where the engine says something else than expected, the copy itself will tell.
fn is_folder(stat: &str) -> bool {
    let bytes = STANDARD.decode(stat).unwrap_or_default();
    serde_json::from_slice::<Stat>(&bytes).is_ok_and(|stat| stat.is_dir)
}

fn no_path(path: &str) -> RuntimeError {
    RuntimeError::new(ErrorCode::NotFound, format!("no {path} in the container")).field("path")
}

fn of_path(id: &ContainerId, path: &str, error: &EngineError) -> RuntimeError {
    match error::said(error) {
        Some((404, text)) if !error::is_missing(error) => no_path(path).backend(text),
        _ => error::about(id, "copy", error),
    }
}

fn of_copy_in(id: &ContainerId, error: &EngineError) -> RuntimeError {
    let Some((_, text)) = error::said(error) else { return error::about(id, "copy", error) };
    // Podman puts some kilobytes of its own structures before the reason.
    let reason = text.rsplit_once("}: ").map_or(text, |(_, reason)| reason);
    if reason.contains("reading tar stream")
        || reason.contains("archive/tar")
        || reason.contains("unexpected EOF")
    {
        let message = "the archive is damaged".to_owned();
        return RuntimeError::new(ErrorCode::InvalidArgument, message).field("archive").backend(reason);
    }
    let short = EngineError::Fault {
        code: containers_api::conn::hyper::StatusCode::INTERNAL_SERVER_ERROR,
        message: reason.to_owned(),
    };
    error::about(id, "copy", &short)
}

fn cut_off(error: &dyn std::error::Error) -> RuntimeError {
    RuntimeError::new(ErrorCode::Unavailable, "podman broke off the copy").backend(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_without_entries_is_told_from_one_that_has_some() {
        let entry = |name: &[u8]| [name, &[0; 412]].concat();
        assert!(begins_with_an_entry(&entry(b"gx-c")));
        assert!(!begins_with_an_entry(&[0; 1024]), "the end of an archive");
        assert!(!begins_with_an_entry(b""));
    }

    #[test]
    fn what_a_path_is_is_read_from_the_header() {
        let stat =
            |is_dir: bool| STANDARD.encode(format!("{{\"name\":\"x\",\"isDir\":{is_dir},\"size\":1}}"));
        assert!(is_folder(&stat(true)));
        assert!(!is_folder(&stat(false)));
        assert!(!is_folder("rubbish"));
    }
}
