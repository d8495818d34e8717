//! Archives and paths that members send to do harm: what is copied in, what is built, and what is swapped meanwhile. What
//! the machine has outside the container stays as it is, and is not told.

use std::path::Path;
use std::time::{Duration, Instant};

use gx_core::api::BuildQuery;
use gx_core::config::PolicyConfig;
use gx_core::runtime::BuildRequest;
use gx_server::ServerError;

use super::lab::{Lab, Who};
use crate::support::{IMAGE, try_engine, unique};

/// A folder of the machine with a secret, that nobody in a container may write or read.
struct Canary {
    folder: tempfile::TempDir,
    secret: String,
}

impl Canary {
    fn new() -> Self {
        let (folder, secret) = (tempfile::tempdir().expect("a folder can be made"), unique("secret"));
        std::fs::write(folder.path().join("secret"), &secret).expect("a file can be written");
        Self { folder, secret }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn is_untouched(&self) -> bool {
        let names: Vec<_> = std::fs::read_dir(self.path()).expect("it is there").flatten().collect();
        names.len() == 1 && std::fs::read_to_string(names[0].path()).is_ok_and(|text| text == self.secret)
    }
}

/// An archive whose entries are as bad as its maker wants: no path is checked.
struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn add(mut self, kind: tar::EntryType, name: &[u8], link: &[u8], content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        if kind.is_character_special() || kind.is_block_special() {
            header.set_device_major(1).expect("a small number");
            header.set_device_minor(5).expect("a small number");
        }
        header.set_cksum();
        self.0.append(&header, content).expect("memory takes all");
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.add(tar::EntryType::Regular, name.as_bytes(), b"", content.as_bytes())
    }

    fn device(mut self, name: &str, major: u32, minor: u32) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Block);
        header.set_mode(0o666);
        header.set_size(0);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_device_major(major).expect("a header of GNU has it");
        header.set_device_minor(minor).expect("a header of GNU has it");
        header.set_cksum();
        self.0.append(&header, &[][..]).expect("memory takes all");
        self
    }

    fn link(self, name: &str, to: &str) -> Self {
        self.add(tar::EntryType::Symlink, name.as_bytes(), to.as_bytes(), b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("memory takes all")
    }
}

/// Archives that try to get out of the folder they are unpacked in, to this one of the machine.
fn escapes(canary: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let to = canary.display().to_string();
    let up = format!("{}{}/got-out", "../".repeat(12), to.trim_start_matches('/'));
    vec![
        ("dots", Archive::new().file(&up, "x").bytes()),
        ("dots in between", Archive::new().file(&format!("a/../../{up}"), "x").bytes()),
        ("from the root", Archive::new().file(&format!("{to}/got-out"), "x").bytes()),
        ("through a link", Archive::new().link("l", &to).file("l/got-out", "x").bytes()),
        ("over a link", Archive::new().link("l", &format!("{to}/secret")).file("l", "changed").bytes()),
        (
            "through a hard link",
            Archive::new()
                .add(tar::EntryType::Link, b"h", format!("{to}/secret").as_bytes(), b"")
                .file("h", "changed")
                .bytes(),
        ),
        ("a device", Archive::new().add(tar::EntryType::Char, b"zero", b"", b"").bytes()),
        ("a pipe", Archive::new().add(tar::EntryType::Fifo, b"pipe", b"", b"").bytes()),
        ("a name that steers terminals", Archive::new().file("a\u{1b}[2J\nb", "x").bytes()),
        (
            "a name that is no text",
            Archive::new().add(tar::EntryType::Regular, b"\xff\xfe", b"", b"x").bytes(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_unpacks_nothing_outside_the_container() {
    unpacks_nothing_outside_the_container("docker").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_unpacks_nothing_outside_the_container() {
    unpacks_nothing_outside_the_container("podman").await;
}

async fn unpacks_nothing_outside_the_container(runtime: &'static str) {
    let lab = Lab::new(runtime, PolicyConfig::default()).await;
    let mine = lab.serve(Who::A).await;
    let canary = Canary::new();
    for (what, archive) in escapes(canary.path()) {
        // Refused or unpacked within: either will do.
        let copied = lab.copy_in(mine.id(), "/w", archive).await;
        assert!(canary.is_untouched(), "{what}: {copied:?}");
    }
    for path in ["/w/../../../../../..", "relative", "", "/none/\n\u{1b}[2J", "/proc/1/root", "/w/\u{0}"] {
        let copied = lab.copy_in(mine.id(), path, Archive::new().file("got-in", "x").bytes()).await;
        assert!(!Path::new("/got-in").exists(), "{path:?}: {copied:?}");
    }
    let secret = canary.path().join("secret");
    lab.output(Who::A, mine.id(), &["ln", "-s", "/", "/w/root"]).await;
    for path in [secret.display().to_string(), format!("/w/root{}", secret.display())] {
        let got = lab.copy_out(mine.id(), &path).await.unwrap_or_default();
        assert!(!contains(&got, &canary.secret), "{path}");
    }

    // A device that was put there is none that may be used.
    let (major, minor) = disk();
    let disk = Archive::new().device("disk", major, minor).bytes();
    let _ = lab.copy_in(mine.id(), "/w", disk).await; // refused, or made and of no use
    let read = ["sh", "-c", "head -c 1 /w/disk | wc -c"];
    assert_eq!(lab.output(Who::A, mine.id(), &read).await.trim(), "0", "the machine's disk can be read");

    // A link that takes a folder's place, and is taken back, while the engine unpacks there and reads.
    let to = canary.path().display();
    // Whatever the engine makes there meanwhile is cleared away, so that each round is like the first.
    let swap = format!(
        "while :; do mkdir -p /w/d; echo own > /w/d/secret; usleep 2000; \
         mv /w/d /w/e; ln -s {to} /w/d; usleep 500; rm -rf /w/d /w/e; done"
    );
    let swaps =
        lab.create(Who::A, |request| request.command = ["sh", "-c", &swap].map(str::to_owned).to_vec());
    let swaps = swaps.await.expect("it is made");
    let (mut tries, mut reads) = (0, 0);
    let patience = Instant::now() + Duration::from_secs(60);
    while tries < 60 || (reads == 0 && Instant::now() < patience) {
        tries += 1;
        let got = lab.copy_out(swaps.id.as_str(), "/w/d/secret").await.unwrap_or_default();
        let _ = lab.copy_in(swaps.id.as_str(), "/w/d", Archive::new().file("got-out", "x").bytes()).await;
        assert!(canary.is_untouched() && !contains(&got, &canary.secret));
        reads += usize::from(contains(&got, "own"));
    }
    assert!(reads > 0, "none of {tries} reads came in between");
    assert_eq!(lab.get(&mine, "http://127.0.0.1:8080/").await, Some(mine.page()), "it goes on");
    lab.end().await;
}

/// Returns the numbers of a disk of this machine.
fn disk() -> (u32, u32) {
    let text = std::fs::read_to_string("/proc/partitions").expect("the machine has disks");
    let disk = text.lines().skip(2).find(|line| !line.contains("loop") && !line.contains("ram"));
    let numbers = disk.expect("one is not a file").split_whitespace().map_while(|word| word.parse().ok());
    let numbers: Vec<u32> = numbers.take(2).collect();
    (numbers[0], numbers[1])
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_members_build_reaches_neither_the_machine_nor_a_network() {
    // Podman's service (4.3) unpacks a context through the links in it, anywhere on the machine: it is not asked.
    for runtime in ["docker", "podman"] {
        let policy = PolicyConfig { builds: true, ..PolicyConfig::default() };
        let lab = Lab::new(runtime, policy).await;
        let canary = Canary::new();
        let to = canary.path().display().to_string();
        let build = async |name: &str, archive: Archive, file: &str| {
            let text = format!("FROM {IMAGE}\n{file}\n");
            let tag = format!("{}/{name}", lab.short(Who::A));
            let build = BuildRequest {
                tag: tag.parse().expect("a reference"),
                containerfile: Some("Containerfile".to_owned()),
                args: Default::default(),
                no_cache: true,
                no_network: false, // it is not for members to say
            };
            let query = BuildQuery { runtime: Some(runtime.parse().expect("a name")), build };
            let built = lab.build(Who::A, query, archive.file("Containerfile", &text).bytes()).await;
            (tag, built)
        };
        if runtime == "podman" {
            let through = Archive::new().link("l", &to).file("l/got-out", "x");
            let (_, refused) = build(&unique("refused"), through, "COPY . /got/").await;
            assert!(matches!(refused, Err(ServerError::NoFirewall { .. })), "{refused:?}");
            assert!(canary.is_untouched());
            lab.end().await;
            continue;
        }
        let has_secret = |tag: &str| {
            // Files only: a device or a pipe would be read for ever.
            let read = "find /got -type f -exec cat {} +";
            let run = ["run", "--rm", "--network", "none", tag, "sh", "-c", read];
            try_engine(runtime, &run).stdout.contains(&canary.secret)
        };
        for (what, archive, file) in [
            ("link", Archive::new().link("l", &format!("{to}/secret")), "COPY l /got/"),
            ("folder", Archive::new().link("l", &to), "COPY l /got/"),
            ("through", Archive::new().link("l", &to), "COPY l/secret /got/"),
            ("dots", Archive::new(), &*format!("COPY ../../../../../..{to}/secret /got/")),
            ("root", Archive::new(), &*format!("COPY {to}/secret /got/")),
        ] {
            let name = format!("{}-{what}", unique("copy"));
            let (tag, built) = build(&name, archive, file).await;
            println!("{runtime} {what}: {built:?}");
            assert!(!has_secret(&tag), "{runtime} {what}");
            try_engine(runtime, &["rmi", "-f", &tag]);
        }
        // What is small on the way and large on the disk never gets to the engine.
        let holes = Archive::new().add(tar::EntryType::GNUSparse, b"holes", b"", b"");
        let crowd = (0..250_001).fold(Archive::new(), |all, _| all.file("f", ""));
        for (archive, why) in [(holes, "has holes"), (crowd, "more than 250000 files")] {
            let (_, built) = build(&unique("bomb"), archive, "COPY . /got/").await;
            assert!(built.is_err_and(|error| error.to_string().contains(why)), "{why}");
        }
        for (what, archive) in escapes(canary.path()) {
            let (tag, built) = build(&unique("escape"), Archive(archive_of(archive)), "COPY . /got/").await;
            println!("{runtime} {what}: {built:?}");
            assert!(canary.is_untouched(), "{runtime} {what}");
            assert!(!has_secret(&tag), "{runtime} {what}");
            try_engine(runtime, &["rmi", "-f", &tag]);
        }
        let (tag, built) =
            build(&unique("alone"), Archive::new(), "RUN test \"$(ls /sys/class/net)\" = lo").await;
        built.unwrap_or_else(|error| panic!("{runtime}: its steps have loopback alone: {error}"));
        try_engine(runtime, &["rmi", "-f", &tag]);
        lab.end().await;
    }
}

/// Takes an archive up again, without the blocks of zeros at its end.
fn archive_of(bytes: Vec<u8>) -> tar::Builder<Vec<u8>> {
    let whole = bytes.len() - 1024;
    tar::Builder::new(bytes[..whole].to_vec())
}
