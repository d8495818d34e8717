//! Tests of the translation, without an engine.

use super::*;
use gx_core::{Resources, Security};

fn spec() -> ContainerSpec {
    ContainerSpec::new("a".parse().unwrap(), "busybox".parse().unwrap())
}

fn host(spec: ContainerSpec) -> HostConfig {
    create_body(spec, &Config::default()).host_config.unwrap()
}

#[test]
fn the_defaults_give_nothing_beyond_the_image() {
    let body = create_body(spec(), &Config::default());
    assert_eq!((body.entrypoint, body.cmd, body.env, body.user), (None, None, None, None));
    assert_eq!((body.tty, body.exposed_ports, body.stop_timeout), (Some(false), None, None));
    let host = body.host_config.unwrap();
    assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_owned()]));
    assert_eq!((host.memory, host.nano_cpus, host.pids_limit), (None, None, None));
    assert_eq!(host.storage_opt, None, "an engine that cannot bound refuses even to be asked");
    assert_eq!((host.cap_drop, host.device_requests, host.privileged), (None, None, None));
    assert_eq!(host.restart_policy.unwrap().name, Some(RestartPolicyNameEnum::NO));
}

#[test]
fn an_empty_entry_point_removes_the_images() {
    let body =
        |entrypoint| create_body(ContainerSpec { entrypoint, ..spec() }, &Config::default()).entrypoint;
    assert_eq!(body(Some(vec![])), Some(vec![String::new()]));
    assert_eq!(body(Some(vec!["a".to_owned()])), Some(vec!["a".to_owned()]));
}

#[test]
fn limits_leave_no_swap() {
    let resources = Resources {
        milli_cpus: Some(1500),
        memory_bytes: Some(64 << 20),
        pids: Some(9),
        disk_bytes: Some(1 << 30),
    };
    let host = host(ContainerSpec { resources, ..spec() });
    assert_eq!((host.memory, host.memory_swap), (Some(64 << 20), Some(64 << 20)));
    assert_eq!((host.nano_cpus, host.pids_limit), (Some(1_500_000_000), Some(9)));
    assert_eq!(host.storage_opt.unwrap()["size"], "1073741824");
}

#[test]
fn capabilities_are_exactly_those_of_the_list() {
    let security = Security {
        capabilities: Some(vec!["CHOWN".to_owned()]),
        read_only_root: true,
        ..Security::default()
    };
    let host = host(ContainerSpec { security, ..spec() });
    assert_eq!((host.cap_drop, host.cap_add), (Some(vec!["ALL".to_owned()]), Some(vec!["CHOWN".to_owned()])));
    assert_eq!(host.readonly_rootfs, Some(true));
}

#[test]
fn ports_listen_on_loopback_unless_an_address_is_asked_for() {
    let any = "0.0.0.0".parse().unwrap();
    let ports =
        vec!["80".parse().unwrap(), PortRequest { host_address: Some(any), .."8080:80".parse().unwrap() }];
    let bindings = host(ContainerSpec { ports, ..spec() }).port_bindings.unwrap();
    let bindings: Vec<_> =
        bindings["80/tcp"].clone().unwrap().into_iter().map(|b| (b.host_ip, b.host_port)).collect();
    let binding = |ip: &str, port: &str| (Some(ip.to_owned()), Some(port.to_owned()));
    assert_eq!(bindings, [binding("127.0.0.1", ""), binding("0.0.0.0", "8080")]);
}

#[test]
fn gpus_are_asked_for_by_number_or_id() {
    let request = |text: &str| gpus(&text.parse().unwrap());
    assert_eq!(request("none"), None);
    assert_eq!(request("all").unwrap().count, Some(-1));
    assert_eq!(request("2").unwrap().count, Some(2));
    let ids = request("GPU-1,GPU-2").unwrap();
    assert_eq!((ids.count, ids.device_ids.unwrap().len()), (None, 2));
}

#[test]
fn the_log_is_bounded_in_two_halves() {
    let options = |config: &Config| log_config(config).config;
    assert_eq!(options(&Config::default()).unwrap()["max-size"], (256_u64 << 20).to_string());
    let unbounded = Config { log_max_size: gx_core::units::Size(0), ..Config::default() };
    assert_eq!(options(&unbounded), None);
    let journald = Config { log_driver: "journald".to_owned(), ..Config::default() };
    assert_eq!(options(&journald), None);
}

#[test]
fn filters_are_the_engines() {
    let filter = ListFilter {
        labels: [("a".to_owned(), None), ("b".to_owned(), Some("1".to_owned()))].into(),
        states: [ContainerState::Running, ContainerState::Exited].into(),
    };
    let filters = list_filters(&filter);
    assert_eq!(filters["label"], ["a", "b=1"]);
    assert_eq!(filters["status"], ["running", "exited"]);
    assert!(list_filters(&ListFilter::default()).is_empty());
}

#[test]
fn an_inspection_becomes_a_container() {
    let answer = serde_json::json!({
        "Id": "abc", "Name": "/web", "Created": "2026-11-21T22:00:00.5Z",
        "Config": { "Image": "busybox", "Labels": { "gx.name": "web" } },
        "State": { "Status": "exited", "ExitCode": 137, "OOMKilled": true,
            "StartedAt": "2026-11-21T22:00:01Z", "FinishedAt": "2026-11-21T22:00:02Z" },
        "NetworkSettings": { "Ports": {
            "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }, { "HostIp": "::", "HostPort": "8080" }],
            "9/sctp": [{ "HostIp": "0.0.0.0", "HostPort": "9" }], "81/udp": null } },
    });
    let container = inspected(serde_json::from_value(answer).unwrap()).unwrap();
    assert_eq!((container.name.as_str(), container.image.as_str()), ("web", "busybox"));
    assert_eq!((container.state, container.ports.len()), (ContainerState::Exited, 2));
    let exit = container.exit.unwrap();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), true));
    assert!(exit.finished_at.is_some() && container.started_at.is_some());
}

#[test]
fn the_engines_zero_time_is_none() {
    assert_eq!(timestamp("0001-01-01T00:00:00Z"), None);
    assert!(timestamp("2026-11-21T22:00:00.123456789Z").is_some());
}

#[test]
fn signals_are_names_or_numbers() {
    for (text, name) in [("hup", "SIGHUP"), ("SIGTERM", "SIGTERM"), ("9", "9"), ("rtmin+1", "SIGRTMIN+1")] {
        assert_eq!(signal(text).unwrap(), name);
    }
    for bad in ["", "0", "65", "SIG", "SIG TERM", "-9", "999999"] {
        assert_eq!(signal(bad).unwrap_err().field.as_deref(), Some("signal"), "{bad:?}");
    }
}
