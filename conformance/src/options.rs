//! What a run is told: sizes, patience, which cases, and the hooks for what only the caller can do.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use gx_core::ImageRef;

use crate::groups::configuration::Loader;

/// Something the caller does for the suite, such as ending a process; the error says why it could not.
pub type Hook =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync + 'static>;

/// What a run is told.
#[derive(Clone)]
pub struct Options {
    /// The image of the containers: it has busybox's `sh` and programs, and no entry point.
    pub image: ImageRef,
    /// The value of the label [`LABEL`](crate::LABEL), and part of every name: lower-case letters and digits.
    pub run_id: String,
    /// How many cases run at once.
    pub parallelism: usize,
    /// How many containers the longest list has.
    pub list_size: usize,
    /// How long the longest log is, in bytes.
    pub log_bytes: u64,
    /// How long a case may take.
    pub case_timeout: Duration,
    /// Runs only cases whose name fits one of these; empty: all. See [`fits`].
    pub focus: Vec<String>,
    /// Leaves out cases whose name fits one of these.
    pub skip: Vec<String>,
    /// What only the caller can do.
    pub hooks: Hooks,
}

/// What only the caller can do; a case that needs one that is not there is skipped.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Returns the memory, in bytes, of the process the runtime's code runs in (its resident set).
    pub memory: Option<Arc<dyn Fn() -> Option<u64> + Send + Sync>>,
    /// Ends the process the runtime's code runs in, without warning. The engine must outlive it.
    pub crash: Option<Hook>,
    /// Makes the engine unreachable.
    pub engine_down: Option<Hook>,
    /// Makes the engine reachable again.
    pub engine_up: Option<Hook>,
    /// Loads the plugin anew with another configuration.
    pub loader: Option<Arc<dyn Loader>>,
    /// An image that a registry has and the engine does not need: it is pulled, dropped and removed.
    pub pull_image: Option<ImageRef>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("image", &self.image)
            .field("run_id", &self.run_id)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Returns the options of a full run with this image.
    pub fn new(image: ImageRef) -> Self {
        Self {
            image,
            run_id: unique_id(),
            parallelism: 4,
            list_size: 500,
            log_bytes: 100_000_000,
            case_timeout: Duration::from_secs(180),
            focus: Vec::new(),
            skip: Vec::new(),
            hooks: Hooks::default(),
        }
    }

    /// Returns whether the case of this name is to be run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let one_fits = |patterns: &[String]| patterns.iter().any(|pattern| fits(name, pattern));
        (self.focus.is_empty() || one_fits(&self.focus)) && !one_fits(&self.skip)
    }
}

/// Returns 14 hexadecimal digits that no other run at this time has.
fn unique_id() -> String {
    static RUNS: AtomicU8 = AtomicU8::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (process, run) = (std::process::id() as u16, RUNS.fetch_add(1, Ordering::Relaxed));
    format!("{:08x}{process:04x}{run:02x}", now.as_millis() as u32)
}

/// Returns whether a name fits a pattern: the pattern's parts between `*` occur in it, one after another;
/// `^` at the beginning and `$` at the end bind it there.
pub fn fits(name: &str, pattern: &str) -> bool {
    let (pattern, at_start) = pattern.strip_prefix('^').map_or((pattern, false), |rest| (rest, true));
    let (pattern, at_end) = pattern.strip_suffix('$').map_or((pattern, false), |rest| (rest, true));
    let mut rest = name;
    let mut parts: Vec<&str> = pattern.split('*').collect();
    if at_end {
        let last = parts.pop().unwrap_or_default();
        let Some(before) = rest.strip_suffix(last) else { return false };
        if parts.is_empty() {
            return !at_start || before.is_empty();
        }
        rest = before;
    }
    for (number, part) in parts.into_iter().enumerate() {
        match rest.find(part) {
            Some(at) if at == 0 || number > 0 || !at_start => rest = &rest[at + part.len()..],
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_parts_in_order() {
        let name = "logs/follow ends at the exit";
        for pattern in [
            "",
            "logs/",
            "follow*exit",
            "^logs",
            "exit$",
            "^logs*exit$",
            "*",
            "^logs/follow ends at the exit$",
        ] {
            assert!(fits(name, pattern), "{pattern:?}");
        }
        for pattern in ["exec", "exit*follow", "^follow", "follow$", "^logs$", "logs.follow"] {
            assert!(!fits(name, pattern), "{pattern:?}");
        }
    }

    #[test]
    fn skip_wins_over_focus() {
        let mut options = Options::new("x".parse().unwrap());
        assert!(options.wants("logs/split"));
        options.focus = vec!["logs/".into()];
        options.skip = vec!["split".into()];
        assert!(!options.wants("logs/split") && options.wants("logs/tail") && !options.wants("exec/tty"));
    }
}
