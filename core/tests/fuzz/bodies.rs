//! What crosses into a plugin and back, as JSON: read or refused, and what is read is the same when it is written and
//! read again.

use gx_core::plugin::method::{
    BuildArgs, CopyArgs, CreateArgs, EventsArgs, ExecArgs, IdArgs, ImageArgs, ListArgs, LogsArgs, PullArgs,
    RemoveArgs, SignalArgs, StatsArgs, StopArgs,
};
use gx_core::plugin::{Container, RuntimeError};
use gx_core::runtime::{Capabilities, Event, Health, RuntimeInfo, Stats};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::mutate::{cases, corpus, inputs};

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "null",
    "true",
    "-0",
    "1e400",
    "18446744073709551616",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "\"id\":",
    "\"spec\":",
    "\"name\":",
    "\"image\":",
    "\"labels\":",
    "\"env\":",
    "\"gpus\":",
    "\"all\"",
    "\"ports\":",
    "\"container_port\":",
    "\"host_address\":",
    "\"::1\"",
    "\"created_at\":",
    "\"2026-11-22T00:00:00Z\"",
    "\"../..\"",
];

fn again<T: Serialize + DeserializeOwned>(input: &[u8]) -> Result<(), TestCaseError> {
    let Ok(value) = serde_json::from_slice::<T>(input) else { return Ok(()) };
    let text = serde_json::to_string(&value).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let second: T =
        serde_json::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
    prop_assert_eq!(serde_json::to_string(&second).expect("it was written before"), text);
    Ok(())
}

fn all(input: &[u8]) -> Result<(), TestCaseError> {
    again::<PullArgs>(input)?;
    again::<ImageArgs>(input)?;
    again::<BuildArgs>(input)?;
    again::<CreateArgs>(input)?;
    again::<IdArgs>(input)?;
    again::<SignalArgs>(input)?;
    again::<ExecArgs>(input)?;
    again::<CopyArgs>(input)?;
    again::<StopArgs>(input)?;
    again::<RemoveArgs>(input)?;
    again::<ListArgs>(input)?;
    again::<LogsArgs>(input)?;
    again::<StatsArgs>(input)?;
    again::<EventsArgs>(input)?;
    again::<Container>(input)?;
    again::<Capabilities>(input)?;
    again::<RuntimeInfo>(input)?;
    again::<Health>(input)?;
    again::<Stats>(input)?;
    again::<Event>(input)?;
    again::<RuntimeError>(input)
}

#[test]
fn the_corpus_is_read() {
    for input in corpus("bodies") {
        all(&input).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(3_000), ..ProptestConfig::default() })]
    #[test]
    fn a_body_is_read_or_refused(input in inputs("bodies", WORDS)) {
        all(&input)?;
    }
}
