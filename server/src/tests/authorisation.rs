//! Who may do what, as a table written by hand. A route that is not in it fails the test, and so does a refused request
//! that changed anything.

use std::sync::Arc;

use gx_core::ErrorCode;
use gx_core::api::{AllowRequest, CreateRequest};
use gx_core::stream::Output;
use serde_json::json;
use warp::test::RequestBuilder;

use super::door::{begun, key, node, request, send, socket};
use super::join::ticket;
use super::{Host, named, until};
use crate::node::{Caller, Identity};
use crate::routes;

/// What comes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    /// It is done.
    Done,
    /// It is allowed, and the container has no such service.
    None_,
    /// Refused, as nobody who asks so may.
    Denied,
    /// Refused, as what is another's is not there.
    Hidden,
    /// Refused for want of a key.
    NoKey,
    /// Refused, as the host cannot do it to itself.
    Itself,
}

use Cell::{Denied as NO, Done as OK, Hidden as NF, Itself as IT, NoKey as NK, None_ as NS};

const WHO: [&str; 7] =
    ["no key", "stranger", "member", "owner of another", "owner", "host", "removed member"];

/// `{id}` of a container is one of the owner's. What needs no permission is read by anybody; a page about the whole host
/// is the host's.
#[rustfmt::skip]
const TABLE: &[(&str, &str, [Cell; 7])] = &[
    //                                               no key  key  member other owner host removed
    ("GET",    "/healthz",                           [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("GET",    "/metrics",                           [NO,    NO,  NO,    NO,   NO,   OK,  NO]),
    ("GET",    "/openapi.json",                      [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("GET",    "/server_specs",                      [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("GET",    "/ip_table",                          [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("POST",   "/ip_table",                          [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("GET",    "/IpTable",                           [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("POST",   "/IpTable",                           [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("GET",    "/v1/runtimes",                       [NO,    NO,  OK,    OK,   OK,   OK,  NO]),
    ("GET",    "/v1/images",                         [NO,    NO,  OK,    OK,   OK,   OK,  NO]),
    ("POST",   "/v1/images/pull",                    [NO,    NO,  OK,    OK,   OK,   OK,  NO]),
    ("POST",   "/v1/images/build",                   [NO,    NO,  OK,    OK,   OK,   OK,  NO]),
    ("POST",   "/v1/containers",                     [NO,    NO,  OK,    OK,   OK,   OK,  NO]),
    ("GET",    "/v1/containers",                     [NO,    NO,  OK,    OK,   OK,   OK,  NO]),
    ("GET",    "/v1/events",                         [NO,    NO,  OK,    OK,   OK,   OK,  NO]),
    ("GET",    "/v1/containers/{id}",                [NO,    NO,  NF,    NF,   OK,   OK,  NO]),
    ("DELETE", "/v1/containers/{id}",                [NO,    NO,  NF,    NF,   OK,   OK,  NO]),
    ("POST",   "/v1/containers/{id}/start",          [NO,    NO,  NF,    NF,   OK,   OK,  NO]),
    ("POST",   "/v1/containers/{id}/stop",           [NO,    NO,  NF,    NF,   OK,   OK,  NO]),
    ("POST",   "/v1/containers/{id}/passwd",         [NO,    NO,  NF,    NF,   NS,   NS,  NO]),
    ("POST",   "/v1/containers/{id}/extend",         [NO,    NO,  NF,    NF,   OK,   OK,  NO]),
    ("POST",   "/v1/containers/{id}/wait",           [NO,    NO,  NF,    NF,   OK,   OK,  NO]),
    ("GET",    "/v1/containers/{id}/logs",           [NO,    NO,  NF,    NF,   OK,   OK,  NO]),
    ("GET",    "/v1/containers/{id}/stats",          [NO,    NO,  NF,    NF,   OK,   OK,  NO]),
    ("GET",    "/v1/containers/{id}/archive",        [NO,    NO,  NF,    NF,   OK,   OK,  NO]),
    ("PUT",    "/v1/containers/{id}/archive",        [NO,    NO,  NF,    NF,   OK,   OK,  NO]),
    ("GET",    "/v1/containers/{id}/exec",           [NO,    NO,  NF,    NF,   OK,   OK,  NO]),
    ("GET",    "/v1/containers/{id}/ssh",            [NO,    NO,  NF,    NF,   NS,   NS,  NO]),
    ("GET",    "/v1/containers/{id}/vnc",            [NO,    NO,  NF,    NF,   NS,   NS,  NO]),
    ("POST",   "/v1/join",                           [NK,    OK,  OK,    OK,   OK,   IT,  OK]),
    ("GET",    "/v1/whoami",                         [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("GET",    "/v1/identity",                       [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("POST",   "/v1/identity",                       [NK,    NO,  NO,    NO,   NO,   IT,  NO]),
    ("POST",   "/v1/invites",                        [NO,    NO,  NO,    NO,   NO,   OK,  NO]),
    ("GET",    "/v1/invites",                        [NO,    NO,  NO,    NO,   NO,   OK,  NO]),
    ("DELETE", "/v1/invites/{id}",                   [NO,    NO,  NO,    NO,   NO,   OK,  NO]),
    ("GET",    "/v1/members",                        [NO,    NO,  NO,    NO,   NO,   OK,  NO]),
    ("PUT",    "/v1/members/{id}",                   [NO,    NO,  NO,    NO,   NO,   OK,  NO]),
    ("DELETE", "/v1/members/{id}",                   [NO,    NO,  NO,    NO,   NO,   OK,  NO]),
    ("GET",    "/v1/chat",                           [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("GET",    "/v1/chat/users",                     [NO,    NO,  NO,    NO,   NO,   OK,  NO]),
    ("PUT",    "/v1/chat/users/{id}",                [NO,    NO,  NO,    NO,   NO,   OK,  NO]),
    ("POST",   "/v1/chat/stop",                      [NO,    NO,  NO,    NO,   NO,   OK,  NO]),
    ("POST",   "/v1/chat/start",                     [NO,    NO,  NO,    NO,   NO,   OK,  NO]),
    ("GET",    "/speedtest/config",                   [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("GET",    "/speedtest/ping",                     [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("GET",    "/speedtest/down",                     [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("POST",   "/speedtest/up",                       [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("POST",   "/speedtest/token",                   [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("GET",    "/speedtest/getIP",                    [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("GET",    "/garbage",                            [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("GET",    "/empty",                              [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("POST",   "/empty",                              [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
    ("GET",    "/getIP",                              [OK,    OK,  OK,    OK,   OK,   OK,  OK]),
];

/// A host with everybody of the table on it.
struct Stage {
    host: Host,
    web: String,
    ticket: gx_core::api::JoinRequest,
}

impl Stage {
    async fn new() -> Self {
        let army = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/chat/army.toml");
        let configure = |config: &mut gx_core::config::Config| {
            config.server.policy.builds = true;
            config.chat.policy = Some(army);
        };
        let host = Host::with(&["mock"], configure).await;
        host.node.open_chat().unwrap();
        for number in [3, 4, 5, 7] {
            host.node.allow(&Caller::Host, &node(number).to_string(), AllowRequest::default()).await.unwrap();
        }
        let mut ids = Vec::new();
        for (number, name) in [(4, "db"), (5, "web"), (7, "old")] {
            let request = CreateRequest { no_guest: true, ttl_s: Some(3_600), ..named(name) };
            let made = host.node.create(&host.node.caller(key(number)), request, None, Output::null()).await;
            ids.push(made.unwrap().id.to_string());
        }
        host.node.disallow(&Caller::Host, &node(7).to_string(), Default::default()).await.unwrap();
        let ticket = ticket(&host, 5).await;
        Self { web: ids[1].clone(), host, ticket }
    }

    fn who(column: usize) -> Identity {
        match column {
            0 => Identity::Unknown,
            5 => Identity::ThisMachine,
            column => key(u8::try_from(column).unwrap() + 1), // 2, 3, 4, 5 and 7
        }
    }

    fn path(&self, path: &str) -> String {
        let id = match path.split('/').nth(2) {
            Some("containers") => self.web.clone(),
            Some("chat") => "Army1".to_owned(),
            Some("invites") => self.ticket.invite.to_string(),
            _ => node(3).to_string(),
        };
        path.replace("{id}", &id)
    }

    fn request(&self, method: &str, path: &str, who: Identity) -> RequestBuilder {
        let plain = |query: &str| request(method, &format!("{}{query}", self.path(path)));
        let tar = |query: &str| plain(query).header("content-type", "application/x-tar").body(context());
        match (method, path) {
            ("POST", "/v1/images/pull") => plain("").json(&json!({ "pull": { "image": "app" } })),
            ("POST", "/v1/images/build") => match who {
                // Members name what they build below their own id.
                Identity::Key(id) => tar(&format!("?tag={}/built", id.short())),
                Identity::ThisMachine | Identity::Unknown => tar("?tag=built"),
            },
            ("POST", "/v1/containers") => plain("").json(&named("fresh")),
            ("POST", "/ip_table" | "/IpTable") => {
                let (kind, body) = gx_core::peers::form::encode("{\"ip_address\":[],\"ask\":{}}");
                plain("").header("content-type", kind).body(body)
            }
            ("DELETE", "/v1/containers/{id}") => plain("?force=true"),
            ("POST", "/v1/containers/{id}/stop") => plain("").json(&json!({ "signal": "SIGKILL" })),
            ("POST", "/v1/containers/{id}/extend") => plain("").json(&json!({ "by_s": 60 })),
            ("GET", "/v1/containers/{id}/archive") => plain("?path=/etc"),
            ("PUT", "/v1/containers/{id}/archive") => tar("?path=/"),
            ("POST", "/v1/join") => plain("").json(&self.ticket),
            ("POST", "/v1/identity") => plain("").json(&json!({
                "from": node(3), "to": node(9), "at": "2026-01-01T00:00:00Z", "by_old": "", "by_new": "",
            })),
            ("POST", "/v1/invites") => plain("").json(&json!({ "addresses": ["lab.example"] })),
            ("PUT", "/v1/members/{id}") => plain("").json(&json!({ "name": "ann" })),
            ("GET", "/garbage") => plain("?ckSize=1"),
            ("POST", "/speedtest/up" | "/empty") => plain("").body(vec![0; 100_000]),
            _ => plain(""),
        }
    }

    /// Sends the request and returns what came of it.
    async fn ask(&self, method: &str, path: &str, column: usize) -> (u16, Option<ErrorCode>) {
        let (host, who) = (&self.host, Self::who(column));
        if path.ends_with("/exec") {
            return self.exec(who).await;
        }
        if path == "/v1/chat" {
            // Anybody comes to the door: its accounts decide, and they are none of the host's.
            return socket(host, who, path)
                .await
                .map_or_else(|(status, told)| (status.as_u16(), Some(told.code)), |_| (200, None));
        }
        if path.ends_with("/ssh") || path.ends_with("/vnc") {
            let refused = socket(host, who, &self.path(path)).await.map(drop).unwrap_err();
            return (refused.0.as_u16(), Some(refused.1.code));
        }
        let request = self.request(method, path, who);
        if path == "/v1/events" && TABLE.iter().any(|(_, there, cells)| there == &path && cells[column] == OK)
        {
            return (begun(host, who, request).await.as_u16(), None); // it has no end of its own
        }
        let answer = send(host, who, request).await;
        let error: Option<gx_core::api::ApiError> = match answer.status().is_success() {
            true => None,
            false => Some(serde_json::from_slice(answer.body()).unwrap()),
        };
        (answer.status().as_u16(), error.map(|error| error.code))
    }

    /// Runs a command. Who may not is told so by the WebSocket, whose last message stands for the answer here.
    async fn exec(&self, who: Identity) -> (u16, Option<ErrorCode>) {
        use futures_util::{SinkExt, StreamExt};
        use tokio_tungstenite::tungstenite::Message;
        let mut socket = socket(&self.host, who, &self.path("/v1/containers/{id}/exec")).await.unwrap();
        let spec = json!({ "argv": ["touch", "/tmp/entered"] }).to_string();
        socket.send(Message::text(spec)).await.unwrap();
        loop {
            let Message::Binary(bytes) = socket.next().await.unwrap().unwrap() else { continue };
            if bytes[0] != gx_core::api::exec::END {
                continue;
            }
            return match serde_json::from_slice(&bytes[1..]).unwrap() {
                gx_core::api::End::Ok(_) => (200, None),
                gx_core::api::End::Error(error) if error.code == ErrorCode::NotFound => {
                    (404, Some(error.code))
                }
                gx_core::api::End::Error(error) => (403, Some(error.code)),
            };
        }
    }

    /// Returns everything that a request could have changed.
    async fn all(&self) -> String {
        let containers = self.host.node.list(&Caller::Host).await.unwrap().containers;
        let images = self.host.node.images(&Caller::Host, None).await.unwrap().images;
        let list = std::fs::read_to_string(self.host.data.path().join("data/members.json")).unwrap();
        let names = std::fs::read_dir(self.host.data.path().join("data")).unwrap();
        let names = names.map(|file| file.unwrap().file_name().to_string_lossy().into_owned());
        let files = names.filter(|name| !name.starts_with("audit")).count(); // a refusal is written down
        let probe = self.host.probe();
        let calls =
            (probe.calls("copy_in"), probe.calls("copy_out"), probe.calls("logs"), probe.calls("stats"));
        let talk = format!("{:?}", self.host.node.chat_users(&Caller::Host).await);
        format!("{talk} {containers:?} {images:?} {list} {files} {calls:?} {}", probe.execs().len())
    }
}

/// Returns an archive from which an image can be built.
fn context() -> Vec<u8> {
    let text: &[u8] = b"FROM gx-busybox\n";
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "Containerfile", text).unwrap();
    archive.into_inner().unwrap()
}

fn expected(cell: Cell) -> Option<(u16, ErrorCode)> {
    match cell {
        OK => None,
        NS => Some((409, ErrorCode::FailedPrecondition)),
        NO => Some((403, ErrorCode::PermissionDenied)),
        NF => Some((404, ErrorCode::NotFound)),
        NK => Some((401, ErrorCode::Unauthenticated)),
        IT => Some((409, ErrorCode::FailedPrecondition)),
    }
}

#[tokio::test]
async fn every_route_is_in_the_table_once() {
    let mut listed: Vec<_> = routes::listed().collect();
    let mut table: Vec<_> = TABLE.iter().map(|(method, path, _)| (*method, *path)).collect();
    listed.sort();
    table.sort();
    assert_eq!(listed, table);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_refused_and_changes_nothing() {
    let stage = Stage::new().await;
    for (method, path, cells) in TABLE {
        for (column, cell) in cells.iter().enumerate().filter(|(_, cell)| !matches!(cell, OK | NS)) {
            let before = stage.all().await;
            let (status, code) = stage.ask(method, path, column).await;
            let what = format!("{method} {path} by {}", WHO[column]);
            assert_eq!(Some((status, code.unwrap_or(ErrorCode::Internal))), expected(*cell), "{what}");
            assert_eq!(stage.all().await, before, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_is_answered() {
    let cells = TABLE.iter().flat_map(|(method, path, cells)| {
        cells.iter().enumerate().map(move |(column, cell)| (*method, *path, column, *cell))
    });
    let ask = |(method, path, column, cell): (&'static str, &'static str, usize, Cell)| async move {
        let stage = Arc::new(Stage::new().await);
        let asked = tokio::spawn({
            let stage = stage.clone();
            async move { stage.ask(method, path, column).await }
        });
        if path.ends_with("/wait") {
            until("somebody waits", async || stage.host.probe().under_way("wait") == 1).await;
            let kill = gx_core::runtime::StopOptions { signal: Some("SIGKILL".to_owned()), grace_ms: None };
            stage.host.node.stop(&Caller::Host, "web", kill).await.unwrap();
        }
        let (status, code) = asked.await.unwrap();
        let what = format!("{method} {path} by {}", WHO[column]);
        match expected(cell) {
            None => assert!((200..300).contains(&status) && code.is_none(), "{what}: {status} {code:?}"),
            Some(expected) => assert_eq!((status, code.unwrap()), expected, "{what}"),
        }
    };
    use futures_util::StreamExt;
    let allowed = cells.filter(|(_, _, _, cell)| matches!(cell, OK | NS));
    futures_util::stream::iter(allowed).map(ask).buffer_unordered(4).collect::<Vec<()>>().await;
}
