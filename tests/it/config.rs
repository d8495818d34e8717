//! The configuration file: the shipped example is loaded and used, and every mistake is shown with its place.

use crate::support::{ENGINES, IMAGE, Removed, Surroundings, root, unique};

#[test]
fn the_example_selects_the_runtime_of_a_create() {
    let example = std::fs::read_to_string(root().join("examples/config.toml")).expect("the example is there");
    for engine in ENGINES {
        let text = example.replace("runtime = \"podman\"", &format!("runtime = \"{engine}\""));
        let runtime = gx_core::config::Config::from_text("", &text).expect("it loads").client.runtime;
        assert_eq!(runtime.expect("the example selects a runtime").as_str(), engine);
        let here = Surroundings::new().configured(&text);
        let name = unique("example");
        let _removed = Removed(engine, format!("gx-{name}"));
        let made = here.json(&["create", "--name", &name, IMAGE, "--", "sleep", "1000"]);
        assert_eq!(made["runtime"], engine);
        here.ok(&["rm", "-f", &name]);
    }
}

#[test]
fn a_file_that_config_init_writes_is_one_that_config_check_takes() {
    let here = Surroundings::new();
    let file = here.path("made.toml").display().to_string();
    here.ok(&["--config", &file, "config", "init"]);
    here.ok(&["--config", &file, "config", "check"]);
    let again = here.gx(&["--config", &file, "config", "init"]);
    assert_ne!(again.code, 0, "a file that is there is not overwritten");
}

#[test]
fn every_mistake_is_shown_with_its_place_and_a_hint() {
    let cases = [
        ("[client]\nruntme = \"podman\"\n", "2:1", "did you mean `runtime`?"),
        ("[server]\nlisten = 7\n", "2:10", "invalid type"),
        ("[server.limits]\nmemory = \"lots\"\n", "2:10", "size"),
        ("[client\n", "1:", ""),
        ("[plugins.docker.config]\nhots = \"/x\"\n", "2:1", "did you mean `host`?"),
        ("[plugins.docker.config]\nhost = 7\n", "2:", "string"),
    ];
    for (text, place, word) in cases {
        let here = Surroundings::new().configured(text);
        let refused = here.gx(&["config", "check"]);
        assert_eq!(refused.code, 2, "{text}: {refused:?}");
        let said = &refused.stderr;
        assert!(said.contains(&format!("config.toml:{place}")), "{text}: {said}");
        assert!(said.contains(word), "{text}: {said}");
        assert!(said.contains('^'), "{text}: {said}");
    }
}

#[test]
fn a_file_that_is_not_text_is_an_error() {
    let here = Surroundings::new();
    std::fs::write(here.path("bad.toml"), [0xff, 0xfe, 0x00]).expect("a file can be written");
    let file = here.path("bad.toml").display().to_string();
    let refused = here.gx(&["--config", &file, "list"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("UTF-8"), "{refused:?}");
    let missing = here.gx(&["--config", "/nowhere/gx.toml", "list"]);
    assert_eq!(missing.code, 2, "{missing:?}");
}

#[test]
fn the_schema_refuses_unknown_keys() {
    let here = Surroundings::new();
    let schema: serde_json::Value = serde_json::from_str(&here.ok(&["config", "schema"])).expect("JSON");
    assert_eq!(schema["additionalProperties"], false);
}
