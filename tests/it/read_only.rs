//! Containers whose root cannot be written, on both engines: of gx, with a volume of their own for what the guest keeps;
//! and with a guest of the image's, which can keep nothing: there new passwords hold until the container ends, and what
//! the image came with holds again when it starts anew.

use std::io::Read;
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::ssh::{Image, built, made, text, with_password};
use crate::support::{IMAGE, Removed, Surroundings, engine, eventually, try_engine, unique};

const FIRST: &str = "the-first-password";
const SECOND: &str = "the-second-password";

#[test]
fn docker_is_entered_with_a_read_only_root() {
    entered("docker");
}

#[test]
fn podman_is_entered_with_a_read_only_root() {
    entered("podman");
}

#[test]
fn docker_makes_a_read_only_root() {
    made_read_only("docker");
}

#[test]
fn podman_makes_a_read_only_root() {
    made_read_only("podman");
}

fn made_read_only(runtime: &str) {
    let here = Surroundings::new();
    let name = unique("read-only");
    let (first, _removed) = made(runtime, &here, &name, &["--read-only", IMAGE]);
    let told = |value: &Value| text(value, "/ssh/password").to_owned();
    let written = here.gx(&["ssh", &name, "--", "touch", "/note"]);
    assert!(written.code != 0 && written.stderr.contains("Read-only file system"), "{written:?}");
    let written = here.gx(&["ssh", &name, "--", "sh", "-c", "echo x > /.gx/bin/guest"]);
    assert!(written.code != 0 && written.stderr.contains("Read-only file system"), "{written:?}");
    with_password(&here, &first, &told(&first), 0);
    let second = here.json(&["passwd", &name]);
    with_password(&here, &first, &told(&first), 255);
    here.ok(&["stop", &name]);
    here.ok(&["start", &name]);
    assert_eq!(here.ok(&["ssh", &name, "--", "echo", "again"]), "again\n");
    with_password(&here, &first, &told(&second), 0);
    // With a terminal the settings come as a file, into the volume; there they are read and removed too.
    let name = unique("read-only-tty");
    let (third, _removed) =
        made(runtime, &here, &name, &["--read-only", "--tty", IMAGE, "--", "sleep", "1000"]);
    with_password(&here, &third, &told(&third), 0);
    assert_ne!(here.gx(&["exec", "-u", "0", &name, "--", "cat", "/.gx/settings.json"]).code, 0);
}

fn entered(runtime: &str) {
    let here = Surroundings::new();
    let (tag, _image) = with_guest(runtime, &here);
    let container = format!("gx-{}", unique("read-only"));
    let _removed = Removed(runtime, container.clone());
    let mut run = vec!["run", "--detach", "--name", &container, "--read-only"];
    if runtime == "podman" {
        run.push("--read-only-tmpfs=false"); // else /tmp and /run can be written
    }
    run.extend(["--publish", "127.0.0.1::7468", "--entrypoint", "/.gx/bin/guest", &tag, "init"]);
    engine(runtime, &run);
    let written = try_engine(runtime, &["exec", &container, "touch", "/.gx/note"]);
    assert!(written.code != 0 && written.stderr.contains("Read-only file system"), "{written:?}");

    let way = way_in(runtime, &container);
    with_password(&here, &way, FIRST, 0);
    let apply = format!("echo '{{\"password\": \"{SECOND}\"}}' | /.gx/bin/guest apply");
    engine(runtime, &["exec", &container, "sh", "-c", &apply]);
    with_password(&here, &way, SECOND, 0);
    with_password(&here, &way, FIRST, 255);

    engine(runtime, &["restart", &container]);
    let way = way_in(runtime, &container);
    with_password(&here, &way, FIRST, 0);
    with_password(&here, &way, SECOND, 255);
}

/// Builds an image with the guest inside: engines copy nothing into a root that cannot be written.
fn with_guest(runtime: &str, here: &Surroundings) -> (String, Image) {
    let name = unique("guest");
    let (_, _removed) = made(runtime, here, &name, &[IMAGE]);
    let (guest, settings) = (here.path("guest").display().to_string(), here.path("settings.json"));
    engine(runtime, &["cp", &format!("gx-{name}:/.gx/bin/guest"), &guest]);
    let told = json!({"host_key": "07".repeat(32), "credentials": {"password": FIRST}});
    std::fs::write(&settings, told.to_string()).expect("a file can be written");
    let base = if runtime == "podman" { format!("localhost/{IMAGE}") } else { IMAGE.to_owned() };
    let containerfile = format!("FROM {base}\nCOPY settings.json /.gx/\nCOPY guest /.gx/bin/guest\n");
    let settings = settings.display().to_string();
    built(runtime, here, &containerfile, &[(&guest, "guest"), (&settings, "settings.json")])
}

/// Returns how it is entered, once it is listened there. Engines may choose another port at each start.
fn way_in(runtime: &str, container: &str) -> Value {
    let address = engine(runtime, &["port", container, "7468/tcp"]);
    let address = address.trim();
    eventually("the guest listens", || {
        let mut greeting = [0; 11];
        TcpStream::connect(address).and_then(|mut stream| stream.read_exact(&mut greeting)).ok()?;
        (&greeting == b"SSH-2.0-gx_").then_some(())
    });
    let port = address.rsplit(':').next().expect("a port");
    // Under one name the key must be the same at each start.
    let command = format!("ssh -o HostKeyAlias=read-only -p {port} root@127.0.0.1");
    json!({"ssh": {"command": command, "host_key": "ssh-ed25519 "}})
}
