//! What happens to containers is told to whom it concerns, as it happens.

use std::sync::Arc;

use gx_core::api::{ContainerEvent, CreateRequest};
use gx_core::runtime::{EventAction, RemoveOptions, StopOptions};
use gx_core::stream::{Items, Output, pipe};
use gx_core::{ErrorCode, NodeId, PluginName, RuntimeError, Timestamp};
use tokio::task::JoinHandle;

use super::{Host, member, named, until};
use crate::node::{Caller, Node};

/// Watches in the background.
fn watch(
    node: &Arc<Node>,
    caller: Caller,
    since: Option<Timestamp>,
) -> (Items, JoinHandle<crate::Result<()>>) {
    let (out, items) = pipe(0);
    let node = node.clone();
    (items, tokio::spawn(async move { node.events(&caller, since, out).await }))
}

async fn next(items: &mut Items) -> ContainerEvent {
    let item = tokio::time::timeout(super::PATIENCE, items.next()).await.expect("something is told");
    serde_json::from_slice(&item.expect("the watch goes on").bytes).expect("an event is JSON")
}

async fn told(items: &mut Items) -> (EventAction, String) {
    let event = next(items).await;
    (event.action, event.name)
}

async fn make(host: &Host, caller: &Caller, request: CreateRequest) {
    host.node.create(caller, request, None, Output::null()).await.unwrap();
}

async fn remove(host: &Host, name: &str) {
    host.node.remove(&Caller::Host, name, RemoveOptions { force: true }).await.unwrap();
}

#[tokio::test]
async fn a_life_is_told_from_its_beginning_to_its_end_and_the_watch_ends_with_its_reader() {
    let host = Host::new().await;
    // Nothing has been used yet: what is used first while somebody watches is watched too.
    let (mut items, watching) = watch(&host.node, Caller::Host, None);
    make(&host, &Caller::Host, named("web")).await;
    let made = next(&mut items).await;
    assert_eq!((made.action, made.name.as_str()), (EventAction::Create, "web"));
    assert_eq!((made.runtime.as_str(), made.owner), ("mock", Some(host.node.id())));
    assert_eq!(told(&mut items).await, (EventAction::Start, "web".to_owned()));
    let kill = StopOptions { signal: Some("SIGKILL".to_owned()), grace_ms: None };
    host.node.stop(&Caller::Host, "web", kill).await.unwrap();
    let ended = next(&mut items).await;
    assert_eq!((ended.action, ended.exit_code), (EventAction::Exit, Some(137)));
    remove(&host, "web").await;
    assert_eq!(told(&mut items).await, (EventAction::Remove, "web".to_owned()));
    drop(items);
    watching.await.unwrap().unwrap();
    until("the engine is let go of", async || host.probe().under_way("events") == 0).await;
}

#[tokio::test]
async fn members_are_told_of_their_own_and_strangers_of_nothing() {
    let host = Host::new().await;
    let (one, other) = (member(1), member(2));
    make(&host, &other, named("theirs")).await;
    make(&host, &one, named("mine")).await;
    let (mut items, _watching) = watch(&host.node, one, Some(Timestamp::from_unix(0)));
    let (mut all, _too) = watch(&host.node, Caller::Host, Some(Timestamp::from_unix(0)));
    assert_eq!(told(&mut items).await, (EventAction::Create, "mine".to_owned()));
    assert_eq!(told(&mut items).await, (EventAction::Start, "mine".to_owned()));
    for name in ["theirs", "mine"] {
        assert_eq!(told(&mut all).await, (EventAction::Create, name.to_owned()));
        assert_eq!(told(&mut all).await, (EventAction::Start, name.to_owned()));
    }
    let stranger = Caller::Stranger(Some(NodeId::from_bytes([7; 32])));
    let refused = host.node.events(&stranger, None, Output::null()).await.unwrap_err();
    assert_eq!(refused.api().code, ErrorCode::PermissionDenied);
}

#[tokio::test]
async fn an_engine_that_breaks_off_is_asked_again_and_keeps_no_other_from_telling() {
    let host = Host::with(&["mock", "other"], |_| {}).await;
    let on = |runtime: &str, name: &str| CreateRequest {
        runtime: Some(runtime.parse::<PluginName>().unwrap()),
        ..named(name)
    };
    make(&host, &Caller::Host, on("other", "first")).await;
    host.probe().fail("events", RuntimeError::new(ErrorCode::Unavailable, "asleep"));
    let (mut items, _watching) = watch(&host.node, Caller::Host, None);
    make(&host, &Caller::Host, on("mock", "web")).await;
    make(&host, &Caller::Host, on("other", "db")).await;
    assert_eq!(told(&mut items).await, (EventAction::Create, "db".to_owned()));
    assert_eq!(told(&mut items).await, (EventAction::Start, "db".to_owned()));
    assert_eq!(
        told(&mut items).await,
        (EventAction::Create, "web".to_owned()),
        "told when it is asked again"
    );
    assert_eq!(host.probe().calls("events"), 2);
}
