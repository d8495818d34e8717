//! Members, over real sockets and with a real engine: joining by a ticket, the whole road, removal that cuts what runs,
//! changes of key on either side, and servers killed while a ticket is used.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::{
    ENGINES, Host, IMAGE, Removed, Surroundings, engine, eventually, signal, try_engine, unique,
};

/// How often a server is killed while a ticket is used.
const KILLS: u32 = 24;

/// Makes a ticket of a host that serves on loopback, where it would not lead on its own account.
fn ticket(there: &Surroundings, host: &Host, more: &[&str]) -> String {
    let invite = [&["invite", "--address", &host.address][..], more].concat();
    there.ok(&invite).trim().to_owned()
}

#[test]
fn a_member_joins_by_a_ticket_and_is_cut_off_at_once() {
    let (there, here, other) = (Surroundings::new(), Surroundings::new(), Surroundings::new());
    let host = there.serve();
    let refused = here.gx(&["--on", &host.address, "list"]);
    assert_eq!(refused.code, 5, "{refused:?}");
    let ticket = ticket(&there, &host, &["--name", "ann", "--containers", "3"]);
    let joined = here.json(&["join", "--name", "lab", &ticket]);
    assert_eq!(joined["whoami"]["member"]["name"], "ann");
    let who = here.ok(&["id", "--on", "lab"]);
    assert!(who.contains("a member") && who.contains("3 containers"), "{who}");

    let name = unique("member");
    let _removed = Removed("docker", format!("gx-{name}"));
    let create =
        ["--on", "lab", "create", "--runtime", "docker", "--name", &name, IMAGE, "--", "sleep", "600"];
    here.ok(&create);
    assert!(here.ok(&["--on", "lab", "list", "-q"]).len() > 10);
    let mut session = session(&here, &name);
    let used_up = other.gx(&["join", &ticket]);
    assert_eq!(used_up.code, 1, "{used_up:?}");
    assert!(used_up.stderr.contains("the ticket is used up: 1 of 1"), "{used_up:?}");

    let began = Instant::now();
    let removed = there.ok(&["allow", "remove", "ann"]);
    assert!(removed.contains(&format!("stopped   {name}")), "{removed}");
    let ended = session.wait().expect("its end can be waited for");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(ended.code(), Some(5));
    assert_eq!(
        engine("docker", &["inspect", "-f", "{{.State.Running}}", &format!("gx-{name}")]).trim(),
        "false"
    );
    assert_eq!(here.gx(&["--on", "lab", "list"]).code, 5);
    assert_eq!(here.gx(&["join", &ticket]).code, 5, "not by the same ticket again");
    there.ok(&["rm", "--force", &name]);
}

#[test]
fn who_is_taken_out_of_the_configuration_is_cut_off_when_the_server_reads_it_again() {
    let here = Surroundings::new();
    let id = here.json(&["id"])["node_id"].as_str().expect("a NodeId").to_owned();
    let with = |allow: &str| format!("[server]\nallow = [{allow}]\n");
    let there = Surroundings::new().configured(&with(&format!("\"{id}\"")));
    let host = there.serve();
    let on = format!("{}@{}", host.node, host.address);
    let name = unique("configured");
    let _removed = Removed("docker", format!("gx-{name}"));
    here.ok(&["--on", &on, "create", "--runtime", "docker", "--name", &name, IMAGE, "--", "sleep", "600"]);
    let mut session = session_on(&here, &on, &name);

    there.configure("[server]\nallow = [\"not an id\"]\n");
    signal(host.pid(), "HUP");
    eventually("the mistake is told", || {
        let log = std::fs::read_to_string(there.path("serve.log")).unwrap_or_default();
        log.contains("the configuration stays as it was").then_some(())
    });
    here.ok(&["--on", &on, "list"]);

    there.configure(&with(""));
    signal(host.pid(), "HUP");
    assert_eq!(session.wait().expect("its end can be waited for").code(), Some(5));
    assert_eq!(here.gx(&["--on", &on, "list"]).code, 5);
    let running = ["inspect", "-f", "{{.State.Running}}", &format!("gx-{name}")];
    eventually("the container is stopped", || (engine("docker", &running).trim() == "false").then_some(()));
    there.ok(&["rm", "--force", &name]);
}

#[test]
fn who_is_removed_with_everything_leaves_no_container_and_no_network() {
    for runtime in ENGINES {
        let (there, here) = (Surroundings::new(), Surroundings::new());
        let host = there.serve();
        here.ok(&["join", "--name", "lab", &ticket(&there, &host, &[])]);
        let name = unique("left");
        let _removed = Removed(runtime, format!("gx-{name}"));
        here.ok(&[
            "--on",
            "lab",
            "create",
            "--runtime",
            runtime,
            "--name",
            &name,
            IMAGE,
            "--",
            "sleep",
            "600",
        ]);
        let id = here.json(&["id"])["node_id"].as_str().expect("a NodeId").to_owned();
        let networks =
            || engine(runtime, &["network", "ls", "-q", "--filter", &format!("label=gx.owner={id}")]);
        assert_eq!(networks().lines().count(), 1, "{runtime}: the member has a network of its own");
        there.ok(&["allow", "remove", &id, "--rm"]);
        assert_eq!(networks(), "", "{runtime}");
        assert_ne!(try_engine(runtime, &["inspect", &format!("gx-{name}")]).code, 0, "{runtime}");
    }
}

/// Starts a command in a container, and waits until it runs.
fn session(here: &Surroundings, name: &str) -> Child {
    session_on(here, "lab", name)
}

fn session_on(here: &Surroundings, on: &str, name: &str) -> Child {
    let exec = ["--on", on, "exec", name, "--", "sh", "-c", "echo inside; sleep 600"];
    let mut child =
        here.command(&exec).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("gx starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("it says so");
    assert_eq!(line, "inside\n");
    child
}

#[test]
fn either_side_may_change_its_key() {
    let (there, here) = (Surroundings::new(), Surroundings::new());
    let mut host = there.serve();
    here.ok(&["join", "--name", "lab", &ticket(&there, &host, &[])]);
    let name = unique("rotated");
    let _removed = Removed("docker", format!("gx-{name}"));
    here.ok(&["--on", "lab", "create", "--runtime", "docker", "--name", &name, IMAGE, "--", "sleep", "600"]);
    let running = there.gx(&["id", "rotate"]);
    assert!(
        running.code == 1 && running.stderr.contains("another gx serve uses the data folder"),
        "{running:?}"
    );

    let rotated = here.json(&["id", "rotate"]);
    assert_eq!(rotated["told"][0], "lab");
    assert_ne!(rotated["from"], rotated["node_id"]);
    let shown = here.json(&["--on", "lab", "show", &name]);
    assert_eq!(shown["owner"], rotated["node_id"]);

    host.kill();
    here.json(&["id", "rotate"]); // while nobody hears it
    there.ok(&["id", "rotate"]);
    let listen = host.address.clone();
    let _host = there.serve_at(&listen);
    let told = here.gx(&["--on", "lab", "list"]);
    assert_eq!(told.code, 5, "{told:?}");
    assert!(told.stderr.contains("the host has a new key, which its old one has signed"), "{told:?}");
    let seen = here.gx(&["--on", "lab", "list"]);
    assert!(seen.code == 0 && seen.stderr.contains("lab is told of this node's new key"), "{seen:?}");
    assert!(seen.stdout.contains(&name), "{seen:?}");
    here.ok(&["--on", "lab", "exec", &name, "--", "true"]);
    here.ok(&["--on", "lab", "rm", "--force", &name]);
}

/// What docs/identity.md names: all else may be lost with the machine.
const BACKUP: [&str; 4] = ["node.key", "rotations.json", "members.json", "hosts.json"];

/// Returns a machine with nothing but another's backup.
fn restored(lost: &Surroundings) -> Surroundings {
    let new = Surroundings::new();
    std::fs::create_dir_all(new.data()).expect("a folder can be made");
    for entry in std::fs::read_dir(lost.data()).expect("it can be read").flatten() {
        let name = entry.file_name().into_string().expect("a name of ours");
        if BACKUP.contains(&name.as_str()) || name.starts_with("node.key.") {
            std::fs::copy(entry.path(), new.data().join(&name)).expect("a file can be copied");
        }
    }
    new
}

#[test]
fn a_backup_on_another_machine_is_the_same_node() {
    let (there, here) = (Surroundings::new(), Surroundings::new());
    let mut host = there.serve();
    here.ok(&["join", "--name", "lab", &ticket(&there, &host, &[])]);
    there.ok(&["allow", "list"]);
    host.kill();
    let (there, here) = (restored(&there), restored(&here));
    let again = there.serve_at(&host.address);
    assert_eq!(again.node, host.node);
    let specs = here.json(&["--on", "lab", "specs"]);
    assert!(specs["allowance"].is_object(), "it is a member still: {specs}");
    // Without its members the same node knows nobody.
    std::fs::remove_file(there.data().join("members.json")).expect("it was restored");
    drop(again);
    let _again = there.serve_at(&host.address);
    assert_eq!(here.gx(&["--on", "lab", "list"]).code, 5, "who has no backup of it joins anew");
}

#[test]
fn a_node_in_a_hosts_place_is_told_nothing_and_not_followed() {
    let (there, here, other) = (Surroundings::new(), Surroundings::new(), Surroundings::new());
    let mut host = there.serve();
    here.ok(&["join", "--name", "lab", &ticket(&there, &host, &[])]);
    let (joined, known) = (here.data().join("hosts.json"), here.data().join("known_hosts.json"));
    let read = || [&joined, &known].map(|file| std::fs::read(file).expect("it is there"));
    let before = read();
    let listen = host.address.clone();
    host.kill();
    other.ok(&["id"]);
    other.ok(&["id", "rotate"]); // so that it has something signed to show, which does not begin at the host
    let mut another = other.serve_at(&listen);
    for on in ["lab", &listen] {
        let refused = here.gx(&["--on", on, "list"]);
        assert_eq!(refused.code, 5, "{refused:?}");
        assert!(refused.stderr.contains("is another node"), "{refused:?}");
    }
    assert_eq!(read(), before);
    another.kill();
    let _host = there.serve_at(&listen);
    here.ok(&["--on", "lab", "list"]);
}

#[test]
fn a_server_killed_while_a_ticket_is_used_lets_one_in_and_only_one() {
    let (there, late) = (Surroundings::new(), Surroundings::new());
    let mut host = there.serve();
    let listen = host.address.clone();
    let (mut answered, mut longest) = (0, Duration::from_millis(50));
    for round in 0..KILLS {
        let here = Surroundings::new();
        here.ok(&["id"]); // its key is made before the clock runs
        let ticket = ticket(&there, &host, &[]);
        let began = Instant::now();
        let mut join = here.command(&["--quiet", "join", &ticket]);
        let join = join.stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut join = join.expect("gx starts");
        let killed_at = longest * round / KILLS;
        eventually("its time has come", || (began.elapsed() >= killed_at).then_some(()));
        host.kill();
        let ended = join.wait().expect("its end can be waited for");
        longest = longest.max(began.elapsed().min(Duration::from_millis(400)));
        answered += u32::from(ended.success());

        host = there.serve_at(&listen);
        here.ok(&["join", &ticket]);
        here.ok(&["--on", &listen, "list"]);
        let second = late.gx(&["join", &ticket]);
        assert!(second.stderr.contains("the ticket is used up"), "round {round}: {second:?}");
        let members = there.json(&["allow", "list"]);
        assert_eq!(members["members"].as_array().map(Vec::len), Some(round as usize + 1), "round {round}");
    }
    assert!(answered < KILLS, "no server was killed before its answer");
}
