//! GPUs where there are none: a stub of NVML for gx, and engines that hand imaginary GPUs over, so that a container
//! shows in its environment which ones it got.
//!
//! Docker looks for NVIDIA's hook when it starts, so it is one of the test's own, in a network of its own: its bridge
//! and its rules are then not those of the engine that other tests use. Podman reads descriptions of devices anew at
//! each create.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{IMAGE, Run, Surroundings, engine, eventually, root, run, unique};

/// Where Podman looks for descriptions of devices (Container Device Interface).
const CDI: &str = "/var/run/cdi";

/// A machine with imaginary GPUs.
pub(crate) struct Machine {
    /// What hands the GPUs over, until this is dropped: before the folder it lies in, as fields are in this order.
    engine: Option<Box<dyn Any>>,
    pub(crate) here: Surroundings,
    pub(crate) uuids: Vec<String>,
}

impl Machine {
    /// Makes a machine with so many GPUs, which no other test has, and a configuration.
    pub(crate) fn new(gpus: usize, config: &str) -> Self {
        Self::with_engine(gpus, config, Surroundings::new(), |_| None)
    }

    /// Makes one whose engine hands the GPUs over; `limits` are those of the host.
    pub(crate) fn with(runtime: &str, gpus: usize, limits: &str) -> Self {
        let here = Surroundings::new();
        let text = format!("[client]\nruntime = \"{runtime}\"\n[server.limits]\n{limits}\n");
        if runtime == "podman" {
            return Self::with_engine(gpus, &text, here, |uuids| Some(Box::new(Described::new(uuids))));
        }
        let docker = Dockerd::start(&here.path("docker"));
        let text = format!("{text}[plugins.docker.config]\nhost = \"{}\"\n", docker.host());
        Self::with_engine(gpus, &text, here, |_| Some(Box::new(docker)))
    }

    fn with_engine(
        gpus: usize,
        config: &str,
        here: Surroundings,
        engine: impl FnOnce(&[String]) -> Option<Box<dyn Any>>,
    ) -> Self {
        let uuids: Vec<String> = (0..gpus).map(|_| unique("GPU")).collect();
        let script = here.path("nvml").display().to_string();
        let here = here
            .configured(config)
            .with("LD_LIBRARY_PATH", &nvml().display().to_string())
            .with("GX_TEST_NVML", &script);
        let machine = Self { here, engine: engine(&uuids), uuids };
        machine.faults("");
        machine
    }

    /// Ends what hands the GPUs over.
    pub(crate) fn end_engine(&mut self) {
        self.engine = None;
    }

    /// Says how NVML fails from now on: lines as in `tests/nvml/nvml.c`.
    pub(crate) fn faults(&self, faults: &str) {
        self.script(&self.uuids, faults);
    }

    /// Says which GPUs NVML tells from now on, and how it fails.
    pub(crate) fn script(&self, uuids: &[String], faults: &str) {
        let gpus: String = uuids.iter().map(|uuid| format!("gpu {uuid}\n")).collect();
        let beside = self.here.path("nvml.new");
        std::fs::write(&beside, format!("{gpus}{faults}\n")).expect("a file can be written");
        std::fs::rename(beside, self.here.path("nvml")).expect("a file can be renamed");
    }

    /// Returns how often NVML was opened.
    pub(crate) fn opened(&self) -> usize {
        let log = std::fs::read_to_string(self.here.path("nvml.log")).unwrap_or_default();
        log.lines().filter(|line| *line == "init").count()
    }

    /// Makes a container with GPUs that tells its environment.
    pub(crate) fn create(&self, gpus: &str, name: &str) -> Run {
        self.here.gx(&[
            "--json",
            "create",
            "--gpus",
            gpus,
            "--name",
            name,
            IMAGE,
            "--",
            "sh",
            "-c",
            "env; sleep 1000",
        ])
    }

    /// Makes one, which must succeed, and returns the GPUs it has; the container must see the same.
    #[track_caller]
    pub(crate) fn given(&self, gpus: &str, name: &str) -> Vec<String> {
        let made = self.create(gpus, name);
        assert_eq!(made.code, 0, "--gpus {gpus}: {made:?}");
        let told = gpus_of(&made);
        assert_eq!(self.seen_in(name), told, "what {name} sees");
        told
    }

    /// Returns the GPUs that a container sees, sorted as gx tells them.
    pub(crate) fn seen_in(&self, name: &str) -> Vec<String> {
        eventually("the container tells its environment", || {
            let log = self.here.gx(&["logs", name]).stdout;
            let value = |line: &str| {
                let (key, value) = line.trim().split_once('=')?;
                (key == "NVIDIA_VISIBLE_DEVICES" || key.starts_with("GX_TEST_GPU_")).then(|| value.to_owned())
            };
            let seen: Vec<String> = log.lines().filter_map(value).collect();
            let seen: Vec<String> = seen.join(",").split(',').map(str::to_owned).collect();
            (seen != [""]).then_some(seen)
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.engine.is_some() {
            let listed = self.here.gx(&["--json", "list", "--all"]);
            let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap_or_default();
            let all = listed["containers"].as_array().into_iter().flatten();
            for name in all.filter_map(|container| container["name"].as_str()) {
                self.here.gx(&["rm", "--force", name]);
            }
        }
    }
}

/// Returns the GPUs of the container that a create printed.
#[track_caller]
pub(crate) fn gpus_of(made: &Run) -> Vec<String> {
    let last = made.stdout.trim();
    let made: serde_json::Value =
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {made:?}"));
    let gpus = made["gpus"].as_str().unwrap_or_else(|| panic!("no GPUs: {made}"));
    gpus.split(',').map(str::to_owned).collect()
}

/// Returns the folder with the stub of NVML, compiled once.
fn nvml() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nvml");
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let lock = std::fs::File::create(folder.join("lock")).expect("a file can be made");
    lock.lock().expect("a file can be locked");
    let (source, library) = (root().join("tests/nvml/nvml.c"), folder.join("libnvidia-ml.so.1"));
    let changed = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    if changed(&library) < changed(&source) {
        let beside = folder.join("new");
        let mut cc = Command::new("cc");
        cc.args(["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]).arg(&beside).arg(&source);
        let made = run(cc);
        assert_eq!(made.code, 0, "{}", made.stderr);
        std::fs::rename(beside, &library).expect("a file can be renamed");
    }
    folder
}

/// A description of GPUs for Podman: each sets a variable in the container.
struct Described(PathBuf);

impl Described {
    fn new(uuids: &[String]) -> Self {
        let device = |(index, uuid): (usize, &String)| {
            let seen = format!("GX_TEST_GPU_{index}={uuid}");
            serde_json::json!({"name": uuid, "containerEdits": {"env": [seen]}})
        };
        let devices: Vec<_> = uuids.iter().enumerate().map(device).collect();
        let text = serde_json::json!({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices});
        let file = Path::new(CDI).join(format!("{}.json", unique("gx-test")));
        let written = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        std::fs::write(written.path(), text.to_string()).expect("a file can be written");
        let mut install = as_root("install");
        install.args(["-D", "-m", "644"]).arg(written.path()).arg(&file);
        let made = run(install);
        assert_eq!(made.code, 0, "{}", made.stderr);
        Self(file)
    }
}

impl Drop for Described {
    fn drop(&mut self) {
        let mut remove = as_root("rm");
        remove.arg("-f").arg(&self.0);
        run(remove);
    }
}

/// A Docker engine with NVIDIA's hook, which does nothing: the engine itself tells the container its GPUs.
struct Dockerd {
    folder: PathBuf,
    child: Child,
}

impl Dockerd {
    fn start(folder: &Path) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let hook = folder.join("bin/nvidia-container-runtime-hook");
        std::fs::create_dir_all(folder.join("bin")).expect("folders can be made");
        std::fs::write(&hook, "#!/bin/sh\nexit 0\n").expect("a file can be written");
        let all = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&hook, all).expect("permissions can be set");
        let log = std::fs::File::create(folder.join("log")).expect("a file can be made");
        // In a network of its own, and gone with the test even when that is killed.
        let script = "PATH=$1/bin:$PATH; busybox ip link set lo up; exec setpriv --pdeathsig TERM -- dockerd \
            --log-level warn --data-root $1/data --exec-root $1/exec --pidfile $1/pid --group $2 \
            --host unix://$1/sock";
        let mut dockerd = as_root("unshare");
        dockerd.args(["--net", "--", "sh", "-c", script, "sh"]).arg(folder);
        dockerd.arg(rustix::process::getgid().to_string()).stdin(Stdio::null()).stdout(Stdio::null());
        let child = dockerd.stderr(log).spawn().expect("dockerd starts");
        let dockerd = Self { folder: folder.to_owned(), child };
        dockerd.fill();
        dockerd
    }

    fn host(&self) -> String {
        format!("unix://{}", self.folder.join("sock").display())
    }

    fn docker(&self, args: &[&str]) -> Run {
        let mut docker = Command::new("/usr/bin/docker");
        docker.args(["--host", &self.host()]).args(args);
        run(docker)
    }

    /// Waits until it answers, and gives it the image of the engine that other tests use.
    fn fill(&self) {
        eventually("dockerd answers", || (self.docker(&["version"]).code == 0).then_some(()));
        let archive = self.folder.join("image.tar").display().to_string();
        engine("docker", &["save", "--output", &archive, IMAGE]);
        let loaded = self.docker(&["load", "--input", &archive]);
        assert_eq!(loaded.code, 0, "{}", loaded.stderr);
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let left = self.docker(&["ps", "--all", "--quiet"]).stdout;
        let left: Vec<&str> = left.split_whitespace().collect();
        if !left.is_empty() {
            self.docker(&[&["rm", "--force", "--volumes"], left.as_slice()].concat());
        }
        let mut kill = as_root("kill");
        kill.arg(self.child.id().to_string());
        run(kill);
        let _ = self.child.wait();
        let mut remove = as_root("rm");
        remove.arg("-rf").arg(&self.folder);
        run(remove);
    }
}

fn as_root(program: &str) -> Command {
    if rustix::process::getuid().is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", program]);
    sudo
}
