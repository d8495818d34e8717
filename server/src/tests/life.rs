//! The end of leases, and what is found after a crash.

use std::time::Duration;

use gx_core::ErrorCode;
use gx_core::api::{CreateRequest, ExtendRequest};
use gx_core::{ContainerState, Runtime, RuntimeError};

use super::{Host, named, open, sleeper, until};
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
async fn a_lease_that_another_process_made_longer_does_not_end() {
    let host = Host::new().await;
    let leases = tokio::spawn({
        let node = host.node.clone();
        async move { node.keep_leases().await }
    });
    let short = host.create(CreateRequest { ttl_s: Some(2), ..named("longer") }).await.unwrap();
    let marker = host.create(CreateRequest { ttl_s: Some(3), ..named("marker") }).await.unwrap();
    // Another node on the same folder: what `gx extend` is beside `gx serve`.
    let other = open(host.data.path(), &host.config, &host.probes).await;
    let extended = other.extend(&Caller::Host, "longer", ExtendRequest { by_s: 600 }).await.unwrap();
    assert_eq!(extended.expires_at.unwrap().unix(), short.expires_at.unwrap().unix() + 600);
    until("the one with a later end is gone", async || {
        host.node.show(&Caller::Host, marker.id.as_str()).await.is_err()
    })
    .await;
    let left = host.node.show(&Caller::Host, "longer").await.unwrap();
    assert_eq!((left.state, left.expires_at), (ContainerState::Running, extended.expires_at));
    leases.abort();
}

#[tokio::test]
async fn an_extension_outlives_the_server_and_is_forgotten_with_its_container() {
    let host = Host::new().await;
    let made = host.create(CreateRequest { ttl_s: Some(100), ..named("long") }).await.unwrap();
    host.node.extend(&Caller::Host, "long", ExtendRequest { by_s: 50 }).await.unwrap();
    let gone = host.create(CreateRequest { ttl_s: Some(100), ..named("gone") }).await.unwrap();
    host.node.extend(&Caller::Host, "gone", ExtendRequest { by_s: 50 }).await.unwrap();
    let force = gx_core::runtime::RemoveOptions { force: true };
    host.probe().remove(gone.id.clone(), force).await.unwrap(); // past gx, as by the engine's own program
    let host = host.restart().await;
    let end = host.node.extend(&Caller::Host, "long", ExtendRequest { by_s: 50 }).await.unwrap().expires_at;
    assert_eq!(end.unwrap().unix(), made.expires_at.unwrap().unix() + 100);
    assert_eq!(host.node.list(&Caller::Host).await.unwrap().containers[0].expires_at, end);
    let files = || std::fs::read_dir(host.data.path().join("data/leases/mock")).unwrap().count();
    assert_eq!(files(), 2);
    host.node.recover().await.unwrap();
    assert_eq!(files(), 1, "that of the container that is gone is swept");
    host.node.remove(&Caller::Host, "long", force).await.unwrap();
    assert_eq!(files(), 0);
}

#[tokio::test]
async fn a_lease_grows_only_within_what_is_lent_and_while_there_is_one() {
    let host = Host::with(&["mock"], |config| {
        config.server.limits.ttl = Some("2h".parse().unwrap());
    })
    .await;
    host.create(CreateRequest { ttl_s: Some(3_600), ..named("web") }).await.unwrap();
    let by = |by_s| ExtendRequest { by_s };
    let wrong = host.node.extend(&Caller::Host, "web", by(0)).await.unwrap_err();
    assert_eq!((wrong.code(), wrong.field().as_deref()), (ErrorCode::InvalidArgument, Some("by_s")));
    host.node.extend(&Caller::Host, "web", by(7_200)).await.expect("the host lends as long as it likes");
    let other = host.node.extend(&crate::tests::member(7), "web", by(1)).await.unwrap_err();
    assert_eq!(other.code(), ErrorCode::NotFound, "what is not the caller's does not exist for it");
}

#[tokio::test]
async fn a_runtime_that_is_no_longer_configured_can_be_forgotten() {
    let host = Host::new().await;
    host.create(named("web")).await.unwrap();
    let mark = host.data.path().join("data/used/gone");
    std::fs::write(&mark, "").unwrap();
    let list = host.node.list(&Caller::Host).await.unwrap();
    assert_eq!((list.containers.len(), list.unavailable[0].runtime.as_str()), (1, "gone"));
    let hint = list.unavailable[0].error.hint.clone().unwrap();
    assert!(hint.contains(&format!("`rm {}`", mark.display())), "{hint}");
    std::fs::remove_file(&mark).unwrap();
    assert!(host.node.list(&Caller::Host).await.unwrap().unavailable.is_empty());
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
        async move { node.specs(&Caller::Host).await }
    });
    host.probes["b"].open("health");
    let specs = asking.await.unwrap();
    let told: Vec<_> =
        specs.runtimes.iter().map(|runtime| (runtime.name.as_str(), runtime.default)).collect();
    assert_eq!(told, [("a", false), ("b", true)]);
    for _ in 0..100 {
        assert_eq!(host.node.specs(&Caller::Host).await.sampled_at, specs.sampled_at);
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
        tokio::time::timeout(Duration::from_secs(20), host.node.runtimes(&Caller::Host)).await.unwrap();
    assert!(status.unwrap()[0].default);
    watch.abort();
}
