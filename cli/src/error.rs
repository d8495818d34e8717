//! What a user is told when something fails: kind, message, causes, hints, and the exit code.
//!
//! Errors of other crates become a [`CliError`] here and nowhere else; printing it is [`output`](crate::output)'s.

use std::any::Any;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use gx_client::ClientError;
use gx_core::api::ApiError;
use gx_core::config::ConfigError;
use gx_core::id::ParseIdError;
use gx_core::{ErrorCode, RuntimeError};
use gx_host::{ErrorClass, HostError};
use gx_identity::KnownError;
use gx_server::{ChatError, ServerError};
use serde::Serialize;

/// The result of a command.
pub(crate) type Result<T = (), E = CliError> = std::result::Result<T, E>;

/// The exit status of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u8);

impl Status {
    /// It is done.
    pub const DONE: Self = Self(0);

    /// Returns the status that passes on how a process in a container ended.
    pub(crate) fn of(exit: &gx_core::Exit) -> Self {
        Self(u8::try_from(exit.code).unwrap_or(Kind::Failed.status().0))
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.0)
    }
}

/// The kind of an error, one for each exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// It could not be done.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// The host does not answer.
    Unreachable,
    /// The plugin or its engine failed.
    Engine,
    /// It is not allowed.
    NotAllowed,
    /// A fault of gx itself.
    Bug,
    /// The user ended it.
    Interrupted,
    /// The system ended it.
    Terminated,
    /// Nobody reads the output any more, which is no failure.
    BrokenPipe,
}

impl Kind {
    /// Returns the exit status.
    pub(crate) const fn status(self) -> Status {
        Status(match self {
            Self::BrokenPipe => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Engine => 4,
            Self::NotAllowed => 5,
            Self::Bug => 70,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        })
    }
}

/// Everything a user needs to know about what failed. It is large and rare, so it lies behind a pointer.
#[derive(Debug, Clone)]
pub struct CliError(Box<Told>);

/// What a [`CliError`] tells.
#[derive(Debug, Clone, Serialize)]
pub struct Told {
    pub(crate) kind: Kind,
    /// The stable code, where a host or plugin gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<ErrorCode>,
    /// What failed: a lower-case fragment without a full stop.
    pub(crate) message: String,
    /// Why, from the nearest cause to the deepest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) causes: Vec<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) hints: Vec<String>,
    /// The field of the request that is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
    /// The place in a file, as several lines with a caret.
    #[serde(skip)]
    pub(crate) snippet: String,
    /// The id under which the host's log has the details.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
    /// That another node answers in a host's place; it may be the same with a new key.
    #[serde(skip)]
    pub(crate) other_node: Option<Arc<ClientError>>,
    /// That the host may have done what it was asked to do.
    #[serde(skip)]
    pub(crate) in_doubt: bool,
}

impl std::fmt::Display for CliError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

impl std::ops::Deref for CliError {
    type Target = Told;
    fn deref(&self) -> &Told {
        &self.0
    }
}

impl std::ops::DerefMut for CliError {
    fn deref_mut(&mut self) -> &mut Told {
        &mut self.0
    }
}

impl From<CliError> for Told {
    fn from(error: CliError) -> Self {
        *error.0
    }
}

impl CliError {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Told {
            kind,
            code: None,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            field: None,
            snippet: String::new(),
            request_id: None,
            other_node: None,
            in_doubt: false,
        }))
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Says that a file could not be read, written, …: `doing` is "cannot read /etc/gx/config.toml".
    pub(crate) fn io(doing: impl Into<String>, error: &io::Error) -> Self {
        Self::failed(doing).cause(error.to_string())
    }

    /// Says that gx panicked.
    pub(crate) fn bug(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Self::new(Kind::Bug, "gx has a fault")
            .cause(text)
            .hint("run it again with -vv and report what it prints")
    }

    #[must_use]
    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn hints(mut self, hints: impl IntoIterator<Item = String>) -> Self {
        self.hints.extend(hints);
        self
    }

    fn of_plugin(error: ServerError) -> Self {
        match error {
            ServerError::Plugin { error, .. } | ServerError::Plugins(error) => (*error).into(),
            other => other.api().into(),
        }
    }

    /// Says what could not be measured of a host, and why.
    pub(crate) fn of_measurement(what: impl Into<String>, error: RuntimeError) -> Self {
        let kind = match error.code {
            ErrorCode::Unavailable | ErrorCode::DeadlineExceeded => Kind::Unreachable,
            ErrorCode::PermissionDenied | ErrorCode::Unauthenticated => Kind::NotAllowed,
            ErrorCode::InvalidArgument => Kind::Usage,
            ErrorCode::NotFound
            | ErrorCode::AlreadyExists
            | ErrorCode::FailedPrecondition
            | ErrorCode::ResourceExhausted
            | ErrorCode::Unsupported => Kind::Failed,
            _ => Kind::Engine,
        };
        let mut told = Self::new(kind, what).cause(error.message).hints(error.hint);
        told.code = Some(error.code);
        if let Some(after) = error.retry_after_ms {
            told = told.hint(format!("try again in {} s", after.div_ceil(1_000)));
        }
        told
    }

    /// Says how to start a container, where that it does not run is to blame.
    #[must_use]
    pub(crate) fn or_start(self, id: &str) -> Self {
        match self.code {
            Some(ErrorCode::FailedPrecondition) if self.hints.is_empty() => {
                self.hint(format!("gx start {id}"))
            }
            _ => self,
        }
    }

    /// Adds the sources of `error`, which do not repeat one another.
    #[must_use]
    pub(crate) fn sources(mut self, error: &dyn std::error::Error) -> Self {
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !self.message.contains(&text) && !self.causes.iter().any(|told| told.contains(&text)) {
                self.causes.push(text);
            }
            source = cause.source();
        }
        self
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let mut told = Self::usage(error.to_string()).hints(error.hint.clone());
        told.snippet = error.snippet();
        told
    }
}

impl From<ParseIdError> for CliError {
    fn from(error: ParseIdError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<io::Error> for CliError {
    /// For what goes to standard output and standard error; files say what was done to them.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Kind::BrokenPipe, "nobody reads the output any more"),
            _ => Self::io("cannot write the output", &error),
        }
    }
}

impl From<ApiError> for CliError {
    fn from(error: ApiError) -> Self {
        let kind = kind_of(error.code, error.field.as_deref());
        let mut told = Self::new(kind, error.message);
        told.code = Some(error.code);
        told.hints = error.hint.into_iter().collect();
        told.field = error.field;
        told.request_id = error.request_id;
        if let Some(after) = error.retry_after_ms {
            told = told.hint(format!("try again in {} s", after.div_ceil(1_000)));
        }
        told
    }
}

impl From<RuntimeError> for CliError {
    /// For a runtime that is driven by hand, without a node.
    fn from(error: RuntimeError) -> Self {
        let kind = kind_of(error.code, error.field.as_deref());
        let mut told = Self::new(kind, error.message).hints(error.hint);
        told.code = Some(error.code);
        told.field = error.field;
        told.causes.extend(error.backend);
        told
    }
}

impl From<KnownError> for CliError {
    fn from(error: KnownError) -> Self {
        ClientError::from(error).into()
    }
}

impl From<gx_peers::StoreError> for CliError {
    fn from(error: gx_peers::StoreError) -> Self {
        Self::failed(error.to_string())
            .sources(&error)
            .hint("the table is in the data folder, which has to be writable; GX_DATA_DIR names another")
    }
}

impl From<HostError> for CliError {
    fn from(error: HostError) -> Self {
        let kind = match error.class() {
            ErrorClass::Config => Kind::Usage,
            ErrorClass::Trust | ErrorClass::Plugin => Kind::Engine,
            ErrorClass::System => Kind::Failed,
        };
        let mut told = Self::new(kind, error.to_string()).sources(&error).hints(error.hint());
        let snippets: Vec<String> = error.config_errors().iter().map(ConfigError::snippet).collect();
        told.snippet = snippets.join("\n");
        told
    }
}

impl From<ServerError> for CliError {
    fn from(error: ServerError) -> Self {
        let kind = match &error {
            ServerError::UnknownRuntime { .. }
            | ServerError::Ambiguous { .. }
            | ServerError::Invalid { .. } => Kind::Usage,
            ServerError::NoHealthyRuntime { .. }
            | ServerError::Unlisted { .. }
            | ServerError::NoAnswer { .. }
            | ServerError::GpusUnknown { .. }
            | ServerError::NoDiskLimit { .. }
            | ServerError::NoUserNamespaces { .. }
            | ServerError::NoFirewall { .. }
            | ServerError::Slow { .. } => Kind::Engine,
            ServerError::Runtime { error, .. } => kind_of(error.code, error.field.as_deref()),
            ServerError::Trust(_) => kind_of(error.code(), error.field().as_deref()),
            ServerError::Chat(ChatError::Unreadable { .. } | ChatError::Policy(_) | ChatError::Name(_)) => {
                Kind::Usage
            }
            ServerError::Chat(_) => Kind::Failed,
            ServerError::OverLimit { .. }
            | ServerError::OverPolicy { .. }
            | ServerError::LeaseLimit { .. }
            | ServerError::PortOutside { .. }
            | ServerError::AddressOutside { .. }
            | ServerError::NotAllowed { .. }
            | ServerError::NotLoopback { .. } => Kind::NotAllowed,
            ServerError::NoContainer { .. }
            | ServerError::NoImage { .. }
            | ServerError::NotRunning { .. }
            | ServerError::NoLease { .. }
            | ServerError::LeaseOver { .. }
            | ServerError::NoService { .. }
            | ServerError::Unpublished { .. }
            | ServerError::Full { .. }
            | ServerError::OverTotal { .. }
            | ServerError::NoFreePort { .. }
            | ServerError::NoGpu { .. }
            | ServerError::GpusTaken { .. }
            | ServerError::ForeignImage { .. }
            | ServerError::NoSsh { .. }
            | ServerError::Refused { .. }
            | ServerError::NameTaken { .. }
            | ServerError::NameInUse { .. }
            | ServerError::KeyReused
            | ServerError::State { .. }
            | ServerError::Key { .. }
            | ServerError::Locked { .. }
            | ServerError::Listen(_)
            | ServerError::ShuttingDown => Kind::Failed,
            ServerError::Internal(_) => Kind::Bug,
            // What a plugin's checks say has places in files, which the way over the API leaves out.
            ServerError::Plugin { .. } | ServerError::Plugins(_) => return Self::of_plugin(error),
        };
        let mut told = Self::from(error.api());
        told.kind = kind;
        if let ServerError::Chat(ChatError::Policy(error)) = &error {
            told.snippet = error.snippet();
        }
        told
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let kind = match &error {
            ClientError::WrongNode { .. } => Kind::NotAllowed,
            ClientError::Known(_) => Kind::Failed,
            ClientError::Unreachable { .. }
            | ClientError::Handshake { .. }
            | ClientError::TimedOut { .. }
            | ClientError::Lost { .. }
            | ClientError::Protocol { .. } => Kind::Unreachable,
            ClientError::Host(_) => Kind::Failed,
        };
        match error {
            ClientError::Host(error) => error.into(),
            error => {
                let mut told = Self::new(kind, error.to_string()).sources(&error).hints(error.hint());
                // Of the layers of an HTTP library only the deepest says something.
                told.causes = told.causes.pop().into_iter().collect();
                told.in_doubt = error.is_in_doubt();
                told.other_node = matches!(error, ClientError::WrongNode { .. }).then(|| Arc::new(error));
                told
            }
        }
    }
}

// A wrong argument that a field is to blame for came from the command line; one without came from what was sent,
// as a Containerfile that does not build.
fn kind_of(code: ErrorCode, field: Option<&str>) -> Kind {
    match code {
        ErrorCode::InvalidArgument if field.is_some() => Kind::Usage,
        ErrorCode::NotFound if field == Some("runtime") => Kind::Usage,
        ErrorCode::Unauthenticated | ErrorCode::PermissionDenied => Kind::NotAllowed,
        ErrorCode::Unavailable | ErrorCode::Unsupported | ErrorCode::Internal => Kind::Engine,
        ErrorCode::InvalidArgument
        | ErrorCode::NotFound
        | ErrorCode::AlreadyExists
        | ErrorCode::FailedPrecondition
        | ErrorCode::ResourceExhausted
        | ErrorCode::DeadlineExceeded
        | ErrorCode::Cancelled => Kind::Failed,
        _ => Kind::Engine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: ErrorCode, field: Option<&str>) -> CliError {
        CliError::from(ApiError {
            code,
            message: "no container web".into(),
            hint: Some("`gx list --all` lists them".into()),
            field: field.map(str::to_owned),
            retry_after_ms: None,
            request_id: None,
        })
    }

    #[test]
    fn every_kind_has_the_exit_code_that_is_documented() {
        assert_eq!(api(ErrorCode::NotFound, None).kind.status(), Status(1));
        assert_eq!(api(ErrorCode::InvalidArgument, Some("ports")).kind.status(), Status(2));
        assert_eq!(api(ErrorCode::Unavailable, None).kind.status(), Status(4));
        assert_eq!(api(ErrorCode::PermissionDenied, None).kind.status(), Status(5));
        let pipe = CliError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(pipe.kind.status(), Status::DONE);
        assert_eq!(CliError::bug(&"oh").kind.status(), Status(70));
    }

    #[test]
    fn json_has_code_message_and_hints() {
        let value = serde_json::to_value(&*api(ErrorCode::NotFound, None)).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "kind": "failed", "code": "NotFound", "message": "no container web",
                "hints": ["`gx list --all` lists them"],
            })
        );
    }

    #[test]
    fn a_process_that_a_signal_ended_keeps_its_code() {
        assert_eq!(Status::of(&gx_core::Exit::from_code(137)), Status(137));
        assert_eq!(Status::of(&gx_core::Exit::from_code(-1)), Status(1));
    }
}
