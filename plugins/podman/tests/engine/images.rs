//! Images: found, built, removed.

use std::time::Duration;

use gx_core::plugin::*;
use gx_core::stream::{DEFAULT_WINDOW_BYTES, input, pipe};

use crate::support::{Made, build, fails, input_of, podman, shell, tar_of, unique, until};

fn request(tag: &str) -> BuildRequest {
    BuildRequest {
        tag: tag.parse().unwrap(),
        containerfile: None,
        args: Default::default(),
        no_cache: false,
        no_network: false,
    }
}

#[tokio::test]
async fn images_are_known_by_the_names_they_were_given() {
    let podman = podman!();
    let image = podman.image("gx-busybox".parse().unwrap()).await.unwrap().unwrap();
    assert!(image.tags.contains(&"gx-busybox:latest".to_owned()), "{image:?}");
    assert!(image.id.starts_with("sha256:") && image.id.len() == 71 && image.size_bytes > 1_000_000);
    assert!(image.platform.starts_with("linux/") && image.created_at.is_some());
    let full = podman.image("localhost/gx-busybox:latest".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(full, image);
    assert_eq!(podman.image("gx-no-such-image:1".parse().unwrap()).await.unwrap(), None);
    let all = podman.images().await.unwrap();
    assert!(all.contains(&image), "{all:?}");
    assert!(all.iter().all(|image| !image.tags.is_empty()));
}

#[tokio::test]
async fn a_build_is_told_step_by_step_and_found_by_its_name() {
    let podman = podman!();
    let tag = format!("{}:1", unique());
    let file = b"FROM gx-busybox\nARG WHO=nobody\nCOPY file /file\nRUN echo hello $WHO\nLABEL made=here\nCMD cat /file\n";
    let context = tar_of(&[("sub/My.file", file), ("file", b"from the context")]);
    let build = BuildRequest {
        containerfile: Some("sub/My.file".to_owned()),
        args: [("WHO".to_owned(), "world & all".to_owned())].into(),
        no_cache: true,
        no_network: false,
        ..request(&tag)
    };
    let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
    let (built, said) = tokio::join!(podman.build(build, input_of(context), out), async {
        let mut said = String::new();
        while let Some(item) = items.next().await {
            assert_eq!(item.kind, Kind::Progress);
            let progress: Progress = serde_json::from_slice(&item.bytes).unwrap();
            said = said + &progress.message + "\n";
        }
        said
    });
    let built = built.unwrap();
    assert_eq!(built.tags, [tag.as_str()]);
    assert_eq!(built.labels["made"], "here");
    assert!(said.contains("STEP 1/6: FROM gx-busybox\n") && said.contains("hello world & all\n"), "{said}");

    let mut spec = shell("");
    (spec.image, spec.command) = (tag.parse().unwrap(), Vec::new());
    let made = Made::started(&podman, spec).await;
    podman.wait(made.id.clone()).await.unwrap();
    assert_eq!(made.logs(LogOptions::default()).await.0, "from the context");
    assert_eq!(made.inspect().await.image, tag);

    fails(podman.remove_image(tag.parse().unwrap()).await, ErrorCode::FailedPrecondition, None);
    drop(made);
    podman.remove_image(tag.parse().unwrap()).await.unwrap();
    assert_eq!(podman.image(tag.parse().unwrap()).await.unwrap(), None);
    podman.remove_image(tag.parse().unwrap()).await.expect("a missing one is well");
}

#[tokio::test]
async fn a_name_is_removed_and_the_image_with_its_last() {
    let podman = podman!();
    let (one, two) = (unique(), unique());
    let context = tar_of(&[("Dockerfile", format!("FROM gx-busybox\nLABEL of={one}\n").as_bytes())]);
    let first = build(&podman, one.as_str(), context).await.unwrap();
    let tagged = std::process::Command::new("podman").args(["tag", one.as_str(), two.as_str()]).status();
    assert!(tagged.unwrap().success());
    podman.remove_image(one.as_str().parse().unwrap()).await.unwrap();
    let left = podman.image(two.as_str().parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(left.tags, [format!("{two}:latest")]);
    podman.remove_image(two.as_str().parse().unwrap()).await.unwrap();
    assert!(podman.images().await.unwrap().iter().all(|image| image.id != first.id));
}

#[tokio::test]
async fn a_build_that_fails_says_where() {
    let podman = podman!();
    let failing = async |file: &str| {
        let outcome =
            build(&podman, "gx-podman-test-never", tar_of(&[("Containerfile", file.as_bytes())])).await;
        fails(outcome, ErrorCode::InvalidArgument, None).message
    };
    let step = failing("FROM gx-busybox\nRUN echo told >&2; exit 3\n").await;
    assert!(step.contains("exit status 3") && step.contains("\ntold"), "{step}");
    let unknown = failing("FROM gx-busybox\nRUNX true\n").await;
    assert!(unknown.contains("RUNX"), "{unknown}");
    let base = failing("FROM gx-no-such-image:1\n").await;
    assert!(base.contains("gx-no-such-image"), "{base}");
    let empty = build(&podman, "gx-podman-test-never", tar_of(&[("file", b"")])).await;
    fails(empty, ErrorCode::InvalidArgument, Some("containerfile"));
    let rubbish = build(&podman, "gx-podman-test-never", vec![7; 4_000]).await;
    fails(rubbish, ErrorCode::InvalidArgument, Some("context"));
    let outside = BuildRequest { containerfile: Some("../x".to_owned()), ..request("gx-podman-test-never") };
    let outcome = podman.build(outside, Input::empty(), Output::null()).await;
    fails(outcome, ErrorCode::InvalidArgument, Some("containerfile"));
}

#[tokio::test]
async fn a_dropped_build_is_broken_off() {
    let podman = podman!();
    let tag = unique();
    let file = b"FROM gx-busybox\nRUN echo begun; sleep 2178; true\n";
    let (out, mut items) = pipe(DEFAULT_WINDOW_BYTES);
    let (runtime, build) = (podman.clone(), BuildRequest { no_cache: true, ..request(tag.as_str()) });
    let context = input_of(tar_of(&[("Containerfile", file)]));
    let building = tokio::spawn(async move { runtime.build(build, context, out).await });
    loop {
        let item = items.next().await.unwrap();
        if serde_json::from_slice::<Progress>(&item.bytes).unwrap().message == "begun" {
            break;
        }
    }
    building.abort();
    let (_sender, never) = input();
    let waiting = podman.build(request(tag.as_str()), never, Output::null());
    assert!(tokio::time::timeout(Duration::from_millis(200), waiting).await.is_err());
    until("the step is ended", || async { !is_running(b"sleep\x002178\0") }).await;
    assert_eq!(podman.image(tag.as_str().parse().unwrap()).await.unwrap(), None);
}

fn is_running(line: &[u8]) -> bool {
    let mut processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.any(|process| std::fs::read(process.path().join("cmdline")).is_ok_and(|found| found == line))
}

#[tokio::test]
async fn a_list_is_whole_while_others_build_and_remove() {
    let podman = podman!();
    let name = unique();
    let others = (0..3).map(|other| {
        let (podman, name) = (podman.clone(), name.clone());
        tokio::spawn(async move {
            for round in 0..8 {
                let tag = format!("{name}:{other}-{round}");
                let file = format!("FROM gx-busybox\nLABEL round={other}.{round}\n");
                build(&podman, &tag, tar_of(&[("Containerfile", file.as_bytes())])).await.unwrap();
                podman.remove_image(tag.parse().unwrap()).await.unwrap();
                assert_eq!(podman.image(tag.parse().unwrap()).await.unwrap(), None);
            }
        })
    });
    let others: Vec<_> = others.collect();
    let image = podman.image("gx-busybox".parse().unwrap()).await.unwrap().unwrap();
    while others.iter().any(|other| !other.is_finished()) {
        assert!(podman.images().await.unwrap().contains(&image));
    }
    for other in others {
        other.await.unwrap();
    }
}
