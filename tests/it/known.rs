//! Whom a borrower knows: the first node at an address is remembered, another is refused with the way out, and a host
//! without TLS is reached on this machine alone.

use crate::support::{Host, Surroundings, eventually, run};

/// Ends a host, and starts another node at its address.
fn replaced(host: Host) -> (Surroundings, Host) {
    let address = host.address.clone();
    drop(host);
    let other = Surroundings::new();
    let host = eventually("the address is free", || other.try_serve(&["--listen", &address]).ok());
    (other, host)
}

#[test]
fn the_first_node_is_remembered_and_another_is_refused_with_the_way_out() {
    let (here, there) = (Surroundings::new(), Surroundings::new());
    let host = there.serve();
    let (address, node) = (host.address.clone(), host.node.clone());
    assert_eq!(there.ok(&["id"]), format!("{node}\n"));
    assert_eq!(there.json(&["id"])["node_id"], node.as_str());
    assert_eq!(here.json(&["id", "known"]), serde_json::json!([]));

    let first = here.gx(&["--on", &address, "specs"]);
    let told = format!("{address} is from now on known as node {node}\n");
    assert_eq!((first.code, first.stderr.as_str()), (0, told.as_str()));
    let second = here.gx(&["specs", &address]);
    assert_eq!((second.code, second.stderr.as_str()), (0, ""), "it is told once");
    assert_eq!(here.json(&["id", "known"])[0]["node"], node.as_str());

    let (_other, host) = replaced(host);
    let refused = here.gx(&["--on", &address, "specs"]);
    let expected = format!(
        "error: {address} is another node: {} answers, and {node} is expected\n  hint: nothing was sent. Either the \
         host has a new key, or somebody else answers in its place: ask its owner whether `gx id` there prints {}, \
         and only then `gx id forget {address}`\n",
        host.node, host.node
    );
    assert_eq!((refused.code, refused.stderr), (5, expected));
    let named = format!("{}@{address}", host.node);
    assert_eq!(here.gx(&["--on", &named, "specs"]).code, 0, "who is named is who is meant");
    let wrong = here.gx(&["--on", &format!("{node}@{address}"), "specs"]);
    assert!(wrong.code == 5 && wrong.stderr.contains("ask the host's owner"), "{wrong:?}");

    let forgotten = here.ok(&["id", "forget", &address]);
    assert_eq!(forgotten, format!("{address} is forgotten; node {node} answered there\n"));
    let again = here.gx(&["id", "forget", &address]);
    assert!(again.code == 1 && again.stderr.contains("`gx id known` lists"), "{again:?}");
    let third = here.gx(&["--on", &address, "specs", "--json"]);
    assert_eq!((third.code, third.stderr.as_str()), (0, ""), "programs are told nothing");
}

#[test]
fn a_damaged_list_trusts_nobody_anew() {
    let (here, there) = (Surroundings::new(), Surroundings::new());
    let host = there.serve();
    here.ok(&["--on", &host.address, "specs"]);
    std::fs::write(here.data().join("known_hosts.json"), "{").expect("a file can be written");
    let refused = here.gx(&["--on", &host.address, "specs"]);
    assert!(refused.code == 1 && refused.stderr.contains("is damaged"), "{refused:?}");
    assert!(refused.stderr.contains("move the file away"), "{refused:?}");
}

#[test]
fn without_tls_a_host_is_reached_on_this_machine_alone() {
    let there = Surroundings::new();
    let host = there.try_serve(&["--plain", "--listen", "127.0.0.1:0"]).expect("it serves");
    let here = Surroundings::new();
    here.ok(&["--on", &format!("plain:{}", host.address), "list"]);
    assert!(!here.data().join("node.key").exists(), "nobody asked for a key");
    let refused = here.gx(&["--on", &host.address, "list"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stderr.contains(&format!("plain:{}", host.address)), "{refused:?}");
    drop(host);

    let beyond = there.gx(&["serve", "--plain", "--listen", "0.0.0.0:0"]);
    assert_eq!(beyond.code, 5, "{beyond:?}");
    assert!(beyond.stderr.contains("insecure = true"), "{beyond:?}");
    let far = here.gx(&["--on", "plain:box", "list"]);
    assert!(far.code == 2 && far.stderr.contains("this machine only"), "{far:?}");

    let careless = Surroundings::new().configured("[server]\nplain = true\ninsecure = true\n");
    let host = careless.try_serve(&["--listen", "0.0.0.0:0"]).expect("it serves");
    let port = host.address.rsplit(':').next().expect("a port");
    let plain = format!("plain:127.0.0.1:{port}");
    assert_eq!(careless.gx(&["--on", &plain, "specs"]).code, 0);
    assert_eq!(careless.gx(&["--on", &plain, "list"]).code, 5, "even its owner is a stranger");
}

#[test]
fn a_host_may_be_reached_at_every_address_of_its_machine() {
    let there = Surroundings::new();
    let host = there.try_serve(&["--listen", "0.0.0.0:0"]).expect("it serves");
    let port = host.address.rsplit(':').next().expect("a port");
    for address in ["127.0.0.1", "127.8.9.10"] {
        there.ok(&["--on", &format!("{}@{address}:{port}", host.node), "list"]);
    }
}

#[test]
fn a_key_press_meets_nobody() {
    let (here, there) = (Surroundings::new(), Surroundings::new());
    let host = there.serve();
    host.is_owned_from(&here);
    let candidates = || {
        let mut shell = here.command(&["--", "gx", "create", "--runtime", ""]);
        shell.env("GX_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "3").env("GX_ON", &host.address);
        run(shell).stdout
    };
    assert_eq!(candidates(), "");
    assert!(!here.data().join("known_hosts.json").exists());
    here.ok(&["--on", &host.address, "specs"]);
    eventually("who is known is asked", || candidates().contains("docker").then_some(()));
}
