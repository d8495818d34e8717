//! What the engine's errors mean: the one table from its words to [`RuntimeError`].
//!
//! The engine's statuses alone say little (a taken port and an unreachable registry are both 500), so its texts
//! decide. They are those of moby 20.10 and later, with what they pass on from runc, containerd and registries.

use std::io;

use bollard::errors::Error;
use gx_core::{ErrorCode, RuntimeError};

use crate::config::Endpoint;

const START: &str = "start it: `systemctl start docker`";

/// Returns what an error of the client means. `endpoint` is where the engine was looked for.
pub(crate) fn runtime_error(error: Error, endpoint: &Endpoint) -> RuntimeError {
    match error {
        Error::DockerResponseServerError { status_code, message } => from_text(status_code, &message),
        Error::DockerStreamError { error } => from_text(500, &error),
        Error::RequestTimeoutError => {
            RuntimeError::new(ErrorCode::DeadlineExceeded, "the docker engine did not answer in time")
                .hint("see whether it hangs: `systemctl status docker`")
        }
        Error::HyperLegacyError { err } => {
            let cause = io_cause(&err).map(|cause| (cause.kind(), cause.to_string()));
            match cause {
                Some((kind, text)) if err.is_connect() => unreachable(kind, &text, endpoint),
                _ => broken(&chain(&err)),
            }
        }
        Error::IOError { err } => broken(&err.to_string()),
        Error::HyperResponseError { err } => broken(&chain(&err)),
        other => RuntimeError::new(ErrorCode::Internal, "the docker engine's answer makes no sense")
            .backend(other.to_string()),
    }
}

/// Says that the engine cannot be reached.
pub(crate) fn unreachable(kind: io::ErrorKind, text: &str, endpoint: &Endpoint) -> RuntimeError {
    let error = |code, message: String| RuntimeError::new(code, message).backend(text);
    match kind {
        io::ErrorKind::NotFound => {
            error(ErrorCode::Unavailable, format!("there is no docker engine at {endpoint}")).hint(format!(
                "{START}, or install it; an engine elsewhere is named by `host` in [plugins.docker.config]"
            ))
        }
        io::ErrorKind::PermissionDenied => error(
            ErrorCode::PermissionDenied,
            format!("this user may not use the docker engine at {endpoint}"),
        )
        .hint("join the group docker: `sudo usermod -aG docker $USER`, then log in again"),
        _ => error(ErrorCode::Unavailable, format!("the docker engine at {endpoint} does not answer"))
            .hint(START),
    }
}

fn broken(text: &str) -> RuntimeError {
    RuntimeError::new(ErrorCode::Unavailable, "the connection to the docker engine broke")
        .backend(text)
        .hint(START)
}

type Cause = dyn std::error::Error + 'static;

fn causes(error: &Cause) -> impl Iterator<Item = &Cause> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let this = next?;
        next = this.source();
        Some(this)
    })
}

fn io_cause(error: &Cause) -> Option<&io::Error> {
    causes(error).find_map(|error| error.downcast_ref())
}

fn chain(error: &Cause) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What a text of the engine means.
struct Rule {
    says: &'static str,
    code: ErrorCode,
    field: &'static str,
    hint: &'static str,
}

const fn rule(says: &'static str, code: ErrorCode, field: &'static str) -> Rule {
    Rule { says, code, field, hint: "" }
}

impl Rule {
    const fn hint(mut self, hint: &'static str) -> Self {
        self.hint = hint;
        self
    }
}

const OTHER_PORT: &str = "choose another port, or none to let one be chosen";
const LOGIN: &str = "if it is a private image, give a user and a password";
const REGISTRY: &str = "see whether this machine reaches the registry";

/// The first that fits holds, so the special ones come first.
const RULES: &[Rule] = &[
    rule("no space left on device", ErrorCode::ResourceExhausted, "").hint("free some: `docker system df`"),
    // start
    rule("port is already allocated", ErrorCode::AlreadyExists, "ports").hint(OTHER_PORT),
    rule("address already in use", ErrorCode::AlreadyExists, "ports").hint(OTHER_PORT),
    rule("cannot assign requested address", ErrorCode::InvalidArgument, "ports"),
    rule("could not select device driver", ErrorCode::FailedPrecondition, "gpus")
        .hint("install the NVIDIA container toolkit on the host, and restart docker"),
    rule("nvidia-container-cli", ErrorCode::FailedPrecondition, "gpus")
        .hint("see whether the host's GPUs and driver are well: nvidia-smi"),
    rule("unable to find user", ErrorCode::InvalidArgument, "user"),
    rule("unable to find group", ErrorCode::InvalidArgument, "user"),
    rule("no matching entries in", ErrorCode::InvalidArgument, "user"),
    rule("chdir to cwd", ErrorCode::InvalidArgument, "workdir"),
    rule("the working directory", ErrorCode::InvalidArgument, "workdir"),
    rule("unable to start container process", ErrorCode::InvalidArgument, "command"),
    rule("executable file not found", ErrorCode::InvalidArgument, "command"),
    rule("No command specified", ErrorCode::InvalidArgument, "command"),
    rule("No exec command specified", ErrorCode::InvalidArgument, "argv"),
    // create
    rule("Minimum memory limit", ErrorCode::InvalidArgument, "resources.memory_bytes"),
    rule("Range of CPUs", ErrorCode::InvalidArgument, "resources.milli_cpus"),
    rule("unknown capability", ErrorCode::InvalidArgument, "security.capabilities"),
    rule("Conflict. The container name", ErrorCode::AlreadyExists, "name"),
    rule("Invalid signal", ErrorCode::InvalidArgument, "signal"),
    rule("does not support signal", ErrorCode::InvalidArgument, "signal"),
    // what is there, and in which state
    rule("No such container", ErrorCode::NotFound, ""),
    rule("No such exec instance", ErrorCode::NotFound, ""),
    rule("No such image", ErrorCode::NotFound, "image").hint("pull it first"),
    rule("Could not find the file", ErrorCode::NotFound, "path"),
    rule("extraction point is not a directory", ErrorCode::InvalidArgument, "path"),
    rule("pathcannot be empty", ErrorCode::InvalidArgument, "path"),
    rule("marked read-only", ErrorCode::FailedPrecondition, "path"),
    rule("read-only file system", ErrorCode::FailedPrecondition, "path"),
    rule("Error processing tar file", ErrorCode::InvalidArgument, "archive"),
    rule("archive/tar:", ErrorCode::InvalidArgument, "archive"),
    rule("is not running", ErrorCode::FailedPrecondition, ""),
    rule("is paused", ErrorCode::FailedPrecondition, ""),
    rule("You cannot remove a", ErrorCode::FailedPrecondition, "")
        .hint("stop it first, or remove it by force"),
    rule("conflict: unable to", ErrorCode::FailedPrecondition, "image").hint("remove its containers first"),
    rule("image is being used", ErrorCode::FailedPrecondition, "image").hint("remove its containers first"),
    // build
    rule("Cannot locate specified Dockerfile", ErrorCode::InvalidArgument, "containerfile"),
    rule("file parse error", ErrorCode::InvalidArgument, "containerfile"),
    // registries
    rule("no basic auth credentials", ErrorCode::Unauthenticated, "auth").hint(LOGIN),
    rule("incorrect username or password", ErrorCode::Unauthenticated, "auth"),
    rule("unauthorized", ErrorCode::Unauthenticated, "auth").hint(LOGIN),
    rule("authentication required", ErrorCode::Unauthenticated, "auth").hint(LOGIN),
    rule("no matching manifest", ErrorCode::NotFound, "platform"),
    rule("does not match the specified platform", ErrorCode::NotFound, "platform"),
    rule("pull access denied", ErrorCode::NotFound, "image").hint(LOGIN),
    rule("manifest unknown", ErrorCode::NotFound, "image"),
    rule("name unknown", ErrorCode::NotFound, "image"),
    rule("not found: does not exist", ErrorCode::NotFound, "image"),
    rule("toomanyrequests", ErrorCode::ResourceExhausted, "").hint("wait, or log in at the registry"),
    rule("dial tcp", ErrorCode::Unavailable, "").hint(REGISTRY),
    rule("no such host", ErrorCode::Unavailable, "").hint(REGISTRY),
    rule("TLS handshake", ErrorCode::Unavailable, "").hint(REGISTRY),
    rule("i/o timeout", ErrorCode::Unavailable, "").hint(REGISTRY),
    rule("Client.Timeout exceeded", ErrorCode::Unavailable, "").hint(REGISTRY),
    rule("server gave HTTP response to HTTPS client", ErrorCode::Unavailable, "")
        .hint("name the registry under `insecure-registries` in /etc/docker/daemon.json"),
];

/// Returns what a text of the engine, with the status it came with, means.
pub(crate) fn from_text(status: u16, text: &str) -> RuntimeError {
    let text = text.trim();
    let Some(rule) = RULES.iter().find(|rule| text.contains(rule.says)) else {
        return RuntimeError::new(by_status(status), plain(text)).backend(text);
    };
    let message = match rule.field {
        "ports" => taken_port(text),
        "command" => unrunnable(text),
        _ => None,
    };
    let mut error =
        RuntimeError::new(rule.code, message.unwrap_or_else(|| plain(text).to_owned())).backend(text);
    if !rule.field.is_empty() {
        error = error.field(rule.field);
    }
    if !rule.hint.is_empty() {
        error = error.hint(rule.hint);
    }
    error
}

fn by_status(status: u16) -> ErrorCode {
    match status {
        400 => ErrorCode::InvalidArgument,
        401 => ErrorCode::Unauthenticated,
        403 => ErrorCode::PermissionDenied,
        404 => ErrorCode::NotFound,
        409 => ErrorCode::FailedPrecondition,
        501 => ErrorCode::Unsupported,
        502..=504 => ErrorCode::Unavailable,
        _ => ErrorCode::Internal,
    }
}

/// Prefixes that name the engine's parts, and say nothing to those who use it.
const PARTS: &[&str] = &[
    "failed to create shim task: ",
    "failed to create task for container: ",
    "OCI runtime create failed: ",
    "OCI runtime exec failed: ",
    "runc create failed: ",
    "container_linux.go:380: starting container process caused: ",
    "exec failed: ",
    "unable to start container process: ",
    "error during container init: ",
    "Error response from daemon: ",
];

/// Returns the engine's text as a message: without its parts' names, in lower case, without a full stop.
pub(crate) fn plain(text: &str) -> String {
    let mut rest = text.trim();
    while let Some(stripped) = PARTS.iter().find_map(|part| rest.strip_prefix(part)) {
        rest = stripped;
    }
    let rest = rest.strip_suffix(": unknown").unwrap_or(rest).trim_end_matches('.');
    let mut letters = rest.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            format!("{}{}", first.to_lowercase(), letters.as_str())
        }
        (None, _) => "the docker engine gave no reason".to_owned(),
        _ => rest.to_owned(),
    }
}

/// `Bind for 127.0.0.1:80 failed: …`, `listen tcp4 127.0.0.1:80: bind: …`.
fn taken_port(text: &str) -> Option<String> {
    let address = match text.split_once("Bind for ") {
        Some((_, rest)) => rest.split(' ').next()?,
        None => text.split_once("listen ")?.1.split(' ').nth(1)?.trim_end_matches(':'),
    };
    let why = if text.contains("cannot assign") {
        "cannot be had: the machine has no such address"
    } else {
        "is taken"
    };
    Some(format!("port {address} {why}"))
}

/// `exec: "x": executable file not found in $PATH`.
fn unrunnable(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("exec: \"")?;
    let (command, why) = rest.split_once("\": ")?;
    Some(format!("the command `{command}` cannot be run: {}", plain(why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_says_gets_a_code_a_field_and_a_message() {
        use ErrorCode::*;
        let cases = [
            (
                500,
                "driver failed programming external connectivity on endpoint a (6ef6): Bind for 127.0.0.1:23456 failed: \
                 port is already allocated",
                (AlreadyExists, Some("ports"), "port 127.0.0.1:23456 is taken"),
            ),
            (
                500,
                "driver failed programming external connectivity on endpoint a (74ee): Error starting userland proxy: \
                 listen tcp4 127.0.0.1:23457: bind: address already in use",
                (AlreadyExists, Some("ports"), "port 127.0.0.1:23457 is taken"),
            ),
            (
                400,
                "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container \
                 process: exec: \"nonexist\": executable file not found in $PATH: unknown",
                (
                    InvalidArgument,
                    Some("command"),
                    "the command `nonexist` cannot be run: executable file not found in $PATH",
                ),
            ),
            (
                409,
                "Conflict. The container name \"/a\" is already in use by container \"7d3b\". You have to remove (or \
                 rename) that container to be able to reuse that name.",
                (
                    AlreadyExists,
                    Some("name"),
                    "conflict. The container name \"/a\" is already in use by container \"7d3b\". You have to remove \
                     (or rename) that container to be able to reuse that name",
                ),
            ),
            (
                500,
                "could not select device driver \"\" with capabilities: [[gpu]]",
                (
                    FailedPrecondition,
                    Some("gpus"),
                    "could not select device driver \"\" with capabilities: [[gpu]]",
                ),
            ),
            (
                400,
                "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container \
                 process: error during container init: error running hook #0: error running hook: exit status 1, \
                 stdout: , stderr: nvidia-container-cli: device error: GPU-aa: unknown device: unknown",
                (
                    FailedPrecondition,
                    Some("gpus"),
                    "error running hook #0: error running hook: exit status 1, stdout: , stderr: \
                     nvidia-container-cli: device error: GPU-aa: unknown device",
                ),
            ),
            (404, "No such image: nope:1", (NotFound, Some("image"), "no such image: nope:1")),
            (404, "No such container: x", (NotFound, None, "no such container: x")),
            (
                500,
                "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host",
                (
                    Unavailable,
                    None,
                    "get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host",
                ),
            ),
            (500, "something new", (Internal, None, "something new")),
            (500, "", (Internal, None, "the docker engine gave no reason")),
        ];
        for (status, text, (code, field, message)) in cases {
            let error = from_text(status, text);
            assert_eq!((error.code, error.field.as_deref(), error.message.as_str()), (code, field, message));
            assert_eq!(error.backend.as_deref(), Some(text));
        }
    }

    #[test]
    fn an_engine_that_is_down_says_how_to_start_it() {
        let endpoint = Endpoint::Unix(vec!["/x.sock".into()]);
        for (kind, code, hint) in [
            (io::ErrorKind::NotFound, ErrorCode::Unavailable, "systemctl start docker"),
            (io::ErrorKind::ConnectionRefused, ErrorCode::Unavailable, "systemctl start docker"),
            (io::ErrorKind::PermissionDenied, ErrorCode::PermissionDenied, "group docker"),
        ] {
            let error = unreachable(kind, "why", &endpoint);
            assert_eq!(error.code, code);
            assert!(error.message.contains("unix:///x.sock"), "{error}");
            assert!(error.hint.unwrap().contains(hint));
        }
    }
}
