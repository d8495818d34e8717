//! Programs that know SSH and not gx, on both engines: rsync, sftp, sshfs and Ansible by what `gx ssh --ssh-config` prints,
//! forwarded ports and sockets, a huge paste; and a crowd that says nothing, and sessions killed inside, keep nobody out.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::ssh::{Session, made, text};
use crate::support::{IMAGE, Surroundings, eventually, run, signal, try_engine, unique};

/// An image with rsync and Python, which `cargo xtask test` builds.
pub(crate) const CLIENTS: &str = "gx-clients";
const CROWD: usize = 1000;
const PASTE: usize = 64 << 20;

#[test]
fn docker_is_visited_by_other_programs() {
    visited("docker");
}

#[test]
fn podman_is_visited_by_other_programs() {
    visited("podman");
}

#[test]
fn docker_leads_ports_both_ways() {
    ports_are_led("docker");
}

#[test]
fn podman_leads_ports_both_ways() {
    ports_are_led("podman");
}

#[test]
fn docker_leads_sockets_both_ways() {
    sockets_are_led("docker");
}

#[test]
fn podman_leads_sockets_both_ways() {
    sockets_are_led("podman");
}

#[test]
fn docker_takes_a_huge_paste() {
    pasted("docker");
}

#[test]
fn podman_takes_a_huge_paste() {
    pasted("podman");
}

#[test]
fn docker_is_entered_past_a_crowd() {
    past_a_crowd("docker");
}

#[test]
fn podman_is_entered_past_a_crowd() {
    past_a_crowd("podman");
}

#[test]
fn docker_outlives_its_sessions() {
    outlives_its_sessions("docker");
}

#[test]
fn podman_outlives_its_sessions() {
    outlives_its_sessions("podman");
}

fn visited(runtime: &str) {
    let there = try_engine(runtime, &["image", "inspect", CLIENTS]).code == 0;
    assert!(there, "{runtime} has no {CLIENTS}: `cargo xtask test -- clients` makes it");
    let here = Surroundings::new();
    let name = unique("clients");
    let (_, _removed) = made(runtime, &here, &name, &[CLIENTS]);
    let visitor = Visitor::new(&here, &name);
    visitor.copies_by_rsync();
    visitor.copies_by_sftp();
    visitor.mounts_by_sshfs();
    visitor.manages_by_ansible();
}

/// Takes away what is mounted there, when dropped.
struct Unmount<'p>(&'p Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        unmount.arg(self.0);
        let ended = run(unmount);
        if !std::thread::panicking() {
            assert_eq!(ended.code, 0, "{ended:?}");
        }
    }
}

/// Somebody who has what `gx ssh --ssh-config` prints.
struct Visitor<'h> {
    here: &'h Surroundings,
    config: PathBuf,
    host: String,
}

impl<'h> Visitor<'h> {
    fn new(here: &'h Surroundings, name: &str) -> Self {
        let config = here.path("ssh_config");
        std::fs::write(&config, here.ok(&["ssh", "--ssh-config", name])).expect("a file can be written");
        Self { here, config, host: format!("gx-{name}") }
    }

    fn copies_by_rsync(&self) {
        let (sent, back) = (self.here.path("sent"), self.here.path("back"));
        tree(&sent);
        let there = format!("{}:/srv/tree/", self.host);
        self.rsync(&slashed(&sent), &there);
        self.rsync(&there, &slashed(&back));
        same(&sent, &back);
        // What is gone here goes there too, and what is there already is not sent again.
        std::fs::remove_file(sent.join("two words")).expect("a file can be removed");
        let told = self.rsync(&slashed(&sent), &there);
        assert!(told.contains("*deleting   two words\n") && !told.contains("<f"), "{told}");
        self.rsync(&there, &slashed(&back));
        same(&sent, &back);
    }

    fn rsync(&self, from: &str, to: &str) -> String {
        let mut rsync = Command::new("rsync");
        rsync.args(["--archive", "--delete", "--itemize-changes", "-e"]);
        rsync.arg(format!("ssh -F {}", self.config.display())).args([from, to]);
        let ended = run(rsync);
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.stdout
    }

    fn copies_by_sftp(&self) {
        let (note, back) = (self.here.path("note"), self.here.path("note-back"));
        std::fs::write(&note, "by sftp\n").expect("a file can be written");
        let lines = [
            "mkdir /srv/box".to_owned(),
            format!("put {} /srv/box/first", note.display()),
            "rename /srv/box/first /srv/box/second".to_owned(),
            "chmod 640 /srv/box/second".to_owned(),
            "symlink second /srv/box/third".to_owned(),
            format!("get /srv/box/third {}", back.display()),
            "ls -l /srv/box".to_owned(),
            "rm /srv/box/*".to_owned(),
            "rmdir /srv/box".to_owned(),
        ];
        let (code, told) = self.sftp(&lines.join("\n"));
        assert_eq!(code, 0, "{told}");
        assert!(told.contains("-rw-r-----") && told.contains("/srv/box/third"), "{told}");
        assert_eq!(std::fs::read_to_string(back).expect("it came back"), "by sftp\n");
        let (code, told) = self.sftp("ls /srv/box");
        assert!(code != 0 && told.contains("not found"), "the folder is removed: {told}");
    }

    fn sftp(&self, lines: &str) -> (i32, String) {
        let batch = self.here.path("batch");
        std::fs::write(&batch, format!("{lines}\n")).expect("a file can be written");
        let mut sftp = Command::new("sftp");
        sftp.arg("-F").arg(&self.config).arg("-b").arg(batch).arg(&self.host);
        let ended = run(sftp);
        (ended.code, ended.stdout + &ended.stderr)
    }

    fn mounts_by_sshfs(&self) {
        let at = self.here.path("mounted");
        std::fs::create_dir(&at).expect("a folder can be made");
        let mut sshfs = Command::new("sshfs");
        sshfs.arg("-F").arg(&self.config).arg(format!("{}:/srv", self.host)).arg(&at);
        let mounted = run(sshfs);
        assert_eq!(mounted.code, 0, "{mounted:?}");
        let unmount = Unmount(&at);
        std::fs::write(at.join("written here"), "by sshfs\n").expect("a file can be written there");
        std::fs::rename(at.join("written here"), at.join("renamed")).expect("it can be renamed");
        let mut cat = Command::new("ssh");
        cat.arg("-F").arg(&self.config).args([&self.host, "cat /srv/renamed; echo back >> /srv/renamed"]);
        assert_eq!(run(cat).stdout, "by sshfs\n");
        let read = || std::fs::read_to_string(at.join("renamed")).expect("it is there");
        eventually("what was written there is read here", || (read() == "by sshfs\nback\n").then_some(()));
        std::fs::remove_file(at.join("renamed")).expect("it can be removed");
        drop(unmount);
        assert!(!at.join("tree").exists(), "nothing is mounted any more");
    }

    fn manages_by_ansible(&self) {
        assert_eq!(self.ansible("ping")["ping"], "pong");
        let told = self.ansible("setup");
        let facts = &told["ansible_facts"];
        assert_eq!(facts["ansible_distribution"], "Debian", "{facts}");
        assert_eq!(facts["ansible_user_id"], "root");
        assert_eq!(
            facts["ansible_env"]["SSH_CONNECTION"].as_str().map(|text| text.split(' ').count()),
            Some(4)
        );
    }

    /// Runs a module of Ansible and returns what it found.
    fn ansible(&self, module: &str) -> Value {
        let mut ansible = Command::new("ansible");
        ansible.args(["all", "--inventory", &format!("{},", self.host), "--module-name", module]);
        ansible.env("ANSIBLE_SSH_ARGS", format!("-F {}", self.config.display()));
        ansible.env("ANSIBLE_HOME", self.here.path("ansible")).env("HOME", self.here.path(""));
        ansible.env("ANSIBLE_LOCAL_TEMP", self.here.path("ansible/tmp")).env("ANSIBLE_NOCOLOR", "1");
        ansible.env("LC_ALL", "C.UTF-8").current_dir(self.here.path(""));
        let ended = run(ansible);
        let told = ended.stdout.strip_prefix(&format!("{} | SUCCESS => ", self.host));
        let told = told.unwrap_or_else(|| panic!("{ended:?}"));
        serde_json::from_str(told).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    }
}

/// Makes a folder of what is easily copied wrongly.
fn tree(place: &Path) {
    std::fs::create_dir_all(place.join("empty/deeper")).expect("folders can be made");
    std::fs::write(place.join("nothing"), "").expect("a file can be written");
    std::fs::write(place.join("two words"), "here\n").expect("a file can be written");
    std::fs::write(place.join("grüße"), random(3 << 20)).expect("a file can be written");
    symlink("nothing", place.join("link")).expect("a link can be made");
}

fn slashed(folder: &Path) -> String {
    format!("{}/", folder.display())
}

fn same(one: &Path, other: &Path) {
    let mut diff = Command::new("diff");
    diff.args(["--recursive", "--no-dereference"]).args([one, other]);
    let ended = run(diff);
    assert_eq!(ended.code, 0, "{ended:?}");
}

fn random(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("there is chance");
    bytes
}

fn ports_are_led(runtime: &str) {
    let here = Surroundings::new();
    let name = unique("led");
    let (_, _removed) = made(runtime, &here, &name, &[IMAGE]);
    here.ok(&["ssh", &name, "echo from inside > /tmp/page; httpd -p 127.0.0.1:8000 -h /tmp"]);
    let socket = here.path("led");
    let local = format!("{}:127.0.0.1:8000", socket.display());
    let session = Session::open(&here, &["ssh", "-L", &local, &name, "--", "sh", "-c", "echo in; cat"]);
    for _ in 0..3 {
        let mut stream = UnixStream::connect(&socket).expect("ssh listens");
        stream.write_all(b"GET /page HTTP/1.0\r\n\r\n").expect("it is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it is answered");
        assert!(answer.ends_with("\r\n\r\nfrom inside\n"), "{answer}");
    }
    session.close();

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it has an address").port();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody comes");
        let mut asked = [0; 4];
        stream.read_exact(&mut asked).expect("it is asked");
        stream.write_all(b"from here\n").expect("it is read");
        asked
    });
    let remote = format!("9000:127.0.0.1:{port}");
    let ask = "printf ask! | nc 127.0.0.1 9000";
    let told = here.ok(&["ssh", "-o", "ExitOnForwardFailure=yes", "-R", &remote, &name, ask]);
    assert_eq!(told, "from here\n");
    assert_eq!(&answering.join().expect("it answered"), b"ask!");
    let gone = here.gx(&["ssh", &name, "nc 127.0.0.1 9000 < /dev/null"]);
    assert_ne!(gone.code, 0, "the port is closed with its session: {gone:?}");
}

/// Sockets by OpenSSH's own client, with what `gx ssh --ssh-config` prints: there and back, and away with the session.
fn sockets_are_led(runtime: &str) {
    let here = Surroundings::new();
    let name = unique("sockets");
    let (_, _removed) = made(runtime, &here, &name, &[CLIENTS]);
    let visitor = Visitor::new(&here, &name);
    let serve = "import socket as s, threading\n\
                 l = s.socket(s.AF_UNIX); l.bind('/srv/in.sock'); l.listen(); print('in', flush=True)\n\
                 while True:\n c = l.accept()[0]; f = c.makefile('rw'); f.write(f.readline().upper()); f.close(); c.close()";
    let server = Session::open(&here, &["ssh", &name, "--", "python3", "-c", serve]);
    let (there, back) = (here.path("in"), here.path("back"));
    let local = format!("{}:/srv/in.sock", there.display());
    let remote = format!("/srv/back.sock:{}", back.display());
    let listener = UnixListener::bind(&back).expect("a socket can be made");
    std::thread::spawn(move || listener.incoming().flatten().for_each(shout));
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(&visitor.config).args(["-N", "-o", "ExitOnForwardFailure=yes", "-L", &local]);
    let mut ssh = ssh.args(["-R", &remote, &visitor.host]).spawn().expect("ssh starts");
    let line = eventually("the socket leads into the container", || {
        let mut stream = UnixStream::connect(&there).ok()?;
        stream.write_all(b"from here\n").ok()?;
        let mut line = String::new();
        stream.read_to_string(&mut line).ok()?;
        (!line.is_empty()).then_some(line)
    });
    assert_eq!(line, "FROM HERE\n");
    let ask = "import socket as s; c = s.socket(s.AF_UNIX); c.connect('/srv/back.sock'); \
               f = c.makefile('rw'); f.write('from there\\n'); f.flush(); print(f.readline(), end='')";
    assert_eq!(here.ok(&["ssh", &name, "--", "python3", "-c", ask]), "FROM THERE\n");
    assert_eq!(here.ok(&["ssh", &name, "stat -c '%F %a' /srv/back.sock"]), "socket 600\n");
    agent_is_lent(&here, &name);
    signal(ssh.id(), "TERM");
    ssh.wait().expect("it ends");
    eventually("the file goes with the session", || {
        (here.gx(&["ssh", &name, "test ! -e /srv/back.sock"]).code == 0).then_some(())
    });
    drop(server);
}

/// `gx ssh -A` lends an agent with one key, and without it there is none.
fn agent_is_lent(here: &Surroundings, name: &str) {
    let (socket, key) = (here.path("agent"), here.path("key"));
    let mut agent = Command::new("ssh-agent");
    let mut agent = agent.args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()).spawn().expect("it starts");
    eventually("the agent listens", || UnixStream::connect(&socket).ok());
    let mut make = Command::new("ssh-keygen");
    make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
    let mut add = Command::new("ssh-add");
    add.arg(&key).env("SSH_AUTH_SOCK", &socket);
    assert_eq!((run(make).code, run(add).code), (0, 0));
    // Asks for the identities, and prints how many there are (draft-ietf-sshm-ssh-agent, section 3.5).
    let ask = "import os, socket as s\n\
               c = s.socket(s.AF_UNIX); c.connect(os.environ['SSH_AUTH_SOCK']); c.sendall(bytes([0, 0, 0, 1, 11]))\n\
               b = c.recv(9, s.MSG_WAITALL); print(b[4], int.from_bytes(b[5:9], 'big'))";
    let mut lent = here.command(&["ssh", "-A", name, "--", "python3", "-c", ask]);
    lent.env("SSH_AUTH_SOCK", &socket);
    let lent = run(lent);
    assert_eq!((lent.code, lent.stdout.as_str()), (0, "12 1\n"), "{lent:?}");
    let mut plain = here.command(&["ssh", name, "echo ${SSH_AUTH_SOCK-none}"]);
    plain.env("SSH_AUTH_SOCK", &socket);
    assert_eq!(run(plain).stdout, "none\n");
    signal(agent.id(), "TERM");
    agent.wait().expect("it ends");
}

/// Answers a line in capitals.
fn shout(mut visitor: UnixStream) {
    let mut line = String::new();
    let read = visitor.try_clone().map(BufReader::new).and_then(|mut reader| reader.read_line(&mut line));
    let _ = read.and_then(|_| visitor.write_all(line.to_uppercase().as_bytes()));
}

fn pasted(runtime: &str) {
    let here = Surroundings::new();
    let name = unique("paste");
    let (_, _removed) = made(runtime, &here, &name, &[IMAGE]);
    let (there, back) = (here.path("there"), here.path("back"));
    std::fs::write(&there, random(PASTE)).expect("a file can be written");
    let mut cat = here.command(&["ssh", &name, "--", "cat"]);
    cat.stdin(File::open(&there).expect("it is there"));
    let mut child = cat.stdout(File::create(&back).expect("a file can be made")).spawn().expect("gx starts");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let (sent, came) = (std::fs::read(there).expect("a file"), std::fs::read(back).expect("a file"));
    assert_eq!(came.len(), PASTE);
    assert!(sent == came, "what came back is not what was sent");
}

fn past_a_crowd(runtime: &str) {
    let here = Surroundings::new();
    let name = unique("crowd");
    let (made, _removed) = made(runtime, &here, &name, &[IMAGE]);
    let mut more = Command::new("prlimit");
    more.args(["--pid", &std::process::id().to_string(), "--nofile=4096:"]);
    assert_eq!(run(more).code, 0, "this process may open as many connections");
    let address = text(&made, "/ssh/address");
    let mut crowd: Vec<TcpStream> =
        (0..CROWD).map(|_| TcpStream::connect(address).expect("it takes connections")).collect();
    // Each of them is attended to: none waits in a line before the guest.
    for stream in &mut crowd {
        let mut greeting = [0; 11];
        stream.read_exact(&mut greeting).expect("it greets");
        assert_eq!(&greeting, b"SSH-2.0-gx_");
    }
    assert_eq!(here.ok(&["ssh", &name, "--", "echo", "in"]), "in\n");
    for stream in &mut crowd {
        stream.write_all(b"SSH-2.0-crowd\r\n").expect("nobody was cut off");
    }
    assert_eq!(here.ok(&["ssh", &name, "--", "echo", "in again"]), "in again\n");
    drop(crowd);
    assert_eq!(here.ok(&["ssh", &name, "--", "echo", "alone"]), "alone\n");
}

fn outlives_its_sessions(runtime: &str) {
    let here = Surroundings::new();
    let name = unique("killed");
    let (_, _removed) = made(runtime, &here, &name, &[IMAGE]);
    let line = "echo in; exec sleep 1000";
    let victim = Session::open(&here, &["ssh", &name, line]);
    let other = Session::open(&here, &["ssh", &name, "--", "sh", "-c", "echo in; cat"]);
    here.ok(&["ssh", &name, "kill -9 $(pidof sleep)"]);
    assert_eq!(victim.code(), Some(255), "ssh tells of a signal so");
    // The first process of a container cannot be killed from the inside.
    here.ok(&["ssh", &name, "kill -9 1"]);
    other.close();
    let own = here.gx(&["ssh", &name, "kill -9 $$"]);
    assert_eq!((own.code, own.stdout.as_str()), (255, ""), "{own:?}");
    assert_eq!(here.ok(&["ssh", &name, "--", "echo", "still here"]), "still here\n");
    assert_eq!(here.json(&["show", &name])["state"], "running");
}
