//! The conformance suite every runtime must pass: what [`Runtime`] promises, checked on a real one.
//!
//! [`run`] takes any runtime, however it was loaded, and tells of each case as it ends. A case that needs a
//! [`Feature`] the runtime does not have is skipped and says so. The suite makes containers of its own only, all
//! with the label [`LABEL`], and removes them; after an interrupted run [`sweep`] does.
//!
//! The image must have busybox's `sh` and programs (`workload.rs` lists them), and no entry point.
//!
//! ```no_run
//! # async fn example(runtime: std::sync::Arc<dyn gx_core::Runtime>) {
//! let options = gx_conformance::Options::new("gx-busybox".parse().expect("an image"));
//! let report = gx_conformance::run(runtime, options, &mut |case| print!("{case}")).await;
//! println!("{}", report.summary());
//! std::process::exit(if report.is_ok() { 0 } else { 1 });
//! # }
//! ```

mod groups;
mod hosted;
mod options;
mod report;
mod trial;
mod workload;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use gx_core::runtime::{Capabilities, Feature, ListFilter, RemoveOptions, Runtime, RuntimeError, list_all};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

pub use groups::configuration::Loader;
pub use hosted::Hosted;
pub use options::{Hook, Hooks, Options, fits};
pub use report::{CaseResult, Outcome, Report};
use trial::{Case, Failure, Trial, Verdict};

/// The label of every container the suite makes; its value is the run's id.
pub const LABEL: &str = "gx.conformance";

/// The name of a case and what it checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaseName {
    /// `group/what is done`.
    pub name: &'static str,
    /// The promise it checks.
    pub promise: &'static str,
}

/// Returns all cases in the order of the report.
pub fn cases() -> Vec<CaseName> {
    in_order().iter().map(|case| CaseName { name: case.name, promise: case.promise }).collect()
}

/// Runs the suite and returns its report. `report` is told of each case, always in the same order.
///
/// Dropping the future ends the running cases; what they have made is then left for [`sweep`].
pub async fn run(
    runtime: Arc<dyn Runtime>,
    options: Options,
    report: &mut (dyn FnMut(&CaseResult) + Send),
) -> Report {
    let began = Instant::now();
    let options = Arc::new(options);
    let ready = prepare(&*runtime, &options).await;
    let slots = Arc::new(Semaphore::new(options.parallelism.max(1)));
    let mut results = Vec::new();
    let (alone, together): (Vec<_>, Vec<_>) =
        in_order().into_iter().filter(|case| options.wants(case.name)).partition(|case| case.alone);
    let start = |case: &'static Case| {
        Started(tokio::spawn(in_turn(case, runtime.clone(), options.clone(), ready.clone(), slots.clone())))
    };
    let running: Vec<_> = together.into_iter().map(start).collect();
    for mut case in running {
        results.push(case.ended().await);
        results.last().into_iter().for_each(&mut *report);
    }
    for case in alone {
        results.push(start(case).ended().await);
        results.last().into_iter().for_each(&mut *report);
    }
    Report::new(options.run_id.clone(), results, began.elapsed())
}

/// Removes every container a run has left and returns how many there were.
///
/// # Errors
/// Those of `list` and `remove`.
pub async fn sweep(runtime: &dyn Runtime, run_id: &str) -> Result<usize, RuntimeError> {
    let labels = [(LABEL.to_owned(), Some(run_id.to_owned()))].into();
    let left = list_all(runtime, ListFilter { labels, ..ListFilter::default() }).await?;
    for container in &left {
        runtime.remove(container.id.clone(), RemoveOptions { force: true }).await?;
    }
    Ok(left.len())
}

fn in_order() -> Vec<&'static Case> {
    let all = || groups::ALL.iter().flat_map(|group| group.iter());
    all().filter(|case| !case.alone).chain(all().filter(|case| case.alone)).collect()
}

/// What is known before the first case: what the runtime can do, or why nothing can be tried.
type Ready = Result<Capabilities, String>;

async fn prepare(runtime: &dyn Runtime, options: &Options) -> Ready {
    let asked = async {
        let capabilities = runtime.capabilities().await.map_err(|error| format!("capabilities: {error}"))?;
        let image = options.image.clone();
        let there = runtime.image(image.clone()).await.map_err(|error| format!("image {image}: {error}"))?;
        if there.is_some() {
            return Ok(capabilities);
        }
        if !capabilities.has(Feature::Pull) {
            return Err(format!("the engine has no image {image}"));
        }
        let request = gx_core::runtime::PullRequest { image: image.clone(), platform: None, auth: None };
        let pulled = runtime.pull(request, gx_core::stream::Output::null()).await;
        pulled.map(|_| capabilities).map_err(|error| format!("there is no image {image}: {error}"))
    };
    let asked = std::panic::AssertUnwindSafe(asked).catch_unwind();
    match tokio::time::timeout(options.case_timeout, asked).await {
        Ok(Ok(ready)) => ready,
        Ok(Err(_)) => Err("the runtime panics when it is asked for its capabilities or an image".into()),
        Err(_) => Err("the runtime does not answer when it is asked for its capabilities or an image".into()),
    }
}

/// A case on a task of its own, which ends with this value.
struct Started(JoinHandle<CaseResult>);

impl Started {
    async fn ended(&mut self) -> CaseResult {
        (&mut self.0).await.expect("a case catches its panics and is aborted only when dropped")
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn in_turn(
    case: &'static Case,
    runtime: Arc<dyn Runtime>,
    options: Arc<Options>,
    ready: Ready,
    slots: Arc<Semaphore>,
) -> CaseResult {
    let _slot = slots.acquire_owned().await;
    let began = Instant::now();
    let outcome = match judge(case, runtime, options, ready).await {
        Ok(()) => Outcome::Pass,
        Err(Failure::Failed(why)) => Outcome::Fail { why },
        Err(Failure::Skipped(why)) => Outcome::Skip { why },
    };
    CaseResult { name: case.name, promise: case.promise, outcome, duration: began.elapsed() }
}

async fn judge(
    case: &'static Case,
    runtime: Arc<dyn Runtime>,
    options: Arc<Options>,
    ready: Ready,
) -> Verdict {
    let capabilities = match ready {
        Ok(capabilities) => capabilities,
        // The handshake's cases find out what is wrong; the others have nothing to stand on.
        Err(_) if case.name.starts_with("handshake/") => Capabilities::default(),
        Err(why) => return Err(Failure::Skipped(why)),
    };
    if let Some(feature) = case.needs.iter().find(|&&feature| !capabilities.has(feature)) {
        return Err(Failure::Skipped(format!("the runtime has no {feature:?}")));
    }
    let limit = options.case_timeout;
    let trial = Arc::new(Trial::new(case, runtime, options, capabilities));
    let body = std::panic::AssertUnwindSafe((case.run)(trial.clone())).catch_unwind();
    let verdict = match tokio::time::timeout(limit, body).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(panic)) => Err(Failure::new(format!("it panics: {}", panic_text(&*panic)))),
        Err(_) => Err(Failure::new(format!("it does not end within {} s", limit.as_secs()))),
    };
    let cleaned = tokio::time::timeout(Duration::from_secs(60), trial.clean()).await;
    verdict.and(cleaned.unwrap_or_else(|_| Err(Failure::new("removing its containers takes over 60 s"))))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}
