//! The way in, with OpenSSH's own client, on both engines: into any image, with a key, with the password, through a
//! host; the image is respected, the host's key is pinned, and the secrets are told to nobody else.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{IMAGE, Removed, Run, Surroundings, engine, run, try_engine, unique};

#[test]
fn docker_is_entered() {
    entered("docker");
}

#[test]
fn podman_is_entered() {
    entered("podman");
}

#[test]
fn docker_is_entered_through_a_host() {
    entered_through_a_host("docker");
}

#[test]
fn podman_is_entered_through_a_host() {
    entered_through_a_host("podman");
}

#[test]
fn docker_tells_no_secret() {
    no_secret_is_told("docker");
}

#[test]
fn podman_tells_no_secret() {
    no_secret_is_told("podman");
}

#[test]
fn docker_respects_the_image() {
    the_image_is_respected("docker");
}

#[test]
fn podman_respects_the_image() {
    the_image_is_respected("podman");
}

#[test]
fn docker_enters_an_image_without_a_shell() {
    without_a_shell("docker");
}

#[test]
fn podman_enters_an_image_without_a_shell() {
    without_a_shell("podman");
}

#[test]
fn docker_refuses_another_machines_image() {
    foreign("docker");
}

#[test]
fn podman_refuses_another_machines_image() {
    foreign("podman");
}

/// Makes a container of an image that would only run a shell, and returns what the host answered.
pub(crate) fn made<'a>(
    runtime: &'a str,
    here: &Surroundings,
    name: &str,
    more: &[&str],
) -> (Value, Removed<'a>) {
    let removed = Removed(runtime, format!("gx-{name}"));
    let made = here.json(&[&["create", "--runtime", runtime, "--name", name], more].concat());
    (made, removed)
}

/// Returns a text of an answer.
pub(crate) fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("no {path} in {value}"))
}

fn entered(runtime: &str) {
    let here = Surroundings::new();
    let name = unique("ssh");
    let (made, _removed) = made(runtime, &here, &name, &[IMAGE]);
    assert_eq!(made["state"], "running", "a shell nobody is at makes room for those who log in");
    assert_eq!(here.gx(&["ssh", &name, "--", "sh", "-c", "exit 43"]).code, 43);
    assert_eq!(here.ok(&["ssh", &name, "--", "echo", "two  words", "it's"]), "two  words it's\n");
    assert_eq!(here.ok(&["ssh", &name, "echo one | wc -c"]), "4\n", "a single word is a line");
    let failed = here.gx(&["ssh", &name, "--", "cat", "/nothere"]);
    assert!(failed.stderr.contains("/nothere") && failed.stdout.is_empty(), "{failed:?}");

    let published = format!("{}\n", text(&made, "/ssh/address"));
    assert_eq!(here.ok(&["port", &name, "ssh"]), published);
    with_password(&here, &made, text(&made, "/ssh/password"), 0);
    with_password(&here, &made, "wrong", 255);
    pinned(&here, &name);

    here.ok(&["stop", &name]);
    let stopped = here.gx(&["ssh", &name, "--", "true"]);
    let said = format!("error: {name} is not running: it is exited\n  hint: gx start {name}\n");
    assert_eq!((stopped.code, stopped.stderr), (1, said));
    here.ok(&["start", &name]);
    assert_eq!(here.ok(&["ssh", &name, "--", "echo", "again"]), "again\n");
    with_password(&here, &made, text(&made, "/ssh/password"), 0);

    let changed = here.json(&["passwd", &name]);
    with_password(&here, &made, text(&made, "/ssh/password"), 255);
    with_password(&here, &made, text(&changed, "/ssh/password"), 0);
    assert_eq!(here.ok(&["ssh", &name, "--", "echo", "the key stays"]), "the key stays\n");
    copied_by_others(&here, &name);
}

/// Logs in by the command that was printed, as somebody without gx would; ssh has the code 255 for a wrong password.
pub(crate) fn with_password(here: &Surroundings, made: &Value, password: &str, code: i32) {
    let mut words = text(made, "/ssh/command").split(' ');
    assert_eq!(words.next(), Some("ssh"));
    let known = here.path("known_by_others");
    let mut ssh = Command::new("sshpass");
    ssh.args(["-e", "ssh", "-F", "none", "-o", "StrictHostKeyChecking=accept-new"]);
    ssh.args(["-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"]);
    ssh.arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
    ssh.args(words).arg("echo inside").env("SSHPASS", password).stdin(Stdio::null());
    let ended = run(ssh);
    assert_eq!(ended.code, code, "{ended:?}");
    assert_eq!(ended.stdout, if code == 0 { "inside\n" } else { "" });
    let keys = std::fs::read_to_string(known).unwrap_or_default();
    assert!(keys.contains(text(made, "/ssh/host_key")), "it shows the key that was told: {keys}");
}

/// A server with another key than the host has told is refused, loudly.
fn pinned(here: &Surroundings, name: &str) {
    let config = here.ok(&["ssh", "--ssh-config", name]);
    let line = config.lines().find(|line| line.contains("UserKnownHostsFile")).expect("a file of keys");
    let known = std::fs::read_to_string(line.split('"').nth(1).expect("a quoted file")).expect("it is there");
    let alias = known.split(' ').next().expect("an alias");
    let other = here.path("other_keys");
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";
    std::fs::write(&other, format!("{alias} {key}\n")).expect("a file can be written");
    let option = format!("UserKnownHostsFile={}", other.display());
    let refused = here.gx(&["ssh", "-o", &option, name, "--", "echo", "inside"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (255, ""), "{refused:?}");
    assert!(refused.stderr.contains("REMOTE HOST IDENTIFICATION HAS CHANGED"), "{refused:?}");
}

/// What gx prints for other programs is enough for them.
fn copied_by_others(here: &Surroundings, name: &str) {
    let config = here.path("ssh_config");
    std::fs::write(&config, here.ok(&["ssh", "--ssh-config", name])).expect("a file can be written");
    std::fs::write(here.path("note"), "by scp\n").expect("a file can be written");
    let mut scp = Command::new("scp");
    scp.arg("-F").arg(&config).arg(here.path("note")).arg(format!("gx-{name}:/note"));
    let ended = run(scp);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(here.ok(&["ssh", name, "--", "cat", "/note"]), "by scp\n");
}

fn entered_through_a_host(runtime: &str) {
    let (here, there) = (Surroundings::new(), Surroundings::new());
    let host = there.serve();
    host.is_owned_from(&here);
    let name = unique("ssh-far");
    let _removed = Removed(runtime, format!("gx-{name}"));
    let on = ["--on", &host.address];
    here.ok(&[&on[..], &["create", "--runtime", runtime, "--name", &name, IMAGE]].concat());
    // The port is published on the host's own loopback: the way is through the host.
    let ran = here.gx(&[&on[..], &["ssh", &name, "--", "sh", "-c", "echo far; exit 43"]].concat());
    // ssh ends its ProxyCommand, which has nothing to say about it.
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (43, "far\n", ""), "{ran:?}");
    let config = here.ok(&[&on[..], &["ssh", "--ssh-config", &name]].concat());
    assert!(config.contains("ProxyCommand") && config.contains(&host.address), "{config}");
    let changed = here.json(&[&on[..], &["passwd", &name]].concat());
    assert!(changed["ssh"]["password"].is_string(), "{changed}");
}

fn no_secret_is_told(runtime: &str) {
    let (here, there) = (Surroundings::new(), Surroundings::new());
    let log = there.path("serve.log");
    let (mut server, address) = loud_host(&there, &log);
    std::fs::create_dir_all(here.data()).expect("folders can be made");
    std::fs::copy(there.data().join("node.key"), here.data().join("node.key")).expect("a key can be copied");
    let name = unique("ssh-secret");
    let _removed = Removed(runtime, format!("gx-{name}"));
    let mut create = here.command(&["-vvv", "--json", "--on", &address, "create", "--runtime", runtime]);
    create.args(["--name", &name, IMAGE]);
    let made: Run = run(create);
    let answer: Value = serde_json::from_str(&made.stdout).expect("an answer");
    let changed = here.json(&["--on", &address, "passwd", &name]);
    let own = std::fs::read_to_string(here.data().join("ssh/id_ed25519")).expect("gx has a key");
    let node = std::fs::read_to_string(there.data().join("node.key")).expect("the host has a key");
    let secrets = [
        text(&answer, "/ssh/password").to_owned(),
        text(&changed, "/ssh/password").to_owned(),
        own.lines().nth(2).expect("lines of base64").to_owned(),
        node.trim().to_owned(),
    ];
    let session = Session::open(&here, &["--on", &address, "ssh", &name, "--", "sh", "-c", "echo in; cat"]);
    let told = [
        ("gx -vvv", made.stderr),
        ("the host's log", std::fs::read_to_string(&log).expect("a log")),
        ("inspect", engine(runtime, &["inspect", &format!("gx-{name}")])),
        ("the container's log", all_of(try_engine(runtime, &["logs", &format!("gx-{name}")]))),
        ("show", here.ok(&["--on", &address, "show", &name, "--json"])),
        ("list", here.ok(&["--on", &address, "list", "--json"])),
        ("processes", processes()),
        ("the container's processes", here.ok(&["--on", &address, "ssh", &name, "cat /proc/*/cmdline"])),
        ("its environment", here.ok(&["--on", &address, "exec", &name, "--", "env"])),
    ];
    for (place, text) in &told {
        assert!(!text.is_empty(), "{place} says nothing at all");
        for secret in &secrets {
            assert!(!text.contains(secret), "a secret is in {place}");
        }
    }
    let settings = here.gx(&["--on", &address, "exec", "-u", "0", &name, "--", "cat", "/.gx/settings.json"]);
    assert_ne!(settings.code, 0, "the guest has removed what it was told: {}", settings.stdout);
    session.close();
    let _ = server.kill();
    let _ = server.wait();
}

fn all_of(ended: Run) -> String {
    format!("log:{}{}", ended.stdout, ended.stderr)
}

/// Starts `gx serve` that logs everything into a file.
fn loud_host(there: &Surroundings, log: &Path) -> (std::process::Child, String) {
    let mut serve = there.command(&["-vvv", "--json", "serve", "--listen", "127.0.0.1:0"]);
    let file = File::create(log).expect("a file can be made");
    let mut child = serve.stdout(Stdio::piped()).stderr(file).spawn().expect("gx starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("stdout is piped");
    BufReader::new(stdout).read_line(&mut line).expect("gx serve says where it listens");
    let said: Value = serde_json::from_str(&line).expect("a line of JSON");
    (child, text(&said, "/listening").to_owned())
}

/// Returns what every process of the machine was called with, and the environment of each.
fn processes() -> String {
    let mut all = String::new();
    for process in std::fs::read_dir("/proc").expect("there is a /proc").flatten() {
        for file in ["cmdline", "environ"] {
            let text = std::fs::read(process.path().join(file)).unwrap_or_default();
            all.push_str(&String::from_utf8_lossy(&text));
        }
    }
    all
}

/// A session that is under way.
pub(crate) struct Session(std::process::Child);

impl Session {
    /// Starts a command and waits for its first line.
    pub(crate) fn open(here: &Surroundings, args: &[&str]) -> Self {
        let mut command = here.command(args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut first = [0; 3];
        child.stdout.as_mut().expect("stdout is piped").read_exact(&mut first).expect("it says something");
        assert_eq!(&first, b"in\n");
        Self(child)
    }

    /// Waits for its end and returns its code.
    pub(crate) fn code(mut self) -> Option<i32> {
        self.0.wait().expect("it ends").code()
    }

    /// Says something, which must come back, and ends it.
    pub(crate) fn close(mut self) {
        let mut stdin = self.0.stdin.take().expect("stdin is piped");
        stdin.write_all(b"bye\n").expect("it is read");
        drop(stdin);
        let output = self.0.wait_with_output().expect("it ends");
        assert_eq!(
            (String::from_utf8_lossy(&output.stdout).as_ref(), output.status.code()),
            ("bye\n", Some(0))
        );
    }
}

/// Builds an image and returns its name.
pub(crate) fn built(
    runtime: &str,
    here: &Surroundings,
    containerfile: &str,
    files: &[(&str, &str)],
) -> (String, Image) {
    let folder = here.path("context");
    std::fs::create_dir_all(&folder).expect("folders can be made");
    std::fs::write(folder.join("Containerfile"), containerfile).expect("a file can be written");
    for (from, to) in files {
        std::fs::copy(from, folder.join(to)).expect("a file can be copied");
    }
    let tag = unique("localhost/gx-it");
    let folder = folder.display().to_string();
    here.ok(&["build", "--runtime", runtime, "--tag", &tag, &folder]);
    (tag.clone(), Image(runtime.to_owned(), tag))
}

/// Removes an image when the test ends.
pub(crate) struct Image(String, String);

impl Drop for Image {
    fn drop(&mut self) {
        try_engine(&self.0, &["rmi", "-f", &self.1]);
    }
}

/// Runs as a number that no file knows, in a folder of its own, and says so.
const WITH_A_USER: &str = "\
FROM BASE
ENV GREETING=hello
WORKDIR /srv
USER 1000
ENTRYPOINT [\"/bin/sh\", \"-c\"]
CMD [\"echo $GREETING $(id -u) $(pwd); exit 7\"]
";

fn the_image_is_respected(runtime: &str) {
    let here = Surroundings::new();
    let base = if runtime == "podman" { format!("localhost/{IMAGE}") } else { IMAGE.to_owned() };
    let (tag, image) = built(runtime, &here, &WITH_A_USER.replace("BASE", &base), &[]);
    let name = unique("ssh-image");
    let removed = Removed(runtime, format!("gx-{name}"));
    let run_it = here.gx(&["create", "--wait", "--runtime", runtime, "--name", &name, &tag]);
    assert_eq!(run_it.code, 7, "{run_it:?}");
    assert_eq!(here.ok(&["logs", &name]), "hello 1000 /srv\n");
    drop(removed);

    let name = unique("ssh-user");
    let (made, _removed) = made(runtime, &here, &name, &["--env", "GREETING=hi", &tag, "--", "sleep 1000"]);
    assert_eq!(text(&made, "/ssh/user"), "1000");
    assert_eq!(here.ok(&["ssh", &name, "echo $GREETING $(id -u)"]), "hi 1000\n");
    assert_eq!(here.ok(&["exec", &name, "--", "id", "-u"]), "1000\n", "so does exec");
    assert_eq!(here.ok(&["exec", "-u", "0", &name, "--", "id", "-u"]), "0\n");

    let name = unique("ssh-none");
    let _plain = Removed(runtime, format!("gx-{name}"));
    let create = ["create", "--no-guest", "--runtime", runtime, "--name", &name, &tag, "--", "sleep 1000"];
    let plain = here.json(&create);
    assert!(plain.get("ssh").is_none() && plain["ports"] == Value::Array(Vec::new()), "{plain}");
    let told = engine(runtime, &["inspect", "--format", "{{json .Config}}", &format!("gx-{name}")]);
    let config: Value = serde_json::from_str(&told).expect("inspect is JSON");
    assert_eq!((text(&config, "/User"), config["Cmd"][0].as_str()), ("1000", Some("sleep 1000")));
    assert!(config["Entrypoint"].to_string().contains("/bin/sh") && !told.contains("/.gx"), "{told}");
    let refused = here.gx(&["ssh", &name]);
    assert!(refused.stderr.contains("has no SSH: it was made without the guest"), "{refused:?}");
    drop(image);
}

fn without_a_shell(runtime: &str) {
    let here = Surroundings::new();
    let containerfile = "FROM scratch\nCOPY sleep id /\nCMD [\"/sleep\", \"1000\"]\n";
    let busybox = "/usr/bin/busybox";
    let (tag, _image) = built(runtime, &here, containerfile, &[(busybox, "sleep"), (busybox, "id")]);
    let name = unique("ssh-bare");
    let (made, _removed) = made(runtime, &here, &name, &[&tag]);
    assert_eq!(text(&made, "/ssh/user"), "root");
    assert_eq!(here.ok(&["ssh", &name, "--", "/id", "-u"]), "0\n");
    let shell = here.gx(&["ssh", "-T", &name]);
    assert_ne!(shell.code, 0);
    assert!(format!("{shell:?}").contains("no shell"), "{shell:?}");
}

fn foreign(runtime: &str) {
    let here = Surroundings::new();
    let tag = unique("localhost/gx-foreign");
    let file = here.path("image.tar");
    std::fs::write(&file, image_for("s390x", &tag)).expect("a file can be written");
    engine(runtime, &["load", "-i", &file.display().to_string()]);
    let _image = Image(runtime.to_owned(), tag.clone());
    let refused = here.gx(&["create", "--runtime", runtime, &tag]);
    let said = format!("error: the image {tag} is for linux/s390x, and this host is linux/");
    assert!(refused.code == 1 && refused.stderr.starts_with(&said), "{refused:?}");
    assert!(refused.stderr.contains("hint: pull or build one for linux/"), "{refused:?}");
    assert_eq!(here.json(&["list", "--all"])["containers"], Value::Array(Vec::new()));
}

/// Returns an archive with an image of one file, as `docker save` writes it.
fn image_for(architecture: &str, tag: &str) -> Vec<u8> {
    let layer = archive(&[("program", b"\x7fELF")]);
    let digest: String = Sha256::digest(&layer).iter().map(|byte| format!("{byte:02x}")).collect();
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "config": {"Cmd": ["/program"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = serde_json::json!([
        {"Config": "config.json", "RepoTags": [format!("{tag}:latest")], "Layers": ["layer.tar"]},
    ]);
    let (config, manifest) = (config.to_string(), manifest.to_string());
    archive(&[
        ("layer.tar", &layer),
        ("config.json", config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ])
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, *content).expect("memory can be written");
    }
    archive.into_inner().expect("memory can be written")
}
