//! The bundled measurement, loaded as gx loads it, against a host of gx: in this process and in a child.

use serde_json::{Value, json};

use crate::support::{Surroundings, run};

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
        let latency = call(&here, "latency", &json!({ "target": target })).pop().expect("an answer");
        assert!(latency["median_ms"].as_f64().expect("a time") > 0.0, "{latency}");
        assert_eq!(latency["loss"], 0.0, "{latency}");

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
