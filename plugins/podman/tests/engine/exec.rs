//! Commands in a running container.

use std::fs::File;
use std::time::Duration;

use gx_core::plugin::*;
use gx_core::stream::{DEFAULT_WINDOW_BYTES, input, pipe};
use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::support::{Made, fails, input_of, podman, shell, until};

fn argv(argv: &[&str]) -> ExecSpec {
    ExecSpec { argv: argv.iter().map(|&word| word.to_owned()).collect(), ..ExecSpec::default() }
}

/// Returns whether a process of this command line is in the container.
async fn is_there(made: &Made, line: &str) -> bool {
    let pattern = line.replace(' ', ".");
    let (exit, found, _) = made.exec(&format!("grep -l '^{pattern}' /proc/[0-9]*/cmdline 2>/dev/null")).await;
    assert!(exit.code <= 2, "{exit:?}");
    !found.is_empty()
}

#[tokio::test]
async fn streams_are_apart_and_the_exit_is_the_commands() {
    let podman = podman!();
    let made = Made::started(&podman, shell("sleep 1000")).await;
    let (exit, stdout, stderr) = made.exec("echo out; echo err >&2; exit 43").await;
    assert_eq!((exit.code, stdout.as_str(), stderr.as_str()), (43, "out\n", "err\n"));
    let (exit, _, _) = made.exec("kill -9 $$").await;
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    let (exit, stdout, _) = made.exec("sleep 1000 & echo started").await;
    assert_eq!((exit.code, stdout.as_str()), (0, "started\n"), "a child in the background is not waited for");
}

#[tokio::test]
async fn a_command_that_cannot_be_run_is_an_exit_code_and_a_line() {
    let podman = podman!();
    let made = Made::started(&podman, shell("sleep 1000")).await;
    for (command, code) in [("nope", 127), ("/etc", 126)] {
        let (exit, stdout, stderr) = made.exec_with(argv(&[command]), Input::empty()).await.unwrap();
        assert_eq!((exit.code, stdout.as_str()), (code, ""));
        assert!(stderr.contains(command) && stderr.lines().count() == 1, "{stderr:?}");
    }
    let nobody = ExecSpec { user: Some("nobodyx".to_owned()), ..argv(&["true"]) };
    let outcome = made.exec_with(nobody, Input::empty()).await;
    fails(outcome, ErrorCode::InvalidArgument, Some("user"));
    fails(made.exec_with(argv(&[]), Input::empty()).await, ErrorCode::InvalidArgument, Some("argv"));
}

#[tokio::test]
async fn a_container_must_run() {
    let podman = podman!();
    let made = Made::created(&podman, shell("true")).await;
    fails(made.exec_with(argv(&["true"]), Input::empty()).await, ErrorCode::FailedPrecondition, None);
    podman.start(made.id.clone()).await.unwrap();
    podman.wait(made.id.clone()).await.unwrap();
    fails(made.exec_with(argv(&["true"]), Input::empty()).await, ErrorCode::FailedPrecondition, None);
    fails(podman.stats(made.id.clone(), 0, Output::null()).await, ErrorCode::FailedPrecondition, None);
}

#[tokio::test]
async fn environment_user_and_folder_are_those_asked_for() {
    let podman = podman!();
    let made = Made::started(&podman, shell("sleep 1000")).await;
    let spec = ExecSpec {
        env: [("A".to_owned(), "b c".to_owned())].into(),
        user: Some("1000:2000".to_owned()),
        workdir: Some("/bin".to_owned()),
        ..argv(&["sh", "-c", "echo $A; id -u; id -g; pwd"])
    };
    let (_, stdout, _) = made.exec_with(spec, Input::empty()).await.unwrap();
    assert_eq!(stdout, "b c\n1000\n2000\n/bin\n");
}

#[tokio::test]
async fn input_is_passed_on_with_its_end() {
    let podman = podman!();
    let made = Made::started(&podman, shell("sleep 1000")).await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    let sum = |stdin| ExecSpec { stdin, ..argv(&["wc", "-c"]) };
    let (exit, stdout, _) = made.exec_with(sum(true), input_of(bytes)).await.unwrap();
    assert_eq!((exit.code, stdout.trim()), (0, "3000000"));
    let (_, stdout, _) = made.exec_with(sum(false), input_of(b"ignored".to_vec())).await.unwrap();
    assert_eq!(stdout.trim(), "0", "without stdin the input is at its end");
    let early = ExecSpec { stdin: true, ..argv(&["sh", "-c", "exec <&-; echo closed"]) };
    let (_, stdout, _) = made.exec_with(early, input_of(vec![0; 1_000_000])).await.unwrap();
    assert_eq!(stdout, "closed\n");
    let unread = ExecSpec { stdin: true, ..argv(&["sh", "-c", "echo hello; exit 3"]) };
    for _ in 0..5 {
        let (exit, stdout, stderr) =
            made.exec_with(unread.clone(), input_of(b"unread".to_vec())).await.unwrap();
        assert_eq!((exit.code, stdout.as_str(), stderr.as_str()), (3, "hello\n", ""));
    }
}

#[tokio::test]
async fn much_output_arrives_whole() {
    let podman = podman!();
    let made = Made::started(&podman, shell("sleep 1000")).await;
    let (exit, stdout, _) = made.exec("yes 0123456789 | head -c 20000000").await;
    assert_eq!((exit.code, stdout.len()), (0, 20_000_000));
}

#[tokio::test]
async fn a_terminal_has_a_size_that_changes() {
    let podman = podman!();
    let made = Made::started(&podman, shell("sleep 1000")).await;
    let script = "tty; stty size; echo err >&2; until [ \"$(stty size)\" = '50 120' ]; do sleep 0.05; done; echo resized; cat";
    let spec = ExecSpec { tty: true, stdin: true, size: Some((77, 33)), ..argv(&["sh", "-c", script]) };
    let (sender, reader) = input();
    let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
    let (id, runtime) = (made.id.clone(), podman.clone());
    let exec = tokio::spawn(async move { runtime.exec(id, spec, reader, out).await });
    let mut seen = String::new();
    let mut wait_for = async |mark: &str| {
        while !seen.contains(mark) {
            let item = items.next().await.unwrap_or_else(|| panic!("no {mark:?} in {seen:?}"));
            assert_eq!(item.kind, Kind::Stdout);
            seen.push_str(std::str::from_utf8(&item.bytes).unwrap());
        }
    };
    wait_for("err\r\n").await;
    sender.send(InputChunk::Resize { columns: 120, rows: 50 }).await.unwrap();
    wait_for("resized\r\n").await;
    sender.send(InputChunk::Data("typed\r".into())).await.unwrap();
    wait_for("typed\r\ntyped\r\n").await;
    sender.send(InputChunk::Data("\u{4}".into())).await.unwrap();
    assert_eq!(exec.await.unwrap().unwrap().code, 0);
    assert!(seen.starts_with("/dev/pts/") && seen.contains("33 77\r\n"), "{seen:?}");
}

/// Conmon takes the first size as often as there are some waiting, and drops those after it.
#[tokio::test]
async fn the_last_of_many_sizes_holds_though_conmon_is_slow() {
    let podman = podman!();
    let made = Made::started(&podman, shell("sleep 1000")).await;
    let script = "echo ready; until [ \"$(stty size)\" = '50 120' ]; do sleep 0.05; done; echo resized";
    let spec = ExecSpec { tty: true, stdin: true, size: Some((77, 33)), ..argv(&["sh", "-c", script]) };
    let (sender, reader) = input();
    let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
    let (id, runtime) = (made.id.clone(), podman.clone());
    let exec = tokio::spawn(async move { runtime.exec(id, spec, reader, out).await });
    assert_eq!(items.next().await.unwrap().bytes, "ready\r\n");
    let (conmon, waiting) = conmon_of_exec(&made);
    kill_process(conmon, Signal::STOP).unwrap();
    sender.send(InputChunk::Resize { columns: 20, rows: 10 }).await.unwrap();
    sender.send(InputChunk::Resize { columns: 120, rows: 50 }).await.unwrap();
    let both = "1 10 20\n1 50 120\n".len() as u64;
    until("both sizes wait", async || ioctl_fionread(&waiting).unwrap() >= both).await;
    kill_process(conmon, Signal::CONT).unwrap();
    assert_eq!(items.next().await.unwrap().bytes, "resized\r\n");
    assert_eq!(exec.await.unwrap().unwrap().code, 0);
}

/// Returns the conmon of the one command that runs in a container, and the pipe it gets sizes by.
fn conmon_of_exec(made: &Made) -> (Pid, File) {
    let is_it = |words: &[u8]| {
        let words: Vec<&[u8]> = words.split(|&byte| byte == 0).collect();
        words.contains(&&b"--exec-attach"[..]) && words.contains(&made.id.as_str().as_bytes())
    };
    let mut processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let conmon = processes.find(|path| std::fs::read(path.join("cmdline")).is_ok_and(|words| is_it(&words)));
    let conmon = conmon.expect("a conmon runs");
    let sizes = File::options().read(true).write(true).open(conmon.join("cwd/ctl")).unwrap();
    let number = conmon.file_name().unwrap().to_str().unwrap().parse().unwrap();
    (Pid::from_raw(number).unwrap(), sizes)
}

#[tokio::test]
async fn a_command_is_killed_when_its_time_is_up() {
    let podman = podman!();
    let made = Made::started(&podman, shell("sleep 1000")).await;
    let spec = ExecSpec {
        timeout_ms: Some(700),
        ..argv(&["sh", "-c", "trap '' TERM; echo begun; sleep 777; true"])
    };
    let begun = Instant::now();
    fails(made.exec_with(spec, Input::empty()).await, ErrorCode::DeadlineExceeded, None);
    assert!(begun.elapsed() < Duration::from_secs(10));
    made.exec("sleep 776 & sleep 0.1").await;
    assert!(is_there(&made, "sleep 776").await);
    assert!(!is_there(&made, "sleep 777").await, "its child is gone too");
}

#[tokio::test]
async fn a_command_is_killed_when_its_caller_or_reader_goes() {
    let podman = podman!();
    let made = Made::started(&podman, shell("sleep 1000")).await;
    for tty in [false, true] {
        for keep_future in [false, true] {
            let spec = ExecSpec { tty, ..argv(&["sh", "-c", "echo begun; sleep 888; true"]) };
            let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
            let (id, runtime) = (made.id.clone(), podman.clone());
            let exec = tokio::spawn(async move { runtime.exec(id, spec, Input::empty(), out).await });
            assert!(items.next().await.is_some());
            if keep_future {
                drop(items);
                tokio::time::timeout(Duration::from_secs(10), exec).await.unwrap().unwrap().unwrap();
            } else {
                exec.abort();
            }
            until("the command is gone", || async { !is_there(&made, "sleep 888").await }).await;
        }
    }
    let spec = argv(&["sh", "-c", "sleep 999; true"]);
    let early = podman.exec(made.id.clone(), spec, Input::empty(), Output::null());
    assert!(tokio::time::timeout(Duration::from_millis(30), early).await.is_err());
    podman.shutdown().await.unwrap();
    // What is killed takes a moment to be gone.
    until("one that was just starting is gone too", || async { !is_there(&made, "sleep 999").await }).await;
}
