//! Commands in a running container.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use gx_core::runtime::ExecSpec;
use gx_core::stream::{DEFAULT_WINDOW_BYTES, Input, InputChunk, Output, input, pipe};
use gx_core::{ContainerId, ErrorCode};

use super::lifecycle::missing;
use crate::trial::{
    Called, Case, Failure, SOON, Said, Trial, Verdict, case, check, read, refused, same, soon,
};
use crate::workload::{argv, flood, flood_line, sh, stubborn};

pub(super) const CASES: &[Case] = &[
    case!("exec/split", "standard output and standard error are apart", [Exec], split),
    case!("exec/codes", "the exit code is the command's", [Exec], codes),
    case!(
        "exec/surroundings",
        "env is on top of the container's; workdir and user are the call's",
        [Exec],
        around
    ),
    case!("exec/stdin", "standard input goes in, and ends where the caller ends it", [Exec], stdin),
    case!("exec/large stdin", "8 MiB of standard input arrive whole", [Exec], large_stdin),
    case!("exec/no stdin", "without stdin it is at its end", [Exec], no_stdin),
    case!("exec/unread stdin", "a command that ends does not wait for its input's end", [Exec], unread_stdin),
    case!("exec/large output", "32 MiB of output arrive whole, within the window", [Exec], large_output),
    case!(
        "exec/terminal",
        "a terminal has only standard output, with lines ending in \\r\\n",
        [Exec, ExecTty],
        tty
    ),
    case!("exec/terminal size", "the terminal has the size it is given", [Exec, ExecTty], size),
    case!("exec/resize", "a resize reaches the terminal while the command runs", [Exec, ExecTty], resize),
    case!("exec/background child", "a child in the background does not hold the call", [Exec], background),
    case!("exec/missing command", "the exit code is 127, with a line on standard error", [Exec], no_command),
    case!(
        "exec/command that cannot run",
        "the exit code is 126, with a line on standard error",
        [Exec, Processes],
        not_executable
    ),
    case!(
        "exec/not running",
        "NotFound; FailedPrecondition when the container does not run",
        [Exec],
        not_running
    ),
    case!("exec/time-out", "DeadlineExceeded when the time-out passes", [Exec], timeout),
    case!(
        "exec/time-out kills",
        "what runs into its time-out is killed",
        [Exec, ExecCancel, Processes],
        timeout_kills
    ),
    case!(
        "exec/drop kills",
        "what nobody waits for any more is killed",
        [Exec, ExecCancel, Processes],
        drop_kills
    ),
    case!(
        "exec/reader gone",
        "when the reader is gone the method returns soon, with Ok",
        [Exec],
        reader_gone
    ),
    case!("exec/many", "thirty at once do not disturb one another", [Exec], many),
    case!("exec/container ends", "an exec ends with its container", [Exec], container_ends),
];

fn spec(command: Vec<String>) -> ExecSpec {
    ExecSpec { argv: command, ..ExecSpec::default() }
}

async fn container(t: &Trial) -> Verdict<ContainerId> {
    t.running(stubborn()).await
}

async fn split(t: Arc<Trial>) -> Verdict {
    let id = container(&t).await?;
    let (exit, said) = t.exec(&id, spec(sh("echo out; echo err >&2"))).await?;
    same("the output", said, Said::new("out\n", "err\n"))?;
    same("the exit code", exit.code, 0)
}

async fn codes(t: Arc<Trial>) -> Verdict {
    let id = container(&t).await?;
    for (code, signal) in [(0, None), (1, None), (43, None), (137, Some(9))] {
        let (exit, _) = t.exec(&id, spec(sh(format!("exit {code}")))).await?;
        same("code and signal", (exit.code, exit.signal), (code, signal))?;
    }
    Ok(())
}

async fn around(t: Arc<Trial>) -> Verdict {
    let mut container = t.spec(stubborn());
    container.env = [("A".into(), "container".into()), ("B".into(), "container".into())].into();
    let id = t.running_spec(container).await?;
    let exec = ExecSpec {
        argv: sh("echo \"$A\"; echo \"$B\"; pwd; id -u"),
        env: [("B".into(), "exec é".into())].into(),
        workdir: Some("/etc".into()),
        user: Some("1234:1234".into()),
        ..ExecSpec::default()
    };
    let (_, said) = t.exec(&id, exec).await?;
    same("the output", said, Said::new("container\nexec é\n/etc\n1234\n", ""))
}

async fn stdin(t: Arc<Trial>) -> Verdict {
    let id = container(&t).await?;
    let (exit, said) = t.exec_input(&id, spec(argv(&["cat"])), "some\nlines\u{0}\n").await?;
    same("the output", said, Said::new("some\nlines\u{0}\n", ""))?;
    same("the exit code", exit.code, 0)
}

async fn large_stdin(t: Arc<Trial>) -> Verdict {
    const BYTES: usize = 8 << 20;
    let id = container(&t).await?;
    let (_, said) = t.exec_input(&id, spec(sh("cat | wc -c")), vec![b'x'; BYTES]).await?;
    same("the bytes that arrive", said.stdout.trim(), BYTES.to_string().as_str())
}

async fn no_stdin(t: Arc<Trial>) -> Verdict {
    let id = container(&t).await?;
    let (_sender, held_open) = input();
    let (out, items) = pipe(0);
    let call = t.runtime.exec(id, spec(sh("cat; echo end")), held_open, out);
    let (exit, said) = soon("exec of cat", SOON, async { tokio::join!(call, read(items)) }).await?;
    same("the exit code", exit.of("exec")?.code, 0)?;
    same("the output", said, Said::new("end\n", ""))
}

async fn unread_stdin(t: Arc<Trial>) -> Verdict {
    let id = container(&t).await?;
    let (sender, held_open) = input();
    sender.send(InputChunk::Data("unread".into())).await.map_err(|gone| Failure::new(gone.to_string()))?;
    let exec = ExecSpec { stdin: true, ..spec(argv(&["true"])) };
    let exit = soon("exec of true", SOON, t.runtime.exec(id, exec, held_open, Output::null())).await?;
    same("the exit code", exit.of("exec")?.code, 0)
}

async fn large_output(t: Arc<Trial>) -> Verdict {
    const BYTES: u64 = 32 << 20;
    let id = container(&t).await?;
    let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
    let call = t.runtime.exec(id, spec(flood(BYTES)), Input::empty(), out);
    let reading = async {
        let (mut read, mut lines) = (0, 0);
        while let Some(item) = items.next().await {
            read += item.bytes.len() as u64;
            lines += item.bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        }
        (read, lines)
    };
    let (exit, counted) = soon("a large output", 4 * SOON, async { tokio::join!(call, reading) }).await?;
    exit.of("exec")?;
    same("bytes and lines", counted, (BYTES, BYTES / flood_line().len() as u64))
}

async fn tty(t: Arc<Trial>) -> Verdict {
    let id = container(&t).await?;
    let exec = ExecSpec { tty: true, ..spec(sh("echo out; sleep 0.1; echo err >&2; exit 3")) };
    let (exit, said) = t.exec(&id, exec).await?;
    same("the output", said, Said::new("out\r\nerr\r\n", ""))?;
    same("the exit code", exit.code, 3)
}

async fn size(t: Arc<Trial>) -> Verdict {
    let id = container(&t).await?;
    // An engine may set the size only once the command runs (Docker before 24 does).
    let exec = ExecSpec { tty: true, size: Some((101, 37)), ..spec(sh("sleep 0.5; stty size")) };
    same("the output", t.exec(&id, exec).await?.1, Said::new("37 101\r\n", ""))
}

async fn resize(t: Arc<Trial>) -> Verdict {
    let id = container(&t).await?;
    // An engine may take a resize and hand it on when it comes to it.
    let command = sh(format!("echo ready{}", "; sleep 0.2; stty size".repeat(100)));
    let exec = ExecSpec { tty: true, size: Some((101, 37)), stdin: true, ..spec(command) };
    let (sender, typed) = input();
    let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
    let seeing = async {
        let mut seen = String::new();
        let mut resized = false;
        while let Some(item) = items.next().await {
            seen.push_str(&String::from_utf8_lossy(&item.bytes));
            if seen.contains("\n21 93\r\n") {
                return Ok(());
            }
            if !std::mem::replace(&mut resized, true) {
                // It stays open: the end of a terminal's input is its own affair.
                let sent = sender.send(InputChunk::Resize { columns: 93, rows: 21 }).await;
                check!(sent.is_ok(), "the command ends before it is resized");
            }
        }
        Err(Failure::new(format!("the size after it is never 21 93: {seen:?}")))
    };
    let call = t.runtime.exec(id, exec, typed, out);
    soon("a resize", SOON, async {
        tokio::select! {
            seen = seeing => seen,
            ended = call => Err(Failure::new(format!("the command ends early: {ended:?}"))),
        }
    })
    .await?
}

async fn background(t: Arc<Trial>) -> Verdict {
    let id = container(&t).await?;
    let began = Instant::now();
    let (exit, said) = t.exec(&id, spec(sh("sleep 600 & echo done; exit 8"))).await?;
    same("the output", said, Said::new("done\n", ""))?;
    same("the exit code", exit.code, 8)?;
    check!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    Ok(())
}

async fn no_command(t: Arc<Trial>) -> Verdict {
    let id = container(&t).await?;
    cannot_run(&t, &id, "gx-no-such-program", 127).await?;
    cannot_run(&t, &id, "/bin/gx-no-such-program", 127).await
}

async fn not_executable(t: Arc<Trial>) -> Verdict {
    let id = container(&t).await?;
    cannot_run(&t, &id, "/etc", 126).await
}

async fn cannot_run(t: &Trial, id: &ContainerId, program: &str, code: i32) -> Verdict {
    let (exit, said) = t.exec(id, spec(argv(&[program]))).await?;
    same("the exit code", exit.code, code)?;
    check!(said.stdout.is_empty(), "standard output is {:?}", said.stdout);
    check!(!said.stderr.trim().is_empty(), "standard error is empty");
    Ok(())
}

async fn not_running(t: Arc<Trial>) -> Verdict {
    let exec =
        |id| soon("exec", SOON, t.runtime.exec(id, spec(argv(&["true"])), Input::empty(), Output::null()));
    refused("exec in a missing one", exec(missing()).await?, ErrorCode::NotFound, None)?;
    let created = t.create(t.spec(stubborn())).await?;
    refused("exec in a created one", exec(created).await?, ErrorCode::FailedPrecondition, None)?;
    let (ended, _) = t.ended(t.spec(sh("true"))).await?;
    refused("exec in an ended one", exec(ended).await?, ErrorCode::FailedPrecondition, None)
}

async fn timeout(t: Arc<Trial>) -> Verdict {
    let id = container(&t).await?;
    let began = Instant::now();
    let exec = ExecSpec { timeout_ms: Some(500), ..spec(argv(&["sleep", "600"])) };
    let ended = soon("exec", SOON, t.runtime.exec(id.clone(), exec, Input::empty(), Output::null())).await?;
    refused("exec", ended, ErrorCode::DeadlineExceeded, None)?;
    check!(began.elapsed() >= Duration::from_millis(450), "it gave up after {:?}", began.elapsed());
    let in_time = ExecSpec { timeout_ms: Some(60_000), ..spec(sh("exit 2")) };
    same("the exit code of one that ends in time", t.exec(&id, in_time).await?.0.code, 2)
}

async fn timeout_kills(t: Arc<Trial>) -> Verdict {
    let id = container(&t).await?;
    let exec = ExecSpec { timeout_ms: Some(10_000), ..spec(argv(&["sleep", "4242"])) };
    let call = t.runtime.exec(id.clone(), exec, Input::empty(), Output::null());
    let (ended, seen) = tokio::join!(soon("exec", SOON, call), until_seen(&t, &id, true));
    seen?;
    refused("exec", ended?, ErrorCode::DeadlineExceeded, None)?;
    until_seen(&t, &id, false).await
}

async fn drop_kills(t: Arc<Trial>) -> Verdict {
    let id = container(&t).await?;
    let exec = spec(argv(&["sleep", "4242"]));
    let call = t.runtime.exec(id.clone(), exec, Input::empty(), Output::null());
    tokio::select! {
        ended = call => return Err(Failure::new(format!("sleep ends early: {ended:?}"))),
        seen = until_seen(&t, &id, true) => seen?,
    }
    until_seen(&t, &id, false).await
}

/// Waits until `sleep 4242` is among the container's processes, or is not.
async fn until_seen(t: &Trial, id: &ContainerId, wanted: bool) -> Verdict {
    let what = if wanted { "sleep among the processes" } else { "end of the sleep" };
    t.until(what, || async {
        let (_, said) = t.exec(id, spec(argv(&["ps", "-o", "args"]))).await?;
        Ok(said.stdout.lines().any(|line| line.trim() == "sleep 4242") == wanted)
    })
    .await
}

async fn reader_gone(t: Arc<Trial>) -> Verdict {
    let id = container(&t).await?;
    let (out, mut items) = pipe(0);
    let call = t.runtime.exec(id, spec(argv(&["yes"])), Input::empty(), out);
    let reading = async move {
        let first = items.next().await;
        drop(items);
        first.is_some()
    };
    let (ended, some) = soon("exec without a reader", SOON, async { tokio::join!(call, reading) }).await?;
    check!(some, "there is no output");
    ended.of("exec").map(drop)
}

async fn many(t: Arc<Trial>) -> Verdict {
    let id = container(&t).await?;
    let calls = (0..30).map(|number| {
        let (t, id) = (&t, &id);
        async move {
            let (exit, said) = t.exec(id, spec(sh(format!("echo {number}; exit {number}")))).await?;
            same("output and code", (said.stdout, exit.code), (format!("{number}\n"), number))
        }
    });
    try_join_all(calls).await.map(drop)
}

async fn container_ends(t: Arc<Trial>) -> Verdict {
    let id = container(&t).await?;
    let (out, mut items) = pipe(0);
    let call = t.runtime.exec(id.clone(), spec(sh("echo ready; sleep 600")), Input::empty(), out);
    let ending = async {
        let ready = items.next().await.is_some();
        let killed = t.kill(&id).await;
        while items.next().await.is_some() {}
        check!(ready, "the command has no output");
        killed
    };
    let (ended, killed) = soon("exec", SOON, async { tokio::join!(call, ending) }).await?;
    killed?;
    match ended {
        Ok(exit) => {
            check!(exit.code != 0, "the exit code is 0");
            Ok(())
        }
        // The engine may forget the exec with its container.
        Err(error) if [ErrorCode::NotFound, ErrorCode::FailedPrecondition].contains(&error.code) => Ok(()),
        Err(error) => Err(error).of("exec"),
    }
}
