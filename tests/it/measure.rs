//! `gx peers measure` against real hosts, over TLS: what it tells, and what becomes of hosts that will not be measured.

use std::io::Read as _;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Surroundings, installation, run, signal};

fn number(report: &Value, key: &str) -> f64 {
    report[key].as_f64().unwrap_or_else(|| panic!("{key} is no number: {report}"))
}

#[test]
fn a_host_is_measured_quickly_fully_and_sparingly() {
    // More than a stranger has by default: three tests of a host on loopback come close together.
    let host =
        Surroundings::new().configured("[server.measure]\nstranger = \"100 GiB\"\nstrangers = \"100 GiB\"\n");
    let host = host.serve();
    let here = Surroundings::new().configured("[plugins.speedtest]\nisolation = \"process\"\n");
    for (flag, mode, most) in
        [("--quick", "quick", 100.5e6), ("--full", "full", 250.5e6), ("--metered", "metered", 25.5e6)]
    {
        let report = here.json(&["peers", "measure", flag, &host.address]);
        assert_eq!((&report["mode"], &report["tls"]), (&json!(mode), &json!(true)), "{report}");
        assert_eq!(report["node_id"], json!(host.node), "who has proved it: {report}");
        assert_eq!((&report["address"], &report["peer"]), (&json!(host.address), &json!(host.address)));
        assert!(
            number(&report, "connect_ms") > 0.0 && number(&report["latency_ms"], "min") > 0.0,
            "{report}"
        );
        for way in ["down", "up"] {
            let field = |name: &str| format!("{name}_{way}");
            assert!(number(&report, &field("bytes")) <= most, "{report}");
            assert!(number(&report, &field("secs")) > 0.0, "{report}");
            let stop = report[field("stop")].as_str().expect("a word");
            assert!(["stable", "bytes", "time"].contains(&stop), "{report}");
            let sure = report[field("confidence")].as_str().expect("a word");
            assert!(["high", "medium", "low"].contains(&sure), "{report}");
            assert!(stop != "bytes" || sure == "low", "a lower bound is not sure: {report}");
            assert!(!report[field("doubts")].to_string().contains("compressible"), "{report}");
        }
        assert!(number(&report, "download_bps") > 1e6 && number(&report, "upload_bps") > 1e6, "{report}");
        assert_eq!(report["streams"], 4, "{report}");
        assert!(report["measured_at"].is_string() && report["congestion_control"].is_string(), "{report}");
    }
}

#[test]
fn one_way_alone_and_by_ipv6_and_with_words() {
    let host = Surroundings::new();
    let host = host.serve_at("[::1]:0");
    let here = Surroundings::new();
    let report = here.json(&["peers", "measure", "--metered", "--no-upload", &host.address]);
    assert!(report["download_bps"].is_number() && report["upload_bps"].is_null(), "{report}");
    assert!(report["stop_up"].is_null() && report["latency_up_ms"].is_null(), "{report}");
    let pings = here.json(&["peers", "measure", "--no-upload", "--no-download", &host.address]);
    assert!(pings["download_bps"].is_null() && number(&pings["latency_ms"], "median") > 0.0, "{pings}");
    let text = here.ok(&["--on", &host.address, "peers", "measure", "--metered"]);
    for word in ["latency", "download", "upload", "Mbit/s", "confidence", "jitter"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn the_rate_is_drawn_on_a_terminal() {
    let host = Surroundings::new();
    let host = host.serve();
    let here = Surroundings::new();
    let gx = installation().join("bin/gx");
    let line = format!("{} peers measure --quick {}", gx.display(), host.address);
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(here.path(""));
    let (silent, keyboard) = std::io::pipe().expect("a pipe can be made");
    command.env("GX_DATA_DIR", here.data()).env("TERM", "xterm").stdin(silent);
    let ended = run(command);
    drop(keyboard);
    assert_eq!(ended.code, 0, "{ended:?}");
    let drawn = ended.stdout.matches("Mbit/s").count();
    assert!(drawn >= 4, "a line again and again, and the summary: {ended:?}");
    assert!(ended.stdout.chars().any(|c| ('▁'..='█').contains(&c)), "{ended:?}");
}

#[test]
fn who_has_measured_enough_is_told_when_to_come_back_and_the_owner_is_not() {
    let owner = Surroundings::new().configured("[server.measure]\nstranger = \"1MB\"\n");
    let host = owner.serve();
    let stranger = Surroundings::new();
    stranger.gx(&["peers", "measure", "--metered", &host.address]);
    let ended = stranger.gx(&["--json", "peers", "measure", "--metered", &host.address]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).expect("the report is there all the same");
    assert!(number(&report["latency_ms"], "median") > 0.0, "pings are always answered: {report}");
    assert_eq!(report["error_down"]["code"], "ResourceExhausted", "{report}");
    assert!(report["error_down"]["retry_after_ms"].is_number(), "{report}");
    let error: Value = serde_json::from_str(ended.stderr.lines().last().expect("an error")).expect("JSON");
    assert!(error["error"]["hints"].to_string().contains("try again in"), "{error}");
    // With the host's own key, which the plugin never sees.
    let report = owner.json(&["peers", "measure", "--metered", &host.address]);
    assert!(number(&report, "bytes_down") > 2e6, "{report}");
}

#[test]
fn a_host_that_is_not_there_or_another_is_not_measured() {
    let here = Surroundings::new();
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let ended = here.gx(&["peers", "measure", &nobody.to_string()]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("hint"), "{ended:?}");
    let (one, other) = (Surroundings::new(), Surroundings::new());
    let (one, other) = (one.serve(), other.serve());
    let ended = here.gx(&["peers", "measure", &format!("{}@{}", other.node, one.address)]);
    assert_ne!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains(&one.node) && ended.stdout.is_empty(), "{ended:?}");
    for args in [
        &["peers", "measure"][..],
        &["peers", "measure", "local"],
        &["peers", "measure", "--quick", "--full", "x"],
    ] {
        assert_eq!(here.gx(args).code, 2, "{args:?}");
    }
}

#[test]
fn a_silent_host_is_given_up_and_ctrl_c_ends_at_once() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("plain:{}", silent.local_addr().expect("an address"));
    let here = Surroundings::new();
    let began = Instant::now();
    let ended = here.gx(&["peers", "measure", &address]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("hint") && began.elapsed() < Duration::from_secs(30), "{ended:?}");

    let mut command = here.command(&["peers", "measure", &address]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gx starts");
    // The first that came is of the command above, and over.
    drop(silent.accept().expect("somebody has connected"));
    let (mut asking, _) = silent.accept().expect("somebody connects");
    asking.read_exact(&mut [0; 4]).expect("it asks");
    let began = Instant::now();
    signal(child.id(), "INT");
    let status = child.wait().expect("gx ends");
    assert_eq!(status.code(), Some(130));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
