//! Create, start, wait, stop, signal, remove, inspect and list.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use gx_core::container::label;
use gx_core::runtime::{ListFilter, RemoveOptions, StopOptions, list_all};
use gx_core::{
    ContainerId, ContainerSpec, ContainerState, ErrorCode, PortRequest, Resources, Runtime, Security,
};
use tokio::io::AsyncReadExt;

use crate::support::*;

fn keyed(key: &str, spec_digest: &str) -> ContainerSpec {
    let mut spec = spec(&["sleep", "100"]);
    spec.labels.insert(label::KEY.to_owned(), key.to_owned());
    spec.labels.insert(label::SPEC.to_owned(), spec_digest.to_owned());
    spec
}

fn missing() -> ContainerId {
    "gxt-docker-missing".parse().unwrap()
}

#[tokio::test]
async fn a_container_lives_and_dies() {
    let Some(runtime) = runtime().await else { return };
    let mut spec = spec(&["sleep", "100"]);
    spec.labels.insert("gx.name".to_owned(), "web".to_owned());
    let name = spec.name.to_string();
    let made = Made::create(&runtime, spec).await;

    let container = runtime.inspect(made.id()).await.unwrap();
    assert_eq!(
        (container.state, container.name, container.image.as_str()),
        (ContainerState::Created, name, IMAGE)
    );
    assert_eq!((container.started_at, container.exit.is_none()), (None, true));
    assert_eq!(container.labels["gx.name"], "web");

    runtime.start(made.id()).await.unwrap();
    runtime.start(made.id()).await.unwrap();
    let container = runtime.inspect(made.id()).await.unwrap();
    assert_eq!(container.state, ContainerState::Running);
    assert!(container.started_at.unwrap() >= container.created_at.unwrap());

    let kept = runtime.remove(made.id(), RemoveOptions { force: false }).await;
    assert_error(kept, ErrorCode::FailedPrecondition, None);
    runtime.stop(made.id(), StopOptions::default()).await.unwrap();
    runtime.stop(made.id(), StopOptions::default()).await.unwrap();
    let exit = runtime.inspect(made.id()).await.unwrap().exit.unwrap();
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    assert!(exit.finished_at.is_some());

    runtime.remove(made.id(), RemoveOptions { force: false }).await.unwrap();
    runtime.remove(made.id(), RemoveOptions { force: true }).await.unwrap();
    assert_error(runtime.inspect(made.id()).await, ErrorCode::NotFound, None);
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let Some(runtime) = runtime().await else { return };
    let no_image = ContainerSpec { image: "gxt-docker-none:1".parse().unwrap(), ..spec(&[]) };
    assert_error(runtime.create(no_image).await, ErrorCode::NotFound, Some("image"));
    assert_error(runtime.start(missing()).await, ErrorCode::NotFound, None);
    assert_error(runtime.wait(missing()).await, ErrorCode::NotFound, None);
    assert_error(runtime.signal(missing(), "HUP".to_owned()).await, ErrorCode::NotFound, None);
    let error = assert_error(runtime.inspect(missing()).await, ErrorCode::NotFound, None);
    assert_eq!(error.message, "no container gxt-docker-missing");
    for options in [StopOptions::default(), StopOptions { signal: Some("INT".to_owned()), grace_ms: Some(1) }]
    {
        runtime.stop(missing(), options).await.unwrap();
    }
    runtime.remove(missing(), RemoveOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_name_is_had_once() {
    let Some(runtime) = runtime().await else { return };
    let first = spec(&["sleep", "100"]);
    let _made = Made::create(&runtime, first.clone()).await;
    let error = assert_error(runtime.create(first.clone()).await, ErrorCode::AlreadyExists, Some("name"));
    assert!(error.message.contains(first.name.as_str()), "{error}");
    let other_key = ContainerSpec { name: first.name, ..keyed(name().as_str(), "1") };
    assert_error(runtime.create(other_key).await, ErrorCode::AlreadyExists, Some("name"));
}

#[tokio::test]
async fn a_key_makes_one_container() {
    let Some(runtime) = runtime().await else { return };
    let first = keyed(name().as_str(), "1");
    let made = Made::create(&runtime, first.clone()).await;
    assert_eq!(runtime.create(first.clone()).await.unwrap(), made.id);
    assert_eq!(runtime.create(ContainerSpec { name: name(), ..first.clone() }).await.unwrap(), made.id);
    for taken in [first.name.clone(), name()] {
        let other = ContainerSpec { name: taken, ..keyed(first.key().unwrap(), "2") };
        assert_error(runtime.create(other).await, ErrorCode::AlreadyExists, Some("key"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_creates_with_one_key_make_one_container() {
    let Some(runtime) = runtime().await else { return };
    let spec = keyed(name().as_str(), "1");
    let mut racers = tokio::task::JoinSet::new();
    for number in 0..8 {
        let (runtime, spec) = (runtime.clone(), spec.clone());
        racers.spawn(async move {
            // Half of them as other processes would.
            if number % 2 == 0 { runtime.create(spec).await } else { fresh().create(spec).await }
        });
    }
    let ids: BTreeSet<_> = racers.join_all().await.into_iter().map(|id| id.unwrap()).collect();
    assert_eq!(ids.len(), 1);
    let _made = Made { runtime, id: ids.into_iter().next().unwrap() };
}

#[tokio::test]
async fn a_dropped_create_leaves_no_container() {
    let Some(runtime) = runtime().await else { return };
    let key = name().to_string();
    let mut ids = Vec::new();
    let (out, mut items) = gx_core::stream::pipe(0);
    let since = std::time::SystemTime::now();
    let watcher = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.events(Some(since.into()), out).await }
    });
    for ms in 0..6 {
        let mut spec = spec(&["sleep", "100"]);
        spec.labels.insert("gxt.dropped".to_owned(), key.clone());
        let create = runtime.create(spec);
        if let Ok(made) = tokio::time::timeout(Duration::from_millis(ms * 3), create).await {
            ids.push(made.unwrap());
        }
    }
    for id in &ids {
        runtime.remove(id.clone(), RemoveOptions { force: true }).await.unwrap();
    }
    let (mut made, mut removed) = (0, 0);
    let balance = async {
        while (made, removed) != (6, 6) {
            let event: gx_core::runtime::Event =
                serde_json::from_slice(&items.next().await.unwrap().bytes).unwrap();
            if event.labels.get("gxt.dropped") == Some(&key) {
                made += u32::from(event.action == gx_core::runtime::EventAction::Create);
                removed += u32::from(event.action == gx_core::runtime::EventAction::Remove);
            }
        }
    };
    assert!(tokio::time::timeout(DEADLINE, balance).await.is_ok(), "{made} made, {removed} removed");
    drop(items);
    within(watcher).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_create_that_is_dropped_and_repeated_makes_one_that_stays() {
    let Some(runtime) = runtime().await else { return };
    for ms in [0, 2, 4, 8, 16] {
        let spec = keyed(name().as_str(), "1");
        let first = runtime.create(spec.clone());
        let _ = tokio::time::timeout(Duration::from_millis(ms), first).await;
        let made = Made::create(&runtime, spec).await;
        runtime.start(made.id()).await.unwrap();
    }
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let Some(runtime) = runtime().await else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ports: Vec<PortRequest> = vec![format!("{port}:80").parse().unwrap()];
    let made = Made::create(&runtime, ContainerSpec { ports, ..spec(&["sleep", "100"]) }).await;
    let error = assert_error(runtime.start(made.id()).await, ErrorCode::AlreadyExists, Some("ports"));
    assert_eq!(error.message, format!("port 127.0.0.1:{port} is taken"));
    assert!(error.hint.is_some() && error.backend.is_some());
    drop(listener);
    runtime.start(made.id()).await.unwrap();
}

#[tokio::test]
async fn a_published_port_is_reached() {
    let Some(runtime) = runtime().await else { return };
    let ports = vec!["80".parse().unwrap(), "53/udp".parse().unwrap()];
    let spec = ContainerSpec { ports, ..spec(&["nc", "-ll", "-p", "80", "-e", "echo", "hello"]) };
    let made = Made::run(&runtime, spec).await;
    let ports = runtime.inspect(made.id()).await.unwrap().ports;
    assert_eq!(ports.iter().map(|port| port.container_port).collect::<Vec<_>>(), [53, 80]);
    let listed = list_all(runtime.as_ref(), ListFilter::default()).await.unwrap();
    assert_eq!(listed.into_iter().find(|c| c.id == made.id).unwrap().ports, ports);
    let address = (ports[1].host_address, ports[1].host_port);
    until("the port answers", || async {
        let mut text = String::new();
        let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else { return false };
        stream.read_to_string(&mut text).await.is_ok() && text == "hello\n"
    })
    .await;
}

#[tokio::test]
async fn a_command_that_cannot_run_is_named() {
    let Some(runtime) = runtime().await else { return };
    for (command, why) in
        [("gxt-none", "not found"), ("/none/x", "no such file"), ("/etc", "permission denied")]
    {
        let made = Made::create(&runtime, spec(&[command])).await;
        let error = assert_error(runtime.start(made.id()).await, ErrorCode::InvalidArgument, Some("command"));
        assert!(error.message.contains(command) && error.message.contains(why), "{error}");
    }
    let nobody = ContainerSpec { user: Some("gxt-nobody".to_owned()), ..spec(&["true"]) };
    let made = Made::create(&runtime, nobody).await;
    assert_error(runtime.start(made.id()).await, ErrorCode::InvalidArgument, Some("user"));
    let nowhere = ContainerSpec { workdir: Some("etc".to_owned()), ..spec(&["true"]) };
    assert_error(runtime.create(nowhere).await, ErrorCode::InvalidArgument, Some("workdir"));
}

#[tokio::test]
async fn limits_out_of_reach_are_named() {
    let Some(runtime) = runtime().await else { return };
    let limited = |resources| ContainerSpec { resources, ..spec(&["true"]) };
    let memory = limited(Resources { memory_bytes: Some(1000), ..Resources::default() });
    assert_error(runtime.create(memory).await, ErrorCode::InvalidArgument, Some("resources.memory_bytes"));
    let cpus = limited(Resources { milli_cpus: Some(10_000_000), ..Resources::default() });
    assert_error(runtime.create(cpus).await, ErrorCode::InvalidArgument, Some("resources.milli_cpus"));
    let security = Security { capabilities: Some(vec!["GXT".to_owned()]), ..Security::default() };
    let capabilities = ContainerSpec { security, ..spec(&["true"]) };
    assert_error(
        runtime.create(capabilities).await,
        ErrorCode::InvalidArgument,
        Some("security.capabilities"),
    );
}

#[tokio::test]
async fn a_process_gets_what_was_asked_for() {
    let Some(runtime) = runtime().await else { return };
    let line = "id -u; pwd; echo $A; grep -E 'CapEff|NoNewPrivs' /proc/self/status; touch /x 2>/dev/null || echo ro; \
                cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; \
                cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true";
    let made = Made::run(
        &runtime,
        ContainerSpec {
            entrypoint: Some(vec!["sh".to_owned()]),
            command: vec!["-c".to_owned(), line.to_owned()],
            user: Some("7:7".to_owned()),
            workdir: Some("/tmp".to_owned()),
            env: [("A".to_owned(), "b c".to_owned())].into(),
            resources: Resources {
                milli_cpus: Some(500),
                memory_bytes: Some(64 << 20),
                pids: Some(20),
                ..Resources::default()
            },
            security: Security { capabilities: Some(vec![]), read_only_root: true, ..Security::default() },
            ..spec(&[])
        },
    )
    .await;
    assert_eq!(made.exit().await.code, 0);
    let (out, _) = made.logs(Default::default()).await;
    let lines: Vec<_> = out.lines().map(str::trim).collect();
    let expected =
        ["7", "/tmp", "b c", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "ro", "67108864", "20"];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn exits_are_told() {
    let Some(runtime) = runtime().await else { return };
    let (runtime, exits) =
        (&runtime, [("true", 0, None), ("exit 43", 43, None), ("kill -9 $$; sleep 9", 137, Some(9))]);
    for (line, code, signal) in exits {
        let spec = if code == 137 { shell("sh -c 'kill -9 $$'; exit $?") } else { shell(line) };
        let made = Made::run(runtime, spec).await;
        let exit = made.exit().await;
        assert_eq!((exit.code, exit.signal, exit.oom_killed), (code, signal, false), "{line}");
        assert!(exit.finished_at.is_some());
        assert_eq!(made.exit().await, exit, "a second wait");
    }
}

#[tokio::test]
async fn running_out_of_memory_is_told() {
    let Some(runtime) = runtime().await else { return };
    let resources = Resources { memory_bytes: Some(16 << 20), ..Resources::default() };
    let made = Made::run(&runtime, ContainerSpec { resources, ..spec(&["tail", "/dev/zero"]) }).await;
    let exit = made.exit().await;
    assert_eq!((exit.code, exit.oom_killed), (137, true));
}

#[tokio::test]
async fn wait_is_for_started_containers() {
    let Some(runtime) = runtime().await else { return };
    let made = Made::create(&runtime, spec(&["sleep", "100"])).await;
    assert_error(runtime.wait(made.id()).await, ErrorCode::FailedPrecondition, None);
    runtime.start(made.id()).await.unwrap();
    let waiting = tokio::spawn({
        let (runtime, id) = (runtime.clone(), made.id());
        async move { runtime.wait(id).await }
    });
    runtime.remove(made.id(), RemoveOptions { force: true }).await.unwrap();
    assert_error(within(waiting).await.unwrap(), ErrorCode::NotFound, None);
}

#[tokio::test]
async fn stop_asks_first_and_kills_after_the_grace() {
    let Some(runtime) = runtime().await else { return };
    let trap = |signal: &str, then: &str| {
        shell(&format!("trap '{then}' {signal}; echo up; while :; do sleep 0.05; done"))
    };
    let stop = |signal: Option<&str>, grace_ms| StopOptions { signal: signal.map(str::to_owned), grace_ms };
    let cases = [
        (trap("TERM", "exit 5"), stop(None, Some(20_000)), 5),
        (trap("INT", "exit 6"), stop(Some("int"), Some(20_000)), 6),
        (trap("INT", "exit 7"), stop(Some("SIGINT"), None), 7),
        (trap("TERM", ":"), stop(None, Some(250)), 137),
        (trap("TERM", ":"), stop(None, None), 137),
    ];
    let (runtime, mut last) = (&runtime, 0);
    for (mut spec, options, code) in cases {
        spec.stop_grace_s = Some(if code == 7 { 20 } else { 0 });
        let made = Made::run(runtime, spec).await;
        until("it is up", || async { made.logs(Default::default()).await.0 == "up\n" }).await;
        let begun = Instant::now();
        within(runtime.stop(made.id(), options)).await.unwrap();
        let container = runtime.inspect(made.id()).await.unwrap();
        assert_eq!((container.state, container.exit.unwrap().code), (ContainerState::Exited, code));
        assert!(begun.elapsed() < Duration::from_secs(15));
        last = code;
    }
    assert_eq!(last, 137);
    let bad = runtime.stop(missing(), stop(Some("GXT/"), None)).await;
    assert_error(bad, ErrorCode::InvalidArgument, Some("signal"));
}

#[tokio::test]
async fn signals_arrive() {
    let Some(runtime) = runtime().await else { return };
    let made =
        Made::create(&runtime, shell("trap 'exit 9' HUP; echo up; while :; do sleep 0.05; done")).await;
    let signal = |text: &str| runtime.signal(made.id(), text.to_owned());
    assert_error(signal("HUP").await, ErrorCode::FailedPrecondition, None);
    runtime.start(made.id()).await.unwrap();
    until("it is up", || async { made.logs(Default::default()).await.0 == "up\n" }).await;
    for bad in ["GXT", "0", "77", "99999", "SIGUNHEARDOF"] {
        assert_error(signal(bad).await, ErrorCode::InvalidArgument, Some("signal"));
    }
    signal("hup").await.unwrap();
    assert_eq!(made.exit().await.code, 9);
}

#[tokio::test]
async fn anonymous_volumes_go_with_the_container() {
    let Some(runtime) = runtime().await else { return };
    let tag = format!("{}:volume", name());
    let containerfile = format!("FROM {IMAGE}\nVOLUME /data\n");
    build(&runtime, &tag, archive(&[("Containerfile", containerfile.as_bytes())])).await.unwrap();
    let image: gx_core::ImageRef = tag.parse().unwrap();
    let made = Made::run(&runtime, ContainerSpec { image: image.clone(), ..spec(&["sleep", "100"]) }).await;
    let docker = bollard::Docker::connect_with_socket_defaults().unwrap();
    let mounts = docker.inspect_container(made.id.as_str(), None).await.unwrap().mounts.unwrap();
    let volume = mounts[0].name.clone().unwrap();
    assert!(docker.inspect_volume(&volume).await.is_ok());
    assert_error(runtime.remove_image(image.clone()).await, ErrorCode::FailedPrecondition, Some("image"));
    runtime.remove(made.id(), RemoveOptions { force: true }).await.unwrap();
    assert!(docker.inspect_volume(&volume).await.is_err());
    runtime.remove_image(image.clone()).await.unwrap();
    runtime.remove_image(image.clone()).await.unwrap();
    assert_eq!(runtime.image(image).await.unwrap(), None);
}

#[tokio::test]
async fn lists_are_filtered_by_label_and_state() {
    let Some(runtime) = runtime().await else { return };
    let key = name().to_string();
    let labelled = |value: &str| {
        let mut spec = spec(&["sleep", "100"]);
        spec.labels.insert(key.clone(), value.to_owned());
        spec
    };
    let one = Made::run(&runtime, labelled("1")).await;
    let two = Made::create(&runtime, labelled("2")).await;
    let list = async |value: Option<&str>, states: &[ContainerState]| {
        let labels = [(key.clone(), value.map(str::to_owned))].into();
        let filter = ListFilter { labels, states: states.iter().copied().collect() };
        let found = list_all(runtime.as_ref(), filter).await.unwrap();
        found.into_iter().map(|container| container.id).collect::<BTreeSet<_>>()
    };
    assert_eq!(list(None, &[]).await, [one.id(), two.id()].into());
    assert_eq!(list(Some("2"), &[]).await, [two.id()].into());
    assert_eq!(list(None, &[ContainerState::Running]).await, [one.id()].into());
    assert_eq!(list(Some("3"), &[]).await, [].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_inspections_at_a_time_are_answered() {
    let Some(runtime) = runtime().await else { return };
    let made = Made::create(&runtime, spec(&["true"])).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let (runtime, id) = (runtime.clone(), made.id());
        calls.spawn(async move { runtime.inspect(id).await });
    }
    assert!(within(calls.join_all()).await.into_iter().all(|answer| answer.is_ok()));
}
