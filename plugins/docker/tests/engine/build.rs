//! Building and pulling.

use std::time::Duration;

use gx_core::runtime::{BuildRequest, PullRequest};
use gx_core::stream::{InputChunk, input};
use gx_core::{ErrorCode, ImageRef, Runtime};

use crate::support::*;

/// An image that goes with this value.
struct Tag(String);

impl Tag {
    fn new() -> Self {
        Self(format!("{}:t", name()))
    }

    fn image(&self) -> ImageRef {
        self.0.parse().unwrap()
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        let image = self.image();
        let removal = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(fresh().remove_image(image))
        });
        let _ = removal.join();
    }
}

#[tokio::test]
async fn an_image_is_built_from_its_containerfile() {
    let Some(runtime) = runtime().await else { return };
    let (tag, text) =
        (Tag::new(), format!("FROM {IMAGE}\nARG A=1\nLABEL a=$A\nRUN echo building && cat /none || true\n"));
    let files: &[(&str, &[u8])] = &[("Dockerfile", b"FROM gxt-none"), ("Containerfile", text.as_bytes())];
    let request = BuildRequest {
        tag: tag.image(),
        containerfile: None,
        args: [("A".to_owned(), "two".to_owned())].into(),
        no_cache: true,
        no_network: false,
    };
    let steps = build_with(&runtime, request, archive(files)).await.unwrap();
    assert!(steps.iter().any(|step| step.contains("Step 1/4")), "{steps:?}");
    assert!(steps.iter().any(|step| step.contains("\"building\"")), "{steps:?}");
    assert!(steps.iter().all(|step| !step.contains("\\u001b")), "{steps:?}");
    let image = runtime.image(tag.image()).await.unwrap().unwrap();
    assert_eq!((image.labels["a"].as_str(), image.tags), ("two", vec![tag.0.clone()]));
}

#[tokio::test]
async fn a_dockerfile_does_too_and_any_name_that_is_asked_for() {
    let Some(runtime) = runtime().await else { return };
    let text = format!("FROM {IMAGE}\nLABEL from=this\n");
    for (file, asked) in [("Dockerfile", None), ("sub/Other.file", Some("sub/Other.file".to_owned()))] {
        let tag = Tag::new();
        let request = BuildRequest {
            tag: tag.image(),
            containerfile: asked,
            args: Default::default(),
            no_cache: false,
            no_network: false,
        };
        build_with(&runtime, request, archive(&[(file, text.as_bytes())])).await.unwrap();
        assert_eq!(runtime.image(tag.image()).await.unwrap().unwrap().labels["from"], "this");
    }
}

#[tokio::test]
async fn a_failed_build_says_why() {
    let Some(runtime) = runtime().await else { return };
    let tag = Tag::new();
    let text = format!("FROM {IMAGE}\nRUN echo the cause && exit 3\n");
    let failed = build(&runtime, &tag.0, archive(&[("Containerfile", text.as_bytes())])).await;
    let error = assert_error(failed, ErrorCode::InvalidArgument, None);
    assert!(error.message.contains("non-zero code: 3") && error.message.contains("\nthe cause"), "{error}");
    let bad = build(&runtime, &tag.0, archive(&[("Containerfile", b"FROO x\n")])).await;
    let error = assert_error(bad, ErrorCode::InvalidArgument, Some("containerfile"));
    assert!(error.message.contains("unknown instruction"), "{error}");
    let none = build(&runtime, &tag.0, archive(&[("x", b"")])).await;
    assert_error(none, ErrorCode::InvalidArgument, Some("containerfile"));
    let junk = build(&runtime, &tag.0, vec![b'x'; 2000]).await;
    assert_error(junk, ErrorCode::InvalidArgument, Some("context"));
    let cut = archive(&[("Dockerfile", text.as_bytes()), ("big", &vec![0; 100_000])])[..50_000].to_vec();
    assert_error(build(&runtime, &tag.0, cut).await, ErrorCode::InvalidArgument, Some("context"));
    assert_eq!(runtime.image(tag.image()).await.unwrap(), None);
}

#[tokio::test]
async fn a_dropped_build_ends() {
    let Some(runtime) = runtime().await else { return };
    let tag = Tag::new();
    let mark = name().to_string();
    let text = format!("FROM {IMAGE}\nRUN : {mark}; sleep 300\n");
    let docker = bollard::Docker::connect_with_socket_defaults().unwrap();
    let building = async || {
        let all = bollard::query_parameters::ListContainersOptionsBuilder::default().all(true).build();
        let listed = docker.list_containers(Some(all)).await.unwrap();
        listed
            .iter()
            .any(|container| container.command.as_deref().is_some_and(|command| command.contains(&mark)))
    };
    let call = build(&runtime, &tag.0, archive(&[("Containerfile", text.as_bytes())]));
    tokio::select! {
        built = call => panic!("{built:?}"),
        () = until("it builds", &building) => {}
    }
    until("it is cancelled", || async { !building().await }).await;
    assert_eq!(runtime.image(tag.image()).await.unwrap(), None);
}

#[tokio::test]
async fn a_context_that_never_ends_can_be_dropped() {
    let Some(runtime) = runtime().await else { return };
    let (sender, reader) = input();
    let request = BuildRequest {
        tag: Tag::new().image(),
        containerfile: Some("Containerfile".to_owned()),
        args: Default::default(),
        no_cache: false,
        no_network: false,
    };
    sender.send(InputChunk::Data(vec![0; 512].into())).await.unwrap();
    let call = runtime.build(request, reader, null());
    assert!(tokio::time::timeout(Duration::from_millis(200), call).await.is_err());
    within(sender.gone()).await;
}

#[tokio::test]
async fn an_unreachable_registry_is_said() {
    let Some(runtime) = runtime().await else { return };
    let request = PullRequest { image: "localhost:1/gxt".parse().unwrap(), platform: None, auth: None };
    let error = assert_error(runtime.pull(request, null()).await, ErrorCode::Unavailable, None);
    assert!(error.retryable && error.backend.unwrap().contains("localhost:1"));
}
