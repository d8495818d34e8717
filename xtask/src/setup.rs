//! What a step needs of the machine: looks for it, says what is missing and why, installs it.
//!
//! Packages are installed on Debian, Ubuntu and what descends from them. Elsewhere the step says what to do.

use std::path::Path;
use std::process::Command;

use crate::shell::{self, Failure, Result, find, say};

/// Something a step needs, with the packages that bring it.
pub(crate) struct Need {
    /// Any of these will do: a program's name, or a file's whole path.
    found_as: &'static [&'static str],
    /// Debian's packages for it; the first that this release knows is installed.
    packages: &'static [&'static str],
    /// What for.
    why: &'static str,
}

/// Both engines, and what their containers need.
pub(crate) const ENGINES: &[Need] = &[
    Need { found_as: &["dockerd"], packages: &["docker.io"], why: "the Docker engine" },
    // Debian 13 has the client in a package of its own; before that docker.io holds both.
    Need { found_as: &["docker"], packages: &["docker-cli", "docker.io"], why: "Docker's client" },
    Need { found_as: &["podman"], packages: &["podman"], why: "the Podman engine" },
    Need { found_as: &["runc"], packages: &["runc"], why: "starts containers for both engines" },
    Need { found_as: &["iptables"], packages: &["iptables"], why: "forwards published ports" },
    Need {
        found_as: &["/usr/lib/podman/netavark", "/usr/libexec/podman/netavark", "/usr/lib/cni/bridge"],
        packages: &["netavark", "containernetworking-plugins"],
        why: "Podman's networks",
    },
    Need {
        found_as: &["nft"],
        packages: &["nftables"],
        why: "closes members' containers off; forwards ports in Podman 5",
    },
    Need {
        found_as: &["busybox"],
        packages: &["busybox-static"],
        why: "the whole content of the test image: no registry is needed",
    },
];

/// What a borrower has.
pub(crate) const SSH: &[Need] =
    &[Need { found_as: &["ssh"], packages: &["openssh-client"], why: "visits containers" }];

/// What the tests run besides.
pub(crate) const TESTS: &[Need] = &[
    Need { found_as: &["git"], packages: &["git"], why: "lists the files of the repository" },
    Need { found_as: &["kill"], packages: &["procps"], why: "ends programs, as faults do" },
    Need { found_as: &["sshpass"], packages: &["sshpass"], why: "visits containers by password" },
    Need { found_as: &["rsync"], packages: &["rsync"], why: "copies into containers over SSH" },
    Need { found_as: &["sshfs"], packages: &["sshfs"], why: "mounts folders of containers over SSH" },
    Need { found_as: &["ansible"], packages: &["ansible-core"], why: "manages containers over SSH" },
    Need { found_as: &["openssl"], packages: &["openssl"], why: "shakes hands as no node would" },
    Need { found_as: &["ip"], packages: &["iproute2"], why: "makes machines with networks of their own" },
    Need {
        found_as: &["tcpdump"],
        packages: &["tcpdump"],
        why: "looks whether anything goes over a wire in the clear",
    },
    Need {
        found_as: &["mkfs.btrfs"],
        packages: &["btrfs-progs"],
        why: "makes a disk on which an engine can bound what containers write",
    },
    Need { found_as: &["make"], packages: &["make"], why: "builds the example plugin in C" },
    Need {
        found_as: &["tmux"],
        packages: &["tmux"],
        why: "is the terminal in which the chat is typed and read",
    },
    Need {
        found_as: &[
            "/usr/libexec/docker/cli-plugins/docker-compose",
            "/usr/lib/docker/cli-plugins/docker-compose",
            "docker-compose",
        ],
        // Ubuntu's, then Debian's.
        packages: &["docker-compose-v2", "docker-compose"],
        why: "runs the example of the chat in containers",
    },
];

/// What an image with a desktop is made of.
pub(crate) const DESKTOP: &[Need] = &[Need {
    found_as: &["mmdebstrap"],
    packages: &["mmdebstrap"],
    why: "makes the base of the desktop's image: no registry is needed",
}];

/// What the speed test is compared with, and on.
pub(crate) const SPEED: &[Need] = &[
    Need { found_as: &["iperf3"], packages: &["iperf3"], why: "measures the same link in its own way" },
    Need { found_as: &["tc"], packages: &["iproute2"], why: "makes links of a known rate" },
    Need {
        found_as: &["ping"],
        packages: &["iputils-ping"],
        why: "measures the same round trips in its own way",
    },
];

/// What the chat is compared with.
pub(crate) const CHAT: &[Need] = &[
    Need {
        found_as: &["nats-server"],
        packages: &["nats-server"],
        why: "passes messages on as fast as it can",
    },
    Need { found_as: &["ngircd"], packages: &["ngircd"], why: "is a chat that keeps nothing" },
    Need { found_as: &["strace"], packages: &["strace"], why: "has a disk take longer to sync" },
];

/// What looks at a desktop as its users do.
pub(crate) const VIEWERS: &[Need] = &[
    Need {
        found_as: &["chromium", "chromium-browser"],
        packages: &["chromium", "chromium-browser"],
        why: "opens the page of gx vnc",
    },
    Need {
        found_as: &["python3-venv"],
        packages: &["python3-venv"],
        why: "holds vncdotool, a VNC client that tests can drive, and schemathesis, which asks our API for nonsense",
    },
];

/// Where the kernel enforces AppArmor, Docker cannot start a container without its parser.
const APPARMOR: Need =
    Need { found_as: &["apparmor_parser"], packages: &["apparmor"], why: "Docker's AppArmor profile" };

impl Need {
    fn is_met(&self) -> bool {
        self.found_as.iter().any(|name| match *name {
            "busybox" => static_busybox().is_some(),
            "python3-venv" => {
                shell::read(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_ok()
            }
            path if path.starts_with('/') => Path::new(path).exists(),
            program => find(program).is_some(),
        })
    }
}

/// Where the kernel's users are shared out (subuid(5)), and what Podman's documentation gives to its containers.
const IDS: [&str; 2] = ["/etc/subuid", "/etc/subgid"];
const CONTAINERS: &str = "containers:2147483647:2147483648";

/// Gives Podman ids for containers with users of their own, where nobody has.
///
/// # Errors
/// [`Failure`] when the files cannot be written.
pub(crate) fn give_ids() -> Result<()> {
    for file in IDS {
        let there = std::fs::read_to_string(file).unwrap_or_default();
        if there.lines().any(|line| line.starts_with("containers:")) {
            continue;
        }
        say(format_args!("giving ids to containers in {file}, for those with users of their own"));
        let append = "printf '%s\\n' \"$1\" >> \"$2\"";
        shell::run(shell::as_root("sh").args(["-c", append, "sh", CONTAINERS, file]))?;
    }
    Ok(())
}

/// Returns the statically linked busybox; one that needs a C library is of no use in an empty image.
pub(crate) fn static_busybox() -> Option<std::path::PathBuf> {
    let file = find("busybox")?;
    let program = std::fs::read(&file).ok()?;
    // A dynamic program names its loader right behind the headers.
    let start = &program[..program.len().min(4096)];
    let dynamic = start.windows(4).any(|window| window == b"/ld-");
    (!dynamic).then_some(file)
}

/// Installs the packages for what is missing.
///
/// # Errors
/// [`Failure::Because`] with what to do, where this cannot install them.
pub(crate) fn install_missing(needs: &[&[Need]]) -> Result<()> {
    let apparmor = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|enabled| enabled.starts_with('Y'));
    let wanted = needs.iter().copied().flatten().chain(apparmor.then_some(&APPARMOR));
    let missing: Vec<&Need> = wanted.filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        announce(&missing);
        return Err(elsewhere());
    }
    if !shell::is_root() && find("sudo").is_none() {
        announce(&missing);
        let packages = missing.iter().map(|need| known(need.packages)).collect::<Vec<_>>().join(" ");
        return Err(Failure::Because(format!(
            "packages are installed by root: run this as root, install sudo, or have \
             `apt-get install --no-install-recommends {packages}` run for you"
        )));
    }
    apt(&missing)?;
    match missing.iter().find(|need| !need.is_met()) {
        None => Ok(()),
        Some(need) => Err(Failure::Because(format!(
            "{} is installed, but none of {} is there",
            need.packages[0],
            need.found_as.join(", ")
        ))),
    }
}

/// Says what is missing and why it is wanted, by the names that packages have here.
fn announce(missing: &[&Need]) {
    say("this machine lacks what the engines need:");
    for need in missing {
        say(format_args!("  {:<16} {}", known(need.packages), need.why));
    }
}

fn apt(missing: &[&Need]) -> Result<()> {
    let apt = || {
        let mut apt = shell::as_root("apt-get");
        apt.args(["-q", "-y", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(std::process::Stdio::null());
        apt
    };
    say("packages are missing here: updating the package lists first");
    shell::run(apt().arg("update"))?;
    announce(missing);
    let mut packages: Vec<&str> = missing.iter().map(|need| known(need.packages)).collect();
    packages.sort_unstable();
    packages.dedup();
    say(format_args!("installing {}", packages.join(" ")));
    shell::run(apt().args(["install", "--no-install-recommends"]).args(packages))
}

/// Returns the first of these packages that can be installed here.
fn known(packages: &'static [&'static str]) -> &'static str {
    let installable = |package: &&&str| {
        let policy = shell::read(Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C"));
        policy.is_ok_and(|text| text.contains("Candidate:") && !text.contains("Candidate: (none)"))
    };
    packages.iter().find(installable).unwrap_or(&packages[0])
}

fn elsewhere() -> Failure {
    Failure::Because(
        "packages are installed on Debian and Ubuntu only. Install Docker, Podman, runc and a static busybox \
         yourself, then run this again:\n  \
         Fedora:   dnf install moby-engine podman runc iptables busybox\n  \
         Arch:     pacman -S docker podman runc iptables busybox\n  \
         openSUSE: zypper install docker podman runc iptables busybox-static\n  \
         macOS, Windows: use a Linux machine or a virtual one"
            .to_owned(),
    )
}
