//! Forwarded ports, there and back.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use crate::support::{Guest, free_port, text, wait_for};

/// Sends back in capitals what the visitor sends until its end.
fn answer(mut visitor: impl Read + Write) {
    let mut all = Vec::new();
    visitor.read_to_end(&mut all).unwrap();
    visitor.write_all(&all.to_ascii_uppercase()).unwrap();
}

/// Listens, and sends back in capitals what each visitor sends until its end.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for visitor in listener.incoming().flatten() {
            std::thread::spawn(move || answer(visitor));
        }
    });
    port
}

fn ask(port: u16, size: usize) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(&vec![b'a'; size]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn a_port_of_the_container_is_reached_here() {
    let guest = Guest::start(&["sleep", "1000"]);
    let (here, there) = (free_port(), echo());
    let forward = format!("{here}:localhost:{there}");
    let mut ssh = guest.ssh(&["-N", "-o", "ExitOnForwardFailure=yes", "-L", &forward], &[]).spawn().unwrap();
    wait_for("the port is open", || TcpStream::connect(("127.0.0.1", here)).is_ok());
    // Half closed, both ways, more than any buffer holds.
    for size in [0, 1, 3_000_000] {
        assert!(ask(here, size) == vec![b'A'; size], "{size}");
    }
    ssh.kill().unwrap();
    ssh.wait().unwrap();
}

#[test]
fn a_port_here_is_reached_from_the_container() {
    let guest = Guest::start(&["sleep", "1000"]);
    let (there, here) = (free_port(), echo());
    let forward = format!("{there}:127.0.0.1:{here}");
    let mut ssh = guest.ssh(&["-N", "-o", "ExitOnForwardFailure=yes", "-R", &forward], &[]).spawn().unwrap();
    wait_for("the port is open", || TcpStream::connect(("127.0.0.1", there)).is_ok());
    for size in [1, 3_000_000] {
        assert!(ask(there, size) == vec![b'A'; size], "{size}");
    }
    ssh.kill().unwrap();
    ssh.wait().unwrap();
    wait_for("the port is closed with the connection", || TcpStream::connect(("127.0.0.1", there)).is_err());
}

#[test]
fn a_port_that_is_taken_is_refused() {
    let guest = Guest::start(&["sleep", "1000"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _taken = TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let forward = format!("{taken}:127.0.0.1:1");
    let output = guest.ssh(&["-o", "ExitOnForwardFailure=yes", "-R", &forward], &["true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(255), "{output:?}");
}

#[test]
fn connections_that_fail_keep_no_place() {
    let guest = Guest::start(&["sleep", "1000"]);
    let (bad, good, there) = (free_port(), free_port(), echo());
    let forwards = [format!("{bad}:localhost:{}", free_port()), format!("{good}:localhost:{there}")];
    let mut ssh = guest.ssh(&["-N", "-L", &forwards[0], "-L", &forwards[1]], &[]).spawn().unwrap();
    wait_for("the ports are open", || TcpStream::connect(("127.0.0.1", good)).is_ok());
    for _ in 0..1200 {
        let mut stream = TcpStream::connect(("127.0.0.1", bad)).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert!(ask(good, 10) == b"AAAAAAAAAA");
    ssh.kill().unwrap();
    ssh.wait().unwrap();
}

#[test]
fn a_socket_of_the_container_is_reached_here() {
    let guest = Guest::start(&["sleep", "1000"]);
    let (here, path) = (free_port(), guest.path("home/there.sock"));
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    let forward = format!("{here}:{}", path.display());
    let mut ssh = guest.ssh(&["-N", "-o", "ExitOnForwardFailure=yes", "-L", &forward], &[]).spawn().unwrap();
    wait_for("the port is open", || TcpStream::connect(("127.0.0.1", here)).is_ok());
    for size in [1, 3_000_000] {
        assert!(ask(here, size) == vec![b'A'; size], "{size}");
    }
    ssh.kill().unwrap();
    ssh.wait().unwrap();
}

#[test]
fn a_port_here_is_reached_from_a_socket_in_the_container() {
    let guest = Guest::start(&["sleep", "1000"]);
    let (path, here) = (guest.path("home/back.sock"), echo());
    let forward = format!("{}:127.0.0.1:{here}", path.display());
    let options = ["-N", "-o", "ExitOnForwardFailure=yes", "-R", &forward];
    let mut ssh = guest.ssh(&options, &[]).spawn().unwrap();
    wait_for("the socket is there", || UnixStream::connect(&path).is_ok());
    let file = std::fs::metadata(&path).unwrap();
    assert!(file.file_type().is_socket() && file.mode() & 0o777 == 0o600, "{:o}", file.mode());
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"abc").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "ABC");
    // What is there already is not replaced.
    let second = guest.ssh(&options, &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(255), "{second:?}");
    ssh.kill().unwrap();
    ssh.wait().unwrap();
    wait_for("the file is gone with the connection", || !path.exists());
}

#[test]
fn a_socket_that_nobody_listens_on_is_refused() {
    let guest = Guest::start(&["sleep", "1000"]);
    let here = free_port();
    let forward = format!("{here}:/no/such/socket");
    let mut ssh = guest.ssh(&["-N", "-L", &forward], &[]).spawn().unwrap();
    wait_for("the port is open", || TcpStream::connect(("127.0.0.1", here)).is_ok());
    let mut stream = TcpStream::connect(("127.0.0.1", here)).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer); // closed or reset
    assert!(answer.is_empty());
    ssh.kill().unwrap();
    ssh.wait().unwrap();
}

#[test]
fn an_agent_is_lent_only_where_that_is_asked_for() {
    let guest = Guest::start(&["sleep", "1000"]);
    let socket = guest.path("agent.sock");
    let mut agent = Command::new("ssh-agent");
    let mut agent = agent.args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()).spawn().unwrap();
    wait_for("the agent listens", || UnixStream::connect(&socket).is_ok());
    let add = Command::new("ssh-add").arg(guest.path("key")).env("SSH_AUTH_SOCK", &socket).output().unwrap();
    assert!(add.status.success(), "{add:?}");
    let run = |flag: &str, line: &str| {
        let mut ssh = guest.ssh(&[flag], &[line]);
        text(&ssh.env("SSH_AUTH_SOCK", &socket).output().unwrap())
    };
    assert_eq!(run("-a", "echo ${SSH_AUTH_SOCK-none}"), "none\n");
    let line = "echo $SSH_AUTH_SOCK; stat -c %a $SSH_AUTH_SOCK ${SSH_AUTH_SOCK%/*}; ssh-add -L";
    let said = run("-A", line);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines.len(), &lines[1..3]), (4, &["600", "700"][..]), "{said}");
    let public = std::fs::read_to_string(guest.path("key.pub")).unwrap();
    assert!(public.starts_with(lines[3].rsplit_once(' ').unwrap().0), "{said}");
    let folder = std::path::Path::new(lines[0]).parent().unwrap().to_owned();
    wait_for("the folder is gone with the connection", || !folder.exists());
    agent.kill().unwrap();
    agent.wait().unwrap();
}
