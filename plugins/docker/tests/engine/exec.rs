//! Commands in a running container.

use std::time::{Duration, Instant};

use gx_core::runtime::{ExecSpec, Feature};
use gx_core::stream::{Input, InputChunk, input, pipe};
use gx_core::{ErrorCode, Runtime};

use crate::support::*;

async fn box_() -> Option<Made> {
    let runtime = runtime().await?;
    Some(Made::run(&runtime, spec(&["sleep", "1000"])).await)
}

fn sh(line: &str) -> ExecSpec {
    command(&["sh", "-c", line])
}

#[tokio::test]
async fn output_is_split_and_the_exit_is_told() {
    let Some(made) = box_().await else { return };
    let (exit, out, err) = made.exec(sh("echo out; echo err >&2; exit 43"), Input::empty()).await.unwrap();
    assert_eq!((exit.code, out.as_str(), err.as_str()), (43, "out\n", "err\n"));
    let (exit, ..) = made.exec(sh("kill -9 $$"), Input::empty()).await.unwrap();
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
}

#[tokio::test]
async fn a_process_gets_what_was_asked_for() {
    let Some(made) = box_().await else { return };
    let spec = ExecSpec {
        env: [("A".to_owned(), "b c".to_owned())].into(),
        user: Some("7".to_owned()),
        workdir: Some("/proc".to_owned()),
        ..sh("id -u; pwd; echo $A")
    };
    assert_eq!(made.exec(spec, Input::empty()).await.unwrap().1, "7\n/proc\nb c\n");
    let nobody = ExecSpec { user: Some("gxt-nobody".to_owned()), ..sh("true") };
    assert_error(made.exec(nobody, Input::empty()).await, ErrorCode::InvalidArgument, Some("user"));
    let nowhere = ExecSpec { workdir: Some("/gxt".to_owned()), ..sh("true") };
    assert_error(made.exec(nowhere, Input::empty()).await, ErrorCode::InvalidArgument, Some("workdir"));
    assert_error(made.exec(command(&[]), Input::empty()).await, ErrorCode::InvalidArgument, Some("argv"));
}

#[tokio::test]
async fn what_cannot_run_is_126_or_127() {
    let Some(made) = box_().await else { return };
    for tty in [false, true] {
        for (name, code) in [("gxt-none", 127), ("/gxt/none", 127), ("/etc", 126), ("/etc/hosts", 126)] {
            let (exit, out, err) =
                made.exec(ExecSpec { tty, ..command(&[name]) }, Input::empty()).await.unwrap();
            assert_eq!((exit.code, out.as_str()), (code, ""), "{name}");
            assert!(err.contains(name) && err.ends_with('\n') && err.lines().count() == 1, "{err:?}");
        }
    }
    // A command that writes what the engine would is still a command.
    let (exit, out, _) =
        made.exec(sh("printf 'OCI runtime exec failed\\r\\n'; exit 126"), Input::empty()).await.unwrap();
    assert_eq!((exit.code, out.as_str()), (126, "OCI runtime exec failed\r\n"));
}

#[tokio::test]
async fn input_is_passed_on_to_its_end() {
    let Some(made) = box_().await else { return };
    let (sender, reader) = input();
    tokio::spawn(async move {
        for piece in ["one\n", "two\n"] {
            sender.send(InputChunk::Data(piece.into())).await.unwrap();
        }
    });
    let (exit, out, _) = made.exec(ExecSpec { stdin: true, ..command(&["cat"]) }, reader).await.unwrap();
    assert_eq!((exit.code, out.as_str()), (0, "one\ntwo\n"));
    let (exit, out, _) = made.exec(command(&["cat"]), fed(b"unread".to_vec())).await.unwrap();
    assert_eq!((exit.code, out.as_str()), (0, ""));
    let big = vec![b'x'; 3 << 20];
    let (_, out, _) = made.exec(ExecSpec { stdin: true, ..sh("sleep 0.3; wc -c") }, fed(big)).await.unwrap();
    assert_eq!(out.trim(), (3 << 20).to_string());
    let (exit, ..) =
        made.exec(ExecSpec { stdin: true, ..command(&["true"]) }, fed(vec![0; 1 << 20])).await.unwrap();
    assert_eq!(exit.code, 0);
}

#[tokio::test]
async fn a_terminal_has_a_size_and_an_end_of_input() {
    let Some(made) = box_().await else { return };
    let tty = |line: &str| ExecSpec { tty: true, size: Some((101, 33)), ..sh(line) };
    let (_, out, err) = made.exec(tty("tty; echo err >&2"), Input::empty()).await.unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("/dev/pts/0\r\nerr\r\n", ""));
    let sized = "until [ \"$(stty size 2>&1)\" = '33 101' ]; do sleep 0.02; done; stty size";
    assert_eq!(made.exec(tty(sized), Input::empty()).await.unwrap().1, "33 101\r\n");
    assert_eq!(made.exec(tty("cat; echo end"), Input::empty()).await.unwrap().1, "end\r\n");
    // What is typed is echoed at once, and read when the command gets there.
    let typed = ExecSpec { stdin: true, ..tty("read -r a; echo got $a; cat; echo end") };
    let out = made.exec(typed, fed(b"one\ntwo".to_vec())).await.unwrap().1;
    assert!(out.contains("got one\r\n") && out.ends_with("twoend\r\n"), "{out:?}");

    let (sender, reader) = input();
    tokio::spawn(async move {
        sender.send(InputChunk::Resize { columns: 55, rows: 44 }).await.unwrap();
        sender.gone().await;
    });
    let resized = "until [ \"$(stty size 2>&1)\" = '44 55' ]; do sleep 0.02; done; echo resized";
    assert_eq!(made.exec(tty(resized), reader).await.unwrap().1, "resized\r\n");
}

#[tokio::test]
async fn a_terminals_bytes_are_not_taken_for_frames() {
    let Some(made) = box_().await else { return };
    let raw = ExecSpec { tty: true, ..sh("printf '\\001\\000\\000\\000\\000\\000\\000\\377x'") };
    assert_eq!(made.exec(raw, Input::empty()).await.unwrap().1.as_bytes()[..2], [1, 0]);
}

#[tokio::test]
async fn big_output_arrives_whole() {
    let Some(made) = box_().await else { return };
    let (_, out, _) = made.exec(sh("head -c 20000000 /dev/zero | tr '\\0' x"), Input::empty()).await.unwrap();
    assert_eq!(out.len(), 20_000_000);
}

#[tokio::test]
async fn a_background_child_does_not_hold_the_call() {
    let Some(made) = box_().await else { return };
    let begun = Instant::now();
    let (exit, out, _) = made.exec(sh("sleep 60 & echo hi"), Input::empty()).await.unwrap();
    assert_eq!((exit.code, out.as_str()), (0, "hi\n"));
    assert!(begun.elapsed() < Duration::from_secs(20));
    // A command that closes its output is still waited for.
    let (exit, ..) = made.exec(sh("exec >&- 2>&-; sleep 0.5; exit 4"), Input::empty()).await.unwrap();
    assert_eq!(exit.code, 4);
}

#[tokio::test]
async fn only_a_running_container_runs_commands() {
    let Some(runtime) = runtime().await else { return };
    let made = Made::create(&runtime, spec(&["true"])).await;
    assert_error(made.exec(sh("true"), Input::empty()).await, ErrorCode::FailedPrecondition, None);
    runtime.remove(made.id(), Default::default()).await.unwrap();
    assert_error(made.exec(sh("true"), Input::empty()).await, ErrorCode::NotFound, None);
}

/// Whether a process with this word in its command line runs in the container.
async fn runs(made: &Made, word: &str) -> bool {
    let line = format!("ps -o args | grep -v grep | grep -q -- 'sleep {word}'");
    made.exec(sh(&line), Input::empty()).await.unwrap().0.code == 0
}

#[tokio::test]
async fn a_late_command_is_killed_with_its_children() {
    let Some(made) = box_().await else { return };
    if !made.runtime.capabilities().await.unwrap().has(Feature::ExecCancel) {
        println!("skipped: not root, or the engine is elsewhere");
        return;
    }
    for tty in [false, true] {
        let late = ExecSpec { timeout_ms: Some(700), tty, ..sh("sleep 1111; true") };
        assert_error(made.exec(late, Input::empty()).await, ErrorCode::DeadlineExceeded, None);
        until("it is gone", || async { !runs(&made, "1111").await }).await;
    }
}

#[tokio::test]
async fn a_dropped_or_unread_command_is_killed() {
    let Some(made) = box_().await else { return };
    if !made.runtime.capabilities().await.unwrap().has(Feature::ExecCancel) {
        println!("skipped: not root, or the engine is elsewhere");
        return;
    }
    // Dropped at every stage: before it is made, while it begins, while it runs.
    for ms in [1, 5, 30, 60, 120, 600] {
        let call = made.runtime.exec(made.id(), sh("sleep 2222"), Input::empty(), null());
        assert!(tokio::time::timeout(Duration::from_millis(ms), call).await.is_err());
    }
    until("they are gone", || async { !runs(&made, "2222").await }).await;

    let (out, items) = pipe(0);
    let call = made.runtime.exec(made.id(), sh("yes; sleep 3333"), Input::empty(), out);
    let reader = async move {
        let mut items = items;
        items.next().await
    };
    let (exit, first) = within(async { tokio::join!(call, reader) }).await;
    let code = exit.unwrap().code;
    assert!(first.is_some() && code > 128, "{code}");
    until("it is gone", || async { !runs(&made, "3333").await }).await;
}
