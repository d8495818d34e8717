//! Containers that are idle are stopped, and those that are not go on.

use std::sync::Arc;

use gx_core::api::{ContainerInfo, CreateRequest};
use gx_core::container::label;
use gx_core::guest::{self, Status};
use gx_core::image::ImageProcess;
use gx_core::runtime::ExecSpec;
use gx_core::stream::{Input, Output};
use gx_core::{ContainerState, ErrorCode, RuntimeError};
use tokio::task::JoinHandle;

use super::{Host, argv, named, until};
use crate::node::{Caller, Node, architecture};

fn brief(name: &str) -> CreateRequest {
    CreateRequest { idle_s: Some(1), ..named(name) }
}

fn keep(node: &Arc<Node>) -> JoinHandle<()> {
    let node = node.clone();
    tokio::spawn(async move { node.keep_idle().await })
}

/// Returns a host whose containers have a guest, which says this.
async fn with_guests(status: Status, work_ms: u64) -> Host {
    let host = Host::new().await;
    host.probe().tell(ImageProcess::default(), &[], &format!("linux/{}", architecture()));
    host.probe().going_on(status, work_ms);
    host
}

async fn state(host: &Host, name: &str) -> ContainerState {
    host.node.show(&Caller::Host, name).await.unwrap().state
}

async fn until_stopped(host: &Host, name: &str) {
    until(&format!("{name} is stopped"), async || state(host, name).await == ContainerState::Exited).await;
}

/// How often guests were asked what goes on.
fn asked(host: &Host) -> usize {
    let asks = |spec: &ExecSpec| spec.argv == argv(&[guest::PROGRAM, guest::word::STATUS]);
    host.probe().execs().iter().filter(|(spec, _)| asks(spec)).count()
}

#[tokio::test]
async fn one_without_a_guest_is_stopped_and_not_removed_when_it_does_nothing() {
    let host = Host::new().await;
    let keeping = keep(&host.node);
    let made: ContainerInfo = host.create(brief("brief")).await.unwrap();
    let long = host.create(CreateRequest { idle_s: Some(1_800), ..named("long") }).await.unwrap();
    assert_eq!((made.idle_s, long.idle_s), (Some(1), Some(1_800)));
    host.create(named("ever")).await.unwrap();
    until_stopped(&host, "brief").await;
    for name in ["long", "ever"] {
        assert_eq!(state(&host, name).await, ContainerState::Running);
    }
    assert_eq!(host.node.list(&Caller::Host).await.unwrap().containers.len(), 3);

    host.node.start(&Caller::Host, "brief").await.unwrap();
    until("it is stopped again", async || host.probe().calls("stop") == 2).await;
    keeping.abort();
}

#[tokio::test]
async fn nothing_is_asked_where_no_container_has_a_limit() {
    let host = with_guests(Status::default(), 0).await;
    let keeping = keep(&host.node);
    host.create(named("ever")).await.unwrap();
    // When this one is stopped, that one would have been asked too.
    host.create(brief("brief")).await.unwrap();
    until_stopped(&host, "brief").await;
    assert_eq!(asked(&host), 2, "of the one with a limit: at the beginning and at the end");
    assert_eq!(host.probe().calls("stats"), 0);
    keeping.abort();
}

#[tokio::test]
async fn a_session_keeps_it_until_it_ends() {
    let host = with_guests(Status { sessions: 1, ..Status::default() }, 0).await;
    let keeping = keep(&host.node);
    host.create(brief("web")).await.unwrap();
    until("it was asked for twice its limit", async || asked(&host) >= 3).await;
    assert_eq!(state(&host, "web").await, ContainerState::Running);
    host.probe().going_on(Status::default(), 0);
    until_stopped(&host, "web").await;
    keeping.abort();
}

#[tokio::test]
async fn work_keeps_it() {
    let host = with_guests(Status::default(), 10_000).await;
    let keeping = keep(&host.node);
    host.create(brief("web")).await.unwrap();
    until("it was asked for twice its limit", async || asked(&host) >= 3).await;
    assert_eq!(state(&host, "web").await, ContainerState::Running);
    host.probe().going_on(Status { cpu_ms: 1_000_000, ..Status::default() }, 0);
    until_stopped(&host, "web").await;
    keeping.abort();
}

#[tokio::test]
async fn a_command_through_the_host_keeps_it_while_it_runs() {
    let host = Host::new().await;
    let keeping = keep(&host.node);
    host.create(brief("web")).await.unwrap();
    host.probe().close("exec");
    let command = tokio::spawn({
        let node = host.node.clone();
        let spec = ExecSpec { argv: argv(&["true"]), ..ExecSpec::default() };
        async move { node.exec(&Caller::Host, "web", spec, Input::empty(), Output::null()).await }
    });
    until("it runs", async || host.probe().under_way("exec") == 1).await;
    let before = host.probe().calls("stats");
    until("it was looked at for twice its limit", async || host.probe().calls("stats") >= before + 3).await;
    assert_eq!(state(&host, "web").await, ContainerState::Running);
    command.abort(); // who goes away is out of it as well
    until_stopped(&host, "web").await;
    keeping.abort();
}

#[tokio::test]
async fn what_cannot_be_found_out_stops_nothing() {
    let host = Host::new().await;
    for _ in 0..3 {
        host.probe().fail("stats", RuntimeError::new(ErrorCode::Unavailable, "asleep"));
    }
    let keeping = keep(&host.node);
    host.create(brief("web")).await.unwrap();
    until("it could not be told for twice its limit", async || host.probe().calls("stats") >= 3).await;
    assert_eq!(state(&host, "web").await, ContainerState::Running);
    until_stopped(&host, "web").await;
    assert!(host.probe().calls("stats") >= 5, "it counts from the first answer");
    keeping.abort();
}

#[tokio::test]
async fn a_stop_that_fails_is_tried_again() {
    let host = Host::new().await;
    host.probe().fail("stop", RuntimeError::new(ErrorCode::Unavailable, "asleep"));
    let keeping = keep(&host.node);
    host.create(brief("web")).await.unwrap();
    until_stopped(&host, "web").await;
    assert_eq!(host.probe().calls("stop"), 2);
    keeping.abort();
}

#[tokio::test]
async fn a_server_that_starts_learns_of_it() {
    let host = Host::new().await;
    host.create(brief("old")).await.unwrap();
    let host = host.restart().await;
    let watching = tokio::spawn({
        let node = host.node.clone();
        let name = "mock".parse().unwrap();
        async move { tokio::join!(node.keep_idle(), node.watch(&name)) }
    });
    until_stopped(&host, "old").await;
    watching.abort();
}

#[tokio::test]
async fn the_engine_has_the_limit_as_a_label() {
    let host = Host::new().await;
    host.create(CreateRequest { idle_s: Some(90), ..named("web") }).await.unwrap();
    assert_eq!(host.probe().specs()[0].labels[label::IDLE], "90");
}
