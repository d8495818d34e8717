//! Starting, waiting, stopping, signalling, removing, inspecting.

use std::net::TcpListener;
use std::time::Duration;

use gx_core::plugin::*;
use tokio::time::Instant;

use crate::support::{LIMIT, Made, fails, podman, shell, until};

#[tokio::test]
async fn exit_codes_are_those_of_the_main_process() {
    let podman = podman!();
    for code in [0, 1, 43] {
        let (made, exit) = Made::ended(&podman, &format!("exit {code}")).await;
        assert_eq!((exit.code, exit.signal), (code, None));
        let container = made.inspect().await;
        assert_eq!(container.state, ContainerState::Exited);
        assert_eq!(container.exit.unwrap().code, code);
        assert!(exit.finished_at.unwrap() >= container.started_at.unwrap());
        assert_eq!(podman.wait(made.id.clone()).await.unwrap().code, code, "at once when it already has");
    }
}

#[tokio::test]
async fn a_kill_is_an_exit_by_signal() {
    let podman = podman!();
    let made = Made::started(&podman, shell("sleep 1000")).await;
    let (exit, killed) =
        tokio::join!(podman.wait(made.id.clone()), podman.signal(made.id.clone(), "SIGKILL".to_owned()));
    killed.unwrap();
    let exit = exit.unwrap();
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    fails(podman.signal(made.id.clone(), "HUP".to_owned()).await, ErrorCode::FailedPrecondition, None);
}

#[tokio::test]
async fn a_signal_has_a_name_or_a_number() {
    let podman = podman!();
    let made = Made::started(
        &podman,
        shell("trap 'echo hup' HUP; trap 'exit 9' USR1; while :; do sleep 0.05; done"),
    )
    .await;
    until("the trap is set", || async {
        podman.signal(made.id.clone(), "SIGHUP".to_owned()).await.unwrap();
        !made.logs(LogOptions::default()).await.0.is_empty()
    })
    .await;
    fails(
        podman.signal(made.id.clone(), "SIGNOPE".to_owned()).await,
        ErrorCode::InvalidArgument,
        Some("signal"),
    );
    fails(podman.signal(made.id.clone(), String::new()).await, ErrorCode::InvalidArgument, Some("signal"));
    podman.signal(made.id.clone(), "10".to_owned()).await.unwrap();
    assert_eq!(podman.wait(made.id.clone()).await.unwrap().code, 9);
}

#[tokio::test]
async fn waiting_needs_a_container_that_was_started_and_stays() {
    let podman = podman!();
    let made = Made::created(&podman, shell("sleep 1000")).await;
    fails(podman.wait(made.id.clone()).await, ErrorCode::FailedPrecondition, None);
    podman.start(made.id.clone()).await.unwrap();
    podman.start(made.id.clone()).await.expect("a running one is well");
    let mut waiting = podman.wait(made.id.clone());
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut waiting).await.is_err());
    podman.remove(made.id.clone(), RemoveOptions { force: true }).await.unwrap();
    fails(waiting.await, ErrorCode::NotFound, None);
}

#[tokio::test]
async fn what_is_not_there_is_not_found_or_well() {
    let podman = podman!();
    let id: ContainerId = "gx-podman-test-nobody".parse().unwrap();
    let missing = ErrorCode::NotFound;
    fails(podman.inspect(id.clone()).await, missing, None);
    fails(podman.start(id.clone()).await, missing, None);
    fails(podman.wait(id.clone()).await, missing, None);
    fails(podman.signal(id.clone(), "HUP".to_owned()).await, missing, None);
    fails(podman.logs(id.clone(), LogOptions::default(), Output::null()).await, missing, None);
    fails(podman.stats(id.clone(), 0, Output::null()).await, missing, None);
    fails(podman.copy_in(id.clone(), "/".to_owned(), Input::empty()).await, missing, None);
    fails(podman.copy_in(id.clone(), "/x".to_owned(), Input::empty()).await, missing, None);
    fails(podman.copy_out(id.clone(), "/".to_owned(), Output::null()).await, missing, None);
    let spec = ExecSpec { argv: vec!["true".to_owned()], ..ExecSpec::default() };
    fails(podman.exec(id.clone(), spec, Input::empty(), Output::null()).await, missing, None);
    podman.stop(id.clone(), StopOptions::default()).await.unwrap();
    podman.remove(id.clone(), RemoveOptions::default()).await.unwrap();
    podman.remove(id, RemoveOptions { force: true }).await.unwrap();
}

#[tokio::test]
async fn a_stop_asks_first_and_kills_after_the_grace() {
    let podman = podman!();
    let polite =
        Made::started(&podman, shell("trap 'exit 5' TERM; echo set; while :; do sleep 0.05; done")).await;
    let deaf = Made::started(&podman, shell("trap '' TERM; echo set; while :; do sleep 0.05; done")).await;
    for made in [&polite, &deaf] {
        until("the trap is set", || async { !made.logs(LogOptions::default()).await.0.is_empty() }).await;
    }
    podman.stop(polite.id.clone(), StopOptions { signal: None, grace_ms: Some(60_000) }).await.unwrap();
    assert_eq!(polite.inspect().await.exit.unwrap().code, 5);
    let begun = Instant::now();
    podman.stop(deaf.id.clone(), StopOptions { signal: None, grace_ms: Some(300) }).await.unwrap();
    assert!((Duration::from_millis(300)..LIMIT).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(deaf.inspect().await.exit.unwrap().code, 137);
    podman.stop(deaf.id.clone(), StopOptions::default()).await.expect("a stopped one is well");
}

#[tokio::test]
async fn a_stop_knows_other_signals_and_the_grace_of_the_spec() {
    let podman = podman!();
    let made = Made::started(
        &podman,
        shell("trap 'exit 6' QUIT; trap '' TERM; echo set; while :; do sleep 0.05; done"),
    )
    .await;
    until("the trap is set", || async { !made.logs(LogOptions::default()).await.0.is_empty() }).await;
    let unknown = StopOptions { signal: Some("SIGNOPE".to_owned()), grace_ms: None };
    fails(podman.stop(made.id.clone(), unknown).await, ErrorCode::InvalidArgument, Some("signal"));
    podman
        .stop(made.id.clone(), StopOptions { signal: Some("SIGQUIT".to_owned()), grace_ms: Some(60_000) })
        .await
        .unwrap();
    assert_eq!(made.inspect().await.exit.unwrap().code, 6);
    podman.start(made.id.clone()).await.expect("an ended one can be started anew");
    until("the trap is set", || async { made.logs(LogOptions::default()).await.0 == "set\nset\n" }).await;
    let begun = Instant::now();
    podman.stop(made.id.clone(), StopOptions::default()).await.unwrap();
    assert!((Duration::from_secs(1)..LIMIT).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let fresh = Made::created(&podman, shell("sleep 1000")).await;
    podman.stop(fresh.id.clone(), StopOptions::default()).await.expect("one that never ran is well");
}

#[tokio::test]
async fn a_dropped_stop_still_kills() {
    let podman = podman!();
    let made = Made::started(&podman, shell("trap '' TERM; echo set; while :; do sleep 0.05; done")).await;
    until("the trap is set", || async { !made.logs(LogOptions::default()).await.0.is_empty() }).await;
    let stop = podman.stop(made.id.clone(), StopOptions { signal: None, grace_ms: Some(500) });
    assert!(tokio::time::timeout(Duration::from_millis(100), stop).await.is_err());
    podman.shutdown().await.unwrap();
    assert_eq!(made.inspect().await.state, ContainerState::Exited);
}

#[tokio::test]
async fn a_running_one_is_removed_by_force_only() {
    let podman = podman!();
    let made = Made::started(&podman, shell("sleep 1000")).await;
    let error = fails(
        podman.remove(made.id.clone(), RemoveOptions::default()).await,
        ErrorCode::FailedPrecondition,
        None,
    );
    assert!(error.message.contains("runs"), "{error}");
    let twice = tokio::join!(
        podman.remove(made.id.clone(), RemoveOptions { force: true }),
        podman.remove(made.id.clone(), RemoveOptions { force: true }),
    );
    assert_eq!(twice, (Ok(()), Ok(())));
    fails(podman.inspect(made.id.clone()).await, ErrorCode::NotFound, None);
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let podman = podman!();
    let with = |change: &dyn Fn(&mut ContainerSpec)| {
        let mut spec = shell("sleep 1000");
        change(&mut spec);
        spec
    };
    let invalid = ErrorCode::InvalidArgument;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let request = PortRequest {
        container_port: 80,
        protocol: Protocol::Tcp,
        host_port: Some(port),
        host_address: Some("127.0.0.1".parse().unwrap()),
    };
    let cases = [
        (with(&|spec| spec.command = vec!["nope".to_owned()]), invalid, "command"),
        (with(&|spec| spec.command = vec!["/etc".to_owned()]), invalid, "command"),
        (with(&|spec| spec.user = Some("nobodyx".to_owned())), invalid, "user"),
        (
            with(&|spec| spec.gpus = Gpus::Ids(vec!["GPU-none".to_owned()])),
            ErrorCode::FailedPrecondition,
            "gpus",
        ),
        (with(&|spec| spec.ports = vec![request]), ErrorCode::AlreadyExists, "ports"),
    ];
    for (spec, code, field) in cases {
        let made = Made::created(&podman, spec).await;
        let error = fails(podman.start(made.id.clone()).await, code, Some(field));
        println!("{field}: {error}");
        assert!(error.backend.is_some());
        if field == "ports" {
            assert_eq!(error.message, format!("port {port} is taken"));
        }
        fails(podman.wait(made.id.clone()).await, ErrorCode::FailedPrecondition, None);
    }
}

#[tokio::test]
async fn inspect_and_list_tell_what_was_asked_for() {
    let podman = podman!();
    let mut spec = shell("sleep 1000");
    spec.labels = [("gx.owner", "a=b*c"), ("plain", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let port = |container_port, protocol| PortRequest {
        container_port,
        protocol,
        host_port: None,
        host_address: Some("127.0.0.1".parse().unwrap()),
    };
    spec.ports = vec![port(80, Protocol::Tcp), port(53, Protocol::Udp), port(81, Protocol::Tcp)];
    let made = Made::created(&podman, spec.clone()).await;
    assert_eq!(made.inspect().await.state, ContainerState::Created);
    podman.start(made.id.clone()).await.unwrap();
    let container = made.inspect().await;
    assert_eq!(container.name, spec.name.as_str());
    assert_eq!((container.image.as_str(), container.state), ("gx-busybox", ContainerState::Running));
    let mut labels = podman.image(spec.image.clone()).await.unwrap().unwrap().labels;
    labels.extend(spec.labels.clone());
    assert_eq!(container.labels, labels, "the image's and the spec's");
    assert!(container.created_at.unwrap() <= container.started_at.unwrap());
    assert_eq!(container.exit, None);
    let ports: Vec<_> = container.ports.iter().map(|port| (port.container_port, port.protocol)).collect();
    assert_eq!(ports, [(53, Protocol::Udp), (80, Protocol::Tcp), (81, Protocol::Tcp)]);
    assert!(container.ports.iter().all(|port| port.host_port > 0 && port.host_address.is_loopback()));

    let listed = |labels: &[(&str, Option<&str>)], states: &[ContainerState]| {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)));
        let filter = ListFilter { labels: labels.collect(), states: states.iter().copied().collect() };
        let podman = podman.clone();
        async move { gx_core::runtime::list_all(&*podman, filter).await.unwrap() }
    };
    let mine = listed(&[("gx.owner", Some("a=b*c"))], &[]).await;
    assert_eq!(mine.len(), 1);
    assert_eq!(mine[0], Container { started_at: None, ..container });
    assert_eq!(listed(&[("gx.owner", None), ("plain", Some(""))], &[ContainerState::Running]).await.len(), 1);
    assert!(listed(&[("gx.owner", Some("a=b*c"))], &[ContainerState::Exited]).await.is_empty());
    assert!(listed(&[("gx.owner", Some("a=bxc"))], &[]).await.is_empty());
    assert!(listed(&[("gx.owner", Some("*"))], &[]).await.is_empty(), "a star is a star");
}

#[tokio::test]
async fn a_thousand_looks_at_once_are_answered() {
    let podman = podman!();
    let made = Made::created(&podman, shell("true")).await;
    let looks = (0..1_000).map(|_| {
        let (podman, id) = (podman.clone(), made.id.clone());
        tokio::spawn(async move { podman.inspect(id).await })
    });
    for look in looks.collect::<Vec<_>>() {
        assert_eq!(look.await.unwrap().unwrap().id, made.id);
    }
}

#[tokio::test]
async fn the_engine_is_well_and_says_what_it_is() {
    let podman = podman!();
    let info = podman.info().await.unwrap();
    assert_eq!((info.backend.as_str(), info.os.as_str()), ("podman", "linux"));
    assert!(info.endpoint.starts_with("unix:///") && !info.version.is_empty() && !info.storage.is_empty());
    assert!(podman.capabilities().await.unwrap().has(Feature::ExecCancel));
}
