//! `/ip_table`: pages, uploads, what is asked for, and what is refused.

use gx_core::config::Share;
use gx_core::peers::exchange::Ask;
use gx_core::peers::file::{Reply, Row, TablePage, Upload};
use gx_core::peers::{PeerRecord, ShortIds, SignedRecord, form};
use gx_core::{ErrorCode, NodeId, Timestamp};
use gx_identity::NodeKey;
use serde_json::json;
use warp::http::StatusCode;
use warp::test::RequestBuilder;

use super::door::{key, refused, request, send, value};
use super::whole::Served;
use super::{Host, until};
use crate::node::Identity;

fn somebody(address: &str) -> (NodeId, SignedRecord) {
    let data = tempfile::tempdir().unwrap();
    let key: NodeKey = gx_identity::open(data.path()).unwrap();
    let now = Timestamp::from(std::time::SystemTime::now());
    let record = PeerRecord {
        addresses: vec![address.parse().unwrap()],
        ..PeerRecord::new(key.id(), 1, now, PeerRecord::LEASE)
    };
    (key.id(), record.sign(|message| key.sign(message)).unwrap())
}

fn upload(text: &str) -> RequestBuilder {
    let (kind, body) = form::encode(text);
    request("POST", "/ip_table").header("content-type", kind).body(body)
}

fn row(signed: &SignedRecord) -> Row {
    Row { record: Some(signed.record.clone()), signature: Some(signed.signature), ..Row::default() }
}

fn told(records: &[&SignedRecord], ask: Option<Ask>) -> RequestBuilder {
    let upload_ = Upload { ip_address: records.iter().map(|signed| row(signed)).collect(), ask };
    upload(&serde_json::to_string(&upload_).unwrap())
}

#[tokio::test]
async fn what_one_uploads_another_reads_a_page_at_a_time() {
    let host = Host::new().await;
    let many: Vec<_> = (1..=5).map(|number| somebody(&format!("203.0.113.{number}:7467"))).collect();
    let all: Vec<&SignedRecord> = many.iter().map(|(_, signed)| signed).collect();
    let page: TablePage = value(&send(&host, Identity::Unknown, told(&all, None)).await);
    assert_eq!(page.ip_address.len(), 5);
    assert_eq!(page.ip_address[0].serverport, "7467");
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let get = request("GET", &format!("/IpTable?limit=2{after}"));
        let page: TablePage = value(&send(&host, Identity::Unknown, get).await);
        assert!(page.ip_address.len() <= 2);
        seen.extend(page.ip_address.iter().map(|row| row.signed().unwrap()));
        let Some(next) = page.next else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen.len(), 5);
    assert!(all.iter().all(|signed| seen.contains(signed)));
}

#[tokio::test]
async fn an_ask_is_answered_with_what_the_asker_lacks() {
    let host = Host::new().await;
    let (one, two) = (somebody("203.0.113.1:1").1, somebody("203.0.113.2:1").1);
    send(&host, Identity::Unknown, told(&[&one], None)).await;
    let ask = Ask { have: Some(ShortIds::default()), ..Ask::default() };
    let answer =
        send(&host, Identity::Unknown, told(&[&two], Some(ask)).header("accept-encoding", "gzip")).await;
    let packed = answer.headers().get("content-encoding").is_some();
    assert!(!packed || answer.body().starts_with(&[0x1f, 0x8b]));
    let ask = Ask { have: Some(ShortIds::default()), ..Ask::default() };
    let reply: Reply = value(&send(&host, Identity::Unknown, told(&[], Some(ask))).await);
    assert_eq!((reply.records.len(), reply.known), (2, 2));
}

#[tokio::test]
async fn what_is_no_upload_is_refused_with_a_reason() {
    let host = Host::new().await;
    let plain = request("POST", "/ip_table").json(&json!({ "ip_address": [] }));
    let (status, error) = refused(&host, Identity::Unknown, plain).await;
    assert_eq!((status, error.code), (StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::InvalidArgument));
    assert_eq!(refused(&host, Identity::Unknown, upload("{")).await.0, StatusCode::BAD_REQUEST);
    for (text, field) in [("{\"ip_address\":7}", "ip_address"), ("{\"ask\":{\"have\":\"A\"}}", "ask.have")] {
        let (status, error) = refused(&host, Identity::Unknown, upload(text)).await;
        assert_eq!((status, error.field.as_deref()), (StatusCode::BAD_REQUEST, Some(field)), "{text}");
    }
    let rows = format!("{{\"ip_address\":[{}{{}}]}}", "{},".repeat(512));
    let (_, error) = refused(&host, Identity::Unknown, upload(&rows)).await;
    assert_eq!(error.message, "513 rows are more than 512");
    let long = format!("{{\"ip_address\":[],\"x\":\"{}\"}}", "x".repeat(form::MAX_BYTES));
    assert_eq!(refused(&host, Identity::Unknown, upload(&long)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_answers_before_it_can_say_what_it_is_becomes_known() {
    let slow = Host::new().await;
    // What it says of itself has its runtimes in it, and so waits for an engine.
    slow.probe().close("health");
    let slow = Served::of(slow).await;
    let host = Host::with(&["mock"], |config| {
        config.peers.seeds = vec![format!("{}", slow.address).parse().unwrap()];
        config.peers.exchange_every = "100ms".parse().unwrap();
    })
    .await;
    let host = Served::of(host).await;
    let peers = host.host.node.peers().unwrap();
    until("it has answered", async || {
        peers.with(|table| table.legacy().any(|(_, row)| row.seen.last_seen.is_some()))
    })
    .await;
    assert!(peers.with(|table| table.get(slow.host.node.id()).is_none()), "it has said nothing yet");
    slow.host.probe().open("health");
    until("it is known by its key", async || {
        peers.with(|table| table.get(slow.host.node.id()).is_some() && table.legacy().next().is_none())
    })
    .await;
}

#[tokio::test]
async fn a_host_may_share_its_table_with_members_only() {
    let host = Host::with(&["mock"], |config| {
        config.peers.share = Share::Members;
        config.server.allow = vec![super::door::node(3)];
    })
    .await;
    let (status, error) = refused(&host, Identity::Unknown, request("GET", "/ip_table")).await;
    assert_eq!((status, error.code), (StatusCode::FORBIDDEN, ErrorCode::PermissionDenied));
    assert_eq!(refused(&host, key(9), told(&[], None)).await.0, StatusCode::FORBIDDEN);
    let page: TablePage = value(&send(&host, key(3), request("GET", "/ip_table")).await);
    assert!(page.ip_address.is_empty());
}

#[tokio::test]
async fn what_only_a_neighbour_may_tell_is_not_taken_from_a_stranger() {
    let host = Host::new().await;
    // The test's connection has no address, so that it is nobody's neighbour.
    for address in ["127.0.0.1:22", "192.168.1.1:80"] {
        let page: TablePage =
            value(&send(&host, Identity::Unknown, told(&[&somebody(address).1], None)).await);
        assert!(page.ip_address.is_empty(), "{address}");
    }
    let legacy = "{\"ip_address\":[{\"IPV4\":\"10.0.0.1\",\"ServerPort\":\"22\"},{\"ipv4\":\"203.0.113.9\",\"serverport\":\"8088\"}]}";
    send(&host, Identity::Unknown, upload(legacy)).await;
    let rows = host
        .node
        .peers()
        .unwrap()
        .with(|table| table.legacy().map(|(at, _)| at.to_string()).collect::<Vec<_>>());
    assert_eq!(rows, ["203.0.113.9:8088"]);
}

#[tokio::test]
async fn rows_without_a_key_are_metered_as_those_with_one() {
    let host = Host::new().await;
    let row = |at: usize| format!("{{\"ipv4\":\"203.0.{}.{}\"}}", at / 256, at % 256);
    let rows = (0..512).map(row).collect::<Vec<_>>().join(",");
    let text = format!("{{\"ip_address\":[{rows}]}}");
    for _ in 0..8 {
        assert_eq!(send(&host, Identity::Unknown, upload(&text)).await.status(), StatusCode::OK);
    }
    let (status, error) = refused(&host, Identity::Unknown, upload(&text)).await;
    assert_eq!((status, error.code), (StatusCode::TOO_MANY_REQUESTS, ErrorCode::ResourceExhausted));
}
