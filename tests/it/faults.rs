//! Faults, for real: engines that go away, kill -9, Ctrl-C, readers that vanish, slow readers.

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use gx_core::api::CreateRequest;
use gx_core::runtime::RemoveOptions;
use gx_core::stream::Output;

use crate::engine_proxy::EngineProxy;
use crate::support::{ENGINES, IMAGE, Removed, Surroundings, engine, eventually, signal, try_engine, unique};

const DOCKER: &str = "/var/run/docker.sock";

fn through_a_proxy() -> (Surroundings, EngineProxy) {
    let here = Surroundings::new();
    let proxy = EngineProxy::start(here.path("engine.sock"), Path::new(DOCKER));
    let text = format!(
        "[client]\nruntime = \"docker\"\n[plugins.docker.config]\nhost = \"unix://{}\"\n",
        proxy.socket().display()
    );
    (here.configured(&text), proxy)
}

#[test]
fn an_engine_that_is_down_says_how_to_start_it_and_is_used_when_it_is_back() {
    let (here, proxy) = through_a_proxy();
    let host = here.serve();
    let on: &[&str] = &["--on", &host.address];
    let first = unique("before");
    let _first_removed = Removed("docker", format!("gx-{first}"));
    let make = |name: &str| {
        let create: &[&str] =
            &["create", "--runtime", "docker", "--name", name, IMAGE, "--", "sleep", "1000"];
        here.gx(&[on, create].concat())
    };
    assert_eq!(make(&first).code, 0);

    proxy.cut();
    let name = unique("back");
    let _removed = Removed("docker", format!("gx-{name}"));
    let refused = make(&name);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("docker") && refused.stderr.contains("start"), "{refused:?}");
    let local = here.gx(&["create", "--runtime", "docker", IMAGE]);
    assert_eq!(local.code, 4, "{local:?}");
    let others = here.json(&[on, &["list", "--all"]].concat());
    assert_eq!(others["unavailable"][0]["runtime"], "docker", "{others}");

    proxy.restore(Path::new(DOCKER));
    let made = make(&name);
    assert_eq!(made.code, 0, "{made:?}");
    for name in [&first, &name] {
        here.ok(&[on, &["rm", "-f", name]].concat());
    }
}

/// Docker's own state does not always say so: where the kernel's word comes after the end, only an event does.
#[test]
fn a_container_without_memory_is_told_as_that_also_where_the_engine_learns_it_late() {
    let (here, proxy) = through_a_proxy();
    proxy.tell("\"OOMKilled\":true", "\"OOMKilled\":null");
    let exit_of = |name: &str| {
        let exit = here.json(&["inspect", name])["exit"].clone();
        exit["code"].is_number().then_some(exit)
    };
    let name = unique("hungry");
    let _removed = Removed("docker", format!("gx-{name}"));
    here.ok(&["create", "--name", &name, "--memory", "32MiB", IMAGE, "--", "tail", "/dev/zero"]);
    let exit = eventually("its end", || exit_of(&name));
    assert_eq!((&exit["code"], &exit["oom_killed"]), (&137.into(), &true.into()), "{exit}");
    assert!(proxy.retold() > 0, "the engine's own word came through");

    let name = unique("killed");
    let _removed = Removed("docker", format!("gx-{name}"));
    here.ok(&["create", "--name", &name, "--memory", "32MiB", IMAGE, "--", "sleep", "1000"]);
    engine("docker", &["kill", &format!("gx-{name}")]);
    let exit = eventually("its end", || exit_of(&name));
    assert_eq!((&exit["code"], &exit["oom_killed"]), (&137.into(), &false.into()), "{exit}");
    here.ok(&["rm", &name]);
}

#[test]
fn ctrl_c_during_create_leaves_nothing() {
    let (here, proxy) = through_a_proxy();
    let name = unique("ctrlc");
    let _removed = Removed("docker", format!("gx-{name}"));
    proxy.hold("/start");
    let mut command = here.command(&["create", "--name", &name, IMAGE, "--", "sleep", "1000"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gx starts");
    proxy.wait_until_holding();
    assert_eq!(try_engine("docker", &["inspect", &format!("gx-{name}")]).code, 0, "it is half-made now");
    signal(child.id(), "INT");
    proxy.release();
    let output = child.wait_with_output().expect("gx ends");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_ne!(try_engine("docker", &["inspect", &format!("gx-{name}")]).code, 0, "nothing half-made stays");
}

#[test]
fn a_host_that_dies_while_it_makes_a_container_is_named_and_no_other_makes_a_second() {
    let mut hosts: Vec<_> = [(); 2]
        .map(|()| {
            let (there, proxy) = through_a_proxy();
            let host = there.serve();
            (there, proxy, host)
        })
        .into();
    let here = Surroundings::new();
    for (name, (there, _, host)) in ["one", "two"].iter().zip(&hosts) {
        let ticket = there.ok(&["invite", "--address", &host.address]);
        here.ok(&["join", "--name", name, ticket.trim()]);
    }
    let best = || {
        here.ok(&["peers", "update"]);
        let best = here.gx(&["--quiet", "peers", "best", "--explain", "--needs", "runtime=docker"]);
        let nodes: Vec<String> = best.stdout.lines().map(str::to_owned).collect();
        (best.code == 0 && nodes.len() == 2).then_some(nodes)
    };
    let best = eventually("both are known, with what they have", best);
    let first = hosts.iter().position(|(_, _, host)| host.node == best[0]).expect("one of the two");
    let names = if first == 0 { ["one", "two"] } else { ["two", "one"] };
    let name = unique("doubt");
    let _removed = Removed("docker", format!("gx-{name}"));
    let (_, proxy, host) = &mut hosts[first];
    proxy.hold("/start");
    let create =
        ["--on", "best", "create", "--runtime", "docker", "--name", &name, IMAGE, "--", "sleep", "1000"];
    let mut command = here.command(&create);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gx starts");
    proxy.wait_until_holding();
    host.kill();
    let output = child.wait_with_output().expect("gx ends");
    proxy.release();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    let hint = format!("whether it has made the container is not known: gx --on {} list", names[0]);
    assert!(said.contains(&hint) && !said.contains("not on "), "{said}");
    assert_eq!(here.json(&["--on", names[1], "list"])["containers"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_client_that_goes_away_during_create_leaves_nothing() {
    let (there, proxy) = through_a_proxy();
    let host = there.serve();
    let here = Surroundings::new();
    host.is_owned_from(&here);
    let name = unique("gone");
    let _removed = Removed("docker", format!("gx-{name}"));
    proxy.hold("/start");
    let mut command =
        here.command(&["--on", &host.address, "create", "--name", &name, IMAGE, "--", "sleep", "1000"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("gx starts");
    proxy.wait_until_holding();
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    proxy.release();
    eventually("the host took back what nobody waits for", || {
        (try_engine("docker", &["inspect", &format!("gx-{name}")]).code != 0).then_some(())
    });
}

#[test]
fn ctrl_c_during_a_docker_build_leaves_nothing() {
    ctrl_c_during_build("docker");
}

#[test]
fn ctrl_c_during_a_podman_build_leaves_nothing() {
    ctrl_c_during_build("podman");
}

fn ctrl_c_during_build(runtime: &str) {
    let here = Surroundings::new();
    let tag = unique("gx-interrupted");
    let seconds = (100_000 + std::process::id()).to_string(); // by which the step is known among all processes
    std::fs::create_dir(here.path("context")).expect("a folder can be made");
    let containerfile = format!("FROM {IMAGE}\nRUN sleep {seconds}\n");
    std::fs::write(here.path("context/Containerfile"), containerfile).expect("a file can be written");
    let mut command = here.command(&["build", "--runtime", runtime, "-t", &tag, "context"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gx starts");
    eventually("the build runs its step", || runs(&["sleep", &seconds]).then_some(()));
    signal(child.id(), "INT");
    let output = child.wait_with_output().expect("gx ends");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    eventually("the step is ended", || (!runs(&["sleep", &seconds])).then_some(()));
    assert_ne!(try_engine(runtime, &["image", "inspect", &tag]).code, 0, "no image stays");
}

/// Returns whether a process with exactly these arguments runs.
fn runs(args: &[&str]) -> bool {
    let wanted: Vec<u8> = args.iter().flat_map(|arg| arg.bytes().chain([0])).collect();
    let processes = std::fs::read_dir("/proc").expect("/proc can be read").flatten();
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .any(|arguments| arguments.ends_with(&wanted) || arguments.ends_with(&args.join(" ").into_bytes()))
}

#[test]
fn ctrl_c_during_pull_ends_at_once() {
    for runtime in ENGINES {
        let registry = TcpListener::bind("127.0.0.1:0").expect("a port is free"); // accepts and says nothing
        let image = format!("{}/nothing:1", registry.local_addr().expect("it is bound"));
        let here = Surroundings::new();
        let mut command = here.command(&["pull", "--runtime", runtime, &image]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gx starts");
        let _held = registry.accept().expect("the engine asks the registry");
        signal(child.id(), "INT");
        let output = child.wait_with_output().expect("gx ends");
        assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
        assert_ne!(try_engine(runtime, &["image", "inspect", &image]).code, 0, "no image stays");
    }
}

/// The server is killed at a different moment of a create in each round; afterwards every container is known and
/// none is doubled under the same key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_during_create_knows_every_container_afterwards() {
    for runtime in ENGINES {
        let there = Surroundings::new();
        let mut rounds_with_an_answer = 0;
        for round in 0..8_u32 {
            let key = unique(&format!("kill-{runtime}"));
            let request = CreateRequest {
                runtime: Some(runtime.parse().expect("a plugin's name")),
                command: ["sleep", "1000"].map(str::to_owned).to_vec(),
                ..CreateRequest::new(IMAGE.parse().expect("an image"))
            };
            let mut host = there.serve();
            let client = host.client();
            let (asked, asking) = (request.clone(), key.parse().expect("a key"));
            let create =
                tokio::spawn(async move { client.create(asked, Some(asking), Output::null()).await.is_ok() });
            // From before the engine has heard of it until after the answer, in steps the engine's speed sets.
            let label = format!("label=gx.key={key}");
            let arguments = ["ps", "-aq", "--filter", &label];
            match round % 4 {
                0 => {}
                1 => eventually("it is made", || {
                    (!engine(runtime, &arguments).is_empty() || create.is_finished()).then_some(())
                }),
                2 => tokio::task::yield_now().await,
                _ => eventually("it is answered", || create.is_finished().then_some(())),
            }
            host.kill();
            rounds_with_an_answer += u32::from(create.await.unwrap_or(false));

            let host = there.serve();
            let client = host.client();
            let again = client.create(request, Some(key.parse().expect("a key")), Output::null()).await;
            let made = again.unwrap_or_else(|error| panic!("{runtime}, round {round}: {error}"));
            let all = engine(runtime, &["ps", "-a", "--no-trunc", "--format", "{{.ID}}", "--filter", &label]);
            assert_eq!(all.trim(), made.id.as_str(), "one container under one key");
            let listed = client.list().await.expect("a list");
            assert!(listed.containers.iter().any(|c| c.id == made.id), "{listed:?}");
            client.remove(made.id.as_str(), RemoveOptions { force: true }).await.expect("it is removed");
        }
        assert!(rounds_with_an_answer >= 1, "at least the rounds that wait for the answer have one");
    }
}

#[test]
fn two_servers_on_one_data_folder_are_refused() {
    let there = Surroundings::new();
    let _host = there.serve();
    let second = there.gx(&["serve", "--listen", "127.0.0.1:0"]);
    assert_ne!(second.code, 0);
    assert!(second.stderr.contains(&there.data().display().to_string()), "{second:?}");
}

#[test]
fn a_long_log_of_docker_and_a_slow_reader_keep_memory_bounded() {
    a_long_log_and_a_slow_reader("docker");
}

#[test]
fn a_long_log_of_podman_and_a_slow_reader_keep_memory_bounded() {
    a_long_log_and_a_slow_reader("podman");
}

/// 100 MB of log, read slowly: neither the host nor the reader grows.
fn a_long_log_and_a_slow_reader(runtime: &str) {
    let there = Surroundings::new();
    let host = there.serve();
    let name = unique("flood");
    let _removed = Removed(runtime, format!("gx-{name}"));
    let script = "head -c 100000000 /dev/zero | tr '\\0' x | fold -w 1000; echo; echo done";
    let on: &[&str] = &["--on", &host.address];
    let create: &[&str] = &["create", "--runtime", runtime, "--name", &name, IMAGE, "--", "sh", "-c", script];
    there.ok(&[on, create].concat());
    let mut command = there.command(&[on, &["logs", "-f", &name]].concat());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("gx starts");
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let mut buffer = vec![0; 256 * 1024];
    let (mut read, mut peak_host, mut peak_reader) = (0_usize, 0, 0);
    let mut last = Vec::new();
    while let Ok(length @ 1..) = stdout.read(&mut buffer) {
        read += length;
        peak_host = peak_host.max(resident_mib(host.pid()));
        peak_reader = peak_reader.max(resident_mib(child.id()));
        last.extend_from_slice(&buffer[..length]);
        last.drain(..last.len().saturating_sub(5));
    }
    assert!(child.wait().expect("gx ends").success());
    assert_eq!(last, b"done\n", "{runtime}: the log came to its end, after {read} bytes");
    assert!(peak_host < 150, "{runtime}: the host took {peak_host} MiB");
    assert!(peak_reader < 150, "{runtime}: the reader took {peak_reader} MiB");
}

fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

#[test]
fn a_follower_that_goes_away_ends_the_call_on_the_host() {
    let (there, proxy) = through_a_proxy();
    let host = there.serve();
    let name = unique("follower");
    let _removed = Removed("docker", format!("gx-{name}"));
    let on: &[&str] = &["--on", &host.address];
    there.ok(&[on, &["create", "--name", &name, IMAGE, "--", "sh", "-c", "echo ready; sleep 1000"]].concat());
    let mut command = there.command(&[on, &["logs", "-f", &name]].concat());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("gx starts");
    let mut first = [0; 6];
    child.stdout.take().expect("stdout is piped").read_exact(&mut first).expect("the first line comes");
    let before = proxy.open();
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    eventually("the host lets go of the engine", || (proxy.open() < before).then_some(()));
}
