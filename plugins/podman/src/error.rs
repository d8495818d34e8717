//! What Podman says, told in the words of gx. The texts were seen with Podman 4.3.1.

use gx_core::plugin::*;

use crate::engine::EngineError;

/// How a service is started, for hints.
pub(crate) const HINT_START: &str = "start it with: systemctl start podman.socket (for rootless Podman: systemctl --user start podman.socket)";

/// Texts that tell what is wrong where the status, mostly 500, does not. The first that is found counts.
const TEXTS: &[(&str, ErrorCode)] = &[
    ("no such container", ErrorCode::NotFound),
    ("no container with", ErrorCode::NotFound),
    ("container has already been removed", ErrorCode::NotFound),
    ("image not known", ErrorCode::NotFound),
    ("no space left on device", ErrorCode::ResourceExhausted),
    ("cannot allocate memory", ErrorCode::ResourceExhausted),
    ("container state improper", ErrorCode::FailedPrecondition),
    ("invalid signal", ErrorCode::InvalidArgument),
    ("unknown capability", ErrorCode::InvalidArgument),
];

/// Returns the service's status and words, where it was the service that answered.
pub(crate) fn said(error: &EngineError) -> Option<(u16, &str)> {
    match error {
        EngineError::Fault { code, message } => Some((code.as_u16(), message)),
        _ => None,
    }
}

/// Returns whether the service said that there is no such container.
pub(crate) fn is_missing(error: &EngineError) -> bool {
    said(error).is_some_and(|(_, text)| code_of_text(text) == Some(ErrorCode::NotFound))
}

/// Returns whether the service failed because the main process ended while it looked.
pub(crate) fn is_ending(error: &EngineError) -> bool {
    said(error).is_some_and(|(_, text)| {
        let gone = ["no such process", "no such file or directory"];
        text.contains("/proc/") && text.contains("/cgroup: ") && gone.iter().any(|gone| text.ends_with(gone))
    })
}

/// Returns whether a container cannot be removed yet: what is mounted in it is in use for a moment after it was killed, or
/// its processes are, on a busy machine, not gone within the five seconds that Podman waits for them.
pub(crate) fn is_busy(error: &EngineError) -> bool {
    says(error, &["device or resource busy", "did not die within timeout"])
}

/// Returns whether the service met an image, or a layer of one, that was just removed. To say what one image is, it looks
/// at all that share a layer with it.
pub(crate) fn is_image_going(error: &EngineError) -> bool {
    says(
        error,
        &["image not known", "layer not known", "you may need to remove the image", "locating item named"],
    )
}

/// Returns whether the service met a volume that was just made, or removed.
pub(crate) fn is_volume_changing(error: &EngineError) -> bool {
    says(error, &["volume already exists", "no such volume", "volume has already been removed"])
}

fn says(error: &EngineError, any: &[&str]) -> bool {
    said(error).is_some_and(|(_, text)| any.iter().any(|mark| text.contains(mark)))
}

/// Returns the error in gx's terms; `doing` is what failed: `inspect of the container`.
pub(crate) fn translated(doing: &str, error: &EngineError) -> RuntimeError {
    let Some((status, text)) = said(error) else { return not_answered(doing, error) };
    let code = code_of_text(text).unwrap_or(match status {
        400 => ErrorCode::InvalidArgument,
        404 => ErrorCode::NotFound,
        409 => ErrorCode::FailedPrecondition,
        _ => ErrorCode::Internal,
    });
    RuntimeError::new(code, format!("{doing} failed: {}", short(text))).backend(text)
}

/// As [`translated`], for a call about a container: what is not there is the container.
pub(crate) fn about(id: &ContainerId, doing: &str, error: &EngineError) -> RuntimeError {
    if is_missing(error) {
        return RuntimeError::no_container(id).backend(error_text(error));
    }
    translated(doing, error)
}

/// As [`translated`], for a create.
pub(crate) fn of_create(spec: &ContainerSpec, error: &EngineError) -> RuntimeError {
    let Some((_, text)) = said(error) else { return not_answered("create", error) };
    if text.contains("image not known") {
        let message = format!("podman has no image {}", spec.image);
        return RuntimeError::new(ErrorCode::NotFound, message).field("image").backend(text);
    }
    let field = [
        ("unknown capability", "security.capabilities"),
        ("no command or entrypoint", "command"),
        ("host port", "ports"),
        ("port number", "ports"),
    ];
    match field.iter().find(|(mark, _)| text.contains(mark)) {
        Some((_, field)) => {
            RuntimeError::new(ErrorCode::InvalidArgument, format!("podman refuses it: {}", short(text)))
                .field(*field)
                .backend(text)
        }
        None => translated("create", error),
    }
}

/// As [`about`], for a start.
pub(crate) fn of_start(id: &ContainerId, error: &EngineError) -> RuntimeError {
    let Some((_, text)) = said(error) else { return not_answered("start", error) };
    let wrong = |field: &str, message: String| {
        RuntimeError::new(ErrorCode::InvalidArgument, message).field(field).backend(text)
    };
    if text.contains("address already in use") || text.contains("port is already allocated") {
        let message = match taken_port(text) {
            Some(port) => format!("port {port} is taken"),
            None => "a port is taken".to_owned(),
        };
        return RuntimeError::new(ErrorCode::AlreadyExists, message).field("ports").backend(text);
    }
    if text.contains("cannot assign requested address") {
        return wrong("ports", format!("the host has no such address: {}", short(text)));
    }
    if is_about_the_command(text) {
        return wrong("command", format!("the command cannot be run: {}", command_fault(text)));
    }
    if text.contains("setrlimit") || text.contains("setting rlimit") {
        let message = format!("podman may not set the limits it is configured with: {}", short(text));
        return RuntimeError::new(ErrorCode::PermissionDenied, message)
            .backend(text)
            .hint("set default_ulimits in containers.conf to what this machine allows");
    }
    if text.contains("no matching entries in passwd file") || text.contains("unable to find user") {
        return wrong("user", short(text).to_owned());
    }
    if text.starts_with("workdir ") {
        return wrong("workdir", short(text).to_owned());
    }
    if text.contains("CDI device") {
        return RuntimeError::new(ErrorCode::FailedPrecondition, "podman knows no such GPU on this machine")
            .field("gpus")
            .backend(text)
            .hint(
                "describe the GPUs to Podman by uuid: nvidia-ctk cdi generate --device-name-strategy=uuid \
                 --output=/etc/cdi/nvidia.yaml",
            );
    }
    about(id, "start", error)
}

/// As [`translated`], for a pull, whose errors come as text within the answer.
pub(crate) fn of_pull(image: &str, text: &str) -> RuntimeError {
    let found = |marks: &[&str]| marks.iter().any(|mark| text.contains(mark));
    let (code, what) =
        if found(&["unauthorized", "authentication required", "access to the resource is denied", "denied:"])
        {
            (ErrorCode::Unauthenticated, "the registry asks who pulls")
        } else if found(&[
            "manifest unknown",
            "name unknown",
            "not found",
            "no image found",
            "repository name not known",
        ]) {
            (ErrorCode::NotFound, "the registry has no such image")
        } else if found(&["did not resolve to an alias"]) {
            (ErrorCode::NotFound, "podman does not know which registry has it")
        } else if found(&["toomanyrequests", "too many requests"]) {
            (ErrorCode::ResourceExhausted, "the registry allows no more pulls for now")
        } else if found(&["no space left on device"]) {
            (ErrorCode::ResourceExhausted, "the disk is full")
        } else if found(&[
            "no such host",
            "connection refused",
            "i/o timeout",
            "deadline exceeded",
            "pinging container registry",
            "connection reset",
            "EOF",
            "no route to host",
            "network is unreachable",
        ]) {
            (ErrorCode::Unavailable, "the registry cannot be reached")
        } else {
            (ErrorCode::Internal, "the pull failed")
        };
    let error = RuntimeError::new(code, format!("pull of {image} failed: {what}")).backend(text);
    match code {
        ErrorCode::Unauthenticated => {
            error.hint("log in at the registry, or look whether the image's name is right")
        }
        ErrorCode::NotFound if found(&["did not resolve"]) => {
            error.hint(format!("write the registry too: docker.io/library/{image}"))
        }
        _ => error,
    }
}

/// Says that the service did not answer as one should.
fn not_answered(doing: &str, error: &EngineError) -> RuntimeError {
    let text = error_text(error);
    match error {
        EngineError::SerdeJsonError(_) | EngineError::InvalidResponse(_) => {
            RuntimeError::new(ErrorCode::Internal, format!("{doing} failed: the answer makes no sense"))
                .backend(text)
        }
        _ => RuntimeError::new(ErrorCode::Unavailable, format!("{doing} failed: podman does not answer"))
            .backend(text)
            .hint(HINT_START),
    }
}

fn error_text(error: &EngineError) -> String {
    if let Some((_, text)) = said(error) {
        return text.to_owned();
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

fn code_of_text(text: &str) -> Option<ErrorCode> {
    TEXTS.iter().find(|(mark, _)| text.contains(mark)).map(|(_, code)| *code)
}

/// Returns the part of an engine's text that people want: its last line, without what was repeated.
fn short(text: &str) -> &str {
    let line = text.trim().lines().last().unwrap_or_default();
    // Podman appends the innermost cause to a message that already ends with it.
    let repeated =
        line.match_indices(": ").map(|(at, _)| at).find(|&at| line[..at].ends_with(&line[at + 2..]));
    let line = repeated.map_or(line, |at| &line[..at]);
    match line.char_indices().nth(300) {
        Some((end, _)) => &line[..end],
        None => line,
    }
}

/// Tells faults of the command from others; both of runc and of crun.
fn is_about_the_command(text: &str) -> bool {
    [
        "OCI runtime attempted to invoke a command that was not found",
        "exec: \"",
        "open executable",
        "exec format error",
    ]
    .iter()
    .any(|mark| text.contains(mark))
}

/// Returns what a runtime says of a command: `exec: "nope": executable file not found in $PATH`.
fn command_fault(text: &str) -> &str {
    let text = short(text);
    let from =
        ["exec: ", "executable file", "open executable"].iter().find_map(|mark| text.find(mark)).unwrap_or(0);
    let text = &text[from..];
    [": OCI runtime attempted", ": OCI permission denied"]
        .iter()
        .filter_map(|end| text.find(end))
        .min()
        .map_or(text, |end| &text[..end])
}

/// Finds the port in `listen tcp4 127.0.0.1:8080: bind: address already in use`.
fn taken_port(text: &str) -> Option<u16> {
    let before = &text[..text.find(": bind")?];
    before.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use containers_api::conn::hyper::StatusCode;

    fn fault(code: u16, message: &str) -> EngineError {
        EngineError::Fault { code: StatusCode::from_u16(code).unwrap(), message: message.to_owned() }
    }

    fn id() -> ContainerId {
        "c0ffee".parse().unwrap()
    }

    #[test]
    fn a_taken_port_is_named() {
        let text = "cannot listen on the TCP port: listen tcp4 127.0.0.1:22222: bind: address already in use";
        let error = of_start(&id(), &fault(500, text));
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::AlreadyExists, Some("ports")));
        assert_eq!(error.message, "port 22222 is taken");
        assert_eq!(
            taken_port("cannot listen on the UDP port: listen udp4 :53: bind: address already in use"),
            Some(53)
        );
        assert_eq!(taken_port("rubbish: bind"), None);
    }

    #[test]
    fn a_command_that_cannot_be_run_is_told_without_the_runtimes_chain() {
        let text = "runc: runc create failed: unable to start container process: exec: \"nope\": executable file not \
                    found in $PATH: OCI runtime attempted to invoke a command that was not found";
        let error = of_start(&id(), &fault(500, text));
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::InvalidArgument, Some("command")));
        assert_eq!(
            error.message,
            "the command cannot be run: exec: \"nope\": executable file not found in $PATH"
        );
    }

    #[test]
    fn what_crun_may_not_do_is_not_the_commands_fault() {
        let text = "crun: executable file `nope` not found in $PATH: No such file or directory: OCI runtime attempted to \
                    invoke a command that was not found";
        let error = of_start(&id(), &fault(500, text));
        assert_eq!(error.field.as_deref(), Some("command"));
        assert!(
            error.message.ends_with("executable file `nope` not found in $PATH: No such file or directory"),
            "{error}"
        );
        let text = "crun: setrlimit `RLIMIT_NOFILE`: Operation not permitted: OCI permission denied";
        let error = of_start(&id(), &fault(500, text));
        assert_eq!((error.code, error.field), (ErrorCode::PermissionDenied, None));
        let text = "runc: runc create failed: unable to start container process: error during container init: error setting \
                    rlimits for ready process: error setting rlimit type 7: operation not permitted: OCI permission denied";
        let error = of_start(&id(), &fault(500, text));
        assert!(error.code == ErrorCode::PermissionDenied && error.hint.is_some(), "{error:?}"); // seen
    }

    #[test]
    fn an_image_that_is_missing_is_a_field_of_the_spec() {
        let spec = ContainerSpec::new("a".parse().unwrap(), "gx-nope".parse().unwrap());
        let error = of_create(&spec, &fault(500, "gx-nope: image not known"));
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::NotFound, Some("image")));
    }

    #[test]
    fn pulls_fail_for_different_reasons() {
        let code = |text: &str| of_pull("x", text).code;
        assert_eq!(code("reading manifest 1 in localhost:1/x: manifest unknown"), ErrorCode::NotFound);
        assert_eq!(code("unauthorized: authentication required"), ErrorCode::Unauthenticated);
        assert_eq!(code("dial tcp 127.0.0.1:1: connect: connection refused"), ErrorCode::Unavailable);
        assert_eq!(code("lookup registry.invalid on 10.0.0.1:53: no such host"), ErrorCode::Unavailable);
    }

    #[test]
    fn what_is_repeated_is_left_out() {
        assert_eq!(short("invalid signal: SIGFOO: invalid signal: SIGFOO"), "invalid signal: SIGFOO");
        assert_eq!(short("x: image not known"), "x: image not known");
        assert_eq!(short(""), "");
    }

    #[test]
    fn a_look_that_meets_an_end_is_told_from_one_that_fails() {
        let ending = |text: &str| is_ending(&fault(500, text));
        assert!(ending("read /proc/31196/cgroup: no such process")); // seen
        assert!(ending("open /proc/31196/cgroup: no such file or directory"));
        assert!(!ending("read /proc/31196/cgroup: permission denied"));
        assert!(!ending("open /etc/x: no such file or directory"));
    }

    #[test]
    fn what_is_just_changing_is_told_from_what_is_wrong() {
        let going = "retrieving label for image \"e192\": you may need to remove the image to resolve the error: reading \
                     image \"e192\": locating item named \"manifest\" for image with ID \"e192\": file does not exist"; // seen
        assert!(is_image_going(&fault(500, going)));
        assert!(!is_image_going(&fault(500, "database is locked")));
        let made =
            "creating named volume \"a\": adding volume to state: name a is in use: volume already exists";
        assert!(is_volume_changing(&fault(500, made)) && !is_volume_changing(&fault(500, "invalid mount")));
        assert!(is_busy(&fault(500, "unlinkat /x: device or resource busy")));
        assert!(
            is_busy(&fault(500, "given PID did not die within timeout")) && !is_busy(&fault(409, "running"))
        );
    }

    #[test]
    fn a_container_that_is_missing_is_named() {
        let error = about(
            &id(),
            "inspect",
            &fault(404, "no container with name or ID \"c0ffee\" found: no such container"),
        );
        assert_eq!((error.code, error.message.as_str()), (ErrorCode::NotFound, "no container c0ffee"));
    }
}
