//! The bound of what a container writes, on an engine that can keep one: Docker on btrfs, on a disk of the test's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::private_docker::PrivateDocker;
use crate::support::{IMAGE, Run, Surroundings, run, unique};

/// A disk in a file, with a file system on it; unmounted when dropped.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Makes one of so many bytes in a file, and mounts it at a folder that is there.
    pub(crate) fn new(file_system: &str, bytes: u64, file: &Path, at: &Path) -> Self {
        let disk = std::fs::File::create(file).expect("a file can be made");
        disk.set_len(bytes).expect("a file may have holes");
        ok(&format!("mkfs.{file_system}"), &["-q".as_ref(), file.as_ref()]);
        ok("mount", &["-o".as_ref(), "loop".as_ref(), file.as_ref(), at.as_ref()]);
        Self(at.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        unmount.args(["--lazy".as_ref(), self.0.as_os_str()]);
        run(unmount);
    }
}

#[track_caller]
fn ok(program: &str, args: &[&std::ffi::OsStr]) {
    let mut command = Command::new(program);
    command.args(args);
    let ran = run(command);
    assert_eq!(ran.code, 0, "{program}: {}", ran.stderr);
}

#[test]
fn what_a_container_writes_is_bounded_and_so_is_what_a_member_has() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (file, at) = (folder.path().join("disk"), folder.path().join("data"));
    std::fs::create_dir(&at).expect("a folder can be made");
    let disk = Disk::new("btrfs", 2 << 30, &file, &at);
    let docker = PrivateDocker::start_on(folder, &disk.0, &["--storage-driver=btrfs"]);
    let limits = "[server.limits]\ndisk = \"128MiB\"\n[server.member]\ndisk = \"192MiB\"\n";
    let there =
        Surroundings::new().configured(&format!("{limits}{}", docker.config())).inside(&docker.network());
    let here = Surroundings::new().inside(&docker.network());
    let host = there.serve();
    let ticket = there.ok(&["invite", "--address", &host.address]);
    here.ok(&["join", "--name", "lab", ticket.trim()]);
    assert!(there.ok(&["runtimes", "--json"]).contains("\"disk\""), "the engine says that it can");

    let create = |name: &str, disk: &str| {
        here.gx(&["--on", "lab", "create", "--name", name, "--disk", disk, IMAGE, "--", "sleep", "600"])
    };
    let write = |name: &str, mib: u32| -> Run {
        let dd = format!("dd if=/dev/urandom of=/full bs=1M count={mib} conv=fsync");
        here.gx(&["--on", "lab", "exec", name, "--", "sh", "-c", &dd])
    };
    let [first, second] = [unique("bounded"), unique("bounded")];
    assert_eq!(create(&first, "96MiB").code, 0);
    let within = write(&first, 32);
    assert_eq!(within.code, 0, "{within:?}");
    let over = write(&first, 128);
    assert_ne!(over.code, 0, "more than the bound was written: {over:?}");
    let said = over.stderr.to_lowercase();
    assert!(said.contains("quota exceeded") || said.contains("no space"), "{over:?}");

    // Of the member's 192 MiB 96 are taken, and one container may have 128 at most.
    let too_much = create(&second, "160MiB");
    assert!(too_much.code == 5 && too_much.stderr.contains("128 MiB"), "{too_much:?}");
    let no_more = create(&second, "112MiB");
    assert!(no_more.code != 0 && no_more.stderr.contains("96 MiB"), "{no_more:?}");
    assert_eq!(create(&second, "96MiB").code, 0);
    assert_ne!(write(&second, 128).code, 0, "the second is bounded too");
    for name in [&first, &second] {
        here.ok(&["--on", "lab", "rm", "--force", name]);
    }
}
