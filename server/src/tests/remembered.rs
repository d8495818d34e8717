//! What is asked or made once and then remembered, and when it is not.

use gx_core::api::{AllowRequest, ServerSpecs};
use gx_core::image::ImageProcess;
use gx_core::member::Allowance;
use gx_core::{ErrorCode, RuntimeError};

use super::whole::Served;
use super::{Host, named, until};
use crate::node::Caller;

#[tokio::test]
async fn a_runtime_is_asked_once_what_it_can_and_again_when_it_has_failed() {
    let host = Host::new().await;
    host.probe().tell(ImageProcess::default(), &[], "linux/amd64");
    host.create(named("one")).await.unwrap();
    host.create(named("two")).await.unwrap();
    assert_eq!(host.probe().calls("capabilities"), 1);
    host.probe().fail("create", RuntimeError::new(ErrorCode::Unavailable, "it is being restarted"));
    host.create(named("three")).await.unwrap_err();
    assert_eq!(host.probe().calls("capabilities"), 1);
    host.create(named("three")).await.unwrap();
    assert_eq!(host.probe().calls("capabilities"), 2);
}

#[tokio::test]
async fn what_an_engine_can_that_is_not_well_is_not_remembered() {
    let host = Host::new().await;
    host.create(named("one")).await.unwrap();
    host.probe().down();
    host.node.runtimes(&Caller::Host).await.unwrap();
    host.probe().up();
    let asked = host.probe().calls("capabilities");
    host.create(named("two")).await.unwrap();
    assert_eq!(host.probe().calls("capabilities"), asked + 1);
}

#[tokio::test]
async fn specs_are_made_once_until_something_of_them_changes() {
    let served = Served::new().await;
    let node = &served.host.node;
    let member = |allowance: u32| AllowRequest {
        allowance: Allowance { containers: Some(allowance), ..Allowance::default() },
        ..AllowRequest::default()
    };
    let id = gx_core::NodeId::from_bytes([1; 32]);
    node.allow(&Caller::Host, &id.to_string(), member(1)).await.unwrap();
    let limit = async || {
        let json = node.specs_as_json(&node.caller_of(id)).await;
        let specs: ServerSpecs = serde_json::from_slice(&json).unwrap();
        specs.allowance.unwrap().containers.limit
    };
    let host = async || node.specs_as_json(&Caller::Host).await;
    // The machine and the engine are looked at once more after the start.
    until("nothing changes any more", async || host().await.as_ptr() == host().await.as_ptr()).await;

    let before: ServerSpecs = serde_json::from_slice(&host().await).unwrap();
    assert_eq!((before.totals.containers.used, before.allowance), (0, None));
    assert_eq!(limit().await, Some(1));
    assert_eq!(host().await.as_ptr(), host().await.as_ptr());
    node.allow(&Caller::Host, &id.to_string(), member(2)).await.unwrap();
    assert_eq!(limit().await, Some(2), "another allowance is told at once");
    served.host.create(named("web")).await.unwrap();
    node.list(&Caller::Host).await.unwrap();
    let after: ServerSpecs = serde_json::from_slice(&host().await).unwrap();
    assert_eq!(after.totals.containers.used, 1, "so is what is seen of containers");
}
