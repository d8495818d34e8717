//! Tests of which containers get the guest, and of what is then asked for.

use std::collections::BTreeMap;
use std::io::Read;

use gx_core::ContainerName;

use super::*;

fn image(entrypoint: &[&str], command: &[&str]) -> Image {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Image {
        platform: format!("linux/{}", platform::architecture()),
        process: Some(ImageProcess {
            entrypoint: words(entrypoint),
            command: words(command),
            ..ImageProcess::default()
        }),
        ..Image::default()
    }
}

fn request(command: &[&str]) -> CreateRequest {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    CreateRequest { command, ..CreateRequest::new("x".parse().unwrap()) }
}

fn planned(request: &CreateRequest, image: &Image) -> Plan {
    plan(request, image, &Capabilities::default()).unwrap()
}

/// Plans for a runtime that has volumes and can be fed.
fn planned_well(request: &CreateRequest, image: &Image) -> Plan {
    plan(request, image, &[Feature::Volumes, Feature::Feed].into_iter().collect()).unwrap()
}

#[test]
fn the_guest_runs_what_an_engine_would() {
    let argv = |request: &CreateRequest, image: &Image| planned(request, image).argv.join(" ");
    let nginx = image(&["/entry.sh"], &["nginx", "-g"]);
    assert_eq!(argv(&request(&[]), &nginx), "/entry.sh nginx -g");
    assert_eq!(argv(&request(&["ls", "-l"]), &nginx), "/entry.sh ls -l");
    let replaced = CreateRequest { entrypoint: Some(vec!["cat".into()]), ..request(&[]) };
    assert_eq!(argv(&replaced, &nginx), "cat", "the image's command belongs to the image's entry point");
    let removed = CreateRequest { entrypoint: Some(Vec::new()), ..request(&["ls"]) };
    assert_eq!(argv(&removed, &nginx), "ls");
}

#[test]
fn a_shell_nobody_is_at_makes_room_for_those_who_log_in() {
    let argv = |request: &CreateRequest, image: &Image| planned(request, image).argv.join(" ");
    for shell in ["sh", "/bin/sh", "bash", "/usr/bin/zsh", "ash"] {
        assert_eq!(argv(&request(&[]), &image(&[], &[shell])), "", "{shell}");
    }
    assert_eq!(argv(&request(&[]), &image(&[], &[])), "");
    assert_eq!(argv(&request(&[]), &image(&["bash"], &[])), "");
    assert_eq!(argv(&request(&[]), &image(&["/entry.sh"], &["sh"])), "/entry.sh sh");
    assert_eq!(argv(&request(&[]), &image(&[], &["sh", "-c", "x"])), "sh -c x");
    assert_eq!(argv(&request(&["sh"]), &image(&[], &["sh"])), "sh", "what is asked for is run");
    let terminal = CreateRequest { tty: true, ..request(&[]) };
    assert_eq!(argv(&terminal, &image(&[], &["bash"])), "bash");
}

#[test]
fn who_cannot_have_a_guest_is_told_why() {
    let why = |request: &CreateRequest, image: &Image| {
        plan(request, image, &Capabilities::default()).unwrap_err().to_string()
    };
    let (plain, asked) = (request(&[]), image(&[], &["x"]));
    assert_eq!(why(&CreateRequest { no_guest: true, ..plain.clone() }, &asked), "it is asked for without");
    assert!(why(&plain, &Image { process: None, ..asked.clone() }).contains("does not tell"));
    let foreign = Image { platform: "linux/s390x".into(), ..asked.clone() };
    assert_eq!(why(&plain, &foreign), "the image is for linux/s390x");
    assert!(why(&CreateRequest { read_only: true, ..plain.clone() }, &asked).contains("has no volumes"));
    for odd in ["-oProxyCommand=x", "a b", "a;b", "$(x)", "a\nb", "ä"] {
        let odd = CreateRequest { user: Some(odd.into()), ..plain.clone() };
        assert!(why(&odd, &asked).contains("is not the name or number"), "{odd:?}");
    }
}

#[test]
fn the_user_is_the_requests_else_the_images_and_root_is_nobody() {
    let of = |asked: Option<&str>, own: &str| {
        let mut image = image(&[], &["x"]);
        image.process.as_mut().unwrap().user = own.to_owned();
        planned(&CreateRequest { user: asked.map(str::to_owned), ..request(&[]) }, &image).user
    };
    assert_eq!(of(None, "app:staff").as_deref(), Some("app:staff"));
    assert_eq!(of(Some("1000"), "app").as_deref(), Some("1000"));
    for root in ["", "0", "root", "0:0"] {
        assert_eq!(of(Some(root), "app"), None, "{root:?}");
        assert_eq!(of(None, root), None, "{root:?}");
    }
    assert_eq!(of(Some("0:100"), "").as_deref(), Some("0:100"));
}

#[test]
fn home_is_the_users_unless_somebody_sets_it() {
    let mut own = image(&[], &["x"]);
    assert!(!planned(&request(&[]), &own).home_is_set);
    let env = BTreeMap::from([("HOME".to_owned(), "/srv".to_owned())]);
    assert!(planned(&CreateRequest { env, ..request(&[]) }, &own).home_is_set);
    own.process.as_mut().unwrap().env = vec!["PATH=/bin".into(), "HOME=/srv".into()];
    assert!(planned(&request(&[]), &own).home_is_set);
}

#[test]
fn a_container_is_dressed_with_everything_but_secrets() {
    let data = tempfile::tempdir().unwrap();
    let key = gx_identity::open(data.path()).unwrap();
    let secrets = Secrets::new(&key, "n1");
    let mut image = image(&[], &["serve"]);
    image.process.as_mut().unwrap().user = "app".to_owned();
    image.labels.insert(guest::DESKTOP_LABEL.to_owned(), "5901".to_owned());
    let plan = planned(&request(&[]), &image);
    let name: ContainerName = "gx-x".parse().unwrap();
    let mut spec = ContainerSpec::new(name, "x".parse().unwrap());
    plan.dress(&mut spec, "n1", &secrets);
    assert_eq!(spec.entrypoint.as_deref(), Some(&["/.gx/bin/guest".to_owned(), "init".to_owned()][..]));
    assert_eq!((spec.command.as_slice(), spec.user.as_deref()), (&["serve".to_owned()][..], Some("0:0")));
    assert_eq!((spec.labels[label::SSH_USER].as_str(), spec.labels[label::USER].as_str()), ("app", "app"));
    assert_eq!(spec.labels[label::VNC], "5901");
    let text = serde_json::to_string(&spec).unwrap();
    for secret in [secrets.host_key_seed(), secrets.ssh_password(), secrets.vnc_password()] {
        assert!(!text.contains(secret.reveal()));
    }
    let ports: Vec<u16> = plan.ports().map(|port| port.container_port).collect();
    assert_eq!(ports, [7468, 5901]);
}

#[test]
fn nothing_is_copied_where_the_runtime_has_better_ways() {
    let data = tempfile::tempdir().unwrap();
    let key = gx_identity::open(data.path()).unwrap();
    let secrets = Secrets::new(&key, "n1");
    let dressed = |request: &CreateRequest| {
        let plan = planned_well(request, &image(&[], &["x"]));
        let mut spec = ContainerSpec::new("gx-x".parse().unwrap(), "x".parse().unwrap());
        plan.dress(&mut spec, "n1", &secrets);
        (spec, plan.pack(&[], &secrets))
    };
    let (spec, package) = dressed(&request(&[]));
    assert_eq!(spec.entrypoint.unwrap(), ["/.gx/bin/guest", "init-told", "n1"]);
    assert!(spec.fed && package.archive().is_none());
    let [volume] = spec.mounts.as_slice() else { panic!("{:?}", spec.mounts) };
    assert!(volume.read_only && volume.volume.as_ref().unwrap().as_str().starts_with("gx-guest-"));
    let line = package.line().unwrap();
    assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
    serde_json::from_slice::<Settings>(&line).unwrap();

    let (spec, _) = dressed(&CreateRequest { read_only: true, ..request(&[]) });
    let paths: Vec<_> = spec.mounts.iter().map(|mount| (mount.path.as_str(), mount.read_only)).collect();
    assert_eq!(paths, [("/.gx", false), ("/.gx/bin", true)]);
}

#[test]
fn what_a_terminal_would_echo_or_a_pipe_not_hold_is_copied() {
    let data = tempfile::tempdir().unwrap();
    let key = gx_identity::open(data.path()).unwrap();
    let secrets = Secrets::new(&key, "n1");
    let many = vec!["k".repeat(1000); 64];
    let (root, own) = (vec![".gx/", ".gx/settings.json"], vec!["settings.json"]);
    for (read_only, below, names) in [(false, "/", root), (true, "/.gx", own)] {
        let terminal = CreateRequest { tty: true, read_only, ..request(&[]) };
        let crowd = CreateRequest { ssh_keys: many.clone(), read_only, ..request(&[]) };
        for request in [terminal, crowd] {
            let plan = planned_well(&request, &image(&[], &["x"]));
            let mut spec = ContainerSpec::new("gx-x".parse().unwrap(), "x".parse().unwrap());
            plan.dress(&mut spec, "n1", &secrets);
            assert_eq!((spec.fed, spec.entrypoint.unwrap()[1].as_str()), (false, "init"));
            let package = plan.pack(&request.ssh_keys, &secrets);
            let (folder, parts) = package.archive().unwrap();
            let found: Vec<_> = entries(&parts).into_iter().map(|(name, ..)| name).collect();
            assert_eq!(
                (folder, found, package.line()),
                (below, names.iter().map(ToString::to_string).collect(), None)
            );
        }
    }
}

#[test]
fn the_program_has_its_name_once_it_is_whole() {
    let found = entries(&filling("one"));
    assert_eq!((found[0].0.as_str(), found[0].1, found[0].2.as_slice()), ("guest.part-one", 0o755, PROGRAM));
    assert_eq!((found[1].0.as_str(), found.len()), ("guest", 2));
    let bytes = filling("one").concat();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let link = archive.entries().unwrap().nth(1).unwrap().unwrap();
    assert_eq!(link.header().entry_type(), tar::EntryType::Link);
    assert_eq!(link.link_name().unwrap().unwrap().to_str(), Some("guest.part-one"));
}

/// Returns the entries of an archive: name, mode, content. All are root's.
fn entries(parts: &[bytes::Bytes]) -> Vec<(String, u32, Vec<u8>)> {
    let bytes = parts.concat();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entry = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().display().to_string(), header.mode().unwrap(), content)
    };
    archive.entries().unwrap().map(entry).collect()
}

#[test]
fn the_archive_is_roots_and_only_root_reads_what_is_secret() {
    let data = tempfile::tempdir().unwrap();
    let key = gx_identity::open(data.path()).unwrap();
    let plan = planned(&request(&[]), &image(&[], &["x"]));
    let package = plan.pack(&["ssh-ed25519 AAAA".to_owned()], &Secrets::new(&key, "n1"));
    let (folder, parts) = package.archive().unwrap();
    assert_eq!((folder, package.line()), ("/", None));
    let found = entries(&parts);
    let names: Vec<_> = found.iter().map(|(name, mode, _)| (name.as_str(), *mode)).collect();
    assert_eq!(
        names,
        [(".gx/", 0o755), (".gx/bin/", 0o755), (".gx/bin/guest", 0o755), (".gx/settings.json", 0o600)]
    );
    assert_eq!(found[2].2, PROGRAM);
    let settings: Settings = serde_json::from_slice(&found[3].2).unwrap();
    assert_eq!(settings.credentials.authorized_keys, ["ssh-ed25519 AAAA"]);
    assert!(settings.credentials.password.is_some() && settings.credentials.vnc_password.is_none());
}
