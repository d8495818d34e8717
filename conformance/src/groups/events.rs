//! What happens to containers, told as it happens and afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use gx_core::runtime::{Event, EventAction, RemoveOptions};
use gx_core::stream::{DEFAULT_WINDOW_BYTES, Items, Kind, pipe};
use gx_core::{ContainerId, ContainerState, Timestamp};
use tokio::task::JoinHandle;

use crate::trial::{Called, Case, Failure, SOON, Trial, Verdict, case, check, same, soon};
use crate::workload::sh;

pub(super) const CASES: &[Case] = &[
    case!(
        "events/order",
        "create comes before start, exit and remove, with labels and exit code",
        [Events],
        order
    ),
    case!("events/seen", "what is told of has happened: the list shows it", [Events], seen),
    case!("events/since", "what happened since then is told afterwards", [Events], since),
    case!("events/from now on", "without since only what happens from now on", [Events], from_now),
    case!(
        "events/reader gone",
        "when the reader is gone the method returns soon, with Ok",
        [Events],
        reader_gone
    ),
];

fn watching(t: &Arc<Trial>, since: Option<Timestamp>) -> (Items, JoinHandle<Verdict>) {
    let (out, items) = pipe(DEFAULT_WINDOW_BYTES);
    let t = t.clone();
    (items, tokio::spawn(async move { t.runtime.events(since, out).await.of("events") }))
}

/// Returns the events of one container up to its removal.
async fn until_removed(items: &mut Items, id: &ContainerId) -> Verdict<Vec<Event>> {
    let mut events = Vec::new();
    while events.last().is_none_or(|event: &Event| event.action != EventAction::Remove) {
        let what = format!("the event after {:?}", actions(&events));
        let Some(item) = soon(&what, SOON, items.next()).await? else {
            return Err(Failure::new(format!("the events end after {:?}", actions(&events))));
        };
        check!(item.kind == Kind::Event, "an item is {:?}", item.kind);
        let event: Event = serde_json::from_slice(&item.bytes)
            .map_err(|error| Failure::new(format!("an item is no event: {error}")))?;
        if event.id == *id {
            events.push(event);
        }
    }
    Ok(events)
}

fn actions(events: &[Event]) -> Vec<EventAction> {
    events.iter().map(|event| event.action).filter(|action| *action != EventAction::Other).collect()
}

const WHOLE_LIFE: [EventAction; 4] =
    [EventAction::Create, EventAction::Start, EventAction::Exit, EventAction::Remove];

/// Lives a whole life, from create to remove.
async fn life(t: &Trial) -> Verdict<ContainerId> {
    let (id, _) = t.ended(t.spec(sh("exit 43"))).await?;
    t.runtime.remove(id.clone(), RemoveOptions { force: false }).await.of("remove")?;
    Ok(id)
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

async fn order(t: Arc<Trial>) -> Verdict {
    let began = now();
    let (mut items, call) = watching(&t, Some(began));
    let id = life(&t).await?;
    let events = until_removed(&mut items, &id).await?;
    drop(items);
    soon("events", SOON, call).await?.expect("the task is not aborted")?;
    same("what happened", actions(&events), WHOLE_LIFE.to_vec())?;
    let exit = events.iter().find(|event| event.action == EventAction::Exit);
    same("the exit code", exit.and_then(|event| event.exit_code), Some(43))?;
    let label = |event: &Event| event.labels.get(crate::LABEL) == Some(&t.options.run_id);
    check!(events.iter().any(label), "no event has the container's labels");
    check!(events.is_sorted_by_key(|event| event.at), "the times go back: {events:?}");
    let slack = Duration::from_secs(2);
    let recent = events.iter().all(|event| event.at.0 > began.0 - slack && event.at.0 < now().0 + slack);
    check!(recent, "the times are not now: {events:?}");
    Ok(())
}

async fn seen(t: Arc<Trial>) -> Verdict {
    let (mut items, call) = watching(&t, Some(now()));
    let id = t.create(t.spec(sh("exit 0"))).await?;
    t.start(&id).await?;
    loop {
        let Some(item) = soon("the exit", SOON, items.next()).await? else {
            return Err(Failure::new("the events end before the exit"));
        };
        let event: Event = serde_json::from_slice(&item.bytes)
            .map_err(|error| Failure::new(format!("an item is no event: {error}")))?;
        if event.id == id && event.action == EventAction::Exit {
            break;
        }
    }
    let listed = t.listed(&[]).await?;
    let state = listed.iter().find(|container| container.id == id).map(|container| container.state);
    same("the state that the list shows after the exit was told", state, Some(ContainerState::Exited))?;
    drop(items);
    soon("events", SOON, call).await?.expect("the task is not aborted")
}

async fn since(t: Arc<Trial>) -> Verdict {
    // An engine remembers some hundred events, of everybody who uses it: what others do may drive a life out.
    for _ in 0..2 {
        if afterwards(&t).await.is_ok() {
            return Ok(());
        }
    }
    afterwards(&t).await
}

async fn afterwards(t: &Arc<Trial>) -> Verdict {
    let began = now();
    let id = life(t).await?;
    let (mut items, call) = watching(t, Some(began));
    let events = until_removed(&mut items, &id).await?;
    drop(items);
    soon("events", SOON, call).await?.expect("the task is not aborted")?;
    same("what happened", actions(&events), WHOLE_LIFE.to_vec())
}

async fn from_now(t: Arc<Trial>) -> Verdict {
    let before = life(&t).await?;
    // Engines count in seconds here: what happened a moment ago may still be now.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let (mut items, call) = watching(&t, None);
    let done = AtomicBool::new(false);
    let seen = async {
        loop {
            let item = soon("an event", 2 * SOON, items.next()).await?;
            let Some(item) = item else { return Err(Failure::new("the events end")) };
            let event: Event = serde_json::from_slice(&item.bytes)
                .map_err(|error| Failure::new(format!("an item is no event: {error}")))?;
            check!(event.id != before, "an earlier event is told: {event:?}");
            if event.labels.contains_key("gx.conformance.now") {
                return Ok(());
            }
        }
    };
    // Nobody says when the watching has begun, so things happen until one is seen.
    let happening = async {
        while !done.load(Ordering::Relaxed) {
            let mut spec = t.spec(sh("true"));
            spec.labels.insert("gx.conformance.now".into(), "yes".into());
            let id = t.create(spec).await?;
            t.remove(&id).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    };
    // Neither is dropped: what a dropped create has made may stay.
    let seen = async {
        let verdict = seen.await;
        done.store(true, Ordering::Relaxed);
        verdict
    };
    let (seen, happened): (Verdict, Verdict) = tokio::join!(seen, happening);
    let verdict = seen.and(happened);
    drop(items);
    soon("events", SOON, call).await?.expect("the task is not aborted")?;
    verdict
}

async fn reader_gone(t: Arc<Trial>) -> Verdict {
    let (items, call) = watching(&t, None);
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(items);
    soon("events without a reader", Duration::from_secs(5), call).await?.expect("the task is not aborted")
}
