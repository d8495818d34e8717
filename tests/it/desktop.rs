//! A desktop, for real: its image is built by a create that names it, a VNC client and a browser look at it and type
//! into it. Whoever has no password, or an old one, is refused.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gx_core::Timestamp;
use serde_json::Value;

use crate::browser::{Browser, artifact};
use crate::dashboard::Dashboard;
use crate::support::{
    Removed, Run, Surroundings, engine, eventually, root, run, run_within, signal, try_engine, unique,
};

/// How long an engine may take to build the image, with everything else going on.
const BUILD: Duration = Duration::from_secs(480);
/// Fills the terminal, and with it the screen, with a colour of ECMA-48.
const FILL: &str = "tput setab COLOUR;clear";
const RED: [u8; 3] = [205, 0, 0];
const BLUE: [u8; 3] = [0, 0, 238];

#[test]
fn docker_in_a_vnc_client_and_in_the_browser() {
    let (here, there) = (Surroundings::new(), Surroundings::new());
    let host = there.serve();
    host.is_owned_from(&here);
    let desktop = Desktop::create("docker", &here, &["--on", &host.address], &[]);
    desktop.is_seen_and_typed_into();
    desktop.outlives_garbage();
    desktop.is_in_the_browser();
}

#[test]
fn podman_for_an_ordinary_user() {
    let here = Surroundings::new();
    let desktop = Desktop::create("podman", &here, &[], &["--user", "1234:1234"]);
    desktop.is_seen_and_typed_into();
    desktop.outlives_garbage();
    desktop.is_in_the_dashboard();
    desktop.gets_another_password();
}

/// A container with a desktop.
struct Desktop<'h> {
    here: &'h Surroundings,
    on: Vec<String>,
    name: String,
    password: String,
    address: String,
    _removed: Removed<'static>,
}

impl<'h> Desktop<'h> {
    fn create(runtime: &'static str, here: &'h Surroundings, on: &[&str], more: &[&str]) -> Self {
        needs_the_base(runtime);
        let name = unique("desk");
        let removed = Removed(runtime, format!("gx-{name}"));
        let pull = if is_stale(runtime) { "always" } else { "missing" };
        let create = ["--json", "create", "--pull", pull, "--runtime", runtime, "--name", &name];
        let arguments = [on, &create, more, &["gx-desktop"]].concat();
        let made = run_within(here.command(&arguments), BUILD);
        assert_eq!(made.code, 0, "{made:?}");
        let made: Value = serde_json::from_str(&made.stdout).expect("a container is JSON");
        let text =
            |key: &str| made["vnc"][key].as_str().unwrap_or_else(|| panic!("{key}: {made}")).to_owned();
        let (password, address) = (text("password"), text("address"));
        assert_eq!(password.len(), 8, "RFC 6143 uses no more");
        let told = engine(runtime, &["inspect", &format!("gx-{name}")]);
        assert!(!told.contains(&password), "the engine tells the password");
        let on = on.iter().map(|word| (*word).to_owned()).collect();
        Self { here, on, name, password, address, _removed: removed }
    }

    fn gx(&self, arguments: &[&str]) -> Command {
        let on: Vec<&str> = self.on.iter().map(String::as_str).collect();
        self.here.command(&[&on, arguments].concat())
    }

    /// Runs a VNC client.
    fn client(&self, password: &str, words: &[&str]) -> Run {
        let mut client = Command::new(venv().join("bin/vncdo"));
        let server = self.address.replace(':', "::");
        client.args(["-s", &server, "-p", password, "-t", "20"]).args(words);
        run(client)
    }

    fn captured(&self, name: &str) -> Option<PathBuf> {
        let file = artifact(name);
        let captured = self.client(&self.password, &["capture", &file.display().to_string()]);
        (captured.code == 0).then_some(file)
    }

    /// Clients that speak something else, or their own version of it, end themselves and nobody else.
    fn outlives_garbage(&self) {
        let garbage: Vec<u8> =
            (0..100_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for start in [&b""[..], b"RFB 003.008\n", b"RFB 003.008\n\x02", b"GET / HTTP/1.1\r\n\r\n"] {
            let mut stream = TcpStream::connect(&self.address).expect("the port is open");
            stream.set_read_timeout(Some(Duration::from_secs(5))).expect("it is not zero");
            let _ = stream.write_all(start).and_then(|()| stream.write_all(&garbage));
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new()); // it may be cut off at any byte
        }
        eventually("the desktop is as it was", || {
            self.captured(&format!("{}-after.png", self.name)).filter(|file| middle(file) == RED)
        });
    }

    fn is_seen_and_typed_into(&self) {
        let told = run(self.gx(&["vnc", &self.name]));
        assert!(told.stdout.contains(&self.address) && !told.stdout.contains(&self.password), "{told:?}");

        let empty = eventually("the desktop is seen", || self.captured(&format!("{}-empty.png", self.name)));
        assert_ne!(middle(&empty), RED);
        let fill = FILL.replace("COLOUR", "1");
        let full = eventually("what is typed is seen", || {
            self.client(&self.password, &["--force-caps", "type", &fill, "key", "enter"]);
            self.captured(&format!("{}-red.png", self.name)).filter(|file| middle(file) == RED)
        });
        assert_eq!(middle(&full), RED);

        let refused = self.client("12345678", &["capture", &artifact("never.png").display().to_string()]);
        assert!(refused.code != 0 && refused.stderr.contains("Authentication failure"), "{refused:?}");
    }

    fn gets_another_password(&self) {
        let made = run(self.gx(&["--json", "passwd", &self.name]));
        let made: Value = serde_json::from_str(&made.stdout).unwrap_or_else(|_| panic!("{made:?}"));
        let new = made["vnc"]["password"].as_str().unwrap_or_else(|| panic!("{made}"));
        let file = artifact(&format!("{}-new.png", self.name)).display().to_string();
        eventually("the new password is taken", || {
            (self.client(new, &["capture", &file]).code == 0).then_some(())
        });
        assert_ne!(self.client(&self.password, &["capture", &file]).code, 0, "the old one is taken too");
    }

    fn is_in_the_browser(&self) {
        let (page, url) = self.open_page();
        let mut browser = Browser::open(&url);
        browser.until("a password is asked for", "document.getElementById('password-dialog').open");
        browser.submit("wrong123");
        browser.until("a wrong one is told", "document.querySelector('#password-note.bad') !== null");
        browser.submit(&self.password);
        browser
            .until("the desktop is there", "document.getElementById('status').textContent === 'connected'");
        shows_what_is_typed(&mut browser, "desktop-page.png");

        try_engine("docker", &["kill", &format!("gx-{}", self.name)]);
        browser.until("the end is told", "document.querySelector('#status.bad') !== null");
        browser.click("reconnect");
        let stopped = "document.getElementById('status').textContent.includes('not running')";
        browser.until("why it cannot be there is told", stopped);
        drop(browser);
        signal(page.id(), "INT");
        let ended = page.wait_with_output().expect("gx ends");
        assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    }

    fn is_in_the_dashboard(&self) {
        let dashboard = Dashboard::open(self.gx(&["--json", "ui"]));
        let mut browser = Browser::open(&dashboard.url);
        let link = "document.querySelector('#container-list a.button:not([hidden])')";
        browser.until("its row leads to it", &format!("{link}?.href.endsWith('/') ?? false"));
        browser.until("the link is followed", &format!("(location.href = {link}.href, true)"));
        browser.submit(&self.password);
        browser.until("it is there", "document.getElementById('status')?.textContent === 'connected'");
        shows_what_is_typed(&mut browser, "desktop-from-dashboard.png");
        drop(browser);
        dashboard.end();
    }

    /// Starts `gx vnc --open`, and returns the address of its page.
    fn open_page(&self) -> (Child, String) {
        let mut command = self.gx(&["--json", "vnc", "--open", &self.name]);
        for name in ["BROWSER", "DISPLAY", "WAYLAND_DISPLAY"] {
            command.env_remove(name);
        }
        let mut page = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gx starts");
        let mut line = String::new();
        let stdout = page.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("gx says where the page is");
        let opened: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        let url = opened["url"].as_str().expect("an address").to_owned();
        assert!(url.starts_with("http://127.0.0.1:") && !url.contains(&self.password), "{url}");
        (page, url)
    }
}

/// Fills the desktop in a page with another colour.
fn shows_what_is_typed(browser: &mut Browser, screenshot: &str) {
    let fill = FILL.replace("COLOUR", "4");
    eventually("what is typed into the page is seen in it", || {
        browser.type_line(&fill);
        (browser.pixel() == BLUE).then_some(())
    });
    browser.screenshot(&artifact(screenshot));
}

/// The base is made by `cargo xtask images --desktop` and by `cargo xtask test`.
fn needs_the_base(runtime: &str) {
    let there = try_engine(runtime, &["image", "inspect", "gx-debian:bookworm"]).code == 0;
    assert!(there, "{runtime} has no gx-debian:bookworm: `cargo xtask images --desktop` makes it");
}

/// Returns whether the image there is older than what it is built from. Podman builds it anew each time it is asked to,
/// which takes most of a minute.
fn is_stale(runtime: &str) -> bool {
    let created = try_engine(runtime, &["image", "inspect", "--format", "{{json .Created}}", "gx-desktop"]);
    let Ok(created) = created.stdout.trim().trim_matches('"').parse::<Timestamp>() else {
        return false; // there is none
    };
    let files = std::fs::read_dir(root().join("images/desktop")).expect("a folder of the repository");
    let changed = files.filter_map(|file| file.ok()?.metadata().ok()?.modified().ok()).max();
    changed.is_some_and(|changed| Timestamp::from(changed).unix() > created.unix())
}

/// Returns a folder with a VNC client that can be driven. It is kept, and made once.
fn venv() -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("venv");
    let lock = std::fs::File::create(place.with_extension("lock")).expect("a file can be made");
    lock.lock().expect("a file can be locked");
    if !place.join("bin/vncdo").exists() {
        let mut made = Command::new("python3");
        made.args(["-m", "venv", "--clear"]).arg(&place);
        assert_eq!(run(made).code, 0, "python3-venv makes {}", place.display());
        let mut installed = Command::new(place.join("bin/pip"));
        installed.args(["install", "--quiet", "--disable-pip-version-check", "vncdotool==1.4.2"]);
        let installed = run_within(installed, Duration::from_secs(300));
        assert_eq!(installed.code, 0, "{installed:?}");
    }
    place
}

/// Returns the colour a quarter of the way across and down: neither the pointer nor a prompt is there.
fn middle(file: &Path) -> [u8; 3] {
    let script = "import sys; from PIL import Image; i = Image.open(sys.argv[1]).convert('RGB'); \
                  print(*i.getpixel((i.width // 4, i.height // 4)))";
    let mut python = Command::new(venv().join("bin/python"));
    python.args(["-c", script]).arg(file);
    let told = run(python);
    let parts: Vec<u8> = told.stdout.split_whitespace().filter_map(|part| part.parse().ok()).collect();
    parts.try_into().unwrap_or_else(|_| panic!("{told:?}"))
}
