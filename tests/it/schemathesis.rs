//! An API fuzzer led by our own `/openapi.json`: schemathesis asks a host with the mock as its runtime for what the
//! document allows and for what it does not, as the host's owner and as a stranger. No answer is a fault of the host,
//! none has a status, a type or a body that the document does not name, and no operation is left out.
//!
//! Seeded and bounded in number, so that a run is the same again on any machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{Host, Surroundings, plugin_file, root, run, run_within};

const VERSION: &str = "4.32.5";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance";
/// How many made-up requests each operation gets beside those of the coverage of its parameters.
const EXAMPLES: &str = "3";
/// They wait for a container's end, and for what happens, which no fuzzer has the time for.
const ENDLESS: [&str; 2] = ["/v1/containers/{id}/wait", "/v1/events"];
/// Prints what is at an address, whoever answers.
const FETCH: &str = "import ssl, sys, urllib.request as u; \
                     print(u.urlopen(sys.argv[1], context=ssl._create_unverified_context()).read().decode())";
/// Before an ed25519 seed, to make a private key of it (RFC 8410, section 7).
const PKCS8_HEAD: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

#[test]
fn the_owner_finds_no_fault() {
    let there = host_with_the_mock();
    let host = there.serve();
    let certificate = Certificate::of(&there);
    fuzzed(&there, &host, Some(&certificate));
}

#[test]
fn a_stranger_finds_no_fault() {
    let there = host_with_the_mock();
    let host = there.serve();
    fuzzed(&there, &host, None);
}

fn host_with_the_mock() -> Surroundings {
    let mock = plugin_file("mock");
    let digest = Sha256::digest(std::fs::read(&mock).expect("it was built"));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Surroundings::new().configured(&format!(
        "[plugins.docker]\nenabled = false\n[plugins.podman]\nenabled = false\n\
         [plugins.mock]\nkind = \"runtime\"\npath = {mock:?}\nsha256 = \"{digest}\"\n",
    ))
}

/// Runs the fuzzer, which must find nothing and leave nothing out.
fn fuzzed(there: &Surroundings, host: &Host, certificate: Option<&Certificate>) {
    let document = format!("https://{}/openapi.json", host.address);
    let tried = there.path("tried");
    let mut fuzzer = Command::new(venv().join("bin/schemathesis"));
    fuzzer.args(["--no-color", "run", &document, "--tls-verify=false"]);
    if let Some(Certificate { file, key }) = certificate {
        fuzzer.arg("--request-cert").arg(file).arg("--request-cert-key").arg(key);
    }
    fuzzer.args(["--phases", "coverage,fuzzing", "--max-examples", EXAMPLES, "--seed", "20261122"]);
    fuzzer.args(["--checks", CHECKS, "--continue-on-failure", "--generation-database", "none"]);
    fuzzer.args(["--no-shrink", "--request-timeout", "20", "--warnings", "off"]);
    fuzzer.args(ENDLESS.iter().flat_map(|path| ["--exclude-path", path]));
    fuzzer.env("SCHEMATHESIS_HOOKS", root().join("tests/schemathesis/hooks.py")).env("GX_TRIED", &tried);
    fuzzer.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(there.path(""));
    let ended = run_within(fuzzer, Duration::from_secs(500));
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    let tried = std::fs::read_to_string(tried).expect("the hook writes down what it tried");
    let left_out: Vec<String> =
        operations(&document).into_iter().filter(|one| !tried.lines().any(|line| line == one)).collect();
    assert!(left_out.is_empty(), "never answered: {left_out:?}");
}

/// Returns what the document has, but for what has no end.
fn operations(document: &str) -> BTreeSet<String> {
    let mut fetch = Command::new(venv().join("bin/python"));
    fetch.args(["-c", FETCH, document]);
    let fetched = run(fetch);
    let document: Value = serde_json::from_str(&fetched.stdout).unwrap_or_else(|_| panic!("{fetched:?}"));
    let paths = document["paths"].as_object().expect("the document has paths");
    // The document itself is what the fuzzer reads first, and is no operation to it.
    let asked = |path: &str| !ENDLESS.contains(&path) && path != "/openapi.json";
    let asked = paths.iter().filter(|(path, _)| asked(path));
    let operations: BTreeSet<String> = asked
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("a path has methods");
            methods.keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    assert!(operations.len() > 40, "{operations:?}");
    operations
}

/// A client certificate of the host's own key.
struct Certificate {
    file: PathBuf,
    key: PathBuf,
}

impl Certificate {
    fn of(there: &Surroundings) -> Self {
        let (file, key) = (there.path("owner.pem"), there.path("owner.key"));
        let seed = std::fs::read_to_string(there.data().join("node.key")).expect("the host has a key");
        let digits = seed.trim().as_bytes().chunks(2);
        let seed = digits.map(|pair| {
            let pair = std::str::from_utf8(pair).expect("digits");
            u8::from_str_radix(pair, 16).expect("hexadecimal digits")
        });
        let text = STANDARD.encode(PKCS8_HEAD.into_iter().chain(seed).collect::<Vec<_>>());
        let text = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        std::fs::write(&key, text).expect("a file can be written");
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-subj", "/CN=gx", "-days", "3650", "-key"])
            .arg(&key)
            .arg("-out")
            .arg(&file);
        let made = run(openssl);
        assert_eq!(made.code, 0, "{made:?}");
        Self { file, key }
    }
}

/// Returns a folder with the fuzzer. It is kept, and made once.
fn venv() -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("venv-schemathesis");
    let lock = std::fs::File::create(place.with_extension("lock")).expect("a file can be made");
    lock.lock().expect("a file can be locked");
    if !place.join("bin/schemathesis").exists() {
        let mut made = Command::new("python3");
        made.args(["-m", "venv", "--clear"]).arg(&place);
        assert_eq!(run(made).code, 0, "python3-venv makes {}", place.display());
        let mut installed = Command::new(place.join("bin/pip"));
        installed.args(["install", "--quiet", "--disable-pip-version-check"]);
        installed.arg(format!("schemathesis=={VERSION}"));
        let installed = run_within(installed, Duration::from_secs(300));
        assert_eq!(installed.code, 0, "{installed:?}");
    }
    place
}
