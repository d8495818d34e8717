//! What the engine says, in gx's words.

use std::time::Duration;

use gx_core::plugin::serde_json::{self, Value};
use gx_core::plugin::*;
use serde::Deserialize;

/// Returns each container of an answer to `inspect`.
pub(crate) fn all(said: &[u8]) -> Result<Vec<Value>> {
    serde_json::from_slice(said).map_err(unreadable)
}

/// Returns whether this is what the engine says of the container with this id.
pub(crate) fn is(said: &Value, id: &ContainerId) -> bool {
    said["Id"].as_str().is_some_and(|whole| whole.starts_with(id.as_str()))
}

/// Returns the container the engine speaks of.
pub(crate) fn container(said: &Value) -> Result<Container> {
    Inspected::deserialize(said).map_err(unreadable)?.try_into()
}

/// Returns how a container wants to be stopped: its signal, and how long it has.
pub(crate) fn stopping(said: &Value) -> (String, Duration) {
    let config = &said["Config"];
    // A name with one engine, a number with another.
    let signal = config["StopSignal"]
        .as_str()
        .map(str::to_owned)
        .or(config["StopSignal"].as_u64().map(|n| n.to_string()));
    let grace = config["StopTimeout"].as_u64().unwrap_or(10);
    (
        signal.filter(|signal| !signal.is_empty()).unwrap_or_else(|| "TERM".to_owned()),
        Duration::from_secs(grace),
    )
}

/// Returns the image of an answer to `image inspect`.
pub(crate) fn image(said: &[u8]) -> Result<Image> {
    let said: Value = serde_json::from_slice(said).map_err(unreadable)?;
    let image = &said[0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let id = text(&image["Id"]);
    Ok(Image {
        id: if id.contains(':') { id } else { format!("sha256:{id}") },
        tags: image["RepoTags"].as_array().into_iter().flatten().map(text).collect(),
        size_bytes: image["Size"].as_u64().unwrap_or_default(),
        created_at: time(&text(&image["Created"])),
        platform: format!("{}/{}", text(&image["Os"]), text(&image["Architecture"])),
        labels: Deserialize::deserialize(&image["Config"]["Labels"]).unwrap_or_default(),
        ..Image::default()
    })
}

/// Returns what the engine is, of an answer to `version`.
pub(crate) fn info(said: &[u8], program: &str) -> RuntimeInfo {
    let said: Value = serde_json::from_slice(said).unwrap_or_default();
    // An engine without a daemon has only a client.
    let engine = if said["Server"].is_object() { &said["Server"] } else { &said["Client"] };
    let text = |key: &str| engine[key].as_str().unwrap_or_default().to_owned();
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    RuntimeInfo {
        backend: program.rsplit('/').next().unwrap_or(program).to_owned(),
        version: text("Version"),
        api_version: text(if engine["ApiVersion"].is_string() { "ApiVersion" } else { "APIVersion" }),
        os: "linux".to_owned(),
        arch: arch.to_owned(),
        endpoint: program.to_owned(),
        ..RuntimeInfo::default()
    }
}

/// Returns the id a command has printed.
pub(crate) fn id(said: &[u8]) -> Result<ContainerId> {
    lines(said).pop().unwrap_or_default().parse().map_err(unreadable)
}

/// Returns the lines a command has printed.
pub(crate) fn lines(said: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(said)
        .lines()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    name: String,
    created: String,
    state: InspectedState,
    config: InspectedConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    status: String,
    started_at: String,
    finished_at: String,
    exit_code: i32,
    #[serde(rename = "OOMKilled", default)]
    oom_killed: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedConfig {
    image: String,
    #[serde(default)]
    labels: Option<std::collections::BTreeMap<String, String>>,
}

impl TryFrom<Inspected> for Container {
    type Error = RuntimeError;
    fn try_from(said: Inspected) -> Result<Self> {
        let state = state(&said.state.status);
        let exit = (state == ContainerState::Exited).then(|| Exit {
            oom_killed: said.state.oom_killed,
            finished_at: time(&said.state.finished_at),
            ..Exit::from_code(said.state.exit_code)
        });
        Ok(Self {
            id: said.id.parse().map_err(unreadable)?,
            name: said.name.trim_start_matches('/').to_owned(),
            image: said.config.image,
            state,
            created_at: time(&said.created),
            started_at: time(&said.state.started_at),
            exit,
            labels: said.config.labels.unwrap_or_default(),
            ports: Vec::new(),
        })
    }
}

fn state(word: &str) -> ContainerState {
    match word {
        "created" | "configured" | "initialized" => ContainerState::Created,
        "running" | "stopping" | "restarting" => ContainerState::Running,
        "paused" => ContainerState::Paused,
        "exited" | "stopped" => ContainerState::Exited,
        "removing" => ContainerState::Removing,
        _ => ContainerState::Unknown,
    }
}

// What has not happened yet is the year 1.
fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok().filter(|at: &Timestamp| at.unix() > 0)
}

fn unreadable(why: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::new(ErrorCode::Internal, format!("the engine's answer cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDED: &str = r#"[{"Id":"0123abcd","Name":"/web","Created":"2026-01-02T03:04:05.6Z",
        "State":{"Status":"exited","StartedAt":"2026-01-02T03:04:06Z","FinishedAt":"2026-01-02T03:04:07Z",
                 "ExitCode":137,"OOMKilled":false},
        "Config":{"Image":"alpine","Labels":{"gx.name":"web"},"StopSignal":15}}]"#;

    fn said(text: &str) -> Value {
        all(text.as_bytes()).unwrap().remove(0)
    }

    #[test]
    fn an_ended_container_has_an_exit() {
        let web = container(&said(ENDED)).unwrap();
        assert_eq!((web.name.as_str(), web.state), ("web", ContainerState::Exited));
        let exit = web.exit.unwrap();
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
        assert_eq!(stopping(&said(ENDED)), ("15".to_owned(), Duration::from_secs(10)));
        assert!(is(&said(ENDED), &"0123".parse().unwrap()));
    }

    #[test]
    fn one_that_never_began_has_no_times() {
        let text = ENDED.replace("exited", "created").replace("2026-01-02T03:04:06Z", "0001-01-01T00:00:00Z");
        let web = container(&said(&text)).unwrap();
        assert_eq!((web.started_at, web.exit), (None, None));
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(all(b"not json").is_err());
        assert!(container(&Value::Null).is_err());
        assert!(id(b"").is_err());
    }
}
