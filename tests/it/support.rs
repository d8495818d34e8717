//! How tests start programs, hosts and engines, and wait for conditions.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gx_client::Client;

/// The engines that must be there; their plugins have the same names.
pub(crate) const ENGINES: [&str; 2] = ["docker", "podman"];

/// An image that both engines have: one static busybox.
pub(crate) const IMAGE: &str = "gx-busybox";

/// Returns the project's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("cli/ is in the project's root")
}

/// Returns a folder laid out as an installation is: `bin/gx` and `lib/gx/libgx_plugin_*.so`. All tests share it.
pub(crate) fn installation() -> &'static Path {
    static INSTALLATION: OnceLock<PathBuf> = OnceLock::new();
    INSTALLATION.get_or_init(|| {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("installation");
        std::fs::create_dir_all(&place).expect("folders can be made");
        // Every test may be a process of its own: the first one copies, the others wait for it.
        let lock = std::fs::File::create(place.join("lock")).expect("a file can be made");
        lock.lock().expect("a file can be locked");
        install_if_newer(Path::new(env!("CARGO_BIN_EXE_gx")), &place.join("bin/gx"));
        for name in ENGINES.into_iter().chain(["speedtest"]) {
            install_if_newer(&plugin_file(name), &place.join(format!("lib/gx/libgx_plugin_{name}.so")));
        }
        place
    })
}

fn install_if_newer(from: &Path, to: &Path) {
    let built = std::fs::metadata(from).and_then(|data| data.modified()).expect("it was built");
    let there = std::fs::metadata(to).and_then(|data| data.modified()).ok();
    if there.is_none_or(|there| there < built) {
        let beside = to.with_extension("new");
        install(from, &beside);
        std::fs::rename(&beside, to).expect("a file can be renamed"); // one that runs keeps its old code
    }
}

/// Returns the file of a plugin that this test run built.
pub(crate) fn plugin_file(name: &str) -> PathBuf {
    let deps = Path::new(env!("CARGO_BIN_EXE_gx")).parent().expect("a program is in a folder").join("deps");
    deps.join(format!("libgx_plugin_{name}.so"))
}

/// Copies a file, readable by all and writable by its owner, as an installer would.
pub(crate) fn install(from: &Path, to: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(to.parent().expect("a file is in a folder")).expect("folders can be made");
    std::fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755)).expect("permissions can be set");
}

/// A user's surroundings: a data folder of its own, no configuration but the one given.
pub(crate) struct Surroundings {
    home: tempfile::TempDir,
    env: BTreeMap<String, String>,
    /// The network namespace that its programs run in; `None` is this process's own.
    network: Option<PathBuf>,
}

/// What keeps members' containers apart goes with the last of them; a test that removes those by the engine's own
/// program leaves it.
impl Drop for Surroundings {
    fn drop(&mut self) {
        if self.network.is_some() || !self.path("data/members.json").exists() {
            return;
        }
        let Ok(key) = gx_identity::former(&self.data()).map(|keys| keys.into_iter().next_back()) else {
            return;
        };
        let Some(key) = key.or_else(|| gx_identity::open(&self.data()).ok()) else { return };
        let mut nft = Command::new("nft");
        let table = format!("gx_{}", &key.id().to_string()[..4]);
        let _ = nft.args(["delete", "table", "inet", &table]).stderr(Stdio::null()).status();
    }
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

impl Surroundings {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary folder can be made");
        Self { home, env: BTreeMap::new(), network: None }
    }

    /// Writes the configuration file that every command then reads.
    pub(crate) fn configured(mut self, text: &str) -> Self {
        let file = self.path("config.toml");
        self.configure(text);
        self.env.insert("GX_CONFIG".into(), file.display().to_string());
        self
    }

    /// Writes the configuration anew.
    pub(crate) fn configure(&self, text: &str) {
        std::fs::write(self.path("config.toml"), text).expect("a file can be written");
    }

    /// Gives every command an environment variable more.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Lets every command run in a network namespace.
    pub(crate) fn inside(mut self, network: &Path) -> Self {
        self.network = Some(network.to_owned());
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Returns a `gx` command in these surroundings, not yet started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let gx = installation().join("bin/gx");
        let mut command = match &self.network {
            None => Command::new(gx),
            Some(network) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", network.display())).arg(gx);
                command
            }
        };
        command.args(args).current_dir(self.home.path()).stdin(Stdio::null());
        for name in ["GX_CONFIG", "GX_ON", "GX_RUNTIME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
            command.env_remove(name);
        }
        command.env("GX_DATA_DIR", self.data()).env("HOME", self.home.path()).env("NO_COLOR", "1");
        command.envs(&self.env);
        command
    }

    /// Runs `gx` to its end, at most a minute.
    pub(crate) fn gx(&self, args: &[&str]) -> Run {
        run(self.command(args))
    }

    /// Runs `gx`, which must succeed, and returns what it printed.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let run = self.gx(args);
        assert_eq!(run.code, 0, "gx {}: {}{}", args.join(" "), run.stdout, run.stderr);
        run.stdout
    }

    /// Runs `gx … --json`, which must succeed, and returns the value it printed.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let args: Vec<&str> = [&["--json"], args].concat();
        let text = self.ok(&args);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("gx {}: {error}: {text}", args.join(" ")))
    }

    /// Starts `gx serve` on a free port.
    #[track_caller]
    pub(crate) fn serve(&self) -> Host {
        self.serve_at("127.0.0.1:0")
    }

    /// Starts `gx serve` at an address.
    #[track_caller]
    pub(crate) fn serve_at(&self, address: &str) -> Host {
        eventually("the port is free again", || match self.try_serve(&["--listen", address]) {
            Ok(host) => Some(host),
            // A connection of another test may have the port of a host that was killed, for a moment.
            Err(said) if said.contains("in use") => None,
            Err(said) => panic!("gx serve: {said}"),
        })
    }

    /// Starts `gx serve`; what it says where it does not serve is the error.
    pub(crate) fn try_serve(&self, args: &[&str]) -> Result<Host, String> {
        let mut command = self.command(&[&["--json", "serve"], args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gx starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("gx serve says where it listens");
        let Ok(said) = serde_json::from_str::<serde_json::Value>(&line) else {
            let mut stderr = String::new();
            let _ = child.kill();
            let _ = child.stderr.take().expect("stderr is piped").read_to_string(&mut stderr);
            let _ = child.wait();
            return Err(format!("{line}{stderr}"));
        };
        // Its log must not fill the pipe: read it to its end.
        let stderr = child.stderr.take().expect("stderr is piped");
        let mut log = std::fs::File::create(self.path("serve.log")).expect("a file can be made");
        std::thread::spawn(move || std::io::copy(&mut BufReader::new(stderr), &mut log));
        let text = |key: &str| said[key].as_str().unwrap_or_else(|| panic!("no {key}: {said}")).to_owned();
        Ok(Host {
            child,
            address: text("listening"),
            node: text("node_id"),
            key: self.data().join("node.key"),
        })
    }
}

/// A running `gx serve`; killed when dropped.
pub(crate) struct Host {
    child: Child,
    pub(crate) address: String,
    pub(crate) node: String,
    key: PathBuf,
}

impl Host {
    /// Gives other surroundings the host's own key: from there its owner acts, as from another machine of theirs.
    pub(crate) fn is_owned_from(&self, here: &Surroundings) {
        std::fs::create_dir_all(here.data()).expect("folders can be made");
        std::fs::copy(&self.key, here.data().join("node.key")).expect("a key can be copied");
    }

    /// Returns a client of the host's owner.
    pub(crate) fn client(&self) -> Client {
        self.client_at(&self.address)
    }

    /// Returns a client of the host's owner, by another way to it.
    pub(crate) fn client_at(&self, address: &str) -> Client {
        let data = self.key.parent().expect("a file is in a folder");
        self.open(address, &gx_identity::open(data).expect("a key"))
    }

    /// Returns a client with a key of its own.
    pub(crate) fn client_of(&self, key: &gx_identity::NodeKey) -> Client {
        self.open(&self.address, key)
    }

    fn open(&self, address: &str, key: &gx_identity::NodeKey) -> Client {
        let endpoint = address.parse().expect("an address");
        Client::to_node(&endpoint, self.node.parse().expect("an id"), key)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as a crash would, and waits for its end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end, at most two minutes.
pub(crate) fn run(command: Command) -> Run {
    run_within(command, Duration::from_secs(120))
}

/// Runs a command to its end, at most so long.
pub(crate) fn run_within(mut command: Command, limit: Duration) -> Run {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let id = child.id();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(limit) {
        Ok(output) => ended(output.expect("the program's end can be waited for")),
        Err(_) => {
            signal(id, "KILL");
            panic!("{command:?} did not end within {} s", limit.as_secs())
        }
    }
}

fn ended(output: Output) -> Run {
    use std::os::unix::process::ExitStatusExt;
    let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Run { stdout: text(&output.stdout), stderr: text(&output.stderr), code }
}

/// Sends a signal to a process that this test started.
pub(crate) fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
}

/// Waits until `probe` gives something; panics after a minute.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns a port that nobody listens on, of those that no system gives out by itself: it stays free until it is used.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + u16::try_from(number % 10_000).expect("it is below 10,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Returns a name no other test uses.
pub(crate) fn unique(prefix: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Runs an engine's own command line, which must succeed, and returns what it printed.
#[track_caller]
pub(crate) fn engine(name: &str, args: &[&str]) -> String {
    let run = try_engine(name, args);
    assert_eq!(run.code, 0, "{name} {}: {}", args.join(" "), run.stderr);
    run.stdout
}

/// Runs an engine's own command line.
pub(crate) fn try_engine(name: &str, args: &[&str]) -> Run {
    let mut command = Command::new(format!("/usr/bin/{name}"));
    command.args(args).stdin(Stdio::null());
    run(command)
}

/// Removes a container of an engine, with its anonymous volumes, when the test ends, however it ends.
pub(crate) struct Removed<'a>(pub(crate) &'a str, pub(crate) String);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        try_engine(self.0, &["rm", "-f", "-v", &self.1]);
    }
}
