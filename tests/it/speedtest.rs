//! The bundled measurement, loaded as gx loads it, against a host of gx: in this process and in a child.

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::support::{Surroundings, eventually, run};

/// Calls a method of the plugin; returns what it streamed and, last, what it answered.
fn call(here: &Surroundings, method: &str, body: &Value) -> Vec<Value> {
    let ended = run(here.command(&["--json", "plugin", "run", "speedtest", method, &body.to_string()]));
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.stdout.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

#[test]
fn a_host_is_measured_through_the_loaded_plugin() {
    for isolation in ["inline", "process"] {
        let generous = "[server.measure]\nstranger = \"100 GiB\"\nstrangers = \"100 GiB\"\n";
        let here = Surroundings::new().configured(generous);
        let host = here.serve();
        let here =
            Surroundings::new().configured(&format!("[plugins.speedtest]\nisolation = \"{isolation}\"\n"));
        let listed = here.json(&["plugin", "list"]);
        let plugins = listed.as_array().or(listed["plugins"].as_array()).expect("a list");
        let plugin = plugins.iter().find(|plugin| plugin["name"] == "speedtest").expect("it is bundled");
        assert_eq!(
            (&plugin["kind"], &plugin["isolation"]),
            (&json!("measurement"), &json!(isolation)),
            "{plugin}"
        );

        let target = json!({ "address": host.address, "node_id": host.node });
        // A stall of the machine may cost one measurement a ping.
        let latency = eventually("a measurement without loss", || {
            let latency = call(&here, "latency", &json!({ "target": target })).pop().expect("an answer");
            (latency["loss"] == 0.0).then_some(latency)
        });
        assert!(latency["median_ms"].as_f64().expect("a time") > 0.0, "{latency}");

        // Long enough for windows, and few enough bytes for any machine.
        let budget =
            json!({ "bytes": 4_000_000_000_u64, "time_ms": 1_500, "least_ms": 500, "window_ms": 50 });
        for method in ["download", "upload"] {
            let told = call(&here, method, &json!({ "target": target, "budget": budget }));
            let (answer, readings) = told.split_last().expect("an answer");
            assert!(answer["goodput_bps"].as_f64().expect("a rate") > 1e6, "{answer}");
            assert!(
                ["stable", "time", "bytes"].contains(&answer["stop"].as_str().expect("a word")),
                "{answer}"
            );
            assert_eq!((&answer["streams"], &answer["tls"]), (&json!(4), &json!(true)), "{answer}");
            let bytes: Vec<u64> =
                readings.iter().filter_map(|line| line["event"]["bytes"].as_u64()).collect();
            assert!(bytes.len() >= 3 && bytes.is_sorted(), "{isolation} {method} {readings:?}");
        }
    }
}

#[test]
fn another_node_than_the_one_that_is_meant_is_not_measured() {
    let (here, other) = (Surroundings::new(), Surroundings::new());
    let (host, stranger) = (here.serve(), other.serve());
    let body = json!({ "target": { "address": host.address, "node_id": stranger.node } }).to_string();
    let ended = here.gx(&["plugin", "run", "speedtest", "latency", &body]);
    assert_ne!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains(&host.node) && ended.stderr.contains(&stranger.node), "{ended:?}");
}

#[test]
fn a_peer_that_is_not_there_is_an_error_with_a_hint() {
    let here = Surroundings::new();
    let body = json!({ "target": { "address": "127.0.0.1:9", "plain": true } }).to_string();
    let ended = here.gx(&["plugin", "run", "speedtest", "latency", &body]);
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.stderr.contains("cannot connect to 127.0.0.1:9: connection refused"), "{ended:?}");
    assert!(ended.stderr.contains("hint"), "{ended:?}");
}

/// Starts a proxy that takes an upload whole before it passes it on, as many do; returns where it listens. It lives as long as
/// the test.
fn holding_proxy(to: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let address = listener.local_addr().expect("it has an address").to_string();
    let to = to.to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let to = to.clone();
            std::thread::spawn(move || hold(&client, &TcpStream::connect(to)?));
        }
    });
    address
}

/// Passes requests on, each when it is there to its end, and answers as they come.
fn hold(client: &TcpStream, host: &TcpStream) -> Result<()> {
    let (mut answers, mut back) = (host.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
    let mut client = BufReader::new(client);
    let mut host = host;
    loop {
        let (mut head, mut is_chunked) = (String::new(), false);
        loop {
            let mut line = String::new();
            if client.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "transfer-encoding: chunked\r\n" {
                is_chunked = true;
            } else if line == "\r\n" {
                break;
            } else {
                head += &line;
            }
        }
        let mut body = Vec::new();
        if is_chunked {
            while chunk(&mut client, &mut body)? {}
            head += &format!("content-length: {}\r\n", body.len());
        }
        host.write_all(format!("{head}\r\n").as_bytes())?;
        host.write_all(&body)?;
    }
}

/// Reads a chunk (RFC 9112, section 7.1); returns whether it was not the last.
fn chunk(client: &mut impl BufRead, body: &mut Vec<u8>) -> Result<bool> {
    let mut size = String::new();
    client.read_line(&mut size)?;
    let size = u64::from_str_radix(size.trim(), 16).map_err(std::io::Error::other)?;
    client.take(size).read_to_end(body)?;
    client.read_line(&mut String::new())?;
    Ok(size > 0)
}

#[test]
fn a_proxy_that_holds_uploads_back_is_noticed() {
    let (here, there) = (Surroundings::new(), Surroundings::new());
    let host = there.try_serve(&["--plain", "--listen", "127.0.0.1:0"]).expect("it serves");
    let proxy = holding_proxy(&host.address);
    let budget = json!({ "bytes": 200_000_000, "time_ms": 1_500, "least_ms": 1_000, "window_ms": 100 });
    let measure = |address: &str| {
        let target = json!({ "address": address, "plain": true });
        call(&here, "upload", &json!({ "target": target, "budget": budget })).pop().expect("an answer")
    };
    // The host tells of what the proxy sent when it had all of it, which took no time.
    let held = measure(&proxy);
    assert_eq!(held["confidence"], "low", "{held}");
    let doubts = held["doubts"].to_string();
    assert!(doubts.contains("disagreement") || doubts.contains("unconfirmed"), "{held}");
    let straight = measure(&host.address);
    assert_eq!(straight["doubts"], json!([]), "{straight}");
}
