//! Images that come with gx: built when they are first asked for, once, and from the base that is there.

use gx_core::api::{CreateRequest, PullBody, PullPolicy};
use gx_core::runtime::PullRequest;
use gx_core::stream::{Kind, Output, pipe};
use gx_core::{ErrorCode, ImageRef, RuntimeError};

use super::{Host, sleeper};
use crate::node::Caller;

/// A host whose builder makes an image of nothing, whatever it is given.
async fn host() -> Host {
    let host = Host::new().await;
    let mut archive = tar::Builder::new(Vec::new());
    let text = b"FROM gx-busybox\nLABEL gx.desktop=5900\n";
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    archive.append_data(&mut header, "Containerfile", text.as_slice()).unwrap();
    host.probe().stand_in(archive.into_inner().unwrap().into());
    host
}

fn image(name: &str) -> ImageRef {
    name.parse().unwrap()
}

fn desktop() -> CreateRequest {
    CreateRequest { image: image("gx-desktop"), ..sleeper() }
}

#[tokio::test]
async fn an_image_of_ours_is_built_when_it_is_first_named() {
    let host = host().await;
    let (out, mut items) = pipe(0);
    let made = host.node.create(&Caller::Host, desktop(), None, out).await.unwrap();
    assert_eq!(made.image, "gx-desktop");
    assert_eq!(items.next().await.unwrap().kind, Kind::Progress);
    host.create(desktop()).await.unwrap();
    let builds = host.probe().builds();
    assert_eq!(builds.len(), 1, "it is there after the first");
    assert!(!builds[0].args.contains_key("BASE"), "the Containerfile knows its base");
    assert_eq!(host.probe().calls("pull"), 0);
}

#[tokio::test]
async fn a_base_that_is_there_is_used() {
    let host = host().await;
    let pull = |name| PullBody {
        runtime: None,
        pull: PullRequest { image: image(name), platform: None, auth: None },
    };
    host.node.pull(&Caller::Host, pull("gx-debian:bookworm"), Output::null()).await.unwrap();
    let built = host.node.pull(&Caller::Host, pull("localhost/gx-desktop"), Output::null()).await.unwrap();
    assert_eq!(built.image.labels["gx.desktop"], "5900");
    assert_eq!(host.probe().builds()[0].args["BASE"], "gx-debian:bookworm");
}

#[tokio::test]
async fn a_build_that_fails_says_what_it_needs() {
    let host = host().await;
    host.probe().fail("build", RuntimeError::new(ErrorCode::InvalidArgument, "no such host"));
    let error = host.create(desktop()).await.unwrap_err();
    assert_eq!(error.to_string(), "mock: no such host");
    assert!(error.hint().unwrap().contains("gx-debian:bookworm"), "{error:?}");
    let error = host.create(CreateRequest { pull: PullPolicy::Never, ..desktop() }).await.unwrap_err();
    assert_eq!(error.to_string(), "no image gx-desktop in mock");
}

#[tokio::test]
async fn an_image_that_an_older_gx_has_built_is_built_anew() {
    let host = host().await;
    host.create(desktop()).await.unwrap();
    let of = |digest: &str| vec![("gx.sources", digest.to_owned())];
    let own = host.probe().builds()[0].args["SOURCES"].clone();
    for (digest, pull, builds) in [
        (own.as_str(), PullPolicy::Missing, 1),
        ("", PullPolicy::Missing, 1), // somebody's own
        ("0123", PullPolicy::Never, 1),
        ("0123", PullPolicy::Missing, 2),
    ] {
        let labels = of(digest);
        let labels: Vec<_> = labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
        host.probe().label(&labels);
        host.create(CreateRequest { pull, ..desktop() }).await.unwrap();
        assert_eq!(host.probe().builds().len(), builds, "{digest:?} {pull:?}");
    }
}
