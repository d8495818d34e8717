//! Making containers: once for a key, within the limits, and nothing left of what failed.

use gx_core::api::{CreateRequest, PullBody, PullPolicy};
use gx_core::container::label;
use gx_core::runtime::PullRequest;
use gx_core::stream::Output;
use gx_core::units::Size;
use gx_core::{ContainerState, ErrorCode, Gpus, IdempotencyKey, PortRequest, RuntimeError};

use super::{Host, named, sleeper, until};
use crate::error::ServerError;
use crate::node::Caller;

fn port(text: &str) -> PortRequest {
    text.parse().unwrap()
}

fn key(text: &str) -> Option<IdempotencyKey> {
    Some(text.parse().unwrap())
}

#[tokio::test]
async fn a_container_is_made_started_and_labelled() {
    let host = Host::new().await;
    let labels = [("team".to_owned(), "blue".to_owned())].into();
    let request = CreateRequest { extra_ports: 1, ttl_s: Some(600), labels, ..named("web") };
    let made = host.create(request).await.unwrap();
    assert_eq!(made.labels, [("team".to_owned(), "blue".to_owned())].into());
    assert_eq!((made.name.as_str(), made.state), ("web", ContainerState::Running));
    assert_eq!(made.owner, Some(host.node.id()));
    assert!(made.expires_at.unwrap() > made.created_at.unwrap());
    assert_eq!(made.ports.len(), 1);
    assert_eq!(made.ports[0].host_port, made.ports[0].container_port);
    let spec = &host.probe().specs()[0];
    assert_eq!(spec.name.as_str(), "gx-web");
    assert!(spec.security.no_new_privileges);
    let capabilities = spec.security.capabilities.as_ref().unwrap();
    assert!(!capabilities.iter().any(|name| name.starts_with("SYS_ADMIN") || name == "NET_RAW"));
    assert_eq!(spec.resources.pids, Some(4_096));
    assert_eq!(spec.labels[label::HOST], host.node.id().to_string());
}

#[tokio::test]
async fn one_key_is_one_container() {
    let host = Host::new().await;
    let create = |request| host.node.create(&Caller::Host, request, key("k1"), Output::null());
    let first = create(sleeper()).await.unwrap();
    let again = create(sleeper()).await.unwrap();
    assert_eq!(first.id, again.id);
    let other = create(CreateRequest { tty: true, ..sleeper() }).await;
    assert!(matches!(other, Err(ServerError::KeyReused)), "{other:?}");
    let parallel = (0..20).map(|_| host.node.create(&Caller::Host, sleeper(), key("k2"), Output::null()));
    let made = futures_util::future::join_all(parallel).await;
    let ids: std::collections::BTreeSet<_> = made.into_iter().map(|made| made.unwrap().id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(host.count().await, 2);
}

#[tokio::test]
async fn a_repeated_key_finishes_what_a_crash_left() {
    let host = Host::new().await;
    let create = || host.node.create(&Caller::Host, sleeper(), key("k"), Output::null());
    let first = create().await.unwrap();
    host.node
        .remove(&Caller::Host, &first.name, gx_core::runtime::RemoveOptions { force: true })
        .await
        .unwrap();
    host.probe().plant(host.probe().specs()[0].clone()).await; // made and never started
    let again = create().await.unwrap();
    assert_eq!((again.name, again.state), (first.name, ContainerState::Running));
}

#[tokio::test]
async fn a_name_is_taken_in_every_runtime() {
    let host = Host::with(&["a", "b"], |_| {}).await;
    host.create(CreateRequest { runtime: Some("b".parse().unwrap()), ..named("web") }).await.unwrap();
    let error = host.create(named("web")).await.unwrap_err();
    assert_eq!(error.to_string(), "the name web is taken in b");
    assert_eq!(error.code(), ErrorCode::AlreadyExists);
}

#[tokio::test]
async fn the_first_healthy_runtime_is_the_default() {
    let host = Host::with(&["a", "b"], |_| {}).await;
    host.probes["a"].down();
    assert_eq!(host.create(sleeper()).await.unwrap().runtime.as_str(), "b");
    host.probes["b"].down();
    let error = host.create(sleeper()).await.unwrap_err();
    assert!(error.to_string().contains("a: the mock engine is down"), "{error}");
    assert!(error.hint().unwrap().starts_with("start it with"), "{error:?}");
    host.probes["a"].up();
    assert_eq!(host.create(sleeper()).await.unwrap().runtime.as_str(), "a");
}

#[tokio::test]
async fn an_unknown_runtime_is_refused_with_a_suggestion() {
    let host = Host::new().await;
    let error =
        host.create(CreateRequest { runtime: Some("mok".parse().unwrap()), ..sleeper() }).await.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.hint().as_deref()),
        ("no runtime mok", Some("did you mean `mock`?"))
    );
}

#[tokio::test]
async fn an_image_is_fetched_when_it_is_missing_and_explained_when_it_cannot_be() {
    let host = Host::new().await;
    let of = |image: &str, pull| CreateRequest { image: image.parse().unwrap(), pull, ..sleeper() };
    host.create(of("quay.example/team/app", PullPolicy::Missing)).await.unwrap();
    let error = host.create(of("quay.example/team/missing", PullPolicy::Missing)).await.unwrap_err();
    assert!(error.to_string().contains("fetching it from quay.example failed"), "{error}");
    let error = host.create(of("gx-busibox", PullPolicy::Never)).await.unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("did you mean `gx-busybox:latest`?"));
    assert_eq!(host.count().await, 1);
}

#[tokio::test]
async fn what_fails_to_start_is_removed() {
    let host = Host::new().await;
    host.probe()
        .fail("start", RuntimeError::new(ErrorCode::InvalidArgument, "no such command").field("command"));
    let error = host.create(sleeper()).await.unwrap_err();
    assert_eq!(error.to_string(), "mock: no such command");
    assert!(host.probe().all().await.is_empty());
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_removed() {
    let host = Host::new().await;
    for method in ["create", "start"] {
        host.probe().close(method);
        let node = host.node.clone();
        let create =
            tokio::spawn(async move { node.create(&Caller::Host, sleeper(), None, Output::null()).await });
        until("the call is held up", async || host.probe().under_way(method) == 1).await;
        create.abort();
        assert!(create.await.unwrap_err().is_cancelled());
        host.probe().open(method);
        until("nothing is left", async || {
            host.probe().under_way(method) == 0
                && host.probe().calls("remove") > 0
                && host.probe().all().await.is_empty()
        })
        .await;
    }
    host.node.shutdown().await;
    assert!(host.probe().all().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_at_once_stay_within_the_limit() {
    let host = Host::with(&["a", "b"], |config| config.server.limits.containers = 10).await;
    let creates = (0..100).map(|number| {
        let node = host.node.clone();
        let runtime = Some(if number % 2 == 0 { "a" } else { "b" }.parse().unwrap());
        let request = CreateRequest { runtime, extra_ports: 1, ..sleeper() };
        tokio::spawn(async move { node.create(&Caller::Host, request, None, Output::null()).await })
    });
    let made = futures_util::future::join_all(creates).await;
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().map(Result::unwrap).partition(Result::is_ok);
    assert_eq!((made.len(), host.count().await), (10, 10));
    let ports: std::collections::BTreeSet<_> =
        made.iter().map(|made| made.as_ref().unwrap().ports[0].host_port).collect();
    assert_eq!(ports.len(), 10);
    for refused in refused {
        let error = refused.unwrap_err();
        assert_eq!(error.to_string(), "this host has 10 of at most 10 containers");
    }
}

#[tokio::test]
async fn ports_that_turn_out_to_be_taken_are_chosen_again() {
    let host = Host::new().await;
    let taken = || RuntimeError::new(ErrorCode::AlreadyExists, "port is taken").field("ports");
    host.probe().fail("start", taken());
    let made = host.create(CreateRequest { extra_ports: 2, ..sleeper() }).await.unwrap();
    let specs = host.probe().specs();
    let chosen = |at: usize| specs[at].ports.iter().filter_map(|port| port.host_port).collect::<Vec<_>>();
    assert!(chosen(0).iter().all(|port| !chosen(1).contains(port)), "{specs:?}");
    assert_eq!((made.ports.len(), host.probe().all().await.len()), (2, 1));
    // A port that was asked for by its number is not chosen again.
    host.probe().fail("start", taken());
    let port = format!("{}:80", made.ports[0].host_port).parse().unwrap();
    let error = host.create(CreateRequest { ports: vec![port], ..sleeper() }).await.unwrap_err();
    assert_eq!((error.code(), error.field().as_deref()), (ErrorCode::AlreadyExists, Some("ports")));
    assert_eq!(error.hint().as_deref(), Some("leave the host's port out, and the host chooses"));
}

#[tokio::test]
async fn limits_are_refused_before_anything_is_made() {
    let host = Host::with(&["mock"], |config| config.server.limits.memory = Some(Size(1 << 20))).await;
    let error = host.create(CreateRequest { memory_bytes: Some(2 << 20), ..sleeper() }).await.unwrap_err();
    assert_eq!(error.to_string(), "memory of 2 MiB is 1 MiB over the limit of this host, 1 MiB");
    let error = host.create(CreateRequest { gpus: Gpus::All, ..sleeper() }).await.unwrap_err();
    assert_eq!(error.to_string(), "all GPUs are asked for, and this host has none");
    let everywhere = Some("0.0.0.0".parse().unwrap());
    let ports = vec![PortRequest { host_address: everywhere, ..port("80") }];
    let error = host.create(CreateRequest { ports, ..sleeper() }).await.unwrap_err();
    assert_eq!(error.to_string(), "ports are published on 127.0.0.1 on this host, not on 0.0.0.0");
    assert_eq!(host.probe().calls("create"), 0);
}

#[tokio::test]
async fn the_machines_own_user_may_have_any_port_by_its_number() {
    let host = Host::new().await;
    let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let range = "20000-20001".to_owned().try_into().unwrap();
    let narrow = Host::with(&["mock"], |config| config.server.limits.ports = range).await;
    for host in [host, narrow] {
        let ports = vec![port(&format!("{own}:80"))];
        let made = host.create(CreateRequest { ports, ..sleeper() }).await.unwrap();
        assert_eq!(made.ports[0].host_port, own);
        let options = gx_core::runtime::RemoveOptions { force: true };
        host.node.remove(&Caller::Host, &made.name, options).await.unwrap();
    }
}

#[tokio::test]
async fn when_all_ports_are_taken_it_is_said_and_nothing_is_made() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let one = listener.local_addr().unwrap().port();
    let range = format!("{one}-{one}").try_into().unwrap();
    let host = Host::with(&["mock"], |config| config.server.limits.ports = range).await;
    let error = host.create(CreateRequest { extra_ports: 1, ..sleeper() }).await.unwrap_err();
    let said = format!("1 ports are wanted and fewer are free between {one} and {one}");
    assert_eq!((error.to_string(), error.code()), (said, ErrorCode::ResourceExhausted));
    let error = host.create(CreateRequest { ports: vec![port("80")], ..sleeper() }).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ResourceExhausted);
    // Nobody has the port of the same number by UDP.
    host.create(CreateRequest { ports: vec![port("53/udp")], dry_run: true, ..sleeper() }).await.unwrap();
    assert_eq!(host.probe().calls("create"), 0);
}

#[tokio::test]
async fn a_rehearsal_makes_nothing() {
    let host = Host::new().await;
    let made = host.create(CreateRequest { dry_run: true, extra_ports: 2, ..named("web") }).await.unwrap();
    assert_eq!((made.name.as_str(), made.ports.len(), made.id.as_str()), ("web", 2, "dry-run"));
    assert_eq!(host.probe().calls("create"), 0);
}

#[tokio::test]
async fn one_image_is_pulled_once_at_a_time() {
    let host = Host::new().await;
    host.probe().close("pull");
    let body = || PullBody {
        runtime: None,
        pull: PullRequest { image: "app".parse().unwrap(), platform: None, auth: None },
    };
    let pulls: Vec<_> = (0..5)
        .map(|_| {
            let node = host.node.clone();
            tokio::spawn(async move { node.pull(&Caller::Host, body(), Output::null()).await })
        })
        .collect();
    until("all have come", async || host.node.waiting_pulls() == 5).await;
    pulls[0].abort();
    until("one has gone", async || host.node.waiting_pulls() == 4).await;
    host.probe().open("pull");
    for pull in pulls.into_iter().skip(1) {
        pull.await.unwrap().unwrap();
    }
    assert_eq!(host.probe().calls("pull"), 1);
    host.probe().close("pull");
    let node = host.node.clone();
    let alone = tokio::spawn(async move { node.pull(&Caller::Host, body(), Output::null()).await });
    until("the pull is held up", async || host.probe().under_way("pull") == 1).await;
    alone.abort();
    until("nobody wants it: the pull ends", async || host.probe().under_way("pull") == 0).await;
}
