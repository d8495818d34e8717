//! The way into containers: the guest is put in front of what they run, and only who makes one is told the secrets.

use gx_core::api::{ContainerInfo, CreateRequest};
use gx_core::container::label;
use gx_core::guest::{self, Settings};
use gx_core::image::ImageProcess;
use gx_core::runtime::ExecSpec;
use gx_core::ssh::PublicKey;
use gx_core::stream::{Input, Output};
use gx_core::{ContainerSpec, ContainerState, ErrorCode, RuntimeError};

use super::{Host, argv, named, sleeper};
use crate::error::{Result, ServerError};
use crate::node::Caller;

/// Returns a host whose images run as `app`, for this machine, with these labels.
async fn host_with(labels: &[(&str, &str)]) -> Host {
    let host = Host::new().await;
    let process = ImageProcess { user: "app".to_owned(), ..ImageProcess::default() };
    host.probe().tell(process, labels, &own_platform());
    host
}

fn own_platform() -> String {
    format!("linux/{}", crate::node::architecture())
}

fn public_key() -> String {
    PublicKey::ed25519(&[7; 32]).to_string()
}

async fn settings(host: &Host, made: &ContainerInfo) -> Settings {
    let text = host.probe().file(&made.id, guest::SETTINGS).await.unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[tokio::test]
async fn who_makes_a_container_is_told_how_to_get_in_and_nobody_else() {
    let host = host_with(&[(guest::DESKTOP_LABEL, "5900")]).await;
    let request = CreateRequest { ssh_keys: vec![public_key()], extra_ports: 1, ..named("web") };
    let made = host.create(request).await.unwrap();
    let (ssh, vnc) = (made.ssh.clone().unwrap(), made.vnc.clone().unwrap());
    assert_eq!((ssh.user.as_str(), vnc.user.as_str()), ("app", "app"));
    let port = ssh.address.unwrap().port();
    assert_eq!(ssh.command.unwrap(), format!("ssh -p {port} app@127.0.0.1"));
    assert_eq!(vnc.url.unwrap(), format!("vnc://{}", vnc.address.unwrap()));
    let names: Vec<_> = made.ports.iter().map(|port| port.name.as_deref()).collect();
    assert_eq!(names, [None, Some("vnc"), Some("ssh")]);
    assert!(ssh.fingerprint.starts_with("SHA256:"));

    let told = settings(&host, &made).await;
    assert_eq!(told.credentials.authorized_keys, [public_key()]);
    assert_eq!(told.credentials.password, ssh.password);
    assert_eq!(told.credentials.vnc_password, vnc.password);
    assert_eq!(told.user.as_deref(), Some("app"));
    assert!(host.probe().file(&made.id, guest::PROGRAM).await.is_some());

    let shown = host.node.show(&Caller::Host, "web").await.unwrap();
    let listed = host.node.list(&Caller::Host).await.unwrap().containers.remove(0);
    for info in [shown, listed] {
        assert_eq!(info.ssh.as_ref().unwrap().host_key, ssh.host_key);
        let (ssh, vnc) = (info.ssh.unwrap(), info.vnc.unwrap());
        assert_eq!((ssh.password, vnc.password), (None, None));
    }
}

#[tokio::test]
async fn the_engine_is_told_no_secret() {
    let host = host_with(&[(guest::DESKTOP_LABEL, "5900")]).await;
    let made = host.create(named("web")).await.unwrap();
    let seed = settings(&host, &made).await.host_key;
    let spec = format!("{:?}{}", host.probe().specs(), serde_json::to_string(&host.probe().specs()).unwrap());
    for secret in [made.ssh.unwrap().password.unwrap(), made.vnc.unwrap().password.unwrap(), seed] {
        assert!(!secret.reveal().is_empty() && !spec.contains(secret.reveal()));
    }
}

#[tokio::test]
async fn the_guest_is_in_place_before_the_start() {
    let host = host_with(&[]).await;
    host.probe().fail("copy_in", RuntimeError::new(ErrorCode::Internal, "the disk is full"));
    let error = host.create(named("web")).await.unwrap_err();
    assert_eq!(error.to_string(), "mock: the disk is full");
    assert_eq!((host.probe().calls("start"), host.count().await), (0, 0));
    let spec = host.create(named("web")).await.map(|_| host.probe().specs()[1].clone()).unwrap();
    assert_eq!(spec.entrypoint, Some(argv(&["/.gx/bin/guest", "init"])));
    assert_eq!((spec.user.as_deref(), spec.command), (Some("0:0"), sleeper().command));
    assert_eq!(spec.labels[label::USER], "app");
}

#[tokio::test]
async fn a_repeated_request_has_the_same_answer_also_after_a_restart() {
    let host = host_with(&[]).await;
    let key = || Some("k".parse().unwrap());
    let create = async |host: &Host| host.node.create(&Caller::Host, sleeper(), key(), Output::null()).await;
    let first = create(&host).await.unwrap();
    assert!(first.ssh.as_ref().unwrap().password.is_some());
    assert_eq!(create(&host).await.unwrap().ssh, first.ssh);
    let host = host.restart().await;
    assert_eq!(create(&host).await.unwrap().ssh, first.ssh);
    let other = host.create(sleeper()).await.unwrap();
    assert_ne!(other.ssh.as_ref().unwrap().password, first.ssh.as_ref().unwrap().password);
    assert_ne!(other.ssh.unwrap().host_key, first.ssh.unwrap().host_key);
}

#[tokio::test]
async fn a_repeated_key_puts_the_guest_into_what_a_crash_left() {
    let host = host_with(&[]).await;
    let key = || Some("k".parse().unwrap());
    let create = || host.node.create(&Caller::Host, sleeper(), key(), Output::null());
    let first = create().await.unwrap();
    let options = gx_core::runtime::RemoveOptions { force: true };
    host.node.remove(&Caller::Host, &first.name, options).await.unwrap();
    let half = ContainerSpec { ports: Vec::new(), ..host.probe().specs()[0].clone() };
    host.probe().plant(half).await; // made, without the guest, and never started
    let again = create().await.unwrap();
    let (first, now) = (first.ssh.unwrap(), again.ssh.clone().unwrap());
    assert_eq!((again.state, &now.host_key), (ContainerState::Running, &first.host_key));
    assert_eq!(now.password, first.password);
    assert_eq!(settings(&host, &again).await.credentials.password, first.password);
}

#[tokio::test]
async fn an_image_is_left_as_it_is_where_that_is_asked_for() {
    let host = host_with(&[(label::SSH_USER, "root"), (label::EXPIRES, "2020-01-01T00:00:00Z")]).await;
    let made = host.create(CreateRequest { no_guest: true, ..named("web") }).await.unwrap();
    assert_eq!((&made.ssh, made.ports.len(), host.probe().calls("copy_in")), (&None, 0, 0));
    assert_eq!(made.expires_at, None, "an image's label is not a lease");
    let spec = &host.probe().specs()[0];
    assert_eq!((&spec.entrypoint, &spec.user, &spec.command), (&None, &None, &sleeper().command));
}

#[tokio::test]
async fn who_needs_ssh_is_refused_where_there_can_be_none() {
    let host = Host::new().await; // the mock does not tell what its images run
    let needs = |request| CreateRequest { require_ssh: true, ssh_keys: vec![public_key()], ..request };
    let error = host.create(needs(sleeper())).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the container cannot have SSH: the runtime does not tell what the image runs"
    );
    assert_eq!(error.field().as_deref(), Some("ssh_keys"));
    assert_eq!(host.probe().calls("create"), 0);
    let plain = CreateRequest { ssh_keys: vec![public_key()], ..sleeper() };
    assert_eq!(host.create(plain).await.unwrap().ssh, None);
}

#[tokio::test]
async fn an_image_for_another_machine_is_refused_before_anything_is_made() {
    let host = Host::new().await;
    host.probe().tell(ImageProcess::default(), &[], "linux/m68k");
    let refused: Result<_> = host.create(sleeper()).await;
    match refused {
        Err(error @ ServerError::ForeignImage { .. }) => {
            let said = format!("the image gx-busybox is for linux/m68k, and this host is {}", own_platform());
            assert_eq!((error.to_string(), error.field().as_deref()), (said, Some("image")));
        }
        other => panic!("{other:?}: has this machine an emulator?"),
    }
    assert_eq!(host.probe().calls("create"), 0);
}

#[tokio::test]
async fn a_command_runs_as_whom_the_container_does_unless_somebody_else_is_named() {
    let host = host_with(&[]).await;
    host.create(named("web")).await.unwrap();
    for (asked, runs) in [(None, Some("app")), (Some("root"), Some("root"))] {
        let spec = ExecSpec { argv: argv(&["true"]), user: asked.map(str::to_owned), ..ExecSpec::default() };
        host.node.exec(&Caller::Host, "web", spec, Input::empty(), Output::null()).await.unwrap();
        assert_eq!(host.probe().execs().pop().unwrap().0.user.as_deref(), runs);
    }
}

#[tokio::test]
async fn new_passwords_go_to_the_guest_by_its_input_and_to_who_asks() {
    let host = host_with(&[(guest::DESKTOP_LABEL, "5900")]).await;
    let made = host.create(named("web")).await.unwrap();
    let told = host.node.passwd(&Caller::Host, "web").await.unwrap();
    let (ssh, vnc) = (told.ssh.unwrap().password.unwrap(), told.vnc.unwrap().password.unwrap());
    assert_ne!(Some(&ssh), made.ssh.unwrap().password.as_ref());
    let (spec, given) = host.probe().execs().pop().unwrap();
    assert_eq!((spec.argv, spec.user.as_deref()), (argv(&["/.gx/bin/guest", "apply"]), Some("0:0")));
    assert!(spec.env.is_empty());
    let given: guest::Credentials = serde_json::from_str(&given).unwrap();
    assert_eq!((given.password, given.vnc_password), (Some(ssh), Some(vnc)));
    assert!(given.authorized_keys.is_empty(), "the keys there are stay");
}

#[tokio::test]
async fn there_are_no_new_passwords_where_nobody_takes_them() {
    let host = host_with(&[]).await;
    host.create(CreateRequest { no_guest: true, ..named("plain") }).await.unwrap();
    host.create(named("web")).await.unwrap();
    let passwd = |name: &'static str| host.node.passwd(&Caller::Host, name);
    assert!(matches!(passwd("plain").await, Err(ServerError::NoService { .. })));
    let options = gx_core::runtime::StopOptions { grace_ms: Some(0), ..Default::default() };
    host.node.stop(&Caller::Host, "web", options).await.unwrap();
    assert!(matches!(passwd("web").await, Err(ServerError::NotRunning { .. })));
    assert!(host.probe().execs().is_empty());
}

#[tokio::test]
async fn a_rehearsal_shows_the_way_in_without_a_password() {
    let host = host_with(&[]).await;
    let made = host.create(CreateRequest { dry_run: true, ..named("web") }).await.unwrap();
    let ssh = made.ssh.unwrap();
    assert!(ssh.password.is_none() && ssh.address.is_some());
}

/// Returns a host whose runtime has volumes and can feed.
async fn able_host() -> Host {
    let host = host_with(&[]).await;
    host.probe().enable();
    host
}

#[tokio::test]
async fn the_program_is_put_into_its_volume_once_and_the_settings_are_told() {
    let host = able_host().await;
    let first = host.create(named("one")).await.unwrap();
    let filled = host.probe().volumes();
    assert_eq!((filled.len(), host.probe().calls("copy_in")), (1, 1));
    let second = host.create(named("two")).await.unwrap();
    assert_eq!((host.probe().volumes(), host.probe().calls("copy_in")), (filled, 1));
    assert_eq!(host.count().await, 2, "what the volume was filled through is gone");
    for made in [first, second] {
        let told: Settings = serde_json::from_slice(&host.probe().fed(&made.id).unwrap()).unwrap();
        assert_eq!(told.credentials.password, made.ssh.unwrap().password);
    }
}

#[tokio::test]
async fn a_volume_that_was_lost_is_filled_again() {
    let host = able_host().await;
    host.create(named("one")).await.unwrap();
    host.probe().lose_volumes();
    host.create(named("two")).await.unwrap();
    assert_eq!((host.probe().volumes().len(), host.count().await), (1, 2));
}

#[tokio::test]
async fn what_older_versions_have_left_goes_once_nobody_uses_it() {
    let host = able_host().await;
    for old in ["gx-guest-0", "gx-guest-1", "gx-other", "web"] {
        host.probe().keep_volume(old);
    }
    host.create(named("one")).await.unwrap();
    let left = host.probe().volumes();
    assert!(left.len() == 3 && left.contains_key("gx-other") && left.contains_key("web"), "{left:?}");
    host.probe().keep_volume("gx-guest-2");
    host.create(named("two")).await.unwrap();
    assert_eq!(host.probe().volumes().len(), 4, "who finds its volume full looks for no others");
    host.node.recover().await.unwrap();
    assert_eq!(host.probe().volumes().len(), 3, "a server that starts does");
    host.probe().keep_volume("gx-guest-3");
    host.probe().fail("prune_volumes", RuntimeError::new(ErrorCode::Internal, "no"));
    host.node.recover().await.unwrap();
    host.create(named("three")).await.unwrap();
}

#[tokio::test]
async fn ten_at_once_fill_an_empty_volume() {
    let host = able_host().await;
    let names: Vec<_> = (0..10).map(|number| format!("box{number}")).collect();
    let made = futures_util::future::join_all(names.iter().map(|name| host.create(named(name)))).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    assert_eq!((host.probe().volumes().len(), host.count().await), (1, 10));
}

#[tokio::test]
async fn a_volume_that_cannot_be_filled_is_an_error_and_leaves_nothing() {
    let host = able_host().await;
    host.probe().fail("copy_in", RuntimeError::new(ErrorCode::Internal, "the disk is full"));
    let error = host.create(named("web")).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), host.count().await), ("mock: the disk is full", 0));
}

#[tokio::test]
async fn what_a_crash_left_is_told_again() {
    let host = able_host().await;
    let create = || host.node.create(&Caller::Host, sleeper(), Some("k".parse().unwrap()), Output::null());
    let first = create().await.unwrap();
    let options = gx_core::runtime::RemoveOptions { force: true };
    host.node.remove(&Caller::Host, &first.name, options).await.unwrap();
    let half = ContainerSpec { ports: Vec::new(), ..host.probe().specs()[0].clone() };
    host.probe().plant(half).await;
    let again = create().await.unwrap();
    let told: Settings = serde_json::from_slice(&host.probe().fed(&again.id).unwrap()).unwrap();
    assert_eq!(Some(told.credentials.password), first.ssh.map(|ssh| ssh.password));
    assert_eq!(again.state, ContainerState::Running);
}

#[tokio::test]
async fn an_engine_that_has_volumes_and_cannot_be_fed_is_told_no_secret_in_the_container() {
    let host = able_host().await;
    let made = host.create(CreateRequest { tty: true, ..named("web") }).await.unwrap();
    assert!(host.probe().fed(&made.id).is_none());
    assert_eq!(settings(&host, &made).await.credentials.password, made.ssh.unwrap().password);
}

#[tokio::test]
async fn a_repeated_request_does_not_tell_passwords_that_no_longer_hold() {
    let host = host_with(&[(guest::DESKTOP_LABEL, "5900")]).await;
    let create = || host.node.create(&Caller::Host, sleeper(), Some("k".parse().unwrap()), Output::null());
    let first = create().await.unwrap();
    host.node.passwd(&Caller::Host, &first.name).await.unwrap();
    host.probe().going_on(guest::Status { changed: true, ..guest::Status::default() }, 0);
    let again = create().await.unwrap();
    assert_eq!((again.ssh.unwrap().password, again.vnc.unwrap().password), (None, None));
    assert!(first.ssh.unwrap().password.is_some());
}
