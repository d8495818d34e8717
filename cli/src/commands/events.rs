//! `gx events`: what happens to containers, as it happens.

use clap::Args;
use gx_core::Timestamp;
use gx_core::api::ContainerEvent;
use gx_core::runtime::EventAction;
use gx_core::stream::{Items, Kind, pipe};

use super::{Context, logs};
use crate::error::Result;
use crate::output::{Out, Show, View, clean};

const EXAMPLES: &str = "\
Examples:
  gx events                     until Ctrl-C
  gx events --since 10m         the last ten minutes first, as far as the engine remembers
  gx events --on lab --json | jq -r 'select(.action == \"exit\") | .name'";

/// What `gx events` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct EventsArgs {
    /// Prints what happened since, too: a span before now, as 10m, or a time, as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = logs::moment)]
    pub since: Option<Timestamp>,
}

pub(crate) async fn run(args: EventsArgs, context: &Context<'_>) -> Result {
    let target = context.target().await?;
    let (output, items) = pipe(0);
    let (watched, printed) = tokio::join!(target.events(args.since, output), print(items, context.out));
    // Where nobody reads any more the call ended because of that.
    printed?;
    watched
}

async fn print(mut items: Items, out: &Out) -> Result {
    while let Some(item) = items.next().await {
        let event = serde_json::from_slice::<ContainerEvent>(&item.bytes);
        if let (Kind::Event, Ok(event)) = (item.kind, event) {
            out.item(&event)?;
        }
    }
    Ok(())
}

impl Show for ContainerEvent {
    fn text(&self, view: &View) -> String {
        let what = match (self.action, self.exit_code) {
            (EventAction::Create, _) => "create".to_owned(),
            (EventAction::Start, _) => "start".to_owned(),
            (EventAction::Exit, Some(code)) => format!("exit {code}"),
            (EventAction::Exit, None) => "exit".to_owned(),
            (EventAction::Remove, _) => "remove".to_owned(),
            _ => "other".to_owned(),
        };
        let at = view.dim(&self.at.to_string());
        format!("{at}  {what:<8}  {}  {}  {}\n", self.id.short(), clean::line(&self.name), self.runtime)
    }

    fn ids(&self, _: &View) -> String {
        format!("{}\n", self.id.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let event: ContainerEvent = serde_json::from_value(serde_json::json!({
            "at": "2026-01-31T12:00:00Z", "action": "exit", "name": "we\u{1b}[31mb", "id": "0123456789abcdef",
            "runtime": "docker", "exit_code": 137,
        }))
        .unwrap();
        assert_eq!(event.text(&View::plain()), "2026-01-31T12:00:00Z  exit 137  0123456789ab  web  docker\n");
    }
}
