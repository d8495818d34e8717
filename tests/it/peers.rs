//! The table of servers over real sockets: a network of eight real servers of which a client knows one, servers that end and
//! come, the best of them for a container, many programs on one file, and peers that are not as they should be.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Host, IMAGE, Removed, Surroundings, eventually, free_port, run, signal, unique};

/// A server that exchanges its table often, and knows these.
fn server(seeds: &[&str], more: &str) -> Surroundings {
    Surroundings::new().configured(&format!(
        "[plugins.docker]\nenabled = {}\n[plugins.podman]\nenabled = false\n[peers]\nexchange_every = \"1s\"\nseeds = {seeds:?}\n{more}",
        more.contains("docker-here"),
    ))
}

/// Returns the servers in somebody's table that have not taken leave, by node id.
fn table(there: &Surroundings) -> Vec<Value> {
    there.json(&["peers", "list", "--all"])["peers"].as_array().expect("a list").clone()
}

fn ids<'a>(peers: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    peers.into_iter().filter_map(|peer| peer["node_id"].as_str().map(str::to_owned)).collect()
}

fn in_state<'a>(peers: &'a [Value], state: &str) -> Vec<&'a Value> {
    peers.iter().filter(|peer| peer["state"] == state).collect()
}

/// Returns where servers are.
fn places(peers: &[Value]) -> BTreeSet<String> {
    peers.iter().map(|peer| peer["addresses"][0].to_string()).collect()
}

/// Starts servers each of which knows the one before.
fn chain(count: usize) -> Vec<(Surroundings, Host)> {
    let mut all: Vec<(Surroundings, Host)> = Vec::new();
    for _ in 0..count {
        let seeds: Vec<&str> = all.last().map(|(_, host)| host.address.as_str()).into_iter().collect();
        let there = server(&seeds, "");
        let host = there.serve();
        all.push((there, host));
    }
    all
}

#[test]
fn a_client_that_knows_one_of_eight_comes_to_know_and_measure_all() {
    let mut network = chain(8);
    let all: BTreeSet<String> = network.iter().map(|(_, host)| host.node.clone()).collect();
    eventually("all servers know all", || {
        network
            .iter()
            .all(|(there, host)| {
                let mut others = all.clone();
                others.remove(&host.node);
                ids(&table(there)) == others
            })
            .then_some(())
    });
    let client = Surroundings::new();
    client.ok(&["peers", "add", &network[3].1.address]);
    assert_eq!(table(&client).len(), 1);
    let first = client.json(&["peers", "update", "--hops", "3"]);
    assert_eq!(ids(first["peers"].as_array().expect("a list")), all, "{first}");
    // One that a busy machine kept from answering in time is live the next time.
    let updated = eventually("all are live", || {
        let updated = client.json(&["peers", "update", "--hops", "3"]);
        (in_state(updated["peers"].as_array()?, "live").len() == 8).then_some(updated)
    });
    let peers = updated["peers"].as_array().expect("a list");
    assert_eq!(ids(peers), all, "{updated}");
    for peer in peers {
        let ms = peer["seen"]["latency_ms"].as_f64().expect("it was measured");
        assert!(ms > 0.0, "{peer}");
        assert!(peer["record"]["cpus"].as_u64().expect("a number") > 0, "{peer}");
    }
    let order: Vec<&str> = peers.iter().filter_map(|peer| peer["node_id"].as_str()).collect();
    assert_eq!(order.len(), 8);

    // Three vanish without a word, one comes.
    let mut gone = BTreeSet::new();
    for (_, host) in &mut network[5..] {
        host.kill();
        gone.insert(host.node.clone());
    }
    let there = server(&[&network[0].1.address], "");
    let newcomer = there.serve();
    eventually("the first server knows the newcomer", || {
        ids(&table(&network[0].0)).contains(&newcomer.node).then_some(())
    });
    eventually("the servers pass it on", || {
        network[..5].iter().all(|(there, _)| ids(&table(there)).contains(&newcomer.node)).then_some(())
    });
    let updated = client.json(&["peers", "update", "--hops", "3"]);
    let peers = updated["peers"].as_array().expect("a list");
    let living: BTreeSet<String> = all.difference(&gone).cloned().chain([newcomer.node.clone()]).collect();
    assert_eq!(ids(in_state(peers, "live")), living, "{updated}");
    assert_eq!(ids(in_state(peers, "stale")), gone, "{updated}");

    // Who takes leave is gone at once, for all.
    let (_, leaving) = &network[1];
    signal(leaving.pid(), "TERM");
    let left = leaving.node.clone();
    eventually("all know that it left", || {
        client.ok(&["peers", "update", "--hops", "3"]);
        (!ids(&table(&client)).contains(&left)).then_some(())
    });
}

#[test]
fn servers_learn_of_a_new_key_and_forget_the_old_one() {
    let mut network = chain(3);
    let knows = |there: &Surroundings, node: &str| ids(&table(there)).contains(node);
    let (there, mut host) = network.remove(1);
    let old = host.node.clone();
    eventually("all know it", || network.iter().all(|(other, _)| knows(other, &old)).then_some(()));
    host.kill(); // it says nothing more
    let rotated = there.json(&["id", "rotate"]);
    let host = there.serve_at(&host.address);
    assert_eq!(rotated["node_id"], host.node.as_str());
    eventually("all know the new key, and the old one has taken leave", || {
        let all = network.iter().all(|(other, _)| knows(other, &host.node) && !knows(other, &old));
        (all && !knows(&there, &old)).then_some(())
    });
    let shown = network[0].0.json(&["peers", "update"]);
    let live = ids(in_state(shown["peers"].as_array().expect("a list"), "live"));
    assert!(live.contains(&host.node) && !live.contains(&old), "{shown}");
}

#[test]
fn eight_programs_on_one_table_lose_nothing_and_a_killed_one_harms_nothing() {
    let here = Surroundings::new();
    here.ok(&["id"]);
    let add = |number: u16| {
        let address = format!("127.0.0.1:{number}");
        here.command(&["peers", "add", "--offline", &address])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("gx starts")
    };
    for round in 0..4_u16 {
        let writers: Vec<_> = (0..8).map(|writer| add(1_000 + round * 8 + writer)).collect();
        for mut writer in writers {
            assert!(writer.wait().expect("it ends").success());
        }
    }
    assert_eq!(table(&here).len(), 32);
    // Killed at whatever moment, a writer leaves a whole table.
    for number in 0..24_u16 {
        let mut writer = add(2_000 + number);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(u64::from(number) * 2)
            && writer.try_wait().expect("a child").is_none()
        {
            std::thread::yield_now();
        }
        let _ = writer.kill();
        let _ = writer.wait();
        let peers = table(&here);
        assert!(peers.len() >= 32, "{}", peers.len());
    }
    // Killed by the kernel at a certain byte of the file, which is some at its beginning, its middle and its end.
    let whole = std::fs::metadata(here.data().join("peers.json")).expect("the table is there").len();
    let before = places(&table(&here));
    for at in (0..whole).step_by(usize::try_from(whole / 16).expect("a short file")).chain([whole - 1]) {
        let add = here.command(&["peers", "add", "--offline", "127.0.0.1:3000"]);
        let mut limited = std::process::Command::new("prlimit");
        limited.arg(format!("--fsize={at}")).arg("--core=0").arg(add.get_program()).args(add.get_args());
        add.get_envs().for_each(|(name, value)| match value {
            Some(value) => drop(limited.env(name, value)),
            None => drop(limited.env_remove(name)),
        });
        let ended = run(limited);
        assert_eq!(ended.code, 128 + 25, "SIGXFSZ at byte {at}: {ended:?}");
        assert_eq!(places(&table(&here)), before, "killed at byte {at}");
    }
    // One that is damaged is set aside, and named.
    let file = here.data().join("peers.json");
    let text = std::fs::read_to_string(&file).expect("the table is there");
    std::fs::write(&file, &text[..text.len() / 2]).expect("a file can be written");
    let told = here.gx(&["peers", "list"]);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.stderr.contains("is damaged") && told.stderr.contains("peers.damaged-0.json"), "{told:?}");
}

#[test]
fn a_container_lands_on_the_best_that_takes_it() {
    let one = server(&[], "labels = { region = \"eu-west\", kind = \"docker-here\" }\n");
    let one_host = one.serve();
    let two = server(&[&one_host.address], "labels = { region = \"eu-north\", kind = \"docker-here\" }\n");
    let two_host = two.serve();
    let here = Surroundings::new();
    here.ok(&["peers", "add", "--offline", &one_host.address]);
    let both = BTreeSet::from([one_host.node.clone(), two_host.node.clone()]);
    eventually("both are known, with what they have", || {
        let updated = here.json(&["peers", "update"]);
        let docker = |peer: &&Value| peer["record"]["runtimes"] == json!(["docker"]);
        (ids(updated["peers"].as_array()?.iter().filter(docker)) == both).then_some(())
    });
    // The better one of the two has let nobody in.
    let ranked = || -> Vec<String> {
        let best = here.ok(&["--quiet", "peers", "best", "--explain", "--needs", "label.region=eu-*"]);
        best.lines().map(str::to_owned).collect()
    };
    let taken_by_one = ranked()[1] == one_host.node;
    let (taker, host, region) = match taken_by_one {
        true => (&one, &one_host, "eu-west"),
        false => (&two, &two_host, "eu-north"),
    };
    let ticket = taker.ok(&["invite", "--address", &host.address]);
    here.ok(&["join", "--name", "lab", ticket.trim()]);
    eventually("the other one is the better one", || {
        let second = ranked()[1] == host.node;
        if !second {
            here.ok(&["peers", "update"]);
        }
        second.then_some(())
    });
    let needs = format!("label.region={region}");
    let explained = here.ok(&["peers", "best", "--needs", &needs, "--explain"]);
    assert!(
        explained.contains("1   lab") && explained.contains(&format!("does not fit: {needs}")),
        "{explained}"
    );

    let name = unique("best");
    let _removed = Removed("docker", format!("gx-{name}"));
    let create = [
        "--on",
        "best",
        "create",
        "--needs",
        "label.region=eu-*",
        "--name",
        &name,
        IMAGE,
        "--",
        "sleep",
        "600",
    ];
    let made = here.gx(&create);
    assert_eq!(made.code, 0, "{made:?}");
    // The strange one refuses, and it is said before the one that takes it.
    let refused = made.stderr.find("not on ").expect("it says who refuses");
    assert!(made.stderr[refused + 4..].contains("\non lab: "), "{made:?}");
    assert!(made.stdout.contains(&format!("gx --on lab ssh {name}")), "{made:?}");
    assert_eq!(here.json(&["--on", "lab", "show", &name])["name"], name.as_str());

    let nobody = here.gx(&["--on", "best", "create", "--needs", "gpu>=64", IMAGE]);
    assert_eq!(nobody.code, 1, "{nobody:?}");
    assert!(nobody.stderr.contains("servers fits") && nobody.stderr.contains("it has"), "{nobody:?}");
}

/// Somebody who listens, and does this with each connection.
fn peer(behave: impl Fn(TcpStream) + Send + Sync + Copy + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || behave(stream));
        }
    });
    address
}

#[test]
fn bad_peers_change_neither_the_result_nor_the_time_by_much() {
    let network = chain(3);
    let all: BTreeSet<String> = network.iter().map(|(_, host)| host.node.clone()).collect();
    eventually("the servers know each other", || (table(&network[0].0).len() == 2).then_some(()));
    let silent = peer(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let garbage = peer(|mut stream| drop(stream.write_all(&[0x16; 4_096])));
    let refusing = format!("127.0.0.1:{}", free_port());
    let client = Surroundings::new();
    client.ok(&["peers", "add", "--offline", &network[0].1.address, &silent, &garbage, &refusing]);
    let begun = Instant::now();
    let updated = client.json(&["peers", "update"]);
    let took = begun.elapsed();
    let peers = updated["peers"].as_array().expect("a list");
    assert_eq!(ids(in_state(peers, "live")), all, "{updated}");
    assert_eq!(in_state(peers, "stale").len(), 3, "{updated}");
    // The time to connect, which the silent one takes, and some for this machine.
    assert!(took < Duration::from_secs(25), "{took:?}");
}

#[test]
fn ctrl_c_keeps_what_was_learned() {
    let there = server(&[], "");
    let host = there.serve();
    let silent = peer(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let client = Surroundings::new();
    client.ok(&["peers", "add", "--offline", &host.address, &silent]);
    let mut updating = client
        .command(&["peers", "update"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gx starts");
    let said = BufReader::new(updating.stderr.take().expect("stderr is piped"));
    // The first has answered by then, and the other keeps it waiting.
    let asked = said.lines().map_while(Result::ok).find(|line| line.contains("hop 2"));
    assert!(asked.is_some(), "it ended before");
    signal(updating.id(), "INT");
    let ended = updating.wait().expect("its end can be waited for");
    assert_eq!(ended.code(), Some(130));
    assert_eq!(ids(&table(&client)), BTreeSet::from([host.node.clone()]));
}

#[test]
fn servers_are_known_and_measured_over_ipv6() {
    let first = server(&[], "");
    let first_host = first.serve_at("[::1]:0");
    let second = server(&[&first_host.address], "");
    let second_host = second.serve_at("[::1]:0");
    let client = Surroundings::new();
    client.ok(&["peers", "add", &first_host.address]);
    let both = BTreeSet::from([first_host.node.clone(), second_host.node.clone()]);
    eventually("both are known and live", || {
        let updated = client.json(&["peers", "update"]);
        (ids(in_state(updated["peers"].as_array()?, "live")) == both).then_some(())
    });
    let measured = client.json(&["peers", "update", "--hops", "0", "--measure", "metered"]);
    for peer in measured["peers"].as_array().expect("a list") {
        assert!(peer["addresses"][0].as_str().expect("an address").starts_with("[::1]:"), "{peer}");
        assert!(peer["seen"]["download_bps"].as_f64().expect("it was measured") > 1e6, "{peer}");
        assert!(peer["seen"]["upload_bps"].as_f64().expect("it was measured") > 1e6, "{peer}");
    }
}

#[test]
fn what_is_measured_or_joined_is_in_the_table_and_the_table_leads_there() {
    let there = server(&[], "");
    let host = there.serve();
    eventually("the host says what it is", || {
        let asked = Surroundings::new();
        asked.ok(&["peers", "add", &host.address]);
        (ids(&table(&asked)) == BTreeSet::from([host.node.clone()])).then_some(())
    });
    // By measuring it.
    let here = Surroundings::new();
    let report = here.json(&["peers", "measure", "--metered", &host.address]);
    let listed = table(&here);
    assert_eq!(ids(in_state(&listed, "live")), BTreeSet::from([host.node.clone()]), "{listed:?}");
    let seen = &listed[0]["seen"];
    for figure in ["download_bps", "upload_bps"] {
        assert_eq!(seen[figure], report[figure], "{seen}");
    }
    assert_eq!(seen["latency_ms"], report["latency_ms"]["median"], "{seen}");
    assert!(here.ok(&["peers", "best"]).contains("Mbit/s"), "the best is told with what was measured");
    // Pings alone leave the figures of the throughput as they are.
    here.ok(&["peers", "measure", "--no-download", "--no-upload", &host.address]);
    let again = table(&here);
    assert_eq!(
        (&again[0]["seen"]["download_bps"], &again[0]["seen"]["measured_at"]),
        (&seen["download_bps"], &seen["measured_at"])
    );

    // By its id, whole or as lists show it, and what is no id is a name as before.
    let short = &host.node[..10];
    for on in [&*host.node, short] {
        assert_eq!(here.json(&["--on", on, "specs"])["node_id"], json!(host.node), "{on}");
    }
    let unknown = here.gx(&["--on", &"a".repeat(52), "specs"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("is not known here"), "{unknown:?}");
    assert_eq!(here.gx(&["--on", "nowhere.invalid", "specs"]).code, 3);

    // By joining it: it is there at once, and stays.
    let ann = Surroundings::new();
    ann.ok(&["join", "--name", "lab", there.ok(&["invite", "--address", &host.address]).trim()]);
    let joined = table(&ann);
    assert_eq!((&joined[0]["node_id"], &joined[0]["name"]), (&json!(host.node), &json!("lab")), "{joined:?}");
    assert_eq!((&joined[0]["pinned"], &joined[0]["state"]), (&json!(true), &json!("live")), "{joined:?}");
    assert_eq!(ann.json(&["--on", short, "id"])["role"], "member");
}

#[test]
fn a_table_is_carried_elsewhere_looked_at_and_thinned_out() {
    let network = chain(2);
    let here = Surroundings::new();
    here.ok(&["peers", "add", &network[1].1.address]);
    eventually("both are known", || {
        here.ok(&["peers", "update"]);
        (in_state(&table(&here), "live").len() == 2).then_some(())
    });
    let import = |text: &str| {
        let there = Surroundings::new();
        std::fs::write(there.path("table.json"), text).expect("a file can be written");
        let told = there.json(&["peers", "import", "table.json"]);
        (told, table(&there))
    };
    let exported = here.ok(&["peers", "export"]);
    let (told, imported) = import(&exported);
    assert_eq!((&told["new"], &told["skipped"]), (&json!(2), &json!({})), "{told}");
    assert_eq!(ids(&imported), ids(&table(&here)));
    assert_eq!(in_state(&imported, "untested").len(), 2, "what others measured is theirs: {imported:?}");
    let mut forged: Value = serde_json::from_str(&exported).expect("a table is JSON");
    let signatures = [0, 1].map(|at: usize| forged["ip_address"][at]["signature"].clone());
    let [first, second] = signatures;
    (forged["ip_address"][0]["signature"], forged["ip_address"][1]["signature"]) = (second, first);
    let (told, imported) = import(&forged.to_string());
    assert!(told["new"] == 0 && told["skipped"] != json!({}) && imported.is_empty(), "{told}");

    let order = |more: &[&str]| -> Vec<String> {
        let listed = here.json(&[&["peers", "list", "--sort", "latency"], more].concat());
        let peers = listed["peers"].as_array().expect("a list");
        peers.iter().filter_map(|peer| peer["node_id"].as_str().map(str::to_owned)).collect()
    };
    let mut reversed = order(&["--reverse"]);
    reversed.reverse();
    assert_eq!((order(&[]).len(), order(&[])), (2, reversed));
    assert!(order(&["--needs", "gpu>=64"]).is_empty());
    let (node, short) = (&network[0].1.node, &network[0].1.node[..10]);
    assert!(here.ok(&["peers", "show", short]).contains(node.as_str()));
    here.ok(&["peers", "remove", short]);
    assert_eq!(ids(&table(&here)), BTreeSet::from([network[1].1.node.clone()]));
    let unknown = here.gx(&["peers", "remove", short]);
    assert!(unknown.code == 1 && unknown.stderr.contains("hint"), "{unknown:?}");
}

#[test]
fn a_joined_host_that_moved_is_found_where_the_table_says() {
    let witness = server(&[], "");
    let witness_host = witness.serve();
    let there = server(&[&witness_host.address], "");
    let mut host = there.serve();
    let here = Surroundings::new();
    here.ok(&["join", "--name", "lab", there.ok(&["invite", "--address", &host.address]).trim()]);
    here.ok(&["peers", "add", &witness_host.address]);
    host.kill();
    let moved = there.serve();
    assert_ne!(moved.address, host.address);
    assert_eq!(here.gx(&["--on", "lab", "id"]).code, 3, "nobody says yet where it is");
    eventually("the table says where it is now", || {
        here.ok(&["peers", "update"]);
        places(&table(&here)).contains(&format!("{:?}", moved.address)).then_some(())
    });
    let found = here.gx(&["--on", "lab", "id"]);
    assert!(
        found.code == 0 && found.stderr.contains(&format!("lab is at {} now", moved.address)),
        "{found:?}"
    );
    let again = here.gx(&["--on", "lab", "id"]);
    assert!(again.code == 0 && !again.stderr.contains("lab is at"), "it is noted: {again:?}");
}

#[test]
fn measuring_many_ends_with_its_bytes() {
    let network = chain(3);
    let client = Surroundings::new();
    client.ok(&["peers", "add", &network[2].1.address]);
    eventually("all are known", || {
        let updated = client.json(&["peers", "update", "--hops", "3"]);
        (in_state(updated["peers"].as_array()?, "live").len() == 3).then_some(())
    });
    let ended = client.gx(&["peers", "update", "--hops", "0", "--measure", "metered", "--max-bytes", "4MB"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("are not measured") && ended.stderr.contains("--max-bytes"), "{ended:?}");
    let figures = table(&client).iter().filter(|peer| peer["seen"]["download_bps"].is_number()).count();
    assert!((1..3).contains(&figures), "{figures}");
    // The next one goes on with those that have no figure.
    client.ok(&["peers", "update", "--hops", "0", "--measure", "metered"]);
    assert!(table(&client).iter().all(|peer| peer["seen"]["download_bps"].is_number()));
}
