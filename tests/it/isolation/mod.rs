//! Members' containers on real engines: whom they reach, and whom they do not. Every refusal is shown beside a
//! connection that works, so that it is the rules that refuse.

mod archives;
mod lab;
mod standing;
mod users;
mod world;

use gx_core::ImageRef;
use gx_core::config::PolicyConfig;
use gx_core::network::NetworkMode;
use gx_server::ServerError;

use crate::support::{IMAGE, engine};
use lab::{Lab, Peer, Who};
use world::{HostService, World};

#[tokio::test(flavor = "multi_thread")]
async fn docker_keeps_owners_apart() {
    keeps_owners_apart("docker").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_keeps_owners_apart() {
    keeps_owners_apart("podman").await;
}

async fn keeps_owners_apart(runtime: &'static str) {
    let lab = Lab::new(runtime, PolicyConfig::default()).await;
    let [mine, brother, other] = [lab.serve(Who::A).await, lab.serve(Who::A).await, lab.serve(Who::B).await];
    let hosts = lab.serve(Who::Host).await;

    assert_eq!(
        lab.get(&mine, &brother.url()).await,
        Some(brother.page()),
        "one owner's containers reach each other"
    );
    for stranger in [&other, &hosts] {
        assert_eq!(lab.get(&mine, &stranger.url()).await, None);
        assert_eq!(lab.get(stranger, &mine.url()).await, None);
        assert_eq!(
            world::get(&stranger.published()).await,
            Some(stranger.page()),
            "its port works from the host"
        );
        assert_eq!(lab.get(&mine, &stranger.url_at_gateway(&mine)).await, None);
    }
    if runtime == "podman" {
        closes_link_local(&lab, &mine).await; // Docker gives no addresses of IPv6
    }

    let network = mine.network.clone().expect("a member's container is in a network of its owner's");
    assert_eq!(Some(&network), brother.network.as_ref());
    assert_ne!(other.network, mine.network);
    assert_eq!(hosts.network, None, "the host's own are in the engine's");
    lab.remove(mine).await;
    assert!(lab.networks().contains(&network), "another container is in it");
    lab.remove(brother).await;
    assert!(!lab.networks().contains(&network), "it goes with the last one");
    lab.end().await;
}

/// By a link-local address a container reaches its bridge, and with that the host, without any network of IPv6.
async fn closes_link_local(lab: &Lab, mine: &Peer) {
    let service = HostService::start("[::]:0");
    let bridge = mine.bridge_link_local();
    assert_eq!(lab.get_link_local(mine, &bridge, service.port()).await, None);
    lab.nft(&["delete", "table", "inet", &lab.table()]);
    assert_eq!(lab.get_link_local(mine, &bridge, service.port()).await.as_deref(), Some("host"));
    let late = lab.serve(Who::A).await;
    assert_eq!(lab.get_link_local(mine, &bridge, service.port()).await, None, "the rules are back");
    lab.remove(late).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_publishes_to_the_outside_and_not_to_other_members() {
    publishes_to_the_outside_and_not_to_other_members("docker").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_publishes_to_the_outside_and_not_to_other_members() {
    publishes_to_the_outside_and_not_to_other_members("podman").await;
}

async fn publishes_to_the_outside_and_not_to_other_members(runtime: &'static str) {
    let world = World::new();
    let lab = Lab::publishing(runtime, "0.0.0.0").await;
    let [mine, other] = [lab.serve(Who::A).await, lab.serve(Who::B).await];
    let port = other.port();
    for address in world.host_addresses() {
        let place = format!("{address}:{port}");
        assert_eq!(world::get(&place).await, Some(other.page()), "{place}");
        assert_eq!(lab.get(&mine, &format!("http://{place}/")).await, None, "{place}");
    }
    if runtime == "docker" {
        // Docker's own rules, where it is on the machine, keep the outside from Podman's ports.
        assert_eq!(world.get_from_outside(port), Some(other.page()));
    }
    assert_eq!(world.get_from_outside_at(&other.address(), 8080), None);
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_closes_the_host_and_private_networks() {
    closes_the_host_and_private_networks("docker").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_closes_the_host_and_private_networks() {
    closes_the_host_and_private_networks("podman").await;
}

async fn closes_the_host_and_private_networks(runtime: &'static str) {
    let world = World::new();
    let service = HostService::start("0.0.0.0:0");
    let lab = Lab::new(runtime, PolicyConfig::default()).await;
    let (member, hosts) = (lab.serve(Who::A).await, lab.serve(Who::Host).await);

    // The internet is open, and names are found.
    assert_eq!(lab.get(&member, &world.internet(8081)).await, Some("internet".to_owned()));
    assert!(lab.finds_names(&member).await);

    // The host's own containers reach what members' do not.
    let mut host_addresses = world.host_addresses();
    host_addresses.push(member.gateway());
    for address in host_addresses {
        let url = format!("http://{address}:{}/", service.port());
        assert_eq!(lab.get(&hosts, &url).await, Some("host".to_owned()), "{url}");
        assert_eq!(lab.get(&member, &url).await, None, "{url}");
    }
    for (url, page) in [(world.metadata(), "metadata"), (world.private(8081), "private")] {
        assert_eq!(lab.get(&hosts, &url).await.as_deref(), Some(page), "{url}");
        assert_eq!(lab.get(&member, &url).await, None, "{url}");
    }
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_opens_what_the_host_names() {
    opens_what_the_host_names("docker").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_opens_what_the_host_names() {
    opens_what_the_host_names("podman").await;
}

async fn opens_what_the_host_names(runtime: &'static str) {
    let world = World::new();
    let [open, closed] = [HostService::start("0.0.0.0:0"), HostService::start("0.0.0.0:0")];
    let named = ["169.254.169.254:80".to_owned(), format!("host:{}", open.port()), world.private_range()];
    let reach = named.iter().map(|text| text.parse().expect("a destination")).collect();
    let lab = Lab::new(runtime, PolicyConfig { reach, ..PolicyConfig::default() }).await;
    let [member, other] = [lab.serve(Who::A).await, lab.serve(Who::B).await];
    let get = async |url: String| lab.get(&member, &url).await;

    assert_eq!(get(world.metadata()).await.as_deref(), Some("metadata"));
    assert_eq!(get(world.private(8081)).await.as_deref(), Some("private"));
    for address in world.host_addresses() {
        assert_eq!(
            get(format!("http://{address}:{}/", open.port())).await.as_deref(),
            Some("host"),
            "{address}"
        );
        assert_eq!(get(format!("http://{address}:{}/", closed.port())).await, None, "{address}");
    }
    assert_eq!(
        get(other.url()).await,
        None,
        "what is open on the host does not open other owners' containers"
    );

    // What somebody takes away is back before the next container is there.
    lab.nft(&["flush", "table", "inet", &lab.table()]);
    assert_eq!(get(world.private(8082)).await.as_deref(), Some("private"));
    let late = lab.serve(Who::B).await;
    assert_eq!(lab.get(&late, &format!("http://{}:{}/", late.gateway(), closed.port())).await, None);
    lab.nft(&["delete", "table", "inet", &lab.table()]);
    lab.stop_and_start(&late).await;
    assert_eq!(lab.get(&late, &format!("http://{}:{}/", late.gateway(), closed.port())).await, None);
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_holds_an_outbound_list() {
    holds_an_outbound_list("docker").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_holds_an_outbound_list() {
    holds_an_outbound_list("podman").await;
}

async fn holds_an_outbound_list(runtime: &'static str) {
    let world = World::new();
    let outbound = vec![world.internet_at(8081).parse().expect("a destination")];
    let policy = PolicyConfig { network: NetworkMode::Outbound, outbound, ..PolicyConfig::default() };
    let lab = Lab::new(runtime, policy).await;
    let (member, hosts) = (lab.serve(Who::A).await, lab.serve(Who::Host).await);

    assert_eq!(lab.get(&member, &world.internet(8081)).await.as_deref(), Some("internet"));
    assert_eq!(lab.get(&hosts, &world.internet(8082)).await.as_deref(), Some("internet"));
    assert_eq!(lab.get(&member, &world.internet(8082)).await, None);
    assert_eq!(lab.get(&member, &world.private(8081)).await, None);
    assert!(lab.finds_names(&member).await);
    assert_eq!(world::get(&member.published()).await, Some(member.page()), "its own port is reached");

    let wide = lab.create(Who::A, |request| request.network = Some(NetworkMode::Full)).await;
    assert!(matches!(wide, Err(ServerError::OverPolicy { key: "network", .. })), "{wide:?}");
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_gives_no_network_where_none_is_wanted() {
    gives_no_network_where_none_is_wanted("docker").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_gives_no_network_where_none_is_wanted() {
    gives_no_network_where_none_is_wanted("podman").await;
}

async fn gives_no_network_where_none_is_wanted(runtime: &'static str) {
    let lab = Lab::new(runtime, PolicyConfig::default()).await;
    for who in [Who::A, Who::Host] {
        let made = lab.create(who, |request| {
            request.network = Some(NetworkMode::None);
            request.ports.clear();
            request.no_guest = false;
        });
        let made = made.await.expect("it is made");
        assert!(made.ssh.is_none() && made.ports.is_empty());
        let there = lab.output(who, made.id.as_str(), &["ls", "/sys/class/net"]).await;
        assert_eq!(there, "lo\n");
    }
    let ports = lab.create(Who::A, |request| request.network = Some(NetworkMode::None)).await;
    assert_eq!(ports.expect_err("nobody could reach them").field().as_deref(), Some("ports"));
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_gives_members_a_way_in_and_no_rights() {
    gives_members_a_way_in_and_no_rights("docker").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_gives_members_a_way_in_and_no_rights() {
    gives_members_a_way_in_and_no_rights("podman").await;
}

async fn gives_members_a_way_in_and_no_rights(runtime: &'static str) {
    let lab = Lab::new(runtime, PolicyConfig::default()).await;
    let made = lab.create(Who::A, |request| request.no_guest = false).await.expect("it is made");
    let id = made.id.as_str();
    lab.tunnel(Who::A, id).await.expect("the guest greets through its published port");
    assert!(lab.tunnel(Who::B, id).await.is_err());

    let status = lab.output(Who::A, id, &["cat", "/proc/1/status"]).await;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("{name} in {status}")).trim().to_owned()
    };
    assert_eq!((field("NoNewPrivs").as_str(), field("Seccomp").as_str()), ("1", "2"));
    let bounding = u64::from_str_radix(&field("CapBnd"), 16).expect("a mask");
    for (name, number) in
        [("NET_ADMIN", 12), ("NET_RAW", 13), ("SYS_MODULE", 16), ("SYS_ADMIN", 21), ("MKNOD", 27)]
    {
        assert_eq!(bounding >> number & 1, 0, "{name}");
    }
    for (what, command) in [
        ("a setting of the kernel", "echo 1 > /proc/sys/kernel/core_pattern"),
        ("the way the kernel starts programs", "echo x > /proc/sys/kernel/modprobe"),
        ("a trigger", "echo h > /proc/sysrq-trigger"),
        ("a device's power", "echo 0 > /sys/power/state"),
        ("a mount", "mount -t tmpfs x /mnt"),
        ("a device", "mknod /tmp/d b 8 0"),
        ("an interface", "ip link set eth0 down"),
        ("a road", "ip route replace default via 127.0.0.1"),
    ] {
        let tried = lab.exec_in(Who::A, id, &["sh", "-c", &format!("{command} 2>&1")]).await;
        assert_ne!(tried.0, 0, "{what}: {command}: {}", tried.1);
    }
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_those_of_the_hosts_policy() {
    let only = |pattern: &str| PolicyConfig {
        images: vec![pattern.parse().expect("a pattern")],
        ..PolicyConfig::default()
    };
    let lab = Lab::new("docker", only("gx-desktop")).await;
    let id = engine("docker", &["image", "inspect", "-f", "{{.Id}}", IMAGE]);
    let hex = id.trim().strip_prefix("sha256:").expect("an id").to_owned();
    for image in [IMAGE, "gx-busybox:latest", "docker.io/library/gx-busybox", id.trim(), &hex, &hex[..12]] {
        let image: ImageRef = image.parse().expect("a reference");
        let refused = lab.create(Who::A, |request| request.image = image.clone()).await;
        assert!(
            matches!(refused, Err(ServerError::OverPolicy { key: "images", .. })),
            "{image}: {refused:?}"
        );
    }
    lab.create(Who::Host, |_| {}).await.expect("the host is not bound");
    lab.end().await;
    let lab = Lab::new("docker", only("gx-busy*")).await;
    lab.create(Who::A, |_| {}).await.expect("it is among those named");
    lab.end().await;
}
