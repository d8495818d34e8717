//! New passwords for a container, where the ones it began with are lost or known to too many.

use std::time::Duration;

use gx_core::ContainerState;
use gx_core::api::{ContainerInfo, Service};
use gx_core::guest::{self, Credentials};
use gx_core::runtime::ExecSpec;
use gx_core::stream::{InputChunk, input, pipe};

use super::caller::Caller;
use super::containers::{Found, name_of};
use super::{Node, access, secrets};
use crate::error::{Result, ServerError};

/// How long the guest may take to change the passwords.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much of what it says is kept, in bytes.
const SAID_MAX: usize = 1_000;

impl Node {
    /// Makes fresh random passwords for SSH and, where there is one, the desktop, and returns the container with them.
    /// They are told this once. Sessions that are open go on.
    ///
    /// # Errors
    /// Those of a reference; [`ServerError::NoService`] where it has no guest; [`ServerError::NotRunning`];
    /// [`ServerError::Refused`] when the guest does not take them.
    pub async fn passwd(&self, caller: &Caller, reference: &str) -> Result<ContainerInfo> {
        let found = self.resolve(caller, reference).await?;
        let (name, state) = (name_of(&found.container).to_owned(), found.container.state);
        if access::nonce(&found.container).is_none() {
            return Err(ServerError::NoService { name, service: Service::Ssh });
        }
        if state != ContainerState::Running {
            return Err(ServerError::NotRunning { name, state });
        }
        let (ssh, vnc) = secrets::fresh()?;
        let mut told =
            self.inspect(&found).await.unwrap_or_else(|_| self.told(&found.name, found.container.clone()));
        let credentials = Credentials {
            authorized_keys: Vec::new(),
            password: Some(ssh.clone()),
            vnc_password: told.vnc.is_some().then(|| vnc.clone()),
        };
        apply(&found, &credentials).await?;
        if let Some(access) = &mut told.ssh {
            access.password = Some(ssh);
        }
        if let Some(access) = &mut told.vnc {
            access.password = Some(vnc);
        }
        tracing::info!(container = %told.name, "its passwords are new");
        Ok(told)
    }
}

/// Hands the guest what holds from now on, on its standard input.
async fn apply(found: &Found, credentials: &Credentials) -> Result<()> {
    let spec = ExecSpec {
        argv: vec![guest::PROGRAM.to_owned(), guest::word::APPLY.to_owned()],
        user: Some(super::guest::ROOT.to_owned()),
        stdin: true,
        timeout_ms: u32::try_from(PATIENCE.as_millis()).ok(),
        ..ExecSpec::default()
    };
    let text = serde_json::to_vec(credentials).expect("our own types always become JSON");
    let (sender, given) = input();
    let (out, mut items) = pipe(0);
    let feed = async move {
        let _ = sender.send(InputChunk::Data(text.into())).await; // who does not read it says why
    };
    let mut said = Vec::new();
    let read = async {
        while let Some(item) = items.next().await {
            let room = SAID_MAX.saturating_sub(said.len());
            said.extend_from_slice(&item.bytes[..item.bytes.len().min(room)]);
        }
    };
    let run = found.runtime.exec(found.container.id.clone(), spec, given, out);
    let (exit, (), ()) = tokio::join!(run, feed, read);
    let exit = exit.map_err(ServerError::of(&found.name))?;
    if exit.code == 0 {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    Err(ServerError::Refused { name: name_of(&found.container).to_owned(), code: exit.code, said })
}
