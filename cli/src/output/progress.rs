//! The steps of long work, on standard error: bars on a terminal, a line for each new step elsewhere.

use std::collections::BTreeMap;
use std::io::Write as _;

use gx_core::runtime::Progress;
use gx_core::stream::{Items, Kind};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::clean;

/// Shows steps as they come.
pub(crate) enum Steps {
    /// Nobody wants to see them.
    Silent,
    /// One line when what happens to something changes; the last words on each are kept.
    Lines(BTreeMap<String, String>),
    /// A bar for everything that has an end.
    Bars(MultiProgress, BTreeMap<String, ProgressBar>),
}

impl Steps {
    pub(super) fn new(wanted: bool, terminal: bool) -> Self {
        match (wanted, terminal) {
            (false, _) => Self::Silent,
            (true, false) => Self::Lines(BTreeMap::new()),
            (true, true) => Self::Bars(MultiProgress::new(), BTreeMap::new()),
        }
    }

    /// Shows all steps of a stream until it ends.
    pub(crate) async fn follow(mut self, mut items: Items) {
        while let Some(item) = items.next().await {
            if item.kind == Kind::Progress
                && let Ok(step) = serde_json::from_slice(&item.bytes)
            {
                self.step(&step);
            }
        }
    }

    /// Shows one step.
    pub(crate) fn step(&mut self, step: &Progress) {
        let id = clean::line(&step.id).into_owned();
        let message = clean::lines(step.message.trim_end()).into_owned();
        match self {
            Self::Silent => {}
            Self::Lines(told) => {
                if let Some(line) = new_line(told, id, message) {
                    // Where standard error is gone there is nobody to tell.
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
            }
            Self::Bars(screen, _) if id.is_empty() => {
                let _ = screen.println(message);
            }
            Self::Bars(screen, bars) => {
                let bar = bars.entry(id.clone()).or_insert_with(|| screen.add(new_bar(id)));
                update(bar, message, step);
            }
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Self::Bars(screen, _) = self {
            let _ = screen.clear();
        }
    }
}

fn new_line(told: &mut BTreeMap<String, String>, id: String, message: String) -> Option<String> {
    if message.is_empty() {
        return None;
    }
    if id.is_empty() {
        return Some(message);
    }
    if told.get(&id) == Some(&message) {
        return None;
    }
    let line = format!("{id}: {message}");
    told.insert(id, message);
    Some(line)
}

fn new_bar(id: String) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:14} {msg:24}").expect("a template that a test reads");
    ProgressBar::new(0).with_style(style).with_prefix(id)
}

fn update(bar: &ProgressBar, message: String, step: &Progress) {
    if let Some(total) = step.total.filter(|total| *total > 0) {
        if bar.length() != Some(total) {
            bar.set_length(total);
            bar.set_style(bytes_style());
        }
        bar.set_position(step.current.unwrap_or(0).min(total));
    }
    bar.set_message(message);
}

fn bytes_style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:14} {msg:24} [{bar:30}] {binary_bytes}/{binary_total_bytes}")
        .expect("a template that a test reads")
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_only_when_something_is_new() {
        let mut told = BTreeMap::new();
        let mut line = |id: &str, message: &str| new_line(&mut told, id.into(), message.into());
        assert_eq!(line("a", "downloading").as_deref(), Some("a: downloading"));
        assert_eq!(line("a", "downloading"), None);
        assert_eq!(line("a", "done").as_deref(), Some("a: done"));
        assert_eq!(line("", "STEP 1").as_deref(), Some("STEP 1"));
        assert_eq!(line("", "STEP 1").as_deref(), Some("STEP 1"));
    }

    #[test]
    fn bars_take_whatever_comes() {
        let mut steps = Steps::new(true, true);
        for (current, total) in [(None, None), (Some(9), Some(3)), (Some(1), Some(0)), (Some(2), None)] {
            let step = Progress { id: "layer".into(), message: "x".into(), current, total };
            steps.step(&step);
        }
        assert_eq!(bytes_style().get_tick_str(0), ProgressStyle::default_bar().get_tick_str(0));
    }
}
