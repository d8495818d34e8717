//! `gx list`: containers. As with `docker ps`, those that have ended show with `--all` only: what runs is what costs.

use std::time::Duration;

use clap::Args;
use gx_core::api::{ContainerInfo, ContainerList};
use gx_core::units::Span;
use gx_core::{ContainerState, PluginName};

use super::Context;
use crate::error::Result;
use crate::output::{Show, Table, View, human};

const EXAMPLES: &str = "\
Examples:
  gx list                     what runs
  gx list --all -q            the ids of all containers, those that have ended too
  gx list --on 192.168.1.7    what runs on another machine
  gx list --json | jq -r '.containers[].name'";

/// What `gx list` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ListArgs {
    /// Lists containers that have ended or never started too
    #[arg(short, long)]
    pub all: bool,
    /// Lists those in this runtime only
    #[arg(long, value_name = "NAME")]
    pub runtime: Option<PluginName>,
}

pub(crate) async fn run(args: ListArgs, context: &Context<'_>) -> Result {
    let mut list = context.target().await?.list().await?;
    for down in &list.unavailable {
        let text = format!("containers in {} are not listed: {}", down.runtime, down.error.message);
        context.out.warn(&text, down.error.hint.as_deref());
    }
    if let Some(runtime) = &args.runtime {
        list.containers.retain(|container| container.runtime == *runtime);
    }
    let all = list.containers.len();
    list.containers.retain(|container| args.all || is_live(container));
    let hidden = all - list.containers.len();
    context.out.show(&list)?;
    if list.containers.is_empty() && hidden > 0 {
        context.out.note(&format!("{hidden} that ended: gx list --all"));
    }
    Ok(())
}

fn is_live(container: &ContainerInfo) -> bool {
    match container.state {
        ContainerState::Running | ContainerState::Paused | ContainerState::Unknown => true,
        ContainerState::Created | ContainerState::Exited | ContainerState::Removing => false,
    }
}

impl Show for ContainerList {
    fn text(&self, view: &View) -> String {
        let mut table = Table::new(["id", "name", "runtime", "image", "created", "state", "lease", "ports"]);
        for container in &self.containers {
            table.row([
                container.id.short().to_owned(),
                container.name.clone(),
                container.runtime.to_string(),
                container.image.clone(),
                container.created_at.map(|at| human::ago(at, view.now)).unwrap_or_default(),
                state(container),
                lease(container, view),
                human::ports(&container.ports),
            ]);
            if let Some(end) = container.expires_at.filter(|end| human::is_soon(*end, view.now)) {
                table.alarm(&human::left(end, view.now));
            }
        }
        table.text(view)
    }

    fn ids(&self, _: &View) -> String {
        self.containers.iter().map(|container| format!("{}\n", container.id.short())).collect()
    }
}

/// Returns how much of the lease is left, and after how long without use it is stopped.
fn lease(container: &ContainerInfo, view: &View) -> String {
    let left = container.expires_at.map(|end| human::left(end, view.now));
    let idle = container.idle_s.map(|seconds| format!("idle {}", Span(Duration::from_secs(seconds))));
    left.into_iter().chain(idle).collect::<Vec<_>>().join(", ")
}

/// Returns the state, and how it ended where it did.
pub(crate) fn state(container: &ContainerInfo) -> String {
    match &container.exit {
        Some(exit) if exit.oom_killed => format!("{} ({}, out of memory)", container.state, exit.code),
        Some(exit) => format!("{} ({})", container.state, exit.code),
        None => container.state.to_string(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use gx_core::{Exit, Timestamp};

    pub(crate) fn container(name: &str, state: ContainerState) -> ContainerInfo {
        let value = serde_json::json!({
            "id": "0123456789abcdef", "name": name, "runtime": "docker", "image": "debian", "state": state,
            "created_at": Timestamp::from_unix(-120), "expires_at": Timestamp::from_unix(7_199),
            "ports": [{"container_port": 80, "protocol": "tcp", "host_address": "127.0.0.1", "host_port": 20000}],
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_table_has_short_ids_ages_and_ports() {
        let containers = vec![container("we\u{1b}[31mb", ContainerState::Running)];
        let list = ContainerList { containers, unavailable: Vec::new() };
        assert_eq!(
            list.text(&View::plain()),
            "ID             NAME   RUNTIME   IMAGE    CREATED         STATE     LEASE    PORTS\n\
             0123456789ab   web    docker    debian   2 minutes ago   running   1h 59m   127.0.0.1:20000 → 80/tcp\n"
        );
        assert_eq!(list.ids(&View::plain()), "0123456789ab\n");
    }

    #[test]
    fn the_lease_tells_what_stops_it_when_nobody_uses_it() {
        let mut info = container("web", ContainerState::Running);
        info.idle_s = Some(5_400);
        assert_eq!(lease(&info, &View::plain()), "1h 59m, idle 1h30m");
        info.expires_at = None;
        assert_eq!(lease(&info, &View::plain()), "idle 1h30m");
    }

    #[test]
    fn what_ended_is_not_live_and_says_how() {
        let mut ended = container("x", ContainerState::Exited);
        ended.exit = Some(Exit::from_code(137));
        assert!(!is_live(&ended));
        assert_eq!(state(&ended), "exited (137)");
        assert!(is_live(&container("x", ContainerState::Paused)));
    }
}
