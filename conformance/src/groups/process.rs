//! What the main process finds: its command, environment, folder, user and terminal.

use std::sync::Arc;

use gx_core::container::ContainerSpec;
use gx_core::runtime::LogOptions;

use crate::trial::{Case, Failure, Said, Trial, Verdict, case, check, same};
use crate::workload::{argv, sh};

pub(super) const CASES: &[Case] = &[
    case!(
        "process/users",
        "its users are others than the machine's, where that is asked for",
        [UserNamespaces, Processes],
        users
    ),
    case!("process/entry point", "an entry point comes before the command", [], entrypoint),
    case!("process/words", "the words of a command stay as they are", [], words),
    case!("process/environment", "env is set on top of the image's", [], environment),
    case!("process/folder", "workdir is where it begins", [], workdir),
    case!("process/user", "user is who runs it", [], user),
    case!(
        "process/terminal",
        "a terminal has only standard output, with lines ending in \\r\\n",
        [],
        terminal
    ),
];

async fn said(t: &Trial, spec: ContainerSpec) -> Verdict<Said> {
    let (id, exit) = t.ended(spec).await?;
    let said = t.logs(&id, LogOptions::default()).await?;
    check!(exit.code == 0, "the exit code is {}, with {said:?}", exit.code);
    Ok(said)
}

async fn entrypoint(t: Arc<Trial>) -> Verdict {
    let mut spec = t.spec(argv(&["b", "c"]));
    spec.entrypoint = Some(argv(&["echo", "a"]));
    same("the output", said(&t, spec).await?, Said::new("a b c\n", ""))
}

async fn words(t: Arc<Trial>) -> Verdict {
    let spec = t.spec(argv(&["echo", "two  words", "'quoted'", "\"", "$HOME", "é", "*"]));
    same("the output", said(&t, spec).await?, Said::new("two  words 'quoted' \" $HOME é *\n", ""))
}

async fn environment(t: Arc<Trial>) -> Verdict {
    let mut spec = t.spec(sh("echo \"$A\"; echo \"$B\"; echo \"$PATH\" | wc -c"));
    spec.env.insert("A".into(), "a=b 'c' \"d\" é".into());
    spec.env.insert("B".into(), "line one\nline two".into());
    let said = said(&t, spec).await?;
    let Some(path) = said.stdout.strip_prefix("a=b 'c' \"d\" é\nline one\nline two\n") else {
        return Err(Failure::new(format!("the output is {:?}", said.stdout)));
    };
    check!(path.trim().parse().is_ok_and(|length: u32| length > 1), "the image's PATH is gone: {path:?}");
    Ok(())
}

async fn workdir(t: Arc<Trial>) -> Verdict {
    let mut spec = t.spec(argv(&["pwd"]));
    spec.workdir = Some("/etc".into());
    same("the output", said(&t, spec).await?, Said::new("/etc\n", ""))
}

async fn user(t: Arc<Trial>) -> Verdict {
    for (user, expected) in [("1234:1234", "1234\n"), ("4321", "4321\n")] {
        let mut spec = t.spec(argv(&["id", "-u"]));
        spec.user = Some(user.into());
        same(&format!("the output for {user}"), said(&t, spec).await?, Said::new(expected, ""))?;
    }
    Ok(())
}

async fn terminal(t: Arc<Trial>) -> Verdict {
    let mut spec = t.spec(sh("echo out; sleep 0.1; echo err >&2"));
    spec.tty = true;
    same("the output", said(&t, spec).await?, Said::new("out\r\nerr\r\n", ""))
}

async fn users(t: Arc<Trial>) -> Verdict {
    let mut spec = t.spec(sh("id -u; cat /proc/self/uid_map"));
    spec.security.user_namespace = true;
    let (id, _) = t.ended(spec).await?;
    let said = t.logs(&id, LogOptions::default()).await?.stdout;
    let words: Vec<&str> = said.split_whitespace().collect();
    // user_namespaces(7): the first id inside, the first outside, and how many.
    let [user, inside, outside, ..] = words.as_slice() else {
        return Err(Failure::new(format!("it says {said:?}")));
    };
    same("the user, and the first id in the map", (*user, *inside), ("0", "0"))?;
    check!(*outside != "0", "root in the container is root of the machine: {said}");
    Ok(())
}
