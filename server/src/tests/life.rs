//! The end of leases, and what is found after a crash.

use std::time::Duration;

use gx_core::ErrorCode;
use gx_core::api::CreateRequest;
use gx_core::{ContainerState, RuntimeError};

use super::{Host, named, sleeper, until};
use crate::node::Caller;

#[tokio::test]
async fn a_lease_ends_while_a_server_runs() {
    let host = Host::new().await;
    let leases = tokio::spawn({
        let node = host.node.clone();
        async move { node.keep_leases().await }
    });
    host.create(CreateRequest { ttl_s: Some(1), ..named("brief") }).await.unwrap();
    host.create(CreateRequest { ttl_s: Some(1_000), ..named("long") }).await.unwrap();
    until("the brief one is gone", async || host.count().await == 1).await;
    assert_eq!(host.node.list(&Caller::Host).await.unwrap().containers[0].name, "long");
    leases.abort();
}

#[tokio::test]
async fn a_lease_that_ended_while_no_server_ran_ends_at_the_next_start() {
    let host = Host::new().await;
    host.create(CreateRequest { ttl_s: Some(1), ..sleeper() }).await.unwrap();
    let host = host.restart().await;
    let watch = tokio::spawn({
        let node = host.node.clone();
        let name = "mock".parse().unwrap();
        async move { tokio::join!(node.keep_leases(), node.watch(&name)) }
    });
    until("it is gone", async || host.probe().all().await.is_empty()).await;
    watch.abort();
}

#[tokio::test]
async fn what_a_crash_left_half_made_is_removed_and_all_else_is_found() {
    let host = Host::new().await;
    let kept = host.create(named("kept")).await.unwrap();
    let half = host.create(named("half")).await.unwrap();
    let spec = host.probe().specs().pop().unwrap();
    let force = gx_core::runtime::RemoveOptions { force: true };
    host.node.remove(&Caller::Host, half.id.as_str(), force).await.unwrap();
    host.probe().plant(spec).await;
    let host = host.restart().await;
    let report = host.node.recover().await.unwrap();
    assert_eq!((report.removed.len(), report.kept), (1, 1));
    assert_eq!(report.removed[0].name, "half");
    let found = host.node.show(&Caller::Host, "kept").await.unwrap();
    assert_eq!((found.id, found.state), (kept.id, ContainerState::Running));
}

#[tokio::test]
async fn whoever_clears_up_waits_for_what_is_being_made() {
    let host = Host::new().await;
    host.probe().close("start");
    let creating = tokio::spawn({
        let node = host.node.clone();
        async move { node.create(&Caller::Host, named("web"), None, gx_core::stream::Output::null()).await }
    });
    until("the start is held up", async || host.probe().under_way("start") == 1).await;
    let clearing = tokio::spawn({
        let node = host.node.clone();
        async move { node.recover().await }
    });
    host.probe().open("start");
    creating.await.unwrap().unwrap();
    assert!(clearing.await.unwrap().unwrap().removed.is_empty());
}

#[tokio::test]
async fn runtimes_are_listed_with_their_health() {
    let host = Host::with(&["a", "b"], |_| {}).await;
    host.probes["a"].down();
    let runtimes = host.node.runtimes(&Caller::Host).await.unwrap();
    let told: Vec<_> = runtimes.iter().map(|runtime| (runtime.name.as_str(), runtime.default)).collect();
    assert_eq!(told, [("a", false), ("b", true)]);
    assert!(runtimes[0].health.why.contains("down") && runtimes[0].info.is_none());
    assert_eq!(runtimes[1].info.as_ref().unwrap().backend, "mock");
}

#[tokio::test]
async fn specs_cost_a_server_nothing() {
    let host = Host::with(&["a", "b"], |_| {}).await;
    host.probes["a"].down();
    host.probes["b"].close("health");
    let tasks: Vec<_> = ["a", "b"]
        .map(|name| {
            let node = host.node.clone();
            tokio::spawn(async move { node.watch(&name.parse().unwrap()).await })
        })
        .into();
    until("both are asked", async || host.probes.values().all(|probe| probe.calls("health") == 1)).await;
    let asking = tokio::spawn({
        let node = host.node.clone();
        async move { node.specs().await }
    });
    host.probes["b"].open("health");
    let specs = asking.await.unwrap();
    let told: Vec<_> =
        specs.runtimes.iter().map(|runtime| (runtime.name.as_str(), runtime.default)).collect();
    assert_eq!(told, [("a", false), ("b", true)]);
    for _ in 0..100 {
        assert_eq!(host.node.specs().await.sampled_at, specs.sampled_at);
    }
    assert!(host.probes.values().all(|probe| probe.calls("health") == 1), "neither is asked for the specs");
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn an_engine_that_comes_back_is_noticed_while_it_is_watched() {
    let host = Host::new().await;
    host.create(sleeper()).await.unwrap();
    host.probe().fail("health", RuntimeError::new(ErrorCode::Unavailable, "asleep"));
    let watch = tokio::spawn({
        let node = host.node.clone();
        async move { node.watch(&"mock".parse().unwrap()).await }
    });
    until("it was asked", async || host.probe().calls("health") >= 2).await;
    // What is remembered is not well, so it is asked again at once, without waiting for the watch.
    let status =
        tokio::time::timeout(Duration::from_secs(2), host.node.runtimes(&Caller::Host)).await.unwrap();
    assert!(status.unwrap()[0].default);
    watch.abort();
}
