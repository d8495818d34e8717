//! Volumes, and what the main process finds on its standard input.

use std::sync::Arc;

use gx_core::runtime::{LogOptions, Result as Answer, VolumePrune};
use gx_core::stream::{InputChunk, input};
use gx_core::{ContainerId, ErrorCode, Mount, Timestamp, VolumeName};

use super::copy::archive;
use super::lifecycle::missing;
use crate::trial::{Called, Case, Failure, SOON, Trial, Verdict, case, check, refused, same, soon};
use crate::workload::{argv, sh, stubborn};

pub(super) const CASES: &[Case] = &[
    case!(
        "feed/first line",
        "the main process reads what it was fed before the start",
        [Feed, Processes],
        first_line
    ),
    case!("feed/large", "24 KiB of input are taken before the start", [Feed, Processes], large),
    case!(
        "feed/twice",
        "a container is fed again when nobody knows whether it was",
        [Feed, Processes],
        twice
    ),
    case!("feed/without", "without `fed` standard input is at its end", [Feed, Processes], without),
    case!("feed/later start", "a container that was fed starts again", [Feed, Processes], later_start),
    case!("feed/started", "FailedPrecondition for a container that was started", [Feed], started),
    case!("feed/missing container", "NotFound", [Feed], missing_container),
    case!(
        "volumes/shared",
        "a volume of the engine's is in every container that names it",
        [Volumes, Copy, Processes],
        shared
    ),
    case!("volumes/read-only", "what is mounted so cannot be written", [Volumes, Processes], read_only),
    case!(
        "volumes/own",
        "a volume of the container's own can be written below a read-only root",
        [Volumes, Processes],
        own
    ),
    case!(
        "volumes/prune",
        "what nobody mounts any more is removed, if it is old and not kept; where it is supported",
        [Volumes],
        prune
    ),
    case!(
        "volumes/heal",
        "a container whose program was missing starts once it is there",
        [Volumes, Copy, Feed, Processes],
        heal
    ),
];

async fn feed(t: &Trial, id: &ContainerId, text: &str) -> Verdict<Answer<()>> {
    let (sender, told) = input();
    let bytes = text.to_owned().into();
    tokio::spawn(async move { sender.send(InputChunk::Data(bytes)).await });
    soon("feed", SOON, t.runtime.feed(id.clone(), told)).await
}

/// Makes a container that is fed and runs this.
async fn fed(t: &Trial, script: &str) -> Verdict<ContainerId> {
    let mut spec = t.spec(sh(script));
    spec.fed = true;
    t.create(spec).await
}

async fn says(t: &Trial, id: &ContainerId, text: &str) -> Verdict {
    same("the exit code", t.wait(id).await?.code, 0)?;
    same("the output", t.logs(id, LogOptions::default()).await?.stdout.as_str(), text)
}

async fn first_line(t: Arc<Trial>) -> Verdict {
    let id = fed(&t, "read line; echo \"got $line\"").await?;
    feed(&t, &id, "one two\n").await?.of("feed")?;
    t.start(&id).await?;
    says(&t, &id, "got one two\n").await
}

async fn large(t: Arc<Trial>) -> Verdict {
    let id = fed(&t, "read line; echo ${#line}").await?;
    let line = "x".repeat(24 * 1024 - 1);
    feed(&t, &id, &format!("{line}\n")).await?.of("feed")?;
    t.start(&id).await?;
    says(&t, &id, &format!("{}\n", line.len())).await
}

async fn twice(t: Arc<Trial>) -> Verdict {
    let id = fed(&t, "read line; echo \"got $line\"").await?;
    for _ in 0..2 {
        feed(&t, &id, "a word\n").await?.of("feed")?;
    }
    t.start(&id).await?;
    says(&t, &id, "got a word\n").await
}

async fn without(t: Arc<Trial>) -> Verdict {
    let id = t.running(sh("read line; echo \"got $line\"")).await?;
    says(&t, &id, "got \n").await
}

async fn later_start(t: Arc<Trial>) -> Verdict {
    let id = fed(&t, "read line; echo ready; exec sleep 3600").await?;
    feed(&t, &id, "once\n").await?.of("feed")?;
    t.start(&id).await?;
    t.until_said(&id, "ready").await?;
    t.kill(&id).await?;
    t.start(&id).await
}

async fn started(t: Arc<Trial>) -> Verdict {
    let mut spec = t.spec(stubborn());
    spec.fed = true;
    let id = t.running_spec(spec).await?;
    refused("feed", feed(&t, &id, "late\n").await?, ErrorCode::FailedPrecondition, None)
}

async fn missing_container(t: Arc<Trial>) -> Verdict {
    refused("feed", feed(&t, &missing(), "a\n").await?, ErrorCode::NotFound, None)
}

/// A volume that the suite leaves behind, as a runtime cannot remove one: always the same, and small.
fn volume() -> VolumeName {
    "gx-conformance".parse().expect("letters and '-' are the name of a volume")
}

async fn prune(t: Arc<Trial>) -> Verdict {
    let name: VolumeName =
        format!("gx-conformance-{}", t.unique()).parse().map_err(|_| Failure::new("no name for a volume"))?;
    let mut spec = t.spec(stubborn());
    spec.mounts = vec![mount(Some(name.clone()), false)];
    let id = t.create(spec).await?;
    let old = Timestamp::from_unix(0);
    let new = Timestamp::from_unix(253_000_000_000); // in the year 9987
    let pruned = async |keep: &[VolumeName], made_before| {
        let prune = VolumePrune { prefix: name.clone(), keep: keep.to_vec(), made_before };
        soon("prune_volumes", SOON, t.runtime.prune_volumes(prune)).await
    };
    let none: Vec<VolumeName> = Vec::new();
    match pruned(&[], new).await? {
        Err(error) if error.code == ErrorCode::Unsupported => return Ok(()),
        first => same("what is removed while it is mounted", first.of("prune_volumes")?, none.clone())?,
    }
    t.remove(&id).await?;
    same("what is removed of what is new", pruned(&[], old).await?.of("prune_volumes")?, none.clone())?;
    let kept = pruned(std::slice::from_ref(&name), new).await?.of("prune_volumes")?;
    same("what is removed of what is kept", kept, none.clone())?;
    same("what is removed", pruned(&[], new).await?.of("prune_volumes")?, vec![name.clone()])?;
    same("what is removed again", pruned(&[], new).await?.of("prune_volumes")?, none)
}

fn mount(volume: Option<VolumeName>, read_only: bool) -> Mount {
    Mount { volume, path: "/gx-v/of".into(), read_only }
}

async fn fill(t: &Trial, name: &str, mode: u32, content: &[u8]) -> Verdict {
    let mut spec = t.spec(stubborn());
    spec.mounts = vec![mount(Some(volume()), false)];
    let id = t.create(spec).await?;
    let call = t.runtime.copy_in(
        id.clone(),
        "/gx-v/of".into(),
        super::copy::input_of(archive(&[(name, mode, content)])),
    );
    soon("copy_in", SOON, call).await?.of("copy_in of a volume, before the start")
}

async fn shared(t: Arc<Trial>) -> Verdict {
    // Another suite may use the same engine at the same time: the file has a name of its own.
    let text = t.unique();
    fill(&t, &text, 0o644, text.as_bytes()).await?;
    for _ in 0..2 {
        let mut spec = t.spec(argv(&["cat", &format!("/gx-v/of/{text}")]));
        spec.mounts = vec![mount(Some(volume()), true)];
        let id = t.running_spec(spec).await?;
        says(&t, &id, &text).await?;
    }
    Ok(())
}

async fn read_only(t: Arc<Trial>) -> Verdict {
    let mut spec = t.spec(sh("touch /gx-v/of/x; test -e /gx-v/of/x; echo $?"));
    spec.mounts = vec![mount(Some(volume()), true)];
    let id = t.running_spec(spec).await?;
    says(&t, &id, "1\n").await
}

async fn own(t: Arc<Trial>) -> Verdict {
    let mut spec = t.spec(sh("echo kept > /gx-v/of/x; echo lost > /x; cat /gx-v/of/x"));
    spec.security.read_only_root = true;
    spec.mounts = vec![mount(None, false)];
    let id = t.running_spec(spec).await?;
    says(&t, &id, "kept\n").await?;
    let said = t.logs(&id, LogOptions::default()).await?.stderr;
    check!(said.to_lowercase().contains("read-only"), "the root can be written: {said:?}");
    Ok(())
}

async fn heal(t: Arc<Trial>) -> Verdict {
    let name = t.unique();
    let mut spec = t.spec(argv(&["-c", "read line; echo \"got $line\""]));
    spec.entrypoint = Some(vec![format!("/gx-v/of/{name}")]);
    spec.fed = true;
    spec.mounts = vec![mount(Some(volume()), true)];
    let id = t.create(spec).await?;
    // Where the program is looked for is the runtime's to say: when it is fed, or when it starts.
    let early = match feed(&t, &id, "early\n").await? {
        Ok(()) => soon("start", SOON, t.runtime.start(id.clone())).await?,
        refused => refused,
    };
    refused("start of a program that is missing", early, ErrorCode::InvalidArgument, Some("command"))?;
    let script = b"#!/bin/sh\nexec /bin/sh \"$@\"\n";
    fill(&t, &name, 0o755, script).await?;
    feed(&t, &id, "now\n").await?.of("feed")?;
    t.start(&id).await?;
    says(&t, &id, "got now\n").await
}
