//! The user's browser: which program opens a page.

use std::process::{Command, Stdio};

use serde::Serialize;

use crate::cli::Environment;
use crate::output::{Out, Show, View};

/// Where a page is that this program serves, until Ctrl-C.
#[derive(Serialize)]
pub(crate) struct Opened {
    pub(crate) url: String,
}

impl Show for Opened {
    fn text(&self, view: &View) -> String {
        format!("{}\nCtrl-C ends it\n", view.bold(&self.url))
    }

    fn ids(&self, _: &View) -> String {
        format!("{}\n", self.url)
    }
}

/// Opens a page in the user's browser; where there is none, the user is told to open it.
pub(crate) fn open(environment: &Environment, url: &str, out: &Out) {
    let started = candidates(environment.browser.as_deref(), environment.has_display, url)
        .into_iter()
        .any(|words| start(&words).is_some());
    if !started {
        out.note("no browser was found: open the link yourself");
    }
}

/// Returns the commands to try, in order. `BROWSER` is a list of commands separated by colons, in which `%s` stands for
/// the page.
fn candidates(browser: Option<&str>, has_display: bool, url: &str) -> Vec<Vec<String>> {
    let own = browser.unwrap_or_default().split(':').filter(|command| !command.trim().is_empty());
    let mut commands: Vec<Vec<String>> = own.map(|command| words(command, url)).collect();
    if cfg!(target_os = "macos") {
        commands.push(words("open", url));
    } else if has_display {
        commands.push(words("xdg-open", url));
    }
    commands
}

fn words(command: &str, url: &str) -> Vec<String> {
    let mut words: Vec<String> = command.split_whitespace().map(|word| word.replace("%s", url)).collect();
    if !command.contains("%s") {
        words.push(url.to_owned());
    }
    words
}

fn start(words: &[String]) -> Option<()> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    // It may end at once, having told a browser that runs already, or with the session.
    std::thread::spawn(move || child.wait());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_comes_before_the_systems_own() {
        let tried = |browser, display| {
            let commands = candidates(browser, display, "http://x/");
            commands.iter().map(|words| words.join(" ")).collect::<Vec<_>>()
        };
        if cfg!(target_os = "linux") {
            assert_eq!(
                tried(Some("a -n %s:b"), true),
                ["a -n http://x/", "b http://x/", "xdg-open http://x/"]
            );
            assert!(tried(None, false).is_empty(), "without a display there is nothing to open it on");
        }
    }
}
