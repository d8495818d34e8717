//! Each key with each comparison and each kind of value, held against what the words mean.

use proptest::prelude::*;

use super::*;
use crate::measurement::{BitsPerSecond, Millis};
use crate::{NodeId, Timestamp};

const NUMBERS: [(&str, &str, f64); 7] = [
    ("gpu", "2", 2.0),
    ("gpu.memory", "24G", 24.0 * 1_073_741_824.0),
    ("cpus", "8", 8.0),
    ("memory", "16GiB", 16.0 * 1_073_741_824.0),
    ("latency", "20ms", 20.0),
    ("download", "100M", 100e6),
    ("upload", "2.5Gbit/s", 2.5e9),
];
const TEXTS: [&str; 5] = ["gpu.model", "runtime", "platform", "version", "label.region"];
const OPS: [&str; 6] = ["=", "!=", "<", "<=", ">", ">="];

fn record() -> PeerRecord {
    let node = NodeId::from_bytes([7; 32]);
    PeerRecord::new(node, 1, Timestamp::from_unix(1), PeerRecord::LEASE)
}

/// Makes a server that has this much of one thing.
fn having(key: &str, value: f64) -> (PeerRecord, Observation) {
    let (mut record, mut seen) = (record(), Observation::default());
    match key {
        "gpu" => record.gpus = vec![Gpu::default(); value as usize],
        "gpu.memory" => record.gpus = vec![Gpu { memory_bytes: value as u64, ..Gpu::default() }],
        "cpus" => record.cpus = value as u32,
        "memory" => record.memory_bytes = value as u64,
        "latency" => seen.latency_ms = Some(Millis(value)),
        "download" => seen.download_bps = Some(BitsPerSecond(value)),
        "upload" => seen.upload_bps = Some(BitsPerSecond(value)),
        _ => unreachable!(),
    }
    (record, seen)
}

fn fits(needs: &str, record: &PeerRecord, seen: &Observation) -> bool {
    needs
        .parse::<Needs>()
        .unwrap_or_else(|error| panic!("{needs}: {error}"))
        .misses(Some(record), seen)
        .is_empty()
}

#[test]
fn every_number_is_compared_as_its_sign_says() {
    for (key, value, needed) in NUMBERS {
        for found in [needed - 1.0, needed, needed + 1.0] {
            let meanings = [
                found == needed,
                found != needed,
                found < needed,
                found <= needed,
                found > needed,
                found >= needed,
            ];
            let (record, seen) = having(key, found);
            for (op, holds) in OPS.iter().zip(meanings) {
                for text in [format!("{key}{op}{value}"), format!(" ,{key} {op}  {value}, ")] {
                    assert_eq!(fits(&text, &record, &seen), holds, "{text} of {found}");
                }
            }
        }
    }
}

#[test]
fn every_text_is_compared_as_its_sign_says() {
    let mut server = record();
    server.gpus = vec![Gpu { model: "NVIDIA RTX 4090".to_owned(), memory_bytes: 1 }];
    server.runtimes = vec!["docker".parse().unwrap(), "podman".parse().unwrap()];
    server.platform = "linux/amd64".to_owned();
    server.version = "0.1.0".to_owned();
    server.labels.insert("region".to_owned(), "EU-North".to_owned());
    let right = ["*4090", "podman", "linux/*", "0.1.0", "eu-*"];
    let wrong = ["a100", "lxc", "windows/*", "0.2.0", "us-*"];
    for ((key, right), wrong) in TEXTS.iter().zip(right).zip(wrong) {
        let seen = Observation::default();
        let quoted = format!("{key}=\"{right}\"");
        let either = format!("{key}={wrong}|{right}");
        for (text, holds) in [
            (format!("{key}={right}"), true),
            (format!("{key}=={right}"), true),
            (quoted, true),
            (either, true),
            (format!("{key}!={right}"), false),
            (format!("{key}={wrong}"), false),
            (format!("{key}!={wrong}"), true),
        ] {
            assert_eq!(fits(&text, &server, &seen), holds, "{text}");
        }
        for op in &OPS[2..] {
            let error = format!("{key}{op}{right}").parse::<Needs>().unwrap_err();
            assert!(error.hint.contains("= or !="), "{error:?}");
        }
        let bare = record();
        assert!(!fits(&format!("{key}=*x*"), &bare, &seen), "{key} is nothing");
        assert_eq!(
            fits(&format!("{key}!=x"), &bare, &seen),
            *key != "gpu.model",
            "{key} is nothing, so not x"
        );
    }
}

#[test]
fn conditions_on_gpus_are_about_the_same_ones() {
    let gpu = |model: &str, gib: u64| Gpu { model: model.to_owned(), memory_bytes: gib << 30 };
    let mut server = record();
    server.gpus = vec![gpu("RTX 4090", 24), gpu("RTX 3060", 12), gpu("A100", 80)];
    let seen = Observation::default();
    for (needs, holds) in [
        ("gpu>=3", true),
        ("gpu=2 gpu.memory>=24G", true),
        ("gpu>=3 gpu.memory>=24G", false),
        ("gpu.model=*RTX* gpu.memory>=48G", false),
        ("gpu.memory>=48G", true),
        ("gpu.model=*RTX*, gpu=2", true),
        ("gpu<1", false),
        ("gpu=0 gpu.model=H100", true),
    ] {
        assert_eq!(fits(needs, &server, &seen), holds, "{needs}");
    }
    let needs: Needs = "gpu>=3 memory>=8G gpu.memory>=24G".parse().unwrap();
    let misses = needs.misses(Some(&server), &seen);
    assert_eq!(misses.len(), 2, "{misses:?}");
    assert_eq!(misses[0].need, "gpu>=3 gpu.memory>=24G");
    assert!(misses[0].because.starts_with("2 of its 3 GPUs fit: RTX 4090 with 24 GiB"), "{misses:?}");
    assert_eq!(misses[1].because, "it has 0 B");
}

#[test]
fn a_miss_says_what_there_is() {
    let needs: Needs = "cpus>=8 runtime=podman latency<5ms label.x=y gpu>=1".parse().unwrap();
    let mut server = record();
    server.cpus = 4;
    server.runtimes = vec!["docker".parse().unwrap()];
    let seen = Observation { latency_ms: Some(Millis(7.25)), ..Observation::default() };
    let told: Vec<String> = needs
        .misses(Some(&server), &seen)
        .iter()
        .map(|miss| format!("{}: {}", miss.need, miss.because))
        .collect();
    assert_eq!(
        told,
        [
            "cpus>=8: it has 4",
            "runtime=podman: it has docker",
            "latency<5ms: it has 7.2 ms",
            "label.x=y: it has none",
            "gpu>=1: it has no GPU"
        ]
    );
    let silent = needs.misses(None, &seen);
    assert_eq!(silent.len(), 5);
    assert!(silent.iter().filter(|miss| miss.because == SILENT).count() == 4, "{silent:?}");
}

#[test]
fn what_is_wrong_is_shown_with_its_place_and_a_suggestion() {
    for (text, column, width, hint) in [
        ("gpu>=1 memroy>=8G", 7, 6, "did you mean `memory`?"),
        ("gpu>=x", 5, 1, "as in gpu>=1"),
        ("gpu>=1 memory>=8Q", 15, 2, "as in memory>=8G"),
        ("gpu", 3, 1, "as in gpu>=1"),
        ("gpu=>1", 3, 2, "as in gpu>=1"),
        ("gpu 1", 4, 1, "as in gpu>=1"),
        ("gpu>=", 5, 1, "as in gpu>=1"),
        ("ärger>=1", 0, 1, "known: gpu, gpu.memory"),
        ("runtime=\"podman", 8, 7, "put another \" after the text"),
        ("runtime= , gpu=1", 9, 1, "as in runtime=podman"),
        ("latency<20", 8, 2, "as in latency<20ms"),
        ("label.=x", 0, 6, "known: "),
        ("gpu>=1 größe>=1", 7, 2, "known: "),
        ("download>=1e9", 10, 3, "as in download>=100M"),
        ("cpus>=-1", 6, 2, "as in cpus>=8"),
    ] {
        let error = text.parse::<Needs>().unwrap_err();
        assert!(error.hint.starts_with(hint), "{text}: {error:?}");
        assert_eq!((error.column, error.width), (column, width), "{text}: {error:?}");
        let snippet = error.snippet();
        assert_eq!(snippet.lines().last().unwrap().len(), column + width, "{snippet}");
    }
    assert_eq!(
        "gpu>=1 memroy>=8G".parse::<Needs>().unwrap_err().to_string(),
        "unknown need `memroy` at character 8 of the needs"
    );
    assert!("x".repeat(5_000).parse::<Needs>().is_err());
    assert!("".parse::<Needs>().unwrap().is_empty() && " , ".parse::<Needs>().unwrap().is_empty());
}

proptest! {
    #[test]
    fn any_text_is_needs_or_an_error_with_a_place(
        text in "([a-z.]{0,8}|gpu|memory|label\\.x|[<>=!]{0,2}|[0-9]{0,3}[GMk]?|\"|ä|,| |\\PC){0,10}"
    ) {
        match text.parse::<Needs>() {
            Ok(needs) => prop_assert_eq!(needs.to_string().parse::<Needs>().unwrap(), needs),
            Err(error) => {
                prop_assert!(error.width >= 1 && !error.hint.is_empty());
                prop_assert!(error.column <= text.chars().count());
            }
        }
    }
}
