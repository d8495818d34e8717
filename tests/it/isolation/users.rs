//! Users of their own: where the host requires it, members' containers have none of the machine's, and where an engine cannot
//! give any, they have no containers there.

use std::time::Instant;

use gx_core::config::{PolicyConfig, UserNamespaces};
use gx_server::ServerError;

use super::lab::{Lab, Who};
use crate::private_docker::PrivateDocker;
use crate::support::{IMAGE, Surroundings, unique};

fn required() -> PolicyConfig {
    PolicyConfig { user_namespaces: UserNamespaces::Required, ..PolicyConfig::default() }
}

/// What /proc/self/uid_map says on this machine: every id is itself.
const OF_THE_MACHINE: [&str; 2] = ["0", "0"];

fn first_ids(map: &str) -> Vec<&str> {
    map.split_whitespace().take(2).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_gives_members_users_of_their_own_and_a_way_in() {
    let (lab, plain) =
        (Lab::new("podman", required()).await, Lab::new("podman", PolicyConfig::default()).await);
    let map = async |lab: &Lab, who, id: &str| lab.output(who, id, &["cat", "/proc/self/uid_map"]).await;
    let began = Instant::now();
    let made = lab.create(Who::A, |request| request.no_guest = false).await.expect("it is made");
    let with = began.elapsed();
    let began = Instant::now();
    let open = plain.create(Who::A, |request| request.no_guest = false).await.expect("it is made");
    println!("made in {} ms, without users of its own in {}", with.as_millis(), began.elapsed().as_millis());
    assert_eq!(first_ids(&map(&plain, Who::A, open.id.as_str()).await), OF_THE_MACHINE);
    plain.end().await;

    let own = map(&lab, Who::A, made.id.as_str()).await;
    assert!(first_ids(&own)[0] == "0" && first_ids(&own)[1] != "0", "{own}");
    lab.tunnel(Who::A, made.id.as_str()).await.expect("its SSH server greets");
    let wrote = ["sh", "-c", "id -u; echo x > /etc/mine && cat /etc/mine"];
    assert_eq!(lab.output(Who::A, made.id.as_str(), &wrote).await, "0\nx\n", "it is root within");
    // Another's are others, and the host's own container is as the engine makes it.
    let other = lab.create(Who::B, |_| {}).await.expect("it is made");
    assert_ne!(first_ids(&map(&lab, Who::B, other.id.as_str()).await)[1], first_ids(&own)[1]);
    let hosts = lab.create(Who::Host, |_| {}).await.expect("it is made");
    assert_eq!(first_ids(&map(&lab, Who::Host, hosts.id.as_str()).await), OF_THE_MACHINE);
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_without_them_makes_nothing_for_members() {
    let lab = Lab::new("docker", required()).await;
    let refused = lab.create(Who::A, |_| {}).await;
    let Err(error @ ServerError::NoUserNamespaces { .. }) = refused else { panic!("{refused:?}") };
    assert!(error.hint().expect("a hint").contains("userns-remap"), "{error:?}");
    lab.create(Who::Host, |_| {}).await.expect("the host is not bound");
    lab.end().await;
}

#[test]
fn docker_that_remaps_users_makes_containers_for_members() {
    let docker = PrivateDocker::start(&["--userns-remap=default"]);
    let config = format!("[server.policy]\nuser_namespaces = \"required\"\n{}", docker.config());
    let there = Surroundings::new().configured(&config).inside(&docker.network());
    let here = Surroundings::new().inside(&docker.network());
    let host = there.serve();
    let ticket = there.ok(&["invite", "--address", &host.address]);
    here.ok(&["join", "--name", "lab", ticket.trim()]);
    let name = unique("remapped");
    here.ok(&["--on", "lab", "create", "--name", &name, IMAGE, "--", "sleep", "600"]);
    let map = here.ok(&["--on", "lab", "exec", &name, "--", "cat", "/proc/self/uid_map"]);
    assert!(first_ids(&map)[0] == "0" && first_ids(&map)[1] != "0", "{map}");
    assert_eq!(here.ok(&["--on", "lab", "ssh", &name, "--", "id", "-u"]), "0\n");
    here.ok(&["--on", "lab", "rm", "--force", &name]);
}
