//! `gx show`: everything about one container.

use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::api::ContainerInfo;
use gx_core::units::Span;
use gx_core::{Gpus, Timestamp};

use super::{Context, completions, list};
use crate::error::Result;
use crate::output::{Pairs, Show, View, human};

const EXAMPLES: &str = "\
Examples:
  gx show web
  gx show 3f2a --json | jq .ports";

/// What `gx show` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ShowArgs {
    /// Its id, shortened as far as it is unique, or its name
    #[arg(value_name = "ID", add = ArgValueCandidates::new(completions::containers))]
    pub id: String,
}

pub(crate) async fn run(args: ShowArgs, context: &Context<'_>) -> Result {
    let info = context.target().await?.show(&args.id).await?;
    context.out.show(&info)
}

impl Show for ContainerInfo {
    fn text(&self, view: &View) -> String {
        let since = |at| format!("{} ({})", human::moment(at), human::ago(at, view.now));
        let lease = self.expires_at.map(|at| lease(at, view));
        let ssh = self.ssh.as_ref();
        let labels = self.labels.iter().map(|(key, value)| format!("{key}={value}"));
        Pairs::new()
            .pair("name", &self.name)
            .pair("id", &self.id)
            .pair("runtime", &self.runtime)
            .pair("image", &self.image)
            .pair("state", list::state(self))
            .some("created", self.created_at.map(since))
            .some("started", self.started_at.map(since))
            .some("ended", self.exit.as_ref().and_then(|exit| exit.finished_at).map(since))
            .some("lease ends", lease)
            .some("idle stop", self.idle_s.map(idle))
            .pair("ports", human::ports(&self.ports))
            .some("ssh", ssh.and_then(|ssh| ssh.command.as_ref()))
            .some("host key", ssh.map(|ssh| &ssh.fingerprint))
            .some("desktop", self.vnc.as_ref().and_then(|vnc| vnc.url.as_ref()))
            .some("gpus", (self.gpus != Gpus::None).then_some(&self.gpus))
            .pair("labels", labels.collect::<Vec<_>>().join(", "))
            .some("owner", self.owner)
            .text(view)
    }

    fn ids(&self, _: &View) -> String {
        format!("{}\n", self.id)
    }
}

/// Returns when a lease ends, and how long there is until then.
pub(crate) fn lease(end: Timestamp, view: &View) -> String {
    match human::left(end, view.now).as_str() {
        "over" => format!("{} (over)", human::moment(end)),
        left => format!("{} ({left} left)", human::moment(end)),
    }
}

/// Returns after how long without use a container is stopped.
fn idle(seconds: u64) -> String {
    format!("after {}", Span(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::ContainerState;

    #[test]
    fn what_is_not_there_is_left_out() {
        let mut info = list::tests::container("web", ContainerState::Running);
        assert_eq!(
            info.text(&View::plain()),
            "name         web\nid           0123456789abcdef\nruntime      docker\nimage        debian\n\
             state        running\ncreated      1969-12-31T23:58:00Z (2 minutes ago)\n\
             lease ends   1970-01-01T01:59:59Z (1h 59m left)\nports        127.0.0.1:20000 → 80/tcp\n"
        );
        info.idle_s = Some(1_800);
        assert!(info.text(&View::plain()).contains("\nidle stop    after 30m\n"));
    }
}
