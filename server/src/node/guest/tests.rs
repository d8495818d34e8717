//! Tests of which containers get the guest, and of what is then asked for.

use std::collections::BTreeMap;
use std::io::Read;

use gx_core::ContainerName;
use gx_core::stream::input;

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
    plan(request, image).unwrap()
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
    let why = |request: &CreateRequest, image: &Image| plan(request, image).unwrap_err().to_string();
    let (plain, asked) = (request(&[]), image(&[], &["x"]));
    assert_eq!(why(&CreateRequest { no_guest: true, ..plain.clone() }, &asked), "it is asked for without");
    assert!(why(&plain, &Image { process: None, ..asked.clone() }).contains("does not tell"));
    let foreign = Image { platform: "linux/s390x".into(), ..asked.clone() };
    assert_eq!(why(&plain, &foreign), "the image is for linux/s390x");
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
    assert_eq!(spec.entrypoint.as_deref(), Some(&["/.gx/guest".to_owned(), "init".to_owned()][..]));
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

#[tokio::test]
async fn the_archive_is_roots_and_only_root_reads_what_is_secret() {
    let data = tempfile::tempdir().unwrap();
    let key = gx_identity::open(data.path()).unwrap();
    let plan = planned(&request(&[]), &image(&[], &["x"]));
    let package = plan.pack(&["ssh-ed25519 AAAA".to_owned()], &Secrets::new(&key, "n1"));
    let (sender, mut archive) = input();
    let mut bytes = Vec::new();
    let read = async {
        while let Some(chunk) = archive.next_data().await {
            bytes.extend_from_slice(&chunk);
        }
    };
    tokio::join!(read, async { package.send(sender).await });
    let mut found = Vec::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        found.push((entry.path().unwrap().display().to_string(), header.mode().unwrap(), content));
    }
    let names: Vec<_> = found.iter().map(|(name, mode, _)| (name.as_str(), *mode)).collect();
    assert_eq!(names, [(".gx/", 0o755), (".gx/guest", 0o755), (".gx/settings.json", 0o600)]);
    assert_eq!(found[1].2, PROGRAM);
    let settings: Settings = serde_json::from_slice(&found[2].2).unwrap();
    assert_eq!(settings.credentials.authorized_keys, ["ssh-ed25519 AAAA"]);
    assert!(settings.credentials.password.is_some() && settings.credentials.vnc_password.is_none());
}
