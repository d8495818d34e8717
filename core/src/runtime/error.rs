//! Why a method of a runtime or a measurement failed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::ContainerId;

/// Why a method failed; the stable codes that cross the plugin boundary and the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request is wrong in itself.
    InvalidArgument,
    /// Nobody knows who asks.
    Unauthenticated,
    /// Who asks may not.
    PermissionDenied,
    /// There is no such thing.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// The thing is not in a state that allows it.
    FailedPrecondition,
    /// What would do it does not answer now.
    Unavailable,
    /// A limit is reached.
    ResourceExhausted,
    /// It took too long.
    DeadlineExceeded,
    /// Whoever asked no longer wants it.
    Cancelled,
    /// It cannot be done here.
    Unsupported,
    /// A fault of the program.
    #[serde(other)]
    Internal,
}

/// The error of a runtime or a measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct RuntimeError {
    /// The stable code.
    pub code: ErrorCode,
    /// What failed: a lower-case fragment without a full stop.
    pub message: String,
    /// Whether the same call may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// When to try again, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u32>,
    /// The field of the request that is to blame, dotted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What the engine said, word for word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl RuntimeError {
    /// Makes an error of this code. `Unavailable`, `ResourceExhausted` and `DeadlineExceeded` are retryable.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let retryable = matches!(
            code,
            ErrorCode::Unavailable | ErrorCode::ResourceExhausted | ErrorCode::DeadlineExceeded
        );
        let message = message.into();
        Self { code, message, retryable, retry_after_ms: None, field: None, backend: None, hint: None }
    }

    /// Says that a method is not there.
    pub fn unsupported(method: &str) -> Self {
        Self::new(ErrorCode::Unsupported, format!("this runtime has no {method}"))
    }

    /// Says that a container is not there.
    pub fn no_container(id: &ContainerId) -> Self {
        Self::new(ErrorCode::NotFound, format!("no container {id}"))
    }

    /// Names the field that is to blame.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Adds what the engine said.
    #[must_use]
    pub fn backend(mut self, backend: impl Into<String>) -> Self {
        self.backend = Some(backend.into());
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
