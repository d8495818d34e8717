//! Builds images.
//!
//! The engine looks between two steps whether anybody still wants the image, not within one. So the processes of the
//! steps of a dropped build are killed; they are told by a control group of their own.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gx_core::plugin::*;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use crate::engine::{Engine, EngineError, Lines};
use crate::tasks::{Running, Tasks};
use crate::{copy, error, images, info};

/// How many of a failed build's last lines are told.
const LAST_LINES: usize = 10;
/// For how long steps of a dropped build are killed, for how long one that is just beginning is waited for, and how
/// often they are looked for.
const KILL_LIMIT: Duration = Duration::from_secs(10);
const BEGIN_LIMIT: Duration = Duration::from_secs(3);
const KILL_POLL: Duration = Duration::from_millis(50);
/// Where the kernel shows control groups: those of the first version by controller, those of the second.
const GROUPS: [&str; 2] = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];

/// Builds an image.
pub(crate) async fn build(
    engine: &Engine,
    request: &BuildRequest,
    context: Input,
    out: &Output,
    tasks: &Tasks,
) -> Result<Image> {
    let tag = request.tag.tagged();
    let args = serde_json::to_string(&request.args).expect("a map of texts becomes JSON");
    let mut query = vec![("t", tag.as_str()), ("buildargs", &args), ("layers", "true"), ("forcerm", "true")];
    if request.no_cache {
        query.push(("nocache", "true"));
    }
    if request.no_network {
        query.push(("networkmode", "none"));
    }
    if let Some(path) = &request.containerfile {
        query.push(("dockerfile", within_context(path)?));
    }
    let steps = Steps::new(engine).await?;
    if let Some(group) = &steps {
        query.push(("cgroupparent", &group.name));
    }
    let guard = steps.as_ref().map(|steps| steps.killed_on_drop(tasks));
    let built = match engine.post_tar_lines("/build", &query, copy::body(context)).await {
        Ok(mut lines) => built(&mut lines, out).await,
        Err(error) => Err(of_build(&error)),
    };
    guard.into_iter().for_each(Guard::disarm);
    let image = images::image(engine, &built?).await?;
    image.ok_or_else(|| RuntimeError::new(ErrorCode::Internal, format!("{tag} was built and is not there")))
}

fn within_context(path: &str) -> Result<&str> {
    if path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == "..") {
        let message = format!("{path:?} is not a path within the context");
        return Err(RuntimeError::new(ErrorCode::InvalidArgument, message).field("containerfile"));
    }
    Ok(path)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BuildLine {
    stream: String,
    error: String,
}

/// Passes a build's lines on and returns the image's id, which is the last.
async fn built(lines: &mut Lines, out: &Output) -> Result<String> {
    let mut last = VecDeque::new();
    while let Some(line) =
        lines.next::<BuildLine>().await.map_err(|error| error::translated("build", &error))?
    {
        if !line.error.is_empty() {
            return Err(build_failed(&line.error, &last));
        }
        images::tell(out, &line.stream).await;
        last.extend(line.stream.lines().map(str::to_owned));
        last.drain(..last.len().saturating_sub(LAST_LINES));
    }
    match last.pop_back() {
        Some(id) if id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(id),
        _ => Err(RuntimeError::new(ErrorCode::Unavailable, "podman broke off the build")),
    }
}

fn build_failed(error: &str, last: &VecDeque<String>) -> RuntimeError {
    let said: Vec<&str> = last.iter().map(String::as_str).collect();
    let error_text = error.trim();
    let message = match said.as_slice() {
        [] => format!("the build failed: {error_text}"),
        said => format!("the build failed: {error_text}; its last lines:\n{}", said.join("\n")),
    };
    let code = match error_text {
        full if full.contains("no space left on device") => ErrorCode::ResourceExhausted,
        _ => ErrorCode::InvalidArgument,
    };
    RuntimeError::new(code, message).backend(error_text)
}

fn of_build(error: &EngineError) -> RuntimeError {
    match error::said(error) {
        Some((_, text)) if text.contains("archive/tar") || text.contains("unexpected EOF") => {
            RuntimeError::new(ErrorCode::InvalidArgument, "the context is no tar archive")
                .field("context")
                .backend(text)
        }
        Some((400, text)) if text.contains("'dockerfile'") => {
            let message = "the context has neither a Containerfile nor a Dockerfile";
            RuntimeError::new(ErrorCode::InvalidArgument, message).field("containerfile").backend(text)
        }
        _ => error::translated("build", error),
    }
}

/// The control group of a build's steps.
#[derive(Debug, Clone)]
struct Steps {
    name: String,
}

impl Steps {
    /// Names a group, where Podman makes groups itself. With systemd it does not, and then steps run to their end.
    async fn new(engine: &Engine) -> Result<Option<Self>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !info::makes_cgroups(engine).await? {
            return Ok(None);
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Self { name: format!("/gx-build-{}-{count}", std::process::id()) }))
    }

    fn killed_on_drop(&self, tasks: &Tasks) -> Guard {
        Guard { armed: Some((self.clone(), tasks.begin())), runtime: Handle::current() }
    }

    /// Kills what runs and what begins, until nothing does.
    async fn kill(&self) {
        let (begun, mut seen) = (Instant::now(), false);
        while begun.elapsed() < if seen { KILL_LIMIT } else { BEGIN_LIMIT } {
            let there = GROUPS.iter().map(|root| PathBuf::from(format!("{root}{}", self.name)));
            let folders: Vec<_> = there.filter(|folder| folder.is_dir()).collect();
            if folders.is_empty() && seen {
                return;
            }
            seen |= !folders.is_empty();
            folders.iter().for_each(|folder| kill_group(folder));
            sleep(KILL_POLL).await;
        }
    }
}

fn kill_group(folder: &Path) {
    let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
        // It may have ended just now.
        let _ = kill_process(pid, Signal::KILL);
    }
    let below = fs::read_dir(folder).into_iter().flatten().flatten();
    below.filter(|entry| entry.path().is_dir()).for_each(|entry| kill_group(&entry.path()));
}

/// Kills the steps of a build that is dropped.
struct Guard {
    armed: Option<(Steps, Running)>,
    runtime: Handle,
}

impl Guard {
    fn disarm(mut self) {
        self.armed = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some((steps, running)) = self.armed.take() {
            self.runtime.spawn(async move {
                steps.kill().await;
                drop(running);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containerfile_is_within_the_context() {
        assert!(within_context("images/Containerfile").is_ok());
        for bad in ["", "/etc/passwd", "../x", "a/../../x"] {
            assert_eq!(within_context(bad).unwrap_err().field.as_deref(), Some("containerfile"), "{bad}");
        }
    }

    #[test]
    fn a_failed_build_tells_its_last_lines() {
        let last = VecDeque::from(["STEP 2/2: RUN false".to_owned(), "no such thing".to_owned()]);
        let error = build_failed("exit status 1\n", &last);
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert!(
            error.message.ends_with("exit status 1; its last lines:\nSTEP 2/2: RUN false\nno such thing")
        );
    }
}
