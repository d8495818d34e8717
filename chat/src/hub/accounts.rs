//! Accounts, as whoever runs the chat sees and changes them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use gx_core::NodeId;

use super::Hub;
use super::conn::Conn;
use super::door::{MAX_PASSWORD, blocking, password_hash, secret};
use crate::id::UserName;
use crate::store::{Account, StoreError};

/// Letters of a password that is made up: none looks like another. 20 of them are 100 bits.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
const GENERATED: usize = 20;
/// The shortest password that somebody may choose, in characters.
const MIN_PASSWORD: usize = 8;

/// An account, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountInfo {
    /// Whose.
    pub user: UserName,
    /// Whether there is a password.
    pub has_password: bool,
    /// The node whose key proves the user.
    pub node: Option<NodeId>,
    /// Whether nobody may sign in with it.
    pub disabled: bool,
    /// How many connections there are.
    pub connections: usize,
}

/// What is to become of an account.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct AccountRequest {
    /// The password; without it, and without a node, one is made up.
    pub password: Option<String>,
    /// The node whose key proves the user.
    pub node: Option<NodeId>,
    /// Whether nobody may sign in with it.
    pub disabled: bool,
}

impl std::fmt::Debug for AccountRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountRequest").field("disabled", &self.disabled).finish_non_exhaustive()
    }
}

/// Says why an account is not changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The policy has no such user.
    #[error("the policy has no user {user}")]
    NoUser {
        /// The name.
        user: UserName,
        /// Who was probably meant.
        near: Option<String>,
    },
    /// The password is too short or too long.
    #[error("a password has {MIN_PASSWORD} characters to {MAX_PASSWORD} bytes")]
    Password,
    /// The store does not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server is about to end, or has no randomness.
    #[error("the server cannot do it now")]
    Unavailable,
}

impl Hub {
    /// Returns all accounts of users the policy knows, by name.
    ///
    /// # Errors
    /// [`AccountError::Store`].
    pub async fn accounts(self: &Arc<Self>) -> Result<Vec<AccountInfo>, AccountError> {
        let store = self.store.clone();
        let accounts = blocking(move || store.accounts()).await.ok_or(AccountError::Unavailable)??;
        let (policy, room) = (self.policy(), self.room());
        let is_known = |account: &Account| policy.user_name(account.user.as_str()).is_some();
        let of = |account: Account| AccountInfo {
            connections: room.presence.of(&account.user),
            has_password: account.password.is_some(),
            node: account.node,
            disabled: account.disabled,
            user: account.user,
        };
        Ok(accounts.into_iter().filter(is_known).map(of).collect())
    }

    /// Makes or changes a user's account, and returns the password if it was made up. Whoever is signed in with it is cut
    /// off; tokens end.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn put_account(
        self: &Arc<Self>,
        user: &UserName,
        request: AccountRequest,
    ) -> Result<Option<String>, AccountError> {
        let policy = self.policy();
        let Some(user) = policy.user_name(user.as_str()).and_then(|name| name.parse::<UserName>().ok())
        else {
            let near = policy.closest_user(user.as_str()).map(str::to_owned);
            return Err(AccountError::NoUser { user: user.clone(), near });
        };
        let AccountRequest { password, node, disabled } = request;
        let made_up = match (&password, node, disabled) {
            (None, None, false) => Some(generated().ok_or(AccountError::Unavailable)?),
            _ => None,
        };
        let password = password.or_else(|| made_up.clone());
        let is_fit = |p: &String| p.chars().count() >= MIN_PASSWORD && p.len() <= MAX_PASSWORD;
        if !password.as_ref().is_none_or(is_fit) {
            return Err(AccountError::Password);
        }
        let password = match password {
            Some(password) => Some(
                (self.door.hashing(move || password_hash(&password)).await.flatten())
                    .ok_or(AccountError::Unavailable)?,
            ),
            None => None,
        };
        let (hub, account) = (self.clone(), Account { user: user.clone(), password, node, disabled });
        let put = blocking(move || {
            let _one_at_a_time = hub.changing_accounts();
            hub.store.put_account(&account)
        });
        put.await.ok_or(AccountError::Unavailable)??;
        // Whoever proves themselves at this moment by what was true before is not let in.
        self.account_changes.fetch_add(1, Ordering::SeqCst);
        self.cut_user(&user);
        Ok(made_up)
    }

    /// Lets a node in no more: accounts that its key proves are disabled, and its connections end, whoever is signed in there.
    ///
    /// # Errors
    /// [`AccountError::Store`], [`AccountError::Unavailable`]; its connections have ended all the same.
    pub async fn dismiss(self: &Arc<Self>, node: NodeId) -> Result<(), AccountError> {
        let hub = self.clone();
        let changing = blocking(move || {
            let of_node = |account: &Account| account.node == Some(node) && !account.disabled;
            hub.change(|account| of_node(&account).then_some(Account { disabled: true, ..account }))
        });
        let (disabled, changed) = changing.await.unwrap_or((Vec::new(), Err(AccountError::Unavailable)));
        self.account_changes.fetch_add(1, Ordering::SeqCst);
        self.cut(|conn| conn.node() == Some(node));
        disabled.iter().for_each(|account| self.cut_user(&account.user));
        changed
    }

    /// Gives accounts the key that stands for theirs now, where it is another. Whoever is there by the old one is cut off.
    ///
    /// # Errors
    /// [`AccountError::Store`], [`AccountError::Unavailable`]; those that were changed by then are, and who was there by them is
    /// cut off.
    pub async fn renew_keys(
        self: &Arc<Self>,
        current: impl Fn(NodeId) -> NodeId + Send + 'static,
    ) -> Result<Vec<UserName>, AccountError> {
        let hub = self.clone();
        let changing = blocking(move || {
            hub.change(|account| {
                let new = account.node.map(&current);
                (new != account.node).then_some(Account { node: new, ..account })
            })
        });
        let (renewed, changed) = changing.await.unwrap_or((Vec::new(), Err(AccountError::Unavailable)));
        if !renewed.is_empty() {
            self.account_changes.fetch_add(1, Ordering::SeqCst);
            let is_old = |conn: &Conn, old: &Account| conn.user() == &old.user || conn.node() == old.node;
            self.cut(|conn| renewed.iter().any(|old| is_old(conn, old)));
        }
        changed.map(|()| renewed.into_iter().map(|account| account.user).collect())
    }

    /// Changes accounts one after the other until one cannot be; returns those that were, as they had been.
    fn change(&self, to: impl Fn(Account) -> Option<Account>) -> (Vec<Account>, Result<(), AccountError>) {
        let _one_at_a_time = self.changing_accounts();
        let mut changed = Vec::new();
        let mut all = || {
            for account in self.store.accounts()? {
                if let Some(new) = to(account.clone()) {
                    self.store.put_account(&new)?;
                    changed.push(account);
                }
            }
            Ok(())
        };
        let result = all();
        (changed, result)
    }

    /// An account is read and written by one at a time: nobody writes what they read before another's change.
    fn changing_accounts(&self) -> MutexGuard<'_, ()> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes up a password: four groups of five letters.
fn generated() -> Option<String> {
    let letters =
        secret(GENERATED)?.into_iter().map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
    let letters: Vec<char> = letters.collect();
    Some(letters.chunks(5).map(String::from_iter).collect::<Vec<_>>().join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_is_made_up_is_another_each_time() {
        let (one, other) = (generated().unwrap(), generated().unwrap());
        assert_eq!((one.len(), one.split('-').count()), (23, 4));
        assert_ne!(one, other);
    }
}
