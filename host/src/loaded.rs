//! A loaded plugin as the registry knows it, whichever way its code is run.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gx_core::Runtime;
use gx_core::config::PluginKind;
use gx_core::measurement::Measurement;
use gx_core::plugin::ConfigIssue;

use crate::checked::Checked;
use crate::proxy::Remote;
use crate::report::PluginState;
use crate::supervise::{self, LoadError, Supervised};

/// A plugin that is loaded and configured.
#[derive(Clone)]
pub(crate) struct Loaded {
    /// What it can be asked.
    pub(crate) handle: Handle,
    /// Who looks after it.
    pub(crate) supervisor: Arc<dyn Supervisor>,
}

/// The trait a plugin implements.
#[derive(Clone)]
pub(crate) enum Handle {
    /// A runtime.
    Runtime(Arc<dyn Runtime>),
    /// A measurement.
    Measurement(Arc<dyn Measurement>),
}

/// Looks after a loaded plugin.
#[async_trait]
pub(crate) trait Supervisor: Send + Sync {
    /// Returns how it stands.
    fn status(&self) -> Status;

    /// Ends it, within a bounded time.
    async fn shutdown(&self);
}

/// How a loaded plugin stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// The state.
    pub(crate) state: PluginState,
    /// What went wrong last.
    pub(crate) last_error: Option<String>,
    /// How often its child was started again.
    pub(crate) restarts: u32,
}

/// Why a plugin that passed every check could not be used after all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StartFault {
    /// It objects to its configuration.
    Config(Vec<ConfigIssue>),
    /// It was being loaded when gx crashed, so often in a row.
    Crashed(u32),
    /// It could not be loaded or made.
    Load {
        /// Why not: a lower-case fragment.
        reason: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

/// How long a plugin may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// Loads and configures a plugin. The dropped future leaves nothing running.
pub(crate) async fn start(checked: Checked) -> Result<Loaded, StartFault> {
    let kind = checked.kind;
    let plugin = supervise::load(checked).await?;
    let remote = Arc::new(Remote(Arc::clone(&plugin)));
    let handle = match kind {
        PluginKind::Runtime => Handle::Runtime(remote),
        PluginKind::Measurement => Handle::Measurement(remote),
    };
    Ok(Loaded { handle, supervisor: plugin })
}

#[async_trait]
impl Supervisor for Supervised {
    fn status(&self) -> Status {
        Self::status(self)
    }

    async fn shutdown(&self) {
        Self::shutdown(self, GRACE).await;
    }
}

impl From<LoadError> for StartFault {
    fn from(error: LoadError) -> Self {
        let hint = error.hint();
        match error {
            LoadError::Config(issues) => Self::Config(issues),
            LoadError::CrashedWhileLoading { times } => Self::Crashed(times),
            other => Self::Load { reason: other.to_string(), hint },
        }
    }
}
