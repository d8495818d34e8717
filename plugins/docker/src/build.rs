//! Building images with the engine's own builder; a dropped call closes the connection, which cancels the build.

use std::collections::{HashMap, VecDeque};

use bollard::errors::Error;
use bollard::models::BuildInfo;
use bollard::query_parameters::BuildImageOptionsBuilder;
use futures_util::{StreamExt, TryStreamExt};
use gx_core::image::Image;
use gx_core::runtime::{BuildRequest, Progress};
use gx_core::stream::{Input, Output};
use gx_core::{ErrorCode, RuntimeError};

use crate::archive::bytes_of;
use crate::engine::Engine;
use crate::error::plain;
use crate::{context, images};

/// How many of the last lines an error has.
const LAST_LINES: usize = 20;
/// The longest line that is kept, in bytes.
const LINE_BYTES: usize = 4096;

/// What the engine puts around the standard error of a step: red, and the end of it.
const COLOURS: [&str; 2] = ["\u{1b}[91m", "\u{1b}[0m"];

/// Builds an image. Without a reader the progress is left out.
pub(crate) async fn build(
    engine: &Engine,
    request: BuildRequest,
    archive: Input,
    out: Output,
) -> Result<Image, RuntimeError> {
    let (name, body) = match &request.containerfile {
        Some(path) => (path.clone(), bollard::body_stream(bytes_of(archive))),
        None => {
            let (name, stream) = context::choose(&engine.scratch, archive).await.map_err(scratch_error)?;
            (name.to_owned(), bollard::body_try_stream(stream))
        }
    };
    let args: HashMap<_, _> =
        request.args.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let tag = request.tag.tagged();
    let options = BuildImageOptionsBuilder::default()
        .dockerfile(&name)
        .t(&tag)
        .buildargs(&args)
        .nocache(request.no_cache)
        .rm(true)
        .forcerm(true)
        .networkmode(if request.no_network { "none" } else { "" })
        .build();
    let mut log = Log::default();
    let mut steps = engine.patient.build_image(options, None, Some(body)).boxed();
    while let Some(info) = steps.try_next().await.map_err(|error| build_error(engine, error, &log))? {
        for progress in log.push(info) {
            let _ = out.progress(&progress).await;
        }
    }
    images::image(engine, &request.tag)
        .await?
        .ok_or_else(|| RuntimeError::new(ErrorCode::Internal, format!("`{tag}` was built and is not there")))
}

fn scratch_error(error: std::io::Error) -> RuntimeError {
    let code = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorCode::ResourceExhausted,
        _ => ErrorCode::Internal,
    };
    RuntimeError::new(code, "the context cannot be kept on disk").backend(error.to_string())
}

/// Whatever fails within a build is the fault of what is built, except what is out of its reach.
fn build_error(engine: &Engine, error: Error, log: &Log) -> RuntimeError {
    let step_failed = matches!(error, Error::DockerStreamError { .. });
    let mut error = engine.error(error);
    let text = error.backend.clone().unwrap_or_default();
    if error.field.as_deref() == Some("archive") || text.ends_with("unexpected EOF") {
        return RuntimeError::new(ErrorCode::InvalidArgument, "the context is no whole tar archive")
            .field("context")
            .backend(text);
    }
    if !step_failed {
        return error;
    }
    if matches!(error.code, ErrorCode::Internal | ErrorCode::NotFound | ErrorCode::FailedPrecondition) {
        error.code = ErrorCode::InvalidArgument;
    }
    error.field = None;
    error.message = format!("the build failed: {}{}", plain(&text), log.tail());
    error
}

/// The lines of a build.
#[derive(Debug, Default)]
struct Log {
    step: String,
    line: String,
    last: VecDeque<String>,
}

impl Log {
    /// Takes what the engine says next, and returns the steps of progress in it.
    fn push(&mut self, info: BuildInfo) -> Vec<Progress> {
        if let Some(status) = info.status {
            let (current, total) = images::bytes(info.progress_detail);
            return vec![Progress { id: info.id.unwrap_or_default(), message: status, current, total }];
        }
        let mut steps = Vec::new();
        for piece in info.stream.unwrap_or_default().split_inclusive('\n') {
            if self.line.len() + piece.len() <= LINE_BYTES {
                self.line.push_str(piece);
            }
            if piece.ends_with('\n') {
                steps.extend(self.end_line());
            }
        }
        steps
    }

    fn end_line(&mut self) -> Option<Progress> {
        let mut line = std::mem::take(&mut self.line);
        for colour in COLOURS {
            line = line.replace(colour, "");
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            return None;
        }
        if let Some(step) = line.strip_prefix("Step ").and_then(|rest| rest.split_once(" : ")) {
            step.0.clone_into(&mut self.step);
        }
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.clone());
        Some(Progress { id: self.step.clone(), message: line, current: None, total: None })
    }

    fn tail(&self) -> String {
        self.last.iter().map(|line| format!("\n{line}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> BuildInfo {
        BuildInfo { stream: Some(text.to_owned()), ..Default::default() }
    }

    #[test]
    fn lines_are_joined_and_belong_to_a_step() {
        let mut log = Log::default();
        assert_eq!(log.push(said("Step 1/2 : FROM x")), []);
        let steps = [log.push(said("\n")), log.push(said("a\nb")), log.push(said("c\n\n"))].concat();
        let steps: Vec<_> = steps.iter().map(|step| (step.id.as_str(), step.message.as_str())).collect();
        assert_eq!(steps, [("1/2", "Step 1/2 : FROM x"), ("1/2", "a"), ("1/2", "bc")]);
        assert_eq!(log.tail(), "\nStep 1/2 : FROM x\na\nbc");
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut log = Log::default();
        for number in 0..100 {
            log.push(said(&format!("line {number}\n")));
        }
        log.push(said(&"x".repeat(1 << 20)));
        assert_eq!((log.last.len(), log.last[0].as_str(), log.line.len()), (LAST_LINES, "line 80", 0));
    }
}
