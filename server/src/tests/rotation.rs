//! Changes of key: a member's, told by what both keys have signed, and the host's own.

use gx_core::api::{AllowRequest, IdentityInfo, Rotation, Whoami};
use gx_core::stream::Output;
use gx_core::{ErrorCode, NodeId, Timestamp};
use gx_identity::NodeKey;
use warp::http::StatusCode;

use super::door::{refused, request, send, value};
use super::{Host, named};
use crate::node::{Caller, Identity};

struct Keys {
    _folders: [tempfile::TempDir; 2],
    old: NodeKey,
    new: NodeKey,
}

fn keys() -> Keys {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [old, new] = [0, 1].map(|number: usize| gx_identity::open(folders[number].path()).unwrap());
    Keys { _folders: folders, old, new }
}

async fn told(host: &Host, who: NodeId, rotation: &Rotation) -> (StatusCode, ErrorCode) {
    let post = request("POST", "/v1/identity").json(rotation);
    let (status, error) = refused(host, Identity::Key(who), post).await;
    assert!(error.hint.is_some(), "{error:?}");
    (status, error.code)
}

#[tokio::test]
async fn a_members_new_key_has_what_the_old_one_had() {
    let (host, Keys { old, new, .. }) = (Host::new().await, keys());
    host.node.allow(&Caller::Host, &old.id().to_string(), AllowRequest::default()).await.unwrap();
    let before = host.node.caller(Identity::Key(old.id()));
    let idempotency = || Some("k1".parse().unwrap());
    let web = host.node.create(&before, named("web"), idempotency(), Output::null()).await.unwrap();

    let rotation = gx_identity::sign(&old, &new, Timestamp::from_unix(1_800_000_000));
    let post = || request("POST", "/v1/identity").json(&rotation);
    let who: Whoami = value(&send(&host, Identity::Key(new.id()), post()).await);
    assert_eq!(who.member.unwrap().id, new.id());
    assert_eq!(send(&host, Identity::Key(new.id()), post()).await.status(), StatusCode::OK, "told again");
    assert_eq!(host.node.caller(Identity::Key(old.id())), Caller::Stranger(Some(old.id())));

    let after = host.node.caller(Identity::Key(new.id()));
    let seen = host.node.list(&after).await.unwrap().containers;
    assert_eq!((seen.len(), seen[0].owner), (1, Some(new.id())));
    for reference in ["web", web.id.as_str(), &web.id.as_str()[..8]] {
        assert_eq!(host.node.show(&after, reference).await.unwrap().id, web.id, "{reference}");
    }
    let again = host.node.create(&after, named("web"), idempotency(), Output::null()).await.unwrap();
    assert_eq!(again.id, web.id, "a repeated create is the same one");
    let members = host.node.members(&Caller::Host).await.unwrap().members;
    assert_eq!((members.len(), &members[0].formerly[..]), (1, &[old.id()][..]));
    let removal = host.node.disallow(&Caller::Host, &new.id().to_string(), Default::default()).await.unwrap();
    assert_eq!(removal.containers.len(), 1, "what was made under the old key is stopped too");
}

#[tokio::test]
async fn a_change_of_key_that_is_forged_or_stolen_changes_nothing() {
    let (host, Keys { old, new, .. }) = (Host::new().await, keys());
    host.node.allow(&Caller::Host, &old.id().to_string(), AllowRequest::default()).await.unwrap();
    let good = gx_identity::sign(&old, &new, Timestamp::from_unix(1_800_000_000));
    let denied = (StatusCode::FORBIDDEN, ErrorCode::PermissionDenied);
    let unsigned = (StatusCode::UNAUTHORIZED, ErrorCode::Unauthenticated);
    let (thief, Keys { new: other, .. }) = (NodeId::from_bytes([7; 32]), keys());
    assert_eq!(told(&host, thief, &good).await, denied, "seen on the way, and sent by another");
    assert_eq!(told(&host, old.id(), &good).await, denied);
    assert_eq!(told(&host, thief, &Rotation { to: thief, ..good.clone() }).await, unsigned);
    let by_one = Rotation { by_old: good.by_new.clone(), ..good.clone() };
    assert_eq!(told(&host, new.id(), &by_one).await, unsigned);
    let nobodys = gx_identity::sign(&other, &new, Timestamp::from_unix(0));
    assert_eq!(told(&host, new.id(), &nobodys).await, (StatusCode::NOT_FOUND, ErrorCode::NotFound));
    assert!(matches!(host.node.caller(Identity::Key(old.id())), Caller::Member(_)));
    host.node.disallow(&Caller::Host, &old.id().to_string(), Default::default()).await.unwrap();
    assert_eq!(
        told(&host, new.id(), &good).await,
        (StatusCode::NOT_FOUND, ErrorCode::NotFound),
        "removed since"
    );
}

#[tokio::test]
async fn a_host_with_a_new_key_has_its_containers_and_their_secrets() {
    let host = Host::new().await;
    let old = host.node.id();
    let idempotency = || Some("k1".parse().unwrap());
    let create = async |host: &Host| {
        host.node.create(&Caller::Host, named("web"), idempotency(), Output::null()).await
    };
    let web = create(&host).await.unwrap();
    let rotation = crate::rotate(host.node.data()).unwrap();
    let host = host.restart().await;
    assert_eq!((rotation.from, rotation.to), (old, host.node.id()));
    let seen = host.node.list(&Caller::Host).await.unwrap().containers;
    assert_eq!((seen.len(), seen[0].owner), (1, Some(host.node.id())));
    assert_eq!(host.node.show(&Caller::Host, web.id.as_str()).await.unwrap().id, web.id);
    let again = create(&host).await.unwrap();
    assert_eq!((again.id, &again.ssh, &again.vnc), (web.id.clone(), &web.ssh, &web.vnc));
    let info: IdentityInfo = value(&send(&host, Identity::Unknown, request("GET", "/v1/identity")).await);
    assert!(gx_identity::leads(&info.rotations, old, info.id));
    let other = host.create(named("other")).await.unwrap();
    assert_eq!(other.owner, Some(host.node.id()));
    assert_eq!(host.count().await, 2);
    let forced = gx_core::runtime::RemoveOptions { force: true };
    host.node.remove(&Caller::Host, "web", forced).await.unwrap();
}

#[tokio::test]
async fn a_server_that_runs_keeps_its_key() {
    let host = Host::new().await;
    let _serving = crate::node::ServerLock::take(host.node.data()).unwrap();
    let error = crate::rotate(host.node.data()).unwrap_err();
    assert!(matches!(error, crate::ServerError::Locked { .. }), "{error:?}");
}
