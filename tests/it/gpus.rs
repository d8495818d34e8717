//! GPUs in the specs and in containers, on both engines. The hardware is imaginary, everything else is real.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::imaginary::{Machine, gpus_of};
use crate::support::{IMAGE, Run, engine, eventually, run_within, try_engine, unique};

fn specs(machine: &Machine) -> Vec<Value> {
    machine.here.json(&["specs"])["gpus"].as_array().expect("specs list GPUs").clone()
}

fn uuids(gpus: &[Value]) -> Vec<&str> {
    gpus.iter().filter_map(|gpu| gpu["uuid"].as_str()).collect()
}

#[test]
fn specs_tell_every_gpu_in_full() {
    let machine = Machine::new(2, "");
    let gpus = specs(&machine);
    assert_eq!(
        gpus[1],
        json!({
            "index": 1, "uuid": machine.uuids[1], "name": "Imaginary 4090", "driver": "550.54.14",
            "memory_total_bytes": 24_u64 << 30, "memory_used_bytes": 1_u64 << 30, "utilisation_percent": 37,
            "temperature_celsius": 61, "graphics_clock_mhz": 2100, "graphics_clock_max_mhz": 2520,
            "memory_clock_mhz": 9501, "memory_clock_max_mhz": 10501, "processes": 3,
        })
    );
    let text = machine.here.ok(&["specs"]);
    let line = format!(
        "gpu        0: Imaginary 4090, 1.00 GiB of 24.0 GiB used, 37% busy, 61 °C, cores 2100 of 2520 MHz, \
         memory 9501 of 10501 MHz, 3 processes, driver 550.54.14, {}\n",
        machine.uuids[0]
    );
    assert!(text.contains(&line), "{text}");
}

#[test]
fn each_gpu_leaves_out_what_it_does_not_tell() {
    let machine = Machine::new(3, "");
    let [first, second, third] = [0, 1, 2].map(|index| machine.uuids[index].as_str());
    let calls = ["name", "memory", "utilization", "temperature", "clock", "clock_max", "compute", "graphics"];
    let all: String = calls.iter().map(|call| format!("fail {call} {second} 999\n")).collect();
    machine.faults(&format!("{all}fail temperature {first} 3\nfail compute {first} 3\nfail driver any 999"));
    let gpus = specs(&machine);
    assert_eq!(gpus[1], json!({"index": 1, "uuid": second, "name": "", "driver": ""}));
    assert_eq!((gpus[0].get("temperature_celsius"), &gpus[0]["processes"]), (None, &json!(1)));
    assert_eq!(gpus[2]["temperature_celsius"], 61);
    // One that nobody could ask for, or that fell off the bus half-way, is not told at all.
    machine.faults(&format!("fail uuid {first} 999\nfail clock {third} 15"));
    assert_eq!(uuids(&specs(&machine)), [second]);
    machine.faults(&format!("fail handle {first} 4\nfail handle {third} 8"));
    assert_eq!(uuids(&specs(&machine)), [second]);
    for fault in ["init any 9", "init any 18", "count any 999"] {
        machine.faults(&format!("fail {fault}"));
        assert_eq!(specs(&machine), Vec::<Value>::new(), "{fault}");
    }
}

#[test]
fn a_server_keeps_nvml_open_and_opens_it_anew_when_it_must() {
    let machine = Machine::new(2, "[client]\nruntime = \"docker\"\n");
    let host = machine.here.serve();
    // What asks for a GPU looks anew, so that nobody has to wait for the next sample.
    let look = || {
        machine.here.gx(&["--on", &host.address, "create", "--dry-run", "--gpus", "1", IMAGE]);
        let specs = machine.here.json(&["--on", &host.address, "specs"]);
        let gpus = specs["gpus"].as_array().expect("specs list GPUs").clone();
        uuids(&gpus).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for _ in 0..3 {
        assert_eq!(look(), machine.uuids);
    }
    assert_eq!(machine.opened(), 1);
    let log = || std::fs::read_to_string(machine.here.path("serve.log")).unwrap_or_default();

    machine.faults(&format!("fail memory {} 15", machine.uuids[0]));
    assert_eq!(look(), machine.uuids[1..]);
    eventually("the log says which one", || {
        log().lines().any(|line| line.contains("is gone") && line.contains(&machine.uuids[0])).then_some(())
    });
    machine.script(&machine.uuids[1..], "");
    assert_eq!(look(), machine.uuids[1..]);
    assert!(machine.opened() >= 2, "a lost GPU makes it open NVML anew");

    let before = machine.opened();
    machine.faults("fail count any 1\nfail init any 9");
    assert_eq!(look(), Vec::<String>::new());
    machine.faults("");
    assert_eq!(look(), machine.uuids);
    let opened = machine.opened();
    assert!(opened > before, "NVML that failed is opened anew");
    assert_eq!(look(), machine.uuids);
    assert_eq!(machine.opened(), opened);
}

#[test]
fn a_driver_that_hangs_holds_nothing_else_up() {
    let machine = Machine::new(1, "[client]\nruntime = \"podman\"\n");
    machine.faults("hang memory");
    let specs = machine.here.json(&["specs"]);
    assert_eq!(specs["gpus"], json!([]));
    assert!(specs["hostname"].as_str().is_some_and(|name| !name.is_empty()), "{specs}");
    let refused = machine.here.gx(&["create", "--gpus", "1", IMAGE]);
    let expected = "error: cannot tell which GPUs are free: their driver does not answer\n  hint: nvidia-smi";
    assert!(refused.code == 4 && refused.stderr.starts_with(expected), "{refused:?}");
}

#[test]
fn docker_gives_each_container_gpus_of_its_own() {
    each_has_its_own("docker");
}

#[test]
fn podman_gives_each_container_gpus_of_its_own() {
    each_has_its_own("podman");
}

fn each_has_its_own(runtime: &str) {
    let machine = Machine::with(runtime, 2, "");
    let (here, both) = (&machine.here, BTreeSet::from_iter(machine.uuids.clone()));
    let [one, two, three] = [unique("one"), unique("two"), unique("three")];
    let mut given = machine.given("1", &one);
    given.extend(machine.given("1", &two));
    assert_eq!(BTreeSet::from_iter(given.clone()), both);
    assert_eq!(here.json(&["show", &one])["gpus"], given[0].as_str());

    let mut holders = [one.as_str(), two.as_str()];
    holders.sort_unstable();
    let refused = here.gx(&["create", "--gpus", "1", "--name", &three, IMAGE]);
    let expected = format!(
        "error: 1 GPU is asked for, and none of 2 is free\n  hint: a container has its GPUs until it is removed: \
         {}\n",
        holders.join(", ")
    );
    assert_eq!((refused.code, refused.stderr.as_str()), (1, expected.as_str()));
    let refused = here.gx(&["create", "--gpus", &given[0], "--name", &three, IMAGE]);
    let expected = format!("error: {} is asked for, and it is not free\n", given[0]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.starts_with(&expected) && refused.stderr.contains(&one), "{refused:?}");

    // A stopped one has its GPU still, and starts again with it; a removed one has given it back.
    here.ok(&["stop", "--time", "0s", &one]);
    assert_eq!(machine.create("all", &three).code, 1);
    here.ok(&["start", &one]);
    here.ok(&["rm", "--force", &one]);
    let dry = here.json(&["create", "--dry-run", "--gpus", "1", IMAGE]);
    assert_eq!(dry["gpus"], given[0].as_str());
    assert_eq!(machine.given(&given[0], &three), given[..1]);
    here.ok(&["rm", "--force", &two, &three]);
    let all = machine.given("all", &unique("all"));
    assert_eq!(BTreeSet::from_iter(all), both);
}

#[test]
fn shared_gpus_are_spread_evenly_on_docker() {
    shared("docker");
}

#[test]
fn shared_gpus_are_spread_evenly_on_podman() {
    shared("podman");
}

fn shared(runtime: &str) {
    let machine = Machine::with(runtime, 2, "share_gpus = true\ngpus = 1");
    let given: Vec<String> = (0..4).flat_map(|_| machine.given("1", &unique("shared"))).collect();
    for uuid in &machine.uuids {
        assert_eq!(given.iter().filter(|given| *given == uuid).count(), 2, "{given:?}");
    }
    for asked in ["2", "all", &machine.uuids.join(",")] {
        let refused = machine.create(asked, &unique("many"));
        assert_eq!(refused.code, 5, "{asked}: {refused:?}");
        assert!(refused.stderr.contains("a request of 2 GPUs is 1 GPU over the limit"), "{refused:?}");
    }
}

#[test]
fn many_creates_at_once_never_share_a_docker_gpu() {
    many_at_once("docker");
}

#[test]
fn many_creates_at_once_never_share_a_podman_gpu() {
    many_at_once("podman");
}

/// Half of them ask a host, half are processes of their own on the same data folder.
fn many_at_once(runtime: &str) {
    let machine = Machine::with(runtime, 5, "");
    let host = machine.here.serve();
    let local: &[&str] = &[];
    let remote: &[&str] = &["--on", &host.address];
    let ends: Vec<Run> = std::thread::scope(|scope| {
        let create = |index: usize| {
            let place = if index.is_multiple_of(2) { local } else { remote };
            let create: &[&str] =
                &["--json", "create", "--gpus", "1", IMAGE, "--", "sh", "-c", "env; sleep 1000"];
            let command = machine.here.command(&[place, create].concat());
            scope.spawn(move || run_within(command, std::time::Duration::from_secs(120)))
        };
        let all: Vec<_> = (0..20).map(create).collect();
        all.into_iter().map(|thread| thread.join().expect("it ended")).collect()
    });
    let (made, refused): (Vec<_>, Vec<_>) = ends.into_iter().partition(|end| end.code == 0);
    assert!(
        refused.iter().all(|end| end.code == 1 && end.stderr.contains("none of 5 is free")),
        "{refused:?}"
    );
    let given: Vec<String> = made.iter().flat_map(gpus_of).collect();
    assert_eq!(given.len(), 5, "{given:?}");
    assert_eq!(BTreeSet::from_iter(given), BTreeSet::from_iter(machine.uuids.clone()));
    for made in &made {
        let info: Value = serde_json::from_str(made.stdout.trim()).expect("a create prints JSON");
        let name = info["name"].as_str().expect("a container has a name");
        assert_eq!(machine.seen_in(name), gpus_of(made));
    }
}

#[test]
fn an_engine_that_cannot_hand_a_gpu_over_says_what_is_missing_and_keeps_nothing() {
    for (runtime, says, hint) in [
        ("docker", "docker: could not select device driver", "install the NVIDIA container toolkit"),
        ("podman", "podman: podman knows no such GPU on this machine", "--device-name-strategy=uuid"),
    ] {
        let machine = Machine::new(1, "");
        let name = unique("failing");
        let failed = machine.here.gx(&[
            "create",
            "--runtime",
            runtime,
            "--gpus",
            "1",
            "--name",
            &name,
            IMAGE,
            "--",
            "sleep",
            "1000",
        ]);
        assert!(failed.code != 0 && failed.stderr.contains(says), "{failed:?}");
        assert!(failed.stderr.contains(hint), "{failed:?}");
        assert_ne!(try_engine(runtime, &["inspect", &format!("gx-{name}")]).code, 0, "nothing stays");
        let doctor = machine.here.gx(&["doctor"]);
        assert!(doctor.stdout.contains(&format!("podman has no description of {}", machine.uuids[0])));
        // Nobody has the GPU now.
        let dry = machine.here.json(&["create", "--dry-run", "--runtime", runtime, "--gpus", "all", IMAGE]);
        assert_eq!(dry["gpus"], machine.uuids[0].as_str());
    }
}

#[test]
fn nobody_gets_a_gpu_while_an_engine_that_may_have_given_it_is_silent() {
    let mut machine = Machine::with("docker", 1, "");
    machine.given("1", &unique("holder"));
    machine.end_engine();
    let refused = machine.here.gx(&["create", "--runtime", "podman", "--gpus", "1", IMAGE]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.starts_with("error: cannot tell which GPUs are free: docker: "), "{refused:?}");
    assert!(refused.stderr.contains("\n  hint: start it"), "{refused:?}");
}

#[test]
fn an_image_cannot_claim_a_gpu() {
    let machine = Machine::with("podman", 1, "");
    let image = unique("localhost/gx-claims");
    let containerfile = format!("FROM localhost/gx-busybox\nLABEL gx.gpus={}\n", machine.uuids[0]);
    let folder = machine.here.path("context");
    std::fs::create_dir(&folder).expect("a folder can be made");
    std::fs::write(folder.join("Containerfile"), containerfile).expect("a file can be written");
    engine("podman", &["build", "-q", "-t", &image, &folder.display().to_string()]);
    let claiming = unique("claiming");
    let made = machine.here.gx(&["create", "--name", &claiming, &image, "--", "sleep", "1000"]);
    let given = machine.create("1", &unique("honest"));
    machine.here.gx(&["rm", "--force", &claiming]);
    try_engine("podman", &["rmi", &image]);
    assert_eq!((made.code, given.code), (0, 0), "{made:?} {given:?}");
}
