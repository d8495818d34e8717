//! A configuration file: a configuration, or an error whose place is in the file.

use gx_core::config::Config;
use proptest::prelude::*;

use crate::mutate::{cases, corpus, inputs};

const WORDS: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    "\"",
    "'''",
    "\"\"\"",
    "#",
    "\\u0000",
    "\\U0010FFFF",
    "\u{feff}",
    "ä",
    "\u{202e}",
    "nan",
    "-inf",
    "0x",
    "1e999",
    "9223372036854775808",
    "1979-05-27T07:32:00Z",
    "true",
    "[server]",
    "[server.limits]",
    "[plugins.docker]",
    "[plugins.docker.config]",
    "[client]",
    "listen = ",
    "ports = ",
    "ttl = ",
    "memory = ",
    "enabled = ",
    "\"20000-60000\"",
    "\"8GiB\"",
    "\"2h\"",
    "\"127.0.0.1:7466\"",
];

fn read(input: &[u8]) -> Result<(), TestCaseError> {
    let text = String::from_utf8_lossy(input);
    let error = match Config::from_text("gx.toml", &text) {
        Ok(config) => {
            let shown = format!("{config:?}"); // it is logged
            prop_assert!(!shown.is_empty());
            return Ok(());
        }
        Err(error) => error,
    };
    let lines = text.matches('\n').count() + 1;
    prop_assert!(error.line <= lines, "line {} of {lines}", error.line);
    prop_assert!(error.line == 0 || (error.column >= 1 && error.width >= 1));
    prop_assert!(error.column <= error.source_line.chars().count() + 2, "{error:?}");
    prop_assert!(!error.message.is_empty() && !error.message.contains('\n'), "{:?}", error.message);
    prop_assert!(!error.snippet().is_empty() || error.line == 0);
    Ok(())
}

#[test]
fn the_corpus_is_read() {
    for input in corpus("config") {
        read(&input).unwrap();
    }
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/config.toml");
    read(&std::fs::read(example).unwrap()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(4_000), ..ProptestConfig::default() })]
    #[test]
    fn a_configuration_is_one_or_an_error_in_its_place(input in inputs("config", WORDS)) {
        read(&input)?;
    }
}
