//! A command of the chat that is told to ask later asks later: a long history is more pages than one may ask for at once.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use crate::support::Surroundings;

/// How long a question has to wait.
const WAIT: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_came_too_soon_is_asked_again() {
    let there = Surroundings::new();
    std::fs::write(there.path("pw"), "correct horse battery\n").expect("a file can be written");
    let server = gx_identity::open(&there.path("server")).expect("a key is made").id();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let on = format!("plain:{}", listener.local_addr().expect("it listens"));

    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("gx connects");
        let mut socket = tokio_tungstenite::accept_async(stream).await.expect("it is a WebSocket");
        let mut asked: Vec<(Instant, String)> = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(&text).expect("a frame is JSON");
            let answer = match frame["t"].as_str() {
                Some("hello") => json!({
                    "t": "welcome", "user": "Navy7", "server": server, "now": 0,
                    "limits": { "text_bytes": 99, "per_s": 1, "burst": 1, "page": 200, "retention_s": 9 },
                    "rights": { "groups": [
                        { "g": "n", "name": "navy", "r": true, "w": true, "first": 1, "last": 1, "read": 0 }
                    ], "default": "n" },
                }),
                Some("hist") => {
                    asked.push((Instant::now(), text.to_string()));
                    let (id, wait) = (&frame["id"], WAIT.as_millis() as u64);
                    match asked.len() {
                        1 | 2 => json!({
                            "t": "error", "id": id, "code": "rate", "fatal": false, "retry_ms": wait,
                            "msg": "too many at once",
                        }),
                        _ => json!({ "t": "page", "id": id, "g": "n", "more": false, "m": [
                            { "seq": 1, "ts": 0, "from": "Navy7", "cid": "a", "text": "all well", "h": "A".repeat(43) }
                        ]}),
                    }
                }
                _ => continue,
            };
            socket.send(Message::text(answer.to_string())).await.expect("gx reads");
        }
        asked
    });

    let args = ["--on", &on, "chat", "history", "--as", "Navy7", "--password-file", "pw"];
    let history = tokio::task::block_in_place(|| there.ok(&args));
    assert_eq!(history, "1970-01-01 00:00:00 n Navy7: all well\n");
    let asked = serving.await.expect("the server comes to its end");
    assert_eq!(asked.len(), 3, "{asked:?}");
    for pair in asked.windows(2) {
        let [(before, question), (after, again)] = pair else { unreachable!("windows of two") };
        assert_eq!(question, again, "the same question");
        assert!(after.duration_since(*before) >= WAIT, "it was told to wait");
    }
}
