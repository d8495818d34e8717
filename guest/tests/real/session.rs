//! Commands and shells: codes, streams, terminals, and what becomes of them when the client goes.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::{Guest, lives, text, wait_for};

#[test]
fn a_command_has_its_code_and_its_streams() {
    let guest = Guest::start(&["sleep", "1000"]);
    let output = guest.run("cat; echo err >&2; exit 7", b"from outside");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(text(&output), "from outside");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
    assert_eq!(guest.run("no-such-program", b"").status.code(), Some(127));
    // ssh ends with 255 when the other side died of a signal.
    assert_eq!(guest.run("kill -TERM $$", b"").status.code(), Some(255));
}

#[test]
fn a_shell_reads_its_input_to_the_end() {
    let guest = Guest::start(&["sleep", "1000"]);
    let mut ssh = guest.ssh(&["-T"], &[]).stdin(Stdio::piped()).spawn().unwrap();
    ssh.stdin.take().unwrap().write_all(b"echo one\necho $0\nexit 4\n").unwrap();
    let output = ssh.wait_with_output().unwrap();
    assert_eq!((text(&output).as_str(), output.status.code()), ("one\n-sh\n", Some(4)));
}

#[test]
fn variables_of_the_client_are_set() {
    let guest = Guest::start(&["sleep", "1000"]);
    let output =
        guest.ssh(&["-o", "SetEnv=LC_TEST=yes"], &["echo $LC_TEST; echo $SSH_CONNECTION"]).output().unwrap();
    let said = text(&output);
    assert!(said.starts_with("yes\n127.0.0.1 ") && said.trim().ends_with(&guest.port.to_string()), "{said}");
}

/// A terminal for a client to run in.
fn terminal(rows: u16, columns: u16) -> (OwnedFd, OwnedFd) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = std::fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    set_size(&ours, rows, columns);
    (ours, theirs.into())
}

fn set_size(terminal: &OwnedFd, rows: u16, columns: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

#[test]
fn a_terminal_has_the_size_of_the_clients_and_follows_it() {
    let guest = Guest::start(&["sleep", "1000"]);
    let (ours, theirs) = terminal(33, 101);
    // In a session of its own, so that the size of its terminal reaches it.
    let mut ssh = Command::new("setsid");
    ssh.args(["--ctty", "ssh", "-tt"]).args(guest.options()).arg("me@127.0.0.1").env("TERM", "vt220");
    ssh.arg("trap 'stty size; exit 5' WINCH; echo $TERM; stty size; tty; while :; do read x; done");
    ssh.stdin(theirs.try_clone().unwrap()).stdout(theirs.try_clone().unwrap()).stderr(theirs);
    let mut ssh = ssh.spawn().unwrap();
    let mut screen = BufReader::new(std::fs::File::from(ours.try_clone().unwrap()));
    let mut line = || {
        let mut line = String::new();
        screen.read_line(&mut line).unwrap();
        line.trim().to_owned()
    };
    assert_eq!(line(), "vt220");
    assert_eq!(line(), "33 101");
    assert!(line().starts_with("/dev/pts/"));
    set_size(&ours, 44, 122);
    assert_eq!(line(), "44 122");
    assert_eq!(ssh.wait().unwrap().code(), Some(5));
}

#[test]
fn output_of_a_terminal_is_whole() {
    let guest = Guest::start(&["sleep", "1000"]);
    let output = guest.ssh(&["-tt"], &["seq 1 100000"]).output().unwrap();
    assert_eq!(text(&output).lines().count(), 100_000);
    assert_eq!(text(&output).lines().last(), Some("100000"));
}

#[test]
fn processes_end_when_the_connection_goes() {
    let guest = Guest::start(&["sleep", "1000"]);
    for flag in ["-tt", "-T"] {
        let mut ssh = guest.ssh(&[flag], &["echo $$; exec sleep 1000"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(ssh.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(lives(&line), "{flag}: {line}");
        wait_for("it is counted", || guest.status().sessions == 1);
        ssh.kill().unwrap();
        ssh.wait().unwrap();
        wait_for("the process ends", || !lives(&line));
        wait_for("it is not counted", || guest.status().sessions == 0);
    }
    assert!(guest.status().idle_s.is_some());
}

#[test]
fn what_goes_in_comes_out_however_much() {
    let guest = Guest::start(&["sleep", "1000"]);
    let input: Vec<u8> =
        (0..20_000_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let output = guest.run("cat", &input);
    assert!(output.stdout == input, "{} of {} bytes", output.stdout.len(), input.len());
}

#[test]
fn a_slow_reader_slows_and_does_not_fill_the_guest() {
    let guest = Guest::start(&["sleep", "1000"]);
    // Nobody reads what cat writes, and 64 MB are offered.
    let mut ssh = guest.ssh(&[], &["cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = ssh.stdin.take().unwrap();
    let mut stdout = ssh.stdout.take().unwrap();
    let size = 64 << 20;
    let writer = std::thread::spawn(move || drop(stdin.write_all(&vec![7; size])));
    let mut first = [0; 1];
    stdout.read_exact(&mut first).unwrap();
    // Another session is not disturbed, and in its time the first is not read.
    for _ in 0..20 {
        assert_eq!(text(&guest.run("echo other", b"")), "other\n");
    }
    let kib = resident_kib(guest.process.id());
    assert!(kib < 60 << 10, "{kib} KiB");
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len() + 1, size);
    writer.join().unwrap();
    ssh.wait().unwrap();
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn many_sessions_share_one_connection() {
    let guest = Guest::start(&["sleep", "1000"]);
    let socket = guest.path("master").display().to_string();
    let share = format!("ControlPath={socket}");
    let mut master = guest.ssh(&["-M", "-N", "-o", &share], &[]).spawn().unwrap();
    wait_for("the connection is there", || std::path::Path::new(&socket).exists());
    let sessions: Vec<_> = (0..30)
        .map(|number| guest.ssh(&["-o", &share], &[&format!("echo {number}")]).spawn().unwrap())
        .collect();
    for (number, session) in sessions.into_iter().enumerate() {
        assert_eq!(text(&session.wait_with_output().unwrap()), format!("{number}\n"));
    }
    assert_eq!(guest.status().sessions, 1);
    master.kill().unwrap();
    master.wait().unwrap();
}

#[test]
fn the_word_shell_is_the_users() {
    let guest = Guest::start(&["sleep", "1000"]);
    let output = guest.word(&["shell", "-c", "echo $USER $HOME; exit 6"], "");
    assert_eq!(text(&output), format!("me {}\n", guest.path("home").display()));
    assert_eq!(output.status.code(), Some(6));
    assert_eq!(text(&guest.word(&["shell"], "echo login $0\n")), "login -sh\n");
}
