//! What a runtime says of itself and its engine.

use std::sync::Arc;

use gx_core::ErrorCode;
use gx_core::container::Gpus;
use gx_core::runtime::{BuildRequest, ExecSpec, Feature, HealthStatus, LogOptions, PullRequest, Result};
use gx_core::stream::{Input, Output};

use crate::trial::{Called, Case, SOON, Trial, Verdict, case, check, refused, same, soon};
use crate::workload::{argv, stubborn};

pub(super) const CASES: &[Case] = &[
    case!("handshake/capabilities", "it says what it can do, and the same each time", [], capabilities),
    case!("handshake/image", "the image the suite needs is there or can be pulled", [], image),
    case!("handshake/info", "it says what the engine is", [], info),
    case!("handshake/health", "an engine that works is healthy", [], health),
    case!("handshake/features", "a feature that is not listed answers Unsupported", [], features),
];

async fn capabilities(t: Arc<Trial>) -> Verdict {
    let first = soon("capabilities", SOON, t.runtime.capabilities()).await?.of("capabilities")?;
    let second = t.runtime.capabilities().await.of("capabilities")?;
    same("the second answer", second, first)
}

async fn image(t: Arc<Trial>) -> Verdict {
    let image = t.options.image.clone();
    let found = soon("image", SOON, t.runtime.image(image.clone())).await?.of("image")?;
    check!(found.is_some(), "the engine has no image {image}");
    Ok(())
}

async fn info(t: Arc<Trial>) -> Verdict {
    let info = soon("info", SOON, t.runtime.info()).await?.of("info")?;
    let parts = [
        ("backend", &info.backend),
        ("version", &info.version),
        ("os", &info.os),
        ("arch", &info.arch),
        ("endpoint", &info.endpoint),
    ];
    for (name, value) in parts {
        check!(!value.trim().is_empty(), "{name} is empty");
    }
    check!(
        !["x86_64", "aarch64"].contains(&info.arch.as_str()),
        "arch is {}: images say amd64, arm64",
        info.arch
    );
    Ok(())
}

async fn health(t: Arc<Trial>) -> Verdict {
    let health = soon("health", SOON, t.runtime.health()).await?.of("health")?;
    check!(health.status == HealthStatus::Healthy, "health is {:?}: {}", health.status, health.why);
    Ok(())
}

async fn features(t: Arc<Trial>) -> Verdict {
    let lacking = |feature| !t.capabilities.has(feature);
    let unsupported = |call: &str, result: Result<(), _>| refused(call, result, ErrorCode::Unsupported, None);
    let r = &t.runtime;
    let image: gx_core::ImageRef = "localhost:1/gx-conformance/none".parse().expect("a reference");
    let id = t.running(stubborn()).await?;
    if lacking(Feature::Pull) {
        let request = PullRequest { image: image.clone(), platform: None, auth: None };
        unsupported("pull", r.pull(request, Output::null()).await.map(drop))?;
    }
    if lacking(Feature::Images) {
        unsupported("images", r.images().await.map(drop))?;
        unsupported("remove_image", r.remove_image(image.clone()).await)?;
    }
    if lacking(Feature::Build) {
        let request = BuildRequest {
            tag: image,
            containerfile: None,
            args: Default::default(),
            no_cache: false,
            no_network: false,
        };
        unsupported("build", r.build(request, Input::empty(), Output::null()).await.map(drop))?;
    }
    if lacking(Feature::Signal) {
        unsupported("signal", r.signal(id.clone(), "SIGHUP".into()).await)?;
    }
    if lacking(Feature::Exec) {
        let spec = ExecSpec { argv: argv(&["true"]), ..ExecSpec::default() };
        unsupported("exec", r.exec(id.clone(), spec, Input::empty(), Output::null()).await.map(drop))?;
    }
    if lacking(Feature::Copy) {
        unsupported("copy_in", r.copy_in(id.clone(), "/".into(), Input::empty()).await)?;
        unsupported("copy_out", r.copy_out(id.clone(), "/etc".into(), Output::null()).await)?;
    }
    if lacking(Feature::Stats) {
        unsupported("stats", r.stats(id.clone(), 0, Output::null()).await)?;
    }
    if lacking(Feature::Events) {
        unsupported("events", soon("events", SOON, r.events(None, Output::null())).await?)?;
    }
    if lacking(Feature::Gpus) {
        let spec = gx_core::ContainerSpec { gpus: Gpus::Count(1), ..t.spec(stubborn()) };
        let made = r.create(spec).await;
        made.iter().for_each(|id| t.made(id));
        refused("create with a GPU", made, ErrorCode::Unsupported, None)?;
    }
    // What every runtime has.
    t.logs(&id, LogOptions::default()).await.map(drop)
}
