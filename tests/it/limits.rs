//! Limits and the audit log of a real host: nothing is lent twice by processes that know nothing of each other, and who
//! did what is known also after a kill.

use std::io::Write;
use std::process::Stdio;

use crate::support::{IMAGE, Removed, Surroundings, eventually, unique};

#[test]
fn processes_at_the_same_time_stay_within_the_limits_together() {
    let here = Surroundings::new()
        .configured("[client]\nruntime = \"docker\"\n[server.totals]\nmemory = \"64MiB\"\n");
    let host = here.serve();
    let names: Vec<String> = (0..8).map(|number| unique(&format!("room{number}"))).collect();
    let _removed: Vec<Removed> = names.iter().map(|name| Removed("docker", format!("gx-{name}"))).collect();
    let creates: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(number, name)| {
            let on = if number % 2 == 0 { "local" } else { &host.address };
            let args =
                ["--on", on, "create", "--memory", "16MiB", "--name", name, IMAGE, "--", "sleep", "1000"];
            let mut command = here.command(&args);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gx starts")
        })
        .collect();
    let outputs: Vec<_> =
        creates.into_iter().map(|create| create.wait_with_output().expect("gx ends")).collect();
    let made = outputs.iter().filter(|output| output.status.success()).count();
    for refused in outputs.iter().filter(|output| !output.status.success()) {
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("over what this host has left"), "{said}");
    }
    assert!((1..=4).contains(&made), "{made} were made");
    let totals = &here.json(&["specs"])["totals"]["memory_bytes"];
    assert_eq!(totals["limit"], 64 << 20);
    assert_eq!(totals["used"], made << 24);
    // Where there is room again, it is given.
    let first = names.iter().zip(&outputs).find(|(_, output)| output.status.success());
    here.ok(&["rm", "-f", first.expect("one was made").0]);
    let name = unique("again");
    let _again = Removed("docker", format!("gx-{name}"));
    here.ok(&["create", "--memory", "16MiB", "--name", &name, IMAGE, "--", "sleep", "1000"]);
}

#[test]
fn who_did_what_is_known_after_a_kill() {
    let here = Surroundings::new();
    let stranger = Surroundings::new();
    let denied = |host: &str| {
        let refused = stranger.gx(&["--on", host, "list"]);
        assert_eq!(refused.code, 5, "{refused:?}");
    };
    let log = here.data().join("audit.log");
    let lines = || std::fs::read_to_string(&log).map_or(0, |text| text.lines().count());
    let mut host = here.serve();
    denied(&host.address);
    eventually("it is written", || (lines() == 1).then_some(()));
    host.kill();
    let mut file = std::fs::File::options().append(true).open(&log).expect("the log is there");
    file.write_all(b"{\"time\":\"half an ent").expect("it can be written");

    let host = here.serve();
    denied(&host.address);
    eventually("it is written", || (lines() == 2).then_some(()));
    let text = here.ok(&["audit", "--denied", "--who", "stranger", "--json"]);
    let entries: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("an entry is JSON")).collect();
    assert_eq!(entries.len(), 2, "{text}");
    for entry in &entries {
        assert_eq!(
            (&entry["verb"], &entry["code"]),
            (&"GET /v1/containers".into(), &"PermissionDenied".into())
        );
        assert!(entry["from"].as_str().is_some_and(|from| from.starts_with("127.0.0.1:")), "{entry}");
        assert!(entry["node"].is_string() && entry["allowed"] == false, "{entry}");
    }
    assert_eq!(here.ok(&["audit", "--who", "host"]), "");
}
