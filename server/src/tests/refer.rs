//! What references mean, and whose containers somebody sees.

use gx_core::container::label;
use gx_core::runtime::RemoveOptions;
use gx_core::{ContainerSpec, ErrorCode, NodeId};

use super::{Host, member, named};
use crate::error::ServerError;
use crate::node::Caller;

#[tokio::test]
async fn ids_beginnings_and_names_all_mean_the_container() {
    let host = Host::with(&["a", "b"], |_| {}).await;
    let web = host.create(named("web")).await.unwrap();
    let short = &web.id.as_str()[..12];
    for reference in [web.id.as_str(), short, "web", "gx-web"] {
        assert_eq!(host.node.show(&Caller::Host, reference).await.unwrap().id, web.id, "{reference}");
    }
    let error = host.node.show(&Caller::Host, "wbe").await.unwrap_err();
    assert_eq!(error.to_string(), "no container wbe");
    assert_eq!(error.hint().as_deref(), Some("did you mean `web`?"));
    assert_eq!(error.code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn a_beginning_of_several_ids_is_refused_with_the_candidates() {
    let host = Host::new().await;
    let mut ids = Vec::new();
    // 257 ids: two of them begin with the same two digits.
    for number in 0..257 {
        ids.push(host.create(named(&format!("c{number}"))).await.unwrap().id);
    }
    ids.sort();
    let pair = ids.windows(2).find(|pair| pair[0].as_str()[..2] == pair[1].as_str()[..2]).unwrap();
    let error = host.node.show(&Caller::Host, &pair[0].as_str()[..2]).await.unwrap_err();
    let ServerError::Ambiguous { candidates, .. } = &error else { panic!("{error:?}") };
    assert!(candidates.iter().any(|candidate| candidate.starts_with(pair[1].short())), "{error}");
}

#[tokio::test]
async fn an_engine_that_is_down_is_not_taken_for_an_empty_one() {
    let host = Host::with(&["a", "b"], |_| {}).await;
    host.create(named("web")).await.unwrap();
    host.probes["a"].down();
    let error = host.node.show(&Caller::Host, "web").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.to_string().contains("a could not be asked"), "{error}");
    let list = host.node.list(&Caller::Host).await.unwrap();
    assert_eq!((list.containers.len(), list.unavailable.len()), (0, 1));
}

#[tokio::test]
async fn others_containers_do_not_exist_for_a_caller() {
    let host = Host::new().await;
    host.create(named("web")).await.unwrap();
    let other = member(7);
    assert!(matches!(host.node.show(&other, "web").await, Err(ServerError::NoContainer { .. })));
    assert!(host.node.list(&other).await.unwrap().containers.is_empty());
    let removed = host.node.remove(&other, "web", RemoveOptions { force: true }).await;
    assert!(matches!(removed, Err(ServerError::NoContainer { .. })));
    let stranger = Caller::Stranger(Some(NodeId::from_bytes([7; 32])));
    assert_eq!(host.node.list(&stranger).await.unwrap_err().code(), ErrorCode::PermissionDenied);
    let created = host.node.create(&stranger, named("x"), None, gx_core::stream::Output::null()).await;
    assert_eq!(created.unwrap_err().code(), ErrorCode::PermissionDenied);
}

#[tokio::test]
async fn another_hosts_containers_on_the_same_engine_are_left_alone() {
    let host = Host::new().await;
    host.create(named("web")).await.unwrap();
    let mut spec = ContainerSpec::new("gx-other".parse().unwrap(), "gx-busybox".parse().unwrap());
    let other = NodeId::from_bytes([7; 32]).to_string();
    spec.labels = [(label::HOST, other.clone()), (label::OWNER, other), (label::NAME, "other".to_owned())]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
    let id = host.probe().plant(spec).await;
    assert_eq!(host.count().await, 1);
    assert!(host.node.show(&Caller::Host, "other").await.is_err());
    assert!(host.node.show(&Caller::Host, id.as_str()).await.is_err());
    host.node.recover().await.unwrap();
    assert_eq!(host.probe().all().await.len(), 2);
}
