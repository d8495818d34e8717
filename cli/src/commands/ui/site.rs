//! The paths of the dashboard: files, what happens, and what the page may do.

use std::sync::Arc;

use bytes::Bytes;
use gx_core::api::{ExtendRequest, Service};
use gx_core::runtime::{LogOptions, RemoveOptions, StopOptions};
use gx_core::stream::pipe;
use gx_server::page::{Answer, Ask, File, Intent, Site};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::fleet::Fleet;
use super::{files, live};
use crate::commands::vnc;
use crate::error::{CliError, Kind, Result};
use crate::target::Duplex;

/// How much of a container's output is shown at first, in lines.
const TAIL: u32 = 500;
/// Pieces of output that are kept for a page that reads slowly.
const AHEAD: usize = 16;

/// The dashboard.
pub(super) struct Dashboard(Arc<Fleet>);

impl Dashboard {
    pub(super) fn new(fleet: Arc<Fleet>) -> Self {
        Self(fleet)
    }
}

impl Site for Dashboard {
    type Stream = Box<dyn Duplex>;

    fn file(&self, path: &str) -> Option<File> {
        // A desktop's page is the same for all: below `desktop/MACHINE/ID/`.
        match path.strip_prefix("desktop/").and_then(|rest| rest.splitn(3, '/').nth(2)) {
            Some(rest) => vnc::file(rest),
            None => files::file(path),
        }
    }

    async fn dial(&self, path: &str) -> Result<Self::Stream, String> {
        let nothing = || "there is nothing at this address".to_owned();
        let [_, machine, id, _] = parts(path).ok_or_else(nothing)?;
        let machine = self.0.machine(machine).ok_or_else(nothing)?;
        let dialled = async { self.0.target(&machine).await?.tunnel(id, Service::Vnc).await };
        dialled.await.map_err(|error| error.message.clone())
    }

    async fn ask(&self, ask: Ask) -> Answer {
        if ask.path == "api/live" && ask.intent == Intent::Read {
            return live::tell(&self.0).map_or_else(|error| refused(&error), Answer::Events);
        }
        let rest = ask.path.strip_prefix("api/machines/").unwrap_or_default();
        let Some((machine, rest)) = rest.split_once("/containers/") else { return Answer::Missing };
        let Some(machine) = self.0.machine(machine) else { return Answer::Missing };
        let (id, verb) = rest.split_once('/').unwrap_or((rest, ""));
        let id = id.to_owned();
        let target = match self.0.target(&machine).await {
            Ok(target) => target,
            Err(error) => return refused(&error),
        };
        match (ask.intent, verb) {
            (Intent::Read, "logs") => {
                let target = target.clone();
                let (out, mut items) = pipe(0);
                let (sender, text) = mpsc::channel(AHEAD);
                let options = LogOptions { follow: true, tail: Some(TAIL), ..LogOptions::default() };
                tokio::spawn(async move {
                    let pass_on = async {
                        while let Some(item) = items.next().await {
                            if sender.send(item.bytes).await.is_err() {
                                break;
                            }
                        }
                        drop(items);
                    };
                    let (logs, ()) = tokio::join!(target.logs(&id, options, out), pass_on);
                    if let Err(error) = logs {
                        let _ = sender.send(Bytes::from(format!("\ngx: {}\n", error.message))).await;
                    }
                });
                Answer::Text(text)
            }
            (Intent::Change, "stop") => told(target.stop(&id, StopOptions::default()).await),
            (Intent::Change, "start") => told(target.start(&id).await),
            (Intent::Change, "passwd") => told(target.passwd(&id).await),
            (Intent::Change, "extend") => match serde_json::from_slice::<By>(&ask.body) {
                Ok(By { by_s }) => told(target.extend(&id, ExtendRequest { by_s }).await),
                Err(error) => refused(&CliError::usage(error.to_string())),
            },
            (Intent::Remove, "") => told(target.remove(&id, RemoveOptions { force: true }).await),
            _ => Answer::Missing,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct By {
    by_s: u64,
}

/// Cuts a path into exactly so many parts.
fn parts<const N: usize>(path: &str) -> Option<[&str; N]> {
    path.split('/').collect::<Vec<_>>().try_into().ok()
}

fn told<T: Serialize>(result: Result<T>) -> Answer {
    match result {
        Ok(value) => Answer::Json(200, serde_json::to_value(value).unwrap_or(Value::Null)),
        Err(error) => refused(&error),
    }
}

fn refused(error: &CliError) -> Answer {
    let status = match error.kind {
        Kind::Usage => 400,
        Kind::NotAllowed => 403,
        Kind::Unreachable => 502,
        _ => 409,
    };
    Answer::Json(status, json!({ "message": error.message, "hint": error.hints.first() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_so_many_parts_or_is_none() {
        assert_eq!(parts("desktop/m1/web/socket"), Some(["desktop", "m1", "web", "socket"]));
        assert_eq!(parts::<4>("desktop/m1/socket"), None);
    }

    #[test]
    fn who_is_refused_is_told_why_and_what_to_do() {
        let error = CliError::usage("no such thing").hint("look again");
        let Answer::Json(status, value) = refused(&error) else { panic!("no JSON") };
        assert_eq!((status, value), (400, json!({ "message": "no such thing", "hint": "look again" })));
    }
}
