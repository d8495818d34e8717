//! What the page is told while somebody looks at it: of a machine its containers, when an engine says that something
//! happened, and its figures every few seconds; and of the peers. Nobody is asked anything for a page that is not open.

use std::sync::Arc;
use std::time::Duration;

use gx_core::NodeId;
use gx_core::api::{ContainerList, ServerSpecs};
use gx_core::stream::{Items, pipe};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::fleet::{Fleet, Machine};
use crate::error::{CliError, Result};
use crate::target::Target;

/// How old figures become. A host reads them about as often.
const FIGURES: Duration = Duration::from_secs(5);
/// What happens together is told together.
const TOGETHER: Duration = Duration::from_millis(100);
/// How long a machine that is away is left alone, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// What of a page that reads slowly is kept for it.
const AHEAD: usize = 16;

/// A machine as the page is told of it; each time all of it.
#[derive(Serialize)]
struct Told<'a> {
    key: &'a str,
    name: &'a str,
    node: Option<NodeId>,
    address: Option<&'a str>,
    now: State<'a>,
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum State<'a> {
    /// It is being asked for the first time.
    Asked,
    /// It answers.
    Here { specs: &'a ServerSpecs, containers: &'a ContainerList },
    /// It does not.
    Away { message: &'a str, hint: Option<&'a str> },
}

impl Machine {
    fn told(&self, now: State<'_>) -> Value {
        let node = match &now {
            State::Here { specs, .. } => specs.node_id.or(self.node),
            _ => self.node,
        };
        let told = Told { key: &self.key, name: &self.name, node, address: self.address.as_deref(), now };
        serde_json::to_value(told).expect("our own types always become JSON")
    }
}

/// Tells of all machines and peers until nobody reads it any more.
///
/// # Errors
/// When the list of hosts cannot be read.
pub(super) fn tell(fleet: &Arc<Fleet>) -> Result<mpsc::Receiver<Value>> {
    let (sender, told) = mpsc::channel(AHEAD);
    for machine in fleet.all()? {
        let (fleet, sender) = (fleet.clone(), sender.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                () = keep_telling(&fleet, &machine, &sender) => {}
            }
        });
    }
    tokio::spawn(pass_on(fleet.watched.subscribe(), sender));
    Ok(told)
}

/// Passes on what is told of the peers; what a slow page has missed is in what comes next.
async fn pass_on(mut peers: watch::Receiver<Value>, sender: mpsc::Sender<Value>) {
    loop {
        let now = peers.borrow_and_update().clone();
        if !now.is_null() && sender.send(now).await.is_err() {
            return;
        }
        tokio::select! {
            () = sender.closed() => return,
            changed = peers.changed() => if changed.is_err() { return },
        }
    }
}

async fn keep_telling(fleet: &Fleet, machine: &Machine, sender: &mpsc::Sender<Value>) {
    let mut pause = PAUSE.0;
    let _ = sender.send(machine.told(State::Asked)).await;
    loop {
        let began = Instant::now();
        let Err(error) = follow(fleet, machine, sender).await;
        let hint = error.hints.first().map(String::as_str);
        if sender.send(machine.told(State::Away { message: &error.message, hint })).await.is_err() {
            return;
        }
        pause = if began.elapsed() > PAUSE.1 { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
        tokio::time::sleep(pause).await;
    }
}

/// Tells of a machine until it does not answer.
async fn follow(
    fleet: &Fleet,
    machine: &Machine,
    sender: &mpsc::Sender<Value>,
) -> Result<std::convert::Infallible> {
    let target = fleet.target(machine).await?;
    let (out, mut events) = pipe(0);
    // A task of its own: it also goes on while something else is asked. It ends when nobody reads the events.
    let mut watch = tokio::spawn({
        let target = target.clone();
        async move { target.events(None, out).await }
    });
    let mut figures = tokio::time::interval(FIGURES);
    figures.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut specs = target.specs().await?;
    figures.tick().await;
    let mut containers = target.list().await?;
    loop {
        let here = State::Here { specs: &specs, containers: &containers };
        let _ = sender.send(machine.told(here)).await; // who reads no more is noticed elsewhere
        tokio::select! {
            ended = &mut watch => return Err(broken(ended.unwrap_or(Ok(())))),
            _ = figures.tick() => specs = target.specs().await?,
            () = something(&mut events) => containers = settled(target, &mut events).await?,
        }
    }
}

fn broken(ended: Result) -> CliError {
    ended.err().unwrap_or_else(|| CliError::failed("the host ended the watch of its events"))
}

/// Waits for an event.
async fn something(events: &mut Items) {
    if events.next().await.is_none() {
        std::future::pending().await // the watch itself says why
    }
}

/// Lists the containers once nothing happens any more, for a moment.
async fn settled(target: &Target, events: &mut Items) -> Result<ContainerList> {
    let until = Instant::now() + 10 * TOGETHER;
    while Instant::now() < until && tokio::time::timeout(TOGETHER, something(events)).await.is_ok() {}
    target.list().await
}
