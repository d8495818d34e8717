//! Joining by a ticket: once, again, too often, too late, with another's ticket, and while it cannot be written down.

use gx_core::api::{InviteList, InviteRequest, Invited, JoinRequest, MemberList, Role, Whoami};
use gx_core::member::Allowance;
use gx_core::ticket::Ticket;
use gx_core::{ErrorCode, PeerName};
use serde_json::json;
use warp::http::StatusCode;

use super::door::{key, node, refused, request, send, value};
use super::{Host, named};
use crate::error::{ServerError, TrustError};
use crate::node::{Caller, Identity};

/// Makes a ticket and returns what its holder shows.
pub(super) async fn ticket(host: &Host, uses: u32) -> JoinRequest {
    let addresses = vec!["lab.example".parse().unwrap()];
    let request = InviteRequest { uses, addresses, ..InviteRequest::default() };
    shown(&host.node.invite(&Caller::Host, request).await.unwrap())
}

fn shown(invited: &Invited) -> JoinRequest {
    let ticket: Ticket = invited.ticket.reveal().parse().unwrap();
    JoinRequest { invite: ticket.invite, secret: ticket.secret.to_text() }
}

pub(super) async fn join(host: &Host, number: u8, ticket: &JoinRequest) -> crate::Result<Whoami> {
    host.node.join(&host.node.caller(key(number)), ticket.clone()).await
}

fn trust(error: ServerError) -> TrustError {
    match error {
        ServerError::Trust(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_joins_by_a_ticket_and_uses_the_host() {
    let host = Host::with(&["mock"], |config| config.server.member.pids = Some(64)).await;
    let asked = json!({
        "name": "ann", "addresses": ["lab.example", "[2001:db8::1]:99"],
        "allowance": { "containers": 2, "memory": "1500000001 B" },
    });
    let answer = send(&host, Identity::ThisMachine, request("POST", "/v1/invites").json(&asked)).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let invited: Invited = value(&answer);
    let ticket: Ticket = invited.ticket.reveal().parse().unwrap();
    assert_eq!(ticket.host, host.node.id());
    assert_eq!(ticket.addresses, invited.addresses);
    let stored = std::fs::read_to_string(host.data.path().join("data/members.json")).unwrap();
    assert!(!stored.contains(ticket.secret.to_text().reveal()), "the host keeps a digest only");

    let shown = shown(&invited);
    let joined: Whoami = value(&send(&host, key(1), request("POST", "/v1/join").json(&shown)).await);
    assert_eq!((joined.role, joined.host, joined.id), (Role::Member, host.node.id(), Some(node(1))));
    let member = joined.member.unwrap();
    let may = Allowance {
        containers: Some(2),
        memory: Some("1500000001".parse().unwrap()),
        pids: Some(64), // the host says so of all who were told nothing else
        ..Allowance::default()
    };
    assert_eq!((member.name.as_ref().map(PeerName::as_str), member.allowance), (Some("ann"), may));
    let made = send(&host, key(1), request("POST", "/v1/containers").json(&named("web"))).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let me: Whoami = value(&send(&host, key(1), request("GET", "/v1/whoami")).await);
    assert_eq!((me.role, me.containers), (Role::Member, Some(1)));
    let other: Whoami = value(&send(&host, key(2), request("GET", "/v1/whoami")).await);
    assert_eq!((other.role, other.id, other.member), (Role::Stranger, Some(node(2)), None));

    let invites: InviteList = value(&send(&host, Identity::ThisMachine, request("GET", "/v1/invites")).await);
    assert_eq!((invites.invites.len(), invites.invites[0].used), (1, 1));
    let members: MemberList = value(&send(&host, Identity::ThisMachine, request("GET", "/v1/members")).await);
    assert_eq!(members.members[0].member.id, node(1));
}

#[tokio::test]
async fn a_replayed_join_is_the_same_answer_and_uses_nothing() {
    let host = Host::new().await;
    let ticket = ticket(&host, 2).await;
    let first = join(&host, 1, &ticket).await.unwrap();
    let stored = || std::fs::read(host.data.path().join("data/members.json")).unwrap();
    let before = stored();
    for _ in 0..3 {
        assert_eq!(join(&host, 1, &ticket).await.unwrap(), first);
    }
    assert_eq!(stored(), before);
    let host = host.restart().await;
    assert_eq!(join(&host, 1, &ticket).await.unwrap(), first, "also after a restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_at_once_as_many_join_as_may() {
    let host = Host::new().await;
    let ticket = ticket(&host, 3).await;
    let joins = (1..=100).map(|number| {
        let (node, ticket) = (host.node.clone(), ticket.clone());
        tokio::spawn(async move { node.join(&node.caller(key(number)), ticket).await })
    });
    let mut joined = 0;
    for one in futures_util::future::join_all(joins).await {
        match one.unwrap() {
            Ok(_) => joined += 1,
            Err(error) => {
                let error = trust(error);
                let told = matches!(error, TrustError::UsedUp { uses: 3 } | TrustError::TooManyAttempts);
                assert!(told, "{error:?}");
            }
        }
    }
    assert_eq!(joined, 3);
    assert_eq!(host.node.members(&Caller::Host).await.unwrap().members.len(), 3);
}

#[tokio::test]
async fn each_refusal_has_a_code_and_a_hint() {
    let host = Host::new().await;
    let good = ticket(&host, 1).await;
    let other = ticket(&host, 1).await;
    let edited = JoinRequest { secret: other.secret.clone(), ..good.clone() };
    let unknown = JoinRequest { invite: "aaaaaaaaaaaaaaaa".parse().unwrap(), ..good.clone() };
    let rubbish = JoinRequest { secret: gx_core::secret::Secret::new("../../etc"), ..good.clone() };
    let told = async |who: Identity, ticket: &JoinRequest| {
        let (status, error) = refused(&host, who, request("POST", "/v1/join").json(ticket)).await;
        assert!(error.hint.is_some(), "{error:?}");
        (status.as_u16(), error.code)
    };
    assert_eq!(told(key(1), &edited).await, (401, ErrorCode::Unauthenticated));
    assert_eq!(told(key(1), &rubbish).await, (401, ErrorCode::Unauthenticated));
    assert_eq!(told(key(1), &unknown).await, (404, ErrorCode::NotFound));
    assert_eq!(told(Identity::Unknown, &good).await, (401, ErrorCode::Unauthenticated));
    assert_eq!(told(Identity::ThisMachine, &good).await, (409, ErrorCode::FailedPrecondition));
    assert_eq!(told(Identity::Key(host.node.id()), &good).await, (409, ErrorCode::FailedPrecondition));
    join(&host, 1, &good).await.unwrap();
    assert_eq!(told(key(2), &good).await, (409, ErrorCode::AlreadyExists));
    // The clock of the host goes on by a day: of the file, the end is a day earlier.
    let path = host.data.path().join("data/members.json");
    let mut book: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for invite in book["invites"].as_array_mut().unwrap() {
        invite["info"]["until"] = json!("2026-01-01T00:00:00Z");
    }
    std::fs::write(&path, book.to_string()).unwrap();
    assert_eq!(told(key(2), &other).await, (409, ErrorCode::FailedPrecondition));
    assert!(join(&host, 1, &good).await.is_ok(), "who has joined is told so still");
}

#[tokio::test]
async fn a_ticket_that_is_taken_back_lets_nobody_in() {
    let host = Host::new().await;
    let ticket = ticket(&host, 5).await;
    join(&host, 1, &ticket).await.unwrap();
    let path = format!("/v1/invites/{}", ticket.invite);
    send(&host, Identity::ThisMachine, request("DELETE", &path)).await;
    assert_eq!(trust(join(&host, 2, &ticket).await.unwrap_err()), TrustError::NoSuchInvite);
    assert!(matches!(host.node.caller(key(1)), Caller::Member(_)), "who has joined stays");
    let (status, _) = refused(&host, Identity::ThisMachine, request("DELETE", &path)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn names_that_look_like_others_and_ids_that_are_paths_are_refused() {
    let host = Host::new().await;
    let here = Identity::ThisMachine;
    // Cyrillic and full-width letters, a space that has no width, one that turns the direction round, a path; and of a
    // member what could be an id.
    let member = ["\u{430}nn", "\u{ff41}nn", "ann\u{200b}", "ann\u{202e}", "../ann", "", &"a".repeat(52)];
    for name in member {
        let invite = request("POST", "/v1/invites").json(&json!({ "name": name }));
        let (status, error) = refused(&host, here, invite).await;
        assert_eq!((status, error.field.as_deref()), (StatusCode::BAD_REQUEST, Some("name")), "{name:?}");
    }
    for name in &member[..6] {
        let create = request("POST", "/v1/containers").json(&json!({ "image": "gx-busybox", "name": name }));
        let (status, error) = refused(&host, here, create).await;
        assert_eq!((status, error.field.as_deref()), (StatusCode::BAD_REQUEST, Some("name")), "{name:?}");
    }
    for id in ["..", "%2e%2e", "%2e%2e%2f", "..%2fmembers.json", "%00", "%ff", "a%2fb"] {
        for (method, folder) in [
            ("DELETE", "invites"),
            ("DELETE", "members"),
            ("PUT", "members"),
            ("GET", "containers"),
            ("DELETE", "containers"),
        ] {
            let (status, _) = refused(&host, here, request(method, &format!("/v1/{folder}/{id}"))).await;
            let refused = [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND];
            assert!(refused.contains(&status), "{method} {folder} {id}: {status}");
        }
    }
}

#[tokio::test]
async fn where_the_list_cannot_be_written_nobody_joins_and_nothing_is_lost() {
    let host = Host::new().await;
    let ticket = ticket(&host, 1).await;
    let folder = host.data.path().join("data");
    let kept = std::fs::read(folder.join("members.json")).unwrap();
    let full = Full::of(&folder, &kept);
    let error = join(&host, 1, &ticket).await.unwrap_err();
    assert!(matches!(&error, ServerError::State { what: "write", .. }), "{error:?}");
    assert_eq!(error.hint().as_deref(), Some("make room on that file system and try again"));
    assert!(matches!(host.node.caller(key(1)), Caller::Stranger(Some(_))));
    assert_eq!(std::fs::read(folder.join("members.json")).unwrap(), kept);
    full.make_room();
    join(&host, 2, &ticket).await.unwrap();
    assert_eq!(trust(join(&host, 1, &ticket).await.unwrap_err()), TrustError::UsedUp { uses: 1 });
}

/// A file system without room for another file, over a folder.
struct Full<'a>(&'a std::path::Path);

impl<'a> Full<'a> {
    fn of(folder: &'a std::path::Path, list: &[u8]) -> Self {
        let options = ["-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs"];
        let mounted = std::process::Command::new("mount").args(options).arg(folder).output().unwrap();
        assert!(mounted.status.success(), "a file system can be mounted by root only: {mounted:?}");
        let full = Self(folder);
        std::fs::write(folder.join("members.json"), list).unwrap();
        std::fs::set_permissions(
            folder.join("members.json"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        let mut filler = std::fs::File::create(folder.join("filler")).unwrap();
        while std::io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
        full
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Full<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0).output();
    }
}

#[tokio::test]
async fn a_damaged_list_is_told_and_kept() {
    let host = Host::new().await;
    let ticket = ticket(&host, 2).await;
    join(&host, 1, &ticket).await.unwrap();
    let path = host.data.path().join("data/members.json");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let list = || request("GET", "/v1/containers");
    assert_eq!(send(&host, key(1), list()).await.status(), StatusCode::FORBIDDEN);
    let (status, error) = refused(&host, key(2), request("POST", "/v1/join").json(&ticket)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(error.message.contains("is damaged") && error.hint.unwrap().contains("backup"));
    assert_eq!(send(&host, Identity::ThisMachine, list()).await.status(), StatusCode::OK);
    assert_eq!(std::fs::read(&path).unwrap(), whole[..whole.len() / 2]);
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(send(&host, key(1), list()).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn who_is_configured_is_a_member_and_cannot_be_removed_by_hand() {
    let host = Host::with(&["mock"], |config| config.server.allow = vec![node(1)]).await;
    assert!(matches!(host.node.caller(key(1)), Caller::Member(_)));
    let (status, error) =
        refused(&host, Identity::ThisMachine, request("DELETE", &format!("/v1/members/{}", node(1)))).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(error.hint.unwrap().contains("`allow` in [server]"));
}

#[tokio::test]
async fn a_ticket_that_would_lead_nowhere_is_not_made() {
    let host = Host::new().await;
    let (status, error) =
        refused(&host, Identity::ThisMachine, request("POST", "/v1/invites").json(&json!({}))).await;
    assert_eq!((status, error.field.as_deref()), (StatusCode::CONFLICT, Some("addresses")));
    let host = Host::with(&["mock"], |config| {
        config.server.advertise = vec!["lab.example:99".parse().unwrap()];
    })
    .await;
    let invited: Invited =
        value(&send(&host, Identity::ThisMachine, request("POST", "/v1/invites").json(&json!({}))).await);
    assert_eq!(invited.addresses, ["lab.example:99".parse().unwrap()]);
}
