//! The rules stand whatever happens to them: flushed by somebody else, with the engine's own, while it is started again,
//! and with two hosts on one machine; and they go with the last member's container.

use std::time::Instant;

use gx_core::config::PolicyConfig;

use super::lab::{Lab, Who};
use crate::private_docker::PrivateDocker;
use crate::support::{IMAGE, Surroundings, engine, eventually, unique};

/// A member with a container that serves a page.
struct Tenant {
    here: Surroundings,
    name: String,
    address: String,
}

impl Tenant {
    fn new(docker: &PrivateDocker, there: &Surroundings, listening: &str) -> Self {
        let here = Surroundings::new().inside(&docker.network());
        let ticket = there.ok(&["invite", "--address", listening]);
        here.ok(&["join", "--name", "lab", ticket.trim()]);
        let name = unique("tenant");
        let serve = format!("mkdir -p /w && echo -n {name} > /w/index.html && exec httpd -f -p 8080 -h /w");
        let create =
            ["--on", "lab", "create", "--no-guest", "--name", &name, IMAGE, "--", "sh", "-c", &serve];
        here.ok(&create);
        let address = here.ok(&["--on", "lab", "exec", &name, "--", "hostname", "-i"]).trim().to_owned();
        Self { here, name, address }
    }

    fn url(&self) -> String {
        format!("http://{}:8080/", self.address)
    }

    /// Whether its container reaches another's; the engine is asked, as the host may be gone.
    fn reaches(&self, docker: &PrivateDocker, other: &Self) -> bool {
        let container = format!("gx-{}", self.name);
        let get = |url: &str| {
            docker.run(&["exec", &container, "timeout", "3", "wget", "-q", "-O", "-", url]).stdout
        };
        eventually("its own page is there", || (get("http://127.0.0.1:8080/") == self.name).then_some(()));
        get(&other.url()) == other.name
    }
}

#[test]
fn rules_that_are_taken_away_are_back_and_go_with_the_last_container() {
    let mut docker = PrivateDocker::start(&["--live-restore"]);
    let there = Surroundings::new().configured(&docker.config()).inside(&docker.network());
    let mut host = there.serve();
    let listening = host.address.clone();
    let tenants = [0, 1].map(|_| Tenant::new(&docker, &there, &listening));
    let [ann, bob] = &tenants;
    let table = format!("gx_{}", &host.node[..4]);
    let stands = |docker: &PrivateDocker| {
        docker.inside("nft", &["list", "table", "inet", &table]).stdout.contains("from_container")
    };
    let apart = |docker: &PrivateDocker| !ann.reaches(docker, bob) && !bob.reaches(docker, ann);
    assert!(stands(&docker) && apart(&docker));

    // Everything is flushed, Docker's own rules too.
    let began = Instant::now();
    assert_eq!(docker.inside("nft", &["flush", "ruleset"]).code, 0);
    eventually("the rules are back", || stands(&docker).then_some(()));
    let took = began.elapsed();
    println!("the rules were back after {} ms", took.as_millis());
    assert!(apart(&docker));
    assert_eq!(docker.inside("nft", &["flush", "table", "inet", &table]).code, 0);
    eventually("what was in the table is back", || stands(&docker).then_some(()));

    // The engine starts again, with its containers running.
    docker.restart();
    assert!(stands(&docker) && apart(&docker));

    // What keeps them apart is the rules: without, and without a host that puts them back, they are open.
    host.kill();
    docker.inside("nft", &["flush", "ruleset"]);
    assert!(ann.reaches(&docker, bob) && bob.reaches(&docker, ann), "nothing else keeps them apart here");
    let _host = there.serve_at(&listening);
    eventually("the next start closes them off", || stands(&docker).then_some(()));
    assert!(apart(&docker));

    ann.here.ok(&["--on", "lab", "rm", "--force", &ann.name]);
    assert!(stands(&docker), "another member has a container");
    bob.here.ok(&["--on", "lab", "rm", "--force", &bob.name]);
    let left = docker.inside("nft", &["list", "tables"]).stdout;
    assert!(!left.contains("gx_"), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_on_one_machine_keep_each_others_members_apart() {
    let [lab, other] = [(); 2].map(|()| Lab::new("docker", PolicyConfig::default()));
    let (lab, other) = (lab.await, other.await);
    let (mine, theirs) = (lab.serve(Who::A).await, other.serve(Who::A).await);
    assert_ne!(lab.table(), other.table());
    assert_eq!(lab.get(&mine, &theirs.url()).await, None);
    assert_eq!(other.get(&theirs, &mine.url()).await, None);
    let third = lab.serve(Who::B).await;
    lab.end().await;
    other.nft(&["list", "table", "inet", &other.table()]);
    assert_eq!(other.get(&theirs, &theirs.url()).await, Some(theirs.page()));
    drop((mine, third));
    other.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podmans_networks_are_loaded_again_and_stay_closed() {
    let lab = Lab::new("podman", PolicyConfig::default()).await;
    let (mine, other) = (lab.serve(Who::A).await, lab.serve(Who::B).await);
    engine("podman", &["network", "reload", mine.id(), other.id()]);
    assert_eq!(lab.get(&mine, &other.url()).await, None);
    assert_eq!(lab.get(&other, &mine.url()).await, None);
    lab.end().await;
}
