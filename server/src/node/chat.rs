//! The chat that a host serves: it is there while `gx serve` runs, where a policy is configured.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gx_chat::UserName;
use gx_chat::hub::{AccountInfo, AccountRequest, Hub, Peer};
use gx_chat::policy::Policy;
use gx_core::NodeId;
use gx_core::api::{ChatStarted, ChatStopped, ChatUser, ChatUserRequest, ChatUsers};

use super::{Caller, Node, Verb, authorize};
use crate::error::{ChatError, Result};

mod members;

/// How long connections may take for what is still theirs at the end.
const DRAIN: Duration = Duration::from_secs(10);

/// The chat, while it is served.
#[derive(Debug)]
pub(super) struct Chat {
    policy: Option<PathBuf>,
    hub: Mutex<Option<Arc<Hub>>>,
    /// Who was a member since the chat was last brought in line with their list, also where that cannot be written down. Held by
    /// whoever does it.
    settling: tokio::sync::Mutex<BTreeSet<NodeId>>,
}

impl Chat {
    pub(super) fn new(policy: Option<PathBuf>) -> Self {
        Self { policy, hub: Mutex::default(), settling: tokio::sync::Mutex::default() }
    }

    fn hub(&self) -> Option<Arc<Hub>> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn serve(&self, hub: Arc<Hub>) {
        *self.hub.lock().unwrap_or_else(PoisonError::into_inner) = Some(hub);
    }
}

impl Node {
    /// Begins to serve the chat, where one is configured.
    ///
    /// # Errors
    /// [`ChatError`], when the policy or the messages cannot be used.
    pub(crate) fn open_chat(&self) -> Result<()> {
        if let Some(hub) = self.opened()? {
            self.chat.serve(hub);
        }
        Ok(())
    }

    /// Opens the chat, where one is configured; nobody gets in yet.
    fn opened(&self) -> Result<Option<Arc<Hub>>> {
        let Some(policy) = read(self.chat.policy.as_ref())? else {
            return Ok(None);
        };
        Ok(Some(Hub::open(&self.data.join("chat"), policy, self.id()).map_err(ChatError::from)?))
    }

    /// Reads the chat's policy again. One that cannot be used changes nothing.
    ///
    /// # Errors
    /// [`ChatError`], when it cannot be used.
    pub fn reload_chat(&self) -> Result<()> {
        let Some(hub) = self.chat.hub() else {
            return Ok(());
        };
        if let Some(policy) = read(self.chat.policy.as_ref())? {
            let changes = policy.changes_since(&hub.policy());
            let changed: Vec<String> = changes.in_ranges().into_iter().map(|(users, _)| users).collect();
            hub.reload(policy);
            tracing::info!(?changed, "the chat's policy was read again");
        }
        Ok(())
    }

    /// Returns the chat and who the caller is to it.
    ///
    /// # Errors
    /// [`ChatError::NoChat`]; anybody may come to the door, where accounts decide.
    pub(crate) fn chat(&self, caller: &Caller) -> Result<(Arc<Hub>, Peer)> {
        authorize(caller, Verb::Chat, None)?;
        let hub = self.chat.hub().ok_or(ChatError::NoChat)?;
        let node = match caller {
            Caller::Host => Some(self.id()),
            Caller::Member(member) => Some(member.id),
            Caller::Stranger(node) => *node,
        };
        Ok((hub, Peer { node, from: None }))
    }

    /// Returns whether a chat is served now.
    pub(super) fn serves_chat(&self) -> bool {
        self.chat.hub().is_some()
    }

    /// Returns the chat, for its figures.
    pub(crate) fn chat_figures(&self) -> Vec<(&'static str, &'static str, bool, u64)> {
        self.chat.hub().map(|hub| hub.figures()).unwrap_or_default()
    }

    /// Lists the accounts of the chat.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`](crate::ServerError::NotAllowed), [`ChatError`].
    pub async fn chat_users(&self, caller: &Caller) -> Result<ChatUsers> {
        let hub = self.administered(caller)?;
        let users = hub.accounts().await.map_err(ChatError::from)?;
        Ok(ChatUsers { users: users.into_iter().map(|info| told(info, None)).collect() })
    }

    /// Makes or changes an account of the chat.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`](crate::ServerError::NotAllowed), [`ChatError`].
    pub async fn put_chat_user(
        &self,
        caller: &Caller,
        user: &str,
        request: ChatUserRequest,
    ) -> Result<ChatUser> {
        let hub = self.administered(caller)?;
        let user: UserName = user.parse().map_err(ChatError::Name)?;
        let ChatUserRequest { password, node, disabled } = request;
        let has_password = password.is_some();
        let password = password.map(|password| password.reveal().to_owned());
        let request = AccountRequest { password, node, disabled };
        let made_up = hub.put_account(&user, request).await.map_err(ChatError::from)?;
        let info = AccountInfo {
            has_password: has_password || made_up.is_some(),
            user,
            node,
            disabled,
            connections: 0,
        };
        Ok(told(info, made_up))
    }

    /// Ends the chat in good order: what was taken is stored and acknowledged. The rest of the server goes on.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`](crate::ServerError::NotAllowed), [`ChatError::NoChat`].
    pub async fn stop_chat(&self, caller: &Caller) -> Result<ChatStopped> {
        let connections = self.administered(caller)?.connections();
        self.close_chat().await;
        Ok(ChatStopped { connections })
    }

    /// Serves the chat again, after it was ended alone. One that is served goes on as it is.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`](crate::ServerError::NotAllowed); [`ChatError`], when there is none to serve.
    pub async fn start_chat(&self, caller: &Caller) -> Result<ChatStarted> {
        authorize(caller, Verb::Administer, None)?;
        let started = self.chat.hub().is_none();
        if started && let Some(hub) = self.opened()? {
            // Who left meanwhile is out before anybody gets in.
            if let Err(error) = self.follow_members(&hub).await {
                hub.stop().await;
                return Err(error);
            }
            self.chat.serve(hub);
            // Who leaves from now on is seen to beside it; who did so since the first look, here.
            self.settle_chat().await?;
        }
        self.administered(caller)?;
        Ok(ChatStarted { started })
    }

    /// Ends the chat in good order, if there is one.
    pub(crate) async fn close_chat(&self) {
        let hub = self.chat.hub.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(hub) = hub else { return };
        hub.stop().await;
        if tokio::time::timeout(DRAIN, hub.drained()).await.is_err() {
            tracing::warn!("connections of the chat are cut");
        }
    }

    fn administered(&self, caller: &Caller) -> Result<Arc<Hub>> {
        authorize(caller, Verb::Administer, None)?;
        Ok(self.chat.hub().ok_or(ChatError::NoChat)?)
    }
}

/// Reads the policy, where one is configured.
fn read(path: Option<&PathBuf>) -> Result<Option<Policy>, ChatError> {
    let Some(path) = path else {
        return Ok(None);
    };
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|source| ChatError::Unreadable { path: shown.clone(), source })?;
    let policy = Policy::parse(&text, &shown).map_err(|error| ChatError::Policy(Box::new(error)))?;
    Ok(Some(policy))
}

fn told(info: AccountInfo, made_up: Option<String>) -> ChatUser {
    let AccountInfo { user, has_password, node, disabled, connections } = info;
    let password = made_up.map(gx_core::secret::Secret::new);
    ChatUser { user: user.into(), has_password, node, disabled, connections, password }
}
