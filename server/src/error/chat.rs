//! What can go wrong with the chat that a host serves, and what is told of it.

use gx_chat::hub::AccountError;
use gx_chat::policy::PolicyError;
use gx_chat::store::StoreError;
use gx_core::ErrorCode;

/// Why the chat does not do it.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// This host serves no chat, or does no longer.
    #[error("this host serves no chat")]
    NoChat,
    /// The policy cannot be read.
    #[error("cannot read the chat's policy {path}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The policy does not hold together.
    #[error("{0}")]
    Policy(#[source] Box<PolicyError>),
    /// The messages cannot be used.
    #[error("{0}")]
    Store(#[source] Box<StoreError>),
    /// An account is not changed.
    #[error("{0}")]
    Account(#[source] Box<AccountError>),
    /// A name that no user has.
    #[error("{0}")]
    Name(#[from] gx_core::id::ParseIdError),
}

impl From<StoreError> for ChatError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl From<AccountError> for ChatError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Store(error) => error.into(),
            error => Self::Account(Box::new(error)),
        }
    }
}

impl ChatError {
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Self::NoChat => ErrorCode::NotFound,
            Self::Unreadable { .. } | Self::Policy(_) => ErrorCode::FailedPrecondition,
            Self::Store(_) => ErrorCode::Unavailable,
            Self::Account(error) => match **error {
                AccountError::NoUser { .. } => ErrorCode::NotFound,
                AccountError::Password => ErrorCode::InvalidArgument,
                AccountError::Store(_) | AccountError::Unavailable => ErrorCode::Unavailable,
            },
            Self::Name(_) => ErrorCode::InvalidArgument,
        }
    }

    pub(super) fn field(&self) -> Option<&'static str> {
        match self {
            Self::Account(error) => match **error {
                AccountError::Password => Some("password"),
                AccountError::NoUser { .. } => Some("user"),
                AccountError::Store(_) | AccountError::Unavailable => None,
            },
            Self::Name(_) => Some("user"),
            Self::NoChat | Self::Unreadable { .. } | Self::Policy(_) | Self::Store(_) => None,
        }
    }

    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::NoChat => {
                Some("`policy` in [chat] on the host names the file that says who may talk where".to_owned())
            }
            Self::Unreadable { .. } => Some("`policy` in [chat] names the file".to_owned()),
            Self::Policy(error) => error.hint.clone(),
            Self::Store(error) => error.hint(),
            Self::Account(error) => match &**error {
                AccountError::NoUser { near: Some(near), .. } => Some(format!("did you mean `{near}`?")),
                AccountError::NoUser { near: None, .. } => {
                    Some("gx chat matrix shows all users of a policy".to_owned())
                }
                AccountError::Password => Some("leave it out, and one is made up".to_owned()),
                AccountError::Store(_) | AccountError::Unavailable => None,
            },
            Self::Name(_) => None,
        }
    }
}
